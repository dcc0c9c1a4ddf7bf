"""Gains of a table: units, intervals, families, notes, pictures; from runs and saved outcomes."""

import csv
import json
import math
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image
from scipy import stats

from dassl import outcomes
from tools import gains, protocols, report, results, statistics

SETS = ("one", "two", "three", "four", "five", "six")


def save(folder: Path, correct: np.ndarray, cluster=None, images="", **changes) -> None:
    """results.json and outcomes of a run of two classes with these images right."""
    folder.mkdir(parents=True, exist_ok=True)
    total = len(correct)
    ties = {"config_hash": "abc", "model_sha256": None, "loaded": None}
    metrics = {"accuracy": 100.0 * correct.sum() / total, "total": total}
    metrics["correct"] = int(correct.sum())
    record = {"complete": True, "metrics": {"test": metrics}, "config": {}, **ties, **changes}
    (folder / "results.json").write_text(json.dumps(record))
    label, zeros = np.zeros(total, np.int32), np.zeros(total, np.float32)
    arrays = {"label": label, "domain": label, "predicted": np.where(correct, 0, 1)}
    arrays |= {"highest": zeros, "log_sum_exp": zeros, "own": zeros}
    arrays["scores"] = np.zeros((total, 2), np.float16)
    paths = tuple(
        f"{images or '/'.join(folder.parts[-6:-4])}/{number}.png" for number in range(total)
    )
    content = outcomes.Outcomes("test", ("a", "b"), ties, paths, **arrays, cluster=cluster)
    with open(outcomes.place(folder, "test"), "wb") as file:
        outcomes.write(file, content)


def place(root: Path, part: str, dataset: str, trainer: str, seed: int) -> Path:
    return root / part / dataset / "shots_8" / trainer / "cfg" / f"seed{seed}"


def study(root: Path, sets=SETS, seeds=(1, 2, 3), effect=0.04, count=120) -> dict:
    """Runs of CoOp and CraftCoOp; {(part, set, trainer, seed): which images were right}."""
    random, every = np.random.default_rng(0), {}
    for dataset in sets:
        for part, level in (("train_base", 0.7), ("test_new", 0.5)):
            hard = random.random(count)
            for trainer, more in (("CoOp", 0.0), ("CraftCoOp", effect)):
                for seed in seeds:
                    right = hard + 0.1 * random.normal(size=count) < level + more
                    save(place(root, part, dataset, trainer, seed), right)
                    every[part, dataset, trainer, seed] = right
    return every


def table_of(root: Path, protocol: str = "base2new") -> results.Tables:
    return results.tables(protocols.PROTOCOLS[protocol], [root])


def gain_of(content: results.Tables, dataset: str) -> dict:
    return next(
        line
        for row, line in zip(content.gaining, content.gains, strict=True)
        if row.dataset == dataset
    )


def accuracy(every: dict, part: str, dataset: str, trainer: str, seed: int) -> float:
    return 100 * every[part, dataset, trainer, seed].mean()


def harmonic(pair) -> float:
    return 2 * pair[0] * pair[1] / (pair[0] + pair[1])


PARTS = ("train_base", "test_new")


def test_the_gain_on_one_data_set_is_a_t_test_over_seeds(tmp_path):
    every = study(tmp_path, ("one",))
    found = gain_of(table_of(tmp_path), "one")["H"]
    ours, theirs = (
        np.array([harmonic([accuracy(every, p, "one", name, s) for p in PARTS]) for s in (1, 2, 3)])
        for name in ("CraftCoOp", "CoOp")
    )
    test = stats.ttest_rel(ours, theirs)
    low, high = test.confidence_interval(0.95)
    assert (found.mean, found.low, found.high, found.p) == pytest.approx(
        ((ours - theirs).mean(), low, high, test.pvalue)
    )
    assert (found.units, found.method, found.deviation) == (
        "seeds",
        "t",
        pytest.approx((ours - theirs).std(ddof=1)),
    )
    assert found.p_holm == pytest.approx(found.p)  # the only gain of the table


def test_p_of_an_average_over_many_data_sets_is_over_the_data_sets(tmp_path):
    every = study(tmp_path)
    found = gain_of(table_of(tmp_path), "average of 6")
    base = [
        np.mean(
            [
                accuracy(every, "train_base", name, "CraftCoOp", seed)
                - accuracy(every, "train_base", name, "CoOp", seed)
                for seed in (1, 2, 3)
            ]
        )
        for name in SETS
    ]
    assert found["base"].mean == pytest.approx(np.mean(base))
    assert found["base"].p == pytest.approx(stats.ttest_1samp(base, 0).pvalue)
    assert found["base"].units == "data sets"

    def of(name: str, sets) -> float:
        means = [
            np.mean([accuracy(every, part, one, name, s) for one in sets for s in (1, 2, 3)])
            for part in PARTS
        ]
        return harmonic(means)

    whole = of("CraftCoOp", SETS) - of("CoOp", SETS)
    left = [[one for one in SETS if one != name] for name in SETS]
    without = np.array([of("CraftCoOp", sets) - of("CoOp", sets) for sets in left])
    error = math.sqrt(5 / 6 * ((without - without.mean()) ** 2).sum())
    assert found["H"].mean == pytest.approx(whole)
    assert found["H"].p == pytest.approx(2 * stats.t.sf(abs(whole) / error, 5))


def test_the_interval_of_an_average_is_a_bootstrap_over_saved_outcomes(tmp_path):
    every = study(tmp_path)
    found = gain_of(table_of(tmp_path), "average of 6")
    for column, parts, combine in (
        ("base", PARTS[:1], lambda x: x[..., 0]),
        ("H", PARTS, lambda x: 2 * x[..., 0] * x[..., 1] / (x[..., 0] + x[..., 1])),
    ):
        data_sets = [
            [
                statistics.part(
                    *(
                        [every[part, name, trainer, seed] for seed in (1, 2, 3)]
                        for trainer in ("CraftCoOp", "CoOp")
                    ),
                    np.arange(120),
                )
                for part in parts
            ]
            for name in sorted(SETS)
        ]
        low, high = statistics.hierarchical(data_sets, combine, over_data_sets=True)
        assert (found[column].low, found[column].high) == pytest.approx((low, high))
        assert found[column].method == "bootstrap" and low < found[column].mean < high


def test_fewer_data_sets_are_no_units(tmp_path):
    study(tmp_path, SETS[:2])
    content = table_of(tmp_path)
    found = gain_of(content, "average of 2")["H"]
    assert (found.units, found.method) == ("seeds", "bootstrap")
    average = next(row for row in content.gaining if row.members)
    ours, theirs = average.of("H"), content.baseline(average).of("H")
    p = stats.ttest_rel(list(ours.values()), list(theirs.values())).pvalue
    # Seeds alone have less error than seeds and images: p is that of the interval, of both.
    error = (found.high - found.low) / 2 / stats.t.ppf(0.975, len(found.seeds) - 1)
    assert (
        p
        < found.p
        == pytest.approx(2 * stats.t.sf(abs(found.mean) / error, len(found.seeds) - 1), rel=1e-9)
    )
    assert found.spread == pytest.approx(error * len(found.seeds) ** 0.5)
    note = next(note for note in content.notes if note.startswith("gains are means"))
    assert note == (
        "gains are means over seeds with 95% intervals of Student's t over the seeds, on "
        "these test images; those of averages are 3 by a bootstrap over seeds and images"
    )


def cuts(root: Path, sets, numbers=(0, 1, 2, 3)) -> dict[str, list[float]]:
    """Runs on several cuts of each data set; {data set: gains of its cuts in base}."""
    random, every = np.random.default_rng(3), {}
    for dataset in sets:
        of_set = random.normal(0, 3)
        every[dataset] = [of_set + random.normal(0, 0.3) for _ in numbers]
        for cut, more in zip(numbers, every[dataset], strict=True):
            for trainer, gain in (("CoOp", 0.0), ("CraftCoOp", more)):
                for part in PARTS:
                    for seed in (1, 2, 3):
                        noise = 0.1 * random.normal()
                        folder = place(root / f"cut{cut}", part, dataset, trainer, seed)
                        folder.mkdir(parents=True)
                        metrics = {"test": {"accuracy": 60.0 + (gain or noise)}}
                        record = {"complete": True, "metrics": metrics}
                        record["config"] = {"DATASET": {"CUT": cut}}
                        (folder / "results.json").write_text(json.dumps(record))
    return every


def test_cuts_of_a_data_set_are_one_unit_of_an_average(tmp_path):
    every = cuts(tmp_path, SETS[:5])
    content = table_of(tmp_path)
    found = gain_of(content, "average of 20")["base"]
    ours = [np.mean(values) for values in every.values()]
    # The baselines scatter a little; 20 units would have a third of this standard error.
    assert found.units == "data sets"
    test = stats.ttest_1samp(np.array(ours) + (found.mean - np.mean(ours)), 0)
    assert found.p == pytest.approx(test.pvalue, abs=0.05)
    assert found.high - found.mean == pytest.approx(
        stats.t.ppf(0.975, 4) * np.std(ours, ddof=1) / 5**0.5, rel=0.05
    )
    assert any(
        "Student's t over data sets, since some share a training or images" in n
        for n in content.notes
    )


def test_five_cuts_of_one_data_set_are_no_five_data_sets(tmp_path):
    cuts(tmp_path, ("one",), (0, 1, 2, 3, 4))
    found = gain_of(table_of(tmp_path), "average of 5")["base"]
    assert (found.units, found.method) == ("seeds", "t")


def test_without_one_file_an_average_takes_student_s_t(tmp_path):
    study(tmp_path)
    outcomes.place(place(tmp_path, "test_new", "two", "CoOp", 2), "test").unlink()
    content = table_of(tmp_path)
    found = gain_of(content, "average of 6")
    assert (found["base"].method, found["new"].method, found["H"].method) == ("bootstrap", "t", "t")
    assert found["new"].units == "data sets"
    note = next(note for note in content.notes if note.startswith("gains are means"))
    assert note.endswith(
        "those of averages are 1 by a bootstrap over data sets, seeds and images and 2 by "
        "Student's t over data sets, for want of saved outcomes or accuracies; p of averages over "
        "5 data sets or more is over the data sets"
    )


def test_outcomes_of_another_run_are_named_once_and_not_used(tmp_path):
    study(tmp_path)
    folder = place(tmp_path, "train_base", "two", "CoOp", 2)
    stored = json.loads((folder / "results.json").read_text())
    (folder / "results.json").write_text(json.dumps(stored | {"config_hash": "other"}))
    content = table_of(tmp_path)
    assert gain_of(content, "average of 6")["base"].method == "t"
    (note,) = [note for note in content.notes if "of another run" in note]
    assert note.startswith(f"'{folder / 'outcomes_test.npz'}' is of another run than the results")


def test_runs_on_other_images_are_not_paired(tmp_path):
    study(tmp_path)
    folder = place(tmp_path, "train_base", "two", "CoOp", 2)
    save(folder, np.arange(120) % 2 == 0, cluster=np.arange(120, dtype=np.int32) // 2)
    content = table_of(tmp_path)
    assert gain_of(content, "average of 6")["base"].method == "t"
    assert (
        "runs of CraftCoOp/cfg and CoOp/cfg on two (base) were tested on different images: their "
        "averages have no bootstrap interval"
    ) in content.notes


def test_a_metric_that_is_no_accuracy_has_student_s_t(tmp_path):
    random = np.random.default_rng(3)
    for name in SETS[:3]:
        for trainer in ("CoOp", "CraftCoOp"):
            for seed in (1, 2, 3):
                folder = tmp_path / f"group/{name}/shots_all/{trainer}/cfg/seed{seed}"
                save(folder, random.random(60) < 0.7)
                stored = json.loads((folder / "results.json").read_text())
                test = stored["metrics"]["test"]
                test |= {"worst_group_accuracy": 50.0 + seed, "gap": test["accuracy"] - 50 - seed}
                (folder / "results.json").write_text(json.dumps(stored))
    content = table_of(tmp_path, "group")
    found = gain_of(content, "average of 3")
    assert {name: one.method for name, one in found.items()} == {
        "mean": "bootstrap",
        "worst group": "t",
        "gap": "t",
    }
    assert content.verdict == "worst group" and content.gain_head[-4] == "p of worst group"


def test_targets_of_one_training_share_its_seeds(tmp_path, monkeypatch):
    asked = []
    monkeypatch.setattr(
        gains, "hierarchical", lambda *a, **k: (asked.append((len(a[0]), a[2], k)), (0.0, 1.0))[1]
    )
    random = np.random.default_rng(4)
    for trainer in ("CoOp", "CraftCoOp"):
        for seed in (1, 2):
            for part in ("ood/train", "ood/test_line", "ood/test_other"):
                run = tmp_path / part / "a_to_line/shots_8" / trainer / f"cfg/seed{seed}"
                save(run, random.random(50) < 0.6)
    found = gain_of(table_of(tmp_path, "ood"), "a_to_line")
    assert asked == [(2, False, {"same_runs": True})]
    assert {name: one.method for name, one in found.items()}["average"] == "bootstrap"
    assert found["source"].method == "t"


def test_tests_of_the_same_images_are_drawn_together(tmp_path):
    """Targets that show the same pictures say once how much pictures matter."""
    random = np.random.default_rng(4)
    hard = random.random(60)
    for trainer, level in (("CoOp", 0.5), ("CraftCoOp", 0.55)):
        for seed in (1, 2, 3):
            right = hard + 0.1 * random.normal(size=60) < level
            for part in ("ood/train", "ood/test_line", "ood/test_other"):
                for top, images in (("same", "all"), ("own", "")):
                    run = tmp_path / top / part / "a_to_line/shots_8" / trainer / f"cfg/seed{seed}"
                    save(run, right, images=images)
    width = {}
    for top in ("same", "own"):
        found = gain_of(table_of(tmp_path / top, "ood"), "a_to_line")["average"]
        assert found.method == "bootstrap"
        width[top] = found.high - found.low
        (power,) = [note for note in table_of(tmp_path / top, "ood").notes if "power" in note]
        assert f"({found.spread:.2f} points, images counted in), a t test of 3" in power
    alone = statistics.hierarchical(
        [
            [
                statistics.part(
                    *(
                        [hits(tmp_path / "own/ood/test_line", trainer, seed) for seed in (1, 2, 3)]
                        for trainer in ("CraftCoOp", "CoOp")
                    ),
                    np.arange(60),
                )
            ]
        ],
        lambda x: x[..., 0],
        over_data_sets=False,
        same_runs=True,
    )
    assert width["same"] == pytest.approx(alone[1] - alone[0])
    assert width["own"] < 0.9 * width["same"]


def hits(root: Path, trainer: str, seed: int) -> np.ndarray:
    run = root / "a_to_line/shots_8" / trainer / f"cfg/seed{seed}"
    record = json.loads((run / "results.json").read_text())
    return outcomes.read_hits(run, "test", record).correct


# Verdicts and notes


def write(root: Path, dataset: str, trainer: str, values: dict, part: str = "train_base") -> None:
    for seed, value in values.items():
        folder = place(root, part, dataset, trainer, seed)
        folder.mkdir(parents=True)
        content = {"complete": True, "metrics": {"test": {"accuracy": value}}, "config": {}}
        (folder / "results.json").write_text(json.dumps(content))


def decided(root: Path, **differences: list[float]) -> results.Tables:
    """A table of few-shot runs: {data set: gains of the seeds}."""
    for name, values in differences.items():
        for trainer, more in (("CoOp", [0.0] * len(values)), ("CraftCoOp", values)):
            for seed, gain in enumerate(more, 1):
                folder = root / name / trainer / f"cfg_4shots/seed{seed}"
                folder.mkdir(parents=True)
                metrics = {"test": {"accuracy": 50.0 + gain}}
                record = {"complete": True, "metrics": metrics, "config": {}}
                (folder / "results.json").write_text(json.dumps(record))
    return table_of(root, "few_shot")


def test_verdicts_are_those_that_hold_after_holm(tmp_path):
    """maybe has p 0.047, and so has the average, in which up and down cancel: twice is too much."""
    content = decided(
        tmp_path, up=[5.0, 5.2, 4.9, 5.1], maybe=[0.3, 2.0, 3.0, 2.0], down=[-5.0, -5.2, -4.9, -5.1]
    )
    found = {row.dataset: line["4 shots"] for row, line in zip(content.gaining, content.gains)}
    assert {name: one.verdict("4 shots") for name, one in found.items()} == {
        "up": "gain",
        "maybe": "open",
        "down": "loss",
        "average of 3": "open",
    }
    assert found["maybe"].p < 0.05 < found["maybe"].p_holm
    adjusted = statistics.holm([one.p for one in found.values()])
    assert [one.p_holm for one in found.values()] == adjusted
    lines = {line[0]: line[-4:] for line in content.gain_lines}
    assert lines["up"] == ["<0.001", "<0.001", "gain", "4"]
    assert lines["maybe"][2:] == ["open", "4"]
    assert any(
        note.startswith(
            "4 comparisons: the gains in 4 shots of this table; p is two-sided, Holm's correction "
            "is for all of them, and a verdict other than open needs p of at most 0.05 after it"
        )
        for note in content.notes
    )


def test_of_tables_without_any_effect_at_most_5_percent_have_a_verdict():
    """Six structures on six data sets and their averages: 42 comparisons of four seeds."""
    random, tables, wrong = np.random.default_rng(6), 100, 0
    for _ in range(tables):
        pairs, values = [], random.normal(60, 2, (2, 6, 6, 4))
        for structure in range(6):
            ours, theirs = (
                [
                    protocols.Row(
                        name, f"{side}{structure}", "c", "8", {"new": dict(enumerate(one))}
                    )
                    for name, one in zip(SETS, values[number, structure])
                ]
                for number, side in enumerate(("Craft", ""))
            )
            means = [
                protocols.averages(protocols.PROTOCOLS["base2new"], rows, ["new"])[0]
                for rows in (ours, theirs)
            ]
            pairs += [*zip(ours, theirs), *zip(*means)]
        found, _ = gains.compared(pairs, ["new"])
        assert len(found) == 42 and found[-1]["new"].units == "data sets"
        wrong += any(line["new"].holds for line in found)
    assert wrong / tables <= 0.05 + 2 * math.sqrt(0.05 * 0.95 / tables)


def test_a_smaller_gap_is_a_gain_and_without_a_spread_nothing_holds():
    seeds = (1, 2, 3)
    one = gains.Gain(-2.0, seeds, 0.1, -2.2, -1.8, 0.001, 0.002)
    assert one.verdict("gap") == "gain" and one.verdict("H") == "loss"
    assert gains.Gain(-2.0, seeds, 0.1, -2.2, 0.1, 0.001, 0.002).verdict("H") == "open"
    assert gains.Gain(-2.0, seeds, 0.1, -2.2, -1.8, 0.03, 0.06).verdict("H") == "open"
    assert (
        gains.Gain(-2.0, (1,)).verdict("H") == "open" and gains.Gain(-2.0, (1,)).text() == "-2.00"
    )


def test_equal_gains_of_all_seeds_are_no_proof(tmp_path):
    content = decided(tmp_path, one=[2.0, 2.0, 2.0])
    (line,) = content.gains
    assert line["4 shots"].p == 1.0 and line["4 shots"].verdict("4 shots") == "open"
    assert content.gain_lines[0][2:] == ["+2.00 [+2.00, +2.00]", "1.000", "1.000", "open", "3"]


def test_the_power_of_what_was_run_stands_under_the_table(tmp_path):
    """Standard deviations 1, 2, 3 of three seeds: the median is 2."""
    content = decided(tmp_path, a=[0.0, 1.0, 2.0], b=[0.0, 2.0, 4.0], c=[0.0, 3.0, 6.0])
    seen, first = 100 * statistics.power(2.0, 3), 100 * statistics.power(2.0, 3, level=0.05 / 4)
    assert (
        "power: at the median standard deviation of the seeds' gains in 4 shots on a data set "
        f"(2.00 points), a t test of 3 seeds sees a true gain of +1.5 in {seen:.0f} of 100 cases "
        f"({first:.0f} after Holm's correction for 4); {statistics.units_needed(2.0)} seeds are "
        "needed for 80 of one alone"
    ) in content.notes


def test_one_seed_has_no_interval(tmp_path):
    content = decided(tmp_path, one=[2.0])
    assert content.gain_lines[0][-5:] == ["+2.00", "", "", "open", "1"]
    assert [note for note in content.notes if "gain" in note] == [
        "gains of one seed have no interval and no p value"
    ]
    row = json.loads(results.as_json(content))["rows"][-1]
    assert row["cells"]["4 shots"]["gain"] | {"seeds": 0} == {
        "mean": 2.0,
        **dict.fromkeys(["low", "high", "p", "p_holm", "standard_deviation"]),
        "verdict": "open",
        "interval": "",
        "seeds": 0,
    }


def test_all_files_hold_the_interval_and_both_p(tmp_path):
    study(tmp_path / "runs")
    out = tmp_path / "t"
    assert results.main(["base2new", str(tmp_path / "runs"), "--out", str(out)]) == 0
    content = table_of(tmp_path / "runs")
    found = gain_of(content, "average of 6")["H"]
    with open(tmp_path / "t.csv", newline="") as file:
        lines = [line for line in csv.DictReader(file) if line["data set"] == "average of 6"]
    (line,) = [one for one in lines if one["column"] == "H" and one["trainer"] == "CraftCoOp"]
    for name, value in (("low", found.low), ("high", found.high), ("p", found.p)):
        assert float(line[f"gain {name}"]) == pytest.approx(value, abs=1e-4)
    assert float(line["gain p Holm"]) == pytest.approx(found.p_holm, abs=1e-4)
    assert line["gain interval"] == "bootstrap over data sets, seeds and images"
    for suffix in ("md", "tex"):
        text = (tmp_path / f"t.{suffix}").read_text()
        assert found.text() in text and "p of H" in text and "7 comparisons" in text
    rows = json.loads((tmp_path / "t.json").read_text())["rows"]
    cells = [row["cells"]["H"] for row in rows if row["dataset"] == "average of 6"]
    assert cells[-1]["gain"]["low"] == found.low and cells[-1]["gain"]["p_holm"] == found.p_holm


def test_averages_alone_are_the_comparisons_of_their_table(tmp_path, capsys):
    study(tmp_path / "runs")
    whole = table_of(tmp_path / "runs")
    command = ["base2new", str(tmp_path / "runs"), "--averages", "--out", str(tmp_path / "t")]
    assert results.main(command) == 0
    out = capsys.readouterr().out
    assert "note: 1 comparison: the gains in H of this table" in out and "| one " not in out
    # By hand: the jackknife's error of H times the root of the number of data sets.
    one = gain_of(whole, "average of 6")["H"]
    width = statistics.t_test(one.mean, one.spread / 6**0.5, 6)
    assert width[2] == pytest.approx(one.p) and one.count == 6
    assert f"gains in H over the data sets ({one.spread:.2f} points), a t test of 6 data" in out
    assert f"gain of +1.5 in {100 * statistics.power(one.spread, 6):.0f} of 100 cases" in out
    table = json.loads((tmp_path / "t.json").read_text())
    assert {row["dataset"] for row in table["rows"]} == {"average of 6"}
    found = table["rows"][-1]["cells"]["H"]["gain"]
    assert (found["mean"], found["low"], found["p"]) == (one.mean, one.low, one.p)
    assert found["p_holm"] == found["p"] <= one.p_holm
    with open(tmp_path / "t_runs.csv") as file:
        assert len(file.readlines()) > 6  # all runs that the averages are of


def test_pictures_of_gains(tmp_path, capsys):
    study(tmp_path / "runs", SETS[:2])
    drawn = tmp_path / "gains.png"
    command = ["base2new", str(tmp_path / "runs"), "--plot-gains", str(drawn)]
    assert results.main(command) == 0 and Image.open(drawn).size[0] > 400
    assert f"picture of gains: {drawn}\n" in capsys.readouterr().out
    height = Image.open(drawn).size[1]
    assert results.main([*command, "--averages"]) == 0 and Image.open(drawn).size[1] < height
    study(tmp_path / "one", SETS[:1])
    capsys.readouterr()
    assert results.main(["base2new", str(tmp_path / "one"), *command[2:], "--averages"]) == 2
    assert "--averages shows averages over data sets, but there are none: leave it out" in (
        capsys.readouterr().err
    )
    write(tmp_path / "alone", "one", "CoOp", {1: 50.0, 2: 51.0})
    assert results.main(["base2new", str(tmp_path / "alone"), *command[2:]]) == 2
    assert capsys.readouterr().err == (
        f"error: --plot-gains is '{drawn}', but no row has a baseline: leave the option out, or "
        "give folders with runs of CRAFT and of the baseline\n"
    )
    assert results.main([*command[:3], "x.foo"]) == 2
    assert "--plot-gains is 'x.foo': give a name that ends in .png" in capsys.readouterr().err


def test_the_report_colours_verdicts_and_nothing_else(tmp_path):
    content = decided(
        tmp_path / "runs", up=[5.0, 5.2, 4.9, 5.1], maybe=[0.3, 2.0, 3.0, 2.0], none=[1.0, -1.0] * 2
    )
    page = tmp_path / "page.html"
    assert report.main([str(tmp_path / "runs"), "--out", str(page)]) == 0
    text = page.read_text()
    held = [line["4 shots"] for line in content.gains if line["4 shots"].holds]
    assert len(held) == 2 < len(content.gains)  # up, and the average
    assert '<td class="up">gain</td>' in text and text.count('class="up"') == 4
    assert '<td class="up">+5.05 [' in text and 'class="down"' not in text


def test_files_are_read_once_and_only_for_rows_with_a_gain(tmp_path, monkeypatch):
    study(tmp_path)
    save(place(tmp_path, "train_base", "one", "ZeroshotCLIP", 1), np.arange(120) < 60)
    read, own = [], outcomes.read_hits
    monkeypatch.setattr(
        outcomes, "read_hits", lambda folder, *a: (read.append(folder), own(folder, *a))[1]
    )
    content = table_of(tmp_path)
    for text in (results.as_text, results.as_csv, results.as_json, results.as_latex):
        text(content)
    assert len(read) == len(set(read)) == 6 * 2 * 2 * 3
    assert not [path for path in read if "Zeroshot" in str(path)]


def test_tests_of_one_training_are_one_unit():
    def row(name: str, source: str):
        return SimpleNamespace(dataset=name, run=SimpleNamespace(source=source))

    own = [row(name, name) for name in "abcde"]
    shifted = [row("a_line_from_a", "a"), row("a_one_from_a", "a")]
    assert not gains._share(own) and gains._share(own + shifted)
    assert len({gains._trained_on(one) for one in own + shifted}) == 5
    assert not gains._share(shifted)  # one training alone: seeds are the units, as for one set
