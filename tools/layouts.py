"""The frozen CLIP of a run in the layouts of other libraries: clip, open_clip, Hugging Face.

Names, shapes and configuration keys are those that `clip.load` (openai/CLIP, clip/model.py),
`open_clip.create_model` (mlfoundations/open_clip, open_clip/factory.py and model_configs/) and
`CLIPModel.from_pretrained` (huggingface/transformers, models/clip/) read. The class texts of the
run, which hold all that a method with frozen images learned, go into a file of their own, SIDE.
"""

import io
import json
from collections.abc import Callable
from typing import Any, cast

import torch
from PIL import Image
from safetensors.torch import save
from torch import Tensor
from yacs.config import CfgNode

from dassl.errors import UserError
from trainers.backbone import Backbone
from trainers.clips import hf_names
from trainers.encoders import EPS, HEAD_WIDTH, Block, Encoder, ResNetEncoder

SIDE = "craft.safetensors"
RESAMPLING = {
    "nearest": Image.Resampling.NEAREST,
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
}
# What clip.load keeps in single precision; it rounds everything else to half precision.
SINGLE = ("ln_", "bn", "downsample.1", "embedding", "logit_scale")


def for_clip(backbone: Backbone, cfg: CfgNode) -> dict[str, bytes]:
    """{name: content} of the files for `clip.load`.

    Raises UserError for a CLIP that it does not compute: of another activation, of other heads or
    hidden layers, or of another epsilon of the layer norms.
    """
    if backbone.activation != "quick_gelu":
        raise UserError(
            f"the run's CLIP was trained with {backbone.activation}, and clip.load computes "
            "quick_gelu only: choose --format open_clip or hf"
        )
    _check_eps(backbone, "clip.load", "hf")
    for tower in _towers(backbone):
        for what, found, computed in (
            ("heads of attention", _heads(tower), tower.width // HEAD_WIDTH),
            ("hidden numbers", _hidden(tower), 4 * tower.width),
        ):
            if found != computed:
                raise UserError(
                    f"the run's CLIP has {found} {what} in blocks of {tower.width} numbers, and "
                    f"clip.load computes {computed}: choose --format open_clip or hf"
                )
    file = io.BytesIO()
    torch.save(_single(backbone), file)
    return {"clip.pt": file.getvalue()}


def rounded_by_clip(backbone: Backbone) -> list[str]:
    """Names of weights that change when clip.load rounds them to half precision."""
    return [
        name
        for name, value in backbone.weights().items()
        if value.is_floating_point()
        and not any(part in name for part in SINGLE)
        and not torch.equal(value.half().float(), value.float())
    ]


def for_open_clip(backbone: Backbone, cfg: CfgNode) -> dict[str, bytes]:
    """{name: content} of a folder for open_clip's `local-dir:`.

    Raises UserError for another epsilon of the layer norms.
    """
    _check_eps(backbone, "open_clip", "hf")
    sizes, weights, image = _text_sizes(backbone), _single(backbone), backbone.image
    vision: dict[str, Any] = {"image_size": backbone.input_resolution}
    if isinstance(image, ResNetEncoder):
        layers = [len(getattr(image.tower, f"layer{i}")) for i in range(1, 5)]
        width = weights["visual.layer1.0.conv1.weight"].shape[0]
        vision |= {"layers": layers, "width": width, "patch_size": None}
        # open_clip has width * 32 // 64 heads by the default of head_width, as clip has
    else:
        vision |= {"layers": image.layers, "width": image.width, "patch_size": image.patch}
        vision |= {"head_width": image.width // _heads(image)}
        vision |= {"mlp_ratio": _hidden(image) / image.width}
    model = {
        "embed_dim": backbone.embed_dim,
        "quick_gelu": backbone.activation == "quick_gelu",
        "vision_cfg": vision,
        "text_cfg": sizes,
    }
    mean, std = normalisation(cfg)
    preprocess = {
        "mean": mean,
        "std": std,
        "interpolation": cfg.INPUT.INTERPOLATION,
        "resize_mode": "shortest",
    }
    return {
        "open_clip_config.json": _json({"model_cfg": model, "preprocess_cfg": preprocess}),
        "open_clip_model.safetensors": save(weights, {"format": "pt"}),
    }


def for_hf(backbone: Backbone, cfg: CfgNode) -> dict[str, bytes]:
    """{name: content} of a folder for Hugging Face's CLIPModel. Raises UserError for a ResNet."""
    if isinstance(backbone.image, ResNetEncoder):
        raise UserError(
            "the run's CLIP has a ResNet, which Hugging Face's CLIPModel does not compute: choose "
            "--format clip or open_clip"
        )
    text, image = backbone.text, backbone.image
    text_config = _tower_config(text, backbone) | {
        "vocab_size": len(text.token_embedding_weight),
        "max_position_embeddings": text.context_length,
        "intermediate_size": _hidden(text),
    }
    vision_config = _tower_config(image, backbone) | {
        "image_size": backbone.input_resolution,
        "patch_size": image.patch,
        "intermediate_size": _hidden(image),
    }
    config = {
        "architectures": ["CLIPModel"],
        "model_type": "clip",
        "projection_dim": backbone.embed_dim,
        "text_config": text_config,
        "vision_config": vision_config,
        "torch_dtype": "float32",
    }
    return {
        "config.json": _json(config),
        "preprocessor_config.json": _json(_hf_preprocessing(backbone.input_resolution, cfg)),
        "model.safetensors": save(hf_names(_single(backbone)), {"format": "pt"}),
    }


LAYOUTS: dict[str, Callable[[Backbone, CfgNode], dict[str, bytes]]] = {
    "clip": for_clip,
    "open_clip": for_open_clip,
    "hf": for_hf,
}


def normalisation(cfg: CfgNode) -> tuple[list[float], list[float]]:
    """Mean and standard deviation of each channel, of values from 0 to 1."""
    if "normalize" in cfg.INPUT.TRANSFORMS:
        return list(cfg.INPUT.PIXEL_MEAN), list(cfg.INPUT.PIXEL_STD)
    return [0.0] * 3, [1.0] * 3


def _hf_preprocessing(size: int, cfg: CfgNode) -> dict:
    mean, std = normalisation(cfg)
    return {
        "image_processor_type": "CLIPImageProcessor",
        "do_convert_rgb": True,
        "do_resize": True,
        "size": {"shortest_edge": size},
        "resample": int(RESAMPLING[cfg.INPUT.INTERPOLATION]),
        "do_center_crop": True,
        "crop_size": {"height": size, "width": size},
        "do_rescale": True,
        "rescale_factor": 1 / 255,
        "do_normalize": True,
        "image_mean": mean,
        "image_std": std,
    }


def _text_sizes(backbone: Backbone) -> dict[str, float]:
    text = backbone.text
    return {
        "context_length": text.context_length,
        "vocab_size": len(text.token_embedding_weight),
        "width": text.width,
        "heads": _heads(text),
        "mlp_ratio": _hidden(text) / text.width,
        "layers": text.layers,
    }


def _hidden(tower: Encoder) -> int:
    """Width of the hidden layer of the MLPs."""
    return len(tower.weights()["transformer.resblocks.0.mlp.c_fc.weight"])


def _towers(backbone: Backbone) -> list[Encoder]:
    """The transformers, of which a ResNet is none."""
    return [tower for tower in (backbone.text, backbone.image) if isinstance(tower, Encoder)]


def _heads(tower: Encoder) -> int:
    return cast(Block, tower.blocks[0]).heads


def _check_eps(backbone: Backbone, library: str, other: str) -> None:
    """Raise UserError for an epsilon of the layer norms that `library` does not let one choose."""
    for tower in _towers(backbone):
        if tower.eps != EPS:
            raise UserError(
                f"the run's CLIP adds {tower.eps} to the variance in its layer norms, and "
                f"{library} adds {EPS}: choose --format {other}"
            )


def _tower_config(tower: Encoder, backbone: Backbone) -> dict:
    return {
        "hidden_size": tower.width,
        "num_hidden_layers": tower.layers,
        "num_attention_heads": _heads(tower),
        "layer_norm_eps": tower.eps,
        "hidden_act": backbone.activation,
        "projection_dim": backbone.embed_dim,
    }


def _single(backbone: Backbone) -> dict[str, Tensor]:
    """The weights on the CPU, floats in single precision, which every library takes as they are."""
    return {
        name: (value.float() if value.is_floating_point() else value).cpu().clone().contiguous()
        for name, value in backbone.weights().items()
    }


def _json(content: dict) -> bytes:
    return f"{json.dumps(content, indent=2)}\n".encode()
