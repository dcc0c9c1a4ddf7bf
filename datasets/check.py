"""Look at the data sets under a root: `python -m datasets.check [NAME ...] [--root DATA]
[--images]`.

Each is loaded as a run loads it and compared with its published numbers. --images also reads every
image (always done for data sets that are named). The exit code is 1 if a data set that is there, or
was named, has a problem.
"""

import argparse
import contextlib
import io
import os.path as osp
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from tqdm import tqdm

import datasets
from dassl.config import get_cfg_default
from dassl.utils import read_image, read_json
from datasets.base import PARTS, SAME_TEXT, CoOpDataset, UserError
from datasets.files import kind_of_split
from datasets.prepare import find, prepared_classes
from datasets.shifts import ShiftDataset
from tools import inputs
from tools.arguments import Parser

# Written by tools/miniatures.py: the numbers and split checksum to expect instead of the published
# ones.
MINIATURE = "miniature.json"


@dataclass
class Report:
    """What was found of one data set."""

    name: str
    present: bool = False
    found: int = 0  # images in its split, each once
    expected: int = 0  # 0: not known
    split: str = "-"  # of the split file: published, generated, other, none needed
    classes: str = "-"
    problems: list[str] = field(default_factory=list)


def examine(
    cls: type[CoOpDataset], root: str, images: bool = False, progress: bool = True
) -> Report:
    """Load a data set and compare it with its published numbers; with `images` read every image."""
    folder = Path(root).expanduser() / cls.folder
    expected, md5 = dict(zip(PARTS, cls.images, strict=True)), cls.split_md5
    report = Report(cls.__name__, present=folder.is_dir(), expected=sum(expected.values()))
    try:
        if not report.present:
            raise UserError(f"absent: {cls.how_to_get(root)}")
        if (folder / MINIATURE).is_file():
            expected, md5 = _of_miniature(folder / MINIATURE, cls, expected, md5)
            report.name, report.expected = f"{report.name} (miniature)", sum(expected.values())
        if cls.split_file:
            report.split = kind_of_split(folder / cls.split_file, md5)
        if report.split == "other":
            report.problems.append(
                f"{cls.split_file} is not the published file (md5 {md5}): if you want that one, "
                f"move yours away and {cls.how_to_get(root)}"
            )
        data, notes = load(cls, root)
    except UserError as error:
        report.problems.append(str(error))
        return report
    # Class names that repeat are as published.
    report.problems += [line for line in notes.splitlines() if SAME_TEXT not in line]
    _compare(report, data, cls.classes, expected)
    if images:
        report.problems += unreadable(sorted(_paths(data)), cls.__name__, progress)
    return report


def _of_miniature(
    path: Path, cls: type[CoOpDataset], expected: dict[str, int], md5: str
) -> tuple[dict[str, int], str]:
    """Return ({part: images}, MD5 of the split file) to expect of a miniature.

    The file `path` replaces the published numbers that it names. Raises UserError if it is damaged.
    """
    try:
        numbers = read_json(str(path)).get(cls.__name__, {})
        expected = dict(numbers.get("images", expected))
        sum(expected.values())
        return expected, numbers.get("split_md5", md5)
    except (UserError, TypeError, ValueError, AttributeError) as error:
        raise UserError(
            f"'{path}' is not what tools.miniatures writes ({error}): make the miniature again"
        ) from None


def load(cls: type[CoOpDataset], root: str) -> tuple[CoOpDataset, str]:
    """Return the data set, loaded as a run loads it, and the notes that it prints."""
    cfg = get_cfg_default()
    datasets.extend_cfg(cfg)
    cfg.DATASET.ROOT, cfg.DATASET.NAME = str(root), cls.__name__
    if issubclass(cls, ShiftDataset):  # any choice will do
        *cfg.DATASET.SOURCE_DOMAINS, last = cls.domain_names
        cfg.DATASET.TARGET_DOMAINS = [last]
    with contextlib.redirect_stdout(io.StringIO()) as notes:
        return cls(cfg), notes.getvalue()


def _paths(data: CoOpDataset) -> set[str]:
    return {item.impath for part in (data.train_x, data.val, data.test) for item in part or ()}


def _compare(report: Report, data: CoOpDataset, classes: int, expected: dict[str, int]) -> None:
    """Enter numbers of images and classes, and where they differ from the expected ones."""
    report.found, report.classes = len(_paths(data)), f"{data.num_classes:,}"
    if classes and data.num_classes != classes:
        report.problems.append(f"{data.num_classes} classes instead of {classes}: prepare it again")
    if report.split == "generated":
        return  # its parts need not have the sizes of the published ones
    for part, items in zip(PARTS, (data.train_x, data.val, data.test), strict=True):
        if expected.get(part) and len(items or ()) != expected[part]:
            report.problems.append(
                f"{part} has {len(items or ()):,} images instead of {expected[part]:,}: the data "
                "set is not complete, prepare it again"
            )


def unreadable(paths: list[str], name: str, progress: bool) -> list[str]:
    """A sentence for each image that cannot be read."""

    def problem(path: str) -> str:
        try:
            read_image(path)
        except UserError as error:
            return str(error)
        return ""

    with ThreadPoolExecutor() as pool:
        return [
            text
            for text in tqdm(
                pool.map(problem, paths),
                total=len(paths),
                desc=f"images of {name}",
                disable=not progress,
                mininterval=1,
            )
            if text
        ]


def table(reports: list[Report]) -> str:
    """Return lines of aligned columns, then the problems of each existing data set."""
    rows = [("data set", "images found / expected", "split file", "classes", "problems")]
    for report in reports:
        expected = f"{report.expected:,}" if report.expected else "?"
        count = f"{report.found:,} / {expected}" if report.present else f"- / {expected}"
        rows.append(
            (
                report.name,
                count,
                report.split,
                report.classes,
                str(len(report.problems) or "none") if report.present else "absent",
            )
        )
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = [
        "  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    ]
    return "\n".join(
        [
            lines[0],
            "  ".join("-" * width for width in widths),
            *lines[1:],
            *(f"{report.name}: {problem}" for report in reports for problem in report.problems),
        ]
    )


def main(arguments: list[str] | None = None) -> int:
    parser = Parser(
        description=__doc__,
        prog="python -m datasets.check",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help="data sets (default: all)")
    parser.add_argument(
        "--root",
        type=osp.expanduser,
        default="data",
        help="folder of all data sets (default: data)",
    )
    parser.add_argument("--images", action="store_true", help="read every image")
    return inputs.main(run, parser.parse_args(arguments))


def run(args: argparse.Namespace) -> int:
    """Return 1 if an existing or a named data set has a problem, else 0."""
    classes = [find(name) for name in args.names] or list(prepared_classes().values())
    if not osp.isdir(osp.expanduser(args.root)):
        sys.stdout.write(
            f"'{args.root}' is no folder yet: the first `python -m datasets.prepare NAME --root "
            f"{args.root}` makes it\n"
        )
    reports = [examine(cls, args.root, args.images or bool(args.names)) for cls in classes]
    sys.stdout.write(table(reports) + "\n")
    return int(any(report.problems and (report.present or args.names) for report in reports))


if __name__ == "__main__":
    sys.exit(main())
