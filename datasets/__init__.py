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
                "all", rules.one_of("all", "base", "new")
            ),  # base: the first half in label order; new: the rest
            "TEMPLATE": rules.key(
                "", rules.template()
            ),  # "a photo of a {}." instead of the data set's own
            "INDICES": rules.key(
                "", rules.path()
            ),  # folder of published few-shot picks: <INDICES>/<config name>/shot_<k>-seed_<s>.json
            "FOLDER": rules.key(
                "", rules.path()
            ),  # ImageFolder, CSV: folder of the images, below ROOT or absolute; empty: ROOT itself
            "CSV": rules.key("images.csv", rules.path(empty=False)),  # CSV: the table, below FOLDER
            "TARGET": "",  # a data set whose training images are the unlabelled ones (train_u), for MMD
            # True: they are trained on with their labels, too: the oracle that a method without them is held against
            "TARGET_LABELLED": False,
            "TARGET_CLASSES": rules.key(
                "same", rules.one_of("same", "subset")
            ),  # subset: the target has some of the classes only
        },
    )
