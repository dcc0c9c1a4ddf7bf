from dassl.config import config_hash
from dassl.utils import Registry

TRAINER_REGISTRY = Registry("TRAINER")


def run_hash(cfg) -> str:
    """The hash of what a run of `cfg` depends on: of the groups under TRAINER only those that its class says it reads."""
    trainer = TRAINER_REGISTRY.get(cfg.TRAINER.NAME) if cfg.TRAINER.NAME in TRAINER_REGISTRY else None
    return config_hash(cfg, trainer.config_nodes() if hasattr(trainer, "config_nodes") else None)


def build_trainer(cfg):
    """The trainer named TRAINER.NAME, built once. Raises UserError for an unknown name."""
    if cfg.VERBOSE:
        print(f"Loading trainer: {cfg.TRAINER.NAME}")
    return TRAINER_REGISTRY.get(cfg.TRAINER.NAME)(cfg)
