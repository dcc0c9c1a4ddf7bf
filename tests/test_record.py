"""dassl.record: which run a results.json is of, by its own words; older ones by their folders."""

import json
import sys
from dataclasses import asdict
from pathlib import Path

import pytest

from dassl import record
from dassl.record import Description
from dassl.utils import UserError
from tools import protocols
from tools.protocols import PROTOCOLS, Protocol, collect
from tools.protocols.base import by_folder

RUN = Description(
    protocol="base2new",
    source="dtd",
    tested="dtd",
    subset="base",
    trainer="CoOp",
    structure="CoOp",
    config="vit_b16",
    shots="16",
    seed=3,
)


def write(folder: Path, run: Description | dict | None, accuracy: float = 50.0, **more) -> Path:
    folder.mkdir(parents=True)
    path = folder / record.NAME
    run = asdict(run) if isinstance(run, Description) else run
    content = {"complete": True, "metrics": {"test": {"accuracy": accuracy}}, "config": {}}
    path.write_text(json.dumps({**content, "run": run, **more}))
    return path


def test_a_record_tells_its_run_wherever_its_folder_lies(tmp_path):
    write(tmp_path / "a/b", RUN, 60.0)
    write(
        tmp_path / "test_new/eurosat/shots_1/VPT/x/seed9",
        RUN.__class__(**{**asdict(RUN), "subset": "new", "part": "test"}),
        40.0,
    )
    (row,), problems = collect(PROTOCOLS["base2new"], [tmp_path])
    assert row.key == ("dtd", "CoOp", "vit_b16", "16") and not problems
    assert row.of("base") == {3: 60.0} and row.of("new") == {3: 40.0}
    for name in ("xd", "few_shot", "group", "ablation"):
        assert collect(PROTOCOLS[name], [tmp_path]) == ([], [])


@pytest.mark.parametrize(
    ("protocol", "part", "tables"),
    [
        ("xd", "train", {"xd", "dg", "few_shot"}),
        ("few_shot", "train", {"xd", "dg", "few_shot"}),
        ("xd", "test", {"xd"}),
        ("ablation", "train", {"ablation"}),
        ("base2new", "test", {"base2new"}),
        ("openworld", "test", {"openworld"}),
        ("of a plug-in that is not installed", "train", set()),
    ],
)
def test_protocols_with_the_same_folders_share_runs(protocol, part, tables):
    subset = {"base2new": "new", "ablation": "base"}.get(protocol, "all")
    run = Description(protocol=protocol, part=part, source="imagenet", tested="dtd", subset=subset)
    assert {name for name, other in PROTOCOLS.items() if other.lists(run)} == tables


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_the_folder_of_a_run_tells_the_run(protocol):
    """The patterns that read folders are made of the formats that name them."""
    own = PROTOCOLS[protocol]
    named = {"trainer": "CraftCoOp", "structure": "CoOp", "craft": "mmd", "config": "vit_b16_mmd"}
    known = {"protocol": protocol, "source": "dtd", "shots": "4", "seed": -1, **named}
    known |= {"study": "mmd"} if own.has("study") else {}
    known |= {"target": "eurosat"} if own.has("target") else {}
    runs = [Description(tested="dtd", subset=own.subset, **known)]
    if own.test:
        for tested, subsets in (("dtd", own.others), ("food101", own.elsewhere)):
            runs += [
                Description(part="test", tested=tested, subset=subset, **known)
                for subset in subsets
            ]
    for run in runs:
        assert (
            by_folder(Path("/output"), Path("/output", own.folder(run), record.NAME))[protocol]
            == run
        )
        if protocol == "ablation":  # from inside, the folders are those of base2new
            continue
        folder = Path("/output", own.folder(run)).parent
        assert by_folder(folder, folder / f"seed{run.seed}" / record.NAME)[protocol] == run


def test_a_run_without_a_protocol_is_told_by_its_folder(tmp_path):
    """As train.py leaves it that was started by hand."""
    run = Description(source="x", tested="x", trainer="CoOp", structure="CoOp", seed=1)
    write(tmp_path / "train_base/dtd/shots_4/CoOp/cfg/seed1", run)
    (row,), _ = collect(PROTOCOLS["base2new"], [tmp_path])
    assert row.key == ("dtd", "CoOp", "cfg", "4")


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"seed": "3"}, "its run.seed is '3'"),
        ({"source": None}, "its run.source is None"),
        ({"learns": 1}, "its run.learns is 1"),
    ],
)
def test_a_run_that_no_version_writes_is_refused(tmp_path, change, problem):
    path = write(tmp_path / "run", {**asdict(RUN), **change})
    with pytest.raises(ValueError, match=problem):
        record.description(record.read(path))


@pytest.mark.parametrize("change", ["subset", "protocol"])
def test_a_partial_run_and_one_of_an_unknown_protocol_are_told_by_their_folder(tmp_path, change):
    run = {**asdict(RUN), "protocol": "base2newt"}
    if change == "subset":
        run = {key: value for key, value in asdict(RUN).items() if key != "subset"}
    path = write(tmp_path / "train_base/dtd/shots_4/CoOp/cfg/seed1", run, seed=2)
    (row,), (problem,) = collect(PROTOCOLS["base2new"], [tmp_path])
    assert row.key == ("dtd", "CoOp", "cfg", "4") and row.of("base") == {1: 50.0}
    assert problem.startswith(f"'{path}' is of seed 2, not of the one that its folder says")
    if change == "subset":
        with pytest.raises(ValueError, match="it lacks run.subset"):
            record.description(record.read(path))


@pytest.mark.parametrize(
    ("config", "plain"), [("my_default", "my_default"), ("drawings_mmd", "drawings")]
)
def test_the_config_of_the_baseline(config, plain):
    assert protocols.Row("dtd", "CraftCoOp", config, "16").plain_config == plain


def test_a_seed_that_differs_from_the_run_s_is_named(tmp_path):
    path = write(tmp_path / "a", RUN, seed=2)
    _, (problem,) = collect(PROTOCOLS["base2new"], [tmp_path])
    assert problem.startswith(f"'{path}' is of seed 2, not of the one that its run.seed says")


def test_which_epoch_a_run_tested(tmp_path):
    training = {"complete": True, "deployed": "last_step", "epochs": 5, "loaded": None}
    assert record.is_training(training) and record.tested_epoch(training) == 5
    assert record.tested_epoch({**training, "deployed": "best_val"}) is None
    model = {"model_dir": "../x", "epoch": 2}
    test = {**training, "loaded": model, "epochs": 0}
    assert not record.is_training(test) and record.tested_epoch(test) == 2
    older = record.as_now({**training, "loaded": model})  # as older versions wrote a training
    assert older == {**training, "began_from": model}
    assert record.is_training(older) and record.tested_epoch(older) == 5
    for content, deployed in (
        (training, {"epoch": 5}),
        (older, {"epoch": 5}),
        ({**training, "loaded": model}, {"epoch": 5}),
        ({**training, "deployed": "best_val"}, {"epoch": None}),
        ({**training, "complete": False}, None),
        (test, None),
        ([], None),
    ):
        (tmp_path / record.NAME).write_text(json.dumps(content))
        assert record.deployed(tmp_path) == deployed


def test_done_is_complete_of_this_run_and_of_this_model(tmp_path):
    path = write(tmp_path / "run", RUN, config_hash="abc", loaded=None)
    stored = record.read(path)
    nothing = record.Models()
    assert record.is_done(stored, path, "abc", nothing, "")
    assert not record.is_done(stored, path, "abd", nothing, "")
    assert not record.is_done({**stored, "complete": False}, path, "abc", nothing, "")
    loaded = {"model_dir": "../m", "epoch": 1}
    assert not record.is_done(stored, path, "abc", record.Models(loaded), str(tmp_path))
    assert record.difference(stored, None, "abc", record.Models(loaded)) == (
        "a training there, a test of epoch 1 of '../m' here"
    )
    # Only the kind of run differs, which no hash tells.
    warm = {**stored, "began_from": loaded}
    assert not record.is_of(warm, "abc", record.Models(loaded))
    assert record.difference(warm, None, "abc", record.Models(loaded)) == (
        "a training that began from epoch 1 of '../m' there, a test of epoch 1 of '../m' here"
    )


def test_a_format_with_a_field_that_no_run_has_is_refused():
    with pytest.raises(
        ValueError, match=r"protocol x: 'x/\{sourec\}' has the unknown field \{sourec\}: known"
    ):
        Protocol(name="x", title="X", train="x/{sourec}")


def test_protocols_have_names_of_their_own(tmp_path, monkeypatch):
    (tmp_path / "again.py").write_text("from tools.protocols.xd import PROTOCOL\n")
    with monkeypatch.context() as patch:
        patch.setattr(protocols, "__path__", [*protocols.__path__, str(tmp_path)])
        with pytest.raises(UserError, match="two files of tools/protocols have a protocol 'xd'"):
            protocols.load()
        (tmp_path / "again.py").write_text("PROTOCOL = 1\n")
        sys.modules.pop("tools.protocols.again")
        with pytest.raises(UserError, match="PROTOCOL of tools.protocols.again is no Protocol"):
            protocols.load()
    sys.modules.pop("tools.protocols.again")
    protocols.load()
    assert list(PROTOCOLS)[0] == "base2new" and len(PROTOCOLS) == 9
