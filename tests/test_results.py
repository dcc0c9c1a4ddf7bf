"""The collector against hand-computed tables."""

import csv
import html
import itertools
import json
import os
import random
import re
import shutil
import subprocess
import sys
import time
from collections import Counter
from dataclasses import asdict
from html.parser import HTMLParser
from pathlib import Path

import pytest
import yaml
from PIL import Image

import datasets
import trainers
from dassl import files, record
from dassl.config import cfg_to_dict, get_cfg_default, merge_from_list
from dassl.record import Description
from tools import pages, parse_test_res, plots, protocols, results
from tools.protocols import group

PUBLISHED_SETS = [
    "imagenet",
    "caltech101",
    "oxford_pets",
    "stanford_cars",
    "oxford_flowers",
    "food101",
    "fgvc_aircraft",
    "sun397",
    "dtd",
    "eurosat",
    "ucf101",
]
BASE, NEW = {1: 80.0, 2: 82.0, 3: 84.0}, {1: 60.0, 2: 64.0, 3: 62.0}


def write(root, part, dataset, trainer, seed, accuracy, complete=True, config=None):
    folder = root / part / dataset / "shots_8" / trainer / "drawings" / f"seed{seed}"
    folder.mkdir(parents=True, exist_ok=True)
    content = {
        "complete": complete,
        "metrics": {"test": {"accuracy": accuracy}},
        "config": {"SEED": seed, "OUTPUT_DIR": str(folder), **(config or {})},
    }
    (folder / "results.json").write_text(json.dumps(content))
    return folder / "results.json"


@pytest.fixture
def runs(tmp_path):
    for dataset, more in (("emoji", 0.0), ("other", 6.0)):
        for trainer, gain in (("CoOp", {1: 0, 2: 0, 3: 0}), ("CraftCoOp", {1: 1, 2: 2, 3: 3})):
            for seed in (1, 2, 3):
                write(
                    tmp_path, "train_base", dataset, trainer, seed, BASE[seed] + more + gain[seed]
                )
                write(tmp_path, "test_new", dataset, trainer, seed, NEW[seed] + more)
        write(tmp_path, "train_base", dataset, "ZeroshotCLIP", 1, 50.0)
    return tmp_path


def table(capsys, *arguments):
    assert results.main(["base2new", *map(str, arguments)]) == 0
    text = capsys.readouterr().out
    lines = [
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in text.splitlines()
        if line.startswith("|")
    ]
    return text, {(line[0], line[1]): line for line in lines}


def averages_of(folder):
    protocol = protocols.PROTOCOLS["base2new"]
    return protocols.averages(
        protocol, protocols.collect(protocol, [folder])[0], ["base", "new", "H"]
    )[0]


def test_numbers(runs, capsys):
    text, rows = table(capsys, runs)
    # H per seed: 2*80*60/140 = 68.5714, 2*82*64/146 = 71.8904, 2*84*62/146 = 71.3425; mean 70.6014,
    # deviation 1.7786
    assert rows["emoji", "CoOp"][4:] == [
        "82.00 ± 2.00",
        "62.00 ± 2.00",
        "70.60 ± 1.78",
        "1, 2, 3",
    ]
    assert rows["emoji", "ZeroshotCLIP"][4:] == ["50.00", results.MISSING, results.MISSING, "1"]
    # H of the averaged base and new, per seed, not the average of H
    base, new = 83.0, 63.0
    assert averages_of(runs)[0].trainer == "ZeroshotCLIP"
    average = next(row for row in averages_of(runs) if row.trainer == "CoOp")
    assert average.of("H")[1] == pytest.approx(2 * base * new / (base + new))
    # 1, 2, 3: standard error 1 / sqrt(3), times 4.3027, the t of two degrees of freedom
    assert "paired over seeds" in text and "+2.00 [-0.48, +4.48]" in text
    assert f"cells with {results.MISSING} have no finished run" in text


def test_runs_without_a_column_are_named(tmp_path, capsys):
    run = {
        "protocol": "base2new",
        "source": "dtd",
        "tested": "dtd",
        "subset": "base_seen",
        "seed": 1,
    }
    run |= {"trainer": "CoOp", "structure": "CoOp", "config": "drawings", "shots": "8"}
    path = write(tmp_path, "here", "dtd", "CoOp", 1, 50.0)
    content = {**json.loads(path.read_text()), "run": asdict(Description(**run))}
    path.write_text(json.dumps(content))
    text, _ = table(capsys, tmp_path)
    note = "CoOp/drawings on dtd has runs of base_seen, for which this table has no column"
    assert note in text and "have no finished run" not in text


def test_files_and_picture(runs, capsys, tmp_path):
    (tmp_path / "table").mkdir()  # as in the README, where runs lie in a folder of that name
    table(capsys, runs, "--out", tmp_path / "table", "--plot", tmp_path / "table.png")
    lines, empty = list(csv.reader((tmp_path / "table.csv").read_text().splitlines())), [""] * 9
    assert lines[1:3] == [
        ["emoji", "ZeroshotCLIP", "drawings", "8", "base", "50.0000", "", "1", *empty],
        ["emoji", "ZeroshotCLIP", "drawings", "8", "new", "", "", "", *empty],
    ]
    assert [
        "emoji",
        "CraftCoOp",
        "drawings",
        "8",
        "base",
        "84.0000",
        "3.0000",
        "1, 2, 3",
        "2.0000",
        "-0.4841",
        "4.4841",
        "0.0742",
        "0.2225",  # of three comparisons: two data sets and their average
        "t over seeds",
        "open",
        "1, 2, 3",
        "",
    ] in lines
    tex, text = (tmp_path / "table.tex").read_text(), (tmp_path / "table.md").read_text()
    assert (
        r"82.00 $\pm$ 2.00" in tex
        and "+2.00 [-0.48, +4.48]" in tex
        and r"{\footnotesize cells with -- have no finished run\par}" in tex
    )
    assert (
        text.startswith("| data set")
        and "| +2.00 [-0.48, +4.48]" in text
        and f"\n- cells with {results.MISSING} have no finished run\n" in text
    )
    found = json.loads((tmp_path / "table.json").read_text())
    row = next(
        row for row in found["rows"] if (row["dataset"], row["trainer"]) == ("emoji", "CraftCoOp")
    )
    assert (
        row["cells"]["base"]["values"] == {"1": 81.0, "2": 84.0, "3": 87.0}
        and row["cells"]["base"]["mean"] == 84.0
    )
    assert row["cells"]["base"]["gain"] == {
        "mean": 2.0,
        "low": pytest.approx(-0.48414, abs=1e-4),
        "high": pytest.approx(4.48414, abs=1e-4),
        "p": pytest.approx(1 - (12 / 14) ** 0.5),
        "p_holm": pytest.approx(3 - 3 * (12 / 14) ** 0.5),
        "verdict": "open",
        "interval": "t over seeds",
        "standard_deviation": 1.0,
        "seeds": [1, 2, 3],
    }
    assert found["verdict"] == "H"
    assert [row["average_of"] for row in found["rows"] if "average_of" in row] == [
        ["emoji", "other"]
    ] * 3 and found["notes"]
    assert Image.open(tmp_path / "table.png").size[0] > 400


def put(folder, metrics, config=None):
    folder.mkdir(parents=True)
    (folder / "results.json").write_text(
        json.dumps({"complete": True, "metrics": {"test": metrics}, "config": config or {}})
    )


def report(capsys, protocol, *arguments):
    assert results.main([protocol, *map(str, arguments)]) == 0
    text = capsys.readouterr().out
    return text, [
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in text.splitlines()
        if line.startswith("|")
    ]


def test_ood_columns_and_the_gain_of_mmd_over_the_structure(tmp_path, capsys):
    for trainer, config, more in (
        ("CoOp", "drawings", 0),
        ("CraftCoOp", "drawings", 1),
        ("CraftCoOp", "drawings_mmd", 3),
    ):
        for seed in (1, 2):
            for part, value in (("train", 70), ("test_line", 60), ("test_other", 50)):
                put(
                    tmp_path
                    / "ood"
                    / part
                    / "a_to_line/shots_8"
                    / trainer
                    / config
                    / f"seed{seed}",
                    {"accuracy": value + more * seed},
                )
    text, lines = report(
        capsys, "ood", tmp_path, "--plot", tmp_path / "p.png", "--out", tmp_path / "t"
    )
    assert lines[0] == [
        "data set",
        "trainer",
        "config",
        "shots",
        "source",
        "line",
        "other",
        "average",
        "seeds",
    ]
    assert lines[2][:8] == [
        "a_to_line",
        "CoOp",
        "drawings",
        "8",
        "70.00 ± 0.00",
        "60.00 ± 0.00",
        "50.00 ± 0.00",
        "55.00 ± 0.00",
    ]
    assert [line[:3] for line in lines[3:5]] == [
        ["a_to_line", "CraftCoOp", "drawings"],
        ["a_to_line", "CraftCoOp", "drawings_mmd"],
    ]
    assert lines[-1] == [
        "a_to_line",
        "CraftCoOp drawings_mmd",
        "8",
        *["+4.50 [-14.56, +23.56]"] * 4,  # 3 and 6: standard error 1.5, times 12.706
        "0.205",  # of one degree of freedom: 2 / pi * arctan(1.5 / 4.5)
        "0.410",
        "open",
        "2",
    ]
    assert lines[-4][-4:] == ["p of average", "Holm", "verdict", "seeds paired"]
    assert len((tmp_path / "t_runs.csv").read_text().splitlines()) == 1 + 18
    assert json.loads((tmp_path / "t.json").read_text())["rows"][0]["cells"]["source"][
        "values"
    ] == {"1": 70.0, "2": 70.0}


def test_the_help_names_every_protocol():
    listed = results.__doc__.partition("PROTOCOL is ")[2].partition(". ")[0]
    assert set(re.findall(r"\w+", re.sub(r"\(.*?\)", "", listed))) - {"or"} == set(
        protocols.PROTOCOLS
    )


SEEN = {
    "none": ({"TRAINER": {"NAME": "CoOp"}}, "learned from noise"),
    "training": (
        {"DATALOADER": {"TRAIN_X": {"SAMPLER": "BalancedGroupSampler"}}},
        "from 'a photo of a'",
    ),
    "training ": ({"TRAINER": {"NAME": "CoOp", "TERMS": ["GroupDRO"]}}, "learned from noise"),
    "training  ": (
        {
            "TRAINER": {
                "NAME": "CraftCoOp",
                "CRAFT": {"LAMBDA_MMD": 1.0, "MMD": {"DOMAINS": "group"}},
            }
        },
        "learned from noise",
    ),
    "validation": (
        {"TEST": {"FINAL_MODEL": "best_val", "SELECT_BY": "worst_group_accuracy"}},
        "from 'a photo of a'",
    ),
    "validation  ": ({"SELECTION": {"RULE": "worst_group"}}, "from 'a photo of a'"),
    "validation ": ({"TRAINER": {"NAME": "DFR", "DFR": {"PART": "val"}}}, "'an icon of {}.'"),
    "training and validation": (
        {"TRAINER": {"NAME": "DFR", "DFR": {"PART": "train"}}},
        "'an icon of {}.'",
    ),
}


@pytest.mark.parametrize("seen", SEEN)
def test_group_tables_tell_which_group_labels_a_run_saw_and_its_words(seen):
    changed, words = SEEN[seen]
    node = {"N_CTX": 4, "CTX_INIT": "a photo of a" if "TRAINER" not in changed else ""}
    config = {"TRAINER": {"NAME": "CoOp"}, "DATASET": {"TEMPLATE": "an icon of {}."}} | changed
    config["TRAINER"] = {"COOP": node, **config["TRAINER"]}
    assert group.groups_seen({"config": config}) == seen.strip()
    if not words.startswith("'"):
        words += ", template 'an icon of {}.'"
    assert group.words({"config": config}) == words


def test_means_of_groups_stand_with_intervals_over_the_seeds(tmp_path, capsys):
    """Three seeds: t(0.975, 2) = 4.302653, and the standard error of 58, 60, 65 is 2.0817."""
    for seed, worst in ((1, 58.0), (2, 60.0), (3, 65.0)):
        folder = tmp_path / f"group/birds/shots_all/CoOp/cfg/seed{seed}"
        put(folder, {"accuracy": 90.0, "worst_group_accuracy": worst, "gap": 90 - worst})
    text, lines = report(capsys, "group", tmp_path)
    assert "61.00 [52.04, 69.96]" in text and "90.00 [90.00, 90.00]" in text
    assert f"note: {results.ON_LEVELS}\n" in text
    assert results.main(["group", str(tmp_path), "--out", str(tmp_path / "table")]) == 0
    cell = json.loads((tmp_path / "table.json").read_text())["rows"][0]["cells"]["worst group"]
    assert cell["interval"] == pytest.approx([52.0433, 69.9567], abs=1e-4)
    assert pages._level(cell).text(True) == "61.00 [52.04, 69.96]"
    assert pages._level(cell).text() == "61.00 ± 3.61"


def test_group_columns(tmp_path, capsys):
    put(
        tmp_path / "group/birds/shots_all/CoOp/cfg/seed1",
        {"accuracy": 90.0, "worst_group_accuracy": 60.0, "gap": 30.0, "adjusted_accuracy": 93.0},
    )
    put(
        tmp_path / "group/faces/shots_all/CoOp/cfg/seed1",
        {"accuracy": 80.0, "worst_group_accuracy": 50.0, "gap": 30.0},
    )
    text, lines = report(capsys, "group", tmp_path)
    columns = ["shots", "mean", "adjusted", "worst group", "gap", "seeds"]
    assert lines[0][3:] == ["group labels seen in", "model tested", "words", *columns]
    told = ["none", "last epoch", "the data set's"]
    numbers = ["all", "90.00", "93.00", "60.00", "30.00"]
    assert lines[3][:11] == ["birds", "CoOp", "cfg", *told, *numbers]
    assert lines[4][8] == results.MISSING and lines[2][:10] == [
        "average of 2",
        "CoOp",
        "cfg",
        *told,
        "all",
        "85.00",
        results.MISSING,
        "55.00",
    ]
    none = results.MISSING
    lacking = f"adjusted is {none} on faces and in averages over them: tests there do not give it"
    assert f"note: {lacking}\n" in text and "no finished run" not in text
    text, _ = report(capsys, "group", tmp_path, "--averages")
    assert f"note: adjusted is {none} in averages over faces: tests there do not give it\n" in text


def test_gains_of_numbers_that_tests_do_not_give_are_not_called_missing_pairs(tmp_path, capsys):
    for name, more in (("birds", {"adjusted_accuracy": 93.0}), ("faces", {})):
        for trainer in ("CoOp", "CraftCoOp"):
            metrics = {"accuracy": 90.0, "worst_group_accuracy": 60.0, "gap": 30.0, **more}
            put(tmp_path / f"group/{name}/shots_all/{trainer}/cfg/seed1", metrics)
    text, _ = report(capsys, "group", tmp_path)
    assert "adjusted is" in text and "have no pair of runs" not in text
    put(tmp_path / "group/cats/shots_all/CraftCoOp/cfg/seed1", metrics)  # without its baseline
    text, _ = report(capsys, "group", tmp_path)
    assert "have no pair of runs" in text and "no finished run" not in text


def test_group_tables_tell_the_template_and_how_the_model_was_chosen():
    def told(data, trainer, template="", **test):
        nodes = {"COOP": {"CTX_INIT": "a photo of a"}, "ZSCLIP2": {"TEMPLATES": "seven"}}
        config = {
            "TRAINER": {"NAME": trainer, **nodes},
            "DATASET": {"NAME": data, "TEMPLATE": template},
            "TEST": test,
        }
        return [tell({"config": config}) for tell in (group.words, group.model_tested)]

    own, blurry = "'A photo of a celebrity with {}.'", "a blurry photo of a {}."
    assert told("CelebA", "OrthCal") == [own, "not trained"]
    assert told("CelebA", "ZeroshotCLIP", blurry) == [f"'{blurry}'", "not trained"]
    assert told("CelebA", "ZeroshotCLIP2")[0] == f"{own} and seven others of CLIP"
    assert told("MetaShift", "LinearProbe") == ["'a photo of a {}.'", "last epoch"]
    assert told("Own", "LinearProbe") == ["the data set's", "last epoch"]
    words, model = told("CelebA", "CraftCoOp", blurry, FINAL_MODEL="best_val", SELECT_BY="gap")
    assert words == f"from 'a photo of a', template '{blurry}'"
    assert model == "epoch chosen by gap on validation images"
    assert told("CelebA", "CoOp", FINAL_MODEL="best_val", SELECT_BY="") == [
        "from 'a photo of a'",
        "epoch chosen by accuracy on validation images",
    ]
    chosen = "penalty chosen by worst_group_accuracy on validation images"
    assert told("Waterbirds", "DFR") == ["'This is a picture of a {}.'", chosen]


def test_an_average_tells_what_each_of_its_data_sets_tells(tmp_path, capsys):
    for name, kind in (("waterbirds", "Waterbirds"), ("celeba", "CelebA")):
        folder = tmp_path / f"group/{name}/shots_all/ZeroshotCLIP/cfg/seed1"
        config = {"TRAINER": {"NAME": "ZeroshotCLIP"}, "DATASET": {"NAME": kind}}
        put(folder, {"accuracy": 90.0, "worst_group_accuracy": 60.0}, config)
    _, lines = report(capsys, "group", tmp_path)
    assert lines[2][0] == "average of 2" and lines[2][4:6] == [
        "not trained",
        "'A photo of a celebrity with {}.'; 'This is a picture of a {}.'",
    ]


def test_cross_dataset_domain_generalisation_and_few_shot_columns(tmp_path, capsys):
    for shots in (1, 16):
        put(tmp_path / f"imagenet/CoOp/vit_b16_{shots}shots/seed1", {"accuracy": 70.0 + shots})
    for target, value in (("dtd", 40.0), ("eurosat", 50.0), ("imagenet_a", 30.0)):
        put(tmp_path / f"evaluation/CoOp/vit_b16_16shots/{target}/seed1", {"accuracy": value})
    _, lines = report(capsys, "xd", tmp_path, "--shots", 16)
    assert lines[0][4:] == ["source", "dtd", "eurosat", "average", "seeds"] and lines[2][4:] == [
        "86.00",
        "40.00",
        "50.00",
        "45.00",
        "1",
    ]
    _, lines = report(capsys, "dg", tmp_path, "--shots", 16)
    assert lines[0][4:] == ["source", "imagenet_a", "average", "seeds"] and lines[2][4:] == [
        "86.00",
        "30.00",
        "30.00",
        "1",
    ]
    _, lines = report(capsys, "few_shot", tmp_path)
    assert lines[0][3:] == ["1 shots", "16 shots", "seeds"] and lines[2] == [
        "imagenet",
        "CoOp",
        "vit_b16",
        "71.00",
        "86.00",
        "1",
    ]


def test_ablation_rows_are_the_variants(tmp_path, capsys):
    for variant, more in (("baseline", 0), ("static", 1), ("both", 2)):
        trainer = "CoOp" if variant == "baseline" else "CraftCoOp"
        write(
            tmp_path / f"ablation/{variant}/base2new",
            "train_base",
            "emoji",
            trainer,
            1,
            80.0 + more,
        )
        write(tmp_path / f"ablation/{variant}/base2new", "test_new", "emoji", trainer, 1, 60.0)
    text, lines = report(capsys, "ablation", tmp_path)
    assert [line[1:3] for line in lines[2:5]] == [
        ["CoOp", "baseline"],
        ["CoOp", "static"],
        ["CoOp", "both"],
    ]
    assert lines[-1][:4] == ["emoji", "CoOp both", "8", "+2.00"]
    assert results.main(["base2new", str(tmp_path)]) == 2  # these are not its runs


def test_incomplete_unreadable_and_mixed_runs_are_named(runs, capsys):
    unfinished = write(runs, "test_new", "emoji", "CoOp", 3, 99.0, complete=False)
    broken = write(runs, "test_new", "emoji", "CoOp", 2, 99.0)
    broken.write_text("{")
    write(runs, "train_base", "emoji", "CoOp", 3, 84.0, config={"OPTIM": {"LR": 1}})
    text, rows = table(capsys, runs)
    assert rows["emoji", "CoOp"][5] == "60.00"
    assert (
        f"'{unfinished}' is of a run that is not complete" in text
        and f"'{broken}' is not readable as results" in text
    )
    assert "CoOp/drawings on emoji (base) mixes 2 configurations" in text


def whole(trainer, seed, **changes):
    """The configuration of a run of train.py; `changes` are {KEY with __ for a dot: value}."""
    cfg = get_cfg_default()
    trainers.extend_cfg(cfg)
    datasets.extend_cfg(cfg)
    merge_from_list(
        cfg,
        [
            "SEED",
            seed,
            "TRAINER.NAME",
            trainer,
            "DATASET.NAME",
            "Emoji",
            "OUTPUT_DIR",
            f"out/{seed}",
        ],
    )
    merge_from_list(
        cfg, [word for key, value in changes.items() for word in (key.replace("__", "."), value)]
    )
    return cfg_to_dict(cfg)


@pytest.mark.parametrize(
    "changes",
    [
        {"LOG__WANDB": True, "LOG__WANDB_PROJECT": "mine"},
        {"TRAINER__VPT__N_CTX_VISION": 99, "TRAINER__CRAFT__LAMBDA_MMD": 3.0},
        {"USE_CUDA": False, "VERBOSE": False, "RESUME": "elsewhere", "EVAL_ONLY": True},
        {"TRAIN__PRINT_FREQ": 1, "TRAIN__CHECKPOINT_FREQ": 7, "DATASET__ROOT": "~/data"},
    ],
)
def test_seeds_that_differ_in_what_no_result_depends_on_are_one_configuration(
    tmp_path, capsys, changes
):
    from tools import report as page

    write(tmp_path, "train_base", "emoji", "CoOp", 1, 80.0, config=whole("CoOp", 1))
    write(tmp_path, "train_base", "emoji", "CoOp", 2, 82.0, config=whole("CoOp", 2, **changes))
    text, lines = report(capsys, "base2new", tmp_path)
    assert "mixes" not in text and lines[2][4] == "81.00 ± 1.41"
    assert page.main([str(tmp_path), "--out", str(tmp_path / "page.html")]) == 0
    text = (tmp_path / "page.html").read_text()
    assert (
        "seeds 1, 2</summary>" in text
        and "LAMBDA_MMD" not in text
        and "WANDB" not in text
        and "VPT" not in text
    )


@pytest.mark.parametrize(
    "changes",
    [
        {"TRAINER__COOP__N_CTX": 3},
        {"OPTIM__LR": 0.5},
        {"DATALOADER__NUM_WORKERS": 1},
        {"TRAINER__CACHED_VIEWS": 2},
    ],
)
def test_seeds_that_differ_in_what_counts_are_two_configurations(tmp_path, capsys, changes):
    first = write(tmp_path, "train_base", "emoji", "CoOp", 1, 80.0, config=whole("CoOp", 1))
    second = write(
        tmp_path,
        "train_base",
        "emoji",
        "CoOp",
        2,
        82.0,
        config=whole("CoOp", 2, **changes, LOG__WANDB=True),
    )
    (key,) = changes
    assert (
        f"note: CoOp/drawings on emoji (base) mixes 2 configurations, e.g. '{first}' and "
        f"'{second}' ({key.replace('__', '.')}): "
        "do not trust its mean\n"
    ) in report(capsys, "base2new", tmp_path)[0]


def test_weights_are_one_configuration_by_their_content(tmp_path, capsys):
    for name, content in (("a.pt", b"x"), ("b.pt", b"x"), ("c.pt", b"y")):
        (tmp_path / name).write_bytes(content)

    def said(other):
        for seed, name in ((1, "a.pt"), (2, other)):
            write(
                tmp_path,
                "train_base",
                "emoji",
                "CoOp",
                seed,
                80.0,
                config=whole("CoOp", seed, MODEL__BACKBONE__NAME=str(tmp_path / name)),
            )
        return "mixes" in report(capsys, "base2new", tmp_path)[0]

    assert said("c.pt") and not said("b.pt")


def test_a_gain_between_other_options_of_the_structure_is_named(tmp_path, capsys):
    def said(**changes):
        write(tmp_path, "train_base", "emoji", "CoOp", 1, 80.0, config=whole("CoOp", 1))
        write(
            tmp_path,
            "train_base",
            "emoji",
            "CraftCoOp",
            1,
            81.0,
            config=whole("CraftCoOp", 1, **changes),
        )
        return report(capsys, "base2new", tmp_path)[0]

    assert "not CRAFT's alone: TRAINER.COOP.N_CTX is 3, that of the baseline 16\n" in said(
        TRAINER__COOP__N_CTX=3
    )
    assert "not CRAFT's alone" not in said(
        TRAINER__CRAFT__LAMBDA_STATIC=9.0, TRAINER__VPT__N_CTX_VISION=3, LOG__WANDB=True
    )


def on_data(tmp_path, data, trainer="CoOp", seed=1, **changes):
    """A run that read the data set's files with these contents; None: of an older version."""
    path = write(
        tmp_path,
        "train_base",
        "emoji",
        trainer,
        seed,
        80.0,
        config=whole(trainer, seed, **changes),
    )
    if data is not None:
        path.write_text(json.dumps(json.loads(path.read_text()) | {"data": data}))
    return path


def test_seeds_on_other_lists_of_images_are_told(tmp_path, capsys):
    split, picks = "split file 'x.json'", "index file of DATASET.INDICES"
    first = on_data(tmp_path, {split: "1", picks: "7"}, seed=1)
    for seed, data in ((2, {split: "1", picks: "8"}), (3, None)):
        on_data(tmp_path, data, seed=seed)
        assert "mixes" not in report(capsys, "base2new", tmp_path)[0]
    last = on_data(tmp_path, {split: "2", picks: "9"}, seed=4, LOG__WANDB=True)
    text = report(capsys, "base2new", tmp_path)[0]
    assert (
        f"mixes 2 configurations, e.g. '{first}' and '{last}' ({split}): do not trust its mean\n"
        in text
    )


def test_a_gain_on_another_split_is_named(tmp_path, capsys):
    split = "split file 'x.json'"
    on_data(tmp_path, {split: "1"})
    for other, told in (("1", False), (None, False), ("2", True)):
        on_data(
            tmp_path,
            {split: other, f"{split} of DATASET.TARGET": "3"} if other else None,
            "CraftCoOp",
        )
        assert (
            f"not CRAFT's alone: the {split} is not the baseline's\n"
            in report(capsys, "base2new", tmp_path)[0]
        ) is told


def test_tables_of_equal_seeds_need_no_torch(tmp_path):
    for trainer in ("CoOp", "CraftCoOp"):
        for seed in (1, 2):
            write(tmp_path, "train_base", "emoji", trainer, seed, 80.0, config=whole(trainer, seed))
    code = (
        "import sys; from tools import results; results.main(['base2new', "
        f"{str(tmp_path)!r}]); sys.exit('torch' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        cwd=Path(results.__file__).parent.parent,
    )
    assert done.returncode == 0 and "80.00 ± 0.00" in done.stdout


def test_nothing_found(tmp_path, capsys):
    assert results.main(["base2new", str(tmp_path)]) == 2
    assert "no results.json of base2new runs below" in capsys.readouterr().err
    assert results.main(["base2new", str(tmp_path / "none")]) == 2
    assert (
        capsys.readouterr().err
        == f"error: '{tmp_path / 'none'}' is not a folder: give the output folder of the runs\n"
    )


def test_a_thousand_runs_take_seconds(tmp_path, capsys):
    for i in range(25):
        for seed in range(20):
            for part in ("train_base", "test_new"):
                write(tmp_path, part, f"set{i}", "CoOp", seed, 50.0 + seed)
    start = time.process_time()
    table(capsys, tmp_path)
    assert time.process_time() - start < 5


def test_logs_are_read_as_the_coop_world_does(tmp_path, capsys):
    for seed, value in ((1, 80.0), (2, 84.0)):
        folder = tmp_path / "run" / f"seed{seed}"
        folder.mkdir(parents=True)
        (folder / "log.txt").write_text(
            "=> result\n* accuracy: 10.0%\nFinish training\n=> result\n* total: 8\n* accuracy: "
            f"{value}%\n"
        )
    assert parse_test_res.main([str(tmp_path / "run")]) == 0
    assert "* accuracy: 82.00% +- 2.00%" in capsys.readouterr().out  # numpy.std of 80 and 84
    assert parse_test_res.main([str(tmp_path), "--multi-exp", "--ci95"]) == 0
    assert "+- 2.77%" in capsys.readouterr().out  # 1.96 * 2 / sqrt(2)
    for name in ("seed3", "seed4", ".hidden"):
        (tmp_path / "run" / name).mkdir()
    (tmp_path / "run/seed4/log.txt").write_text(
        "=> result\n* accuracy: 70.0%\n"
    )  # stopped while training
    assert parse_test_res.main([str(tmp_path / "run")]) == 0
    out, err = capsys.readouterr()
    assert "over 2 run(s)" in out and err.splitlines() == [
        f"note: '{tmp_path / 'run/seed3/log.txt'}' does not count: it does not exist",
        f"note: '{tmp_path / 'run/seed4/log.txt'}' does not count: it holds no '* accuracy' after "
        "training; for test runs give --test-log",
    ]
    shutil.rmtree(tmp_path / "run/seed3")
    shutil.rmtree(tmp_path / "run/seed4")
    (tmp_path / "run/seed1/log.txt").write_text("=> result\n* accuracy: 70.0%\n")
    (tmp_path / "run/seed2/log.txt").write_text("=> result\n* accuracy: 72.0%\n")
    assert parse_test_res.main([str(tmp_path / "run")]) == 2
    assert "for test runs give --test-log" in capsys.readouterr().err
    assert parse_test_res.main([str(tmp_path / "run"), "--test-log"]) == 0


def test_published_numbers_stand_beside_ours_with_their_status(tmp_path, capsys):
    for part, value in (("train_base", 90.0), ("test_new", 70.0)):
        write(tmp_path, part, "oxford_flowers", "CoOp", 1, value)
    text, lines = report(capsys, "base2new", tmp_path)
    published = {line[1]: line for line in lines if "(published)" in line[1]}
    assert published["CLIP (published)"][4:6] == ["72.08", "77.80"] and published[
        "CoOp (published)"
    ][6] not in ("", results.MISSING)
    assert [published[f"{name} (published)"][3] for name in ("CLIP", "CoOp")] == ["0", "16"]
    number = published["CLIP (published)"][2]
    assert f"note: {number} CoCoOp paper" in text and "not verified against its source" in text
    text, lines = report(capsys, "base2new", tmp_path, "--ours")
    assert "(published)" not in text
    put(tmp_path / "imagenet/CoOp/vit_b16_16shots/seed1", {"accuracy": 71.5})
    put(tmp_path / "evaluation/CoOp/vit_b16_16shots/imagenet_sketch/seed1", {"accuracy": 47.0})
    _, lines = report(capsys, "dg", tmp_path)
    assert [line[4:7] for line in lines if line[1] == "CLIP (published)"] == [
        ["66.73", "46.15", results.MISSING]
    ]  # its average is of four


def test_published_averages_stand_beside_an_average_of_the_same_data_sets(tmp_path, capsys):
    for name in PUBLISHED_SETS:
        for part, value in (("train_base", 90.0), ("test_new", 70.0)):
            write(tmp_path, part, name, "CoOp", 1, value)
    text, lines = report(capsys, "base2new", tmp_path, "--out", tmp_path / "t")
    average = {line[1]: line for line in lines if line[0] == "average of 11"}
    assert average["CoOp"][4:6] == ["90.00", "70.00"] and average["PromptSRC (published)"][4:7] == [
        "84.26",
        "76.10",
        "79.97",
    ]
    assert average["VPT (deep vision prompting, 4 ctx, 5 ep) (published)"][4:6] == [
        "80.24",
        "73.43",
    ]
    for kind in ("md", "tex", "json", "csv"):  # the status is in all of them
        assert "PromptSRC README: as read in its source" in (tmp_path / f"t.{kind}").read_text()
    row = next(
        row
        for row in json.loads((tmp_path / "t.json").read_text())["rows"]
        if row["trainer"] == "PromptSRC (published)" and "of 11" in row["dataset"]
    )
    assert row["published"] and row["cells"]["base"] == {"mean": 84.26}
    shutil.rmtree(tmp_path / "test_new/dtd")
    shutil.rmtree(tmp_path / "train_base/dtd")
    _, lines = report(capsys, "base2new", tmp_path)
    assert not [
        line for line in lines if line[0].startswith("average") and "(published)" in line[1]
    ]
    put(tmp_path / "imagenet/CoOp/vit_b16_16shots/seed1", {"accuracy": 71.5})
    for name in PUBLISHED_SETS[1:]:
        put(tmp_path / f"evaluation/CoOp/vit_b16_16shots/{name}/seed1", {"accuracy": 60.0})
    _, lines = report(capsys, "xd", tmp_path)
    published = {
        line[1]: line[lines[0].index("average")] for line in lines if "(published)" in line[1]
    }
    assert published == {
        "CoOp (published)": "63.88",
        "CoCoOp (published)": "65.74",
        "MaPLe (published)": "66.30",
        "PromptSRC (published)": "65.81",
    }


def ran_on(folder, part, dataset, total, trainer="CoOp", seed=1):
    """A run on a part of a data set that tested so many images."""
    path = write(folder, part, dataset, trainer, seed, 80.0)
    found = json.loads(path.read_text())
    found["metrics"]["test"]["total"] = total
    path.write_text(json.dumps(found))


def test_published_numbers_do_not_stand_beside_another_test_set(tmp_path, capsys):
    """A miniature, a part of the pictures, a split of one's own."""

    def published(protocol="base2new"):
        text, lines = report(capsys, protocol, tmp_path)
        return text, [(line[0], line[1], *line[4:]) for line in lines if "(published)" in line[1]]

    for dataset, base, new in (("dtd", 48, 46), ("eurosat", 4200, 3900)):
        ran_on(tmp_path, "train_base", dataset, base)
        ran_on(tmp_path, "test_new", dataset, new)
    text, lines = published()
    assert {line[0] for line in lines} == {"eurosat"}
    said = (
        "published numbers do not stand beside dtd: our runs tested {} images, and the "
        "published test set has 1,692"
    )
    assert f"note: {said.format(94)}\n" in text and text.count("do not stand beside") == 1
    for base, new, beside in (
        (864, 828, True),
        (864, 827, False),
        (864, 829, False),
        (863, None, False),
        (864, None, True),
        (48, None, False),
        (2000, None, False),
    ):
        shutil.rmtree(tmp_path / "test_new/dtd", ignore_errors=True)
        ran_on(tmp_path, "train_base", "dtd", base)
        if new:
            ran_on(tmp_path, "test_new", "dtd", new)
        text, lines = published()
        assert ({line[0] for line in lines} == {"dtd", "eurosat"}) is beside, (base, new)
        assert (said.format(f"{base + (new or 0):,}") in text) is not beside
    # Columns are data sets.
    for place, total in (
        ("imagenet/CoOp/vit_b16_16shots", 50000),
        ("evaluation/CoOp/vit_b16_16shots/dtd", 94),
        ("evaluation/CoOp/vit_b16_16shots/eurosat", 8100),
    ):
        put(tmp_path / place / "seed1", {"accuracy": 70.0, "total": total})
    text, lines = published("xd")
    assert (
        lines[0][2] != results.MISSING
        and lines[0][3] == results.MISSING
        and lines[0][4] != results.MISSING
    )
    assert said.format(94) in text


def test_published_averages_do_not_stand_beside_an_average_with_a_miniature(tmp_path, capsys):
    for name in PUBLISHED_SETS:
        for part in ("train_base", "test_new"):
            ran_on(tmp_path, part, name, 40) if name == "sun397" else write(
                tmp_path, part, name, "CoOp", 1, 90.0
            )
    text, lines = report(capsys, "base2new", tmp_path)
    assert {line[0] for line in lines if "(published)" in line[1]} == set(PUBLISHED_SETS) - {
        "sun397"
    }
    assert (
        "published numbers do not stand beside sun397: our runs tested 80 images, and the "
        "published test set has 19,850\n" in text
    )


def test_published_adaptation_stands_beside_whole_targets(tmp_path, capsys):
    images = {"amazon": 2817, "dslr": 498, "webcam": 795}
    pairs = sorted(f"{a}_to_{b}" for a, b in itertools.permutations(images, 2))
    for name in pairs:
        assert not pairs.index(name) or not any(
            "(published" in line[1] for line in report(capsys, "domains", tmp_path)[1]
        )  # not beside an average over some of them
        total = images[name.partition("_to_")[2]]
        folder = tmp_path / f"domains/office31/{name}/shots_all/CoOp/vit_b16_ep50_ctxv1/seed1"
        put(folder, {"accuracy": 80.0, "total": total})
    text, lines = report(capsys, "domains", tmp_path)
    assert lines[0][4:11] == [*pairs, "average"]
    averages = {line[1]: line[10] for line in lines[1:] if len(line) > 10}
    assert averages["CoOp"] == "80.00" and averages["MaPLe (published)"] == "89.60"
    assert averages["PDA (published, transductive)"] == "91.20"
    assert "PDA (published) was trained on unlabelled images of the target, those that" in text
    shots = {line[1]: line[3] for line in lines[2:] if len(line) > 10}
    assert shots.pop("CLIP (published)") == "0" and set(shots.values()) == {"all"}
    assert results.main(["domains", str(tmp_path), "--pivot", "--out", str(tmp_path / "t")]) == 0
    assert "| CLIP (published)" in capsys.readouterr().out
    for kind in (".csv", ".json"):
        assert "CLIP (published)" in (text := (tmp_path / f"t{kind}").read_text())
        assert '"16"' not in text and ",16," not in text
    shutil.rmtree(folder)
    put(folder, {"accuracy": 80.0, "total": 93})
    text, lines = report(capsys, "domains", tmp_path)
    assert not any("(published" in line[1] for line in lines)
    assert "do not stand beside webcam_to_dslr: our runs tested 93 images, and the" in text


def test_runs_on_different_numbers_of_images_are_named(tmp_path, capsys):
    ran_on(tmp_path, "train_base", "own", 50)
    ran_on(tmp_path, "train_base", "own", 60, trainer="CraftCoOp")
    ran_on(tmp_path, "test_new", "own", 50)
    text, _ = report(capsys, "base2new", tmp_path)
    assert (
        "note: own (base) was tested on different numbers of images (50 by CoOp/drawings, 60 by "
        "CraftCoOp/drawings): do not compare them\n"
    ) in text
    assert "own (new)" not in text


def test_averages_over_different_data_sets_are_told_apart_and_not_paired(runs, capsys):
    shutil.rmtree(runs / "train_base/other/shots_8/CraftCoOp")  # a sweep half way
    shutil.rmtree(runs / "test_new/other/shots_8/CraftCoOp")
    for part in ("train_base", "test_new"):
        for trainer in ("CoOp", "CraftCoOp"):
            for seed in (1, 2, 3):
                write(runs, part, "third", trainer, seed, 20.0)
    text, lines = report(capsys, "base2new", runs)
    averaged = {(line[0], line[1]): line for line in lines if line[0].startswith("average")}
    assert set(averaged) == {
        ("average of 3", "CoOp"),
        ("average of 2 of 3", "CraftCoOp"),
        ("average of 2 of 3", "ZeroshotCLIP"),
    }
    gain = next(
        line
        for line in lines[lines.index(averaged["average of 2 of 3", "CraftCoOp"]) :]
        if line[0] == "average of 2 of 3" and line[2] == "8"
    )
    assert gain[3:6] == [results.MISSING] * 3
    assert "note: the average of CraftCoOp/drawings is without other\n" in text
    # As many, but others: no pair either.
    shutil.rmtree(runs / "train_base/third/shots_8/CoOp")
    shutil.rmtree(runs / "test_new/third/shots_8/CoOp")
    text, lines = report(capsys, "base2new", runs)
    assert {line[0] for line in lines if line[1] == "CoOp" and line[0].startswith("average")} == {
        "average of 2 of 3"
    }
    assert [
        line[3:6]
        for line in lines
        if line[0] == "average of 2 of 3" and line[2] == "8" and line[1] == "CraftCoOp"
    ] == [[results.MISSING] * 3]


def test_an_average_over_targets_is_of_all_that_the_table_has(tmp_path, capsys):
    for trainer, targets in (
        ("CoOp", {"dtd": 40.0, "eurosat": 50.0}),
        ("CraftCoOp", {"eurosat": 60.0}),
    ):
        put(tmp_path / f"imagenet/{trainer}/vit_b16_16shots/seed1", {"accuracy": 70.0})
        for target, value in targets.items():
            put(
                tmp_path / f"evaluation/{trainer}/vit_b16_16shots/{target}/seed1",
                {"accuracy": value},
            )
    _, lines = report(capsys, "xd", tmp_path, "--ours")
    assert lines[2][4:8] == ["70.00", "40.00", "50.00", "45.00"] and lines[3][4:8] == [
        "70.00",
        results.MISSING,
        "60.00",
        results.MISSING,
    ]
    assert lines[-1][3:7] == ["+0.00", results.MISSING, "+10.00", results.MISSING]


def test_seeds_that_differ_between_columns_are_told(runs, capsys):
    shutil.rmtree(runs / "test_new/emoji/shots_8/CraftCoOp/drawings/seed2")
    text, lines = report(capsys, "base2new", runs)
    assert (
        next(line[-1] for line in lines if line[:2] == ["emoji", "CraftCoOp"])
        == "base 1, 2, 3; new, H 1, 3"
    )
    assert "note: CraftCoOp/drawings on emoji has no seed 2 of new, which other rows have\n" in text
    assert [line[-1] for line in lines if line[0] == "emoji" and line[1] == "CraftCoOp"][
        -1
    ] == "base 3; new, H 2"
    assert [line[-1] for line in lines if line[0] == "average of 2" and line[1] == "CraftCoOp"] == [
        "base 1, 2, 3; new, H 1, 3",
        "base 3; new, H 2",
    ]
    # H of the average is of the seeds that it has: base (81 + 87 + 87 + 93) / 4, new (60 + 62 + 66
    # + 68) / 4
    h = next(line[6] for line in lines if line[0] == "average of 2" and line[1] == "CraftCoOp")
    assert float(h.split(" ± ")[0]) == pytest.approx(2 * 87 * 64 / (87 + 64), abs=0.005)


def test_tests_of_other_epochs_than_the_trained_model_s_are_named(tmp_path, capsys):
    for part, more in (
        ("train_base", {"epochs": 50, "loaded": None, "deployed": "last_step"}),
        ("test_new", {"loaded": {"model_dir": "../x", "epoch": 2}}),
    ):
        path = write(tmp_path, part, "emoji", "CoOp", 1, 80.0)
        path.write_text(json.dumps(json.loads(path.read_text()) | more))
    assert (
        "CoOp/drawings on emoji, seed 1, mixes tests of the model's epochs 2 and 50: do not "
        "compare" in report(capsys, "base2new", tmp_path)[0]
    )


def drawn(monkeypatch, rows, columns, path):
    """The kind of picture, which is on disk afterwards."""
    kinds = []
    for name in ("_points", "_curves"):
        function = getattr(plots, name)
        monkeypatch.setattr(
            plots,
            name,
            lambda *a, name=name, function=function: (kinds.append(name), function(*a))[1],
        )
    plots.plot(rows, columns, path)
    assert Image.open(path).size[0] > 300
    return kinds[0]


def test_a_picture_is_of_the_kind_that_suits_the_table(tmp_path, monkeypatch):
    def rows(count, columns, shots="8"):
        return [
            protocols.Row(
                "a_set",
                f"{craft}{name}",
                "cfg",
                shots,
                {column: {1: 50.0 + i, 2: 51.0} for column in columns},
            )
            for i in range(count // 2)
            for name in [f"Method{i}"]
            for craft in ("", "Craft")
        ]

    for count in (4, 30, 70):
        picture = tmp_path / f"points{count}.png"
        table = rows(count, ["base", "new"]), ["base", "new", "H"]
        assert drawn(monkeypatch, *table, picture) == "_points"
    assert (
        drawn(
            monkeypatch,
            rows(4, ["1 shots", "4 shots"], ""),
            ["1 shots", "4 shots"],
            tmp_path / "curves.png",
        )
        == "_curves"
    )
    mixed = rows(2, ["base"]) + rows(2, ["base"], "16")
    assert set(plots.looks(mixed)) == {
        f"{name} ({shots} shots)" for name in ("Method0", "CraftMethod0") for shots in (8, 16)
    }


MALFORMED = {
    "list": "[]",
    "nothing": "",
    "no config": {"config": None},
    "config": {"config": [1]},
    "group": {"config": {"TRAIN": 3}},
    "large": {"metrics": {"test": {"accuracy": 10**400}}},
    "deep": "[" * 100_000,
    "accuracy": {"metrics": {"test": {"accuracy": float("nan")}}},
    "text": {"metrics": {"test": {"accuracy": "80"}}},
    "no test": {"metrics": {}},
    "metrics": {"metrics": None},
    "time": {"started": 5},
    "seconds": {"wall_time_s": "1"},
    "complete": {"complete": 1},
    "loaded": {"loaded": "x"},
    "test": {"metrics": {"test": [80]}},
    "epoch": {"loaded": {"model_dir": "x", "epoch": [1]}},
    "folder": {"loaded": {"model_dir": 5}},
    "trainer": {"config": {"TRAINER": {"NAME": 5}}},
    "seed": {"seed": [1]},
}


@pytest.mark.parametrize("case", MALFORMED)
def test_malformed_results_are_named_and_all_else_is_shown(runs, capsys, tmp_path, case):
    from tools import report as page

    path = write(runs, "test_new", "emoji", "CoOp", 2, 99.0)
    change = MALFORMED[case]
    path.write_text(
        change if isinstance(change, str) else json.dumps(json.loads(path.read_text()) | change)
    )
    text, rows = table(capsys, runs)
    assert (
        rows["emoji", "CoOp"][5].startswith("61.00")
        and f"note: '{path}' " in text
        and "run it again" in text
    )
    assert page.main([str(runs), "--out", str(tmp_path / "page.html")]) == 0
    assert str(path) in (tmp_path / "page.html").read_text()


def test_where_the_folder_lies_does_not_matter_and_nothing_is_counted_twice(tmp_path, capsys):
    top = tmp_path / "ablation" / "output"  # the user's own names
    for seed, value in ((1, 80.0), (2, 90.0)):
        write(top / "base2new", "train_base", "emoji", "CoOp", seed, value)
        write(top / "ablation/baseline/base2new", "train_base", "emoji", "CoOp", seed, value + 1)
    (tmp_path / "link").symlink_to(top)
    (top / "base2new/circle").symlink_to(top)
    for folder in (top, top / "base2new", top / "base2new/train_base/emoji", tmp_path / "link"):
        assert report(capsys, "base2new", folder)[1][2][:5] == [
            "emoji",
            "CoOp",
            "drawings",
            "8",
            "85.00 ± 7.07",
        ]
    for folder in (top, top / "ablation"):
        assert report(capsys, "ablation", folder)[1][2][:5] == [
            "emoji",
            "CoOp",
            "baseline",
            "8",
            "86.00 ± 7.07",
        ]
    other = write(tmp_path / "more/base2new", "train_base", "emoji", "CoOp", 2, 10.0)
    text, lines = report(capsys, "base2new", top, tmp_path / "more")
    assert lines[2][4] == "85.00 ± 7.07"
    assert (
        f"note: '{other}' is left out: seed 2 of CoOp/drawings on emoji (base) is in another "
        "folder, too; give one of them\n" in text
    )


def test_places_that_cannot_be_written_to(runs, capsys, tmp_path):
    from tools import report as page

    (tmp_path / "file").write_text("")
    (tmp_path / "folder").mkdir()

    def said(tool, *more) -> str:
        assert (
            tool.main([*(["base2new"] if tool is results else []), str(runs), *map(str, more)]) == 2
        )
        (line,) = capsys.readouterr().err.splitlines()
        return line

    (tmp_path / "t.md").mkdir()
    assert "a folder: give the name of a file" in said(results, "--out", tmp_path / "t")
    for tool, name in ((results, "t"), (page, "t.html")):
        assert said(tool, "--out", tmp_path / "file" / name).startswith(
            f"error: '{tmp_path / 'file/t'}"
        ) and "choose another --out" in said(tool, "--out", tmp_path / "file" / name)
        assert said(tool, "--out", ".") == "error: --out is '.', a folder: give the name of a file"
    assert "a folder: give the name of a file" in said(page, "--out", tmp_path / "folder")
    assert (
        said(results, "--plot", "x.foo")
        == "error: --plot is 'x.foo': give a name that ends in .png, .pdf, .svg, .jpg"
    )
    assert "choose another --plot" in said(results, "--plot", tmp_path / "file/p.png")
    (run, *_) = sorted(runs.rglob(record.NAME))
    kept = run.read_bytes()
    assert f"--out is '{run}', which belongs to a run: give another name" in said(
        results, "--out", run.with_suffix("")
    )
    assert run.read_bytes() == kept and not run.with_suffix(".md").exists()
    (picture := tmp_path / "p.png").write_text("")
    assert f"--plot and --plot-gains are both '{picture}': give two names" in said(
        results, "--plot", picture, "--plot-gains", picture
    )
    assert said(page, "--figures", tmp_path / "none.png", "--out", tmp_path / "p.html").endswith(
        "which is no PNG file: give those of tools.figures"
    )


def test_nobody_reads_on(runs):
    command = (
        f"{sys.executable} -c 'import sys; from tools import results; "
        f"sys.exit(results.main(sys.argv[1:]))' base2new {runs}"
    )
    done = subprocess.run(
        ["bash", "-c", f"set -o pipefail; {command} | true"],
        capture_output=True,
        text=True,
        cwd=Path(results.__file__).parent.parent,
    )
    assert done.stderr == "" and done.returncode in (0, 141)


def test_the_gain_of_h_on_an_average_is_the_difference_of_the_table_s(tmp_path, capsys):
    values = {
        "CoOp": {1: (90.0, 10.0), 2: (50.0, 50.0)},
        "CraftCoOp": {1: (60.0, 60.0), 2: (90.0, 20.0)},
    }
    for dataset in ("a", "b"):
        for trainer, seeds in values.items():
            for seed, pair in seeds.items():
                for part, value in zip(("train_base", "test_new"), pair, strict=True):
                    write(tmp_path, part, dataset, trainer, seed, value)
    _, lines = report(capsys, "base2new", tmp_path)
    theirs, ours, gain = (line for line in lines if line[0] == "average of 2")
    assert (
        theirs[6].startswith("42.00")
        and ours[6].startswith("52.17")
        and gain[5].startswith("+10.17")
    )


def test_a_gain_between_other_settings_is_named(tmp_path, capsys):
    for trainer, epochs in (("CoOp", 50), ("CraftCoOp", 1)):
        write(
            tmp_path,
            "train_base",
            "emoji",
            trainer,
            1,
            80.0,
            config={"OPTIM": {"MAX_EPOCH": epochs}, "TRAINER": {"NAME": trainer}},
        )
    text, _ = report(capsys, "base2new", tmp_path)
    assert (
        "note: the gain of CraftCoOp/drawings on emoji is not CRAFT's alone: OPTIM.MAX_EPOCH is "
        "1, that of the baseline 50\n" in text
    )


def test_an_average_too_says_that_a_gain_is_not_craft_s_alone(tmp_path, capsys):
    for dataset in ("emoji", "things"):
        for trainer, rate in (("CoOp", 0.1), ("CraftCoOp", 0.2)):
            config = {"OPTIM": {"LR": rate}, "TRAINER": {"NAME": trainer}}
            write(tmp_path, "train_base", dataset, trainer, 1, 80.0, config=config)
    for words in ((), ("--averages",)):
        assert (
            "the gain of CraftCoOp/drawings on emoji, things is not CRAFT's alone: OPTIM.LR is "
            "0.2, that of the baseline 0.1\n" in report(capsys, "base2new", tmp_path, *words)[0]
        )


def changed(path: Path, **more) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **more}))


def test_a_gain_between_other_shots_clips_or_data_is_named(tmp_path, capsys):
    one, other = (
        write(tmp_path, "train_base", "emoji", trainer, 1, 80.0, config=whole(trainer, 1, **more))
        for trainer, more in (
            ("CoOp", {}),
            ("CraftCoOp", {"DATASET__TEMPLATE": "an odd {}.", "TEST__FINAL_MODEL": "best_val"}),
        )
    )
    said = report(capsys, "base2new", tmp_path)[0]
    assert "DATASET.TEMPLATE is an odd {}., that of the baseline" in said
    assert "TEST.FINAL_MODEL is best_val" in said and "its few shots" not in said
    for path, name in ((one, "a"), (other, "b")):
        changed(path, picks=name, pretrained={"sha256": name}, data={f"list {name}": "1"})
    said = report(capsys, "base2new", tmp_path)[0]
    assert "its few shots of seed 1 are not the baseline's" in said
    assert "the weights of its CLIP are not the baseline's" in said
    assert "the list a is not the baseline's" in said and "the list b is not" in said
    changed(other, picks="a", pretrained={"sha256": "a"}, data={"list a": "1"})
    said = report(capsys, "base2new", tmp_path)[0]
    assert not any(words in said for words in ("few shots of", "its CLIP", "the list a"))


def test_seeds_of_other_clips_are_told(tmp_path, capsys):
    paths = [
        write(tmp_path, "train_base", "emoji", "CoOp", seed, 80.0, config=whole("CoOp", seed))
        for seed in (1, 2, 3)
    ]
    for path in paths[:2]:
        changed(path, pretrained={"sha256": "a"})
    assert "mixes" not in report(capsys, "base2new", tmp_path)[0]
    changed(paths[2], pretrained={"sha256": "b"})
    assert "(weights of the CLIP): do not trust" in report(capsys, "base2new", tmp_path)[0]


def test_base_and_new_of_other_data_are_told(tmp_path, capsys):
    split = "split file 'x.json'"
    base = write(tmp_path, "train_base", "emoji", "CoOp", 1, 80.0)
    new = write(tmp_path, "test_new", "emoji", "CoOp", 1, 60.0)
    for path in (base, new):
        changed(path, data={split: "1"})
    assert "mixes versions" not in report(capsys, "base2new", tmp_path)[0]
    changed(new, data={split: "2"})
    said = report(capsys, "base2new", tmp_path)[0]
    assert "CoOp/drawings on emoji, seed 1, mixes versions of the data of emoji" in said
    assert str(base) in said and str(new) in said


def test_a_model_that_was_trained_again_between_its_tests_is_told(tmp_path, capsys):
    base = write(tmp_path, "train_base", "emoji", "CoOp", 1, 80.0)
    new = write(tmp_path, "test_new", "emoji", "CoOp", 1, 60.0)
    (base.parent / "prompt_learner").mkdir()
    (base.parent / "prompt_learner" / "model.pth.tar-2").write_bytes(b"weights")
    of_training = {"loaded": None, "epochs": 2, "deployed": "last_step"}
    changed(base, **of_training, finished="2026-01-01T10:00:00+00:00")
    model = {
        "loaded": {"model_dir": "../x", "epoch": 2},
        "model_sha256": files.model_checksum(str(base.parent), 2),
    }
    changed(new, **model, finished="2026-01-01T11:00:00+00:00")
    assert "trained again" not in report(capsys, "base2new", tmp_path)[0]
    # Another test of the folder wrote its record again: the model is still the tested one.
    changed(base, finished="2026-01-01T12:00:00+00:00")
    assert "trained again" not in report(capsys, "base2new", tmp_path)[0]
    (base.parent / "prompt_learner" / "model.pth.tar-2").write_bytes(b"others")
    said = report(capsys, "base2new", tmp_path)[0]
    assert (
        "CoOp/drawings on emoji, seed 1, was trained again after "
        f"'{new}' had tested it: test it again" in said
    )


def test_tests_of_two_trainings_in_one_row_are_told(tmp_path, capsys):
    paths = []
    for name in ("dtd", "eurosat"):
        folder = tmp_path / f"evaluation/CoOp/vit_b16_16shots/{name}/seed1"
        put(folder, {"accuracy": 60.0})
        paths.append(folder / "results.json")
        changed(paths[-1], loaded={"model_dir": "../x", "epoch": 2}, model_sha256="a")
    assert "two models" not in report(capsys, "xd", tmp_path)[0]
    changed(paths[1], model_sha256="b")
    said = report(capsys, "xd", tmp_path)[0]
    assert "seed 1, mixes tests of two models: it was trained again between" in said
    assert all(str(path) in said for path in paths)


def test_a_row_of_two_selections_names_both(tmp_path, capsys):
    for seed, rule in ((1, "likelihood"), (2, "target")):
        group = {"RULE": rule, "ON": "some", "BUDGET": 6 * seed, "DIGEST": "d", "CLASSES": "base"}
        config = {"SELECTION": group, "TRAINER": {"NAME": "CoOp"}}
        write(tmp_path, "train_base", "emoji", "CoOp", seed, 80.0, config=config)
    said = report(capsys, "base2new", tmp_path)[0]
    assert "selected by several rules: target on some, from 12 candidates" in said
    assert "or by likelihood on some, from 6 candidates" in said and "uses target labels" in said


def test_a_selection_on_another_version_of_the_data_is_told(tmp_path, capsys):
    group = {"RULE": "likelihood", "ON": "x", "BUDGET": 6, "DIGEST": "d", "CLASSES": "base"}
    for digits, told in (("1" * 12, False), ("2" * 12, True)):
        selection = group | {"DATA": [f"{digits} split file 'x.json'", "3 of others"]}
        config = {"SELECTION": selection, "TRAINER": {"NAME": "CoOp"}}
        path = write(tmp_path, "train_base", "emoji", "CoOp", 1, 80.0, config=config)
        changed(path, data={"split file 'x.json'": "1" * 64})
        said = report(capsys, "base2new", tmp_path)[0]
        assert ("looked at another version of this table's data" in said) is told
        assert ("nothing looked at test or new classes" in said) is not told


def test_every_number_of_shots_is_a_comparison(tmp_path, capsys):
    """Holm's correction is for all columns of a few-shot table, which has a gain in each."""
    numbers = random.Random(3)
    for shots in (1, 4, 16):
        for seed in range(1, 7):
            base = 50 + numbers.random()
            for trainer, more in (("CoOp", 0.0), ("CraftCoOp", 0.3 + numbers.random())):
                folder = tmp_path / f"emoji/{trainer}/drawings_{shots}shots/seed{seed}"
                put(folder, {"accuracy": base + more})
    content = results.tables(protocols.PROTOCOLS["few_shot"], [tmp_path])
    (cells,) = content.gains
    raw = sorted(gain.p for gain in cells.values())
    expected = [min(1, 3 * raw[0]), min(1, max(3 * raw[0], 2 * raw[1]))]
    assert sorted(gain.p_holm for gain in cells.values())[:2] == pytest.approx(expected)
    text = report(capsys, "few_shot", tmp_path)[0]
    assert "3 comparisons: the gains in all columns of this table" in text
    assert "after Holm's correction for 3" in text
    only = report(capsys, "few_shot", tmp_path, "--shots", 4)[0]
    assert "only runs with 4 shots are shown, as asked for" in only
    assert "1 comparison: the gains in" in only


def test_an_average_over_few_data_sets_tells_its_power(tmp_path, capsys):
    for dataset in ("emoji", "things"):
        for seed, more in ((1, 1.0), (2, 2.0), (3, 0.5)):
            for trainer, gain in (("CoOp", 0.0), ("CraftCoOp", more)):
                for part in ("train_base", "test_new"):
                    write(tmp_path, part, dataset, trainer, seed, 60.0 + gain)
    said = report(capsys, "base2new", tmp_path, "--averages")[0]
    assert "power: at the median standard deviation of the seeds' gains in H on these" in said


def test_a_row_without_an_average_and_a_seed_in_the_wrong_folder_are_named(runs, capsys):
    write(runs, "train_base", "third", "VPT", 1, 20.0)
    path = write(runs, "train_base", "third", "CoOp", 2, 20.0)
    path.write_text(json.dumps(json.loads(path.read_text()) | {"seed": 1}))
    text, _ = table(capsys, runs)
    assert (
        "note: VPT/drawings has no average: it is on third only, other rows are on emoji, "
        "other, too\n" in text
    )
    assert f"note: '{path}' is of seed 1, not of the one that its folder says" in text


def test_the_best_is_bold_in_files_and_averages_come_first(runs, capsys, tmp_path):
    text, _ = table(capsys, runs, "--ours", "--out", tmp_path / "t")
    assert "**" not in text  # a terminal shows no bold
    lines = [line.split(" | ")[0] for line in text.splitlines() if line.startswith("| ")]
    assert [line.strip("| ") for line in lines[1:10]] == (
        ["average of 2"] * 3 + ["emoji"] * 3 + ["other"] * 3
    )
    page = (tmp_path / "t.md").read_text()
    bold = {cells[1]: re.findall(r"\*\*(.*?)\*\*", line) for line in page.splitlines() if
            (cells := [cell.strip() for cell in line.split("|")][1:]) and cells[0] == "emoji"
            and "[" not in line}  # fmt: skip
    # new is the same for both, and both are the best; H per seed: 68.94, 72.65, 72.40
    assert bold == {
        "ZeroshotCLIP": [],
        "CoOp": ["62.00 ± 2.00"],
        "CraftCoOp": ["84.00 ± 3.00", "62.00 ± 2.00", "71.33 ± 2.08"],
    }
    assert f"\n{results.BOLD}\n" in page
    tex = (tmp_path / "t.tex").read_text()
    assert r"\textbf{84.00 $\pm$ 3.00} & \textbf{62.00 $\pm$ 2.00}" in tex
    for word, count in (("toprule", 2), ("bottomrule", 2), ("midrule", 6), ("hline", 0)):
        assert tex.count(rf"\{word}") == count
    assert tex.startswith("% needs \\usepackage{booktabs}")


def test_of_gaps_the_lowest_is_the_best_and_one_row_is_not():
    rows = [
        protocols.Row("a", name, "c", "8", {"gap": {1: gap}, "mean": {1: mean}})
        for name, gap, mean in (("CoOp", 30.0, 80.004), ("VPT", 20.0, 80.001), ("IVLP", 25.0, 79))
    ]
    best = results.best_of(rows, ["gap", "mean", "adjusted"])
    names = {column: [row.trainer for row in found] for column, found in best.items()}
    assert names == {"gap": ["VPT"], "mean": ["CoOp", "VPT"], "adjusted": []}
    assert results.best_of(rows[:1], ["gap"]) == {"gap": []}


def test_a_pivot_has_methods_down_and_data_sets_across(runs, capsys, tmp_path):
    write(runs, "train_base", "emoji", "VPT", 1, 10.0)
    arguments = ["base2new", str(runs), "--ours", "--pivot", "--out", str(tmp_path / "t")]
    assert results.main(arguments) == 0
    text = capsys.readouterr().out
    blocks = text[: text.index("Gain of CRAFT")].split("\n\n")
    assert [block for block in blocks if block.endswith(":")] == ["base:", "new:", "H:"]
    cells = [
        [cell.strip() for cell in line.strip("|").split("|")] for line in blocks[1].splitlines()
    ]
    assert cells[0] == ["method", "average of 2", "emoji", "other"]
    assert cells[2:] == [
        ["ZeroshotCLIP", "50.00", "50.00", "50.00"],
        ["CoOp", "85.00", "82.00", "88.00"],
        ["CraftCoOp", "87.00", "84.00", "90.00"],
        ["VPT", results.MISSING, "10.00", results.MISSING],
    ]
    assert "ZeroshotCLIP" not in blocks[3]  # which was not tested on new classes
    tex = (tmp_path / "t.tex").read_text()
    assert r"\multicolumn{4}{l}{\emph{base}} \\" in tex
    assert r"CraftCoOp & \textbf{87.00} & \textbf{84.00} & \textbf{90.00} \\" in tex
    assert (
        "| CraftCoOp    | **87.00**    | **84.00** | **90.00** |" in (tmp_path / "t.md").read_text()
    )
    whole = len((tmp_path / "t.csv").read_text().splitlines())
    assert results.main(arguments[:3] + arguments[4:]) == 0
    assert len((tmp_path / "t.csv").read_text().splitlines()) == whole


def test_a_pivot_of_one_data_set_has_the_columns_across_the_average_first(tmp_path, capsys):
    for trainer, more in (("CoOp", 0), ("CraftCoOp", 1)):
        for tested in ("x", "y"):
            put(
                tmp_path / f"ood/test_{tested}/a_to_b/shots_8/{trainer}/cfg/seed1",
                {"accuracy": 50.0 + more},
            )
    text, lines = report(capsys, "ood", tmp_path, "--pivot")
    assert text.startswith("a_to_b:\n\n") and lines[0] == ["method", "average", "x", "y"]
    assert lines[2:4] == [["CoOp", *["50.00"] * 3], ["CraftCoOp", *["51.00"] * 3]]


def test_special_signs_of_latex():
    assert results.escaped(r"a_b 5% \x ± –") == r"a\_b 5\% \textbackslash{}x $\pm$ --"


def test_a_report_page_holds_everything_in_one_file(tmp_path, capsys):
    from tools import report as page

    for trainer, more in (("CoOp", 0), ("CraftCoOp", 2)):
        for seed in (1, 2):
            for part, value in (("train_base", 80), ("test_new", 60)):
                write(
                    tmp_path / "out",
                    part,
                    "emoji",
                    trainer,
                    seed,
                    value + more + seed,
                    config={"OPTIM": {"LR": 0.1}, "TRAINER": {"NAME": trainer}},
                )
    Image.new("RGB", (30, 20), "red").save(tmp_path / "tsne.png")
    assert (
        page.main(
            [
                str(tmp_path / "out"),
                "--out",
                str(tmp_path / "page.html"),
                "--figures",
                str(tmp_path / "tsne.png"),
            ]
        )
        == 0
    )
    text = (tmp_path / "page.html").read_text()
    assert (
        "81.50 ± 0.71" in text
        and "+2.00 [+2.00, +2.00]" in text
        and text.count("data:image/png;base64,") == 3
    )
    assert (
        "http://" not in text and "https://" not in text and 'src="data:' in text
    )  # nothing is fetched
    assert "LR: 0.1" in text and "Gain of CRAFT" in text
    runs = tmp_path / "more"
    (trained,) = [
        write(
            runs,
            "train_base",
            "emoji",
            "CoOp",
            1,
            80.0,
            config={"OPTIM": {"LR": 0.1}, "DATASET": {"SUBSAMPLE_CLASSES": "base"}},
        )
    ]
    tested = write(
        runs,
        "test_new",
        "emoji",
        "CoOp",
        1,
        60.0,
        config={"OPTIM": {"LR": 0.1}, "DATASET": {"SUBSAMPLE_CLASSES": "new"}},
    )
    there = os.path.relpath(trained.parent, tested.parent)
    tested.write_text(
        json.dumps(json.loads(tested.read_text()) | {"loaded": {"model_dir": there, "epoch": 3}})
    )
    write(
        runs / "long/base2new",
        "train_base",
        "emoji",
        "CoOp",
        1,
        80.0,
        config={"OPTIM": {"LR": 0.9}},
    )
    assert page.main([str(runs), "--out", str(tmp_path / "more.html")]) == 0
    text = (tmp_path / "more.html").read_text()
    assert text.count("<summary>") == 1 + 3 and "LR: 0.9" in text and text.count("LR: 0.1") == 1
    assert "# tests epoch 3 of" in text and "DATASET: {SUBSAMPLE_CLASSES: new}" in text
    assert page.main([str(tmp_path / "none"), "--out", str(tmp_path / "x.html")]) == 2
    (tmp_path / "empty").mkdir()
    assert page.main([str(tmp_path / "empty"), "--out", str(tmp_path / "x.html")]) == 2
    assert (
        "holds no finished runs" in capsys.readouterr().err and not (tmp_path / "x.html").exists()
    )


class Page(HTMLParser):
    """What a browser makes of a page: the tags, the text, and what stands for pictures."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.texts, self.pictures = Counter(), [], []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.tags[tag] += 1
        if tag == "img":
            self.pictures.append(dict(attributes)["alt"])

    def handle_data(self, data):
        self.texts.append(data)


def test_nothing_in_a_report_page_is_taken_for_html(tmp_path):
    """Names of folders, trainers and configs, values, notes, numbers and titles of pictures."""
    from tools import report as page

    evil = "<b>x&amp;'\"<script>alert(1)<"
    assert Page(page.table([evil], [[evil]])).tags == {
        "div": 1,
        "table": 1,
        "thead": 1,
        "tbody": 1,
        "tr": 2,
        "th": 1,
        "td": 1,
    }
    for column in ("base", "data set"):
        for mark in ("", "up"):
            found = Page(page.cell(evil, column, mark))
            assert found.tags == {"td": 1} and "".join(found.texts) == evil
    tags = []
    for number, name in enumerate(("x", evil)):
        runs = tmp_path / str(number) / "runs"
        for trainer in ("CoOp", "CraftCoOp"):
            config = {"OPTIM": {"LR": name}, "TRAINER": {"NAME": trainer}}
            path = write(runs, "train_base", name, trainer, 1, 80.0, config=config)
            path.write_text(
                json.dumps(
                    json.loads(path.read_text())
                    | {"device": name, "versions": {name: name}, "started": name}
                )
            )
            path.parent.parent.rename(path.parent.parent.with_name(f"c{name}"))
        write(runs, "train_base", name, "CoOp", 2, 80.0).write_text("{")  # a note with the path
        drawn = tmp_path / str(number) / f"{name}.png"
        Image.new("RGB", (3, 2)).save(drawn)
        out = tmp_path / f"{number}.html"
        assert page.main([str(runs), "--out", str(out), "--figures", str(drawn)]) == 0
        found = Page(out.read_text())
        tags.append(found.tags)
        assert "".join(found.texts).count(name) >= 8 and found.pictures == [
            "Base to new classes",
            "Gains: Base to new classes",
            name,
        ]
    assert tags[0] == tags[1]


@pytest.mark.parametrize(
    ("trainer", "option", "others"),
    [
        ("ZeroshotCLIP2", ("TRAINER.ZSCLIP2.TEMPLATES", "eighty"), ("COOP", "CRAFT")),
        ("ZeroshotCLIP", None, ("ZSCLIP2", "COOP", "CRAFT")),
        ("CraftPromptSRC", ("TRAINER.CRAFT.TEXT_SAMPLES", "template"), ("COOP", "ZSCLIP2")),
        ("CraftPromptSRC", ("TRAINER.PROMPTSRC.GPA_MEAN", 7), ("IVLP",)),
    ],
)
def test_the_report_shows_the_options_that_a_trainer_reads_and_no_others(
    tmp_path, trainer, option, others
):
    from tools import report as page

    config = whole(trainer, 1, **({option[0].replace(".", "__"): option[1]} if option else {}))
    write(tmp_path, "train_base", "emoji", trainer, 1, 80.0, config=config)
    assert page.main([str(tmp_path), "--out", str(tmp_path / "page.html")]) == 0
    (text,) = re.findall("<pre>(.*?)</pre>", (tmp_path / "page.html").read_text(), re.DOTALL)
    found = yaml.safe_load(html.unescape(text))
    assert (
        not set(others) & found["TRAINER"].keys()
        and "SEED" not in found
        and "OUTPUT_DIR" not in found
        and found["OPTIM"]["MAX_EPOCH"] == 10
    )
    if option:
        _, node, key = option[0].split(".")
        assert found["TRAINER"][node][key] == option[1]


def test_failed_jobs_are_in_the_report(runs, tmp_path, capsys):
    """Those that a sweep marked and that nobody has run since."""
    from tools import launchers
    from tools import report as page

    places = {
        name: tmp_path / "test_new/emoji/shots_8/VPT/drawings" / name
        for name in ("seed1", "seed2", "seed3", "seed4", "seed5", "<seed6>")
    }
    done = {"complete": True, "metrics": {"test": {"accuracy": 1.0}}, "config": {}}
    launchers.mark(places["seed1"], "failed", error="out of <b>memory</b>", attempts=2)
    launchers.mark(places["seed2"], "running", pid=1, host="x", slurm="")  # nobody holds its lock
    launchers.mark(places["seed3"], "stopped", slurm="")
    launchers.mark(places["seed4"], "failed", error="since run by hand")
    (places["seed4"] / "results.json").write_text(json.dumps(done))
    launchers.mark(places["seed5"], "queued", slurm="12")
    launchers.mark(places["<seed6>"], "failed")
    assert page.main([str(tmp_path), "--out", str(tmp_path / "page.html")]) == 0
    text = (tmp_path / "page.html").read_text()
    below = "test_new/emoji/shots_8/VPT/drawings/"
    failed = text[text.index("<h2 id=failed>") : text.index("<h2 id=how>")]
    assert (
        f'<td class="text">{below}seed1</td><td class="text">out of &lt;b&gt;memory&lt;/b&gt;</td>'
        in failed
        and "3 jobs of sweeps" in failed
    )
    assert (
        f"{below}seed2</td>" in failed
        and failed.count("ended without a word") == 2
        and f"{below}&lt;seed6&gt;</td>" in failed
    )
    assert (
        not [name for name in ("seed3", "seed4", "seed5") if f"{below}{name}" in failed]
        and "<a href='#failed'>" in text
    )
    # Where everything failed, that is what there is to show.
    alone = tmp_path / "alone"
    launchers.mark(
        alone / "base2new/train_base/emoji/shots_8/CoOp/drawings/seed1",
        "failed",
        error="no space",
    )
    assert (
        page.main([str(alone), "--out", str(tmp_path / "alone.html")]) == 0
        and "no space" in (tmp_path / "alone.html").read_text()
    )
    shutil.rmtree(alone)
    alone.mkdir()
    assert page.main([str(runs / "train_base"), "--out", str(tmp_path / "none.html")]) == 0
    assert "Failed jobs" not in (tmp_path / "none.html").read_text()


def put_both(folder: Path, trainer: str, config: str, base: float) -> None:
    """Two seeds of both parts on DTD: base classes with this accuracy and a point a seed."""
    for part, value in (("train_base", base), ("test_new", 50.0)):
        for seed in (1, 2):
            run = f"base2new/{part}/dtd/shots_8/{trainer}/{config}/seed{seed}"
            put(folder / run, {"accuracy": value + seed})


def test_a_table_of_some_configs_and_trainers(tmp_path, capsys):
    for trainer, config, base in (
        ("CoOp", "suite", 60.0),
        ("CraftCoOp", "suite", 62.0),
        ("CraftCoOp", "suite_released", 61.0),
        ("MaPLe", "suite", 63.0),
        ("CraftMaPLe", "suite", 66.0),
        ("ZeroshotCLIP", "drawings", 50.0),
    ):
        put_both(tmp_path, trainer, config, base)

    def shown(*options):
        assert results.main(["base2new", str(tmp_path), "--ours", *options]) == 0
        out = capsys.readouterr().out
        lines = [line.split("|")[2:4] for line in out.splitlines() if line.startswith("| dtd")]
        return [" ".join(map(str.strip, cells)) for cells in lines], out

    names, out = shown("--configs", "suite", "--trainers", "CoOp")
    assert names[:2] == ["CoOp suite", "CraftCoOp suite"] and len(names) == 3
    assert "1 comparison" in out
    said = "note: only the configs suite and the trainers CoOp are shown, as asked for"
    assert said in out
    names, out = shown("--configs", "suite", "suite_released")
    assert names[:3] == ["CoOp suite", "CraftCoOp suite", "CraftCoOp suite_released"]
    assert "ZeroshotCLIP" not in out and "3 comparisons" in out
    names, _ = shown("--trainers", "CraftCoOp")
    assert all("CraftCoOp" in name for name in names)
    names, out = shown()
    assert "as asked for" not in out and len(names) == 6 + 3
    for options, reason in (
        (("--configs", "suit"), "has --configs suit: there are drawings, suite, suite_released"),
        (("--trainers", "VPT"), "has --trainers VPT: there are CoOp, CraftCoOp, CraftMaPLe, MaPL"),
        (("--configs", "drawings", "--trainers", "CoOp"), "is of all that was asked for: leave an"),
    ):
        assert results.main(["base2new", str(tmp_path), *options]) == 2
        said = capsys.readouterr().err
        assert f"error: no base2new run {reason}" in said and said.count("\n") == 1
    for study, trainer in (("baseline", "CoOp"), ("both", "CraftCoOp"), ("static", "CraftCoOp")):
        for part in ("train_base", "test_new"):
            cell = f"ablation/{study}/base2new/{part}/dtd/shots_8/{trainer}/suite/seed1"
            put(tmp_path / cell, {"accuracy": 60.0})
    assert results.main(["ablation", str(tmp_path), "--configs", "baseline", "both"]) == 0
    assert "static" not in (out := capsys.readouterr().out) and "| both " in out


def test_a_baseline_of_another_name(tmp_path, capsys):
    """Gains are over the named config, which stands in the table without being asked for."""
    for trainer, config, base in (
        ("MaPLe", "suite", 63.0),
        ("CraftMaPLe", "suite", 66.0),
        ("CraftMaPLe", "chosen", 67.0),
        ("ZeroshotCLIP", "drawings", 50.0),
    ):
        put_both(tmp_path, trainer, config, base)

    def shown(*options):
        out = tmp_path / "table"
        words = ["base2new", str(tmp_path), "--ours", "--out", str(out), *options]
        assert results.main(words) == 0
        rows = json.loads(out.with_name("table.json").read_text())["rows"]
        found = {
            (row["trainer"], row["config"]): row["cells"]["base"]["gain"]["mean"]
            for row in rows
            if row["cells"]["base"].get("gain")
        }
        return found, capsys.readouterr().out

    gains, out = shown()
    assert gains == {("CraftMaPLe", "suite"): 3.0} and "gains with – have no pair" in out
    gains, out = shown("--baseline", "suite")
    assert gains == {("CraftMaPLe", "suite"): 3.0, ("CraftMaPLe", "chosen"): 4.0}
    assert "note: gains are over the config suite, as asked for" in out
    gains, out = shown("--baseline", "suite", "--configs", "chosen")
    assert gains == {("CraftMaPLe", "chosen"): 4.0} and "| MaPLe " in out
    for options, reason in (
        (("--baseline", "drawings"), "has --baseline drawings: there are suite"),
        (("--baseline", "suite", "--trainers", "CraftMaPLe"), "suite: leave the option out"),
    ):
        assert results.main(["base2new", str(tmp_path), *options]) == 2
        said = capsys.readouterr().err
        assert "error: no base2new run without CRAFT has --baseline" in said and reason in said
        assert said.count("\n") == 1
    for study, trainer in (("baseline", "CoOp"), ("both", "CraftCoOp")):
        cell = f"ablation/{study}/base2new/train_base/dtd/shots_8/{trainer}/suite/seed1"
        put(tmp_path / cell, {"accuracy": 60.0})
    assert results.main(["ablation", str(tmp_path), "--baseline", "suite"]) == 2
    assert "gains of ablation are over the variant 'baseline': leave" in capsys.readouterr().err


def test_shots_that_no_run_has(runs, capsys):
    assert results.main(["base2new", str(runs), "--shots", "5"]) == 2
    assert capsys.readouterr().err == "error: no base2new run has --shots 5: there are 8\n"


def test_columns_are_as_wide_as_a_terminal_shows_them():
    """Names of classes are in every script."""
    lines = results.markdown(
        ["class", "n"], [["猫", "1"], ["café", "2"], ["cafe\u0301", "3"], ["dog", "4"]]
    )
    assert lines.splitlines() == [
        "| class | n |",
        "|-------|---|",
        "| 猫    | 1 |",
        "| café  | 2 |",
        "| cafe\u0301  | 3 |",
        "| dog   | 4 |",
    ]
