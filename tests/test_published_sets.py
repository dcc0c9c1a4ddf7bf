"""The published data sets on miniatures in their true layout, and the tools that prepare and check
them.
"""

import json
import random
import re
import shutil
from collections import Counter, defaultdict
from itertools import accumulate
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tiny_run import make_cfg

from dassl.data import DataManager
from dassl.data.datasets import DATASET_REGISTRY, DatasetBase, Datum
from dassl.utils import UserError, set_random_seed
from datasets import check, prepare
from datasets.base import PARTS, CoOpDataset
from datasets.groups import GroupDataset
from datasets.shifts import ShiftDataset
from tools import miniatures

# Base and new classes as published.
HALVES = {
    "ImageNet": (500, 500),
    "Caltech101": (50, 50),
    "OxfordPets": (19, 18),
    "StanfordCars": (98, 98),
    "OxfordFlowers": (51, 51),
    "Food101": (51, 50),
    "FGVCAircraft": (50, 50),
    "SUN397": (199, 198),
    "DescribableTextures": (24, 23),
    "EuroSAT": (5, 5),
    "UCF101": (51, 50),
    "ImageNetV2": (500, 500),
    "ImageNetSketch": (500, 500),
    "ImageNetA": (100, 100),
    "ImageNetR": (100, 100),
}
OWN_PARTITION = [name for name in HALVES if prepare.find(name).split_file]
TEST_ONLY = ("ImageNetV2", "ImageNetSketch", "ImageNetA", "ImageNetR")


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """A folder with a `data` in which miniatures are made as they are asked for."""
    return tmp_path_factory.mktemp("sets")


def miniature(root: Path, name: str, split: bool = True) -> Path:
    home = root / ("data" if split else "unsplit/data")
    cls = prepare.find(name)
    return home / cls.folder if (home / cls.folder).exists() else miniatures.make(cls, home, split)


def load(folder: Path, name: str, *options):
    cfg = make_cfg(folder, "CoOp", "DATASET.NAME", name, *options)
    set_random_seed(cfg.SEED)
    return DATASET_REGISTRY.get(name)(cfg)


def relative(data, items):
    return [Path(item.impath).relative_to(data.image_dir).as_posix() for item in items]


@pytest.mark.parametrize("name", HALVES)
def test_counts_classes_and_halves(root, name):
    home = miniature(root, name)
    data, cls = load(root, name), prepare.find(name)
    told = json.loads((home / "miniature.json").read_text())[name]["images"]
    found = dict(zip(PARTS, (data.train_x, data.val, data.test), strict=True))
    assert all(len(found[part]) == number for part, number in told.items() if number)
    assert (
        data.num_classes == cls.classes == sum(HALVES[name])
        and len(set(data.classnames)) == cls.classes
    )
    assert all(Path(item.impath).is_file() for part in found.values() for item in part or ())
    for subset, number in zip(("base", "new"), HALVES[name], strict=True):
        half = load(root, name, "DATASET.SUBSAMPLE_CLASSES", subset)
        names = data.classnames[:number] if subset == "base" else data.classnames[-number:]
        assert half.classnames == names and set(Counter(item.label for item in half.test)) == set(
            range(number)
        )


@pytest.mark.parametrize(
    "name, names",
    [
        (
            "EuroSAT",
            [
                "Annual Crop Land",
                "Forest",
                "Herbaceous Vegetation Land",
                "Highway or Road",
                "Industrial Buildings",
                "Pasture Land",
                "Permanent Crop Land",
                "Residential Buildings",
                "River",
                "Sea or Lake",
            ],
        ),
        ("Caltech101", ["face", "leopard", "motorbike", "airplane", "class_0"]),
        ("OxfordPets", ["red_abbey", "amber_abbey", "green_abbey"]),
        ("StanfordCars", ["1990 Red Abbey", "1991 Amber Abbey"]),
        ("OxfordFlowers", ["red abbey", "amber abbey"]),
        ("SUN397", ["indoor red_abbey", "outdoor amber_abbey", "green_abbey", "blue_abbey"]),
        ("UCF101", ["Red_Abbey", "Amber_Abbey"]),
        ("FGVCAircraft", ["red abbey", "amber abbey"]),
        ("ImageNetV2", ["red abbey", "amber abbey"]),
    ],
)
@pytest.mark.parametrize("split", [True, False], ids=["split file", "own partition"])
def test_class_names_are_the_published_ones(root, name, names, split):
    miniature(root, name, split)
    assert load(root if split else root / "unsplit", name).classnames[: len(names)] == names


def test_names_in_a_split_file_are_corrected_too(root, tmp_path):
    home = shutil.copytree(miniature(root, "EuroSAT"), tmp_path / "data/eurosat")
    path = home / "split_zhou_EuroSAT.json"
    path.write_text(path.read_text().replace("Sea or Lake", "SeaLake"))
    assert load(tmp_path, "EuroSAT").classnames[-1] == "Sea or Lake"


@pytest.mark.parametrize("name", OWN_PARTITION)
def test_without_the_split_file_one_is_made_and_said(root, name, capsys):
    miniature(root, name, split=False)
    folder = root / "unsplit"
    data = load(folder, name)
    said = capsys.readouterr().out
    assert (
        f"split_zhou_{name}.json' does not exist: the split is made here and is NOT the published "
        "one" in said
    )
    sizes = [len(part) / data.num_classes for part in (data.train_x, data.val, data.test)]
    assert sizes == (
        [5, 2, 3]
        if prepare.find(name).config_name()
        in ("caltech101", "dtd", "eurosat", "food101", "oxford_flowers")
        else [5, 1, 2]
    )
    assert not {item.impath for item in data.train_x} & {
        item.impath for item in (*data.val, *data.test)
    }
    again = load(folder, name, "SEED", 7)
    assert [item.impath for item in again.train_x] == [
        item.impath for item in data.train_x
    ]  # the run's seed does not change a split


def slow_draw(items, shots):
    by_label = defaultdict(list)
    for item in items:
        by_label[item.label].append(item)
    return [
        item
        for own in by_label.values()
        for item in (random.sample(own, shots) if len(own) >= shots else own)
    ]


@pytest.mark.parametrize("name", [name for name in HALVES if name not in TEST_ONLY])
def test_few_shot_picks_are_the_published_ones_and_cached_relative_to_the_root(root, name):
    home = miniature(root, name)
    whole, few = load(root, name), load(root, name, "DATASET.NUM_SHOTS", 2, "SEED", 3)
    random.seed(3)
    train = slow_draw(whole.train_x, 2)
    val = (
        whole.val if name == "ImageNet" else slow_draw(whole.val, 2)
    )  # ImageNet's validation images are its test images
    assert [item.impath for item in few.train_x] == [item.impath for item in train]
    assert [item.impath for item in few.val] == [item.impath for item in val]
    cache = json.loads((home / "split_fewshot/shot_2-seed_3.json").read_text())
    assert all((root / "data" / path).is_file() for path in cache["train"]) and len(
        cache["train"]
    ) == len(few.train_x)
    again = load(root, name, "DATASET.NUM_SHOTS", 2, "SEED", 3)
    assert [item.impath for item in again.train_x] == [item.impath for item in train]


# Published picks of EuroSAT (cross_modal_adaptation, MIT,
# indices/eurosat/shot_{1-seed_1,2-seed_3}.json): positions in the lists of its split file.
EUROSAT = [1500, 1500, 1500, 1250, 1250, 1000, 1250, 1500, 1250, 1500]  # training images per class
PICKS = {
    (1, 1): (
        [275, 2665, 3129, 5022, 5991, 7507, 8920, 10217, 11527, 12429],
        [96, 1099, 1229, 2257, 2727, 2999, 3421, 3702, 4656, 5256],
    ),
    (2, 3): (
        [
            487,
            1213,
            2614,
            1767,
            3757,
            4236,
            5470,
            5689,
            5884,
            6990,
            7013,
            7930,
            8960,
            8531,
            10378,
            9729,
            11142,
            11713,
            13107,
            13125,
        ],
        [
            487,
            406,
            754,
            837,
            1355,
            1735,
            1999,
            2179,
            2307,
            2643,
            3197,
            2832,
            3281,
            3588,
            3743,
            4008,
            4699,
            4315,
            5075,
            5284,
        ],
    ),
}


@pytest.mark.parametrize("shots, seed", PICKS)
def test_the_draw_gives_the_picks_that_were_published(shots, seed):
    parts = [
        [
            Datum(
                impath=str(number),
                label=next(label for label, end in enumerate(accumulate(counts)) if number < end),
                classname="x",
            )
            for number in range(sum(counts))
        ]
        for counts in (EUROSAT, [count * 2 // 5 for count in EUROSAT])
    ]
    set_random_seed(seed)
    data = DatasetBase(train_x=parts[0])
    for items, published in zip(parts, PICKS[shots, seed], strict=True):
        assert [
            int(item.impath)
            for item in data.generate_fewshot_dataset(items, num_shots=min(shots, 4))
        ] == published


def write_indices(folder: Path, train: list[str], val: list[str]) -> None:
    path = folder / "indices/eurosat/shot_1-seed_1.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(
        json.dumps(
            {
                part: {"data": [{"impath": f"./data/{name}"} for name in names], "indices": []}
                for part, names in (("train", train), ("val", val))
            }
        )
    )


def test_public_index_files(root, tmp_path, capsys):
    home = miniature(root, "EuroSAT")
    split = json.loads((home / "split_zhou_EuroSAT.json").read_text())
    one_each = list({row[1]: row for row in split["train"]}.values())[::-1]
    chosen = [[f"eurosat/2750/{row[0]}" for row in rows] for rows in (one_each, split["val"][-3:])]
    write_indices(tmp_path, *chosen)
    options = ("DATASET.NUM_SHOTS", 1, "DATASET.INDICES", str(tmp_path / "indices"))
    data = load(root, "EuroSAT", *options)
    assert [f"eurosat/2750/{path}" for path in relative(data, data.train_x)] == chosen[0]
    assert [f"eurosat/2750/{path}" for path in relative(data, data.val)] == chosen[1]
    write_indices(tmp_path, chosen[0] + ["eurosat/2750/Forest/none.jpg"], chosen[1])
    with pytest.raises(
        UserError,
        match=(
            r"names 1 image\(s\) that are not in the train part of EuroSAT, first "
            r"2750/Forest/none.jpg: use the published"
        ),
    ):
        load(root, "EuroSAT", *options)
    # A class that nothing would be learned of; new classes may be missing where only base ones are
    # trained on.
    new = {row[2] for row in one_each if row[1] >= 5}
    write_indices(
        tmp_path,
        [path for path, row in zip(chosen[0], one_each, strict=True) if row[2] not in new],
        chosen[1],
    )
    with pytest.raises(
        UserError,
        match=(
            r"shot_1-seed_1.json' picks no image of 5 class\(es\), first .*: add images of every "
            r"class, or take DATASET.INDICES"
        ),
    ):
        load(root, "EuroSAT", *options)
    assert len(load(root, "EuroSAT", *options, "DATASET.SUBSAMPLE_CLASSES", "base").train_x) == 5
    capsys.readouterr()
    load(root, "EuroSAT", *options[2:])
    assert "DATASET.INDICES is not used, since DATASET.NUM_SHOTS is -1" in capsys.readouterr().out
    (tmp_path / "indices/eurosat/shot_1-seed_1.json").write_text('{"train": [1]}')
    with pytest.raises(
        UserError, match="is not an index file of few-shot picks .*: correct DATASET.INDICES"
    ):
        load(root, "EuroSAT", *options)
    with pytest.raises(
        UserError,
        match="DATASET.INDICES: '.*shot_4-seed_1.json' does not exist: correct the folder",
    ):
        load(root, "EuroSAT", "DATASET.NUM_SHOTS", 4, *options[2:])


def test_images_of_all_modes_reach_a_batch_and_pickles_are_never_opened(root):
    home = miniature(root, "OxfordPets")
    (home / "split_fewshot").mkdir(exist_ok=True)
    (home / "split_fewshot/shot_1-seed_1.pkl").write_bytes(b"not a pickle")
    cfg = make_cfg(
        root,
        "CoOp",
        "DATASET.NAME",
        "OxfordPets",
        "DATASET.NUM_SHOTS",
        1,
        "DATALOADER.TRAIN_X.BATCH_SIZE",
        8,
    )
    data = DataManager(cfg)
    modes = {Image.open(item.impath).mode for item in data.dataset.test}
    assert modes == {"RGB", "L", "CMYK"}
    sizes = [len(batch["img"]) for batch in data.train_loader_x]
    assert (
        sum(sizes) == 37 and sizes[-1] == 5
    )  # the last incomplete batch is kept: with one shot no class is dropped
    assert sum(len(batch["img"]) for batch in data.test_loader) == len(data.dataset.test)
    cfg = make_cfg(
        root,
        "CoOp",
        "DATASET.NAME",
        "OxfordPets",
        "DATASET.NUM_SHOTS",
        1,
        "DATALOADER.TRAIN_X.BATCH_SIZE",
        8,
        "DATALOADER.TRAIN_X.DROP_LAST",
        True,
    )
    assert sum(len(batch["img"]) for batch in DataManager(cfg).train_loader_x) == 32


# Bad input


def break_(root: Path, tmp_path: Path, name: str, change, split: bool = False) -> Path:
    """A copy of a miniature with something wrong."""
    home = miniature(root, name, split)
    copy = shutil.copytree(home, tmp_path / "data" / home.name)
    change(copy)
    return tmp_path


def replace(file: str, old: str, new: str):
    def change(home):
        path = home / file
        assert old in path.read_text()
        path.write_text(path.read_text().replace(old, new, 1))

    return change


def remove(file: str):
    def change(home):
        path = home / file
        shutil.rmtree(path) if path.is_dir() else path.unlink()

    return change


def keep(number: int):
    """Only so many images in the first class folder: half-extracted."""
    return lambda home: [
        path.unlink()
        for path in sorted(next(iter(sorted((home / "images").iterdir()))).iterdir())[number:]
    ]


@pytest.mark.parametrize(
    "name, change, message",
    [
        (
            "Caltech101",
            remove("101_ObjectCategories"),
            r"folder '.*101_ObjectCategories' of data set Caltech101 does not exist: run `python "
            r"-m datasets.p",
        ),
        ("DescribableTextures", keep(0), "holds no images: the data set is not complete"),
        (
            "DescribableTextures",
            keep(2),
            r"has 2 image\(s\), too few for a training, validation and test part: add some or take "
            r"it out",
        ),
        (
            "OxfordPets",
            remove("annotations/test.txt"),
            "test.txt' cannot be read .*: prepare the data set again",
        ),
        (
            "OxfordPets",
            replace("annotations/trainval.txt", "red_abbey_1 1", "Red_Abbey_1 one"),
            "has the line 'Red_Abbey_1 one 1 1': a line is an image",
        ),
        (
            "OxfordFlowers",
            replace("cat_to_name.json", '"102"', '"1020"'),
            "cat_to_name.json' has no name for label 102",
        ),
        (
            "OxfordFlowers",
            lambda home: (home / "imagelabels.mat").write_bytes(b"x"),
            "imagelabels.mat' cannot be read as a MATLAB file with 'labels'",
        ),
        (
            "StanfordCars",
            remove("devkit"),
            "cars_meta.mat' cannot be read as a MATLAB file with 'class_names'",
        ),
        (
            "StanfordCars",
            remove("cars_test/00002.jpg"),
            r"names 1 image\(s\) that are not in .*, first cars_test/00002.jpg",
        ),
        (
            "SUN397",
            replace("Training_01.txt", "/r/red_abbey/", "/r/black_hole/"),
            "whose folder is not in ClassName.txt",
        ),
        (
            "UCF101",
            replace("ucfTrainTestlist/testlist01.txt", "RedAbbey/", "Nothing/"),
            "whose action is not in classInd.txt",
        ),
        (
            "UCF101",
            replace("ucfTrainTestlist/classInd.txt", "1 RedAbbey", "one RedAbbey"),
            "has the line 'one RedAbbey': a line is a number and an action",
        ),
        (
            "UCF101",
            replace("ucfTrainTestlist/classInd.txt", "1 RedAbbey", "1"),
            "has the line '1': a line is a number and an action",
        ),
        (
            "OxfordFlowers",
            lambda home: (home / "cat_to_name.json").write_text("[]"),
            "is no list of names by label",
        ),
        (
            "FGVCAircraft",
            replace("variants.txt", "red abbey", "red baron"),
            "whose variant is not in variants.txt",
        ),
        (
            "ImageNetA",
            remove("classnames.txt"),
            "classnames.txt' of data set ImageNetA does not exist: copy it from ImageNet's folder",
        ),
        (
            "ImageNetA",
            replace("classnames.txt", " red abbey", ""),
            "a line is a folder, a space and the name of its class",
        ),
        (
            "ImageNetR",
            lambda home: shutil.rmtree(sorted((home / "imagenet-r").glob("n*"))[0]),
            "holds 199 class folders instead of 200: unpack the whole",
        ),
        (
            "ImageNetR",
            lambda home: sorted((home / "imagenet-r").glob("n*"))[0].rename(
                home / "imagenet-r/n99999999"
            ),
            "has no name for folder 'n99999999'",
        ),
    ],
)
def test_what_is_wrong_with_the_files_is_said(root, tmp_path, name, change, message):
    with pytest.raises(UserError, match=message) as error:
        load(break_(root, tmp_path, name, change), name)
    assert "\n" not in str(error.value)


def test_images_in_train_and_test_are_warned_of(root, tmp_path, capsys):
    def change(home):
        path = home / "split_zhou_UCF101.json"
        split = json.loads(path.read_text())
        split["test"].append(split["train"][0])
        path.write_text(json.dumps(split))

    load(break_(root, tmp_path, "UCF101", change, split=True), "UCF101")
    assert re.search(
        r"Warning: split file .* has 1 image\(s\) in both train and test, first Red_Abbey/",
        capsys.readouterr().out,
    )


def test_a_template_from_the_config(root):
    miniature(root, "UCF101")
    assert load(root, "UCF101").templates == ("a photo of a person doing {}.",)
    assert load(root, "UCF101", "DATASET.TEMPLATE", "a drawing of {}.").templates == (
        "a drawing of {}.",
    )
    with pytest.raises(
        UserError, match=r"DATASET.TEMPLATE is 'a drawing': write one {} where the class name goes"
    ):
        load(root, "UCF101", "DATASET.TEMPLATE", "a drawing")


# Your own data


def draw_own(folder: Path, names=("ant", "bee_fly"), number: int = 10, below: str = "") -> Path:
    for label, name in enumerate(names):
        for i in range(number):
            path = folder / below / name / f"{i}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(np.full((8, 8, 3), 20 * label + i, dtype=np.uint8)).save(path)
    return folder


def own(tmp_path, *options):
    return load(tmp_path, "ImageFolder", "DATASET.FOLDER", "own", *options)


def test_image_folder_with_one_folder_per_class(tmp_path, capsys):
    home = draw_own(tmp_path / "data/own")
    data = own(tmp_path)
    assert data.classnames == ["ant", "bee_fly"] and [
        len(part) for part in (data.train_x, data.val, data.test)
    ] == [10, 4, 6]
    assert (
        "each class is split into 50% train, 20% val and 30% test here" in capsys.readouterr().out
    )
    (home / "classnames.txt").write_text("bee_fly hover fly\n")
    few = own(tmp_path, "DATASET.NUM_SHOTS", 2)
    assert few.classnames == ["ant", "hover fly"] and len(few.train_x) == 4
    assert (
        own(tmp_path, "DATASET.NUM_SHOTS", 2).num_classes == 2
    )  # the cache of the draw is no class
    assert own(tmp_path, "DATASET.SUBSAMPLE_CLASSES", "new").classnames == ["hover fly"]
    assert own(tmp_path, "DATASET.FOLDER", str(home)).dataset_dir == str(
        home
    )  # absolute, or in ROOT itself
    assert load(tmp_path, "ImageFolder", "DATASET.ROOT", str(home)).num_classes == 2


def test_image_folder_with_parts(tmp_path):
    home = tmp_path / "data/own"
    draw_own(home, below="train")
    with pytest.raises(
        UserError,
        match="has a folder train but neither val nor test: add one, or move the class folders up",
    ):
        own(tmp_path)
    draw_own(home, below="test", number=3)
    assert [
        len(part) for part in (own(tmp_path).train_x, own(tmp_path).val, own(tmp_path).test)
    ] == [16, 4, 6]
    draw_own(home, below="val", number=1)
    assert [len(part) for part in (own(tmp_path).train_x, own(tmp_path).val)] == [20, 2]
    shutil.rmtree(home / "test")
    assert (
        own(tmp_path).test == own(tmp_path).test and len(own(tmp_path).test) == 2
    )  # val serves as test
    draw_own(home, names=("wasp",), below="val")
    with pytest.raises(
        UserError, match="wasp' is a class without training images: add a folder 'wasp' to train"
    ):
        own(tmp_path)
    (home / "train/wasp").mkdir()
    with pytest.raises(UserError, match="wasp' holds no images"):
        own(tmp_path)
    (tmp_path / "data/none").mkdir()
    with pytest.raises(
        UserError, match="holds no folders: DATASET.NAME ImageFolder needs one folder per class"
    ):
        own(tmp_path, "DATASET.FOLDER", "none")
    with pytest.raises(
        UserError,
        match="nowhere' of data set ImageFolder does not exist: correct DATASET.FOLDER or --root",
    ):
        own(tmp_path, "DATASET.FOLDER", "nowhere")


def table(tmp_path, header: str, *lines: str) -> Path:
    home = draw_own(tmp_path / "data/own")
    (home / "images.csv").write_text("\n".join((header, *lines)) + "\n")
    return tmp_path


def rows(*columns):
    """A line for every picture; `columns` are functions of (class number, picture number)."""
    return [
        ",".join([f"{name}/{i}.png", *(str(column(label, i)) for column in columns)])
        for label, name in enumerate(("ant", "bee_fly"))
        for i in range(10)
    ]


def by_number(_, i):
    return ("train", "train", "train", "train", "val", "val", "test", "test", "test", "test")[i]


def csv(tmp_path, *options):
    return load(tmp_path, "CSV", "DATASET.FOLDER", "own", *options)


def test_csv_with_names_parts_and_domains(tmp_path):
    lines = rows(
        lambda c, i: 1 - c,
        lambda c, i: f"thing {c}",
        by_number,
        lambda c, i: ("sunny", "rainy")[i % 2],
    )
    table(tmp_path, "path,label,classname,split,domain", *lines)
    data = csv(tmp_path)
    assert data.classnames == ["thing 1", "thing 0"] and [
        len(part) for part in (data.train_x, data.val, data.test)
    ] == [8, 4, 8]
    assert {(Path(item.impath).stem, item.domain) for item in data.train_x} == {
        ("0", 1),
        ("1", 0),
        ("2", 1),
        ("3", 0),
    }  # rainy is 0, sunny 1
    shifted = csv(
        tmp_path,
        "DATASET.SOURCE_DOMAINS",
        ("sunny",),
        "DATASET.TARGET_DOMAINS",
        ("rainy",),
        "DATASET.NUM_SHOTS",
        1,
    )
    assert {item.domain for item in shifted.train_x} == {1} and {
        item.domain for item in (*shifted.train_u, *shifted.test)
    } == {0}
    assert len(shifted.train_x) == len(shifted.train_u) == 2 and {
        item.label for item in shifted.train_u
    } == {-1}
    with pytest.raises(
        UserError,
        match=(
            r"DATASET.TARGET_DOMAINS names 'snowy', which is not in column domain of '.*' \(rainy, "
            r"sunny\)"
        ),
    ):
        csv(tmp_path, "DATASET.TARGET_DOMAINS", ("snowy",))


def test_csv_with_text_labels_and_groups(tmp_path, capsys):
    table(
        tmp_path,
        "path,label,group",
        *rows(lambda c, i: ("zebra", "ape")[c], lambda c, i: 2 * c + i % 2),
    )
    data = csv(tmp_path)
    assert data.classnames == ["ape", "zebra"] and [
        len(part) for part in (data.train_x, data.val, data.test)
    ] == [10, 4, 6]
    assert "has no column split" in capsys.readouterr().out
    assert (
        len(
            {
                (item.label, item.domain)
                for part in (data.train_x, data.val, data.test)
                for item in part
            }
        )
        == 4
    )


@pytest.mark.parametrize(
    "header, lines, message",
    [
        ("path,label", [], "has no rows: write a header"),
        (
            "file,label",
            ["a,1"],
            "has the columns file, label: it needs path, and label or classname",
        ),
        (
            "path,label",
            rows(lambda c, i: c),
            "has labels but no class names: add a column classname",
        ),
        ("path,classname", ["ant/0.png,"], "line 2 has no class name: fill it in"),
        ("path,classname", ["ant/0.png,a,b"], "line 2 has more or fewer values than the header"),
        (
            "path,classname,split",
            ["ant/0.png,a,train", "ant/1.png,a,trial"],
            "line 3 has the split 'trial': write train, val or test",
        ),
        (
            "path,classname,split",
            ["ant/0.png,a,train"],
            "has no row with the split 'test': add some",
        ),
        (
            "path,classname,split",
            ["ant/0.png,a,train", "ant/none.png,a,test"],
            r"names 1 image\(s\) that are not in .*, first ant/none.png",
        ),
        (
            "path,label,classname,split",
            ["ant/0.png,0,a,train", "ant/1.png,0,b,test"],
            "gives label 0 to both 'a' and 'b'",
        ),
        (
            "path,classname,split,domain,group",
            ["ant/0.png,a,train,x,0", "ant/1.png,a,test,y,0"],
            r"line 3: group '0' is class and domain \('a', 'x'\) elsewhere and \('a', 'y'\) here: "
            r"a group is one class in one domain",
        ),
    ],
)
def test_a_wrong_table_is_refused_in_one_sentence(tmp_path, header, lines, message):
    table(tmp_path, header, *lines)
    with pytest.raises(UserError, match=message) as error:
        csv(tmp_path)
    assert "\n" not in str(error.value)


def test_a_missing_table(tmp_path):
    draw_own(tmp_path / "data/own")
    with pytest.raises(
        UserError,
        match=(
            r"none.csv' cannot be read as a CSV table \(No such file or directory\): correct "
            r"DATASET.CSV"
        ),
    ):
        csv(tmp_path, "DATASET.CSV", "none.csv")


# An unlabelled target


def test_another_data_set_as_unlabelled_target(root):
    for name in ("ImageNetA", "ImageNetR", "ImageNet", "ImageNetSketch", "EuroSAT"):
        miniature(root, name)
    data = load(
        root,
        "ImageNet",
        "DATASET.NUM_SHOTS",
        1,
        "DATASET.TARGET",
        "ImageNetSketch",
        "DATASET.SUBSAMPLE_CLASSES",
        "base",
    )
    assert len(data.train_u) == 500 and all(
        "imagenet-sketch" in item.impath and item.label == -1 and not item.classname
        for item in data.train_u
    )
    options = (
        "DATASET.NUM_SHOTS",
        1,
        "DATASET.TARGET",
        "ImageNetSketch",
        "DATASET.SUBSAMPLE_CLASSES",
        "base",
    )
    oracle = load(root, "ImageNet", *options, "DATASET.TARGET_LABELLED", True)
    assert set(Counter(item.label for item in oracle.train_x).values()) == {2}
    assert {(item.label, item.classname) for item in oracle.train_x} == set(
        enumerate(oracle.classnames)
    )
    plain = load(root, "ImageNet", "DATASET.NUM_SHOTS", 1, "DATASET.SUBSAMPLE_CLASSES", "base")
    assert [item.impath for item in plain.train_x] == [
        item.impath for item in data.train_x
    ] and not plain.train_u
    with pytest.raises(
        UserError,
        match=(
            r"^ImageNetR lacks 800 class\(es\) of ImageNet: .*, if it has some of them only, set "
            r"DATASET.TARGET_CLASSES subset"
        ),
    ):
        load(root, "ImageNet", "DATASET.NUM_SHOTS", 1, "DATASET.TARGET", "ImageNetR")
    assert (
        len(
            load(
                root,
                "ImageNet",
                "DATASET.NUM_SHOTS",
                1,
                "DATASET.TARGET",
                "ImageNetR",
                "DATASET.TARGET_CLASSES",
                "subset",
            ).train_u
        )
        == 200
    )
    with pytest.raises(
        UserError, match=r"^ImageNet lacks 10 class\(es\) of EuroSAT: Annual Crop Land, Forest"
    ):
        load(root, "ImageNet", "DATASET.NUM_SHOTS", 1, "DATASET.TARGET", "EuroSAT")
    with pytest.raises(
        UserError, match="DATASET.TARGET_CLASSES is 'some': choose one of same, subset"
    ):
        load(root, "EuroSAT", "DATASET.TARGET", "EuroSAT", "DATASET.TARGET_CLASSES", "some")
    with pytest.raises(UserError, match="unknown dataset 'Sketches'"):
        load(root, "ImageNet", "DATASET.TARGET", "Sketches")


def test_an_empty_target(tmp_path):
    table(
        tmp_path,
        "path,label,split,domain",
        *rows(lambda c, i: "ab"[c], by_number, lambda c, i: by_number(c, i)),
    )
    with pytest.raises(
        UserError,
        match=(
            r"target CSV \(test\) has no training images: choose another DATASET.TARGET or "
            r"TARGET_DOMAINS"
        ),
    ):
        csv(tmp_path, "DATASET.TARGET_DOMAINS", ("test",))


# The tools


def test_check_is_green_on_miniatures_of_all_sets(root, capsys):
    for name in HALVES:
        miniature(root, name)
    assert check.main(["--root", str(root / "data")]) == 0
    said = capsys.readouterr().out
    for name in HALVES:
        line = next(line for line in said.splitlines() if line.startswith(f"{name} (miniature)"))
        assert re.search(r"([\d,]+) / \1  .*  none$", line), line
    assert "Emoji: absent: run `python -m datasets.prepare emoji" in said


def test_check_of_an_empty_root_explains_itself(tmp_path, capsys):
    assert check.main(["--root", str(tmp_path / "none")]) == 0
    said = capsys.readouterr().out
    assert "is no folder yet: the first `python -m datasets.prepare NAME --root" in said
    for name in (*HALVES, "Emoji", "Material"):
        assert re.search(
            rf"^{name}: absent: run `python -m datasets.prepare \w+ --root", said, re.M
        )
    assert check.main(["--root", str(tmp_path), "oxford_pets"]) == 1
    assert check.main(["--root", str(tmp_path), "oxford_cars"]) == 2
    assert (
        "error: unknown data set 'oxford_cars': did you mean 'StanfordCars'? known ones are "
        "Caltech101" in capsys.readouterr().err
    )


def test_check_lists_what_is_wrong(root, tmp_path, capsys):
    def change(home):
        (home / "images/red_abbey/red_abbey_0003.jpg").write_bytes(b"\xff\xd8 half a picture")
        told = json.loads((home / "miniature.json").read_text())
        told["DescribableTextures"]["images"]["test"] += 1
        told["DescribableTextures"]["split_md5"] = "0" * 32
        (home / "miniature.json").write_text(json.dumps(told))

    break_(root, tmp_path, "DescribableTextures", change, split=True)
    assert check.main(["dtd", "--root", str(tmp_path / "data")]) == 1
    said = capsys.readouterr().out
    assert re.search(r"image '.*red_abbey_0003.jpg' cannot be read", said)
    assert "test has 141 images instead of 142: the data set is not complete" in said
    assert (
        "split_zhou_DescribableTextures.json is not the published file (md5 000" in said
        and "  other  " in said
    )


def test_the_real_numbers_are_expected_without_the_mark_of_a_miniature(root, tmp_path):
    break_(root, tmp_path, "EuroSAT", remove("miniature.json"), split=True)
    report = check.examine(prepare.find("eurosat"), str(tmp_path / "data"))
    assert (
        report.expected == 27000 and report.found == 100 and len(report.problems) == 4
    )  # three sizes and the split's checksum


def test_miniatures_tool(tmp_path, capsys):
    assert miniatures.main(["eurosat", "--root", str(tmp_path)]) == 0
    assert miniatures.main(["eurosat", "--root", str(tmp_path)]) == 2
    assert "eurosat' exists: delete it or choose another --root" in capsys.readouterr().err
    assert miniatures.main(["material", "--root", str(tmp_path)]) == 2
    assert "there is no miniature of Material" in capsys.readouterr().err


def test_every_published_set_says_where_it_comes_from():
    for name, cls in prepare.prepared_classes().items():
        if cls.classes:
            second = cls.mirror or cls.manual or issubclass(cls, (GroupDataset, ShiftDataset))
            assert (cls.sources and second or cls.manual) and issubclass(cls, CoOpDataset), name
            assert not cls.split_file or any(
                source.name == cls.split_file and source.md5 == cls.split_md5
                for source in cls.sources
            ), name
            config = (
                Path(__file__).resolve().parent.parent
                / "configs/datasets"
                / f"{cls.config_name()}.yaml"
            )
            assert f'"{name}"' in config.read_text()
