"""train.py as a user meets it: precedence, includes, exit codes, one sentence for every mistake."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from tiny_run import make_cfg, replaced

import train
from dassl.engine import run_hash
from dassl.utils import UserError
from dassl.utils.logger import _restore
from datasets.base import data_root

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture
def files(tmp_path):
    """Configs of a whole tiny run: data.yaml, trainer.yaml, craft.yaml that includes the former."""
    cfg = make_cfg(tmp_path, "CoOp")
    (tmp_path / "data").mkdir()
    (tmp_path / "data.yaml").write_text(
        "DATASET:\n  NAME: TinyNoise\nOPTIM:\n  LR: 0.5\nDATALOADER:\n  NUM_WORKERS: 0\n"
    )
    (tmp_path / "trainer.yaml").write_text(
        "OPTIM:\n  NAME: sgd\n  LR: 0.1\n  MAX_EPOCH: 2\nINPUT:\n  SIZE: (32, 32)\n  TRANSFORMS: "
        "['normalize']\n"
        f"MODEL:\n  BACKBONE:\n    NAME: '{cfg.MODEL.BACKBONE.NAME}'\nTRAINER:\n  COOP:\n    "
        "N_CTX: 4\n    PREC: fp32\n"
    )
    (tmp_path / "craft.yaml").write_text(
        "BASE: trainer.yaml\nTRAINER:\n  CRAFT:\n    LAMBDA_STATIC: 0.25\n"
    )
    return tmp_path


def arguments(
    folder: Path,
    *more: str,
    config: str = "trainer.yaml",
    trainer: str = "CoOp",
    out: str = "out",
) -> list[str]:
    flags = {
        "--root": str(folder / "data"),
        "--seed": "1",
        "--trainer": trainer,
        "--output-dir": str(folder / out),
        "--dataset-config-file": str(folder / "data.yaml"),
    }
    return replaced(flags, ("--config-file", str(folder / config), *more))


def config(*args, **kwargs):
    return train.setup_cfg(train.parse_args(arguments(*args, **kwargs)))


def test_precedence(files):
    assert config(files).OPTIM.LR == 0.1  # trainer over data set
    assert config(files).DATALOADER.NUM_WORKERS == 0  # data set over default
    (files / "trainer.yaml").write_text((files / "trainer.yaml").read_text() + "SEED: 7\n")
    assert config(files).SEED == 1  # flag over file
    assert config(files, "SEED", "3").SEED == 3  # KEY VALUE over flag
    assert config(
        files, "--transforms", "random_flip", "normalize", "--", "OPTIM.LR", "0.3"
    ).INPUT.TRANSFORMS == ("random_flip", "normalize")


def test_a_craft_config_includes_its_baseline(files):
    cfg = config(files, config="craft.yaml", trainer="CraftCoOp")
    assert (
        cfg.TRAINER.CRAFT.LAMBDA_STATIC == 0.25
        and cfg.OPTIM.LR == 0.1
        and cfg.TRAINER.COOP.N_CTX == 4
    )
    (files / "more.yaml").write_text("OPTIM:\n  LR: 0.7\n")
    assert (
        config(files, "--config-file", str(files / "more.yaml"), config="craft.yaml").OPTIM.LR
        == 0.7
    )


@pytest.mark.parametrize(
    "path",
    sorted((ROOT / "configs/trainers").rglob("*.yaml")),
    ids=lambda path: f"{path.parent.name}-{path.stem}",
)
def test_every_shipped_config_is_valid(path):
    args = train.parse_args(
        [
            "--trainer",
            path.parent.name,
            "--dataset-config-file",
            str(ROOT / "configs/datasets/emoji.yaml"),
            "--config-file",
            str(path),
        ]
    )
    cfg = train.setup_cfg(args)
    bundled = path.stem.startswith(("drawings", "suite", "groups", "shifted", "released"))
    assert cfg.INPUT.SIZE == ((64, 64) if bundled else (224, 224))


BROKEN = {
    "unknown key": (
        ["OPTIM.LRR", "1"],
        "unknown config key 'OPTIM.LRR': the closest known key is 'OPTIM.LR'",
    ),
    "wrong type": (
        ["OPTIM.MAX_EPOCH", "many"],
        "config key 'OPTIM.MAX_EPOCH' takes a int such as 2, not 'many'",
    ),
    "odd pairs": (
        ["OPTIM.LR"],
        "the options OPTIM.LR are not KEY VALUE pairs: 'OPTIM.LR' lacks its partner",
    ),
    "pair twice": (
        ["OPTIM.LR", "0.1", "OPTIM.LR", "0.2"],
        "OPTIM.LR is given twice (0.1, 0.2): take one out",
    ),
    "nothing to load": (
        ["--load-epoch", "3"],
        "--load-epoch is 3, but no model is loaded: name the folder of a training run with "
        "--model-dir, or leave --load-epoch out",
    ),
    "unknown trainer": (
        ["TRAINER.NAME", "CraftCoop"],
        "unknown trainer 'CraftCoop': did you mean 'CraftCoOp'",
    ),
    "unknown data set": (
        ["DATASET.NAME", "Emojy"],
        "unknown dataset 'Emojy': did you mean 'Emoji'",
    ),
    "missing root": (
        ["DATASET.NAME", "Emoji", "DATASET.ROOT", "/nowhere"],
        "DATASET.ROOT '/nowhere' does not exist",
    ),
    "key twice": (
        ["--config-file", "twice.yaml"],
        "config file 'twice.yaml' is not valid YAML: 'LR' is given twice, in lines 2 and 3: take "
        "one out",
    ),
    "missing config": (
        ["--config-file", "none.yaml"],
        "config file 'none.yaml' cannot be read (No such file or directory)",
    ),
    "missing weights": (["MODEL.BACKBONE.NAME", "none.pt"], "none.pt"),
    "wrong size": (["INPUT.SIZE", "(64, 64)"], "INPUT.SIZE is (64, 64) but"),
    "half on a CPU": (
        ["TRAINER.COOP.PREC", "fp16"],
        "TRAINER.COOP.PREC fp16 needs a CUDA device: set TRAINER.COOP.PREC to fp32 or amp",
    ),
    "activation": (
        ["MODEL.BACKBONE.ACTIVATION", "relu"],
        "MODEL.BACKBONE.ACTIVATION is 'relu': choose one of auto, quick_gelu, gelu",
    ),
    "untrained": (
        ["--eval-only"],
        "--eval-only would test CoOp without what it learns: name the folder of a training run "
        "with --model-dir",
    ),
    "no checkpoint": (
        ["--eval-only", "--model-dir", "none", "--load-epoch", "3"],
        "model.pth.tar-3' does not exist: check --model-dir",
    ),
}


@pytest.mark.parametrize("case", BROKEN)
def test_mistakes_end_in_one_sentence_and_exit_code_2(files, capsys, case, monkeypatch):
    more, message = BROKEN[case]
    (files / "twice.yaml").write_text("OPTIM:\n  LR: 1\n  LR: 2\n")
    monkeypatch.chdir(files)
    if torch.cuda.is_available() and case == "half on a CPU":
        more = [*more, "USE_CUDA", "False"]
    code = train.main(train.parse_args(arguments(files, *more)))
    lines = capsys.readouterr().err.strip().splitlines()
    assert code == 2 and lines[-1].startswith("error: ") and message in lines[-1]
    assert len(
        [line for line in lines if line.startswith("error")]
    ) == 1 and "Traceback" not in "".join(lines)


def test_a_record_tells_what_the_run_is_for(files):
    """The structure and CRAFT as the trainer's class says; names from the command line."""
    (files / "craft").mkdir()
    (files / "craft/mine.yaml").write_text("TRAINER:\n  CRAFT:\n    LAMBDA_STATIC: 0.25\n")
    described = ("--protocol", "ablation", "--study", "own", "OPTIM.MAX_EPOCH", "1")
    preset = ("--config-file", str(files / "craft/mine.yaml"))
    args = train.parse_args(arguments(files, *preset, *described, trainer="CraftCoOp"))
    assert train.main(args) == 0
    stored = json.loads((files / "out/results.json").read_text())
    assert stored["run"] == {
        "protocol": "ablation",
        "study": "own",
        "part": "train",
        "source": "data",
        "tested": "data",
        "target": "",
        "subset": "all",
        "trainer": "CraftCoOp",
        "structure": "CoOp",
        "craft": "mine",
        "learns": True,
        "config": "trainer_mine",
        "shots": "all",
        "seed": 1,
    }
    assert "run" not in stored["config"]  # no hash depends on it
    more = ("--source", "dtd", "--eval-only")
    assert (
        train.main(train.parse_args(arguments(files, *more, trainer="ZeroshotCLIP", out="z"))) == 0
    )
    run = json.loads((files / "z/results.json").read_text())["run"]
    assert (run["part"], run["source"], run["tested"]) == ("test", "dtd", "data")
    assert (run["protocol"], run["structure"], run["craft"]) == ("", "ZeroshotCLIP", "")
    assert run["learns"] is False and run["config"] == "trainer"


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (
            ("--protocol", "base2newt"),
            "unknown --protocol 'base2newt': did you mean 'base2new'? known ones are ablation, ",
        ),
        (("--source", "emojy"), "unknown data set 'emojy': did you mean 'emoji'?"),
        (("--target", "emojy"), "unknown data set 'emojy': did you mean 'emoji'?"),
        (
            ("--protocol", "xd", "--eval-only", "--model-dir", "run"),
            "was trained on: give that data set with --source",
        ),
    ],
)
def test_what_a_run_is_for_has_to_be_known(files, capsys, more, message):
    assert train.main(train.parse_args(arguments(files, *more))) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: ") and message in line
    assert not (files / "out").exists()


@pytest.mark.parametrize(
    ("names", "preset"),
    [
        (("trainers/CraftCoOp/mine_mmd",), "mmd"),
        (("trainers/CoOp/drawings",), "default"),
        (("trainers/CoOp/drawings", "craft/group"), "group"),
    ],
)
def test_a_craft_config_of_one_s_own_tells_its_preset_by_its_name(names, preset):
    words = [word for name in names for word in ("--config-file", f"configs/{name}.yaml")]
    args = train.parse_args(words)
    assert train.preset_of(args, "CraftCoOp") == preset


def test_a_config_of_older_versions_is_two_files_now():
    path = str(ROOT / "configs/trainers/CraftCoOp/drawings_mmd.yaml")
    with pytest.raises(UserError) as caught:
        train.read_config(path)
    assert str(caught.value).endswith(
        ": give two files, --config-file configs/trainers/CoOp/drawings.yaml "
        "--config-file configs/craft/mmd.yaml"
    )


def test_what_learns_nothing_is_tested_without_a_model(files):
    assert (
        train.main(train.parse_args(arguments(files, "--eval-only", trainer="ZeroshotCLIP"))) == 0
    )
    assert json.loads((files / "out/results.json").read_text())["complete"]


def test_the_activation_is_part_of_the_configuration(files):
    """And its default changes no hash of earlier runs."""
    plain, auto = (
        config(files, *more) for more in ((), ("MODEL.BACKBONE.ACTIVATION", "quick_gelu"))
    )
    gelu = config(files, "MODEL.BACKBONE.ACTIVATION", "gelu")
    before = plain.clone()
    del before.MODEL.BACKBONE["ACTIVATION"]
    assert run_hash(before) == run_hash(plain) == run_hash(auto) != run_hash(gelu)


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without CUDA")
def test_cuda_asked_for_and_absent(files):
    with pytest.raises(
        UserError, match="USE_CUDA is True but torch finds no CUDA device: set USE_CUDA False"
    ):
        config(files, "USE_CUDA", "True")
    assert config(files).USE_CUDA  # the default falls back with a line in the log


def test_bad_yaml_and_circular_includes_are_named(files):
    for text, message in (
        ("OPTIM: [", "is not valid YAML"),
        ("- 1", "holds no 'KEY: value' pairs"),
        ("BASE: bad.yaml", "includes itself"),
        ("OPTIM:\n  LRR: 1", r"unknown config key 'OPTIM.LRR' \(in '.*bad.yaml'\)"),
    ):
        (files / "bad.yaml").write_text(text)
        with pytest.raises(UserError, match=message):
            config(files, config="bad.yaml")
    with pytest.raises(UserError, match="TRAINER.NAME is not set: give --trainer"):
        config(files, "TRAINER.NAME", "")


@pytest.mark.parametrize(
    ("flag", "path", "message"),
    [
        (
            "--config-file",
            "CoOp/vit_b61.yaml",
            "did you mean 'vit_b16'? in '{configs}/CoOp' there are drawings, groups, ",
        ),
        (
            "--config-file",
            "Coop/vit_b16.yaml",
            "did you mean 'CoOp'? in '{configs}' there are CoCoOp, CoOp, ",
        ),
        (
            "--config-file",
            "CoOp",
            "(Is a directory): in '{configs}/CoOp' there are drawings, groups, ",
        ),
        (
            "--dataset-config-file",
            "../datasets/emojis.yaml",
            "did you mean 'emoji'? in '{configs}/../datasets' there are caltech101, ",
        ),
        ("--config-file", "none/none/none.yaml", "(No such file or directory): correct the path"),
    ],
)
def test_a_config_that_is_not_there_is_looked_for_among_those_that_are(files, flag, path, message):
    with pytest.raises(UserError) as caught:
        config(files, flag, str(ROOT / "configs/trainers" / path))
    assert message.format(configs=ROOT / "configs/trainers") in str(caught.value)


def test_a_base_behind_a_link_is_that_of_the_link_s_target(files):
    """Seen from `far`, ../rate.yaml lies beside what the link names, not beside the link."""
    for folder in ("here", "there/far"):
        (files / folder).mkdir(parents=True)
    (files / "here/far").symlink_to(files / "there/far")
    for folder, rate in (("here", 1.0), ("there", 2.0)):
        (files / folder / "rate.yaml").write_text(f"OPTIM:\n  LR: {rate}\n")
    (files / "there/far/mine.yaml").write_text("BASE: ../rate.yaml\n")
    assert config(files, "--config-file", str(files / "here/far/mine.yaml")).OPTIM.LR == 2.0
    (files / "there/rate.yaml").write_text("BASE: far/mine.yaml\n")
    with pytest.raises(UserError, match="includes itself through BASE"):
        config(files, "--config-file", str(files / "here/far/mine.yaml"))


def test_folders_behind_a_link_are_those_of_the_link_s_target(files, monkeypatch):
    for folder in ("here", "there/far"):
        (files / folder).mkdir(parents=True)
    (files / "here/far").symlink_to(files / "there/far")
    monkeypatch.chdir(files / "here")
    args = train.parse_args(arguments(files, "--output-dir", "far/../out"))
    assert train.main(args) == 0
    assert (files / "there/out/results.json").is_file()
    assert [path.name for path in (files / "here").iterdir()] == ["far"]
    (files / "there/data").mkdir()
    args = train.parse_args(arguments(files, "--root", "far/../data"))
    assert data_root(train.setup_cfg(args), "") == str(files / "there/data")


def test_a_base_that_is_not_there_names_the_file_that_asks_for_it(files):
    (files / "bad.yaml").write_text("BASE: trainers.yaml\n")
    with pytest.raises(UserError) as caught:
        config(files, config="bad.yaml")
    assert (
        f"config file '{files / 'trainers.yaml'}', the BASE of '{files / 'bad.yaml'}', cannot be "
        "read (No such file or directory): "
        f"did you mean 'trainer'? in '{files}' there are bad, craft, data, trainer"
    ) == str(caught.value)
    for text in ("5", "[a]", "null"):
        (files / "bad.yaml").write_text(f"BASE: {text}\n")
        with pytest.raises(
            UserError,
            match=(
                r"BASE \(in '.*bad.yaml'\) is (5|no text|null): name the config file to "
                r"start from"
            ),
        ):
            config(files, config="bad.yaml")


def test_the_home_folder_in_every_path(files, monkeypatch):
    monkeypatch.setenv("HOME", str(files))
    (files / "craft.yaml").write_text(
        "BASE: ~/trainer.yaml\nOUTPUT_DIR: ~/there\nDATASET: {INDICES: ~/picks, FOLDER: ~}\n"
    )
    args = train.parse_args(
        [
            "--root",
            "~/data",
            "--seed",
            "1",
            "--trainer",
            "CoOp",
            "--dataset-config-file",
            "~/data.yaml",
            "--config-file",
            "~/craft.yaml",
            "--model-dir",
            "~/out",
            "--resume",
            "~/old",
            "--backbone",
            "~/clip.pt",
            "DATASET.CSV",
            "~/x.csv",
            "MODEL.INIT_WEIGHTS",
            "~/w.pt",
        ]
    )
    cfg = train.setup_cfg(args)
    found = (
        cfg.DATASET.ROOT,
        cfg.OUTPUT_DIR,
        cfg.DATASET.INDICES,
        cfg.DATASET.CSV,
        cfg.MODEL.INIT_WEIGHTS,
        cfg.RESUME,
        cfg.MODEL.BACKBONE.NAME,
        args.model_dir,
    )
    assert found == tuple(
        str(files / name)
        for name in ("data", "there", "picks", "x.csv", "w.pt", "old", "clip.pt", "out")
    )
    assert cfg.DATASET.FOLDER == str(files) and cfg.OPTIM.LR == 0.1  # of the BASE


def test_names_that_nothing_is_registered_under_are_refused_before_the_output_folder_is_made(files):
    for key, value, near in (
        ("TRAINER.NAME", "coop", "'CoOp'"),
        ("DATASET.NAME", "emoji", "'Emoji'"),
        ("DATASET.TARGET", "EmojiLin", "'EmojiLine'"),
    ):
        with pytest.raises(
            UserError, match=f"unknown .* '{value}': did you mean {near}. known ones are "
        ):
            config(files, key, value)
    with pytest.raises(UserError, match="OUTPUT_DIR is not set: give --output-dir"):
        config(files, "OUTPUT_DIR", "")


@pytest.mark.slow
def test_train_then_skip_then_test_on_new_classes(files, capsys):
    assert train.main(train.parse_args(arguments(files, "--skip-done"))) == 0
    results = json.loads((files / "out/results.json").read_text())
    assert results["complete"] and results["epochs"] == 2
    capsys.readouterr()
    assert train.main(train.parse_args(arguments(files, "--skip-done"))) == 0
    assert capsys.readouterr().out == f"Done already: {files / 'out'}\n"
    new = [
        "--eval-only",
        "--model-dir",
        str(files / "out"),
        "--load-epoch",
        "2",
        "--output-dir",
        str(files / "new"),
        "DATASET.SUBSAMPLE_CLASSES",
        "new",
    ]
    assert train.main(train.parse_args(arguments(files, *new))) == 0
    found = json.loads((files / "new/results.json").read_text())
    assert (
        found["complete"]
        and found["subsample_classes"] == "new"
        and found["metrics"]["test"]["total"] == 6
    )
    # An interrupted run is never taken for a finished one.
    results["complete"] = False
    (files / "out/results.json").write_text(json.dumps(results))
    assert train.main(train.parse_args(arguments(files, "--skip-done"))) == 0
    assert (
        "Done already" not in capsys.readouterr().out
        and json.loads((files / "out/results.json").read_text())["complete"]
    )


def refused(files, capsys, *more, **kwargs) -> str:
    """What is said, in one line, of a run that is not started; no file changes."""

    def state():
        return {path: path.read_bytes() for path in files.rglob("*") if path.is_file()}

    _restore()  # the log of an earlier run in this process
    before = state()
    capsys.readouterr()
    assert train.main(train.parse_args(arguments(files, *more, **kwargs))) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: ") and state() == before
    return line


def test_what_was_tested_is_part_of_a_finished_evaluation(files, capsys):
    run = train.parse_args(arguments(files, "TRAIN.CHECKPOINT_FREQ", "1"))
    assert train.main(run) == 0
    flags = ["--eval-only", "--skip-done", "--model-dir", str(files / "out")]

    def evaluate(epoch, folder, *more):
        capsys.readouterr()
        assert (
            train.main(
                train.parse_args(
                    arguments(
                        files,
                        *flags,
                        "--load-epoch",
                        epoch,
                        "--output-dir",
                        str(files / folder),
                        *more,
                    )
                )
            )
            == 0
        )
        return capsys.readouterr().out

    assert "(epoch = 1)" in evaluate("1", "new") and evaluate("1", "new").startswith("Done already")
    assert "(epoch = 2)" in evaluate("2", "newer")
    assert json.loads((files / "newer/results.json").read_text())["loaded"] == {
        "model_dir": "../out",
        "epoch": 2,
    }
    said = refused(files, capsys, *flags, "--load-epoch", "2", "--output-dir", str(files / "new"))
    assert (
        "new/results.json' holds results of another run (a test of epoch 1 of '../out' there, a "
        "test of epoch 2 of '../out' here)" in said
    )
    assert "move that folder away, or choose another --output-dir" in said
    page = (ROOT / "docs/running.md").read_text().splitlines()
    (line,) = [line for line in page if "holds results of another run (" in line]
    assert line.rpartition("): ")[2] == said.strip().rpartition("): ")[2]
    # Nor does an evaluation take the place of the training.
    assert "(a training there, a test of epoch 1 of '.' here)" in refused(
        files, capsys, *flags, "--load-epoch", "1"
    )


def test_results_of_another_configuration_stay_and_the_difference_is_shown(files, capsys):
    assert train.main(train.parse_args(arguments(files))) == 0
    said = refused(files, capsys, "OPTIM.LR", "0.3", "TRAINER.COOP.CSC", "True")
    assert said.startswith(
        f"error: '{files / 'out/results.json'}' holds results of another run (OPTIM.LR is 0.1 "
        "there and 0.3 here; "
        "TRAINER.COOP.CSC is False there and True here): move that folder"
    )
    # Without results, the checkpoint tells.
    (files / "out/results.json").unlink()
    assert train.main(train.parse_args(arguments(files, "OPTIM.LR", "0.3"))) == 2
    assert (
        "is of a run with another configuration (OPTIM.LR is 0.1 there and 0.3 here): choose "
        "another" in capsys.readouterr().err
    )
    for text in ("{", "[]", ""):
        (files / "out/results.json").write_text(text)
        assert (
            "results.json' is not valid JSON"
            if text != "[]"
            else "(it holds no whole configuration)"
        ) in refused(files, capsys)


def test_a_model_is_tested_with_what_it_was_trained_with(files, capsys):
    assert train.main(train.parse_args(arguments(files))) == 0
    flags = [
        "--eval-only",
        "--model-dir",
        str(files / "out"),
        "--load-epoch",
        "2",
        "--output-dir",
        str(files / "new"),
    ]
    said = refused(files, capsys, *flags, "TRAINER.COOP.CLASS_TOKEN_POSITION", "middle")
    assert (
        f"the model in '{files / 'out'}' was trained with other settings "
        "(TRAINER.COOP.CLASS_TOKEN_POSITION is end there and middle here): give" in said
    )
    assert "(TRAINER.NAME is CoOp there and CraftCoOp here)" in refused(
        files, capsys, *flags, trainer="CraftCoOp"
    )
    other = files / "other.pt"
    other.write_bytes((files / "clip.pt").read_bytes() + b" ")
    assert f"(MODEL.BACKBONE.NAME is {files / 'clip.pt'} there and {other} here)" in refused(
        files, capsys, *flags, "MODEL.BACKBONE.NAME", str(other)
    )
    before = (files / "clip.pt").read_bytes()
    (files / "clip.pt").write_bytes(before + b" ")
    assert (
        f"was trained with another content of '{files / 'clip.pt'}': restore that file"
        in refused(files, capsys, *flags)
    )
    (files / "clip.pt").write_bytes(before)
    assert "(MODEL.BACKBONE.ACTIVATION is quick_gelu there and gelu here)" in refused(
        files, capsys, *flags, "MODEL.BACKBONE.ACTIVATION", "gelu"
    )
    # What only training reads, precision, and where files lie may differ.
    moved = files / "moved.pt"
    (files / "clip.pt").rename(moved)
    (files / "out").rename(files / "old")
    flags[2] = str(files / "old")
    free = [
        "OPTIM.LR",
        "7",
        "DATALOADER.TEST.BATCH_SIZE",
        "1",
        "TRAINER.TEXT_CHECKPOINTING",
        "True",
        "TRAINER.COOP.PREC",
        "amp",
        "MODEL.BACKBONE.NAME",
        str(moved),
    ]
    assert train.main(train.parse_args(arguments(files, *flags, *free))) == 0
    # Other codes leave no results.json, and tell no settings in their checkpoints.
    (files / "old/results.json").unlink()
    path = files / "old/prompt_learner/model.pth.tar-2"
    checkpoint = torch.load(path, weights_only=False)
    torch.save({key: checkpoint[key] for key in ("state_dict", "epoch")}, path)
    flags[-1] = str(files / "newer")
    free += ["TRAINER.COOP.CLASS_TOKEN_POSITION", "middle"]
    assert train.main(train.parse_args(arguments(files, *flags, *free))) == 0


def test_a_full_disk_is_one_sentence(files, capsys, monkeypatch):
    if not Path("/dev/full").exists():
        pytest.skip("there is no /dev/full, a disk that is always full, here")
    from dassl.utils import logger

    monkeypatch.setattr(logger, "_LogFile", lambda path, kind=logger._LogFile: kind("/dev/full"))
    assert train.main(train.parse_args(arguments(files))) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line == (
        "error: cannot write the log '/dev/full' (No space left on device): free "
        "space or choose another OUTPUT_DIR"
    )


@pytest.mark.slow
def test_the_program_itself_prints_no_traceback(tmp_path):
    done = subprocess.run(
        [
            sys.executable,
            str(ROOT / "train.py"),
            "--trainer",
            "CoOp",
            "--dataset-config-file",
            "none.yaml",
        ],
        capture_output=True,
        text=True,
        cwd=tmp_path,
    )
    assert done.returncode == 2 and done.stdout == ""
    assert (
        done.stderr.strip()
        .splitlines()[-1]
        .startswith("error: config file 'none.yaml' cannot be read")
    )
    assert "Traceback" not in done.stderr


def test_a_record_names_the_data_that_the_run_has(files, capsys):
    told = ("--protocol", "xd")
    for more, words in (
        ((*told, "--source", "dtd"), "--source is dtd, but this run trains on data: leave"),
        ((*told, "--target", "dtd"), "--target is dtd, but DATASET.TARGET is ''"),
        ((*told, "DATASET.NAME", "EuroSAT"), "DATASET.NAME is EuroSAT, and tables would call it"),
    ):
        assert words in refused(files, capsys, *more)
    assert train.main(train.parse_args(arguments(files, *told))) == 0
    test = ("--eval-only", "--model-dir", str(files / "out"), "--load-epoch", "2")
    new = ("--output-dir", str(files / "new"))
    for more, words in (
        (("--source", "dtd"), "--source is dtd, but the model in"),
        (("--source", "data", "--target", "dtd"), "was trained without: leave --target out"),
    ):
        assert words in refused(files, capsys, *told, *test, *new, *more)


def test_a_run_that_began_from_a_model_goes_on_from_it_only(files, capsys):
    """A training may start from another run's model: going on without it is another run."""
    first = train.parse_args(arguments(files))
    assert train.main(first) == 0
    start = ("--model-dir", str(files / "out"), "--load-epoch", "2")
    warm, cold = (("--output-dir", str(files / name)) for name in ("warm", "cold"))
    every = ("TRAIN.CHECKPOINT_FREQ", "1")
    for more in ((*warm, *start), cold):
        assert train.main(train.parse_args(arguments(files, *more, *every))) == 0
    for name, more in (("warm", warm), ("cold", (*cold, *start))):
        for path in (files / name).rglob("*"):
            if path.name.endswith("-2") or path.name in ("results.json", "checkpoint"):
                path.unlink()
        _restore()
        capsys.readouterr()
        assert train.main(train.parse_args(arguments(files, *more, *every))) == 2
        assert "began from another model, or from none: give" in capsys.readouterr().err
    assert train.main(train.parse_args(arguments(files, *warm, *start, *every))) == 0
    written = json.loads((files / "warm/results.json").read_text())
    assert (written["loaded"], written["began_from"]["epoch"]) == (None, 2)
    assert train.main(train.parse_args(arguments(files, *warm, *start, "--eval-only"))) == 2
    assert (
        "a training that began from epoch 2 of '../out' there, a test of epoch 2 of '../out' here"
        in capsys.readouterr().err
    )


def test_a_test_of_a_stopped_run_has_its_settings(files, capsys):
    """Without results.json the checkpoint tells the settings."""
    assert train.main(train.parse_args(arguments(files))) == 0
    (files / "out/results.json").unlink()
    test = ("--eval-only", "--model-dir", str(files / "out"), "--load-epoch", "2")
    new = ("--output-dir", str(files / "new"))
    said = refused(files, capsys, *test, *new, "TRAINER.COOP.CLASS_TOKEN_POSITION", "front")
    assert "was trained with other settings" in said and "CLASS_TOKEN_POSITION" in said
    assert train.main(train.parse_args(arguments(files, *test, *new))) == 0


def test_config_files_of_other_trainers_are_noted(capsys):
    def said(trainer: str, *files: str) -> list[str]:
        words = [word for file in files for word in ("--config-file", str(ROOT / "configs" / file))]
        return train.other_files(train.parse_args(words), trainer)

    maple, coop = "trainers/MaPLe/drawings.yaml", "trainers/CoOp/drawings.yaml"
    craft = "craft/default.yaml"
    (one,) = said("CoOp", maple)
    assert "has the settings of MaPLe, not of CoOp" in one
    (one,) = said("CoOp", coop, craft)
    assert "which CoOp does not read: did you mean --trainer CraftCoOp?" in one
    for trainer, files in (
        ("CoOp", [coop]),
        ("CraftCoOp", [coop, craft]),
        ("ZeroshotCLIP", [coop]),
        ("CraftMaPLe", [maple, craft]),
    ):
        assert said(trainer, *files) == []


@pytest.mark.parametrize(
    ("trainer", "options", "reason"),
    [
        ("CoOp", "TRAINER.MAPLE.N_CTX 4", "CoOp does not read the options of MAPLE"),
        (
            "CoOp",
            "TRAINER.CRAFT.LAMBDA_STATIC 1",
            "CoOp does not read the options of CRAFT: did you mean the trainer CraftCoOp?",
        ),
        ("CraftCoOp", "TRAINER.CRAFT.MMD.SPACE feature", "TRAINER.CRAFT.LAMBDA_MMD is 0.0"),
        (
            "CraftCoOp",
            "TRAINER.CRAFT.MMD.SIGMAS [2.0] TRAINER.CRAFT.LAMBDA_MMD 1",
            "TRAINER.CRAFT.MMD.BANDWIDTH is median",
        ),
        ("CraftCoOp", "TRAINER.CRAFT.KMEANS_SEED 1", "TRAINER.CRAFT.ANCHORS_PER_CLASS is 1"),
        (
            "CoOp",
            "OPTIM.GAMMA 0.5 OPTIM.LR_SCHEDULER cosine OPTIM.WARMUP_EPOCH 1",
            "the optimiser sgd and the schedule cosine, with linear warm-up, do not read it",
        ),
        (
            "CoOp",
            "OPTIM.ADAM_BETA1 0.5",
            "the optimiser sgd and the schedule single_step, without warm-up, do not read it",
        ),
        ("ZeroshotCLIP", "OPTIM.LR 0.5", "ZeroshotCLIP learns nothing"),
        ("TipAdapter", "OPTIM.LR 0.5", "TipAdapter does not learn in epochs"),
        ("CoOp", "MODEL.HEAD.BN False", "CoOp does not read it"),
        ("CoOp", "DATASET.CSV a.csv DATASET.NAME Emoji", "Emoji does not read it"),
        ("CoOp", "DATASET.VAL_PERCENT 0.2 DATASET.NAME Emoji", "Emoji does not read it"),
        (
            "CoOp",
            "DATALOADER.TRAIN_U.BATCH_SIZE 2 DATASET.NAME Emoji",
            "DATASET.TARGET is empty",
        ),
        (
            "CoOp",
            "DATALOADER.TRAIN_U.BATCH_SIZE 2 DATASET.NAME Emoji DATASET.TARGET EmojiLine",
            "DATALOADER.TRAIN_U.SAME_AS_X is True",
        ),
        ("CoOp", "INPUT.CUTOUT_N 2", "INPUT.TRANSFORMS is ('normalize',)"),
        ("CoOp", "LOG.WANDB_PROJECT mine", "LOG.WANDB is False"),
        ("CoOp", "DATASET.REPEAT 3", "DATASET.REPEAT_FROM is empty"),
    ],
)
def test_a_key_that_no_part_of_a_run_reads_is_noted(files, trainer, options, reason):
    """Keys behind the first are read."""
    args = train.parse_args(arguments(files, *options.split(), trainer=trainer))
    assert train.without_effect(args, train.setup_cfg(args)) == [
        f"{options.split()[0]} has no effect: {reason}"
    ]


@pytest.mark.parametrize(
    ("trainer", "options"),
    [
        ("CraftCoOp", "TRAINER.CRAFT.MMD.SPACE feature TRAINER.CRAFT.LAMBDA_MMD 1"),
        ("CraftCoOp", "TRAINER.CRAFT.KMEANS_SEED 1 TRAINER.CRAFT.ANCHORS_PER_CLASS 2"),
        ("CoOp", "TRAINER.GROUP_DRO.STEP 1 TRAINER.TERMS ('GroupDRO',)"),
        ("CoOp", "OPTIM.GAMMA 0.5 OPTIM.STEPSIZE (1,)"),
        ("CoOp", "OPTIM.ADAM_EPS 1e-6 OPTIM.ADAM_BETA1 0.5 OPTIM.NAME adam"),
        ("CoOp", "OPTIM.SGD_NESTEROV True OPTIM.MOMENTUM 0"),  # refused later
        ("TipAdapter", "OPTIM.LR 0.5 TRAINER.TIP_ADAPTER.FINE_TUNE True"),
        ("ZeroshotCLIP", "DATASET.CUT 1 VERBOSE False TRAIN.PRINT_FREQ 5"),
        ("CoOp", "DATASET.VAL_PERCENT 0.2 DATASET.CSV a.csv"),  # TinyNoise may read any key
        ("CoOp", "DATASET.CSV a.csv DATASET.FOLDER b DATASET.NAME CSV"),
        ("CoOp", "DATALOADER.TRAIN_U.SAME_AS_X False DATASET.NAME Emoji DATASET.TARGET EmojiLine"),
        ("CoOp", "INPUT.CUTOUT_N 2 INPUT.TRANSFORMS ('cutout',)"),
    ],
)
def test_no_key_is_noted_that_a_run_may_read(files, trainer, options):
    args = train.parse_args(arguments(files, *options.split(), trainer=trainer))
    assert train.without_effect(args, train.setup_cfg(args)) == []


def test_a_note_on_a_key_without_effect_is_in_the_log_of_the_run(files):
    spare = ("--head", "mlp", "TRAINER.MAPLE.N_CTX", "4")
    assert train.main(train.parse_args(arguments(files, *spare, "OPTIM.MAX_EPOCH", "1"))) == 0
    lines = (files / "out/log.txt").read_text().splitlines()
    assert [line for line in lines if "has no effect" in line] == [
        "Note: MODEL.HEAD.NAME has no effect: CoOp does not read it",
        "Note: TRAINER.MAPLE.N_CTX has no effect: CoOp does not read the options of MAPLE",
    ]


def test_a_run_that_goes_on_with_other_threads_says_so(files, capsys):
    """The record has the number with which the run ended."""
    args = train.parse_args(arguments(files, "TRAIN.CHECKPOINT_FREQ", "1"))
    before = torch.get_num_threads()
    try:
        for threads, noted in ((1, False), (1, False), (2, True)):
            torch.set_num_threads(threads)
            for path in (files / "out").rglob("*"):
                if path.name.endswith("-2") or path.name in ("results.json", "checkpoint"):
                    path.unlink()
            _restore()
            capsys.readouterr()
            assert train.main(args) == 0
            said = "Note: the run had 1 CPU thread(s) and goes on with 2, so that on a CPU its"
            assert (said in capsys.readouterr().out) == noted
            results = json.loads((files / "out/results.json").read_text())
            assert results["threads"] == threads
    finally:
        torch.set_num_threads(before)


def test_a_run_that_does_nothing_says_so(files, capsys):
    assert train.main(train.parse_args(arguments(files, "--no-train"))) == 0
    assert "nothing was trained" in capsys.readouterr().out
