"""Learnable prompts that structures share: a context at the first layer, and deeper prompts."""

import logging
from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor, nn

from trainers.backbone import Backbone, count_tokens
from trainers.errors import UserError

log = logging.getLogger(__name__)

STD = 0.02  # of random starts, as published
MOST_FROM_WORDS = 4  # context vectors that start from words


def noise(*shape: int) -> Tensor:
    """Normal numbers, standard deviation 0.02."""
    return torch.empty(*shape).normal_(std=STD)


def count_context(n_ctx: int, init: str) -> int:
    """Number of context vectors of CoOp and CoCoOp.

    As published, the number of words in `init`, if it has any, else `n_ctx`.
    """
    words = len(init.replace("_", " ").split())
    if words and words != n_ctx:
        log.warning(
            f"CTX_INIT '{init}' sets the number of context vectors to {words}: N_CTX {n_ctx} is "
            "not used"
        )
    return words or n_ctx


def start_words(n_ctx: int, init: str) -> str:
    """The words that MaPLe, IVLP and PromptSRC start from.

    None for more than four context vectors, as published.
    """
    if init.strip() and n_ctx > MOST_FROM_WORDS:
        log.warning(
            f"CTX_INIT '{init}' is not used: {n_ctx} context vectors, more than "
            f"{MOST_FROM_WORDS}, start at random, as published"
        )
        return ""
    return init


class Context(nn.Module):
    """Context vectors `ctx` in front of the embedded class names.

    `ctx` is (M, W), or (C, M, W) with `per_class`. It starts from the first M words of `init`, or
    from normal noise without any; other words of `init` stay as they are, between context and class
    name. Raises UserError for a class name that is too long to fit, or too few words in `init`.
    """

    start: Tensor
    rest: Tensor
    names: Tensor
    eot: Tensor

    def __init__(
        self,
        backbone: Backbone,
        classnames: Sequence[str],
        n_ctx: int,
        init: str = "",
        per_class: bool = False,
    ):
        super().__init__()
        text, words = backbone.text, init.replace("_", " ").split()
        if words and len(words) < n_ctx:
            raise UserError(
                f"CTX_INIT '{init}' has {len(words)} word(s) for {n_ctx} context vectors: reduce "
                "N_CTX, or leave CTX_INIT empty for a random start"
            )
        lead = " ".join(words or ["X"] * n_ctx)
        length = count_tokens(lead)
        for name in classnames:
            needed = length + count_tokens(name) + 3  # start of text, full stop, end of text
            if needed > text.context_length:
                raise UserError(
                    f"class name '{name}' with {length} context tokens takes {needed} positions "
                    f"but the text encoder has {text.context_length}: shorten the name or the "
                    "context"
                )
        if words:
            backbone.tokenize([lead])  # warns of its words, which are read
        texts = [f"{lead} {name}." for name in classnames]
        tokens = backbone.tokenize(texts, learned=0 if words else n_ctx, names=classnames)
        eot = tokens.argmax(1)
        tokens = tokens[:, : int(eot.max()) + 1].to(text.positional_embedding.device)
        embedded = text.embed(tokens)
        if words:
            ctx = embedded[0, 1 : 1 + n_ctx].float().clone()
            ctx = ctx.repeat(len(classnames), 1, 1) if per_class else ctx
        else:
            ctx = noise(*([len(classnames)] if per_class else []), n_ctx, text.width)
        self.ctx = nn.Parameter(ctx)
        self.register_buffer("start", embedded[0, :1], persistent=False)
        self.register_buffer("rest", embedded[0, 1 + n_ctx : 1 + length], persistent=False)
        self.register_buffer("names", embedded[:, 1 + length :], persistent=False)
        self.register_buffer("eot", eot.to(tokens.device), persistent=False)

    def prefix(self, ctx: Tensor) -> Tensor:
        """Embedded positions before every class name: start of text, `ctx`, the fixed words."""
        fixed = (
            part.to(ctx.dtype).expand(*ctx.shape[:-2], -1, -1) for part in (self.start, self.rest)
        )
        start, rest = fixed
        return torch.cat([start, ctx, rest], -2)

    def forward(self) -> tuple[Tensor, Tensor, Tensor]:
        """Prompts (C, L, W), end-of-text positions (C,), common prefix (P, W), for TextEncoder."""
        return self.names, self.eot, self.prefix(self.ctx)


class DeepPrompts(nn.Module):
    """Prompts (n, W) for the inputs of layers 2 to `depth`, and with `first` `VPT` for layer 1.

    Their names are those of the published checkpoints: `transformer.resblocks.<layer>.VPT_shallow`.
    """

    def __init__(self, n: int, width: int, depth: int, first: bool):
        super().__init__()
        self.VPT = nn.Parameter(noise(n, width)) if first else None
        blocks = nn.ModuleDict()
        for layer in range(1, depth):
            blocks[str(layer)] = nn.Module()
            blocks[str(layer)].VPT_shallow = nn.Parameter(noise(n, width))
        self.transformer = nn.Module()
        self.transformer.resblocks = blocks

    @property
    def deep(self) -> list[Tensor]:
        blocks = cast(nn.ModuleDict, self.transformer.resblocks)
        return [cast(Tensor, block.VPT_shallow) for block in blocks.values()]


def prompted_image(backbone: Backbone, images: Tensor, prompts: DeepPrompts) -> Tensor:
    """Unit-norm features (B, D) of images (B, 3, R, R) with visual prompts."""
    return backbone.encode_images(images, prompts.VPT, prompts.deep)
