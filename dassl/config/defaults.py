"""Every key that the engine knows, declared once. Trainers and data sets add keys of their own."""

from collections.abc import Callable
from dataclasses import replace
from importlib import import_module

from dassl.config.rules import (
    LOG,
    MODEL,
    NOTHING,
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


def _listed(module: str, name: str) -> Callable[[], list[str]]:
    """The names in a list, dict or registry of another module, which is imported when they are
    needed.
    """

    def names() -> list[str]:
        holder = getattr(import_module(module), name)
        return getattr(holder, "registered_names", lambda: list(holder))()

    return names


def _probability(default: float, help: str) -> Key:
    return key(default, number(0, 1), help)


def _names() -> Several:
    return several(text(empty=False), "give a list of names, such as ('a', 'b')")


def _some_of(module: str, name: str) -> Several:
    known = _listed(module, name)
    words = "give a list of some of "
    return several(one_of(known), lambda: words + ", ".join(known()), distinct=True)


_SAMPLERS = one_of(_listed("dassl.data.samplers", "AVAI_SAMPLERS"))
_BETA = number(0, 0.999999)  # of 1, Adam would divide by 0

_TRAIN_LOADER = {
    "SAMPLER": key("RandomSampler", _SAMPLERS, "How the images of a batch are drawn."),
    "BATCH_SIZE": key(32, whole(1), "Images per batch, of all processes together."),
    "N_DOMAIN": key(0, whole(0), "RandomDomainSampler: domains per batch; 0: all."),
    "N_INS": key(16, whole(1), "RandomClassSampler: images per class in a batch."),
    "DROP_LAST": key(
        False, help="True drops the last incomplete batch of an epoch, as upstream Dassl does."
    ),
}

_LOG = {
    "WANDB": key(
        False,
        help="True sends curves to Weights & Biases too (`pip install wandb`), under the account "
        "of `wandb login`.",
        affects=LOG,
    ),
    "WANDB_PROJECT": key("craft", text(empty=False), "Project of Weights & Biases.", affects=LOG),
}

_INPUT = {
    "SIZE": key(
        (224, 224),
        several(whole(1), "give height and width, two whole numbers from 1, such as (224, 224)", 2),
        "Height and width of the images that the model takes, in pixels.",
        affects=MODEL,
    ),
    "INTERPOLATION": key(
        "bilinear",
        one_of(_listed("dassl.data.transforms.transforms", "INTERPOLATION_MODES")),
        "How images are resized.",
    ),
    "TRANSFORMS": key(
        (),
        _some_of("dassl.data.transforms.transforms", "AVAI_CHOICES"),
        "Transforms of training images, applied in a fixed order. A test resizes, crops the centre "
        "and takes normalize.",
    ),
    "NO_TRANSFORM": key(False, help="True hands on images as they are stored."),
    "PIXEL_MEAN": key(
        [0.485, 0.456, 0.406],
        several(number(), "give three numbers, for red, green and blue", 3),
        "normalize: mean of each channel, of values from 0 to 1.",
    ),
    "PIXEL_STD": key(
        [0.229, 0.224, 0.225],
        several(positive(), "give three positive numbers, for red, green and blue", 3),
        "normalize: standard deviation of each channel.",
    ),
    "CROP_PADDING": key(4, whole(0, 4096), "random_crop: padding on each side, in pixels."),
    "RRCROP_SCALE": key(
        (0.08, 1.0),
        several(
            number(1e-6, 1),
            "give the least and the greatest share of the area to keep, above 0 and up to 1",
            2,
            rising=True,
        ),
        "random_resized_crop: least and greatest share of the area that a crop keeps.",
    ),
    "CUTOUT_N": key(1, whole(1), "cutout: number of squares set to 0."),
    "CUTOUT_LEN": key(16, whole(2), "cutout: side of a square, in pixels."),
    "GN_MEAN": key(0.0, number(), "gaussian_noise: mean."),
    "GN_STD": key(0.15, number(0), "gaussian_noise: standard deviation."),
    "RANDAUGMENT_N": key(2, whole(1), "randaugment: operations per image."),
    "RANDAUGMENT_M": key(10, whole(0, 30), "randaugment: magnitude of the operations."),
    "COLORJITTER_B": key(0.4, number(0), "colorjitter: change of brightness."),
    "COLORJITTER_C": key(0.4, number(0), "colorjitter: change of contrast."),
    "COLORJITTER_S": key(0.4, number(0), "colorjitter: change of saturation."),
    "COLORJITTER_H": key(0.1, number(0, 0.5), "colorjitter: change of hue."),
    "RGS_P": _probability(0.2, "randomgrayscale: probability."),
    "GB_P": _probability(0.5, "gaussian_blur: probability."),
    "GB_K": key(21, whole(1, odd=True), "gaussian_blur: side of the kernel, in pixels."),
    "TRANSPARENCY": key(
        "drop",
        one_of("drop", "white"),
        "drop takes the colours of transparent pixels as stored, as published; white puts them on "
        "white.",
        as_before=("drop",),
    ),
    "UPRIGHT": key(
        False,
        help="True turns photos as EXIF says; False takes them as stored, as published.",
        as_before=(False,),
    ),
    "DRAFT": key(
        False,
        help=(
            "True decodes JPEGs at a fraction (1/2, 1/4, 1/8) not below SIZE: faster, but not to "
            "the bit."
        ),
    ),
}

_DATASET = {
    "ROOT": key("", path(), "Folder of the data sets.", affects=NOTHING, set_by="set it by --root"),
    "NAME": key("", help="Name of the data set's class.", set_by="set it by datasets"),
    "SOURCE_DOMAINS": key((), _names(), "Domains to train on, of a data set that has domains."),
    "TARGET_DOMAINS": key((), _names(), "Domains to test on, of a data set that has domains."),
    "NUM_LABELED": key(
        -1,
        whole(1, besides=-1),
        "Labelled images, for data sets written for upstream Dassl; -1: all.",
    ),
    "NUM_SHOTS": key(
        -1, whole(1, besides=-1), "Training images per class; -1: all.", set_by="set it by shots"
    ),
    "VAL_PERCENT": _probability(
        0.1, "Share of validation images, for data sets written for upstream Dassl."
    ),
    "ALL_AS_UNLABELED": key(
        False,
        help=(
            "True takes labelled images as unlabelled too, for data sets written for upstream "
            "Dassl."
        ),
    ),
}

_DATALOADER = {
    "NUM_WORKERS": key(
        4,
        whole(0, 1024),
        "Processes that load images; 0: the run's process. Each has an augmentation stream of its "
        "own.",
    ),
    "K_TRANSFORMS": key(1, whole(1), "Augmented versions of each training image in a batch."),
    "RETURN_IMG0": key(False, help="True adds the image without augmentation to a batch (`img0`)."),
    "PERSISTENT_WORKERS": key(
        False,
        help=(
            "True keeps training workers between epochs: faster, but a resumed run draws other "
            "augmentations."
        ),
    ),
    "TRAIN_X": dict(_TRAIN_LOADER),
    "TRAIN_U": {
        "SAME_AS_X": key(True, help="True loads unlabelled images with the options of TRAIN_X."),
        **_TRAIN_LOADER,
    },
    # a test counts every image once
    "TEST": {
        "SAMPLER": key(
            "SequentialSampler",
            one_of("SequentialSampler", "RandomSampler"),
            "Order of the images of a test.",
        ),
        "BATCH_SIZE": key(32, whole(1), "Images per batch of a test."),
    },
}

_MODEL = {
    "INIT_WEIGHTS": key(
        "", path(), "Weights file from which learned parameters start.", affects="result"
    ),
    "BACKBONE": {
        "NAME": key(
            "",
            path(),
            "Name of a backbone or an OpenAI CLIP, open_clip:ARCH/PRETRAINED, hf:ORG/MODEL, or a "
            "weights file or model folder.",
        ),
        "PRETRAINED": key(True, help="True loads pretrained weights into a registered backbone."),
    },
    "HEAD": {
        "NAME": key(
            "",
            one_of(_listed("dassl.modeling", "HEAD_REGISTRY"), empty=True),
            "Layers between a backbone and the classifier.",
        ),
        "HIDDEN_LAYERS": key(
            (),
            several(whole(1), "give whole numbers from 1, such as (512, 256)"),
            "Width of each layer of the head.",
        ),
        "ACTIVATION": key(
            "relu", one_of("relu", "leaky_relu", "gelu", "tanh"), "Activation of the head."
        ),
        "BN": key(True, help="True normalises each layer of the head over the batch."),
        "DROPOUT": key(0.0, number(0, 1), "Probability of dropout in the head."),
    },
}

_OPTIM = {
    "NAME": key("adam", one_of(_listed("dassl.optim.optimizer", "AVAI_OPTIMS")), "The optimiser."),
    "LR": key(3e-4, number(0), "Learning rate at the start."),
    "WEIGHT_DECAY": key(5e-4, number(0), "Weight decay."),
    "MOMENTUM": key(0.9, number(0, 1), "Momentum of sgd and rmsprop."),
    "SGD_DAMPNING": key(0, number(0, 1), "Dampening of sgd's momentum."),
    "SGD_NESTEROV": key(False, help="True takes Nesterov's momentum with sgd."),
    "RMSPROP_ALPHA": key(0.99, number(0, 1), "Smoothing constant of rmsprop."),
    "ADAM_BETA1": key(0.9, _BETA, "First decay rate of adam, amsgrad, adamw and radam."),
    "ADAM_BETA2": key(0.999, _BETA, "Second decay rate of adam, amsgrad, adamw and radam."),
    "ADAM_EPS": key(
        1e-8,
        positive("set it to a positive number", least=0),
        "Number that keeps divisions of adam, amsgrad and adamw finite.",
        as_before=(1e-8,),
    ),
    "STAGED_LR": key(False, help="True trains layers outside NEW_LAYERS at LR * BASE_LR_MULT."),
    "NEW_LAYERS": key((), _names(), "STAGED_LR: layers that train at LR."),
    "BASE_LR_MULT": key(0.1, number(0), "STAGED_LR: factor of LR for all other layers."),
    "LR_SCHEDULER": key(
        "single_step",
        one_of(_listed("dassl.optim.lr_scheduler", "AVAI_SCHEDS")),
        "How the learning rate falls.",
    ),
    "STEPSIZE": key(
        (-1,),
        several(
            whole(1, besides=-1),
            "give one or more epochs from 1, the earlier ones first, or (-1,)",
            least=1,
            rising=True,
        ),
        "single_step: epochs between two falls; multi_step: epochs of the falls; -1: MAX_EPOCH.",
    ),
    "GAMMA": key(0.1, number(0), "Factor of the learning rate at a fall."),
    "MAX_EPOCH": key(10, whole(1), "Epochs to train."),
    "WARMUP_EPOCH": key(-1, whole(-1), "Epochs of warm-up; 0 or -1: none."),
    "WARMUP_TYPE": key(
        "linear",
        one_of(_listed("dassl.optim.lr_scheduler", "AVAI_WARMUPS")),
        "How the learning rate behaves during warm-up.",
    ),
    "WARMUP_CONS_LR": key(1e-5, number(0), "Learning rate of a constant warm-up."),
    "WARMUP_MIN_LR": key(1e-5, number(0), "Learning rate at the start of a linear warm-up."),
    "WARMUP_RECOUNT": key(
        True,
        help="True starts the schedule after the warm-up; False counts epochs of warm-up in it.",
    ),
}

_TEST = {
    "EVALUATOR": key(
        "Classification",
        one_of(_listed("dassl.evaluation", "EVALUATOR_REGISTRY")),
        "What a test computes.",
    ),
    "METRICS": key(
        (),
        _some_of("dassl.evaluation", "METRICS"),
        "Further metrics that a test computes, each a file of `dassl/evaluation/metrics/`.",
        as_before=((), []),
    ),
    "PER_CLASS_RESULT": key(False, help="True prints the accuracy of every class."),
    "COMPUTE_CMAT": key(False, help="True saves the confusion matrix as OUTPUT_DIR/cmat.pt."),
    "SAVE_OUTCOMES": key(
        True,
        help="True saves what a test said about each image as OUTPUT_DIR/outcomes_SPLIT.npz.",
        affects=NOTHING,
    ),
    "NO_TEST": key(False, help="True trains without a test at the end."),
    "SPLIT": key("test", one_of("train", "val", "test"), "Images that are tested."),
    "FINAL_MODEL": key(
        "last_step",
        one_of("last_step", "best_val"),
        "Model that is tested after training: of the last epoch, or of the best one on validation "
        "images.",
    ),
    "SELECT_BY": key(
        "",
        help="Metric by which best_val chooses, e.g. worst_group_accuracy; empty: the first one.",
    ),
}

_SELECTION = {
    "RULE": key(
        "",
        one_of("accuracy", "likelihood", "folds", "source", "target", "worst_group", empty=True),
        "Rule by which `tools.select` chose the settings; empty: settings of no selection. Tables "
        "tell it.",
        affects=NOTHING,
    ),
    "ON": key("", help="Data sets, images and seeds that the rule looked at.", affects=NOTHING),
    "CLASSES": key(
        "",
        help="Classes that the selection looked at: all, or base with the cut. Tables tell where "
        "these are not the classes that a row was trained on.",
        affects=NOTHING,
    ),
    "BUDGET": key(0, whole(0), "Number of candidates that the rule chose from.", affects=NOTHING),
    "CLIP": key(
        "",
        help="SHA-256, or name, of the CLIP that the settings were chosen with, which a run with "
        "another one refuses; empty: any.",
        affects=NOTHING,
    ),
    "DATA": key(
        (),
        _names(),
        "Files of the data sets that the selection looked at: the first digits of their SHA-256, "
        "and their names. A run on another version of one says so, and so do tables.",
        affects=NOTHING,
    ),
    "DIGEST": key("", help="Digest of the `selection.json` that tells all.", affects=NOTHING),
}

DEFAULTS = {
    "VERSION": key(1, one_of(1), "Version of the configuration's format."),
    "OUTPUT_DIR": key(
        "./output",
        path(utf8=True),
        "Folder of checkpoints, log.txt and results.json.",
        affects=NOTHING,
        set_by="set it by --output",
    ),
    "RESUME": key(
        "",
        path(),
        "Folder of an earlier run to continue. A run continues from checkpoints in OUTPUT_DIR in "
        "any case.",
        affects=NOTHING,
        set_by="each run continues from its own folder",
    ),
    "EVAL_ONLY": key(
        False,
        help=(
            "True tests without training (`train.py --eval-only`) and skips what only training "
            "needs."
        ),
        affects=NOTHING,
        set_by="tests follow from the protocol",
    ),
    "SEED": key(
        -1,
        whole(most=2**63 - 1),
        "Seed of all random numbers; a negative seed leaves them random.",
        set_by="set it by seeds",
    ),
    "USE_CUDA": key(True, help="True runs on the GPU if CUDA finds one.", affects=NOTHING),
    "VERBOSE": key(True, help="False prints less when data and trainer are built.", affects=LOG),
    "LOG": _LOG,
    "INPUT": _INPUT,
    "DATASET": _DATASET,
    "DATALOADER": _DATALOADER,
    "MODEL": _MODEL,
    "OPTIM": _OPTIM,
    "TRAIN": {
        "CHECKPOINT_FREQ": key(
            0,
            whole(0),
            "Epochs between two checkpoints; 0: one after the last epoch.",
            affects=NOTHING,
        ),
        "PRINT_FREQ": key(
            0,
            whole(0),
            "Batches between two lines of the log within an epoch; 0: one line an epoch.",
            affects=LOG,
        ),
        "COUNT_ITER": key(
            "train_x",
            one_of("train_x", "train_u", "smaller_one"),
            "Loader whose length is the length of an epoch with unlabelled images.",
        ),
    },
    "TEST": _TEST,
    "SELECTION": {
        name: replace(
            one, set_by="tools.select writes it into the config of the settings that it chose"
        )
        for name, one in _SELECTION.items()
    },
    "TRAINER": {"NAME": key("", help="Name of the trainer's class.", set_by="set it by trainers")},
}
