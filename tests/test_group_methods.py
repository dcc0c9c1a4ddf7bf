"""GroupDRO, DFR and orthogonal calibration: by hand, by slow loops, and what users get wrong."""

import json
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from tiny_run import CLASSES, make_trainer, write_table

from dassl import outcomes
from dassl.utils import UserError
from trainers.dfr import Labelled, Scale, _regression, balanced, fit, halves, strength, worst_group
from trainers.orth_cal import projection
from trainers.step import Step
from trainers.terms.group_dro import GroupDRO

DRO = ("TRAINER.TERMS", ("GroupDRO",))


def on_groups(folder, name, *options):
    """On two domains, photo and sketch."""
    root = str(write_table(folder))
    return make_trainer(folder, name, "DATASET.NAME", "CSV", "DATASET.ROOT", root, *options)


# GroupDRO


def dro_of(trainer) -> GroupDRO:
    return trainer.terms["group_dro"]


def step_on(trainer) -> Step:
    batch = next(iter(trainer.train_loader_x))
    trainer.batch_idx, trainer.num_batches = 0, 9
    return trainer.step_of(batch, None)


def test_group_dro_stands_in_the_place_of_the_cross_entropy(tmp_path):
    options = ("DATALOADER.TRAIN_X.BATCH_SIZE", 12, "TRAINER.GROUP_DRO.STEP", 0.5)
    trainer = on_groups(tmp_path, "CoOp", *DRO, *options, "TRAINER.GROUP_DRO.ADJUSTMENT", 2.0)
    step = step_on(trainer)
    losses = F.cross_entropy(step.features.logits(), step.labels, reduction="none").tolist()
    groups = list(zip(step.labels.tolist(), step.domains.tolist(), strict=True))
    weights = {(label, domain): 1 / 8 for label in range(4) for domain in range(2)}
    means = {}
    for group in set(groups):
        own = [loss for loss, other in zip(losses, groups, strict=True) if other == group]
        means[group] = sum(own) / len(own) + 2.0 / 5**0.5  # five training images of each group
    grown = {g: w * np.exp(0.5 * means.get(g, 0.0)) for g, w in weights.items()}
    weights = {g: w / sum(grown.values()) for g, w in grown.items()}
    slow = sum(weights[group] * mean for group, mean in means.items())
    terms = trainer.loss_terms(step)
    assert list(terms) == ["group_dro"] and terms["group_dro"].item() == pytest.approx(slow)
    expected = [weights[group] for group in sorted(weights)]
    assert dro_of(trainer).weights.tolist() == pytest.approx(expected)
    terms["group_dro"].backward()
    assert trainer.model.ctx.grad.abs().max() > 0


def in_a_batch(trainer, *wanted) -> Step:
    """A step of images whose (label, domain) are those wanted."""
    step = step_on(trainer)
    groups = list(zip(step.labels.tolist(), step.domains.tolist(), strict=True))
    places = [groups.index(group) for group in wanted]
    logits = step.features.logits()[places].detach()
    step.features.logits = lambda: logits
    step.labels, step.domains = step.labels[places], step.domains[places]
    return step


def test_the_adjustment_also_counts_for_groups_that_a_batch_lacks(tmp_path):
    """As published (group_DRO, loss.py), where each of eight groups has five training images."""
    options = ("DATALOADER.TRAIN_X.BATCH_SIZE", 40, "TRAINER.GROUP_DRO.STEP", 0.5)
    trainer = on_groups(tmp_path, "CoOp", *DRO, *options, "TRAINER.GROUP_DRO.ADJUSTMENT", 2.0)
    step = in_a_batch(trainer, (0, 0), (0, 0), (2, 1))
    logits = step.features.logits()
    logits[:] = 0.0  # each of four classes has 1/4
    present, absent = np.log(4) + 2 / np.sqrt(5), 2 / np.sqrt(5)
    total = 2 * np.exp(0.5 * present) + 6 * np.exp(0.5 * absent)
    dro = dro_of(trainer)
    value = dro(step)
    heavy, light = np.exp(0.5 * present) / total, np.exp(0.5 * absent) / total
    expected = [heavy, light, light, light, light, heavy, light, light]  # (0, 0) and (2, 1)
    assert dro.weights.tolist() == pytest.approx(expected)
    assert value.item() == pytest.approx(2 * heavy * present + 6 * light * absent)


def test_groups_of_few_images_gain_weight_by_the_adjustment_alone(tmp_path):
    options = ("DATALOADER.TRAIN_X.BATCH_SIZE", 40, "TRAINER.GROUP_DRO.STEP", 0.5)
    trainer = on_groups(tmp_path, "CoOp", *DRO, *options)
    dro = dro_of(trainer)
    dro.adjustment = torch.tensor([0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 1.0, 3.0])
    dro(in_a_batch(trainer, (0, 0)))
    weights = dro.weights
    assert (weights[7] / weights[6]).item() == pytest.approx(np.exp(0.5 * (3 - 1)))
    assert (weights[6] / weights[1]).item() == pytest.approx(np.exp(0.5))


def test_the_worst_group_gains_weight(tmp_path):
    options = ("TRAINER.GROUP_DRO.STEP", 1.0, "DATALOADER.TRAIN_X.BATCH_SIZE", 40)
    trainer = on_groups(tmp_path, "CoOp", *DRO, *options)
    step = step_on(trainer)
    losses = F.cross_entropy(step.features.logits(), step.labels, reduction="none")
    groups = [2 * label + domain for label, domain in zip(step.labels, step.domains, strict=True)]
    means = torch.stack([losses[[g == group for g in groups]].mean() for group in range(8)])
    trainer.loss_terms(step)
    weights = dro_of(trainer).weights
    assert weights.sum().item() == pytest.approx(1)
    assert weights.argsort().tolist() == means.argsort().tolist() and weights.max() > 1.05 / 8


def test_a_large_step_stays_finite(tmp_path):
    trainer = on_groups(tmp_path, "CoOp", *DRO, "TRAINER.GROUP_DRO.STEP", 1000.0)
    for _ in range(3):
        assert trainer.loss_terms(step_on(trainer))["group_dro"].isfinite()
    assert dro_of(trainer).weights.isfinite().all()


def test_equal_weights_of_balanced_batches_are_the_cross_entropy(tmp_path):
    options = ("TRAINER.GROUP_DRO.STEP", 0.0, "DATALOADER.TRAIN_X.BATCH_SIZE", 8)
    sampler = ("DATALOADER.TRAIN_X.SAMPLER", "BalancedGroupSampler")
    trainer = on_groups(tmp_path, "MaPLe", *DRO, *options, *sampler)
    step = step_on(trainer)
    plain = F.cross_entropy(step.features.logits(), step.labels)
    assert trainer.loss_terms(step)["group_dro"].item() == pytest.approx(plain.item(), rel=1e-5)


def test_crafts_terms_stay_beside_group_dro(tmp_path):
    terms = on_groups(tmp_path, "CraftCoOp", *DRO)
    assert list(terms.loss_terms(step_on(terms))) == [
        *("craft_static", "craft_stochastic", "group_dro")
    ]


def test_a_run_that_goes_on_keeps_the_groups_weights(tmp_path):
    options = (*DRO, "TRAINER.GROUP_DRO.STEP", 0.5, "OPTIM.MAX_EPOCH", 3)
    options += ("TRAIN.CHECKPOINT_FREQ", 1, "OPTIM.LR", 0.01)
    whole = on_groups(tmp_path / "whole", "CoOp", *options)
    whole.train()
    half = on_groups(tmp_path / "cut", "CoOp", *options)
    half.max_epoch = 1
    half.train()
    rest = on_groups(tmp_path / "cut", "CoOp", *options)
    rest.train()
    assert rest.start_epoch == 1 and torch.equal(dro_of(rest).weights, dro_of(whole).weights)
    assert torch.equal(rest.model.ctx, whole.model.ctx)


def test_without_terms_that_hold_something_checkpoints_are_as_before(tmp_path):
    trainer = make_trainer(tmp_path, "CraftCoOp")
    assert trainer.extra_state() == {}


def test_group_dro_needs_groups(tmp_path):
    trainer = make_trainer(tmp_path, "CoOp", *DRO)
    with pytest.raises(UserError, match="needs groups, and the training images of TinyNoise have"):
        trainer.train()


# DFR


def dfr(folder, *options):
    return on_groups(folder, "DFR", "TRAINER.DFR.PREC", "fp32", "OPTIM.MAX_EPOCH", 1, *options)


def test_balanced_places_by_hand():
    groups = [(0, 0)] * 5 + [(0, 1)] * 2 + [(1, 0)] * 3
    places = balanced(groups, np.random.default_rng(0))
    assert len(set(places.tolist())) == 6
    assert [groups[place] for place in places] == [(0, 0)] * 2 + [(0, 1)] * 2 + [(1, 0)] * 2


def test_the_worst_group_by_hand():
    correct = np.array([1, 1, 0, 1, 0, 0, 1])
    groups = [(0, 0), (0, 0), (0, 0), (1, 0), (1, 0), (1, 1), (1, 1)]
    assert worst_group(correct, groups) == pytest.approx(1 / 2)


@pytest.mark.parametrize("classes", [2, 3])
def test_dfr_does_not_follow_the_attribute(classes):
    """The attribute is the loud feature and goes with the class in 9 of 10 images."""
    generator = np.random.default_rng(0)
    labels = generator.integers(0, classes, 900)
    domains = np.where(generator.random(900) < 0.9, labels, generator.integers(0, classes, 900))
    features = generator.normal(0, 0.3, (900, 2 * classes + 4))
    features[np.arange(900), labels] += 1.0
    features[np.arange(900), classes + domains] += 3.0
    images = Labelled(features, labels, domains)
    best = strength(*halves(images, 0), None, 0)
    weight, bias = fit(images, best, Scale.of(features), 10, 0)
    assert weight.shape == (classes, features.shape[1]) and bias.shape == (classes,)
    groups = list(zip(labels.tolist(), domains.tolist(), strict=True))
    found = worst_group((features @ weight.T + bias).argmax(1) == labels, groups)
    from sklearn.linear_model import LogisticRegression

    plain = LogisticRegression(C=0.01).fit(features, labels)
    assert found > 0.85 and found > 0.2 + worst_group(plain.predict(features) == labels, groups)


def test_dfr_by_a_slow_way():
    """The published order: a strength from halves, then draws on the scale of the training part."""
    from sklearn.preprocessing import StandardScaler

    generator = np.random.default_rng(1)
    labels, domains = generator.integers(0, 2, 80), generator.integers(0, 2, 80)
    features = generator.normal(0, 1, (80, 5)) + labels[:, None] * [1, 0, 0, 0, 0]
    train = generator.normal(3, 2, (50, 5))
    images = Labelled(features, labels, domains)
    inner, held = halves(images, 0)
    assert len(inner.labels) == len(held.labels) == 40
    best = strength(inner, held, None, 0)
    chosen = inner.take(balanced(inner.groups, np.random.default_rng(0)))
    inner_scaler = StandardScaler().fit(chosen.features)
    scores = []
    for c in (1.0, 0.7, 0.3, 0.1, 0.07, 0.03, 0.01):
        model = _regression(c, 2, 0)
        model.fit(inner_scaler.transform(chosen.features), chosen.labels)
        right = model.predict(inner_scaler.transform(held.features)) == held.labels
        groups = sorted(set(held.groups))
        member = np.array([groups.index(group) for group in held.groups])
        scores.append((min(right[member == one].mean() for one in range(4)), -len(scores), c))
    assert best == max(scores)[2]
    scaler, draws, layers = StandardScaler().fit(train), np.random.default_rng(0), []
    for _ in range(3):
        chosen = images.take(balanced(images.groups, draws))
        model = _regression(best, 2, 0)
        layers.append(model.fit(scaler.transform(chosen.features), chosen.labels))
    slope = np.mean([model.coef_[0] for model in layers], 0)
    slow = scaler.transform(features) @ slope + np.mean([model.intercept_[0] for model in layers])
    weight, bias = fit(images, best, Scale.of(train), 3, 0)
    logits = features @ weight.T + bias
    assert np.allclose(logits[:, 1] - logits[:, 0], slow, atol=1e-6)


def test_halves_of_which_one_lacks_a_group_choose_nothing():
    """One image of a group is in one of two halves only."""
    images = Labelled(np.zeros((5, 2)), np.array([0, 0, 0, 0, 1]), np.array([0, 0, 0, 0, 1]))
    lacking = [halves(images, seed) is None for seed in range(10)]
    assert any(lacking) and not all(lacking)


def test_the_layer_is_in_the_checkpoint(tmp_path):
    trainer = dfr(tmp_path)
    trainer.train()
    again = dfr(tmp_path, "EVAL_ONLY", True, "OUTPUT_DIR", str(tmp_path / "other"))
    assert not again.model.weight.any()
    again.load_model(str(tmp_path / "output"), epoch=1)
    assert torch.equal(again.model.weight, trainer.model.weight)
    results = json.loads((tmp_path / "output/results.json").read_text())
    assert again.test() == results["metrics"]["test"]["accuracy"]
    assert again.clip.learned_per_class() == ["weight", "bias"]


def test_what_dfr_refuses(tmp_path):
    with pytest.raises(UserError, match="DFR fits its layer without epochs and terms"):
        dfr(tmp_path, "OPTIM.MAX_EPOCH", 2)
    options = ("TRAINER.DFR.PREC", "fp32", "OPTIM.MAX_EPOCH", 1)
    with pytest.raises(UserError, match="PART is val, but TinyNoise has no such images: set it"):
        make_trainer(tmp_path, "DFR", *options)
    with pytest.raises(UserError, match="DFR needs groups, and the train images of TinyNoise"):
        make_trainer(tmp_path, "DFR", *options, "TRAINER.DFR.PART", "train")


# Orthogonal calibration


def drawn(generator, *shape):
    return torch.randn(*shape, generator=generator, dtype=torch.double)


def test_the_projection_takes_the_attributes_out():
    generator = torch.Generator().manual_seed(0)
    attributes, pairs = (drawn(generator, *shape) for shape in ((2, 12), (3, 2, 12)))
    plain = projection(attributes, pairs, 0.0)
    assert torch.allclose(attributes @ plain.t(), torch.zeros(2, 12).double(), atol=1e-10)
    assert torch.allclose(plain @ plain, plain, atol=1e-10)  # without pairs a projection
    calibrated = projection(attributes, pairs, 100.0)

    def gaps(matrix):
        moved = pairs @ matrix.t()
        return (moved[:, 0] - moved[:, 1]).norm(dim=1)

    assert (gaps(calibrated) < 0.2 * gaps(plain)).all()


def test_the_projection_minimises_what_the_paper_states():
    """|P - P0|² + λ mean |P (z_i - z_j)|²."""
    generator = torch.Generator().manual_seed(1)
    attributes, pairs = (drawn(generator, *shape) for shape in ((2, 6), (3, 2, 6)))
    out = projection(attributes, pairs, 0.0)
    found = projection(attributes, pairs, 5.0)
    gaps = pairs[:, 0] - pairs[:, 1]

    def objective(matrix):
        pulled = (gaps @ matrix.t()).square().sum(1).mean()
        return (matrix - out).square().sum() + 5.0 * pulled

    best = objective(found)
    for _ in range(50):
        other = found + 0.01 * drawn(generator, 6, 6)
        assert objective(other) > best


def test_the_calibrated_texts_do_not_see_the_attributes(tmp_path):
    trainer = on_groups(tmp_path, "OrthCal", "TRAINER.ORTH_CAL.ATTRIBUTES", ("photo", "sketch"))
    words = [f"This is a picture of a {name} background." for name in ("photo", "sketch")]
    attributes = trainer.backbone.encode_texts(words)
    texts = trainer.clip.text_features()
    assert texts.shape == (len(CLASSES), attributes.shape[1])
    assert (texts @ attributes.t()).abs().max() < 1e-5
    trainer.train()  # tests


def test_calibration_needs_two_attributes(tmp_path):
    with pytest.raises(UserError, match="needs two attributes or more, and TinyNoise names 0: set"):
        make_trainer(tmp_path, "OrthCal")
    with pytest.raises(UserError, match="needs two attributes or more, and TinyNoise names 1"):
        make_trainer(tmp_path, "OrthCal", "TRAINER.ORTH_CAL.ATTRIBUTES", ("land",))


# JTT


def errors_of_first(folder, name="CoOp", *options):
    """The output folder of a run that was tested on the images it trained on."""
    first = on_groups(folder, name, "OPTIM.MAX_EPOCH", 1, *options)
    first.train()
    output = str(folder / "errors")
    again = on_groups(folder, name, "EVAL_ONLY", True, "TEST.SPLIT", "train", "OUTPUT_DIR", output)
    again.load_model(str(folder / "output"), epoch=1)
    again.test()
    return again, output


def test_what_the_first_run_got_wrong_is_trained_on_more_often(tmp_path):
    again, errors = errors_of_first(tmp_path)
    items = again.dm.dataset.train_x
    found = outcomes.read(errors, "train", json.loads(Path(errors, "results.json").read_text()))
    assert found.label.tolist() == [item.label for item in items] and len(items) == 40
    wrong = {item.impath for item, hit in zip(items, found.correct, strict=True) if not hit}
    assert 0 < len(wrong) < 40
    options = ("DATASET.REPEAT_FROM", errors, "DATASET.REPEAT", 5)
    second = on_groups(tmp_path, "CoOp", *options, "OUTPUT_DIR", str(tmp_path / "second"))
    times = Counter(item.impath for item in second.dm.dataset.train_x)
    assert times == {item.impath: 5 if item.impath in wrong else 1 for item in items}
    second.train()
    record = json.loads((tmp_path / "second/results.json").read_text())
    assert "outcomes of DATASET.REPEAT_FROM" in record["data"]


@pytest.mark.parametrize("name", ["CoOp", "MaPLe"])
def test_a_test_of_the_training_images_is_that_of_the_same_images_as_a_test_part(tmp_path, name):
    """Not augmented, in their order, and without the training's cache of features."""
    again, errors = errors_of_first(tmp_path, name)
    metrics = json.loads(Path(errors, "results.json").read_text())["metrics"]["train"]
    transform = again.test_loader.dataset.transform
    hits = []
    for item in again.dm.dataset.train_x:
        image = transform(Image.open(item.impath).convert("RGB"))[None]
        hits.append(int(again.model_inference(image).argmax(1)) == item.label)
    assert metrics["total"] == 40 and metrics["accuracy"] == pytest.approx(100 * np.mean(hits))


def test_errors_that_cannot_be_repeated(tmp_path):
    _, errors = errors_of_first(tmp_path)
    with pytest.raises(UserError, match="was tested on other images than this run trains on .40 t"):
        on_groups(tmp_path, "CoOp", "DATASET.REPEAT_FROM", errors, "DATASET.NUM_SHOTS", 2)
    with pytest.raises(UserError, match="none', whose results.json cannot be read .No such file"):
        on_groups(tmp_path, "CoOp", "DATASET.REPEAT_FROM", str(tmp_path / "none"))
    Path(errors, "outcomes_train.npz").unlink()
    with pytest.raises(UserError, match="outcomes_train.npz' does not exist: run the test again"):
        on_groups(tmp_path, "CoOp", "DATASET.REPEAT_FROM", errors)
