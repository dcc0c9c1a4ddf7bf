"""Compare the baselines of a sweep with published rows: `python -m tools.verify PROTOCOL OUTPUT`.

    python -m tools.verify base2new output [--root DATA] [--json FILE]

A cell is the mean over seeds of a structure without CRAFT on a data set. It agrees if it is within
the tolerance of the published number: twice the standard error of the difference of our mean and a
published mean over PUBLISHED_SEEDS seeds of the same spread, and at least FLOOR. The spread is the
standard deviation of the cell's own seeds, of the column's other cells where it has fewer than
three, and DEFAULT_DEVIATION where nothing was measured. For cells that do not agree, the usual
reasons are checked on the runs' own configuration and data. The exit code is 0 if all cells agree,
1 if one does not, 2 if nothing can be compared.
"""

import argparse
import json
import re
import statistics
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path

from dassl import record
from tools import configs, inputs, published
from tools.inputs import InputError
from tools.protocols import PROTOCOLS, Protocol, Row, averages, collect
from tools.results import markdown

PUBLISHED_SEEDS = 3
FLOOR = 0.5  # points: rounding, and other hardware
DEFAULT_DEVIATION = 1.0  # points
BACKBONE = "vit_b16"  # of the published rows
# What the published tables call a structure, for a config whose name ends so, or for a task.
METHODS = {
    "ZeroshotCLIP": {"": "CLIP"},
    "CoOp": {"": "CoOp"},
    "CoCoOp": {"": "CoCoOp"},
    "VPT": {"": "VPT (deep vision prompting, 4 ctx, 5 ep)", "domain_adaptation": "VPT-deep"},
    "IVLP": {"4+4ctx": "IVLP", "2+2ctx": "IVLP (2+2 ctx, 5 ep)"},
    "MaPLe": {"": "MaPLe"},
    "PromptSRC": {"": "PromptSRC"},
    "KgCoOp": {"": "KgCoOp"},
    "TCP": {"": "TCP"},
    "ProGrad": {"": "ProGrad (KgCoOp authors)"},
}
# Keys that change a result, and are set by the published configs.
_COMPARED = ("OPTIM.", "INPUT.", "DATALOADER.TRAIN_X.BATCH_SIZE", "TRAINER.", "TEST.FINAL_MODEL")
_OWN = ("TRAINER.NAME", "TRAINER.CRAFT", "TRAINER.CACHED_TESTS")


@dataclass
class Cell:
    """Our mean beside a published number; reasons: what is known to differ from the published."""

    dataset: str
    method: str
    column: str
    ours: float
    published: float
    tolerance: float
    seeds: tuple[int, ...]
    status: str
    source: str
    reasons: list[str] = field(default_factory=list)


# Comparison


def method_of(row: Row, task: str) -> str:
    """What a task's published table calls a row's structure; "" for one that it does not have."""
    known = METHODS.get(row.structure, {})
    if task in known:
        return known[task]
    endings = sorted(known, key=len, reverse=True)
    return next((known[ending] for ending in endings if row.config.endswith(ending)), "")


def numbers(protocol: Protocol, rows: list[Row], columns: list[str]) -> dict[tuple, dict]:
    """{(data set, column, method): published entry} that rows of ours can stand beside."""
    found = {}
    for entry in published.entries():
        if entry["task"] == protocol.published:
            dataset, column = published.place(protocol, entry, rows, columns)
            if dataset is not None and column is not None:
                found[dataset, column, entry["method"]] = entry
    return found


def tolerance(deviation: float, seeds: int) -> float:
    """In points; deviation: standard deviation over seeds of one cell."""
    return max(FLOOR, 2 * deviation * (1 / seeds + 1 / PUBLISHED_SEEDS) ** 0.5)


def deviations(rows: Iterable[Row], columns: Iterable[str]) -> dict[str, float]:
    """{column: median standard deviation of its cells with three seeds or more}."""
    found: dict[str, list[float]] = {}
    for row in rows:
        for column in columns:
            values = list(row.of(column).values())
            if len(values) >= PUBLISHED_SEEDS and row.learns:
                found.setdefault(column, []).append(statistics.stdev(values))
    return {column: statistics.median(values) for column, values in found.items()}


def cells(protocol: Protocol, rows: list[Row], root: Path | None = None) -> list[Cell]:
    """All cells that have a published number, with reasons for those that do not agree."""
    task = protocol.published
    baselines = [row for row in rows if not row.craft and method_of(row, task)]
    columns = protocol.columns(list({column for row in rows for column in row.values}))
    known, spread = numbers(protocol, baselines, columns), deviations(baselines, columns)
    found = []
    for row in baselines:
        for column in columns:
            entry = known.get((row.dataset, column, method_of(row, task)))
            values = row.of(column)
            if entry is None or not values:
                continue
            deviation = spread.get(column, DEFAULT_DEVIATION)
            if len(values) >= PUBLISHED_SEEDS:
                deviation = statistics.stdev(values.values())
            limit = tolerance(deviation if row.learns else 0.0, len(values))
            ours, theirs = statistics.mean(values.values()), float(entry["value"])
            status = "above" if ours > theirs else "below"
            status = "within" if abs(ours - theirs) <= limit else status
            cell = Cell(
                row.dataset,
                method_of(row, task),
                column,
                ours,
                theirs,
                limit,
                tuple(sorted(values)),
                status,
                f"{entry['source']} ({published.NOTES.get(entry['status'], entry['status'])})",
            )
            if status != "within":
                cell.reasons = reasons(row, column, root)
            found.append(cell)
    return found


# Reasons


def reasons(row: Row, column: str, root: Path | None) -> list[str]:
    """What of a cell's runs is known not to be as published, in words that fit any data set."""
    said: dict[str, None] = {}
    for part in row.parts or (row,):
        names = ("base", "new") if column == "H" else tuple(part.targets or (column,))
        names = names if column in ("H", "average") else (column,)
        for name in names:
            for path in part.files.get(name, {}).values():
                results = record.read(path)
                for check in CHECKS:
                    said |= dict.fromkeys(check(part, results, root))
    return list(said)


def _split(row: Row, results: dict, root: Path | None) -> Iterator[str]:
    """Of another split than the published one, as the record and the file tell."""
    import datasets  # noqa: F401 - registers them
    from dassl.data.datasets import DATASET_REGISTRY
    from datasets.check import kind_of_split

    name = results["config"]["DATASET"]["NAME"]
    kind = DATASET_REGISTRY.get(name) if name in DATASET_REGISTRY else None
    if kind is None or not getattr(kind, "split_file", ""):
        return
    wanted = f"split file '{kind.split_file}'"
    files = results.get("data") or {}
    if files and wanted not in files:
        yield "a generated split"
    elif root is not None:
        path = root / kind.folder / kind.split_file
        state = kind_of_split(path, kind.split_md5) if path.is_file() else ""
        if state == "other":
            yield "a split file that is not the published one"
        elif not state:
            yield f"the split cannot be checked, since --root has no {kind.split_file}"


def _images(row: Row, results: dict, root: Path | None) -> Iterator[str]:
    """Of another number of test images."""
    total = results["metrics"]["test"].get("total")
    whole = published.test_images().get(published.plain(row.dataset))
    subset = results["config"]["DATASET"].get("SUBSAMPLE_CLASSES", "all")
    if isinstance(total, int) and whole:
        least, most = (whole, whole) if subset == "all" else (whole / 4, 3 * whole / 4)
        if not least <= total <= most:
            yield "another number of test images"


def _draw(row: Row, results: dict, root: Path | None) -> Iterator[str]:
    """Of other few-shot picks."""
    data = results["config"]["DATASET"]
    shots = data.get("NUM_SHOTS")
    if shots not in (16, -1) and row.learns:
        yield f"{shots} shots instead of 16"
    if data.get("INDICES"):
        yield "few-shot picks of DATASET.INDICES"
    if row.learns and results.get("seed") not in (1, 2, 3):
        yield "seeds other than 1 to 3"


def _settings(row: Row, results: dict, root: Path | None) -> Iterator[str]:
    """Of settings other than those of the published config of this name."""
    ours = record.flat(results["config"])
    if rule := ours.get("SELECTION.RULE"):
        yield f"settings selected by {rule}, not the published ones"
    try:
        theirs = configs.changed(row.trainer, row.config, ours, _COMPARED)
        backbone = configs.backbone_of(configs.files(row.trainer, row.config)[0])
    except InputError:
        yield "a config of one's own"
        return
    if backbone != BACKBONE:
        yield f"the backbone {backbone} instead of {BACKBONE}"
    for key, value in theirs.items():
        if not key.startswith(_OWN) and not key.endswith(".PREC"):  # `_precision` says it
            yield f"{key} {ours[key]} instead of {value}"
    for key in ("TRAINER.CACHED_VIEWS", "TRAINER.TERMS"):
        if ours.get(key):
            yield f"{key} {ours[key]}"


def _precision(row: Row, results: dict, root: Path | None) -> Iterator[str]:
    flat = record.flat(results["config"])
    for key, value in flat.items():
        node = key.removeprefix("TRAINER.").removesuffix(".PREC")
        if key == f"TRAINER.{node}.PREC" and node == row.structure.upper() and value != "fp16":
            yield f"precision {value} instead of fp16"


def _template(row: Row, results: dict, root: Path | None) -> Iterator[str]:
    if template := results["config"]["DATASET"].get("TEMPLATE"):
        yield f"the template '{template}'"


def _backbone(row: Row, results: dict, root: Path | None) -> Iterator[str]:
    """Of CLIP weights that are not those of the published rows."""
    from trainers.backbone import is_openais_file, tells_input

    name = results["config"]["MODEL"]["BACKBONE"]["NAME"]
    path = Path(name).expanduser()
    path = path if path.is_absolute() else configs.ROOT / path
    if path.is_file():
        if not is_openais_file(str(path)):
            yield f"a backbone file that is none of OpenAI's ('{name}')"
    elif tells_input(name) and re.sub(r"\W", "", name.lower()) != BACKBONE.replace("_", ""):
        yield f"the backbone '{name}' instead of OpenAI's {BACKBONE}"


def _whole(row: Row, results: dict, root: Path | None) -> Iterator[str]:
    if results["config"]["TEST"].get("FINAL_MODEL") == "best_val":
        yield "the best model on validation images instead of the last (TEST.FINAL_MODEL)"


Check = Callable[[Row, dict, Path | None], Iterator[str]]
CHECKS: tuple[Check, ...] = (
    *(_split, _images, _draw, _settings, _precision, _template, _backbone, _whole),
)


# The program


def summary(found: list[Cell]) -> str:
    """ "38 of 44 cells agree; 6 below: all six use a generated split"."""
    count = Counter(cell.status for cell in found)
    text = f"{count['within']} of {len(found)} cells agree"
    for status in ("below", "above"):
        off = [cell for cell in found if cell.status == status]
        if not off:
            continue
        text += f"; {len(off)} {status}"
        shared = Counter(reason for cell in off for reason in cell.reasons)
        if not shared:
            text += ": no usual reason was found"
            continue
        reason, number = shared.most_common(1)[0]
        text += f": {'all' if number == len(off) else number} have {reason}"
    return text


def work(args: argparse.Namespace) -> int:
    configs.check(args.protocol, PROTOCOLS, "protocol")
    protocol = PROTOCOLS[args.protocol]
    if not protocol.published:
        with_rows = ", ".join(name for name, other in PROTOCOLS.items() if other.published)
        raise InputError(f"no numbers are published for {args.protocol}: choose of {with_rows}")
    if args.root and not args.root.is_dir():
        raise InputError(f"--root is '{args.root}', which is no folder: give the data sets' folder")
    if args.json:
        inputs.check_name(args.json, "--json")
    rows, problems = collect(protocol, [args.output])
    if protocol.averaged:
        columns = protocol.columns(list({column for row in rows for column in row.values}))
        rows += averages(protocol, rows, columns)[0]
    found = cells(protocol, rows, args.root)
    if not found:
        raise InputError(
            f"'{args.output}' has no finished run of {args.protocol} without CRAFT on a data set "
            "with published numbers: run a baseline first"
        )
    head = ["data set", "method", "column", "ours", "published", "tolerance", "seeds", ""]
    lines = [
        [
            *(cell.dataset, cell.method, cell.column, f"{cell.ours:.2f}", f"{cell.published:.2f}"),
            *(f"{cell.tolerance:.2f}", str(len(cell.seeds)), cell.status),
        ]
        for cell in found
    ]
    sys.stdout.write(f"{markdown(head, lines)}\n")
    for cell in found:
        if cell.status != "within":
            why = "; ".join(cell.reasons) or "no usual reason was found"
            sys.stdout.write(f"{cell.dataset}, {cell.method}, {cell.column}: {why}\n")
    for problem in problems:
        sys.stderr.write(f"{problem}\n")
    sys.stdout.write(f"{summary(found)}\n")
    if args.json:
        text = json.dumps([asdict(cell) for cell in found], indent=1)
        inputs.write(args.json, f"{text}\n", "--json")
    return int(any(cell.status != "within" for cell in found))


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("protocol", metavar="PROTOCOL")
    parser.add_argument("output", type=inputs.path, metavar="OUTPUT")
    parser.add_argument(
        "--root", type=inputs.path, help="the data sets, to check their split files"
    )
    parser.add_argument("--json", type=inputs.path, metavar="FILE")
    return inputs.main(work, parser.parse_args(arguments))


if __name__ == "__main__":
    sys.exit(main())
