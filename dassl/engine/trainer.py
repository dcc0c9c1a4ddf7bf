"""The training loop, with hooks that trainers fill."""

import hashlib
import logging
import math
import os.path as osp
import shlex
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor
from torch.utils.data import DataLoader
from torch.utils.tensorboard import SummaryWriter  # noqa: F401 - forks import it from here
from yacs.config import CfgNode

from dassl import distributed, files, program
from dassl.config import cfg_to_dict
from dassl.data import DataManager
from dassl.data.data_manager import Loader, build_data_loader
from dassl.data.sharing import Rounds, share
from dassl.data.transforms import build_transform
from dassl.engine import blame, record
from dassl.engine.checkpoints import Checkpoints
from dassl.engine.checks import check_basics
from dassl.engine.outcomes import Collector
from dassl.engine.simple_net import SimpleNet
from dassl.evaluation import build_evaluator, check_scores
from dassl.optim import build_lr_scheduler, build_optimizer
from dassl.utils import AverageMeter, MetricMeter, UserError, count_num_param, mkdir_if_missing
from dassl.utils.logger import at_level, eta_text, progress_bar, track
from dassl.utils.scalars import ScalarLog
from dassl.utils.torchtools import copy_checkpoint, load_checkpoint, load_pretrained_weights

log = logging.getLogger(__name__)

LINE = 120  # columns of the line about an epoch
REST = " ..."  # at its end: TensorBoard has more
SILENCE_S = 300  # seconds after which a long epoch is heard of in a log without a terminal


def _names(cfg) -> tuple[str, str]:
    """(name of a run, name that it shares with runs of other seeds), for Weights & Biases."""
    shots = cfg.DATASET.NUM_SHOTS
    group = f"{cfg.TRAINER.NAME} {cfg.DATASET.NAME} {'all' if shots < 1 else shots} shots"
    return f"{group} seed {cfg.SEED}", group


class TrainerBase(Checkpoints):
    """Loop over epochs with hooks, registered models, their checkpoints and the log."""

    def __init__(self):
        super().__init__()
        self._writer: ScalarLog | None = None
        self.start_epoch = self.epoch = self.batch_idx = 0
        self._batch: tuple = ()  # of the step that is being made
        # Of the epoch, for its line: {name: mean}, seconds, learning rate, and its validation.
        self._epoch_means: dict[str, float] = {}
        self._epoch_seconds = self._epoch_lr = 0.0
        self._validation, self._metric = "", "result"

    # Steps

    def detect_anomaly(self, loss: Tensor) -> None:
        """Raises UserError, with the culprit, if the loss is not finite."""
        if not torch.isfinite(loss).all():
            value = loss.detach().float().mean().item()
            raise UserError(
                f"the loss is {value} at epoch {self.epoch + 1}, batch {self.batch_idx + 1}"
                f"{blame.reason(self)}"
            )

    def model_backward(self, loss: Tensor) -> None:
        """Gradients of a scalar loss, averaged over the processes.

        Raises UserError if it is not finite.
        """
        self.detect_anomaly(loss)
        loss.backward()
        distributed.average_gradients(
            parameter
            for model in self._models.values()
            if model is not None
            for parameter in model.parameters()
        )

    def model_backward_and_update(self, loss: Tensor, names: str | list[str] | None = None) -> None:
        """Zero gradients, backward, step."""
        self.model_zero_grad(names)
        self.model_backward(loss)
        self.model_update(names)

    # Log

    def init_writer(self, log_dir: str) -> None:
        """Open TensorBoard's file, once."""
        if self._writer is None and distributed.is_main():
            mkdir_if_missing(log_dir)
            cfg = self.__dict__.get("cfg")
            self._writer = (
                ScalarLog(log_dir, cfg.get("LOG"), cfg_to_dict(cfg), *_names(cfg))
                if cfg
                else ScalarLog(log_dir)
            )

    def close_writer(self) -> None:
        """Write pending points and close TensorBoard's file."""
        if self._writer is not None:
            self._writer.close()
            self._writer = None

    def write_scalar(self, tag: str, scalar_value: float, global_step: int | None = None) -> None:
        """A point of a curve; nothing without an open writer."""
        if self._writer is not None:
            self._writer.add_scalar(tag, scalar_value, global_step)

    # Loop

    def train(self, start_epoch: int, max_epoch: int) -> None:
        self.start_epoch, self.max_epoch = start_epoch, max_epoch
        try:
            self.before_train()
            self.share_training()
            self.epoch = max(self.start_epoch - 1, 0)  # if nothing is left to train
            for self.epoch in range(self.start_epoch, self.max_epoch):
                distributed.separate_random_states()
                self.before_epoch()
                self.run_epoch()
                program.check()
                self.after_epoch()
                self.log_epoch()
            self.after_train()
        except BaseException as error:
            if isinstance(error, KeyboardInterrupt) or program.interrupted():
                # Closing it waits for TensorBoard's thread, which the interrupt may have left
                # waiting for ever.
                self._writer = None
            raise
        finally:
            self.close_writer()

    def share_training(self) -> None:
        """Of several processes each gets its part of every training batch, and all start from the
        first one's parameters.

        Raises UserError if they do not continue from the same epoch.
        """
        if distributed.world_size() == 1:
            return
        if len(epochs := set(distributed.gather_objects(self.start_epoch))) > 1:
            raise UserError(
                "the processes of this run found checkpoints of different epochs "
                f"({', '.join(map(str, sorted(epochs)))}): put OUTPUT_DIR where all of them see "
                "the same files"
            )
        for model in self._models.values():
            if model is not None:
                distributed.broadcast_state(model)
        for name in ("train_loader_x", "train_loader_u"):
            if (loader := self.__dict__.get(name)) is not None:
                same = name.endswith("u") and self.cfg.DATALOADER.TRAIN_U.SAME_AS_X
                setattr(
                    self,
                    name,
                    share(loader, "TRAIN_X" if same else name.replace("_loader", "").upper()),
                )
        log.info(
            f"{distributed.world_size()} processes: each has its share of every batch, and the "
            "batch size is that of all together"
        )

    # What a trainer fills, in calling order

    def before_train(self) -> None:
        """Once, before the first epoch."""

    def before_epoch(self) -> None:
        """Before each epoch, whose number from 0 is `epoch`."""

    def run_epoch(self) -> None:
        """All steps of an epoch."""
        raise NotImplementedError

    def forward_backward(self, batch: dict) -> dict[str, float]:
        """Make one step and return the numbers for the log."""
        raise NotImplementedError

    def parse_batch_train(self, batch: dict):
        """What a step needs of a batch, on the device."""
        raise NotImplementedError

    def after_epoch(self) -> None:
        """After each epoch."""

    def log_epoch(self) -> None:
        """The line of the log about an epoch, when all of it is over."""

    def after_train(self) -> None:
        """Once, after the last epoch."""

    def test(self, split: str | None = None) -> float:
        """Evaluate on a part of the data -> the metric that counts."""
        raise NotImplementedError

    def parse_batch_test(self, batch: dict):
        """Images and labels of a batch, on the device."""
        raise NotImplementedError

    def model_inference(self, input: Tensor) -> Tensor:
        """Scores (B, classes) of images (B, 3, H, W)."""
        raise NotImplementedError


class SimpleTrainer(TrainerBase):
    """A trainer built from a config: data, model, evaluator."""

    keeps_output = True  # whether OUTPUT_DIR stays, so that the log may send a reader there

    def __init__(self, cfg):
        super().__init__()
        check_basics(cfg)
        self.check_cfg(cfg)
        if cfg.USE_CUDA and not torch.cuda.is_available():
            log.warning("No CUDA device found: running on the CPU")
        self.device = distributed.own_device(cfg.USE_CUDA)
        self.start_epoch = self.epoch = 0
        self.max_epoch = cfg.OPTIM.MAX_EPOCH
        self.output_dir, self.cfg = cfg.OUTPUT_DIR, cfg
        self._started = record.now()
        self._training: bool | None = None  # True in training, False after it
        self._deployed = None
        self._data()
        with distributed.main_first():
            self.build_data_loader()
        self._check_same_data()
        self.build_model()
        self.evaluator = build_evaluator(cfg, lab2cname=self.lab2cname)
        if hasattr(self.evaluator, "use_dataset"):
            self.evaluator.use_dataset(getattr(self.__dict__.get("dm"), "dataset", None))
        self.best_result = -math.inf

    def check_cfg(self, cfg) -> None:
        """Raise for values that the trainer cannot work with."""

    def build_data_loader(self) -> None:
        dm = DataManager(self.cfg)
        self.train_loader_x, self.train_loader_u = dm.train_loader_x, dm.train_loader_u
        self.val_loader, self.test_loader = dm.val_loader, dm.test_loader
        self.num_classes, self.num_source_domains, self.lab2cname = (
            dm.num_classes,
            dm.num_source_domains,
            dm.lab2cname,
        )
        self.dm = dm

    def _check_same_data(self) -> None:
        """Raise UserError if the processes of this run do not see the same images, labels and
        classes.

        Only DATASET.ROOT may differ between machines.
        """
        data = getattr(self.__dict__.get("dm"), "dataset", None)
        digests, root = {}, files.absolute(self.cfg.DATASET.ROOT or ".")
        for part in ("train_x", "train_u", "val", "test") if distributed.world_size() > 1 else ():
            items = [
                (osp.relpath(item.impath, root), item.label, item.domain, item.classname)
                for item in getattr(data, part, None) or ()
            ]
            digests[part] = hashlib.sha256(repr(items).encode(errors="surrogateescape")).hexdigest()
        first, *others = distributed.gather_objects(digests)
        for number, other in enumerate(others, 1):
            if different := [part for part in first if first[part] != other[part]]:
                raise UserError(
                    f"process {number} of this run reads other images or labels "
                    f"({', '.join(different)}) than the first one: give all processes the same "
                    "split files and images under DATASET.ROOT"
                )

    def build_model(self) -> None:
        """A SimpleNet; prompt learners override this."""
        cfg = self.cfg
        self.model = SimpleNet(cfg, cfg.MODEL, self.num_classes)
        if cfg.MODEL.INIT_WEIGHTS:
            load_pretrained_weights(self.model, cfg.MODEL.INIT_WEIGHTS)
        self.model.to(self.device)
        log.info(f"# params: {count_num_param(self.model):,}")
        self.optim = build_optimizer(self.model, cfg.OPTIM)
        self.sched = build_lr_scheduler(self.optim, cfg.OPTIM)
        self.register_model("model", self.model, self.optim, self.sched)

    def train(self) -> None:  # type: ignore[override] # as upstream: the config holds both epochs
        self._training = True
        super().train(self.start_epoch, self.max_epoch)

    @property
    def _keeps_best(self) -> bool:
        """Whether the best model on validation images is kept, and tested in the end."""
        return self.cfg.TEST.FINAL_MODEL == "best_val" and not self.cfg.TEST.NO_TEST

    def before_train(self) -> None:
        if self._keeps_best and self.val_loader is None:
            raise UserError(
                f"TEST.FINAL_MODEL is best_val, but {self.cfg.DATASET.NAME} has no validation "
                "images to choose the best epoch by: set it to last_step"
            )
        self.start_epoch = self.resume_model_if_exist(self.output_dir)
        if self.cfg.RESUME and not self.start_epoch:
            self.start_epoch = self.resume_model_if_exist(self.cfg.RESUME)
            if not self.start_epoch:
                raise UserError(
                    f"RESUME '{self.cfg.RESUME}' holds no checkpoint of "
                    f"{', '.join(self.get_model_names())}: correct --resume"
                )
            self._take_best(self.cfg.RESUME)
        curves = osp.join(self.output_dir, "tensorboard")
        self.init_writer(curves)
        if self.keeps_output:
            log.info(f"Curves: tensorboard --logdir {shlex.quote(curves)}")

    def _take_best(self, directory: str) -> None:
        """Copy the best model so far from `directory`; without one, the next model is the best."""
        files = {
            name: osp.join(directory, name, "model-best.pth.tar") for name in self.get_model_names()
        }
        if not all(map(osp.isfile, files.values())):
            self.best_result = -math.inf
            return
        if (
            self.best_result == -math.inf
        ):  # of a published run, which does not store it in every checkpoint
            best = load_checkpoint(next(iter(files.values()))).get("val_result")
            self.best_result = float(best) if isinstance(best, (int, float)) else -math.inf
        for name, path in files.items() if distributed.is_main() else ():
            copy_checkpoint(path, osp.join(self.output_dir, name))
        distributed.barrier()

    def after_train(self) -> None:
        log.info("Finish training")
        self._training = False
        if not self.cfg.TEST.NO_TEST:
            self._deployed = "last_step"
            if self._keeps_best:
                log.info("Deploy the model with the best val performance")
                self.load_model(self.output_dir)
                self._deployed = "best_val"
            else:
                log.info("Deploy the last-epoch model")
            self.test()
        else:
            record.write(self, {}, None)
            self._rest()
        log.info(f"Elapsed: {eta_text(self._seconds())}")

    def after_epoch(self) -> None:
        last = self.epoch + 1 == self.max_epoch
        frequency = self.cfg.TRAIN.CHECKPOINT_FREQ
        result = None
        if self._keeps_best:
            with self._in_short():
                result = self.test(split="val")
            better = result > self.best_result
            self._validation = f"val {self._metric} {result:.3g}{' (best)' if better else ''}"
            if better:
                self.best_result = result
                self.save_model(
                    self.epoch, self.output_dir, val_result=result, model_name="model-best.pth.tar"
                )
        if last or frequency > 0 and (self.epoch + 1) % frequency == 0:
            self.save_model(self.epoch, self.output_dir, val_result=result)

    def _in_short(self) -> AbstractContextManager:
        """Inside, a test does not print its result, which the line of the epoch tells.

        With TRAIN.PRINT_FREQ it prints it, as upstream Dassl's does.
        """
        if self.cfg.TRAIN.PRINT_FREQ:
            return nullcontext()
        return at_level(("dassl.evaluation", __name__), logging.WARNING)

    def log_epoch(self) -> None:
        if self._epoch_means:
            log.info(self._epoch_line())
        self._epoch_means, self._validation = {}, ""

    def _epoch_line(self) -> str:
        """Means of the epoch in at most LINE columns; " ..." at the end stands for what is left.

        Loss, accuracy, validation and times come first, then terms, then the learning rate.
        `cross_entropy` is last: it is what the other terms leave of the loss.
        """
        means = dict(self._epoch_means)
        left = eta_text(self._epoch_seconds * (self.max_epoch - self.epoch - 1))
        line = f"epoch [{self.epoch + 1}/{self.max_epoch}]"
        line += f" loss {means.pop('loss'):.3g}" if "loss" in means else ""
        line += f" acc {means.pop('acc'):.1f}%" if "acc" in means else ""
        line += f" {self._validation}" if self._validation else ""
        digits = 1 if self._epoch_seconds < 100 else 0
        line += f" time {self._epoch_seconds:.{digits}f} s eta {left}"
        last = [means.pop("cross_entropy")] if "cross_entropy" in means else []
        more = [f" {name} {value:.3g}" for name, value in means.items()]
        more += [f" lr {self._epoch_lr:.2g}", *(f" cross_entropy {value:.3g}" for value in last)]
        for number, part in enumerate(more, 1):
            rest = REST if number < len(more) else ""
            if len(line + part + rest) > LINE:
                return line + REST
            line += part
        return line

    @property
    def data_cfg(self) -> CfgNode:
        """The configuration by which pictures are read."""
        return self.cfg

    def _training_images(self) -> DataLoader:
        """The training images in their order, not augmented."""
        tested = getattr(getattr(self.test_loader, "dataset", None), "transform", None)
        return build_data_loader(
            self.data_cfg,
            "SequentialSampler",
            self.dm.dataset.train_x,
            self.cfg.DATALOADER.TEST.BATCH_SIZE,
            tfm=build_transform(self.cfg, is_train=False) if tested is None else tested,
            is_train=False,
        )

    @torch.no_grad()
    def test(self, split: str | None = None) -> float:
        """Evaluate on TEST.SPLIT or the given split; prints the result, adds it to results.json,
        returns its first metric. TEST.SAVE_OUTCOMES saves what it said about each image, too.

        With TEST.SELECT_BY it returns that one, so that "best_val" selects by it. Several processes
        take turns with the batches, and every one of them evaluates the outputs of all.
        """
        self.set_model_mode("eval")
        self.evaluator.reset()
        split = self.cfg.TEST.SPLIT if split is None else split
        if split == "train":
            loader = self._training_images()
        elif split == "val" and self.val_loader is not None:
            loader = self.val_loader
        else:
            split, loader = "test", self.test_loader
        if loader is None:
            raise UserError(
                f"data set {self.cfg.DATASET.NAME} has no images to test on: add some to its test "
                "part"
            )
        log.info(f"Evaluate on the *{split}* set")
        more = ("domain",) if getattr(self.evaluator, "wants_domain", False) else ()
        outcomes = Collector(self)
        for batch in track(self._rounds(loader), split):
            program.check()
            outputs = None
            if batch is not None:
                image, label = self.parse_batch_test(batch)
                outputs = [self.model_inference(image), label, *(batch[key] for key in more)]
                outputs += outcomes.numbers(batch)
            for output, label, *others in distributed.in_turn(outputs):
                check_scores(output)
                self.evaluator.process(output, label, **dict(zip(more, others, strict=False)))
                outcomes.add(output, label, others[len(more) :])
        results, select_by = self.evaluator.evaluate(), self.cfg.TEST.get("SELECT_BY", "")
        if select_by and select_by not in results:
            raise UserError(
                f"TEST.SELECT_BY is '{select_by}': {self.cfg.TEST.EVALUATOR} gives "
                f"{', '.join(results)}"
            )
        self._metric = select_by or next(iter(results))
        for name, value in results.items():
            self.write_scalar(f"{split}/{name}", value, self.epoch)
        outcomes.write(split, loader)
        record.write(self, results, split)
        if not self._training:
            self._rest()
        return results[select_by] if select_by else next(iter(results.values()))

    def _rest(self) -> None:
        """End the workers that evaluated."""
        for loader in (self.val_loader, self.test_loader):
            if isinstance(loader, Loader):
                loader.rest()

    def _rounds(self, loader: DataLoader) -> Iterable:
        """The batches of this process; made once for each loader, whose workers may live on."""
        if distributed.world_size() == 1:
            return loader
        known = self.__dict__.setdefault("_dealt", {})
        if loader not in known:
            known[loader] = Rounds(loader)
        return known[loader]

    def _run_batches(self, batches: Iterator, count: int) -> None:
        """One epoch of `count` steps, with its times and averages.

        Every TRAIN.PRINT_FREQ batches a line; without that key only where no terminal shows a bar,
        after SILENCE_S seconds without a line.
        """
        self.set_model_mode("train")
        losses, batch_time, data_time = MetricMeter(), AverageMeter(), AverageMeter()
        self.num_batches = count
        end = started = time.time()
        said, rate = time.monotonic(), self.get_current_lr()  # the last step lowers the rate
        with progress_bar(count, f"epoch {self.epoch + 1}/{self.max_epoch}") as bar:
            for self.batch_idx in range(count):
                program.check()
                batch = self._batch = next(batches)
                data_time.update(time.time() - end)
                summary = self.forward_backward(*batch)
                batch_time.update(time.time() - end)
                losses.update(summary)
                bar.update()
                done = self.batch_idx + 1
                silent = time.monotonic() - said > SILENCE_S and bar.disable and done < count
                if silent or self._prints(done, count):
                    said = time.monotonic()
                    steps_left = count - done + (self.max_epoch - self.epoch - 1) * count
                    log.info(
                        f"epoch [{self.epoch + 1}/{self.max_epoch}] batch [{done}/{count}] time "
                        f"{batch_time.val:.3f} ({batch_time.avg:.3f}) data {data_time.val:.3f} "
                        f"({data_time.avg:.3f}) {losses} lr {self.get_current_lr():.4e} eta "
                        f"{eta_text(batch_time.avg * steps_left)}"
                    )
                step = self.epoch * count + self.batch_idx
                for name, meter in losses.meters.items():
                    self.write_scalar(f"train/{name}", meter.val, step)
                self.write_scalar("train/lr", self.get_current_lr(), step)
                end = time.time()
        self._batch = ()
        self._epoch_means = {name: meter.avg for name, meter in losses.meters.items()}
        self._epoch_seconds, self._epoch_lr = time.time() - started, rate

    def _prints(self, done: int, count: int) -> bool:
        """Whether a line follows the batch number `done` of `count`, by TRAIN.PRINT_FREQ."""
        every = self.cfg.TRAIN.PRINT_FREQ
        return bool(every) and (done % every == 0 or count < every and done == count)

    def model_inference(self, input: Tensor) -> Tensor:
        return self.model(input)

    def parse_batch_test(self, batch: dict) -> tuple[Tensor, Tensor]:
        """Images (B, 3, H, W) and labels (B,) on the device."""
        return batch["img"].to(self.device), batch["label"].to(self.device)


class TrainerX(SimpleTrainer):
    """Trains on labelled data: `forward_backward(batch)` returns a dict of floats for the log."""

    def run_epoch(self) -> None:
        self._run_batches(((batch,) for batch in self.train_loader_x), len(self.train_loader_x))

    def parse_batch_train(self, batch: dict) -> tuple[Tensor, Tensor, Tensor]:
        """Images (B, 3, H, W), labels (B,) and domains (B,) on the device."""
        return (
            batch["img"].to(self.device),
            batch["label"].to(self.device),
            batch["domain"].to(self.device),
        )


class TrainerXU(SimpleTrainer):
    """Trains on labelled and unlabelled data: `forward_backward(batch_x, batch_u)`.

    An epoch is as long as TRAIN.COUNT_ITER says: train_x, train_u or smaller_one; the shorter
    loader restarts.
    """

    def run_epoch(self) -> None:
        lengths = {"train_x": len(self.train_loader_x), "train_u": len(self.train_loader_u)}
        lengths["smaller_one"] = min(lengths.values())
        if self.cfg.TRAIN.COUNT_ITER not in lengths:
            raise UserError(
                f"TRAIN.COUNT_ITER is '{self.cfg.TRAIN.COUNT_ITER}': choose one of "
                f"{', '.join(lengths)}"
            )
        pairs = zip(_forever(self.train_loader_x), _forever(self.train_loader_u), strict=False)
        self._run_batches(pairs, lengths[self.cfg.TRAIN.COUNT_ITER])

    def parse_batch_train(  # type: ignore[override] # as upstream: two batches
        self, batch_x: dict, batch_u: dict
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Labelled images, labels, unlabelled images, on the device."""
        return (
            batch_x["img"].to(self.device),
            batch_x["label"].to(self.device),
            batch_u["img"].to(self.device),
        )


def _forever(loader: Sequence) -> Iterator:
    while True:
        yield from loader
