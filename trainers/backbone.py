"""A frozen CLIP from a name, folder or file: only this file of `trainers/` imports `clip`.

Names of open_clip and Hugging Face, and folders: `trainers.clips` finds them.
"""

import functools
import hashlib
import io
import logging
import os
import re
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from trainers import clips
from trainers.encoders import (
    ACTIVATIONS,
    EPS,
    HEAD_WIDTH,
    Block,
    ImageEncoder,
    ResNetEncoder,
    TextEncoder,
    sub_weights,
)
from trainers.errors import UserError
from trainers.files import read_tensors, unreadable

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # clip imports pkg_resources, which warns about its own end
    import clip
    import clip.clip
    import clip.model
    from clip.simple_tokenizer import SimpleTokenizer

log = logging.getLogger(__name__)

ROOT = Path(__file__).resolve().parent.parent
LOWER = {"fp16": torch.float16, "bf16": torch.bfloat16}  # of all weights but those of the norms
PRECISIONS = ("fp32", *LOWER, "amp")
# A CPU runs many images faster in pieces of about so many tokens, whose activations stay in its
# cache: ViT-B/16 8% faster with 9 images of 197 tokens, the bundled CLIP 20% with 32 of 67.
TOKENS_AT_ONCE = 2_000
TEXTS_AT_ONCE = 256  # bounds the memory of encoding a thousand class texts without a graph
ACTIVATION_CHOICES = ("auto", *ACTIVATIONS)
OPENAI_MARKS = {
    "input_resolution",
    "context_length",
    "vocab_size",
}  # only OpenAI's archives hold them
CACHE = "~/.cache/clip"  # where `clip` keeps what it downloads
NARROWEST = 256  # width of the embedding of the smallest published CLIP, open_clip's ViT-S-32-alt
WIDEST = (
    1024  # image tower of OpenAI's largest CLIP; the heads of wider ones are no 64 numbers wide
)
NAMED = 20  # words and texts that one warning lists
TRAINING_PREFIX = re.compile(r"^((module|_orig_mod)\.)+")  # of several GPUs, and of torch.compile
END_OF_WORD = "</w>"  # ends the last token of a word in CLIP's vocabulary
REQUIRED = {  # and how many dimensions each has
    "token_embedding.weight": 2,
    "positional_embedding": 2,
    "ln_final.weight": 1,
    "text_projection": 2,
    "logit_scale": 0,
    "transformer.resblocks.0.attn.in_proj_weight": 2,
    "visual.conv1.weight": 4,
}


class Backbone(nn.Module):
    """A frozen CLIP: `text` and `image` encoders, `scale`, sizes and tokenizer.

    precision: one of PRECISIONS; fp16 and bf16 lower the weights of both towers but the norms'.
    facts: what the weights do not tell; None for OpenAI's architecture with `activation`.

    Attributes: `scale` (the exp of the logit scale), input_resolution (pixels), embed_dim D,
    context_length, `activation` (quick_gelu or gelu), `fingerprint` (hash of what determines image
    features, for caches of them), `input` ({key under INPUT: value} that the model tells of its
    pictures; {} for a file), `squashed` (as in `clips.Facts`), `sha256` (of the files of weights;
    "" if they are of none), `say` (takes warnings).
    """

    scale: Tensor

    def __init__(
        self,
        weights: Mapping[str, Tensor],
        precision: str = "fp32",
        activation: str = "quick_gelu",
        facts: clips.Facts | None = None,
    ):
        super().__init__()
        self.activation = activation
        self.input = {} if facts is None else facts.input()
        self.squashed, self.sha256 = facts is not None and facts.squashed, ""
        image_heads, image_eps = (facts.image_heads, facts.image_eps) if facts else (None, EPS)
        text_heads, text_eps = (facts.text_heads, facts.text_eps) if facts else (None, EPS)
        self.say: Callable[[str], None] = log.warning
        self._named: set[str] = set()
        visual = sub_weights(weights, "visual.")
        digest = hashlib.sha256(precision.encode())
        if activation != "quick_gelu":  # so that caches from before there was a choice stay valid
            digest.update(activation.encode())
        if image_eps != EPS:
            digest.update(str(image_eps).encode())
        for name in sorted(visual):
            digest.update(name.encode())
            digest.update(
                visual[name].cpu().reshape(-1).contiguous().view(torch.uint8).numpy().data
            )
        visual = {
            name: value.float() if value.is_floating_point() else value
            for name, value in visual.items()
        }
        text = (name for name in weights if not name.startswith("visual."))
        words = {name: weights[name].float() for name in text}
        self.text = TextEncoder(words, activation, text_heads, text_eps)
        if "proj" in visual:
            self.image = ImageEncoder(visual, activation, image_heads, image_eps)
            if self.image.blocks[0].heads != max(1, self.image.width // HEAD_WIDTH):
                digest.update(str(image_heads).encode())  # other files' caches stay valid
        else:  # a ResNet has neither activation; it refuses prompts, else it is the same to callers
            self.image = cast(ImageEncoder, _resnet(visual, self.text.embed_dim))
        self.register_buffer("scale", weights["logit_scale"].float().exp())
        self.logit_scale = weights["logit_scale"].float().cpu().reshape(())  # for `weights` only
        self.input_resolution = self.image.input_resolution
        self.embed_dim, self.context_length = self.text.embed_dim, self.text.context_length
        self.fingerprint = digest.hexdigest()
        if precision in LOWER:
            self.text.lower_matrices(LOWER[precision])
            self.image.lower_matrices(LOWER[precision])

    def weights(self) -> dict[str, Tensor]:
        """The weights under OpenAI's names, in the precision in which they are computed with."""
        visual = {f"visual.{name}": value for name, value in self.image.weights().items()}
        return {**self.text.weights(), **visual, "logit_scale": self.logit_scale}

    def compile_blocks(self) -> None:
        """torch.compile for every transformer block, in place (a ResNet tower is left as it is)."""
        for tower in (self.text, self.image):
            for block in getattr(tower, "blocks", ()):
                block.compile(dynamic=True)

    def tokenize(
        self, texts: Sequence[str], learned: int = 0, names: Sequence[str] | None = None
    ) -> Tensor:
        """Token ids (N, context_length): start of text, text, end of text (the largest id), zeros.

        A warning names each word, once, that this CLIP has never learned. learned: number of tokens
        at the start of every text that are placeholders. names: what a warning calls the texts;
        None: the texts. Raises UserError for a text that is too long.
        """
        rows = []
        for text in texts:
            try:
                rows.append(clip.tokenize(text, context_length=self.context_length))
            except RuntimeError:
                raise UserError(
                    f"the text '{text}' is longer than the {self.context_length} tokens CLIP "
                    "reads: shorten the class name or the context"
                ) from None
        tokens = torch.cat(rows)
        self._warn_of_unlearned(tokens, learned, texts if names is None else names)
        return tokens

    @cached_property
    def _unlearned(self) -> Tensor:
        """(vocabulary,), True for tokens whose embedding is all zeros, on the CPU."""
        return (self.text.token_embedding_weight == 0).all(1).cpu()

    def _warn_of_unlearned(self, tokens: Tensor, learned: int, names: Sequence[str]) -> None:
        """Name words of token rows (N, L) whose embeddings are zeros: CLIP does not see them."""
        if not self._unlearned.any():
            return
        affected: dict[str, list[str]] = {}  # what a text is called: its words not named before
        for row, name in zip(tokens, names, strict=True):
            inside = row[1 + learned : int(row.argmax())]
            if new := [word for word in self._unlearned_words(inside) if word not in self._named]:
                affected.setdefault(name, []).extend(new)
        words = list(dict.fromkeys(word for new in affected.values() for word in new))
        if words:
            self._named.update(words)
            self.say(
                f"Warning: this CLIP has never learned {_listed(words)} (the embeddings of their "
                f"tokens are all zeros), so that {len(affected)} of {len(set(names))} texts say "
                f"less than they seem to: {_listed(list(affected))}; choose other words, or "
                "another CLIP"
            )

    def _unlearned_words(self, tokens: Tensor) -> list[str]:
        """Words with a token of zeros, in the order of the tokens (L,)."""
        if not self._unlearned[tokens].any():
            return []
        words, word = [], []
        for token in tokens.tolist():
            word.append(token)
            if _tokenizer.decoder[token].endswith(END_OF_WORD):
                if self._unlearned[word].any():
                    words.append(_tokenizer.decode(word).strip())
                word = []
        return words

    @torch.no_grad()
    def encode_texts(self, texts: Sequence[str], at_length_1: bool = True) -> Tensor:
        """Features (N, D), float32, of plain texts: unit-norm, or as the encoder gives them."""
        tokens = self.tokenize(texts).to(self.scale.device)
        parts = (self.text.encode_tokens(part) for part in tokens.split(TEXTS_AT_ONCE))
        return torch.cat([unit(part) if at_length_1 else part.float() for part in parts])

    def encode_images(
        self, images: Tensor, prompts: Tensor | None = None, deep: Sequence[Tensor] = ()
    ) -> Tensor:
        """Unit-norm features (B, D), float32, of normalised images (B, 3, R, R).

        prompts, deep: visual prompts as `ImageEncoder` takes them. Without them there is no graph.
        """
        learning = torch.is_grad_enabled() and (prompts is not None or bool(deep))
        with torch.set_grad_enabled(learning):
            if images.is_cuda or isinstance(self.image, ResNetEncoder) or learning:
                return unit(self.image(images, prompts, deep))
            tokens = len(self.image.positional_embedding) + (0 if prompts is None else len(prompts))
            pieces = images.split(max(1, TOKENS_AT_ONCE // tokens))
            return unit(torch.cat([self.image(some, prompts, deep) for some in pieces]))


def unit(features: Tensor) -> Tensor:
    """Features (..., D) at length 1, in single precision (or better)."""
    return F.normalize(
        features.float() if features.dtype in (torch.half, torch.bfloat16) else features, dim=-1
    )


_tokenizer = SimpleTokenizer()


def count_tokens(text: str) -> int:
    """Tokens of a text, without start and end."""
    return len(_tokenizer.encode(text))


def as_read(classname: str) -> list[int]:
    """Tokens of a class name; names that differ only in case, `_` or blanks have the same ones."""
    return _tokenizer.encode(classname.replace("_", " "))


def same_as_read(classnames: Iterable[str]) -> list[list[str]]:
    """Groups of two or more class names that CLIP's tokenizer reads as the same words."""
    groups: dict[tuple[int, ...], list[str]] = {}
    for name in classnames:
        groups.setdefault(tuple(as_read(name)), []).append(name)
    return [names for names in groups.values() if len(names) > 1]


def load_backbone(name: str, precision: str = "fp32", activation: str = "auto") -> Backbone:
    """CLIP on the CPU, by a name or from a folder or file.

    name: of OpenAI's, which `clip` downloads and checks; open_clip:ARCH/PRETRAINED; hf:ORG/MODEL;
    a folder in Hugging Face's or open_clip's layout; a state dict, safetensors or TorchScript file.
    A relative path is looked up from the working folder, then from this repository. activation:
    quick_gelu, gelu, or auto, which is what the model tells; of a file it knows OpenAI's and the
    bundled CLIP. Raises UserError with the remedy.
    """
    known = name in clip.available_models()
    found = None if known else clips.find(name, (Path(), ROOT), _tokenizer.encoder)
    paths = found.paths if found else (_download(name) if known else _find(name),)
    weights = _joined(paths)
    try:
        weights = found.convert(weights) if found else weights
    except (LookupError, RuntimeError) as error:
        raise _no_clip(paths[0], str(error)) from None
    if not found and clips.is_hf_layout(weights):
        raise UserError(
            f"'{paths[0]}' is a file of Hugging Face's layout, whose weights do not tell what "
            "config.json tells: give MODEL.BACKBONE.NAME the folder that holds both"
        )
    if wrong := _what_is_wrong(weights):
        raise UserError(
            f"'{paths[0]}' is not a CLIP of OpenAI's architecture ({wrong}): "
            "give MODEL.BACKBONE.NAME such a file or one of " + ", ".join(clip.available_models())
        )
    _check_finite(weights, paths[0])
    if found is None:
        activation = _activation(activation, paths[0], weights, known)
        _check_width(weights, paths[0])
    elif activation == "auto":
        activation = found.facts.activation
    elif activation != found.facts.activation:
        _warn_of_activation(activation, name, found.facts.activation)
    try:
        backbone = Backbone(weights, precision, activation, found.facts if found else None)
    except (LookupError, AttributeError, RuntimeError, TypeError, ValueError) as error:
        raise _no_clip(paths[0], str(error).splitlines()[0]) from None
    if found is not None:
        _check_sizes(backbone, found.facts, name, paths[0])
    elif known:
        backbone.input = _openai_input(backbone.input_resolution)
    # clip checks what it fetched or found: there is no need to read the file once more.
    backbone.sha256 = _openai_hash(place_of(name)[1]) if known else _joint_hash(paths)
    return backbone


def tells_input(name: str) -> bool:
    """Whether a CLIP of this name tells how it reads pictures; a file of weights does not."""
    folder = any(name and (top / name).is_dir() for top in (Path(), ROOT))
    return folder or name.startswith(clips.PREFIXES) or name in clip.available_models()


def _joined(paths: Sequence[str]) -> dict[str, Tensor]:
    """The weights of several files, such as the parts of a large model."""
    weights: dict[str, Tensor] = {}
    for path in paths:
        weights |= _read(path)
    return weights


def _no_clip(path: str, why: str) -> Exception:
    return UserError(
        f"'{path}' is not a CLIP of OpenAI's architecture ({why}): give MODEL.BACKBONE.NAME "
        "another file"
    )


def _check_finite(weights: Mapping[str, Tensor], path: str) -> None:
    for key, value in weights.items():
        if not key.endswith("attn_mask") and not value.isfinite().all():  # a mask holds infinities
            raise UserError(
                f"'{path}' holds NaN or infinite numbers in '{key}', so that no feature is one: "
                "fetch or convert it again, or give MODEL.BACKBONE.NAME another"
            )


def _check_width(weights: Mapping[str, Tensor], path: str) -> None:
    """Raise UserError for a file of a model whose attention heads only its architecture tells."""
    width = len(weights["visual.conv1.weight"])
    if "visual.proj" in weights and width > WIDEST:
        raise UserError(
            f"'{path}' has an image tower of width {width}, and weights do not tell how many "
            f"attention heads such a tower has: give MODEL.BACKBONE.NAME {clips.OPEN_CLIP}"
            "ARCH/FILE, with the name of the architecture in open_clip, such as ViT-H-14"
        )


def _check_sizes(backbone: Backbone, facts: clips.Facts, name: str, path: str) -> None:
    """Raise UserError if the weights have other sizes than their configuration says."""
    for what, stored, told in (
        ("pictures of {} pixels", backbone.input_resolution, facts.pixels),
        ("texts of {} tokens", backbone.context_length, facts.context_length),
    ):
        if stored != told:
            raise UserError(
                f"'{path}' is for {what.format(stored)}, but the architecture of '{name}' is for "
                f"{told}: give MODEL.BACKBONE.NAME the architecture of these weights"
            )


def _openai_input(pixels: int) -> dict[str, object]:
    """What `clip.load` does with pictures, as values of INPUT."""
    steps = clip.clip._transform(pixels).transforms
    values = (
        (pixels, pixels),
        list(steps[-1].mean),
        list(steps[-1].std),
        steps[0].interpolation.value,
    )
    return dict(zip(clips.INPUT_KEYS, values, strict=True))


def _joint_hash(paths: Sequence[str]) -> str:
    """SHA-256 of a file; of several, of their SHA-256."""
    digests = [_sha256(path) for path in paths]
    return (
        digests[0] if len(digests) == 1 else hashlib.sha256("".join(digests).encode()).hexdigest()
    )


def _what_is_wrong(weights: Mapping[str, Tensor]) -> str:
    """Why these cannot be the weights of a CLIP; "" if they may be."""
    for key, dimensions in REQUIRED.items():
        if key not in weights:
            return f"it lacks '{key}'"
        value = weights[key]
        scalar = dimensions == 0 and value.numel() == 1
        if (
            not value.is_floating_point()
            or not scalar
            and value.dim() != dimensions
            or not value.numel()
        ):
            return f"'{key}' is {tuple(value.shape)} of {value.dtype}"
    for key in weights:
        of_block = key.partition("transformer.resblocks.")[2].partition(".")[2]
        if of_block and of_block not in Block.parts:
            return f"its blocks have '{of_block}'"
    words, known = len(weights["token_embedding.weight"]), len(_tokenizer.encoder)
    return "" if words >= known else f"it has {words} tokens, and CLIP's tokenizer {known}"


def _weights(content: object) -> dict[str, Tensor]:
    """Tensors by CLIP's names, of what a file holds: plain, or as training codes wrap them."""
    for wrapper in ("state_dict", "model", "state_dict"):
        if isinstance(content, dict) and isinstance(content.get(wrapper), dict):
            content = content[wrapper]
    if not isinstance(content, dict):
        return {}
    return {
        TRAINING_PREFIX.sub("", str(name)): value.detach()
        for name, value in content.items()
        if isinstance(value, Tensor)
    }


def _activation(asked: str, path: str, weights: Mapping[str, Tensor], known: bool) -> str:
    """The activation to compute with, which weights do not tell.

    OpenAI's CLIPs were trained with quick_gelu. known: whether the file was fetched by OpenAI's
    name. A CLIP that is smaller than any published one is taken to be like OpenAI's, with a note.
    Raises UserError for `auto` with any other file.
    """
    if asked == "quick_gelu":
        return asked
    known = known or OPENAI_MARKS <= weights.keys() or _is_known_file(path)
    if asked == "gelu":
        if known:
            _warn_of_activation(asked, path, "quick_gelu")
        return asked
    if known:
        return "quick_gelu"
    if weights["text_projection"].shape[-1] < NARROWEST:
        log.warning(
            f"Note: '{path}' is none of OpenAI's CLIPs and smaller than any published one: it is "
            "computed with quick_gelu, as OpenAI's are; set MODEL.BACKBONE.ACTIVATION to gelu if "
            "it was trained with that"
        )
        return "quick_gelu"
    raise UserError(
        f"'{path}' is none of OpenAI's CLIPs, and its weights do not tell the activation that they "
        "were trained with: set MODEL.BACKBONE.ACTIVATION to gelu (most models of open_clip, such "
        "as LAION-2B and DataComp) or to quick_gelu (OpenAI's own after tuning or conversion, "
        "MetaCLIP, DFN, and what open_clip names -quickgelu)"
    )


def _warn_of_activation(asked: str, what: str, own: str) -> None:
    log.warning(
        f"Warning: MODEL.BACKBONE.ACTIVATION is {asked}, but '{what}' was trained with {own}"
    )


def _is_known_file(path: str) -> bool:
    """Whether its content is a bundled file's or one of OpenAI's, whose addresses hold SHA-256."""
    size = os.path.getsize(path)
    bundled = [file for file in (ROOT / "assets").glob("*.pt") if file.stat().st_size == size]
    return _sha256(path) in {*_openai(), *map(_sha256, bundled)}


def openai_files() -> dict[str, tuple[str, bool]]:
    """{name: (path, whether its content is OpenAI's)} of the CLIPs that `clip` has downloaded.

    Reads the files whole. Raises OSError for one that cannot be read.
    """
    found = {}
    for name in clip.available_models():
        path, url = place_of(name)
        if os.path.isfile(path):
            found[name] = (path, _sha256(path) == _openai_hash(url))
    return found


def is_openais_file(path: str) -> bool:
    """Whether the file's content is that of one of OpenAI's CLIPs."""
    return bool(openais_name_of_file(path))


def openais_name(checksum: str) -> str:
    """OpenAI's name of the CLIP whose file has this SHA-256, e.g. "ViT-B/16"; "" for none."""
    return _openai().get(checksum, "")


def openais_name_of_file(path: str) -> str:
    """`openais_name` of a file's content."""
    return openais_name(_sha256(path))


def _openai() -> dict[str, str]:
    """{SHA-256 of OpenAI's files, which is a part of their addresses: name}."""
    return {_openai_hash(url): name for name, url in clip.clip._MODELS.items()}


def _openai_hash(url: str) -> str:
    """The SHA-256 in an address of OpenAI's, with which `clip` checks a file before it is used."""
    return url.split("/")[-2]


def _sha256(path: str | Path) -> str:
    """SHA-256 of a file, read once: loading a CLIP asks several times."""
    status = os.stat(path)
    return _content_hash(str(path), status.st_ino, status.st_size, status.st_mtime_ns)


@functools.lru_cache
def _content_hash(path: str, *state: int) -> str:
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def _listed(names: Sequence[str]) -> str:
    """At most NAMED of them, quoted, and how many there are besides."""
    more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
    return ", ".join(f"'{name}'" for name in names[:NAMED]) + more


def _resnet(visual: dict[str, Tensor], embed_dim: int) -> ResNetEncoder:
    """clip's ResNet of the sizes found in its weights (names without `visual.`)."""
    layers = [
        1 + max(int(name.split(".")[1]) for name in visual if name.startswith(f"layer{i}."))
        for i in range(1, 5)
    ]
    width = visual["layer1.0.conv1.weight"].shape[0]
    grid = round((visual["attnpool.positional_embedding"].shape[0] - 1) ** 0.5)
    with torch.device(
        "meta"
    ):  # its random start would cost time and draw from the global generator
        tower = clip.model.ModifiedResNet(layers, embed_dim, width * 32 // 64, grid * 32, width)
    tower.load_state_dict(visual, assign=True)
    return ResNetEncoder(tower, embed_dim)


def place_of(name: str) -> tuple[str, str]:
    """(file in the cache, whether it is there or not; address) of one of OpenAI's CLIPs."""
    url = clip.clip._MODELS[name]
    return os.path.join(os.path.expanduser(CACHE), os.path.basename(url)), url


def _download(name: str) -> str:
    path, url = place_of(name)
    folder = os.path.dirname(path)
    try:
        return clip.clip._download(url, folder)
    except (OSError, RuntimeError) as error:  # URLError is an OSError
        raise UserError(
            f"CLIP {name} could not be downloaded ({error}): fetch {url} elsewhere and put it into "
            f"'{folder}', or give MODEL.BACKBONE.NAME the path of the file"
        ) from None


def _find(name: str) -> str:
    for path in (Path(name), ROOT / name):
        if name and path.is_file():
            return str(path)
    raise UserError(
        f"MODEL.BACKBONE.NAME '{name}' is neither a file nor one of "
        f"{', '.join(clip.available_models())}: correct it, or --backbone; other CLIPs are "
        f"{clips.OPEN_CLIP}ARCH/PRETRAINED and {clips.HUB}ORG/MODEL"
    )


def _read(path: str) -> dict[str, Tensor]:
    """Tensors by name, of a file of weights or of a TorchScript archive, as OpenAI ships CLIP.

    An archive is a program. Only OpenAI's files, known by their checksums, are run; of any other
    archive only the tensors are read.
    """
    try:
        content = _run(path) if _sha256(path) in _openai() else read_tensors(path)
    except Exception as error:  # noqa: BLE001 - damaged archives fail in many ways
        if refused := unreadable(f"weights file '{path}'", error):
            raise refused from None
        raise UserError(
            f"'{path}' is neither a file of CLIP weights nor a TorchScript archive, or is damaged: "
            "fetch it again or give MODEL.BACKBONE.NAME another"
        ) from None
    return _weights(content)


def _run(path: str) -> dict[str, Tensor]:
    """The tensors of one of OpenAI's archives, checked once more as it is in memory."""
    data = Path(path).read_bytes()
    if hashlib.sha256(data).hexdigest() not in _openai():
        raise ValueError("the file changed while it was read")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # TorchScript is deprecated
        return torch.jit.load(io.BytesIO(data), map_location="cpu").state_dict()
