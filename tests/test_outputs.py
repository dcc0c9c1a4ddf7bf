"""What tools are told to write never replaces what they read, or what a run keeps."""

import argparse
import re
import shutil
import sys
from pathlib import Path
from unittest import mock

import pytest

from dassl import files, outcomes, record
from tools import (
    archive,
    export,
    figures,
    inputs,
    interpret,
    predict,
    pretrain_clip,
    pretrain_teacher,
    published,
    report,
    results,
    verify,
)
from tools import outcomes as outcome_tool
from tools.doctor import __main__ as doctor
from tools.suite import check, shifted

ROOT = Path(__file__).resolve().parent.parent


def state(home: Path) -> dict[Path, tuple]:
    return {
        path: (path.lstat().st_mtime_ns, path.read_bytes() if path.is_file() else b"")
        for path in home.rglob("*")
    }


@pytest.fixture
def home(tmp_path, monkeypatch):
    """A run as its folder is known by, photos, a CLIP and names of classes."""
    checkpoint = tmp_path / "run/prompt_learner" / files.checkpoint_name(None)
    config = {"MODEL": {"BACKBONE": {"NAME": str(tmp_path / "clip.pt")}}}
    content = {"complete": True, "metrics": {}, "config": config}
    for path, text in (
        (tmp_path / "run" / record.NAME, files.json_text(content)),
        (tmp_path / "run" / record.LOG, b"log"),
        (checkpoint, b"weights"),
        (checkpoint.with_name(files.LATEST), b"model-best.pth.tar"),
        (tmp_path / "photos/a.png", b"photo"),
        (tmp_path / "clip.pt", b"clip"),
        (tmp_path / "other.pt", b"clip"),
        (tmp_path / "names.txt", b"cat\ndog\n"),
        (tmp_path / "bank/text.pt", b"texts"),
        (tmp_path / "text.state", b"state"),
        (tmp_path / "data/caltech-101/split_zhou_Caltech101.json", b"{}"),
        (tmp_path / "data/oxford_flowers/cat_to_name.json", b"{}"),
    ):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(text)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def without_arguments(main):
    """A program that reads sys.argv, as others are called."""

    def called(words):
        with mock.patch.object(sys, "argv", ["tool", *words]):
            return inputs.main(lambda _: main(), argparse.Namespace())

    return called


OF_MODEL = ["--model-dir", "run"]
# Of each tool: its program, what it is called with, and {output option: suffix that it asks for}.
# An option without dashes is an argument, which comes last.
TOOLS: dict[str, tuple] = {
    "predict": (predict.main, [*OF_MODEL, "photos"], {"--json": "", "--csv": ""}),
    "interpret": (interpret.main, OF_MODEL, {"--json": ""}),
    "export": (export.main, OF_MODEL, {"OUT": ".safetensors"}),
    "figures": (figures.main, ["tsne", "run"], {"--out": ".png"}),
    "report": (report.main, ["run"], {"--out": ".html"}),
    "results": (
        results.main,
        ["base2new", "run"],
        {"--out": ".csv", "--plot": ".png", "--plot-gains": ".pdf"},
    ),
    "outcomes": (
        outcome_tool.main,
        ["run"],
        {"--json": "", "--confusion": "", "--reliability": ".svg"},
    ),
    "verify": (verify.main, ["base2new", "run"], {"--json": ""}),
    "archive": (archive.main, ["pack", "run"], {"FILE": archive.SUFFIX}),
    "doctor": (doctor.main, ["--root", "data"], {"--json": ".json"}),
    "suite.check": (check.main, [], {"--out": ""}),
    "suite.shifted": (shifted.main, ["--model", "clip.pt"], {"--out": ""}),
    "pretrain_clip": (without_arguments(pretrain_clip.main), ["--bank", "bank"], {"--out": ""}),
}
OPTIONS = [(tool, option) for tool, (_, _, options) in TOOLS.items() for option in options]


def refusal(capsys, tool: str, option: str, path: Path, *more: object) -> str:
    """The sentence with which a tool refuses to write `path`."""
    program, words, _ = TOOLS[tool]
    if (tool, option) in (("results", "--out"), ("figures", "--out")):
        path = path.with_suffix("")  # the tool adds it
    named = [option] if option.startswith("--") else []
    assert program([*words, *map(str, more), *named, str(path)]) == 2
    said = capsys.readouterr()
    assert not said.out and said.err.startswith("error: ") and said.err.count("\n") == 1
    return said.err


@pytest.mark.parametrize(("tool", "option"), OPTIONS)
def test_no_option_replaces_what_a_run_keeps(tool, option, home, capsys):
    suffix = TOOLS[tool][2][option]
    kept = [
        *(home / "run" / name for name in (record.NAME, record.LOG, record.CONFIG, "Results.json")),
        home / "run/prompt_learner" / files.checkpoint_name(None),
        home / "run/prompt_learner" / files.LATEST,
        outcomes.place(home / "run", "val"),  # not written yet
    ]
    for number, path in enumerate(kept):
        if suffix:
            (link := home / f"link{number}{suffix}").symlink_to(path)
            kept[number] = link
    kept += [Path("photos/../run/log.txt")] if not suffix else []
    before = state(home)
    for path in kept:
        assert "which belongs to a run: give another name" in refusal(capsys, tool, option, path)
    assert state(home) == before


READ = [
    ("predict", "--json", "photos/a.png", ()),
    ("predict", "--csv", "run/../photos/a.png", ()),
    ("predict", "--csv", "clip.pt", ()),
    ("predict", "--json", "other.pt", ("--weights", "other.pt")),
    ("predict", "--csv", "names.txt", ("--classes-file", "names.txt")),
    ("interpret", "--json", "clip.pt", ()),
    ("export", "OUT", "clip.pt", ()),
    ("report", "--out", "photos/a.png", ("--figures", "photos/a.png")),
    ("results", "--out", published.FILE, ()),
    ("verify", "--json", published.FILE, ()),
    ("verify", "--json", "data/caltech-101/split_zhou_Caltech101.json", ("--root", "data")),
    ("doctor", "--json", "data/caltech-101/split_zhou_Caltech101.json", ()),
    ("doctor", "--json", "data/oxford_flowers/cat_to_name.json", ()),
    ("suite.check", "--out", ROOT / "assets/suite/emoji.json.gz", ()),
    ("suite.check", "--out", "clip.pt", ("--model", "clip.pt")),
    ("suite.shifted", "--out", "clip.pt", ()),
    ("pretrain_clip", "--out", "bank/text.pt", ()),
    ("pretrain_clip", "--out", "text.state", ("--init", "text.state")),
]


@pytest.mark.parametrize(("tool", "option", "path", "more"), READ)
@pytest.mark.parametrize("linked", [False, True])
def test_no_option_replaces_what_the_tool_reads(tool, option, path, more, linked, home, capsys):
    suffix = TOOLS[tool][2][option]
    if linked or not str(path).endswith(suffix):
        (link := home / f"link{suffix}").symlink_to(home / path)
        path = link
    before = state(home)
    assert "which is to be read: give another name" in refusal(
        capsys, tool, option, Path(path), *more
    )
    assert state(home) == before


def test_no_two_options_name_one_file(home, capsys):
    (home / "folder").mkdir()
    (home / "link").symlink_to("folder")
    before = state(home)
    for tool, option, path, more, message in (
        ("predict", "--csv", "x", ("--json", "x"), "--json and --csv are both 'x': give two"),
        ("predict", "--csv", "folder/x", ("--json", "link/x"), "--json and --csv are both"),
        ("predict", "--csv", "x", ("--json", "X"), "which are one file where case does not count"),
        ("predict", "--csv", "x/y", ("--json", "x"), "--json is 'x', which has to be a folder for"),
        ("predict", "--csv", "x", ("--sort-into", "x"), "--csv and --sort-into are both 'x'"),
        ("predict", "--csv", "x", ("--sort-into", "x/y"), "which has to be a folder for --sort"),
        ("results", "--plot", "x.png", ("--plot-gains", "x.png"), "--plot and --plot-gains are"),
        ("outcomes", "--json", "x", ("--confusion", "x"), "--json and --confusion are both 'x'"),
        ("outcomes", "--json", "x.png", ("--reliability", "x.png"), "--json and --reliability are"),
        ("pretrain_clip", "--out", "x.state", (), "--out has two files to write, both 'x.state'"),
    ):
        assert message in refusal(capsys, tool, option, Path(path), *more)
    assert state(home) == before


def test_a_folder_of_a_run_or_of_photos_takes_no_copies(home, capsys):
    for place, message in (
        ("run", "is in 'run', which belongs to a run"),
        ("run/sorted", "is in 'run', which belongs to a run"),
        ("photos/sorted", "is in 'photos', whose photos are to be sorted"),
        ("names.txt", "cannot create the folder 'names.txt'"),
    ):
        before = state(home)
        assert message in refusal(capsys, "predict", "--sort-into", place)
        assert state(home) == before


def test_the_bank_of_a_teacher_is_not_what_it_is_made_from(home, capsys):
    shutil.copy(home / "text.state", home / "bank" / pretrain_clip.TEACHER)
    program = without_arguments(pretrain_teacher.main)
    text = home / "bank" / pretrain_clip.TEACHER
    assert program(["--bank", "bank", "--text", str(text)]) == 2
    assert "which is to be read" in capsys.readouterr().err


@pytest.mark.parametrize(("tool", "option"), OPTIONS)
def test_a_folder_is_no_file(tool, option, home, capsys):
    (place := home / f"folder{TOOLS[tool][2][option]}").mkdir()
    assert "folder" in refusal(capsys, tool, option, place)


def test_what_else_has_such_a_name_can_be_replaced(home):
    (own := home / "own").mkdir()
    names = (record.NAME, record.LOG, record.CONFIG, files.LATEST, "x.pth.tar", "fit.json")
    for name in (*names, "report.html", "selection.json"):
        (own / name).write_text("{}")
        inputs.check_outputs([inputs.Output("--json", own / name)], [own / "none"])
    shutil.copy(own / record.NAME, home / "run/mine.json")
    inputs.check_outputs([inputs.Output("--json", home / "run/mine.json")])


@pytest.mark.parametrize(
    ("mark", "content", "name"),
    [
        (record.CONFIG, record.CONFIG_HEAD, record.NAME),  # a run that is not yet tested
        (record.MARK, "{}", record.ERRORS),
        ("fit.json", '{"known": {}}', "photos.csv"),
        ("fit.json", '{"known": {}}', "report.html"),
        ("selection.json", '{"digest": ""}', "selection.md"),
        ("judgement.json", '{"selection": ""}', "judgement.json"),
    ],
)
def test_what_a_folder_is_of_is_known_by_a_file(mark, content, name, tmp_path):
    (tmp_path / mark).write_text(content)
    with pytest.raises(inputs.InputError, match=r"which belongs to a (run|fit|selection): give"):
        inputs.check_outputs([inputs.Output("--out", tmp_path / name)])


def test_a_run_that_has_only_begun_is_known_by_its_lock(tmp_path, monkeypatch):
    place = inputs.Output("--out", tmp_path / record.NAME)
    inputs.check_outputs([place])
    monkeypatch.setattr(files, "is_locked", lambda folder: folder == str(tmp_path))
    with pytest.raises(inputs.InputError, match="which belongs to a run"):
        inputs.check_outputs([place])


def test_all_options_that_name_a_file_to_write_are_here():
    """A new one is refused here, until it is among TOOLS."""
    named = re.compile(
        r'''add_argument\(\s*"(--(?:json|csv|out|plot[a-z-]*|confusion|reliability|page|save))"'''
    )
    folders = {("pretrain_data", "--out")}
    found = set()
    for path in [*(ROOT / "tools").rglob("*.py"), *(ROOT / "datasets").glob("*.py")]:
        inside = path.relative_to(ROOT).with_suffix("").parts[1:]
        name = ".".join(part for part in inside if part != "__main__")
        found |= {(name, option) for option in named.findall(path.read_text(encoding="utf-8"))}
    assert found - folders == {pair for pair in OPTIONS if pair[1].startswith("--")}
