"""Tables from finished runs: `python -m tools.results base2new output/base2new [--out output/base2new] [--plot picture.png]`.

Reads every results.json below the folders (written by `train.py` in CoOp's layout) and prints base, new and their harmonic mean H
per data set and trainer, mean ± standard deviation over seeds in percent; --out NAME writes NAME.md, NAME.csv and NAME.tex.
"""

import argparse
import csv
import io
import json
import math
import re
import statistics
import sys
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path

MISSING = "–"
# .../train_base|test_base|test_new/<data set>/shots_<n>/<trainer>/<config>/seed<k>/results.json
LAYOUT = re.compile(r"(?P<part>train_base|test_base|test_new)/(?P<dataset>[^/]+)/shots_(?P<shots>\d+)/(?P<trainer>[^/]+)/"
                    r"(?P<config>[^/]+)/seed(?P<seed>-?\d+)/results\.json$")
# Keys by which runs of one cell may differ.
OWN_KEYS = ("SEED", "OUTPUT_DIR", "RESUME", "VERBOSE", "USE_CUDA")


def harmonic(base: float, new: float) -> float:
    """H = 2bn / (b + n); 0 if both are 0."""
    return 2 * base * new / (base + new) if base + new else 0.0


@dataclass
class Row:
    """Accuracies in percent of one data set and trainer with its config, by seed."""

    dataset: str
    trainer: str
    config: str
    shots: int
    base: dict[int, float] = field(default_factory=dict)
    new: dict[int, float] = field(default_factory=dict)

    def of(self, measure: str) -> dict[int, float]:
        """{seed: value} of base, new or H."""
        if measure == "H":
            return {seed: harmonic(self.base[seed], self.new[seed]) for seed in sorted(self.base.keys() & self.new.keys())}
        return getattr(self, measure)

    @property
    def seeds(self) -> list[int]:
        return sorted(self.base.keys() | self.new.keys())


MEASURES = ("base", "new", "H")


def _comparable(config: dict) -> str:
    """The configuration without what may differ between the seeds of one cell: no result depends on it."""
    kept = {key: value for key, value in config.items() if key not in OWN_KEYS}
    kept["TRAIN"] = {key: value for key, value in kept.get("TRAIN", {}).items() if key not in ("PRINT_FREQ", "CHECKPOINT_FREQ")}
    kept["DATASET"] = {key: value for key, value in kept.get("DATASET", {}).items() if key != "ROOT"}
    return json.dumps(kept, sort_keys=True)


def collect(folders: list[Path], shots: int | None = None) -> tuple[list[Row], list[str]]:
    """(rows sorted by data set and trainer, what is wrong with the folders in sentences)."""
    rows: dict[tuple, Row] = {}
    problems: list[str] = []
    configs: dict[tuple, dict[str, Path]] = defaultdict(dict)
    for folder in folders:
        if not folder.is_dir():
            raise SystemExit(f"error: '{folder}' is not a folder: give the output folder of the runs")
        for path in sorted(folder.rglob("results.json")):
            match = LAYOUT.search(path.resolve().as_posix())
            if not match or shots is not None and int(match["shots"]) != shots:
                continue
            try:
                found = json.loads(path.read_text(encoding="utf-8"))
                accuracy = float(found["metrics"]["test"]["accuracy"]) if found["complete"] else None
            except (OSError, ValueError, KeyError, TypeError) as error:
                problems.append(f"'{path}' is not readable as results ({type(error).__name__}: {error}): run it again")
                continue
            if accuracy is None:
                problems.append(f"'{path}' is of a run that is not complete: run it again to finish it")
                continue
            key = match["dataset"], match["trainer"], match["config"], int(match["shots"])
            row = rows.setdefault(key, Row(*key))
            subset = "new" if match["part"] == "test_new" else "base"
            row.of(subset)[int(match["seed"])] = accuracy
            configs[(*key, subset)].setdefault(_comparable(found.get("config", {})), path)
    for (dataset, trainer, config, _, subset), different in configs.items():
        if len(different) > 1:
            problems.append(f"{trainer}/{config} on {dataset} ({subset}) mixes {len(different)} configurations, e.g. "
                            f"{' and '.join(f'{chr(39)}{path}{chr(39)}' for path in list(different.values())[:2])}: do not trust its mean")
    order = sorted(rows.values(), key=lambda row: (row.dataset, row.config, row.trainer.removeprefix("Craft"), row.trainer.startswith("Craft")))
    order.sort(key=lambda row: (row.dataset, row.trainer != "ZeroshotCLIP"))
    return order, problems


def text_of(values: dict[int, float]) -> str:
    """mean ± sample standard deviation; the mean alone for one seed."""
    if not values:
        return MISSING
    numbers = list(values.values())
    mean = f"{statistics.mean(numbers):.2f}"
    return f"{mean} ± {statistics.stdev(numbers):.2f}" if len(numbers) > 1 else mean


def averages(rows: list[Row]) -> list[Row]:
    """A row per trainer and config over all its data sets, per seed; only where every data set has the same seeds.

    Papers take H of the averaged base and new accuracies, which `Row.of` does per seed.
    """
    groups: dict[tuple, list[Row]] = defaultdict(list)
    for row in rows:
        groups[row.trainer, row.config, row.shots].append(row)
    most = max((len(members) for members in groups.values()), default=0)
    result = []
    for (trainer, config, shots), members in groups.items():
        if len(members) < 2:
            continue
        average = Row(f"average of {len(members)}" + ("" if len(members) == most else f" (incomplete: {most})"), trainer, config, shots)
        for measure in ("base", "new"):
            shared = set.intersection(*(set(row.of(measure)) for row in members))
            average.of(measure).update({seed: statistics.mean(row.of(measure)[seed] for row in members) for seed in sorted(shared)})
        result.append(average)
    return result


def gains(rows: list[Row]) -> list[list[str]]:
    """Craft's gain over its baseline of the same config, paired over seeds: mean ± standard error."""
    by_key = {(row.dataset, row.trainer, row.config, row.shots): row for row in rows}
    table = []
    for row in rows:
        if not row.trainer.startswith("Craft"):
            continue
        baseline = by_key.get((row.dataset, row.trainer.removeprefix("Craft"), row.config, row.shots))
        cells = [row.dataset, row.trainer]
        for measure in MEASURES:
            ours, theirs = row.of(measure), baseline.of(measure) if baseline else {}
            paired = [ours[seed] - theirs[seed] for seed in sorted(ours.keys() & theirs.keys())]
            error = f" ± {statistics.stdev(paired) / len(paired) ** 0.5:.2f}" if len(paired) > 1 else ""
            cells.append(f"{statistics.mean(paired):+.2f}{error}" if paired else MISSING)
        table.append([*cells, str(len(ours.keys() & theirs.keys()))])
    return table


def table_of(rows: list[Row]) -> list[list[str]]:
    table = []
    for row in rows:
        cells = [text_of(row.of(measure)) for measure in MEASURES]
        if row.dataset.startswith("average") and row.base and row.new:  # as papers do: of the averaged base and new accuracies
            mean = harmonic(statistics.mean(row.base.values()), statistics.mean(row.new.values()))
            cells[2] = " ± ".join([f"{mean:.2f}", *cells[2].split(" ± ")[1:]])
        table.append([row.dataset, row.trainer, row.config, str(row.shots), *cells, ", ".join(map(str, row.seeds))])
    return table


HEAD = ["data set", "trainer", "config", "shots", "base", "new", "H", "seeds"]
GAIN_HEAD = ["data set", "trainer", "base", "new", "H", "seeds paired"]


def markdown(head: list[str], rows: list[list[str]]) -> str:
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


def plot(rows: list[Row], path: Path) -> None:
    """Bars of base, new and H per data set and trainer, a dot per seed."""
    import matplotlib
    matplotlib.use("Agg")
    from matplotlib import pyplot
    names = list(dict.fromkeys(row.dataset for row in rows))
    columns = min(2, len(names))
    lines = math.ceil(len(names) / columns)
    wide = max(4.8, 0.75 * max(sum(row.dataset == name for row in rows) for name in names))  # inches a data set
    figure, grid = pyplot.subplots(lines, columns, figsize=(1 + wide * columns, 0.8 + 3.2 * lines), sharey=True, squeeze=False, layout="constrained")
    axes = grid.flatten()
    for axis in axes[len(names):]:
        axis.set_visible(False)
    several = len({row.config for row in rows}) > 1
    trainers = list(dict.fromkeys(f"{row.trainer} ({row.config})" if several else row.trainer for row in rows))
    # A structure and its Craft trainer are the light and the dark of one colour.
    structures = list(dict.fromkeys(name.removeprefix("Craft") for name in trainers if not name.startswith("Zeroshot")))
    shades = pyplot.get_cmap("tab20").colors
    colours = {name: "#9a9a9a" if name.startswith("Zeroshot") else
               shades[(2 * structures.index(name.removeprefix("Craft")) + (not name.startswith("Craft"))) % 20] for name in trainers}
    for axis, name in zip(axes, names, strict=False):
        shown = [row for row in rows if row.dataset == name]
        width = 0.8 / len(shown)
        for number, row in enumerate(shown):
            label = next(t for t in trainers if t.startswith(f"{row.trainer} (") and t.endswith(f"({row.config})") or t == row.trainer)
            for place, measure in enumerate(MEASURES):
                values = list(row.of(measure).values())
                if not values:
                    continue
                x, mean = place - 0.4 + (number + 0.5) * width, statistics.mean(values)
                axis.bar(x, mean, width * 0.92, color=colours[label])
                axis.text(x, mean / 2, f"{mean:.1f}", ha="center", va="center", fontsize=8, color="black", rotation=90)
                if len(values) > 1:
                    axis.plot([x] * len(values), values, "o", color="black", markersize=2.5)
        axis.set_xticks(range(3), ["base", "new", "H"])
        axis.set_title(name.replace("_", " "), fontsize=10)
        axis.spines[["top", "right"]].set_visible(False)
    for axis in grid[:, 0]:
        axis.set_ylabel("accuracy (%)")
    figure.legend([pyplot.Rectangle((0, 0), 1, 1, color=colours[name]) for name in trainers], trainers, loc="outside lower center",
                  ncols=min(len(trainers), 3 * columns), frameon=False)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=130)
    pyplot.close(figure)


def base2new(args: argparse.Namespace) -> int:
    rows, problems = collect(args.folders, args.shots)
    if not rows:
        sys.stderr.write(f"error: no results.json of base-to-novel runs below {', '.join(map(str, args.folders))}: run "
                         "scripts/base2new_train.sh first\n" + "".join(f"note: {problem}\n" for problem in problems))
        return 2
    everything = rows + averages(rows)
    table, gain = table_of(everything), gains(everything)
    text = markdown(HEAD, table)
    if gain:
        text += ("\n\nGain of CRAFT over its baseline, paired over seeds (mean ± standard error):\n\n" + markdown(GAIN_HEAD, gain))
    sys.stdout.write(text + "\n")
    if any(MISSING in line for line in table):
        problems.append(f"cells with {MISSING} have no finished run")
    sys.stdout.write("".join(f"note: {problem}\n" for problem in problems))
    if args.out:
        args.out.parent.mkdir(parents=True, exist_ok=True)
        for suffix, content in ((".md", text), (".csv", comma_separated(HEAD, table)), (".tex", latex(HEAD, table))):
            args.out.with_name(args.out.name + suffix).write_text(content.rstrip("\n") + "\n", encoding="utf-8")
    if args.plot:
        plot(rows, args.plot)
        sys.stdout.write(f"picture: {args.plot}\n")
    return 0


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, prog="python -m tools.results")
    protocols = parser.add_subparsers(required=True, metavar="PROTOCOL")
    protocol = protocols.add_parser("base2new", help="base, new, H")
    protocol.add_argument("folders", nargs="+", type=Path)
    protocol.add_argument("--shots", type=int, help="only runs with so many shots")
    protocol.add_argument("--out", type=Path, help="write NAME.md, NAME.csv, NAME.tex")
    protocol.add_argument("--plot", type=Path, help="write a picture")
    protocol.set_defaults(run=base2new)
    args = parser.parse_args(arguments)
    return args.run(args)


if __name__ == "__main__":
    sys.exit(main())
