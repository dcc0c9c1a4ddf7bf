"""tools.select: plans that would cheat are refused, rules choose what slow loops choose, and no run
reads a test image or a new class.
"""

import contextlib
import functools
import io
import itertools
import json
import os
import shutil
import statistics
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import yaml
from PIL import Image
from tiny_clip import TINY, vit_weights
from tiny_run import CLASSES, make_cfg

import train
from dassl import identity
from dassl.engine import run_settings
from dassl.record import Description
from dassl.utils import logger
from datasets import prepare
from datasets.base import PARTS
from tools import configs, judge, launchers, miniatures, select, selected, selection, sweep
from tools import statistics as statistics_of
from tools.inputs import InputError
from tools.plans import read_plan
from tools.protocols import PROTOCOLS
from tools.protocols.rows import Row

PLAN = {
    "datasets": "eurosat",
    "trainers": "CoOp",
    "config": "drawings",
    "craft": [False, True],
    "shots": 2,
    "seeds": [1, 2],
    "rule": "all",
    "choose": "folds",
    "folds": 2,
    "search": {
        "plain": {"OPTIM.LR": [0.1, 5.0]},
        "craft": {
            "TRAINER.CRAFT.LAMBDA_STATIC, TRAINER.CRAFT.LAMBDA_STOCHASTIC": [0.0, 2.0],
        },
    },
}


def overrides(top: Path) -> dict:
    return {
        "MODEL.BACKBONE.NAME": str(top / "clip.pt"),
        "INPUT.SIZE": "(32, 32)",
        "INPUT.TRANSFORMS": "('normalize',)",
        "OPTIM.MAX_EPOCH": 2,
        "USE_CUDA": False,
    }


def write(top: Path, **more) -> str:
    """A plan of tiny runs; `more` takes the place of keys, None takes one out."""
    tree = {**PLAN, "overrides": overrides(top), **more}
    path = top / "plan.yaml"
    path.write_text(
        yaml.safe_dump({key: value for key, value in tree.items() if value is not None})
    )
    return str(path)


@pytest.fixture(autouse=True)
def _here(monkeypatch):
    """A selection goes to the repository's folder."""
    monkeypatch.chdir(Path(__file__).parent.parent)


@pytest.fixture(scope="module")
def top(tmp_path_factory) -> Path:
    """A random CLIP and EuroSAT in small: 10 classes, of each 5 training, 2 validation pictures."""
    folder = tmp_path_factory.mktemp("select")
    torch.save(vit_weights(**TINY), folder / "clip.pt")
    miniatures.make(prepare.find("EuroSAT"), folder / "data")
    return folder


def here(jobs, root, output, *_) -> None:
    """Takes the place of launchers.run_local: the same runs, in this process."""
    for job in jobs:
        if job.trained and job.loads(output) is None:
            continue  # its training failed
        said = io.StringIO()
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(said):
            code = train.main(train.parse_args(job.arguments(root, output)))
            logger._restore()  # a process of its own would end with its log
        if code:
            launchers.mark(Path(output, job.folder), "failed", error=said.getvalue().strip())


def run(top: Path, output: Path, plan: str, *more) -> int:
    return select.main([plan, "--root", str(top / "data"), "--output", str(output), *more])


# Plans


def test_candidates_are_the_grid_in_listed_order(top):
    search = {
        "OPTIM.LR": [0.1, 0.01],
        "plain": {"OPTIM.MAX_EPOCH": [5, 2]},
        "craft": {"TRAINER.CRAFT.LAMBDA_STATIC, TRAINER.CRAFT.LAMBDA_MMD": [0, 1]},
        "CraftCoOp/drawings": {"OPTIM.LR": [0.5, 0.6]},
    }
    others = {key: value for key, value in overrides(top).items() if key != "OPTIM.MAX_EPOCH"}
    plain, craft = selection.read(write(top, search=search, overrides=others)).methods
    assert list(plain.candidates) == [
        "LR=0.1,MAX_EPOCH=5",
        "LR=0.1,MAX_EPOCH=2",
        "LR=0.01,MAX_EPOCH=5",
        "LR=0.01,MAX_EPOCH=2",
    ]
    assert [*craft.candidates.values()][1] == {
        "OPTIM.LR": 0.5,
        "TRAINER.CRAFT.LAMBDA_STATIC": 1,
        "TRAINER.CRAFT.LAMBDA_MMD": 1,
    }
    assert [method.name for method in (plain, craft)] == ["CoOp/drawings", "CraftCoOp/drawings"]


def test_labels_tell_settings_apart():
    label = selection.label_of
    assert label({"OPTIM.LR": 0.1}) == "LR=0.1"
    assert label({"TRAINER.COOP.N_CTX": 4, "TRAINER.VPT.N_CTX": 2}) == (
        "TRAINER.COOP.N_CTX=4,TRAINER.VPT.N_CTX=2"
    )
    odd = [label({"INPUT.TRANSFORMS": text}) for text in ("('a',)", "['a',]", "('b',)")]
    assert len(set(odd)) == 3 and not any(set("/'() ") & set(text) for text in odd)
    assert len(label({"X.A": "b" * 300})) < 120


def test_parts_and_folders_of_the_runs(top):
    plan = selection.read(write(top, seeds=1))
    runs = [
        run for run in plan.runs() if (run.method.name, run.label) == ("CoOp/drawings", "LR=0.1")
    ]
    assert [run.part for run in runs] == [
        "trained",
        "fold1",
        "fold1_unseen",
        "fold2",
        "fold2_unseen",
    ]
    options = [dict(zip(run.job.options[::2], run.job.options[1::2], strict=True)) for run in runs]
    for known in options:
        assert known["TEST.SPLIT"] == "val" and known["DATASET.VALIDATION"] == "whole"
        assert known["OPTIM.LR"] == "0.1" and known["DATASET.NUM_SHOTS"] == "2"
    assert [known["DATASET.SUBSAMPLE_CLASSES"] for known in options] == [
        "base",
        *["base_seen", "base_unseen"] * 2,
    ]
    assert [known.get("DATASET.FOLD") for known in options] == [None, "1/2", "1/2", "2/2", "2/2"]
    folder = "eurosat/shots_2/CoOp/drawings/LR=0.1"
    assert runs[1].job.folder == runs[2].job.trained == f"{folder}/fold1/seed_1"
    for protocol in PROTOCOLS.values():
        path = f"/out/runs/{runs[0].job.folder}/results.json"
        assert protocol.described(path) is None  # no table takes it for its own


BAD = {
    "unknown key": ({"seed": 1}, "unknown key 'seed': did you mean 'seeds'?"),
    "tests": ({"tests": "dtd"}, "unknown key 'tests'"),
    "no rule": ({"rule": None}, "rule is '': choose one of accuracy, likelihood, folds, or all"),
    "rule": ({"rule": "test"}, "rule is 'test': choose one of accuracy, likelihood, folds"),
    "rule of a shift": ({"rule": "target"}, "rule is 'target': choose one of accuracy"),
    "choose": ({"choose": None}, "choose is '': with rule all, name the rule whose choice"),
    "choose beside": ({"rule": "folds", "choose": "accuracy"}, "take choose out"),
    "folds": ({"folds": 1}, "folds is 1: write a whole number from 2"),
    "one_for": ({"one_for": "seed"}, "one_for is 'seed': choose one of table, dataset"),
    "name": ({"name": "a/b"}, "name is 'a/b': use letters"),
    "slurm": ({"slurm": 3}, "slurm is 3: write 'key: value' pairs"),
    "shots": ({"shots": [1, 2]}, "shots has several values: write a plan for each"),
    "zero-shot": ({"trainers": "ZeroshotCLIP", "craft": False}, "ZeroshotCLIP learns nothing"),
    "ablation": ({"protocol": "ablation"}, "the study has no name"),
    "two configs": (
        {
            "trainers": {"CoOp": ["drawings", "vit_b32"]},
            "config": None,
            "craft": False,
            "search": {"OPTIM.LR": [1, 2]},
        },
        "trainers has two configs of CoOp: write a plan for each",
    ),
    "no search": ({"search": None}, "search is empty: write config keys"),
    "empty list": ({"search": {"OPTIM.LR": []}}, "search has no value for OPTIM.LR"),
    "group": ({"search": {"MaPLe": {"OPTIM.LR": 1}}}, "search has the group 'MaPLe'"),
    "group of none": (
        {"search": {"craft": {"OPTIM.LR": 1}}, "craft": False},
        "search has the group 'craft': groups are plain, CoOp, CoOp/drawings",
    ),
    "one side": (
        {"search": {"plain": {"OPTIM.LR": [1]}}},
        "search has no key for CraftCoOp/drawings",
    ),
    "twice": ({"search": {"OPTIM.LR": [1, 1]}}, "search has LR=1 twice for CoOp/drawings"),
    "key twice": (
        {"search": {"OPTIM.LR": [1], "OPTIM.LR, OPTIM.GAMMA": [1]}},
        "search has OPTIM.LR twice: write all its values in one list",
    ),
    "budget": (
        {"search": {"OPTIM.LR": [1, 2], "craft": {"TRAINER.CRAFT.LAMBDA_STATIC": [0, 1]}}},
        "different numbers of candidates (CoOp/drawings 2, CraftCoOp/drawings 4)",
    ),
    "budget's word": ({"budget": "free"}, "budget is 'free': choose one of equal, unequal"),
    "override of a group": ({"overrides": {"OPTIM": {"LR": 1}}}, "overrides has the group OPTIM"),
    "searched and overridden": (
        {"overrides": {"OPTIM.LR": 0.3}},
        "search has OPTIM.LR, which overrides sets to 0.3: take it out of one",
    ),
    "empty override": (
        {"overrides": {"TRAINER.COOP.CTX_INIT": None}},
        "TRAINER.COOP.CTX_INIT has an empty value: write one, or two quotes",
    ),
    "empty candidate": (
        {"search": {"TRAINER.COOP.CTX_INIT": ["a", None]}},
        "search: TRAINER.COOP.CTX_INIT has an empty value: write one, or two quotes",
    ),
    "seed searched": ({"search": {"SEED": [1, 2]}}, "search has SEED, which is not searched"),
    "data searched": ({"search": {"DATASET.CUT": [0, 1]}}, "search has DATASET.CUT, which is no"),
    "CLIP searched": (
        {"search": {"MODEL.BACKBONE.NAME": ["a", "b"]}},
        "search has MODEL.BACKBONE.NAME, which is no setting of a method",
    ),
} | {
    f"{key} in {place}": ({place: {key: [1]}}, f"{place} has {key}: {reason}; take it out")
    for key, reason in selection.REFUSED.items()
    for place in ("search", "overrides")
}


@pytest.mark.parametrize("case", BAD)
def test_a_bad_plan_is_refused_by_name_of_the_key(top, case):
    keys, message = BAD[case]
    path = write(top, **keys)
    with pytest.raises(InputError) as error:
        selection.read(path)
    text = str(error.value)
    assert message in text and text.startswith(f"plan '{path}'") and "\n" not in text


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("OPTIM.MAX_EPOCH: [010, 020]", "OPTIM.MAX_EPOCH is 010, which YAML takes for 8: write"),
        ("TRAINER.COOP.CTX_INIT: [no, a]", "CTX_INIT is no, which YAML takes for False: write"),
    ],
)
def test_candidates_that_yaml_misreads_are_refused(top, text, message):
    path = write(top, search=None)
    with open(path, "a") as file:
        file.write(f"search: {{{text}}}\n")
    with pytest.raises(InputError, match=message):
        selection.read(path)


LATE = {
    "unknown": ({"OPTIM.LRR": [1]}, "unknown config key 'OPTIM.LRR': the closest known key"),
    "no method": ({"TRAINER.VPT.N_CTX_VISION": [1, 2]}, "which no method of the plan reads"),
    "another schedule's": ({"OPTIM.GAMMA": [0.1, 0.5]}, "which no method of the plan reads"),
    "another optimiser's": ({"OPTIM.ADAM_BETA1": [0.8, 0.9]}, "which no method of the plan reads"),
    "no effect": ({"LOG.WANDB_PROJECT": ["a", "b"]}, "which no method of the plan reads"),
    "one method": (
        {"TRAINER.CRAFT.LAMBDA_STATIC": [0, 1]},
        "search has TRAINER.CRAFT.LAMBDA_STATIC for CoOp/drawings, which does not read it: write "
        "it below those that do, CraftCoOp/drawings",
    ),
    "MMD that is off": (
        {"TRAINER.CRAFT.MMD.SPACE": ["anchor", "feature"]},
        "search has TRAINER.CRAFT.MMD.SPACE, which no method of the plan reads",
    ),
    "no target": ({"DATALOADER.TRAIN_U.BATCH_SIZE": [4, 8]}, "which no method of the plan reads"),
    "same run": ({"OPTIM.LR": [1, "1.0"]}, "the candidates 'LR=1' and 'LR=1.0' of CoOp/drawings"),
    "value": ({"OPTIM.LR": [-1]}, "OPTIM.LR is -1.0: set it to 0 or more"),
}


@pytest.mark.parametrize("case", LATE)
def test_a_bad_search_is_refused_before_the_first_run(top, tmp_path, capsys, case):
    search, message = LATE[case]
    assert run(top, tmp_path / "out", write(top, search=search)) == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1
    assert not (tmp_path / "out").exists() or not list((tmp_path / "out").rglob("results.json"))


SHIPPED = sorted((configs.ROOT / "configs/selections").glob("*.yaml"))


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_a_shipped_plan_is_one_that_a_selection_takes(tmp_path, path):
    plan = selection.read(str(path))
    runs = sweep.Sweep(plan.sweep(), str(tmp_path), str(tmp_path / "out"))
    assert select.checked(plan, runs)["name"]
    # CRAFT at its default weights: 0 is not among its candidates, which a note says.
    assert bool(plan.notes) == (
        path.stem not in ("base2new", "suite", "suite_rules", "suite_few_shot")
    )
    assert len(set(plan.budget.values())) == 1


def test_folds_of_which_one_has_too_few_classes_are_refused(top, tmp_path, capsys):
    """EuroSAT has 10 classes, 5 of them base: of 4 folds the second holds one class out."""
    assert run(top, tmp_path / "out", write(top, folds=4)) == 2
    error = capsys.readouterr().err
    assert "EuroSAT: DATASET.FOLD is '2/4', which holds 1 of 5 base classes out" in error
    assert not (tmp_path / "out").exists() or not list((tmp_path / "out").rglob("results.json"))


def test_a_data_set_of_another_code_is_refused(top, tmp_path):
    plan = selection.read(write(top))
    with pytest.raises(InputError, match="data set TinyNoise is no CoOpDataset"):
        select._check_data(plan, make_cfg(tmp_path, "CoOp"), {})


def test_notes_on_weights_without_zero_and_on_unequal_budgets(top, tmp_path, capsys):
    weights = {"TRAINER.CRAFT.LAMBDA_STATIC": [0.5, 1, 2]}
    search = {"plain": {"OPTIM.LR": [1, 2]}, "craft": weights}
    assert run(top, tmp_path, write(top, search=search, budget="unequal"), "--list") == 0
    text = capsys.readouterr().out
    assert "note: CraftCoOp/drawings has no candidate with all of CRAFT's weights 0" in text
    assert "different budgets of candidates: CoOp/drawings 2, CraftCoOp/drawings 3" in text
    assert run(top, tmp_path, write(top), "--list") == 0
    text = capsys.readouterr().out
    assert "note:" not in text and "40 jobs: 40 missing" in text


# Rules


def metrics(trained=(50.0, 1.0), folds=(), target=None) -> dict:
    parts = {"trained": {"accuracy": trained[0], selection.NLL: trained[1]}}
    for number, (seen, unseen) in enumerate(folds, 1):
        parts[f"fold{number}"] = {"accuracy": seen}
        parts[f"fold{number}_unseen"] = {"accuracy": unseen}
    return parts | ({"target": {"accuracy": target}} if target is not None else {})


def test_scores_of_known_numbers():
    def score(rule, **parts):
        return selection.RULES[rule].score(metrics(**parts))

    assert score("accuracy", trained=(61.0, 2.0)) == score("source", trained=(61.0, 2.0)) == 61.0
    assert score("likelihood", trained=(61.0, 2.0)) == 2.0
    assert score("target", target=40.0) == 40.0
    groups = {"trained": {"accuracy": 90.0, "worst_group_accuracy": 41.0}}
    assert selection.RULES["worst_group"].score(groups) == 41.0
    # means 60 and 30 -> H = 2 * 60 * 30 / 90
    assert score("folds", folds=[(50.0, 20.0), (70.0, 40.0)]) == pytest.approx(40.0)
    assert score("folds", folds=[(0.0, 0.0)] * 2) == 0.0


def chosen(top, known: dict, rule: str, **keys) -> dict:
    plan = selection.read(write(top, rule=rule, choose=None, craft=False, **keys))
    return select.choose(plan, plan.methods[0], {rule: known})[rule]


def test_the_best_mean_wins_and_the_first_of_equal_ones(top):
    keys = {"search": {"OPTIM.LR": [1, 2, 3]}, "datasets": ["eurosat", "dtd"]}
    known = {  # means over seeds, then data sets: 40, 45, 45
        "LR=1": {"eurosat": {1: 80.0, 2: 60.0}, "dtd": {1: 10.0, 2: 10.0}},
        "LR=2": {"eurosat": {1: 60.0, 2: 60.0}, "dtd": {1: 20.0, 2: 40.0}},
        "LR=3": {"eurosat": {1: 40.0, 2: 40.0}, "dtd": {1: 50.0, 2: 50.0 + 1e-13}},
    }
    assert chosen(top, known, "accuracy", **keys) == {"table": "LR=2"}
    assert chosen(top, known, "likelihood", **keys) == {"table": "LR=1"}
    assert chosen(top, known, "accuracy", one_for="dataset", **keys) == {
        "eurosat": "LR=1",
        "dtd": "LR=3",
    }


# End to end


def spoil(top: Path, folder: Path) -> Path:
    """A copy of the data in which test pictures and all of the new classes cannot be read."""
    shutil.copytree(top / "data", folder / "data")
    home = folder / "data" / prepare.find("EuroSAT").folder
    split = json.loads((home / "split_zhou_EuroSAT.json").read_text())
    images = home / prepare.find("EuroSAT").image_folder
    spoilt = [row for row in split["test"]]
    spoilt += [row for part in ("train", "val") for row in split[part] if row[1] >= 5]
    for row in spoilt:
        (images / row[0]).write_bytes(b"no picture")
    return folder / "data"


@pytest.fixture(scope="module")
def made(top, tmp_path_factory):
    """(folder of data whose test cannot be read, output of a selection by all rules)."""
    folder = tmp_path_factory.mktemp("made")
    data, output = spoil(top, folder), folder / "out"
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(configs.ROOT)
        patch.setattr(launchers, "run_local", here)
        plan = write(top)
        with contextlib.redirect_stdout(io.StringIO()):
            assert select.main([plan, "--root", str(data), "--output", str(output)]) == 0
    return data, output


@pytest.mark.parametrize(
    "pairs", [("TEST.SPLIT", "test"), ("DATASET.SUBSAMPLE_CLASSES", "new"), ()], ids=str
)
def test_a_run_that_looks_at_test_or_new_classes_fails_on_this_data(top, made, tmp_path, pairs):
    job = next(selection.read(write(top)).runs()).job
    job = replace(job, options=(*job.options, *pairs))
    arguments = job.arguments(str(made[0]), str(tmp_path))
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        assert train.main(train.parse_args(arguments)) == (2 if pairs else 0)


def stored(output: Path) -> dict:
    return json.loads((output / "selection.json").read_text())


def again(top, made, *more, plan: str = "") -> int:
    data, output = made
    return select.main([plan or write(top), "--root", str(data), "--output", str(output), *more])


def test_all_rules_choose_what_a_slow_loop_chooses_and_nothing_was_tested(made):
    _, output = made
    content, records = stored(output), {}
    for path in output.rglob("results.json"):
        result = json.loads(path.read_text())
        assert list(result["metrics"]) == ["val"]
        label, part, seed = path.parent.relative_to(output).parts[-3:]
        records[result["trainer"], label, part, seed] = result["metrics"]["val"]
        assert result["metrics"]["val"]["total"] == 2 * len(
            result["classnames"]
        )  # whole validation
    assert len(records) == 2 * 2 * 2 * 5
    for method in content["methods"]:
        labels = [candidate["label"] for candidate in method["candidates"]]
        mean: dict[str, list[float]] = {"accuracy": [], "likelihood": [], "folds": []}
        for label in labels:
            of = {rule: [] for rule in mean}
            for seed in ("seed_1", "seed_2"):
                get = functools.partial(
                    lambda part, t, lab, s: records[t, lab, part, s],
                    t=method["trainer"],
                    lab=label,
                    s=seed,
                )
                of["accuracy"].append(get("trained")["accuracy"])
                of["likelihood"].append(-get("trained")["negative_log_likelihood"])
                seen = (get("fold1")["accuracy"] + get("fold2")["accuracy"]) / 2
                unseen = (get("fold1_unseen")["accuracy"] + get("fold2_unseen")["accuracy"]) / 2
                of["folds"].append(2 * seen * unseen / (seen + unseen) if seen + unseen else 0.0)
            for rule, values in of.items():
                mean[rule].append(statistics.fmean(values))
        for rule, values in mean.items():
            best = labels[values.index(max(values))]
            assert method["chosen"][rule] == {"table": best}, (rule, values)


def test_the_record_tells_what_was_tried_and_seen(top, made):
    _, output = made
    content = stored(output)
    digest = content.pop("digest")
    assert digest == selection.digest_of(content)
    assert content["budget"] == {"CoOp/drawings": 2, "CraftCoOp/drawings": 2}
    assert (
        content["clip"]["content"]
        == run_settings(make_cfg(top, "CoOp", "MODEL.BACKBONE.NAME", str(top / "clip.pt")))[
            "MODEL.BACKBONE.NAME"
        ]
    )
    assert list(content["data"]["eurosat"]) == ["split file 'split_zhou_EuroSAT.json'"]
    assert content["looked_at"]["folds"] == (
        "validation images of both sides of 2 folds of the base classes, eurosat, 2 shots, seeds "
        "1, 2"
    )
    assert not content["uses_target_labels"] and content["versions"][0]["torch"]
    page = (output / "selection.md").read_text()
    for method in content["methods"]:
        for candidate in method["candidates"]:
            assert all(f"{key} {value}" in page for key, value in candidate["settings"].items())
    assert page.count("**") == 2 * 2 * 3  # a choice for each method and rule


def test_a_selection_again_is_the_same_file_and_an_interrupted_one_goes_on(
    top, made, monkeypatch, capsys
):
    _, output = made
    ran = []

    def count(jobs, *more):
        ran.extend(jobs)
        here(jobs, *more)

    monkeypatch.setattr(launchers, "run_local", count)
    before = (output / "selection.json").read_bytes()
    (output / "selection.json").unlink()
    lost = next(output.rglob("fold1/seed_1/results.json"))
    lost.unlink()
    assert again(top, made) == 0
    assert {job.folder for job in ran} >= {lost.parent.relative_to(output / "runs").as_posix()}
    assert len(ran) == 2  # the training, and the test of its model
    assert (output / "selection.json").read_bytes() == before


def test_a_run_that_tested_more_than_validation_is_refused(top, made, capsys):
    _, output = made
    path = next(output.rglob("trained/seed_1/results.json"))
    before = path.read_text()
    result = json.loads(before)
    result["metrics"]["test"] = result["metrics"]["val"]
    path.write_text(json.dumps(result))
    try:
        assert again(top, made) == 2
        assert "has metrics of val, test, where a selection has those of val only" in (
            capsys.readouterr().err
        )
    finally:
        path.write_text(before)


def test_another_clip_and_another_plan_are_refused(top, made, capsys):
    plan = write(top, search={"OPTIM.LR": [1, 2]})
    assert again(top, made, plan=plan) == 2
    error = capsys.readouterr().err
    assert "holds the selection of a plan with other search: choose another --output" in error
    other = top / "other.pt"
    torch.save(vit_weights(**TINY) | {"logit_scale": torch.tensor(1.0)}, other)
    plan = write(top, overrides=overrides(top) | {"MODEL.BACKBONE.NAME": str(other)})
    assert again(top, made, plan=plan) == 2
    error = capsys.readouterr().err
    assert "selection.json' was selected with another CLIP" in error and "other.pt" in error


def test_a_candidate_that_diverges_is_the_worst(top, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(launchers, "run_local", here)
    keys = {"craft": False, "seeds": 1, "one_for": "dataset"}
    plan = write(top, **keys, search={"OPTIM.LR, OPTIM.WEIGHT_DECAY": [1e30, 0.1]})
    assert run(top, tmp_path / "out", plan) == 0
    text, content = capsys.readouterr().out, stored(tmp_path / "out")
    assert "| OPTIM.LR 1e+30, OPTIM.WEIGHT_DECAY 1e+30 | diverged" in text
    (method,) = content["methods"]
    assert all(scores == {} for scores in method["candidates"][0]["scores"].values())
    assert all(of == {"eurosat": "LR=0.1,WEIGHT_DECAY=0.1"} for of in method["chosen"].values())
    plan = write(top, **keys, search={"OPTIM.LR, OPTIM.WEIGHT_DECAY": [1e30]})
    assert run(top, tmp_path / "none", plan) == 2
    assert "no candidate of CoOp/drawings kept a finite loss" in capsys.readouterr().err
    monkeypatch.setattr(launchers, "run_local", lambda *_: None)
    assert run(top, tmp_path / "missing", plan) == 1
    assert not (tmp_path / "missing/selection.json").exists()


@pytest.mark.parametrize(
    ("one_for", "chosen"),
    [
        ("table", {"table": "LR=0.2"}),
        ("dataset", {"eurosat": "LR=0.2", "dtd": "LR=0.1"}),
    ],
)
def test_a_candidate_that_diverges_on_a_data_set_is_lost_where_it_is_chosen_for(
    top, one_for, chosen
):
    keys = {"craft": False, "seeds": 1, "one_for": one_for, "rule": "accuracy", "choose": None}
    search = {"OPTIM.LR": [0.1, 0.2]}
    plan = selection.read(write(top, datasets=["eurosat", "dtd"], search=search, **keys))
    (method,) = plan.methods

    def fails(run: selection.Run) -> bool:
        return (run.label, run.cell) == ("LR=0.1", "eurosat")

    runs = {
        run.job.folder: ("failed", select.TOO_FAR[0]) if fails(run) else ("done", "")
        for run in plan.runs()
    }
    lost = select.diverged(plan, SimpleNamespace(states=runs))
    kept = [
        (run, {"metrics": {"val": {"accuracy": 90.0 if run.label == "LR=0.1" else 50.0}}})
        for run in plan.runs()
        if (method.name, run.label, plan.group_of(run.cell)) not in lost
    ]
    known = select.scores(plan, method, kept)
    assert select.choose(plan, method, known) == {"accuracy": chosen}


def test_a_config_that_changed_is_another_plan(top, monkeypatch):
    plan = selection.read(write(top, search={"OPTIM.LR": [0.1, 0.2]}))
    before = plan.described()
    merged = configs.merged
    monkeypatch.setattr(configs, "merged", lambda files: {**merged(files), "SEED": 5})
    after = plan.described()
    assert [key for key in before if before[key] != after[key]] == ["configs"]


def test_judging_needs_a_selection(top, tmp_path, capsys):
    assert run(top, tmp_path / "none", write(top), "--judge") == 2
    assert "selection.json' does not exist: select without --judge first" in capsys.readouterr().err


def test_what_rules_chose_is_judged_after_the_selection(top, made, tmp_path, monkeypatch, capsys):
    """On readable data, and in a folder that a selection does not read."""
    output = tmp_path / "out"
    shutil.copytree(made[1], output)
    monkeypatch.setattr(launchers, "run_local", here)
    before = (output / "selection.json").read_bytes()
    arguments = (write(top, seeds=[1, 2]), "--root", str(top / "data"), "--output", str(output))
    assert select.main([*arguments, "--judge"]) == 0
    text, content = capsys.readouterr().out, stored(output)
    judgement = json.loads((output / "judged/judgement.json").read_text())
    assert judgement["selection"] == content["digest"] and content["digest"] in text
    assert [line["rule"] for line in judgement["lines"]] == [
        *("default", "accuracy", "likelihood", "folds"),
    ] * 2
    for line in judgement["lines"]:
        label = line["chosen"]["eurosat"]
        trainer = line["method"].partition("/")[0]
        values = {}
        for part in ("train_base", "test_new"):
            paths = (output / "judged" / label / "base2new" / part).rglob(
                f"{trainer}/*/*/results.json"
            )
            values[part] = []
            for path in sorted(paths):
                result = json.loads(path.read_text())
                assert result["config"]["SELECTION"]["DIGEST"] == content["digest"]
                values[part].append(result["metrics"]["test"]["accuracy"])
        pairs = list(zip(*values.values(), strict=True))
        assert len(pairs) == 2
        assert line["mean"]["base"] == pytest.approx(statistics.fmean(p[0] for p in pairs))
        base, new = (statistics.fmean(values[part]) for part in ("train_base", "test_new"))
        assert line["mean"]["H"] == pytest.approx(2 * base * new / (base + new))
    rules = ("default", "accuracy", "likelihood", "folds")
    pairs = [(one["rule"], one["other"]) for one in judgement["differences"]]
    assert pairs == list(itertools.combinations(rules, 2))
    mean = {
        rule: statistics.fmean(
            line["mean"]["H"] for line in judgement["lines"] if line["rule"] == rule
        )
        for rule in rules
    }
    for one in judgement["differences"]:  # on one data set there is no interval
        assert one["mean"] == pytest.approx(mean[one["rule"]] - mean[one["other"]])
        assert one["p"] is None and "| not distinguished |" in text
    assert (output / "selection.json").read_bytes() == before
    assert select.main(list(arguments)) == 0  # judged runs change no selection
    assert (output / "selection.json").read_bytes() == before
    (output / "selection.json").write_text(json.dumps(content | {"digest": "another"}))
    assert select.main([*arguments, "--judge"]) == 2
    assert "holds runs of another selection: move" in capsys.readouterr().err


def test_differences_of_rules_by_hand():
    """H of mean accuracies, averaged over two methods, jackknifed over three data sets."""
    accuracies = {
        ("A", "one"): ([50, 60, 80], [40, 50, 90]),
        ("A", "two"): ([52, 61, 79], [40, 54, 90]),
        ("B", "one"): ([30, 40, 50], [30, 20, 10]),
        ("B", "two"): ([30, 45, 50], [33, 20, 11]),
    }
    cells = ["x", "y", "z"]
    lines = [
        {
            "method": method,
            "rule": rule,
            "chosen": dict.fromkeys(cells, "c"),
            "values": {
                "base": {cell: {1: value} for cell, value in zip(cells, base, strict=True)},
                "new": {cell: {1: value} for cell, value in zip(cells, new, strict=True)},
            },
        }
        for (method, rule), (base, new) in accuracies.items()
    ]

    def slow(kept):
        total = 0.0
        for method in "AB":
            for rule, sign in (("one", 1), ("two", -1)):
                base, new = (
                    sum(side[place] for place in kept) / len(kept)
                    for side in accuracies[method, rule]
                )
                total += sign * 2 * base * new / (base + new) / 2
        return total

    (found,) = judge.differences(lines, "H")
    assert (found.rule, found.other) == ("one", "two")
    assert found.mean == pytest.approx(slow([0, 1, 2]))
    without = [slow([1, 2]), slow([0, 2]), slow([0, 1])]
    middle = sum(without) / 3
    error = (2 / 3 * sum((one - middle) ** 2 for one in without)) ** 0.5
    low, high, p = statistics_of.t_test(slow([0, 1, 2]), error, 3)
    assert (found.low, found.high) == pytest.approx((low, high))
    assert found.p == found.p_holm == pytest.approx(p)
    # Targets of one source are one data set.
    (found,) = judge.differences(lines, "H", dict(zip(cells, "aab", strict=True)))
    low, high, p = statistics_of.t_test(slow([0, 1, 2]), abs(slow([0, 1]) - slow([2])) / 2, 2)
    assert (found.low, found.high, found.p) == pytest.approx((low, high, p))
    (found,) = judge.differences(lines, "H", dict.fromkeys(cells, "a"))
    assert found.low is found.p is None and found.verdict == "not distinguished"


# Selected configs


def settings_of(options: list[str], *files: str) -> dict:
    arguments = [word for file in files for word in ("--config-file", file)]
    data = ["--root", "data", "--output-dir", "out", "--dataset-config-file"]
    return run_settings(
        train.setup_cfg(
            train.parse_args([*data, configs.dataset_file("eurosat"), *arguments, *options])
        )
    )


def test_a_selected_config_is_the_config_with_overrides_and_choice(top, made):
    _, output = made
    for method in stored(output)["methods"]:
        trainer, label = method["trainer"], method["chosen"]["folds"]["table"]
        chosen = next(c["settings"] for c in method["candidates"] if c["label"] == label)
        pairs = [
            word
            for key, value in {**overrides(top), **chosen}.items()
            for word in (key, str(value))
        ]
        common = ["TRAINER.NAME", trainer]
        file = output / "selected" / trainer / "selected.yaml"
        assert settings_of(common, str(file)) == settings_of(
            [*common, *pairs], *configs.files(trainer, "drawings")
        )


def test_a_template_of_the_plan_is_in_the_selected_config(top):
    """It is a setting, and may be searched; the data's own keys stay with the plan."""
    keys = {"DATASET.TEMPLATE": "a drawing of a {}.", "DATASET.CUT": 2}
    plan = selection.read(write(top, overrides=overrides(top) | keys))
    method = plan.methods[0]
    text = select.config_text(
        plan, method, next(iter(method.candidates)), {"content": "x"}, {"y": "1"}, "d"
    )
    assert yaml.safe_load(text)["DATASET"] == {"TEMPLATE": "a drawing of a {}."}
    assert yaml.safe_load(text)["SELECTION"]["CLASSES"] == "base (cut 2)"


def test_a_plan_takes_selected_configs_and_its_table_tells_the_rule(
    top, made, tmp_path, monkeypatch, capsys, forks
):
    _, output = made
    monkeypatch.setattr(launchers, "run_local", here)
    tree = {
        "protocol": "base2new",
        "datasets": "eurosat",
        "shots": 2,
        "seeds": 1,
        "studies": [
            {
                "trainers": "CoOp",
                "craft": [False, True],
                "config": "selected",
                "selection": str(output),
            },
            {"trainers": {"CoOp": "drawings"}, "overrides": overrides(top)},
            {
                "name": "cut1",
                "trainers": {"CoOp": "drawings"},
                "overrides": overrides(top) | {"DATASET.CUT": 1},
            },
        ],
    }
    plan = tmp_path / "use.yaml"
    plan.write_text(yaml.safe_dump(tree))
    folders = ("--root", str(top / "data"), "--output", str(tmp_path / "tables"))
    assert sweep.main([str(plan), *folders, "--launch", "local", "USE_CUDA", "False"]) == 0
    assert (tmp_path / "tables/base2new/test_new/eurosat/shots_2/CraftCoOp/selected").is_dir()
    from tools import results

    capsys.readouterr()
    assert results.main(["base2new", str(tmp_path / "tables")]) == 0
    text = capsys.readouterr().out
    assert (
        "note: settings of CoOp/selected, CraftCoOp/selected: selected by folds on validation "
        "images of both sides of 2 folds of the base classes, eurosat, 2 shots, seeds 1, 2, from 2 "
        f"candidates (selection {stored(output)['digest']}); nothing looked at test or new classes"
    ) in text
    assert "note: settings that come with the bundled suite: CoOp/drawings" in text
    assert "| eurosat (cut 1) | CoOp" in text  # a row of its own
    cut = json.loads(
        next((tmp_path / "tables/cut1").rglob("train_base/**/results.json")).read_text()
    )
    plain = json.loads(
        next((tmp_path / "tables/base2new").rglob("train_base/**/results.json")).read_text()
    )
    assert len(cut["classnames"]) == len(plain["classnames"]) == 5
    assert cut["classnames"] != plain["classnames"]


def test_a_selection_with_another_clip_is_refused_by_the_run(top, made, tmp_path):
    _, output = made
    other = tmp_path / "other.pt"
    torch.save(vit_weights(**TINY) | {"logit_scale": torch.tensor(1.5)}, other)
    file = str(output / "selected/CoOp/selected.yaml")
    with pytest.raises(train.UserError, match="SELECTION.CLIP is .* with which the settings were"):
        settings_of(["TRAINER.NAME", "CoOp", "MODEL.BACKBONE.NAME", str(other)], file)


def test_a_run_on_other_data_than_the_selection_s_says_so(top, made, recwarn):
    data, output = made
    file = str(output / "selected/CoOp/selected.yaml")
    known = yaml.safe_load(Path(file).read_text())["SELECTION"]["DATA"]
    assert known == identity.told(stored(output)["data"].values()) and len(known) == 1
    folder = ["TRAINER.NAME", "CoOp", "DATASET.ROOT", str(data)]
    settings_of(folder, file)
    assert not [one for one in recwarn if "another version" in str(one.message)]
    what = known[0].split(" ", 1)[1]
    with pytest.warns(UserWarning, match="selected on another version of the "):
        settings_of([*folder, "SELECTION.DATA", [f"{'0' * 12} {what}"]], file)


def test_a_missing_selection_is_named(top, tmp_path, capsys):
    keys = {"protocol": "base2new", "datasets": "eurosat", "trainers": "CoOp", "seeds": 1}
    plan = tmp_path / "use.yaml"
    for value, message in (
        (str(tmp_path), f"the selection '{tmp_path}' has no config 'selected' of CoOp for eurosat"),
        (3, "selection is 3: write the folder that tools.select wrote"),
    ):
        plan.write_text(yaml.safe_dump({**keys, "config": "selected", "selection": value}))
        assert sweep.main([str(plan), "--output", str(tmp_path / "out")]) == 2
        assert message in capsys.readouterr().err


@pytest.mark.parametrize("pairs", [(), ("OPTIM.LR", "0.7"), ("OPTIM.MAX_EPOCH", "2")])
def test_overrides_that_undo_a_choice_are_refused(top, made, tmp_path, pairs, capsys):
    """The table would say that the settings were selected."""
    keys = {"protocol": "base2new", "datasets": "eurosat", "trainers": "CoOp", "seeds": 1}
    plan = tmp_path / "use.yaml"
    plan.write_text(yaml.safe_dump({**keys, "config": "selected", "selection": str(made[1])}))
    folders = ("--root", str(top / "data"), "--output", str(tmp_path / "out"))
    refused = pairs[:1] == ("OPTIM.LR",)
    assert sweep.main([str(plan), *folders, "--list", *pairs]) == (2 if refused else 0)
    assert ("overrides has OPTIM.LR 0.7, but" in capsys.readouterr().err) == refused


def test_a_config_that_a_selection_wrote_again_is_read_again(tmp_path):
    """In one process, at one path."""
    file = tmp_path / "own.yaml"
    for rate in (0.5, 0.25, 0.125):  # of other sizes
        file.write_text(yaml.safe_dump({"OPTIM": {"LR": rate}}))
        assert configs.merged([str(file)]) == {"OPTIM": {"LR": rate}}
    os.utime(file, ns=(0, 0))
    file.write_text(yaml.safe_dump({"OPTIM": {"LR": 0.375}}))  # of the same size
    assert configs.merged([str(file)]) == {"OPTIM": {"LR": 0.375}}


@pytest.mark.parametrize("chosen", ["unlabelled", None])
def test_a_preset_does_not_undo_a_choice(tmp_path, monkeypatch, chosen):
    """The group protocol sets the domains of MMD, unless they were selected."""
    file = tmp_path / "selected/CraftCoOp/own_mmd.yaml"
    file.parent.mkdir(parents=True)
    craft = {"MMD": {"DOMAINS": chosen}} if chosen else {"LAMBDA_MMD": 2.0}
    file.write_text(yaml.safe_dump({"TRAINER": {"CRAFT": craft}}))
    monkeypatch.setattr(configs, "selected", lambda *_: str(file))
    tree = {"protocol": "group", "datasets": "waterbirds", "trainers": "CoOp", "seeds": 1}
    path = tmp_path / "plan.yaml"
    path.write_text(
        yaml.safe_dump({**tree, "config": "own", "craft": "mmd", "selection": str(tmp_path)})
    )
    options = read_plan(str(path)).jobs[0].options
    assert ("TRAINER.CRAFT.MMD.DOMAINS" in options) == (chosen is None)


def test_a_choice_for_each_data_set_has_its_own_config(top, made, tmp_path):
    data, output = made
    plan = selection.read(write(top, one_for="dataset"))
    content = json.loads(json.dumps(stored(output)))
    for method in content["methods"]:
        method["chosen"] = {rule: {"eurosat": of["table"]} for rule, of in method["chosen"].items()}
    select.write(plan, content, str(tmp_path))
    path = tmp_path / "selected/eurosat/CoOp/selected.yaml"
    assert configs.selected(str(tmp_path), "eurosat", "CoOp", "selected") == str(path)
    with pytest.raises(InputError, match="has no config 'selected' of CoOp for dtd"):
        configs.selected(str(tmp_path), "dtd", "CoOp", "selected")
    assert "| folds, eurosat" in (tmp_path / "selection.md").read_text()
    told = yaml.safe_load(path.read_text())["SELECTION"]
    assert told["ON"].endswith(", chosen for each data set by itself")
    assert told["CLASSES"] == "base"


# A shifted domain


def shifted(folder: Path) -> None:
    """A folder per class, and a table of other pictures of these classes, with all parts in both.

    The table's pictures lie in a hidden folder, which is no class.
    """
    lines = ["path,classname,split"]
    noise = np.random.RandomState(0)
    for (label, name), part, i in itertools.product(enumerate(CLASSES), PARTS, range(2)):
        for shade, path in ((0, f"{part}/{name}/{i}.png"), (60, f".shifted/{part}-{name}-{i}.png")):
            pixels = 40 * label + shade + noise.randint(0, 60, (32, 32, 3))
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels.astype(np.uint8)).save(folder / path)
        lines.append(f"{path},{name},{part}")
    (folder / "images.csv").write_text("\n".join(lines) + "\n")


def test_rules_for_a_shifted_domain(top, tmp_path, monkeypatch):
    shifted(tmp_path / "data/own")
    monkeypatch.setattr(launchers, "run_local", here)
    plan = write(
        top,
        protocol="ood",
        datasets="imagefolder",
        targets="csv",
        craft="mmd",
        choose="target",
        seeds=1,
        folds=None,
        search={"TRAINER.CRAFT.LAMBDA_MMD": [0.5, 2.0]},
        overrides={**overrides(top), "DATASET.FOLDER": "own"},
    )
    output = tmp_path / "out"
    arguments = [plan, "--root", str(tmp_path / "data"), "--output", str(output)]
    assert select.main(arguments) == 0
    content = stored(output)
    assert content["plan"]["rules"] == ["source", "target"] and content["uses_target_labels"]
    assert content["looked_at"]["target"].startswith("validation images of the target, imagefolder")
    parts = {path.parent.parent.name for path in output.rglob("results.json")}
    assert parts == {"trained", "target"}
    tested = json.loads(next(output.rglob("target/seed_1/results.json")).read_text())
    assert tested["dataset"] == "CSV" and list(tested["metrics"]) == ["val"]
    file = output / "selected/CraftCoOp/selected_mmd.yaml"
    assert yaml.safe_load(file.read_text())["SELECTION"]["RULE"] == "target"


# Groups


def test_the_worst_group_is_a_rule_where_there_are_groups(top, tmp_path, capsys):
    keys = {"choose": None, "folds": None, "seeds": 1}
    assert run(top, tmp_path / "out", write(top, rule="worst_group", **keys)) == 2
    assert "choose one of accuracy, likelihood, folds, or all" in capsys.readouterr().err
    assert run(top, tmp_path / "out", write(top, protocol="group", rule="worst_group", **keys)) == 2
    error = capsys.readouterr().err
    assert (
        "the rule worst_group needs groups, and nothing tests those of EuroSAT: set TEST" in error
    )
    plan = selection.read(str(configs.ROOT / "configs/selections/suite_groups.yaml"))
    assert (plan.rules, plan.rule) == (["accuracy", "likelihood", "worst_group"], "worst_group")
    assert plan.looked_at("worst_group").startswith(
        "validation images of the classes trained on with their group labels, emoji_groups"
    )


# Notes under tables


def row(trainer: str, config: str, settings: dict, target: str = "") -> Row:
    tree: dict = {"DATASET": {}, "TRAINER": {}}
    for key, value in settings.items():
        *groups, last = key.split(".")
        place = tree
        for group in groups:
            place = place.setdefault(group, {})
        place[last] = value
    run = Description(
        source="x",
        target=target,
        trainer=trainer,
        structure=configs.structure_of(trainer),
        craft=configs.split(trainer, config)[1],
        config=config,
    )
    return Row("x", trainer, config, "8", first={"base": {"config": tree}}, run=run)


def chosen_by(rule: str) -> dict:
    values = {"RULE": rule, "ON": "images, x", "BUDGET": 3, "DIGEST": "abc"}
    return {f"SELECTION.{key}": value for key, value in values.items()}


def test_rows_of_other_rules_are_marked():
    rows = [
        row("CoOp", "mine", chosen_by("likelihood")),
        row("CraftCoOp", "mine", chosen_by("likelihood")),
        row("VPT", "mine", chosen_by("target")),
        row("CoOp", "vit_b16_ctxv1", {}),
        row("MaPLe", "drawings", {}),
        row("IVLP", "own_file", {}),
        row("ZeroshotCLIP", "drawings", {}),
    ]
    rows[-1].run = Description(trainer="ZeroshotCLIP", learns=False)
    # A variant of an ablation: named by the study, its run has trainer and config.
    rows.append(row("CraftCoOp", "drawings", {}))
    rows[-1].trainer, rows[-1].config = "CoOp", "both"
    assert selected.notes(rows) == [
        "settings of CoOp/mine, CraftCoOp/mine: selected by likelihood on images, x, from 3 "
        "candidates (selection abc); nothing looked at test or new classes",
        "settings of VPT/mine: selected by target on images, x, from 3 candidates (selection abc); "
        "uses target labels; nothing looked at test images",
        "published settings: CoOp/vit_b16_ctxv1",
        "settings that come with the bundled suite: MaPLe/drawings, CoOp/both",
        "settings of a file of one's own: IVLP/own_file",
    ]


def test_a_table_of_a_config_that_takes_its_selection_back_says_where_settings_are_from():
    """As configs/trainers/PromptSRC/suite_lr.yaml does, which changes one selected value."""
    rows = [row("MaPLe", "drawings", chosen_by("")), row("CraftMaPLe", "drawings", chosen_by(""))]
    note = "settings that come with the bundled suite: MaPLe/drawings, CraftMaPLe/drawings"
    assert selected.notes(rows) == [note]
    assert selected.notes([row("MaPLe", "drawings", {})]) == []


def test_a_selection_on_other_data_sets_says_no_more_than_it_knows():
    """Their images may be among those of the row's set, as emoji are among the groups of emoji."""
    one = row("CoOp", "mine", chosen_by("likelihood"))
    assert one.run is not None
    one.run, one.dataset = replace(one.run, source="y"), "y"
    (note,) = selected.notes([one])
    assert note.endswith(
        "; nothing looked at test or new classes of these sets, and the rows are of another one"
    )
    shifted = {"SELECTION.ON": "validation images of the source, y_to_z, 8 shots"}
    one = row("CoOp", "mine", chosen_by("source") | shifted, target="z")
    one.run, one.dataset = replace(one.run, source="y"), "y_to_z"
    (note,) = selected.notes([one])
    assert note.endswith("; nothing looked at test or new classes")


@pytest.mark.parametrize(
    "looked_at, subset, cut, honest",
    [
        ("base", "new", 0, True),
        ("base (cut 1)", "new", 1, True),
        ("base", "new", 1, False),  # what is new in cut 1 may be base in the published one
        ("base (cut 1)", "new", 0, False),
        ("all", "new", 0, False),  # selected for few_shot, used for base2new
        ("all", "all", 0, True),
    ],
)
def test_a_table_of_classes_that_a_selection_looked_at_says_so(looked_at, subset, cut, honest):
    keys = {"SELECTION.CLASSES": looked_at, "DATASET.SUBSAMPLE_CLASSES": subset}
    one = row("CoOp", "mine", {**chosen_by("likelihood"), **keys, "DATASET.CUT": cut})
    (note,) = selected.notes([one])
    assert note.endswith("; nothing looked at test or new classes") == honest
    assert (f"looked at {looked_at} classes, so perhaps at new ones" in note) == (not honest)


def test_a_table_without_a_selection_marks_only_what_rows_learned_from():
    weights = {"TRAINER.CRAFT.LAMBDA_MMD": 1.0, "TRAINER.CRAFT.MMD.DOMAINS": "unlabelled"}
    rows = [
        row("CoOp", "drawings", {"DATASET.TARGET_LABELLED": True}, "emoji_line"),
        row("CraftCoOp", "drawings_mmd", weights, "emoji_line"),
        row("CraftVPT", "drawings_mmd", {**weights, "TRAINER.CRAFT.LAMBDA_MMD": 0.0}, "other"),
        row("CraftMaPLe", "drawings_mmd", weights),
        row("CraftIVLP", "drawings_mmd", {**weights, "DATASET.TARGET_DOMAINS": ["line"]}),
    ]
    assert selected.notes(rows) == [
        "uses target labels: CoOp/drawings",
        "transductive, trained on unlabelled images of the target's classes: "
        "CraftCoOp/drawings_mmd, CraftIVLP/drawings_mmd",
    ]
