"""A run on other lists of images is another run: its data sets decide, by hashes."""

import json
import os
import re
import shutil
from pathlib import Path

import pytest
import torch
from test_datasets import Miniature, MiniatureTarget, paint, split_of, write
from tiny_run import make_cfg, make_trainer, replaced, write_table

import train
from dassl.data.datasets import DATASET_REGISTRY
from dassl.engine import data_files, data_hashes, difference, run_hash, settings_hash
from dassl.identity import (
    changes,
    file_hash,
    folders_below,
    joined,
    names_hash,
    of_settings,
    same_run,
)
from dassl.utils import UserError
from datasets.base import CoOpDataset
from tools import miniatures, sweep, trained


@pytest.fixture
def mini(tmp_path):
    return paint(tmp_path, Miniature.folder)


def changed_split(home, folder=Miniature.folder):
    """The first two images of the training part change their places."""
    split = json.loads((home / "data" / folder / Miniature.split_file).read_text())
    split["train"][:2] = split["train"][1::-1]
    write(home, split, folder)


# Hashes


def test_a_run_without_known_data_fits_any_data():
    one, other = joined("abc", {"split file": "1"}), joined("abc", {"split file": "2"})
    assert (
        one != other
        and joined("abc", {}) == "abc"
        and of_settings(one) == of_settings("abc") == "abc"
    )
    assert (
        same_run(one, one)
        and same_run("abc", one)
        and same_run(one, "abc")
        and not same_run(one, other)
    )
    assert not same_run("abd", one) and not same_run(joined("abd", {"split file": "1"}), one)
    for nothing in (None, 5, {}, ""):
        assert not same_run(nothing, one)


def test_what_changed_is_named_where_both_are_known():
    assert changes({"a": "1", "b": "2"}, {"a": "1", "b": "3", "c": "4"}) == ["b", "c"]
    for unknown in (None, {}, "x"):
        assert changes(unknown, {"a": "1"}) == []
    assert changes({"a": "1"}, {}) == []


def test_content_counts_not_the_time_of_a_file(tmp_path):
    path = tmp_path / "file"
    assert file_hash(str(path)) is None and file_hash(str(tmp_path)) is None
    path.write_bytes(b"one")
    first = file_hash(str(path))
    os.utime(path, (1, 1))
    assert file_hash(str(path)) == first
    path.write_bytes(b"two")
    os.utime(path, (1, 1))  # as long and as old
    assert file_hash(str(path)) != first


def test_of_a_folder_the_names_count(tmp_path):
    names = DATASET_REGISTRY.get("ImageFolder").image_names
    for name in ("a/1.png", "a/2.png", "b/1.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"x")
    calls = []

    def found():
        return names_hash(str(tmp_path), lambda folder: calls.append(folder) or names(folder))

    first = found()
    assert found() == first and len(calls) == 1  # remembered
    (tmp_path / "a/1.png").write_bytes(b"other pixels")
    (tmp_path / "a/notes.txt").write_text("no image")
    (tmp_path / ".anchors").mkdir()
    assert found() == first
    (tmp_path / "a/2.png").rename(tmp_path / "b/2.png")
    second = found()
    assert second != first
    (tmp_path / "b/2.png").rename(tmp_path / "a/2.png")
    assert found() == first
    assert names_hash(str(tmp_path / "none"), names) is None


def test_folders_are_looked_at_once_though_links_go_in_circles(tmp_path):
    (tmp_path / "a/b").mkdir(parents=True)
    (tmp_path / ".views").mkdir()
    (tmp_path / "a/circle").symlink_to(tmp_path)
    assert (
        folders_below(str(tmp_path)) == [str(tmp_path), str(tmp_path / "a"), str(tmp_path / "a/b")]
        and folders_below(str(tmp_path / "none")) == []
    )


# What data sets name


def hashes(home, *options):
    return data_hashes(make_cfg(home, "CoOp", *options))


def test_a_split_file_decides(mini):
    options = ("DATASET.NAME", "Miniature")
    before, plain = hashes(mini, *options), settings_hash(make_cfg(mini, "CoOp", *options))
    assert list(before) == ["split file 'split_zhou_Miniature.json'"]
    assert run_hash(make_cfg(mini, "CoOp", *options)) == joined(plain, before)
    changed_split(mini)
    assert hashes(mini, *options) != before
    assert hashes(mini, *options, "DATASET.ROOT", str(mini / "nowhere")) == {}
    assert (
        run_hash(make_cfg(mini, "CoOp", *options, "DATASET.ROOT", str(mini / "nowhere"))) == plain
    )


def test_the_split_of_the_target_and_the_index_file_of_the_seed_count(mini):
    paint(mini, MiniatureTarget.folder)
    index = mini / "picks" / Miniature.config_name() / "shot_2-seed_1.json"
    index.parent.mkdir(parents=True)
    index.write_text("{}")
    options = (
        "DATASET.NAME",
        "Miniature",
        "DATASET.TARGET",
        "MiniatureTarget",
        "DATASET.NUM_SHOTS",
        2,
        "DATASET.INDICES",
        str(mini / "picks"),
    )
    before = hashes(mini, *options)
    assert sorted(before) == [
        "index file of DATASET.INDICES",
        "split file 'split_zhou_Miniature.json'",
        "split file 'split_zhou_Miniature.json' of DATASET.TARGET",
    ]
    changed_split(mini, MiniatureTarget.folder)
    index.write_text("{ }")
    assert changes(before, hashes(mini, *options)) == [
        "index file of DATASET.INDICES",
        "split file 'split_zhou_Miniature.json' of DATASET.TARGET",
    ]
    assert len(hashes(mini, *options, "SEED", 2)) == 2  # which has no picks


def test_own_pictures(tmp_path):
    folder = write_table(tmp_path)
    own = ("DATASET.FOLDER", "own", "DATASET.NAME")
    table, names = hashes(tmp_path, *own, "CSV"), hashes(tmp_path, *own, "ImageFolder")
    assert list(table) == ["table 'images.csv'"] and list(names) == ["names of the images"]
    (folder / "images.csv").write_text(
        (folder / "images.csv").read_text().replace(",train,", ",val,", 1)
    )
    next(folder.glob("*/photo-test-0.png")).rename(folder / "red" / "more.png")
    (folder / "classnames.txt").write_text("red blue\n")
    assert hashes(tmp_path, *own, "CSV") != table
    assert changes(names, hashes(tmp_path, *own, "ImageFolder")) == [
        "list 'classnames.txt'",
        "names of the images",
    ]
    assert hashes(
        tmp_path,
        "DATASET.FOLDER",
        str(folder),
        "DATASET.NAME",
        "CSV",
        "DATASET.ROOT",
        str(tmp_path),
    ) == hashes(tmp_path, *own, "CSV")


PUBLISHED = sorted(
    name
    for name, kind in DATASET_REGISTRY
    if isinstance(kind, type)
    and issubclass(kind, CoOpDataset)
    and kind.classes
    and kind.__module__.startswith("datasets.")
    and kind.classes < 110
)


@pytest.mark.parametrize("name", PUBLISHED)
def test_every_list_that_a_data_set_reads_counts(name, tmp_path, monkeypatch):
    """Published sets without their split file: `partition` opens what `content` names."""
    kind = DATASET_REGISTRY.get(name)

    class Names(miniatures.Painter):
        """Empty files, of which only the names matter here."""

        def __call__(self, path, label):
            (self.folder / path).parent.mkdir(parents=True, exist_ok=True)
            (self.folder / path).touch()
            self.count += 1
            return path

    monkeypatch.setattr(miniatures, "Painter", Names)
    home = miniatures.make(kind, tmp_path, split=False)
    opened, plain = set(), open

    def watched(file, *args, **kwargs):
        if isinstance(file, (str, Path)) and str(file).startswith(str(home)):
            opened.add(str(file))
        return plain(file, *args, **kwargs)

    data = kind.__new__(kind)
    data.root, data.dataset_dir, data.image_dir = (
        str(tmp_path),
        str(home),
        str(home / kind.image_folder),
    )
    monkeypatch.setattr("builtins.open", watched)
    data.partition()
    monkeypatch.undo()
    named = data_files(
        make_cfg(tmp_path / "run", "CoOp", "DATASET.NAME", name, "DATASET.ROOT", str(tmp_path))
    )
    found = {path for path in named.values() if Path(path).exists()}
    assert opened <= found and found and (opened or any(Path(path).is_dir() for path in found))


# Runs


def arguments(home, *more):
    (home / "data.yaml").write_text("DATASET:\n  NAME: Miniature\n")
    weights = make_cfg(home, "CoOp").MODEL.BACKBONE.NAME
    (home / "trainer.yaml").write_text(
        "OPTIM:\n  NAME: sgd\n  MAX_EPOCH: 1\nINPUT:\n  SIZE: (32, 32)\n  TRANSFORMS: "
        f"['normalize']\nMODEL:\n  BACKBONE:\n    NAME: '{weights}'\n"
        "DATALOADER:\n  NUM_WORKERS: 0\nTRAINER:\n  COOP:\n    N_CTX: 2\n    PREC: fp32\n"
    )
    flags = {
        "--root": str(home / "data"),
        "--seed": "1",
        "--trainer": "CoOp",
        "--output-dir": str(home / "out"),
        "--dataset-config-file": str(home / "data.yaml"),
    }
    return replaced(flags, ("--skip-done", "--config-file", str(home / "trainer.yaml"), *more))


def test_done_and_refused_by_the_content_of_the_split(mini, capsys):
    def run(*more):
        capsys.readouterr()
        code = train.main(train.parse_args(arguments(mini, *more)))
        out, err = capsys.readouterr()
        return code, out.startswith("Done already"), err

    assert run() == (0, False, "")
    results, checkpoint = mini / "out/results.json", mini / "out/prompt_learner/model.pth.tar-1"
    found, text = (
        json.loads(results.read_text()),
        (mini / "data/mini" / Miniature.split_file).read_text(),
    )
    assert found["config_hash"] == joined(
        of_settings(found["config_hash"]), found["data"]
    ) and list(found["data"]) == ["split file 'split_zhou_Miniature.json'"]
    assert torch.load(checkpoint, weights_only=True)["data"] == found["data"]
    # The same content is the same run, wherever and from whenever.
    write(mini, text)
    assert run()[:2] == (0, True)
    shutil.move(mini / "data", mini / "moved")
    assert run("--root", str(mini / "moved"))[:2] == (0, True)
    assert run()[:2] == (0, True)  # nor is the data set needed
    shutil.move(mini / "moved", mini / "data")
    # Another content is another run.
    changed_split(mini)
    code, _, err = run()
    assert (
        code == 2
        and (
            f"'{results}' holds results of another run (the split file 'split_zhou_Miniature.json' "
            "changed since): move"
        )
        in err
    )
    code, _, err = run("OPTIM.LR", "0.5")
    assert (
        "another run (OPTIM.LR is 0.0003 there and 0.5 here; the split file "
        "'split_zhou_Miniature.json' changed since): move" in err
    )
    # A model that learned from other lists is tested, with a word.
    test = [
        "--eval-only",
        "--model-dir",
        str(mini / "out"),
        "--load-epoch",
        "1",
        "--output-dir",
        str(mini / "tested"),
    ]
    said = (
        "Warning: the split file 'split_zhou_Miniature.json' changed since the model in "
        f"'{mini / 'out'}' was trained: images that it learned may be tested"
    )
    assert (
        train.main(train.parse_args(arguments(mini, *test))) == 0
        and said in capsys.readouterr().out
    )
    write(mini, text)
    test[-1] += "_again"
    assert (
        train.main(train.parse_args(arguments(mini, *test))) == 0
        and "changed since" not in capsys.readouterr().out
    )
    changed_split(mini)
    results.unlink()
    code, _, err = run()
    assert (
        code == 2
        and (
            "model.pth.tar-1' is of a run with another configuration (the split file "
            "'split_zhou_Miniature.json' changed since): choose"
        )
        in err
    )
    # Results of an older version say nothing about it.
    old = {key: value for key, value in found.items() if key != "data"} | {
        "config_hash": of_settings(found["config_hash"])
    }
    results.write_text(json.dumps(old))
    assert run()[:2] == (0, True)


def test_a_checkpoint_of_an_older_version_is_continued(mini):
    options = ("DATASET.NAME", "Miniature", "DATASET.NUM_SHOTS", 1, "TRAIN.CHECKPOINT_FREQ", 1)
    make_trainer(mini, "CoOp", *options).train()
    path = mini / "output/prompt_learner/model.pth.tar-2"
    state = torch.load(path, weights_only=True)
    del state["data"]
    torch.save(state | {"config_hash": of_settings(state["config_hash"])}, path)
    trainer = make_trainer(mini, "CoOp", *options)
    trainer.train()
    assert trainer.start_epoch == 2


def test_a_split_that_changes_while_a_run_trains_is_not_that_of_the_run(mini):
    before = hashes(mini, "DATASET.NAME", "Miniature")
    trainer = make_trainer(mini, "CoOp", "DATASET.NAME", "Miniature", "DATASET.NUM_SHOTS", 1)
    changed_split(mini)
    trainer.train()
    assert json.loads((mini / "output/results.json").read_text())["data"] == before
    with pytest.raises(UserError, match="the split file 'split_zhou_Miniature.json' changed since"):
        make_trainer(mini, "CoOp", "DATASET.NAME", "Miniature", "DATASET.NUM_SHOTS", 1).train()


@pytest.mark.parametrize("there", ["gone", "changed", "as it was"])
def test_the_tools_use_a_finished_run_without_its_data(mini, capsys, there):
    make_trainer(mini, "CoOp", "DATASET.NAME", "Miniature", "DATASET.NUM_SHOTS", 1).train()
    if there == "changed":
        changed_split(mini)
    if there == "gone":
        shutil.rmtree(mini / "data")
    assert trained.load(str(mini / "output")).clip.classnames == ["ant", "bee", "cat", "dog", "elk"]
    assert "another CLIP" not in capsys.readouterr().err
    (mini / "clip.pt").write_bytes((mini / "clip.pt").read_bytes() + b" ")
    trained.load(str(mini / "output"))
    assert "seems to be another CLIP than the run's" in capsys.readouterr().err
    # A test of the model looks at its settings alone.
    cfg = make_cfg(mini, "CoOp", "DATASET.NAME", "Miniature", "DATASET.NUM_SHOTS", 1)
    with pytest.raises(UserError, match="was trained with another content of"):
        train.check_model(cfg, str(mini / "output"))


def test_differences_without_a_whole_configuration(mini):
    cfg = make_cfg(mini, "CoOp", "DATASET.NAME", "Miniature")
    assert difference({}, cfg) == "it holds no whole configuration"
    assert (
        difference({"data": {"split file": "1"}, "config": None}, cfg)
        == "it holds no whole configuration"
    )


# Sweeps


def test_a_sweep_computes_hashes_anew_where_lists_changed(mini, monkeypatch):
    here = os.getcwd()
    make_cfg(mini, "CoOp")
    plan_file = mini / "plan.yaml"
    folder = mini / "data/own"
    write_table(mini)
    (folder / "images.csv").unlink()
    plan_file.write_text(
        json.dumps(
            {
                "protocol": "base2new",
                "datasets": "imagefolder",
                "trainers": ["CoOp"],
                "config": "drawings",
                "shots": 2,
                "seeds": [1, 2],
                "overrides": {
                    "DATASET.FOLDER": "own",
                    "MODEL.BACKBONE.NAME": str(mini / "clip.pt"),
                    "USE_CUDA": False,
                },
            }
        )
    )
    plan = sweep.read_plan(str(plan_file))
    os.chdir(sweep.ROOT)
    try:

        def computed():
            found, own = sweep.configurations(plan, str(mini / "data"), str(mini / "sweep"))
            sweep.keep_hashes(plan, str(mini / "sweep"), found, own)
            return own

        first = computed()
        assert sweep.known_hashes(plan, str(mini / "sweep")) == first and all(
            "-" in own for own in first.values()
        )
        for change in (
            lambda: (folder / "red/new.png").write_bytes(b"x"),
            lambda: (folder / "classnames.txt").write_text("red blue\n"),
        ):
            change()
            assert sweep.known_hashes(plan, str(mini / "sweep")) == {}
            second = computed()
            assert second.keys() == first.keys() and not set(second.values()) & set(first.values())
            assert sweep.known_hashes(plan, str(mini / "sweep")) == second
            first = second
        (folder / ".anchors").mkdir()  # what runs leave
        (folder / ".anchors/x.pt").write_bytes(b"")
    finally:
        os.chdir(here)
    assert re.fullmatch(r"[0-9a-f]{12}-[0-9a-f]{8}", next(iter(first.values()))) and split_of(mini)
