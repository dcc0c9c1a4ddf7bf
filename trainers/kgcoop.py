"""KgCoOp: CoOp whose class texts stay close to those of a hand-written template.

Yao et al., CVPR 2023, arXiv 2303.13283.
"""

import torch.nn.functional as F
from torch import Tensor
from yacs.config import CfgNode

from dassl.engine import TRAINER_REGISTRY
from trainers.backbone import PRECISIONS
from trainers.base import PromptTrainer
from trainers.coop import CoOpModel, PromptLearner
from trainers.model import PromptedCLIP
from trainers.options import PRECISION_HELP, rules
from trainers.step import Step

# Where the published code has another template than CoOp's.
TEMPLATES = {"DescribableTextures": "a photo of a {}, a type of texture."}
WEIGHT = 8.0  # as the published scripts have it


def extend_cfg(cfg: CfgNode) -> None:
    """Add TRAINER.KGCOOP. Published files have its keys under TRAINER.COOP."""
    rules.declare(
        cfg,
        "TRAINER.KGCOOP",
        {
            "N_CTX": rules.key(4, rules.whole(1), "Number of context vectors."),
            "CTX_INIT": rules.key(
                "a photo of a",
                help="Words to start from; their number then is the number of context vectors.",
            ),
            "PREC": rules.key("fp16", rules.one_of(*PRECISIONS), PRECISION_HELP),
            "W": rules.key(
                WEIGHT,
                rules.number(0),
                "Weight of the distance between class texts and the template's.",
            ),
        },
    )


class KnowledgeGuided(PromptedCLIP):
    """Adds the distance between the class texts and those of the data set's first template."""

    def loss_terms(self, step: Step) -> dict[str, Tensor]:
        """Cross entropy + W * (1 - mean cosine over all classes), as the published code has it."""
        cosines = F.cosine_similarity(step.features.text, self.zero_shot_texts, dim=-1)
        return super().loss_terms(step) | {"knowledge": self.options.W * (1 - cosines.mean())}


class KnowledgeContext(PromptLearner):
    """Published checkpoints hold a network, too, that the published code never uses."""

    published_without_use = ("bias_vectors", "meta_net.")


class KgCoOpModel(KnowledgeGuided, CoOpModel):
    """Learns CoOp's context, with the class name at its end."""

    def build_prompts(self) -> KnowledgeContext:
        options = self.options
        return KnowledgeContext(self.backbone, self.classnames, options.N_CTX, options.CTX_INIT)


@TRAINER_REGISTRY.register()
class KgCoOp(PromptTrainer):
    """Trains a `KgCoOpModel`."""

    structure = KgCoOpModel
    options = "KGCOOP"
    published_templates = TEMPLATES
