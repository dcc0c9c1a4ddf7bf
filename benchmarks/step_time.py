"""Time of a training step and of an evaluation, ours against the plain way, in interleaved runs.

The plain way is clip's modules as the public codes run them: every text at full context length,
nn.MultiheadAttention, all class texts encoded again for every test batch, CoCoOp one image after
the other. Both ways have the same random weights and prompts and must give the same logits and
gradients. "floor" is the time of the multiply-adds that the result really needs, at the speed of a
large matrix product on this machine.

    python benchmarks/step_time.py      # all methods, ViT-B/16, 50 and 200 classes: half an hour
    python benchmarks/step_time.py --methods CoOp --classes 50      # one of them
    python benchmarks/step_time.py --model tiny --classes 10        # a quick look
"""

import argparse
import statistics
import subprocess
import sys
from pathlib import Path

import torch

from tools.arguments import Parser

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from tools.plain_way import METHODS, SIZES, Bench, Towers, errors, peak_memory, timed, too_far


def products_per_second(device: torch.device, width: int) -> float:
    """Multiply-adds of a large matrix product of the tower's width."""
    a, b = torch.randn(4096, width, device=device), torch.randn(width, 4 * width, device=device)
    return a.shape[0] * b.numel() / min(timed(lambda: a @ b, device) for _ in range(5))


def peak_of_own_process(method: str, way: str, classes: int) -> float:
    """MiB that one run of `way` adds at its worst moment, in a separate process."""
    command = [
        sys.executable,
        *sys.argv,
        "--methods",
        method,
        "--classes",
        str(classes),
        "--peak",
        way,
    ]
    return float(
        subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()[-1]
    )


def bench_of(arguments: argparse.Namespace, method: str, classes: int) -> Bench:
    towers = Towers(SIZES[arguments.model], arguments.device)
    return Bench(
        towers, method, classes, arguments.batch, arguments.test_batch, arguments.test_batches
    )


def report_peak(bench: Bench, way: str) -> None:
    print(peak_memory(getattr(bench, way), bench.device))


def difference(plain: tuple, ours: tuple) -> tuple[str, bool]:
    """(how far results and gradients of the two ways differ, in words; whether that is too far)."""
    result, gradient = errors(plain, ours)
    words = f"results differ by {result:.0e}"
    if gradient is not None:
        words = f"{words}, gradients by {gradient:.0e}"
    return words, too_far(result, gradient)


def ratio(times: dict[str, list[float]], slow: str, fast: str) -> float:
    """Median of the ratios of runs that are next to each other in time.

    A busy machine slows both of a pair.
    """
    return statistics.median(a / b for a, b in zip(times[slow], times[fast], strict=True))


def compare(arguments: argparse.Namespace, method: str, classes: int) -> None:
    bench = bench_of(arguments, method, classes)
    speed = products_per_second(bench.device, bench.backbone.image.width)
    for task in ("train", "test", *(("tower",) if method == "CoOp" else ())):
        plain, ours = f"plain_{task}", f"our_{task}"
        ways = [plain, ours] + ["craft_train"] * (task == "train")
        results = {way: getattr(bench, way)() for way in ways}  # also warms up
        words, failed = difference(results[plain], results[ours])
        times: dict[str, list[float]] = {way: [] for way in ways}
        for _ in range(arguments.repeats):
            for way in ways:
                times[way].append(timed(getattr(bench, way), bench.device))
        plain_s, our_s = (statistics.median(times[way]) for way in (plain, ours))
        what = {
            "train": "step",
            "test": f"{arguments.test_batches} batches",
            "tower": "text tower",
        }[task]
        line = (
            f"{method:9s} {classes:4d} classes  {task:5s}  plain {plain_s:7.3f} s  "
            f"ours {our_s:7.3f} s / {what}  {ratio(times, plain, ours):5.2f}x  "
            f"floor {bench.floor(task) / speed:.3f} s"
        )
        if arguments.memory and task != "tower":
            peaks = (f"{peak_of_own_process(method, way, classes):,.0f}" for way in (plain, ours))
            line += f"  peak {' -> '.join(peaks)} MB"
        print(f"{line}  {words}", flush=True)
        if task == "train":
            added = ratio(times, "craft_train", ours) - 1
            print(
                f"{method:9s} {classes:4d} classes  CRAFT adds {100 * added:.1f}% to a training "
                "step",
                flush=True,
            )
        if failed:
            sys.exit("the two ways do not give the same numbers")


def main() -> None:
    parser = Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=list(METHODS))
    parser.add_argument("--model", choices=SIZES, default="ViT-B/16")
    parser.add_argument("--classes", type=int, nargs="+", default=[50, 200])
    parser.add_argument(
        "--batch", type=int, default=0, help="images of a training step; 0: as published"
    )
    parser.add_argument("--test-batch", type=int, default=20)
    parser.add_argument("--test-batches", type=int, default=5, help="batches of an evaluation")
    parser.add_argument("--repeats", type=int, default=2)
    parser.add_argument("--device", default="cpu")
    parser.add_argument(
        "--threads", type=int, default=0, help="CPU threads; 0 leaves torch's choice"
    )
    parser.add_argument(
        "--no-memory",
        dest="memory",
        action="store_false",
        help="leave out peak memory, which takes a process per number",
    )
    parser.add_argument("--peak", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    if arguments.peak:
        report_peak(bench_of(arguments, arguments.methods[0], arguments.classes[0]), arguments.peak)
        return
    print(
        f"{arguments.model}, random weights, float32, test batch {arguments.test_batch}, "
        f"{arguments.device}, {torch.get_num_threads()} threads, torch {torch.__version__}"
    )
    for method in arguments.methods:
        for classes in arguments.classes:
            compare(arguments, method, classes)


if __name__ == "__main__":
    main()
