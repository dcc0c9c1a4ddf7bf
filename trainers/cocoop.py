"""CoCoOp: CoOp whose context a small network shifts for every image.

Zhou et al., CVPR 2022, arXiv 2203.05557.
"""

from collections import OrderedDict
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from yacs.config import CfgNode

from dassl.engine import TRAINER_REGISTRY
from trainers.backbone import PRECISIONS, Backbone, unit
from trainers.base import PromptTrainer
from trainers.model import PromptedCLIP
from trainers.options import PRECISION_HELP, rules
from trainers.prompts import Context, count_context
from trainers.step import Features

REDUCTION = 16  # of the meta network's hidden layer, as published


def extend_cfg(cfg: CfgNode) -> None:
    """Add TRAINER.COCOOP, with CoCoOp's names and defaults."""
    rules.declare(
        cfg,
        "TRAINER.COCOOP",
        {
            "N_CTX": rules.key(16, rules.whole(1), "Number of context vectors."),
            "CTX_INIT": rules.key(
                "", help="Words to start from; their number then is the number of context vectors."
            ),
            "PREC": rules.key("fp16", rules.one_of(*PRECISIONS), PRECISION_HELP),
            "EVAL_MEMORY_MB": rules.key(
                256,
                rules.whole(1),
                "Size of a layer's largest tensor in evaluation, which decides how many images "
                "run at once.",
                affects="result",
            ),
        },
    )


class ConditionalContext(Context):
    """A context `ctx` (M, W), and the network `meta_net` from image feature (D,) to shift (W,)."""

    def __init__(self, backbone: Backbone, classnames: Sequence[str], n_ctx: int, init: str = ""):
        super().__init__(backbone, classnames, count_context(n_ctx, init), init)
        hidden = max(1, backbone.embed_dim // REDUCTION)
        self.meta_net = nn.Sequential(
            OrderedDict(
                linear1=nn.Linear(backbone.embed_dim, hidden),
                relu=nn.ReLU(),
                linear2=nn.Linear(hidden, backbone.text.width),
            )
        )

    def forward(  # type: ignore[override]
        self, image: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Prompts (C, L, W), end-of-text positions (C,), prefixes (B, P, W) of images (B, D)."""
        return self.names, self.eot, self.prefix(self.ctx + self.meta_net(image).unsqueeze(1))


class CoCoOpModel(PromptedCLIP):
    """Learns a context and how to shift it by the image: every image has its own class texts."""

    prompts: ConditionalContext

    def build_prompts(self) -> ConditionalContext:
        options = self.options
        return ConditionalContext(self.backbone, self.classnames, options.N_CTX, options.CTX_INIT)

    def features(self, images: Tensor, text: Tensor | None = None) -> Features:
        """As the parent's; `text` is None, since class texts depend on the image."""
        with self.autocast():
            image = self.image_features(images)
            at_once = len(image) if torch.is_grad_enabled() else self.images_at_once()
            parts = (self.backbone.text(*self.prompts(some)) for some in image.split(at_once))
            texts = torch.cat([unit(part) for part in parts])
            return Features(image, texts, self.backbone.scale)

    def more_features(self, images: Tensor, features: Features) -> Features:
        return self.features(images)

    def images_at_once(self) -> int:
        """As many images as keep the widest tensor within the budget; at least one.

        That is the hidden layer of the text tower's MLP.
        """
        prompts, width = self.prompts, self.backbone.text.width
        numbers = prompts.names.shape[0] * prompts.names.shape[1] * 4 * width
        budget = self.options.EVAL_MEMORY_MB * 2**20
        return max(1, int(budget / (numbers * prompts.ctx.element_size())))

    def encode_class_texts(self) -> None:
        """None: they depend on the image."""


@TRAINER_REGISTRY.register()
class CoCoOp(PromptTrainer):
    """Trains a `CoCoOpModel`."""

    structure = CoCoOpModel
    options = "COCOOP"
