import functools
import json
import logging
import operator
import os.path as osp
from collections.abc import Sequence

from yacs.config import CfgNode

from dassl import identity
from dassl.config import as_before, cfg_to_dict, config_hash, counted
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
    """{key: value} of what a run of `cfg` depends on."""
    return counted(cfg, _nodes(cfg))


def settings_hash(cfg) -> str:
    """The hash of what a run of `cfg` depends on but for its data."""
    return config_hash(cfg, _nodes(cfg))


def run_hash(cfg, data: dict[str, str] | None = None) -> str:
    """The hash of what a run of `cfg` depends on. Compare two hashes with `identity.same_run`.

    data: `data_hashes(cfg)`, if it is known already.
    """
    return identity.joined(settings_hash(cfg), data_hashes(cfg) if data is None else data)


def data_files(cfg) -> dict[str, str]:
    """{what it is, in words: path} of all that decides which images are in which part and class.

    Of a folder the names of its images count. A data set tells in its class method `content(cfg)`;
    {} for one without, as those written for upstream Dassl are.
    """
    if cfg.DATASET.NAME not in DATASET_REGISTRY:
        return {}
    content = getattr(DATASET_REGISTRY.get(cfg.DATASET.NAME), "content", None)
    return content(cfg) if content else {}


def data_hashes(cfg) -> dict[str, str]:
    """{what it is, in words: SHA-256} of those `data_files` that are there."""
    hashes = {what: _content(cfg, path) for what, path in data_files(cfg).items()}
    return {what: content for what, content in hashes.items() if content}


def _content(cfg, path: str) -> str | None:
    names = getattr(DATASET_REGISTRY.get(cfg.DATASET.NAME), "image_names", None)
    if names and osp.isdir(path):
        return identity.names_hash(path, names)
    return identity.file_hash(path)


def stored_settings(config: dict) -> dict[str, tuple]:
    """`run_settings` of a stored configuration: {key: (what counts, what the configuration says)}.

    config: "config" of a results.json. The two differ for a file that is there: its content counts.
    Raises AttributeError, KeyError or TypeError for what is no whole configuration.
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
