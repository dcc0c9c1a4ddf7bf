"""CRAFT's alignment terms: texts against image anchors, and a batch against itself."""

import logging
from typing import TYPE_CHECKING

from torch import Tensor
from yacs.config import CfgNode

from trainers.craft.anchors import Anchors, image_anchors
from trainers.craft.losses import static_alignment, stochastic_alignment
from trainers.step import Step
from trainers.terms import Term, register

if TYPE_CHECKING:
    from trainers.base import PromptTrainer

log = logging.getLogger(__name__)


class Alignment(Term):
    """Parent of both: they compare the same text samples, which TEXT_SAMPLES chooses."""

    node = "CRAFT"

    def inputs(self) -> str:
        return f"TRAINER.CRAFT.TEXT_SAMPLES '{self.options.TEXT_SAMPLES}'"

    def text(self, step: Step) -> Tensor:
        """(B, D), a text sample of each image's class."""
        return step.prompt_text if self.options.TEXT_SAMPLES == "prompt" else step.template_text


@register
class StaticAlignment(Alignment):
    """Text samples against the static image anchors, which `prepare` builds."""

    name = "craft_static"
    anchors: Anchors | None

    def __init__(self, options: CfgNode):
        super().__init__(options)
        self.anchors = None

    @classmethod
    def weight(cls, options: CfgNode) -> float:
        return options.LAMBDA_STATIC

    def prepare(self, trainer: "PromptTrainer") -> None:
        """Anchors from exactly the images and classes that the run trains on, not augmented."""
        items = trainer.dm.dataset.train_x
        transform = trainer.transform_of(trainer.test_loader, is_train=False)
        self.anchors = image_anchors(
            trainer.describe_images(items, transform),
            lambda: trainer.encoded_images(items, transform),
            self.options.ANCHORS_PER_CLASS,
            self.options.KMEANS_SEED,
            trainer.cache_folder("anchors"),
        ).to(trainer.device)

    def forward(self, step: Step) -> Tensor:
        """ValueError if the term was not prepared."""
        if self.anchors is None:
            raise ValueError("the static image anchors are not built: call prepare() first")
        anchors, scale = self.anchors, step.features.scale
        return static_alignment(
            self.text(step), step.labels, anchors.features, anchors.labels, scale
        )


@register
class StochasticAlignment(Alignment):
    """Images and text samples of a batch against each other."""

    name = "craft_stochastic"

    @classmethod
    def weight(cls, options: CfgNode) -> float:
        return options.LAMBDA_STOCHASTIC

    def prepare(self, trainer: "PromptTrainer") -> None:
        if trainer.cfg.DATALOADER.TRAIN_X.BATCH_SIZE == 1:
            log.warning(
                "CRAFT: with batches of one image craft_stochastic is 0 at every step: raise "
                "DATALOADER.TRAIN_X.BATCH_SIZE to use it"
            )

    def forward(self, step: Step) -> Tensor:
        features, options = step.features, self.options
        return stochastic_alignment(
            features.image,
            self.text(step),
            step.labels,
            features.scale,
            options.STOCHASTIC_TARGETS,
            options.STOCHASTIC_DIRECTIONS,
        )
