"""datasets.picks: the few shots of a run are those that are known, or it says so."""

import hashlib
import json
import sys
from pathlib import Path

import forked
import pytest
from PIL import Image
from tiny_run import make_cfg, make_trainer, write_table

import datasets
from dassl.utils import set_random_seed
from datasets import picks
from datasets.prepare import find
from datasets.sets import emoji_groups
from tools.plans import read_plan

ROOT = Path(__file__).resolve().parents[1]
SETS = ("things", "office", "tools", "living", "remix", "iconpark", "ultimate", "emoji")


def test_a_checksum_by_hand():
    """In any order."""
    text = b'[["a/1.png", 0], ["b/2.png", 1]]'
    assert picks.checksum([("b/2.png", 1), ("a/1.png", 0)]) == hashlib.sha256(text).hexdigest()[:16]
    assert picks.checksum([("b/2.png", 1), ("a/1.png", 1)]) != picks.checksum(
        [("b/2.png", 1), ("a/1.png", 0)]
    )


@pytest.fixture()
def undrawn(monkeypatch):
    """Pictures of the suite are empty files: a draw looks at none."""

    def touch(path, draw, *packages):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()

    monkeypatch.setattr("datasets.suite.write_picture", touch)


def test_the_draws_of_the_study_are_those_of_today(tmp_path, undrawn):
    """Python's generator, the split and the sampling are those that the study ran with."""
    stored = json.loads(picks.FILE.read_text())
    assert {name for name, entry in stored.items() if entry["of"] == picks.STUDY} == set(SETS)
    for name in ("office", "emoji"):
        find(name).prepare(str(tmp_path), progress=False)
        for seed in (1, 10):
            found = picks.drawn(find(name), str(tmp_path), 8, seed)["picks"]
            assert found == stored[name]["picks"]["8"][str(seed)]
    assert len({one for name in SETS for one in stored[name]["picks"]["8"].values()}) == 80


def test_emoji_of_the_groups_test_that_the_selection_of_the_study_saw(tmp_path, undrawn):
    """As docs/robustness.md tells: 8 to train on and 5 for validation, of 99."""
    find("emoji").prepare(str(tmp_path / "data"), progress=False)
    keys = {
        "DATASET.NAME": "Emoji",
        "DATASET.NUM_SHOTS": 8,
        "DATASET.SUBSAMPLE_CLASSES": "base",
        "DATASET.VALIDATION": "whole",
        "SEED": 1,
    }
    cfg = make_cfg(tmp_path, "CoOp", *(word for pair in keys.items() for word in pair))
    set_random_seed(cfg.SEED)
    seen = find("emoji")(cfg)
    tested = {code for code, _ in emoji_groups.emoji_of_parts()["test"]}
    found = [
        len(tested & {Path(item.impath).stem for item in part}) for part in (seen.train_x, seen.val)
    ]
    assert (len(tested), found) == (99, [8, 5])


# Places that index files of cross_modal_adaptation (MIT, indices/<set>/shot_1-seed_<s>.json) name:
# of one image of each class in the training list of the published split, for the first classes of
# SUN397, else for all.
EVIDENCE = json.loads((ROOT / "tests/published_places.json").read_text())
PUBLISHED = json.loads(picks.FILE.read_text())


@pytest.mark.parametrize("name", EVIDENCE)
def test_the_draws_of_published_splits_are_those_of_public_index_files(name):
    entry, kind = PUBLISHED[name], find(name)
    assert entry["of"] == picks.PUBLISHED and kind.config_name() == name
    assert (len(entry["sizes"]), sum(entry["sizes"])) == (kind.classes, kind.images[0])
    for seed, found in EVIDENCE[name].items():
        assert picks.places_of(entry["sizes"], 1, int(seed))[: len(found)] == found
        assert len(found) == kind.classes or name == "sun397"
    assert entry["places"] == {
        str(shots): {
            str(seed): picks.digest(picks.places_of(entry["sizes"], shots, seed))
            for seed in picks.SEEDS
        }
        for shots in picks.SHOTS
    }


def test_ten_of_the_eleven_sets_have_a_known_draw():
    """ImageNet's public index files are of a part of its training list."""
    eleven = {job.dataset for job in read_plan(str(ROOT / "configs/sweeps/base2new.yaml")).jobs}
    assert len(eleven) == 11 and {*EVIDENCE} == eleven - {"imagenet"}


def test_places_are_those_that_a_run_draws(tmp_path, monkeypatch, capsys):
    """Of a list of the published sizes, whatever the files are called; of another they are not."""
    kind = find("dtd")
    sizes = [4, 3, 5]
    rows = {part: [] for part in ("train", "val", "test")}
    for label, size in enumerate(sizes):
        for number in range(size + 2):
            part = ("val", "test", "train")[min(number, 2)]
            rows[part].append([f"c{label}/{label}_{number}.png", label, f"c{label}"])
            path = tmp_path / kind.folder / "images" / rows[part][-1][0]
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (8, 8), (label * 40, number * 20, 9)).save(path)
    split = tmp_path / kind.folder / kind.split_file
    split.write_text(json.dumps(rows))
    found = picks.drawn(kind, str(tmp_path), 2, 3)
    assert found["places"] == picks.digest(picks.places_of(sizes, 2, 3))
    assert picks.drawn(kind, str(tmp_path), 16, 3)["places"] == picks.digest(range(12))
    known = {"dtd": {"of": picks.PUBLISHED, "places": {"2": {"3": found["places"], "4": "0"}}}}
    monkeypatch.setattr(picks, "_stored", lambda: known)

    def said(seed: int, md5: str) -> str:
        monkeypatch.setattr(kind, "split_md5", md5)
        cfg = datasets_cfg(tmp_path, kind, 2, seed)
        return kind(cfg).picks_in_words

    ours = hashlib.md5(split.read_bytes()).hexdigest()
    assert said(3, ours) == f"{found['picks']}, the draw of the published split"
    assert said(3, "").endswith(
        "the draw of the published split (if its lists are, which nothing tells)"
    )
    assert said(3, "f" * 32).endswith("of another split than the published one")
    assert said(4, ours).endswith("another draw than that of the published split")


def datasets_cfg(root, kind, shots, seed):
    from dassl.config import get_cfg_default
    from dassl.utils import set_random_seed

    cfg = get_cfg_default()
    datasets.extend_cfg(cfg)
    cfg.DATASET.ROOT, cfg.DATASET.NAME = str(root), kind.__name__
    cfg.DATASET.NUM_SHOTS, cfg.SEED = shots, seed
    set_random_seed(seed)
    return cfg


def test_a_run_says_whose_picks_it_has(tmp_path, monkeypatch, capsys):
    root = str(write_table(tmp_path))
    options = ("DATASET.NAME", "CSV", "DATASET.ROOT", root, "DATASET.NUM_SHOTS", 1, "SEED", 3)
    trainer = make_trainer(tmp_path, "CoOp", *options, "VERBOSE", True)
    found, places = trainer.dm.dataset.picks, trainer.dm.dataset.places
    assert len(found) == 16 and f"few shots  {found}\n" in capsys.readouterr().out
    for known, words in ((found, "the draw of X"), ("0" * 16, "another draw than that of X")):
        monkeypatch.setattr(
            picks,
            "_stored",
            lambda one=known: {"csv_table": {"of": "X", "picks": {"1": {"3": one}}}},
        )
        known = {"picks": found, "places": places}
        assert picks.described("csv_table", 1, 3, known) == f"{found}, {words}"
    trainer.train()
    results = json.loads((tmp_path / "output/results.json").read_text())
    assert (results["picks"], results["places"]) == (found, places)
    whole = make_trainer(tmp_path, "CoOp", *options[:4], "OUTPUT_DIR", str(tmp_path / "whole"))
    assert not whole.dm.dataset.picks  # all images: nothing is drawn


def test_the_command_prints_and_refuses_another_split(tmp_path, undrawn):
    find("office").prepare(str(tmp_path), progress=False)
    command = [sys.executable, "-m", "datasets.picks", "office", "--root", str(tmp_path)]
    command += ["--shots", "8", "--seeds", "2"]
    done = forked.python(*command[1:], cwd=ROOT)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == f"office 8 shots, seed 2: {picks.known('office', 8, 2)[0]}\n"
    kind = find("eurosat")
    (tmp_path / kind.folder).mkdir()
    (tmp_path / kind.folder / kind.split_file).write_text("{}")
    with pytest.raises(datasets.UserError, match="is not the published split of EuroSAT"):
        picks._of(kind, str(tmp_path))


def test_writing_adds_to_what_is_known_and_never_replaces_it(
    tmp_path, monkeypatch, capsys, undrawn
):
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
