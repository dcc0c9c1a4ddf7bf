"""Tables from finished runs: `python -m tools.results PROTOCOL FOLDER ... [options]`.

PROTOCOL is base2new, openworld, xd (cross-dataset), dg (domain generalisation), ood, domains,
group, few_shot or ablation. Reads every results.json of the protocol's runs below the folders and
prints mean ± standard deviation over seeds in percent, the gain of CRAFT over its baseline, paired
over seeds, with its 95% interval and verdict, and what to know about both; docs/sweeps.md tells how
to read them. --pivot puts methods down and data sets across, as papers do. --out NAME writes the
same as NAME.md and NAME.tex (for the package booktabs), the best in bold, numbers as NAME.csv (a
line per cell) and NAME.json, and NAME_runs.csv with a line for every results.json behind them.
"""

import argparse
import functools
import itertools
import json
import math
import statistics
import sys
import unicodedata
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from tools import gains, inputs, plots, published, selected
from tools.arguments import Parser
from tools.gains import Gain, mean_of
from tools.inputs import InputError
from tools.protocols import PROTOCOLS, Protocol, Row, averages, collect
from tools.protocols.rows import EVERY, Only, baseline_key, is_average, ordered, unlike
from tools.statistics import t_test

MISSING = "–"
SUFFIXES = (".md", "_runs.csv", ".csv", ".tex", ".json")  # of what --out writes
TEXT_COLUMNS = ("data set", "trainer", "config", "method")


@dataclass(frozen=True)
class Block:
    """Lines of a table that belong together, e.g. those of a data set.

    bold: of each line, the numbers of the cells that are the best ones.
    """

    title: str
    lines: list[list[str]]
    bold: list[frozenset[int]]

    @property
    def marked(self) -> list[list[str]]:
        """The lines with the best cells in Markdown's bold."""
        return [
            [f"**{cell}**" if place in bold else cell for place, cell in enumerate(cells)]
            for cells, bold in zip(self.lines, self.bold, strict=True)
        ]


@dataclass(frozen=True)
class Number:
    """A mean over seeds.

    spread: the sample standard deviation; None for one seed.
    """

    mean: float
    spread: float | None
    seeds: tuple[int, ...]

    @property
    def interval(self) -> tuple[float, float] | None:
        """The 95% interval of Student's t over the seeds; None for one seed."""
        if self.spread is None:
            return None
        count = len(self.seeds)
        found = t_test(self.mean, self.spread / math.sqrt(count), count)
        return found.low, found.high

    def text(self, interval: bool = False) -> str:
        """interval: in the place of the standard deviation."""
        if interval and (bounds := self.interval):
            return f"{self.mean:.2f} [{bounds[0]:.2f}, {bounds[1]:.2f}]"
        return f"{self.mean:.2f}" + ("" if self.spread is None else f" ± {self.spread:.2f}")


def number(row: Row, column: str) -> Number | None:
    """A cell of the table; None if it is empty. H of averages is H of the averaged base and new."""
    values = row.of(column)
    if not values:
        return None
    mean = mean_of(row, column, values)
    return Number(
        mean, statistics.stdev(values.values()) if len(values) > 1 else None, tuple(sorted(values))
    )


def by_column(
    numbers: Mapping[str, Number | Gain | None], text: Callable[[tuple[int, ...]], str]
) -> str:
    """text(seeds) of all cells; where they differ, "base 1, 2; new 1"."""
    groups: dict[tuple[int, ...], list[str]] = {}
    for column, cell in numbers.items():
        if cell is not None:
            groups.setdefault(cell.seeds, []).append(column)
    if len(groups) < 2:
        return "".join(map(text, groups)) or text(())
    return "; ".join(f"{', '.join(columns)} {text(seeds)}" for seeds, columns in groups.items())


def seeds_text(seeds: tuple[int, ...]) -> str:
    return ", ".join(map(str, seeds))


def columns_of(text: str) -> int:
    """Columns that a terminal gives a text: two to Chinese and the like, none to accents."""
    return sum(
        0
        if unicodedata.category(letter) in ("Mn", "Me", "Cf")
        else 1 + (unicodedata.east_asian_width(letter) in "WF")
        for letter in text
    )


def markdown(head: list[str], rows: list[list[str]]) -> str:
    """A table of cells of text, with columns of one width."""
    table = [head, *rows]
    widths = [max(map(columns_of, column)) for column in zip(*table, strict=True)]
    lines = [
        "| "
        + " | ".join(
            cell + " " * (width - columns_of(cell))
            for cell, width in zip(line, widths, strict=True)
        )
        + " |"
        for line in table
    ]
    return "\n".join(
        [lines[0], "|" + "|".join("-" * (width + 2) for width in widths) + "|", *lines[1:]]
    )


# What LaTeX would take for commands.
LATEX = {
    **{sign: f"\\{sign}" for sign in "_%&#${}"},
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "±": r"$\pm$",
    MISSING: "--",
}


def escaped(text: str) -> str:
    return "".join(LATEX.get(sign, sign) for sign in text)


def latex(head: Sequence[str], blocks: Sequence[Block]) -> str:
    """A tabular of the package booktabs; blocks are separated by a line, and by their titles."""
    told = {name for protocol in PROTOCOLS.values() for name in protocol.tells}
    texts = sum(name in TEXT_COLUMNS or name in told for name in head)

    def line(cells: Sequence[str], bold: frozenset[int] = frozenset()) -> str:
        shown = [
            rf"\textbf{{{escaped(cell)}}}" if place in bold else escaped(cell)
            for place, cell in enumerate(cells)
        ]
        return " & ".join(shown) + r" \\"

    lines = [rf"\begin{{tabular}}{{{'l' * texts + 'c' * (len(head) - texts)}}}", r"\toprule"]
    lines.append(line(head))
    for block in blocks:
        lines.append(r"\midrule")
        if block.title:
            lines.append(rf"\multicolumn{{{len(head)}}}{{l}}{{\emph{{{escaped(block.title)}}}}} \\")
        lines += [line(cells, bold) for cells, bold in zip(block.lines, block.bold, strict=True)]
    return "\n".join([*lines, r"\bottomrule", r"\end{tabular}"])


@dataclass
class Tables:
    """What a protocol's runs come to: rows, averages, published rows, and notes on them.

    summary: whether averages alone are shown, and their gains alone are the comparisons. against:
    the config of all baselines; "" where each row has its own.
    """

    protocol: Protocol
    rows: list[Row]
    averages: list[Row]
    others: list[Row]
    columns: list[str]
    notes: list[str]
    summary: bool = False
    against: str = ""

    @property
    def ours(self) -> list[Row]:
        return self.averages if self.summary else self.rows + self.averages

    @property
    def shown(self) -> list[Row]:
        """Our rows as a reader wants them: averages first."""
        return self.averages if self.summary else self.averages + self.rows

    @property
    def verdict(self) -> str:
        """The column whose gains get a verdict."""
        return gains.verdict_column(self.protocol, self.columns)

    @property
    def gaining(self) -> list[Row]:
        """Rows that have a baseline."""
        return [row for row in self.shown if baseline_key(self.protocol, row, self.against)]

    @property
    def gains(self) -> list[dict[str, Gain | None]]:
        """{column: gain} of each row of `gaining`."""
        return self._compared[0]

    @functools.cached_property
    def _compared(self) -> tuple[list[dict[str, Gain | None]], list[str]]:
        pairs = [(row, self.baseline(row)) for row in self.gaining]
        return gains.compared(pairs, self.columns, self.protocol.every_column)

    @property
    def gain_notes(self) -> list[str]:
        """What to know about the gains, and outcomes that could not be read."""
        if not self.gaining:
            return []
        decide = self.columns if self.protocol.every_column else [self.verdict]
        return self._compared[1] + gains.notes(self.gaining, self.gains, decide)

    def baseline(self, row: Row) -> Row | None:
        key = baseline_key(self.protocol, row, self.against)
        return self._by_key.get(key) if key else None

    @functools.cached_property
    def unlike(self) -> list[tuple[Row, list[str]]]:
        """(row, sentences) of rows on a data set that differ from their baselines in more than
        CRAFT.
        """
        pairs = [(row, self.baseline(row)) for row in self.rows]
        found = [(row, unlike(row, baseline)) for row, baseline in pairs if baseline]
        return [(row, sentences) for row, sentences in found if sentences]

    def without_number(self, row: Row) -> set[str]:
        """Columns of one of our rows that its finished runs have no number for.

        Each of its tests gives other columns that stand in one record with these.
        """
        if row.parts:
            return set().union(*map(self.without_number, row.parts))
        return {
            column
            for column in self.columns
            if number(row, column) is None
            and any(row.values.get(other) for other in self._of_one_record.get(column, ()))
        }

    @functools.cached_property
    def _of_one_record(self) -> dict[str, set[str]]:
        """{column: those for which some record has a number, too}."""
        found: dict[str, set[str]] = {}
        for row in self.rows:
            records: dict[Path, set[str]] = {}
            for column, paths in row.files.items():
                for path in paths.values():
                    records.setdefault(path, set()).add(column)
            for columns in records.values():
                for column in columns:
                    found.setdefault(column, set()).update(columns - {column})
        return found

    @functools.cached_property
    def _by_key(self) -> dict[tuple, Row]:
        return {row.key: row for row in self.rows + self.averages}

    @property
    def head(self) -> list[str]:
        told = self.protocol.tells
        return ["data set", "trainer", "config", *told, *self._shots, *self.columns, "seeds"]

    @property
    def _shots(self) -> list[str]:
        return ["shots"] if self.rows and self.rows[0].shots else []

    @property
    def lines(self) -> list[list[str]]:
        """Lines of the table of accuracies: averages, data sets, published rows."""
        lines = []
        for row in (*self.shown, *self.others):
            cells = {column: number(row, column) for column in self.columns}
            texts = [
                MISSING if one is None else one.text(self.protocol.intervals)
                for one in cells.values()
            ]
            seeds = "" if row.published else by_column(cells, seeds_text)
            lines.append(
                [
                    row.dataset,
                    row.trainer,
                    row.config,
                    *row.told(self.protocol.tells).values(),
                    *([row.shots_shown] if self._shots else []),
                    *texts,
                    seeds,
                ]
            )
        return lines

    @property
    def best(self) -> list[frozenset[str]]:
        """Of each of `lines`, the columns in which no row of its data set is better."""
        rows = (*self.shown, *self.others)
        groups: dict[tuple[str, str], list[Row]] = {}
        for row in rows:
            groups.setdefault((row.dataset, row.shots), []).append(row)
        best = {key: best_of(members, self.columns) for key, members in groups.items()}
        return [
            frozenset(c for c in self.columns if row in best[row.dataset, row.shots][c])
            for row in rows
        ]

    def blocks(self) -> list[Block]:
        """The table of accuracies, a block for each run of lines with one data set."""
        places = {name: number for number, name in enumerate(self.head)}
        blocks: list[Block] = []
        for line, best in zip(self.lines, self.best, strict=True):
            if not blocks or blocks[-1].lines[-1][0] != line[0]:
                blocks.append(Block("", [], []))
            blocks[-1].lines.append(line)
            blocks[-1].bold.append(frozenset(places[column] for column in best))
        return blocks

    @property
    def gain_head(self) -> list[str]:
        tests = [f"p of {self.verdict}", "Holm", "verdict"]
        return ["data set", "trainer", *self._shots, *self.columns, *tests, "seeds paired"]

    @property
    def gain_lines(self) -> list[list[str]]:
        """Lines of the table of gains, one of each row of `gaining`."""
        several, lines = len({row.config for row in self.ours}) > 1, []
        for row, cells in zip(self.gaining, self.gains, strict=True):
            decides = cells[self.verdict]
            lines.append(
                [
                    row.dataset,
                    f"{row.trainer} {row.config}" if several else row.trainer,
                    *([row.shots] if self._shots else []),
                    *(MISSING if one is None else one.text() for one in cells.values()),
                    *(gains.verdicts(decides, self.verdict) if decides else [MISSING] * 3),
                    by_column(cells, lambda seeds: str(len(seeds))),
                ]
            )
        return lines

    def cells(self) -> Iterable[tuple[Row, str, Number | None, Gain | None]]:
        """(row, column, number, gain) of all cells except empty ones of published rows."""
        known = {row.key: one for row, one in zip(self.gaining, self.gains, strict=True)}
        for row in (*self.ours, *self.others):
            for column in self.columns:
                value = number(row, column)
                if value is not None or not row.published:
                    difference = None if row.published else known.get(row.key, {}).get(column)
                    yield row, column, value, difference


ON_LEVELS = "means stand with 95% intervals of Student's t over the seeds, on these test images"
GAINS = "Gain of CRAFT over its baseline, paired over seeds (mean [95% interval])"


def tables(
    protocol: Protocol,
    folders: list[Path],
    only: Only = EVERY,
    beside: bool = True,
    summary: bool = False,
) -> Tables:
    """The tables of all finished runs of a protocol below the folders.

    beside: whether published numbers on the same data sets stand beside them. summary: of averages
    alone. Raises InputError as `collect`, and for a summary without averages.
    """
    rows, notes = collect(protocol, folders, only)
    columns = protocol.columns(list(dict.fromkeys(column for row in rows for column in row.values)))
    average, more = averages(protocol, rows, columns)
    others, footnotes = published.rows(protocol, rows + average, columns) if beside else ([], [])
    if summary and rows and not average:
        raise InputError(
            "--averages shows averages over data sets, but there are none: leave it out"
        )
    others = [row for row in others if is_average(row.dataset) or not summary]
    content = Tables(protocol, rows, average, others, columns, [], summary, only.baseline)
    if protocol.intervals and rows:
        notes.append(ON_LEVELS)
    notes += _more_than_craft(content)
    notes += more + content.gain_notes + selected.notes(rows)
    content.notes += only.note() + _without_column(rows, columns) + notes + footnotes
    content.notes[:0] = _of_empty_cells(content)
    return content


def _of_empty_cells(content: Tables) -> list[str]:
    """Sentences on what empty cells and gains lack."""
    notes = [f"cells with {MISSING} have no finished run"] if _has_gaps(content) else []
    for column in content.columns:
        sets = [row.dataset for row in content.rows if column in content.without_number(row)]
        if sets := list(dict.fromkeys(sets)):
            shown = [] if content.summary else [f"on {', '.join(sets)}"]
            if any(column in content.without_number(row) for row in content.averages):
                shown.append(f"in averages over {'them' if shown else ', '.join(sets)}")
            notes.append(f"{column} is {MISSING} {' and '.join(shown)}: tests there do not give it")
    within = " on the same data sets" if content.averages else ""
    if any(
        cell is None and column not in content.without_number(row)
        for row, cells in zip(content.gaining, content.gains, strict=True)
        for column, cell in cells.items()
    ):
        notes.append(f"gains with {MISSING} have no pair of runs{within}")
    return notes


def _more_than_craft(content: Tables) -> list[str]:
    """Sentences on gains of which CRAFT is not the only cause, one for equal reasons."""
    found: dict[tuple[str, str], list[str]] = {}
    for row, different in content.unlike:
        found.setdefault((row.name, "; ".join(different)), []).append(row.dataset)
    return [
        f"the gain of {name} on {', '.join(sets)} is not CRAFT's alone: {different}"
        for (name, different), sets in found.items()
    ]


def _has_gaps(content: Tables) -> bool:
    """Whether cells are empty for want of a run, not of a column for the runs that there are."""
    hidden = {row.key[1:] for row in content.rows if set(row.values) - set(content.columns)}
    for row in content.ours:
        lacking = content.without_number(row)
        expected = [column for column in content.columns if column not in lacking]
        filled = [number(row, column) is not None for column in expected]
        if not all(filled) and (any(filled) or row.key[1:] not in hidden):
            return True
    return False


def _without_column(rows: list[Row], columns: list[str]) -> list[str]:
    """Sentences on finished runs that no column of the table shows."""
    return [
        f"{row.name} on {row.dataset} has runs of {', '.join(lost)}, for which this table has no "
        "column"
        for row in rows
        if (lost := sorted(set(row.values) - set(columns)))
    ]


def best_of(rows: Sequence[Row], columns: Sequence[str]) -> dict[str, list[Row]]:
    """{column: the best rows}; equal as printed is equal, and one row alone is not the best."""
    best: dict[str, list[Row]] = {}
    for column in columns:
        means = [(row, round(one.mean, 2)) for row in rows if (one := number(row, column))]
        values = [mean for _, mean in means]
        better = min if column in gains.LOWER_IS_BETTER else max
        top = better(values) if len(values) > 1 else None
        best[column] = [row for row, mean in means if mean == top]
    return best


def pivot(content: Tables) -> tuple[list[str], list[Block]]:
    """(head, blocks) of the table as papers have it: methods down, means alone.

    Data sets stand across, averages first, in a block for each column. Where there is one data set,
    the columns stand across.
    """
    rows = [*content.shown, *content.others]
    sets = list(dict.fromkeys(row.dataset for row in rows))
    # Rows of several shots are told apart by them, which a zero-shot row has none of.
    names = {id(row): row.trainer if row.zero_shot else plots.label(row, rows) for row in rows}
    # One order for all data sets: that of a table of one.
    order = {id(one := replace(row, dataset="")): (one, names[id(row)]) for row in content.shown}
    inside = ordered(content.protocol, [one for one, _ in order.values()], content.against)
    ours = [order[id(one)][1] for one in inside]
    methods = list(dict.fromkeys([*ours, *(names[id(row)] for row in content.others)]))
    columns = sorted(content.columns, key=lambda column: column != "average")
    if len(sets) == 1:
        return ["method", *columns], [
            _pivot_block(sets[0], methods, [(rows, column) for column in columns], names)
        ]
    return ["method", *sets], [
        _pivot_block(
            column,
            methods,
            [([row for row in rows if row.dataset == name], column) for name in sets],
            names,
        )
        for column in columns
    ]


def _pivot_block(
    title: str,
    methods: Sequence[str],
    across: Sequence[tuple[Sequence[Row], str]],
    names: Mapping[int, str],
) -> Block:
    """A block of a pivot, whose cells across are of a column of some rows; names: {id: method}."""
    lines: dict[str, list[str]] = {method: [method] for method in methods}
    bold: dict[str, set[int]] = {method: set() for method in methods}
    for place, (rows, column) in enumerate(across, 1):
        found = {names[id(row)]: number(row, column) for row in rows}
        for method in methods:
            one = found.get(method)
            lines[method].append(MISSING if one is None else f"{one.mean:.2f}")
        for row in best_of(rows, [column])[column]:
            bold[names[id(row)]].add(place)
    kept = [method for method in methods if set(lines[method][1:]) != {MISSING}]
    return Block(title, [lines[one] for one in kept], [frozenset(bold[one]) for one in kept])


BOLD = (
    "Bold: the best mean of a data set in a column, of rows that stand here; chance is not counted."
)


def as_text(content: Tables, pivoted: bool = False, bold: bool = False) -> str:
    """The tables in Markdown. bold: whether the best stand out, for pages."""

    def lines(blocks: Iterable[Block]) -> list[list[str]]:
        return [line for one in blocks for line in (one.marked if bold else one.lines)]

    if pivoted:
        head, blocks = pivot(content)
        parts = [f"{block.title}:\n\n{markdown(head, lines([block]))}" for block in blocks]
    else:
        parts = [markdown(content.head, lines(content.blocks()))]
    if bold:
        parts.append(BOLD)
    if content.gain_lines:
        parts.append(f"{GAINS}:\n\n" + markdown(content.gain_head, content.gain_lines))
    return "\n\n".join(parts)


def as_latex(content: Tables, pivoted: bool = False) -> str:
    """The tables for LaTeX with the package booktabs."""
    head, blocks = pivot(content) if pivoted else (content.head, content.blocks())
    parts = [r"% needs \usepackage{booktabs}", latex(head, blocks)]
    if content.gain_lines:
        groups = itertools.groupby(content.gain_lines, lambda line: line[0])
        gained = [list(lines) for _, lines in groups]
        plain = [Block("", lines, [frozenset()] * len(lines)) for lines in gained]
        parts += [f"% {GAINS}", latex(content.gain_head, plain)]
    notes = [BOLD, *content.notes]
    return "\n\n".join([*parts, *(rf"{{\footnotesize {escaped(note)}\par}}" for note in notes)])


CSV_HEAD = [
    *("data set", "trainer", "config", "shots", "column", "mean", "standard deviation", "seeds"),
    *("gain", "gain low", "gain high", "gain p", "gain p Holm", "gain interval", "gain verdict"),
    *("gain seeds", "source"),
]


def as_csv(content: Tables) -> str:
    """A line per cell; a missing cell has no mean."""

    def shown(value: float | None) -> str:
        return "" if value is None else f"{value:.4f}"

    lines = []
    for row, column, value, gain in content.cells():
        notes = [note for note in content.notes if note.partition(" ")[0] in row.config]
        source = "; ".join(notes) if row.published else ""
        cell = [column, "", "", ""]
        if value is not None:
            seeds = "" if row.published else seeds_text(value.seeds)
            cell = [column, shown(value.mean), shown(value.spread), seeds]
        gained = [""] * 8
        if gain is not None:
            numbers = (gain.mean, gain.low, gain.high, gain.p, gain.p_holm)
            words = [gain.interval, gain.verdict(column), seeds_text(gain.seeds)]
            gained = [*map(shown, numbers), *words]
        lines.append([*row.key[:3], row.shots_shown, *cell, *gained, source])
    return inputs.comma_separated(CSV_HEAD, lines)


def as_json(content: Tables) -> str:
    """{protocol, columns, verdict, notes, rows: [{dataset, trainer, config, shots, published,
    cells}]}.

    cells: {column: {mean, values, gain ...}}. A row of averages has average_of, too, and one of a
    protocol with columns of text told: {column: text}. Cells of a protocol whose means stand with
    intervals have interval: [low, high].
    """
    rows: dict[int, dict] = {}
    for row, column, value, difference in content.cells():
        here = rows.setdefault(
            id(row),
            {
                "dataset": row.dataset,
                "trainer": row.trainer,
                "config": row.config,
                "shots": row.shots_shown,
                "published": row.published,
                **({"average_of": sorted(row.members)} if row.members else {}),
                **({"told": told} if (told := row.told(content.protocol.tells)) else {}),
                "cells": {},
            },
        )
        here["cells"][column] = None
        if value is None:
            continue
        cell: dict[str, object] = {"mean": value.mean}
        here["cells"][column] = cell
        if not row.published:
            cell |= {"standard_deviation": value.spread, "values": row.of(column)}
            if content.protocol.intervals and value.interval:
                cell["interval"] = list(value.interval)
        if difference is not None:
            cell["gain"] = difference.record(column)
    # A line per row.
    lines = ",\n ".join(json.dumps(row, ensure_ascii=False) for row in rows.values())
    head = json.dumps(
        {
            "protocol": content.protocol.name,
            "columns": content.columns,
            "verdict": content.verdict,
            "notes": content.notes,
        },
        ensure_ascii=False,
    )
    return f'{head[:-1]},\n "rows": [{lines}]}}'


def report(args: argparse.Namespace) -> int:
    """Print the tables and write what was asked for. Raises InputError without runs."""
    protocol = PROTOCOLS[args.protocol]
    inputs.check_outputs(
        [
            *(inputs.Output("--out", path) for path in (written(args.out) if args.out else ())),
            inputs.Output("--plot", args.plot, plots.KINDS),
            inputs.Output("--plot-gains", args.plot_gains, plots.KINDS),
        ],
        [published.FILE],
    )
    if args.baseline and protocol.baseline:
        raise InputError(
            f"--baseline is '{args.baseline}', but gains of {protocol.name} are over the variant "
            f"'{protocol.baseline}': leave it out"
        )
    only = Only(args.shots, args.configs, args.trainers, args.baseline)
    content = tables(protocol, args.folders, only, not args.ours, args.averages)
    if not content.rows:
        asked = only.note()
        sys.stderr.write("".join(f"note: {one}\n" for one in content.notes if one not in asked))
        raise InputError(_nothing(protocol, args))
    known = {row.config for row in content.rows if row.learns and not row.craft}
    if args.baseline and args.baseline not in known:
        others = f"there are {', '.join(sorted(known))}" if known else "leave the option out"
        raise InputError(
            f"no {protocol.name} run without CRAFT has --baseline {args.baseline}: {others}"
        )
    notes = "".join(f"note: {note}\n" for note in content.notes)
    sys.stdout.write(f"{as_text(content, args.pivot)}\n{notes}")
    if args.out:
        write(content, args.out, args.pivot)
    if args.plot:
        plots.plot(content.shown, content.columns, args.plot)
        sys.stdout.write(f"picture: {args.plot}\n")
    if args.plot_gains:
        plot_gains(content, args.plot_gains)
    return 0


def _nothing(protocol: Protocol, args: argparse.Namespace) -> str:
    """Why there is no table, in a sentence."""
    others = collect(protocol, args.folders)[0]
    if not others:
        return (
            f"no results.json of {protocol.name} runs below {', '.join(map(str, args.folders))}: "
            f"run {protocol.command('train')} first"
        )
    shots = {shots for row in others for shots in ([row.shots] if row.shots else row.values)}
    config_names = {row.config for row in others}
    trainers = {row.trainer for row in others}
    for option, asked, names, taken in (
        ("shots", [args.shots] if args.shots else [], shots, shots),
        ("configs", args.configs, config_names, config_names),
        ("trainers", args.trainers, trainers, trainers | {row.structure for row in others}),
    ):
        if asked and not taken.intersection(asked):
            return (
                f"no {protocol.name} run has --{option} {' '.join(asked)}: there are "
                f"{', '.join(sorted(names))}"
            )
    return f"no {protocol.name} run is of all that was asked for: leave an option out"


def written(out: Path) -> list[Path]:
    """The files that `write` makes of OUT; OUT itself if it is no name, as "/"."""
    if not out.name:
        return [out]
    return [out.with_name(f"{out.name}{suffix}") for suffix in SUFFIXES]


def write(content: Tables, out: Path, pivoted: bool = False) -> None:
    """Write OUT.md, .csv, .tex, .json and OUT_runs.csv. Raises InputError where that fails."""
    runs = [run for row in content.rows for run in row.runs]
    proof = inputs.comma_separated(list(runs[0]), [list(map(str, run.values())) for run in runs])
    remarks = "".join(f"\n- {note}" for note in content.notes)
    bodies = (
        f"{as_text(content, pivoted, bold=True)}\n{remarks}",
        proof,
        as_csv(content),
        as_latex(content, pivoted),
        as_json(content),
    )
    for path, body in zip(written(out), bodies, strict=True):
        inputs.write(path, body.rstrip("\n") + "\n", "--out")


def plot_gains(content: Tables, path: Path) -> None:
    """Draw the gains. Raises InputError without a baseline, or if the file cannot be written."""
    if not content.gaining:
        raise InputError(
            f"--plot-gains is '{path}', but no row has a baseline: leave the option out, or give "
            "folders with runs of CRAFT and of the baseline"
        )
    plots.gains(content.gaining, content.gains, content.verdict, path)
    sys.stdout.write(f"picture of gains: {path}\n")


def main(arguments: list[str] | None = None) -> int:
    parser = Parser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        prog="python -m tools.results",
    )
    parser.add_argument("protocol", choices=PROTOCOLS)
    parser.add_argument("folders", nargs="+", type=inputs.path)
    parser.add_argument("--shots", help="only runs with so many shots")
    parser.add_argument(
        "--configs", nargs="+", default=(), metavar="NAME", help="only runs of these configs"
    )
    parser.add_argument(
        "--trainers",
        nargs="+",
        default=(),
        metavar="NAME",
        help="only runs of these trainers; a structure's name stands for it with CRAFT, too",
    )
    parser.add_argument(
        "--baseline",
        default="",
        metavar="CONFIG",
        help="the config, without CRAFT, over which gains are; default: each run's own",
    )
    parser.add_argument(
        "--out", type=inputs.path, help="write NAME.md, .csv, .tex, .json and NAME_runs.csv"
    )
    parser.add_argument(
        "--pivot",
        action="store_true",
        help="methods down, data sets across, a block for each column; NAME.md and NAME.tex too",
    )
    parser.add_argument("--plot", type=inputs.path, help="write a picture")
    parser.add_argument(
        "--plot-gains", type=inputs.path, help="write a picture of the gains with their intervals"
    )
    parser.add_argument(
        "--averages",
        action="store_true",
        help="averages over data sets alone, which are then the comparisons that are counted",
    )
    parser.add_argument(
        "--ours", action="store_true", help="without the published numbers on the same data sets"
    )
    return inputs.main(report, parser.parse_args(arguments))


if __name__ == "__main__":
    sys.exit(main())
