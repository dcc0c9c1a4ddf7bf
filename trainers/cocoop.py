"""CoCoOp: CoOp whose context a small network shifts for every image (Zhou et al., CVPR 2022, arXiv 2203.05557)."""

from collections import OrderedDict
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from yacs.config import CfgNode

from dassl.engine import TRAINER_REGISTRY
from trainers.backbone import PRECISIONS, Backbone, unit
from trainers.base import Features, PromptTrainer
from trainers.options import PRECISION_HELP, rules
from trainers.prompts import Context, count_context

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
                "Size of a layer's largest tensor in evaluation, which decides how many images run at once.",
                affects="result",
            ),
        },
    )


class ConditionalContext(Context):
    """A context `ctx` (M, W) and the network `meta_net` that maps an image feature (D,) to its shift (W,)."""

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

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Prompts (C, L, W), end-of-text positions (C,), one prefix per image feature (B, D): (B, P, W)."""
        return self.names, self.eot, self.prefix(self.ctx + self.meta_net(image).unsqueeze(1))


@TRAINER_REGISTRY.register()
class CoCoOp(PromptTrainer):
    """Learns a context and how to shift it by the image: every image has class texts of its own."""

    options = "COCOOP"

    def build_prompts(self) -> ConditionalContext:
        options = self.cfg.TRAINER.COCOOP
        return ConditionalContext(self.backbone, self.classnames, options.N_CTX, options.CTX_INIT)

    def features(self, images: Tensor) -> Features:
        with self.autocast():
            image = self.image_features(images)
            at_once = len(image) if torch.is_grad_enabled() else self.images_at_once()
            text = torch.cat(
                [unit(self.backbone.text(*self.model(some))) for some in image.split(at_once)]
            )
            return Features(image, text, self.backbone.scale)

    def more_features(self, images: Tensor, features: Features) -> Features:
        return self.features(images)

    def images_at_once(self) -> int:
        """As many as keep the hidden layer of the MLP, the widest tensor, within the budget; at least one."""
        model, tower = self.model, self.backbone.text
        numbers = model.names.shape[0] * model.names.shape[1] * 4 * tower.width
        return max(
            1,
            int(
                self.cfg.TRAINER.COCOOP.EVAL_MEMORY_MB
                * 2**20
                / (numbers * model.ctx.element_size())
            ),
        )

    def encode_class_texts(self) -> None:
        """None: they depend on the image."""
