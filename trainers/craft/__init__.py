"""CRAFT on each prompt structure: the list of registered trainers."""

from dassl.engine import TRAINER_REGISTRY
from trainers.coop import CoOp
from trainers.craft.plugin import Craft, extend_cfg

__all__ = ["Craft", "CraftCoOp", "extend_cfg"]


@TRAINER_REGISTRY.register()
class CraftCoOp(Craft, CoOp):
    """CoOp with CRAFT's alignment terms; its checkpoints are CoOp's."""
