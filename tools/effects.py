"""Keys of a configuration that no part of its run reads: whatever they hold changes nothing.

train.py and `tools.sweep` note such keys, and `tools.select` refuses to search them. Only what is
known for certain is told: code of other projects may read any key.
"""

import functools
from collections.abc import Callable
from typing import Any

from yacs.config import CfgNode

from tools import configs

STAGED = ("NEW_LAYERS", "BASE_LR_MULT")  # read where a trainer hands on its model
UNLABELLED = ("DATALOADER.TRAIN_U.", "DATASET.TARGET_LABELLED", "DATASET.TARGET_CLASSES")
UPSTREAM = ("DATASET.NUM_LABELED", "DATASET.VAL_PERCENT", "DATASET.ALL_AS_UNLABELED")
OWN = ("DATASET.FOLDER", "DATASET.CSV")  # of the data sets ImageFolder and CSV


def _is(*values: object) -> Callable[[Any], bool]:
    return lambda value: value in values


def _has(name: str) -> Callable[[Any], bool]:
    return lambda names: name in names


# (keys, or the group of keys that ends in a point; the key that decides; whether they are read).
CRAFT, MMD = "TRAINER.CRAFT.", "TRAINER.CRAFT.MMD."
DECIDED: tuple[tuple[str, str, Callable[[Any], bool]], ...] = (
    (MMD, CRAFT + "LAMBDA_MMD", bool),
    (MMD + "MULTIPLIERS", MMD + "BANDWIDTH", _is("median")),
    (MMD + "SIGMAS", MMD + "BANDWIDTH", _is("fixed")),
    (MMD + "VARIANCES", MMD + "BANDWIDTH", _is("variances")),
    (CRAFT + "ANCHORS_PER_CLASS", CRAFT + "LAMBDA_STATIC", bool),
    (CRAFT + "KMEANS_SEED", CRAFT + "LAMBDA_STATIC", bool),
    (CRAFT + "KMEANS_SEED", CRAFT + "ANCHORS_PER_CLASS", lambda number: number > 1),
    (CRAFT + "STOCHASTIC_TARGETS", CRAFT + "LAMBDA_STOCHASTIC", bool),
    (CRAFT + "STOCHASTIC_DIRECTIONS", CRAFT + "LAMBDA_STOCHASTIC", bool),
    ("OPTIM.NEW_LAYERS", "OPTIM.STAGED_LR", bool),
    ("OPTIM.BASE_LR_MULT", "OPTIM.STAGED_LR", bool),
    ("LOG.WANDB_PROJECT", "LOG.WANDB", bool),
    ("DATASET.REPEAT", "DATASET.REPEAT_FROM", bool),
    ("INPUT.CROP_PADDING", "INPUT.TRANSFORMS", _has("random_crop")),
    ("INPUT.RRCROP_SCALE", "INPUT.TRANSFORMS", _has("random_resized_crop")),
    ("INPUT.CUTOUT_N", "INPUT.TRANSFORMS", _has("cutout")),
    ("INPUT.CUTOUT_LEN", "INPUT.TRANSFORMS", _has("cutout")),
    ("INPUT.GN_MEAN", "INPUT.TRANSFORMS", _has("gaussian_noise")),
    ("INPUT.GN_STD", "INPUT.TRANSFORMS", _has("gaussian_noise")),
    ("INPUT.RANDAUGMENT_N", "INPUT.TRANSFORMS", _has("randaugment")),
    ("INPUT.RANDAUGMENT_M", "INPUT.TRANSFORMS", _has("randaugment")),
    ("INPUT.COLORJITTER_B", "INPUT.TRANSFORMS", _has("colorjitter")),
    ("INPUT.COLORJITTER_C", "INPUT.TRANSFORMS", _has("colorjitter")),
    ("INPUT.COLORJITTER_S", "INPUT.TRANSFORMS", _has("colorjitter")),
    ("INPUT.COLORJITTER_H", "INPUT.TRANSFORMS", _has("colorjitter")),
    ("INPUT.RGS_P", "INPUT.TRANSFORMS", _has("randomgrayscale")),
    ("INPUT.GB_P", "INPUT.TRANSFORMS", _has("gaussian_blur")),
    ("INPUT.GB_K", "INPUT.TRANSFORMS", _has("gaussian_blur")),
)


def reads(cfg: CfgNode, key: str) -> bool:
    """Whether the result of a configuration's run can depend on a key."""
    from dassl.config import counts

    return counts(key) and not unread(cfg, key)


def unread(cfg: CfgNode, key: str) -> str:
    """Why no part of a configuration's run reads a key, as a clause; "" if one may read it."""
    return _by_trainer(cfg, key) or _by_data(cfg, key) or _by_keys(cfg, key)


def _by_trainer(cfg: CfgNode, key: str) -> str:
    from dassl.engine import TRAINER_REGISTRY
    from trainers.base import PromptTrainer

    name = cfg.TRAINER.NAME
    kind = TRAINER_REGISTRY.get(name)
    group, _, last = key.rpartition(".")
    if group.startswith("TRAINER.") and hasattr(kind, "config_nodes"):
        node = group.split(".")[1]
        if node not in kind.config_nodes(cfg):
            craft = node == "CRAFT" and configs.takes_craft(name)
            hint = f": did you mean the trainer {configs.with_craft(name)}?" if craft else ""
            return f"{name} does not read the options of {node}{hint}"
    if not issubclass(kind, PromptTrainer):
        return ""
    if group == "MODEL.HEAD" or key == "MODEL.BACKBONE.PRETRAINED":
        return f"{name} does not read it"
    if group == "OPTIM" and not configs.learns(name):
        return f"{name} learns nothing"
    if group == "OPTIM" and last != "MAX_EPOCH" and not kind.learns_in_epochs(cfg):
        return f"{name} does not learn in epochs"
    if group == "OPTIM" and last not in (*STAGED, "STAGED_LR") and last not in _of_optimizer(cfg):
        optimizer, schedule = cfg.OPTIM.NAME, cfg.OPTIM.LR_SCHEDULER
        warmup = cfg.OPTIM.WARMUP_EPOCH > 0 and cfg.OPTIM.WARMUP_TYPE
        words = f"{schedule}, with {warmup} warm-up," if warmup else f"{schedule}, without warm-up,"
        return f"the optimiser {optimizer} and the schedule {words} do not read it"
    return ""


def _by_data(cfg: CfgNode, key: str) -> str:
    """Only for data sets of this project: others may read any key."""
    from dassl.data.datasets import DATASET_REGISTRY
    from datasets.base import CoOpDataset
    from datasets.sets.csv_table import CSV
    from datasets.sets.imagefolder import OwnDataset

    node = cfg.DATASET
    kinds = [DATASET_REGISTRY.get(name) for name in (node.NAME, node.TARGET) if name]
    if not all(issubclass(kind, CoOpDataset) for kind in kinds):
        return ""
    if key.startswith(UNLABELLED) and not node.TARGET and not node.TARGET_DOMAINS:
        return "DATASET.TARGET is empty"
    if key.startswith("DATALOADER.TRAIN_U.") and not key.endswith(".SAME_AS_X"):
        if cfg.DATALOADER.TRAIN_U.SAME_AS_X:
            return "DATALOADER.TRAIN_U.SAME_AS_X is True"
    needed = {OWN[0]: OwnDataset, OWN[1]: CSV}.get(key, CoOpDataset)
    if key in UPSTREAM or not any(issubclass(kind, needed) for kind in kinds):
        return f"{node.NAME} does not read it"
    return ""


def _by_keys(cfg: CfgNode, key: str) -> str:
    """Of the keys that decide whether another is read, the first that says no."""
    for keys, decider, is_read in DECIDED:
        if key == keys or keys.endswith(".") and key.startswith(keys):
            value = functools.reduce(lambda node, part: node[part], decider.split("."), cfg)
            if not is_read(value):
                empty = value in ("", (), [])
                return f"{decider} is {'empty' if empty else value}"
    return ""


def _of_optimizer(cfg: CfgNode) -> frozenset[str]:
    """Keys of OPTIM that the optimizer and the schedule of a configuration read."""
    options = cfg.OPTIM.items()
    return _read_of(tuple((k, tuple(v) if isinstance(v, list) else v) for k, v in options))


@functools.lru_cache
def _read_of(options: tuple[tuple[str, Any], ...]) -> frozenset[str]:
    """For many jobs of a sweep the same is asked. All keys, if the options do not fit together."""
    import torch

    from dassl.optim import build_lr_scheduler, build_optimizer
    from dassl.utils import UserError

    known = dict(options)
    # A run that is all warm-up says so itself.
    known["MAX_EPOCH"] = max(known["MAX_EPOCH"], known["WARMUP_EPOCH"] + 1)
    seen = set()

    class Watched:
        def __getattr__(self, name: str) -> object:
            seen.add(name)
            return known[name]

        def get(self, name: str, default: object = None) -> object:
            seen.add(name)
            return known.get(name, default)

    parameter = torch.nn.Parameter(torch.zeros(1))
    try:
        build_lr_scheduler(build_optimizer([], Watched(), [{"params": [parameter]}]), Watched())
    except (TypeError, ValueError, UserError):
        return frozenset(known)
    return frozenset(seen)
