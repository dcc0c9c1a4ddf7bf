"""Loaders of which every process of a run gets a part: of each training batch some images, of a
test whole batches.
"""

from collections.abc import Iterator

from torch.utils.data import DataLoader
from torch.utils.data.sampler import BatchSampler, Sampler

from dassl.data.data_manager import Loader
from dassl.distributed import from_main, rank, world_size
from dassl.utils import UserError


class Shares(Sampler):
    """This process's images of every batch: its items [rank::world_size].

    The batches are drawn by the first process alone.

    Raises UserError, naming DATALOADER.<node>, before the first batch if one is too small to give
    every process an image.
    """

    def __init__(self, batches: BatchSampler, node: str):
        self.batches, self.node = batches, node

    def __iter__(self) -> Iterator[list[int]]:
        batches = from_main(lambda: list(self.batches))
        if (least := min(map(len, batches), default=0)) < world_size():
            raise UserError(
                f"a batch of DATALOADER.{self.node} has {least} image(s) for {world_size()} "
                "processes: change BATCH_SIZE, set DATALOADER.TRAIN_X.DROP_LAST True, or start "
                "fewer processes"
            )
        for batch in batches:
            yield batch[rank() :: world_size()]

    def __len__(self) -> int:
        return len(self.batches)


class Turns(Sampler):
    """This process's batches: every world_size-th one."""

    def __init__(self, batches: BatchSampler):
        self.batches = batches

    def __iter__(self) -> Iterator[list[int]]:
        yield from from_main(lambda: list(self.batches))[rank() :: world_size()]

    def __len__(self) -> int:
        return len(range(rank(), len(self.batches), world_size()))


class Rounds:
    """Iterates over as many batches on every process: the own ones of `loader`, then None where
    others have one more.
    """

    def __init__(self, loader: DataLoader):
        self.loader, self.rounds = (
            _with(loader, Turns(loader.batch_sampler)),
            -(-len(loader) // world_size()),
        )

    def __len__(self) -> int:
        return self.rounds

    def __iter__(self) -> Iterator[dict | None]:
        yield from self.loader
        yield from [None] * (self.rounds - len(self.loader))


def share(loader: DataLoader, node: str) -> DataLoader:
    """`loader` with this process's part of every batch; `node` is its name under DATALOADER."""
    return _with(loader, Shares(loader.batch_sampler, node))


def _with(loader: DataLoader, batches: Sampler) -> DataLoader:
    same = (
        "dataset",
        "num_workers",
        "collate_fn",
        "pin_memory",
        "timeout",
        "worker_init_fn",
        "multiprocessing_context",
        "generator",
        "prefetch_factor",
        "persistent_workers",
    )
    return Loader(batch_sampler=batches, **{name: getattr(loader, name) for name in same})
