from collections.abc import Sequence

from dassl.config import config_hash, counted
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


def build_trainer(cfg):
    """The trainer named TRAINER.NAME, built once. Raises UserError for an unknown name."""
    if cfg.VERBOSE:
        print(f"Loading trainer: {cfg.TRAINER.NAME}")
    return TRAINER_REGISTRY.get(cfg.TRAINER.NAME)(cfg)
