"""Numbers of papers, to stand beside ours: docs/results/published.csv (task, method, dataset, metric, value, source, status).

Status "read": taken from the source itself; "unverified": from another paper's table or from memory of it.
"""

import csv
import functools
import re
from pathlib import Path

from tools.protocols import Row

FILE = Path(__file__).resolve().parent.parent / "docs" / "results" / "published.csv"
TASKS = {"base2new": "base2novel", "xd": "cross_dataset", "dg": "domain_generalisation"}
COLUMNS = {"base": "base", "novel": "new"}
ALIASES = {"flowers102": "oxfordflowers", "imagenet(source)": "source"}
# Of the structures, at several lengths of training where those are published.
METHODS = ("CLIP", "CoOp", "CoCoOp", "VPT (deep vision prompting, 4 ctx, 5 ep)", "IVLP", "IVLP (2+2 ctx, 5 ep)", "MaPLe", "PromptSRC", "KgCoOp")
NOTES = {"read": "as read in its source", "unverified": "not verified against its source"}


def plain(name: str) -> str:
    """A data set's name as it is written in configs or in tables, in one spelling."""
    found = re.sub(r"[-_ ]", "", name).lower()
    return ALIASES.get(found, found)


@functools.cache
def entries() -> tuple[dict[str, str], ...]:
    with open(FILE, encoding="utf-8", newline="") as file:
        return tuple(csv.DictReader(file))


def is_average(dataset: str) -> bool:
    return dataset.startswith("AVERAGE(")


@functools.cache
def averaged(task: str) -> frozenset[str]:
    """Plain names of what a task's published averages are over: all its data sets, but for the source."""
    return frozenset(plain(entry["dataset"]) for entry in entries() if entry["task"] == task and entry["method"] in METHODS
                     and not is_average(entry["dataset"])) - {"source"}


def _place(protocol: str, entry: dict[str, str], ours: list[Row], columns: list[str]) -> tuple[str | None, str | None]:
    """(data set, column) where an entry belongs beside rows of ours; None where they have nothing of the kind."""
    name, wanted = plain(entry["dataset"]), averaged(TASKS[protocol])

    def same(names: frozenset[str]) -> bool:
        return {plain(name) for name in names} == wanted

    if protocol == "base2new":
        column = COLUMNS.get(entry["metric"])
        if is_average(entry["dataset"]):
            return next((row.dataset for row in ours if same(row.members)), None), column
        return next((row.dataset for row in ours if not row.members and plain(row.dataset) == name), None), column
    # Trained on ImageNet, a column per data set.
    source = next((row for row in ours if plain(row.dataset) == "imagenet"), None)
    if source is None:
        return None, None
    if is_average(entry["dataset"]):
        return source.dataset, "average" if same(source.targets) else None
    return source.dataset, next((column for column in columns if plain(column) == name), None)


def rows(protocol: str, ours: list[Row], columns: list[str]) -> tuple[list[Row], list[str]]:
    """Rows of published methods for the data sets, averages and columns of `ours`, and a footnote for each source. Empty for protocols without any."""
    found: dict[tuple[str, str], Row] = {}
    notes: dict[tuple[str, str], int] = {}
    for entry in entries() if protocol in TASKS else ():
        if entry["task"] != TASKS[protocol] or entry["method"] not in METHODS:
            continue
        dataset, column = _place(protocol, entry, ours, columns)
        if dataset is None or column is None:
            continue
        number = notes.setdefault((entry["source"], entry["status"]), len(notes) + 1)
        row = found.setdefault((dataset, entry["method"]), Row(dataset, f"{entry['method']} (published)", "", "16", published=True))
        row.values[column][0] = float(entry["value"])
        row.config += f"[{number}]" if f"[{number}]" not in row.config else ""  # where a config stands in our rows, the footnotes in these
    return list(found.values()), [f"[{number}] {source}: {NOTES.get(status, status)}" for (source, status), number in notes.items()]
