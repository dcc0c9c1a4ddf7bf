"""The bash scripts: they parse, explain themselves, and keep CoOp's folders from anywhere."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import forked
import pytest
from PIL import Image

import datasets
from dassl.config import get_cfg_default, rules
from datasets import prepare
from tools import inputs, plans, quickstart, reproduce, results, run
from tools.protocols import PROTOCOLS

ROOT = Path(__file__).resolve().parent.parent
SCRIPTS = sorted((ROOT / "scripts").glob("*.sh")) + [ROOT / ".ci/run"]


def bash(*arguments, cwd=ROOT, **env):
    return subprocess.run(
        ["bash", *map(str, arguments)],
        cwd=cwd,
        env={**os.environ, **{k: str(v) for k, v in env.items()}},
        capture_output=True,
        text=True,
    )


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.name)
def test_syntax(path):
    assert bash("-n", path).returncode == 0
    if shutil.which("shellcheck"):
        found = subprocess.run(["shellcheck", "-x", path], capture_output=True, text=True, cwd=ROOT)
        assert found.returncode == 0, found.stdout


@pytest.mark.parametrize(
    "name",
    [path.name for path in SCRIPTS if path.name.endswith(("_train.sh", "_test.sh"))]
    + ["few_shot.sh", "ablation.sh"],
)
def test_too_few_arguments_print_the_usage(name):
    done = bash(ROOT / "scripts" / name, "emoji", "CoOp")
    assert done.returncode == 2 and f"usage: {name} DATASET TRAINER CFG SEED" in done.stderr
    assert ("SHOTS (a number or all, default 1 2 4 8 16, several in one go)" in done.stderr) == (
        name == "few_shot.sh"
    )


@pytest.mark.parametrize("name", ["ood_train.sh", "ood_test.sh"])
def test_a_target_is_needed(name):
    done = bash(ROOT / "scripts" / name, "emoji", "CoOp", "drawings", 1, TARGET="")
    assert done.returncode == 2 and "TARGET (" in done.stderr


@pytest.mark.parametrize(
    ("name", "variable"), [("ood_train.sh", "TARGET"), ("ablation.sh", "UNLABELLED")]
)
def test_an_unknown_shifted_data_set_stops_before_the_first_run(name, variable, tmp_path):
    if not (ROOT / ".venv/bin/python").exists():
        pytest.skip("the scripts' environment .venv/ is not there")
    done = bash(
        ROOT / "scripts" / name,
        "emoji",
        "CoOp",
        "drawings",
        1,
        **{variable: "emoji_lin"},
        OUTPUT=tmp_path,
    )
    assert done.returncode == 2 and not list(tmp_path.iterdir())
    assert done.stderr.startswith(
        f"error: {variable}: unknown data set 'emoji_lin': did you mean 'emoji_line'? known "
        "ones are caltech101, "
    )


def folders(protocol, part, *words):
    """Of the jobs of a script."""
    asked = run.request(PROTOCOLS[protocol], part, list(words))
    return [job.folder for job in run.jobs_of(asked)]


def test_jobs_of_the_scripts(monkeypatch):
    for variable in ("SHOTS", "TARGET", "TARGETS", "SHIFTED", "UNLABELLED"):
        monkeypatch.delenv(variable, raising=False)
    cell = ("emoji", "CraftCoOp", "drawings", "1")
    place = "CraftCoOp/drawings/seed1"
    assert folders("base2new", "train", *cell) == [f"base2new/train_base/emoji/shots_16/{place}"]
    own = [f"base2new/test_new/emoji/shots_16/{place}"]
    assert folders("base2new", "test", *cell) == own
    monkeypatch.setenv("TARGET", "emoji")
    assert folders("base2new", "test", *cell) == own
    monkeypatch.setenv("TARGET", "emoji_line")
    other = "emoji_line_from_emoji/shots_16"
    assert folders("base2new", "test", *cell) == [
        f"base2new/test_{subset}/{other}/{place}" for subset in ("base", "new")
    ]
    pair = f"emoji_to_emoji_line/shots_16/{place}"
    assert folders("ood", "train", *cell) == [f"ood/train/{pair}"]
    assert folders("ood", "test", *cell) == [f"ood/test_emoji_line/{pair}"]
    assert len(folders("xd", "test", *cell)) == 14
    monkeypatch.setenv("TARGETS", "dtd emoji")
    assert folders("xd", "test", *cell) == [
        f"evaluation/CraftCoOp/drawings_16shots/{name}_from_emoji/seed1"
        for name in ("dtd", "emoji")
    ]
    assert folders("few_shot", "", *cell) == [
        f"emoji/CraftCoOp/drawings_{shots}shots/seed1" for shots in (1, 2, 4, 8, 16)
    ]
    assert folders("group", "train", *cell) == [f"group/emoji/shots_all/{place}"]
    variants = folders("ablation", "", "emoji", "CoOp", "drawings", "1")
    assert [folder.split("/")[1] for folder in variants[::2]] == [
        "baseline", "static", "stochastic", "both"
    ]  # fmt: skip


def test_the_config_may_be_left_out(monkeypatch, capsys):
    monkeypatch.delenv("BACKBONE", raising=False)
    assert (
        "/CraftMaPLe/vit_b16_c2_ep5_batch4_2ctx/seed2"
        in (folders("base2new", "train", "oxford_pets", "CraftMaPLe", "2", "OPTIM.LR", "1")[0])
    )
    said = "config of CraftMaPLe for oxford_pets: vit_b16_c2_ep5_batch4_2ctx\n"
    assert capsys.readouterr().err == said
    (folder,) = folders("xd", "train", "imagenet", "CraftCoOp", "2")
    assert folder == "imagenet/CraftCoOp/vit_b16_ep50_ctxv1_16shots/seed2"
    monkeypatch.setenv("BACKBONE", "rn50")
    assert "/CoOp/rn50_ctxv1/" in folders("base2new", "train", "emoji", "CoOp", "1")[0]


def test_variables_without_effect_are_noted(monkeypatch, capsys):
    monkeypatch.setattr(run.subprocess, "Popen", lambda *_, **__: None)
    monkeypatch.setattr(run, "wait", lambda _: 0)
    monkeypatch.setenv("BACKBONE", "rn50")
    monkeypatch.setenv("LOADEP", "5")
    assert run.main(["xd", "train", "emoji", "CoOp", "drawings", "1"]) == 0
    lines = capsys.readouterr().err.splitlines()
    assert lines[:2] == [
        "note: BACKBONE is rn50, which has no effect: the config drawings has the CLIP",
        "note: LOADEP is 5, which has no effect: no model is loaded",
    ]
    assert "note:" not in "".join(lines[2:])
    monkeypatch.delenv("LOADEP")
    assert run.main(["xd", "train", "emoji", "CoOp", "1"]) == 0
    assert "note:" not in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (
            ("emoji", "CoOp", "drawings", "1", "OPTIM.LR", "1", "OPTIM.LR", "2"),
            "OPTIM.LR is given twice (1, 2): take one out",
        ),
        (
            ("emojy", "CoOp", "drawings", "1"),
            "unknown data set 'emojy': did you mean 'emoji'",
        ),
        (
            ("emoji", "Coop", "drawings", "1"),
            "unknown trainer 'Coop': did you mean 'CoOp'? known ones",
        ),
        (
            ("emoji", "CoOp", "drawins", "1"),
            "unknown config of CoOp 'drawins': did you mean 'drawings'",
        ),
        (("emoji", "CraftCoOp", "drawings_mdm", "1"), "did you mean 'drawings_mmd'"),
        (("emoji", "CoOp", "drawings", "one"), "SEED is 'one': write a whole number"),
    ],
)
def test_a_wrong_name_lists_what_exists_and_the_nearest(words, message, capsys):
    assert run.main(["base2new", "train", *words]) == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "variables", "message"),
    [
        ("ood train", {"TARGET": " "}, "TARGET is blank: name a data set, or do not set it"),
        ("ablation", {"UNLABELLED": " "}, "UNLABELLED is blank: name a data set"),
        ("xd test", {"TARGETS": " "}, "TARGETS is blank: name a data set"),
        ("ood train", {"TARGET": "dtd ucf101"}, "TARGET is 'dtd ucf101': name one data set"),
        ("base2new test", {"TARGET": "dtd ucf101"}, "TARGET is 'dtd ucf101': name one"),
        ("ablation", {"UNLABELLED": "dtd ucf101"}, "UNLABELLED is 'dtd ucf101': name one"),
        ("group test", {}, "has no tests but those of its trainings: give scripts/group_train.sh"),
        ("few_shot test", {}, "has no tests but those of its trainings: give scripts/few_shot.sh"),
    ],
)
def test_what_would_run_nothing_or_half_is_refused(words, variables, message, monkeypatch, capsys):
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert run.main([*words.split(), "emoji", "CoOp", "drawings", "1"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: ") and message in line


def test_a_printed_command_works_where_it_is_read(monkeypatch, capsys, tmp_path):
    monkeypatch.setattr(run.subprocess, "Popen", lambda *_, **__: None)
    monkeypatch.setattr(run, "wait", lambda _: 0)
    cell = ["xd", "train", "emoji", "CoOp", "drawings", "1"]
    for here, before in ((ROOT, ""), (tmp_path, f"cd {ROOT} && ")):
        monkeypatch.setenv("HERE", str(here))
        assert run.main(cell) == 0
        python = os.path.relpath(sys.executable, ROOT)
        assert capsys.readouterr().err.startswith(f"{before}{python} train.py --root ")


def test_the_home_folder_is_known_without_its_variable(monkeypatch):
    monkeypatch.delenv("HOME", raising=False)
    assert run.absolute("~/data") == os.path.expanduser("~/data") and os.path.isabs(
        run.absolute("~")
    )


def test_the_usage_says_where_configs_lie():
    text = run.usage(PROTOCOLS["xd"], "train")
    assert "a file of configs/trainers/STRUCTURE (TRAINER without Craft)" in text


SUITE = [
    *("things", "office", "tools", "living", "remix", "iconpark", "ultimate"),
    *("emoji", "emoji_line", "emoji_one_colour", "emoji_rendered", "emoji_groups"),
]


@pytest.mark.parametrize(
    ("plan", "sets"),
    [
        ("suite", SUITE),
        ("suite_ablation", ["things"]),
        ("quickstart", ["things"]),
        ("xd", []),
    ],
)
def test_reproduce_prepares_the_bundled_data_sets_of_any_plan(plan, sets):
    assert reproduce.bundled(str(ROOT / f"configs/sweeps/{plan}.yaml")) == sets


def test_the_quick_start_takes_other_structures(capsys):
    plan = plans.read_plan(str(ROOT / quickstart.PLAN), trainers=["MaPLe", "VPT"], shots=[4])
    found = {job.trainer for job in plan.jobs}
    assert found == {"ZeroshotCLIP", "MaPLe", "CraftMaPLe", "VPT", "CraftVPT"}
    assert {job.run.shots for job in plan.jobs} == {"4"} and len(plan.jobs) == 2 * (1 + 2 * 2 * 10)
    assert quickstart.main(["Coop"]) == 2
    assert "unknown structure 'Coop': did you mean 'CoOp'? known" in capsys.readouterr().err


@pytest.fixture
def env(tmp_path):
    """For scripts that stop before their first run."""
    if not (ROOT / ".venv/bin/python").exists():
        pytest.skip("the scripts' environment .venv/ is not there")
    return {"OUTPUT": tmp_path / "out", "DATA": tmp_path / "data"}


@pytest.mark.parametrize(
    ("name", "shots"),
    [
        ("xd_train.sh", "0"),
        ("xd_train.sh", "4 8"),
        ("few_shot.sh", "4 8x"),
        ("few_shot.sh", " "),
        ("base2new_train.sh", "-2"),
    ],
)
def test_shots_are_numbers_from_one_or_all(name, shots, env, tmp_path):
    done = bash(ROOT / "scripts" / name, "emoji", "CoOp", "drawings", 1, **env, SHOTS=shots)
    assert done.returncode == 2 and not list(tmp_path.iterdir())
    assert done.stderr == (
        "error: SHOTS is "
        f"'{shots.split(' ')[-1] or ' ' if name == 'few_shot.sh' else shots}': write a number from "
        "1, or all\n"
    )


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("SEED", 1), "SEED cannot be given as an option: it follows from"),
        (
            ("OPTIM.LR", 1, "OPTIM.X"),
            "the options OPTIM.LR 1 OPTIM.X are not KEY VALUE pairs: 'OPTIM.X' lacks",
        ),
    ],
)
def test_options_are_pairs_of_keys_that_nothing_else_sets(options, said, env, tmp_path):
    done = bash(ROOT / "scripts/xd_train.sh", "emoji", "CoOp", "drawings", 2, *options, **env)
    assert (
        done.returncode == 2
        and done.stderr.startswith(f"error: {said}")
        and not list(tmp_path.iterdir())
    )


def test_the_declarations_tell_which_keys_scripts_and_plans_set():
    datasets.extend_cfg(get_cfg_default())
    set_by = {name: key.set_by for name, key in rules.KEYS.items() if key.set_by}
    assert set_by | plans.TESTED == plans.TAKEN and len(set_by) == 16


@pytest.mark.parametrize("key", plans.TAKEN)
def test_scripts_and_plans_refuse_the_same_keys(key, capsys, tmp_path):
    assert run.main(["xd", "train", "emoji", "CoOp", "drawings", "1", key, "1"]) == 2
    assert capsys.readouterr().err.startswith(f"error: {key} cannot be given as an option")
    plan = tmp_path / "plan.yaml"
    keys = ["protocol: xd", "datasets: emoji", "trainers: {CoOp: drawings}"]
    plan.write_text("\n".join([*keys, f"overrides: {{{key}: 1}}"]))
    with pytest.raises(inputs.InputError, match=f"{key} cannot be overridden"):
        plans.read_plan(str(plan))


@pytest.mark.parametrize(
    ("trainer", "config"),
    [("CraftCoOp", "drawings"), ("CoOp", "none"), ("ZeroshotCLIP", "drawings")],
)
def test_an_ablation_takes_a_structure_without_craft(trainer, config, env, tmp_path):
    done = bash(ROOT / "scripts/ablation.sh", "emoji", trainer, config, 1, **env)
    assert done.returncode == 2 and not list(tmp_path.iterdir())
    assert done.stderr.startswith(
        "error: unknown config of CoOp 'none': "
        if trainer == "CoOp"
        else f"error: an ablation starts from a structure without CRAFT, which '{trainer}' is not: "
        + {"CraftCoOp": "did you mean 'CoOp'? "}.get(trainer, "")
        + "there are CoCoOp, CoOp, "
    )


@pytest.mark.parametrize(
    "text",
    ["{", "[]", "", '{"complete": true}', '{"complete": false, "deployed": null, "epochs": 3}'],
)
def test_only_a_finished_training_is_tested(text, env, tmp_path):
    path = tmp_path / "out/base2new/train_base/emoji/shots_16/CoOp/drawings/seed1/results.json"
    path.parent.mkdir(parents=True)
    path.write_text(text)
    done = bash(ROOT / "scripts/base2new_test.sh", "emoji", "CoOp", "drawings", 1, **env)
    assert done.returncode == 2
    assert done.stderr == (
        f"error: '{path.parent}' holds no finished run: train it first with "
        "scripts/base2new_train.sh emoji CoOp drawings 1\n"
    )


def test_reproduce_lists_without_making_anything_and_knows_its_folders(env, tmp_path, monkeypatch):
    given: list[tuple] = []
    monkeypatch.setattr(reproduce, "tool", lambda *command: given.append(command) or 0)
    monkeypatch.chdir(tmp_path)
    for words in (["--output", "there"], ["--output=there"]):
        assert reproduce.main(["suite", "--list", *words, "--launch", "local"]) == 0
    assert given[0] == given[1] and str(tmp_path / "there") in given[0]
    done = forked.python("-m", *given[0], cwd=ROOT)
    assert done.returncode == 0 and done.stdout.endswith("3021 jobs: 3021 missing\n"), done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["there"]
    assert [path.name for path in (tmp_path / "there").iterdir()] == [".sweep"]
    done = bash(ROOT / "scripts/reproduce.sh", "suite", "--output", cwd=tmp_path)
    assert (
        done.returncode == 2
        and done.stderr == "error: --output lacks its folder: write it behind\n"
    )


def test_each_script_starts_its_part_of_its_protocol():
    scripts = {}
    for protocol in PROTOCOLS.values():
        for part in ("train", "test") if "{part}" in protocol.script else ("",):
            name = protocol.script.format(part=part)
            if (ROOT / "scripts" / name).is_file():
                scripts.setdefault(name, f"{protocol.name} {part}".strip())
    assert set(scripts) == {
        *(f"{name}_{part}.sh" for name in ("base2new", "xd", "ood") for part in ("train", "test")),
        *("group_train.sh", "few_shot.sh", "ablation.sh", "openworld_test.sh"),
    }
    for name, words in scripts.items():
        last = (ROOT / "scripts" / name).read_text().splitlines()[-1]
        assert last == f'exec "$PYTHON" -m tools.run {words} "$@"'


@pytest.mark.slow
def test_every_protocol_runs_and_its_table_finds_the_runs(tmp_path, monkeypatch, capsys):
    """On three classes of small pictures, with the shipped weights.

    What the scripts start is called here; that each starts its own, another test says.
    """
    monkeypatch.setattr(run.subprocess, "Popen", forked.Popen)
    for label, name in enumerate(("ant", "bee", "cat")):
        for i in range(10):
            path = tmp_path / "data" / name / f"{i}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (64, 64), (80 * label, 25 * i, 90)).save(path)
    rows = [
        f"{name}/{i}.png,{name},{('train', 'train', 'val', 'test', 'test')[i // 2]},{i % 2}"
        for name in ("ant", "bee", "cat")
        for i in range(10)
    ]
    (tmp_path / "data/images.csv").write_text("\n".join(["path,classname,split,domain", *rows]))
    for name in ("OUTPUT", "DATA"):
        monkeypatch.setenv(name, str(tmp_path / {"OUTPUT": "out", "DATA": "data"}[name]))
    cell, quick = ("csv", "CraftCoOp", "drawings", 1), ("OPTIM.MAX_EPOCH", 1)

    def start(*words, **variables):
        with monkeypatch.context() as patch:
            for name, value in variables.items():
                patch.setenv(name, str(value))
            assert run.main(list(map(str, words))) == 0, capsys.readouterr().err

    def table(protocol):
        capsys.readouterr()
        assert results.main([protocol, str(tmp_path / "out")]) == 0
        return [
            [cell.strip() for cell in line.strip("|").split("|")]
            for line in capsys.readouterr().out.splitlines()
            if line.startswith("|")
        ]

    start("few_shot", *cell, *quick, SHOTS="2")
    assert table("few_shot")[0][3:5] == ["2 shots", "seeds"]
    start("xd", "test", *cell, *quick, SHOTS=2, TARGETS="csv")
    assert table("xd")[0][4:7] == ["source", "csv", "average"]
    start("base2new", "train", *cell, *quick, SHOTS=2)
    start("openworld", "test", *cell, *quick, SHOTS=2)
    assert table("openworld")[0][4:] == [
        *("joint", "base", "new", "H", "AUROC", "OpenworldAUC", "seeds")
    ]
    assert table("base2new")[0][4:7] == ["base", "new", "H"]
    mmd = ("csv", "CraftCoOp", "drawings_mmd", 1)
    start("ood", "train", *mmd, *quick, SHOTS=2, TARGET="csv")
    start("ood", "test", *mmd, *quick, SHOTS=2, TARGET="csv")
    assert table("ood")[2][:4] == ["csv_to_csv", "CraftCoOp", "drawings_mmd", "2"]
    start("group", "train", *mmd, *quick, "TEST.EVALUATOR", "GroupClassification")
    assert "worst group" in table("group")[0]
    assert table("group")[2][:4] == ["csv", "CraftCoOp", "drawings_mmd", "training"]
    assert (
        "craft_mmd"
        in (tmp_path / "out/group/csv/shots_all/CraftCoOp/drawings_mmd/seed1/log.txt").read_text()
    )
    start("ablation", "csv", "CoOp", "drawings", 1, *quick, SHOTS=1, UNLABELLED="csv")
    assert [line[1:3] for line in table("ablation")[2:7]] == [
        ["CoOp", name] for name in ("baseline", "static", "stochastic", "both", "mmd")
    ]


@pytest.mark.slow
def test_train_and_test_on_the_bundled_suite_from_another_folder(tmp_path, monkeypatch, capsys):
    """Two epochs of the real thing, with the shipped weights, through the scripts; what they start
    is forked, but for the first training.
    """
    env = {"SHOTS": 1, "OUTPUT": "out", "DATA": "data"}
    if not (ROOT / ".venv/bin/python").exists():
        pytest.skip("the scripts' environment .venv/ is not there")
    for name in ("emoji_line", "emoji_rendered"):
        assert prepare.main([name, "--root", str(tmp_path / "data")]) == 0
    cell = ("emoji_line", "CraftCoOp", "drawings", 1)
    before = bash(ROOT / "scripts/base2new_test.sh", *cell, cwd=tmp_path, **env)
    assert (
        before.returncode == 2
        and "holds no finished run: train it first with scripts/base2new_train.sh" in before.stderr
    )
    done = bash(
        ROOT / "scripts/base2new_train.sh", *cell, "OPTIM.MAX_EPOCH", 2, cwd=tmp_path, **env
    )
    assert done.returncode == 0, done.stderr
    trained = tmp_path / "out/base2new/train_base/emoji_line/shots_1/CraftCoOp/drawings/seed1"
    assert (
        trained / "prompt_learner/model.pth.tar-2"
    ).stat().st_size < 50_000  # what was learned, and no CLIP
    assert "craft_static" in (trained / "log.txt").read_text()

    def start(part: str, **more) -> str:
        with monkeypatch.context() as patch:
            patch.setattr(run.subprocess, "Popen", forked.Popen)
            for name, value in {**env, **more, "HERE": tmp_path}.items():
                patch.setenv(name, str(value))
            capsys.readouterr()
            assert run.main(["base2new", part, *map(str, cell), "OPTIM.MAX_EPOCH", "2"]) == 0
            return capsys.readouterr().out

    assert start("train").startswith("Done already")
    start("test", TARGET="emoji_rendered")
    start("test")
    found = {
        str(path.relative_to(tmp_path / "out/base2new")).split("/shots_1/")[0]: json.loads(
            path.read_text()
        )
        for path in (tmp_path / "out").rglob("results.json")
    }
    assert {name: results["metrics"]["test"]["total"] for name, results in found.items()} == {
        "train_base/emoji_line": 135,
        "test_new/emoji_line": 213,
        "test_base/emoji_rendered_from_emoji_line": 135,
        "test_new/emoji_rendered_from_emoji_line": 211,
    }
