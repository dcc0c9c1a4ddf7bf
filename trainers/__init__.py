"""Importing this registers all trainers. Each module adds its own options through its `extend_cfg`."""

from dassl.config import get_cfg_default
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
            "ACTIVATION": rules.key(
                "auto",
                rules.one_of(*ACTIVATION_CHOICES),
                "Activation of the CLIP: quick_gelu for OpenAI's, gelu for most of open_clip's; auto "
                "knows OpenAI's and refuses others.",
                as_before=("quick_gelu", "auto"),
            ),
        },
    )
    rules.declare(
        cfg,
        "TRAINER",
        {
            "TEXT_CHECKPOINTING": rules.key(
                False,
                help="True recomputes the text tower in the backward pass: less memory for many "
                "classes, a third slower.",
                affects="result",
            ),
            "COMPILE": rules.key(
                False,
                help="True compiles the blocks of both towers with `torch.compile`.",
                affects="result",
            ),
            "CACHED_VIEWS": rules.key(
                0,
                rules.whole(0),
                "Methods without visual prompts: augmented views per training image, encoded once and "
                "cached on disk; 0: a fresh view at every step.",
            ),
        },
    )
    for module in MODULES:
        if hasattr(module, "extend_cfg"):
            module.extend_cfg(cfg)


extend_cfg(get_cfg_default())  # hashes of stored configurations need the declarations
