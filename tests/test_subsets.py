"""Subsets of classes and the validation part for choosing settings: folds of the base classes,
random cuts, whole validation.
"""

import itertools
import json
from pathlib import Path
from types import SimpleNamespace

import pytest
import test_published_sets
from tiny_run import make_cfg

import train
from dassl.config import config_hash, merge_from_list
from dassl.data.datasets import DATASET_REGISTRY
from dassl.utils import UserError, set_random_seed
from datasets import base
from datasets.base import CoOpDataset, chosen_labels
from datasets.sets.imagenet import ImageNet

LETTERS = "abcdefghijk"  # base: a to f
PARTS = {"train": 6, "val": 5, "test": 2}


@DATASET_REGISTRY.register()
class Letters(CoOpDataset):
    folder = "letters"
    split_file = "split.json"


@pytest.fixture
def home(tmp_path) -> Path:
    """A folder with `data`/letters: files without content, since nothing here opens pictures."""
    images = tmp_path / "data/letters/images"
    images.mkdir(parents=True)
    split: dict[str, list] = {}
    for part, number in PARTS.items():
        names = [(f"{part}-{name}-{i}.jpg", name) for name in LETTERS for i in range(number)]
        split[part] = [[file, LETTERS.index(name), f"letter {name}"] for file, name in names]
        for file, _ in names:
            (images / file).touch()
    (images.parent / "split.json").write_text(json.dumps(split))
    return tmp_path


def load(home: Path, *options):
    cfg = make_cfg(home, "CoOp", "DATASET.NAME", "Letters", *options)
    set_random_seed(cfg.SEED)
    return Letters(cfg)


def fold(subset: str, text: str, *more) -> tuple:
    return ("DATASET.SUBSAMPLE_CLASSES", subset, "DATASET.FOLD", text, *more)


def letters(data) -> str:
    return "".join(name[-1] for name in data.classnames)


def change(home: Path, edit) -> None:
    path = home / "data/letters/split.json"
    split = json.loads(path.read_text())
    edit(split)
    path.write_text(json.dumps(split))


# Folds


def test_a_fold_holds_every_nth_base_class_out(home):
    assert [letters(load(home, *fold("base_unseen", f"{k}/3"))) for k in (1, 2, 3)] == [
        "ad",
        "be",
        "cf",
    ]
    assert letters(load(home, *fold("base_seen", "2/3"))) == "acdf"


@pytest.mark.parametrize("classes, count", [(11, 2), (11, 3), (37, 4), (100, 5)])
@pytest.mark.parametrize("cut", [0, 1])
def test_folds_partition_the_base_classes(classes, count, cut):
    labels = range(3, 3 + classes)
    half, new = (set(chosen_labels(labels, name, cut=cut)) for name in ("base", "new"))
    assert half | new == set(labels) and not half & new and len(half) == (classes + 1) // 2
    held_out = []
    for k in range(1, count + 1):
        seen = chosen_labels(labels, "base_seen", f"{k}/{count}", cut)
        unseen = chosen_labels(labels, "base_unseen", f"{k}/{count}", cut)
        assert seen == sorted(seen) and set(seen) | set(unseen) == half
        assert not set(seen) & set(unseen)
        held_out += unseen
    assert sorted(held_out) == sorted(half)  # each class once
    sizes = [len(held_out[place::count]) for place in range(count)]
    assert max(sizes) - min(sizes) <= 1


def test_a_side_is_renumbered_and_has_the_pictures_of_the_base_run(home):
    shots = ("DATASET.NUM_SHOTS", 2, "DATASET.VALIDATION", "whole")
    whole_run = load(home, "DATASET.SUBSAMPLE_CLASSES", "base", *shots)
    seen, unseen = (load(home, *fold(side, "1/3"), *shots) for side in ("base_seen", "base_unseen"))
    for part in ("train_x", "val", "test"):
        whole = {item.impath for item in getattr(whole_run, part)}
        sides = [{item.impath for item in getattr(side, part)} for side in (seen, unseen)]
        assert sides[0] | sides[1] == whole and not sides[0] & sides[1]
    for side, names in ((seen, "bcef"), (unseen, "ad")):
        items = (*side.train_x, *side.val, *side.test)
        assert {(item.label, item.classname[-1]) for item in items} == set(enumerate(names))


@pytest.mark.parametrize("seed", [1, 2])
def test_no_seed_of_a_run_moves_a_fold_or_a_cut(home, seed):
    options = (*fold("base_seen", "1/2", "DATASET.CUT", 3), "SEED", seed)
    assert letters(load(home, *options)) == letters(load(home, *options[:-2]))


@pytest.mark.parametrize(
    "options, message",
    [
        (fold("base", "1/2"), "DATASET.FOLD is '1/2' with DATASET.SUBSAMPLE_CLASSES base: a fold"),
        (fold("new", "1/2"), "DATASET.FOLD is '1/2' with DATASET.SUBSAMPLE_CLASSES new: a fold"),
        (fold("all", "1/2"), "DATASET.FOLD is '1/2' with DATASET.SUBSAMPLE_CLASSES all: a fold"),
        (fold("base_seen", ""), "with DATASET.SUBSAMPLE_CLASSES base_seen: a fold goes with"),
        (fold("base_seen", "half"), "DATASET.FOLD is 'half': write k/n"),
        (fold("base_seen", "0/2"), "DATASET.FOLD is '0/2': write k/n"),
        (fold("base_seen", "3/2"), "DATASET.FOLD is '3/2': write k/n"),
        (fold("base_seen", "1/1"), "DATASET.FOLD is '1/1': write k/n"),
        (fold("base_unseen", "1/4"), None),
        (fold("base_unseen", "3/4"), "holds 1 of 6 base classes out: choose a number of folds"),
    ],
)
def test_folds_that_mean_nothing_are_refused(home, options, message):
    if message is None:
        assert letters(load(home, *options)) == "ae"
        return
    with pytest.raises(UserError, match=message):
        load(home, *options)


@pytest.mark.parametrize("side, refused", [("base_seen", False), ("base_unseen", True)])
def test_a_class_without_validation_pictures_is_refused_on_its_side_only(home, side, refused):
    def edit(split):
        split["val"] = [row for row in split["val"] if row[2] != "letter d"]

    change(home, edit)
    if refused:
        with pytest.raises(UserError, match="leaves class 'letter d' of Letters without valid"):
            load(home, *fold(side, "1/3"))
    else:
        assert letters(load(home, *fold(side, "1/3"))) == "bcef"


# Cuts


def test_cut_0_is_the_published_one_and_others_are_random_halves(home):
    halves = [
        tuple(
            letters(load(home, "DATASET.SUBSAMPLE_CLASSES", part, "DATASET.CUT", cut))
            for part in ("base", "new")
        )
        for cut in range(4)
    ]
    assert halves[0] == ("abcdef", "ghijk")
    assert len(set(halves)) == 4
    for one, other in halves:
        assert (len(one), len(other)) == (6, 5) and sorted(one + other) == list(LETTERS)
        assert list(one) == sorted(one) and list(other) == sorted(other)
    # A cut is the same on every machine.
    assert chosen_labels(range(10), "base", cut=1) == [0, 1, 2, 3, 5]
    assert chosen_labels(range(10), "new", cut=2) == [0, 3, 6, 7, 8]


@pytest.mark.parametrize(
    "part, cut, tested, message",
    [
        ("new", 1, "cd", None),
        (
            "new",
            1,
            "abc",
            "puts 2 class.es. among the new ones that the model in .* learned, first",
        ),
        ("base", 1, "ab", None),
        ("base", 1, "abc", "puts 1 class.es. among the base ones .* did not learn, first 'c'"),
        ("new", 0, "abc", None),  # the published cut, as published code tests it
        ("all", 1, "abc", None),
    ],
)
def test_a_cut_that_mixes_sides_on_another_data_set_is_refused(
    home, tmp_path, part, cut, tested, message
):
    (tmp_path / "results.json").write_text(json.dumps({"classnames": ["a", "b"]}))
    options = ("DATASET.CUT", cut, "DATASET.SUBSAMPLE_CLASSES", part)
    cfg = make_cfg(home, "CoOp", "DATASET.NAME", "Letters", *options)
    trainer = SimpleNamespace(cfg=cfg, lab2cname=dict(enumerate(tested)))
    if message is None:
        train.check_cut(trainer, str(tmp_path))
    else:
        with pytest.raises(UserError, match=message):
            train.check_cut(trainer, str(tmp_path))


def test_random_cuts_choose_every_class_about_equally_often():
    counts = [0] * 10
    for cut in range(1, 401):
        for label in chosen_labels(range(10), "base", cut=cut):
            counts[label] += 1
    assert all(160 < count < 240 for count in counts)  # 200 expected, standard deviation 10


def test_defaults_leave_hashes_as_they_were(home):
    plain = make_cfg(home, "CoOp").clone()
    before = config_hash(plain)
    for key, value in (("FOLD", "1/2"), ("CUT", 1), ("VALIDATION", "whole")):
        other = plain.clone()
        merge_from_list(other, [f"DATASET.{key}", value])
        assert config_hash(other) != before
        del other.DATASET[key]
        assert config_hash(other) == before


# Validation


def test_whole_validation_keeps_the_training_draw(home):
    published, whole = (
        load(home, "DATASET.NUM_SHOTS", 3, "DATASET.VALIDATION", rule)
        for rule in ("published", "whole")
    )
    assert published.train_x == whole.train_x
    assert len(published.val) == 3 * len(LETTERS)
    assert len(whole.val) == PARTS["val"] * len(LETTERS)


def test_test_pictures_in_training_or_validation_are_refused(home):
    whole = ("DATASET.VALIDATION", "whole")
    load(home, *whole)
    original = (home / "data/letters/split.json").read_text()
    for part, word in (("train", "training"), ("val", "validation")):
        (home / "data/letters/split.json").write_text(original)
        change(home, lambda split, part=part: split[part].append(split["test"][0]))
        load(home)
        with pytest.raises(UserError, match=f"Letters has 1 {word} image.s. in its test part"):
            load(home, *whole)


def test_a_data_set_without_validation_part_is_refused(home):
    change(home, lambda split: split.update(val=[]))
    with pytest.raises(UserError, match="Letters has no validation images apart from"):
        load(home, "DATASET.VALIDATION", "whole")


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return tmp_path_factory.mktemp("sets")


def test_undrawn_training_images_validate_where_validation_is_test(home, monkeypatch):
    assert ImageNet.val_is_test and not ImageNet.few_shot_val
    monkeypatch.setattr(Letters, "val_is_test", True)
    monkeypatch.setattr(Letters, "few_shot_val", False)
    monkeypatch.setattr(base, "SPARE", 3)
    change(home, lambda split: split.update(val=split["test"]))
    options = ("DATASET.NUM_SHOTS", 2, "DATASET.SUBSAMPLE_CLASSES", "base")
    published = load(home, *options)
    assert {item.impath for item in published.val} == {item.impath for item in published.test}
    whole = load(home, *options, "DATASET.VALIDATION", "whole")
    assert published.train_x == whole.train_x
    drawn, tested = ({item.impath for item in part} for part in (whole.train_x, whole.test))
    validated = [item.impath for item in whole.val]
    assert len(validated) == len(set(validated)) == 3 * 6 and not set(validated) & (drawn | tested)
    for item in whole.val:
        assert Path(item.impath).name.split("-")[:2] == ["train", item.classname[-1]]
    with pytest.raises(UserError, match="Letters has no validation images apart from"):
        load(home, "DATASET.VALIDATION", "whole")  # all training images are taken


@pytest.mark.parametrize("name", ["OxfordPets", "EuroSAT"])
def test_folds_of_published_sets(root, name):
    test_published_sets.miniature(root, name)
    whole = ("DATASET.VALIDATION", "whole")
    known = test_published_sets.load(root, name, "DATASET.SUBSAMPLE_CLASSES", "base", *whole)
    unseen = [
        test_published_sets.load(root, name, *fold("base_unseen", f"{k}/2"), *whole).classnames
        for k in (1, 2)
    ]
    assert sorted(itertools.chain(*unseen)) == sorted(known.classnames)
    assert unseen[0] == known.classnames[::2]
