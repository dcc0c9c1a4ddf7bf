"""Importing this package registers every data set: each module is one, but for those named here and `groups`, which two of them share."""

import importlib
import pkgutil

try:
    import dassl.program as program
except ModuleNotFoundError:  # upstream's Dassl
    program = None
if program:
    program.while_importing(__name__)

NOT_DATA_SETS = ("base", "check", "download", "errors", "files", "locks", "prepare", "sources")

for _module in pkgutil.iter_modules(__path__):
    if _module.name not in NOT_DATA_SETS:
        importlib.import_module(f"{__name__}.{_module.name}")


def extend_cfg(cfg) -> None:
    """Add to Dassl's defaults the options that data sets read."""
    cfg.DATASET.SUBSAMPLE_CLASSES = "all"  # all, base (the first half in label order) or new
    cfg.DATASET.TEMPLATE = ""  # "a photo of a {}." instead of the data set's own
    cfg.DATASET.INDICES = ""  # folder of published few-shot picks: <INDICES>/<config name>/shot_<k>-seed_<s>.json
    cfg.DATASET.FOLDER = ""  # ImageFolder, CSV: folder of the images, below ROOT or absolute; empty: ROOT itself
    cfg.DATASET.CSV = "images.csv"  # CSV: the table, below FOLDER
    cfg.DATASET.TARGET = ""  # a data set whose training images are the unlabelled ones (train_u), for MMD
    cfg.DATASET.TARGET_LABELLED = False  # True: they are trained on with their labels, too: the oracle that a method without them is held against
    cfg.DATASET.TARGET_CLASSES = "same"  # or subset: the target has some of the classes only
