"""Several processes of one run, started by torchrun.

Where there is only one, everything here does nothing or the obvious.

The engine shares out every batch so that process `rank()` of `world_size()` has its items
[rank::world_size]; see docs/multi_gpu.md. Tensors on a GPU travel by NCCL, all others, and Python
objects, by gloo.
"""

import hashlib
import json
import os
import re
import sys
import time
import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn

from dassl.utils.tools import UserError, get_rng_state, set_random_seed, set_rng_state

T = TypeVar("T")
# The first process may encode a whole data set while the others wait. Nobody waits in vain:
# torchrun ends all when one has ended.
PATIENCE = timedelta(days=1)
SILENT_S = 5  # for which a process that has nothing to say waits for torchrun to end it
NEEDED = {
    "RANK",
    "WORLD_SIZE",
    "LOCAL_RANK",
    "MASTER_ADDR",
    "MASTER_PORT",
}  # what torchrun tells its processes
LOST = re.compile(r"(?i)closed by peer|reset by peer|broken pipe|connection refused")
_store = None  # of torchrun; outlives every process


def _several() -> bool:
    return dist.is_available() and dist.is_initialized()


def rank() -> int:
    """Number of this process, from 0."""
    return dist.get_rank() if _several() else 0


def world_size() -> int:
    """Number of processes."""
    return dist.get_world_size() if _several() else 1


def is_main() -> bool:
    """Whether this process writes: the first one does."""
    return rank() == 0


# Beginning and end


def start() -> None:
    """Join the other processes, if torchrun has started several.

    Only the first one has a stdout and warns from then on.
    """
    global _store
    if _several() or not NEEDED <= os.environ.keys() or int(os.environ["WORLD_SIZE"]) < 2:
        return
    _store, number, count = next(dist.rendezvous("env://", timeout=PATIENCE))
    backend = (
        "cpu:gloo,cuda:nccl" if torch.cuda.is_available() and dist.is_nccl_available() else "gloo"
    )
    dist.init_process_group(
        backend,
        store=dist.PrefixStore("group", _store),
        rank=number,
        world_size=count,
        timeout=PATIENCE,
    )
    if number:
        sys.stdout = open(os.devnull, "w", encoding="utf-8", errors="backslashreplace")
        warnings.simplefilter("ignore")


def stop() -> None:
    """Wait for the other processes to finish and leave them."""
    if _several():
        barrier()
        dist.destroy_process_group()


def first_to_fail(sentence: str) -> bool:
    """Whether the error that ends this process is the first error of the run.

    Only the first error is printed; later ones are its consequences or copies. The first one is in
    torchrun's report, too; the other processes wait a little for torchrun to end them, so that they
    stay out of that report.
    """
    if not _several():
        return True
    try:
        first = _store is None or _store.add("failed", 1) == 1
    except RuntimeError:  # the store is gone, and with it whoever could have spoken
        first = True
    if not first:
        time.sleep(SILENT_S)
    elif path := os.environ.get("TORCHELASTIC_ERROR_FILE"):
        with open(path, "w", encoding="utf-8") as file:
            json.dump(
                {
                    "message": {
                        "message": sentence,
                        "extraInfo": {"timestamp": str(int(time.time()))},
                    }
                },
                file,
            )
    return first


def own_device(use_cuda: bool) -> torch.device:
    """Where this process computes: with several, each has a GPU of its own.

    Raises UserError if there are too few GPUs.
    """
    if not (use_cuda and torch.cuda.is_available()):
        return torch.device("cpu")
    if world_size() == 1:
        return torch.device("cuda")
    local = int(os.environ["LOCAL_RANK"])
    if local >= torch.cuda.device_count():
        raise UserError(
            f"there are {torch.cuda.device_count()} GPU(s) for more processes on this machine: "
            "reduce --nproc-per-node, or set USE_CUDA False"
        )
    torch.cuda.set_device(local)
    return torch.device("cuda", local)


# Exchange


@contextmanager
def _together() -> Iterator[None]:
    """Turn the error of a collective operation whose partner is gone into one sentence."""
    try:
        yield
    except RuntimeError as error:
        if not LOST.search(str(error)):
            raise
        raise UserError(
            "another process of this run was ended (killed, or out of memory): run the same "
            "command again to go on from the last checkpoint"
        ) from None


def barrier() -> None:
    """Wait until all processes are here."""
    if world_size() > 1:
        with _together():
            dist.all_reduce(torch.zeros(1))


@contextmanager
def main_first() -> Iterator[None]:
    """The first process goes through the body before the others, which find the files it has
    written there.
    """
    if not is_main():
        barrier()
    yield
    if is_main():
        barrier()


def from_main(make: Callable[[], T]) -> T:
    """What `make()` returns on the first process: any object that can be pickled, tensors on the
    CPU.
    """
    if world_size() == 1:
        return make()
    holder = [make() if is_main() else None]
    with _together():
        dist.broadcast_object_list(holder, src=0)
    return holder[0]


def gather_objects(value: Any) -> list:
    """The values of all processes, by rank: any objects that can be pickled, tensors on the CPU."""
    if world_size() == 1:
        return [value]
    values = [None] * world_size()
    with _together():
        dist.all_gather_object(values, value)
    return values


def in_turn(tensors: list[Tensor] | None) -> list[list[Tensor]]:
    """Return the lists of all processes, by rank, on the CPU; lists that are None are left out.

    A single process gets its list unchanged.
    """
    if world_size() == 1:
        return [] if tensors is None else [tensors]
    gathered = gather_objects(None if tensors is None else [tensor.cpu() for tensor in tensors])
    return [tensors for tensors in gathered if tensors is not None]


class _Gather(torch.autograd.Function):
    """Backward: each process has its loss, and a row's gradient is the sum over the processes."""

    @staticmethod
    def forward(ctx, tensor: Tensor) -> Tensor:
        count = world_size()
        sizes = [torch.zeros(1, dtype=torch.long) for _ in range(count)]
        dist.all_gather(sizes, torch.tensor([len(tensor)]))
        most = int(max(sizes))
        padded = torch.cat(
            [tensor, tensor.new_zeros(most - len(tensor), *tensor.shape[1:])]
        ).contiguous()
        parts = [torch.empty_like(padded) for _ in range(count)]
        dist.all_gather(parts, padded)
        order = [(i, r) for i in range(most) for r in range(count) if i < sizes[r]]
        ctx.own = [place for place, (_, r) in enumerate(order) if r == rank()]
        return torch.stack(parts, 1).flatten(0, 1)[[i * count + r for i, r in order]]

    @staticmethod
    def backward(ctx, gradient: Tensor) -> Tensor:
        gradient = gradient.clone(memory_format=torch.contiguous_format)
        with _together():
            dist.all_reduce(gradient)
        return gradient[ctx.own]


def gather(tensor: Tensor) -> Tensor:
    """Return the rows of all processes, (B, ...), from this one's (b, ...); b may differ.

    The order is: each process's first row, then each one's second row, and so on, which is the
    order of the whole batch for shares that the engine deals. Differentiable: a row's gradient is
    the sum of its gradients in all processes. A single process gets `tensor` back.
    """
    if world_size() == 1:
        return tensor
    with _together():
        return _Gather.apply(tensor)


def average_gradients(parameters: Iterable[nn.Parameter]) -> None:
    """Replace each gradient by its mean over the processes; a parameter without one in any process
    keeps none.

    One message: all gradients, flat, and for each whether there is one.
    """
    unique = list(
        {id(parameter): parameter for parameter in parameters if parameter.requires_grad}.values()
    )
    if world_size() == 1 or not unique:
        return
    gradients = [
        torch.zeros_like(parameter) if parameter.grad is None else parameter.grad
        for parameter in unique
    ]
    has_gradient = gradients[0].new_tensor([parameter.grad is not None for parameter in unique])
    flat = torch.cat([*(gradient.reshape(-1) for gradient in gradients), has_gradient])
    with _together():
        dist.all_reduce(flat)
    *means, has_gradient = (flat / world_size()).split(
        [*(gradient.numel() for gradient in gradients), len(unique)]
    )
    for parameter, mean, known in zip(unique, means, has_gradient.tolist(), strict=True):
        if known:
            parameter.grad = mean.view_as(parameter).to(parameter.dtype)


def broadcast_state(model: nn.Module) -> None:
    """Overwrite parameters and buffers with those of the first process."""
    if world_size() > 1:
        with _together(), torch.no_grad():
            for tensor in (*model.parameters(), *model.buffers()):
                held = tensor.contiguous()
                dist.broadcast(held, src=0)
                tensor.copy_(held)


def share_random_states() -> None:
    """Set all random states to those of the first process, which an unseeded run needs for all to
    draw the same few shots.
    """
    if world_size() > 1:
        set_rng_state(from_main(get_rng_state))


def separate_random_states() -> None:
    """Give every process but the first random streams that are seeded from the first one's state.

    Rank 0 thus draws exactly what a single process would; called before every epoch, all streams
    can be rebuilt from the one state a checkpoint stores.
    """
    if world_size() > 1:
        seed = from_main(
            lambda: int.from_bytes(
                hashlib.sha256(torch.get_rng_state().numpy().tobytes()).digest()[:7], "big"
            )
        )
        if not is_main():
            set_random_seed(seed + rank())
