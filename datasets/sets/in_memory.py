"""Pictures that a program holds, and gives to `craft.fit`: no folder on a disk is needed."""

import os.path as osp
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

from dassl import record
from dassl.data.datasets import DATASET_REGISTRY, DatasetBase, Datum
from datasets.errors import UserError

LIST = record.PICTURES  # in the output folder


@DATASET_REGISTRY.register()
class InMemory(DatasetBase):
    """The parts that `holding` hands over."""

    _held: Mapping[str, Sequence[Datum]] | None = None

    def __init__(self, cfg):
        if self._held is None:
            raise UserError(
                "DATASET.NAME is InMemory, whose pictures a program gives to craft.fit: set "
                "DATASET.NAME to ImageFolder or CSV for pictures in files"
            )
        super().__init__(**self._held)

    @classmethod
    def content(cls, cfg) -> dict[str, str]:
        """{description: path} of the list of the pictures, so that a run's hash covers them."""
        return {"list of pictures": osp.join(cfg.OUTPUT_DIR, LIST)}


@contextmanager
def holding(**parts: Sequence[Datum]) -> Iterator[None]:
    """Inside, the data set InMemory has these parts: train_x, train_u, val, test."""
    before, InMemory._held = InMemory._held, parts
    try:
        yield
    finally:
        InMemory._held = before
