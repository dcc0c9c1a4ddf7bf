"""`scripts/fit.sh` and what tools.predict does for it: own photos, from a folder to a page."""

import csv
import io
import json
import os
import re
import shlex
import shutil
import subprocess
import urllib.error
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageEnhance
from tiny_clip import TINY, vit_weights

from dassl import record
from dassl.utils import read_json
from datasets import files
from datasets.suite import picture_of, read_table
from tools import fit, fit_page, outcomes, own_photos, predict, sorting
from tools.inputs import InputError
from trainers import backbone

ROOT = Path(__file__).resolve().parent.parent
CLASSES = ("bell", "key", "umbrella", "gear")
NUMBER = 11
# Greek, Arabic, Chinese, an emoji, a combining mark, and what CSV and HTML have to escape.
WORLD = ("γάτα", "قطة", "猫", "🐈", "cafe\u0301", 'a "b", <i>c')


def icons(name: str, number: int) -> list[Image.Image]:
    """Drawings of a class by different artists."""
    found: dict[str, dict] = {}
    for row in read_table("things").values():
        if row["class"] == name:
            found.setdefault(row["family"], row)
    return [picture_of(row, 64) for row in list(found.values())[:number]]


def noise(path: Path, seed: int) -> Path:
    """A small picture that is like no other."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 255, (6, 6, 3), np.uint8)
    Image.fromarray(pixels).resize((36, 36), Image.Resampling.BICUBIC).save(path)
    return path


def folder(home: Path, *names: str, number: int = 3) -> Path:
    """Class folders with pictures that are like no others."""
    for place, name in enumerate(names):
        for n in range(number):
            noise(home / name / f"{n}.png", 100 * place + n)
    return home


def state(home: Path) -> dict[str, tuple]:
    """All that is below a folder."""
    return {str(p): (p.stat().st_mtime_ns, p.stat().st_size) for p in home.rglob("*")}


def said(capsys, *words: object, code: int = 0) -> str:
    """What a fit prints: its stdout, or its one sentence."""
    assert fit.main([*map(str, words)]) == code
    captured = capsys.readouterr()
    if code == 0:
        return captured.out
    (line,) = [line for line in captured.err.splitlines() if line.startswith("error: ")]
    assert "Traceback" not in captured.err and len(line) < 700
    return line


def sentence(function, *arguments, **options) -> str:
    """The one sentence with which a call is refused."""
    with pytest.raises((InputError, files.UserError)) as error:
        function(*arguments, **options)
    assert "\n" not in str(error.value)
    return str(error.value)


@pytest.fixture(scope="module")
def album(tmp_path_factory) -> Path:
    """A folder of 44 pictures of four classes."""
    home = tmp_path_factory.mktemp("album") / "photos"
    for name in CLASSES:
        (home / name).mkdir(parents=True)
        for number, picture in enumerate(icons(name, NUMBER)):
            picture.save(home / name / f"{number}.png")
    return home


@pytest.fixture(scope="module")
def fitted(album, tmp_path_factory) -> tuple[Path, str]:
    """(output folder, what was printed) of a fit of the album."""
    output, patch = tmp_path_factory.mktemp("output"), pytest.MonkeyPatch()
    patch.setenv("OUTPUT", str(output))
    patch.setenv("HERE", str(output))  # as for who calls scripts/fit.sh from there
    screen = io.StringIO()
    patch.setattr(fit.sys, "stdout", screen)
    before = state(album)
    try:
        code = fit.main([str(album), "--clip", "bundled", "--epochs", "20"])
    finally:
        patch.undo()
    assert code == 0 and state(album) == before  # nothing is written among the photos
    (home,) = (output / "fit").iterdir()
    return home, screen.getvalue()


# A fit


def test_a_fit_learns_all_classes_and_tests_beside_zero_shot(fitted):
    home, printed = fitted
    with open(home / fit.TABLE, newline="") as file:
        rows = list(csv.DictReader(file))
    parts = Counter((row["classname"], row["split"]) for row in rows)
    # 30% of 11 are tested; too few photos to choose an epoch by
    assert parts == {(n, p): c for n in CLASSES for p, c in (("train", 8), ("test", 3))}
    assert f"{len(CLASSES)} classes, photos 32 to learn from, 12 to test on" in printed
    numbers, told = read_json(str(home / "numbers.json")), {}
    for name in ("zero_shot", "learned"):
        results = record.read(home / name / record.NAME)
        assert results["complete"] and results["classnames"] == sorted(CLASSES)
        told[name] = results["metrics"]["test"]["accuracy"]
        assert numbers["accuracy"][name] == pytest.approx(told[name])
        assert f"{told[name]:5.1f} % right" in printed
    assert numbers["gain"]["mean"] == pytest.approx(told["learned"] - told["zero_shot"])
    assert "knows drawings (icons, emoji) and no photos" in printed
    assert record.read(home / "learned" / record.NAME)["run"]["trainer"] == fit.TRAINER


def test_numbers_of_classes_are_those_of_a_plain_count(fitted):
    home, printed = fitted
    results = record.read(home / "learned" / record.NAME)
    saved = outcomes.outcomes.read(home / "learned", "test", results)
    numbers = read_json(str(home / "numbers.json"))
    for label, one in enumerate(numbers["classes"]):
        mine = [p for p, of in zip(saved.predicted, saved.label, strict=True) if of == label]
        assert (one["test"], one["train"]) == (len(mine), 8)
        assert one["learned"] == pytest.approx(100 * mine.count(label) / len(mine))
        assert numbers["confusion"][label] == [mine.count(other) for other in range(4)]
        assert f"| {one['name']}" in printed


def test_the_page_needs_nothing_else_and_shows_the_mistakes(fitted):
    home, printed = fitted
    page = (home / "report.html").read_text()
    assert f"page: {home / 'report.html'}" in printed
    assert set(re.findall(r"src=.(.{5})", page)) == {"data:"}
    assert not re.search(r"href=|@import|url\(|<script", page)
    results = record.read(home / "learned" / record.NAME)["metrics"]["test"]
    wrong = results["total"] - results["correct"]
    assert 0 < wrong <= fit_page.SHOWN and page.count("<figure>") == wrong
    assert page.count("data:image/jpeg;base64,") == wrong
    for tag in ("table", "div", "figure", "tr", "td", "h2", "b"):
        assert len(re.findall(f"<{tag}[ >]", page)) == page.count(f"</{tag}>"), tag
    assert "The bundled CLIP knows drawings and no photos" in page


@pytest.mark.parametrize(
    ("gained", "lost", "images", "said"),
    [
        (4, 0, 4, "Too few photos to tell whether learning helped (+100.0 points, 95% interval -"),
        (0, 0, 4, "(+0.0 points, 95% interval -60.2 to +60.2, p = 1.000). 4 test photos are few"),
        (9, 1, 40, "Learning helped (+20.0 points, 95% interval +1.4 to +41.0, p = 0.021)."),
        (1, 9, 40, "Learning did harm (-20.0 points, 95% interval -41.0 to -1.4, p = 0.021): use"),
    ],
)
def test_whether_learning_helped_is_told_where_the_photos_can_tell(gained, lost, images, said):
    interval = outcomes.exact(gained, lost, images)
    mean, p = 100 * (gained - lost) / images, outcomes.mcnemar(gained, lost)
    gain = outcomes.Difference(mean, *interval, p, "exact")
    none = np.zeros((2, 2), int)
    found = fit_page.Comparison(("a", "b"), none[0], np.array([0, images]), none, none, gain)
    assert said in fit_page.verdict(found)


def test_the_printed_command_predicts_what_the_fit_tested(fitted, capsys, tmp_path, monkeypatch):
    home, printed = fitted
    words = shlex.split(printed.rpartition("new photos:\n")[2])
    start = words.index("--model-dir")
    assert words[start - 2 : start] == ["bash", str(ROOT / "scripts/predict.sh")]
    with open(home / fit.TABLE, newline="") as file:
        tested = [row for row in csv.DictReader(file) if row["split"] == "test"]
    words = [tmp_path / "sorted" if word == "SORTED" else word for word in words[start:]]
    place = words.index("NEW_PHOTOS")
    words[place : place + 1] = [row["path"] for row in tested]
    monkeypatch.chdir(ROOT)
    assert predict.main([*map(str, words), "--csv", str(tmp_path / "p.csv")]) == 0
    capsys.readouterr()
    with open(tmp_path / "p.csv", newline="") as file:
        found = list(csv.DictReader(file))
    right = sum(a["class"] == b["classname"] for a, b in zip(found, tested, strict=True))
    results = record.read(home / "learned" / record.NAME)["metrics"]["test"]
    assert right == results["correct"]


@pytest.mark.skipif(not (ROOT / ".venv/bin/python").exists(), reason="no environment .venv/")
def test_the_printed_command_takes_paths_from_where_it_is_called(fitted, album, tmp_path):
    """As a whole, beside a file of one's own that is named like a module."""
    shutil.copytree(album / "bell", tmp_path / "my photos/bell")
    (tmp_path / "json.py").write_text("raise SystemExit('taken for a module')")
    line = fitted[1].rpartition("new photos:\n")[2].strip()
    done = subprocess.run(
        ["bash", "-c", line.replace("NEW_PHOTOS", "'my photos/bell'")],
        cwd=tmp_path,
        env={name: value for name, value in os.environ.items() if name != "HERE"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert "my photos/bell/0.png\n" in done.stdout
    assert len(list((tmp_path / "SORTED").rglob("*.png"))) == NUMBER


def test_what_was_left_out_is_on_the_page(tmp_path, capsys):
    home, out = folder(tmp_path / "photos", "cat", "dog"), tmp_path / "out"
    noise(home / "loose.png", 7)
    rows = [f"{path},{path.parent.name},me" for path in sorted(home.glob("*/*.png"))]
    table = tmp_path / "list.csv"
    table.write_text("\n".join(["path,classname,author", *rows, rows[0]]))
    for place, notes in (
        (home, [f"Left out of '{home}': 1 picture(s) in no class folder"]),
        (
            table,
            [
                f"'{table}' has columns that mean nothing here: author",
                f"the table '{table}' has 1 image(s) more than once, first",
            ],
        ),
    ):
        printed = said(capsys, place, "--clip", "bundled", "--epochs", 1, "--output", out)
        how = (out / "report.html").read_text().partition("<h2>How it was done</h2>")[2]
        for note in notes:
            assert printed.count(note) == 1 and how.count(fit_page._safe(note)) == 1
        shutil.rmtree(out)


def test_the_same_again_computes_nothing(fitted, album, capsys, monkeypatch):
    home, _ = fitted
    monkeypatch.setenv("OUTPUT", str(home.parent.parent))
    monkeypatch.setenv("HERE", str(ROOT))
    before = {name: os.stat(home / name / record.NAME).st_mtime_ns for name in ("learned",)}
    printed = said(capsys, album, "--clip", "bundled", "--epochs", 20)
    assert "everything was there already: nothing was computed again" in printed
    assert "new photos:\n  bash scripts/predict.sh --model-dir " in printed
    assert f"output: {home}\n" in printed and len(list(home.parent.iterdir())) == 1
    assert os.stat(home / "learned" / record.NAME).st_mtime_ns == before["learned"]


def test_files_that_are_lost_after_a_fit(fitted, album, capsys, monkeypatch, tmp_path):
    """The folder is moved away and named like the one of the fit: nothing is computed here."""
    home, _ = fitted
    shutil.copytree(home, tmp_path / "fit" / home.name)
    home = tmp_path / "fit" / home.name
    monkeypatch.setenv("OUTPUT", str(tmp_path))
    monkeypatch.setattr(fit, "run_one", lambda *_: False)
    words = [album, "--clip", "bundled", "--epochs", 20]
    lost = home / "learned/outcomes_test.npz"
    lost.unlink()
    assert said(capsys, *words, code=2) == (
        f"error: '{lost}' does not exist: delete the folder '{home / 'learned'}' and run the same "
        "command again"
    )
    line = said(capsys, *words, "--set", "TEST.SAVE_OUTCOMES", "False", code=2)
    assert "--set TEST.SAVE_OUTCOMES cannot be used here: the page is made from them" in line
    assert predict.main(["--model-dir", str(home), str(album)]) == 2
    line = capsys.readouterr().err.strip()
    assert line == (
        f"error: '{home}' is the folder of a fit: give --model-dir '{home / 'learned'}', the run "
        "in it"
    )


def test_folders_of_one_name_and_changed_photos_have_outputs_of_their_own(
    fitted, album, capsys, monkeypatch, tmp_path
):
    """Without computing: what is run is another test's business."""
    home, _ = fitted
    made: list[Path] = []
    monkeypatch.setenv("OUTPUT", str(home.parent.parent))

    def begin(plan, output, *_):
        made.append(output)
        output.mkdir()
        (output / record.NAME).touch()

    monkeypatch.setattr(fit, "run_one", begin)
    monkeypatch.setattr(fit, "answers", lambda _: None)
    monkeypatch.setattr(fit, "report", lambda *_: None)
    twin = tmp_path / "photos"
    shutil.copytree(album, twin)
    assert "note:" not in said(capsys, twin, "--clip", "bundled").split("\n", 1)[1].replace(
        "note: the bundled", ""
    ).replace("note: there is no GPU", "")
    shutil.copy(twin / "bell/0.png", twin / "key/twice.png")
    (twin / "bell/0.png").unlink()
    assert f"'{made[0].parent}' holds an earlier fit of this folder" in said(
        capsys, twin, "--clip", "bundled"
    )
    places = {path.parent for path in made} | {home}
    assert len(places) == 3 and {path.name[:7] for path in places} == {"photos-"}
    assert read_json(str(home / fit.ABOUT))["known"]["photos"] == str(album)
    line = said(capsys, twin, "--clip", "bundled", "--output", home, code=2)
    assert "holds another fit (photos, split, settings differ): give --output another" in line
    for path in places - {home}:
        shutil.rmtree(path)


def test_a_fit_that_was_interrupted_goes_on(tmp_path, capsys, monkeypatch):
    """With a CLIP of one's own file, which reads pictures of another size."""
    photos = folder(tmp_path / "photos", "cat", "dog")
    torch.save(vit_weights(**TINY), tmp_path / "own.pt")
    words = [photos, "--clip", tmp_path / "own.pt", "--epochs", 4, "--output", tmp_path / "out"]
    words += ["--trainer", "CoOp", "--set", "TRAIN.CHECKPOINT_FREQ", 1]
    step = fit.Screen._step

    def stop(self, done, *numbers):
        step(self, done, *numbers)
        if done == 2:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(fit.Screen, "_step", stop)
        assert fit.main([*map(str, words)]) == 130
    assert "interrupted: run the same command again to go on" in capsys.readouterr().err
    assert not (tmp_path / "out/learned" / record.NAME).is_file()
    epochs = []
    with monkeypatch.context() as patch:
        patch.setattr(fit.Screen, "_step", lambda self, done, *_: epochs.append(done))
        said(capsys, *words)
    assert epochs == [3, 4]  # from the checkpoint of the second epoch on
    log = (tmp_path / "out/learned/log.txt").read_text().splitlines()
    assert log[0].startswith("train.py --root ")  # a command that can be given
    assert fit.train.parse_args(shlex.split(log[0])[1:]).trainer == "CoOp"
    lines = [line for line in log if line.startswith("epoch [")]
    assert [line[:11] for line in lines] == [f"epoch [{n}/4]" for n in (3, 4)]
    assert max(map(len, lines)) <= 120
    config = record.read(tmp_path / "out/learned" / record.NAME)["config"]
    assert config["INPUT"]["SIZE"] == [TINY["image"]] * 2
    assert config["INPUT"]["UPRIGHT"] and config["INPUT"]["TRANSPARENCY"] == "white"


def test_a_trainer_without_epochs_learns_and_a_refused_fit_leaves_nothing(
    tmp_path, capsys, monkeypatch
):
    monkeypatch.setenv("OUTPUT", str(tmp_path / "out"))
    photos = folder(tmp_path / "photos", "cat", "dog")
    words = [photos, "--clip", "bundled", "--trainer", "TipAdapter"]
    # Told by the trainer, when zero-shot CLIP is tested already.
    line = said(capsys, *words, "--set", "TRAINER.TERMS", "['GroupDRO']", code=2)
    assert "TRAINER.TERMS" in line and not (tmp_path / "out").exists()
    (home := tmp_path / "mine").mkdir()
    said(capsys, *words, "--output", home, "--set", "OPTIM.MAX_EPOCH", 5, code=2)
    assert list(home.iterdir()) == []
    printed = said(capsys, *words)
    (place,) = (tmp_path / "out/fit").iterdir()
    assert record.read(place / "learned" / record.NAME)["config"]["OPTIM"]["MAX_EPOCH"] == 1
    assert "test photos" in printed and "holds an earlier fit" not in printed
    # Only what was begun is an earlier fit.
    (other := place.parent / "other").mkdir()
    shutil.copy(place / fit.ABOUT, other)
    assert fit.earlier(place, photos) == []
    (other / "learned/prompt_learner").mkdir(parents=True)
    (other / "learned/prompt_learner/model.pth.tar-3").touch()
    assert fit.earlier(place, photos) == [other]


def test_what_was_learned_outlives_a_test_that_fails(tmp_path, capsys, monkeypatch):
    photos = folder(tmp_path / "photos", "cat", "dog")
    words = [photos, "--clip", "bundled", "--epochs", 2, "--output", tmp_path / "out"]

    def fail(self, *_):
        raise files.UserError("the disk is full: make room")

    with monkeypatch.context() as patch:
        patch.setattr(fit.TRAINER_REGISTRY.get("CraftCoOp"), "test", fail)
        assert "the disk is full: make room" in said(capsys, *words, code=2)
    (model,) = (tmp_path / "out/learned").glob("*/model.pth.tar-2")
    before = model.stat().st_mtime_ns
    said(capsys, *words)
    assert model.stat().st_mtime_ns == before  # it was tested, not learned again
    assert record.read(tmp_path / "out/learned" / record.NAME)["complete"]


def test_what_a_run_warns_of_is_told_once(tmp_path, capsys):
    """Whatever word it begins with: most of trainers begin with neither note nor warning."""
    photos = folder(tmp_path / "photos", "cat", "dog")
    words = [photos, "--clip", "bundled", "--epochs", 1, "--output", tmp_path / "out"]
    words += ["--set", "TRAINER.COOP.CTX_INIT", "a nice photo of", "TRAINER.COOP.N_CTX", 3]
    printed = said(capsys, *words)
    note = "note: CTX_INIT 'a nice photo of' sets the number of context vectors to 4: N_CTX 3 is"
    assert printed.count(note) == 1


def test_names_in_every_script_and_their_files(tmp_path, capsys, monkeypatch):
    photos = folder(tmp_path / "фото", *WORLD, number=4)
    for name in WORLD:
        (photos / name / "0.png").rename(photos / name / f"{name.replace('/', '')} 1.png")
    test = folder(tmp_path / "test", *WORLD[:4], "caf\u00e9", number=2)  # the accent otherwise
    for seed, path in enumerate(sorted(test.rglob("*.png")), 1000):
        noise(path, seed)
    out = tmp_path / "out put"
    printed = said(
        capsys, photos, "--clip", "bundled", "--epochs", 1, "--output", out, "--test", test
    )
    assert "--test has no photo of 1 class(es): " + WORLD[5] in printed
    assert "10 test photos of 5 of 6 classes\n" in printed
    results = record.read(out / "learned" / record.NAME)
    assert set(results["classnames"]) == set(WORLD) and results["metrics"]["test"]["total"] == 10
    page = (out / "report.html").read_text()
    assert "Right on 10 photos of 5 of 6 classes that were not learned from" in page
    assert "a &quot;b&quot;, &lt;i&gt;c" in page and "<i>c" not in page
    assert all(name in page for name in WORLD[:5])
    model = ["--model-dir", str(out / "learned"), str(photos)]
    assert predict.main([*model, "--sort-into", str(tmp_path / "sorted")]) == 0
    copies = [path for path in (tmp_path / "sorted").rglob("*") if path.is_file()]
    assert len(copies) == 24
    assert {path.parent.name for path in copies} <= {*WORLD[:5], "a _b_, _i_c"}


# The folder

LAYOUTS = {  # what lies below the folder: (pictures, the folder that is given, sentence)
    "nothing": ([], ".", "holds no photos: put those of each class into a folder of its own"),
    "a class folder": (
        ["birds/robin/1.png", "birds/wren/1.png", "birds/wren/2.png"],
        "birds/robin",
        "holds 1 photo(s) but no class folders: give the folder above, 'HOME/birds', whose folders "
        "are the classes robin, wren",
    ),
    "loose photos": (
        ["1.png", "2.png"],
        ".",
        "holds 2 photo(s) but no class folders: put those of each class into a folder of its own",
    ),
    "the folder above": (
        ["birds/robin/1.png", "birds/wren/1.png"],
        ".",
        "is a folder above the class folders (robin, wren): give 'HOME/birds'",
    ),
    "far above": (
        ["data/birds/robin/1.png", "data/birds/wren/1.png"],
        ".",
        "is a folder above the class folders (robin, wren): give 'HOME/data/birds'",
    ),
    "above parts": (
        ["birds/train/robin/1.png", "birds/train/wren/1.png", "birds/test/wren/2.png"],
        ".",
        "is a folder above the class folders (test, train): give 'HOME/birds'",
    ),
    "several": (
        ["birds/robin/1.png", "plants/rose/1.png", "plants/tulip/1.png"],
        ".",
        "holds 2 folders of class folders, first 'HOME/birds' with robin: give one of them, such "
        "as 'HOME/birds', or add --nested if they are the classes",
    ),
    "classes of last year": (
        ["robin/1.png", "wren/1.png", "old/robin/2.png", "old/wren/deep/2.png", "old/empty/"],
        ".",
        "'HOME/old' lies beside class folders and holds no photos itself, but folders of photos "
        "(robin, wren): move it away if these are classes, or add --nested if 'old' is a class",
    ),
    "an archive in a part": (
        ["train/robin/1.png", "train/wren/1.png", "train/archive/owl/1.png", "test/wren/2.png"],
        ".",
        "'HOME/train/archive' lies beside class folders and holds no photos itself",
    ),
    "one class": (
        ["robin/1.png", "robin/2.png"],
        ".",
        "has one class only, 'robin': add a folder with photos of something else",
    ),
    "a class with folders": (
        ["birds/robin/near/1.png", "birds/wren/1.png"],
        "birds/robin",
        "has one class only, 'near': add a folder with photos of something else, since a model "
        "chooses between classes; if 'robin' is a class itself, give the folder above, "
        "'HOME/birds', whose folders are the classes robin, wren",
    ),
    "no word": (
        ["robin/1.png", "___/1.png"],
        ".",
        "has the class name '___', which is no word: rename the folder",
    ),
    "an empty class": (["robin/1.png", "wren/"], ".", "'HOME/wren' holds no images: add some"),
    "videos alone": (
        ["robin/1.png", "wren/1.mp4"],
        ".",
        "class folder 'HOME/wren' holds no photos but videos, first '1.mp4' (videos are not read: "
        "save frames of them as pictures, or take them out)",
    ),
    "two spellings": (
        ["cafe\u0301/1.png", "caf\u00e9/1.png"],
        ".",
        "which are one name for CLIP (it ignores case, underscores and how accents are encoded): "
        "put their photos into one folder",
    ),
    "two cases": (["Cat/1.png", "cat/1.png"], ".", "the classes 'Cat' and 'cat', which are one"),
    "no text": (["robin/1.png", b"wr\xe9n/1.png"], ".", "which is not UTF-8 or has invisible"),
    "a line break": (["robin/1\n.png", "wren/1.png"], ".", "has a line break, or ends in a blank"),
    "no folder": ([], "none", "'HOME/none' does not exist: correct the path of the photos"),
    "a photo": (["1.png"], "1.png", "is neither a folder of photos nor a table (.csv)"),
}


@pytest.mark.parametrize("case", LAYOUTS)
def test_another_folder_than_meant_is_noticed(case, tmp_path):
    pictures, given, message = LAYOUTS[case]
    home = tmp_path / "home"
    home.mkdir()
    for seed, name in enumerate(pictures):
        path = Path(os.fsdecode(os.path.join(os.fsencode(home), os.fsencode(name))))
        if str(name).endswith("/"):
            path.mkdir(parents=True, exist_ok=True)
        elif path.suffix == ".mp4":
            path.parent.mkdir()
            path.write_bytes(b"film")
        else:
            noise(path, seed)
    said = sentence(own_photos.read, home / given)
    assert message.replace("HOME", str(home)) in said and str(home) in said


def test_folders_of_folders_can_be_classes(tmp_path):
    for number, name in enumerate(("dog/2021", "dog/2022", "cat/2021")):
        noise(tmp_path / name / "1.png", number)
    assert "add --nested" in sentence(own_photos.read, tmp_path)
    found = own_photos.read(tmp_path, nested=True)
    assert Counter(row.name for row in found.rows) == {"dog": 2, "cat": 1} and found.notes == []
    noise(tmp_path / "bird/1.png", 3)
    assert "'cat' is a class" in sentence(own_photos.read, tmp_path)
    assert len(own_photos.read(tmp_path, nested=True).names) == 3


@pytest.mark.parametrize("part", ["", "train/"])
def test_photos_in_folders_of_a_class_are_told(part, tmp_path):
    for number, name in enumerate(("dog/1", "dog/old/1", "dog/old/deep/1", "cat/1")):
        noise(tmp_path / f"{part}{name}.png", number)
    if part:
        noise(tmp_path / "test/dog/1.png", 9)
    (tmp_path / part / "dog/empty").mkdir()
    (note,) = own_photos.read(tmp_path).notes
    assert note == (
        f"2 photo(s) lie in folders within class folders, first '{part}dog/old/1.png', and are "
        "taken for photos of that class: move them away if they are none"
    )


def test_parts_of_the_user_are_kept_and_a_table_too(tmp_path):
    for number, name in enumerate(("train/a/1", "train/b/1", "val/a/2", "test/a/3", "test/b/2")):
        noise(tmp_path / "parts" / f"{name}.png", number)
    parts = {(p.name, Path(p.path).stem, part) for p, part in dealt(tmp_path / "parts")}
    assert parts == {
        ("a", "1", "train"),
        ("b", "1", "train"),
        ("a", "2", "val"),
        ("a", "3", "test"),
        ("b", "2", "test"),
    }
    text = "path;classname;split\n"
    text += "".join(f"parts/train/{n}/1.png;{n};Training\n" for n in "ab")
    text += "".join(f"parts/{n}.png;{n[5]};test\n" for n in ("test/a/3", "test/b/2"))
    (tmp_path / "list.csv").write_text(text)
    assert sorted(part for _, part in dealt(tmp_path / "list.csv")) == ["test"] * 2 + ["train"] * 2
    header, *lines = text.replace(";a;", ";cat;").replace(";b;", ";cat;").splitlines()
    lines = [f"{line};{place % 2};x{place}" for place, line in enumerate(lines)]
    (tmp_path / "two.csv").write_text("\n".join([f"{header};label;domain", *lines]))
    assert "has one class only, 'cat'" in sentence(own_photos.read, tmp_path / "two.csv")
    lines = [*lines[:-1], lines[-1].replace(";cat;", ";dog;").replace(";1;", ";2;")]
    (tmp_path / "two.csv").write_text("\n".join([f"{header};label;domain", *lines]))
    assert "gives two labels the class name 'cat'" in sentence(
        own_photos.read, tmp_path / "two.csv"
    )
    shutil.rmtree(tmp_path / "parts/test")
    noise(tmp_path / "parts/val/b/7.png", 77)
    photos = own_photos.read(tmp_path / "parts")
    assert Counter(part for _, part in own_photos.split(photos)) == {"train": 2, "test": 2}
    assert photos.notes == ["there is no test part: the validation part is tested"]


def test_a_table_without_test_photos_is_told(tmp_path):
    home = folder(tmp_path / "photos", "cat", "dog", number=6)
    rows = [f"{path.relative_to(home)},{path.parent.name},train" for path in home.rglob("*.png")]
    (home / "list.csv").write_text("\n".join(["path,classname,split", *rows]))
    photos = own_photos.read(home / "list.csv")
    assert Counter(part for _, part in own_photos.split(photos)) == {"train": 8, "test": 4}
    assert photos.notes == [
        f"'{home / 'list.csv'}' names parts but no test photos: 4 of its 12 photos are tested on "
        "and not learned from"
    ]
    photos, test = own_photos.read(home / "list.csv"), folder(tmp_path / "t", "cat", "dog")
    for number, path in enumerate(test.rglob("*.png")):
        noise(path, 500 + number)
    parts = own_photos.split(photos, own_photos.read(test))
    assert Counter(part for _, part in parts) == {"train": 12, "test": 6} and not photos.notes


# The split


def dealt(place: Path, **options) -> list:
    return own_photos.split(own_photos.read(place), **options)


@pytest.mark.parametrize(
    ("number", "parts"),
    [(2, (1, 0, 1)), (3, (2, 0, 1)), (4, (3, 0, 1)), (10, (7, 0, 3)), (260, (130, 52, 78))],
)
def test_parts_by_the_number_of_photos(tmp_path, number, parts, monkeypatch):
    home = tmp_path / "x"
    rows = [own_photos.Photo(f"{name}/{n}", name, "") for name in ("a", "b") for n in range(number)]
    digests = {row.path: f"digest of {row.path}" for row in rows}
    black = np.zeros((len(rows), own_photos.FINE, own_photos.FINE, 3), np.uint8)
    monkeypatch.setattr(own_photos, "contents", lambda _: own_photos.Contents(digests, black, {}))
    found = Counter(part for _, part in own_photos.split(own_photos.Photos(home, rows)))
    assert tuple(found[part] // 2 for part in ("train", "val", "test")) == parts


def test_copies_are_on_one_side_and_the_same_bytes_count_once(tmp_path):
    home = folder(tmp_path / "photos", "cat", "dog", number=8)
    shutil.copy(home / "cat/0.png", home / "cat/same.png")
    one = Image.open(home / "cat/1.png")
    one.resize((71, 71)).save(home / "cat/1 large.png")
    one.convert("RGB").save(home / "cat/1 weak.jpg", quality=40)
    ImageEnhance.Brightness(one).enhance(1.05).save(home / "cat/1 bright.png")
    turned = Image.open(home / "cat/1.png").transpose(Image.Transpose.ROTATE_90)
    exif = Image.Exif()
    exif[274] = 6  # viewers turn it back
    turned.save(home / "cat/1 turned.png", exif=exif)
    photos = own_photos.read(home)
    parts = {Path(p.path).stem: part for p, part in own_photos.split(photos) if p.name == "cat"}
    assert {parts[name] for name in parts if name.startswith("1")} == {"train"}
    assert len(parts) == 8 + 4 and "same" not in parts
    assert "1 photo(s) are the same file once more, first" in photos.notes[0]
    families = own_photos.families_of(
        photos.rows, own_photos.contents([row.path for row in photos.rows]), False
    )
    assert len(set(families.values())) == 16
    exact = own_photos.families_of(
        photos.rows, own_photos.contents([row.path for row in photos.rows]), True
    )
    assert len(set(exact.values())) == 20


LIGHTS = {"light": (190, 1.0), "dark": (40, 0.5), "middle": (128, 1.0)}  # mean, contrast


@pytest.mark.parametrize("light", LIGHTS)
@pytest.mark.parametrize("factor", [0.8, 0.85, 0.9, 0.95, 1.05, 1.1, 1.15, 1.2, 1.25, 1.3])
def test_brighter_and_darker_copies_are_copies(light, factor, tmp_path):
    """Saved as JPEG, too, in another size. On the light picture highlights are cut off."""
    mean, contrast = LIGHTS[light]
    paths = []
    for number in range(4):
        pixels = np.asarray(Image.open(noise(tmp_path / "x/noise.png", number)), np.float32)
        picture = mean + contrast * (pixels - pixels.mean())
        original = Image.fromarray(picture.clip(0, 255).astype(np.uint8)).resize((200, 150))
        copy = ImageEnhance.Brightness(original).enhance(factor).resize((130, 100))
        for name, one in ((f"{number}.png", original), (f"{number} copy.jpg", copy)):
            one.save(tmp_path / name, quality=50)
            paths.append(str(tmp_path / name))
    found = own_photos.contents(paths)
    assert set(found.near) == set(zip(paths[::2], paths[1::2], strict=True))
    if light == "light" and factor == 1.3:
        assert (found.pictures[1::2] >= own_photos.WHITE).mean() > 0.2


def test_drawings_of_different_things_are_no_near_copies():
    rows = list(read_table("things").values())[::4]
    pictures = [picture_of(row, own_photos.FINE).convert("RGB") for row in rows]
    found = own_photos.near_copies(np.array([np.asarray(picture) for picture in pictures]))
    assert len(pictures) > 1000 and found  # variants of a drawing by one artist
    assert all(rows[one]["class"] == rows[other]["class"] for one, other in found)


def test_near_copies_in_two_classes_are_told(tmp_path):
    home = folder(tmp_path / "photos", "cat", "dog", number=4)
    one, other = home / "cat/1.png", home / "dog/large.png"
    for path in (other, home / "dog/larger.png"):
        Image.open(one).resize((50 + len(path.name), 71)).save(path)
    photos = own_photos.read(home)
    assert len(own_photos.split(photos)) == 10
    assert photos.notes == [
        f"3 photo(s) look like a photo of another class, first '{one}' of 'cat' and '{other}' of "
        "'dog': if they are copies, delete the one in the wrong class"
    ]
    photos = own_photos.read(home)  # where all photos look alike, they do across classes, too
    assert own_photos.split(photos, exact=True) and not photos.notes


def test_photos_of_one_shape_and_other_colours_are_no_copies(tmp_path):
    for number, colour in enumerate(("red", "blue")):
        picture = noise(tmp_path / f"x/{number}.png", 1)
        Image.blend(Image.open(picture), Image.new("RGB", (36, 36), colour), 0.3).save(picture)
    paths = [str(tmp_path / f"x/{number}.png") for number in (0, 1)]
    rows = [own_photos.Photo(path, "x", "") for path in paths]
    found = own_photos.contents(paths)
    one, other = own_photos.shapes(own_photos._small(found.pictures))
    assert one @ other > own_photos.ALIKE
    assert len(set(own_photos.families_of(rows, found, False).values())) == 2


def test_a_split_does_not_depend_on_other_photos_order_or_seed(tmp_path):
    home = folder(tmp_path / "photos", "cat", "dog", number=10)
    before = {(p.path, part) for p, part in dealt(home)}
    assert before == {(p.path, part) for p, part in dealt(home)}
    folder(home, "cat", "dog", "cow", number=10)
    assert before <= {(p.path, part) for p, part in dealt(home)}


def test_photos_of_the_test_folder_are_not_learned(tmp_path):
    home = folder(tmp_path / "photos", "cat", "dog", number=4)
    test = folder(tmp_path / "test", "cat", "dog", number=1)  # copies of the first ones
    photos, tested = own_photos.read(home), own_photos.read(test)
    parts = own_photos.split(photos, tested)
    assert Counter(part for _, part in parts) == {"train": 6, "test": 2}
    assert not [p for p, part in parts if part == "train" and p.path.endswith("0.png")]
    assert "2 photo(s) look like test photos, first" in photos.notes[0]
    shutil.rmtree(test / "dog")  # one class is enough for a test
    one = own_photos.split(own_photos.read(home), own_photos.read(test, least=1))
    assert Counter(part for _, part in one) == {"train": 7, "test": 1}
    noise(test / "cow/1.png", 999)
    assert f"--test '{test}' has the class 'cow', which '{home}' lacks: rename" in sentence(
        own_photos.split, own_photos.read(home), own_photos.read(test)
    )


def test_a_class_that_is_only_tested_is_told(tmp_path):
    home = folder(tmp_path / "photos", "cat", "dog", number=4)
    photos, test = own_photos.read(home), own_photos.read(home)
    assert sentence(own_photos.split, photos, test) == (
        f"all 4 training photos of class 'cat' of '{home}' look like test photos: give other "
        f"--test photos than '{home}'"
    )
    lines = [f"{path};{path.parent.name};test" for path in sorted(home.rglob("*.png"))]
    (tmp_path / "list.csv").write_text("\n".join(["path;classname;split", *lines]))
    assert sentence(dealt, tmp_path / "list.csv") == (
        f"all photos of class 'cat' of '{tmp_path / 'list.csv'}' are in the test part: put some "
        "into the part train"
    )


def test_photos_that_cannot_be_split_are_refused(tmp_path):
    home = folder(tmp_path / "photos", "cat", "dog", number=4)
    shutil.copy(home / "cat/0.png", home / "dog/x.png")
    assert "1 photo(s) lie in two classes, first" in sentence(dealt, home)
    (home / "dog/x.png").unlink()
    noise(home / "cow/1.png", 7)
    assert (
        f"class 'cow' of '{home}' has 1 photo(s), and one to learn from and one to test on are "
        "needed: add photos, take the class out"
    ) in sentence(dealt, home)
    Image.open(home / "cow/1.png").resize((50, 50)).save(home / "cow/2.png")
    assert "has 2 photo(s), which are copies of 1, and one to learn" in sentence(dealt, home)
    assert "--exact-copies" in sentence(dealt, home)
    assert len(dealt(home, exact=True)) == 10
    (home / "dog/broken.jpg").write_bytes((home / "dog/1.png").read_bytes()[:60])
    line = sentence(dealt, home, exact=True)
    assert "1 of 11 photo(s) cannot be read, first image" in line and "--skip-unreadable" in line
    photos = own_photos.read(home)
    assert len(own_photos.split(photos, exact=True, skip=True)) == 10
    assert photos.notes[0].startswith("left out: image") and "broken.jpg" in photos.notes[0]


def test_shots_are_drawn_from_training_photos(tmp_path):
    home, notes = folder(tmp_path / "photos", "cat", "dog", number=10), []
    parts = own_photos.drawn(dealt(home), 2, notes)
    assert Counter(part for _, part in parts) == {"train": 4, "test": 6}
    assert notes == ["10 training photo(s) are not used, as --shots 2 asks"]


# Kinds of files


@pytest.mark.skipif(".heic" in files.EXTENSIONS, reason="pillow-heif is installed")
def test_heic_without_its_package_is_told(tmp_path, capsys, fitted):
    home = folder(tmp_path / "photos", "cat", "dog")
    (home / "dog/IMG_1.HEIC").write_bytes(b"x")
    assert (
        f"'{home}' holds 1 HEIC photo(s), first 'dog/IMG_1.HEIC': HEIC needs the package "
        "pillow-heif: install it (.venv/bin/python -m pip install pillow-heif)"
    ) in sentence(own_photos.read, home)
    model = ["--model-dir", str(fitted[0] / "learned")]
    assert predict.main([*model, str(home / "dog/IMG_1.HEIC")]) == 1
    assert "cannot be read: HEIC needs the package pillow-heif" in capsys.readouterr().err
    assert predict.main([*model, str(home)]) == 1
    assert "IMG_1.HEIC' cannot be read: HEIC needs the package" in capsys.readouterr().err
    rows = [f"{name}/{n}.png,{name}" for name in ("cat", "dog") for n in range(3)]
    rows.append("dog/IMG_1.HEIC,dog")
    (home / "list.csv").write_text("\n".join(["path,classname", *rows]))
    assert sentence(dealt, home / "list.csv") == (
        f"1 of 7 photo(s) cannot be read, first '{home / 'dog/IMG_1.HEIC'}': HEIC needs the "
        "package pillow-heif: install it (.venv/bin/python -m pip install pillow-heif), or save "
        "the photos as JPEG, or leave them out with --skip-unreadable"
    )
    assert len(dealt(home / "list.csv", skip=True)) == 6


def test_heic_is_read_where_the_package_is(tmp_path):
    heif = pytest.importorskip("pillow_heif")
    home = folder(tmp_path / "photos", "cat", "dog")
    heif.from_pillow(Image.open(home / "dog/0.png").resize((64, 64))).save(home / "dog/9.heic")
    assert len(own_photos.read(home).rows) == 7 and len(dealt(home)) == 7


def test_videos_beside_photos_are_left_out_with_a_note(tmp_path):
    home = folder(tmp_path / "photos", "cat", "dog")
    for name in ("dog/IMG_1.MOV", "dog/.hidden.mov", "cat/IMG_2.dng"):
        (home / name).write_bytes(b"x")
    raw, video = own_photos.read(home).notes
    assert raw == (
        "1 RAW photo(s) are left out, first 'cat/IMG_2.dng': RAW photos (.dng) are not read: save "
        "them as JPEG, or take them out"
    )
    assert video.startswith("1 video(s) are left out, first 'dog/IMG_1.MOV': videos are not read")
    (home / "list.csv").write_text("path,classname\ndog/IMG_1.MOV,dog\ncat/0.png,cat")
    assert "IMG_1.MOV': videos are not read: save frames" in sentence(dealt, home / "list.csv")


# The CLIP


def test_a_clip_that_cannot_be_had_is_told_and_the_bundled_one_offered(
    tmp_path, capsys, monkeypatch
):
    home = folder(tmp_path / "photos", "cat", "dog")
    path, url = tmp_path / "cache/ViT-B-16.pt", "https://example.invalid/ViT-B-16.pt"
    monkeypatch.setattr(fit, "place_of", lambda _: (str(path), url))

    def no_network(request, timeout):
        assert timeout == fit.REACH_S and request.full_url == url
        raise urllib.error.URLError("no network")

    monkeypatch.setattr(fit.urllib.request, "urlopen", no_network)
    line = said(capsys, home, "--output", tmp_path / "out", code=2)
    assert line == (
        "error: CLIP ViT-B/16 is not on this machine and cannot be fetched (no network): download "
        f"{url} elsewhere and put it into '{path.parent}', or add --clip bundled, a small CLIP "
        "that knows drawings and no photos"
    )
    path.parent.mkdir()
    path.write_bytes(b"x" * 1234)
    line = said(capsys, home, "--output", tmp_path / "out", code=2)
    assert f"is cut off or damaged ('{path}', 1,234 bytes) and cannot be fetched" in line
    monkeypatch.setattr(fit, "is_openais_file", lambda _: True)
    fit._fetchable(fit.BEST)  # a whole file needs no network
    assert not (tmp_path / "out").exists()


def test_a_clip_file_that_is_cut_off(tmp_path, capsys):
    home = folder(tmp_path / "photos", "cat", "dog")
    whole = (ROOT / "assets/drawings_clip.pt").read_bytes()
    (tmp_path / "clip.pt").write_bytes(whole[: len(whole) // 2])
    line = said(capsys, home, "--clip", tmp_path / "clip.pt", code=2)
    assert f"'{tmp_path / 'clip.pt'}' is neither a file of CLIP weights nor" in line
    assert "or is damaged: fetch it again" in line
    line = said(capsys, home, "--clip", "nosuch.pt", code=2)
    assert line.startswith("error: --clip 'nosuch.pt' is neither a file nor one of RN50, RN101")
    assert "correct it; other CLIPs are" in line and "BACKBONE" not in line.upper()


def test_a_clip_whose_activation_only_the_user_knows(tmp_path, capsys):
    home = folder(tmp_path / "photos", "cat", "dog")
    torch.save(vit_weights(**TINY | {"embed": backbone.NARROWEST}), tmp_path / "own.pt")
    words = [home, "--clip", tmp_path / "own.pt", "--epochs", 1, "--output", tmp_path / "out"]
    line = said(capsys, *words, code=2)
    assert "give --set MODEL.BACKBONE.ACTIVATION gelu (" in line and "or quick_gelu (" in line
    said(capsys, *words, "--set", "MODEL.BACKBONE.ACTIVATION", "gelu")
    for run in ("zero_shot", "learned"):
        config = record.read(tmp_path / "out" / run / record.NAME)["config"]
        assert config["MODEL"]["BACKBONE"]["ACTIVATION"] == "gelu"


def test_the_place_of_openais_files_is_where_clip_puts_them():
    path, url = backbone.place_of("ViT-B/16")
    assert path == os.path.expanduser("~/.cache/clip/ViT-B-16.pt") and url.endswith("/ViT-B-16.pt")


def test_without_a_terminal_a_line_tells_how_far_it_is(monkeypatch, capsys):
    screen = fit.Screen("learning")
    line = "epoch [3/40] batch [1/3] time 0.1 (0.1) data 0.1 (0.1) loss 1.0 lr 1e-3 eta 0:00:12\n"
    screen.write(line)
    monkeypatch.setattr(fit, "SILENCE_S", 0.0)
    screen.write(line[:30])
    screen.write(line[30:] + "Warning: \x1b]0;title\x07\nother words\n")
    screen.close()
    assert capsys.readouterr().out == (
        "learning: 2 of 40 epochs, eta 0:00:12\nWarning: \\x1b]0;title\\x07\n"
    )


# Options


def test_mistakes_in_options(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("OUTPUT", str(tmp_path / "out"))
    home = folder(tmp_path / "photos", "cat", "dog")
    (tmp_path / "file").write_text("")
    (tmp_path / "full").mkdir()
    (tmp_path / "full/mine.txt").write_text("mine")
    for words, message in (
        (["--epochs", 0], "--epochs is 0: set it to 1 or more"),
        (["--shots", 0], "--shots is 0: set it to 1 or more"),
        (["--set", "OPTIM.LR"], "OPTIM.LR are not KEY VALUE pairs: 'OPTIM.LR' lacks its partner"),
        (["--seed", -1], "--seed is -1: set it to 0 or more"),
        (["--set", "OPTIM.LRR", 1], "OPTIM.LR"),
        (
            ["--set", "DATASET.SUBSAMPLE_CLASSES", "base"],
            "--set DATASET.SUBSAMPLE_CLASSES cannot be used here: a fit reads PHOTOS alone, all",
        ),
        (
            ["--set", "OPTIM.LR", 1, "--set", "OPTIM.LR", 2],
            "error: OPTIM.LR is given twice (1, 2): take one out",
        ),
        (
            ["--set", "SELECTION.RULE", "likelihood"],
            "--set SELECTION.RULE cannot be used here: tools.select writes it of settings that it",
        ),
        (
            ["--set", "TEST.FINAL_MODEL", "best_val"],
            "--set TEST.FINAL_MODEL best_val cannot be used here: no photos are set apart to",
        ),
        *(
            (["--set", key, 2], f"error: --set {key} cannot be used here: {remedy}")
            for key, remedy in fit.DECIDED.items()
        ),
        (["--trainer", "CraftCoop"], "unknown trainer 'CraftCoop': did you mean 'CraftCoOp'?"),
        (["--trainer", "ZeroshotCLIP"], "--trainer ZeroshotCLIP learns nothing: choose one of"),
        (
            ["--trainer", "DFR"],
            "--trainer DFR learns from groups of photos within a class, which a fit does not know: "
            "choose another, such as CraftCoOp",
        ),
        (
            ["--trainer", "TipAdapter", "--epochs", 20],
            "--epochs is 20, but TipAdapter learns without epochs: leave it out",
        ),
        (["--output", home / "out"], "is in the folder of photos, into which nothing is written"),
        (["--output", tmp_path / "file/out"], "cannot create the folder"),
        (["--output", tmp_path / "full"], "is not empty and holds no fit: give --output a new"),
    ):
        assert message in said(capsys, home, "--clip", "bundled", *words, code=2)
    assert not (home / "out").exists() and not (tmp_path / "out").exists()
    assert (tmp_path / "full/mine.txt").read_text() == "mine"


def test_a_folder_without_the_right_to_write(tmp_path, capsys, monkeypatch):
    home = folder(tmp_path / "photos", "cat", "dog")

    def refuse(self, *_, **__):
        raise PermissionError(13, "Permission denied", str(self))

    monkeypatch.setattr(Path, "mkdir", refuse)
    for run in (
        lambda: fit.made(tmp_path / "out", {}).__enter__(),
        lambda: sorting.check_place(tmp_path / "out", [], str(tmp_path / "run")),
        lambda: sorting.copy(str(home / "cat/0.png"), tmp_path / "out"),
    ):
        assert "(Permission denied)" in sentence(run)


@pytest.mark.parametrize(
    ("photos", "batch", "epochs"), [(4, 32, 100), (32, 32, 100), (192, 32, 40), (5000, 32, 5)]
)
def test_epochs_come_to_about_as_many_steps(photos, batch, epochs):
    assert fit.epochs_for(photos, batch) == epochs


def test_half_precision_needs_a_gpu(monkeypatch):
    args = fit.argparse.Namespace(template="", epochs=None, set=[])
    clip = fit.Clip("ViT-B/16", "vit_b16", 224)
    counts = Counter(train=64, test=10)
    monkeypatch.setattr(fit.torch.cuda, "is_available", lambda: False)
    plan, notes = fit.plan_for(args, "CraftCoOp", clip, counts, 1)
    assert plan.settings["TRAINER.COOP.PREC"] == "fp32" and "there is no GPU" in notes[0]
    own = fit.argparse.Namespace(template="", epochs=None, set=["TRAINER.COOP.PREC", "bf16"])
    chosen, (note,) = fit.plan_for(own, "CraftCoOp", clip, counts, 1)
    assert chosen.settings["TRAINER.COOP.PREC"] == "bf16" and "fp32" not in note
    assert note.startswith("there is no GPU: without random crops")
    assert plan.settings["INPUT.TRANSFORMS"] == ("normalize",)
    assert plan.settings["DATASET.TEMPLATE"] == "a photo of a {}."
    monkeypatch.setattr(fit.torch.cuda, "is_available", lambda: True)
    plan, notes = fit.plan_for(args, "CraftCoOp", clip, counts, 1)
    assert "TRAINER.COOP.PREC" not in plan.settings and notes == []
    assert "INPUT.TRANSFORMS" not in plan.settings


# tools.predict


def test_predictions_as_a_table(fitted, tmp_path, capsys):
    model = ["--model-dir", str(fitted[0] / "learned")]
    noise(tmp_path / "a, b.png", 1)
    (tmp_path / "no.png").write_bytes(b"x")
    file, other = tmp_path / "out/p.csv", tmp_path / "p.json"
    words = [*model, str(tmp_path), "--top", "2", "--csv", str(file), "--json", str(other)]
    assert predict.main(words) == 1
    with open(file, newline="", encoding="utf-8") as stream:
        rows = list(csv.reader(stream))
    head = ["image", "class", "probability", "class_2", "probability_2", "skipped"]
    assert rows[0] == head and len(rows) == 3
    top = json.loads(other.read_text())["images"][0]["top"]
    cells = [cell for one in top for cell in (one["class"], f"{one['probability']:.6f}")]
    assert rows[1] == [str(tmp_path / "a, b.png"), *cells, ""]
    assert rows[2][:5] == [str(tmp_path / "no.png"), "", "", "", ""]
    assert rows[2][5] == f"image '{tmp_path / 'no.png'}' cannot be read (not an image)"


def test_predictions_replace_earlier_ones_and_nothing_of_a_fit(fitted, tmp_path, capsys):
    home, _ = fitted
    run, photo = home / "learned", noise(tmp_path / "a.png", 1)
    (checkpoint, *_) = run.glob("*/model*.pth.tar*")
    words, before = ["--model-dir", str(run), str(photo), "--json"], state(home)
    for path, owner in (
        *((run / name, "run") for name in (record.NAME, record.LOG, record.CONFIG)),
        (run / record.OUTCOMES.format("test"), "run"),
        (checkpoint, "run"),
        *((home / name, "fit") for name in (fit.ABOUT, fit.TABLE, fit.NUMBERS, fit.PAGE)),
    ):
        assert predict.main([*words, str(path)]) == 2
        assert capsys.readouterr().err == (
            f"error: --json is '{path}', which belongs to a {owner}: give another name\n"
        )
    for _ in range(2):
        assert predict.main([*words, str(tmp_path / record.NAME)]) == 0
    assert read_json(str(tmp_path / record.NAME))["images"] and state(home) == before


@pytest.mark.skipif(".heic" in files.EXTENSIONS, reason="pillow-heif is installed")
def test_photos_of_a_folder_that_are_not_read_are_counted(fitted, tmp_path, capsys):
    model, new = ["--model-dir", str(fitted[0] / "learned")], tmp_path / "new"
    noise(new / "a.jpg", 1)
    lost = ["clip.mov", "deep/raw.NEF", "x.heic"]
    for name in (*lost, "Thumbs.db", ".DS_Store", "._x.heic", "notes.txt", "@eaDir/y.heic"):
        (new / name).parent.mkdir(exist_ok=True)
        (new / name).write_bytes(b"x")
    words = [*model, str(new), "--json", str(tmp_path / "p.json"), "--csv", str(tmp_path / "p.csv")]
    assert predict.main([*words, "--sort-into", str(tmp_path / "sorted")]) == 1
    said = capsys.readouterr().err
    assert said.endswith(
        "1 image(s) copied into"
        + f" '{tmp_path / 'sorted'}'\n"
        + ("3 of 4 image(s) could not be read\n")
    )
    skipped = read_json(str(tmp_path / "p.json"))["skipped"]
    assert list(skipped) == [str(new / name) for name in lost]
    for path, remedy in zip(skipped, ("videos are not", "RAW photos (.nef) are", "HEIC needs the")):
        assert skipped[path].startswith(f"image '{path}' cannot be read: {remedy}")
        assert f"skipped: {skipped[path]}\n" in said
    with open(tmp_path / "p.csv", newline="") as stream:
        rows = {row["image"]: row["skipped"] for row in csv.DictReader(stream)}
    assert rows == {str(new / "a.jpg"): "", **skipped}
    (copy,) = [path for path in (tmp_path / "sorted").rglob("*") if path.is_file()]
    assert copy.name == "a.jpg"
    (new / "a.jpg").unlink()
    assert predict.main([*model, str(new)]) == 1  # a folder of nothing else is no wrong path


def test_sorting_copies_and_never_replaces(fitted, album, tmp_path, capsys):
    model = ["--model-dir", str(fitted[0] / "learned")]
    new, place = tmp_path / "new", tmp_path / "sorted"
    for number, picture in enumerate(sorted(album.rglob("*.png"))[::4]):
        (new / str(number)).mkdir(parents=True)
        shutil.copy2(picture, new / str(number) / "same name.png")
    before = state(new)
    words = [*model, str(new), "--sort-into", str(place), "--at-least", "0.6"]
    assert predict.main([*words, "--json", str(tmp_path / "p.json")]) == 0
    said = capsys.readouterr()
    assert state(new) == before
    images = read_json(str(tmp_path / "p.json"))["images"]
    wanted = Counter(
        one["top"][0]["class"] if one["top"][0]["probability"] >= 0.6 else "unsure"
        for one in images
    )
    found = Counter(path.parent.name for path in place.rglob("*.png"))
    assert found == wanted and 0 < wanted["unsure"] < len(images) == 11
    assert f"11 image(s) copied into '{place}', {wanted['unsure']} of all are in 'unsure'" in (
        said.err
    )
    assert {p.read_bytes() for p in place.rglob("*.png")} == {
        p.read_bytes() for p in new.rglob("*.png")
    }
    after = state(place)
    assert predict.main(words) == 0  # the same again makes no second copies
    assert state(place) == after and "0 image(s) copied" in capsys.readouterr().err


def test_mistakes_in_sorting(fitted, album, tmp_path, capsys):
    words = ["--model-dir", str(fitted[0] / "learned"), str(album)]
    (tmp_path / "file").write_text("")
    for more, message in (
        (["--at-least", "0.5"], "--at-least says what is sorted as unsure: give --sort-into, too"),
        (["--sort-into", "S", "--at-least", "50"], "--at-least is 50.0: set it to a probability"),
        (["--sort-into", str(album / "s")], "whose photos are to be sorted: choose a folder"),
        (["--sort-into", str(album)], f"'{album}' is in '{album}', whose photos are to be sorted"),
        (["--sort-into", str(tmp_path / "file/x")], "cannot create the folder"),
        (["--csv", "/"], "--csv is '/', a folder: give the name of a file"),
        (
            ["--sort-into", str(tmp_path), "--csv", str(tmp_path / "cat"), "--classes", "cat,dog"],
            f"--csv is '{tmp_path / 'cat'}', a folder that --sort-into makes: give another name",
        ),
        (
            ["--sort-into", str(tmp_path), "--at-least", ".5", "--classes", "Unsure,b"],
            "photos below --at-least would go into 'unsure', which is a class, too",
        ),
    ):
        assert predict.main([*words, *more]) == 2
        line = capsys.readouterr().err.strip().splitlines()[-1]
        assert line.startswith("error: ") and message in line
    assert not list(tmp_path.rglob("*.png")) and not (album / "s").exists()


def test_folders_of_classes_have_names_that_any_system_takes():
    names = sorting.folder_names(["a/b", "A:b", "..", "x" * 300, "猫", "unsure"], False)
    assert list(names.values()) == ["a_b", "A_b-2", "_", "x" * 100, "猫", "unsure"]


def test_a_copy_that_fails_leaves_nothing(tmp_path, monkeypatch):
    photo = noise(tmp_path / "a.png", 1)

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(sorting.shutil, "copyfileobj", full)
    assert "cannot be copied into" in sentence(sorting.copy, str(photo), tmp_path / "s")
    assert list((tmp_path / "s").iterdir()) == []
