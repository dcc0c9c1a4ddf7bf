"""Whether CRAFT can run here: `python -m tools.doctor [--root DATA] [--json FILE]`.

First what the machine has is looked at: Python and packages, torch, GPUs and driver, CLIP files
and their checksums, data sets, disk, memory. Then the real thing is run, for two minutes at most:
every precision against fp32, a training step of every structure at two numbers of classes, ours
against the plain way, with memory; a step shared by two processes; torch.compile. Each line is ok,
a note (runs work, with that in mind) or a fault (with its remedy). The last line is the verdict.
The exit code is 0 without a fault, 1 with one, 2 for a mistake in the command.
"""

import argparse
import json
import os
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict
from datetime import datetime, timezone
from pathlib import Path

from tools import inputs
from tools.arguments import Parser
from tools.doctor import machine, trial
from tools.doctor.lines import FAULT, Line, guarded, ok

VERSION = 1  # of the JSON's format

Checks = list[tuple[str, Callable[[], Iterator[Line]]]]


def checks(args: argparse.Namespace, budget: Callable[[], trial.Budget]) -> Checks:
    """All checks by name, in the order in which they are made.

    budget: begins to count when it is first asked for.
    """
    root = args.root or "data"
    return [
        ("Python", machine.python),
        ("torch", machine.torch_build),
        ("CUDA", machine.gpus),
        ("CLIP", machine.clip_files),
        ("data", lambda: machine.data_sets(root, bool(args.root), args.datasets)),
        ("disk", lambda: machine.disk(args.output_dir, root)),
        ("memory", machine.memory),
        ("trial", lambda: trial.measured(args.device, budget())),
        ("processes", lambda: trial.processes(args.device, budget())),
        ("torch.compile", lambda: trial.compile_blocks(args.device, budget())),
    ]


def verdict(lines: list[Line]) -> str:
    """One line: whether runs work here, and what the largest of them needs."""
    faults = [line for line in lines if line.status == FAULT]
    if faults:
        first = faults[0]
        more = f", and {len(faults) - 1} more" if len(faults) > 1 else ""
        said = " ".join(first.said.split())
        return f"not ready: {len(faults)} fault(s), first {first.check}: {said}{more}"
    need = trial.imagenet_memory(lines)
    if need is None:
        return "ready; memory for ImageNet not measured, which takes a GPU and the steps above"
    structure, gib = need
    frees = [line.numbers["free_gib"] for line in lines if line.check.startswith("GPU ")]
    have = f", you have {max(frees):.1f}" if frees else ""
    few, many = trial.CLASSES
    enough = "ready" if not frees or max(frees) >= gib else "ready, but not for ImageNet"
    return (
        f"{enough}; 16-shot ImageNet needs about {gib:.1f} GiB with {structure}, the largest, in "
        f"fp32{have} (a line through {few} and {many} classes, at {trial.IMAGENET:,})"
    )


def report(lines: list[Line], seconds: float) -> dict:
    """What --json writes."""
    faults = sum(line.status == FAULT for line in lines)
    return {
        "version": VERSION,
        "finished": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "seconds": round(seconds, 1),
        "ready": not faults,
        "verdict": verdict(lines),
        "lines": [asdict(line) for line in lines],
    }


def run(args: argparse.Namespace) -> int:
    """0, or 1 if there is a fault."""
    if args.json:
        from datasets.prepare import list_files

        lists = list_files(Path(args.root)) if args.root else []
        inputs.check_outputs([inputs.Output("--json", args.json, (".json",))], lists)
    if args.datasets:  # an unknown name is a mistake in the command
        from datasets.prepare import find

        for name in args.datasets:
            find(name)
    start = time.monotonic()
    lines: list[Line] = []
    begun: list[trial.Budget] = []

    def budget() -> trial.Budget:
        if not begun:
            begun.append(trial.Budget(args.seconds))
        return begun[0]

    for name, find_lines in checks(args, budget):
        for line in guarded(name, find_lines):
            if line.check == "step" and not any(other.check == "step" for other in lines):
                sys.stdout.write(f"{ok('step', trial.HEADER)}\n")
            sys.stdout.write(f"{line}\n")
            sys.stdout.flush()
            lines.append(line)
    content = report(lines, time.monotonic() - start)
    if args.json:
        inputs.write(args.json, json.dumps(content, indent=2) + "\n", "--json")
    sys.stdout.write(f"\n{content['verdict']}\n")
    return int(not content["ready"])


def main(arguments: list[str] | None = None) -> int:
    parser = Parser(
        description=__doc__,
        prog="python -m tools.doctor",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--root", type=os.path.expanduser, metavar="DATA", help="folder of the data sets"
    )
    parser.add_argument(
        "--datasets", nargs="+", default=[], metavar="NAME", help="data sets that have to be there"
    )
    parser.add_argument(
        "--output-dir", type=os.path.expanduser, default="output", help="where runs are to write"
    )
    parser.add_argument(
        "--device", choices=("auto", "cpu"), default="auto", help="auto: a GPU if there is one"
    )
    parser.add_argument(
        "--seconds",
        type=float,
        default=trial.SECONDS,
        help="time for the real thing (default: %(default)s; 0 leaves it out)",
    )
    parser.add_argument("--json", type=inputs.path, metavar="FILE", help="write all of it there")
    return inputs.main(run, parser.parse_args(arguments))


if __name__ == "__main__":
    sys.exit(main())
