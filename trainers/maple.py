"""MaPLe: deep text prompts, and visual prompts that are linear projections of them.

Khattak et al., CVPR 2023, arXiv 2210.03117.
"""

from collections.abc import Sequence

from torch import Tensor, nn
from yacs.config import CfgNode

from dassl.engine import TRAINER_REGISTRY
from trainers.backbone import PRECISIONS, Backbone, unit
from trainers.base import PromptTrainer
from trainers.model import PromptedCLIP
from trainers.options import PRECISION_HELP, rules
from trainers.prompts import Context, noise, start_words


def extend_cfg(cfg: CfgNode) -> None:
    """Add TRAINER.MAPLE, with the published names and defaults."""
    rules.declare(
        cfg,
        "TRAINER.MAPLE",
        {
            "N_CTX": rules.key(2, rules.whole(1), "Prompts per layer."),
            "CTX_INIT": rules.key(
                "a photo of a",
                help="Words whose first ones start the first layer's text prompts; these start at "
                "random if it is empty or N_CTX is over 4.",
            ),
            "PREC": rules.key("fp16", rules.one_of(*PRECISIONS), PRECISION_HELP),
            "PROMPT_DEPTH": rules.key(9, rules.whole(1), "Layers with prompts; 1: the first only."),
        },
    )


class MultiModalPrompts(Context):
    """Text prompts `ctx` and `compound_prompts_text`, (M, W) each.

    Projections turn them into visual prompts.
    """

    def __init__(
        self, backbone: Backbone, classnames: Sequence[str], n_ctx: int, init: str, depth: int
    ):
        super().__init__(backbone, classnames, n_ctx, init)
        text_width, image_width = backbone.text.width, backbone.image.width
        self.proj = nn.Linear(text_width, image_width)
        self.compound_prompts_text = nn.ParameterList(
            [noise(n_ctx, text_width) for _ in range(depth - 1)]
        )
        self.compound_prompt_projections = nn.ModuleList(
            [nn.Linear(text_width, image_width) for _ in range(depth - 1)]
        )

    def visual(self) -> tuple[Tensor, list[Tensor]]:
        """Visual prompts (M, image width): of the first layer, and of the deeper ones."""
        pairs = zip(self.compound_prompt_projections, self.compound_prompts_text, strict=True)
        return self.proj(self.ctx), [project(prompt) for project, prompt in pairs]


class CoupledPrompts(nn.Module):
    """Under the published names."""

    def __init__(self, prompt_learner: MultiModalPrompts):
        super().__init__()
        self.prompt_learner = prompt_learner


class MaPLeModel(PromptedCLIP):
    """Learns coupled prompts at the first layers of both encoders."""

    prompts: CoupledPrompts

    def build_prompts(self) -> CoupledPrompts:
        options = self.options
        for tower in (self.backbone.text, self.backbone.image):
            tower.check_depth(options.PROMPT_DEPTH)
        words = start_words(options.N_CTX, options.CTX_INIT)
        return CoupledPrompts(
            MultiModalPrompts(
                self.backbone, self.classnames, options.N_CTX, words, options.PROMPT_DEPTH
            )
        )

    def deep_text_prompts(self) -> Sequence[Tensor]:
        return list(self.prompts.prompt_learner.compound_prompts_text)

    def text_features(self) -> Tensor:
        return unit(self.backbone.text(*self.prompts.prompt_learner(), self.deep_text_prompts()))

    def image_features(self, images: Tensor) -> Tensor:
        return self.backbone.encode_images(images, *self.prompts.prompt_learner.visual())


@TRAINER_REGISTRY.register()
class MaPLe(PromptTrainer):
    """Trains a `MaPLeModel`."""

    structure = MaPLeModel
    options = "MAPLE"
    model_name = "MultiModalPromptLearner"
