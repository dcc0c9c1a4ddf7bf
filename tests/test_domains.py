"""Two domains in training (train_u, groups): MMD in every structure, samplers, the group evaluator,
selection by it.
"""

import functools
import json
import operator
import os.path as osp
import random
import types
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from test_craft_mmd import released_mmd
from tiny_run import CLASSES, STRUCTURES, TinyNoise, make_cfg, make_trainer

import trainers
from dassl.config import get_cfg_default, merge_from_dict
from dassl.data.datasets import DATASET_REGISTRY, DatasetBase, Datum
from dassl.data.samplers import build_sampler
from dassl.evaluation import GroupClassification, build_evaluator
from dassl.utils import UserError
from datasets.base import labelled_like
from train import read_config
from trainers.craft.discrepancy import DomainDiscrepancy
from trainers.craft.mmd import group_mmd2, mmd2, relative
from trainers.views import encode_training_images_once

ROOT = Path(__file__).resolve().parent.parent
CRAFT = [f"Craft{name}" for name in STRUCTURES]
OFF = ("TRAINER.CRAFT.LAMBDA_STATIC", 0.0, "TRAINER.CRAFT.LAMBDA_STOCHASTIC", 0.0)
MMD = ("TRAINER.CRAFT.LAMBDA_MMD", 2.0, "TRAINER.CRAFT.MMD.DOMAINS")


@DATASET_REGISTRY.register()
class TwoDomains(TinyNoise):
    """TinyNoise whose images alternate between two domains, and inverted ones without labels."""

    domain_names = ("day", "night")
    invert = 255

    def __init__(self, cfg):
        super().__init__(cfg)
        train, test = (
            [replace(item, domain=number % 2) for number, item in enumerate(items)]
            for items in (self.train_x, self.test)
        )
        unlabelled = []
        for item in train:
            path = item.impath.replace(".png", "-inverted.png")
            if not osp.exists(path):
                Image.fromarray(
                    (self.invert - np.asarray(Image.open(item.impath), dtype=int))
                    .clip(0)
                    .astype(np.uint8)
                ).save(path)
            unlabelled.append(Datum(impath=path, label=-1))
        DatasetBase.__init__(self, train_x=train, train_u=unlabelled, val=test, test=test)
        self.train_group_counts = {
            (label, domain): 1 + 2 * label + domain
            for label in range(len(CLASSES))
            for domain in (0, 1)
        }


def trainer_of(folder, name, *options):
    return make_trainer(
        folder, name, "DATASET.NAME", "TwoDomains", "DATALOADER.TRAIN_X.BATCH_SIZE", 6, *options
    )


def learned(trainer):
    return {name: value.clone() for name, value in trainer.model.state_dict().items()}


def trained(folder, name, *options):
    trainer = trainer_of(folder, name, *options)
    trainer.train()
    return learned(trainer)


def equal(one, other):
    return all(torch.equal(value, other[name]) for name, value in one.items())


@pytest.mark.parametrize("name", CRAFT)
@pytest.mark.parametrize("domains", ["unlabelled", "group"])
def test_every_structure_trains_with_mmd_and_its_term_is_that_of_the_features(
    tmp_path, name, domains, monkeypatch
):
    trainer = trainer_of(tmp_path, name, *OFF, *MMD, domains, "OPTIM.MAX_EPOCH", 1)
    seen, plain = [], DomainDiscrepancy.forward

    def watched(self, step):
        value, features, clip = plain(self, step), step.features, trainer.clip
        own = relative(features.image, features.text, features.scale)
        if domains == "unlabelled":
            whole = clip.features(step.unlabelled)  # everything anew, texts included
            slow = mmd2(own, relative(whole.image, whole.text, whole.scale))
        else:
            slow = group_mmd2(own, step.labels, step.domains)
        seen.append((value.item(), slow.item(), value.requires_grad))
        return value

    monkeypatch.setattr(DomainDiscrepancy, "forward", watched)
    before = learned(trainer)
    trainer.train()
    assert len(seen) == 2 and not equal(before, learned(trainer))
    for value, slow, teaches in seen:
        assert value == pytest.approx(slow, rel=1e-4, abs=1e-7) and teaches
    assert max(value for value, _, _ in seen) > 1e-6


def leaves(tree, prefix=""):
    for key, value in tree.items():
        if isinstance(value, dict):
            yield from leaves(value, f"{prefix}{key}.")
        else:
            yield prefix + key


def preset(name):
    """The pairs KEY, VALUE of a file of configs/craft."""
    cfg, keys = get_cfg_default(), []
    trainers.extend_cfg(cfg)
    for _, tree in read_config(str(ROOT / f"configs/craft/{name}.yaml")):
        merge_from_dict(cfg, tree)
        keys += leaves(tree)
    values = {key: functools.reduce(operator.getitem, key.split("."), cfg) for key in keys}
    return [word for pair in values.items() for word in pair]


def test_the_preset_of_the_released_ood_trainer_is_its_loss(tmp_path, monkeypatch):
    """Baseline and MMD on class logits, weight 1; the alignment terms are not in that loss."""
    more = ("DATALOADER.TRAIN_X.BATCH_SIZE", 6, "OPTIM.MAX_EPOCH", 1)
    trainer = trainer_of(tmp_path, "CraftMaPLe", *preset("released_ood"), *more)
    seen, plain = [], DomainDiscrepancy.forward

    def watched(self, step):
        value = plain(self, step)
        target = trainer.clip.logits(step.unlabelled)
        seen.append((value.item(), released_mmd(step.features.logits(), target)))
        return value

    monkeypatch.setattr(DomainDiscrepancy, "forward", watched)
    summaries, step = [], trainer.forward_backward
    monkeypatch.setattr(
        trainer,
        "forward_backward",
        lambda *batches: summaries.append(step(*batches)) or summaries[-1],
    )
    trainer.train()
    assert len(seen) == len(summaries) == 2
    for (value, slow), summary in zip(seen, summaries, strict=True):
        assert value == pytest.approx(slow, rel=1e-3) and value > 1e-3
        assert set(summary) == {"loss", "acc", "cross_entropy", "craft_mmd"}
        assert summary["loss"] == pytest.approx(summary["cross_entropy"] + value, rel=1e-5)


def test_the_released_presets_hold_the_authors_settings():
    released = dict(zip(preset("released")[::2], preset("released")[1::2], strict=True))
    craft = {key.removeprefix("TRAINER.CRAFT."): value for key, value in released.items()}
    assert craft == {
        "LAMBDA_STATIC": 1,
        "LAMBDA_STOCHASTIC": 1,
        "ANCHORS_PER_CLASS": 1,
        "TEXT_SAMPLES": "template",
        "STOCHASTIC_TARGETS": "index",
        "STOCHASTIC_DIRECTIONS": "image_to_text",
        "MMD.SPACE": "logits",
        "MMD.NORMALISE": "minmax",
        "MMD.ESTIMATOR": "biased",
        "MMD.BANDWIDTH": "variances",
        "MMD.VARIANCES": [10, 15, 20, 50],
        "MMD.KERNELS": "sum",
    }
    for name, epochs in (("released_large", 20), ("released_ood", 2)):
        words = preset(name)
        settings = dict(zip(words[::2], words[1::2], strict=True))
        assert settings["DATALOADER.TRAIN_X.BATCH_SIZE"] == 128
        assert settings["OPTIM.LR"] == 0.01 and settings["OPTIM.MAX_EPOCH"] == epochs


@pytest.mark.parametrize("name", CRAFT)
def test_with_all_weights_0_it_is_the_baseline_to_the_bit_though_a_target_is_there(tmp_path, name):
    baseline = trained(tmp_path / "a", name.removeprefix("Craft"))
    assert equal(
        baseline, trained(tmp_path / "b", name, *OFF, "TRAINER.CRAFT.MMD.DOMAINS", "unlabelled")
    )


def test_a_plain_trainer_takes_the_target_too_if_a_term_asks(tmp_path):
    craft = trained(tmp_path / "a", "CraftCoOp", *OFF, *MMD, "unlabelled")
    terms = ("TRAINER.TERMS", ("DomainDiscrepancy",))
    assert equal(craft, trained(tmp_path / "b", "CoOp", *terms, *MMD, "unlabelled"))
    assert not equal(craft, trained(tmp_path / "c", "CoOp"))


@pytest.mark.parametrize("name", ["CraftCoOp", "CraftCoCoOp", "CraftMaPLe"])
def test_labels_of_the_target_never_reach_the_loss(tmp_path, name, monkeypatch):
    found = []
    for poison in (None, 3, 999999, float("nan")):
        trainer = trainer_of(tmp_path / str(poison), name, *MMD, "unlabelled")
        plain = type(trainer).forward_backward

        def poisoned(self, batch_x, batch_u, poison=poison, plain=plain):
            if poison is not None:
                batch_u = {
                    "img": batch_u["img"],
                    "label": torch.full((len(batch_u["img"]),), poison),
                    "classname": ["x"] * len(batch_u["img"]),
                }
            return plain(self, batch_x, batch_u)

        monkeypatch.setattr(type(trainer), "forward_backward", poisoned)
        trainer.train()
        monkeypatch.setattr(type(trainer), "forward_backward", plain)
        found.append(learned(trainer))
    assert all(equal(found[0], other) for other in found[1:])


def test_mmd_changes_what_is_learned_and_the_target_decides(tmp_path, monkeypatch):
    without, with_it, again = (
        trained(tmp_path / name, "CraftCoOp", *options)
        for name, options in (("a", ()), ("b", (*MMD, "unlabelled")), ("c", (*MMD, "unlabelled")))
    )
    assert not equal(without, with_it) and equal(with_it, again)
    monkeypatch.setattr(TwoDomains, "invert", 128)
    assert not equal(with_it, trained(tmp_path / "d", "CraftCoOp", *MMD, "unlabelled"))


def test_cached_views_and_fixed_transforms_serve_the_target_too(tmp_path):
    for number, options in enumerate(
        (("TRAINER.CACHED_VIEWS", 2), ("INPUT.TRANSFORMS", ("center_crop", "normalize")))
    ):
        trainer = trainer_of(tmp_path / str(number), "CraftCoOp", *MMD, "unlabelled", *options)
        trainer.train()
        batch = next(iter(trainer.train_loader_u))
        assert batch["img"].dim() == 2
    slow = trainer_of(tmp_path / "1", "CraftCoOp", *MMD, "unlabelled", *options)
    items = slow.dm.dataset.train_u
    exact = torch.cat([found for found, _ in slow.encoded_images(items, slow.dm.tfm_train)])
    encode_training_images_once(slow)
    assert torch.allclose(slow.train_loader_u.dataset.views[0], exact, atol=1e-6)


def test_a_resumed_run_with_a_target_equals_an_uninterrupted_one(tmp_path):
    whole = trainer_of(tmp_path / "a", "CraftCoOp", *MMD, "unlabelled", "TRAIN.CHECKPOINT_FREQ", 1)
    whole.train()
    half = trainer_of(tmp_path / "b", "CraftCoOp", *MMD, "unlabelled", "TRAIN.CHECKPOINT_FREQ", 1)
    half.after_train = lambda: None
    half.max_epoch = 1
    half.train()
    rest = trainer_of(tmp_path / "b", "CraftCoOp", *MMD, "unlabelled", "TRAIN.CHECKPOINT_FREQ", 1)
    rest.train()
    assert rest.start_epoch == 1 and equal(learned(whole), learned(rest))


def test_a_space_that_cannot_teach_is_said_once(tmp_path, capsys):
    trainer = trainer_of(
        tmp_path, "CraftCoOp", *OFF, *MMD, "unlabelled", "TRAINER.CRAFT.MMD.SPACE", "feature"
    )
    trainer.train()
    assert (
        capsys.readouterr().out.count(
            "craft_mmd has no gradient for this method with TRAINER.CRAFT.MMD.SPACE 'feature'"
        )
        == 1
    )


@pytest.mark.parametrize(
    "options, message",
    [
        (
            ("TRAINER.CRAFT.LAMBDA_MMD", 1.0),
            r"TRAINER.CRAFT.LAMBDA_MMD is 1.0 but MMD.DOMAINS is none: set it to unlabelled or "
            r"group, or the weight to 0",
        ),
        (
            ("TRAINER.CRAFT.LAMBDA_MMD", -1.0),
            r"TRAINER.CRAFT.LAMBDA_MMD is -1.0: set it to 0 or a positive number",
        ),
        (
            (*MMD, "others"),
            r"TRAINER.CRAFT.MMD.DOMAINS is 'others': choose one of none, unlabelled, group",
        ),
        (
            (*MMD, "group", "TRAINER.CRAFT.MMD.SPACE", "pixel"),
            r"TRAINER.CRAFT.MMD.SPACE is 'pixel': choose one of anchor, feature, probability, "
            r"logits",
        ),
        (
            (*MMD, "group", "TRAINER.CRAFT.MMD.ESTIMATOR", "best"),
            r"TRAINER.CRAFT.MMD.ESTIMATOR is 'best': choose one of biased, unbiased",
        ),
        (
            (*MMD, "group", "TRAINER.CRAFT.MMD.BANDWIDTH", "mean"),
            r"TRAINER.CRAFT.MMD.BANDWIDTH is 'mean': choose one of median, fixed, variances",
        ),
        (
            (*MMD, "group", "TRAINER.CRAFT.MMD.SIGMAS", []),
            r"TRAINER.CRAFT.MMD.SIGMAS is \[\]: give one or more positive numbers",
        ),
        (
            (*MMD, "group", "TRAINER.CRAFT.MMD.MULTIPLIERS", [1.0, -2.0]),
            r"TRAINER.CRAFT.MMD.MULTIPLIERS is \[1.0, -2.0\]: give one or more positive",
        ),
        (
            (*MMD, "unlabelled", "DATASET.NAME", "TinyNoise"),
            r"but TinyNoise has no unlabelled images: name the target domain's data set in "
            r"DATASET.TARGET",
        ),
        (
            (*MMD, "group", "DATASET.NAME", "TinyNoise"),
            r"but no class of TinyNoise has training images of two domains: use a data set with "
            r"groups",
        ),
        # 12 images: a last batch of one
        (
            (
                *MMD,
                "unlabelled",
                "TRAINER.CRAFT.MMD.ESTIMATOR",
                "unbiased",
                "DATALOADER.TRAIN_X.BATCH_SIZE",
                11,
            ),
            r"a batch of DATALOADER.TRAIN_X has 1 image\(s\), but MMD with the unbiased estimator "
            r"needs 2: "
            "change BATCH_SIZE, set DATALOADER.TRAIN_X.DROP_LAST True",
        ),
        (
            (
                *MMD,
                "group",
                "TRAINER.CRAFT.MMD.ESTIMATOR",
                "unbiased",
                "DATALOADER.TRAIN_X.BATCH_SIZE",
                3,
            ),
            r"a batch of DATALOADER.TRAIN_X has 3 image\(s\), but MMD with the unbiased estimator "
            r"needs 4",
        ),
        (
            ("TEST.SELECT_BY", "gap"),
            r"TEST.SELECT_BY is 'gap': with TEST.EVALUATOR Classification choose one of accuracy, "
            r"macro_f1, perclass_accuracy",
        ),
    ],
)
def test_wrong_options_stop_before_the_first_step(tmp_path, options, message, monkeypatch):
    with pytest.raises(UserError, match=message) as error:
        trainer = trainer_of(tmp_path, "CraftCoOp", *options)
        monkeypatch.setattr(
            type(trainer), "forward_backward", lambda *_: pytest.fail("a step was made")
        )
        trainer.train()
    assert "\n" not in str(error.value)


def test_dropping_the_last_batch_makes_it_large_enough(tmp_path):
    trainer_of(
        tmp_path,
        "CraftCoOp",
        *MMD,
        "unlabelled",
        "TRAINER.CRAFT.MMD.ESTIMATOR",
        "unbiased",
        "DATALOADER.TRAIN_X.BATCH_SIZE",
        11,
        "DATALOADER.TRAIN_X.DROP_LAST",
        True,
    ).train()


def test_a_domain_that_lacks_a_class_is_refused(tmp_path):
    lines = ["path,classname,split,domain"]
    for name, domain in (
        ("ape", "photo"),
        ("cat", "photo"),
        ("ape", "sketch"),
        ("bee", "sketch"),
        ("cat", "sketch"),
    ):
        for part in ("train", "test"):
            path = tmp_path / f"data/own/{name}-{domain}-{part}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (8, 8)).save(path)
            lines.append(f"{path.name},{name},{part},{domain}")
    (tmp_path / "data/own/images.csv").write_text("\n".join(lines))
    options = (
        "DATASET.NAME",
        "CSV",
        "DATASET.FOLDER",
        "own",
        "DATASET.TARGET_DOMAINS",
        ("sketch",),
        "DATASET.SOURCE_DOMAINS",
    )
    with pytest.raises(
        UserError,
        match=(
            "DATASET.SOURCE_DOMAINS leaves class 'bee' of '.*images.csv' without training images: "
            "name more domains, or"
        ),
    ):
        make_trainer(tmp_path, "ZeroshotCLIP", *options, ("photo",))
    assert make_trainer(tmp_path, "ZeroshotCLIP", *options, ("sketch",)).num_classes == 3


def test_the_oracle_takes_the_targets_own_labels_where_names_repeat(tmp_path):
    source, other = (
        [Datum(f"{side}{label}", label, 0, name) for label, name in enumerate(names)]
        for side, names in (("a", ("crane", "crane", "dog")), ("b", ("dog", "crane", "crane")))
    )
    assert labelled_like(source, source[::-1]) == source[::-1]
    with pytest.raises(
        UserError,
        match="TARGET_LABELLED: 2 classes are named 'crane', so the target's label cannot be told",
    ):
        labelled_like(source, other)
    assert [item.label for item in labelled_like(source, other[:1])] == [2]


@pytest.mark.parametrize("kind", ["ImageFolder", "CSV"])
def test_own_pictures_go_through_every_protocol(tmp_path, kind):
    """Base-to-novel, few-shot, out-of-distribution with MMD, and groups."""
    folder, lines = tmp_path / "data/own", ["path,classname,split,domain"]
    for label, name in enumerate(("ant", "bee", "cat", "dog")):
        for i in range(10):
            path = folder / name / f"{i}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(
                np.random.RandomState(10 * label + i)
                .randint(40 * label, 40 * label + 90, (32, 32, 3))
                .astype(np.uint8)
            ).save(path)
            lines.append(
                f"{name}/{i}.png,{name},{'train' if i < 5 else 'val' if i < 6 else 'test'},"
                f"{('sunny', 'rainy')[i % 2]}"
            )
    (folder / "images.csv").write_text("\n".join(lines))
    common = ("DATASET.NAME", kind, "DATASET.FOLDER", "own", "OPTIM.MAX_EPOCH", 1)
    for subset, classes in (("base", 2), ("new", 2), ("all", 4)):
        trainer = make_trainer(
            tmp_path / "run",
            "CraftCoOp",
            *common,
            "DATASET.ROOT",
            str(tmp_path / "data"),
            "DATASET.SUBSAMPLE_CLASSES",
            subset,
            "DATASET.NUM_SHOTS",
            2,
            "OUTPUT_DIR",
            str(tmp_path / subset),
        )
        trainer.train()
        assert trainer.num_classes == classes and len(trainer.dm.dataset.train_x) == 2 * classes
    if kind == "CSV":
        trainer = make_trainer(
            tmp_path / "run",
            "CraftMaPLe",
            *common,
            *MMD,
            "unlabelled",
            "DATASET.ROOT",
            str(tmp_path / "data"),
            "OUTPUT_DIR",
            str(tmp_path / "ood"),
            "DATASET.SOURCE_DOMAINS",
            ("sunny",),
            "DATASET.TARGET_DOMAINS",
            ("rainy",),
        )
        trainer.train()
        assert len(trainer.dm.dataset.train_u) == 8 and len(trainer.dm.dataset.train_x) == 12
        trainer = make_trainer(
            tmp_path / "run",
            "CraftMaPLe",
            *common,
            *MMD,
            "group",
            "DATASET.ROOT",
            str(tmp_path / "data"),
            "OUTPUT_DIR",
            str(tmp_path / "group"),
            "TEST.EVALUATOR",
            "GroupClassification",
        )
        trainer.train()
        assert set(trainer.evaluator.details()["groups"]) == {
            f"{name}, {domain}"
            for name in ("ant", "bee", "cat", "dog")
            for domain in ("rainy", "sunny")
        }


# Groups


def test_balanced_groups_in_every_batch():
    sizes = {(0, 0): 30, (0, 1): 2, (1, 0): 1, (1, 1): 15}
    items = [
        Datum("x", label=label, domain=domain)
        for (label, domain), size in sizes.items()
        for _ in range(size)
    ]
    torch.manual_seed(0)
    sampler = build_sampler("BalancedGroupSampler", data_source=items, batch_size=8)
    order = list(sampler)
    assert len(order) == len(sampler) and len(order) % 8 == 0 and len(order) >= 32
    for start in range(0, len(order), 8):
        assert Counter(
            (items[i].label, items[i].domain) for i in order[start : start + 8]
        ) == dict.fromkeys(sizes, 2)
    assert (
        max(Counter(i for i in order if i < 30).values()) == 1
    )  # no image twice before all were taken once
    assert set(Counter(i for i in order if 30 <= i < 32).values()) == {
        len(order) // 8
    }  # of two images each as often as the other
    with pytest.raises(
        UserError, match="batch size 10 cannot be shared by 4 groups: make it a multiple"
    ):
        build_sampler("BalancedGroupSampler", data_source=items, batch_size=10)


def test_groups_without_images_are_told(tmp_path, capsys):
    evaluator = build_evaluator(
        make_cfg(tmp_path, "CoOp", "TEST.EVALUATOR", "GroupClassification"),
        lab2cname={0: "ape", 1: "bee"},
    )
    evaluator.use_dataset(
        types.SimpleNamespace(
            domain_names=("land", "water"),
            train_group_counts={(0, 0): 3, (0, 1): 2, (1, 0): 2, (1, 1): 9},
        )
    )
    evaluator.process(torch.eye(2), torch.tensor([0, 1]), torch.tensor([0, 1]))
    assert "adjusted_accuracy" not in evaluator.evaluate() and set(
        evaluator.details()["groups"]
    ) == {"ape, land", "bee, water"}
    said = capsys.readouterr().out
    for name in ("ape, water", "bee, land"):
        assert f"* group: {name}\ttotal: 0\tcorrect: 0\tacc: none, without images\n" in said


def test_groups_of_classes_with_the_same_name_stay_apart(tmp_path):
    cfg = make_cfg(tmp_path, "CoOp", "TEST.EVALUATOR", "GroupClassification")
    evaluator = build_evaluator(cfg, lab2cname={0: "crane", 1: "crane", 2: "bee"})
    labels = torch.tensor([0, 1, 2])
    evaluator.process(torch.eye(3)[[0, 2, 2]], labels, torch.zeros(3, dtype=torch.long))
    evaluator.evaluate()
    found = {name: group["accuracy"] for name, group in evaluator.details()["groups"].items()}
    assert found == {"crane (0), domain 0": 100, "crane (1), domain 0": 0, "bee, domain 0": 100}


def test_group_evaluator_against_a_slow_count(tmp_path, capsys):
    class Set:
        domain_names, train_group_counts = (
            ("land", "water"),
            {(0, 0): 70, (0, 1): 10, (1, 0): 5, (1, 1): 15},
        )

    rng = random.Random(1)
    rows = [
        (rng.randrange(2), rng.randrange(2), rng.randrange(2)) for _ in range(200)
    ]  # label, domain, prediction
    cfg = make_cfg(tmp_path, "CoOp", "TEST.EVALUATOR", "GroupClassification")
    evaluator = build_evaluator(cfg, lab2cname={0: "landbird", 1: "waterbird"})
    evaluator.use_dataset(Set)
    for start in range(0, 200, 32):
        part = rows[start : start + 32]
        evaluator.process(
            torch.eye(2)[[p for _, _, p in part]],
            torch.tensor([y for y, _, _ in part]),
            torch.tensor([d for _, d, _ in part]),
        )
    results = evaluator.evaluate()
    group = {
        g: 100 * np.mean([p == y for y, d, p in rows if (y, d) == g])
        for g in Set.train_group_counts
    }
    assert results["worst_group_accuracy"] == pytest.approx(min(group.values()))
    assert results["gap"] == pytest.approx(results["accuracy"] - min(group.values()))
    assert results["adjusted_accuracy"] == pytest.approx(
        sum(group[g] * n for g, n in Set.train_group_counts.items()) / 100
    )
    told = evaluator.details()["groups"]["waterbird, land"]
    assert told["accuracy"] == pytest.approx(group[1, 0]) and told["total"] == sum(
        (y, d) == (1, 0) for y, d, _ in rows
    )
    said = capsys.readouterr().out
    assert (
        f"* worst group: {min(group.values()):.1f}%" in said
        and "* group: waterbird, water\ttotal: " in said
        and "* adjusted accuracy: " in said
    )
    with pytest.raises(
        UserError,
        match="the test loop of CoOp does not tell the images' domains: set it to Classification",
    ):
        evaluator.process(torch.eye(2), torch.tensor([0, 1]))


@pytest.mark.parametrize(
    "options",
    [
        ("TEST.EVALUATOR", "GroupClassification"),
        ("DATALOADER.TRAIN_X.SAMPLER", "BalancedGroupSampler"),
    ],
    ids=["evaluator", "sampler"],
)
def test_groups_of_a_data_set_without_groups_are_refused(tmp_path, options):
    words = (
        f"{options[0]} is {options[1]}, but all (training )?images of TinyNoise are of one domain"
    )
    with pytest.raises(UserError, match=words):
        make_trainer(tmp_path, "CoOp", *options)


def test_a_run_stores_groups_and_selects_by_the_worst(tmp_path):
    trainer = trainer_of(
        tmp_path,
        "CraftCoOp",
        *MMD,
        "group",
        "TEST.EVALUATOR",
        "GroupClassification",
        "TEST.FINAL_MODEL",
        "best_val",
        "TEST.SELECT_BY",
        "worst_group_accuracy",
        "DATALOADER.TRAIN_X.SAMPLER",
        "BalancedGroupSampler",
        "DATALOADER.TRAIN_X.BATCH_SIZE",
        8,
    )
    assert isinstance(trainer.evaluator, GroupClassification)
    trainer.train()
    results = json.loads((tmp_path / "output/results.json").read_text())
    test = results["metrics"]["test"]
    assert set(test["groups"]) == {
        f"{name}, {domain}" for name in CLASSES for domain in ("day", "night")
    }
    assert test["worst_group_accuracy"] == min(
        group["accuracy"] for group in test["groups"].values()
    )
    assert sum(group["total"] for group in test["groups"].values()) == test["total"]
    assert (
        results["deployed"] == "best_val"
        and trainer.best_result >= results["metrics"]["val"]["worst_group_accuracy"]
    )
    assert (
        trainer.best_result == test["worst_group_accuracy"]
    )  # validated on the same images, so what was deployed is what was best
