"""Tables from finished runs: `python -m tools.results PROTOCOL FOLDER ... [options]`.

PROTOCOL is base2new, xd (cross-dataset), dg (domain generalisation), ood, group, few_shot or
ablation. Reads every results.json of the protocol's runs below the folders and prints mean ±
standard deviation over seeds in percent, the gain of CRAFT over its baseline, paired over seeds,
and what to know about both; --out NAME writes the same as NAME.md and NAME.tex, numbers as NAME.csv
(a line per cell) and NAME.json, and NAME_runs.csv with a line for every results.json behind them.
"""

import argparse
import csv
import functools
import io
import json
import statistics
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from tools import inputs, plots, published, selected
from tools.inputs import InputError
from tools.protocols import PROTOCOLS, Protocol, Row, averages, collect
from tools.protocols.rows import baseline_key, harmonic, unlike

MISSING = "–"


@dataclass(frozen=True)
class Number:
    """A mean over seeds.

    spread: the sample standard deviation, of a gain the standard error; None for one seed.
    """

    mean: float
    spread: float | None
    seeds: tuple[int, ...]

    def text(self, signed: bool = False) -> str:
        mean = f"{self.mean:{'+' if signed else ''}.2f}"
        return mean if self.spread is None else f"{mean} ± {self.spread:.2f}"


def number(row: Row, column: str) -> Number | None:
    """A cell of the table; None if it is empty. H of averages is H of the averaged base and new."""
    values = row.of(column)
    if not values:
        return None
    mean = _mean(row, column, values)
    return Number(
        mean, statistics.stdev(values.values()) if len(values) > 1 else None, tuple(sorted(values))
    )


def _mean(row: Row, column: str, seeds: Iterable[int]) -> float:
    if column == "H" and row.members:
        return harmonic(
            *(statistics.mean(row.of(part)[seed] for seed in seeds) for part in ("base", "new"))
        )
    return statistics.mean(row.of(column)[seed] for seed in seeds)


def gain(row: Row, baseline: Row | None, column: str) -> Number | None:
    """Paired gain over the baseline on common seeds: difference of means and its standard error.

    None if no seed is shared, and for averages over different data sets.
    """
    if baseline is None or baseline.members != row.members:
        return None
    ours, theirs = row.of(column), baseline.of(column)
    seeds = tuple(sorted(ours.keys() & theirs.keys()))
    error = (
        statistics.stdev(ours[seed] - theirs[seed] for seed in seeds) / len(seeds) ** 0.5
        if len(seeds) > 1
        else None
    )
    return (
        Number(_mean(row, column, seeds) - _mean(baseline, column, seeds), error, seeds)
        if seeds
        else None
    )


def by_column(numbers: dict[str, Number | None], text: Callable[[tuple[int, ...]], str]) -> str:
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

    def gains(self, row: Row) -> dict[str, Number | None]:
        """{column: gain}; {} for a row without a baseline."""
        baseline = self.baseline(row)
        return (
            {column: gain(row, baseline, column) for column in self.columns}
            if baseline_key(self.protocol, row)
            else {}
        )

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
        return ["data set", "trainer", *self._shots, *self.columns, "seeds paired"]

    @property
    def gain_lines(self) -> list[list[str]]:
        """Lines of the table of gains."""
        several, lines = len({row.config for row in self.ours}) > 1, []
        for row in self.ours:
            if gains := self.gains(row):
                texts = [
                    MISSING if one is None else one.text(signed=True) for one in gains.values()
                ]
                lines.append(
                    [
                        row.dataset,
                        f"{row.trainer} {row.config}" if several else row.trainer,
                        *([row.shots] if self._shots else []),
                        *texts,
                        by_column(gains, lambda seeds: str(len(seeds))),
                    ]
                )
        return lines

    def cells(self) -> Iterable[tuple[Row, str, Number | None, Number | None]]:
        """(row, column, number, gain) of all cells except empty ones of published rows."""
        for row in (*self.ours, *self.others):
            gains = self.gains(row)
            for column in self.columns:
                value = number(row, column)
                if value is not None or not row.published:
                    yield row, column, value, gains.get(column)


GAINS = "Gain of CRAFT over its baseline, paired over seeds (mean ± standard error)"


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
    notes += more + selected.notes(rows)
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
    *("gain", "gain standard error", "gain seeds", "source"),
]


def as_csv(content: Tables) -> str:
    """A line per cell; a missing cell has no mean."""

    def shown(value: Number | None) -> list[str]:
        if value is None:
            return ["", "", ""]
        spread = "" if value.spread is None else f"{value.spread:.4f}"
        return [f"{value.mean:.4f}", spread, seeds_text(value.seeds)]

    lines = []
    for row, column, value, difference in content.cells():
        mean, deviation, seeds = shown(value)
        notes = [note for note in content.notes if note.partition(" ")[0] in row.config]
        source = "; ".join(notes) if row.published else ""
        cell = [column, mean, deviation, "" if row.published else seeds]
        lines.append([*row.key, *cell, *shown(difference), source])
    return comma_separated(CSV_HEAD, lines)


def as_json(content: Tables) -> str:
    """{protocol, columns, notes, rows: [{dataset, trainer, config, shots, published, cells}]}.

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
            cell["gain"] = {
                "mean": difference.mean,
                "standard_error": difference.spread,
                "seeds": difference.seeds,
            }
    # A line per row.
    lines = ",\n ".join(json.dumps(row, ensure_ascii=False) for row in rows.values())
    head = json.dumps(
        {"protocol": content.protocol.name, "columns": content.columns, "notes": content.notes},
        ensure_ascii=False,
    )
    return f'{head[:-1]},\n "rows": [{lines}]}}'


def report(args: argparse.Namespace) -> int:
    protocol = PROTOCOLS[args.protocol]
    if args.out:
        inputs.check_name(
            args.out.with_name(f"{args.out.name}.md") if args.out.name else args.out, "--out"
        )
    if args.plot:
        inputs.check_name(args.plot, "--plot", plots.KINDS)
    content = tables(protocol, args.folders, args.shots, not args.ours)
    notes = "".join(f"note: {note}\n" for note in content.notes)
    if not content.rows:
        if args.shots and (others := collect(protocol, args.folders)[0]):
            known = {
                shots for row in others for shots in ([row.shots] if row.shots else row.values)
            }
            raise InputError(
                f"no {protocol.name} run has --shots {args.shots}: there are "
                f"{', '.join(sorted(known))}"
            )
        raise InputError(
            f"no results.json of {protocol.name} runs below {', '.join(map(str, args.folders))}: "
            f"run {protocol.command('train')} first" + f"\n{notes}".rstrip("\n")
        )
    text = as_text(content)
    sys.stdout.write(f"{text}\n{notes}")
    if args.out:
        runs = [run for row in content.rows for run in row.runs]
        proof = comma_separated(
            list(runs[0]), [[str(value) for value in run.values()] for run in runs]
        )
        remarks = "".join(f"\n- {note}" for note in content.notes)
        files = {
            ".md": f"{text}\n{remarks}",
            "_runs.csv": proof,
            ".csv": as_csv(content),
            ".tex": as_latex(content),
            ".json": as_json(content),
        }
        for suffix, body in files.items():
            path = args.out.with_name(args.out.name + suffix)
            inputs.write(path, body.rstrip("\n") + "\n", "--out")
    if args.plot:
        plots.plot(content.rows, content.columns, args.plot)
        sys.stdout.write(f"picture: {args.plot}\n")
    return 0


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
        "--ours", action="store_true", help="without the published numbers on the same data sets"
    )
    return inputs.main(report, parser.parse_args(arguments))


if __name__ == "__main__":
    sys.exit(main())
