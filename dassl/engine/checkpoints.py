"""Checkpoints of a trainer's models: written after epochs, loaded for tests, resumed to the bit."""

import logging
import math
import os.path as osp
import time

import torch
from yacs.config import CfgNode

from dassl import distributed, files
from dassl.config import cfg_to_dict
from dassl.engine import blame
from dassl.engine.build import data_hashes, difference, run_hash
from dassl.engine.models import Models
from dassl.identity import same_run
from dassl.utils import UserError, save_checkpoint
from dassl.utils.tools import get_rng_state, set_rng_state
from dassl.utils.torchtools import load_checkpoint, load_state, newest_first, restore

log = logging.getLogger(__name__)


class Checkpoints(Models):
    """Models that are saved, loaded and resumed, with all that an exact continuation needs."""

    cfg: CfgNode
    time_start: float  # when the trainer was made: data, CLIP and what is encoded are time, too
    best_result: float

    def __init__(self):
        super().__init__()
        self.time_start = time.time()
        self._seconds_before = 0.0  # of the runs that this one continues

    def save_model(
        self,
        epoch: int,
        directory: str,
        is_best: bool = False,
        val_result: float | None = None,
        model_name: str = "",
    ) -> None:
        """Write every registered model to `directory`/<name>/; `epoch` counts from 0, the file name
        from 1.

        Beyond the published keys the file holds random states, best result and time, for an exact
        continuation. The first of several processes writes, and the others wait. Raises UserError,
        before anything is written, if a parameter is not finite.
        """
        for name in self.get_model_names():
            for key, value in self._models[name].named_parameters():
                if not torch.isfinite(value).all():
                    raise UserError(
                        f"'{key}' is not finite after epoch {epoch + 1}: {blame.steps(self)}"
                    )
        for name in self.get_model_names() if distributed.is_main() else ():
            optim, sched = self._optims[name], self._scheds[name]
            state = {
                "state_dict": self._models[name].state_dict(),
                "epoch": epoch + 1,
                "optimizer": optim.state_dict() if optim is not None else None,
                "scheduler": sched.state_dict() if sched is not None else None,
                "val_result": None if val_result is None else float(val_result),
                "classnames": self._classnames(),
                "data": self._data(),
                "rng": get_rng_state(),
                "threads": torch.get_num_threads(),
                "config_hash": self._hash(),
                "began_from": self._began_from(),
                "config": cfg_to_dict(self.cfg) if "cfg" in self.__dict__ else None,
                "best_result": float(self.__dict__.get("best_result", -math.inf)),
                "seconds": self._seconds(),
                "extra": self.extra_state(),
            }
            save_checkpoint(
                state, osp.join(directory, name), is_best=is_best, model_name=model_name
            )
        distributed.barrier()

    def extra_state(self) -> dict:
        """What a trainer needs beyond models, optimisers and schedules to continue exactly: plain
        data and tensors.
        """
        return {}

    def load_extra_state(self, state: dict) -> None:
        """Undo of extra_state, when a run is resumed."""

    def load_model(self, directory: str, epoch: int | None = None) -> None:
        """Load `directory`/<name>/model.pth.tar-<epoch>, or model-best.pth.tar without epoch.

        UserError if it does not fit.
        """
        if not directory:
            log.warning("Note that load_model() is skipped as no pretrained model is given")
            return
        for name in self.get_model_names():
            path = osp.join(directory, name, files.checkpoint_name(epoch))
            checkpoint = load_checkpoint(path)
            load_state(self._models[name], checkpoint["state_dict"], path)
            log.info(
                f"Load {path} to {name} (epoch={checkpoint['epoch']}, "
                f"val_result={checkpoint.get('val_result')})"
            )

    def own_form(self, name: str, checkpoint: dict, path: str) -> dict:
        """Convert a checkpoint to the form that this trainer writes, before a run resumes from it.

        Trainers override it if published checkpoints of their models hold more than learned
        parameters.
        """
        return checkpoint

    def resume_model_if_exist(self, directory: str) -> int:
        """Continue from the newest epoch that every model has a readable checkpoint of.

        Returns the number of epochs done, 0 without checkpoints. Raises UserError if the checkpoint
        is another run's or damaged.
        """
        names = self.get_model_names()
        file = self._newest_of_all(names, directory)
        if file is None:
            log.info("No checkpoint found, train from scratch")
            return 0
        for name in names:
            path = osp.join(directory, name, file)
            checkpoint = load_checkpoint(path)
            if not same_run(checkpoint.get("config_hash", self._hash()), self._hash()):
                different = difference(checkpoint, self.cfg, self._data())
                raise UserError(
                    f"checkpoint '{path}' is of a run with another configuration ({different}): "
                    "choose another --output-dir, or delete that folder to start anew"
                )
            if checkpoint.get("began_from", self._began_from()) != self._began_from():
                raise UserError(
                    f"checkpoint '{path}' is of a run that began from another model, or from none: "
                    "give the --model-dir and --load-epoch that it began with, choose another "
                    "--output-dir, or delete that folder to start anew"
                )
            checkpoint = self.own_form(name, checkpoint, path)
            epoch = restore(
                checkpoint, path, self._models[name], self._optims[name], self._scheds[name]
            )
        if "rng" in checkpoint:
            self._restore_rest(checkpoint, path)
        threads, here = checkpoint.get("threads"), torch.get_num_threads()
        if threads not in (None, here):
            log.info(
                f"Note: the run had {threads} CPU thread(s) and goes on with {here}, so that on a "
                f"CPU its last digits may differ: set OMP_NUM_THREADS to {threads} to get the same"
            )
        log.info(f"Resume from epoch {epoch} of '{directory}'")
        return epoch

    @staticmethod
    def _newest_of_all(names: list[str], directory: str) -> str | None:
        """File name of the newest numbered checkpoint that every model has; None without one."""
        newest = {name: newest_first(osp.join(directory, name)) for name in names}
        if not names or not all(newest.values()):
            return None
        return next(
            (
                file
                for file in newest[names[0]]
                if file.startswith("model.pth.tar-")
                and all(osp.isfile(osp.join(directory, name, file)) for name in names)
            ),
            None,
        )

    def _restore_rest(self, checkpoint: dict, path: str) -> None:
        """Take random states, best result, time and extra state from a checkpoint.

        Raises UserError if they do not fit.
        """
        try:
            set_rng_state(checkpoint["rng"])
            self.best_result = float(checkpoint["best_result"])
            self._seconds_before = float(checkpoint["seconds"])
            self.load_extra_state(checkpoint["extra"])
        except (
            ArithmeticError,
            AttributeError,
            LookupError,
            RuntimeError,
            TypeError,
            ValueError,
        ) as error:
            raise UserError(
                f"checkpoint '{path}' does not fit: its random states or extra values are not "
                f"those of a run ({error}); load it with --model-dir, or restore the file"
            ) from None

    def _classnames(self) -> list[str]:
        """In label order; none where no data set told them."""
        lab2cname = self.__dict__.get("lab2cname") or {}
        return [lab2cname[label] for label in sorted(lab2cname)]

    def _began_from(self) -> str | None:
        """Checksum of the model that --model-dir gave to start from; None without one."""
        return self.__dict__.get("model_sha256")

    def _hash(self) -> str:
        """Of the run; computed once, since it reads the weights file."""
        if "_run_hash" not in self.__dict__:
            self._run_hash = run_hash(self.cfg, self._data()) if "cfg" in self.__dict__ else ""
        return self._run_hash

    def _data(self) -> dict[str, str]:
        """Of the data set's files, as they were when the run began."""
        if "_data_hashes" not in self.__dict__:
            self._data_hashes = data_hashes(self.cfg) if "cfg" in self.__dict__ else {}
        return self._data_hashes

    def _seconds(self) -> float:
        """Seconds that the run has taken, over all its parts."""
        return self._seconds_before + time.time() - self.time_start
