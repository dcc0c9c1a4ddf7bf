"""The real thing, run by `tools.doctor.trial` in processes of its own, which may die or be ended.

    python -m tools.doctor.work NAME '{"device": "cpu", ...}'

NAME is a function of WORK. Each of its results is a line of stdout, MARK and JSON; whatever else
is printed goes to stderr.
"""

import contextlib
import json
import logging
import os
import statistics
import sys
import time
import warnings
from collections.abc import Callable, Iterator, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from dassl import distributed
from dassl.engine import TRAINER_REGISTRY
from tools.doctor.lines import MARK, RANDOM
from tools.plain_way import (
    METHODS,
    SIZES,
    Bench,
    Towers,
    configured,
    errors,
    names_of,
    peak_memory,
    timed,
)
from trainers.backbone import PRECISIONS, Backbone, clip, load_backbone
from trainers.base import PromptTrainer
from trainers.model import DEFAULT_TEMPLATE, PromptedCLIP
from trainers.parallel import average_gradients, gather

CLASSES, PICTURES = 50, 8  # of the comparison of precisions
LONG_S = 5.0  # seconds of a step that is not repeated, though its first time does more than others
REPEATS, REPEATED_S = 7, 1.0  # times and seconds, at most, that a short step is made
SHARED = "MaPLe"  # trained by two processes: prompts of both towers
NO_MEMORY = (MemoryError, torch.cuda.OutOfMemoryError)


# Precisions


def backbone_of(name: str, precision: str) -> Backbone:
    """A CLIP by OpenAI's name, by file, or with random weights (RANDOM and a name of SIZES)."""
    if not name.startswith(RANDOM):
        return load_backbone(name, precision)
    torch.manual_seed(0)
    sizes = SIZES[name.removeprefix(RANDOM)]
    return Backbone(clip.model.CLIP(*sizes).state_dict(), precision)


def model_of(name: str, precision: str, device: str) -> PromptedCLIP:
    """CoOp's model as it starts, with CLASSES classes."""
    backbone = backbone_of(name, precision).to(device)
    cfg = configured("CoOp", backbone.text.layers)
    cfg.TRAINER.COOP.PREC = precision
    kind: type[PromptTrainer] = TRAINER_REGISTRY.get("CoOp")
    torch.manual_seed(0)
    return kind.make_clip(cfg, backbone, names_of(CLASSES), (DEFAULT_TEMPLATE,))


def pictures(pixels: int) -> Tensor:
    """PICTURES smooth random pictures, normalised: (PICTURES, 3, pixels, pixels)."""
    torch.manual_seed(0)
    coarse = torch.randn(PICTURES, 3, 8, 8)
    return F.interpolate(coarse, (pixels, pixels), mode="bicubic", align_corners=False)


@torch.no_grad()
def logits_and_time(model: PromptedCLIP, images: Tensor) -> tuple[Tensor, float]:
    """Logits (B, C) on the CPU, and seconds of a second call."""
    images = images.to(model.device)
    logits = model.logits(images).float().cpu()
    return logits, timed(lambda: model.logits(images), model.device)


def compared(logits: Tensor, reference: Tensor) -> dict:
    """How far logits (B, C) are from the reference's, relative to its largest, and in first ranks.

    The difference is None where logits are not finite, which JSON has no number for.
    """
    distance = ((logits - reference).abs().max() / reference.abs().max()).item()
    return {
        "difference": distance if logits.isfinite().all() else None,
        "same_first": (logits.argmax(1) == reference.argmax(1)).float().mean().item(),
    }


def precisions(device: str, clip: str, known: Sequence[str] = PRECISIONS) -> Iterator[dict]:
    """Logits of each precision against those of fp32; on a GPU fp32 against the CPU's."""
    reference = None
    for precision in known:
        row: dict = {"kind": "precision", "precision": precision, "clip": clip}
        if precision == "fp16" and device == "cpu":
            yield row | {"skipped": "it needs a GPU"}
            continue
        try:
            model = model_of(clip, precision, device)
            images = pictures(model.backbone.input_resolution)
            logits, seconds = logits_and_time(model, images)
            if reference is None:
                on_cpu = model_of(clip, precision, "cpu") if device != "cpu" else model
                reference = logits_and_time(on_cpu, images)[0]
            yield row | {"seconds": seconds} | compared(logits, reference)
        except (RuntimeError, *NO_MEMORY) as error:
            yield row | {"failed": in_words(error)}


def in_words(error: BaseException) -> str:
    """Its kind and the first line of its message."""
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__


# Training steps


def steps(
    device: str, model: str, classes: Sequence[int], methods: Sequence[str] = tuple(METHODS)
) -> Iterator[dict]:
    """A training step of each structure, ours and the plain way: results, time, memory.

    model: a name of SIZES. All structures with the fewest classes come first, so that little time
    tells something of each.
    """
    towers = Towers(SIZES[model], device)
    weights = sum(value.numel() * value.element_size() for value in _tensors(towers.backbone))
    for number in sorted(classes):
        for method in methods:
            row = {"kind": "step", "structure": method, "classes": number}
            row |= {"model": model, "device": device}
            try:
                yield row | step(Bench(towers, method, number), weights / 2**20)
            except NO_MEMORY as error:
                yield row | {"failed": in_words(error)}
            if device != "cpu":
                torch.cuda.empty_cache()


def _tensors(backbone: Backbone) -> list[Tensor]:
    return [*backbone.parameters(), *backbone.buffers()]


def step(bench: Bench, weights: float) -> dict:
    """Both ways to make a step of `bench`. weights: MiB of the CLIP.

    The plain way may take more memory than there is: its numbers are then None.
    """
    row: dict = {"batch": len(bench.images), "weights_mib": round(weights, 1)}
    row["ours_s"], row["ours_mib"], ours = measured(bench.our_train, bench)
    try:
        row["plain_s"], row["plain_mib"], plain = measured(bench.plain_train, bench)
    except NO_MEMORY:
        return row | dict.fromkeys(("plain_s", "plain_mib", "result", "gradient"))
    row["result"], row["gradient"] = errors(plain, ours)
    return row


def measured(run: Callable[[], tuple], bench: Bench) -> tuple[float, float | None, tuple]:
    """(seconds, MiB at the worst moment, what it returns) of a step.

    A step of less than LONG_S is made again, and the first time does not count: it warms up, and
    computes what a run computes once, such as PromptSRC's texts of frozen CLIP. Short steps are
    made several times, in REPEATED_S at most, and their median counts.
    """
    made: list[tuple[float, tuple]] = []

    def once() -> None:
        results: list[tuple] = []
        seconds = timed(lambda: results.append(run()), bench.device)
        made.append((seconds, results[0]))

    for _ in range(2):
        made.clear()
        peak = peak_memory(once, bench.device)
        if not made:  # where memory cannot be measured
            once()
        if made[0][0] >= LONG_S:
            break
    seconds, more = [made[0][0]], int(min(REPEATS, REPEATED_S / made[0][0])) - 1
    seconds += [timed(run, bench.device) for _ in range(more)]
    return statistics.median(seconds), None if peak is None else round(peak, 1), made[0][1]


# torch.compile


def compiled(device: str, model: str) -> Iterator[dict]:
    """A step of CoOp with compiled blocks against one without."""
    bench = Bench(Towers(SIZES[model], device), "CoOp", CLASSES)
    plain = bench.our_train()
    eager = timed(bench.our_train, bench.device)
    bench.backbone.compile_blocks()
    start = time.perf_counter()
    result, gradient = errors(plain, bench.our_train())
    first = time.perf_counter() - start
    yield {
        "kind": "compile",
        "first_s": first,
        "eager_s": eager,
        "compiled_s": timed(bench.our_train, bench.device),
        "result": result,
        "gradient": gradient,
    }


# Several processes


def shared(device: str, model: str) -> Iterator[dict]:
    """A step whose batch the processes of torchrun share, against the same step alone."""
    distributed.start()
    own = distributed.own_device(device != "cpu")
    bench = Bench(Towers(SIZES[model], own), SHARED, CLASSES)
    alone = loss_gradient(bench, bench.images, bench.labels)
    count, number = distributed.world_size(), distributed.rank()
    own_share = slice(number, None, count)
    start = time.perf_counter()
    together = loss_gradient(bench, bench.images[own_share], bench.labels[own_share])
    seconds = time.perf_counter() - start
    distance = ((together - alone).norm() / alone.norm()).item()
    worst = max(distributed.gather_objects(distance))
    backend = "nccl" if own.type == "cuda" else "gloo"
    yield {
        "kind": "shared",
        "backend": backend,
        "processes": count,
        "seconds": seconds,
        "gradient": worst,
    }
    distributed.stop()


def loss_gradient(bench: Bench, images: Tensor, labels: Tensor) -> Tensor:
    """Flat gradient of the cross entropy over the whole batch, of which these are one share."""
    features = bench.ours.features(images)
    if len(images) < len(bench.images):
        features, labels = features.gathered(), gather(labels)
    bench.optimizer.zero_grad()
    F.cross_entropy(features.logits(), labels).backward()
    if len(images) < len(bench.images):
        average_gradients(bench.parameters)
    return torch.cat([parameter.grad.flatten() for parameter in bench.parameters])


def measure(device: str, clip: str, model: str, classes: Sequence[int]) -> Iterator[dict]:
    """`precisions`, then `steps`: one process, as starting one takes seconds."""
    yield from precisions(device, clip)
    yield from steps(device, model, classes)


WORK: dict[str, Callable[..., Iterator[dict]]] = {
    "measure": measure,
    "compiled": compiled,
    "shared": shared,
}


def main(arguments: Sequence[str]) -> int:
    name, options = arguments
    logging.disable(logging.WARNING)
    warnings.simplefilter("ignore")
    torch.backends.cudnn.allow_tf32 = False  # torch's default, as coarse as half precision
    with os.fdopen(os.dup(1), "w") as results, contextlib.redirect_stdout(sys.stderr):
        for row in WORK[name](**json.loads(options)):
            if distributed.is_main():
                results.write(f"{MARK}{json.dumps(row)}\n")
                results.flush()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
