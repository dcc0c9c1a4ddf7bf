import functools
import json
import operator
from collections.abc import Sequence

from yacs.config import CfgNode

from dassl.config import cfg_to_dict, config_hash, counted
from dassl.utils import Registry

TRAINER_REGISTRY = Registry("TRAINER")


def _nodes(cfg) -> Sequence[str] | None:
    """The groups under TRAINER that the trainer's class says it reads; None if it says nothing."""
    trainer = TRAINER_REGISTRY.get(cfg.TRAINER.NAME) if cfg.TRAINER.NAME in TRAINER_REGISTRY else None
    return trainer.config_nodes() if hasattr(trainer, "config_nodes") else None


def run_settings(cfg) -> dict:
    """{key: value} of what a run of `cfg` depends on."""
    return counted(cfg, _nodes(cfg))


def run_hash(cfg) -> str:
    """The hash of what a run of `cfg` depends on."""
    return config_hash(cfg, _nodes(cfg))


def stored_settings(config: dict) -> dict[str, tuple]:
    """{key: (what counts, what the configuration says)} of `run_settings` of a stored configuration ("config" of a results.json).

    The two differ for a file that is there: its content counts. Raises AttributeError, KeyError or TypeError for what is no whole configuration.
    """
    return {key: (value, functools.reduce(operator.getitem, key.split("."), config)) for key, value in run_settings(CfgNode(config)).items()}


def differences(stored: dict, cfg) -> list[tuple[str, object, object]]:
    """(key, value stored, value in `cfg`) of everything a run depends on in which a stored configuration differs from `cfg`.

    stored: "config" of a results.json or checkpoint. Files are compared by content and shown by name. A key that one of the two lacks
    has the value "absent" there. Raises AttributeError, KeyError or TypeError for what is no whole configuration.
    """
    there, here, absent = stored_settings(stored), stored_settings(json.loads(json.dumps(cfg_to_dict(cfg)))), ("absent", "absent")
    pairs = [(key, there.get(key, absent), here.get(key, absent)) for key in sorted(here.keys() | there.keys())]
    return [(key, theirs[1], ours[1]) for key, theirs, ours in pairs if theirs[0] != ours[0]]


def in_words(found: list[tuple[str, object, object]]) -> str:
    """What `differences` found."""
    return "; ".join(f"{key} is {theirs} there and {ours} here" for key, theirs, ours in found)


def difference(stored: dict, cfg) -> str:
    """`differences`, between configurations of different hashes, in words."""
    try:
        return in_words(differences(stored, cfg)) or "the content of the weights file"
    except (AttributeError, KeyError, TypeError):
        return "it holds no whole configuration"


def build_trainer(cfg):
    """The trainer named TRAINER.NAME, built once. Raises UserError for an unknown name."""
    if cfg.VERBOSE:
        print(f"Loading trainer: {cfg.TRAINER.NAME}")
    return TRAINER_REGISTRY.get(cfg.TRAINER.NAME)(cfg)
