"""Mistakes in a user's own files: each is one sentence."""

import json
import shutil
from pathlib import Path

import forked
import pytest
from tiny_run import make_cfg, make_trainer

from dassl.config import cfg_to_dict, rules
from dassl.engine import run_settings
from dassl.utils import UserError
from tools import trained
from trainers.base import PromptTrainer
from trainers.craft.discrepancy import DomainDiscrepancy
from trainers.craft.mmd import samples_needed
from trainers.terms import TERMS, Term, register


@pytest.fixture
def term():
    """A function that registers a term of CRAFT's options under a class name."""

    def make(title: str, module: str = __name__, **attributes):
        given = {"name": "mine", "node": "CRAFT", "weight": classmethod(lambda *_: 1.0)}
        given |= {"forward": lambda self, step: step.features.image.sum(), "__module__": module}
        return register(type(title, (Term,), given | attributes))

    known = dict(TERMS)
    yield make
    TERMS.clear()
    TERMS.update(known)


def test_a_term_never_replaces_another_of_its_name(tmp_path, term):
    term("Mine", name="cross_entropy")
    term("Other", name="cross_entropy")
    trainer = make_trainer(tmp_path, "CoOp", "TRAINER.TERMS", ("Mine",))
    with pytest.raises(UserError, match="term Mine is called 'cross_entropy', as a term of CoOp"):
        trainer.train()
    with pytest.raises(UserError, match="terms Mine and Other are both called 'cross_entropy'"):
        make_trainer(tmp_path, "CoOp", "TRAINER.TERMS", ("Mine", "Other"))


@pytest.mark.parametrize("lacking", ["name", "node"])
def test_a_term_states_its_name_and_its_node(term, lacking):
    with pytest.raises(UserError, match=f"term Mine of {__name__} lacks `{lacking}`"):
        term("Mine", **{lacking: None})


def test_a_terms_node_is_declared(tmp_path, term):
    term("Mine", node="MINE")
    cfg = make_cfg(tmp_path, "CoOp", "TRAINER.TERMS", ("Mine",))
    assert run_settings(cfg)["TRAINER.TERMS"] == ("Mine",)  # comes before the check of a run
    with pytest.raises(UserError, match="TRAINER.MINE is not declared: add it in extend_cfg"):
        PromptTrainer.term_kinds(cfg)


def test_two_modules_do_not_share_a_term_name(term):
    term("Mine", module="trainers.terms.a")
    with pytest.raises(UserError, match="trainers.terms.a and trainers.terms.b both have a term M"):
        term("Mine", module="trainers.terms.b")
    assert TERMS["Mine"].__module__ == "trainers.terms.a"


@pytest.fixture
def checkout(tmp_path):
    """A copy of the code, whose files a test may break."""
    root = Path(__file__).resolve().parent.parent
    for part in ("dassl", "datasets", "tools", "trainers"):
        shutil.copytree(root / part, tmp_path / part)
    shutil.copy(root / "train.py", tmp_path)
    (tmp_path / "configs").symlink_to(root / "configs")
    return tmp_path


def refused(checkout: Path, *command: str) -> str:
    """The only line of stderr of a program, which ends with exit code 2."""
    done = forked.python(*command, cwd=checkout)
    assert done.returncode == 2, done.stderr
    (line,) = done.stderr.splitlines()
    return line


TRAIN, PREDICT = ("train.py",), ("-m", "tools.predict", "--model-dir", "x", "x.png")
SWEEP = ("-m", "tools.sweep", "x.yaml")


@pytest.mark.parametrize(
    ("file", "code", "command", "reason"),
    [
        ("trainers/mine.py", "import torhc", TRAIN, "ModuleNotFoundError: No module named 'torhc'"),
        ("trainers/terms/mine.py", "1 +", PREDICT, "SyntaxError: "),
        ("datasets/sets/mine.py", "raise OSError(2, 'gone')", TRAIN, "FileNotFoundError: "),
        ("dassl/evaluation/metrics/mine.py", "exit(0)", PREDICT, "SystemExit: 0"),
        ("tools/protocols/mine.py", "PROTOCOL = name", SWEEP, "NameError: name 'name' is not"),
    ],
)
def test_a_file_that_cannot_be_imported_is_one_sentence(checkout, file, code, command, reason):
    (checkout / file).write_text(f"{code}\n")
    line = refused(checkout, *command)
    assert line.startswith(f"error: '{file}' cannot be imported ({reason}"), line
    assert line.endswith("): correct it or take it out")


def test_a_copy_of_a_structure_names_both_modules(checkout):
    shutil.copy(checkout / "trainers/coop.py", checkout / "trainers/coop_backup.py")
    line = refused(checkout, *TRAIN)
    assert "'trainers/coop_backup.py' cannot be imported (KeyError: TRAINER registry" in line
    assert "already holds 'CoOp' of trainers.coop, trainers.coop_backup has another" in line


def test_options_of_a_file_that_was_taken_out_do_not_stop_a_tool(tmp_path):
    def read(**groups):
        config["TRAINER"] = before | groups
        text = json.dumps({"complete": True, "epochs": 1, "config": config})
        (tmp_path / "results.json").write_text(text)
        return trained.read(str(tmp_path))[1]

    config = cfg_to_dict(make_cfg(tmp_path, "CoOp"))
    before, gone = config["TRAINER"], {"WEIGHT": 1.0}
    assert "GONE" not in read(GONE=gone).TRAINER
    with pytest.raises(UserError, match="TRAINER.GONE, which .* is of the trainer Gone: bring the"):
        read(GONE=gone, NAME="Gone")
    with pytest.raises(UserError, match="TRAINER.GONE, which .* is of the term Gone: bring the"):
        read(GONE=gone, TERMS=["Gone"])


def test_a_term_of_unlabelled_images_asks_for_a_target(tmp_path, term):
    term("Mine", unlabelled=True)
    trainer = make_trainer(tmp_path, "CoOp", "TRAINER.TERMS", ("Mine",))
    with pytest.raises(UserError, match="term Mine needs unlabelled .* in DATASET.TARGET$"):
        trainer.train()


def test_terms_that_a_run_cannot_use(tmp_path, capsys):
    static = ("TRAINER.TERMS", ("StaticAlignment",))
    trainer = make_trainer(tmp_path, "CoOp", *static, "TRAINER.CRAFT.LAMBDA_STATIC", 0.0)
    assert not trainer.terms
    assert capsys.readouterr().out.count("TRAINER.TERMS names StaticAlignment, with a weight") == 1
    with pytest.raises(UserError, match="ZeroshotCLIP learns nothing and takes no loss terms"):
        make_trainer(tmp_path, "ZeroshotCLIP", *static)
    with pytest.raises(UserError, match="TRAINER.TERMS is .*: give StaticAlignment once"):
        rules.check_value("TRAINER.TERMS", ("StaticAlignment", "StaticAlignment"))


def test_min_and_max_need_two_images(tmp_path):
    group = ("TRAINER.CRAFT.LAMBDA_MMD", 1.0, "TRAINER.CRAFT.MMD.DOMAINS", "group")
    mmd = DomainDiscrepancy(
        make_cfg(
            tmp_path, "CraftCoOp", *group, "TRAINER.CRAFT.MMD.NORMALISE", "minmax"
        ).TRAINER.CRAFT
    )
    with pytest.raises(UserError, match="MMD with NORMALISE minmax needs 2: .*MMD.NORMALISE$"):
        mmd._check_batch("TRAIN_X", 1, samples_needed("biased", "minmax"))


def test_a_data_set_does_not_replace_a_module_of_datasets(checkout):
    (checkout / "datasets/sets/files.py").write_text("")
    line = refused(checkout, *TRAIN)
    assert line.startswith("error: 'datasets/sets/files.py' has the name of a module of datasets/")


def test_a_data_set_beside_its_folder_is_told_where_it_belongs(checkout):
    code = "@DATASET_REGISTRY.register()\nclass Pond(CoOpDataset):\n    pass\n"
    (checkout / "datasets/pond.py").write_text(code)
    line = refused(
        checkout, *TRAIN, "--trainer", "CoOp", "--output-dir", "o", "DATASET.NAME", "Pond"
    )
    assert line.startswith("error: unknown dataset 'Pond': ")
    assert line.endswith("; data sets lie in datasets/sets/: move 'datasets/pond.py' there")
