"""The CoOp layout reader, the few-shot draw, and a set of the bundled suite."""

import json
import random
import re
import shutil
from collections import Counter, defaultdict
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tiny_run import CLASSES as TINY_CLASSES
from tiny_run import PARTS, make_cfg, write_table

from dassl.data.datasets import DATASET_REGISTRY, Datum
from dassl.utils import UserError, set_random_seed
from datasets import prepare
from datasets.base import CoOpDataset, subsample_classes
from datasets.suite import picture_of, read_table

CLASSES = ("ant", "bee", "cat", "dog", "elk")


@DATASET_REGISTRY.register()
class Miniature(CoOpDataset):
    folder = "mini"
    split_file = "split_zhou_Miniature.json"
    remedy = "python -m datasets.prepare mini"


@DATASET_REGISTRY.register()
class MiniatureTarget(Miniature):
    """The same classes in another folder: a target domain."""

    folder = "mini_target"


@pytest.fixture
def mini(tmp_path):
    """Five classes; 6 training, 5 validation and 2 test images of each."""
    return paint(tmp_path, Miniature.folder)


def paint(home: Path, name: str) -> Path:
    split, counts = {}, {"train": 6, "val": 5, "test": 2}
    for part, number in counts.items():
        split[part] = []
        for label, classname in enumerate(CLASSES):
            for i in range(number):
                path = home / "data" / name / "images" / classname / f"{part}{i}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                Image.new("RGB", (8, 8), (label * 40, i * 40, 0)).save(path)
                split[part].append([f"{classname}/{path.name}", label, classname])
    write(home, split, name)
    return home


def write(folder: Path, split, name: str = Miniature.folder) -> None:
    (folder / "data" / name / Miniature.split_file).write_text(
        split if isinstance(split, str) else json.dumps(split)
    )


def load(folder: Path, *options):
    cfg = make_cfg(folder, "CoOp", "DATASET.NAME", "Miniature", *options)
    set_random_seed(cfg.SEED)
    return Miniature(cfg)


def split_of(folder: Path) -> dict:
    return json.loads((folder / "data/mini/split_zhou_Miniature.json").read_text())


def test_all_images_and_classes(mini):
    data = load(mini)
    assert (len(data.train_x), len(data.val), len(data.test)) == (30, 25, 10)
    assert data.classnames == list(CLASSES) and data.num_classes == 5


@pytest.mark.parametrize("subset, names", [("base", CLASSES[:3]), ("new", CLASSES[3:])])
def test_halves_are_cut_in_label_order_and_renumbered(mini, subset, names):
    data = load(mini, "DATASET.SUBSAMPLE_CLASSES", subset)
    assert data.classnames == list(names)
    for items in (data.train_x, data.val, data.test):
        assert {(item.label, item.classname) for item in items} == set(enumerate(names))
        assert all(item.classname == Path(item.impath).parent.name for item in items)


def test_halves_keep_everything_but_the_labels():
    items = [
        Datum(impath=f"{label}-{domain}", label=label, domain=domain, classname=f"class {label}")
        for label in range(3)
        for domain in range(2)
    ]
    (base,), (new,) = subsample_classes("base", items), subsample_classes("new", items)
    assert base == items[:4] and new == [
        Datum(impath=f"2-{domain}", label=0, domain=domain, classname="class 2")
        for domain in range(2)
    ]


def slow_draw(rows, shots):
    """The published draw, written independently: labels in order of appearance, random.sample of
    each.
    """
    by_label = defaultdict(list)
    for row in rows:
        by_label[row[1]].append(row[0])
    return [
        path
        for paths in by_label.values()
        for path in (random.sample(paths, shots) if len(paths) >= shots else paths)
    ]


@pytest.mark.parametrize("seed, shots", [(1, 2), (2, 2), (1, 5), (3, 1)])
def test_few_shot_draw_is_the_published_one(mini, seed, shots):
    data = load(mini, "DATASET.NUM_SHOTS", shots, "SEED", seed)
    split = split_of(mini)
    random.seed(seed)
    train, val = slow_draw(split["train"], shots), slow_draw(split["val"], min(shots, 4))
    found = [
        [str(Path(item.impath).relative_to(Path(data.image_dir))) for item in items]
        for items in (data.train_x, data.val)
    ]
    assert found == [train, val]


def test_few_shot_cache_holds_relative_paths_survives_a_move_and_changes_no_random_state(
    mini, capsys
):
    first = load(mini, "DATASET.NUM_SHOTS", 2)
    after_miss = random.getstate()
    cache = mini / "data/mini/split_fewshot/shot_2-seed_1.json"
    assert not any(path.startswith("/") for path in json.loads(cache.read_text())["train"])
    other = mini / "moved"
    shutil.copytree(mini / "data", other / "data")
    second = load(other, "DATASET.NUM_SHOTS", 2)
    assert random.getstate() == after_miss
    assert [Path(a.impath).relative_to(mini / "data") for a in first.train_x] == [
        Path(b.impath).relative_to(other / "data") for b in second.train_x
    ]
    assert (
        capsys.readouterr().out.count("Creating a 2-shot dataset") == 2
    )  # train and val, drawn once


def test_few_shot_cache_of_another_split_or_in_pieces_is_drawn_again(mini, capsys):
    first = [item.impath for item in load(mini, "DATASET.NUM_SHOTS", 2).train_x]
    cache = mini / "data/mini/split_fewshot/shot_2-seed_1.json"
    cache.write_text(cache.read_text()[:100])
    assert [item.impath for item in load(mini, "DATASET.NUM_SHOTS", 2).train_x] == first
    split = split_of(mini)
    split["train"] = [row for row in split["train"] if not row[0].endswith("train0.png")]
    write(mini, split)
    assert not any(
        item.impath.endswith("train0.png") for item in load(mini, "DATASET.NUM_SHOTS", 2).train_x
    )


def test_few_shot_cache_of_other_labels_is_drawn_again(mini):
    load(mini, "DATASET.NUM_SHOTS", 2)
    split = split_of(mini)
    picked = json.loads((mini / "data/mini/split_fewshot/shot_2-seed_1.json").read_text())["train"][
        :2
    ]
    for row in split["train"]:
        if any(path.endswith("/" + row[0]) for path in picked):
            row[1:] = [1, CLASSES[1]]  # a correction of what was picked
    write(mini, split)
    assert set(
        Counter(item.label for item in load(mini, "DATASET.NUM_SHOTS", 2).train_x).values()
    ) == {2}


def test_rows_that_share_a_path_come_out_of_the_cache_as_they_were_drawn(mini):
    """One picture in two classes."""
    split = split_of(mini)
    shared = [row[0] for row in split["train"] if row[1] == 0]
    split["train"] = [row for row in split["train"] if row[1] != 1] + [
        [path, 1, CLASSES[1]] for path in shared
    ]
    write(mini, split)
    drawn, cached = (load(mini, "DATASET.NUM_SHOTS", 4) for _ in range(2))
    assert drawn.train_x == cached.train_x and drawn.val == cached.val
    assert {item.impath for item in cached.train_x if item.label == 0} & {
        item.impath for item in cached.train_x if item.label == 1
    }
    assert Counter(item.label for item in cached.train_x) == dict.fromkeys(range(5), 4)


def test_few_shot_cache_is_of_this_list_whatever_stands_in_its_rows(mini, capsys):
    """Order, class names and values that look like others when they are put together."""

    def draws():
        capsys.readouterr()
        load(mini, "DATASET.NUM_SHOTS", 2)
        return "Creating a 2-shot dataset" in capsys.readouterr().out

    def change(edit):
        split = split_of(mini)
        edit(split)
        write(mini, split)

    def rename(split):
        for part in split.values():
            for row in part:
                row[2] = "ant 0" if row[1] == 0 else row[2]

    assert draws() and not draws()
    for edit in (
        rename,
        lambda split: split["train"].reverse(),
        lambda split: split["val"].append(split["val"].pop(0)),
        lambda split: split["train"].insert(0, split["val"].pop(0)),
    ):
        change(edit)
        assert draws() and not draws()


def picks_of(mini, part_rows):
    folder = mini / "picks" / Miniature.config_name()
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "shot_1-seed_1.json").write_text(
        json.dumps(
            {
                part: {
                    "data": [
                        {"impath": f"/x/mini/images/{path}", "label": label} for path, label in rows
                    ]
                }
                for part, rows in part_rows.items()
            }
        )
    )
    return "DATASET.NUM_SHOTS", 1, "DATASET.INDICES", str(mini / "picks")


def test_an_index_file_means_the_row_of_its_label(mini):
    split = split_of(mini)
    split["train"].append(["ant/train0.png", 1, CLASSES[1]])
    write(mini, split)
    rows = [("ant/train0.png", label) for label in (0, 1)] + [
        (f"{name}/train0.png", None) for name in CLASSES[2:]
    ]
    data = load(mini, *picks_of(mini, {"train": rows, "val": []}))
    assert [(item.label, item.classname) for item in data.train_x] == list(enumerate(CLASSES))
    rows[0] = ("ant/train0.png", None)
    with pytest.raises(
        UserError,
        match=(
            r"names 'images/ant/train0.png', which the split lists 2 times, in different classes "
            r"or domains: take"
        ),
    ):
        load(mini, *picks_of(mini, {"train": rows, "val": []}))
    # Another content, other picks; of the target nothing is picked by the file, which is the
    # source's.
    rows[:1] = [("ant/train3.png", None)]
    paint(mini, MiniatureTarget.folder)
    data = load(
        mini,
        *picks_of(mini, {"train": rows, "val": [("ant/val3.png", 0)]}),
        "DATASET.TARGET",
        "MiniatureTarget",
    )
    assert data.train_x[0].impath.endswith("ant/train3.png") and [
        Path(item.impath).name for item in data.val
    ] == ["val3.png"]
    assert Counter(Path(item.impath).parent.name for item in data.train_u) == dict.fromkeys(
        CLASSES, 1
    )


def test_fewer_images_than_shots_are_all_used_and_said_once(mini, capsys):
    assert len(load(mini, "DATASET.NUM_SHOTS", 16).train_x) == 30
    said = "5 class(es) have fewer than 16 images: all that they have are used"
    assert capsys.readouterr().out.count(said) == 1
    load(mini, "DATASET.NUM_SHOTS", 16)  # out of the cache
    assert capsys.readouterr().out.count(said) == 1


@pytest.mark.parametrize("shots, each", [(2, 2), (16, 6), (-1, 6)])
@pytest.mark.parametrize("subset, classes", [("all", CLASSES), ("base", CLASSES[:3])])
def test_a_target_gives_as_many_training_images_as_the_source_and_no_labels(
    mini, shots, each, subset, classes
):
    """Another data set is the target, or one domain of a table is."""
    paint(mini, MiniatureTarget.folder)
    options = ("DATASET.NUM_SHOTS", shots, "DATASET.SUBSAMPLE_CLASSES", subset)
    data = load(mini, *options, "DATASET.TARGET", "MiniatureTarget")
    seen = Counter(Path(item.impath).parent.name for item in data.train_u)
    assert seen == dict.fromkeys(classes, each)
    assert all(
        "/mini_target/" in item.impath and Path(item.impath).name.startswith("train")
        for item in data.train_u
    )
    assert {(item.label, item.classname) for item in data.train_u} == {(-1, "")}


@pytest.mark.parametrize("shots, each", [(2, 2), (16, PARTS["train"]), (-1, PARTS["train"])])
def test_a_target_domain_of_a_table_is_drawn_from_its_training_part(tmp_path, shots, each):
    write_table(tmp_path)
    cfg = make_cfg(
        tmp_path,
        "CoOp",
        "DATASET.NAME",
        "CSV",
        "DATASET.FOLDER",
        "own",
        "DATASET.NUM_SHOTS",
        shots,
        "DATASET.SOURCE_DOMAINS",
        ("photo",),
        "DATASET.TARGET_DOMAINS",
        ("sketch",),
    )
    set_random_seed(1)
    data = DATASET_REGISTRY.get("CSV")(cfg)
    for items, start in ((data.train_u, "sketch-train-"), (data.train_x, "photo-train-")):
        assert all(Path(item.impath).name.startswith(start) for item in items)
        assert Counter(Path(item.impath).parent.name for item in items) == dict.fromkeys(
            TINY_CLASSES, each
        )
    assert all(Path(item.impath).name.startswith("photo-val-") for item in data.val)
    assert all(Path(item.impath).name.startswith("sketch-test-") for item in data.test)


def change_row(index, value):
    def change(split):
        split["test"][0][index] = value
        return split

    return change


@pytest.mark.parametrize(
    "change, message",
    [
        (
            change_row(0, "cat/none.png"),
            r"names 1 image\(s\) that are not in '.*images', first cat/none.png: prepare",
        ),
        (
            change_row(1, 3),
            r"gives label 3 to both 'dog' and 'ant': give every class its own label",
        ),
        (
            change_row(1, "3"),
            r"has the row \['ant/test0.png', '3', 'ant'\] in test: a row is \[path, label, class "
            r"name\]",
        ),
        (
            lambda split: {"train": split["train"]},
            "lacks one of the lists train, val, test: restore it",
        ),
        (lambda split: "{", "is not valid JSON .*: restore or delete it"),
        (
            lambda split: {
                part: [row for row in rows if row[1] != 2] for part, rows in split.items()
            },
            "has 4 classes but none with label 2",
        ),
        (
            lambda split: split | {"train": [row for row in split["train"] if row[1] != 2]},
            r"has no training image of label 2 \('cat'\): classes are",
        ),
    ],
)
def test_wrong_split_file(mini, change, message):
    write(mini, change(split_of(mini)))
    with pytest.raises(UserError, match=message) as error:
        load(mini)
    assert "split_zhou_Miniature.json" in str(error.value) and "\n" not in str(error.value)


def test_missing_folders(mini):
    with pytest.raises(
        UserError,
        match=(
            "DATASET.ROOT '.*nowhere' does not exist: create it with datasets.prepare or correct "
            "--root"
        ),
    ):
        load(mini, "DATASET.ROOT", str(mini / "nowhere"))
    with pytest.raises(
        UserError, match="DATASET.ROOT is not set: give the folder of the data sets with --root"
    ):
        load(mini, "DATASET.ROOT", "")
    with pytest.raises(
        UserError, match="DATASET.SUBSAMPLE_CLASSES is 'half': choose one of all, base, new"
    ):
        load(mini, "DATASET.SUBSAMPLE_CLASSES", "half")
    shutil.rmtree(mini / "data/mini")
    with pytest.raises(
        UserError,
        match=r"of data set Miniature does not exist: run `python -m datasets.prepare mini --root ",
    ):
        load(mini)


# A set of the bundled suite


@pytest.fixture(scope="module")
def bench(tmp_path_factory):
    folder = tmp_path_factory.mktemp("bench")
    assert prepare.main(["emoji_line", "--root", str(folder / "data")]) == 0
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("subset, classes", [("base", 12), ("new", 12)])
def test_a_set_loads_with_enough_pictures_in_every_class(bench, subset, classes):
    options = ("DATASET.SUBSAMPLE_CLASSES", subset, "DATASET.NUM_SHOTS", 2)
    cfg = make_cfg(bench, "CoOp", "DATASET.NAME", "EmojiLine", *options)
    set_random_seed(1)
    data = DATASET_REGISTRY.get("EmojiLine")(cfg)
    assert data.num_classes == classes
    assert {item.label for item in data.test} == set(range(classes))
    assert Counter(item.label for item in data.train_x) == dict.fromkeys(range(classes), 2)


@pytest.mark.slow
def test_preparing_again_changes_nothing_and_repairs_what_is_missing(bench):
    folder = bench / "data/suite_emoji"
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*.png")}
    gone = sorted(before)[5]
    content = gone.read_bytes()
    gone.unlink()
    assert prepare.main(["emoji_line", "--root", str(bench / "data")]) == 0
    after = {path: path.stat().st_mtime_ns for path in folder.rglob("*.png")}
    assert gone.read_bytes() == content and {p: t for p, t in after.items() if p != gone} == {
        p: t for p, t in before.items() if p != gone
    }


def test_line_drawings_are_black_on_white_and_show_the_same_shape():
    table = read_table("emoji")
    colour, line = (
        np.asarray(picture_of(table[f"{artist}/1F34E"], 72)).astype(int)
        for artist in ("openmoji", "openmoji-line")
    )
    assert colour.shape == line.shape == (72, 72, 3)
    # An apple is red, its drawing grey.
    assert np.ptp(colour, axis=2).max() > 100 and np.ptp(line, axis=2).max() == 0
    assert colour[line[..., 0] < 40].mean() < 60  # where the drawing is black, so is the picture


def test_prepare_says_what_is_wrong(tmp_path, capsys):
    (tmp_path / "plain").write_text("")
    assert prepare.main(["solar", "--root", str(tmp_path / "plain" / "data")]) == 2
    assert re.search(
        r"error: cannot create the folder '.*/suite_solar' \(Not a directory\): choose another",
        capsys.readouterr().err,
    )
    assert prepare.main(["emojy", "--root", str(tmp_path / "data")]) == 2
    assert (
        "error: unknown data set 'emojy': did you mean 'Emoji'? known ones are Caltech101"
        in capsys.readouterr().err
    )
