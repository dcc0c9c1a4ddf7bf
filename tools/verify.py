"""Compare the baselines of a sweep with published rows: `python -m tools.verify PROTOCOL OUTPUT`.

    python -m tools.verify base2new output [--root DATA] [--json FILE]

A cell is the mean over seeds of a structure without CRAFT on a data set. It agrees if it is within
the tolerance of the published number: twice the standard error of the difference of our mean and a
published mean over PUBLISHED_SEEDS seeds of the same spread, and at least FLOOR. The spread is the
largest of the standard deviation of the cell's own seeds and of that which is published for the
data set. A cell with fewer than three seeds takes the median of the column's other cells for its
own, and DEFAULT_DEVIATION where nothing was measured. A cell of another number of test images is
no comparison, and does not agree. Of every cell the usual reasons are checked: on the
configuration and data of its tests, and of the trainings of their models. What of them cannot be
checked, and why, is told at the end. The exit code is 0 if all cells agree, 1 if one does not, 2
if nothing can be compared.
"""

import argparse
import contextlib
import functools
import hashlib
import json
import re
import statistics
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path

from dassl import record
from tools import configs, inputs, published
from tools.arguments import Parser
from tools.inputs import InputError
from tools.plans import read_plan
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
_OF_TRAINING = ("OPTIM.", "DATALOADER.TRAIN_X.")  # what no test reads
_OWN = ("TRAINER.NAME", "TRAINER.CRAFT", "TRAINER.CACHED_TESTS")


@dataclass
class Cell:
    """Our mean beside a published number.

    status: within, below or above the tolerance, or "other test" for another number of test images.
    reasons: what is known to differ from the published. unchecked: what could not be compared.
    """

    dataset: str
    method: str
    config: str
    shots: str
    column: str
    ours: float
    published: float
    tolerance: float
    seeds: tuple[int, ...]
    status: str
    source: str
    reasons: list[str] = field(default_factory=list)
    unchecked: list["Unchecked"] = field(default_factory=list)

    @property
    def name(self) -> str:
        shots = "" if self.shots in ("16", "all", "") else f", {self.shots} shots"
        return f"{self.dataset}, {self.method} ({self.config}{shots}), {self.column}"

    @property
    def why(self) -> str:
        """The reasons in words, and what may be one; "" for a cell that agrees without."""
        agrees = self.status == "within"
        found = "; ".join(self.reasons) or ("" if agrees else NO_REASON)
        names = ", ".join(dict.fromkeys(one.what for one in self.unchecked))
        return f"{found} (not checked: {names})" if names and not agrees else found


@dataclass(frozen=True)
class Unchecked:
    """A usual reason that could not be looked for.

    what: the thing, without a verb. why: the rest of a sentence on it, with the remedy. dataset:
    that the thing is of, if it is of one.
    """

    what: str
    why: str
    dataset: str = ""


@dataclass(frozen=True)
class Checked:
    """A record of a cell: of a test, or of the training of its model.

    column: what was tested. tested, trained: whether the record is of the test, and of the training
    (a run can be both). root: folder of the data sets, None if it is not known.
    """

    protocol: Protocol
    row: Row
    column: str
    results: dict
    tested: bool
    trained: bool
    root: Path | None

    @property
    def dataset(self) -> Mapping:
        return self.results["config"]["DATASET"]


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
        if entry["task"] == protocol.published and entry["metric"] != "HM":
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


def published_deviation(dataset: str, column: str) -> float:
    """The largest standard deviation over seeds that is published for a cell; 0 for none."""
    found = [
        float(entry["value"].partition("+-")[2])
        for entry in published.entries()
        if "+-" in entry["value"]
        and published.plain(entry["dataset"]) == published.plain(dataset)
        and published.COLUMNS.get(entry["metric"], entry["metric"]) == column
    ]
    return max(found, default=0.0)


def _deviation(row: Row, column: str, spread: Mapping[str, float]) -> float:
    """Of the means of a cell, in points."""
    if not row.learns:
        return 0.0
    values = list(row.of(column).values())
    own = spread.get(column, DEFAULT_DEVIATION)
    if len(values) >= PUBLISHED_SEEDS:
        own = statistics.stdev(values)
    return max(own, published_deviation(row.dataset, column))


def cells(protocol: Protocol, rows: list[Row], root: Path | None = None) -> list[Cell]:
    """All cells that have a published number, with what is known to differ from the published."""
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
            limit = tolerance(_deviation(row, column, spread), len(values))
            ours, theirs = statistics.mean(values.values()), float(entry["value"])
            status = "above" if ours > theirs else "below"
            status = "within" if abs(ours - theirs) <= limit else status
            why, unchecked = reasons(protocol, row, column, root)
            if any(reason.endswith(OTHER_TEST) for reason in why):
                status = "other test"
            found.append(
                Cell(
                    row.dataset,
                    method_of(row, task),
                    row.config,
                    row.shots,
                    column,
                    ours,
                    theirs,
                    limit,
                    tuple(sorted(values)),
                    status,
                    f"{entry['source']} ({published.NOTES.get(entry['status'], entry['status'])})",
                    why,
                    unchecked,
                )
            )
    return found


# Reasons

OTHER_TEST = "in the published test"
NO_REASON = "no usual reason was found"


def reasons(
    protocol: Protocol, row: Row, column: str, root: Path | None
) -> tuple[list[str], list[Unchecked]]:
    """What of a cell's runs is known not to be as published, in words that fit any data set, and
    what cannot be checked.

    Raises InputError for a run whose record lacks what is compared.
    """
    said: dict[str | Unchecked, None] = {}
    for part in row.parts or (row,):
        names = ("base", "new") if column == "H" else tuple(part.targets or (column,))
        names = names if column in ("H", "average") else (column,)
        for name in names:
            for path in part.files.get(name, {}).values():
                for run in _records(protocol, part, name, path, root):
                    for check in CHECKS:
                        said |= dict.fromkeys(check(run))
    return (
        [one for one in said if isinstance(one, str)],
        [one for one in said if isinstance(one, Unchecked)],
    )


def _records(
    protocol: Protocol, row: Row, column: str, path: Path, root: Path | None
) -> Iterator[Checked]:
    """A test's record, and that of the training of the model that it loaded.

    Where the training was moved away, the test's configuration stands for it. Raises InputError for
    a record without what the checks read.
    """
    results, training = record.read(path), None
    _check_whole(results, path)
    if model := (results.get("loaded") or {}).get("model_dir"):
        place = path.parent / model / record.NAME
        with contextlib.suppress(OSError, ValueError, RecursionError):
            training = record.read(place)
        if training is not None:
            _check_whole(training, place)
    yield Checked(protocol, row, column, results, True, training is None, root)
    if training is not None:
        yield Checked(protocol, row, column, training, False, True, root)


def _check_whole(results: dict, path: Path) -> None:
    for key in ("DATASET.NAME", "MODEL.BACKBONE.NAME", "TEST"):
        if record.value(results, f"config.{key}") is None:
            raise InputError(
                f"'{path}' lacks {key} in its config, as no run writes it: run it again, or take "
                "it away"
            )


def _split(run: Checked) -> Iterator[str | Unchecked]:
    """Of another split than the published one, as the record and the file tell."""
    import datasets  # noqa: F401 - registers them
    from dassl.data.datasets import DATASET_REGISTRY
    from datasets.files import kind_of_split

    name = run.dataset["NAME"]
    kind = DATASET_REGISTRY.get(name) if name in DATASET_REGISTRY else None
    if kind is None or not getattr(kind, "split_file", ""):
        return
    files, dataset = run.results.get("data") or {}, kind.config_name()
    stored = files.get(f"split file '{kind.split_file}'")
    if files and not stored:
        yield "a generated split"
    elif run.root is None:
        yield Unchecked(SPLIT, "is not compared with the published one: give --root", dataset)
    else:
        path = run.root / kind.folder / kind.split_file
        if not path.is_file():
            where = f"{kind.folder}/{kind.split_file}"
            yield Unchecked(SPLIT, f"cannot be checked, since --root has no {where}", dataset)
        elif kind_of_split(path, kind.split_md5) == "other":
            yield "a split file that is not the published one"
        elif len(stored or "") == 64 and hashlib.sha256(path.read_bytes()).hexdigest() != stored:
            yield "another split file than the one below --root"


def _images(run: Checked) -> Iterator[str]:
    """Of another number of test images."""
    if not run.tested:
        return
    total = run.results["metrics"]["test"].get("total")
    every = published.tested(run.protocol, run.row.dataset, run.column)
    if isinstance(total, int) and every and total != every:
        yield f"{total:,} test images, with {every:,} {OTHER_TEST}"


def _draw(run: Checked) -> Iterator[str | Unchecked]:
    """Of other few-shot picks."""
    from datasets import picks
    from datasets.prepare import prepared_classes

    if not run.trained or not run.row.learns:
        return
    shots, seed = run.dataset.get("NUM_SHOTS", -1), run.results.get("seed", -1)
    wanted = -1 if run.protocol.shots == "all" else 16
    if shots != wanted:
        ours = "all images" if shots == -1 else f"{shots} shots"
        yield f"{ours} instead of {'all images' if wanted == -1 else wanted}"
    if run.dataset.get("INDICES"):
        yield "few-shot picks of DATASET.INDICES"
    known, by, of = picks.known(run.row.dataset, shots, seed)
    found = run.results.get(by)
    if known and found and known != found:
        yield f"other few-shot picks than the draw of {of}"
    if seed not in picks.SEEDS:
        yield "seeds other than 1 to 3"
    elif shots == wanted != -1 and not run.dataset.get("INDICES") and not (known and found):
        kind = prepared_classes().get(run.dataset["NAME"])
        why = NOT_STORED if getattr(kind, "split_md5", "") else NO_SPLIT
        yield Unchecked(PICKS, NOT_RECORDED if known else why, run.row.dataset)


SPLIT, PICKS = "the split file", "the few-shot picks"
NOT_STORED = (
    "cannot be checked, since their published checksums are not stored: `python -m datasets.picks "
    "NAME --root DATA --write` stores them, where DATA has the published split"
)
NO_SPLIT = "cannot be checked, since no checksum of a published split is known"
NOT_RECORDED = "cannot be checked, since the records of the runs lack them: train again"


@functools.cache
def _planned() -> dict[tuple[str, str, str], dict[str, dict[str, str]]]:
    """{(data set, study, trainer): {config: options of its trainings}} of the shipped plans on
    `BACKBONE`: what the published tables were made with, where that depends on the data set.
    """
    found: dict[tuple[str, str, str], dict[str, dict[str, str]]] = {}
    for path in sorted((configs.CONFIGS / "sweeps").glob("*.yaml")):
        if BACKBONE not in path.read_text(encoding="utf-8"):
            continue
        for job in read_plan(str(path)).jobs:
            run = job.run
            if run is not None and run.part == "train" and not run.craft:
                options = dict(zip(job.options[::2], job.options[1::2], strict=True))
                place = f"{run.protocol}/{run.source}", run.study, run.trainer
                found.setdefault(place, {}).setdefault(run.config, {}).update(options)
    return found


def _settings(run: Checked) -> Iterator[str]:
    """Of settings other than those of the published config of this name."""
    row, ours = run.row, record.flat(run.results["config"])
    learned = run.trained and row.learns
    if rule := ours.get("SELECTION.RULE"):
        yield f"settings selected by {rule}, not the published ones"
    described = row.run
    plans = {}
    if described is not None:
        place = f"{described.protocol}/{described.source}", described.study, row.trainer
        plans = _planned().get(place, {})
    try:
        theirs = configs.changed(
            row.trainer, row.config, ours, _COMPARED, plans.get(row.config, {})
        )
        backbone = configs.backbone_of(configs.files(row.trainer, row.config)[0])
    except InputError:
        yield "a config of one's own"
        return
    if backbone != BACKBONE:
        yield f"the backbone {backbone} instead of {BACKBONE}"
    elif plans and row.config not in plans:
        yield f"the config {row.config}, where the published table has {' or '.join(plans)}"
    for key, value in theirs.items():
        unread = _OWN if learned else (*_OWN, *_OF_TRAINING)
        if not key.startswith(unread) and not key.endswith(".PREC"):  # `_precision` says it
            yield f"{key} {ours[key]} instead of {value}"
    for key in ("TRAINER.CACHED_VIEWS", "TRAINER.TERMS"):
        if learned and ours.get(key):
            yield f"{key} {ours[key]}"


def _precision(run: Checked) -> Iterator[str]:
    flat = record.flat(run.results["config"])
    for key, value in flat.items():
        node = key.removeprefix("TRAINER.").removesuffix(".PREC")
        own = key == f"TRAINER.{node}.PREC" and node == run.row.structure.upper()
        if own and value != "fp16":
            yield f"precision {value} instead of fp16"


def _template(run: Checked) -> Iterator[str]:
    if template := run.dataset.get("TEMPLATE"):
        yield f"the template '{template}'"


def _backbone(run: Checked) -> Iterator[str | Unchecked]:
    """Of CLIP weights that are not those of the published rows."""
    from trainers.backbone import openais_name, openais_name_of_file, tells_input

    name = run.results["config"]["MODEL"]["BACKBONE"]["NAME"]
    checksum = (run.results.get("pretrained") or {}).get("sha256")
    path = Path(name).expanduser()
    path = path if path.is_absolute() else configs.ROOT / path
    other = re.sub(r"\W", "", name.lower()) != BACKBONE.replace("_", "")
    if tells_input(name) and other:
        yield f"the backbone '{name}' instead of OpenAI's {BACKBONE}"
    elif checksum or path.is_file():
        found = openais_name(checksum) if checksum else openais_name_of_file(str(path))
        if not found:
            yield f"a backbone file that is none of OpenAI's ('{name}')"
        elif re.sub(r"\W", "", found.lower()) != BACKBONE.replace("_", ""):
            yield f"the backbone {found} instead of {BACKBONE}"
    elif other:
        yield Unchecked("the backbone", f"cannot be checked, since '{name}' is gone")


def _whole(run: Checked) -> Iterator[str]:
    final = run.results["config"]["TEST"].get("FINAL_MODEL")
    if run.row.learns and final == "best_val":
        yield "the best model on validation images instead of the last (TEST.FINAL_MODEL)"


Check = Callable[[Checked], Iterator[str | Unchecked]]
CHECKS: tuple[Check, ...] = (
    *(_split, _images, _draw, _settings, _precision, _template, _backbone, _whole),
)


# The program


STATUSES = {"below": "below", "above": "above", "other test": "of another test"}


def summary(found: list[Cell]) -> str:
    """ "38 of 44 cells agree; 6 below: all six use a generated split"."""
    agree = [cell for cell in found if cell.status == "within"]
    text = f"{len(agree)} of {len(found)} cells agree"
    if although := sum(bool(cell.reasons) for cell in agree):
        text += f" ({although} although their runs are not as published)"
    for status, words in STATUSES.items():
        off = [cell for cell in found if cell.status == status]
        if not off:
            continue
        text += f"; {len(off)} {words}"
        shared = Counter(reason for cell in off for reason in cell.reasons)
        if not shared:
            unchecked = any(cell.unchecked for cell in off)
            text += f": {NO_REASON}{', but not all could be checked' if unchecked else ''}"
            continue
        reason, number = shared.most_common(1)[0]
        text += f": {'all' if number == len(off) else number} have {reason}"
    return text


def unchecked(found: Iterable[Cell]) -> list[str]:
    """A sentence for each thing that could not be checked, with the data sets that it is of."""
    names: dict[tuple[str, str], dict[str, None]] = {}
    for one in (one for cell in found for one in cell.unchecked):
        of = names.setdefault((one.what, one.why), {})
        of |= {one.dataset: None} if one.dataset else {}
    return [
        f"{what}{' of ' if of else ''}{', '.join(of)} {why}" for (what, why), of in names.items()
    ]


def work(args: argparse.Namespace) -> int:
    configs.check(args.protocol, PROTOCOLS, "protocol")
    protocol = PROTOCOLS[args.protocol]
    if not protocol.published:
        with_rows = ", ".join(name for name, other in PROTOCOLS.items() if other.published)
        raise InputError(f"no numbers are published for {args.protocol}: choose of {with_rows}")
    if args.root and not args.root.is_dir():
        raise InputError(f"--root is '{args.root}', which is no folder: give the data sets' folder")
    read = [published.FILE]
    if args.json and args.root:  # else nothing here takes torch
        from datasets.prepare import list_files

        read += list_files(args.root)
    inputs.check_outputs([inputs.Output("--json", args.json)], read)
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
    head = [
        "data set",
        "method",
        "config",
        "shots",
        "column",
        "ours",
        "published",
        "tolerance",
        "seeds",
        "",
    ]
    lines = [
        [
            *(cell.dataset, cell.method, cell.config, cell.shots, cell.column),
            *(f"{cell.ours:.2f}", f"{cell.published:.2f}", f"{cell.tolerance:.2f}"),
            *(str(len(cell.seeds)), cell.status),
        ]
        for cell in found
    ]
    sys.stdout.write(f"{markdown(head, lines)}\n")
    for cell in found:
        if cell.why:
            agrees = "agrees, although " if cell.status == "within" else ""
            sys.stdout.write(f"{cell.name}: {agrees}{cell.why}\n")
    for sentence in unchecked(found):
        sys.stdout.write(f"{sentence}\n")
    for problem in problems:
        sys.stderr.write(f"{problem}\n")
    sys.stdout.write(f"{summary(found)}\n")
    if args.json:
        text = json.dumps([asdict(cell) for cell in found], indent=1)
        inputs.write(args.json, f"{text}\n", "--json")
    return int(any(cell.status != "within" for cell in found))


def main(arguments: list[str] | None = None) -> int:
    parser = Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("protocol", metavar="PROTOCOL")
    parser.add_argument("output", type=inputs.path, metavar="OUTPUT")
    parser.add_argument(
        "--root", type=inputs.path, help="the data sets, to check their split files"
    )
    parser.add_argument("--json", type=inputs.path, metavar="FILE")
    return inputs.main(work, parser.parse_args(arguments))


if __name__ == "__main__":
    sys.exit(main())
