"""Zero-shot CLIP: nothing learned, hand-written templates (Radford et al., ICML 2021, arXiv 2103.00020)."""

from torch import Tensor, nn
from yacs.config import CfgNode

from dassl.engine import TRAINER_REGISTRY
from trainers.base import PromptTrainer
from trainers.options import rules
from trainers.templates import EIGHTY, SEVEN

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
                "Templates to average: seven is CLIP's selection, as in CoOp; eighty are all of CLIP's notebook.",
            )
        },
    )


@TRAINER_REGISTRY.register()
class ZeroshotCLIP(PromptTrainer):
    """Compares images with the data set's first template, filled with each class name, in fp32."""

    def build_model(self) -> None:
        self.build_backbone()

    def build_prompts(self) -> nn.Module:
        raise NotImplementedError("ZeroshotCLIP learns nothing")

    def text_features(self) -> Tensor:
        return self.backbone.encode_texts(self.class_texts())

    def train(self) -> None:
        """There is nothing to train: tests instead, so that it can stand wherever a trainer can."""
        print(f"{type(self).__name__} learns nothing: testing it")
        self.test()


@TRAINER_REGISTRY.register()
class ZeroshotCLIP2(ZeroshotCLIP):
    """Compares images with the mean over CLIP's seven best ImageNet templates (or all eighty) and the data set's own.

    As published, ImageNet's own template is not among the seven.
    """

    @classmethod
    def config_nodes(cls) -> tuple[str, ...]:
        return ("ZSCLIP2",)

    def text_features(self) -> Tensor:
        templates = ENSEMBLES[self.cfg.TRAINER.ZSCLIP2.TEMPLATES]
        own = (
            (self.template,)
            if getattr(self.dm.dataset, "own_template_in_ensemble", True)
            and self.template not in templates
            else ()
        )
        return self.ensemble_features((*templates, *own))
