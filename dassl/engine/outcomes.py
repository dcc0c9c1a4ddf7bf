"""Collects what a test says about each image, for `dassl.outcomes`."""

import logging
import os
import os.path as osp
from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader

from dassl import distributed, files, outcomes
from dassl.engine import record
from dassl.utils import mkdir_if_missing
from dassl.utils.tools import atomic_write

log = logging.getLogger(__name__)


class Collector:
    """The outcomes of one test, batch by batch; batches may come in any order.

    Does nothing without TEST.SAVE_OUTCOMES or OUTPUT_DIR, and on all processes but the first.
    """

    def __init__(self, trainer) -> None:
        wanted = trainer.cfg.TEST.get("SAVE_OUTCOMES", True) and trainer.output_dir
        self._wanted = bool(wanted) and distributed.is_main()
        self._trainer = trainer
        self._parts: list[dict[str, np.ndarray]] = []
        self._whole = True  # whether every batch can be told image by image

    @staticmethod
    def numbers(batch: Mapping) -> list[Tensor]:
        """[the images' places in the data set (B,)]; [] for batches of a loader without them."""
        index = batch.get("index")
        return [index] if isinstance(index, Tensor) else []

    def add(self, scores: object, labels: Tensor, numbers: Sequence[Tensor]) -> None:
        """Take a batch: scores (B, C), labels (B,) and what `numbers` gave."""
        if not self._wanted:
            return
        if not isinstance(scores, Tensor) or scores.dim() != 2 or len(numbers) != 1:
            self._whole = False
        elif not len(scores) == len(labels) == len(numbers[0]):
            self._whole = False
        else:
            part = {"index": numbers[0], "label": labels.int(), **_reduced(scores, labels)}
            self._parts.append({name: tensor.cpu().numpy() for name, tensor in part.items()})

    def write(self, split: str, loader: DataLoader) -> None:
        """Write the file that lies beside results.json.

        Without the images' places in the data set there is no file, which a warning says. Raises
        UserError if the file cannot be written.
        """
        if not self._wanted:
            return
        items, trainer = getattr(loader.dataset, "data_source", None), self._trainer
        if items is None or not self._whole or not self._parts:
            log.warning(
                f"{trainer.cfg.TRAINER.NAME} does not tell which image a score is of: no "
                "outcomes of single images are saved"
            )
            return
        content = self._outcomes(split, items)
        mkdir_if_missing(trainer.output_dir)
        path = str(outcomes.place(trainer.output_dir, split))
        atomic_write(path, lambda file: outcomes.write(file, content))

    def _outcomes(self, split: str, items: Sequence) -> outcomes.Outcomes:
        """All batches, in the order of the data set."""
        trainer = self._trainer
        arrays = {
            name: np.concatenate([part[name] for part in self._parts]) for name in self._parts[0]
        }
        order = np.argsort(arrays["index"], kind="stable")
        tested = [items[number] for number in arrays.pop("index")[order]]
        data = getattr(trainer.__dict__.get("dm"), "dataset", None)
        clusters = data.clusters(tested) if data is not None and hasattr(data, "clusters") else ()
        run = record.run_of(trainer)
        return outcomes.Outcomes(
            split=split,
            classnames=tuple(run["classnames"] or ()),
            ties={key: run[key] for key in outcomes.TIES},
            paths=_below(trainer.cfg.DATASET.ROOT, [item.impath for item in tested]),
            domain=np.array([item.domain for item in tested], np.int32),
            cluster=outcomes.numbered(clusters) if len(clusters) == len(tested) else None,
            **{name: array[order] for name, array in arrays.items()},
        )


def _reduced(scores: Tensor, labels: Tensor) -> dict[str, Tensor]:
    """{name in the file: tensor} of a batch: scores (B, C), labels (B,)."""
    predicted = scores.argmax(1)  # as the evaluator takes it, before any rounding
    scores = scores.detach().float()
    highest = scores.amax(1)
    known = (labels >= 0) & (labels < scores.shape[1])
    own = scores.gather(1, labels.where(known, 0)[:, None])[:, 0]
    kept, classes = scores, None
    if scores.shape[1] > outcomes.ALL_CLASSES:
        kept, classes = scores.topk(outcomes.KEPT, dim=1)
    least = torch.finfo(torch.float16).min
    return {
        "predicted": predicted.int(),
        "highest": highest,
        "log_sum_exp": scores.logsumexp(1),
        "own": own.where(known, -torch.inf),
        "scores": (kept - highest[:, None]).clamp(min=least).half(),
        **({} if classes is None else {"classes": classes.int()}),
    }


def _below(root: str, paths: Sequence[str]) -> tuple[str, ...]:
    """Paths relative to `root`, with slashes."""
    top = osp.join(files.absolute(root or "."), "")
    return tuple(
        (path[len(top) :] if path.startswith(top) else osp.relpath(path, top)).replace(os.sep, "/")
        for path in paths
    )
