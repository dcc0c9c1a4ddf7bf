"""`~` is the home folder in every path: in flags of the programs and in the scripts."""

import ast
from pathlib import Path

import pytest

from datasets import check
from tools import inputs, run

ROOT = Path(__file__).resolve().parent.parent
PROGRAMS = sorted(
    [
        *(ROOT / "tools").glob("*.py"),
        ROOT / "datasets/check.py",
        ROOT / "datasets/prepare.py",
        ROOT / "train.py",
    ]
)
PATHS = {
    "--root",
    "--out",
    "--output",
    "--from",
    "--model-dir",
    "--weights",
    "--classes-file",
    "--json",
    "--csv",
    "--sort-into",
    "--test",
    "photos",
    "--packages",
    "--emojibase",
    "--bank",
    "--init",
    "--data",
    "--plot",
    "--figures",
    "--config-file",
    "--dataset-config-file",
    "out",
    "plan",
    "images",
    "runs",
    "folders",
    "directory",
}
CONFIGURED = {
    "command_line.py": {"--root", "--output-dir", "--resume", "--backbone"}
}  # become config keys, whose rules know paths


@pytest.mark.parametrize("program", PROGRAMS, ids=lambda path: path.stem)
def test_every_path_of_a_command_line_takes_the_home_folder(program):
    for call in ast.walk(ast.parse(program.read_text())):
        if (
            isinstance(call, ast.Call)
            and getattr(call.func, "attr", "") == "add_argument"
            and isinstance(call.args[0], ast.Constant)
        ):
            kind = next(
                (ast.unparse(keyword.value) for keyword in call.keywords if keyword.arg == "type"),
                "",
            )
            assert kind != "Path", f"line {call.lineno}: take tools.inputs.path"
            if call.args[0].value in PATHS - CONFIGURED.get(program.name, set()) and (
                program.stem,
                call.args[0].value,
            ) != ("figures", "--classes"):
                assert "expanduser" in kind or kind in ("inputs.path", "absolute"), (
                    f"line {call.lineno}: {call.args[0].value}"
                )


def test_the_home_folder_is_that_of_the_environment(monkeypatch, tmp_path, capsys):
    monkeypatch.setenv("HOME", str(tmp_path))
    assert inputs.path("~/a b") == tmp_path / "a b" and inputs.path("x/~") == Path("x/~")
    check.main(["OxfordPets", "--root", "~/none"])
    assert f"'{tmp_path}/none' is no folder yet" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("given", "meant"),
    [
        ("~/a b", "/home of/a b"),
        ("~", "/home of"),
        ("a", "/here/a"),
        ("/b", "/b"),
        ("~x", "/here/~x"),
    ],
)
def test_scripts_take_the_home_folder_in_quotes(given, meant, monkeypatch):
    monkeypatch.setenv("HOME", "/home of")
    monkeypatch.setenv("HERE", "/here")  # as scripts/setup_env.sh sets it
    assert run.absolute(given) == meant
