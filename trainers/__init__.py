"""Importing this package registers all trainers and loss terms.

Every module of the package is imported, so that a new structure or loss term is one new file. A
module adds its options through its `extend_cfg`.
"""

import pkgutil
from importlib import import_module
from types import ModuleType

from yacs.config import CfgNode

from trainers.backbone import ACTIVATION_CHOICES
from trainers.options import rules


def modules() -> tuple[ModuleType, ...]:
    """All modules of this package and its subpackages, imported."""
    names = [module.name for module in pkgutil.walk_packages(__path__, f"{__name__}.")]
    return tuple(map(import_module, names))


MODULES = modules()


def extend_cfg(cfg: CfgNode) -> None:
    """Add to Dassl's defaults the nodes of all trainers and loss terms, and options of them all."""
    rules.declare(
        cfg,
        "MODEL.BACKBONE",
        {
            # quick_gelu (OpenAI's CLIPs), gelu (most of open_clip's), auto (OpenAI's are known)
            "ACTIVATION": rules.key("auto", rules.one_of(*ACTIVATION_CHOICES)),
        },
    )
    names = rules.several(rules.text(empty=False), "give a list of loss terms, such as ('Mine',)")
    rules.declare(
        cfg,
        "TRAINER",
        {
            # loss terms of trainers/terms beside the method's
            "TERMS": rules.key((), names),
            # recompute the text tower in backward: less memory for many classes, a third slower
            "TEXT_CHECKPOINTING": False,
            "COMPILE": False,  # torch.compile the blocks of both towers
            # text-side methods: augmented views per training image, encoded once and cached on
            # disk; 0 = fresh ones
            "CACHED_VIEWS": rules.key(0, rules.whole(0)),
        },
    )
    for module in MODULES:
        if hasattr(module, "extend_cfg"):
            module.extend_cfg(cfg)
