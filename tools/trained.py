"""A trainer from what a finished run left in its folder, results.json and checkpoints; the data set need not be there.

Shared by tools.predict, tools.export, tools.interpret and tools.figures.
"""

import argparse
import contextlib
import functools
import io
import os.path as osp
import sys
from collections.abc import Callable, Sequence
from types import SimpleNamespace

import torch
from yacs.config import CfgNode

import datasets
import trainers
from dassl import files
from dassl.config import get_cfg_default, merge_from_dict
from dassl.data.datasets import DATASET_REGISTRY
from dassl.data.transforms import build_transform
from dassl.engine import TRAINER_REGISTRY, settings_hash
from dassl.identity import of_settings
from dassl.printable import CONTROL
from dassl.utils import UserError, read_json
from datasets.files import is_utf8, read_lines, stripped, text_for_clip
from tools import inputs
from trainers.backbone import as_read, same_as_read
from trainers.base import PromptTrainer, class_names_of


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


def load_from(args: argparse.Namespace) -> PromptTrainer:
    """`load` with the arguments of a command line."""
    return load(args.model_dir, class_names(args), args.load_epoch, args.weights)


def class_names(args: argparse.Namespace) -> list[str] | None:
    """What --classes or --classes-file says, None without them.

    Raises UserError for no or blank names, names that are the same text for CLIP, or an unreadable file.
    """
    given, path = getattr(args, "classes", None), getattr(args, "classes_file", None)
    if given is None and path is None:
        return None
    if path is not None:
        names = read_lines(path, "give a text file with one class name a line", "--classes-file ")
    else:
        names = [stripped(name) for name in given.split(",")]
    where = "--classes" if path is None else f"--classes-file '{path}'"
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
            f"{where} names '{same[0][0]}' and '{same[0][1]}', which are the same text for CLIP: give every class once"
        )
    return names


def main(run: Callable[[argparse.Namespace], int], args: argparse.Namespace) -> int:
    """`inputs.main`, with the errors of the engine."""
    return inputs.main(run, args, UserError)


def load(
    model_dir: str,
    classes: Sequence[str] | None = None,
    load_epoch: int | None = None,
    weights: str = "",
    instead: str = "leave out --classes and --classes-file",
) -> PromptTrainer:
    """The trainer of the run in `model_dir`, in evaluation mode, with its learned parameters, for its own class names or `classes`.

    Without `load_epoch` it holds the model that the run tested; that of an evaluation (--eval-only) is in the folder it
    names. `weights` replaces MODEL.BACKBONE.NAME. What is said on the way goes to stderr. Raises UserError for
    a folder without complete results, for `classes` that what was learned per class does not fit
    (`instead` is the remedy), or for CLIP weights or a checkpoint that do not fit.
    """
    path, (results, cfg) = osp.join(model_dir, "results.json"), read(model_dir)
    if not results["complete"] and load_epoch is None:
        raise UserError(
            f"the run in '{model_dir}' is not finished: run its command again, or choose a checkpoint with --load-epoch"
        )
    kind = TRAINER_REGISTRY.get(cfg.TRAINER.NAME)
    if not issubclass(kind, PromptTrainer):
        raise UserError(
            f"'{path}' is of the trainer {cfg.TRAINER.NAME}, which learns no prompts: give --model-dir a run of a prompt learner"
        )
    own = results.get("classnames")
    if classes is None and not own:
        raise UserError(
            f"'{path}' lacks 'classnames' (an older version wrote it): give --classes, or test the run again with train.py --eval-only"
        )
    cfg.MODEL.BACKBONE.NAME = weights or cfg.MODEL.BACKBONE.NAME
    with contextlib.redirect_stdout(sys.stderr):
        _for_use(cfg, kind.options)
        with contextlib.redirect_stdout(io.StringIO()) as said:  # what a log of training tells
            trainer = _without_data(kind, list(classes or own))(cfg)
        for line in said.getvalue().splitlines():
            if line.startswith("Warning: "):
                sys.stderr.write(f"{line}\n")
        trainer.backbone.say = functools.partial(print, file=sys.stderr)
        here, there = (
            _hash(results["config"], cfg.MODEL.BACKBONE.NAME),
            of_settings(results.get("config_hash") or ""),
        )
        if here and there and here != there:
            print(
                f"note: '{cfg.MODEL.BACKBONE.NAME}' seems to be another CLIP than the run's (the configuration's hash is {here} with it, not "
                f"{there}): results may differ"
            )
        # What was learned per class is of no use for others. Their number alone does not tell.
        given, known = (list(map(as_read, names or ())) for names in (classes, own))
        other = given and known and given != known
        if other and (names := ", ".join(f"'{name}'" for name in trainer.learned_per_class())):
            raise UserError(
                f"the run in '{model_dir}' learned {names} for each of its classes, which no other "
                f"class can use: {instead}"
            )
        if trainer.get_model_names():
            trainer.load_model(*_checkpoint(model_dir, results, load_epoch))
        trainer.set_model_mode("eval")
    return trainer


def read(model_dir: str) -> tuple[dict, CfgNode]:
    """What results.json says, and the configuration in it. Raises UserError if it is not there or not what a run writes."""
    path = osp.join(model_dir, "results.json")
    try:
        results = read_json(path)
    except OSError as error:
        raise UserError(
            f"'{path}' cannot be read ({error.strerror}): give --model-dir the folder of a finished run"
        ) from None
    for key, kind in (("complete", bool), ("config", dict), ("epochs", int)):
        if not isinstance(results, dict) or not isinstance(results.get(key), kind):
            raise UserError(
                f"'{path}' lacks '{key}': give --model-dir the folder of a run of train.py"
            )
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
    merge_from_dict(cfg, results["config"], f" (in '{path}')")
    if cfg.MODEL.BACKBONE.ACTIVATION == "auto":  # what it came to, also with --weights
        cfg.MODEL.BACKBONE.ACTIVATION = "quick_gelu"
    return results, cfg


def _hash(config: dict, weights: str) -> str | None:
    """The hash of the run's settings, which covers the content of the CLIP file, as it would be with `weights`; None if the configuration is incomplete.

    Of the stored configuration alone: options that came later are not in the run's hash.
    """
    stored = CfgNode(config)
    try:
        stored.MODEL.BACKBONE.NAME = weights
        return settings_hash(stored)
    except (AttributeError, KeyError):
        return None


def _checkpoint(model_dir: str, results: dict, load_epoch: int | None) -> tuple[str, int | None]:
    """Folder and epoch (None: the best) of the model that the run tested, or of the epoch asked for."""
    loaded = results.get("loaded")
    if loaded and not loaded["model_dir"]:
        raise UserError(
            f"the run in '{model_dir}' tested a model that had not been trained: give --model-dir the folder of a training run"
        )
    if loaded:
        folder, epoch = osp.normpath(osp.join(model_dir, loaded["model_dir"])), loaded["epoch"]
    else:
        folder, epoch = (
            model_dir,
            None if results.get("deployed") == "best_val" else results["epochs"],
        )
    return folder, epoch if load_epoch is None else load_epoch


def model_checksum(model_dir: str, results: dict) -> str | None:
    """The checksum of the checkpoints that the run in `model_dir` tested; None if it learned nothing.

    results: its results.json. Raises OSError for a checkpoint that cannot be read.
    """
    loaded = results.get("loaded")
    if loaded and not loaded["model_dir"]:
        return None
    return files.model_checksum(*_checkpoint(model_dir, results, None))


def _for_use(cfg: CfgNode, options: str) -> None:
    """Switch off what only training needs, and half precision where this machine lacks it."""
    cfg.EVAL_ONLY, cfg.VERBOSE, cfg.OUTPUT_DIR, cfg.MODEL.INIT_WEIGHTS = True, False, "", ""
    cfg.TEST.EVALUATOR = "Classification"  # others look into the data set
    cfg.TRAINER.COMPILE = False  # takes longer than some images
    if (
        options
        and cfg.TRAINER[options].PREC == "fp16"
        and not (cfg.USE_CUDA and torch.cuda.is_available())
    ):
        print("note: the run used fp16, which needs a CUDA device: using fp32")
        cfg.TRAINER[options].PREC = "fp32"
    cfg.freeze()


class _Classes:
    """Stands for a data set: class names, and what its Python class says, which only some methods ask for; no images."""

    train_x = train_u = val = test = ()

    def __init__(self, cfg: CfgNode, classnames: list[str]):
        self.classnames, self._name = classnames, cfg.DATASET.NAME
        if cfg.DATASET.TEMPLATE:
            self.templates = (cfg.DATASET.TEMPLATE,)

    def __getattr__(self, name: str):
        return getattr(DATASET_REGISTRY.get(self._name), name)


def _without_data(kind: type[PromptTrainer], classnames: list[str]) -> type[PromptTrainer]:
    """The trainer `kind` for these classes, with no images to load."""

    class Trained(kind):
        def build_data_loader(self) -> None:
            self.train_loader_x = self.train_loader_u = self.val_loader = self.test_loader = None
            self.num_classes, self.num_source_domains, self.lab2cname = (
                len(classnames),
                0,
                dict(enumerate(classnames)),
            )
            self.dm = SimpleNamespace(
                dataset=_Classes(self.cfg, classnames),
                tfm_test=build_transform(self.cfg, is_train=False),
            )

        def build_backbone(self) -> None:
            try:
                super().build_backbone()
            except UserError as error:
                raise UserError(
                    f"{error} (here with --weights, which takes the CLIP of the run)"
                ) from None

    return Trained
