"""CoOp: learnable context vectors around the class name (Zhou et al., IJCV 2022, arXiv 2109.01134)."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from yacs.config import CfgNode

from dassl.engine import TRAINER_REGISTRY
from trainers.backbone import Backbone, count_tokens, unit
from trainers.base import PromptTrainer, check_option
from trainers.errors import UserError

POSITIONS = ("end", "middle", "front")


def extend_cfg(cfg: CfgNode) -> None:
    """Add TRAINER.COOP, with CoOp's names and defaults."""
    cfg.TRAINER.COOP = CfgNode({
        "N_CTX": 16,  # context vectors
        "CSC": False,  # contexts of its own for every class
        "CTX_INIT": "",  # words to start from; their number then is the number of context vectors
        "PREC": "fp16",  # fp32, fp16, amp
        "CLASS_TOKEN_POSITION": "end",  # end, middle, front
    })


class PromptLearner(nn.Module):
    """Context vectors `ctx`, (M, W) or with `per_class` (C, M, W), and the embedded class names around them.

    Starts from the words `init`, whose number then is M, or from normal noise (standard deviation 0.02).
    Raises UserError for a class name that is too long to fit.
    """

    def __init__(self, backbone: Backbone, classnames: Sequence[str], n_ctx: int, init: str = "",
                 per_class: bool = False, position: str = "end"):
        super().__init__()
        text = backbone.text
        words = init.replace("_", " ").split()
        n_ctx = len(words) or n_ctx
        for name in classnames:
            needed = n_ctx + count_tokens(name) + 3  # start of text, full stop, end of text
            if needed > text.context_length:
                raise UserError(f"class name '{name}' with {n_ctx} context tokens takes {needed} positions but the text encoder "
                                f"has {text.context_length}: shorten the name or the context")
        lead = " ".join(words or ["X"] * n_ctx)
        tokens = backbone.tokenize([f"{lead} {name}." for name in classnames])
        eot = tokens.argmax(1)
        tokens = tokens[:, :int(eot.max()) + 1].to(text.positional_embedding.device)
        embedded = text.embed(tokens)
        if words:
            ctx = embedded[0, 1:1 + n_ctx].float().clone()
            ctx = ctx.repeat(len(classnames), 1, 1) if per_class else ctx
        else:
            ctx = torch.empty(*([len(classnames)] if per_class else []), n_ctx, text.width)
            nn.init.normal_(ctx, std=0.02)
        self.ctx = nn.Parameter(ctx)

        before = {"end": n_ctx, "middle": n_ctx // 2, "front": 0}[position]
        self.shared = 0 if per_class else before  # leading context vectors that are the same for every class
        own, before = n_ctx - self.shared, before - self.shared
        # Order of [own context, class name, rest] that puts the name behind the first `before` context vectors.
        orders = []
        for name in classnames:
            order, length = list(range(own + embedded.shape[1] - 1 - n_ctx)), count_tokens(name)
            orders.append(order[:before] + order[own:own + length] + order[before:own] + order[own + length:])
        self.register_buffer("order", torch.tensor(orders, device=tokens.device), persistent=False)
        self.register_buffer("start", embedded[0, :1], persistent=False)
        self.register_buffer("names", embedded[:, 1 + n_ctx:], persistent=False)
        self.register_buffer("eot", eot.to(tokens.device), persistent=False)

    def forward(self) -> tuple[Tensor, Tensor, Tensor]:
        """What TextEncoder takes: prompts (C, L, W), end-of-text positions (C,), common prefix (P, W)."""
        shared, own = self.ctx[..., :self.shared, :], self.ctx[..., self.shared:, :]
        prefix = torch.cat([self.start.to(self.ctx.dtype), shared]) if self.shared else self.start
        if not own.shape[-2]:
            return self.names, self.eot, prefix
        rest = torch.cat([own.expand(len(self.names), -1, -1), self.names.to(self.ctx.dtype)], 1)
        return rest.take_along_dim(self.order[:, :, None], 1), self.eot, prefix


@TRAINER_REGISTRY.register()
class CoOp(PromptTrainer):
    """Learns the context of the class texts; the image features are those of frozen CLIP."""

    options = "COOP"

    def check_cfg(self, cfg: CfgNode) -> None:
        super().check_cfg(cfg)
        check_option(cfg, "TRAINER.COOP.CLASS_TOKEN_POSITION", POSITIONS)
        if not cfg.TRAINER.COOP.CTX_INIT and cfg.TRAINER.COOP.N_CTX < 1:
            raise UserError(f"TRAINER.COOP.N_CTX is {cfg.TRAINER.COOP.N_CTX}: set it to 1 or more")

    def build_prompts(self) -> PromptLearner:
        options = self.cfg.TRAINER.COOP
        return PromptLearner(self.backbone, self.classnames, options.N_CTX, options.CTX_INIT, options.CSC,
                             options.CLASS_TOKEN_POSITION)

    def text_features(self) -> Tensor:
        return unit(self.backbone.text(*self.model()))
