import functools
import json
import logging
import operator
import os.path as osp
from collections.abc import Sequence

from yacs.config import CfgNode

from dassl import identity
from dassl.config import as_before, cfg_to_dict, config_hash, counted, hash_of
from dassl.data.datasets import DATASET_REGISTRY
from dassl.utils import Registry

log = logging.getLogger(__name__)

TRAINER_REGISTRY = Registry("TRAINER")


def _nodes(cfg) -> Sequence[str] | None:
    """The groups under TRAINER that the trainer's class says it reads; None if it says nothing."""
    trainer = (
        TRAINER_REGISTRY.get(cfg.TRAINER.NAME) if cfg.TRAINER.NAME in TRAINER_REGISTRY else None
    )
    return trainer.config_nodes(cfg) if trainer and hasattr(trainer, "config_nodes") else None


def run_settings(cfg) -> dict:
    """{key: value} of the settings on which the result of a run depends."""
    return counted(cfg, _nodes(cfg))


def settings_hash(cfg) -> str:
    """Hash of the settings on which the result of a run depends, without its data."""
    return config_hash(cfg, _nodes(cfg))


def run_hash(cfg, data: dict[str, str] | None = None, settings: dict | None = None) -> str:
    """Hash of the settings and data of a run. Compare two hashes with `identity.same_run`.

    data, settings: `data_hashes(cfg)` and `run_settings(cfg)`, if they are known already.
    """
    return identity.joined(
        settings_hash(cfg) if settings is None else hash_of(settings),
        data_hashes(cfg) if data is None else data,
    )


def data_files(cfg) -> dict[str, str]:
    """{description: path} of the files that decide which images are in which part and class.

    A folder counts by the names of its images. Data sets state these files in their class method
    `content(cfg)`; {} for a data set without it, such as those written for upstream Dassl.
    """
    if cfg.DATASET.NAME not in DATASET_REGISTRY:
        return {}
    content = getattr(DATASET_REGISTRY.get(cfg.DATASET.NAME), "content", None)
    return content(cfg) if content else {}


def data_hashes(cfg) -> dict[str, str]:
    """{description: SHA-256} of the existing `data_files`."""
    hashes = {what: _content(cfg, path) for what, path in data_files(cfg).items()}
    return {what: content for what, content in hashes.items() if content}


def _content(cfg, path: str) -> str | None:
    names = getattr(DATASET_REGISTRY.get(cfg.DATASET.NAME), "image_names", None)
    if names and osp.isdir(path):
        return identity.names_hash(path, names)
    return identity.file_hash(path)


def stored_settings(config: dict) -> dict[str, tuple]:
    """Return `run_settings` of a stored configuration: {key: (compared value, stored value)}.

    config: "config" of a results.json. The two values differ for an existing file, which is
    compared by content. Raises AttributeError, KeyError or TypeError if `config` is incomplete.
    """
    return {
        key: (value, functools.reduce(operator.getitem, key.split("."), config))
        for key, value in run_settings(CfgNode(config)).items()
    }


def differences(stored: dict, cfg) -> list[tuple[str, object, object]]:
    """Return (key, stored value, value in `cfg`) of the settings that differ and matter to a run.

    stored: "config" of a results.json or checkpoint. Files are compared by content and shown by
    name. A key that is missing on one side has the first value of its `as_before`, or "absent".
    Raises AttributeError, KeyError or TypeError if `stored` is not a whole configuration.
    """

    def find(values: dict[str, tuple], key: str) -> tuple:
        default = (as_before(key) or ("absent",))[0]
        return values.get(key, (default, default))

    theirs = stored_settings(stored)
    ours = stored_settings(json.loads(json.dumps(cfg_to_dict(cfg))))
    pairs = [
        (key, find(theirs, key), find(ours, key)) for key in sorted(theirs.keys() | ours.keys())
    ]
    return [(key, first[1], second[1]) for key, first, second in pairs if first[0] != second[0]]


def in_words(different: list[tuple[str, object, object]]) -> str:
    """The result of `differences` as a sentence."""
    return "; ".join(f"{key} is {theirs} there and {ours} here" for key, theirs, ours in different)


def difference(stored: dict, cfg, data: dict[str, str] | None = None) -> str:
    """Say how a stored run differs from a run of `cfg`.

    stored: a results.json or checkpoint. data: as for `run_hash`.
    """
    try:
        different = differences(stored["config"], cfg)
    except (AttributeError, KeyError, TypeError):
        return "it holds no whole configuration"
    changed = identity.changes(stored.get("data"), data_hashes(cfg) if data is None else data)
    reasons = [in_words(different)] if different else []
    reasons += [f"the {what} changed since" for what in changed]
    return "; ".join(reasons) or "the content of the weights file"


def build_trainer(cfg):
    """The trainer named TRAINER.NAME, built once. Raises UserError for an unknown name."""
    if cfg.VERBOSE:
        log.info(f"Loading trainer: {cfg.TRAINER.NAME}")
    return TRAINER_REGISTRY.get(cfg.TRAINER.NAME)(cfg)
