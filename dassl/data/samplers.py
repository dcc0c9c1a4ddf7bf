"""Which images make a batch.

All draws come from torch's global generator, so that a restored state repeats them.
"""

from collections import defaultdict
from collections.abc import Iterator, Sequence

import torch
from torch.utils.data.sampler import RandomSampler, Sampler, SequentialSampler

from dassl.utils import UserError, check_availability

AVAI_SAMPLERS = [
    "RandomDomainSampler",
    "SeqDomainSampler",
    "RandomClassSampler",
    "BalancedGroupSampler",
    "RandomSampler",
    "SequentialSampler",
]


def _shuffled(items: Sequence) -> list:
    return [items[i] for i in torch.randperm(len(items)).tolist()]


class _GroupSampler(Sampler):
    """Batches of `n_groups` groups with batch_size / n_groups items each; groups too small are
    repeated.
    """

    attribute = "domain"

    @classmethod
    def key(cls, item):
        """What items of one group have in common."""
        return getattr(item, cls.attribute)

    def __init__(self, data_source: Sequence, batch_size: int, n_groups: int):
        self.groups: dict = defaultdict(list)
        for index, item in enumerate(data_source):
            self.groups[self.key(item)].append(index)
        n_groups = n_groups if n_groups > 0 else len(self.groups)
        n_groups = min(n_groups, len(self.groups))
        if n_groups == 0 or batch_size % n_groups:
            raise UserError(
                f"batch size {batch_size} cannot be shared by {n_groups} {self.attribute}s: make "
                "it a multiple"
            )
        self.n_groups, self.per_group = n_groups, batch_size // n_groups
        # A whole number of batches, as many as the groups can fill in turn.
        whole = sum(max(1, len(group) // self.per_group) for group in self.groups.values())
        self.batches = max(1, whole // n_groups)

    def choose(self) -> list[int]:
        return _shuffled(sorted(self.groups))[: self.n_groups]

    def __iter__(self) -> Iterator[int]:
        remaining = {key: [] for key in self.groups}
        for _ in range(self.batches):
            for key in self.choose():
                while len(remaining[key]) < self.per_group:
                    remaining[key] += _shuffled(self.groups[key])
                yield from remaining[key][: self.per_group]
                del remaining[key][: self.per_group]

    def __len__(self) -> int:
        return self.batches * self.n_groups * self.per_group


class RandomDomainSampler(_GroupSampler):
    """Random domains per batch, equally many images of each."""


class SeqDomainSampler(_GroupSampler):
    """Every domain in every batch, in domain order."""

    def __init__(self, data_source: Sequence, batch_size: int):
        super().__init__(data_source, batch_size, 0)

    def choose(self) -> list[int]:
        return sorted(self.groups)


class BalancedGroupSampler(SeqDomainSampler):
    """Every group, a pair of class and domain (the spurious attribute), in every batch, equally
    many images of each.
    """

    attribute = "group"

    @classmethod
    def key(cls, item):
        return item.label, item.domain


class RandomClassSampler(_GroupSampler):
    """Random classes per batch, `n_ins` images of each."""

    attribute = "label"

    def __init__(self, data_source: Sequence, batch_size: int, n_ins: int):
        if batch_size < n_ins or batch_size % n_ins:
            raise UserError(
                f"batch size {batch_size} is not a multiple of N_INS {n_ins}: change "
                "DATALOADER.TRAIN_X.N_INS"
            )
        super().__init__(data_source, batch_size, batch_size // n_ins)
        if self.per_group != n_ins:
            raise UserError(
                f"batch size {batch_size} with N_INS {n_ins} needs {batch_size // n_ins} classes, "
                f"the data set has {len(self.groups)}: reduce the batch size"
            )


def build_sampler(
    sampler_type: str,
    cfg=None,
    data_source=None,
    batch_size: int = 32,
    n_domain: int = 0,
    n_ins: int = 16,
) -> Sampler:
    """The named sampler over `data_source`.

    Raises UserError for an unknown name or sizes that do not fit.
    """
    check_availability(sampler_type, AVAI_SAMPLERS, "sampler")
    if sampler_type == "RandomSampler":
        return RandomSampler(data_source)
    if sampler_type == "SequentialSampler":
        return SequentialSampler(data_source)
    if sampler_type == "RandomDomainSampler":
        return RandomDomainSampler(data_source, batch_size, n_domain)
    if sampler_type == "SeqDomainSampler":
        return SeqDomainSampler(data_source, batch_size)
    if sampler_type == "BalancedGroupSampler":
        return BalancedGroupSampler(data_source, batch_size)
    return RandomClassSampler(data_source, batch_size, n_ins)
