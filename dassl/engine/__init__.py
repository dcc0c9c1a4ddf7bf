from dassl.engine.build import TRAINER_REGISTRY, build_trainer, difference, differences, in_words, run_hash, run_settings
from dassl.engine.trainer import SimpleNet, SimpleTrainer, TrainerBase, TrainerX, TrainerXU

__all__ = ["TRAINER_REGISTRY", "SimpleNet", "SimpleTrainer", "TrainerBase", "TrainerX", "TrainerXU", "build_trainer", "difference", "differences",
           "in_words", "run_hash", "run_settings"]
