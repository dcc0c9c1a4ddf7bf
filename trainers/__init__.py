"""Importing this package registers all trainers and loss terms.

Every module of the package is imported, so that a new structure or loss term is one new file. A
module adds its options through its `extend_cfg`.
"""

import importlib
import pkgutil
from types import ModuleType

from yacs.config import CfgNode

from dassl.config import get_cfg_default
from trainers import messages
from trainers.backbone import ACTIVATION_CHOICES
from trainers.options import rules
from trainers.terms import TERMS

try:
    import dassl.program as _program
except ModuleNotFoundError:  # upstream's Dassl
    _program = None  # type: ignore[assignment]
messages.install()
import_file = getattr(_program, "import_file", importlib.import_module)


def modules() -> tuple[ModuleType, ...]:
    """All modules of this package and its subpackages, imported."""
    found = pkgutil.walk_packages(__path__, f"{__name__}.", onerror=lambda name: None)
    return tuple(map(import_file, [module.name for module in found]))


MODULES = modules()


def extend_cfg(cfg: CfgNode) -> None:
    """Add to Dassl's defaults the nodes of all trainers and loss terms, and options of them all."""
    rules.declare(
        cfg,
        "MODEL.BACKBONE",
        {
            "ACTIVATION": rules.key(
                "auto",
                rules.one_of(*ACTIVATION_CHOICES),
                "Activation of the CLIP: quick_gelu for OpenAI's, gelu for most of open_clip's; "
                "auto is what the model tells; of files it knows OpenAI's and refuses others.",
                as_before=("quick_gelu", "auto"),
            ),
            "INPUT": rules.key(
                "model",
                rules.one_of("model", "config"),
                "Where SIZE, PIXEL_MEAN, PIXEL_STD and INTERPOLATION of INPUT come from: model is "
                "the CLIP itself, if it tells them (all but a file of weights); config is INPUT.",
                as_before=("model",),
            ),
        },
    )
    rules.declare(cfg, "TRAINER", shared_options())
    for module in MODULES:
        if hasattr(module, "extend_cfg"):
            module.extend_cfg(cfg)


def shared_options() -> dict:
    """The keys of TRAINER that all methods have."""
    names = rules.several(
        rules.one_of(lambda: list(TERMS)),
        lambda: f"give a list of some of {', '.join(TERMS)}",
        distinct=True,
    )
    return {
        "TERMS": rules.key(
            (),
            names,
            "Loss terms of trainers/terms/ that are added to the method's.",
            as_before=((), []),
        ),
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
        "CACHED_TESTS": rules.key(
            False,
            help="True encodes the images of a test once, for all runs of methods that learn "
            "nothing about images, into a hidden folder beside the data.",
            affects="nothing",
        ),
        "CACHED_VIEWS": rules.key(
            0,
            rules.whole(0),
            "Methods without visual prompts: augmented views per training image, encoded once "
            "and cached on disk; 0: a fresh view at every step.",
        ),
    }


extend_cfg(get_cfg_default())  # hashes of stored configurations need the declarations
