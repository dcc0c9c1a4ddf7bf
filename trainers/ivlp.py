"""IVLP: independent deep prompts in both encoders.

The baseline of MaPLe and PromptSRC; Rasheed et al., CVPR 2023.
"""

from collections.abc import Sequence

from torch import Tensor, nn
from yacs.config import CfgNode

from dassl.engine import TRAINER_REGISTRY
from trainers.backbone import PRECISIONS, unit
from trainers.base import PromptTrainer
from trainers.model import PromptedCLIP
from trainers.options import PRECISION_HELP, rules
from trainers.prompts import Context, DeepPrompts, prompted_image, start_words


def ivlp_options(contexts: int) -> dict:
    """The keys of IVLP's node, with `contexts` prompts per layer of each encoder."""
    return {
        "N_CTX_VISION": rules.key(contexts, rules.whole(1), "Visual prompts per layer."),
        "N_CTX_TEXT": rules.key(contexts, rules.whole(1), "Text prompts per layer."),
        "CTX_INIT": rules.key(
            "a photo of a",
            help="Words whose first ones start the first layer's text prompts; these start at "
            "random if it is empty or N_CTX_TEXT is over 4.",
        ),
        "PREC": rules.key("fp16", rules.one_of(*PRECISIONS), PRECISION_HELP),
        "PROMPT_DEPTH_VISION": rules.key(
            9, rules.whole(0), "Image layers with prompts; 1: the first only; 0: no visual prompts."
        ),
        "PROMPT_DEPTH_TEXT": rules.key(
            9, rules.whole(1), "Text layers with prompts; 1: the first only."
        ),
    }


def extend_cfg(cfg: CfgNode) -> None:
    """Add TRAINER.IVLP, with the published names and defaults."""
    rules.declare(cfg, "TRAINER.IVLP", ivlp_options(2))


class IndependentPrompts(nn.Module):
    """Under the published names; without `image_encoder` for a visual depth of 0."""

    prompt_learner: Context
    image_encoder: DeepPrompts
    text_encoder: DeepPrompts


class IVLPModel(PromptedCLIP):
    """Learns prompts at the first layers of both encoders, each on its own."""

    prompts: IndependentPrompts

    @property
    def images_stay_frozen(self) -> bool:
        inherited = type(self).image_features is IVLPModel.image_features
        return inherited and self.options.PROMPT_DEPTH_VISION == 0

    def build_prompts(self) -> IndependentPrompts:
        options, backbone = self.options, self.backbone
        contexts, depth = options.N_CTX_TEXT, options.PROMPT_DEPTH_VISION
        backbone.text.check_depth(options.PROMPT_DEPTH_TEXT)
        if depth:
            backbone.image.check_depth(depth)
        prompts = IndependentPrompts()
        words = start_words(contexts, options.CTX_INIT)
        prompts.prompt_learner = Context(backbone, self.classnames, contexts, words)
        if depth:
            width = backbone.image.width
            prompts.image_encoder = DeepPrompts(options.N_CTX_VISION, width, depth, first=True)
        prompts.text_encoder = DeepPrompts(
            options.N_CTX_TEXT, backbone.text.width, options.PROMPT_DEPTH_TEXT, first=False
        )
        return prompts

    def deep_text_prompts(self) -> Sequence[Tensor]:
        return self.prompts.text_encoder.deep

    def text_features(self) -> Tensor:
        return unit(self.backbone.text(*self.prompts.prompt_learner(), self.deep_text_prompts()))

    def image_features(self, images: Tensor) -> Tensor:
        if not self.options.PROMPT_DEPTH_VISION:
            return super().image_features(images)
        return prompted_image(self.backbone, images, self.prompts.image_encoder)


@TRAINER_REGISTRY.register()
class IVLP(PromptTrainer):
    """Trains an `IVLPModel`."""

    structure = IVLPModel
    options = "IVLP"
    model_name = "VLPromptLearner"
