"""tools.archive: a study in one small file, from which tables are made and a sweep goes on."""

import csv
import functools
import io
import json
import lzma
import shutil
import tarfile
from dataclasses import replace
from pathlib import Path

import forked
import numpy as np
import pytest
from test_sweep import arguments, write_plan
from tiny_run import write_table

from dassl import files, outcomes, record
from dassl.errors import UserError
from dassl.identity import same_run
from tools import archive, results, sweep


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    """(folder of the plan, plan, output) of two seeds of CoOp, trained on two classes."""
    import torch
    from tiny_clip import TINY, vit_weights

    top = tmp_path_factory.mktemp("archive")
    torch.save(vit_weights(**TINY), top / "clip.pt")
    write_table(top, "noise")
    plan = write_plan(top, datasets="csv", seeds=[1, 2], overrides={"DATASET.FOLDER": "noise"})
    output = top / "output"
    with pytest.MonkeyPatch.context() as patch:
        forked.workers(patch)
        assert sweep.main(arguments(top, plan, output, "--launch", "local", "--jobs", 1)) == 0
    return top, plan, output


@pytest.fixture()
def packed(study, tmp_path):
    path = tmp_path / "study.tar.xz"
    archive.pack(study[2], path)
    return path


def said(capsys, *arguments) -> str:
    assert archive.main([str(one) for one in arguments]) == 2
    return capsys.readouterr().err


def table(folder: Path, out: Path) -> dict:
    assert results.main(["base2new", str(folder), "--out", str(out)]) == 0
    return json.loads(out.with_suffix(".json").read_text())


def test_tables_and_their_intervals_are_those_of_the_runs(study, packed, tmp_path, capsys):
    assert archive.main(["unpack", str(packed), str(tmp_path / "again"), "--root", "/data"]) == 0
    assert capsys.readouterr().out.endswith("again: 4 runs written, 0 were there\n")
    shutil.move(tmp_path / "again", tmp_path / "output")  # names in notes are the folders'
    assert table(study[2], tmp_path / "one") == table(tmp_path / "output", tmp_path / "two")


def test_a_sweep_finds_all_done_and_goes_on(study, packed, tmp_path, capsys, forks):
    top, plan, _ = study
    archive.unpack(packed, tmp_path / "again", str(top / "data"))
    listing = arguments(top, plan, tmp_path / "again", "--list")
    assert sweep.main(listing) == 0 and "4 jobs: 4 done\n" in capsys.readouterr().out
    more = write_plan(top, "more", datasets="csv", seeds=[1, 2, 3])
    assert sweep.main(arguments(top, more, tmp_path / "again", "--launch", "local")) == 0
    assert "2 of 6 jobs to run" in capsys.readouterr().err


def test_a_model_that_was_left_out_is_named_before_anything_runs(
    study, packed, tmp_path, capsys, forks
):
    top, plan, _ = study
    archive.unpack(packed, tmp_path / "again", str(top / "data"))
    home = tmp_path / "again/base2new"
    gone = home / "test_new/csv/shots_2/CoOp/drawings/seed2"
    shutil.rmtree(gone)
    launch = arguments(top, plan, tmp_path / "again", "--launch", "local")
    assert sweep.main(launch) == 2
    trained = home / "train_base/csv/shots_2/CoOp/drawings/seed2"
    assert (
        f"1 model(s) to test came from an archive, which holds no checkpoints ('{trained}'): "
        "delete these folders, and the same command trains the models again"
        in capsys.readouterr().err
    )
    assert not gone.exists()
    shutil.rmtree(trained)  # the remedy
    assert sweep.main(launch) == 0
    assert "2 of 4 jobs to run" in capsys.readouterr().err


def test_a_model_trained_anew_counts_by_its_own_checksum(tmp_path):
    (tmp_path / files.CHECKSUMS).write_text('{"model.pth.tar-3": "abc"}')
    assert files.model_checksum(str(tmp_path), 3) == "abc" and files.lacks_checkpoints(
        str(tmp_path), 3
    )
    assert files.model_checksum(str(tmp_path), 2) is None
    (tmp_path / "prompt_learner").mkdir()
    (tmp_path / "prompt_learner/model.pth.tar-3").write_bytes(b"weights")
    assert files.model_checksum(str(tmp_path), 3) not in ("abc", None)
    assert not files.lacks_checkpoints(str(tmp_path), 3)
    for damaged in ("", "[]", "{}"):
        (tmp_path / files.CHECKSUMS).write_text(damaged)
        assert files.model_checksum(str(tmp_path), 2) is None


def test_folders_are_named_anew_and_all_else_comes_back(study, tmp_path, capsys):
    top, _, output = study
    packed, clip = tmp_path / "study.tar.xz", str(top / "clip.pt")
    assert archive.main(["pack", str(output), str(packed)]) == 0
    note = f"note: 1 path(s) of this machine are in the archive: {clip}\n"
    assert capsys.readouterr().err.endswith(note)
    with lzma.open(packed) as stream:
        content = stream.read().replace(clip.encode(), b"")
    assert str(top).encode() not in content and str(archive.ROOT).encode() not in content
    archive.unpack(packed, tmp_path / "again", "/elsewhere")
    for path in output.rglob(record.NAME):
        known = json.loads(path.read_text())
        again = json.loads((tmp_path / "again" / path.relative_to(output)).read_text())
        assert again["config"].pop("OUTPUT_DIR") == str(
            tmp_path / "again" / path.parent.relative_to(output)
        )
        known["config"].pop("OUTPUT_DIR")
        assert again["config"]["DATASET"].pop("ROOT") == "/elsewhere"
        assert known["config"]["DATASET"].pop("ROOT") == str(top / "data")
        assert again == known


def test_the_same_runs_give_the_same_bytes_wherever_they_are(study, packed, tmp_path):
    archive.unpack(packed, tmp_path / "again", str(study[0] / "data"))
    archive.pack(tmp_path / "again", tmp_path / "second.tar.xz")
    assert (tmp_path / "second.tar.xz").read_bytes() == packed.read_bytes()


def test_hits_are_those_of_the_runs_and_scores_are_missed_by_name(study, packed, tmp_path):
    archive.unpack(packed, tmp_path / "again", "/data")
    for path in study[2].rglob(record.NAME):
        folder = tmp_path / "again" / path.parent.relative_to(study[2])
        known = record.read(folder / record.NAME)
        ours = outcomes.read_hits(folder, "test", known)
        theirs = outcomes.read_hits(path.parent, "test", known)
        assert ours.images == theirs.images and len(ours.correct) > 0
        assert np.array_equal(ours.correct, theirs.correct)
        assert np.array_equal(ours.cluster, theirs.cluster)
        with pytest.raises(UserError, match="comes from an archive .* but no scores: run the test"):
            outcomes.read(folder, "test", known)


def test_runs_that_are_there_are_left_alone_and_others_refused(study, packed, tmp_path, capsys):
    again = tmp_path / "again"
    archive.unpack(packed, again, "/data")
    some = next(iter(sorted((again / "base2new/train_base").rglob(record.NAME))))
    before = some.stat().st_mtime_ns
    shutil.rmtree(next(iter(sorted(again.rglob("seed2")))))
    assert archive.unpack(packed, again, "/data") == (1, 3)
    assert some.stat().st_mtime_ns == before
    other = json.loads(some.read_text())
    other["metrics"]["test"]["accuracy"] += 1
    some.write_text(json.dumps(other))
    shutil.rmtree(again / "base2new/test_new")
    error = said(capsys, "unpack", packed, again)
    assert f"'{some}' is of another run than the archive's (metrics differs)" in error
    assert not (again / "base2new/test_new").exists()


def test_an_unfinished_run_stays_out(study, tmp_path, capsys):
    output = tmp_path / "output"
    shutil.copytree(study[2], output)
    for path in sorted(output.rglob(record.NAME))[1:]:
        path.write_text(json.dumps(json.loads(path.read_text()) | {"complete": False}))
    assert archive.main(["pack", str(output), str(tmp_path / "one.tar.xz")]) == 0
    assert ": 1 runs, " in capsys.readouterr().out
    assert len(archive.read(tmp_path / "one.tar.xz")) == 1


def test_bad_input_is_one_sentence(study, packed, tmp_path, capsys):
    new = tmp_path / "new"
    assert "give a name that ends in .tar.xz" in said(capsys, "pack", study[2], tmp_path / "a.zip")
    assert "is not a folder" in said(capsys, "pack", tmp_path / "nothing", tmp_path / "a.tar.xz")
    new.mkdir()
    assert "holds no finished run" in said(capsys, "pack", new, tmp_path / "a.tar.xz")
    assert "cannot be read (No such file" in said(capsys, "unpack", tmp_path / "a.tar.xz", new)

    whole = packed.read_bytes()
    for name, content in {"cut": whole[: len(whole) // 2], "words": b"words", "none": b""}.items():
        (tmp_path / name).write_bytes(content)
        assert "is not a whole archive of tools.archive" in said(
            capsys, "unpack", tmp_path / name, new
        )
    assert not list(new.iterdir())

    output = tmp_path / "damaged"
    shutil.copytree(study[2], output)
    path = next(iter(sorted(output.rglob(record.NAME))))
    outcomes.place(path.parent, "test").write_bytes(b"words")
    assert "outcomes_test.npz' is damaged" in said(capsys, "pack", output, tmp_path / "a.tar.xz")
    path.write_text("words")
    assert "is not readable as results" in said(capsys, "pack", output, tmp_path / "a.tar.xz")
    assert not (tmp_path / "a.tar.xz").exists()


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("../out/results.json", b"{}", "it holds '../out/results.json'"),
        ("/tmp/out/results.json", b"{}", "it holds '/tmp/out/results.json'"),
        ("run/evil.sh", b"", "it holds 'run/evil.sh'"),
        ("results.json", b"{}", "it holds 'results.json'"),
        ("run/checksums.json", b"{}", "(0 of 1 runs)"),
    ],
)
def test_what_pack_did_not_write_is_refused(name, content, words, tmp_path, capsys):
    path = tmp_path / "evil.tar.xz"
    with lzma.open(path, "wb") as stream, tarfile.open(fileobj=stream, mode="w") as made:
        archive._add(made, archive.HEAD, b'{"format": 1, "runs": 1}')
        archive._add(made, name, content)
    assert words in said(capsys, "unpack", path, tmp_path / "new")
    assert not (tmp_path / "new").exists()


def test_links_and_other_formats_are_refused(tmp_path, capsys):
    path = tmp_path / "evil.tar.xz"
    with lzma.open(path, "wb") as stream, tarfile.open(fileobj=stream, mode="w") as made:
        archive._add(made, archive.HEAD, b'{"format": 1, "runs": 1}')
        link = tarfile.TarInfo("run/results.json")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        made.addfile(link)
    assert "'run/results.json' is no file of a run" in said(capsys, "unpack", path, tmp_path / "n")
    with lzma.open(path, "wb") as stream, tarfile.open(fileobj=stream, mode="w") as made:
        archive._add(made, archive.HEAD, b'{"format": 2, "runs": 1}')
    assert "has format 2 and this version reads format 1" in said(
        capsys, "unpack", path, tmp_path / "n"
    )


# The archive that is shipped


@pytest.fixture(scope="module")
def shipped():
    return archive.read(archive.ROOT / "docs/results/suite.tar.xz")


RESULTS = archive.ROOT / "docs/results"
BASE2NEW = {  # table: (methods, of them without learning)
    "base2new": (13, 1),
    "base2new_averages": (13, 1),
    "base2new_released": (16, 1),
    "base2new_released_selected": (7, 1),
    "control": (2, 0),
    "rivals": (7, 1),
}


@pytest.mark.parametrize("name", BASE2NEW)
def test_the_shipped_tables_are_those_of_the_shipped_runs(shipped, name):
    """Each accuracy, from the pictures that were classified; of averages, their mean."""

    @functools.cache
    def accuracy(run: str) -> float:
        with np.load(io.BytesIO(shipped[run]["outcomes_test.npz"])) as saved:
            return 100 * float((saved["label"] == saved["predicted"]).mean())

    seen = 0
    for row in json.loads((RESULTS / f"{name}.json").read_text())["rows"]:
        if row["published"]:
            continue
        sets = row.get("average_of") or [row["dataset"]]
        assert len(sets) in (1, 8)
        for column, part in (("base", "train_base"), ("new", "test_new")):
            for seed, value in row["cells"][column]["values"].items():
                cell = f"shots_8/{row['trainer']}/{row['config']}/seed{seed}"
                right = [accuracy(f"base2new/{part}/{one}/{cell}") for one in sets]
                assert np.mean(right) == pytest.approx(value, abs=1e-9), (sets, cell)
                seen += 1
    methods, frozen = BASE2NEW[name]
    sets = 9 if name == "base2new" else 1
    assert seen == 2 * sets * ((methods - frozen) * 10 + frozen)


@pytest.mark.parametrize("path", sorted(RESULTS.glob("*_runs.csv")), ids=lambda path: path.stem)
def test_the_shipped_lists_of_runs_are_those_of_the_shipped_runs(shipped, path):
    with open(path, encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    if path.stem == "quickstart_runs":  # made by one command in a minute, and not in the archive
        assert not shipped.keys() & {row["run"] for row in rows}
        return
    for row in rows:
        stored = json.loads(shipped[row["run"]][record.NAME])
        told = next(iter(stored["metrics"].values()))
        for key in ("correct", "total"):
            assert int(row[key]) == told[key], row["run"]
        assert float(row["accuracy"]) == pytest.approx(told["accuracy"], abs=1e-9)
        assert row["config_hash"] == stored["config_hash"]
    assert rows


def test_the_shipped_runs_are_those_of_todays_plans_and_configs(shipped, tmp_path):
    hashes = {}
    for path in sorted((archive.ROOT / "configs/sweeps").glob("suite*.yaml")):
        plan = sweep.read_plan(str(path))
        plan = replace(plan, jobs=[job for job in plan.jobs if job.folder in shipped])
        hashes |= sweep.configurations(plan, str(tmp_path), str(tmp_path))[1]
    assert shipped.keys() == hashes.keys()
    different = [
        folder
        for folder, wanted in hashes.items()
        if not same_run(json.loads(shipped[folder][record.NAME])["config_hash"], wanted)
    ]
    assert not different


def test_the_shipped_archive_names_no_folder_of_a_machine(shipped):
    for folder, members in shipped.items():
        assert not list(archive._paths(json.loads(members[record.NAME]))), folder
