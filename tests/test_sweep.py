"""tools.sweep: plans expand to the right jobs, and launches survive whatever kills them.

Runs are real, on a tiny random CLIP.
"""

import contextlib
import fcntl
import hashlib
import io
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import forked
import numpy as np
import pytest
import torch
import yaml
from PIL import Image
from tiny_clip import TINY, vit_weights

import train
from tools import launchers, run, sweep
from tools.launchers import Job
from tools.protocols import PROTOCOLS

ROOT = Path(__file__).resolve().parent.parent
PLANS = sorted((ROOT / "configs/sweeps").glob("*.yaml"))
CLASSES = ("cat", "dog", "red", "saxophone")


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    """Files that another process can use: a random CLIP and a folder of coloured noise."""
    top = tmp_path_factory.mktemp("tiny")
    torch.save(vit_weights(**TINY), top / "clip.pt")
    noise = np.random.RandomState(0)
    for part, count in (("train", 4), ("test", 3)):
        for label, name in enumerate(CLASSES):
            (top / "data/noise" / part / name).mkdir(parents=True)
            for number in range(count):
                picture = noise.randint(0, 96, (40, 36, 3)) + 40 * label
                Image.fromarray(picture.astype(np.uint8)).save(
                    top / "data/noise" / part / name / f"{number}.png"
                )
    return top


def write_plan(
    tiny: Path,
    stem: str = "plan",
    /,
    studies: list | None = None,
    overrides: dict | None = None,
    **more,
) -> Path:
    """A plan of tiny runs; `more` are further keys, or take the place of these."""
    tree = {
        "protocol": "base2new",
        "datasets": "imagefolder",
        "trainers": ["CoOp"],
        "config": "drawings",
        "shots": 2,
        "seeds": 1,
    } | more
    tree["overrides"] = {
        "DATASET.FOLDER": "noise",
        "MODEL.BACKBONE.NAME": str(tiny / "clip.pt"),
        "INPUT.SIZE": "(32, 32)",
        "OPTIM.MAX_EPOCH": 3,
        "DATALOADER.TRAIN_X.BATCH_SIZE": 4,
        "USE_CUDA": False,
    } | (overrides or {})
    if "VPT" in tree["trainers"]:  # the tiny CLIP has two layers
        tree["overrides"]["TRAINER.VPT.PROMPT_DEPTH_VISION"] = 2
    if studies:
        tree["studies"] = studies
    path = tiny / f"{stem}.yaml"
    path.write_text(yaml.safe_dump(tree))
    return path


def arguments(tiny: Path, plan: Path, output: Path, *more) -> list[str]:
    return [str(plan), "--root", str(tiny / "data"), "--output", str(output), *map(str, more)]


def listed(tiny: Path, plan: Path, output: Path) -> dict[str, tuple[str, str]]:
    """{folder: (state, note)}."""
    read = sweep.read_plan(str(plan))
    return sweep.survey(
        read, str(output), sweep.configurations(read, str(tiny / "data"), str(output))[1]
    )


def pretend(tiny: Path, plan: Path, output: Path, **change) -> sweep.Plan:
    """results.json of every job, as if all had run; `change` replaces some of its content."""
    read = sweep.read_plan(str(plan))
    found, hashes = sweep.configurations(read, str(tiny / "data"), str(output))
    from dassl.config import cfg_to_dict

    for job in read.jobs:
        folder = output / job.folder
        folder.mkdir(parents=True)
        config = cfg_to_dict(found[sweep._key(job)]) | {"SEED": job.seed}
        loaded = job.loads(str(output))
        (folder / "results.json").write_text(
            json.dumps(
                {
                    "complete": True,
                    "config_hash": hashes[job.folder],
                    "loaded": loaded,
                    "deployed": "last_step",
                    "epochs": 0 if loaded else 3,
                    "metrics": {"test": {"accuracy": 50.0}},
                    "config": config,
                }
                | change
            )
        )
    return read


# Plans


# What each shipped plan expands to, counted by hand: (jobs, of them trainings). Structures x with
# and without CRAFT x data sets x seeds ...
COUNTS = {
    "base2new": (2 * (11 + 6 * 2 * 11 * 3), 6 * 2 * 11 * 3),
    "xd": (15 * (1 + 6 * 2 * 3), 6 * 2 * 3),
    "few_shot": ((4 * 2 + 3) * 11 * 5 * 3, (4 * 2 + 3) * 11 * 5 * 3),
    "rivals": (2 * 3 * 2 * 11 * 3, 3 * 2 * 11 * 3),
    "ablation": (2 * 4 * 4 * 11 * 3 + (2 + 2) * 4 * 3 + 2 * 2 * 4 * 3, 4 * 4 * 11 * 3 + 4 * 3),
    "ood": (5 * (1 + 4 * 3 * 3), 4 * 3 * 3),
    "groups": (3 * (2 + (4 * 3 + 2 + 4 + 3) * 3), 3 * (4 * 3 + 2 + 4 + 2) * 3),  # JTT: 3 jobs
    "quickstart": (2 * (1 + 2 * 10), 2 * 10),
    "generalisation": (26 * (1 + 4 * 2 * 3), 26 * 4 * 2 * 3),
    "adaptation": (19 * (1 + 4 * 3 * 3), 19 * 4 * 3 * 3),
    "suite_groups": (2 + (2 + 4 + 3 + 2) * 10, (2 + 4 + 3 + 1) * 10),
    "suite_groups_selected": ((4 * 3 + 2 * 2) * 10, (4 * 3 + 2 * 2) * 10),
    "suite_shifted": (4 * 4 * 3 * 10, 4 * 3 * 10),
    "suite_released": (2 * 8 * 3 * 10, 8 * 3 * 10),
    "suite_rivals": (2 * 8 * 3 * 2 * 10, 8 * 3 * 2 * 10),
    "suite_control": (2 * 8 * 2 * 10, 8 * 2 * 10),
    "suite_few_shot": (8 * 5 * 4 * 10, 8 * 5 * 4 * 10),
    "suite_domains": (4 * (1 + 2 * 3 * 10), 4 * 2 * 3 * 10),
    "suite_openworld": (2 * 8 * (1 + 9 * 2 * 10), 8 * 9 * 2 * 10),
    "suite_ablation": (2 * (6 * 4 + 2 * 7) * 10, (6 * 4 + 2 * 7) * 10),
    "suite": (
        2 * 8 * (1 + (6 * 2 + 3) * 10) + 4 * (1 + 4 * 3 * 10) + (1 + 4 * 3 * 10),
        8 * (6 * 2 + 3) * 10 + 4 * 3 * 10 + 4 * 3 * 10,
    ),
}


@pytest.mark.parametrize("path", PLANS, ids=lambda path: path.stem)
def test_every_shipped_plan_expands_to_runs_that_train_py_takes(path, tmp_path):
    """And no key of a plan is without effect."""
    plan = sweep.read_plan(str(path))
    assert (len(plan.jobs), sum(not job.test for job in plan.jobs)) == COUNTS[path.stem]
    assert len({job.folder for job in plan.jobs}) == len(plan.jobs)
    order = {job.folder: place for place, job in enumerate(plan.jobs)}
    for job in plan.jobs:
        assert all(order[folder] < order[job.folder] for folder in job.needs)
        frozen = job.trainer in ("ZeroshotCLIP", "OrthCal")
        assert job.test == bool(job.trained) or frozen and not job.trained
    found, hashes = sweep.configurations(
        plan, str(tmp_path), str(tmp_path)
    )  # every file and key is known
    assert len(set(hashes.values())) >= len(plan.jobs) - len([job for job in plan.jobs if job.test])
    # The hash is that of train.py, for any of the jobs.
    for job in plan.jobs[:: max(1, len(plan.jobs) // 5)]:
        from dassl.engine import run_hash

        assert hashes[job.folder] == run_hash(
            train.setup_cfg(
                train.parse_args([*job.settings(str(tmp_path), str(tmp_path)), *job.options])
            )
        )
    assert sweep.without_effect(plan, found) == []


@pytest.mark.parametrize("path", PLANS, ids=lambda path: path.stem)
def test_the_collectors_of_tools_results_know_every_folder(path):
    tree = yaml.safe_load(path.read_text())
    names = {study.get("protocol", tree.get("protocol")) for study in tree.get("studies", [{}])}
    for job in sweep.read_plan(str(path)).jobs:
        if job.folder.startswith("errors/"):  # JTT's first runs on training images: in no table
            assert not any(
                protocol.described(f"/output/{job.folder}/results.json")
                for protocol in PROTOCOLS.values()
            )
            continue
        _, run = next(
            described
            for name in names
            if (described := PROTOCOLS[name].described(f"/output/{job.folder}/results.json"))
        )
        assert (run.seed, run.trainer, run.config) == (job.seed, job.trainer, job.config)
        # What the folder tells is what the record will, but for a study that is no part of the
        # protocol.
        told = {
            field: getattr(job.run, field)
            for field in ("part", "source", "tested", "structure", "craft", "learns", "shots")
        }
        assert told == {field: getattr(run, field) for field in told}


def test_folders_and_options_are_those_of_the_scripts(tiny):
    def expand(**keys):
        return sweep.read_plan(str(write_plan(tiny, **keys))).jobs

    train_job, new, base_from, new_from = expand(tests="emoji")
    cell = "shots_2/CoOp/drawings/seed1"
    assert [job.folder for job in (train_job, new, base_from, new_from)] == [
        f"base2new/train_base/imagefolder/{cell}",
        f"base2new/test_new/imagefolder/{cell}",
        f"base2new/test_base/emoji_from_imagefolder/{cell}",
        f"base2new/test_new/emoji_from_imagefolder/{cell}",
    ]
    assert [job.trained for job in (train_job, new, base_from, new_from)] == [
        "",
        *[train_job.folder] * 3,
    ]
    assert (
        train_job.options[-4:] == ("DATASET.NUM_SHOTS", "2", "DATASET.SUBSAMPLE_CLASSES", "base")
        and base_from.dataset == "emoji"
    )
    assert [job.folder for job in expand(protocol="ablation", name="static")] == [
        f"ablation/static/base2new/train_base/imagefolder/{cell}",
        f"ablation/static/base2new/test_new/imagefolder/{cell}",
    ]
    assert [job.folder for job in expand(protocol="xd", datasets="imagenet", tests="dtd")] == [
        "imagenet/CoOp/drawings_2shots/seed1",
        "evaluation/CoOp/drawings_2shots/dtd/seed1",
    ]
    assert (
        expand(protocol="xd", tests="dtd")[1].folder
        == "evaluation/CoOp/drawings_2shots/dtd_from_imagefolder/seed1"
    )
    source, shifted = expand(protocol="ood", targets="emoji_line", craft="mmd")
    assert (
        source.folder == "ood/train/imagefolder_to_emoji_line/shots_2/CraftCoOp/drawings_mmd/seed1"
        and "DATASET.TARGET" not in shifted.options
    )
    assert source.options[source.options.index("DATASET.TARGET") + 1] == "EmojiLine"
    assert (
        shifted.folder == "ood/test_emoji_line/imagefolder_to_emoji_line/shots_2/CraftCoOp/"
        "drawings_mmd/seed1"
    )
    (group,) = expand(protocol="group", shots="all")
    assert (
        group.folder == "group/imagefolder/shots_all/CoOp/drawings/seed1" and "-1" in group.options
    )
    zero = expand(trainers="ZeroshotCLIP")
    assert [job.test for job in zero] == [True, True] and {job.trained for job in zero} == {""}


def test_an_empty_name_is_none(tiny):
    assert (
        sweep.read_plan(str(write_plan(tiny, name=None))).jobs
        == sweep.read_plan(str(write_plan(tiny))).jobs
    )


WRITTEN = """
protocol: base2new
datasets: imagefolder
trainers: CoOp
config: drawings
"""
DECIMALS = "write the number in decimals"
QUOTED = "or a text in quotes"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("seeds: [10, 011]", f"seeds is 011, which YAML takes for 9: {DECIMALS}"),
        ("shots: 010", f"shots is 010, which YAML takes for 8: {DECIMALS}"),
        (
            "overrides: {OPTIM.MAX_EPOCH: 010}",
            f"OPTIM.MAX_EPOCH is 010, which YAML takes for 8: {DECIMALS}, {QUOTED}",
        ),
        (
            "overrides: {DATALOADER.TEST.BATCH_SIZE: 0144}",
            f"DATALOADER.TEST.BATCH_SIZE is 0144, which YAML takes for 100: {DECIMALS}, {QUOTED}",
        ),
        (
            "train_overrides: {OPTIM.LR: 1:30.5}",
            f"OPTIM.LR is 1:30.5, which YAML takes for 90.5: {DECIMALS}, {QUOTED}",
        ),
        (
            "studies: [{overrides: {DATASET.SOURCE_DOMAINS: [a, no]}}]",
            "DATASET.SOURCE_DOMAINS is no, which YAML takes for False: write true or false, "
            f"{QUOTED}",
        ),
    ],
)
def test_what_yaml_reads_otherwise_than_people_is_refused(tmp_path, text, message):
    path = tmp_path / "plan.yaml"
    path.write_text(WRITTEN + text)
    with pytest.raises(sweep.InputError) as error:
        sweep.read_plan(str(path))
    assert str(error.value) == f"plan '{path}': {message}"


def test_names_and_quoted_texts_of_a_plan_stay_and_craft_takes_every_truth_value(tmp_path):
    path = tmp_path / "plan.yaml"
    path.write_text(
        f"{WRITTEN}name: 010\ncraft: [no, yes]\nseeds: 1\n"
        "overrides: {TRAINER.COOP.CTX_INIT: 'no', USE_CUDA: false, OPTIM.LR: 1_0.5}"
    )
    jobs = sweep.read_plan(str(path)).jobs
    assert {job.trainer for job in jobs} == {"CoOp", "CraftCoOp"}
    for job in jobs:
        options = dict(zip(job.options[::2], job.options[1::2], strict=True))
        assert job.folder.startswith("010/")
        assert options["TRAINER.COOP.CTX_INIT"] == "no" and options["USE_CUDA"] == "False"
        assert options["OPTIM.LR"] == "10.5"


def test_the_last_of_several_values_counts_for_trainings_too(tiny):
    plan = write_plan(
        tiny,
        train_overrides={"OPTIM.MAX_EPOCH": 4, "OPTIM.LR": 4.0, "OPTIM.GAMMA": 0.4},
        studies=[
            {
                "overrides": {"OPTIM.LR": 5.0, "OPTIM.WARMUP_EPOCH": 1},
                "train_overrides": {"OPTIM.WARMUP_EPOCH": 2},
            }
        ],
    )

    def found(*pairs) -> list[dict]:
        jobs = sweep.read_plan(str(plan), pairs).jobs
        return [dict(zip(job.options[::2], job.options[1::2], strict=True)) for job in jobs]

    training, test = found()
    assert training["OPTIM.MAX_EPOCH"] == "4" and test["OPTIM.MAX_EPOCH"] == "3"
    assert training["OPTIM.LR"] == test["OPTIM.LR"] == "5.0"
    assert training["OPTIM.WARMUP_EPOCH"] == "2" and test["OPTIM.WARMUP_EPOCH"] == "1"
    assert training["OPTIM.GAMMA"] == "0.4" and "OPTIM.GAMMA" not in test
    for options in found("OPTIM.MAX_EPOCH", "7", "OPTIM.WARMUP_EPOCH", "6", "OPTIM.GAMMA", "0.1"):
        assert options["OPTIM.MAX_EPOCH"] == "7" and options["OPTIM.WARMUP_EPOCH"] == "6"
        assert options["OPTIM.GAMMA"] == "0.1" and options["OPTIM.LR"] == "5.0"


def test_to_list_is_not_to_launch(tiny, tmp_path, capsys):
    assert (
        sweep.main(arguments(tiny, write_plan(tiny), tmp_path, "--launch", "local", "--list")) == 0
    )
    assert capsys.readouterr().out.endswith("2 jobs: 2 missing\n") and not list(
        tmp_path.rglob("log.txt")
    )


FP32 = {"TRAINER.COOP.PREC": "fp32"}
JTT = {"trainers": {"CoOp": "vit_b16_ep50"}, "repeat_errors_of": "drawings", "overrides": FP32}


def test_jtt_is_a_first_run_its_errors_and_a_second_run(tiny, tmp_path, capsys, forks):
    """In this order, the errors of each seed by themselves; again, nothing is left to do."""
    plan = write_plan(tiny, "jtt", **JTT, seeds=[1, 2])
    jobs = sweep.read_plan(str(plan)).jobs
    cell, other = "shots_2/CoOp/drawings", "shots_2/CoOp/vit_b16_ep50"
    home = "base2new/train_base/imagefolder"
    first, errors, second, test = jobs[:4]
    assert [job.folder for job in jobs[:4]] == [
        f"{home}/{cell}/seed1",
        f"errors/{home}/{cell}/seed_1",
        f"{home}/{other}/seed1",
        f"base2new/test_new/imagefolder/{other}/seed1",
    ]
    needed = [[], [first.folder], [errors.folder], [second.folder]]
    assert [job.needs for job in jobs[:4]] == needed and errors.test and not second.test
    assert jobs[6].repeats.endswith("seed_2")
    launch = arguments(tiny, plan, tmp_path, "--launch", "local", "--jobs", 2)
    assert sweep.main(launch) == 0, capsys.readouterr()
    assert "8 jobs: 8 done" in capsys.readouterr().out
    known = [json.loads((tmp_path / job.folder / "results.json").read_text()) for job in jobs[:8]]
    assert list(known[1]["metrics"]) == ["train"] and known[1]["run"]["protocol"] == ""
    outcomes = hashlib.sha256((tmp_path / errors.folder / "outcomes_train.npz").read_bytes())
    assert known[2]["data"]["outcomes of DATASET.REPEAT_FROM"] == outcomes.hexdigest()
    wrong = known[1]["metrics"]["train"]["total"] - known[1]["metrics"]["train"]["correct"]
    log = (tmp_path / second.folder / "log.txt").read_text()
    assert wrong > 0 and f"{wrong} of 4 training images, which" in log
    assert sweep.main(arguments(tiny, plan, tmp_path, "--list")) == 0
    assert "8 jobs: 8 done" in capsys.readouterr().out
    # Nothing tells whose errors the second run repeated: it comes after the first one again.
    shutil.rmtree(tmp_path / errors.folder)
    states = listed(tiny, plan, tmp_path)
    assert [states[job.folder][0] for job in jobs[:5]] == [
        "done",
        "missing",
        "missing",
        "missing",
        "done",
    ]


def test_what_comes_after_a_failed_job_is_left_out(tiny, tmp_path, capsys, forks):
    bad = {"overrides": FP32 | {"MODEL.BACKBONE.NAME": "none.pt"}}
    plan = write_plan(tiny, "jtt_bad", **JTT | bad)
    first, errors, second, test = sweep.read_plan(str(plan)).jobs
    assert sweep.main(arguments(tiny, plan, tmp_path, "--launch", "local")) == 1
    said = capsys.readouterr().err
    assert f"failed: {errors.folder}: not run, since its training failed" in said
    assert f"{second.folder}: not run, since '{errors.folder}', which it needs, failed" in said
    assert f"failed: {test.folder}: not run, since its training failed" in said


def test_keys_of_a_study_win_and_overrides_add_up(tiny):
    plan = write_plan(
        tiny,
        studies=[
            {"seeds": [1, 2], "craft": [False, True]},
            {"name": "long", "overrides": {"OPTIM.MAX_EPOCH": 9}},
            {"seeds": [2, 3], "tests": "emoji"},
        ],
    )
    jobs = sweep.read_plan(
        str(plan), ["TRAINER.COOP.N_CTX", "8", "slurm.partition", "gpu", "slurm.time", "30"]
    )
    assert jobs.slurm == {"partition": "gpu", "time": 30}
    assert (
        len(jobs.jobs) == 2 * 2 * 2 + 2 + 2 + 2 * 2
    )  # the training of seed 2 is in two studies and runs once
    (long,) = [job for job in jobs.jobs if job.folder.startswith("long/base2new/train_base")]
    options = dict(zip(long.options[::2], long.options[1::2], strict=True))
    assert (
        options["OPTIM.MAX_EPOCH"] == "9"
        and options["TRAINER.COOP.N_CTX"] == "8"
        and options["INPUT.SIZE"] == "(32, 32)"
    )


BAD_PLANS = {
    "first runs by nobody": (
        {"repeat_errors_of": "drawing"},
        "unknown config of CoOp 'drawing': did you mean 'drawings'",
    ),
    "first runs that are the second": (
        {"repeat_errors_of": "drawings"},
        "repeat_errors_of is 'drawings', which is the config of the second runs, too",
    ),
    "first runs of no name": ({"repeat_errors_of": 3}, "repeat_errors_of is 3: write the config"),
    "first runs beside a selection": (
        {"repeat_errors_of": "rn50", "selection": "output/selection"},
        "repeat_errors_of stands beside selection, which has no first runs",
    ),
    "protocol": (
        {"protocol": "base2novel"},
        "unknown protocol 'base2novel': did you mean 'base2new'",
    ),
    "trainer": (
        {"trainers": ["CraftCoop"]},
        "unknown trainer 'CraftCoop': did you mean 'CraftCoOp'",
    ),
    "no Craft": (
        {"trainers": ["ZeroshotCLIP"], "craft": True},
        "unknown trainer 'CraftZeroshotCLIP'",
    ),
    "data set": ({"datasets": "emojy"}, "unknown data set 'emojy': did you mean 'emoji'"),
    "tested data set": ({"tests": ["dtdd"]}, "unknown data set 'dtdd': did you mean 'dtd'"),
    "config": (
        {"config": "vit_b16_ep500"},
        "unknown config of CoOp 'vit_b16_ep500': did you mean 'vit_b16_ep50'",
    ),
    "no config": ({"config": ""}, "has no config: write 'config: NAME'"),
    "key": ({"seed": 1}, "unknown key 'seed': did you mean 'seeds'"),
    "config key": (
        {"overrides": {"OPTIM.LRR": 1}},
        "unknown config key 'OPTIM.LRR': the closest known key is 'OPTIM.LR'",
    ),
    "value": (
        {"overrides": {"OPTIM.MAX_EPOCH": "many"}},
        "config key 'OPTIM.MAX_EPOCH' takes a int",
    ),
    "registered name": (
        {"overrides": {"DATASET.TARGET": "EmojiLin"}},
        "unknown data set 'EmojiLin': did you mean 'EmojiLine'",
    ),
    "taken key": ({"overrides": {"SEED": 1}}, "SEED cannot be overridden: set it by seeds"),
    "selected by nobody": (
        {"overrides": {"SELECTION.RULE": "likelihood"}},
        "SELECTION.RULE cannot be overridden: tools.select writes it into the config of the",
    ),
    "tests only": (
        {"overrides": {"EVAL_ONLY": True}},
        "EVAL_ONLY cannot be overridden: tests follow from the protocol",
    ),
    "out of range": (
        {"overrides": {"OPTIM.MAX_EPOCH": 0}},
        "OPTIM.MAX_EPOCH is 0: set it to 1 or more",
    ),
    "model of trainings": (
        {"train_overrides": {"TRAINER.COOP.CSC": True}},
        "TRAINER.COOP.CSC is of the model, so that its tests need it, too",
    ),
    "group of keys": (
        {"overrides": {"OPTIM": {"LR": 1}}},
        "overrides has the group OPTIM: write whole keys, e.g. 'OPTIM.LR: value'",
    ),
    "shots": ({"shots": "many"}, "shots has 'many': write numbers from 1, or all"),
    "no shots": ({"shots": 0}, "shots has 0: write numbers from 1, or all"),
    "seeds": ({"seeds": ["one"]}, "seeds has 'one': write whole numbers"),
    "craft": (
        {"craft": "yes please"},
        "craft has 'yes please': write false, true, or default, group, mmd",
    ),
    "nothing": ({"seeds": []}, "seeds is empty"),
    "seed twice": ({"seeds": [1, 1, 2]}, "seeds has 1 twice: take one out"),
    "data set twice": ({"datasets": ["emoji", "emoji"]}, "datasets has emoji twice: take one out"),
    "trainer twice": ({"trainers": ["CoOp", "CoOp"]}, "trainers has CoOp twice: take one out"),
    "config twice": (
        {"trainers": {"CoOp": ["drawings", "drawings"]}},
        "trainers: CoOp has drawings twice: take one out",
    ),
    "other images": (
        {"overrides": {"TEST.SPLIT": "val"}},
        "TEST.SPLIT cannot be overridden: tables have results on the test part only",
    ),
    "no test": (
        {"overrides": {"TEST.NO_TEST": True}},
        "TEST.NO_TEST cannot be overridden: tables need the test of each run",
    ),
    "empty override": (
        {"overrides": {"TRAINER.COOP.CTX_INIT": None}},
        "TRAINER.COOP.CTX_INIT has an empty value: write one, or two quotes for an empty text",
    ),
    "no data sets": ({"datasets": []}, "has no datasets"),
    "name": ({"name": "a/b"}, "name 'a/b' becomes a folder"),
    "variant": ({"protocol": "ablation"}, "each variant of an ablation needs one"),
    "no target": ({"protocol": "ood"}, "ood has no targets"),
    "target": ({"targets": "emoji"}, "targets are for protocol ood, not base2new"),
    "tested": (
        {"tests": ["imagefolder"]},
        "'imagefolder' is both trained on and in tests or targets",
    ),
    "tests of groups": (
        {"protocol": "group", "tests": "emoji"},
        "protocol group has no tests on other data sets",
    ),
    "studies": ({"studies": ["base2new"]}, "study 1 is 'base2new': write 'key: value' pairs"),
    "no effect": (
        {"overrides": {"OPTIM.GAMMA": 0.5}},
        "OPTIM.GAMMA has no effect on any run (the optimiser sgd and the schedule cosine, with "
        "constant warm-up, do not read it): take it out",
    ),
    "no effect on tests or trainings": (
        {"train_overrides": {"DATASET.VAL_PERCENT": 0.2}},
        "DATASET.VAL_PERCENT has no effect on any run (ImageFolder does not read it): take it out",
    ),
    "same folder": (
        {"studies": [{}, {"overrides": {"OPTIM.LR": 1}}]},
        "study 2: two jobs with different options would write to the same folder",
    ),
}


@pytest.mark.parametrize("case", BAD_PLANS)
def test_a_bad_plan_ends_in_one_sentence_before_anything_runs(tiny, tmp_path, capsys, case):
    keys, message = BAD_PLANS[case]
    plan = write_plan(tiny, **keys)
    assert sweep.main(arguments(tiny, plan, tmp_path / "out", "--launch", "local")) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"error: plan '{plan}'") and message in line
    assert not list(tmp_path.rglob("results.json")) and not list(tmp_path.rglob("sweep.json"))


def test_keys_that_a_trainer_does_not_read_are_noted_before_its_runs(
    tiny, tmp_path, capsys, monkeypatch
):
    """Once for all runs of it. What learns nothing is not told: settings are not for it."""
    said = []
    monkeypatch.setattr(launchers, "run_local", lambda *_: said.append(capsys.readouterr().out))
    more = {"TRAINER.CRAFT.LAMBDA_STATIC": 0.3, "TRAINER.COOP.N_CTX": 4, "OPTIM.LR": 0.1}
    plan = write_plan(
        tiny,
        "noted",
        trainers=["CoOp", "VPT", "ZeroshotCLIP"],
        seeds=[1, 2],
        studies=[{"trainers": ["CoOp"], "craft": [False, True]}, {}],
        overrides=more,
    )
    assert sweep.main(arguments(tiny, plan, tmp_path / "out", "--launch", "local")) == 1
    assert [line for line in said[0].splitlines() if line.startswith("note:")] == [
        "note: TRAINER.COOP.N_CTX has no effect on VPT: VPT does not read the options of COOP",
        "note: TRAINER.CRAFT.LAMBDA_STATIC has no effect on CoOp: CoOp does not read the options "
        "of CRAFT: did you mean the trainer CraftCoOp?",
        "note: TRAINER.CRAFT.LAMBDA_STATIC has no effect on VPT: VPT does not read the options of "
        "CRAFT: did you mean the trainer CraftVPT?",
        "note: TRAINER.VPT.PROMPT_DEPTH_VISION has no effect on CoOp: CoOp does not read the "
        "options of VPT",
        "note: TRAINER.VPT.PROMPT_DEPTH_VISION has no effect on CraftCoOp: CraftCoOp does not "
        "read the options of VPT",
    ]


@pytest.mark.parametrize("flag", ["--root", "--output"])
def test_an_empty_folder_is_not_the_working_folder(tiny, tmp_path, capsys, monkeypatch, flag):
    monkeypatch.chdir(tmp_path)
    words = arguments(tiny, write_plan(tiny), tmp_path / "out")
    words[words.index(flag) + 1] = ""
    with pytest.raises(SystemExit):
        sweep.main(words)
    assert capsys.readouterr().err.startswith(f"error: {flag} is empty: give a value, or leave")
    assert not list(tmp_path.iterdir())


def test_bad_files_and_arguments(tiny, tmp_path, capsys, monkeypatch):
    def said(*more) -> str:
        assert sweep.main(list(map(str, more))) == 2
        return capsys.readouterr().err

    assert "none.yaml' cannot be read (No such file or directory)" in said(tmp_path / "none.yaml")
    (tmp_path / "bad.yaml").write_text("protocol: [")
    assert "bad.yaml' is not valid YAML" in said(tmp_path / "bad.yaml")
    (tmp_path / "list.yaml").write_text("- 1")
    assert "list.yaml' holds no 'key: value' pairs" in said(tmp_path / "list.yaml")
    (tmp_path / "number.yaml").write_text("1: 2")
    assert "number.yaml': unknown key '1': known ones are" in said(tmp_path / "number.yaml")
    (tmp_path / "twice.yaml").write_text("protocol: ood\nprotocol: xd\n")
    assert "twice.yaml' is not valid YAML: 'protocol' is given twice, in lines 1 and 2" in said(
        tmp_path / "twice.yaml"
    )
    plan = write_plan(tiny)
    assert "slurm.mem is '[': write a number, a word" in said(
        *arguments(tiny, plan, tmp_path / "out", "slurm.mem", "[")
    )
    assert "the options OPTIM.LR are not KEY VALUE pairs" in said(
        *arguments(tiny, plan, tmp_path / "out", "OPTIM.LR")
    )
    assert "--jobs takes a number from 1" in said(
        *arguments(tiny, plan, tmp_path / "out", "--launch", "local", "--jobs", 0)
    )
    assert "--detach needs --launch slurm" in said(
        *arguments(tiny, plan, tmp_path / "out", "--launch", "local", "--detach")
    )
    assert (
        "data root '"
        in (
            text := said(
                plan, "--root", tmp_path / "none", "--output", tmp_path / "out", "--launch", "local"
            )
        )
        and "--root" in text
    )
    (tmp_path / "empty").mkdir()
    text = said(
        plan, "--root", tmp_path / "empty", "--output", tmp_path / "out", "--launch", "local"
    )
    assert (
        f"folder '{tmp_path / 'empty/noise'}' of data set ImageFolder does not exist: correct "
        "DATASET.FOLDER or --root" in text
    )
    (tmp_path / "file").write_text("")
    assert (
        "output folder '"
        in (text := said(*arguments(tiny, plan, tmp_path / "file/out", "--launch", "local")))
        and "cannot be made" in text
    )
    monkeypatch.setenv("PATH", str(tmp_path))
    assert "there is no Slurm here" in said(
        *arguments(tiny, plan, tmp_path / "out", "--launch", "slurm")
    )


# What is known of jobs


def test_done_takes_complete_results_of_this_configuration_and_model(tiny, tmp_path):
    plan = write_plan(tiny)
    trained, tested = (job.folder for job in pretend(tiny, plan, tmp_path).jobs)
    assert {state for state, _ in listed(tiny, plan, tmp_path).values()} == {"done"}

    def change(folder: str, **more) -> dict[str, str]:
        path = tmp_path / folder / "results.json"
        before = path.read_text()
        path.write_text(json.dumps(json.loads(before) | more))
        states = {folder: state for folder, (state, _) in listed(tiny, plan, tmp_path).items()}
        path.write_text(before)
        os.utime(tmp_path / tested / "results.json")
        return states

    assert change(tested, complete=False) == {trained: "done", tested: "missing"}
    assert change(trained, complete=False) == {
        trained: "missing",
        tested: "missing",
    }  # a test is of no worth without its training
    # Of another model, it is not overwritten.
    assert change(tested, loaded={"model_dir": "elsewhere", "epoch": 3})[tested] == "other"
    assert change(tested, loaded=None)[tested] == "other"
    assert change(trained, epochs=9)[tested] == "other"
    assert change(trained, deployed="best_val")[tested] == "other"
    assert change(trained, loaded={"model_dir": "elsewhere", "epoch": 3}) == {
        trained: "other",
        tested: "missing",
    }
    os.utime(
        tmp_path / trained / "results.json", (time.time() + 9,) * 2
    )  # trained again after the test
    assert listed(tiny, plan, tmp_path)[tested][0] == "missing"


def test_results_of_another_configuration_are_refused_with_the_difference(tiny, tmp_path, capsys):
    plan = write_plan(tiny)
    pretend(tiny, plan, tmp_path)
    for more in ([], ["--launch", "local"]):
        assert (
            sweep.main(
                arguments(
                    tiny,
                    plan,
                    tmp_path,
                    *more,
                    "OPTIM.MAX_EPOCH",
                    5,
                    "TRAINER.COOP.CSC",
                    True,
                )
            )
            == 2
        )
        error = capsys.readouterr().err
        assert (
            error.startswith("error: 2 folder(s) hold results of another run: '")
            and "move them away, or choose another output folder (--output; OUTPUT" in error
        )
        assert (
            "(OPTIM.MAX_EPOCH is 3 there and 5 here; TRAINER.COOP.CSC is False there and True here)"
            in error
        )
    other = tiny / "other.pt"
    other.write_bytes((tiny / "clip.pt").read_bytes() + b" ")
    assert sweep.main(arguments(tiny, plan, tmp_path, "MODEL.BACKBONE.NAME", str(other))) == 2
    assert (
        f"(MODEL.BACKBONE.NAME is {tiny / 'clip.pt'} there and {other} here)"
        in capsys.readouterr().err
    )  # names, not checksums
    before = (tiny / "clip.pt").read_bytes()
    try:
        torch.save(vit_weights(**TINY) | {"logit_scale": torch.tensor(1.0)}, tiny / "clip.pt")
        assert sweep.main(arguments(tiny, plan, tmp_path)) == 2
        assert "(the content of the weights file)" in capsys.readouterr().err
    finally:
        (tiny / "clip.pt").write_bytes(before)
    tested = tmp_path / sweep.read_plan(str(plan)).jobs[1].folder / "results.json"
    found = json.loads(tested.read_text())
    tested.write_text(
        json.dumps(found | {"loaded": found["loaded"] | {"epoch": 1}})
    )  # as scripts with LOADEP leave it
    assert sweep.main(arguments(tiny, plan, tmp_path)) == 2
    model = found["loaded"]["model_dir"]
    assert (
        f"'{tested}' (a test of epoch 1 of '{model}' there, a test of epoch 3 of '{model}' here)"
        in capsys.readouterr().err
    )


def test_results_that_cannot_be_read_are_shown_as_failed(tiny, tmp_path):
    plan = write_plan(tiny)
    trained, tested = (job.folder for job in pretend(tiny, plan, tmp_path).jobs)
    for text in ("", "{", "[]", "{}"):
        (tmp_path / tested / "results.json").write_text(text)
        state, note = listed(tiny, plan, tmp_path)[tested]
        assert (
            state == "failed"
            and "results.json' is not what a run writes: restore or delete it" in note
        )


def test_marks_tell_running_failed_and_stopped(tiny, tmp_path):
    plan = write_plan(tiny)
    read = sweep.read_plan(str(plan))
    job = read.jobs[0]
    folder = tmp_path / job.folder
    alive: dict | None = {}

    def state():
        return launchers.state_of(job, str(tmp_path), "hash", lambda: alive)

    assert state() == ("missing", "")
    launchers.mark(folder, "failed", error="the loss is nan")
    assert state() == ("failed", "the loss is nan")
    launchers.mark(folder, "stopped")
    assert state() == ("missing", "stopped before its end")
    launchers.mark(folder, "running", pid=1, host="here")
    assert state()[0] == "failed" and "ended without a word" in state()[1]  # nobody holds the lock
    with open(folder / "sweep.json") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        assert state() == ("running", "process 1 on here")
        process = launchers.start(job, str(tiny / "data"), str(tmp_path))
        process.join()
        assert process.exitcode == launchers.BUSY  # nobody runs a job twice
    launchers.mark(folder, "queued", slurm="7")
    assert state() == ("missing", "")
    alive = {"7": "PENDING"}
    assert state() == ("queued", "Slurm job 7")
    alive = None  # Slurm does not answer: believe what was written
    launchers.mark(folder, "running", slurm="7")
    assert state() == ("running", "Slurm job 7")
    (folder / "sweep.json").write_text("{half")
    assert state() == ("missing", "")


@pytest.mark.parametrize(
    ("code", "text", "reason"),
    [
        (
            2,
            "warning: x\nerror: the loss is nan: lower OPTIM.LR\n",
            "the loss is nan: lower OPTIM.LR",
        ),
        (
            1,
            "Traceback\n  File\ntorch.OutOfMemoryError: CUDA out of memory.\n",
            "torch.OutOfMemoryError: CUDA out of memory.",
        ),
        (1, "", "exit code 1, and nothing said: see log.txt"),
        (-9, "noise", "killed (signal 9): out of memory, or somebody's kill -9"),
        (-11, "", "killed by SIGSEGV"),
        (-40, "", "killed by signal 40"),
        (launchers.LOST, "", "the worker that ran it was killed"),
    ],
)
def test_the_reason_of_a_failure(tmp_path, code, text, reason):
    (tmp_path / "stderr.txt").write_text(text)
    assert launchers.why(code, tmp_path) == reason


def test_listing_finished_runs_again_takes_no_torch(tiny, tmp_path, capsys, monkeypatch):
    """The second time the hashes of the configurations are known."""
    plan = write_plan(
        tiny,
        "hundred",
        trainers=["CoOp", "VPT", "MaPLe", "IVLP", "PromptSRC"],
        craft=[False, True],
        seeds=list(range(1, 6)),
    )
    pretend(tiny, plan, tmp_path)
    (tmp_path / "without/torch").mkdir(parents=True)
    (tmp_path / "without/torch/__init__.py").write_text("raise SystemExit('torch is imported')")
    command = [sys.executable, "-m", "tools.sweep", *arguments(tiny, plan, tmp_path)]
    without = {**os.environ, "PYTHONPATH": str(tmp_path / "without")}

    def listing():
        return subprocess.run(command, capture_output=True, text=True, cwd=ROOT, env=without)

    assert listing().stderr == "torch is imported\n"
    assert sweep.main(command[3:]) == 0
    assert capsys.readouterr().out.endswith("100 jobs: 100 done\n")
    assert (done := listing()).stdout.endswith("100 jobs: 100 done\n"), done.stderr
    assert len(sweep.known_hashes(sweep.read_plan(str(plan)), str(tmp_path))) == 100
    assert sweep.known_hashes(sweep.read_plan(str(plan), ["OPTIM.LR", "1"]), str(tmp_path)) == {}
    monkeypatch.setattr(
        sweep, "_stat", lambda path: [0, 0]
    )  # files that hashes follow from have changed
    assert sweep.known_hashes(sweep.read_plan(str(plan)), str(tmp_path)) == {}


# Launching


def test_slots(monkeypatch):
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: range(8), raising=False)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    assert (
        sweep.slots(None, True) == ([""] * 4, 2)
        and sweep.slots(2, True) == (["", ""], 4)
        and sweep.slots(16, True)[1] == 1
    )
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert (
        sweep.slots(None, True) == (["0", "1"], 4)
        and sweep.slots(3, True)[0] == ["0", "1", "0"]
        and sweep.slots(1, False)[0] == [""]
    )
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "GPU-a,5")
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    assert sweep.slots(None, True) == (["GPU-a", "5"], 1)


def test_the_display_counts_steps_and_shows_accuracies(tmp_path, capsys):
    jobs = [Job(name, "d", "CoOp", "c", 1, ()) for name in ("done", "a", "b", "c")]
    for name, accuracy in (("a", 81.25), ("b", None)):
        (tmp_path / name).mkdir()
        metrics = {"test": {"accuracy": accuracy}} if accuracy else {}
        content = {"complete": True, "metrics": metrics, "config": {}}
        (tmp_path / name / "results.json").write_text(json.dumps(content))
    view = launchers.View(jobs, jobs[1:], str(tmp_path))
    for name, error in (("a", ""), ("b", ""), ("c", "no space")):
        view.started(name)
        view.ended(name, error)
    view.close()
    lines = capsys.readouterr().err.splitlines()
    assert re.fullmatch(r"step 2 of 4: a: accuracy 81\.2%, \d+\.\d s, \d:\d\d:\d\d left", lines[0])
    assert re.fullmatch(r"step 3 of 4: b: \d+\.\d s, \d:\d\d:\d\d left", lines[1])
    assert lines[2] == "failed: c: no space"


def test_a_job_starts_anew_where_cuda_does_not_survive_a_fork(monkeypatch):
    called = []

    class Popen:
        def __init__(self, command):
            called.extend(command)

        def wait(self):
            return 7

    monkeypatch.setattr(torch.cuda, "_is_in_bad_fork", lambda: True)
    monkeypatch.setattr(launchers.subprocess, "Popen", Popen)
    assert launchers._train(["--seed", "1"]) == 7 and called == [
        sys.executable,
        str(ROOT / "train.py"),
        "--seed",
        "1",
    ]


def test_a_worker_that_does_not_start_is_no_endless_wait(tmp_path, monkeypatch):
    (tmp_path / "train.py").write_text("raise ImportError('no torch here')")
    monkeypatch.chdir(tmp_path)
    job = Job("a", "b", "c", "d", 1, ())
    with pytest.raises(
        launchers.InputError, match="a worker did not start .*no torch here.*: see that"
    ):
        launchers.run_local([job], "", str(tmp_path), [""], 1, 0, launchers.View([job], [job]))


@pytest.mark.slow
def test_a_folder_that_takes_no_files_fails_its_job_only(
    tiny, tmp_path, capsys, monkeypatch, forks
):
    plan = write_plan(tiny, "blocked", seeds=[1, 2], overrides={"OPTIM.MAX_EPOCH": 1})
    first, first_test, second, second_test = (job.folder for job in sweep.read_plan(str(plan)).jobs)
    (tmp_path / first).parent.mkdir(parents=True)
    (tmp_path / first).write_text("a file where the folder should be")
    monkeypatch.setattr(
        tempfile, "tempdir", tempfile.mkdtemp(prefix="t", dir="/tmp")
    )  # sockets have short names
    theirs = [
        Path(tempfile.tempdir, name)
        for name in ("craft-sweep-no-lock", "craft-sweep-alive", "sweep-1-x")
    ]
    left = Path(tempfile.tempdir, "craft-sweep-left")  # as of a sweep that was killed with -9
    for folder in (left, *theirs):
        folder.mkdir()
        if "no-lock" not in folder.name:
            (folder / "lock").write_text("")
    held = open(theirs[1] / "lock")
    fcntl.flock(held, fcntl.LOCK_EX)
    assert sweep.main(arguments(tiny, plan, tmp_path, "--launch", "local", "--jobs", 1)) == 1
    said = capsys.readouterr()
    assert (
        f"failed: {first}: '{tmp_path / first}' cannot be written to (File exists): free space, or "
        "choose another --output" in said.err
    )
    assert f"failed: {first_test}: not run" in said.err and said.out.endswith(
        "4 jobs: 2 done, 2 missing\n"
    )
    assert "Traceback" not in said.err
    assert sorted(Path(tempfile.tempdir).glob("*sweep*")) == sorted(theirs)
    held.close()
    shutil.rmtree(tempfile.tempdir)


@pytest.mark.slow
@pytest.mark.skipif(
    not hasattr(os, "geteuid") or os.geteuid() != 0, reason="mounting a small disk takes root"
)
def test_a_full_disk_fails_the_job_with_the_reason(tiny, tmp_path, capsys, forks):
    disk = tmp_path / "disk"
    disk.mkdir()
    if subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=24k", "tmpfs", disk], capture_output=True
    ).returncode:
        pytest.skip("no disk can be mounted here")
    try:
        assert (
            sweep.main(arguments(tiny, write_plan(tiny), disk, "--launch", "local", "--jobs", 1))
            == 1
        )
        said = capsys.readouterr()
        trained = sweep.read_plan(str(tiny / "plan.yaml")).jobs[0].folder
        assert (
            re.search(rf"failed: {trained}: .*(No space left on device).*free space", said.err)
            and "Traceback" not in said.err
        )
    finally:
        subprocess.run(["umount", disk], check=True)


def running(output: Path) -> dict[Path, int]:
    """{folder: process} of the jobs that run."""
    marks = {path.parent: launchers.read(path) for path in output.rglob("sweep.json")}
    return {folder: mark["pid"] for folder, mark in marks.items() if mark.get("state") == "running"}


def wait_for(condition, seconds: float = 40):
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.02)
    return found


def parent_of(process: int) -> int:
    return int(Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[1])


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
def test_killed_jobs_are_tried_again_then_failed_and_launching_again_completes_what_is_missing(
    tiny, tmp_path, capsys, monkeypatch
):
    long = {"OPTIM.MAX_EPOCH": 24}
    one, output = write_plan(tiny, "one", overrides=long), tmp_path / "out"
    seen: dict = {}

    def kill() -> None:
        """Kill the job once it has a checkpoint; then, in its second attempt, its worker."""
        first = wait_for(
            lambda: {
                pid
                for folder, pid in running(output).items()
                if list(folder.rglob("model.pth.tar-*5"))
            }
        ).pop()
        os.kill(first, signal.SIGKILL)
        second = wait_for(lambda: {pid for pid in running(output).values()} - {first}).pop()
        worker = parent_of(second)
        seen["environment"] = Path(f"/proc/{worker}/environ").read_bytes().split(b"\0")
        os.kill(worker, signal.SIGKILL)
        wait_for(lambda: not Path(f"/proc/{second}").exists())
        seen["died"] = True

    killer = threading.Thread(target=kill)
    killer.start()
    code = sweep.main(
        arguments(tiny, one, output, "--launch", "local", "--jobs", 1, "--retries", 1)
    )
    killer.join()
    said = capsys.readouterr()
    trained, tested = (job.folder for job in sweep.read_plan(str(one)).jobs)
    assert code == 1 and seen["died"]  # a job does not outlive its worker
    assert {b"PYTORCH_NVML_BASED_CUDA_CHECK=1", b"PYTHONPATH=" + str(ROOT).encode()} <= {
        entry.split(b":")[0] for entry in seen["environment"]
    }
    assert (
        f"trying again: {trained}: killed (signal 9): out of memory, or somebody's kill -9"
        in said.err
    )
    assert (
        f"failed: {trained}: the worker that ran it was killed" in said.err
        and f"failed: {tested}: not run, since its training failed" in said.err
    )
    assert (
        f"failed: {trained}: the worker that ran it was killed" in said.out
        and said.out.endswith("2 jobs: 1 failed, 1 missing\n")
    )
    assert sweep.main(arguments(tiny, one, output)) == 0  # listing says the same
    assert (
        said.out.splitlines()[-1] in (text := capsys.readouterr().out)
        and "the worker that ran it was killed" in text
    )

    def temporary() -> set[Path]:
        return {path for path in output.rglob(".*") if path.is_file()}

    by_kill = temporary()  # kill -9 may come between the writing of a file and its renaming
    # A larger plan, with the same runs among others: Ctrl-C on its way.
    plan = write_plan(tiny, "all", overrides=long, craft=[False, True])
    command = [
        sys.executable,
        "-m",
        "tools.sweep",
        *arguments(tiny, plan, output, "--launch", "local", "--jobs", 2),
    ]
    # A shell starts background commands, and so perhaps these tests, with Ctrl-C ignored; a child
    # would inherit that.
    sweeping = subprocess.Popen(
        command,
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    wait_for(lambda: list(output.rglob("results.json")) and running(output))
    jobs = set(running(output).values())
    os.killpg(sweeping.pid, signal.SIGINT)  # as the terminal does
    out, err = sweeping.communicate(timeout=30)
    assert (
        sweeping.returncode == 130
        and "interrupted: run the same command again to go on" in err
        and "Traceback" not in out + err
    ), err
    assert not any(Path(f"/proc/{process}").exists() for process in jobs)
    left = subprocess.run(
        ["ps", "-o", "pid,args", "--no-headers", "-s", str(sweeping.pid)],
        capture_output=True,
        text=True,
    ).stdout
    assert left == ""
    assert (
        temporary() <= by_kill and running(output) == {}
    )  # nothing half written, nothing that claims to run
    before = {
        path: path.stat().st_mtime_ns
        for path in output.rglob("results.json")
        if json.loads(path.read_text())["complete"]
    }
    states = listed(tiny, plan, output)
    assert {state for state, _ in states.values()} <= {"done", "missing", "failed"} and 0 < len(
        before
    ) < 4

    # Again: only what is missing runs, from where it was.
    forked.workers(monkeypatch)
    assert sweep.main(arguments(tiny, plan, output, "--launch", "local", "--jobs", 1)) == 0
    said = capsys.readouterr()
    assert said.out == "4 jobs: 4 done\n" and "failed" not in said.err
    assert all(path.stat().st_mtime_ns == stamp for path, stamp in before.items())
    assert temporary() == set()  # what kill -9 had left is gone
    # A run that was stopped in the instant of its end is done, too, and keeps its mark.
    assert {launchers.read(path)["state"] for path in output.rglob("sweep.json")} <= {"stopped"}
    log = "".join(path.read_text() for path in (output / trained).glob("log.txt*"))
    assert "Resume from epoch" in log
    # Forked runs are the same runs.
    for job in sweep.read_plan(str(plan)).jobs[-2:]:
        words = job.arguments(str(tiny / "data"), str(output))
        with contextlib.redirect_stdout(io.StringIO()):
            assert (
                train.main(train.parse_args([*words, "OUTPUT_DIR", str(tmp_path / job.folder)]))
                == 0
            )
        ours, theirs = (
            json.loads((top / job.folder / "results.json").read_text())
            for top in (output, tmp_path)
        )
        assert ours["metrics"] == theirs["metrics"] and ours["config_hash"] == theirs["config_hash"]


@pytest.mark.slow
def test_scripts_and_sweep_agree_on_what_is_done(tiny, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(run.subprocess, "Popen", forked.Popen)
    for name, value in (("SHOTS", 2), ("OUTPUT", tmp_path), ("DATA", tiny / "data")):
        monkeypatch.setenv(name, str(value))

    def agrees(part, job):
        pairs = [
            word
            for key, value in zip(job.options[:-4:2], job.options[1:-4:2], strict=True)
            if "MMD" not in key
            for word in (key, value)
        ]
        capsys.readouterr()
        assert run.main([*part, "imagefolder", job.trainer, job.config, "1", *pairs]) == 0
        text = capsys.readouterr().out
        assert text.strip().splitlines()[-1] == f"Done already: {tmp_path / job.folder}"

    agrees(("base2new", "test"), pretend(tiny, write_plan(tiny, "agree"), tmp_path).jobs[1])
    groups = [
        {"craft": [False, True]},
        {"craft": "mmd", "overrides": {"TRAINER.CRAFT.MMD.DOMAINS": "group"}},
    ]  # as in the shipped plans
    for job in pretend(tiny, write_plan(tiny, "groups", groups, protocol="group"), tmp_path).jobs:
        agrees(("group", "train"), job)


# Slurm


@pytest.fixture
def cluster(monkeypatch):
    """A Slurm of one node, this one, as Debian's packages slurm-wlm and munge have it."""
    monkeypatch.setenv("PATH", f"{os.environ['PATH']}:/usr/sbin")
    if missing := [
        name
        for name in ("munged", "slurmctld", "slurmd", "sbatch", "srun", "squeue")
        if not shutil.which(name)
    ]:
        pytest.skip(f"{', '.join(missing)} not installed (apt-get install slurm-wlm munge)")
    if os.geteuid() != 0:
        pytest.skip("starting Slurm takes root")
    top, name = Path(tempfile.mkdtemp(prefix="slurm-")), socket.gethostname().split(".")[0]
    top.chmod(0o755)
    for folder in ("state", "spool", "munge"):
        (top / folder).mkdir()
    (top / "munge/key").write_bytes(os.urandom(128))
    (top / "munge/key").chmod(0o400)
    ports = []
    for _ in range(2):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            ports.append(free.getsockname()[1])
    (top / "slurm.conf").write_text(
        f"ClusterName=tiny\nSlurmctldHost={name}(127.0.0.1)\nSlurmUser=root\nSlurmctldPort={ports[0]}\nSlurmdPort={ports[1]}\nAuthType=auth/munge\n"
        f"AuthInfo=socket={top}/munge/socket\nCredType=cred/munge\nStateSaveLocation={top}/state\nSlurmdSpoolDir={top}/spool\n"
        f"SlurmctldPidFile={top}/slurmctld.pid\nSlurmdPidFile={top}/slurmd.pid\nProctrackType=proctrack/linuxproc\nTaskPlugin=task/none\n"
        "SelectType=select/cons_tres\nSelectTypeParameters=CR_CPU\nSwitchType=switch/none\nMpiDefault=none\nReturnToService=2\nKillWait=2\n"
        "SchedulerParameters=sched_interval=1,batch_sched_delay=0\n"
        f"NodeName={name} NodeAddr=127.0.0.1 CPUs=2 RealMemory=500 "
        "State=UNKNOWN\nPartitionName=tiny Nodes=ALL Default=YES MaxTime=INFINITE State=UP\n"
    )
    monkeypatch.setenv("SLURM_CONF", str(top / "slurm.conf"))
    commands = [
        [
            "munged",
            "--foreground",
            *[
                f"--{what}={top}/munge/{file}"
                for what, file in (
                    ("key-file", "key"),
                    ("socket", "socket"),
                    ("pid-file", "pid"),
                    ("log-file", "log"),
                    ("seed-file", "seed"),
                )
            ],
        ],
        ["slurmctld", "-D", "-i"],
        ["slurmd", "-D"],
    ]
    daemons = []
    try:
        for command in commands:
            with open(top / f"{command[0]}.out", "wb") as file:
                daemons.append(
                    subprocess.Popen(command, stdout=file, stderr=file, stdin=subprocess.DEVNULL)
                )
            with contextlib.suppress(AssertionError):
                wait_for(lambda: (top / "munge/socket").exists(), 5)
        deadline = time.monotonic() + 15
        while (
            subprocess.run(
                ["sinfo", "-h", "-o", "%t"], capture_output=True, text=True
            ).stdout.strip()
            != "idle"
        ):
            if time.monotonic() > deadline or any(daemon.poll() is not None for daemon in daemons):
                said = " / ".join(
                    line
                    for daemon in commands
                    for line in (top / f"{daemon[0]}.out")
                    .read_text(errors="replace")
                    .splitlines()[-1:]
                )
                pytest.skip(f"Slurm does not start here: {said}")
            time.sleep(0.2)
        yield
    finally:
        for daemon in reversed(daemons):
            daemon.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                daemon.wait(5)
            daemon.kill()
        shutil.rmtree(top, ignore_errors=True)


@pytest.mark.slow
def test_slurm_runs_tests_after_their_trainings(tiny, tmp_path, capsys, cluster):
    plan = write_plan(
        tiny,
        "slurm",
        studies=[{}, {"name": "bad", "overrides": {"MODEL.BACKBONE.NAME": "none.pt"}}],
    )
    good, good_test, bad, bad_test = (job.folder for job in sweep.read_plan(str(plan)).jobs)
    launch = arguments(tiny, plan, tmp_path, "--launch", "slurm")
    assert sweep.main([*launch, "slurm.partition", "none"]) == 2
    assert "Slurm refuses a job" in capsys.readouterr().err
    assert sweep.main([*launch, "slurm.gpu", "1"]) == 2
    assert "Unavailable parameter(s): ['gpu']" in capsys.readouterr().err
    start = time.perf_counter()
    assert sweep.main([*launch, "slurm.time", "5"]) == 1
    said = capsys.readouterr()
    with capsys.disabled():
        print(f"\n[sweep] four jobs with Slurm: {time.perf_counter() - start:.1f} s")
    states = listed(tiny, plan, tmp_path)
    assert [states[folder][0] for folder in (good, good_test, bad, bad_test)] == [
        "done",
        "done",
        "failed",
        "missing",
    ]
    assert (
        "MODEL.BACKBONE.NAME 'none.pt' is neither a file nor" in states[bad][1]
        and f"failed: {bad_test}: not run, since its training failed" in said.err
    )
    scripts = [path.read_text() for path in (tmp_path / ".sweep/slurm").rglob("*submission.sh")]
    assert (
        len(scripts) == 4
        and sum(
            "--dependency=afterok:" in text and "--kill-on-invalid-dep=yes" in text
            for text in scripts
        )
        == 2
    )
    # Ctrl-C takes back what waits and stops what runs.
    plan = write_plan(tiny, "long", overrides={"OPTIM.MAX_EPOCH": 5000}, name="long")
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # perhaps ignored: see above
    timer = threading.Thread(
        target=lambda: (wait_for(lambda: running(tmp_path)), os.kill(os.getpid(), signal.SIGINT))
    )
    timer.start()
    assert (
        sweep.main(arguments(tiny, plan, tmp_path, "--launch", "slurm", "slurm.time", "5")) == 130
    )
    timer.join()
    signal.signal(signal.SIGINT, before)
    wait_for(lambda: not launchers.slurm_jobs())
    assert {state for state, _ in listed(tiny, plan, tmp_path).values()} == {"missing"}
