"""Pictures of tables: bars where they are few, else points with error bars; curves over shots;
gains with their intervals.
"""

import functools
import itertools
import math
import re
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tools import inputs
from tools.gains import Gain
from tools.protocols import Row

KINDS = (".png", ".pdf", ".svg", ".jpg")
MANY = 60  # bars on one axis, beyond which they cannot be told apart


def plot(rows: list[Row], columns: list[str], path: Path) -> None:
    """Draw the rows, an axis per data set; small dots are seeds.

    Raises InputError if the picture cannot be written.
    """
    import matplotlib

    matplotlib.use("Agg")

    names = list(dict.fromkeys(row.dataset for row in rows))
    most = max(sum(row.dataset == name for row in rows) for name in names)
    matches = [re.fullmatch(r"(\d+) shots", column) for column in columns]
    shots = [int(match[1]) for match in matches if match]
    if len(shots) == len(columns) > 1:
        figure, shapes = _curves(rows, names, columns, shots)
    elif most * len(columns) > MANY:
        figure, shapes = _points(rows, names, columns, most)
    else:
        figure, shapes = _bars(rows, names, columns, most)
    figure.legend(
        list(shapes.values()),
        list(shapes),
        loc="outside lower center",
        ncols=max(1, min(len(shapes), int(figure.get_figwidth() / 2.4))),
        frameon=False,
    )
    _save(figure, path, "--plot")


def gains(
    rows: list[Row], table: Sequence[Mapping[str, Gain | None]], column: str, path: Path
) -> None:
    """Draw the gains of the rows in a column, a point with its 95% interval each.

    A full point has a verdict, an empty one is open. Raises InputError if the picture cannot be
    written.
    """
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axis = pyplot.subplots(figsize=(7, 1 + 0.28 * len(rows)), layout="constrained")
    structures = list(dict.fromkeys(row.structure for row in rows))
    for place, (row, line) in enumerate(zip(rows, table, strict=True)):
        if (gain := line[column]) is None:
            continue
        colour = f"C{structures.index(row.structure)}"
        if gain.low is not None and gain.high is not None:
            axis.plot([gain.low, gain.high], [place, place], color=colour)
        inside = colour if gain.holds else "white"
        axis.plot(gain.mean, place, "o", color=colour, markerfacecolor=inside)
    names = [f"{_title(row.dataset)}: {_title(label(row, rows))}" for row in rows]
    axis.set_yticks(range(len(rows)), names, fontsize=8)
    axis.set_ylim(len(rows) - 0.5, -0.5)
    axis.axvline(0, color="black", linewidth=0.8)
    axis.grid(axis="x", linewidth=0.4)
    axis.spines[["top", "right"]].set_visible(False)
    axis.set_xlabel(f"gain in {_title(column)} (points), 95% interval; full: verdict after Holm")
    _save(figure, path, "--plot-gains")


def reliability(bins: Sequence[tuple[int, float, float]], name: str, path: Path) -> None:
    """Draw (images, mean confidence, accuracy) of bins of confidence, of equal width.

    The bars are accuracies, the points mean confidences; the lower axis counts images. Raises
    InputError if the picture cannot be written.
    """
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, (axis, below) = pyplot.subplots(
        2, 1, figsize=(5, 6), sharex=True, height_ratios=(3, 1), layout="constrained"
    )
    width = 1 / len(bins)
    middles = [(number + 0.5) * width for number in range(len(bins))]
    axis.plot([0, 1], [0, 1], color="black", linewidth=0.8)
    axis.bar(middles, [accuracy for _, _, accuracy in bins], 0.92 * width, color="C0", alpha=0.7)
    filled = [(confidence, accuracy) for count, confidence, accuracy in bins if count]
    axis.plot(*zip(*filled, strict=True), "o", color="C1")
    axis.set_ylabel("accuracy")
    axis.set_title(_title(name), fontsize=9, wrap=True)
    axis.set(xlim=(0, 1), ylim=(0, 1))
    below.bar(middles, [count for count, _, _ in bins], 0.92 * width, color="C0", alpha=0.7)
    below.set_ylabel("images")
    below.set_xlabel("confidence (points: the mean of a bin)")
    for one in (axis, below):
        one.spines[["top", "right"]].set_visible(False)
    _save(figure, path, "--reliability")


def _save(figure, path: Path, option: str) -> None:
    from matplotlib import pyplot

    try:
        inputs.write(path, functools.partial(figure.savefig, dpi=130), option)
    finally:
        pyplot.close(figure)


def label(row: Row, rows: list[Row]) -> str:
    """The trainer, with its config if rows have several, and shots if one data set has several."""
    mixed = len({(other.dataset, other.shots) for other in rows}) > len(
        {other.dataset for other in rows}
    )
    several = len({other.config for other in rows}) > 1
    more = [row.config] if several else []
    if mixed:
        more.append(f"{row.shots} shots")
    return f"{row.trainer} ({', '.join(more)})" if more else row.trainer


def _title(name: str) -> str:
    return name.replace("_", " ").replace("$", r"\$")  # no formula


def colours(rows: list[Row]) -> dict[str, tuple | str]:
    """{label: colour}: one hue for a structure, from light (the baseline) to dark."""
    from matplotlib import colormaps

    structures: dict[str, dict[str, bool]] = {}  # {structure: {label: whether it learns}}
    for row in rows:
        structures.setdefault(row.structure, {})[label(row, rows)] = row.learns
    shown: dict[str, tuple | str] = {}
    hues = itertools.cycle(colormaps["tab10"](range(10))[:, :3])
    for members, hue in zip(structures.values(), hues, strict=False):
        for number, (name, learns) in enumerate(members.items()):
            # towards white, or below 0 towards black
            shade = 0.55 - 0.85 * number / max(len(members) - 1, 1)
            tone = tuple(c + (1 - c) * shade if shade > 0 else c * (1 + shade) for c in hue)
            shown[name] = tone if learns else "#9a9a9a"
    return shown


def _grid(count: int, across: int, wide: float, high: float = 3.2, **more):
    """(figure, axes): so many, in lines of `across`, each of so many inches."""
    from matplotlib import pyplot

    lines = math.ceil(count / across)
    figure, grid = pyplot.subplots(
        lines,
        across,
        figsize=(1 + wide * across, 1.2 + high * lines),
        squeeze=False,
        layout="constrained",
        **more,
    )
    for axis in grid.flatten()[count:]:
        axis.set_visible(False)
    for axis in grid.flatten():
        axis.spines[["top", "right"]].set_visible(False)
    for axis in grid[:, 0]:
        axis.set_ylabel("accuracy (%)")
    return figure, grid.flatten()


def _bars(rows: list[Row], names: list[str], columns: list[str], most: int):
    """Columns beside each other."""
    from matplotlib import colors, pyplot

    palette = colours(rows)
    figure, axes = _grid(
        len(names), min(2, len(names)), max(4.8, 0.25 * len(columns) * most), sharey=True
    )
    for axis, name in zip(axes, names, strict=False):
        shown = [row for row in rows if row.dataset == name]
        width = 0.8 / len(shown)
        for (number, row), (place, column) in itertools.product(
            enumerate(shown), enumerate(columns)
        ):
            values = list(row.of(column).values())
            if not values:
                continue
            colour = palette[label(row, rows)]
            text = "white" if sum(colors.to_rgb(colour)) < 1.3 else "black"
            x, mean = place - 0.4 + (number + 0.5) * width, statistics.mean(values)
            axis.bar(x, mean, width * 0.92, color=colour)
            axis.text(
                x,
                mean / 2,
                f"{mean:.1f}",
                ha="center",
                va="center",
                fontsize=8,
                color=text,
                rotation=90,
            )
            if len(values) > 1:
                axis.plot([x] * len(values), values, "o", color="black", markersize=2.5)
        axis.set_xticks(
            range(len(columns)), [column.replace("_", "\n") for column in columns], fontsize=9
        )
        axis.set_title(_title(name), fontsize=10)
    return figure, {
        name: pyplot.Rectangle((0, 0), 1, 1, color=colour) for name, colour in palette.items()
    }


def _points(rows: list[Row], names: list[str], columns: list[str], most: int):
    """An axis per data set and column; each row's mean and standard deviation."""
    from matplotlib.lines import Line2D

    palette = colours(rows)
    across = min(len(columns), 4)
    figure, axes = _grid(
        len(names) * len(columns),
        across,
        max(3.6, 0.15 * most),
        sharey="row" if len(columns) <= 4 else False,
    )
    for axis, (name, column) in zip(axes, itertools.product(names, columns), strict=False):
        place, ticks = 0.0, []
        shown = [row for row in rows if row.dataset == name]
        for structure, group in itertools.groupby(shown, lambda row: row.structure):
            first = place
            for row in group:
                if values := list(row.of(column).values()):
                    colour = palette[label(row, rows)]
                    axis.errorbar(
                        place,
                        statistics.mean(values),
                        statistics.stdev(values) if len(values) > 1 else None,
                        fmt="o",
                        color=colour,
                        capsize=2,
                    )
                    axis.plot(
                        [place + 0.25] * len(values), values, ".", color="#707070", markersize=2
                    )
                place += 1
            ticks.append(((first + place - 1) / 2, structure))
            place += 1.2
        axis.set_xticks(*zip(*ticks), fontsize=8, rotation=30 if len(ticks) > 7 else 0)
        axis.grid(axis="y", linewidth=0.4)
        axis.set_title(_title(f"{name}: {column}"), fontsize=10)
    return figure, {
        name: Line2D([], [], marker="o", linestyle="", color=colour)
        for name, colour in palette.items()
    }


def _curves(rows: list[Row], names: list[str], columns: list[str], shots: list[int]):
    """Accuracy over shots, as in CoOp's figure: baselines dashed."""
    from matplotlib.lines import Line2D

    palette = colours(rows)
    figure, axes = _grid(len(names), min(4, len(names)), 3.8)
    lines = {}
    for axis, name in zip(axes, names, strict=False):
        for row in rows:
            points = {
                number: list(row.of(column).values())
                for number, column in zip(shots, columns, strict=True)
                if row.of(column)
            }
            if row.dataset != name or not points:
                continue
            style: dict[str, Any] = {
                "color": palette[label(row, rows)],
                "marker": "o",
                "markersize": 3,
                "linestyle": "-" if row.craft else "--",
            }
            axis.errorbar(
                list(points),
                [statistics.mean(values) for values in points.values()],
                [statistics.stdev(values) if len(values) > 1 else 0 for values in points.values()],
                capsize=2,
                linewidth=1.2,
                **style,
            )
            lines[label(row, rows)] = Line2D([], [], **style)
        axis.set_xscale("log", base=2)
        axis.set_xticks(shots, list(map(str, shots)))
        axis.minorticks_off()
        axis.set_xlabel("shots")
        axis.grid(linewidth=0.4)
        axis.set_title(_title(name), fontsize=10)
    return figure, lines
