"""CoOp: learnable context vectors around the class name.

Zhou et al., IJCV 2022, arXiv 2109.01134.
"""

from collections.abc import Sequence

import torch
from torch import Tensor
from yacs.config import CfgNode

from dassl.engine import TRAINER_REGISTRY
from trainers.backbone import PRECISIONS, Backbone, count_tokens, unit
from trainers.base import PromptTrainer
from trainers.model import PromptedCLIP
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
    """A context with the class name at its end, in its middle or in front.

    The words `init`, if any, set the number of vectors. The prefix that all classes share, which
    runs once, is the whole context with `position` "end", else the vectors in front of the name;
    with contexts per class it is the start token alone.
    """

    order: Tensor

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
        in_front = {"end": n_ctx, "middle": n_ctx // 2, "front": 0}[position]
        # leading context vectors that are the same for every class
        self.shared = 0 if per_class else in_front
        # Positions behind the prefix are [varied context, words behind it, class name, end]:
        # `order` puts the name behind the first `before` of them.
        varied = n_ctx - self.shared
        fixed = varied + len(self.rest)
        before = fixed if position == "end" else in_front - self.shared
        length = fixed + self.names.shape[1]
        orders = [_name_behind(before, fixed, count_tokens(name), length) for name in classnames]
        order = torch.tensor(orders, device=self.names.device)
        self.register_buffer("order", order, persistent=False)

    def forward(self) -> tuple[Tensor, Tensor, Tensor]:
        shared, varied = self.ctx[..., : self.shared, :], self.ctx[..., self.shared :, :]
        if not varied.shape[-2]:
            return super().forward()
        prefix = torch.cat([self.start.to(self.ctx.dtype), shared]) if self.shared else self.start
        names = self.names.to(self.ctx.dtype)
        words = self.rest.to(self.ctx.dtype).expand(len(names), -1, -1)
        rest = torch.cat([varied.expand(len(names), -1, -1), words, names], 1)
        return rest.take_along_dim(self.order[:, :, None], 1), self.eot, prefix


def _name_behind(before: int, fixed: int, tokens: int, length: int) -> list[int]:
    """Positions below `length`, reordered: the `tokens` of a name from `fixed` come at `before`."""
    positions = list(range(length))
    name = positions[fixed : fixed + tokens]
    return positions[:before] + name + positions[before:fixed] + positions[fixed + tokens :]


class CoOpModel(PromptedCLIP):
    """Learns the context of the class texts; the image features are those of frozen CLIP."""

    prompts: PromptLearner

    def build_prompts(self) -> PromptLearner:
        options = self.options
        return PromptLearner(
            self.backbone,
            self.classnames,
            options.N_CTX,
            options.CTX_INIT,
            options.CSC,
            options.CLASS_TOKEN_POSITION,
        )

    def text_features(self) -> Tensor:
        return unit(self.backbone.text(*self.prompts()))


@TRAINER_REGISTRY.register()
class CoOp(PromptTrainer):
    """Trains a `CoOpModel`."""

    structure = CoOpModel
    options = "COOP"
