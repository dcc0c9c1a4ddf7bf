"""The headline of a report, in words made from the numbers; and its learning curves."""

import json
import math
import random

import pytest
from test_gains import decided, study, table_of, write
from torch.utils.tensorboard import SummaryWriter

from tools import curves, findings, plots, protocols, results


def test_what_was_compared_is_told(tmp_path):
    study(tmp_path, ("one", "two"))
    write(tmp_path, "one", "VPT", {1: 50.0})
    write(tmp_path, "one", "ZeroshotCLIP", {1: 40.0})
    assert findings.compared(table_of(tmp_path)) == (
        "CoOp with and without CRAFT; VPT; ZeroshotCLIP on one and two, 3 seeds: 26 runs."
    )


def test_names_and_numbers_in_sentences():
    assert findings.listed("a", "sets") == "a" and findings.listed("ab", "sets") == "a and b"
    assert findings.listed("aabcc", "sets") == "a, b and c"
    assert findings.listed("abcdefg", "sets") == "7 sets"
    assert findings.counted(1, "loss", "losses") == "1 loss"
    assert findings.counted(1200, "loss", "losses") == "1,200 losses"


def test_a_gain_that_holds_is_the_clearest(tmp_path):
    content = decided(
        tmp_path,
        up=[5.0, 5.2, 4.9, 5.1],
        maybe=[0.3, -2.0, 3.0, 1.0],
        down=[-5.0, -5.2, -4.9, -5.1],
    )
    average = next(line for row, line in zip(content.gaining, content.gains) if row.members)
    gain = average["4 shots"]
    assert findings.finding(content) == [
        "Open: no gain or loss of CRAFT in 4 shots after Holm's correction for 4 comparisons.",
        f"CraftCoOp on the average of 3 data sets: {gain.text()} points (95% interval; corrected p "
        f"{gain.p_holm:.3f}).",
        "Open does not mean that there is no effect.",
    ]
    content.averages.clear()
    content.__dict__.pop("_compared")
    sentences = findings.finding(content)
    assert sentences[0] == (
        "In 4 shots CRAFT has 1 gain, 1 loss and 1 open after Holm's correction for 3 comparisons."
    )
    assert sentences[1].startswith("The clearest is CraftCoOp on ")
    assert sentences[2] == "Gains reach from -5.05 to +5.05 points."


@pytest.mark.parametrize(
    ("values", "first"),
    [
        ([3.0, 3.1, 2.9], "A gain of CRAFT in 4 shots after Holm's correction for 1 comparison."),
        ([-3.0, -3.1, -2.9], "A loss of CRAFT in 4 shots after Holm's correction for 1"),
        ([-3.0, 3.1, 1.0], "Open: no gain or loss of CRAFT in 4 shots after"),
        ([2.0], "Open: CRAFT changes 4 shots by +2.00 points, without an interval for want of"),
    ],
)
def test_one_comparison(tmp_path, values, first):
    sentences = findings.finding(decided(tmp_path, one=values))
    assert sentences[0].startswith(first)
    assert ("Open does not mean that there is no effect." in sentences) == (
        first.startswith("Open: no")
    )


def test_that_all_is_open_is_said(tmp_path):
    content = decided(tmp_path, one=[1.0, -1.1, 0.4], two=[0.2, -0.4, 0.1])
    content.averages.clear()
    content.__dict__.pop("_compared")
    assert findings.finding(content)[0] == (
        "Open: none of 2 differences in 4 shots can be told from chance after Holm's correction "
        "for 2 comparisons."
    )


def test_without_pairs_the_highest_is_told(tmp_path):
    write(tmp_path, "one", "CoOp", {1: 50.0, 2: 52.0})
    write(tmp_path, "one", "VPT", {1: 50.0, 2: 51.0})
    write(tmp_path, "one", "CoOp", {1: 50.0, 2: 52.0}, "test_new")
    assert findings.finding(table_of(tmp_path)) == [
        "No pair of runs with and without CRAFT. The highest H is 51.00 ± 1.41, of CoOp on one."
    ]


def test_a_baseline_with_other_settings_is_mentioned(tmp_path):
    for trainer, rate in (("CoOp", 0.1), ("CraftCoOp", 0.2)):
        write(tmp_path, "one", trainer, {1: 50.0, 2: 52.0})
        for path in tmp_path.rglob(f"{trainer}/**/results.json"):
            config = {"OPTIM": {"LR": rate}, "TRAINER": {"NAME": trainer}}
            path.write_text(json.dumps(json.loads(path.read_text()) | {"config": config}))
    content = results.tables(protocols.PROTOCOLS["base2new"], [tmp_path])
    content.columns[:] = ["base"]
    assert findings.finding(content)[-1] == (
        "1 row differs from the baseline in more than CRAFT: the notes say in what."
    )


# Learning curves


def scalars(folder, tag, values, **more):
    with SummaryWriter(str(folder / "tensorboard"), **more) as board:
        for step, value in enumerate(values):
            board.add_scalar(tag, value, step)


def test_curves_are_means_of_batches_over_epochs_and_runs(tmp_path):
    random.seed(0)
    runs, values = [], []
    for number in range(2):
        values.append([random.random() for _ in range(12)])
        scalars(tmp_path / str(number), "train/loss", values[-1])
        scalars(tmp_path / str(number), "val/accuracy", [10.0, 20.0, 30.0], filename_suffix="v")
        runs.append(curves.by_epoch(curves.read(tmp_path / str(number)), 3))
    slow = []
    for epoch in range(3):
        batches = [values[run][4 * epoch + batch] for run in range(2) for batch in range(4)]
        slow.append(sum(batches) / 8)
    row = protocols.Row("set", "CoOp", "cfg", "8")
    shown = curves.panels([row], {"CoOp": runs})
    assert [panel.kind for panel in shown] == ["cross entropy", "validation accuracy (%)"]
    (line,) = shown[0].lines
    assert [x for x, _, _ in line.points] == [1, 2, 3]
    assert [mean for _, mean, _ in line.points] == pytest.approx(slow, rel=1e-5)
    assert [mean for _, mean, _ in shown[1].lines[0].points] == [10, 20, 30]


def test_the_cross_entropy_is_taken_where_the_loss_holds_more(tmp_path):
    scalars(tmp_path, "train/loss", [9.0, math.nan, 7.0, 6.0])
    scalars(tmp_path, "train/cross_entropy", [3.0, math.inf, 1.0, 2.0], filename_suffix="c")
    found = curves.by_epoch(curves.read(tmp_path), 2)
    assert found == {"cross entropy": {1: 3.0, 2: 1.5}}


def test_files_that_are_missing_cut_off_or_no_events(tmp_path):
    assert curves.read(tmp_path) == {}
    scalars(tmp_path / "cut", "train/loss", [1.0, 2.0, 3.0])
    (file,) = (tmp_path / "cut/tensorboard").iterdir()
    file.write_bytes(file.read_bytes()[:-5])
    assert [value for _, value in curves.read(tmp_path / "cut")["train/loss"]] == [1.0, 2.0]
    file.write_bytes(b"no events at all, but long enough to be taken for some")
    assert curves.read(tmp_path / "cut") == {}


@pytest.mark.parametrize(
    ("results", "epochs"),
    [
        ({"epochs": 5}, 5),
        ({"epochs": 5, "began_from": {"model_dir": "x"}}, 5),
        ({"epochs": 0, "loaded": {"model_dir": "x"}}, 0),
        ({"epochs": "5"}, 0),
        ({"epochs": True}, 0),
        ({}, 0),
    ],
)
def test_only_trainings_have_curves(results, epochs):
    assert curves.epochs_of(results) == epochs


def test_more_lines_than_a_legend_holds_are_panels_of_structures(tmp_path):
    rows = [
        protocols.Row("set", f"{craft}{name}", "cfg", "8")
        for name in ("CoOp", "VPT", "IVLP", "MaPLe", "PromptSRC")
        for craft in ("", "Craft")
    ]
    run = {"cross entropy": {1: 2.0, 2: 1.0}}
    few = curves.panels(rows[:8], {row.trainer: [run] for row in rows[:8]})
    assert [(panel.title, len(panel.lines)) for panel in few] == [("", 8)]
    many = curves.panels(rows, {row.trainer: [run] for row in rows})
    assert [(panel.title, len(panel.lines)) for panel in many] == [
        (name, 2) for name in ("CoOp", "VPT", "IVLP", "MaPLe", "PromptSRC")
    ]
    plots.learning(many, tmp_path / "curves.png")
    assert (tmp_path / "curves.png").stat().st_size > 10_000
