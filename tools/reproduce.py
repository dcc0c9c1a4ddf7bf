"""A table of the paper, or the bundled study: `python -m tools.reproduce TABLE [options ...]`.

Options are those of tools.sweep, and KEY VALUE pairs.

TABLE is a plan of configs/sweeps: suite (the bundled study, on a laptop), suite_ablation, or
base2new, xd, few_shot, ablation, ood, groups (with the data sets under DATA). Everything that is
missing is run; then tables, pictures and the report page are made. Environment: DATA (default
data), OUTPUT (default output). Stop it at any time: the same command goes on.
"""

import argparse
import os
import subprocess
import sys
from pathlib import Path

from tools import configs, inputs
from tools.arguments import Parser
from tools.configs import ROOT
from tools.inputs import InputError
from tools.plans import read_plan
from tools.protocols import PROTOCOLS, collect
from tools.run import absolute, folder_of

# Pictures of the paper: kind of tools.figures, runs below the folder OOD, further arguments.
OOD = "ood/train/emoji_to_emoji_line/shots_8"
FIGURES = (
    ("tsne", ("MaPLe/suite", "CraftMaPLe/suite"), ("--classes", "3")),
    (
        "channels",
        ("MaPLe/suite", "CraftMaPLe/suite", "CraftMaPLe/suite_mmd"),
        ("--target", "EmojiLine"),
    ),
    ("predictions", ("CoOp/suite", "CraftCoOp/suite"), ("--target", "EmojiLine")),
)


def tool(name: str, *arguments: object) -> int:
    """The exit code of `python -m name`."""
    return subprocess.run([sys.executable, "-m", name, *map(str, arguments)], cwd=ROOT).returncode


def figures(root: str, output: Path) -> list[Path]:
    """Pictures of the paper from the runs of seed 1, as far as the output folder has them."""
    wanted: dict[str, tuple[list[Path], tuple[str, ...]]] = {
        kind: ([output / OOD / run / "seed1" for run in runs], more) for kind, runs, more in FIGURES
    }
    if (output / "ablation").is_dir():
        wanted["ablation"] = ([output], ())
    drawn = []
    for kind, (runs, more) in wanted.items():
        complete = all(run == output or (run / "results.json").is_file() for run in runs)
        path = output / "figures" / kind
        if (
            complete
            and tool("tools.figures", kind, *runs, "--root", root, "--out", path, *more) == 0
        ):
            drawn.append(path.with_suffix(".png"))
    return drawn


def tables(output: Path) -> None:
    """Files of all tables that have runs."""
    for name, protocol in PROTOCOLS.items():
        if collect(protocol, [output])[0]:
            command = [sys.executable, "-m", "tools.results", name, str(output)]
            subprocess.run(
                [*command, "--out", str(output / "tables" / name)],
                cwd=ROOT,
                stdout=subprocess.DEVNULL,
            )


def bundled(plan: str) -> list[str]:
    """Bundled data sets that a plan needs. Raises InputError for a bad plan."""
    runs = [job.run for job in read_plan(plan).jobs]
    needed = {name for run in runs for name in (run.source, run.tested, run.target)}
    return [name for name in configs.bundled_datasets() if name in needed]


def prepare(plan: str, root: str) -> int:
    """The exit code of the preparation of the bundled data sets that a plan needs."""
    for dataset in bundled(plan):
        if code := tool("datasets.prepare", dataset, "--root", root):
            return code
    return 0


def run(args: argparse.Namespace) -> int:
    """The sweep's exit code; where only the report cannot be made, 1."""
    plans = configs.stems("sweeps")
    if args.table not in plans:
        sys.stderr.write(
            "usage: reproduce.sh TABLE [options of tools.sweep, KEY VALUE ...]; there are "
            f"{' '.join(plans)}\n"
        )
        return 2
    for flag, folder in (("--root", args.root), ("--output", args.output)):
        if not folder:
            raise InputError(f"{flag} lacks its folder: write it behind")
    root, output = absolute(args.root), absolute(args.output)
    plan = f"configs/sweeps/{args.table}.yaml"
    sweep = ["tools.sweep", plan, "--root", root, "--output", output]
    words = (
        args.more
        if any(word.startswith("--launch") for word in args.more)
        else ["--launch", "local", *args.more]
    )
    if {"--list", "--help", "-h"} & set(words):
        return tool(*sweep, *words)
    if code := prepare(str(ROOT / plan), root):
        return code
    code = tool(*sweep, *words)
    # Jobs that failed (1) leave the tables of all others; with --detach there is nothing yet.
    if code > 1 or "--detach" in words:
        return code
    tables(Path(output))
    pictures = figures(root, Path(output))
    page = Path(output, "report.html")
    if tool("tools.report", output, "--out", page, "--figures", *pictures) and code == 0:
        return 1
    sys.stdout.write(f"tables: {output}/tables\n")
    return code


def main(arguments: list[str] | None = None) -> int:
    parser = Parser(prog="reproduce.sh", add_help=False, allow_abbrev=False)
    parser.add_argument("table", nargs="?", default="")
    parser.add_argument(
        "--root", type=os.path.expanduser, nargs="?", default=folder_of("DATA", "data")
    )
    parser.add_argument(
        "--output", type=os.path.expanduser, nargs="?", default=folder_of("OUTPUT", "output")
    )
    args, more = parser.parse_known_args(arguments)
    args.more = more
    return inputs.main(run, args)


if __name__ == "__main__":
    sys.exit(main())
