from dassl.engine.build import (
    TRAINER_REGISTRY,
    build_trainer,
    data_files,
    data_hashes,
    difference,
    differences,
    in_words,
    run_hash,
    run_settings,
    settings_hash,
    stored_settings,
)
from dassl.engine.trainer import SimpleNet, SimpleTrainer, TrainerBase, TrainerX, TrainerXU

__all__ = [
    "TRAINER_REGISTRY",
    "SimpleNet",
    "SimpleTrainer",
    "TrainerBase",
    "TrainerX",
    "TrainerXU",
    "build_trainer",
    "data_files",
    "data_hashes",
    "difference",
    "differences",
    "in_words",
    "run_hash",
    "run_settings",
    "settings_hash",
    "stored_settings",
]
