"""CoOp: learnable context vectors around the class name (Zhou et al., IJCV 2022, arXiv 2109.01134)."""

from collections.abc import Sequence

import torch
from torch import Tensor
from yacs.config import CfgNode

from dassl.engine import TRAINER_REGISTRY
from trainers.backbone import PRECISIONS, Backbone, count_tokens, unit
from trainers.base import PromptTrainer
from trainers.options import PRECISION_HELP, rules
from trainers.prompts import Context, count_context

POSITIONS = ("end", "middle", "front")


def extend_cfg(cfg: CfgNode) -> None:
    """Add TRAINER.COOP, with CoOp's names and defaults."""
    rules.declare(
        cfg,
        "TRAINER.COOP",
        {
            "N_CTX": rules.key(16, rules.whole(1), "Number of context vectors."),
            "CSC": rules.key(False, help="True learns a context for every class."),
            "CTX_INIT": rules.key(
                "", help="Words to start from; their number then is the number of context vectors."
            ),
            "PREC": rules.key("fp16", rules.one_of(*PRECISIONS), PRECISION_HELP),
            "CLASS_TOKEN_POSITION": rules.key(
                "end", rules.one_of(*POSITIONS), "Place of the class name in the context."
            ),
        },
    )


class PromptLearner(Context):
    """A context with the class name at its end, in its middle or in front; without `position` "end" or with contexts per class,
    only the leading vectors that all classes share are in the prefix.

    The words `init`, if any, set the number of vectors.
    """

    def __init__(
        self,
        backbone: Backbone,
        classnames: Sequence[str],
        n_ctx: int,
        init: str = "",
        per_class: bool = False,
        position: str = "end",
    ):
        n_ctx = count_context(n_ctx, init)
        super().__init__(backbone, classnames, n_ctx, init, per_class)
        before = {"end": n_ctx, "middle": n_ctx // 2, "front": 0}[position]
        self.shared = (
            0 if per_class else before
        )  # leading context vectors that are the same for every class
        own, before = n_ctx - self.shared, before - self.shared
        # Order of [own context, words behind it, class name, end] that puts the name behind the first `before` of them.
        fixed, orders = own + len(self.rest), []
        before = fixed if position == "end" else before
        for name in classnames:
            order, length = list(range(fixed + self.names.shape[1])), count_tokens(name)
            orders.append(
                order[:before]
                + order[fixed : fixed + length]
                + order[before:fixed]
                + order[fixed + length :]
            )
        self.register_buffer(
            "order", torch.tensor(orders, device=self.names.device), persistent=False
        )

    def forward(self) -> tuple[Tensor, Tensor, Tensor]:
        shared, own = self.ctx[..., : self.shared, :], self.ctx[..., self.shared :, :]
        if not own.shape[-2]:
            return super().forward()
        prefix = torch.cat([self.start.to(self.ctx.dtype), shared]) if self.shared else self.start
        names = self.names.to(self.ctx.dtype)
        words = self.rest.to(self.ctx.dtype).expand(len(names), -1, -1)
        rest = torch.cat([own.expand(len(names), -1, -1), words, names], 1)
        return rest.take_along_dim(self.order[:, :, None], 1), self.eot, prefix


@TRAINER_REGISTRY.register()
class CoOp(PromptTrainer):
    """Learns the context of the class texts; the image features are those of frozen CLIP."""

    options = "COOP"

    def build_prompts(self) -> PromptLearner:
        options = self.cfg.TRAINER.COOP
        return PromptLearner(
            self.backbone,
            self.classnames,
            options.N_CTX,
            options.CTX_INIT,
            options.CSC,
            options.CLASS_TOKEN_POSITION,
        )

    def text_features(self) -> Tensor:
        return unit(self.backbone.text(*self.model()))
