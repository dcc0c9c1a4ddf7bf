"""What names from outside can do to a terminal, a log and a table: nothing.

And what is not text can be written all the same.
"""

import contextlib
import io
import logging
import os
import subprocess
import sys
from argparse import Namespace
from pathlib import Path

import pytest
from PIL import Image
from tiny_run import make_cfg

import train
from dassl import messages
from dassl.data.datasets import DatasetBase, Datum
from dassl.printable import escaped, harmless
from dassl.utils import UserError, setup_logger
from dassl.utils.logger import _restore
from tools import inputs

ROOT = Path(__file__).resolve().parent.parent
# Sets a terminal's title and looks like a line of a result.
TITLE = "x\x1b]0;mine\x07\n* accuracy: 99.9%"


def test_only_colours_tabs_and_ends_of_lines_reach_the_terminal():
    for text in ("a\tb\r\n", "\x1b[1;31mred\x1b[0m", "Möwe, 海鷗", ""):
        assert harmless(text) == text
    for text, shown in (
        ("\x1b]0;t\x07", r"\x1b]0;t\x07"),
        ("\x1b[2J", r"\x1b[2J"),
        ("\x9b2J", r"\x9b2J"),
        ("a\u2028b", r"a\u2028b"),
        ("\u202eabc", r"\u202eabc"),
    ):
        assert harmless(text) == shown and escaped(text) == shown
    assert escaped("a\nb\x7f") == r"a\nb\x7f"


def test_an_error_is_one_line_whatever_it_names_and_further_lines_are_asked_for():
    assert (
        str(UserError(f"class '{TITLE}' is empty"))
        == r"class 'x\x1b]0;mine\x07\n* accuracy: 99.9%' is empty"
    )
    assert str(UserError("first", "second")) == "first\nsecond"


def test_the_log_and_the_terminal_get_the_same_harmless_text(tmp_path, monkeypatch):
    screen = io.StringIO()
    monkeypatch.setattr(sys, "stdout", screen)
    setup_logger(str(tmp_path))
    print("name \x1b]0;mine\x07 and \udce9 \x1b[32mgreen\x1b[0m")
    _restore()
    assert screen.getvalue() == "name \\x1b]0;mine\\x07 and \udce9 \x1b[32mgreen\x1b[0m\n"
    assert (tmp_path / "log.txt").read_text() == "name \\x1b]0;mine\\x07 and \\udce9 green\n"


def test_what_a_terminals_encoding_lacks_is_escaped(tmp_path):
    code = (
        f"from dassl.utils import setup_logger; setup_logger({str(tmp_path)!r}); print('M\\u00f6we "
        "\\udce9')"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        capture_output=True,
        env={**os.environ, "PYTHONIOENCODING": "ascii"},
    )
    assert done.stdout == b"M\\xf6we \\udce9\n", done.stderr
    assert (tmp_path / "log.txt").read_text(encoding="utf-8") == "Möwe \\udce9\n"


@pytest.mark.parametrize("part", ["train_x", "val", "test"])
def test_a_class_name_with_control_characters_is_refused(part):
    parts = {
        name: [Datum("a.png", 0, 0, "a\tb" if name == part else "ab")]
        for name in ("train_x", "val", "test")
    }
    with pytest.raises(
        UserError, match=r"the class name 'a\\tb' has control characters: rename its folder"
    ):
        DatasetBase(**parts)


def test_a_folder_that_forges_a_result_is_refused_and_shown_escaped(tmp_path, capsys):
    for name in (TITLE, "b"):
        for number in range(10):
            path = tmp_path / "data" / name / f"{number}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (32, 32), (number * 9, 0, 0)).save(path)
    cfg = make_cfg(tmp_path, "ZeroshotCLIP")
    arguments = [
        "--root",
        str(tmp_path / "data"),
        "--trainer",
        "ZeroshotCLIP",
        "--seed",
        "1",
        "--output-dir",
        str(tmp_path / "out"),
        "INPUT.SIZE",
        "(32, 32)",
        "MODEL.BACKBONE.NAME",
        cfg.MODEL.BACKBONE.NAME,
        "DATASET.NAME",
        "ImageFolder",
        "DATALOADER.NUM_WORKERS",
        "0",
    ]
    assert train.main(train.parse_args(arguments)) == 2
    out, err = capsys.readouterr()
    assert (
        err.splitlines()[-1].startswith("error: ")
        and r"x\x1b]0;mine\x07\n* accuracy" in err.splitlines()[-1]
    )
    for text in (out, err, (tmp_path / "out/log.txt").read_text()):
        assert "\x1b" not in text and "\n* accuracy" not in text


def test_configuration_values_and_paths_with_control_characters_are_refused(tmp_path):
    for flags in (
        ["--output-dir", TITLE],
        ["--root", TITLE],
        ["--model-dir", TITLE],
        ["--config-file", TITLE],
        ["--dataset-config-file", TITLE],
        ["DATASET.TEMPLATE", f"{{}} {TITLE}"],
        ["DATASET.SOURCE_DOMAINS", repr((TITLE,))],
        ["TRAINER.COOP.CTX_INIT", "a\tphoto"],
    ):
        with pytest.raises(UserError, match="control characters|give a list of names") as caught:
            train.setup_cfg(train.parse_args(["--trainer", "CoOp", *flags]))
        assert "\n" not in str(caught.value)


def test_tools_are_as_careful(tmp_path, capsys):
    def run(args):
        sys.stdout.write(f"{args.name}\n")
        inputs.write(tmp_path / "table.md", f"| {args.name} |\n", "--out")
        raise inputs.InputError(f"'{TITLE}' is no run: give another")

    assert inputs.main(run, Namespace(name="a\x1b]0;mine\x07")) == 2
    assert capsys.readouterr() == (
        "a\\x1b]0;mine\\x07\n",
        "error: 'x\\x1b]0;mine\\x07\\n* accuracy: 99.9%' is no run: give another\n",
    )
    assert (tmp_path / "table.md").read_text() == "| a\\x1b]0;mine\\x07 |\n"
    sys.stdout.write("\x1b]")  # the stream of the caller is what it was
    assert capsys.readouterr().out == "\x1b]"


@pytest.mark.parametrize("name", ["dassl", "datasets", "tools", "trainers"])
def test_messages_of_library_code_are_lines_of_stdout_as_it_is_at_that_moment(name, capsys):
    log = logging.getLogger(f"{name}.a_module")
    log.info("100% of %s\t1\nsecond")
    with contextlib.redirect_stdout(io.StringIO()) as other:
        log.warning("elsewhere")
    assert (
        capsys.readouterr().out == "100% of %s\t1\nsecond\n" and other.getvalue() == "elsewhere\n"
    )
    messages.install()
    log.info("once")
    assert capsys.readouterr().out == "once\n"


def test_messages_are_in_the_log_and_an_error_of_the_stream_is_heard(tmp_path, monkeypatch):
    screen = io.StringIO()
    monkeypatch.setattr(sys, "stdout", screen)
    setup_logger(str(tmp_path))
    logging.getLogger("dassl.engine").info("a line")
    _restore()
    assert screen.getvalue() == (tmp_path / "log.txt").read_text() == "a line\n"

    class Closed(io.StringIO):
        def write(self, text):
            raise BrokenPipeError

    monkeypatch.setattr(sys, "stdout", Closed())
    with pytest.raises(BrokenPipeError):
        logging.getLogger("dassl.engine").info("nobody reads this")


def test_notes_of_data_sets_are_seen_where_dassl_installs_no_handler():
    """On upstream Dassl, Python's own last resort writes warnings to stderr."""
    for path in (ROOT / "datasets").rglob("*.py"):
        assert "log.info(" not in path.read_text(), path
