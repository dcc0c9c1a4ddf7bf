"""Data sets and their readers. Importing this package registers all of `datasets/sets/`."""

import importlib
import pkgutil
import sys
from pathlib import Path

try:
    import dassl.names as names
    import dassl.program as program
except ModuleNotFoundError:  # upstream's Dassl
    names = program = None
if program:
    program.while_importing(__name__)

from datasets import sets
from datasets.errors import UserError
from datasets.options import rules


def _raise(sentence: str):
    raise UserError(sentence)


import_file = getattr(program, "import_file", importlib.import_module)
refuse = getattr(program, "refuse", _raise)

# `from datasets.imagenet import ImageNet`, as CoOp's users write it, stays possible.
_OURS = {_module.name for _module in pkgutil.iter_modules(__path__)}
for _module in pkgutil.iter_modules(sets.__path__):
    if _module.name in _OURS:
        refuse(
            f"'datasets/sets/{_module.name}.py' has the name of a module of datasets/: rename the "
            "file of the data set"
        )
    globals()[_module.name] = sys.modules[f"{__name__}.{_module.name}"] = import_file(
        f"{sets.__name__}.{_module.name}"
    )


def _misplaced(name: str) -> str:
    """The remedy for a data set whose file lies beside `sets`, or nothing."""
    for path in sorted(Path(__file__).parent.glob("*.py")):
        text = path.read_text(encoding="utf-8", errors="replace")
        if f"class {name}(" in text and "@DATASET_REGISTRY.register" in text:
            return f"; data sets lie in datasets/sets/: move 'datasets/{path.name}' there"
    return ""


if names:
    names.HINTS |= {"dataset": _misplaced, "data set": _misplaced}


def extend_cfg(cfg) -> None:
    """Add to Dassl's defaults the options that data sets read."""
    rules.declare(
        cfg,
        "DATASET",
        {
            "SUBSAMPLE_CLASSES": rules.key(
                "all",
                rules.one_of("all", "base", "new", "base_seen", "base_unseen"),
                "Classes to use: base is the first half in label order, new the rest; base_seen "
                "and base_unseen are the sides of a fold of base.",
                set_by="set it by protocol",
            ),
            "FOLD": rules.key(
                "",
                help="`k/n` for base_seen and base_unseen: every n-th base class, the k-th first, "
                "is unseen.",
                as_before=("",),
            ),
            "CUT": rules.key(
                0,
                rules.whole(0),
                "Base and new classes: 0 cuts in label order, as published; another number "
                "seeds the generator that draws the base half.",
                as_before=(0,),
            ),
            "VALIDATION": rules.key(
                "published",
                rules.one_of("published", "whole"),
                "Validation images beside few training images: published keeps at most 4 per "
                "class, whole keeps all; whole takes undrawn training images for ImageNet, whose "
                "validation part is its test part, and refuses test images in training or "
                "validation.",
                as_before=("published",),
            ),
            "TEMPLATE": rules.key(
                "",
                rules.template(),
                "Template of class texts instead of the data set's, e.g. `a photo of a {}`.",
            ),
            "INDICES": rules.key(
                "",
                rules.path(),
                "Folder of published few-shot picks: `<INDICES>/<config "
                "name>/shot_<k>-seed_<s>.json`.",
            ),
            "REPEAT_FROM": rules.key(
                "",
                rules.path(),
                "Folder of a run that was tested on its training images (TEST.SPLIT train): those "
                "that it got wrong are trained on REPEAT times (JTT).",
                affects="nothing",  # what the folder holds counts, as a file of the data
                as_before=("",),
            ),
            "REPEAT": rules.key(
                20,
                rules.whole(1),
                "How often an image that REPEAT_FROM names is in an epoch.",
                as_before=(20,),
            ),
            "FOLDER": rules.key(
                "",
                rules.path(),
                "ImageFolder and CSV: folder of the images, below ROOT or absolute; empty: ROOT.",
            ),
            "CSV": rules.key(
                "images.csv", rules.path(empty=False), "CSV: file of the table, below FOLDER."
            ),
            "TARGET": rules.key(
                "",
                help="Data set whose training images are the unlabelled ones (train_u), for MMD.",
            ),
            "TARGET_LABELLED": rules.key(
                False,
                help="True trains on the target's images with their labels, as an oracle for "
                "methods without these labels.",
            ),
            "TARGET_CLASSES": rules.key(
                "same",
                rules.one_of("same", "subset"),
                "Classes of the target: the same as the source's, or a subset of them.",
            ),
        },
    )
