"""Importing this registers all trainers. Each module adds its own options through its `extend_cfg`."""

from trainers import cocoop, coop, craft, ivlp, maple, promptsrc, vpt, zsclip
from trainers.backbone import ACTIVATION_CHOICES
from trainers.options import rules

MODULES = (zsclip, coop, cocoop, vpt, ivlp, maple, promptsrc, craft)


def extend_cfg(cfg) -> None:
    """Add to Dassl's defaults the nodes of all trainers and options of them all."""
    rules.declare(
        cfg,
        "MODEL.BACKBONE",
        {
            # Of the CLIP: quick_gelu (OpenAI's), gelu (most of open_clip's), auto (OpenAI's are known).
            "ACTIVATION": rules.key("auto", rules.one_of(*ACTIVATION_CHOICES)),
        },
    )
    rules.declare(
        cfg,
        "TRAINER",
        {
            # recompute the text tower in the backward pass: less memory for many classes, a third slower
            "TEXT_CHECKPOINTING": False,
            "COMPILE": False,  # torch.compile the blocks of both towers
            # text-side methods: augmented views per training image, encoded once and cached on disk; 0 = fresh ones
            "CACHED_VIEWS": rules.key(0, rules.whole(0)),
        },
    )
    for module in MODULES:
        if hasattr(module, "extend_cfg"):
            module.extend_cfg(cfg)
