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
METHODS = ("CLIP", "CoOp", "CoCoOp", "IVLP", "MaPLe", "PromptSRC", "KgCoOp")
NOTES = {"read": "as read in its source", "unverified": "not verified against its source"}


def plain(name: str) -> str:
    """A data set's name as it is written in configs or in tables, in one spelling."""
    found = re.sub(r"[-_ ]", "", name).lower()
    return ALIASES.get(found, found)


@functools.cache
def entries() -> tuple[dict[str, str], ...]:
    with open(FILE, encoding="utf-8", newline="") as file:
        return tuple(csv.DictReader(file))


def rows(protocol: str, ours: list[Row], columns: list[str]) -> tuple[list[Row], list[str]]:
    """Rows of published methods for the data sets and columns of `ours`, and a footnote for each source. Empty for protocols without any."""
    task, found, notes = TASKS.get(protocol), {}, {}
    names = {plain(row.dataset): row.dataset for row in ours}
    for entry in entries():
        name = plain(entry["dataset"])
        if entry["task"] != task or entry["method"] not in METHODS:
            continue
        if protocol == "base2new":
            dataset, column = names.get(name), COLUMNS.get(entry["metric"])
        else:  # trained on ImageNet, a column per data set
            dataset, column = names.get("imagenet"), next((column for column in columns if plain(column) == name), None)
        if dataset is None or column is None:
            continue
        number = notes.setdefault((entry["source"], entry["status"]), len(notes) + 1)
        row = found.setdefault((dataset, entry["method"]), Row(dataset, f"{entry['method']} (published)", "", "16"))
        row.values[column][0] = float(entry["value"])
        row.config += f"[{number}]" if f"[{number}]" not in row.config else ""  # where a config stands in our rows, the footnotes in these
    return list(found.values()), [f"[{number}] {source}: {NOTES.get(status, status)}" for (source, status), number in notes.items()]
