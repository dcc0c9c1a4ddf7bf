"""Importing this package registers every data set: each module is one, but for those named here and `groups`, which two of them share."""

import importlib
import pkgutil

try:
    import dassl.program as program
except ModuleNotFoundError:  # upstream's Dassl
    program = None
if program:
    program.while_importing(__name__)

from datasets.options import rules

NOT_DATA_SETS = (
    "base",
    "check",
    "download",
    "errors",
    "files",
    "locks",
    "options",
    "prepare",
    "sources",
)

for _module in pkgutil.iter_modules(__path__):
    if _module.name not in NOT_DATA_SETS:
        importlib.import_module(f"{__name__}.{_module.name}")


def extend_cfg(cfg) -> None:
    """Add to Dassl's defaults the options that data sets read."""
    rules.declare(
        cfg,
        "DATASET",
        {
            "SUBSAMPLE_CLASSES": rules.key(
                "all",
                rules.one_of("all", "base", "new"),
                "Classes to use: base is the first half in label order, new the rest.",
                set_by="protocol",
            ),
            "TEMPLATE": rules.key(
                "",
                rules.template(),
                "Template of class texts instead of the data set's, e.g. `a photo of a {}`.",
            ),
            "INDICES": rules.key(
                "",
                rules.path(),
                "Folder of published few-shot picks: `<INDICES>/<config name>/shot_<k>-seed_<s>.json`.",
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
                help="True trains on the target's images with their labels, as an oracle for methods without "
                "these labels.",
            ),
            "TARGET_CLASSES": rules.key(
                "same",
                rules.one_of("same", "subset"),
                "Classes of the target: the same as the source's, or a subset of them.",
            ),
        },
    )
