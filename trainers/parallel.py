"""What trainers need where several processes train together. Upstream Dassl knows only one: then these do nothing, or the obvious.

Every process has its share of a batch's images, and computes the loss of the whole batch from what all of them gather.
"""

from collections.abc import Callable, Iterable
from typing import TypeVar

from torch import Tensor, nn

try:
    import dassl.distributed as several
except ModuleNotFoundError:
    several = None  # type: ignore[assignment]

T = TypeVar("T")


def gather(tensor: Tensor) -> Tensor:
    """(B, ...), of the whole batch and in its order, from this process's rows (b, ...); differentiable."""
    return several.gather(tensor) if several else tensor


def from_main(make: Callable[[], T]) -> T:
    """What `make()` returns on the first process, which alone calls it: tensors on the CPU, plain data."""
    return several.from_main(make) if several else make()


def average_gradients(parameters: Iterable[nn.Parameter]) -> None:
    """Over the processes, between backward and step. The engine's `model_backward` does it, too."""
    if several:
        several.average_gradients(parameters)
