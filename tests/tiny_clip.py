"""Random CLIPs, images and parameters, the same on every machine: each tensor is seeded by the
CRC32 of its name.
"""

import functools
import json
import zlib
from pathlib import Path

import clip
import clip.model
import numpy as np
import torch

REFERENCE = Path(__file__).parent / "reference"
TINY = {
    "image": 32,
    "patch": 8,
    "vision_width": 64,
    "vision_layers": 3,
    "text_width": 64,
    "text_layers": 3,
    "embed": 32,
}


@functools.lru_cache(256)
def _numbers(name: str, shape: tuple[int, ...], scale: float) -> torch.Tensor:
    numbers = np.random.RandomState(zlib.crc32(name.encode())).standard_normal(shape) * scale
    return torch.from_numpy(np.asarray(numbers).astype(np.float16).astype(np.float32))


def named_tensor(name: str, shape: tuple[int, ...], scale: float = 1.0) -> torch.Tensor:
    """Normal numbers times `scale`, rounded to half precision: any file format keeps them."""
    return _numbers(name, shape, scale).clone()


def vit_weights(
    image: int,
    patch: int,
    vision_width: int,
    vision_layers: int,
    text_width: int,
    text_layers: int,
    embed: int,
    vocab: int = 49408,
    context: int = 77,
) -> dict[str, torch.Tensor]:
    """State dict of a ViT CLIP in OpenAI's architecture, as the reference outputs were computed
    from.

    Their generator's text rounds the layer norms' weights, 1 + noise, to half precision; the stored
    outputs agree to 3e-7 without that rounding and only to 8e-4 with it.
    """
    plain = {
        "positional_embedding": (context, text_width),
        "text_projection": (text_width, embed),
        "token_embedding.weight": (vocab, text_width),
        "visual.class_embedding": (vision_width,),
        "visual.proj": (vision_width, embed),
        "visual.conv1.weight": (vision_width, 3, patch, patch),
        "visual.positional_embedding": ((image // patch) ** 2 + 1, vision_width),
    }
    norms = {"ln_final": text_width, "visual.ln_pre": vision_width, "visual.ln_post": vision_width}
    for tower, width, layers in (
        ("", text_width, text_layers),
        ("visual.", vision_width, vision_layers),
    ):
        for i in range(layers):
            block = f"{tower}transformer.resblocks.{i}."
            for part, (rows, columns) in {
                "attn.in_proj": (3, 1),
                "attn.out_proj": (1, 1),
                "mlp.c_fc": (4, 1),
                "mlp.c_proj": (1, 4),
            }.items():
                joint = "_" if part == "attn.in_proj" else "."
                plain[f"{block}{part}{joint}weight"] = (rows * width, columns * width)
                plain[f"{block}{part}{joint}bias"] = (rows * width,)
            norms |= {f"{block}ln_1": width, f"{block}ln_2": width}
    weights = {
        name: named_tensor(
            name, shape, 0.02 if len(shape) == 1 or "embedding" in name else shape[-1] ** -0.5
        )
        for name, shape in plain.items()
    }
    for name, width in norms.items():
        weights[f"{name}.weight"] = 1 + named_tensor(f"{name}.weight", (width,), 0.1)
        weights[f"{name}.bias"] = named_tensor(f"{name}.bias", (width,), 0.1)
    weights["logit_scale"] = torch.tensor(2.0)
    return weights


def images(batch: int, size: int) -> torch.Tensor:
    return named_tensor(f"images-{batch}-{size}", (batch, 3, size, size))


def fill(named_parameters) -> None:
    """Overwrite parameters in place, each seeded by its name here."""
    for name, parameter in named_parameters:
        parameter.data = named_tensor(name, tuple(parameter.shape), 0.05).to(parameter.dtype)


def reference(name: str) -> dict:
    return json.loads((REFERENCE / f"{name}.json").read_text())


def check_gradients(expected: dict[str, list[float]], named_parameters, rel: float = 1e-4) -> None:
    """Compare norm and one projection of each gradient with a reference file's."""
    for name, parameter in named_parameters:
        gradient = parameter.grad.float()
        norm, dot = (
            gradient.norm().item(),
            (gradient * named_tensor("direction-" + name, tuple(gradient.shape))).sum().item(),
        )
        # A projection can be near zero by chance; its scale is the norm.
        assert abs(norm - expected[name][0]) <= rel * expected[name][0], name
        assert abs(dot - expected[name][1]) <= rel * max(expected[name]), name


def clip_model(weights: dict[str, torch.Tensor]) -> torch.nn.Module:
    """clip's own model of the sizes TINY, with these weights, in evaluation mode."""
    model = clip.model.CLIP(
        TINY["embed"],
        TINY["image"],
        TINY["vision_layers"],
        TINY["vision_width"],
        TINY["patch"],
        77,
        49408,
        TINY["text_width"],
        1,
        TINY["text_layers"],
    ).eval()
    model.load_state_dict(weights)
    return model
