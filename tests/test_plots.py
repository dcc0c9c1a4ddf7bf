"""Pictures at 800 pixels: no text overlaps, leaves the picture, is small or, if a number, rotated;
legends are short; what is drawn is what the rows hold.
"""

import itertools
import re

import pytest
from PIL import Image

from tools import colours, plots
from tools.gains import Gain
from tools.protocols import Row

METHODS = ("CoOp", "CoCoOp", "VPT", "IVLP", "MaPLe", "PromptSRC")
GROUPS = ("mean", "worst group", "gap")


def rows_of(methods, sets, columns, seeds=(1, 2, 3)) -> list[Row]:
    return [
        Row(
            name,
            craft + method,
            "cfg",
            "8",
            {
                column: {seed: 50.0 + 3 * number + seed + 2 * bool(craft) for seed in seeds}
                for column in columns
            },
        )
        for name in sets
        for number, method in enumerate(methods)
        for craft in ("", "Craft")
    ]


def gains_of(rows: list[Row], column: str) -> list[dict[str, Gain | None]]:
    return [
        {column: Gain(0.5 * number - 1, (1, 2), 1.0, 0.5 * number - 3, 0.5 * number + 1, 0.2, 0.4)}
        for number, _ in enumerate(rows)
    ]


@pytest.fixture
def figures(monkeypatch):
    """The figures that are drawn, which are not closed."""
    found = []
    monkeypatch.setattr(plots, "save", lambda figure, path, option: found.append(figure))
    yield found
    plots.pyplot().close("all")


def texts(figure) -> list:
    """Visible texts, as drawn."""
    from matplotlib.text import Text

    figure.canvas.draw()
    shown = figure.findobj(lambda one: isinstance(one, Text) and one.get_text().strip() != "")
    hidden = {text for axis in figure.axes if not axis.get_visible() for text in axis.findobj(Text)}
    # A tick outside the range of its axis has a label that is not drawn.
    ticks = {
        tick.label1
        for axis in figure.axes
        for side in (axis.xaxis, axis.yaxis)
        for tick in set(side.get_major_ticks()) - set(side._update_ticks())
    }
    return [one for one in shown if one.get_visible() and one not in hidden | ticks]


def check(figure) -> None:
    assert figure.get_figwidth() == plots.WIDTH
    whole, found = figure.bbox, texts(figure)
    boxes = [one.get_window_extent() for one in found]
    for text, box in zip(found, boxes, strict=True):
        if text.get_text().startswith("\n"):  # an empty line, for the name of a data set
            box.y1 -= box.height / 2
    for text, box in zip(found, boxes, strict=True):
        assert text.get_fontsize() >= 8, text  # 11 pixels of 800
        if re.search(r"\d", text.get_text()):
            assert text.get_rotation() == 0, text
        assert box.x0 >= whole.x0 - 2 and box.x1 <= whole.x1 + 2, text
        assert box.y0 >= whole.y0 - 2 and box.y1 <= whole.y1 + 2, text
    for (one, box), (other, other_box) in itertools.combinations(zip(found, boxes, strict=True), 2):
        wide = min(box.x1, other_box.x1) - max(box.x0, other_box.x0)
        high = min(box.y1, other_box.y1) - max(box.y0, other_box.y0)
        assert wide <= 1 or high <= 2, (one, other)
    legends = [*figure.legends, *(axis.get_legend() for axis in figure.axes)]
    assert all(len(one.get_texts()) <= plots.MOST for one in legends if one)


SETS = ("average of 2", "oxford_pets", "a_data_set_with_a_name_that_goes_on_and_on_and_on")
TABLES = {
    "one": (METHODS[:1], SETS[1:2], ("base", "new", "H")),
    "several": (METHODS[:3], SETS, ("base", "new", "H")),
    "many": (METHODS, [f"set_{number}" for number in range(6)], ("base", "new")),
    "groups": (METHODS[:2], SETS[:2], GROUPS),
    "wide": (METHODS[:2], SETS[:1], [f"target_{number}" for number in range(10)]),
    "few shots": (METHODS[:3], SETS, ("1 shots", "4 shots", "16 shots")),
    "many lines": (METHODS, SETS[:1], ("1 shots", "2 shots", "16 shots")),
}


@pytest.mark.parametrize("name", TABLES)
def test_accuracies_are_read_at_800_pixels(figures, name, tmp_path):
    methods, sets, columns = TABLES[name]
    plots.plot(rows_of(methods, sets, columns), columns, tmp_path / "x.png")
    check(figures[0])


@pytest.mark.parametrize("sets", [SETS[:1], SETS])
def test_gains_are_read_at_800_pixels(figures, sets, tmp_path):
    rows = [row for row in rows_of(METHODS, sets, ("H",)) if row.craft]
    plots.gains(rows, gains_of(rows, "H"), "H", tmp_path / "x.png")
    check(figures[0])
    axis = figures[0].axes[0]
    named = [axis.get_title(), *(text.get_text() for text in axis.texts)]
    assert "average of 2 data sets" in [*named, *(t.get_text() for t in axis.get_yticklabels())]


@pytest.mark.parametrize(
    "change",
    [
        lambda axis: axis.text(0.5, 0.5, "9", transform=axis.transAxes, rotation=90),
        lambda axis: axis.text(0.5, 0.5, "x", transform=axis.transAxes, size=5),
        lambda axis: axis.text(3, 0.5, "x", transform=axis.transAxes, in_layout=False),
        lambda axis: [axis.text(0.5, 0.5, "xyz", transform=axis.transAxes) for _ in "ab"],
    ],
)
def test_what_is_checked_can_fail(figures, change, tmp_path):
    plots.plot(rows_of(METHODS[:2], SETS[:1], ("base",)), ("base",), tmp_path / "x.png")
    check(figures[0])
    change(figures[0].axes[0])
    with pytest.raises(AssertionError):
        check(figures[0])


def test_points_are_the_means_and_dots_the_seeds(figures, tmp_path):
    rows = rows_of(METHODS[:2], SETS[:1], GROUPS)
    plots.plot(rows, GROUPS, tmp_path / "x.png")
    axes = [axis for axis in figures[0].axes if axis.get_visible()]
    assert [axis.get_title().strip() for axis in axes] == list(GROUPS)
    assert axes[2].get_xlabel() == "points (lower is better)"
    # lower is better: a line of its own, with axes of its own
    assert axes[0].get_position().y0 == axes[1].get_position().y0 > axes[2].get_position().y1
    points = {
        (line.get_marker(), line.get_markerfacecolor() == "white"): list(line.get_xdata())
        for line in axes[0].lines
        if line.get_marker() in "os"
    }
    assert points == {
        ("o", True): [52.0],
        ("o", False): [54.0],
        ("s", True): [55.0],
        ("s", False): [57.0],
    }
    dots = [sorted(line.get_xdata()) for line in axes[0].lines if line.get_marker() == "."]
    assert dots == [[51, 52, 53], [53, 54, 55], [54, 55, 56], [56, 57, 58]]
    low, high = axes[0].get_xlim()
    assert low > 40 and high < 70  # not from 0


def test_a_gain_is_full_only_with_a_verdict_and_zero_is_in_the_picture(figures, tmp_path):
    rows = [row for row in rows_of(METHODS[:2], SETS[:1], ("H",)) if row.craft]
    table = [
        {"H": Gain(5.0, (1, 2), 1.0, 4.0, 6.0, 0.001, 0.002)},
        {"H": Gain(4.0, (1, 2), 1.0, 3.0, 5.0, 0.04, 0.08)},
    ]
    plots.gains(rows, table, "H", tmp_path / "x.png")
    (axis,) = figures[0].axes
    hues = [colours.METHODS[name][0] for name in METHODS[:2]]
    full = [one.get_markerfacecolor() for one in axis.lines if one.get_marker() in "os"]
    assert full == [hues[0], "white"]
    intervals = [list(one.get_xdata()) for one in axis.lines if one.get_color() in hues]
    assert [4.0, 6.0] in intervals and [3.0, 5.0] in intervals
    assert axis.get_xlim()[0] < 0 and "+5.00 [+4.00, +6.00]" in [
        one.get_text() for one in axis.texts
    ]
    assert "worse" in axis.get_xlabel().partition("gain")[0]


def test_a_structure_keeps_its_colour_whatever_is_beside_it(figures, tmp_path):
    for methods in (METHODS, METHODS[3:], METHODS[4:]):
        rows = rows_of(methods, ("set",), ("base",))
        plots.plot(rows, ("base",), tmp_path / "x.png")
        assert plots.looks(rows)["CraftMaPLe"].colour == colours.METHODS["MaPLe"][0]
        found = {line.get_color() for line in figures[-1].axes[0].lines}
        assert colours.METHODS["MaPLe"][0] in found


def test_curves_of_one_data_set_share_their_heights(figures, tmp_path):
    columns = ("1 shots", "4 shots")
    plots.plot(rows_of(METHODS, ("a", "b"), columns), columns, tmp_path / "x.png")
    limits = {axis.get_title()[0]: axis.get_ylim() for axis in figures[0].axes}
    for axis in figures[0].axes:
        assert axis.get_ylim() == limits[axis.get_title()[0]]
        for line in axis.lines:
            assert axis.get_ylim()[0] <= min(line.get_ydata()) <= axis.get_ylim()[1]


def test_a_legend_that_is_too_long_is_refused():
    figure = plots.pyplot().figure()
    with pytest.raises(ValueError, match="a legend of 9 entries"):
        plots._legend(figure, dict.fromkeys("abcdefghi"))
    plots.pyplot().close(figure)


@pytest.mark.parametrize("kind", plots.KINDS)
def test_equal_pictures_are_equal_files(kind, tmp_path):
    rows = rows_of(METHODS[:1], ("set",), ("base",))
    for name in ("a", "b"):
        plots.plot(rows, ("base",), tmp_path / f"{name}{kind}")
    assert (tmp_path / f"a{kind}").read_bytes() == (tmp_path / f"b{kind}").read_bytes()
    if kind == ".png":
        with Image.open(tmp_path / "a.png") as picture:
            assert picture.size[0] == plots.WIDTH * plots.DPI
