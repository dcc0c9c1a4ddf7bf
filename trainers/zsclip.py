"""Zero-shot CLIP: nothing learned, hand-written templates (Radford et al., ICML 2021).

arXiv 2103.00020.
"""

import logging
from collections.abc import Sequence

from torch import Tensor
from yacs.config import CfgNode

from dassl.engine import TRAINER_REGISTRY
from trainers.base import PromptTrainer
from trainers.errors import UserError
from trainers.model import PromptedCLIP
from trainers.options import rules
from trainers.templates import EIGHTY, SEVEN

log = logging.getLogger(__name__)

ENSEMBLES = {"seven": SEVEN, "eighty": EIGHTY}


def extend_cfg(cfg: CfgNode) -> None:
    """Add TRAINER.ZSCLIP2."""
    rules.declare(
        cfg,
        "TRAINER.ZSCLIP2",
        {
            "TEMPLATES": rules.key(
                "seven",
                rules.one_of(*ENSEMBLES),
                "Templates to average: seven is CLIP's selection, as in CoOp; eighty are all of "
                "CLIP's notebook.",
            )
        },
    )


class ZeroshotModel(PromptedCLIP):
    """Compares images with the first template, filled with each class name."""

    def build_prompts(self) -> None:
        """None: nothing is learned."""

    def text_features(self) -> Tensor:
        return self.zero_shot_texts


class EnsembleModel(ZeroshotModel):
    """Compares images with the mean over an ensemble of templates and the data set's first one."""

    def text_features(self) -> Tensor:
        templates = ENSEMBLES[self.options.TEMPLATES]
        further = [template for template in self.templates[:1] if template not in templates]
        return self.ensemble_features((*templates, *further))


@TRAINER_REGISTRY.register()
class ZeroshotCLIP(PromptTrainer):
    """Tests a `ZeroshotModel` in fp32."""

    structure = ZeroshotModel

    def check_cfg(self, cfg: CfgNode) -> None:
        if cfg.TRAINER.get("TERMS", ()):
            raise UserError(
                f"TRAINER.TERMS is {cfg.TRAINER.TERMS}, but {cfg.TRAINER.NAME} learns nothing and "
                "takes no loss terms: leave it out"
            )
        super().check_cfg(cfg)

    def build_model(self) -> None:
        cfg, templates = self.cfg, self.templates_of(self.cfg, self.dm.dataset)
        self.clip = self.make_clip(cfg, self.frozen_clip(), self.classnames, templates)

    def train(self) -> None:  # type: ignore[override] # as the engine does
        """Test, since there is nothing to train: so this trainer can stand wherever one can."""
        log.info(f"{type(self).__name__} learns nothing: testing it")
        self.test()


@TRAINER_REGISTRY.register()
class ZeroshotCLIP2(ZeroshotCLIP):
    """Tests an `EnsembleModel` of CLIP's seven best ImageNet templates, or of all eighty.

    As published, ImageNet's template is not among the seven.
    """

    structure = EnsembleModel
    options = "ZSCLIP2"

    @classmethod
    def templates_of(cls, cfg: CfgNode, data: object) -> Sequence[str]:
        """None for ImageNet."""
        joins = getattr(data, "own_template_in_ensemble", True)
        return super().templates_of(cfg, data) if joins else ()
