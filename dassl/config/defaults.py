"""Every key that the engine knows: its default and what it may hold. Trainers add nodes of their own."""

from collections.abc import Callable
from importlib import import_module

from dassl.config.rules import (
    Key,
    Several,
    key,
    number,
    one_of,
    path,
    positive,
    several,
    text,
    whole,
)
from dassl.utils.registry import Registry


def _listed(module: str, name: str) -> Callable[[], list[str]]:
    """The names in a list, dict or registry of another module, asked for when they are needed."""

    def names() -> list[str]:
        found = getattr(import_module(module), name)
        return found.registered_names() if isinstance(found, Registry) else list(found)

    return names


def _probability(default: float) -> Key:
    return key(default, number(0, 1))


def _names() -> Several:
    return several(text(empty=False), "give a list of names, such as ('a', 'b')")


def _transforms() -> Several:
    known = _listed("dassl.data.transforms.transforms", "AVAI_CHOICES")
    return several(one_of(known), lambda: f"give a list of some of {', '.join(known())}")


_SAMPLERS = one_of(_listed("dassl.data.samplers", "AVAI_SAMPLERS"))
_BETA = number(0, 0.999999)  # of 1, Adam would divide by 0

_TRAIN_LOADER = {
    "SAMPLER": key("RandomSampler", _SAMPLERS),
    "BATCH_SIZE": key(32, whole(1)),
    "N_DOMAIN": key(0, whole(0)),  # domains per batch (RandomDomainSampler); 0 = all
    "N_INS": key(16, whole(1)),  # images per class in a batch (RandomClassSampler)
    "DROP_LAST": False,  # True: drop the last incomplete batch of an epoch, as upstream Dassl always does
}

DEFAULTS = {
    "VERSION": key(1, one_of(1)),
    "OUTPUT_DIR": key("./output", path(utf8=True)),
    "RESUME": key(
        "", path()
    ),  # folder of an earlier run to continue; OUTPUT_DIR itself is always looked at
    "EVAL_ONLY": False,  # True: a test only (train.py --eval-only): what only training needs is not made
    "SEED": key(-1, whole(most=2**63 - 1)),  # negative: not seeded
    "USE_CUDA": True,
    "VERBOSE": True,
    "LOG": {
        "WANDB": False,  # True: curves to Weights & Biases too (pip install wandb), under the account of `wandb login`
        "WANDB_PROJECT": key("craft", text(empty=False)),
    },
    "INPUT": {
        "SIZE": key(
            (224, 224),
            several(
                whole(1), "give height and width, two whole numbers from 1, such as (224, 224)", 2
            ),
        ),
        "INTERPOLATION": key(
            "bilinear", one_of(_listed("dassl.data.transforms.transforms", "INTERPOLATION_MODES"))
        ),
        "TRANSFORMS": key((), _transforms()),
        "NO_TRANSFORM": False,
        "PIXEL_MEAN": key(
            [0.485, 0.456, 0.406],
            several(number(), "give three numbers, for red, green and blue", 3),
        ),
        "PIXEL_STD": key(
            [0.229, 0.224, 0.225],
            several(positive(), "give three positive numbers, for red, green and blue", 3),
        ),
        "CROP_PADDING": key(4, whole(0, 4096)),
        "RRCROP_SCALE": key(
            (0.08, 1.0),
            several(
                number(1e-6, 1),
                "give the least and the greatest share of the area to keep, above 0 and up to 1",
                2,
                rising=True,
            ),
        ),
        "CUTOUT_N": key(1, whole(1)),
        "CUTOUT_LEN": key(16, whole(2)),
        "GN_MEAN": key(0.0, number()),
        "GN_STD": key(0.15, number(0)),
        "RANDAUGMENT_N": key(2, whole(1)),
        "RANDAUGMENT_M": key(10, whole(0, 30)),
        "COLORJITTER_B": key(0.4, number(0)),
        "COLORJITTER_C": key(0.4, number(0)),
        "COLORJITTER_S": key(0.4, number(0)),
        "COLORJITTER_H": key(0.1, number(0, 0.5)),
        "RGS_P": _probability(0.2),
        "GB_P": _probability(0.5),
        "GB_K": key(21, whole(1, odd=True)),
        # drop: the colours as stored, as published; white: put on white
        "TRANSPARENCY": key("drop", one_of("drop", "white")),
        "UPRIGHT": False,  # True: photos are turned as EXIF says; False: as stored, as published
        "DRAFT": False,  # True: JPEGs are decoded at a fraction (1/2, 1/4, 1/8) not below SIZE: faster, not to the bit
    },
    "DATASET": {
        "ROOT": key("", path()),
        "NAME": "",
        "SOURCE_DOMAINS": key((), _names()),
        "TARGET_DOMAINS": key((), _names()),
        # NUM_LABELED, VAL_PERCENT and ALL_AS_UNLABELED are for data sets written for upstream Dassl
        "NUM_LABELED": key(-1, whole(1, besides=-1)),
        "NUM_SHOTS": key(-1, whole(1, besides=-1)),  # images per class; -1 = all
        "VAL_PERCENT": _probability(0.1),
        "ALL_AS_UNLABELED": False,
    },
    "DATALOADER": {
        "NUM_WORKERS": key(4, whole(0, 1024)),
        "K_TRANSFORMS": key(1, whole(1)),
        "RETURN_IMG0": False,
        "PERSISTENT_WORKERS": False,  # True: training workers live on between epochs: faster epochs, but a resumed run draws other augmentations
        "TRAIN_X": dict(_TRAIN_LOADER),
        "TRAIN_U": {"SAME_AS_X": True, **_TRAIN_LOADER},
        # a test counts every image once
        "TEST": {
            "SAMPLER": key("SequentialSampler", one_of("SequentialSampler", "RandomSampler")),
            "BATCH_SIZE": key(32, whole(1)),
        },
    },
    "MODEL": {
        "INIT_WEIGHTS": key("", path()),
        "BACKBONE": {"NAME": key("", path()), "PRETRAINED": True},
        "HEAD": {
            "NAME": key("", one_of(_listed("dassl.modeling", "HEAD_REGISTRY"), empty=True)),
            "HIDDEN_LAYERS": key(
                (), several(whole(1), "give whole numbers from 1, such as (512, 256)")
            ),
            "ACTIVATION": key("relu", one_of("relu", "leaky_relu", "gelu", "tanh")),
            "BN": True,
            "DROPOUT": key(0.0, number(0, 1)),
        },
    },
    "OPTIM": {
        "NAME": key("adam", one_of(_listed("dassl.optim.optimizer", "AVAI_OPTIMS"))),
        "LR": key(3e-4, number(0)),
        "WEIGHT_DECAY": key(5e-4, number(0)),
        "MOMENTUM": key(0.9, number(0, 1)),
        "SGD_DAMPNING": key(0, number(0, 1)),
        "SGD_NESTEROV": False,
        "RMSPROP_ALPHA": key(0.99, number(0, 1)),
        "ADAM_BETA1": key(0.9, _BETA),
        "ADAM_BETA2": key(0.999, _BETA),
        "STAGED_LR": False,
        "NEW_LAYERS": key((), _names()),
        "BASE_LR_MULT": key(0.1, number(0)),
        "LR_SCHEDULER": key(
            "single_step", one_of(_listed("dassl.optim.lr_scheduler", "AVAI_SCHEDS"))
        ),
        "STEPSIZE": key(
            (-1,),
            several(  # epochs; -1 = MAX_EPOCH
                whole(1, besides=-1),
                "give one or more epochs from 1, the earlier ones first, or (-1,)",
                least=1,
                rising=True,
            ),
        ),
        "GAMMA": key(0.1, number(0)),
        "MAX_EPOCH": key(10, whole(1)),
        "WARMUP_EPOCH": key(-1, whole(-1)),
        "WARMUP_TYPE": key("linear", one_of(_listed("dassl.optim.lr_scheduler", "AVAI_WARMUPS"))),
        "WARMUP_CONS_LR": key(1e-5, number(0)),
        "WARMUP_MIN_LR": key(1e-5, number(0)),
        "WARMUP_RECOUNT": True,
    },
    "TRAIN": {
        "CHECKPOINT_FREQ": key(0, whole(0)),  # epochs; 0 = only after the last one
        "PRINT_FREQ": key(10, whole(1)),  # batches
        # length of an epoch of TrainerXU
        "COUNT_ITER": key("train_x", one_of("train_x", "train_u", "smaller_one")),
    },
    "TEST": {
        "EVALUATOR": key(
            "Classification", one_of(_listed("dassl.evaluation", "EVALUATOR_REGISTRY"))
        ),
        "PER_CLASS_RESULT": False,
        "COMPUTE_CMAT": False,
        "NO_TEST": False,
        "SPLIT": key("test", one_of("val", "test")),
        "FINAL_MODEL": key("last_step", one_of("last_step", "best_val")),
        "SELECT_BY": "",  # metric by which best_val chooses, e.g. worst_group_accuracy; empty: the first
    },
    "TRAINER": {"NAME": ""},
}
