"""VPT on CLIP: deep visual prompts, fixed class texts.

Jia et al., ECCV 2022, arXiv 2203.12119; the baseline of MaPLe's code.
"""

import logging

from torch import Tensor, nn
from yacs.config import CfgNode

from dassl.engine import TRAINER_REGISTRY
from trainers.backbone import PRECISIONS
from trainers.base import PromptTrainer
from trainers.model import PromptedCLIP
from trainers.options import PRECISION_HELP, rules
from trainers.prompts import DeepPrompts, prompted_image

log = logging.getLogger(__name__)

PUBLISHED_WORDS = "a photo of a"


def extend_cfg(cfg: CfgNode) -> None:
    """Add TRAINER.VPT, with the published names and defaults."""
    rules.declare(
        cfg,
        "TRAINER.VPT",
        {
            "N_CTX_VISION": rules.key(2, rules.whole(1), "Visual prompts per layer."),
            "CTX_INIT": rules.key(
                PUBLISHED_WORDS, help="Words before the class name; empty: those of the default."
            ),
            "PREC": rules.key("fp16", rules.one_of(*PRECISIONS), PRECISION_HELP),
            "PROMPT_DEPTH_VISION": rules.key(
                1, rules.whole(1), "Image layers with prompts; 1: the first only."
            ),
        },
    )


class VisualPrompts(nn.Module):
    """Under the published names."""

    def __init__(self, image_encoder: DeepPrompts):
        super().__init__()
        self.image_encoder = image_encoder


class VPTModel(PromptedCLIP):
    """Learns visual prompts; the class texts are those of frozen CLIP, encoded once."""

    prompts: VisualPrompts
    frozen_text: Tensor

    def build_prompts(self) -> VisualPrompts:
        options, tower = self.options, self.backbone.image
        words = options.CTX_INIT.replace("_", " ").split()
        if not words:
            words = PUBLISHED_WORDS.split()
            log.info(
                "TRAINER.VPT.CTX_INIT is empty: the class texts begin with "
                f"'{PUBLISHED_WORDS}', as published"
            )
        self.backbone.tokenize([" ".join(words)])  # warns of words that CLIP has never learned
        texts = [" ".join([*words, f"{name}."]) for name in self.classnames]
        self.register_buffer("frozen_text", self.backbone.encode_texts(texts), persistent=False)
        tower.check_depth(options.PROMPT_DEPTH_VISION)
        depth = options.PROMPT_DEPTH_VISION
        return VisualPrompts(DeepPrompts(options.N_CTX_VISION, tower.width, depth, first=True))

    def text_features(self) -> Tensor:
        return self.frozen_text

    def template_features(self, labels: Tensor) -> Tensor:
        return self.frozen_text[labels]

    def image_features(self, images: Tensor) -> Tensor:
        return prompted_image(self.backbone, images, self.prompts.image_encoder)


@TRAINER_REGISTRY.register()
class VPT(PromptTrainer):
    """Trains a `VPTModel`."""

    structure = VPTModel
    options = "VPT"
