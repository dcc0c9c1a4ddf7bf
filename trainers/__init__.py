"""Importing this registers all trainers. Each module adds its own options through its `extend_cfg`."""

from trainers import cocoop, coop, craft, ivlp, maple, promptsrc, vpt, zsclip

MODULES = (zsclip, coop, cocoop, vpt, ivlp, maple, promptsrc, craft)


def extend_cfg(cfg) -> None:
    """Add to Dassl's defaults the nodes of all trainers and options of them all."""
    # Of the CLIP: quick_gelu (OpenAI's), gelu (most of open_clip's), auto (OpenAI's are known).
    cfg.MODEL.BACKBONE.ACTIVATION = "auto"
    cfg.TRAINER.TEXT_CHECKPOINTING = False  # recompute the text tower in the backward pass: less memory for many classes, a third slower
    cfg.TRAINER.COMPILE = False  # torch.compile the blocks of both towers
    cfg.TRAINER.CACHED_VIEWS = 0  # text-side methods: augmented views per training image, encoded once and cached on disk; 0 = fresh ones
    for module in MODULES:
        if hasattr(module, "extend_cfg"):
            module.extend_cfg(cfg)
