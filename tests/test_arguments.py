"""Flags that are given twice: of every command line of this repository."""

import argparse
import ast
from pathlib import Path

import pytest

from dassl.errors import UserError
from datasets import picks
from tools import command_line, fit, inputs
from tools.arguments import PAIRS, Parser

ROOT = Path(__file__).resolve().parent.parent


def test_every_command_line_is_such_a_one():
    """argparse's own drops the first of two values without a word."""
    found = 0
    for path in ROOT.glob("**/*.py"):
        if {".venv", "tests"} & set(path.relative_to(ROOT).parts):
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            name = node.func if isinstance(node, ast.Call) else None
            name = name.attr if isinstance(name, ast.Attribute) else getattr(name, "id", "")
            assert name != "ArgumentParser", path
            found += name == "Parser"
    assert found >= 30


def test_bad_input_of_either_kind_ends_a_command_with_one_sentence(capsys):
    """Every command that works by `inputs.main`, whichever of the two its parts raise."""
    for kind in (inputs.InputError, UserError):

        def run(args, kind=kind):
            raise kind("'x' is wrong: correct it")

        assert inputs.main(run, argparse.Namespace()) == 2
        assert capsys.readouterr() == ("", "error: 'x' is wrong: correct it\n")


def test_unknown_data_sets_and_those_that_are_not_there_are_one_sentence(tmp_path, capsys):
    (tmp_path / "dtd").mkdir()
    root = ["--root", str(tmp_path)]
    for words, said in (
        (["nosuch"], "error: unknown data set 'nosuch'"),
        (["pacs"], "of data set PACS does not exist"),
        (["dtd", "--write"], "is not the published split of DescribableTextures"),
    ):
        assert picks.main([*words, *root]) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert said in line


@pytest.fixture
def parser():
    made = Parser(prog="tool")
    made.add_argument("runs", nargs="*")
    made.add_argument("--one", type=int, default=3)
    made.add_argument("--many", nargs="+", default=["a"])
    made.add_argument("--any", nargs="*", type=int, default=())
    made.add_argument("--each", action="append", default=[])
    made.add_argument("--flag", action="store_true")
    return made


def test_values_add_up_where_a_flag_takes_several(parser):
    words = "x --many b c --any 1 --many d --each 1 --each 2 --flag --flag --any 2 3".split()
    args = parser.parse_args(words)
    assert (args.runs, args.one, args.many) == (["x"], 3, ["b", "c", "d"])
    assert (args.any, args.each, args.flag) == ([1, 2, 3], ["1", "2"], True)
    again = parser.parse_args(["--many", "e"])  # one parser reads several command lines
    assert again.many == ["e"] and again.any == () and not again.flag


@pytest.mark.parametrize("words", ["--one 4 --one 4", "--one 4 --one=5", "--one 4 y --on 5"])
def test_another_flag_with_a_value_is_refused(parser, capsys, words):
    with pytest.raises(SystemExit) as ended:
        parser.parse_args(words.split())
    assert ended.value.code == 2
    said = capsys.readouterr().err.splitlines()[-1]
    assert said == "tool: error: --one is given twice: give it once"


@pytest.mark.parametrize(
    ("words", "name"),
    [
        (["--one", ""], "--one"),
        (["--one="], "--one"),
        (["--many", "b", " "], "--many"),
        (["x", ""], "runs"),
        (["--each", ""], "--each"),
    ],
)
def test_an_empty_text_is_refused(parser, capsys, words, name):
    """Of a shell variable without a value: as a path it would be the working folder."""
    with pytest.raises(SystemExit) as ended:
        parser.parse_args(words)
    assert ended.value.code == 2
    assert capsys.readouterr().err == (
        f"error: {name} is empty: give a value, or leave it out (a shell variable without a value "
        "leaves an empty text)\n"
    )


@pytest.mark.parametrize("flag", ["--output-dir", "--model-dir", "--config-file", "--source"])
def test_train_py_refuses_an_empty_text(capsys, flag):
    with pytest.raises(SystemExit):
        command_line.parse_args([flag, " "])
    assert capsys.readouterr().err.startswith(f"error: {flag} is empty: give a value")


def test_a_key_may_be_set_to_no_text(parser):
    parser.add_argument("--set", nargs="+", metavar=PAIRS, default=[])
    assert parser.parse_args(["--set", "DATASET.TARGET", ""]).set == ["DATASET.TARGET", ""]
    assert command_line.parse_args(["DATASET.TARGET", ""]).opts == ["DATASET.TARGET", ""]


def test_train_py_adds_domains_and_refuses_two_seeds(capsys):
    args = command_line.parse_args("--source-domains a b --source-domains c --seed 1".split())
    assert args.source_domains == ["a", "b", "c"] and args.seed == 1
    with pytest.raises(SystemExit):
        command_line.parse_args("--seed 1 --seed 2".split())
    assert "--seed is given twice: give it once" in capsys.readouterr().err


def test_fit_takes_every_set(monkeypatch):
    kept = []
    monkeypatch.setattr(fit, "run", lambda args: kept.append(args.set) or 0)
    assert fit.main("photos --set OPTIM.LR 1 --seed 2 --set OPTIM.MOMENTUM 0".split()) == 0
    assert kept == [["OPTIM.LR", "1", "OPTIM.MOMENTUM", "0"]]
