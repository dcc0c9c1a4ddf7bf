"""CRAFT on each published prompt structure: the list of registered trainers.

Their checkpoints are those of the structures.
"""

from dassl.engine import TRAINER_REGISTRY
from trainers.cocoop import CoCoOp
from trainers.coop import CoOp
from trainers.craft.plugin import Craft
from trainers.ivlp import IVLP
from trainers.kgcoop import KgCoOp
from trainers.linear_probe import LinearProbe
from trainers.maple import MaPLe
from trainers.prograd import ProGrad
from trainers.promptsrc import PromptSRC
from trainers.tcp import TCP
from trainers.vpt import VPT

__all__ = [
    "Craft",
    "CraftCoCoOp",
    "CraftCoOp",
    "CraftIVLP",
    "CraftKgCoOp",
    "CraftLinearProbe",
    "CraftMaPLe",
    "CraftProGrad",
    "CraftPromptSRC",
    "CraftTCP",
    "CraftVPT",
]


@TRAINER_REGISTRY.register()
class CraftCoOp(Craft, CoOp):
    """CoOp with CRAFT's terms."""


@TRAINER_REGISTRY.register()
class CraftCoCoOp(Craft, CoCoOp):
    """CoCoOp with CRAFT's terms."""


@TRAINER_REGISTRY.register()
class CraftVPT(Craft, VPT):
    """VPT with CRAFT's terms; the texts are frozen, so only the stochastic term teaches."""


@TRAINER_REGISTRY.register()
class CraftIVLP(Craft, IVLP):
    """IVLP with CRAFT's terms."""


@TRAINER_REGISTRY.register()
class CraftMaPLe(Craft, MaPLe):
    """MaPLe with CRAFT's terms."""


@TRAINER_REGISTRY.register()
class CraftPromptSRC(Craft, PromptSRC):
    """PromptSRC, its self-consistency terms and aggregation included, with CRAFT's terms."""


@TRAINER_REGISTRY.register()
class CraftKgCoOp(Craft, KgCoOp):
    """KgCoOp with CRAFT's terms."""


@TRAINER_REGISTRY.register()
class CraftLinearProbe(Craft, LinearProbe):
    """A linear probe with CRAFT's terms, in which the class vectors stand for class texts."""


@TRAINER_REGISTRY.register()
class CraftProGrad(Craft, ProGrad):
    """ProGrad with CRAFT's terms, which are in the gradient that it projects."""


@TRAINER_REGISTRY.register()
class CraftTCP(Craft, TCP):
    """TCP with CRAFT's terms."""
