"""What a protocol is: everything that is known of one stands in one object, a `Protocol`.

Scripts, plans, tables, the report page and published numbers read the object.
tools/protocols/__init__.py finds it.
"""

import functools
import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from dassl.record import NAME, Description
from tools import configs

CELL = "shots_{shots}/{trainer}/{config}/seed{seed}"
PAIR = "{source}_to_{target}"  # a shifted domain: names of folders, rows and cells of selections

# What a folder's format may hold besides the fields of a Description. TESTED is the data set
# tested, and where it is not the one trained on, "<tested>_from_<source>".
TESTED = "{tested_from}"
_FROM = "_from_"
# Text that a field of a format stands for in a folder's name, where it is not any name.
_TEXT = {"shots": r"\d+|all", "seed": r"-?\d+", "subset": r"base|new|all"}

PROTOCOLS: dict[str, "Protocol"] = {}


@dataclass(frozen=True)
class Variable:
    """A variable of a script's environment, for what a plan has under `key`: tests or target.

    several: whether it takes more than one name.
    """

    name: str
    key: str
    help: str
    needed: bool = False
    several: bool = False


@dataclass(frozen=True)
class Variant:
    """A row of an ablation. preset: of CRAFT's options, "" without CRAFT."""

    preset: str
    options: Mapping[str, object] = field(default_factory=dict)


def percent(metrics: dict, key: str) -> float:
    """A metric of a test, in percent. Raises KeyError, or ValueError for no finite number."""
    value = metrics[key]
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        raise ValueError(f"its {key} is {value!r}")
    return float(value)


def in_column(column: str) -> Callable[[Description, dict], dict[str, float]]:
    """Cells of a run: its accuracy, in the column that a format of the run's fields gives."""

    def cells(run: Description, metrics: dict) -> dict[str, float]:
        return {column.format_map(labels(run)): percent(metrics, "accuracy")}

    return cells


def by_tested(run: Description, metrics: dict) -> dict[str, float]:
    """Cells of a run: its accuracy, in the column "source" or that of the data set tested."""
    column = "source" if run.part == "train" else run.tested
    return {column: percent(metrics, "accuracy")}


def source_first(columns: list[str]) -> list[str]:
    """The column of the data set trained on, those of the other data sets, and their average."""
    first = [name for name in columns if name == "source"]
    return [*first, *sorted(set(columns) - {"source"}), "average"]


@dataclass(frozen=True, eq=False)
class Protocol:
    """Which runs a protocol has, where they lie, and the table that they make.

    Raises ValueError for a format with a field in braces that no run has.
    """

    name: str
    title: str  # on the report page

    # Runs. Folders are formats, below the output folder: they hold fields of a `Description` in
    # braces, or TESTED. The patterns that read folders are derived from them.
    train: str  # of a training
    trained_as: str = ""  # the protocol whose trainings these are; "": its own
    test: str = ""  # of a further test of its model
    top: str = ""  # begins both, but tables do without it, so that its folder may be renamed
    home: str = ""  # the data set trained on that TESTED leaves out; "": the one tested
    subset: str = "all"  # classes that a training sees: all, base or new
    others: tuple[str, ...] = ()  # subsets of the data set trained on that are tested besides
    elsewhere: tuple[str, ...] = ()  # subsets of other data sets that are tested
    presets: Mapping[str, Mapping[str, object]] = field(default_factory=dict)  # preset: options
    tested_with: Mapping[str, object] = field(default_factory=dict)  # options of further tests
    variants: Mapping[str, Variant] = field(default_factory=dict)  # of an ablation, by study

    # Scripts.
    script: str = ""  # in scripts/, {part} standing for train or test; "": none but tools.run
    shots: str = "16"  # where SHOTS is not set; several run one after the other
    tests: tuple[str, ...] = ()  # other data sets to test on, where none are named
    variables: tuple[Variable, ...] = ()  # of the environment

    # Tables.
    takes: Callable[[Description], bool] = lambda run: True  # of the runs in these folders
    cells: Callable[[Description, dict], dict[str, float]] = by_tested  # {column: percent}
    columns: Callable[[list[str]], list[str]] = lambda columns: columns  # in the table's order
    row: tuple[str, str, str, str] = ("{source}", "{trainer}", "{config}", "{shots}")  # formats
    # Columns of text: what a row's first record tells of how it was made.
    tells: Mapping[str, Callable[[dict], str]] = field(default_factory=dict)
    verdict: str = ""  # the column whose gains get a verdict; "": the last
    intervals: bool = False  # whether means stand with an interval, not with a standard deviation
    every_column: bool = False  # whether the gains of every column are comparisons of one family
    averaged: bool = False  # whether there are averages over data sets
    tested_only: bool = False  # whether rows without a test elsewhere are left out
    baseline: str = ""  # the study over which gains are; "": the structure without CRAFT
    published: str = ""  # task of docs/results/published.csv
    rank: int = 100  # place on the report page, after those of lower rank

    def __post_init__(self):
        known = labels(Description())
        for text in (self.top, self.train, self.test, *self.row):
            for name in re.findall(r"\{(\w*)\}", text):
                if name not in known:
                    raise ValueError(
                        f"protocol {self.name}: '{text}' has the unknown field {{{name}}}: known "
                        f"ones are {', '.join(known)}"
                    )

    # Folders

    def folder(self, run: Description) -> str:
        """Of a run, below the output folder."""
        text = self.top + (self.train if run.part == "train" else self.test)
        place = text.format_map(labels(run, self.home))
        return f"{run.study}/{place}" if run.study and not self.has("study") else place

    def has(self, name: str) -> bool:
        """Whether a field stands in the folder of a training."""
        return f"{{{name}}}" in self.top + self.train

    def described(self, path: str) -> tuple[int, Description] | None:
        """(where the protocol's folders begin, the run) of a results.json; None for other paths."""
        for part, pattern in self._patterns.items():
            if match := pattern.search(path):
                return match.start(), self._run(part, match.groupdict())
        return None

    @functools.cached_property
    def _patterns(self) -> dict[str, re.Pattern]:
        """{part: pattern of the path of its results.json}, from the formats."""
        top = self.top if "{" in self.top else ""
        formats = {"train": self.train, "test": self.test}
        return {part: _pattern(top + text) for part, text in formats.items() if text}

    def _run(self, part: str, named: dict[str, str]) -> Description:
        """The run in a folder, from the fields of the folder's name."""
        if both := named.pop("tested_from", ""):
            named["tested"], _, source = both.partition(_FROM)
            named["source"] = source or self.home or named["tested"]
        trainer, preset = named["trainer"], configs.split(named["trainer"], named["config"])[1]
        values: dict[str, Any] = {
            "protocol": self.name,
            "part": part,
            "tested": named.get("source", ""),
            "subset": self.subset if part == "train" else "all",
            "structure": configs.structure_of(trainer),
            "craft": preset,
            "learns": configs.learns(trainer),
            **named,
            "seed": int(named["seed"]),
        }
        return Description(**values)

    # Scripts

    def command(self, part: str) -> str:
        """The command line of a part of the protocol, without its arguments."""
        script = self.script.format(part=part)
        return f"scripts/{script}" if script else f"python -m tools.run {self.name} {part}"

    # Tables

    def lists(self, run: Description) -> bool:
        """Whether the table has a cell for a run, also of a protocol with the same folders."""
        other = PROTOCOLS.get(run.protocol)
        same = other is not None and (other.top, other.train) == (self.top, self.train)
        return same and self.takes(run)

    def key(self, run: Description) -> tuple[str, str, str, str]:
        """Of the row that a run belongs to: data set, trainer, config, shots."""
        known = labels(run, self.home)
        dataset, trainer, config, shots = (text.format_map(known) for text in self.row)
        return dataset, trainer, config, shots


def labels(run: Description, home: str = "") -> dict[str, str]:
    """{field: text} of a run, for formats."""
    known = {name.name: getattr(run, name.name) for name in fields(run)}
    plain = run.source == (home or run.tested)
    known["tested_from"] = run.tested if plain else f"{run.tested}{_FROM}{run.source}"
    return known


def _pattern(text: str) -> re.Pattern:
    """Of the path of a results.json in a folder of this format."""
    literal_and_field = re.split(r"\{(\w+)\}", text)
    parts = [
        f"(?P<{part}>{_TEXT.get(part, '[^/]+')})" if number % 2 else re.escape(part)
        for number, part in enumerate(literal_and_field)
    ]
    return re.compile(f"/{''.join(parts)}/{re.escape(NAME)}$")


@functools.cache
def by_folder(folder: Path, path: Path) -> dict[str, Description]:
    """{protocol: run} of a results.json below `folder`, by its path: for records of old versions.

    Parents of `folder` are considered only as far as needed, so any subfolder of an output tree may
    be given.
    """
    inside, above = path.relative_to(folder).as_posix(), folder.absolute().parts[1:]
    for start in range(len(above) - 1, -1, -1):
        text = f"/{'/'.join(above[start:])}/{inside}"
        matches = {
            name: match
            for name, protocol in PROTOCOLS.items()
            if (match := protocol.described(text))
        }
        if matches:  # an ablation's folders hold those of base2new
            first = min(begin for begin, _ in matches.values())
            return {name: run for name, (begin, run) in matches.items() if begin == first}
    return {}
