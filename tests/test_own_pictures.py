"""Files and tables that people bring: nothing is dropped, merged or counted twice without a word,
and every sentence fits.
"""

import argparse
import errno
import json
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
from PIL import Image

import datasets
import train
from dassl.config import get_cfg_default
from dassl.data.datasets import DATASET_REGISTRY
from dassl.utils import UserError, read_json, set_random_seed, write_json
from datasets import files
from datasets.base import CoOpDataset, split_off_val
from datasets.imagefolder import part_of
from tools import predict, trained

ROOT = Path(__file__).resolve().parent.parent


@DATASET_REGISTRY.register()
class Garden(CoOpDataset):
    """A data set with a split file."""

    folder = "garden"
    split_file = "split_zhou_Garden.json"


def draw(*paths: Path) -> None:
    for number, path in enumerate(paths):
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (4, 4), (number % 256, 0, 0)).save(path, "PNG")


def folders(home: Path, *names: str, number: int = 5) -> Path:
    draw(*(home / name / f"{i}.png" for name in names for i in range(number)))
    return home


def load(home: Path, *options, name: str = "ImageFolder"):
    """The data set `name` in the folder `home`."""
    cfg = get_cfg_default()
    datasets.extend_cfg(cfg)
    cfg.merge_from_list(["DATASET.ROOT", str(home), "DATASET.NAME", name, "SEED", 1, *options])
    cfg.freeze()
    set_random_seed(1)
    return DATASET_REGISTRY.get(name)(cfg)


def table(home: Path, text: str, encoding: str = "utf-8"):
    """The CSV data set of a table of pictures that are all there."""
    home.mkdir(exist_ok=True)
    (home / "images.csv").write_bytes(text.encode(encoding))
    return load(home, name="CSV")


def counts(data) -> tuple[int, int, int]:
    return len(data.train_x), len(data.val), len(data.test)


def refusal(function, *arguments, **options) -> str:
    """The sentence with which a call is refused."""
    with pytest.raises(UserError) as error:
        function(*arguments, **options)
    assert "\n" not in str(error.value) and len(str(error.value)) < 600
    return str(error.value)


# Text


def of_classes_file(path: Path):
    return trained.class_names(argparse.Namespace(classes=None, classes_file=str(path)))


READERS = {  # kind of file: (content, reader)
    "lines": ("tench\ngold fish\n", lambda path: files.read_lines(str(path))),
    "class names": ("n01 tench\nn02 gold fish\n", lambda path: files.read_class_names(str(path))),
    "names of folders": (
        "n01 tench\nn02 gold fish\n",
        lambda path: files.names_of_folders(str(path), ["n01", "n02"], "correct it"),
    ),
    "table": ("path,label\na.png,1\n", lambda path: list(files.read_cells(str(path)))),
    "columns": ("path label\na.png 1\n", lambda path: list(files.read_cells(str(path), None))),
    "--classes-file": ("tench\ngold fish\n", of_classes_file),
}
HARMLESS = {
    "byte order mark": lambda text: b"\xef\xbb\xbf" + text.encode(),
    "CRLF": lambda text: text.replace("\n", "\r\n").encode(),
    "CR": lambda text: text.replace("\n", "\r").encode(),
    "blank lines": lambda text: ("\n \n" + text.replace("\n", "\n\t\n")).encode(),
    "blanks at the ends of lines": lambda text: text.replace("\n", " \u00a0\t\n").encode(),
    "invisible signs": lambda text: text.replace("\n", "\u200b\ufeff\n").encode(),
    "no line feed at the end": lambda text: text.rstrip("\n").encode(),
}
HOSTILE = {
    "Latin-1": "caf\u00e9".encode("latin-1"),
    "UTF-16": "tench".encode("utf-16"),
    "UTF-16 without mark": "tench\n".encode("utf-16-le"),
    "zero bytes": b"tench\0\n",
    "random": bytes(range(128, 256)),
}


@pytest.mark.parametrize("kind", READERS)
def test_every_reader_of_text_takes_what_editors_add_and_refuses_what_is_no_text(tmp_path, kind):
    text, read = READERS[kind]
    path = tmp_path / "file.txt"
    path.write_text(text)
    plain = read(path)
    values = [value for _, value in plain] if kind in ("table", "columns") else plain
    for what, change in HARMLESS.items():
        if kind == "columns" and what == "invisible signs":
            continue
        path.write_bytes(change(text))
        found = read(path)
        assert (
            [value for _, value in found] if kind in ("table", "columns") else found
        ) == values, what
    for what, content in HOSTILE.items():
        path.write_bytes(content)
        said = refusal(read, path)
        assert f"'{path}' cannot be read (not UTF-8 text): save it as UTF-8 text, or" in said, what
    path.unlink()
    assert "cannot be read (No such file or directory)" in refusal(read, path)


def test_json_with_a_byte_order_mark(tmp_path):
    (tmp_path / "a.json").write_text('{"a": [1]}', encoding="utf-8-sig")
    assert read_json(str(tmp_path / "a.json")) == {"a": [1]}


def test_an_open_quotation_mark_does_not_swallow_the_rest(tmp_path):
    (tmp_path / "a.csv").write_text('path,classname\na.png,"cat\nb.png,dog\n')
    assert "(line 3: a quotation mark is not closed or stands inside a value): correct" in refusal(
        lambda: list(files.read_cells(str(tmp_path / "a.csv"), remedy="correct it"))
    )


@pytest.mark.parametrize(
    "given, message",
    [
        ("cat,,dog", "--classes has the blank name ''"),
        ("cat,_", "has the blank name '_'"),
        ("cat,\u200b", "has the blank name ''"),
        (
            "Dog,dog",
            "--classes names 'Dog' and 'dog', which are the same text for CLIP: give every class "
            "once",
        ),
        ("a_cat,a  cat", "'a_cat' and 'a  cat', which are the same"),
        ("t-shirt,t - shirt", "'t-shirt' and 't - shirt', which are the same"),
        ("caf\udce9,dog", "has a name that is not UTF-8 text"),
    ],
)
def test_classes_given_to_the_tools(given, message):
    assert message in refusal(
        trained.class_names, argparse.Namespace(classes=given, classes_file=None)
    )


# classnames.txt


def names_in(home: Path, text: str) -> list[str]:
    (home / "classnames.txt").write_text(text)
    return load(home).classnames


def test_folders_with_blanks_have_their_names(tmp_path):
    home = folders(tmp_path / "own", "great tit", "blue tit", "robin")
    assert names_in(home, "great tit Parus major\nrobin   Erithacus rubecula \n") == [
        "blue tit",
        "Parus major",
        "Erithacus rubecula",
    ]
    assert names_in(home, "great tit\tParus major\n") == ["blue tit", "Parus major", "robin"]


@pytest.mark.parametrize(
    "text, message",
    [
        (
            "robbin Erithacus\n",
            "has the line 'robbin Erithacus', which begins with no folder, and folder 'blue tit' "
            "has no line: correct the line or delete it",
        ),
        ("robin\n", "has the line 'robin': a line is a folder, a space and the name of its class"),
        (
            "robin Erithacus\nrobin Turdus\n",
            "names folder 'robin' both 'Erithacus' and 'Turdus': delete one of the lines",
        ),
        (
            "blue tit x\n",
            "begins with the folders 'blue' and 'blue tit': write a tab behind the folder that "
            "is meant",
        ),
        ("robin \u200b\n", "a line is a folder, a space"),
    ],
)
def test_lines_that_name_no_folder_or_two_are_refused(tmp_path, text, message):
    home = folders(tmp_path / "own", "blue tit", "robin", *["blue"] * ("blue tit x" in text))
    assert message in refusal(names_in, home, text)


def test_a_list_of_more_folders_is_fine_and_said(tmp_path, capsys):
    home = folders(tmp_path / "own", "n01", "n02")
    assert names_in(home, "n01 tench\nn02 shark\nn03 ray\nn02 shark\n") == ["tench", "shark"]
    assert (
        capsys.readouterr().out.count(
            "has 1 line(s) of folders that are not there, first 'n03 ray'"
        )
        == 1
    )
    (home / "classnames.txt").unlink()
    (home / "classnames.txt").mkdir()
    assert "classnames.txt' is no file" in refusal(load, home)


def test_accents_are_the_same_in_both_of_their_spellings(tmp_path):
    home = folders(tmp_path / "own", "Mo\u0308we", "dog")  # as a Mac writes it
    assert names_in(home, "M\u00f6we gull\n") == ["gull", "dog"]


def test_classes_of_the_same_text_are_named(tmp_path, capsys):
    load(folders(tmp_path / "a", "a_cat", "a  cat", "Dog", "dog", "R&amp;D", "R&D", "elk"))
    said = [line for line in capsys.readouterr().out.splitlines() if line.startswith("Warning")]
    assert (
        len(said) == 1
        and "3 group(s) of classes of ImageFolder are the same text for CLIP" in said[0]
    )
    assert (
        "'a  cat' and 'a_cat'" in said[0]
        and "'Dog' and 'dog'" in said[0]
        and "'R&D' and 'R&amp;D'" in said[0]
        and "elk" not in said[0]
    )
    load(folders(tmp_path / "b", "ant", "bee"))
    assert "Warning" not in capsys.readouterr().out
    assert "has the class name '__', which is no word: give the class a name" in refusal(
        load, folders(tmp_path / "c", "__", "bee")
    )


# CSV


PARTS = ("train", "train", "val", "test")


def lines(*classes: str, header: str = "path,label,classname,split", sign: str = ",") -> str:
    """A table of four pictures per class; `classes` are the values between path and split."""
    return (
        "\n".join(
            [
                header,
                *(
                    sign.join((f"{c}-{i}.png", text, part))
                    for c, text in enumerate(classes)
                    for i, part in enumerate(PARTS)
                ),
            ]
        )
        + "\n"
    )


@pytest.fixture
def home(tmp_path):
    draw(*(tmp_path / "own" / f"{c}-{i}.png" for c in range(3) for i in range(4)))
    return tmp_path / "own"


@pytest.mark.parametrize(
    "classes, labels, names",
    [
        (("0,cat", "1,dog"), [0, 1], ["cat", "dog"]),
        (("1.0,cat", "0.0,dog"), [1, 0], ["dog", "cat"]),
        ((" 1 ,cat ", "00,dog"), [1, 0], ["dog", "cat"]),
        (("\u0661,cat", "+0.,dog"), [1, 0], ["dog", "cat"]),  # an Arabic one
        (("1,crane", "0,crane"), [1, 0], ["crane", "crane"]),
        (("n0,crane", "n1,crane", "n2,ape"), [1, 2, 0], ["ape", "crane", "crane"]),
        (("1.0,cat", "x,ape"), [1, 0], ["ape", "cat"]),
        (
            ("9" * 5000 + ",cat", "\u00b2,ape"),
            [1, 0],
            ["ape", "cat"],
        ),  # text, since no number that int() takes
        (("1,Cat", "0,cat"), [1, 0], ["cat", "Cat"]),
        (('0,"a, b"', "1,c"), [0, 1], ["a, b", "c"]),
    ],
)
def test_labels_keep_their_identity_whatever_their_spelling(home, classes, labels, names):
    data = table(home, lines(*classes))
    assert data.classnames == names and data.num_classes == len(names)
    for items in (data.train_x, data.val, data.test):
        assert {Path(item.impath).name[0]: item.label for item in items} == {
            str(c): label for c, label in enumerate(labels)
        }


@pytest.mark.parametrize("spelling", ["1.0,cat", " 1,cat", "01,cat ", "1,0;cat"])
def test_one_class_in_two_spellings_is_one(home, spelling):
    sign = ";" if ";" in spelling else ","
    text = lines(
        "1,cat".replace(",", sign),
        "0,dog".replace(",", sign),
        header=sign.join(("path", "label", "classname", "split")),
        sign=sign,
    )
    first = text.splitlines()[1]
    data = table(home, text.replace(first, first.replace("1,cat".replace(",", sign), spelling)))
    assert data.classnames == ["dog", "cat"] and counts(data) == (4, 2, 2)


@pytest.mark.parametrize(
    "classes, message",
    [
        (("0,cat", ",dog"), "line 6 has no label: fill it in, or take the column out"),
        (("0,cat", " \u200b,dog"), "line 6 has no label"),
        (("0,cat", "1, "), "line 6 has no class name: fill it in"),
        (("0,cat", "1,__"), "has the class name '__', which is no word"),
        (("-1,cat", "0,dog"), "has 2 classes but none with label 1: number them from 0"),
        (("1,cat", "3,dog"), "has 2 classes but none with label 0: number them from 0"),
        (("999999999999,cat", "0,dog"), "none with label 1"),
        (
            ("0,cat", "0,dog"),
            "line 6 gives label 0 to both 'cat' and 'dog': give every class its own label",
        ),
        (("0,cat", "0.0,dog"), "gives label 0 to both"),
        (("\u00b2,cat", "\u00b2,dog"), "gives label \u00b2 to both"),
        (("9" * 5000 + ",cat", "9" * 5000 + ",dog"), "99... to both 'cat' and 'dog'"),
        (("0,cat", "1,dog,more"), "line 6 has more or fewer values than the header"),
        (
            ("0,cat", '1,"dog'),
            "line 7: a quotation mark is not closed or stands inside a value): correct the table",
        ),
        (("0,cat", '1,"do"g'), "line 6: a quotation mark"),
    ],
)
def test_labels_that_cannot_be_meant(home, classes, message):
    assert message in refusal(table, home, lines(*classes))


@pytest.mark.parametrize(
    "change",
    [
        lambda text: text.replace(",", ";"),
        lambda text: text.replace(",", "\t"),
        lambda text: text.replace(",", " , "),
        lambda text: text.replace("path,label,classname,split", "Path,LABEL,Class Name, Split "),
        lambda text: text.replace("\n", "\n,,,\n\n"),
        lambda text: text.replace("\n", ",,\n"),
        lambda text: "\ufeff" + text.replace("\n", "\r\n"),
        lambda text: text.replace("train", "Training").replace("val", "valid"),
        lambda text: text.replace("0-0.png", "./0-0.png").replace("0-1.png", ".\\0-1.png"),
        lambda text: "\n".join(
            f"{number or ''},{line}" for number, line in enumerate(text.splitlines())
        ),  # an index in front, as pandas writes it
    ],
)
def test_tables_as_other_programs_write_them(home, change):
    data = table(home, change(lines("0,cat", "1,dog")))
    assert (
        data.classnames == ["cat", "dog"]
        and counts(data) == (4, 2, 2)
        and all(Path(item.impath).is_file() for item in data.train_x)
    )


def test_columns_that_mean_nothing_are_said_and_near_ones_refused(home, capsys):
    table(home, lines("0,cat,me", "1,dog,you", header="path,label,classname,author,split"))
    assert "has columns that mean nothing here: author" in capsys.readouterr().out
    table(home, lines("0,cat,dog", "1,dog,cat", header="path,label,classname,,split"))
    assert "mean nothing here: one without a name" in capsys.readouterr().out
    long = f"path,label,classname,{'x' * 140_000},split"
    assert "cannot be read" in refusal(table, home, lines("0,cat,x", "1,dog,x", header=long))
    assert "has the column 'domains': rename it to domain" in refusal(
        table, home, lines("0,cat,x", "1,dog,x", header="path,label,classname,domains,split")
    )
    assert "has the column label twice" in refusal(
        table, home, lines("0,1,cat", "1,0,dog", header="path,label,Label,classname,split")
    )


def test_domains_in_any_spelling(home):
    text = lines("0,cat,10", "1,dog,10", header="path,label,classname,domain,split").splitlines()
    text = [
        text[0],
        *(
            line.replace(",10,", (",2.0,", ", 2,", ",10,", ",2,")[number % 4])
            for number, line in enumerate(text[1:])
        ),
    ]
    data = table(home, "\n".join(text))
    assert data.domain_names == ("2", "10") and Counter(item.domain for item in data.train_x) == {
        0: 4
    }
    assert len(load(home, "DATASET.TARGET_DOMAINS", ("2",), name="CSV").train_u) == 4
    assert "leaves no test image" in refusal(
        load, home, "DATASET.TARGET_DOMAINS", ("10",), name="CSV"
    )
    assert "line 2 has no domain: fill it in, or take the column out" in refusal(
        table, home, "\n".join(text).replace(",2.0,", ",,", 1)
    )
    odd = "\n".join(text).replace(",2.0,", ",\u00b2,").replace(", 2,", f",{'7' * 5000},")
    assert set(table(home, odd).domain_names) == {"2", "10", "\u00b2", "7" * 5000}


# The same picture


def test_one_file_under_two_paths_is_taken_once_or_warned_of(home, capsys):
    os.symlink("0-0.png", home / "link.png")
    os.link(home / "1-0.png", home / "hard.png")
    os.symlink(".", home / "here")
    text = lines("0,cat", "1,dog")
    data = table(
        home, text + "link.png,0,cat,train\nhard.png,1,dog,train\nhere/1-1.png,1,dog,train\n"
    )
    assert (
        counts(data) == (4, 2, 2)
        and "has 3 image(s) more than once, first 'link.png': each is taken once"
        in capsys.readouterr().out
    )
    for path in (
        "./0-0.png",
        "here//0-0.png",
        "link.png",
        f"../{home.name}/0-0.png",
        str(home / "0-0.png"),
    ):
        assert counts(table(home, text + f"{path},0,cat,test\n")) == (4, 2, 3)
        assert (
            f"Warning: the table '{home}/images.csv' has 1 image(s) in both train and test, "
            f"first {path}" in capsys.readouterr().out
        )
    table(home, text + "hard.png,1,dog,val\n")
    assert "has 1 image(s) in both train and val, first hard.png" in capsys.readouterr().out
    assert (
        "has one file in two places: '1-0.png' of class 'dog' is 'hard.png' of class 'cat': take "
        "one of them out" in refusal(table, home, text + "hard.png,0,cat,test\n")
    )


def test_a_split_file_that_lists_a_file_twice_is_warned_of(tmp_path, capsys):
    folders(tmp_path / "garden/images", "cat", "dog", number=2)
    split = {
        "train": [["cat/0.png", 0, "cat"], ["cat//0.png", 0, "cat"], ["dog/0.png", 1, "dog"]],
        "val": [],
        "test": [["cat/1.png", 0, "cat"], ["dog/../dog/0.png", 1, "dog"]],
    }
    (tmp_path / "garden/split_zhou_Garden.json").write_text(json.dumps(split), encoding="utf-8-sig")
    assert counts(load(tmp_path, name="Garden")) == (3, 0, 2)  # as it is written
    said = capsys.readouterr().out
    assert "lists 1 image(s) of train more than once, first 'cat//0.png' in 'cat' and 'cat'" in said
    assert "has 1 image(s) in both train and test, first dog/../dog/0.png" in said


def test_an_index_file_that_lists_a_file_twice(tmp_path, capsys):
    folders(tmp_path / "garden/images", "cat", "dog", number=2)
    rows = [[f"{name}/0.png", label, name] for label, name in enumerate(("cat", "dog"))]
    split = {"train": rows, "val": [], "test": rows}
    write_json(split, str(tmp_path / "garden/split_zhou_Garden.json"))
    picks = {"data": [{"impath": f"/x/garden/images/{row[0]}"} for row in (*rows, rows[0])]}
    path = tmp_path / "indices/test_own_pictures/shot_1-seed_1.json"
    write_json({"train": picks, "val": {"data": []}}, str(path))
    options = ("DATASET.NUM_SHOTS", 1, "DATASET.INDICES", str(tmp_path / "indices"))
    assert counts(load(tmp_path, *options, name="Garden")) == (2, 0, 2)
    assert "names 1 image(s) of the train part more than once: each is taken once" in (
        capsys.readouterr().out
    )


def test_links_do_not_make_pictures_two(tmp_path, capsys):
    home = folders(tmp_path / "own", "cat", "dog")
    os.symlink("0.png", home / "cat/again.png")
    (home / "cat/more").mkdir()
    os.symlink("..", home / "cat/more/up")
    os.symlink("../..", home / "cat/more/top")
    os.symlink("more", home / "cat/same")
    os.symlink("self", home / "cat/self")
    os.symlink(".", home / "all")
    data = load(home)
    assert sum(counts(data)) == 10 and data.classnames == ["cat", "dog"]
    assert {
        Path(item.impath).name for items in (data.train_x, data.val, data.test) for item in items
    } == {f"{i}.png" for i in range(5)}
    said = capsys.readouterr().out
    for what in (
        "3 link(s) in a circle",
        "1 link(s) to pictures that are there already",
        "1 link(s) to folders that are there already",
        "1 pipe(s), device(s) or dead link(s)",
    ):
        assert what in said, what
    os.symlink("cat", home / "kitten")
    assert (
        "has one file in two places: 'cat/0.png' of class 'cat' is 'kitten/0.png' of class "
        "'kitten'" in refusal(load, home)
    )


def test_a_test_folder_that_is_the_training_folder_is_warned_of(tmp_path, capsys):
    home = folders(tmp_path / "own", "train/cat", "train/dog")
    os.symlink("train", home / "test")
    load(home)
    assert (
        "has 8 image(s) in both train and test" in capsys.readouterr().out
    )  # all but those of the validation part
    os.unlink(home / "test")
    os.symlink("train", home / "val")
    load(home)
    assert "has 10 image(s) in both train and test" in capsys.readouterr().out


@pytest.mark.parametrize(
    "junk",
    [
        "@eaDir",
        "__MACOSX",
        "#recycle",
        "lost+found",
        "Thumbnails",
        ".thumbnails",
        ".ipynb_checkpoints",
        "$RECYCLE.BIN",
        "System Volume Information",
    ],
)
def test_folders_of_systems_are_no_classes_and_hold_no_pictures(tmp_path, capsys, junk):
    home = folders(tmp_path / "own", "cat", "dog", junk, f"cat/{junk}/0.png", f"dog/{junk}")
    data = load(home)
    assert data.classnames == ["cat", "dog"] and sum(counts(data)) == 10
    said = capsys.readouterr().out
    assert (
        f"Left out of '{home}': " in said
        and ("2 hidden" if junk[0] == "." else f"3 folder(s) {junk}") in said
    )


def test_what_is_no_picture_is_counted_and_never_opened(tmp_path, capsys):
    home = folders(tmp_path / "own", "cat", "dog")
    os.mkfifo(home / "cat/pipe.png")
    (home / "cat/a.HEIC").write_text("")
    (home / "dog/b.heic").write_text("")
    (home / "dog/noending").write_text("")
    (home / "dog/Thumbs.db").write_text("")
    (home / "dog/._1.png").write_text("")
    draw(home / "stray.png")
    assert sum(counts(load(home))) == 10
    said = next(
        line for line in capsys.readouterr().out.splitlines() if line.startswith("Left out")
    )
    assert said == (
        f"Left out of '{home}': 2 file(s) .heic, 1 file(s) without ending, 1 hidden, 1 picture(s) "
        "in no class folder, 1 pipe(s), device(s) or dead link(s)"
    )
    (home / "cat/notes.txt").write_text("")
    for unread in (False, True):  # who asks for all of a folder is told of photos that are not read
        photos = [*(f"{i}.png" for i in range(5)), *["a.HEIC"] * unread]
        found = predict.find_images([str(home / "cat")], unread)
        assert found == [str(home / "cat" / name) for name in photos]
    assert "note: Left out of" in capsys.readouterr().err
    (home / "images.csv").write_text(
        "path,classname,split\ncat/pipe.png,cat,train\ncat/0.png,cat,test\n"
    )
    assert (
        "names 'cat/pipe.png' in" in (said := refusal(load, home, name="CSV"))
        and "no picture but a folder, a pipe or a device" in said
    )
    os.symlink("nowhere.png", home / "cat/lost.png")
    assert (
        "cat/lost.png' is a link to nothing: restore the picture that it leads to, or delete the "
        "link" in refusal(load, home)
    )


def test_endings_that_pil_reads(tmp_path):
    for suffix in (".jfif", ".jpe", ".JPG", ".avif"):
        draw(tmp_path / f"a{suffix}")
    assert files.list_images(str(tmp_path)) == sorted(
        f"a{suffix}"
        for suffix in (".jfif", ".jpe", ".JPG", ".avif")
        if suffix in (*files.EXTENSIONS, ".JPG")
    )
    assert {".jfif", ".jpe", ".jpg", ".png", ".webp"} <= {
        *files.EXTENSIONS
    } and ".pdf" not in files.EXTENSIONS


# Parts


@pytest.mark.parametrize(
    "name, part",
    [
        ("train", "train"),
        ("Training", "train"),
        ("training_set", "train"),
        ("trainset", "train"),
        ("TRAIN", "train"),
        ("valid", "val"),
        ("validation", "val"),
        ("Val", "val"),
        ("dev", "val"),
        ("testing", "test"),
        ("test_set", "test"),
        ("Test Images", "test"),
        ("trainer", ""),
        ("valley", ""),
        ("attest", ""),
        ("set", ""),
    ],
)
def test_names_of_parts(name, part):
    assert part_of(name) == part


@pytest.mark.parametrize(
    "train, val, test",
    [
        ("train", "valid", "test"),
        ("Training", "Validation", "Testing"),
        ("training_set", "", "test_set"),
        ("train", "val", ""),
    ],
)
def test_parts_as_roboflow_kaggle_and_keras_write_them(tmp_path, capsys, train, val, test):
    home = tmp_path / "own"
    for part, number in ((train, 5), (val, 2), (test, 3)):
        folders(home, *((f"{part}/cat", f"{part}/dog") if part else ()), number=number)
    data = load(home)
    assert data.classnames == ["cat", "dog"] and counts(data) == (
        10 if val else 8,
        4 if val else 2,
        6 if test else 4,
    )
    said = capsys.readouterr().out
    assert (f"{train} (train)" in said) == (train != "train" or val == "valid") and (
        f"{val} (val)" in said
    ) == (val not in ("", "val"))


def test_a_part_that_is_in_itself_is_unpacked(tmp_path):
    home = folders(
        tmp_path / "own",
        *(
            f"{part}/{part}/{name}"
            for part in ("training_set", "test_set")
            for name in ("cat", "dog")
        ),
    )
    assert load(home).classnames == ["cat", "dog"]


def test_train_can_be_a_class(tmp_path):
    assert load(folders(tmp_path / "own", "bus", "car", "train")).classnames == [
        "bus",
        "car",
        "train",
    ]


@pytest.mark.parametrize(
    "names, message",
    [
        (
            ("seg_train/cat", "seg_train/dog", "seg_test/cat"),
            "seg_test' looks like a part of the data set and not like a class: name the parts "
            "train, val and test",
        ),
        (("fold1/cat", "fold2/cat"), "fold1' looks like a part"),
        (("TrainImages2/cat", "dog"), "TrainImages2' looks like a part"),
        (
            ("train/cat", "training/cat", "test/cat"),
            "has the folders 'train' and 'training', which both mean train: keep one of them",
        ),
        (
            ("train/cat", "test/cat", "holdout/cat"),
            "holdout' holds class folders but is neither train, val nor test: rename it, or move "
            "it away",
        ),
        (
            ("train/cat", "test"),
            "test' holds no class folders but 5 picture(s): sort them into one folder per class",
        ),
        (("train", "test"), "test' holds no class folders but 5 picture(s)"),
        (("test/cat", "val/cat"), "but none of training images: add a folder train"),
        (
            ("birds/cat", "birds/dog"),
            "holds one folder only, 'birds', with folders in it: add 'birds' to DATASET.FOLDER",
        ),
        (
            ("train/cat", "test/Cat"),
            "test/Cat' is a class without training images: add a folder 'Cat' to train",
        ),
    ],
)
def test_parts_that_are_not_clear_are_refused(tmp_path, names, message):
    assert message in refusal(load, folders(tmp_path / "own", *names))


def test_folders_beside_the_parts_and_classes_without_test_images_are_said(tmp_path, capsys):
    load(folders(tmp_path / "own", "train/cat", "train/dog", "test/cat", "notes"))
    said = capsys.readouterr().out
    assert (
        "1 folder(s) beside the parts" in said
        and "test' has no folder of 1 class(es) of the training images, first 'dog'" in said
    )


def test_the_only_training_image_of_a_class_is_not_taken_for_validation(tmp_path, capsys):
    rows = [["a", 0, "cat"], ["b", 1, "dog"], ["c", 1, "dog"]]
    split = split_off_val(rows, [])
    assert sorted(row[1] for row in split["train"]) == [0, 1] and [
        row[1] for row in split["val"]
    ] == [1]
    assert (
        "1 class(es) with one training image have none in the val part made here, first 'cat'"
        in capsys.readouterr().out
    )
    home = folders(tmp_path / "own", "train/cat", "train/dog", "test/cat", "test/dog", number=1)
    assert counts(load(home)) == (2, 0, 2)


# Options


@pytest.mark.parametrize("shots", [0, -2, -16])
def test_no_shots_are_refused_and_all_are_minus_one(tmp_path, shots):
    home = folders(tmp_path / "own", "cat", "dog")
    assert (
        f"DATASET.NUM_SHOTS is {shots}: set it to 1 or more images per class, or to -1 for all"
        in refusal(load, home, "DATASET.NUM_SHOTS", shots)
    )
    assert len(load(home, "DATASET.NUM_SHOTS", -1).train_x) == 4


@pytest.mark.parametrize("key", ["SOURCE_DOMAINS", "TARGET_DOMAINS"])
def test_domains_of_a_data_set_without_domains_are_refused(tmp_path, key):
    home = folders(tmp_path / "own", "cat", "dog")
    assert (
        f"DATASET.{key} is (sunny, rainy) but ImageFolder has no domains to choose from"
        in refusal(load, home, f"DATASET.{key}", ("sunny", "rainy"))
    )


def test_one_class_has_no_new_half(tmp_path):
    home = folders(tmp_path / "own", "cat")
    assert "DATASET.SUBSAMPLE_CLASSES new leaves no class of 1: set it to all" in refusal(
        load, home, "DATASET.SUBSAMPLE_CLASSES", "new"
    )


# Names that are not UTF-8


def renamed(path: Path, name: bytes) -> None:
    os.rename(path, os.fsencode(path.parent) + b"/" + name)


def test_files_whose_names_are_not_utf8_are_drawn_and_found_again(tmp_path):
    home = folders(tmp_path / "own", "cat", "dog")
    for i in range(5):
        renamed(home / f"cat/{i}.png", b"caf\xe9%d.png" % i)
    first = load(home, "DATASET.NUM_SHOTS", 2)
    assert first.train_x == load(home, "DATASET.NUM_SHOTS", 2).train_x  # out of the cache
    assert sum("caf\udce9" in item.impath for item in first.train_x) == 2


def test_class_folders_whose_names_are_not_utf8_are_refused(tmp_path):
    home = folders(tmp_path / "own", "cat", "dog")
    renamed(home / "cat", b"caf\xe9")
    assert r"has the class name 'caf\udce9', which is not UTF-8 text: rename the class" in refusal(
        load, home
    )


def test_an_output_folder_that_is_not_utf8_is_refused():
    said = refusal(train.check_output, argparse.Namespace(OUTPUT_DIR="out\udce9"), None)
    assert said == r"OUTPUT_DIR is 'out\udce9', which is not UTF-8: choose another --output-dir"


def test_nothing_is_too_odd_for_the_terminal():
    code = (
        "from dassl.printable import any_text_can_be_written as w; w(); print('caf\\udce9 "
        "M\\xf6we')"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        capture_output=True,
        env={**os.environ, "PYTHONIOENCODING": "ascii"},
    )
    assert done.stdout == b"caf\\udce9 M\\xf6we\n", done.stderr


# ImageNet


def imagenet(tmp_path: Path, monkeypatch, name: str, *folders_of_images: str) -> Path:
    cls = DATASET_REGISTRY.get(name)
    monkeypatch.setattr(cls, "classes", 3)
    for folder in folders_of_images:
        draw(tmp_path / cls.folder / cls.image_folder / folder / "0.JPEG")
    (tmp_path / cls.folder / "classnames.txt").write_text(
        "n3 ray\nn1 tench\nn2 gold fish\n", encoding="utf-8-sig"
    )
    return tmp_path


def test_imagenet_v2_takes_names_by_wnid(tmp_path, monkeypatch):
    home = imagenet(tmp_path, monkeypatch, "ImageNetV2", "0", "1", "2")
    assert load(home, name="ImageNetV2").classnames == ["tench", "gold fish", "ray"]
    file = home / "imagenetv2/classnames.txt"
    file.write_text("n3 ray\nn1 tench\n")
    assert (
        "classnames.txt' names 2 classes instead of 3, so that folder numbers cannot be told"
        in refusal(load, home, name="ImageNetV2")
    )
    file.write_text("n3 ray\nn1 tench\nn1 cod\nn2 gold fish\n")
    assert "names folder 'n1' both 'tench' and 'cod'" in refusal(load, home, name="ImageNetV2")


def test_the_flat_val_of_imagenet(tmp_path, monkeypatch):
    home = imagenet(tmp_path, monkeypatch, "ImageNet", "train/n1", "train/n2", "train/n3", "val")
    said = refusal(load, home, name="ImageNet")
    assert (
        "images/val' holds 1 pictures but no class folders: sort them into a folder per class, "
        "named by its wnid"
        in said
        and "nothing else" not in said
    )


# Advice


def test_no_sentence_about_own_pictures_speaks_of_preparing_or_of_a_split_file(tmp_path):
    said = [refusal(load, tmp_path / "none"), refusal(load, tmp_path, "DATASET.FOLDER", "none")]
    home = folders(tmp_path / "own", "cat", "dog")
    (home / "elk").mkdir()
    said += [refusal(load, home), refusal(load, home, name="CSV")]
    for text in (
        "",
        "path\n",
        "path,label\n",
        "path,classname,split\ncat/none.png,cat,train\n",
        "path,classname,split\ncat/0.png,cat,train\n",
        "path,classname\ncat/0.png,cat\n",
        "path,classname,split\ncat/0.png,cat,test\n",
        "path,classname\n" + "cat,cat\n" * 9,
    ):
        said.append(refusal(table, home, text))
    (home / "classnames.txt").write_bytes(b"\xff")
    said.append(refusal(load, home))
    for sentence in said:
        assert "prepare" not in sentence and "split file" not in sentence and ": " in sentence, (
            sentence
        )


def test_a_file_or_folder_without_rights_is_not_called_damaged(tmp_path, monkeypatch):
    def refuse(*_, **__):
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr("builtins.open", refuse)
    monkeypatch.setattr(os, "scandir", refuse)
    end = "cannot be read (Permission denied): correct its rights"
    assert refusal(files.read_text, "x.txt") == f"'x.txt' {end}"
    assert refusal(files.list_folder, "x") == f"'x' {end}"
