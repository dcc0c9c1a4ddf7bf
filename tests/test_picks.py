"""datasets.picks: the few shots of a run are those that are known, or it says so."""

import hashlib
import json
import subprocess
import sys
from pathlib import Path

import pytest
from tiny_run import make_trainer, write_table

import datasets
from datasets import picks
from datasets.prepare import find

ROOT = Path(__file__).resolve().parents[1]
SETS = ("things", "office", "tools", "living", "remix", "iconpark", "ultimate", "emoji")


def test_a_checksum_by_hand():
    """In any order."""
    text = b'[["a/1.png", 0], ["b/2.png", 1]]'
    assert picks.checksum([("b/2.png", 1), ("a/1.png", 0)]) == hashlib.sha256(text).hexdigest()[:16]
    assert picks.checksum([("b/2.png", 1), ("a/1.png", 1)]) != picks.checksum(
        [("b/2.png", 1), ("a/1.png", 0)]
    )


def test_the_draws_of_the_study_are_those_of_today(tmp_path):
    """Python's generator, the split and the sampling are those that the study ran with."""
    stored = json.loads(picks.FILE.read_text())
    assert set(stored) == set(SETS)
    for name in ("office", "emoji"):
        find(name).prepare(str(tmp_path), progress=False)
        for seed in (1, 10):
            found = picks.drawn(find(name), str(tmp_path), 8, seed)
            assert found == stored[name]["picks"]["8"][str(seed)]
    assert len({one for entry in stored.values() for one in entry["picks"]["8"].values()}) == 80


def test_a_run_says_whose_picks_it_has(tmp_path, monkeypatch, capsys):
    root = str(write_table(tmp_path))
    options = ("DATASET.NAME", "CSV", "DATASET.ROOT", root, "DATASET.NUM_SHOTS", 1, "SEED", 3)
    trainer = make_trainer(tmp_path, "CoOp", *options, "VERBOSE", True)
    found = trainer.dm.dataset.picks
    assert len(found) == 16 and f"few shots  {found}\n" in capsys.readouterr().out
    for known, words in ((found, "the draw of X"), ("0" * 16, "another draw than that of X")):
        monkeypatch.setattr(
            picks,
            "_stored",
            lambda one=known: {"csv_table": {"of": "X", "picks": {"1": {"3": one}}}},
        )
        assert picks.described("csv_table", 1, 3, found) == f"{found}, {words}"
    trainer.train()
    assert json.loads((tmp_path / "output/results.json").read_text())["picks"] == found
    whole = make_trainer(tmp_path, "CoOp", *options[:4], "OUTPUT_DIR", str(tmp_path / "whole"))
    assert not whole.dm.dataset.picks  # all images: nothing is drawn


def test_the_command_prints_and_refuses_another_split(tmp_path):
    find("office").prepare(str(tmp_path), progress=False)
    command = [sys.executable, "-m", "datasets.picks", "office", "--root", str(tmp_path)]
    command += ["--shots", "8", "--seeds", "2"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=True)
    assert done.stderr == ""
    assert done.stdout == f"office 8 shots, seed 2: {picks.known('office', 8, 2)[0]}\n"
    kind = find("eurosat")
    (tmp_path / kind.folder).mkdir()
    (tmp_path / kind.folder / kind.split_file).write_text("{}")
    with pytest.raises(datasets.UserError, match="is not the published split of EuroSAT"):
        picks._of(kind, str(tmp_path))


def test_writing_adds_to_what_is_known_and_never_replaces_it(tmp_path, monkeypatch, capsys):
    find("office").prepare(str(tmp_path), progress=False)
    monkeypatch.setattr(picks, "FILE", tmp_path / "picks.json")
    mine = {"of": picks.STUDY, "picks": {"16": {"1": "f" * 16}, "8": {"10": "e" * 16}}}
    picks.FILE.write_text(json.dumps({"things": mine, "office": mine}))
    words = ["office", "--root", str(tmp_path), "--shots", "8", "--write", "--seeds"]
    assert picks.main([*words, "2", "1"]) == 0
    stored = json.loads(picks.FILE.read_text())
    eight = {str(seed): picks.known("office", 8, seed)[0] for seed in (1, 2)} | {"10": "e" * 16}
    assert stored["things"] == mine and stored["office"]["of"] == picks.STUDY
    assert stored["office"]["picks"] == {"8": eight, "16": {"1": "f" * 16}}
    assert list(stored["office"]["picks"]["8"]) == ["1", "2", "10"]
    before = picks.FILE.read_bytes()
    capsys.readouterr()
    assert picks.main([*words, "3", "10"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    drawn = picks.known("office", 8, 10)[0]
    said = f"' has {'e' * 16} for office, 8 shots, seed 10, and {drawn} was drawn: look for"
    assert said in line and picks.FILE.read_bytes() == before


def test_picks_of_a_set_without_a_known_split_are_nobodys(tmp_path):
    with pytest.raises(datasets.UserError, match="published split of Food101 is known, so nothing"):
        picks._of(find("food101"), str(tmp_path))
