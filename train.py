"""One run: a configuration in; checkpoints, log.txt and results.json out. See --help."""

from dassl import program
from tools.command_line import FLAGS, parse_args

program.while_importing(__name__)
if __name__ == "__main__":  # --help needs no torch, which takes seconds to import
    ARGUMENTS = parse_args()
    if ARGUMENTS.list:
        from tools import listing

        raise SystemExit(listing.main(ARGUMENTS.root))

import argparse
import dataclasses
import functools
import os
import os.path as osp
import shlex
import sys
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import torch
import yaml
from yacs.config import CfgNode

import datasets
import trainers
from dassl import distributed, files, record, strict_yaml
from dassl.config import (
    MODEL,
    affects,
    cfg_to_dict,
    file_part,
    get_cfg_default,
    merge_from_dict,
    merge_from_list,
)
from dassl.data.datasets import DATASET_REGISTRY
from dassl.engine import (
    TRAINER_REGISTRY,
    build_trainer,
    data_hashes,
    differences,
    in_words,
    run_hash,
    run_settings,
    settings_hash,
)
from dassl.identity import changes, of_settings, other_versions
from dassl.names import did_you_mean
from dassl.printable import CONTROL, any_text_can_be_written
from dassl.utils import (
    UserError,
    check_availability,
    collect_env_info,
    deterministic,
    load_checkpoint,
    mkdir_if_missing,
    read_json,
    set_random_seed,
    setup_logger,
)
from dassl.utils.tools import atomic_write
from datasets.files import is_utf8, shown
from tools import configs, effects
from tools.inputs import InputError
from tools.protocols import PROTOCOLS
from trainers.backbone import as_read
from trainers.checkpoints import class_names_of
from trainers.clips import HUB
from trainers.craft import Craft


@functools.cache
def _parsed(path: str, time: int):
    """What a YAML file holds. A sweep reads the same few files for each of a thousand runs."""
    with open(path, encoding="utf-8") as file:
        return strict_yaml.load(file, scalars=True) or {}


def read_config(path: str) -> list[tuple[str, dict]]:
    """[(file, tree)] of a YAML file, preceded by those of the file that its key BASE names.

    BASE is relative to the file.

    Raises UserError for a missing or malformed file, or files that include each other.
    """
    files_and_trees: list[tuple[str, dict]] = []
    while path:
        if any(path == seen for seen, _ in files_and_trees):
            raise UserError(f"config file '{path}' includes itself through BASE: break the circle")
        named = f", the BASE of '{files_and_trees[0][0]}'," if files_and_trees else ""
        try:
            tree = _parsed(path, os.stat(path).st_mtime_ns)
        except OSError as error:
            raise UserError(
                f"config file '{path}'{named} cannot be read ({error.strerror}): "
                f"{_which_there_are(path)}"
            ) from None
        except (yaml.YAMLError, UnicodeDecodeError) as error:
            raise UserError(
                f"config file '{path}' is not valid YAML: {' '.join(str(error).split())}"
            ) from None
        if not isinstance(tree, dict):
            raise UserError(f"config file '{path}' holds no 'KEY: value' pairs")
        tree = dict(tree)
        base = tree.pop("BASE", "")
        if not isinstance(base, str):
            shown = base.text if isinstance(base, strict_yaml.Scalar) else "no text"
            raise UserError(
                f"BASE (in '{path}') is {shown}: name the config file to start from, relative to "
                "this one"
            )
        files_and_trees.insert(0, (path, tree))
        path = files.straight(osp.join(osp.dirname(path), osp.expanduser(base))) if base else ""
    return files_and_trees


def _which_there_are(path: str) -> str:
    """The remedy for a missing config file: the names in its folder, or those beside it."""
    if two := _two_files(path):
        return two
    folder, wanted = (path, "") if osp.isdir(path) else osp.split(path)
    if not osp.isdir(folder or "."):
        folder, wanted = osp.split(folder)
    try:
        entries = list(os.scandir(folder or "."))
    except OSError:
        return "correct the path"
    names = sorted(osp.splitext(entry.name)[0] for entry in entries if entry.name.endswith(".yaml"))
    names = names or sorted(
        entry.name for entry in entries if entry.is_dir() and not entry.name.startswith(".")
    )
    if not names:
        return "correct the path"
    hint = did_you_mean(osp.splitext(wanted)[0], names)
    return f"{hint}in '{folder or '.'}' there are {', '.join(names)}"


def _two_files(path: str) -> str:
    """The remedy where older versions had one file for a structure's config with CRAFT, or ""."""
    trainer, config = Path(path).parent.name, Path(path).stem
    if Path(path).parent.parent.name != "trainers" or not configs.has_craft(trainer):
        return ""
    with suppress(InputError):
        both = configs.files(trainer, config)
        return "give two files, " + " ".join(f"--config-file {file}" for file in both)
    return ""


def reset_cfg(cfg, args: argparse.Namespace) -> None:
    """Merge the given flags into the configuration."""
    for flag, key in FLAGS.items():
        if getattr(args, flag) not in (None, "", []):
            merge_from_list(cfg, [key, getattr(args, flag)])


def extend_cfg(cfg) -> None:
    """Add the keys of this project's trainers and data sets."""
    trainers.extend_cfg(cfg)
    datasets.extend_cfg(cfg)


def setup_cfg(args: argparse.Namespace):
    """Frozen configuration: defaults < data set config < trainer configs < flags < KEY VALUE."""
    for word in (args.dataset_config_file, *args.config_file, args.model_dir):
        if CONTROL.search(word):
            raise UserError(f"the path {word!r} has control characters: rename the file or folder")
    cfg = get_cfg_default()
    extend_cfg(cfg)
    asked_for_cuda = False
    for given in (
        [args.dataset_config_file] if args.dataset_config_file else []
    ) + args.config_file:
        for path, tree in read_config(given):
            merge_from_dict(cfg, tree, f" (in '{path}')")
            asked_for_cuda |= "USE_CUDA" in tree
    reset_cfg(cfg, args)
    merge_from_list(cfg, args.opts)
    asked_for_cuda |= "USE_CUDA" in args.opts[::2]
    if asked_for_cuda and cfg.USE_CUDA and not torch.cuda.is_available():
        raise UserError(
            "USE_CUDA is True but torch finds no CUDA device: set USE_CUDA False to run on the "
            "CPU, or install a "
            "torch build and driver for your GPU"
        )
    for key, value, hint in (
        ("TRAINER.NAME", cfg.TRAINER.NAME, "--trainer"),
        ("OUTPUT_DIR", cfg.OUTPUT_DIR, "--output-dir"),
        ("DATASET.NAME", cfg.DATASET.NAME, "--dataset-config-file"),
    ):
        if not value:
            raise UserError(f"{key} is not set: give {hint}")
    check_availability(cfg.TRAINER.NAME, TRAINER_REGISTRY.registered_names(), "trainer")
    check_availability(cfg.DATASET.NAME, DATASET_REGISTRY.registered_names(), "dataset")
    if cfg.DATASET.TARGET:
        check_availability(cfg.DATASET.TARGET, DATASET_REGISTRY.registered_names(), "data set")
    check_selection(cfg)
    cfg.freeze()
    return cfg


def check_selection(cfg) -> None:
    """Raise UserError if `tools.select` chose the settings with another CLIP than this run's.

    Warn if it chose them on another version of the run's data.
    """
    known = cfg.SELECTION.CLIP
    if known and known != (here := run_settings(cfg)["MODEL.BACKBONE.NAME"]):
        raise UserError(
            f"SELECTION.CLIP is {known[:12]}, with which the settings were selected, but "
            f"MODEL.BACKBONE.NAME '{cfg.MODEL.BACKBONE.NAME}' is {here[:12]}: select the settings "
            "with this CLIP"
        )
    for what in cfg.SELECTION.DATA and other_versions(cfg.SELECTION.DATA, data_hashes(cfg)):
        warnings.warn(
            f"the settings were selected on another version of the {what} (SELECTION.DATA), whose "
            "training or validation images may be tested now: select the settings anew",
            stacklevel=2,
        )


def models_of(args: argparse.Namespace, cfg) -> record.Models:
    """The models of other runs that a run takes, for its record."""
    model = {
        "model_dir": osp.relpath(args.model_dir, cfg.OUTPUT_DIR) if args.model_dir else "",
        "epoch": args.load_epoch,
    }
    if cfg.EVAL_ONLY:
        return record.Models(loaded=model)
    return record.Models(began_from=model if args.model_dir else None)


def check_flags(args: argparse.Namespace) -> None:
    """Raise UserError for a flag without effect."""
    if args.load_epoch is not None and not args.model_dir:
        raise UserError(
            f"--load-epoch is {args.load_epoch}, but no model is loaded: name the folder of a "
            "training run with --model-dir, or leave --load-epoch out"
        )


def check_description(args: argparse.Namespace) -> None:
    """Raise UserError for a run that no table could find: an unknown protocol or data set."""
    try:
        if args.protocol:
            configs.check(args.protocol, PROTOCOLS, "--protocol")
        for dataset in (args.source, args.target):
            if dataset and dataset != Path(args.dataset_config_file).stem:
                configs.dataset_file(dataset)
    except InputError as error:
        raise UserError(str(error)) from None
    if args.protocol and args.eval_only and args.model_dir and not args.source:
        raise UserError(
            f"the record of a test for --protocol {args.protocol} has to tell what the model in "
            f"'{args.model_dir}' was trained on: give that data set with --source"
        )


def check_names(args: argparse.Namespace, cfg) -> None:
    """Raise UserError if a record for a protocol would name other data sets than the run has."""
    if not args.protocol:
        return
    tested, known = Path(args.dataset_config_file).stem, name_in(args.dataset_config_file)
    if known and cfg.DATASET.NAME != known:
        raise UserError(
            f"DATASET.NAME is {cfg.DATASET.NAME}, and tables would call it '{tested}', which is "
            f"{known}: give the data set's own file with --dataset-config-file"
        )
    trains = not cfg.EVAL_ONLY
    if trains and args.source not in ("", tested):
        raise UserError(
            f"--source is {args.source}, but this run trains on {tested}: leave --source out, or "
            "test a model of it with --eval-only --model-dir"
        )
    if trains and args.target:
        wanted = name_in(configs.dataset_file(args.target))
        if cfg.DATASET.TARGET != wanted and not cfg.DATASET.get("TARGET_DOMAINS"):
            raise UserError(
                f"--target is {args.target}, but DATASET.TARGET is '{cfg.DATASET.TARGET}': give "
                f"DATASET.TARGET {wanted}, or leave --target out"
            )
    if not args.eval_only:
        return
    try:
        trained = record.description(record.peek(Path(args.model_dir, record.NAME)))
    except ValueError:
        return
    for flag, here, there in (
        ("--source", args.source, trained.source if trained else args.source),
        ("--target", args.target, trained.target if trained else args.target),
    ):
        if here and here != there:
            how = f"with '{there}': give {flag} {there}" if there else f"without: leave {flag} out"
            raise UserError(
                f"{flag} is {here}, but the model in '{args.model_dir}' was trained {how}"
            )


def other_files(args: argparse.Namespace, trainer: str) -> list[str]:
    """Sentences on config files of other trainers, which most likely were not meant.

    A learning rate of another structure trains badly, not at all wrongly, so it is no error; and
    zero-shot CLIP is often given the file of a structure.
    """
    sentences = []
    structure = configs.structure_of(trainer)
    for file in map(Path, args.config_file):
        folder = file.resolve().parent
        if folder.name == "craft" and not configs.has_craft(trainer):
            sentences.append(
                f"'{file}' has options of CRAFT, which {trainer} does not read: did you mean "
                f"--trainer Craft{trainer}?"
            )
        elif folder.parent == Path(configs.ROOT, "configs/trainers") and configs.learns(trainer):
            if folder.name not in (trainer, structure):
                sentences.append(
                    f"'{file}' has the settings of {folder.name}, not of {structure}: give a file "
                    f"of configs/trainers/{structure}"
                )
    return sentences


def without_effect(args: argparse.Namespace, cfg) -> list[str]:
    """Sentences on keys of the command line that no part of the run reads.

    Scripts of other codes pass such keys, and no result is wrong for them, so they are no errors.
    """
    flags = [key for flag, key in FLAGS.items() if getattr(args, flag) not in (None, "", [])]
    return [
        f"{key} has no effect: {reason}"
        for key in dict.fromkeys([*flags, *args.opts[::2]])
        if (reason := effects.unread(cfg, key))
    ]


def name_in(file: str) -> str:
    """The DATASET.NAME of a data set's config; "" if it has none."""
    tree = configs.merged([file])
    return str((tree.get("DATASET") or {}).get("NAME", ""))


def preset_of(args: argparse.Namespace, trainer: str) -> str:
    """The preset of CRAFT's options: the last file of configs/craft, or what a config's name says.

    The latter is of a file of one's own, which holds the options itself.
    """
    presets = [Path(file).stem for file in args.config_file if Path(file).parent.name == "craft"]
    named = configs.split(trainer, configs.name_of(args.config_file))[1]
    return presets[-1] if presets else named or configs.DEFAULT


def described(args: argparse.Namespace, trainer) -> dict:
    """Which run it is, for its record: a `record.Description`, as a dict."""
    cfg, kind = trainer.cfg, type(trainer)
    with_craft = issubclass(kind, Craft)
    # A Craft trainer is a subclass of its structure, which is registered, too.
    known = {registered: name for name, registered in TRAINER_REGISTRY}
    plain = [base for base in kind.__mro__ if base in known and not issubclass(base, Craft)]
    tested = Path(args.dataset_config_file).stem
    run = record.Description(
        protocol=args.protocol,
        study=args.study,
        part="test" if args.source else "train",
        source=args.source or tested,
        tested=tested,
        target=args.target,
        subset=cfg.DATASET.SUBSAMPLE_CLASSES,
        trainer=cfg.TRAINER.NAME,
        structure=known[plain[0]] if plain else cfg.TRAINER.NAME,
        craft=preset_of(args, cfg.TRAINER.NAME) if with_craft else "",
        learns=bool(trainer.get_model_names()),
        config=configs.name_of(args.config_file),
        shots="all" if cfg.DATASET.NUM_SHOTS < 1 else str(cfg.DATASET.NUM_SHOTS),
        seed=cfg.SEED,
    )
    return dataclasses.asdict(run)


def is_done(cfg, args: argparse.Namespace) -> bool:
    """Whether OUTPUT_DIR holds complete results of this run and of the model to be loaded."""
    path, taken = Path(cfg.OUTPUT_DIR, record.NAME), models_of(args, cfg)
    try:
        return record.is_done(record.read(path), path, run_hash(cfg), taken, args.model_dir)
    except (OSError, ValueError, RecursionError):
        return False


def check_output(cfg, args: argparse.Namespace) -> None:
    """Raise UserError if OUTPUT_DIR already holds another run's results: they would be lost.

    Also if its name is not UTF-8.
    """
    if not is_utf8(cfg.OUTPUT_DIR):  # TensorBoard could not write there
        raise UserError(
            f"OUTPUT_DIR is '{shown(cfg.OUTPUT_DIR)}', which is not UTF-8: choose another "
            "--output-dir"
        )
    path = osp.join(cfg.OUTPUT_DIR, "results.json")
    if files.is_special(path):
        raise UserError(
            f"'{path}' is a pipe or a device: move it away, or choose another --output-dir"
        )
    check_config_file(cfg.OUTPUT_DIR)
    if not osp.isfile(path):
        return
    stored = read_json(path)
    stored = record.as_now(stored) if isinstance(stored, dict) else {}
    if different := record.difference(stored, cfg, run_hash(cfg), models_of(args, cfg)):
        raise UserError(
            f"'{path}' holds results of another run ({different}): move that folder away, or "
            "choose another --output-dir"
        )


def _comparable(*weights: str) -> bool:
    """Whether all are existing files or folders, or all names of models: others have no content."""
    return all(map(osp.exists, map(file_part, weights))) or not any(map(_is_path, weights))


def _is_path(name: str) -> bool:
    """Whether a CLIP's name is that of a file or folder, there or not; models have names, too."""
    path = file_part(name)
    return osp.isabs(path) or not path.startswith(HUB) and bool(osp.splitext(path)[1])


def stored_run_of(model_dir: str, epoch: int | None) -> dict:
    """The record of the run in a folder; of one that was stopped, what its checkpoint tells."""
    path = osp.join(model_dir, "results.json")
    if osp.isfile(path):
        return read_json(path)
    found = sorted(Path(model_dir).glob(f"*/{files.checkpoint_name(epoch)}"))
    return load_checkpoint(str(found[0])) if found else {}


def check_model(cfg, model_dir: str, epoch: int | None = None) -> None:
    """Raise UserError if the model in `model_dir` was trained with other options than `cfg`.

    Of trainer, CLIP or method: wrong prompts can load without a shape error. A folder of another
    code, whose checkpoints do not tell their options, is taken as it is.
    """
    stored_run = stored_run_of(model_dir, epoch)
    try:
        different, stored = differences(stored_run["config"], cfg), CfgNode(stored_run["config"])
        weights = stored.MODEL.BACKBONE.NAME
        same_hash = of_settings(stored_run["config_hash"]) == settings_hash(stored)
        replaced = osp.exists(file_part(weights)) and not same_hash
    except (AttributeError, KeyError, TypeError):
        return  # of an older version
    if replaced:
        raise UserError(
            f"the model in '{model_dir}' was trained with another content of '{weights}': restore "
            "that file"
        )
    different = [
        (key, theirs, ours)
        for key, theirs, ours in different
        if affects(key) == MODEL
        and "absent" not in (theirs, ours)
        and (key != "MODEL.BACKBONE.NAME" or _comparable(str(theirs), str(ours)))
    ]
    if different:
        raise UserError(
            f"the model in '{model_dir}' was trained with other settings ({in_words(different)}): "
            "give the test those of the training"
        )
    if (stored.DATASET.NAME, stored.DATASET.get("FOLDER", "")) == (
        cfg.DATASET.NAME,
        cfg.DATASET.get("FOLDER", ""),
    ):
        for what in changed_lists(stored_run.get("data"), cfg):
            sys.stdout.write(
                f"Warning: the {what} changed since the model in '{model_dir}' was trained: images "
                "that it learned may be tested now\n"
            )


def changed_lists(data: object, cfg) -> list[str]:
    """Files of the data set, "data" of a training's record, that a test of `cfg` finds changed."""
    here = data_hashes(cfg)
    return [
        what
        for what in changes(data, here)
        if isinstance(data, dict)
        and what in data
        and what in here
        and not what.startswith("index file")
    ]


def warn_of_classes(trainer, model_dir: str) -> None:
    """Warn if a trainer of another code tests classes that may not fit the run in `model_dir`.

    Such a trainer does not compare class names itself, and does not tell what it learns per class.
    """
    path = osp.join(model_dir, "results.json")
    if hasattr(trainer, "check_classes") or not osp.isfile(path):
        return
    stored = read_json(path)
    theirs = class_names_of(stored)
    ours = [trainer.lab2cname[label] for label in sorted(trainer.lab2cname)]
    if not theirs or list(map(as_read, theirs)) == list(map(as_read, ours)):
        return
    for model in trainer.get_model_names():
        for name, value in trainer._models[model].named_parameters():
            if value.requires_grad and value.dim() and len(value) == len(theirs):
                sys.stdout.write(
                    f"Warning: the model in '{model_dir}' was trained on other classes, and "
                    f"'{name}' has "
                    f"{len(theirs)} rows, as many: if they are the classes, the result means "
                    "nothing\n"
                )
                return


def check_cut(trainer, model_dir: str) -> None:
    """Raise UserError if a random cut has other sides than the model's training.

    A cut is drawn from the classes of a data set. Another one that has some of them only is cut
    elsewhere, so that classes would count as new that the model in `model_dir` learned.
    """
    node, path = trainer.cfg.DATASET, osp.join(model_dir, "results.json")
    if not node.get("CUT", 0) or node.SUBSAMPLE_CLASSES == "all" or not osp.isfile(path):
        return
    theirs = {tuple(as_read(name)) for name in class_names_of(read_json(path)) or ()}
    new = node.SUBSAMPLE_CLASSES == "new"
    wrong = [n for n in trainer.lab2cname.values() if (tuple(as_read(n)) in theirs) == new]
    if theirs and wrong and node.SUBSAMPLE_CLASSES in ("base", "new"):
        raise UserError(
            f"DATASET.CUT {node.CUT} of {node.NAME} puts {len(wrong)} class(es) among the "
            f"{node.SUBSAMPLE_CLASSES} ones that the model in '{model_dir}' "
            f"{'learned' if new else 'did not learn'}, first '{wrong[0]}': test on data sets with "
            "the classes of the training, or set DATASET.CUT to 0"
        )


def check_processes(cfg, args: argparse.Namespace) -> None:
    """Raise UserError if the processes of this run differ in their settings, paths aside."""
    settings = {
        **run_settings(cfg),
        "EVAL_ONLY": cfg.EVAL_ONLY,
        "USE_CUDA": cfg.USE_CUDA,
        "TRAIN.CHECKPOINT_FREQ": cfg.TRAIN.CHECKPOINT_FREQ,
        "--load-epoch": args.load_epoch,
        "--no-train": args.no_train,
        "--skip-done": args.skip_done,
    }
    first, *others = distributed.gather_objects(settings)
    for number, other in enumerate(others, 1):
        for key in sorted(first.keys() | other.keys()):
            here, there = first.get(key), other.get(key)
            if here != there:
                raise UserError(
                    f"the processes of this run differ in {key} ({here} in the first, {there} in "
                    f"process {number}): start all of them with the same command and the same files"
                )


@contextmanager
def output_folder(folder: str) -> Iterator[None]:
    """Hold OUTPUT_DIR, made if missing, for this run. Raises UserError if another run has it."""
    if not distributed.is_main():  # the first process holds it for all
        yield
        return
    mkdir_if_missing(folder)
    with ExitStack() as stack:
        try:
            locked = stack.enter_context(files.folder_lock(folder or "."))
        except files.Busy as error:
            raise UserError(
                f"another run is writing to '{folder}' ({error}): wait for its end, "
                "or choose another --output-dir"
            ) from None
        except OSError as error:
            raise UserError(
                f"cannot write to the folder '{folder}' ({error.strerror}): correct its rights, "
                "or choose another --output-dir"
            ) from None
        if not locked:
            sys.stdout.write(
                f"Note: the file system of '{folder}' has no locks, so nothing keeps a second "
                "run out of this folder\n"
            )
        yield


def run(args: argparse.Namespace) -> None:
    check_flags(args)
    check_description(args)
    cfg = setup_cfg(args)
    check_names(args, cfg)
    check_processes(cfg, args)
    if args.skip_done and is_done(cfg, args):
        sys.stdout.write(f"Done already: {cfg.OUTPUT_DIR}\n")
        return
    if args.model_dir:
        check_model(cfg, args.model_dir, args.load_epoch)
    files.shorten_tempdir()
    with output_folder(cfg.OUTPUT_DIR):
        check_output(cfg, args)
        work(cfg, args)


def write_config(cfg) -> None:
    """Write the configuration to OUTPUT_DIR/config.yaml, whole or not at all, and say so.

    USE_CUDA True is left out: it is the default, and a file that asks for it is refused on a
    machine without a GPU.
    """
    if not distributed.is_main():
        return
    path, tree = osp.join(cfg.OUTPUT_DIR, record.CONFIG), cfg_to_dict(cfg)
    if cfg.USE_CUDA:
        del tree["USE_CUDA"]
    text = record.CONFIG_HEAD + yaml.safe_dump(tree, sort_keys=True, allow_unicode=True, width=100)
    atomic_write(path, lambda file: file.write(text.encode()))
    sys.stdout.write(f"Configuration: {path} (all {len(record.flat(cfg_to_dict(cfg)))} keys)\n")


def check_config_file(folder: str) -> None:
    """Raise UserError if the folder holds a config.yaml of the user's own: it would be lost."""
    path = osp.join(folder, record.CONFIG)
    if not osp.lexists(path):
        return
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            ours = file.readline() == record.CONFIG_HEAD
    except OSError as error:
        raise UserError(
            f"'{path}' cannot be read ({error.strerror}): move it away, or choose another "
            "--output-dir"
        ) from None
    if not ours:
        raise UserError(
            f"'{path}' was not written by a run, which would overwrite it: give it another name, "
            "or choose another --output-dir"
        )


def work(cfg, args: argparse.Namespace) -> None:
    """What a run does in its folder: train and test, or test the model of another run."""
    with ExitStack() as stack:
        if cfg.SEED >= 0:
            stack.enter_context(deterministic())
            set_random_seed(cfg.SEED)
        else:
            distributed.share_random_states()
            torch.backends.cudnn.benchmark = True
        _work(cfg, args)


def _work(cfg, args: argparse.Namespace) -> None:
    setup_logger(cfg.OUTPUT_DIR)
    sys.stdout.write(f"{shlex.join(['train.py', *args.words])}\n\n")
    write_config(cfg)
    for sentence in (*other_files(args, cfg.TRAINER.NAME), *without_effect(args, cfg)):
        sys.stdout.write(f"Note: {sentence}\n")
    sys.stdout.write(f"\n{collect_env_info(cfg.USE_CUDA)}\n\n")
    trainer = build_trainer(cfg)
    taken, trainer.described = models_of(args, cfg), described(args, trainer)
    trainer.loaded, trainer.began_from = taken.loaded, taken.began_from
    if cfg.EVAL_ONLY and not args.model_dir and trainer.get_model_names():
        raise UserError(
            f"--eval-only would test {cfg.TRAINER.NAME} without what it learns: name the folder of "
            "a training run with --model-dir, or leave --eval-only out to train"
        )
    if args.model_dir:
        with suppress(OSError):  # of which load_model says more
            trainer.model_sha256 = files.model_checksum(args.model_dir, args.load_epoch)
    if args.model_dir or cfg.EVAL_ONLY:
        trainer.load_model(args.model_dir, epoch=args.load_epoch)
        warn_of_classes(trainer, args.model_dir)
        check_cut(trainer, args.model_dir)
    if cfg.EVAL_ONLY:
        trainer.test()
    elif not args.no_train:
        trainer.train()
    else:
        sys.stdout.write("Note: with --no-train, and without --eval-only, nothing was trained\n")


AGAIN = "run the same command again to go on from the last checkpoint"


def main(args: argparse.Namespace) -> int:
    """0; 2 after one sentence about bad input; 130 after Ctrl-C; 141 if nobody reads stdout.

    Of several processes that fail, one says why.
    """
    any_text_can_be_written()
    try:
        with program.interruptible():
            distributed.start()
            run(args)
            distributed.stop()
            sys.stdout.flush()
        return 0
    except UserError as error:
        code, sentence = 2, f"error: {error}"
    except KeyboardInterrupt:
        code, sentence = program.INTERRUPTED, f"interrupted: {AGAIN}"
    except Exception as error:
        if not isinstance(error, BrokenPipeError) or not program.drop_unread():
            if distributed.first_to_fail(f"error: {type(error).__name__}: {error}"):
                raise
            return 1
        code, sentence = program.UNREAD, f"stopped, since nobody reads the output: {AGAIN}"
    if distributed.first_to_fail(sentence):
        program.say(sentence)
    return code


if __name__ == "__main__":
    warnings.filterwarnings("ignore", message="pkg_resources is deprecated")
    sys.exit(main(ARGUMENTS))
