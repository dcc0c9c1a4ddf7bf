"""tools.outcomes: numbers by hand and by slow loops, and every sentence on bad input."""

import csv
import json
import math
from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import multinomial

from dassl import files, outcomes, record
from tools import outcomes as tool

CLASSES = ("ant", "bee", "cat")


def write(folder, scores, labels, split="test", **changes):
    """A run's folder with the outcomes of scores (N, C) and labels (N,)."""
    scores, labels = np.asarray(scores, np.float32), np.asarray(labels, np.int32)
    highest = scores.max(1)
    ties = {"config_hash": "abc", "model_sha256": changes.pop("model", None), "loaded": None}
    if ties["model_sha256"]:  # a test of another folder's model
        ties["loaded"] = {"model_dir": "x", "epoch": 1}
    deployed = changes.pop("deployed", "last_step")
    saved = outcomes.Outcomes(
        split=split,
        classnames=CLASSES,
        ties=ties,
        paths=tuple(f"{split}/{number}.png" for number in range(len(labels))),
        label=labels,
        domain=np.zeros(len(labels), np.int32),
        predicted=scores.argmax(1).astype(np.int32),
        highest=highest,
        log_sum_exp=np.log(np.exp(scores.astype(float)).sum(1)).astype(np.float32),
        own=scores[np.arange(len(labels)), labels],
        scores=(scores - highest[:, None]).astype(np.float16),
    )
    saved = replace(saved, **changes)
    folder.mkdir(parents=True, exist_ok=True)
    with outcomes.place(folder, split).open("wb") as file:
        outcomes.write(file, saved)
    total, correct = len(labels), int(saved.correct.sum())
    content = {"complete": True, "config": {}, "metrics": {split: {"total": total}}, **ties}
    content["metrics"][split] |= {"correct": correct, "accuracy": 100.0 * correct / total}
    content |= {"trainer": "CoOp", "dataset": "x", "seed": 1, "wall_time_s": 1.0}
    content |= {"epochs": 0 if ties["loaded"] else 1, "deployed": deployed}
    (folder / record.NAME).write_text(json.dumps(content))
    return folder


TIES = {"config_hash": "abc", "model_sha256": None, "loaded": None}


def outcomes_of(folder, split):
    return outcomes.read(folder, split, TIES)


def drawn(number, seed=0, sharp=1.0):
    generator = np.random.default_rng(seed)
    labels = generator.integers(0, 3, number)
    scores = generator.normal(size=(number, 3)) + 1.2 * np.eye(3)[labels]
    return (sharp * scores).astype(np.float16), labels  # as exact as the file keeps them


def run(*words, code=0):
    assert tool.main(list(map(str, words))) == code


def test_numbers_by_hand(tmp_path, capsys):
    probabilities = [[0.8, 0.1, 0.1], [0.3, 0.6, 0.1], [0.2, 0.7, 0.1], [0.9, 0.05, 0.05]]
    folder = write(tmp_path / "a", np.log(probabilities), [0, 1, 0, 0])
    run(folder, "--json", tmp_path / "a.json")
    (line,) = json.loads((tmp_path / "a.json").read_text())["runs"]
    assert line["images"] == 4 and line["accuracy"] == pytest.approx(75)
    assert line["macro_accuracy"] == pytest.approx(100 * (2 / 3 + 1) / 2)  # no image of a cat
    # Four bins of one image each: |1 - 0.8|, |1 - 0.6|, |0 - 0.7|, |1 - 0.9|.
    assert line["calibration_error"] == pytest.approx(100 * (0.2 + 0.4 + 0.7 + 0.1) / 4, abs=1e-3)
    nll = -sum(map(math.log, (0.8, 0.6, 0.2, 0.9))) / 4
    assert line["negative_log_likelihood"] == pytest.approx(nll, rel=1e-3)
    assert "| 75.00" in capsys.readouterr().out


def test_the_calibration_error_is_that_of_a_slow_loop(tmp_path):
    scores, labels = drawn(300)
    answers = tool.read(write(tmp_path / "a", scores, labels), "test")
    probabilities = np.exp(scores.astype(float))
    probabilities /= probabilities.sum(1, keepdims=True)
    bins = [[] for _ in range(15)]
    for row, label in zip(probabilities, labels, strict=True):
        place = min(int(row.max() * 15), 14)
        bins[place].append((row.max(), float(row.argmax() == label)))
    slow = sum(abs(sum(c for c, _ in rows) - sum(hit for _, hit in rows)) for rows in bins if rows)
    assert tool.calibration_error(answers) == pytest.approx(100 * slow / 300, abs=1e-3)
    counted = [count for count, _, _ in tool.reliability(answers)]
    assert counted == [len(rows) for rows in bins]


def test_the_temperature_that_was_put_in_is_found(tmp_path, capsys):
    scores, labels = drawn(4000, seed=1)
    own = tool.fit_temperature(tool.read(write(tmp_path / "a", scores, labels), "test"))
    for factor in (0.5, 4.0):
        folder = write(tmp_path / str(factor), factor * scores, labels, "val")
        write(folder, factor * scores, labels)
        assert tool.fit_temperature(tool.read(folder, "val")) == pytest.approx(factor * own, 5e-3)
    record_both(folder)
    checkpoint(folder, "model.pth.tar-1", b"last")
    run(folder, "--temperature", "--json", tmp_path / "t.json")
    plain, warm = json.loads((tmp_path / "t.json").read_text())["runs"]
    assert warm["accuracy"] == plain["accuracy"] and warm["temperature"] > 2
    assert warm["negative_log_likelihood"] < plain["negative_log_likelihood"]
    assert warm["calibration_error"] < plain["calibration_error"]
    assert warm["temperature"] == pytest.approx(4 * own, 5e-3)
    assert f"temperature {warm['temperature']:.3f}" in capsys.readouterr().out


def test_a_temperature_from_test_images_is_refused(tmp_path, capsys):
    scores, labels = drawn(200)
    one = write(tmp_path / "one", scores, labels, model="m")
    paths = tuple(f"test/{number}.png" for number in range(199, 399))
    val = write(tmp_path / "val", scores, labels, "val", model="m", paths=paths)
    said = refused(capsys, one, "--temperature", val)
    assert "share 1 images, the first 'test/199.png'" in said and "without them" in said


def test_images_of_classes_without_a_score_are_refused(tmp_path, capsys):
    scores, labels = drawn(50)
    strange = np.where(np.arange(50) < 3, 7, labels).astype(np.int32)
    val = write(tmp_path / "val", scores, labels, "val", label=strange)
    write(val, scores, labels, label=strange)
    record_both(val)
    checkpoint(val, "model.pth.tar-1", b"x")
    words = "3 of 50 images of"
    assert words in refused(capsys, val, "--temperature")
    assert words in refused(capsys, val, "--confusion", tmp_path / "c.csv")


def checkpoint(folder, name, content):
    (folder / "prompt_learner").mkdir(exist_ok=True)
    (folder / "prompt_learner" / name).write_bytes(content)


def test_the_temperature_is_of_the_model_that_was_tested(tmp_path, capsys):
    """A training tells no checksum: its checkpoint does."""
    scores, labels = drawn(200)
    one, other = (write(tmp_path / name, scores, labels) for name in ("one", "other"))
    checkpoint(one, "model.pth.tar-1", b"one")
    checkpoint(other, "model.pth.tar-1", b"other")
    known = files.model_checksum(str(one), 1)
    val = write(tmp_path / "val", scores, labels, "val", model=known)
    run(one, "--temperature", val)
    assert "is of another model than" in refused(capsys, other, "--temperature", val)
    best = write(tmp_path / "best", scores, labels, deployed="best_val")
    write(best, scores, labels, "val", deployed="best_val")
    record_both(best)
    checkpoint(best, "model.pth.tar-1", b"last")
    checkpoint(best, "model-best.pth.tar", b"best")
    assert "is of another model than" in refused(capsys, best, "--temperature")
    write(best, scores, labels)
    (best / "prompt_learner/model.pth.tar-1").unlink()
    gone = f"the checkpoint of '{best}' is gone, so that nothing tells whether the validation part"
    assert gone in refused(capsys, best, "--temperature", val)


def test_the_temperature_of_a_model_without_training(tmp_path, capsys):
    """Zero-shot CLIP has no checkpoint: its weights and its options tell it."""
    scores, labels = drawn(200)

    def frozen(name, split, weights="0" * 64, **options):
        folder = write(tmp_path / name, scores, labels, split)
        path = folder / record.NAME
        content = json.loads(path.read_text())
        content["loaded"] = {"model_dir": "", "epoch": None}
        content["pretrained"] = {"sha256": weights}
        content["config"] = {"TRAINER": {"NAME": "ZeroshotCLIP", **options}}
        path.write_text(json.dumps(content))
        saved = replace(outcomes_of(folder, split), ties={**TIES, "loaded": content["loaded"]})
        with outcomes.place(folder, split).open("wb") as file:
            outcomes.write(file, saved)
        return folder

    one, val = frozen("one", "test"), frozen("val", "val", CACHED_TESTS=True)
    run(one, "--temperature", val)
    for other in (frozen("a", "val", "1" * 64), frozen("b", "val", ZSCLIP={"PREC": "bf16"})):
        assert "is of another model than" in refused(capsys, one, "--temperature", other)


def test_a_confidence_of_one_is_in_the_last_bin(tmp_path):
    scores = np.array([[40.0, 0, 0], [3.6, 0, 0]])  # probabilities 1 and 0.948
    answers = tool.read(write(tmp_path / "a", scores, [1, 0]), "test")
    second = 1 / (1 + 2 * math.exp(-float(np.float32(3.6))))
    expected = 100 * abs((1 + second) - 1) / 2
    assert tool.calibration_error(answers) == pytest.approx(expected, abs=1e-3)


def record_both(folder):
    """The metrics of both parts in one results.json, as a training with a validation test."""
    path = folder / record.NAME
    content = json.loads(path.read_text())
    for one, other in (("val", "test"), ("test", "val")):
        content["metrics"].setdefault(one, content["metrics"].get(other))
    path.write_text(json.dumps(content))


def test_an_ensemble_is_the_mean_of_the_probabilities(tmp_path):
    labels = drawn(50)[1]
    scores = [drawn(50, seed)[0] for seed in (1, 2, 3)]
    folders = [write(tmp_path / str(n), part, labels) for n, part in enumerate(scores)]
    together = tool.ensemble([tool.read(folder, "test") for folder in folders])
    each = [np.exp(part.astype(float)) for part in scores]
    mean = sum(part / part.sum(1, keepdims=True) for part in each) / 3
    assert np.allclose(np.exp(together.scores), mean, atol=2e-3)
    assert together.correct.tolist() == (mean.argmax(1) == labels).tolist()
    assert np.allclose(together.nll, -np.log(mean[np.arange(50), labels]), atol=5e-3)
    run(*folders, "--ensemble", "--json", tmp_path / "e.json")
    lines = json.loads((tmp_path / "e.json").read_text())["runs"]
    assert len(lines) == 4 and lines[-1]["name"] == "ensemble of 3"


def test_the_difference_of_two_runs(tmp_path, capsys):
    scores, labels = drawn(400)
    right = np.eye(3)[labels] * 9
    one = write(tmp_path / "one", right, labels)
    worse = right.copy()
    worse[:40] = np.eye(3)[(labels[:40] + 1) % 3] * 9
    other = write(tmp_path / "other", worse, labels)
    found = tool.difference(tool.read(one, "test"), tool.read(other, "test"))
    low, high = found.low, found.high
    assert found.mean == pytest.approx(10) and low < 10 < high and found.method == "bootstrap"
    error = 100 * math.sqrt(0.1 * 0.9 / 400)
    assert high - low == pytest.approx(2 * 1.96 * error, rel=0.1)
    same = tool.difference(*[tool.read(one, "test")] * 2)
    assert (same.mean, same.p, same.method) == (0, 1, "exact") and same.low < 0 < same.high
    run(one, "--versus", other)
    assert f"+10.00 [{low:+.2f}, {high:+.2f}], p < 0.001" in capsys.readouterr().out
    # Images of one cluster are drawn together: ten clusters of forty images are ten units.
    cluster = np.repeat(np.arange(10), 40).astype(np.int32)
    both = [
        tool.read(write(tmp_path / name, part, labels, cluster=cluster), "test")
        for name, part in (("c1", right), ("c2", worse))
    ]
    wide = tool.difference(*both)
    assert wide.mean == pytest.approx(10) and wide.high - wide.low > 3 * (high - low)
    assert wide.p == 1  # one cluster differs


def test_a_difference_that_is_the_same_everywhere_has_no_bootstrap(tmp_path, capsys):
    labels = np.zeros(12, int)
    right, wrong = np.eye(3)[labels] * 9, np.eye(3)[labels + 1] * 9
    for name, cluster in (("many", np.repeat(np.arange(4), 3)), ("single", np.zeros(12))):
        folders = [
            write(tmp_path / name / word, scores, labels, cluster=cluster.astype(np.int32))
            for word, scores in (("right", right), ("wrong", wrong))
        ]
        run(folders[0], "--versus", folders[1], "--json", tmp_path / "d.json")
        said = "+100.00, no interval: all clusters of images have this difference"
        assert said in capsys.readouterr().out
        (line,) = json.loads((tmp_path / "d.json").read_text())["differences"]
        p = 2 * 0.5 ** len(set(cluster))  # all clusters on one side
        assert (line["mean"], line["low"], line["high"], line["p"]) == (100, None, None, p)


@pytest.mark.parametrize(
    ("gained", "lost", "images", "p", "low", "high"),
    [
        # By hand: p is 2 / 2^4; the share of gains is at least 0.025^(1/4), as is that of
        # photos which differ, and both are at most 1.
        (4, 0, 4, 0.125, 2 * 0.025**0.25 - 1, 1),
        (6, 0, 6, 2 / 64, (2 * 0.025 ** (1 / 6) - 1) * 0.025 ** (1 / 6), 1),
        (0, 6, 6, 2 / 64, -1, (1 - 2 * 0.025 ** (1 / 6)) * 0.025 ** (1 / 6)),
        (0, 0, 4, 1, 0.025**0.25 - 1, 1 - 0.025**0.25),  # nothing differs: at most so many would
        (1, 1, 2, 1, 1 - 2 * 0.975**0.5, 2 * 0.975**0.5 - 1),
        # Clopper and Pearson's table: 0.35877 to 0.99579 for 5 of 6, up to 0.64565 for 6 of 16.
        (5, 1, 16, 14 / 64, -0.28246 * 0.64565, 0.99158 * 0.64565),
    ],
)
def test_the_exact_interval_by_hand(gained, lost, images, p, low, high):
    assert tool.mcnemar(gained, lost) == pytest.approx(p)
    assert tool.exact(gained, lost, images) == pytest.approx((100 * low, 100 * high), abs=0.01)


@pytest.mark.parametrize("images", [1, 2, 5, 12, 20])
def test_the_exact_interval_holds_95_percent_and_agrees_with_the_test(images):
    """Over all outcomes, for 21 x 21 pairs of true shares of images that differ and of gains."""
    cells = [(a, b) for a in range(images + 1) for b in range(images + 1 - a)]
    bounds = np.array([tool.exact(*cell, images) for cell in cells]) / 100
    for (gained, lost), (low, high) in zip(cells, bounds, strict=True):
        assert (low * high > 0) == (tool.mcnemar(gained, lost) <= tool.LEVEL)
        assert low <= (gained - lost) / images <= high
    for differ in np.linspace(0, 1, 21):
        for gains in np.linspace(0, 1, 21):
            shares = [differ * gains, differ * (1 - gains), 1 - differ]
            counts = np.array([(a, b, images - a - b) for a, b in cells])
            true = shares[0] - shares[1]
            inside = (bounds[:, 0] <= true + 1e-9) & (true - 1e-9 <= bounds[:, 1])
            assert multinomial.pmf(counts[inside], images, shares).sum() >= 0.95


def test_confusion_and_picture(tmp_path):
    scores, labels = drawn(90)
    folder = write(tmp_path / "a", scores, labels)
    files = ("--confusion", tmp_path / "c.csv", "--reliability", tmp_path / "r.png")
    run(folder, *files)
    head, *rows = csv.reader((tmp_path / "c.csv").open())
    assert head[1:] == list(CLASSES) and [row[0] for row in rows] == list(CLASSES)
    counts = np.array([[int(cell) for cell in row[1:]] for row in rows])
    slow = np.zeros((3, 3), int)
    for row, label in zip(scores, labels, strict=True):
        slow[label, row.argmax()] += 1
    assert (counts == slow).all()
    assert (tmp_path / "r.png").read_bytes().startswith(b"\x89PNG")


def refused(capsys, *words) -> str:
    run(*words, code=2)
    (line,) = capsys.readouterr().err.splitlines()
    return line


def test_what_is_refused(tmp_path, capsys):
    scores, labels = drawn(20)
    one = write(tmp_path / "one", scores, labels)
    other = write(tmp_path / "other", scores, (labels + 1) % 3)
    fewer = write(tmp_path / "fewer", scores[:9], labels[:9])
    for words in ((one, "--versus", other), (one, fewer, "--ensemble")):
        assert "were tested on different images or classes: --" in refused(capsys, *words)
    assert "holds no outcomes of a validation part: test the model" in refused(
        capsys, one, "--temperature"
    )
    val = write(tmp_path / "val", scores, labels, "val", model="another")
    gone = f"the checkpoint of '{one}' is gone, so that nothing tells"
    assert gone in refused(capsys, one, "--temperature", val)
    classes = np.zeros((20, 3), np.int32)
    most = write(tmp_path / "most", scores, labels, classes=classes)
    assert "holds the 10 highest of 3 scores of an image, and --ensemble needs all" in refused(
        capsys, most, one, "--ensemble"
    )
    assert "--ensemble has one run: give two or more" in refused(capsys, one, "--ensemble")
    picture = ("--reliability", tmp_path / "x.png")
    assert "are of one run: give one, or --ensemble" in refused(capsys, one, other, *picture)
    assert "give a name that ends in" in refused(capsys, one, "--reliability", tmp_path / "x.txt")
    assert "give the output folder of a run" in refused(capsys, tmp_path / "none")
    kept = (one / record.NAME).read_bytes()
    for name in (record.NAME, "outcomes_test.npz", "outcomes_val.npz"):
        assert f"--json is '{one / name}', which belongs to a run: give another" in refused(
            capsys, one, "--json", one / name
        )
    assert (one / record.NAME).read_bytes() == kept
    assert f"--json and --confusion are both '{tmp_path / 'x'}': give two names" in refused(
        capsys, one, "--json", tmp_path / "x", "--confusion", tmp_path / "x"
    )
    (one / record.NAME).write_text("{}")
    assert "is not readable as results" in refused(capsys, one)


def test_a_file_of_another_run_or_version_is_refused(tmp_path, capsys):
    scores, labels = drawn(20)
    one, other = (write(tmp_path / name, scores, labels) for name in ("one", "other"))
    content = json.loads((one / record.NAME).read_text())
    (one / record.NAME).write_text(json.dumps(content | {"model_sha256": "else"}))
    assert "is of another run than the results.json beside it" in refused(capsys, one)
    path = outcomes.place(other, "test")
    with np.load(path) as stored:
        arrays = dict(stored)
    about = json.loads(arrays["about"].tobytes()) | {"format": 99}
    arrays["about"] = np.frombuffer(json.dumps(about).encode(), np.uint8)
    np.savez_compressed(path, **arrays)
    assert "has format 99 and this version reads format 1" in refused(capsys, other)
