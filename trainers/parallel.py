"""What trainers need where several processes train together.

Every process has its share of a batch's images, and computes the loss of the whole batch from what
all processes gather. Upstream Dassl knows one process: there nothing is gathered.
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
    """Rows (B, ...) of the whole batch, in order, from this process's (b, ...); differentiable."""
    return several.gather(tensor) if several else tensor


def from_main(make: Callable[[], T]) -> T:
    """The result of `make()` on the first process, which alone calls it.

    Tensors on the CPU, and plain data.
    """
    return several.from_main(make) if several else make()


def average_gradients(parameters: Iterable[nn.Parameter]) -> None:
    """Over the processes, between backward and step. The engine's `model_backward` does it, too."""
    if several:
        several.average_gradients(parameters)
