"""TCP: KgCoOp with prompts of each class, made from frozen CLIP's text of it.

Yao et al., CVPR 2024, arXiv 2311.18231.
"""

from collections import OrderedDict
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from yacs.config import CfgNode

from dassl.engine import TRAINER_REGISTRY
from trainers.backbone import PRECISIONS, Backbone, count_tokens, unit
from trainers.base import PromptTrainer
from trainers.encoders import quick_gelu
from trainers.errors import UserError
from trainers.kgcoop import WEIGHT, KnowledgeGuided
from trainers.model import filled
from trainers.options import PRECISION_HELP, rules
from trainers.prompts import noise

TOKENS = 4  # positions that a class's prompts replace, as published
REDUCTION = 4  # of the network's hidden layer, as published
# Texts into which context and class prompts are put, as published; DEFAULT for other data sets.
DEFAULT = "X X X X {}."
TEXTS = {
    "ImageNet": "a photo of a {}.",
    "ImageNetV2": "a photo of a {}.",
    "ImageNetSketch": "a photo of a {}.",
    "ImageNetA": "a photo of a {}.",
    "ImageNetR": "a photo of a {}.",
    "OxfordPets": "X X X X {}, a type of pet.",
    "OxfordFlowers": "X X X X {}, a type of flower.",
    "FGVCAircraft": "X X X X {}, a type of aircraft.",
    "DescribableTextures": "X X X X {} texture.",
    "Food101": "X X X X {}, a type of food.",
    "StanfordCars": "X X X X {}, a type of car",
    "UCF101": "a photo of a person doing {}.",
}
# Templates of the frozen texts, where the published code has others than CoOp's.
TEMPLATES = {
    "DescribableTextures": "a photo of a {}, a type of texture.",
    "FGVCAircraft": "a photo of an aircraft {}.",
    "Food101": "a photo of a {}, a type of food.",
}


def extend_cfg(cfg: CfgNode) -> None:
    """Add TRAINER.TCP. Published files have N_CTX, CTX_INIT and PREC under TRAINER.COOP."""
    rules.declare(
        cfg,
        "TRAINER.TCP",
        {
            "N_CTX": rules.key(4, rules.whole(1), "Number of context vectors."),
            "CTX_INIT": rules.key(
                "", help="Words that the context starts from, as many as N_CTX; empty: at random."
            ),
            "PREC": rules.key("fp16", rules.one_of(*PRECISIONS), PRECISION_HELP),
            "W": rules.key(
                WEIGHT,
                rules.number(0),
                "Weight of the distance between class texts and the template's.",
            ),
            "TEXT": rules.key(
                "",
                rules.template(),
                "Text with {} for the class name, whose first words context and class prompts "
                "replace; empty: the published one of the data set, or 'X X X X {}.'.",
            ),
            "PROMPT_LAYER": rules.key(
                8,
                rules.whole(1),
                "Layers of the text encoder that run before the prompts of the classes replace "
                "the first words.",
            ),
        },
    )


class QuickGELU(nn.Module):
    """`quick_gelu` as a module."""

    def forward(self, x: Tensor) -> Tensor:
        return quick_gelu(x)


class ClassAwareContext(nn.Module):
    """A context `ctx` (M, W), and the network `meta_net` from a class's text feature (D,) to the
    class's prompts (4, W).

    texts: one of each class, which begins with max(M, 4) words. Raises UserError if one is too
    short for that, or if `init` has another number of words than M.
    """

    embedded: Tensor
    eot: Tensor

    def __init__(self, backbone: Backbone, texts: Sequence[str], n_ctx: int, init: str = ""):
        super().__init__()
        text, words, replaced = backbone.text, init.replace("_", " ").split(), max(n_ctx, TOKENS)
        tokens = backbone.tokenize(texts, learned=replaced)
        eot = tokens.argmax(1)
        shortest = int(eot.argmin())
        if eot[shortest] <= replaced:
            raise UserError(
                f"the text '{texts[shortest]}' has {int(eot[shortest]) - 1} tokens, and TCP "
                f"replaces the first {replaced}: begin TRAINER.TCP.TEXT with {replaced} words"
            )
        tokens = tokens[:, : int(eot.max()) + 1].to(text.positional_embedding.device)
        if words and count_tokens(" ".join(words)) != n_ctx:
            raise UserError(
                f"TRAINER.TCP.CTX_INIT '{init}' has {count_tokens(' '.join(words))} tokens for "
                f"{n_ctx} context vectors: set TRAINER.TCP.N_CTX to as many"
            )
        start = noise(n_ctx, text.width)
        if words:
            row = backbone.tokenize([" ".join(words)])[:, 1 : 1 + n_ctx].to(tokens.device)
            start = text.embed(row)[0].float().clone()
        self.ctx = nn.Parameter(start)
        hidden = max(1, text.embed_dim // REDUCTION)
        self.meta_net = nn.Sequential(
            OrderedDict(
                linear1=nn.Linear(text.embed_dim, hidden),
                relu=QuickGELU(),  # the published name
                linear2=nn.Linear(hidden, TOKENS * text.width),
            )
        )
        self.register_buffer("embedded", text.embed(tokens), persistent=False)
        self.register_buffer("eot", eot.to(tokens.device), persistent=False)

    def forward(self) -> tuple[Tensor, Tensor]:
        """Prompts (C, L, W) with the context in place, and end-of-text positions (C,)."""
        words = self.embedded.to(self.ctx.dtype)
        context = self.ctx.expand(len(words), -1, -1)
        return torch.cat([words[:, :1], context, words[:, 1 + len(self.ctx) :]], 1), self.eot

    def of_classes(self, features: Tensor) -> Tensor:
        """Prompts (C, 4, W) of classes with frozen text features (C, D)."""
        return self.meta_net(features).unflatten(1, (TOKENS, -1))


class TCPModel(KnowledgeGuided):
    """Learns a context, and a network that makes prompts for a deeper layer from each class."""

    prompts: ClassAwareContext

    def build_prompts(self) -> ClassAwareContext:
        options, layers = self.options, self.backbone.text.layers
        if options.PROMPT_LAYER >= layers:
            raise UserError(
                f"TRAINER.TCP.PROMPT_LAYER is {options.PROMPT_LAYER}, but the text encoder has "
                f"{layers} layers, and prompts behind the last one change nothing: set it to "
                f"{layers - 1} or less"
            )
        texts = filled([options.TEXT or DEFAULT], self.classnames)
        return ClassAwareContext(self.backbone, texts, options.N_CTX, options.CTX_INIT)

    def text_features(self) -> Tensor:
        embedded, eot = self.prompts()
        none = embedded.new_zeros(0, embedded.shape[-1])
        deep = [none] * (self.options.PROMPT_LAYER - 1)
        deep.append(self.prompts.of_classes(self.zero_shot_texts))
        return unit(self.backbone.text(embedded, eot, None, deep))


@TRAINER_REGISTRY.register()
class TCP(PromptTrainer):
    """Trains a `TCPModel`."""

    structure = TCPModel
    options = "TCP"
    published_templates = TEMPLATES

    @classmethod
    def model_options(cls, cfg: CfgNode) -> CfgNode:
        """With the published text of the data set, if the options name none."""
        options = cfg.TRAINER.TCP.clone()
        options.defrost()
        options.TEXT = options.TEXT or TEXTS.get(cfg.DATASET.NAME, DEFAULT)
        return options
