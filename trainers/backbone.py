"""A frozen CLIP from an OpenAI name or a file: the only place in `trainers/` that imports `clip`."""

import hashlib
import os
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from trainers.encoders import ImageEncoder, ResNetEncoder, TextEncoder, sub_weights
from trainers.errors import UserError
from trainers.files import unreadable

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # clip imports pkg_resources, which warns about its own end
    import clip
    import clip.clip
    import clip.model
    from clip.simple_tokenizer import SimpleTokenizer

ROOT = Path(__file__).resolve().parent.parent
PRECISIONS = ("fp32", "fp16", "amp")
CACHED_NUMBERS = 6_000_000  # of the widest layer: a CPU runs more images faster in pieces of this size (ViT-B/16: 9 images, 8%)
TEXTS_AT_ONCE = 256  # bounds the memory of encoding a thousand class texts without a graph
REQUIRED = ("token_embedding.weight", "positional_embedding", "ln_final.weight", "text_projection", "logit_scale",
            "transformer.resblocks.0.attn.in_proj_weight", "visual.conv1.weight")


class Backbone(nn.Module):
    """A frozen CLIP: `text` and `image` encoders, `scale` (the exp of its logit scale), sizes and tokenizer.

    Attributes: input_resolution (pixels), embed_dim D, context_length, `fingerprint` (hash of the image tower's weights,
    for caches of image features).
    """

    def __init__(self, weights: Mapping[str, Tensor], precision: str = "fp32"):
        super().__init__()
        visual = sub_weights(weights, "visual.")
        digest = hashlib.sha256(precision.encode())
        for name in sorted(visual):
            digest.update(name.encode())
            digest.update(visual[name].cpu().reshape(-1).contiguous().view(torch.uint8).numpy())
        self.fingerprint = digest.hexdigest()
        visual = {name: value.float() if value.is_floating_point() else value for name, value in visual.items()}
        self.text = TextEncoder({name: value.float() for name, value in weights.items() if not name.startswith("visual.")})
        self.image = ImageEncoder(visual) if "proj" in visual else _resnet(visual, self.text.embed_dim)
        self.register_buffer("scale", weights["logit_scale"].float().exp())
        self.input_resolution = self.image.input_resolution
        self.embed_dim, self.context_length = self.text.embed_dim, self.text.context_length
        if precision == "fp16":
            self.text.half_matrices()
            self.image.half_matrices()

    def compile_blocks(self) -> None:
        """torch.compile for every transformer block, in place (a ResNet tower is left as it is)."""
        for tower in (self.text, self.image):
            for block in getattr(tower, "blocks", ()):
                block.compile(dynamic=True)

    def tokenize(self, texts: Sequence[str]) -> Tensor:
        """Token ids (N, context_length): start of text, text, end of text (the largest id), zeros. UserError if too long."""
        rows = []
        for text in texts:
            try:
                rows.append(clip.tokenize(text, context_length=self.context_length))
            except RuntimeError:
                raise UserError(f"the text '{text}' is longer than the {self.context_length} tokens CLIP reads: "
                                "shorten the class name or the context") from None
        return torch.cat(rows)

    @torch.no_grad()
    def encode_texts(self, texts: Sequence[str], at_length_1: bool = True) -> Tensor:
        """Features (N, D), float32, of plain texts: unit-norm, or as they come out of the encoder."""
        tokens = self.tokenize(texts).to(self.scale.device)
        found = (self.text.encode_tokens(some) for some in tokens.split(TEXTS_AT_ONCE))
        return torch.cat([unit(some) if at_length_1 else some.float() for some in found])

    @torch.no_grad()
    def encode_images(self, images: Tensor) -> Tensor:
        """Unit-norm features (B, D), float32, of normalised images (B, 3, R, R)."""
        if images.is_cuda or isinstance(self.image, ResNetEncoder):
            return unit(self.image(images))
        at_once = max(1, CACHED_NUMBERS // (4 * self.image.width * len(self.image.positional_embedding)))
        return unit(torch.cat([self.image(some) for some in images.split(at_once)]))


def unit(features: Tensor) -> Tensor:
    """Features (..., D) at length 1, in single precision (or better)."""
    return F.normalize(features.float() if features.dtype in (torch.half, torch.bfloat16) else features, dim=-1)


_tokenizer = SimpleTokenizer()


def count_tokens(text: str) -> int:
    """Tokens of a text, without start and end."""
    return len(_tokenizer.encode(text))


def load_backbone(name: str, precision: str = "fp32") -> Backbone:
    """CLIP by OpenAI name (downloaded and checked by `clip`) or from a state dict or TorchScript file, on the CPU.

    A relative path is looked up from the working folder, then from this repository. Raises UserError with the remedy.
    """
    path = _download(name) if name in clip.available_models() else _find(name)
    weights = _read(path)
    missing = [key for key in REQUIRED if key not in weights]
    if missing:
        raise UserError(f"'{path}' is not a CLIP of OpenAI's architecture (it lacks '{missing[0]}'): "
                        "give MODEL.BACKBONE.NAME such a file or one of " + ", ".join(clip.available_models()))
    try:
        return Backbone(weights, precision)
    except (KeyError, AttributeError, RuntimeError, TypeError, ValueError) as error:
        raise UserError(f"'{path}' is not a CLIP of OpenAI's architecture ({str(error).splitlines()[0]}): "
                        "give MODEL.BACKBONE.NAME another file") from None


def _resnet(visual: dict[str, Tensor], embed_dim: int) -> ResNetEncoder:
    """clip's ResNet of the sizes found in its weights (names without `visual.`)."""
    layers = [1 + max(int(name.split(".")[1]) for name in visual if name.startswith(f"layer{i}.")) for i in range(1, 5)]
    width = visual["layer1.0.conv1.weight"].shape[0]
    grid = round((visual["attnpool.positional_embedding"].shape[0] - 1) ** 0.5)
    with torch.device("meta"):  # its random start would cost time and draw from the global generator
        tower = clip.model.ModifiedResNet(layers, embed_dim, width * 32 // 64, grid * 32, width)
    tower.load_state_dict(visual, assign=True)
    return ResNetEncoder(tower, embed_dim)


def _download(name: str) -> str:
    folder = os.path.expanduser("~/.cache/clip")
    url = clip.clip._MODELS[name]
    try:
        return clip.clip._download(url, folder)
    except (OSError, RuntimeError) as error:  # URLError is an OSError
        raise UserError(f"CLIP {name} could not be downloaded ({error}): fetch {url} elsewhere and put it into '{folder}', "
                        "or give MODEL.BACKBONE.NAME the path of the file") from None


def _find(name: str) -> str:
    for path in (Path(name), ROOT / name):
        if name and path.is_file():
            return str(path)
    raise UserError(f"MODEL.BACKBONE.NAME '{name}' is neither a file nor one of {', '.join(clip.available_models())}: "
                    "correct it, or --backbone")


def _read(path: str) -> dict[str, Tensor]:
    """Tensors by name. Tries plain weights first, then TorchScript, which is how OpenAI ships them."""
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # noqa: BLE001
        if refused := unreadable(f"weights file '{path}'", error):
            raise refused from None
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # TorchScript is deprecated
                content = torch.jit.load(path, map_location="cpu").state_dict()
        except Exception:  # noqa: BLE001 - damaged archives fail in many ways
            raise UserError(f"'{path}' is neither a file of CLIP weights nor a TorchScript archive, or is damaged: "
                            "fetch it again or give MODEL.BACKBONE.NAME another") from None
    content = content.get("state_dict", content) if isinstance(content, dict) else content
    if not isinstance(content, dict):
        return {}
    return {name: value.detach() for name, value in content.items() if isinstance(value, Tensor)}
