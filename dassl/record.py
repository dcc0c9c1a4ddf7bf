"""The record of a run, results.json: read, validated, compared. The engine writes it.

A record tells which run it is under "run" (see `Description`), which model it tested under "loaded"
(another run's) or "deployed" (its own), which one its training began from under "began_from", and
what it reached under "metrics". Records of older versions have no "run".
Nothing here imports torch, except the comparison of two configurations.
"""

import fnmatch
import functools
import json
from collections.abc import Iterable
from dataclasses import dataclass, fields
from pathlib import Path

from dassl import files
from dassl.files import is_file, same_model
from dassl.identity import changes, same_run

NAME = "results.json"

# What else is in a run's folder. Tools write over none of it (`is_kept`).
CONFIG = "config.yaml"
CONFIG_HEAD = "# The whole configuration of a run, written by train.py; --config-file takes it.\n"
LOG = "log.txt"
OUTCOMES = "outcomes_{}.npz"  # of a split
CONFUSION = "cmat.pt"
PICTURES = "pictures.json"  # what the pictures in memory of a training were
WANDB_ID = "wandb_id.txt"
MARK, ERRORS = "sweep.json", "stderr.txt"  # of a run of a sweep
FEATURES = "features-{}.safetensors"  # of a data set, for figures
_KEPT = {NAME, CONFIG, LOG, f"{LOG}-*", OUTCOMES.format("*"), CONFUSION, PICTURES, WANDB_ID}
_KEPT |= {MARK, ERRORS, FEATURES.format("*"), files.CHECKSUMS, files.LOCK}

# Key: the kind of its value. A record must have the required ones; the others may be absent or
# null.
REQUIRED: dict[str, type | tuple[type, ...]] = {"complete": bool, "metrics": dict, "config": dict}
KINDS: dict[str, type | tuple[type, ...]] = {
    **REQUIRED,
    "run": dict,
    "loaded": dict,
    "loaded.model_dir": str,
    "loaded.epoch": int,
    "began_from": dict,
    "model_sha256": str,
    "epochs": int,
    "seed": int,
    "wall_time_s": (int, float),
    "started": str,
    "finished": str,
    "versions": dict,
    "config_hash": str,
    "data": dict,
    "config.TRAIN": dict,
    "config.DATASET": dict,
    "config.TRAINER": dict,
    "config.TRAINER.NAME": str,
}


# Reading


def read(path: Path) -> dict:
    """What a results.json holds. Raises OSError, or ValueError for what no run writes."""
    return _parsed(path, path.stat().st_mtime_ns)


@functools.cache
def _parsed(path: Path, time: int) -> dict:
    """A page with all protocols asks for each file many times."""
    if not is_file(path):
        raise ValueError("it is a pipe or a device")
    record = json.loads(path.read_text(encoding="utf-8"))
    if not isinstance(record, dict):
        raise ValueError("it holds no object")
    for key, kind in KINDS.items():
        found = value(record, key)
        if found is None and key not in REQUIRED or isinstance(found, kind):
            continue
        raise ValueError(f"it lacks {key}" if found is None else f"its {key} is {found!r}")
    return as_now(record)


def as_now(record: dict) -> dict:
    """A record as this version writes it.

    Older ones called the model that a training began from "loaded", as if the run had tested it.
    """
    loaded, epochs = record.get("loaded"), record.get("epochs")
    # A model without training has the folder "", an earlier epoch of the run's own the folder ".".
    if epochs and isinstance(loaded, dict) and loaded.get("model_dir") not in ("", "."):
        return {**record, "loaded": None, "began_from": loaded}
    return record


def value(record: dict, key: str):
    """What is under the key, its parts joined by dots; None if nothing is."""
    node: object = record
    for part in key.split("."):
        node = node.get(part) if isinstance(node, dict) else None
    return node


def peek(path: Path) -> dict:
    """A JSON object as it is; {} if none can be read."""
    try:
        record = json.loads(path.read_bytes()) if is_file(path) else {}
        return as_now(record) if isinstance(record, dict) else {}
    except (OSError, ValueError, RecursionError):
        return {}


# Which files are a run's


def is_kept(path: Path) -> bool:
    """Whether a run keeps a file of this name there, written yet or not.

    By the content of the folder: files of the same names may be the user's own elsewhere.
    """
    if files.is_checkpoint(path):
        return True
    name = path.name.lower()  # not every system tells A from a
    return any(fnmatch.fnmatchcase(name, kept) for kept in _KEPT) and _is_run(path.parent)


def _is_run(folder: Path) -> bool:
    """Whether a run wrote, or began to write, into the folder."""
    if REQUIRED.keys() <= peek(folder / NAME).keys() or is_file(folder / MARK):
        return True
    if files.is_locked(str(folder)):
        return True
    config = folder / CONFIG
    try:
        if is_file(config) and config.read_bytes().startswith(CONFIG_HEAD.encode()):
            return True
        return files.holds_checkpoints(folder)
    except OSError:
        return False


# Which run it is


@dataclass(frozen=True)
class Description:
    """Which run it is, in the words of scripts, plans and folders.

    protocol: its name, "" for a run of none. study: the folder above the protocol's, e.g. the
    variant of an ablation. part: train for a run in a training's place, test for a further test of
    its model. source, tested, target: data sets trained on, tested, and whose images were learned
    from without labels (files in configs/datasets). subset: classes tested (all, base, new).
    structure: the trainer without CRAFT. craft: the preset of CRAFT's options, "" without CRAFT.
    learns: False for zero-shot CLIP. config: name of the config. shots: a number or "all".
    """

    protocol: str = ""
    study: str = ""
    part: str = "train"
    source: str = ""
    tested: str = ""
    target: str = ""
    subset: str = "all"
    trainer: str = ""
    structure: str = ""
    craft: str = ""
    learns: bool = True
    config: str = ""
    shots: str = "all"
    seed: int = -1


def description(record: dict) -> Description | None:
    """Which run a record is of; None for records that tell no protocol.

    Raises ValueError for a description that lacks a field, or has a value of another kind.
    """
    stored = record.get("run") or {}
    if not stored.get("protocol"):
        return None
    known = {field.name: stored.get(field.name) for field in fields(Description)}
    for field in fields(Description):
        if field.name not in stored:
            raise ValueError(f"it lacks run.{field.name}")
        if type(known[field.name]) is not field.type:
            raise ValueError(f"its run.{field.name} is {known[field.name]!r}")
    return Description(**known)


# Which model


def is_training(record: dict) -> bool:
    """Whether the run trained its model itself, to the end."""
    finished = record.get("complete") is True and "deployed" in record
    return finished and not record.get("loaded")


def tested_epoch(record: dict) -> int | None:
    """The epoch of the model that the run tested last; None for the best one."""
    loaded = record.get("loaded")
    if loaded:
        return loaded.get("epoch")
    return None if record.get("deployed") == "best_val" else record.get("epochs")


def deployed(folder: Path) -> dict | None:
    """Checkpoint that a finished training deployed: {"epoch": n}, {"epoch": None} for model-best.

    None if no training finished in `folder`.
    """
    record = peek(folder / NAME)
    return {"epoch": tested_epoch(record)} if is_training(record) else None


# Is it this run, and is it done


@dataclass(frozen=True)
class Models:
    """The models of other runs that a run takes: {"model_dir": seen from its folder, "epoch": n}.

    loaded: that it tests; None if it trains. began_from: that its training begins with.
    """

    loaded: dict | None = None
    began_from: dict | None = None


def models(record: dict) -> Models:
    """As a record tells them."""
    return Models(record.get("loaded"), record.get("began_from"))


def is_of(record: dict, wanted: str, taken: Models) -> bool:
    """Whether a record is of the run with the hash `wanted` that takes these models."""
    return same_run(record.get("config_hash"), wanted) and models(record) == taken


def is_done(record: dict, path: Path, wanted: str, taken: Models, model_dir: str) -> bool:
    """Whether the record at `path` is complete, of this run, and of the model now in `model_dir`.

    model_dir: "" for a run without another's model. Raises OSError for a checkpoint that cannot be
    read.
    """
    if not record.get("complete") or not is_of(record, wanted, taken):
        return False
    model = taken.loaded or taken.began_from
    epoch = model["epoch"] if model else None
    return not model_dir or same_model(record, str(path), model_dir, epoch)


def model_in_words(loaded: object) -> str:
    """A model that a run took, from "loaded" or "began_from" of its record."""
    if not isinstance(loaded, dict) or not loaded.get("model_dir"):
        return "a model without training"
    epoch = loaded.get("epoch")
    return f"{'the best epoch' if epoch is None else f'epoch {epoch}'} of '{loaded['model_dir']}'"


def _in_words(taken: Models) -> str:
    if taken.loaded is not None:
        return f"a test of {model_in_words(taken.loaded)}"
    if taken.began_from is not None:
        return f"a training that began from {model_in_words(taken.began_from)}"
    return "a training"


def difference(record: dict, cfg, wanted: str, taken: Models) -> str:
    """How the run of `record` differs from the run of `cfg`.

    wanted, taken: the hash of the latter, and the models that it takes.
    Returns a clause, "" if they do not differ.
    """
    if not same_run(record.get("config_hash"), wanted):
        from dassl.engine import difference as of_configurations  # takes torch

        return of_configurations(record, cfg)
    if models(record) == taken:
        return ""
    return f"{_in_words(models(record))} there, {_in_words(taken)} here"


# What differs between two records


def flat(tree: dict, prefix: str = "") -> dict:
    """{KEY.KEY: value}."""
    leaves: dict = {}
    for name, node in tree.items():
        key = f"{prefix}{name}"
        leaves |= flat(node, f"{key}.") if isinstance(node, dict) else {key: node}
    return leaves


def settings(config: dict) -> dict[str, tuple]:
    """{KEY: (what counts, what the configuration says)} of what seeds of one cell have in common.

    That is what a run depends on, as train.py decides it, but for the seed; where that cannot be
    told, every key that a hash covers. Import `trainers` first: a trainer's class says which
    options it reads.
    """
    # Most tables need no comparison, and these take torch.
    from dassl.config import counts
    from dassl.engine import stored_settings

    try:
        known = stored_settings(config)
    except (AttributeError, KeyError, TypeError, OSError):  # OSError: weights that may not be read
        known = {key: (value, value) for key, value in flat(config).items() if counts(key)}
    # Seeds of JTT repeat errors of first runs of their own.
    if (errors := known.get("DATASET.REPEAT_FROM")) is not None:
        known["DATASET.REPEAT_FROM"] = (bool(errors[0]), errors[1])
    return {key: pair for key, pair in known.items() if key != "SEED"}


def comparable(record: dict) -> str:
    """The same text for runs that differ in nothing that a result depends on but seed and data."""
    counted = {key: value for key, (value, _) in settings(record["config"]).items()}
    return json.dumps(counted, sort_keys=True)


OF_SEED = ("index file", "outcomes of")
OF_TARGET = " of DATASET.TARGET"  # ends the names of a target's files
NO_DATA = "{}"


def data_of(record: dict) -> dict[str, str]:
    """{what: SHA-256} of the data set's files as the run read them; {} in old records.

    Without what each seed has of its own: the index file of few-shot picks, the errors of a first
    run (JTT).
    """
    stored = record.get("data") or {}
    return {what: sha for what, sha in stored.items() if not what.startswith(OF_SEED)}


def clip_of(record: dict) -> str:
    """SHA-256 of the CLIP's weights as the run read them; "" in old records."""
    return (record.get("pretrained") or {}).get("sha256") or ""


def text_of(record: dict) -> str:
    """All that a run depends on but for what differs between the seeds of a cell in any case."""
    config = {k: value for k, value in record["config"].items() if k not in ("SEED", "OUTPUT_DIR")}
    return json.dumps([config, data_of(record), clip_of(record)], sort_keys=True)


def kinds(records: Iterable[tuple[Path, dict]]) -> list[tuple[Path, dict]]:
    """The first (path, record) of each configuration, and of each content of the data files and of
    the CLIP as far as records tell it.
    """
    firsts: dict[tuple[str, str, str], tuple[Path, dict]] = {}
    for path, record in records:
        data = json.dumps(data_of(record), sort_keys=True)
        firsts.setdefault((comparable(record), data, clip_of(record)), (path, record))
    with_data = {config for config, data, _ in firsts if data != NO_DATA}
    with_clip = {(config, data) for config, data, clip in firsts if clip}
    return [
        first
        for (config, data, clip), first in firsts.items()
        if (data != NO_DATA or config not in with_data)
        and (clip or (config, data) not in with_clip)
    ]


def unequal(one: dict, other: dict) -> list[str]:
    """Keys and files of the data set in which two records differ, as far as both are known."""
    ours, theirs = settings(one["config"]), settings(other["config"])
    nothing = (None, None)
    keys = ours.keys() | theirs.keys()
    different = [key for key in keys if ours.get(key, nothing)[0] != theirs.get(key, nothing)[0]]
    clips = {clip_of(one), clip_of(other)} - {""}
    weights = ["weights of the CLIP"] if len(clips) > 1 else []
    return sorted(different) + weights + changes(data_of(one), data_of(other))
