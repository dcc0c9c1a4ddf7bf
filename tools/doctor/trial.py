"""The real thing on this machine within a budget of seconds: precisions, steps, processes, compile.

Each part is a process of `tools.doctor.work`: one that hangs, crashes or takes all memory ends
there, and what is left is named as not measured. Nothing here imports torch before it is needed.
"""

import json
import os
import re
import selectors
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress

from tools.configs import ROOT
from tools.doctor.lines import MARK, RANDOM, Line, fault, note, ok

SECONDS = 120
STEPS_SHARE = 0.6  # of the budget, at most, for precisions and steps
LEAST = 5.0  # seconds without which a part is not begun
CLASSES = (50, 200)
SMALL = "minute"  # of tools.plain_way.SIZES: fits the time on a CPU
# Largest difference of logits, relative to the largest logit, that rounding explains: a few hundred
# roundings of 10, 10 and 7 bits.
TOLERANCES = {"fp32": 1e-3, "fp16": 3e-2, "amp": 5e-2, "bf16": 1e-1}
IMAGENET = 1000  # classes
# The last line of a traceback, perhaps of one of several processes; not what torchrun adds.
ERROR = re.compile(
    r"(?:\[rank\d+\]: ?)?(?!torch\.distributed\.elastic)([\w.]*(?:Error|Exception): .+)"
)
HEADER = (
    f"{'structure':<10}{'classes':>8}{'batch':>7}{'plain':>11}{'ours':>11}{'ratio':>8}"
    f"{'memory, plain -> ours':>25}"
)


class Budget:
    """Seconds that are left of those given."""

    def __init__(self, seconds: float):
        self.end = time.monotonic() + seconds
        self.seconds = seconds

    def left(self) -> float:
        return self.end - time.monotonic()


class TimeUp(Exception):
    """A part had to be ended."""


class Died(Exception):
    """A part failed; the message says how."""


# A part in a process of its own


def results_of(name: str, options: dict, seconds: float, processes: int = 1) -> Iterator[dict]:
    """What `tools.doctor.work` finds, as it finds it.

    processes: more than one are started by torchrun. Raises TimeUp after `seconds`, and Died.
    """
    several = ["torch.distributed.run", "--standalone", f"--nproc-per-node={processes}", "-m"]
    module = [*(several if processes > 1 else []), "tools.doctor.work"]
    command = [sys.executable, "-W", "ignore", "-m", *module, name, json.dumps(options)]
    with tempfile.TemporaryFile("w+", errors="replace") as errors:
        process = subprocess.Popen(
            command, cwd=ROOT, stdout=subprocess.PIPE, stderr=errors, start_new_session=True
        )
        end = time.monotonic() + seconds
        try:
            yield from _rows(process, end)
            if code := process.wait(max(LEAST, end - time.monotonic())):
                raise Died(_reason(code, errors))
        except subprocess.TimeoutExpired:  # it hangs while it ends
            raise TimeUp from None
        finally:
            _end(process)


def _rows(process: subprocess.Popen, end: float) -> Iterator[dict]:
    """The results that a process prints until it closes stdout. Raises TimeUp."""
    stream, pending = process.stdout, b""
    assert stream is not None
    with selectors.DefaultSelector() as selector:
        selector.register(stream, selectors.EVENT_READ)
        while True:
            if not selector.select(max(0.0, end - time.monotonic())):
                raise TimeUp
            part = os.read(stream.fileno(), 1 << 16)
            if not part:
                return
            *lines, pending = (pending + part).split(b"\n")
            for line in lines:
                if line.startswith(MARK.encode()):
                    yield json.loads(line[len(MARK) :])


def _end(process: subprocess.Popen) -> None:
    """End a process and those it started.

    torchrun gives its processes sessions of their own, and ends them itself when it is asked to.
    """
    for number in (signal.SIGTERM, signal.SIGKILL):
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, number)
        with suppress(subprocess.TimeoutExpired):
            process.wait(LEAST)
    if process.stdout:
        process.stdout.close()


def _reason(code: int, errors) -> str:
    """Why a process ended: a signal, or the last line that it wrote to stderr."""
    if code == -signal.SIGKILL:
        return "it was killed, as a rule for want of memory"
    if code < 0:
        return f"it crashed: {signal.strsignal(-code)}"
    errors.seek(0)
    said = [line.strip() for line in errors.read().splitlines() if line.strip()]
    named = [match[1] for line in said if (match := ERROR.fullmatch(line))]
    return (named or said or [f"exit code {code}"])[-1]


# Parts


def choice(device: str) -> tuple[str, str, str]:
    """(device, CLIP for the precisions, model of the steps): "auto" takes a GPU if there is one.

    On a GPU both are ViT-B/16, of OpenAI's file where that is good, else with random weights; on a
    CPU they are the bundled CLIP and a small random one, as large ones do not fit the time.
    """
    import torch

    from trainers.backbone import openai_files

    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    large = "ViT-B/16"
    if device == "cpu":
        bundled = sorted((ROOT / "assets").glob("*.pt"))
        return device, str(bundled[0]) if bundled else f"{RANDOM}{SMALL}", SMALL
    there = openai_files().get(large)
    return device, large if there and there[1] else f"{RANDOM}{large}", large


def measured(device: str, budget: Budget) -> Iterator[Line]:
    """Precisions, then a training step of every structure, ours against the plain way."""
    from dassl.utils.logger import progress_bar
    from tools.plain_way import METHODS
    from trainers.backbone import PRECISIONS

    device, clip, model = choice(device)
    planned = [f"precision {name}" for name in PRECISIONS] + [
        f"step of {method} at {number} classes" for number in CLASSES for method in METHODS
    ]
    options = {"device": device, "clip": clip, "model": model, "classes": CLASSES}
    seconds = min(budget.left(), STEPS_SHARE * budget.seconds)
    yield ok("trial", f"on {device}: precisions with {_named(clip)}; steps with {_sizes(model)}")
    lines: list[Line] = []
    stopped = None
    if seconds < LEAST:
        stopped = _no_time("measurements", planned, budget)
    else:
        with progress_bar(len(planned), "measuring") as bar:
            try:
                for row in results_of("measure", options, seconds):
                    lines.append(_line(row))
                    bar.update()
            except TimeUp:
                stopped = _no_time("measurements", planned[len(lines) :], budget)
            except Died as error:
                what = planned[min(len(lines), len(planned) - 1)]
                stopped = fault("trial", f"{what} failed ({error})", _remedy(str(error)))
    yield from lines
    if stopped:
        yield stopped


def _named(clip: str) -> str:
    if clip.startswith(RANDOM):
        return _sizes(clip.removeprefix(RANDOM))
    return os.path.relpath(clip, ROOT) if os.path.isabs(clip) else f"OpenAI's {clip}"


def _sizes(model: str) -> str:
    """A name of `tools.plain_way.SIZES`, in words."""
    from tools.plain_way import SIZES

    _, pixels, layers, width, *_ = SIZES[model]
    name = model if "/" in model else "a small CLIP"
    return f"{name} of random weights ({layers} layers of width {width}, {pixels} pixels)"


def _no_time(check: str, left: Sequence[str], budget: Budget) -> Line:
    """That nothing is known of what did not fit into the budget."""
    said = f"not measured, as the {budget.seconds:g} seconds are used up: {', '.join(left)}"
    return note(check, said, "give more with --seconds", left=list(left))


def _remedy(reason: str) -> str:
    if "memory" in reason.lower():
        return "end other programs, or use a machine with more memory"
    return "mend what it names, or report it with this line"


def _line(row: dict) -> Line:
    return _precision_line(row) if row["kind"] == "precision" else _step_line(row)


def _precision_line(row: dict) -> Line:
    """How far the logits of a precision are from those of fp32."""
    precision = row["precision"]
    check = f"PREC {precision}"
    instead = (
        f"train with another PREC than {precision}"
        if precision != "fp32"
        else ("have the GPU and its driver looked at")
    )
    if "skipped" in row:
        return note(check, f"not measured: {row['skipped']}", **row)
    if "failed" in row:
        return fault(check, f"fails here ({row['failed']})", instead, **row)
    if row["difference"] is None:
        return fault(check, "gives logits that are not finite", instead, **row)
    said = (
        f"logits differ by {row['difference']:.1e} of the largest, first ranks agree for "
        f"{100 * row['same_first']:.0f}%, {1000 * row['seconds']:.0f} ms"
    )
    if row["difference"] > TOLERANCES.get(precision, TOLERANCES["bf16"]):
        return fault(check, f"{said}, more than rounding explains", instead, **row)
    return ok(check, said, **row)


def _step_line(row: dict) -> Line:
    """A row of the table of steps."""
    from tools.plain_way import too_far

    start = f"{row['structure']:<10}{row['classes']:>8}"
    if "failed" in row:
        remedy = "train with a smaller batch, or TRAINER.TEXT_CHECKPOINTING True"
        return fault("step", f"{start}  {row['failed']}", remedy, **row)
    plain = row["plain_s"]
    memory = " -> ".join(map(_mib, (row["plain_mib"], row["ours_mib"])))
    ratio = f"{plain / row['ours_s']:.2f}" if plain else "-"
    said = (
        f"{start}{row['batch']:>7}{_seconds(plain):>11}{_seconds(row['ours_s']):>11}"
        f"{ratio:>8}{memory:>25}"
    )
    if plain is not None and too_far(row["result"], row["gradient"]):
        words = f"results differ by {row['result']:.0e}, gradients by {row['gradient']:.0e}"
        return fault("step", f"{said}  {words}", "train on another device, and report it", **row)
    return ok("step", said, **row)


def _seconds(value: float | None) -> str:
    return "no memory" if value is None else f"{1000 * value:,.1f} ms"


def _mib(value: float | None) -> str:
    return "-" if value is None else f"{value:,.0f} MiB"


def processes(device: str, budget: Budget) -> Iterator[Line]:
    """A step shared by two processes: by gloo on the CPU, and by NCCL on two GPUs."""
    import torch

    gpus = torch.cuda.device_count() if torch.cuda.is_available() and device != "cpu" else 0
    yield from _shared("gloo", "cpu", budget)
    if gpus >= 2:
        yield from _shared("NCCL", "cuda", budget)
    else:
        yield note("NCCL", f"not measured: it needs two GPUs, and here are {gpus}")


def _shared(name: str, device: str, budget: Budget) -> Iterator[Line]:
    if budget.left() < LEAST:
        yield _no_time(name, ["a step shared by two processes"], budget)
        return
    options = {"device": device, "model": SMALL}
    remedy = (
        "see docs/multi_gpu.md, and try NCCL_P2P_DISABLE=1"
        if name == "NCCL"
        else "let processes of this machine connect to each other (firewall, GLOO_SOCKET_IFNAME)"
    )
    try:
        rows = list(results_of("shared", options, budget.left(), processes=2))
    except TimeUp:
        yield _no_time(name, ["a step shared by two processes"], budget)
        return
    except Died as error:
        yield fault(name, f"two processes fail ({error})", remedy)
        return
    if not rows:
        yield fault(name, "two processes end without a result", remedy)
        return
    row = rows[0]
    said = f"two processes have the gradient of one, but for {row['gradient']:.0e} of it"
    if not row["gradient"] < 1e-3:
        yield fault(name, f"two processes differ by {row['gradient']:.0e} from one", remedy, **row)
    else:
        yield ok(name, said, **row)


def compile_blocks(device: str, budget: Budget) -> Iterator[Line]:
    """A step with TRAINER.COMPILE against one without."""
    from tools.plain_way import too_far

    check, without = "torch.compile", "leave TRAINER.COMPILE False"
    if budget.left() < LEAST:
        yield _no_time(check, ["a step of CoOp with compiled blocks"], budget)
        return
    device, _, model = choice(device)
    try:
        rows = list(results_of("compiled", {"device": device, "model": model}, budget.left()))
    except TimeUp:
        yield _no_time(check, ["a step of CoOp with compiled blocks"], budget)
        return
    except Died as error:  # most often there is no compiler; no published config asks for it
        yield note(check, f"does not work here ({error})", without)
        return
    row = rows[0]
    ratio = row["eager_s"] / row["compiled_s"]
    said = (
        f"{row['first_s']:.0f} s for the first step, then {1000 * row['compiled_s']:.1f} ms for "
        f"{1000 * row['eager_s']:.1f} ms without ({ratio:.2f} times as fast)"
    )
    if too_far(row["result"], row["gradient"]):
        yield fault(check, f"gives other numbers ({row['result']:.0e})", without, **row)
    else:
        yield ok(check, said, **row)


# Memory for ImageNet


def imagenet_memory(lines: Sequence[Line]) -> tuple[str, float] | None:
    """(structure, GiB) of the structure that takes most for a step with ImageNet's classes.

    Linear in the classes, from the two numbers of classes that were measured on a GPU; CLIP's
    weights included. None if that was not measured.
    """
    steps = [line.numbers for line in lines if line.check == "step"]
    rows = [row for row in steps if row["device"] != "cpu" and row.get("ours_mib")]
    needs = {}
    for structure in {row["structure"] for row in rows}:
        points = sorted(
            (row["classes"], row["ours_mib"]) for row in rows if row["structure"] == structure
        )
        if len(points) < 2:
            continue
        (few, low), (many, high) = points[0], points[-1]
        step = high + (high - low) / (many - few) * (IMAGENET - many)
        weights = next(row["weights_mib"] for row in rows)
        needs[structure] = (weights + max(step, high)) / 1024
    if not needs:
        return None
    structure = max(needs, key=lambda name: needs[name])
    return structure, needs[structure]
