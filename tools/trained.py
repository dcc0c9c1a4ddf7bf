"""A model from what a finished run left in its folder: results.json and checkpoints.

The data set is not needed. Shared by tools.predict, tools.export, tools.interpret and
tools.figures.
"""

import argparse
import contextlib
import functools
import io
import os
import os.path as osp
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from yacs.config import CfgNode

import datasets
import trainers
from dassl import distributed, files, record
from dassl.config import file_part, get_cfg_default, merge_from_dict
from dassl.data.datasets import DATASET_REGISTRY
from dassl.data.transforms import build_transform
from dassl.engine import TRAINER_REGISTRY, settings_hash
from dassl.identity import of_settings
from dassl.printable import CONTROL
from dassl.utils import UserError, read_json
from datasets.files import is_utf8, read_lines, stripped, text_for_clip
from tools.configs import ROOT
from trainers.backbone import Backbone, as_read, same_as_read
from trainers.base import PromptTrainer, leave_half, make_backbone, warn_of_same_tokens
from trainers.checkpoints import class_names_of, load_prompts
from trainers.model import PromptedCLIP
from trainers.terms import TERMS

LEARNED = "learned"  # in the folder of a fit of tools.fit, the run whose model is used


@dataclass
class Trained:
    """The model of a finished run, and how the run read its images.

    cfg: the run's configuration, with what this machine needs. transform: of its test images, from
    a picture to (3, R, R).
    """

    cfg: CfgNode
    clip: PromptedCLIP
    transform: Callable | None


def add_arguments(parser: argparse.ArgumentParser, classes: bool = True) -> None:
    """The arguments that `load_from` reads."""
    parser.add_argument(
        "--model-dir",
        type=osp.expanduser,
        required=True,
        metavar="DIR",
        help="folder of a finished run: it holds results.json and the checkpoint",
    )
    parser.add_argument(
        "--load-epoch",
        type=int,
        metavar="N",
        help="epoch to load; without it the model that the run tested",
    )
    parser.add_argument(
        "--weights",
        type=osp.expanduser,
        default="",
        metavar="BACKBONE",
        help="the run's CLIP, if it is no longer where the run found it",
    )
    if classes:
        names = parser.add_mutually_exclusive_group()
        names.add_argument(
            "--classes", metavar='"cat,dog"', help="class names instead of those of the training"
        )
        names.add_argument(
            "--classes-file", type=osp.expanduser, metavar="FILE", help="the same, one name a line"
        )


def load_from(args: argparse.Namespace) -> Trained:
    """`load` with the arguments of a command line."""
    return load(args.model_dir, class_names(args), args.load_epoch, args.weights)


def files_of(args: argparse.Namespace) -> list[str]:
    """The files that `load_from` reads besides the run's: of the CLIP, and the class names."""
    results = record.peek(Path(args.model_dir, record.NAME))
    clip = file_part(str(args.weights or record.value(results, "config.MODEL.BACKBONE.NAME") or ""))
    found = []
    for path in (clip, osp.join(ROOT, clip)) if clip else ():
        found += [osp.join(path, name) for name in os.listdir(path)] if osp.isdir(path) else [path]
    return [*found, getattr(args, "classes_file", None) or ""]


def class_names(args: argparse.Namespace) -> list[str] | None:
    """The names of --classes or --classes-file, None without them.

    Raises UserError for no or blank names, names that are the same text for CLIP, or an unreadable
    file.
    """
    given, path = getattr(args, "classes", None), getattr(args, "classes_file", None)
    if path is not None:
        names = read_lines(path, "give a text file with one class name a line", "--classes-file ")
    elif given is not None:
        names = [stripped(name) for name in given.split(",")]
    else:
        return None
    check_names(names, "--classes" if path is None else f"--classes-file '{path}'")
    return names


def check_names(names: Sequence[str], where: str) -> None:
    """Raise UserError, which begins with `where`, for names that cannot be those of classes.

    No name, blank names, names that are the same text for CLIP, and names that are no text.
    """
    if not any(names):
        raise UserError(f"{where} holds no class name: give one or more")
    if blank := [name for name in names if not text_for_clip(name)]:
        raise UserError(f"{where} has the blank name '{blank[0]}': take it out")
    if not is_utf8("".join(names)):
        raise UserError(f"{where} has a name that is not UTF-8 text: correct it")
    if odd := next((name for name in names if CONTROL.search(name)), None):
        raise UserError(f"{where} has the class name {odd!r} with control characters: correct it")
    if twice := next((name for name in names if names.count(name) > 1), None):
        raise UserError(f"{where} names '{twice}' twice: give every class once")
    if same := same_as_read(names):
        raise UserError(
            f"{where} names '{same[0][0]}' and '{same[0][1]}', which are the same text for CLIP: "
            "give every class once"
        )


def check_several(names: Sequence[str], remedy: str) -> None:
    """Raise UserError for a single class: its probability would be 1 for every image."""
    if len(names) < 2:
        raise UserError(
            f"'{names[0]}' is the only class, and would have probability 1 for every image: give "
            f"two or more{remedy}"
        )


def load(
    model_dir: str,
    classes: Sequence[str] | None = None,
    load_epoch: int | None = None,
    weights: str = "",
    instead: str = "leave out --classes and --classes-file",
    cuda: bool | None = None,
) -> Trained:
    """The model of the run in `model_dir` with its learned parameters, in evaluation mode.

    It is for the run's class names, or for `classes`. Without `load_epoch` it is the model that the
    run tested; that of an evaluation (--eval-only) is in the folder it names. `weights` replaces
    MODEL.BACKBONE.NAME, and `cuda` USE_CUDA. Messages go to stderr. Raises UserError for a folder
    without complete results, for `classes` that what was learned per class does not fit (`instead`
    is the remedy), for CLIP weights or a checkpoint that do not fit, or for another checkpoint than
    an evaluation tested.
    """
    path, (results, cfg) = osp.join(model_dir, "results.json"), read(model_dir)
    if not results["complete"] and load_epoch is None:
        raise UserError(
            f"the run in '{model_dir}' is not finished: run its command again, or choose a "
            "checkpoint with --load-epoch"
        )
    kind = TRAINER_REGISTRY.get(cfg.TRAINER.NAME)
    if not isinstance(kind, type) or not issubclass(kind, PromptTrainer):
        raise UserError(
            f"'{path}' is of the trainer {cfg.TRAINER.NAME}, which learns no prompts: give "
            "--model-dir a run of a prompt learner"
        )
    names = results.get("classnames")
    chosen = names if classes is None else classes
    if not chosen:
        raise UserError(
            f"'{path}' lacks 'classnames' (an older version wrote it): give --classes, or test the "
            "run again with train.py --eval-only"
        )
    cfg.MODEL.BACKBONE.NAME = weights or cfg.MODEL.BACKBONE.NAME
    cfg.USE_CUDA = cfg.USE_CUDA if cuda is None else cuda
    with contextlib.redirect_stdout(sys.stderr):
        _for_use(cfg, kind.options)
        clip = _build(kind, cfg, list(chosen))
        _warn_of_other_weights(results, cfg.MODEL.BACKBONE.NAME, clip.backbone.sha256)
        if classes is not None:
            _check_classes(clip, classes, names, model_dir, instead)
        if clip.prompts is not None:
            folder, epoch = checkpoint_of(model_dir, results, load_epoch)
            _check_tested(model_dir, results, folder, epoch)
            load_prompts(clip, folder, kind.model_name, epoch)
    return Trained(cfg, clip.eval(), build_transform(cfg, is_train=False))


def _build(kind: type[PromptTrainer], cfg: CfgNode, classnames: list[str]) -> PromptedCLIP:
    """The model of the trainer `kind` as it starts; of its messages only warnings are printed."""
    messages = io.StringIO()
    try:
        with contextlib.redirect_stdout(messages):
            clip = kind.make_clip(
                cfg,
                _backbone(cfg, kind.precision_of(cfg)),
                classnames,
                lambda: kind.templates_of(cfg, DATASET_REGISTRY.get(cfg.DATASET.NAME)),
            )
            if clip.prompts is not None:
                warn_of_same_tokens(classnames)
    finally:
        for line in messages.getvalue().splitlines():
            if line.startswith("Warning: "):
                sys.stderr.write(f"{line}\n")
    clip.backbone.say = functools.partial(print, file=sys.stderr)
    return clip


def _backbone(cfg: CfgNode, precision: str) -> Backbone:
    try:
        return make_backbone(cfg, precision, distributed.own_device(cfg.USE_CUDA))
    except UserError as error:
        raise UserError(f"{error} (here with --weights, which takes the CLIP of the run)") from None


def _warn_of_other_weights(results: dict, weights: str, content: str) -> None:
    """Say if the CLIP `weights` is not the one that the run with these results learned with.

    content: the SHA-256 of its weights.
    """
    if (results.get("pretrained") or {}).get("sha256") == content:
        return
    given = _hash(results["config"], weights)
    learned = of_settings(results.get("config_hash") or "")
    if given and learned and given != learned:
        print(
            f"note: '{weights}' seems to be another CLIP than the run's (the configuration's hash "
            f"is {given} with it, not {learned}): results may differ"
        )


def _check_classes(
    clip: PromptedCLIP,
    classes: Sequence[str],
    names: Sequence[str] | None,
    model_dir: str,
    instead: str,
) -> None:
    """Raise UserError if the run learned something for each of its classes `names`.

    Their number alone does not tell; names that are not known cannot be compared.
    """
    given, known = (list(map(as_read, listed or ())) for listed in (classes, names))
    if not known or given == known:
        return
    if learned := ", ".join(f"'{name}'" for name in clip.learned_per_class()):
        raise UserError(
            f"the run in '{model_dir}' learned {learned} for each of its classes, which no other "
            f"class can use: {instead}"
        )


def read(model_dir: str) -> tuple[dict, CfgNode]:
    """The content of results.json, and the configuration in it.

    Raises UserError if the file cannot be read, or is not what a run writes.
    """
    path = osp.join(model_dir, "results.json")
    try:
        results = read_json(path)
    except OSError as error:
        learned = osp.join(model_dir, LEARNED)
        if osp.isfile(osp.join(learned, "results.json")):
            raise UserError(
                f"'{model_dir}' is the folder of a fit: give --model-dir '{learned}', the run in it"
            ) from None
        raise UserError(
            f"'{path}' cannot be read ({error.strerror}): give --model-dir the folder of a "
            "finished run"
        ) from None
    for key, kind in (("complete", bool), ("config", dict), ("epochs", int)):
        if not isinstance(results, dict) or not isinstance(results.get(key), kind):
            raise UserError(
                f"'{path}' lacks '{key}': give --model-dir the folder of a run of train.py"
            )
    results = record.as_now(results)
    loaded, names = results.get("loaded"), class_names_of(results)
    if loaded and not (isinstance(loaded, dict) and isinstance(loaded.get("model_dir"), str)):
        raise UserError(
            f"'{path}' has a 'loaded' that no run writes: give --model-dir another folder"
        )
    if results.get("classnames") and names is None:
        raise UserError(
            f"'{path}' has 'classnames' that no run writes: give --model-dir another folder"
        )
    cfg = get_cfg_default()
    trainers.extend_cfg(cfg)
    datasets.extend_cfg(cfg)
    merge_from_dict(cfg, _known_groups(results["config"], cfg, path), f" (in '{path}')")
    _take_over(results.get("pretrained"), cfg)
    return results, cfg


def _take_over(pretrained: object, cfg: CfgNode) -> None:
    """Set what the run's CLIP told of itself, so that it also holds with --weights.

    pretrained: of results.json; older versions wrote none, when auto always came to quick_gelu.
    """
    told = pretrained if isinstance(pretrained, dict) else {}
    if cfg.MODEL.BACKBONE.ACTIVATION == "auto":
        cfg.MODEL.BACKBONE.ACTIVATION = told.get("activation", "quick_gelu")
    if isinstance(told.get("input"), dict):
        merge_from_dict(cfg, {"INPUT": told["input"]})
    cfg.MODEL.BACKBONE.INPUT = "config"


def _known_groups(config: dict, cfg: CfgNode, path: str) -> dict:
    """`config` without groups of TRAINER that `cfg` lacks: of a file that was taken out since.

    Raises UserError if the run read one of them. path: of the results.json.
    """
    groups = config.get("TRAINER")
    if not isinstance(groups, dict):
        return config
    lacking = [
        name for name in groups if isinstance(groups[name], dict) and name not in cfg.TRAINER
    ]
    if not lacking:
        return config
    name, terms = groups.get("NAME"), groups.get("TERMS") or ()
    absent = [] if str(name) in TRAINER_REGISTRY else [f"the trainer {name}"]
    absent += [f"the term {term}" for term in terms if str(term) not in TERMS]
    if absent:
        raise UserError(
            f"'{path}' has the group TRAINER.{lacking[0]}, which this checkout lacks, and is of "
            f"{' and '.join(absent)}: bring the file that declares it back to trainers/ or "
            "trainers/terms/"
        )
    kept = {name: value for name, value in groups.items() if name not in lacking}
    return config | {"TRAINER": kept}


def nodes(cfg: CfgNode) -> tuple[str, ...]:
    """Groups of keys under cfg.TRAINER that the run's trainer reads."""
    kind = TRAINER_REGISTRY.get(cfg.TRAINER.NAME)
    return kind.config_nodes(cfg) if hasattr(kind, "config_nodes") else ()


def _hash(config: dict, weights: str) -> str | None:
    """The hash of the run's settings with the CLIP `weights`, whose content it covers.

    None if the configuration is incomplete. Only the stored configuration counts: options that came
    later are not in the run's hash.
    """
    stored = CfgNode(config)
    try:
        stored.MODEL.BACKBONE.NAME = weights
        return settings_hash(stored)
    except (AttributeError, KeyError):
        return None


def checkpoint_of(model_dir: str, results: dict, load_epoch: int | None) -> tuple[str, int | None]:
    """Folder and epoch (None: the best) of the model that the run tested, or of `load_epoch`."""
    loaded = results.get("loaded")
    if loaded and not loaded["model_dir"]:
        raise UserError(
            f"the run in '{model_dir}' tested a model that had not been trained: give --model-dir "
            "the folder of a training run"
        )
    folder = osp.normpath(osp.join(model_dir, loaded["model_dir"])) if loaded else model_dir
    return folder, record.tested_epoch(results) if load_epoch is None else load_epoch


def _check_tested(model_dir: str, results: dict, folder: str, epoch: int | None) -> None:
    """Raise UserError if `folder` holds another model than the evaluation in `model_dir` tested.

    results: its results.json, whose numbers are of the tested model. Another epoch has no numbers
    there, and older versions stored no checksum.
    """
    tested = results.get("model_sha256")
    if not results.get("loaded") or not tested or epoch != record.tested_epoch(results):
        return
    if not files.is_replaced(folder, epoch, tested):  # load_prompts says what cannot be read
        return
    training = record.deployed(Path(folder)) is not None
    other = f", or give --model-dir '{folder}' for the model that is there now" if training else ""
    raise UserError(
        f"the checkpoint in '{folder}' is not the one that the run in '{model_dir}' tested: "
        f"restore it{',' if training else ' or'} test it again with train.py --eval-only{other}"
    )


def model_checksum(model_dir: str, results: dict) -> str | None:
    """The checksum of the checkpoints that the run in `model_dir` tested; None for none.

    results: its results.json. Raises OSError for a checkpoint that cannot be read.
    """
    loaded = results.get("loaded")
    if loaded and not loaded["model_dir"]:
        return None
    return files.model_checksum(*checkpoint_of(model_dir, results, None))


def _for_use(cfg: CfgNode, options: str) -> None:
    """Switch off what only training needs, and half precision where this machine lacks it."""
    cfg.EVAL_ONLY, cfg.VERBOSE, cfg.OUTPUT_DIR, cfg.MODEL.INIT_WEIGHTS = True, False, "", ""
    cfg.TEST.EVALUATOR = "Classification"  # others look into the data set
    cfg.TRAINER.COMPILE = False  # takes longer than some images
    if note := leave_half(cfg, options):
        print(note)
    cfg.freeze()
