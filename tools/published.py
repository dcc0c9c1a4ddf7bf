"""Numbers of papers, to stand beside ours: docs/results/published.csv.

Columns: task, method, dataset, metric, value, source, status.

Status "read": taken from the source itself; "unverified": from another paper's table or from memory
of it.
"""

import csv
import functools
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from tools.protocols import Protocol, Row

if TYPE_CHECKING:
    from datasets.base import CoOpDataset

FILE = Path(__file__).resolve().parent.parent / "docs" / "results" / "published.csv"
PAIRS = {"office31": 6, "officehome": 12, "visda17": 1}  # that averages are over
HALVES = ("base", "new")
COLUMNS = {"base": "base", "novel": "new", "HM": "H"}
ALIASES = {"flowers102": "oxfordflowers", "imagenet(source)": "source", "visda2017": "visda17"}
# Of the structures, at several lengths of training where those are published.
METHODS = (
    "CLIP",
    "CoOp",
    "CoCoOp",
    "VPT (deep vision prompting, 4 ctx, 5 ep)",
    "IVLP",
    "IVLP (2+2 ctx, 5 ep)",
    "MaPLe",
    "PromptSRC",
    "KgCoOp",
    "ProGrad (KgCoOp authors)",
    "TCP",
    "PromptKD",
    "CoOp+DPC",
    "VPT-deep",
    "DAPL",
    "PDA",
)
# What a reader has to know of a row's numbers: the published codes say so (docs/rivals.md).
MARKS = {
    "PromptKD": "trained on unlabelled images of all classes, and selected on test images",
    "CoOp+DPC": "selected on test images",
    "DAPL": "trained on unlabelled images of the target, those that are tested",
    "PDA": "trained on unlabelled images of the target, those that are tested",
}
# Of a whole task: the code that its numbers come from (BaiShuanghao's
# Prompt-based-Distribution-Alignment) tests the target after every epoch, keeps the best, and its
# scripts load that one. Whether its README's numbers were made so is not told.
CHOSEN = {"domain_adaptation": "chosen by the best epoch on test images, if its code was followed"}
ZERO_SHOT = ("CLIP",)  # of METHODS, those that train on nothing
SHOTS = "16"  # of the others, but where a protocol trains on all images
NOTES = {"read": "as read in its source", "unverified": "not verified against its source"}


def plain(name: str) -> str:
    """A data set's name as it is written in configs or in tables, in one spelling."""
    spelling = re.sub(r"[-_ ]", "", name).lower()
    return ALIASES.get(spelling, spelling)


@functools.cache
def entries() -> tuple[dict[str, str], ...]:
    with open(FILE, encoding="utf-8", newline="") as file:
        return tuple(csv.DictReader(file))


def is_average(dataset: str) -> bool:
    return dataset.startswith("AVERAGE(")


@functools.cache
def averaged(task: str) -> frozenset[str]:
    """Plain names of the data sets that a task's published averages are over."""
    return frozenset(
        plain(entry["dataset"])
        for entry in entries()
        if entry["task"] == task and entry["method"] in METHODS and not is_average(entry["dataset"])
    ) - {"source"}


def place(
    protocol: Protocol, entry: dict[str, str], ours: list[Row], columns: list[str]
) -> tuple[str | None, str | None]:
    """(data set, column) of an entry beside rows of ours; None where no row of ours fits."""
    name, wanted = plain(entry["dataset"]), averaged(protocol.published)

    def same(names: frozenset[str]) -> bool:
        return {plain(name) for name in names} == wanted

    if protocol.averaged:  # a row per data set
        column = COLUMNS.get(entry["metric"])
        if is_average(entry["dataset"]):
            return next((row.dataset for row in ours if same(row.members)), None), column
        return next(
            (row.dataset for row in ours if not row.members and plain(row.dataset) == name), None
        ), column
    if entry["metric"] == "average":  # over all pairs of domains of a data set
        whole = [
            row for row in ours if plain(row.dataset) == name and len(row.targets) == PAIRS[name]
        ]
        return next((row.dataset for row in whole), None), "average"
    # Trained on ImageNet, a column per data set.
    source = next((row for row in ours if plain(row.dataset) == "imagenet"), None)
    if source is None:
        return None, None
    if is_average(entry["dataset"]):
        return source.dataset, "average" if same(source.targets) else None
    return source.dataset, next((column for column in columns if plain(column) == name), None)


@functools.cache
def published_names(task: str) -> frozenset[str]:
    """Plain names of the data sets that have published numbers of a task."""
    names = {
        plain(entry["dataset"])
        for entry in entries()
        if entry["task"] == task and not is_average(entry["dataset"])
    }
    return frozenset("imagenet" if name == "source" else name for name in names)


@functools.cache
def _data_sets() -> dict[str, type["CoOpDataset"]]:
    """{plain name: class} of the data sets in the CoOp layout."""
    import datasets  # noqa: F401 - registers them; not above, since it takes torch
    from dassl.data.datasets import DATASET_REGISTRY
    from datasets.base import CoOpDataset

    return {
        plain(kind.config_name()): kind
        for _, kind in DATASET_REGISTRY
        if isinstance(kind, type) and issubclass(kind, CoOpDataset)
    }


@functools.cache
def test_images() -> dict[str, int]:
    """{plain name of a published data set: images of its test part}."""
    return {name: kind.images[2] for name, kind in _data_sets().items() if kind.images[2]}


def half_images(dataset: str, column: str) -> int | None:
    """Test images of the published base or new classes; None for another column, or not known."""
    halves = getattr(_data_sets().get(plain(dataset)), "test_halves", (0, 0))
    return dict(zip(HALVES, halves, strict=True)).get(column) or None


def domain_images(dataset: str, study: str) -> int | None:
    """Images of a target domain, `sketch` or that of `art_to_clipart`; None if not known."""
    images = getattr(_data_sets().get(plain(dataset)), "domain_images", {})
    return images.get(study.rpartition("_to_")[2])


def tested(protocol: Protocol, dataset: str, column: str) -> int | None:
    """Images of the published test that a cell is over; None if not known."""
    if protocol.averaged and column in HALVES:
        return half_images(dataset, column)
    name = dataset if protocol.averaged or column == "source" else column
    domain = None if protocol.averaged else domain_images(dataset, column)
    return domain or test_images().get(plain(name))


@dataclass(frozen=True)
class OtherTest:
    """A test of ours on `images` images of a data set whose published test part has `whole`."""

    name: str
    images: int
    whole: int


def other_tests(protocol: Protocol, ours: list[Row]) -> dict[tuple[str, str], OtherTest]:
    """{(data set, column): test} of tests that cannot stand beside published numbers.

    These are of a miniature, of a part of the pictures, or of another split.
    """
    names = published_names(protocol.published)
    least: dict[str, dict[str, int]] = {}
    for row in ours:
        compared = not protocol.averaged or plain(row.dataset) in names
        seen = least.setdefault(row.dataset, {}) if compared else {}
        for column, numbers in row.tested.items():
            seen[column] = min(numbers | {seen[column]} if column in seen else numbers)
    unfit: dict[tuple[str, str], OtherTest] = {}
    for dataset, counts in least.items():
        if protocol.averaged:
            differ = [
                (number, every)
                for column, number in sorted(counts.items())  # base before new
                if (every := tested(protocol, dataset, column)) and number != every
            ]
            if differ:
                whole, total = test_images()[plain(dataset)], sum(counts.values())
                test = OtherTest(dataset, *(differ[0] if total == whole else (total, whole)))
                unfit |= {(dataset, column): test for column in COLUMNS.values()}
            continue
        for column, number in counts.items():
            name = dataset if column == "source" else column  # ImageNet, or a shifted one
            known = plain(name) in names or plain(dataset) in names
            every = tested(protocol, dataset, column) if known else None
            if every is not None and number != every:
                unfit[dataset, column] = OtherTest(name, number, every)
    return unfit


def marks(task: str, method: str) -> str:
    """What a reader has to know of a published method's numbers; "" for nothing."""
    chosen = "" if method in ZERO_SHOT else CHOSEN.get(task, "")
    return ", and ".join(filter(None, [MARKS.get(method, ""), chosen]))


def _title(method: str) -> str:
    """What a table calls a published method."""
    mark = ", transductive" if "unlabelled" in MARKS.get(method, "") else ""
    return f"{method} (published{mark})"


def rows(protocol: Protocol, ours: list[Row], columns: list[str]) -> tuple[list[Row], list[str]]:
    """Rows of published methods beside `ours`, and a footnote for each source.

    Empty for protocols without a published task. Cells of other tests (`other_tests`) are left out;
    a sentence says so.
    """
    if not protocol.published:
        return [], []
    methods: dict[tuple[str, str], Row] = {}
    notes: dict[tuple[str, str], int] = {}
    other = other_tests(protocol, [row for row in ours if not row.members])
    left_out: set[OtherTest] = set()
    averages = {row.dataset: row.members for row in ours if row.members}
    shots = "all" if protocol.shots == "all" else SHOTS
    for entry in entries():
        if entry["task"] != protocol.published or entry["method"] not in METHODS:
            continue
        if entry["metric"] == "HM" and entry["source"].startswith("computed"):
            continue  # as the table computes it
        dataset, column = place(protocol, entry, ours, columns)
        if dataset is None or column is None:
            continue
        places = {(name, column) for name in averages.get(dataset, {dataset})}
        if column == "average":
            places = {place for place in other if place[0] == dataset and place[1] != "source"}
        if unfit := places & other.keys():
            left_out |= {other[place] for place in unfit}
            continue
        number = notes.setdefault((entry["source"], entry["status"]), len(notes) + 1)
        row = methods.setdefault(
            (dataset, entry["method"]),
            Row(
                dataset,
                _title(entry["method"]),
                "",
                shots,
                published=True,
                zero_shot=entry["method"] in ZERO_SHOT,
            ),
        )
        row.values[column][0] = float(entry["value"])
        if f"[{number}]" not in row.config:
            row.config += (
                f"[{number}]"  # published rows carry footnote numbers in the config column
            )
    sentences = [
        f"published numbers do not stand beside {test.name}: our runs tested {test.images:,} "
        "images, "
        f"and the published test set has {test.whole:,}"
        for test in sorted(left_out, key=lambda test: test.name)
    ]
    marked = {method: marks(protocol.published, method) for _, method in methods}
    sentences += [f"{method} (published) was {mark}" for method, mark in marked.items() if mark]
    return list(methods.values()), sentences + [
        f"[{number}] {source}: {NOTES.get(status, status)}"
        for (source, status), number in notes.items()
    ]
