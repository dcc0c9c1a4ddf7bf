"""Further metrics of a test against slow loops; what TEST.METRICS changes, and what it leaves
alone.
"""

import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from test_config import defaults

from dassl.config import config_hash, merge_from_list
from dassl.engine.trainer import check_basics
from dassl.evaluation import METRICS, Classification, build_evaluator
from dassl.evaluation.openworld import openworld_auc
from dassl.utils import UserError


def batches(images: int, classes: int):
    generator = torch.Generator().manual_seed(images)
    scores = 3 * torch.randn(images, classes, generator=generator)
    return scores, torch.randint(classes, (images,), generator=generator)


def value_of(name: str, scores, labels, size: int = 7) -> float:
    metric = METRICS.get(name)()
    for start in range(0, len(labels), size):
        metric.update(scores[start : start + size], labels[start : start + size])
    return metric.value()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("classes", [2, 5, 40])
def test_top5_accuracy_is_that_of_a_loop(classes, dtype):
    scores, labels = batches(50, classes)
    hits = 0
    for row, label in zip(scores.tolist(), labels.tolist(), strict=True):
        hits += label in sorted(range(classes), key=lambda column: -row[column])[:5]  # noqa: B023
    assert value_of("top5_accuracy", scores.to(dtype), labels) == pytest.approx(2 * hits)
    assert classes > 5 or hits == 50


@pytest.mark.parametrize("classes", [2, 5, 40])
def test_calibration_error_is_that_of_a_loop(classes):
    scores, labels = batches(60, classes)
    bins: dict[int, list] = {}
    for row, label in zip(scores.double().softmax(1).tolist(), labels.tolist(), strict=True):
        confidence = max(row)
        number = next(n for n in range(15) if confidence <= (n + 1) / 15 + 1e-12)
        bins.setdefault(number, []).append((confidence, row.index(confidence) == label))
    error = 0.0
    for members in bins.values():
        mean = sum(confidence for confidence, _ in members) / len(members)
        accuracy = sum(hit for _, hit in members) / len(members)
        error += len(members) / 60 * abs(accuracy - mean)
    assert value_of("calibration_error", scores, labels) == pytest.approx(100 * error)


@pytest.mark.parametrize("classes", [2, 40])
def test_negative_log_likelihood_is_that_of_a_loop(classes):
    scores, labels = batches(50, classes)
    total = 0.0
    for row, label in zip(scores.tolist(), labels.tolist(), strict=True):
        total += math.log(sum(math.exp(score - row[label]) for score in row))
    assert value_of("negative_log_likelihood", scores, labels) == pytest.approx(total / 50)


def test_negative_log_likelihood_of_known_answers():
    name, labels = "negative_log_likelihood", torch.tensor([0, 1])
    assert value_of(name, torch.zeros(2, 4), labels) == pytest.approx(math.log(4))
    assert value_of(name, torch.eye(2) * math.log(3), labels) == pytest.approx(math.log(4 / 3))
    assert value_of(name, torch.eye(2) * 1e4, 1 - labels) == pytest.approx(1e4)  # finite
    half = (torch.eye(2) * math.log(3)).half()
    assert value_of(name, half, labels) == pytest.approx(math.log(4 / 3), rel=1e-3)
    assert not METRICS.get(name).higher_is_better and METRICS.get(name)().value() == 0.0


def test_calibration_of_certain_answers():
    scores = torch.eye(4) * 1000
    assert value_of("calibration_error", scores, torch.arange(4)) == pytest.approx(0)
    assert value_of("calibration_error", scores, torch.tensor([1, 2, 3, 0])) == pytest.approx(100)


def test_a_metric_is_in_the_result_of_a_test_and_starts_anew_in_the_next(capsys):
    cfg = defaults()
    merge_from_list(cfg, ["TEST.METRICS", "('top5_accuracy', 'calibration_error')"])
    evaluator = Classification(cfg)
    scores, labels = batches(20, 9)
    plain = Classification(defaults())
    for _ in range(2):
        evaluator.reset()
        evaluator.process(scores, labels)
        results = evaluator.evaluate()
        assert results["top5_accuracy"] == value_of("top5_accuracy", scores, labels)
        assert results["calibration_error"] == value_of("calibration_error", scores, labels)
    assert "* top5_accuracy: " in capsys.readouterr().out
    plain.process(scores, labels)
    assert list(results)[:3] == list(plain.evaluate()) and next(iter(results)) == "accuracy"


def test_metrics_change_the_hash_only_where_some_are_named():
    cfg, other = defaults(), defaults()
    merge_from_list(other, ["TEST.METRICS", "('top5_accuracy',)"])
    assert config_hash(cfg) != config_hash(other)
    del cfg.TEST["METRICS"]  # a configuration of before
    assert config_hash(cfg) == config_hash(defaults())


def test_only_a_known_metric_of_which_more_is_better_selects_a_model():
    cfg = defaults()
    with pytest.raises(
        UserError, match="TEST.METRICS is .*give a list of some of calibration_error"
    ):
        merge_from_list(cfg, ["TEST.METRICS", "('top6_accuracy',)"])
    merge_from_list(cfg, ["TEST.METRICS", "('top5_accuracy', 'calibration_error')"])
    merge_from_list(cfg, ["TEST.SELECT_BY", "top5_accuracy"])
    check_basics(cfg)
    merge_from_list(cfg, ["TEST.SELECT_BY", "calibration_error"])
    with pytest.raises(UserError, match="choose one of accuracy, .*, top5_accuracy$"):
        check_basics(cfg)


@pytest.mark.parametrize("name", ["accuracy", "worst_group_accuracy"])
def test_no_metric_takes_the_place_of_a_result_that_every_test_has(name):
    with pytest.raises(KeyError, match=f"keeps the name '{name}': give another"):
        METRICS.register(name)(type("Mine", (), {}))
    assert name not in METRICS


def test_a_list_given_as_a_word_gets_the_advice_of_its_rule():
    with pytest.raises(UserError, match="TEST.METRICS is 'top5_accuracy': give a list of some of"):
        merge_from_list(defaults(), ["TEST.METRICS", "top5_accuracy"])


def test_present_metrics_are_printed_as_percentages(capsys):
    cfg = defaults()
    merge_from_list(cfg, ["TEST.METRICS", "('top5_accuracy', 'calibration_error')"])
    evaluator = Classification(cfg)
    evaluator.process(torch.eye(8) * 1000, torch.arange(8))
    evaluator.evaluate()
    assert "* top5_accuracy: 100.0\n* calibration_error: 0.0\n" in capsys.readouterr().out


# Base and new classes together


@pytest.fixture
def openworld():
    """An evaluator of four classes, of which the first two are base classes."""
    cfg = defaults()
    merge_from_list(cfg, ["TEST.EVALUATOR", "OpenWorld"])
    evaluator = build_evaluator(cfg)
    evaluator.use_dataset(SimpleNamespace(base_labels=frozenset({0, 1}), num_classes=4))
    return evaluator


def test_the_open_world_by_hand(openworld):
    """Probabilities of each image: base, base, new, new."""
    rows = [
        ([0.7, 0.1, 0.1, 0.1], 0),  # right
        ([0.1, 0.3, 0.2, 0.4], 1),  # wrong of all classes, right among base classes
        ([0.2, 0.1, 0.6, 0.1], 2),  # right
        ([0.5, 0.1, 0.1, 0.3], 3),  # taken for a base class; right among new ones
        ([0.1, 0.1, 0.7, 0.1], 3),  # wrong among new ones, too
    ]
    scores, labels = (torch.tensor(part) for part in zip(*rows, strict=True))
    openworld.process(scores.log()[:3], labels[:3])
    openworld.process(scores.log()[3:], labels[3:])
    results = openworld.evaluate()
    assert results["accuracy"] == pytest.approx(40)
    assert results["base_accuracy"] == pytest.approx(50)
    assert results["new_accuracy"] == pytest.approx(100 / 3)
    # Base images look like base by 0.7 and 0.3, new ones by 0.2, 0.5 and 0.1: 5 of 6 pairs.
    assert results["auroc"] == pytest.approx(500 / 6)
    assert results["openworld_auc"] == pytest.approx(300 / 6)  # 0.7 > 0.2, 0.7 > 0.5, 0.3 > 0.2


def test_the_open_world_is_that_of_a_slow_count():
    generator = np.random.default_rng(0)
    for _ in range(20):
        base, new = ((generator.integers(0, 5, n) / 5, generator.random(n) < 0.6) for n in (17, 11))
        pairs = [
            ((b > n) + 0.5 * (b == n), found_b and found_n)
            for b, found_b in zip(*base, strict=True)
            for n, found_n in zip(*new, strict=True)
        ]
        auroc, auc = openworld_auc(base, new)
        assert auroc == pytest.approx(100 * np.mean([above for above, _ in pairs]))
        assert auc == pytest.approx(100 * np.mean([above * both for above, both in pairs]))
    nothing = np.zeros(11, bool)
    assert openworld_auc(base, (new[0], nothing))[1] == 0


@pytest.mark.parametrize("labels", [None, frozenset(), frozenset(range(4))])
def test_the_open_world_needs_both_halves(openworld, labels):
    with pytest.raises(UserError, match="needs base and new classes together, but DATASET.SUBS"):
        openworld.use_dataset(SimpleNamespace(base_labels=labels, num_classes=4))


def test_the_open_world_needs_images_of_both_halves(openworld):
    openworld.process(torch.eye(4)[:2], torch.arange(2))
    with pytest.raises(UserError, match="has no image of a new class"):
        openworld.evaluate()
