"""Where the weights of a CLIP lie, and what else it says of itself, by the name of a model.

Names are `open_clip:ARCH/PRETRAINED`, `hf:ORG/MODEL`, and folders with config and weights. Weights
alone do not tell activation, attention heads, pixels of the input, or how pixels are normalised:
these come as `Facts`. What the towers of `trainers.encoders` do not compute is refused, by reason.

Formats, of which only names and defaults are taken: open_clip's model_configs/*.json and
`CLIPVisionCfg`, `CLIPTextCfg`, `PreprocessCfg`; Hugging Face's `CLIPConfig`, `CLIPImageProcessor`
and the names of `CLIPModel`'s weights.
"""

import json
import logging
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from trainers.encoders import EPS, HEAD_WIDTH
from trainers.errors import UserError

log = logging.getLogger(__name__)

INPUT_KEYS = ("SIZE", "PIXEL_MEAN", "PIXEL_STD", "INTERPOLATION")  # under INPUT, of a model
OPEN_CLIP, HUB = "open_clip:", "hf:"
PREFIXES = (OPEN_CLIP, HUB)
PACKAGE = "pip install open-clip-torch"
END_OF_TEXT = "<|endoftext|>"
INTERPOLATIONS = {0: "nearest", 2: "bilinear", 3: "bicubic"}  # numbers of PIL.Image.Resampling
ELSEWHERE = "give MODEL.BACKBONE.NAME another CLIP"
REACH_S = 10.0  # seconds to wait for a server

# Files of a model's folder
OPEN_CLIP_CONFIG, HF_CONFIG = "open_clip_config.json", "config.json"
OPEN_CLIP_WEIGHTS: tuple[str, ...] = ("open_clip_model.safetensors", "open_clip_pytorch_model.bin")
HF_INDEX = "model.safetensors.index.json"  # names the parts of weights that are several files
HF_WEIGHTS: tuple[str, ...] = ("model.safetensors", HF_INDEX, "pytorch_model.bin")
PROCESSORS = ("preprocessor_config.json", "processor_config.json")
TOKENIZERS = ("vocab.json", "tokenizer.json")


@dataclass(frozen=True)
class Facts:
    """What the weights of a CLIP do not tell.

    heads: of the attention, None for a ResNet. eps: of the layer norms. mean, std: of red, green
    and blue, of values from 0 to 1; None if the model does not say. squashed: whether it was tested
    on pictures that were squeezed to a square rather than cropped.
    """

    activation: str
    pixels: int
    context_length: int
    image_heads: int | None
    text_heads: int
    image_eps: float = EPS
    text_eps: float = EPS
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    interpolation: str | None = None
    squashed: bool = False

    def input(self) -> dict[str, Any]:
        """{key under INPUT: value} of what the model says about its pictures."""
        values = (
            (self.pixels, self.pixels),
            self.mean and list(self.mean),
            self.std and list(self.std),
            self.interpolation,
        )
        return {key: value for key, value in zip(INPUT_KEYS, values, strict=True) if value}


@dataclass(frozen=True)
class Found:
    """Weights of a CLIP: the files that hold them, and from their names to OpenAI's."""

    paths: tuple[str, ...]
    facts: Facts
    convert: Callable[[Mapping[str, Tensor]], dict[str, Tensor]]


def find(name: str, folders: Sequence[Path], vocabulary: Mapping[str, int]) -> Found | None:
    """The CLIP of a name; None if that is no folder and has none of the prefixes.

    folders: where relative paths begin. vocabulary: {token: id} of CLIP's tokenizer. Raises
    UserError for a model that is not found, or is none that the towers here compute.
    """
    if name.startswith(OPEN_CLIP):
        return _of_open_clip(name, folders, vocabulary)
    if name.startswith(HUB):
        return _of_folder(_from_hub(name), name, vocabulary)
    for folder in folders:
        if name and (folder / name).is_dir():
            return _of_folder(folder / name, name, vocabulary)
    return None


# open_clip


def _of_open_clip(name: str, folders: Sequence[Path], vocabulary: Mapping[str, int]) -> Found:
    """The CLIP of open_clip:ARCH/PRETRAINED, where PRETRAINED is a tag or a file."""
    architecture, _, pretrained = name.removeprefix(OPEN_CLIP).partition("/")
    if not architecture or not pretrained:
        raise UserError(
            f"MODEL.BACKBONE.NAME is '{name}': name an architecture of open_clip and its weights, "
            f"as in {OPEN_CLIP}ViT-B-32/laion2b_s34b_b79k"
        )
    try:
        import open_clip
        from open_clip import pretrained as tags
    except ImportError as error:
        raise UserError(
            f"MODEL.BACKBONE.NAME '{name}' needs the package open_clip ({error}): {PACKAGE}"
        ) from None
    config = open_clip.get_model_config(architecture)
    if config is None:
        raise UserError(
            f"MODEL.BACKBONE.NAME '{name}': open_clip has no architecture '{architecture}'"
            f"{_near(architecture, open_clip.list_models())}"
        )
    stored = tags.get_pretrained_cfg(architecture, pretrained)
    if not stored and not is_path(pretrained):
        raise UserError(
            f"MODEL.BACKBONE.NAME '{name}': open_clip has no weights '{pretrained}' of "
            f"{architecture}; it has {_or_none(tags.list_pretrained_tags_by_model(architecture))}"
        )
    facts = open_clip_facts(config, stored, name, vocabulary)
    if not stored:
        return Found((_file(pretrained, name, folders),), facts, plain_names)
    if stored.get("quick_gelu", False) and facts.activation != "quick_gelu":
        facts = Facts(**{**vars(facts), "activation": "quick_gelu"})
        log.info(
            f"Note: {name} is computed with quick_gelu, with which it was trained; open_clip "
            f"itself does so under the name {architecture}-quickgelu only"
        )
    with _asking(name, f"or give {OPEN_CLIP}{architecture}/FILE with the path of a file"):
        return Found((tags.download_pretrained(stored),), facts, plain_names)


def is_path(pretrained: str) -> bool:
    """Whether the second part of an open_clip name is a file: tags have no dots and slashes."""
    return "/" in pretrained or "." in pretrained


def _near(word: str, known: Sequence[str]) -> str:
    from difflib import get_close_matches

    close = get_close_matches(word, known, 3, 0.5)
    return f"; the nearest ones are {', '.join(close)}" if close else ""


def _or_none(words: Sequence[str]) -> str:
    return ", ".join(words) or "none, but takes a file: its path goes there"


def _file(path: str, name: str, folders: Sequence[Path]) -> str:
    for folder in folders:
        if (file := folder / Path(path).expanduser()).is_file():
            return str(file)
    raise UserError(f"MODEL.BACKBONE.NAME '{name}': there is no file '{path}': correct its path")


# What open_clip's configurations may say for a CLIP of OpenAI's architecture. Any other value of
# these keys, and any other key, changes what is computed. None: any value.
_TOP = {
    "embed_dim": None,
    "vision_cfg": None,
    "text_cfg": None,
    "quick_gelu": None,
    "custom_text": None,  # another class around the same text tower
    "init_logit_scale": None,
    "nonscalar_logit_scale": None,
}
_BOTH: dict[str, tuple | None] = {
    "layers": None,
    "width": None,
    "mlp_ratio": None,  # the weights tell
    "norm_kwargs": None,
    "ls_init_value": (None,),
    "act_kwargs": (None, {}),
    "output_tokens": (False,),
    "block_type": (None, "default"),
    **dict.fromkeys(
        ("qk_norm", "scaled_cosine_attn", "scale_heads", "scale_attn_inner", "scale_attn"), (False,)
    ),
    "scale_fc": (False,),
}
_IMAGE = _BOTH | {
    "image_size": None,
    "patch_size": None,
    "head_width": None,
    "patch_dropout": None,  # of training only
    "pos_embed_type": None,  # either kind lies among the weights
    "final_ln_after_pool": None,  # the same for one token
    "attn_pooler_queries": None,  # nothing without attentional_pool
    "attn_pooler_heads": None,
    "attentional_pool": (False,),
    "no_ln_pre": (False,),
    "pool_type": ("tok",),
    "timm_model_name": (None, ""),
    **dict.fromkeys(("timm_model_pretrained", "timm_pool", "timm_proj", "timm_proj_bias")),
    **dict.fromkeys(("timm_drop", "timm_drop_path")),
}
_TEXT = _BOTH | {
    "context_length": None,
    "heads": None,
    "pad_id": None,  # a causal tower does not see what follows the text
    "hf_tokenizer_name": (None, ""),
    "tokenizer_mode": (None,),
    "tokenizer_kwargs": (None, {}),
    "hf_model_name": (None, ""),
    "embed_cls": (False,),
    "no_causal_mask": (False,),
    "final_ln_after_pool": None,
    "proj_bias": (False,),
    "proj_type": ("linear",),
    "pool_type": ("argmax", "eos"),
    **dict.fromkeys(("hf_model_pretrained", "hf_proj_type", "hf_pooler_type")),
}
_WHY = {  # in words, for those that name a kind of model
    "timm_model_name": "its image tower is timm's {}",
    "hf_model_name": "its text tower is {} of transformers",
    "hf_tokenizer_name": "its tokenizer is {}, not CLIP's",
    "multimodal_cfg": "it is a CoCa, which has a third tower",
    "init_logit_bias": "it was trained with a sigmoid loss (SigLIP), so that scores are no softmax",
    "ls_init_value": "its blocks have layer scale",
    "no_causal_mask": "its text tower is not causal",
    "attentional_pool": "its image tower ends in attentional pooling",
    "pool_type": "its tower takes the feature from the '{}' token",
}
_FIRST = ("hf_model_name", "hf_tokenizer_name", "timm_model_name")  # tell more than other keys


def open_clip_facts(
    config: Mapping[str, Any],
    preprocess: Mapping[str, Any],
    name: str,
    vocabulary: Mapping[str, int],
) -> Facts:
    """Facts of a configuration of open_clip.

    preprocess: mean, std, interpolation and resize_mode. name: for the message. Raises UserError
    for a model that the towers here do not compute.
    """
    image, text = _towers(config, name, vocabulary)
    resnet = isinstance(image.get("layers"), (list, tuple))
    head_width = image.get("head_width", HEAD_WIDTH)
    if resnet and head_width != HEAD_WIDTH:
        raise _no_clip(name, f"it is a ResNet with heads of {head_width} channels")
    try:
        heads = None if resnet else _heads(image["width"], image["width"] // head_width)
        return Facts(
            activation="quick_gelu" if config.get("quick_gelu") else "gelu",
            pixels=_square(image["image_size"]),
            context_length=int(text["context_length"]),
            image_heads=heads,
            text_heads=_heads(text["width"], text["heads"]),
            image_eps=float((image.get("norm_kwargs") or {}).get("eps", EPS)),
            text_eps=float((text.get("norm_kwargs") or {}).get("eps", EPS)),
            mean=_three(preprocess.get("mean")),
            std=_three(preprocess.get("std")),
            interpolation=preprocess.get("interpolation"),
            squashed=preprocess.get("resize_mode", "shortest") != "shortest",
        )
    except (KeyError, TypeError, ValueError, AttributeError, ZeroDivisionError) as error:
        raise _no_clip(name, f"its configuration is incomplete: {error!r}") from None


def _towers(
    config: Mapping[str, Any], name: str, vocabulary: Mapping[str, int]
) -> tuple[Mapping[str, Any], Mapping[str, Any]]:
    """The configurations of image and text tower. Raises UserError if one is not of OpenAI's."""
    image, text = config.get("vision_cfg"), config.get("text_cfg")
    if not isinstance(image, Mapping) or not isinstance(text, Mapping):
        raise _no_clip(name, "its configuration lacks vision_cfg or text_cfg")
    known: tuple[tuple[Mapping[str, Any], Mapping[str, Any]], ...] = (
        (config, _TOP),
        (image, _IMAGE),
        (text, _TEXT | {"vocab_size": (len(vocabulary),), "eos_id": None}),
    )
    odd = [
        (key, value)
        for values, allowed in known
        for key, value in values.items()
        if key not in allowed
        or (choices := allowed[key]) is not None
        and _plain(value) not in choices
    ]
    if odd:
        key, value = min(odd, key=lambda pair: pair[0] not in _FIRST)
        why = _WHY[key].format(value) if key in _WHY else f"it has {key} {value!r}"
        raise _no_clip(name, why)
    end = vocabulary[END_OF_TEXT]
    if text.get("pool_type") == "eos" and text.get("eos_id", 2) != end:
        raise _no_clip(name, f"its texts end in token {text.get('eos_id', 2)}, not in CLIP's {end}")
    for values in (image, text):
        if further := sorted(set(values.get("norm_kwargs") or ()) - {"eps"}):
            raise _no_clip(name, f"its layer norms have {further[0]}")
    return image, text


def plain_names(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """open_clip's names, which are OpenAI's; some of its classes put text weights under `text.`."""
    return {
        name.removeprefix("text."): value.reshape(()) if name == "logit_scale" else value
        for name, value in weights.items()
    }


def _plain(value: Any) -> Any:
    return dict(value) if isinstance(value, Mapping) else value


# Hugging Face

# Of CLIPConfig, which files leave out where a model has them.
_HF_TEXT = {
    "hidden_act": "quick_gelu",
    "num_attention_heads": 8,
    "layer_norm_eps": EPS,
    "max_position_embeddings": 77,
    "vocab_size": 49408,
    "eos_token_id": 49407,
    "hidden_size": 512,
}
_HF_IMAGE = {
    "hidden_act": "quick_gelu",
    "num_attention_heads": 12,
    "layer_norm_eps": EPS,
    "image_size": 224,
    "hidden_size": 768,
}
_OLD_END = 2  # of files from before transformers knew the number: the largest token ends a text
# Modules and parameters by the names of CLIPModel -> of OpenAI's CLIP.
_HF_NAMES = {
    "vision_model.embeddings.class_embedding": "visual.class_embedding",
    "vision_model.embeddings.patch_embedding.weight": "visual.conv1.weight",
    "vision_model.embeddings.position_embedding.weight": "visual.positional_embedding",
    "vision_model.pre_layrnorm": "visual.ln_pre",  # spelled so
    "vision_model.post_layernorm": "visual.ln_post",
    "visual_projection.weight": "visual.proj",
    "text_model.embeddings.token_embedding.weight": "token_embedding.weight",
    "text_model.embeddings.position_embedding.weight": "positional_embedding",
    "text_model.final_layer_norm": "ln_final",
    "text_projection.weight": "text_projection",
    "logit_scale": "logit_scale",
}
_HF_BLOCK = {
    "layer_norm1": "ln_1",
    "layer_norm2": "ln_2",
    "self_attn.out_proj": "attn.out_proj",
    **{f"self_attn.{part}_proj": f"attn.{part}" for part in "qkv"},  # joined into attn.in_proj_
    "mlp.fc1": "mlp.c_fc",
    "mlp.fc2": "mlp.c_proj",
}
_HF_TOWERS = {"vision_model.encoder.layers.": "visual.", "text_model.encoder.layers.": ""}
_PROJECTIONS = ("visual.proj", "text_projection")  # linear layers there: turned
_BLOCKS = "transformer.resblocks."


def is_hf_layout(weights: Mapping[str, Tensor]) -> bool:
    """Whether the names are those of Hugging Face's CLIPModel."""
    return any(name.startswith(("text_model.", "vision_model.")) for name in weights)


def openai_names(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The weights of Hugging Face's CLIPModel by OpenAI's names.

    Query, key and value become one matrix, and projections are turned. Raises KeyError for a name
    that CLIPModel does not have, or that is missing.
    """
    found: dict[str, Tensor] = {}
    for name, value in weights.items():
        if name.endswith("position_ids"):  # 0, 1, 2, ...: of older versions
            continue
        tower = next(filter(name.startswith, _HF_TOWERS), None)
        if tower is None:
            ours = _renamed(name, _HF_NAMES)
        else:
            layer, _, rest = name.removeprefix(tower).partition(".")
            ours = _renamed(rest, _HF_BLOCK) if layer.isdecimal() else ""
        if not ours:
            raise KeyError(f"'{name}' is no weight of CLIPModel")
        found[ours if tower is None else f"{_HF_TOWERS[tower]}{_BLOCKS}{layer}.{ours}"] = value
    for name in _PROJECTIONS:
        found[name] = found[name].T.contiguous()
    for name in [name for name in found if ".attn.q." in name]:
        parts = [found.pop(name.replace(".attn.q.", f".attn.{part}.")) for part in "qkv"]
        found[name.replace(".attn.q.", ".attn.in_proj_")] = torch.cat(parts)
    found["logit_scale"] = found["logit_scale"].reshape(())
    return found


def hf_names(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The other way: weights of a ViT CLIP by OpenAI's names, by those of CLIPModel."""
    names, block = ({ours: theirs for theirs, ours in n.items()} for n in (_HF_NAMES, _HF_BLOCK))
    towers = {f"{place}{_BLOCKS}": theirs for theirs, place in _HF_TOWERS.items()}
    made: dict[str, Tensor] = {}
    for name, value in weights.items():
        tower = next(filter(name.startswith, towers), None)
        if tower is None:
            made[_renamed(name, names)] = value.T if name in _PROJECTIONS else value
            continue
        layer, _, rest = name.removeprefix(tower).partition(".")
        pieces = {rest: value}
        if rest.startswith("attn.in_proj_"):
            kind = rest.removeprefix("attn.in_proj_")
            pieces = {f"attn.{p}.{kind}": v for p, v in zip("qkv", value.chunk(3), strict=True)}
        for part, piece in pieces.items():
            made[f"{towers[tower]}{layer}.{_renamed(part, block)}"] = piece
    return {name: value.contiguous().clone() for name, value in made.items()}


def _renamed(name: str, names: Mapping[str, str]) -> str:
    """The other name of a parameter, by itself or by its module; "" if neither is in `names`."""
    module, dot, kind = name.rpartition(".")
    if name in names:
        return names[name]
    return f"{names[module]}{dot}{kind}" if module in names and kind in ("weight", "bias") else ""


def hf_facts(
    config: Mapping[str, Any],
    processor: Mapping[str, Any],
    name: str,
    vocabulary: Mapping[str, int],
) -> Facts:
    """Facts of Hugging Face's config.json and preprocessor_config.json ({} without).

    Raises UserError for a model that the towers here do not compute.
    """
    if (kind := config.get("model_type")) != "clip":
        raise _no_clip(name, f"its config.json is of the model type {kind!r}, not 'clip'")
    try:
        text = _HF_TEXT | config.get("text_config", {}) | (config.get("text_config_dict") or {})
        image = _HF_IMAGE | config.get("vision_config", {})
        image |= config.get("vision_config_dict") or {}
        if (one := text["hidden_act"]) != (other := image["hidden_act"]):
            raise _no_clip(name, f"its towers have two activations, {one} and {other}")
        if one not in ("quick_gelu", "gelu"):
            raise _no_clip(name, f"its activation is {one}")
        if text["vocab_size"] < len(vocabulary):
            raise _no_clip(
                name, f"it has {text['vocab_size']} tokens, and CLIP's tokenizer {len(vocabulary)}"
            )
        if text["eos_token_id"] not in (_OLD_END, end := vocabulary[END_OF_TEXT]):
            raise _no_clip(
                name, f"its texts end in token {text['eos_token_id']}, not in CLIP's {end}"
            )
        if (channels := image.get("num_channels", 3)) != 3:
            raise _no_clip(name, f"its pictures have {channels} channels")
        pixels = _square(image["image_size"])
        return Facts(
            activation=one,
            pixels=pixels,
            context_length=int(text["max_position_embeddings"]),
            image_heads=_heads(image["hidden_size"], image["num_attention_heads"]),
            text_heads=_heads(text["hidden_size"], text["num_attention_heads"]),
            image_eps=float(image["layer_norm_eps"]),
            text_eps=float(text["layer_norm_eps"]),
            **_pictures(processor.get("image_processor", processor), pixels, name),
        )
    except (TypeError, ValueError, AttributeError, ZeroDivisionError) as error:
        raise _no_clip(name, f"its config.json is damaged: {error!r}") from None


def _pictures(processor: Mapping[str, Any], pixels: int, name: str) -> dict[str, Any]:
    """Facts about pictures of a CLIPImageProcessor's values."""
    crop = processor.get("crop_size") if processor.get("do_center_crop", True) else None
    size = processor.get("size") if crop is None else crop
    size = size.get("height", size.get("shortest_edge")) if isinstance(size, Mapping) else size
    if size is not None and size != pixels:
        raise _no_clip(name, f"it reads {pixels} pixels, but its preprocessor makes {size}")
    plain = processor.get("do_normalize", True) is False
    resample = processor.get("resample")
    return {
        "mean": (0.0, 0.0, 0.0) if plain else _three(processor.get("image_mean")),
        "std": (1.0, 1.0, 1.0) if plain else _three(processor.get("image_std")),
        "interpolation": None if resample is None else INTERPOLATIONS.get(int(resample)),
        "squashed": processor.get("do_center_crop", True) is False,
    }


def _of_folder(folder: Path, name: str, vocabulary: Mapping[str, int]) -> Found:
    """The CLIP in a folder, in Hugging Face's layout or else in open_clip's."""
    hf, own = _json(folder / HF_CONFIG), _json(folder / OPEN_CLIP_CONFIG)
    files: Sequence[str] = HF_WEIGHTS
    weights = _weights_in(folder, files)
    if hf is not None and (own is None or weights and hf.get("model_type") == "clip"):
        processor = next(filter(None, (_json(folder / file) for file in PROCESSORS)), {})
        facts = hf_facts(hf, processor, name, vocabulary)
        _check_tokenizer(folder, name, vocabulary)
        convert = openai_names
    elif own is not None:
        config, preprocess = own.get("model_cfg", own), own.get("preprocess_cfg", {})
        facts = open_clip_facts(config, preprocess, name, vocabulary)
        convert = plain_names
        files = OPEN_CLIP_WEIGHTS
        weights = _weights_in(folder, files)
    else:
        raise UserError(
            f"MODEL.BACKBONE.NAME '{name}' has neither {HF_CONFIG} (Hugging Face's layout) nor "
            f"{OPEN_CLIP_CONFIG}: give the folder of a whole model, or a file of weights"
        )
    if not weights:
        raise UserError(
            f"MODEL.BACKBONE.NAME '{name}' has no weights beside its configuration: put "
            f"{' or '.join(files)} there"
        )
    return Found(weights, facts, convert)


def _weights_in(folder: Path, names: Sequence[str]) -> tuple[str, ...]:
    """The first of these files that is there, or the parts that it names; () without any."""
    file = next((folder / name for name in names if (folder / name).is_file()), None)
    if file is None or file.name != HF_INDEX:
        return () if file is None else (str(file),)
    parts = (_json(file) or {}).get("weight_map")
    if not isinstance(parts, Mapping) or not parts:
        raise UserError(f"'{file}' names no files: fetch it again")
    paths = [folder / Path(str(part)).name for part in sorted(set(parts.values()))]
    for path in paths:
        if not path.is_file():
            raise UserError(f"'{file}' names '{path.name}', which is missing: fetch that file")
    return tuple(map(str, paths))


def _check_tokenizer(folder: Path, name: str, vocabulary: Mapping[str, int]) -> None:
    """Raise UserError if the tokenizer's files are not of CLIP's; without any, its size must do."""
    for file in TOKENIZERS:
        if (content := _json(folder / file)) is None:
            continue
        tokens = content.get("model", {}).get("vocab") if file == "tokenizer.json" else content
        if not isinstance(tokens, Mapping):  # a unigram model's is a list
            raise _no_clip(name, f"its {file} is of another tokenizer than CLIP's")
        added = content.get("added_tokens", ()) if file == "tokenizer.json" else ()
        tokens = {**tokens, **{token["content"]: token["id"] for token in added}}
        different = next((t for t, n in vocabulary.items() if tokens.get(t) != n), None)
        if different is not None:
            raise _no_clip(
                name,
                f"its {file} is of another tokenizer than CLIP's: '{different}' is "
                f"{tokens.get(different)} there, not {vocabulary[different]}",
            )
        return


def _json(path: Path) -> dict | None:
    """What a file holds; None without the file. Raises UserError for a damaged one."""
    if not path.is_file():
        return None
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"'{path}' is not valid JSON ({error}): fetch it again") from None
    if not isinstance(content, dict):
        raise UserError(f"'{path}' holds no keys: fetch it again")
    return content


def _from_hub(name: str) -> Path:
    """The folder of hf:ORG/MODEL or hf:ORG/MODEL@REVISION, with the files that `_of_folder` reads.

    Files that are there already are not fetched again. Raises UserError.
    """
    repository, _, revision = name.removeprefix(HUB).partition("@")
    if not re.fullmatch(r"[\w.-]+/[\w.-]+", repository):
        raise UserError(
            f"MODEL.BACKBONE.NAME is '{name}': name a model of Hugging Face's hub, as in "
            f"{HUB}openai/clip-vit-base-patch16"
        )

    def fetched(file: str) -> str | None:
        from huggingface_hub import hf_hub_download
        from huggingface_hub.errors import EntryNotFoundError, LocalEntryNotFoundError

        try:
            return hf_hub_download(repository, file, revision=revision or None)
        except LocalEntryNotFoundError as error:
            absent.append(error)
        except EntryNotFoundError:
            pass
        return None

    absent: list[Exception] = []
    with _asking(name, "or give the path of the model's folder"):
        config = fetched(HF_CONFIG)
        if config and (_json(Path(config)) or {}).get("model_type") == "clip":
            weights = next(filter(None, map(fetched, HF_WEIGHTS)), None)
            if weights and Path(weights).name == HF_INDEX:
                for part in sorted(set((_json(Path(weights)) or {})["weight_map"].values())):
                    fetched(part)
        else:
            weights = None
        own = None if weights else fetched(OPEN_CLIP_CONFIG)
        for file in (*PROCESSORS, *TOKENIZERS) if weights else ():
            fetched(file)
        if own:
            weights = next(filter(None, map(fetched, OPEN_CLIP_WEIGHTS)), None)
        if not weights and absent:
            raise absent[0]
        place = own or config
    if place is None:
        raise UserError(f"MODEL.BACKBONE.NAME '{name}' has no {HF_CONFIG}: {ELSEWHERE}")
    return Path(place).parent


# Both


@contextmanager
def _asking(name: str, instead: str) -> Iterator[None]:
    """Turns what fails when a model is fetched into one sentence."""
    why = ""
    try:
        with _once() as why:
            yield
    except UserError:
        raise
    except Exception as error:  # noqa: BLE001 - each library of the network has errors of its own
        # Of the hub, and not of another server or of a damaged file.
        unreached = why if isinstance(error, FileNotFoundError) else ""
        words = " ".join((unreached or str(error)).split())[:200]
        raise UserError(
            f"MODEL.BACKBONE.NAME '{name}' could not be fetched ({type(error).__name__}: {words}): "
            f"look after the name and the network, {instead}"
        ) from None


@contextmanager
def _once() -> Iterator[str]:
    """Asks Hugging Face's hub once whether it is there, and if it is not, reads only its cache.

    The hub's own library asks six times for each file, half a minute, for cached models, too.
    Yields why the hub is not reached, or "".
    """
    try:
        from huggingface_hub import constants
        from huggingface_hub.utils import get_session
    except ImportError:  # open_clip asks for it where it needs it
        yield ""
        return
    why, before = "", constants.HF_HUB_OFFLINE
    if not before:
        try:
            get_session().head(constants.ENDPOINT, timeout=REACH_S)
        except Exception as error:  # noqa: BLE001 - of requests or of httpx, by the hub's version
            why = f"{constants.ENDPOINT} is not reached, {error}, and it is not on this machine"
            constants.HF_HUB_OFFLINE = True
    try:
        yield why
    finally:
        constants.HF_HUB_OFFLINE = before


def _no_clip(name: str, why: str) -> Exception:
    return UserError(
        f"MODEL.BACKBONE.NAME '{name}' is not a CLIP of OpenAI's architecture ({why}): {ELSEWHERE}"
    )


def _heads(width: int, heads: int) -> int:
    if heads < 1 or width % heads:
        raise ValueError(f"{heads} heads do not divide a width of {width}")
    return heads


def _square(size: Any) -> int:
    sides = set(size) if isinstance(size, (list, tuple)) else {size}
    if len(sides) != 1:
        raise ValueError(f"pictures of {size} pixels are no squares")
    return int(sides.pop())


def _three(values: Any) -> tuple[float, ...] | None:
    if values is None:
        return None
    if len(values) != 3:
        raise ValueError(f"{values} are not three numbers")
    return tuple(map(float, values))
