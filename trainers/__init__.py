"""Importing this registers all trainers. Each module adds its own options through its `extend_cfg`."""

from trainers import cocoop, coop, craft, ivlp, maple, promptsrc, vpt, zsclip

MODULES = (zsclip, coop, cocoop, vpt, ivlp, maple, promptsrc, craft)


def extend_cfg(cfg) -> None:
    """Add to Dassl's defaults the nodes of all trainers, and DATASET.SUBSAMPLE_CLASSES (all, base, new)."""
    cfg.DATASET.SUBSAMPLE_CLASSES = "all"
    for module in MODULES:
        if hasattr(module, "extend_cfg"):
            module.extend_cfg(cfg)
