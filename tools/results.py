"""Tables from finished runs: `python -m tools.results PROTOCOL FOLDER ... [options]`.

PROTOCOL is base2new, xd (cross-dataset), dg (domain generalisation), ood, group, few_shot or
ablation. Reads every results.json of the protocol's runs below the folders and prints mean ±
standard deviation over seeds in percent, the gain of CRAFT over its baseline, paired over seeds,
with its 95% interval and verdict, and what to know about both; docs/sweeps.md tells how to read
them. --out NAME writes the same as NAME.md and NAME.tex, numbers as NAME.csv (a line per cell) and
NAME.json, and NAME_runs.csv with a line for every results.json behind them.
"""

import argparse
import csv
import functools
import io
import json
import statistics
import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from tools import gains, inputs, plots, published, selected
from tools.gains import Gain, mean_of
from tools.inputs import InputError
from tools.protocols import PROTOCOLS, Protocol, Row, averages, collect
from tools.protocols.rows import baseline_key, unlike

MISSING = "–"


@dataclass(frozen=True)
class Number:
    """A mean over seeds.

    spread: the sample standard deviation; None for one seed.
    """

    mean: float
    spread: float | None
    seeds: tuple[int, ...]

    def text(self) -> str:
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


def markdown(head: list[str], rows: list[list[str]]) -> str:
    """A table of cells of text, with columns of one width."""
    widths = [max(len(line[i]) for line in [head, *rows]) for i in range(len(head))]
    lines = [
        "| "
        + " | ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True))
        + " |"
        for line in [head, *rows]
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


def latex(head: list[str], rows: list[list[str]]) -> str:
    def line(cells: list[str]) -> str:
        return " & ".join(map(escaped, cells)) + r" \\"

    texts = sum(name in ("data set", "trainer", "config") for name in head)
    return "\n".join(
        [
            rf"\begin{{tabular}}{{{'l' * texts + 'c' * (len(head) - texts)}}}",
            r"\hline",
            line(head),
            r"\hline",
            *map(line, rows),
            r"\hline",
            r"\end{tabular}",
        ]
    )


def comma_separated(head: list[str], rows: list[list[str]]) -> str:
    buffer = io.StringIO()
    csv.writer(buffer, lineterminator="\n").writerows([head, *rows])
    return buffer.getvalue()


@dataclass
class Tables:
    """What a protocol's runs come to: rows, averages, published rows, and notes on them."""

    protocol: Protocol
    rows: list[Row]
    averages: list[Row]
    others: list[Row]
    columns: list[str]
    notes: list[str]

    @property
    def ours(self) -> list[Row]:
        return self.rows + self.averages

    @property
    def verdict(self) -> str:
        """The column whose gains get a verdict."""
        return gains.verdict_column(self.protocol, self.columns)

    @property
    def gaining(self) -> list[Row]:
        """Rows that have a baseline."""
        return [row for row in self.ours if baseline_key(self.protocol, row)]

    @property
    def gains(self) -> list[dict[str, Gain | None]]:
        """{column: gain} of each row of `gaining`."""
        return self._compared[0]

    @functools.cached_property
    def _compared(self) -> tuple[list[dict[str, Gain | None]], list[str]]:
        pairs = [(row, self.baseline(row)) for row in self.gaining]
        return gains.compared(pairs, self.columns)

    @property
    def gain_notes(self) -> list[str]:
        """What to know about the gains, and outcomes that could not be read."""
        if not self.gaining:
            return []
        return self._compared[1] + gains.notes(self.gaining, self.gains, self.verdict)

    def baseline(self, row: Row) -> Row | None:
        key = baseline_key(self.protocol, row)
        return self._by_key.get(key) if key else None

    @functools.cached_property
    def _by_key(self) -> dict[tuple, Row]:
        return {row.key: row for row in self.ours}

    @property
    def head(self) -> list[str]:
        return ["data set", "trainer", "config", *self._shots, *self.columns, "seeds"]

    @property
    def _shots(self) -> list[str]:
        return ["shots"] if self.rows and self.rows[0].shots else []

    @property
    def lines(self) -> list[list[str]]:
        """Lines of the table of accuracies."""
        lines = []
        for row in (*self.ours, *self.others):
            cells = {column: number(row, column) for column in self.columns}
            texts = [MISSING if one is None else one.text() for one in cells.values()]
            seeds = "" if row.published else by_column(cells, seeds_text)
            lines.append(
                [
                    row.dataset,
                    row.trainer,
                    row.config,
                    *([row.shots] if self._shots else []),
                    *texts,
                    seeds,
                ]
            )
        return lines

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


GAINS = "Gain of CRAFT over its baseline, paired over seeds (mean [95% interval])"


def tables(
    protocol: Protocol, folders: list[Path], shots: str | None = None, beside: bool = True
) -> Tables:
    """The tables of all finished runs of a protocol below the folders.

    beside: whether published numbers on the same data sets stand beside them. Raises InputError as
    `collect`.
    """
    rows, notes = collect(protocol, folders, shots)
    columns = protocol.columns(list(dict.fromkeys(column for row in rows for column in row.values)))
    average, more = averages(protocol, rows, columns)
    others, footnotes = published.rows(protocol, rows + average, columns) if beside else ([], [])
    content = Tables(protocol, rows, average, others, columns, [])
    for row in rows:
        if (baseline := content.baseline(row)) and (different := unlike(row, baseline)):
            notes.append(
                f"the gain of {row.name} on {row.dataset} is not CRAFT's alone: "
                f"{'; '.join(different)}"
            )
    notes += more + content.gain_notes + selected.notes(rows)
    content.notes += _without_column(rows, columns) + notes + footnotes
    if _has_gaps(content):
        content.notes.insert(0, f"cells with {MISSING} have no finished run")
    if any(MISSING in line for line in content.gain_lines):
        content.notes.insert(
            1,
            f"gains with {MISSING} have no pair of runs"
            + (" on the same data sets" if average else ""),
        )
    return content


def _has_gaps(content: Tables) -> bool:
    """Whether cells are empty for want of a run, not of a column for the runs that there are."""
    hidden = {row.key[1:] for row in content.rows if set(row.values) - set(content.columns)}
    for row in content.ours:
        filled = [number(row, column) is not None for column in content.columns]
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


def as_text(content: Tables) -> str:
    """The tables in Markdown."""
    text = markdown(content.head, content.lines)
    if content.gain_lines:
        text += f"\n\n{GAINS}:\n\n" + markdown(content.gain_head, content.gain_lines)
    return text


def as_latex(content: Tables) -> str:
    parts = [latex(content.head, content.lines)]
    if content.gain_lines:
        parts += [f"% {GAINS}", latex(content.gain_head, content.gain_lines)]
    return "\n\n".join(
        [*parts, *(rf"{{\footnotesize {escaped(note)}\par}}" for note in content.notes)]
    )


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
        lines.append([*row.key, *cell, *gained, source])
    return comma_separated(CSV_HEAD, lines)


def as_json(content: Tables) -> str:
    """{protocol, columns, verdict, notes, rows: [{dataset, trainer, config, shots, published,
    cells}]}.

    cells: {column: {mean, values, gain ...}}. A row of averages has average_of, too.
    """
    rows: dict[int, dict] = {}
    for row, column, value, difference in content.cells():
        here = rows.setdefault(
            id(row),
            {
                "dataset": row.dataset,
                "trainer": row.trainer,
                "config": row.config,
                "shots": row.shots,
                "published": row.published,
                **({"average_of": sorted(row.members)} if row.members else {}),
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
    if args.out:
        inputs.check_name(
            args.out.with_name(f"{args.out.name}.md") if args.out.name else args.out, "--out"
        )
    for option, path in (("--plot", args.plot), ("--plot-gains", args.plot_gains)):
        if path:
            inputs.check_name(path, option, plots.KINDS)
    content = tables(protocol, args.folders, args.shots, not args.ours)
    notes = "".join(f"note: {note}\n" for note in content.notes)
    if not content.rows:
        raise InputError(f"{_nothing(protocol, args)}\n{notes}".rstrip("\n"))
    text = as_text(content)
    sys.stdout.write(f"{text}\n{notes}")
    if args.out:
        write(content, text, args.out)
    if args.plot:
        plots.plot(content.rows, content.columns, args.plot)
        sys.stdout.write(f"picture: {args.plot}\n")
    if args.plot_gains:
        plot_gains(content, args.plot_gains)
    return 0


def _nothing(protocol: Protocol, args: argparse.Namespace) -> str:
    """Why there is no table, in a sentence."""
    if args.shots and (others := collect(protocol, args.folders)[0]):
        known = {shots for row in others for shots in ([row.shots] if row.shots else row.values)}
        return (
            f"no {protocol.name} run has --shots {args.shots}: there are {', '.join(sorted(known))}"
        )
    return (
        f"no results.json of {protocol.name} runs below {', '.join(map(str, args.folders))}: "
        f"run {protocol.command('train')} first"
    )


def write(content: Tables, text: str, out: Path) -> None:
    """Write OUT.md, .csv, .tex, .json and OUT_runs.csv. Raises InputError where that fails."""
    runs = [run for row in content.rows for run in row.runs]
    proof = comma_separated(list(runs[0]), [[str(value) for value in run.values()] for run in runs])
    remarks = "".join(f"\n- {note}" for note in content.notes)
    files = {
        ".md": f"{text}\n{remarks}",
        "_runs.csv": proof,
        ".csv": as_csv(content),
        ".tex": as_latex(content),
        ".json": as_json(content),
    }
    for suffix, body in files.items():
        inputs.write(out.with_name(out.name + suffix), body.rstrip("\n") + "\n", "--out")


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
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        prog="python -m tools.results",
    )
    parser.add_argument("protocol", choices=PROTOCOLS)
    parser.add_argument("folders", nargs="+", type=inputs.path)
    parser.add_argument("--shots", help="only runs with so many shots")
    parser.add_argument(
        "--out", type=inputs.path, help="write NAME.md, .csv, .tex, .json and NAME_runs.csv"
    )
    parser.add_argument("--plot", type=inputs.path, help="write a picture")
    parser.add_argument(
        "--plot-gains", type=inputs.path, help="write a picture of the gains with their intervals"
    )
    parser.add_argument(
        "--ours", action="store_true", help="without the published numbers on the same data sets"
    )
    return inputs.main(report, parser.parse_args(arguments))


if __name__ == "__main__":
    sys.exit(main())
