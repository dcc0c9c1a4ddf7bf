"""Mean accuracy from the log files of CoOp-style runs: `python -m tools.parse_test_res DIRECTORY`.

DIRECTORY holds one folder per seed with a log.txt (with --multi-exp: one folder per experiment,
each with seeds). The spread is CoOp's: the standard deviation of the runs themselves (divided by
n), while `tools.results`, which reads results.json and tells more, estimates that of all seeds
(divided by n - 1).
"""

import argparse
import re
import statistics
import sys
from pathlib import Path

from dassl import files, record
from tools import inputs
from tools.arguments import Parser
from tools.inputs import InputError


def read_log(path: Path, keyword: str, mark: str) -> float | None:
    """The last `* keyword: x%` after the line `mark`; None if the log has none."""
    value, seen = None, False
    if not files.is_file(path):
        return None
    try:
        text = path.read_text(encoding="utf-8", errors="replace")
    except OSError as error:
        raise InputError(
            f"'{path}' cannot be read ({error.strerror}): correct its rights, or look after the "
            "disk"
        ) from None
    for line in text.splitlines():
        seen |= line.strip() == mark
        match = re.match(rf"\* {re.escape(keyword)}: ([-.\deE+]+)%", line.strip())
        if match and seen:
            value = float(match[1])
    return value


def summarise(folder: Path, args: argparse.Namespace) -> float | None:
    """Print the folder's runs and their mean; returns the mean."""
    values, without = [], []
    for log in sorted(
        path / record.LOG
        for path in folder.iterdir()
        if path.is_dir() and not path.name.startswith(".")
    ):
        value = (
            read_log(log, args.keyword, "=> result" if args.test_log else "Finish training")
            if log.is_file()
            else None
        )
        if value is None:
            without.append(log)
            continue
        values.append(value)
        sys.stdout.write(f"file: {log}. {args.keyword}: {value:.2f}%\n")
    remedy = "" if args.test_log else " after training; for test runs give --test-log"
    lacking = f"'* {args.keyword}'{remedy}"
    if not values:
        sys.stderr.write(f"error: no log.txt below '{folder}' holds {lacking}\n")
        return None
    for log in without:
        sys.stderr.write(
            f"note: '{log}' does not count: it "
            f"{f'holds no {lacking}' if log.is_file() else 'does not exist'}\n"
        )
    spread = statistics.pstdev(values)
    if args.ci95:
        spread *= 1.96 / len(values) ** 0.5
    mean = statistics.mean(values)
    sys.stdout.write(
        f"===\nSummary of '{folder}' over {len(values)} run(s)\n* {args.keyword}: {mean:.2f}% +- "
        f"{spread:.2f}%\n===\n"
    )
    return mean


def run(args: argparse.Namespace) -> int:
    if not args.directory.is_dir():
        raise InputError(
            f"'{args.directory}' is not a folder: give the folder that holds the seeds' folders"
        )
    folders = (
        sorted(path for path in args.directory.iterdir() if path.is_dir())
        if args.multi_exp
        else [args.directory]
    )
    means = [mean for folder in folders if (mean := summarise(folder, args)) is not None]
    if args.multi_exp and means:
        sys.stdout.write(f"Average: {statistics.mean(means):.2f}%\n")
    return 0 if means else 2


def main(arguments: list[str] | None = None) -> int:
    parser = Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("directory", type=inputs.path)
    parser.add_argument(
        "--ci95", action="store_true", help="1.96 standard errors instead of the standard deviation"
    )
    parser.add_argument(
        "--test-log", action="store_true", help="logs of test runs (without training)"
    )
    parser.add_argument(
        "--multi-exp", action="store_true", help="several experiments below DIRECTORY"
    )
    parser.add_argument("--keyword", default="accuracy")
    return inputs.main(run, parser.parse_args(arguments))


if __name__ == "__main__":
    sys.exit(main())
