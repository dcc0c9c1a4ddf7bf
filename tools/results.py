"""Tables from finished runs: `python -m tools.results PROTOCOL FOLDER ... [--shots N] [--out NAME] [--plot PICTURE]`.

PROTOCOL is base2new, xd (cross-dataset), dg (domain generalisation), ood, group, few_shot or ablation. Reads every results.json of the
protocol's runs below the folders and prints mean ± standard deviation over seeds in percent, and the gain of CRAFT over its baseline,
paired over seeds; --out NAME writes NAME.md, NAME.csv, NAME.tex, NAME.json, and NAME_runs.csv
with a line for every results.json behind the numbers.
"""

import argparse
import csv
import io
import itertools
import json
import math
import statistics
import sys
from dataclasses import dataclass
from pathlib import Path

from tools import published
from tools.protocols import PROTOCOLS, Protocol, Row, averages, baseline_key, collect, harmonic

MISSING = "–"


def text_of(values: dict[int, float]) -> str:
    """mean ± sample standard deviation; the mean alone for one seed."""
    if not values:
        return MISSING
    numbers = list(values.values())
    mean = f"{statistics.mean(numbers):.2f}"
    return f"{mean} ± {statistics.stdev(numbers):.2f}" if len(numbers) > 1 else mean


def gains(protocol: Protocol, rows: list[Row], columns: list[str]) -> list[list[str]]:
    """Gain of each row over its baseline, paired over seeds: mean ± standard error."""
    by_key, table = {row.key: row for row in rows}, []
    several = len({row.config for row in rows}) > 1
    for row in rows:
        key = baseline_key(protocol, row)
        if key is None:
            continue
        baseline, pairs = by_key.get(key), 0
        cells = [row.dataset, f"{row.trainer} {row.config}" if several else row.trainer]
        for column in columns:
            ours, theirs = row.of(column), baseline.of(column) if baseline else {}
            paired = [ours[seed] - theirs[seed] for seed in sorted(ours.keys() & theirs.keys())]
            error = f" ± {statistics.stdev(paired) / len(paired) ** 0.5:.2f}" if len(paired) > 1 else ""
            cells.append(f"{statistics.mean(paired):+.2f}{error}" if paired else MISSING)
            pairs = len(paired)
        table.append([*cells, str(pairs)])
    return table


def table_of(rows: list[Row], columns: list[str]) -> list[list[str]]:
    """Lines of cells: data set, trainer, config, shots where they count, the columns, seeds."""
    table = []
    for row in rows:
        cells = [text_of(row.of(column)) for column in columns]
        if row.dataset.startswith("average") and "H" in columns and row.of("base") and row.of("new"):  # as papers do: of the averaged base and new
            mean = harmonic(statistics.mean(row.of("base").values()), statistics.mean(row.of("new").values()))
            cells[columns.index("H")] = " ± ".join([f"{mean:.2f}", *cells[columns.index("H")].split(" ± ")[1:]])
        table.append([row.dataset, row.trainer, row.config, *([row.shots] if row.shots else []), *cells, ", ".join(map(str, row.seeds))])
    return table


def markdown(head: list[str], rows: list[list[str]]) -> str:
    """A table of cells of text, with columns of one width."""
    widths = [max(len(line[i]) for line in [head, *rows]) for i in range(len(head))]
    lines = ["| " + " | ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)) + " |" for line in [head, *rows]]
    return "\n".join([lines[0], "|" + "|".join("-" * (width + 2) for width in widths) + "|", *lines[1:]])


def latex(head: list[str], rows: list[list[str]]) -> str:
    def line(cells: list[str]) -> str:
        plain = (cell.replace("_", r"\_").replace("±", r"$\pm$").replace(MISSING, "--") for cell in cells)
        return " & ".join(plain) + r" \\"
    return "\n".join([rf"\begin{{tabular}}{{{'l' * 3 + 'c' * (len(head) - 3)}}}", r"\hline", line(head), r"\hline",
                      *map(line, rows), r"\hline", r"\end{tabular}"])


def comma_separated(head: list[str], rows: list[list[str]]) -> str:
    buffer = io.StringIO()
    csv.writer(buffer, lineterminator="\n").writerows([head, *rows])
    return buffer.getvalue()


def plot(rows: list[Row], columns: list[str], path: Path) -> None:
    """Bars of the columns per data set and trainer, a dot per seed."""
    import matplotlib
    matplotlib.use("Agg")
    from matplotlib import colors, pyplot
    names = list(dict.fromkeys(row.dataset for row in rows))
    across = min(2, len(names))
    lines = math.ceil(len(names) / across)
    wide = max(4.8, 0.25 * len(columns) * max(sum(row.dataset == name for row in rows) for name in names))  # inches a data set
    figure, grid = pyplot.subplots(lines, across, figsize=(1 + wide * across, 0.8 + 3.2 * lines), sharey=True, squeeze=False, layout="constrained")
    axes = grid.flatten()
    for axis in axes[len(names):]:
        axis.set_visible(False)
    several = len({row.config for row in rows}) > 1

    def name_of(row: Row) -> str:
        return f"{row.trainer} ({row.config})" if several else row.trainer

    # What is built on one structure has one hue, from light (the baseline) to dark.
    family = {name_of(row): row.trainer.removeprefix("Craft") for row in rows}
    hues = dict(zip(dict.fromkeys(family.values()), itertools.cycle(pyplot.get_cmap("tab10").colors)))
    colours = {}
    for structure, hue in hues.items():
        members = [name for name, own in family.items() if own == structure]
        for number, name in enumerate(members):
            shade = 0.55 - 0.85 * number / max(len(members) - 1, 1)  # towards white, or below 0 towards black
            colours[name] = "#9a9a9a" if structure.startswith("Zeroshot") else [c + (1 - c) * shade if shade > 0 else c * (1 + shade) for c in hue]
    for axis, name in zip(axes, names, strict=False):
        shown = [row for row in rows if row.dataset == name]
        width = 0.8 / len(shown)
        for number, row in enumerate(shown):
            for place, column in enumerate(columns):
                values = list(row.of(column).values())
                if not values:
                    continue
                x, mean = place - 0.4 + (number + 0.5) * width, statistics.mean(values)
                axis.bar(x, mean, width * 0.92, color=colours[name_of(row)])
                dark = sum(colors.to_rgb(colours[name_of(row)])) < 1.3
                axis.text(x, mean / 2, f"{mean:.1f}", ha="center", va="center", fontsize=8, color="white" if dark else "black", rotation=90)
                if len(values) > 1:
                    axis.plot([x] * len(values), values, "o", color="black", markersize=2.5)
        axis.set_xticks(range(len(columns)), [column.replace("_", "\n") for column in columns], fontsize=9)
        axis.set_title(name.replace("_", " "), fontsize=10)
        axis.spines[["top", "right"]].set_visible(False)
    for axis in grid[:, 0]:
        axis.set_ylabel("accuracy (%)")
    figure.legend([pyplot.Rectangle((0, 0), 1, 1, color=colour) for colour in colours.values()], colours, loc="outside lower center",
                  ncols=min(len(colours), 3 * across), frameon=False)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=130)
    pyplot.close(figure)


@dataclass
class Tables:
    """What a protocol's runs come to: rows, the table's head and lines, the gains' head and lines, and sentences on what to know."""

    protocol: Protocol
    rows: list[Row]
    everything: list[Row]
    columns: list[str]
    head: list[str]
    lines: list[list[str]]
    gain_head: list[str]
    gain_lines: list[list[str]]
    notes: list[str]


def tables(protocol: Protocol, folders: list[Path], shots: str | None = None, beside: bool = True) -> Tables:
    """Of all finished runs of the protocol below the folders; published numbers on the same data sets with `beside`."""
    rows, notes = collect(protocol, folders, shots)
    columns = protocol.columns(list(dict.fromkeys(column for row in rows for column in row.values)))
    everything = rows + averages(protocol, rows, columns)
    lines, gain_lines = table_of(everything, columns), gains(protocol, everything, columns)
    if any(MISSING in line for line in lines):
        notes.append(f"cells with {MISSING} have no finished run")
    if beside:
        others, footnotes = published.rows(protocol.name, rows, columns)
        lines += [[*line[:-1], ""] for line in table_of(others, columns)]
        notes += footnotes
    shot = ["shots"] if rows and rows[0].shots else []
    return Tables(protocol, rows, everything, columns, ["data set", "trainer", "config", *shot, *columns, "seeds"], lines,
                  ["data set", "trainer", *columns, "seeds paired"], gain_lines, notes)


def report(args: argparse.Namespace) -> int:
    protocol = PROTOCOLS[args.protocol]
    found = tables(protocol, args.folders, args.shots, not args.ours)
    if not found.rows:
        sys.stderr.write(f"error: no results.json of {protocol.name} runs below {', '.join(map(str, args.folders))}: run "
                         f"scripts/{protocol.script} first\n" + "".join(f"note: {note}\n" for note in found.notes))
        return 2
    text = markdown(found.head, found.lines)
    if found.gain_lines:
        text += "\n\nGain of CRAFT over its baseline, paired over seeds (mean ± standard error):\n\n" + markdown(found.gain_head, found.gain_lines)
    sys.stdout.write(text + "\n" + "".join(f"note: {note}\n" for note in found.notes))
    if args.out:
        args.out.parent.mkdir(parents=True, exist_ok=True)
        numbers = [{"dataset": row.dataset, "trainer": row.trainer, "config": row.config, "shots": row.shots,
                    "values": {column: row.of(column) for column in found.columns}} for row in found.everything]
        runs = [run for row in found.rows for run in row.runs]
        proof = comma_separated(list(runs[0]), [[str(value) for value in run.values()] for run in runs])
        for suffix, content in ((".md", text), ("_runs.csv", proof), (".csv", comma_separated(found.head, found.lines)),
                                (".tex", latex(found.head, found.lines)), (".json", json.dumps(numbers, indent=1, ensure_ascii=False))):
            args.out.with_name(args.out.name + suffix).write_text(content.rstrip("\n") + "\n", encoding="utf-8")
    if args.plot:
        plot(found.rows, found.columns, args.plot)
        sys.stdout.write(f"picture: {args.plot}\n")
    return 0


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, prog="python -m tools.results")
    parser.add_argument("protocol", choices=PROTOCOLS)
    parser.add_argument("folders", nargs="+", type=Path)
    parser.add_argument("--shots", help="only runs with so many shots")
    parser.add_argument("--out", type=Path, help="write NAME.md, .csv, .tex, .json and NAME_runs.csv")
    parser.add_argument("--plot", type=Path, help="write a picture")
    parser.add_argument("--ours", action="store_true", help="without the published numbers on the same data sets")
    return report(parser.parse_args(arguments))


if __name__ == "__main__":
    sys.exit(main())
