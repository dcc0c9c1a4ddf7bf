"""Pictures of tables: accuracies and gains as points on lanes, curves over shots and epochs.

Every picture is `WIDTH` inches wide, so that its text is read at 800 pixels. How a method looks is
in `tools.colours`; a legend has at most `MOST` entries, since lanes and panels carry the names.
"""

import functools
import itertools
import math
import re
import statistics
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tools import colours, inputs
from tools.colours import Look
from tools.gains import LOWER_IS_BETTER, Gain, mean_of
from tools.protocols import Row

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

KINDS = (".png", ".pdf", ".svg", ".jpg")
WIDTH = 8.0  # inches
DPI = 200
LANE = 0.23  # inches
MANY = 60  # lanes of a picture, beyond which the rows of a structure share one
MOST = 8  # entries of a legend, lines of a panel
ACROSS = 3  # panels beside each other
LONGEST = 40  # letters of a name on a lane
SEEDS = "#8c8c8c"


def pyplot() -> Any:
    """Matplotlib's pyplot, without a display, with the style of all pictures."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    plt.rcParams.update(
        {
            "font.size": 9,
            "axes.spines.top": False,
            "axes.spines.right": False,
            "axes.titlesize": 10,
            "axes.grid.axis": "x",
            "axes.axisbelow": True,
            "grid.linewidth": 0.4,
            "legend.frameon": False,
            "figure.constrained_layout.use": True,
            "savefig.dpi": DPI,
            "pdf.fonttype": 42,
            "svg.hashsalt": "craft",  # equal pictures are equal files
        }
    )
    return plt


def save(figure: "Figure", path: Path, option: str) -> None:
    """Write a picture without a date, so that equal pictures are equal files.

    Raises InputError naming `option` if it cannot be written.
    """
    dated = {".pdf": {"CreationDate": None}, ".svg": {"Date": None}}
    metadata = dated.get(path.suffix.lower())
    try:
        inputs.write(path, functools.partial(figure.savefig, metadata=metadata), option)
    finally:
        pyplot().close(figure)


# Names and looks of rows


def label(row: Row, rows: Sequence[Row]) -> str:
    """The trainer, with its config if it has several, and shots if one data set has several."""
    mixed = len({(other.dataset, other.shots) for other in rows}) > len(
        {other.dataset for other in rows}
    )
    several = len({other.config for other in rows if other.trainer == row.trainer}) > 1
    more = [row.config] if several else []
    if mixed:
        more.append(f"{row.shots} shots")
    return f"{row.trainer} ({', '.join(more)})" if more else row.trainer


def looks(rows: Sequence[Row]) -> dict[str, Look]:
    """{label: look} of rows."""
    crafted: dict[str, dict[str, bool]] = {}  # {structure: {label: whether it has CRAFT}}
    learns = {row.structure: row.learns for row in rows}
    for row in rows:
        # The rows of an ablation have the structure's name; their runs tell CRAFT's preset.
        craft = bool(row.run.craft if row.run else row.craft)
        crafted.setdefault(row.structure, {})[label(row, rows)] = craft
    found: dict[str, Look] = {}
    for structure, members in crafted.items():
        found |= colours.variants(structure, members, learns[structure])
    return found


def _title(name: str, longest: int = LONGEST) -> str:
    if re.fullmatch(r"average of \d+( of \d+)?", name):
        return f"{name} data sets"
    if len(name) > longest:
        name = f"{name[: longest // 2]}…{name[1 - longest // 2 :]}"
    return name.replace("_", " ").replace("$", r"\$")  # no formula


def _axis_label(column: str) -> str:
    return "points (lower is better)" if column in LOWER_IS_BETTER else "accuracy (%)"


# Legends


def _marks(hollow: str, full: str) -> dict[str, Any]:
    """{meaning: mark} of hollow and full markers."""
    from matplotlib.lines import Line2D

    mark = functools.partial(Line2D, [], [], linestyle="", marker="o", color=colours.GREY)
    return {hollow: mark(markerfacecolor="white"), full: mark()}


def _legend(figure: "Figure", entries: Mapping[str, Any]) -> None:
    """Under a picture, in lines. Raises ValueError for more than MOST entries."""
    if len(entries) > MOST:
        raise ValueError(f"a legend of {len(entries)} entries: name lanes or panels instead")
    if not entries:
        return
    longest = max(map(len, entries))
    figure.legend(
        list(entries.values()),
        list(entries),
        loc="outside lower center",
        ncols=max(1, min(len(entries), int(110 / (longest + 6)))),
    )


# Lanes


@dataclass(frozen=True)
class _Lane:
    """A line of a picture with the rows on it; a heading has none."""

    name: str
    rows: tuple[Row, ...] = ()


def _lanes(rows: Sequence[Row], every: Sequence[Row], shared: bool) -> list[_Lane]:
    """A lane for each row, or, if shared, for each structure."""
    if shared:
        groups = itertools.groupby(rows, lambda row: row.structure)
        return [_Lane(_title(structure), tuple(group)) for structure, group in groups]
    return [_Lane(_title(label(row, every)), (row,)) for row in rows]


def _name_lanes(axis: "Axes", lanes: Sequence[_Lane]) -> None:
    axis.set_yticks(range(len(lanes)), [lane.name for lane in lanes])
    for text, lane in zip(axis.get_yticklabels(), lanes, strict=True):
        if not lane.rows:
            text.set_fontweight("bold")
    axis.tick_params(axis="y", length=0)


def _as_lanes(axis: "Axes", lanes: Sequence[_Lane], ticks: int) -> None:
    from matplotlib.ticker import MaxNLocator

    axis.set_ylim(len(lanes) - 0.5, -0.5)
    axis.set_yticks([])
    axis.spines["left"].set_visible(False)
    axis.grid(axis="x")
    for place in range(1, len(lanes), 2):
        axis.axhspan(place - 0.5, place + 0.5, color="#f4f4f4", linewidth=0, zorder=0)
    axis.xaxis.set_major_locator(MaxNLocator(ticks, min_n_ticks=3))


def plot(rows: Sequence[Row], columns: Sequence[str], path: Path) -> None:
    """Draw the rows: curves over shots, else points on lanes, a block per data set.

    Small dots are seeds. Raises InputError if the picture cannot be written.
    """
    matches = [re.fullmatch(r"(\d+) shots", column) for column in columns]
    shots = [int(match[1]) for match in matches if match]
    if len(shots) == len(columns) > 1:
        figure = _curves(rows, dict(zip(shots, columns, strict=True)))
    else:
        figure = _points(rows, columns)
    save(figure, path, "--plot")


def _in_panels(columns: Sequence[str]) -> list[list[str]]:
    """Columns in lines of panels; those of which lower is better begin a line of their own."""
    higher = [column for column in columns if column not in LOWER_IS_BETTER]
    lower = [column for column in columns if column in LOWER_IS_BETTER]
    return [
        kind[start : start + ACROSS]
        for kind in (higher, lower)
        for start in range(0, len(kind), ACROSS)
    ]


def _points(rows: Sequence[Row], columns: Sequence[str]) -> "Figure":
    """Panels of columns, methods down; each data set has a block under its name."""
    names = list(dict.fromkeys(row.dataset for row in rows))
    palette = looks(rows)
    blocks = []  # (name of the data set, or "" below its first line; lanes; columns)
    for name in names:
        of_set = [row for row in rows if row.dataset == name]
        lanes = _lanes(of_set, rows, shared=len(rows) > MANY)
        filled = [column for column in columns if any(row.of(column) for row in of_set)]
        for line in _in_panels(filled or columns):
            blocks.append((name, lanes, line))
            name = ""
    across = max(len(line) for _, _, line in blocks)
    heights = [0.62 + 0.18 * bool(name) + LANE * len(lanes) for name, lanes, _ in blocks]
    figure, grid = pyplot().subplots(
        len(blocks),
        across,
        figsize=(WIDTH, 0.4 + sum(heights)),
        height_ratios=heights,
        squeeze=False,
    )
    for axes, (name, lanes, line) in zip(grid, blocks, strict=True):
        for axis, column in itertools.zip_longest(axes, line):
            if column is None:
                axis.set_visible(False)
                continue
            _as_lanes(axis, lanes, 4)
            for place, lane in enumerate(lanes):
                _on_lane(axis, place, lane, rows, palette, column)
            axis.set_title("\n" * bool(name) + _title(column))  # a line for the data set's name
            axis.set_xlabel(_axis_label(column))
        _name_lanes(axes[0], lanes)
        _name_block(axes[0], _title(name))
    crafted = any(row.learns and palette[label(row, rows)].full for row in rows)
    _legend(figure, (_marks("without CRAFT", "with CRAFT") if crafted else {}) | _seeds(rows))
    return figure


def _name_block(axis: "Axes", name: str) -> None:
    """Put the name of a data set above a line of panels, from the left edge of the picture on."""
    text = axis.annotate(
        name,
        (0.005, 1),
        (0, 19),
        xycoords=("figure fraction", "axes fraction"),
        textcoords="offset points",
        fontsize=10,
        fontweight="bold",
    )
    text.set_in_layout(False)  # as wide as it is, no panel makes room


def _seeds(rows: Sequence[Row]) -> dict[str, Any]:
    from matplotlib.lines import Line2D

    several = any(len(values) > 1 for row in rows for values in row.values.values())
    dot = Line2D([], [], linestyle="", marker=".", color=SEEDS, markersize=5)
    return {"a seed": dot} if several else {}


def _on_lane(
    axis: "Axes",
    place: int,
    lane: _Lane,
    every: Sequence[Row],
    palette: Mapping[str, Look],
    column: str,
) -> None:
    """The means of a lane's rows, with their seeds; a lane of one row tells its mean in digits."""
    for number, row in enumerate(lane.rows):
        values = row.of(column)
        if not values:
            continue
        height = place + 0.5 * ((number + 0.5) / len(lane.rows) - 0.5)
        mean, look = mean_of(row, column, values), palette[label(row, every)]
        if len(values) > 1:
            spread = list(values.values())
            axis.plot(spread, [height] * len(spread), ".", color=SEEDS, markersize=3, zorder=2)
        axis.plot(
            mean,
            height,
            marker=look.marker,
            color=look.colour,
            markerfacecolor=look.inside,
            markersize=6,
            markeredgewidth=1.4,
            zorder=3,
        )
        if len(lane.rows) == 1:
            axis.text(1.01, place, f"{mean:.1f}", transform=axis.get_yaxis_transform(), va="center")


def gains(
    rows: Sequence[Row], table: Sequence[Mapping[str, Gain | None]], column: str, path: Path
) -> None:
    """Draw the gains of the rows in a column, a point with its 95% interval each.

    A full point has a verdict, a hollow one is open. Raises InputError if the picture cannot be
    written.
    """
    names = list(dict.fromkeys(row.dataset for row in rows))
    lanes: list[_Lane] = []
    for name in names:
        of_set = [row for row in rows if row.dataset == name]
        lanes += [_Lane(_title(name))] * (len(names) > 1) + _lanes(of_set, rows, False)
    found = {id(row): line[column] for row, line in zip(rows, table, strict=True)}
    palette = looks(rows)
    plt = pyplot()
    figure, axis = plt.subplots(figsize=(WIDTH, 1.35 + LANE * 1.1 * len(lanes)))
    _as_lanes(axis, lanes, 9)
    _name_lanes(axis, lanes)
    for place, lane in enumerate(lanes):
        for row in lane.rows:
            if (gain := found[id(row)]) is not None:
                _gain(axis, place, gain, palette[label(row, rows)])
    axis.axvline(0, color="black", linewidth=1, zorder=1)
    # An axis without 0 would hide on which side of it a gain is.
    low, high = axis.get_xlim()
    axis.set_xlim(min(low, -0.1 * (high - low)), max(high, 0.1 * (high - low)))
    sides = ("better", "worse") if column in LOWER_IS_BETTER else ("worse", "better")
    axis.set_xlabel(
        f"← {sides[0]}    gain of CRAFT in {_title(column)} (points), 95% interval    {sides[1]} →"
    )
    if len(names) == 1:
        axis.set_title(_title(names[0]), fontweight="bold")
    _legend(figure, _marks("open", "gain or loss, after Holm's correction"))
    save(figure, path, "--plot-gains")


def _gain(axis: "Axes", place: int, gain: Gain, look: Look) -> None:
    """A point with its interval, and both in digits at the right."""
    if gain.low is not None and gain.high is not None:
        axis.plot([gain.low, gain.high], [place, place], color=look.colour, linewidth=2, zorder=2)
    axis.plot(
        gain.mean,
        place,
        marker=look.marker,
        color=look.colour,
        markerfacecolor=look.colour if gain.holds else "white",
        markersize=7,
        markeredgewidth=1.6,
        zorder=3,
    )
    digits = gain.text().replace("-", "−")
    axis.text(1.01, place, digits, transform=axis.get_yaxis_transform(), va="center")


# Curves


@dataclass(frozen=True)
class Line:
    """A line of a panel: points (x, mean, standard deviation or 0) of a name with a look."""

    name: str
    look: Look
    points: tuple[tuple[float, float, float], ...]


@dataclass(frozen=True)
class Panel:
    """Lines under a title; panels of one `kind` have one range of heights."""

    title: str
    kind: str
    high: str  # label of the axis of heights
    lines: tuple[Line, ...]


def panels(title: str, kind: str, high: str, groups: Mapping[str, Sequence[Line]]) -> list[Panel]:
    """One panel with all lines if they are few, else one or more for each group {name: lines}."""
    every = [line for lines in groups.values() for line in lines]
    if len(every) <= MOST:
        return [Panel(title, kind, high, tuple(every))]
    return [
        Panel(f"{title}: {name}" if title else name, kind, high, tuple(lines[start : start + MOST]))
        for name, lines in groups.items()
        for start in range(0, len(lines), MOST)
    ]


def by_structure(rows: Sequence[Row], lines: Mapping[str, Line]) -> dict[str, list[Line]]:
    """{structure: lines of its rows} of {label: line}."""
    groups: dict[str, dict[str, Line]] = {}
    for row in rows:
        if (line := lines.get(label(row, rows))) is not None:
            groups.setdefault(row.structure, {})[line.name] = line
    return {structure: list(members.values()) for structure, members in groups.items()}


def _curves(rows: Sequence[Row], columns: Mapping[int, str]) -> "Figure":
    """Accuracy over shots, as in CoOp's figure; columns: {shots: column}."""
    palette, shown = looks(rows), []
    for name in dict.fromkeys(row.dataset for row in rows):
        lines = {}
        for row in rows:
            points = tuple(
                (shots, mean_of(row, column, values), _deviation(values.values()))
                for shots, column in columns.items()
                if (values := row.of(column))
            )
            if row.dataset == name and points:
                one = label(row, rows)
                lines[one] = Line(one, palette[one], points)
        shown += panels(name, name, "accuracy (%)", by_structure(rows, lines))

    def over_shots(axis: "Axes") -> None:
        axis.set_xscale("log", base=2)
        axis.set_xticks(list(columns), list(map(str, columns)))
        axis.minorticks_off()
        axis.set_xlabel("shots")

    return _draw(shown, over_shots)


def _deviation(values: Collection[float]) -> float:
    return statistics.stdev(values) if len(values) > 1 else 0.0


def learning(shown: Sequence[Panel], path: Path, option: str = "--out") -> None:
    """Draw panels over epochs. Raises InputError if the picture cannot be written."""

    def over_epochs(axis: "Axes") -> None:
        from matplotlib.ticker import MaxNLocator

        axis.xaxis.set_major_locator(MaxNLocator(6, integer=True))
        axis.set_xlabel("epoch")

    save(_draw(shown, over_epochs), path, option)


def over_values(
    shown: Sequence[Panel], keys: Sequence[str], ticks: Sequence[float], path: Path
) -> None:
    """Draw panels over the values of options. Raises InputError if it cannot be written."""

    def over(axis: "Axes") -> None:
        # Values grow by factors; the one before the first factor is 0.
        axis.set_xscale("symlog", base=2, linthresh=min(tick for tick in ticks if tick) or 1.0)
        axis.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
        axis.minorticks_off()
        axis.set_xlabel(" =\n".join(key.rsplit(".", 1)[-1] for key in keys))

    save(_draw(shown, over), path, "--out")


def _draw(shown: Sequence[Panel], bottom: Callable[["Axes"], None]) -> "Figure":
    """Panels beside and below each other. One legend under panels of the same lines, where it
    hides none; else one in each.
    """
    plt = pyplot()
    across = min(2 if len(shown) in (2, 4) else ACROSS, len(shown))
    down = math.ceil(len(shown) / across)
    most = max(len(panel.lines) for panel in shown)
    tall = (3.0 if across < ACROSS else 2.3) + 0.16 * max(0, most - 3)
    figure, grid = plt.subplots(down, across, figsize=(WIDTH, 0.3 + tall * down), squeeze=False)
    axes = list(grid.flatten())
    for axis in axes[len(shown) :]:
        axis.set_visible(False)
    alike: dict[str, list[Axes]] = {}
    shared = len({tuple((line.name, line.look) for line in panel.lines) for panel in shown}) == 1
    shared = shared and len(shown) > 1 and most <= MOST
    for axis, panel in zip(axes, shown, strict=False):
        for line in panel.lines:
            _line(axis, line)
        axis.set_title(_title(panel.title, int(80 / across)))
        axis.set_ylabel(panel.high)
        axis.grid(axis="both")
        bottom(axis)
        if not shared:
            axis.legend(fontsize=8, handlelength=2.6)
        alike.setdefault(panel.kind, []).append(axis)
    for members in alike.values():
        limits = [axis.get_ylim() for axis in members]
        low, high = min(low for low, _ in limits), max(high for _, high in limits)
        for axis in members:
            axis.set_ylim(low, high)
    if shared:
        handles, names = axes[0].get_legend_handles_labels()
        _legend(figure, dict(zip(names, handles, strict=True)))
    return figure


def _line(axis: "Axes", line: Line) -> None:
    x, means, deviations = (list(values) for values in zip(*line.points, strict=True))
    few = len(x) <= 20
    axis.errorbar(
        x,
        means,
        deviations if any(deviations) else None,
        color=line.look.colour,
        linestyle=line.look.line,
        linewidth=1.4,
        marker=line.look.marker if few else None,
        markerfacecolor=line.look.inside,
        markersize=4.5,
        elinewidth=0.8,
        capsize=2,
        label=_title(line.name),
    )


# Single runs


def reliability(bins: Sequence[tuple[int, float, float]], name: str, path: Path) -> None:
    """Draw (images, mean confidence, accuracy) of bins of confidence, of equal width.

    The bars are accuracies, the points mean confidences; the lower axis counts images. Raises
    InputError if the picture cannot be written.
    """
    figure, (axis, below) = pyplot().subplots(
        2, 1, figsize=(5, 6), sharex=True, height_ratios=(3, 1)
    )
    width = 1 / len(bins)
    middles = [(number + 0.5) * width for number in range(len(bins))]
    axis.plot([0, 1], [0, 1], color="black", linewidth=0.8)
    axis.bar(middles, [accuracy for _, _, accuracy in bins], 0.92 * width, color="#c2c2c2")
    filled = [(confidence, accuracy) for count, confidence, accuracy in bins if count]
    axis.plot(*zip(*filled, strict=True), "o", color="black")
    axis.set_ylabel("accuracy")
    axis.set_title(_title(name), fontsize=9, wrap=True)
    axis.set(xlim=(0, 1), ylim=(0, 1))
    below.bar(middles, [count for count, _, _ in bins], 0.92 * width, color="#c2c2c2")
    below.set_ylabel("images")
    below.set_xlabel("confidence (points: the mean of a bin)")
    save(figure, path, "--reliability")
