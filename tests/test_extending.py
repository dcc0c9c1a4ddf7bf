"""docs/extending.md, followed literally."""

import json
import re
import sys
import types
from dataclasses import asdict
from pathlib import Path

import pytest
import torch
from PIL import Image

import train
import trainers
import trainers.terms
from dassl.config import cfg_to_dict
from dassl.engine import run_settings
from dassl.evaluation import Classification
from dassl.utils import UserError, read_json
from tools import export, figures, plans, predict, protocols, report, results
from trainers.backbone import load_backbone
from trainers.base import PromptTrainer

ROOT = Path(__file__).resolve().parent.parent
PAGE = (ROOT / "docs/extending.md").read_text()
# {title of a section: its blocks of code}
SECTIONS = {
    section.partition("\n")[0]: re.findall(r"```(?:python|yaml)\n(.*?)```", section, re.S)
    for section in PAGE.split("\n## ")[1:]
}
STRUCTURE, CONFIG = SECTIONS["A structure"]
(CRAFTED,) = SECTIONS["A structure with CRAFT"]
(TERM,) = SECTIONS["A loss term"]
(DATA,) = SECTIONS["A data set"]
(METRIC,) = SECTIONS["A metric"]
(PROTOCOL,) = SECTIONS["A protocol"]

# What the page says is refused: one vector for each class.
PER_CLASS = """
import torch
from torch import nn
from yacs.config import CfgNode

from dassl.engine import TRAINER_REGISTRY
from trainers.backbone import unit
from trainers.base import PromptTrainer
from trainers.model import PromptedCLIP


def extend_cfg(cfg):
    cfg.TRAINER.BIAS = CfgNode({"PREC": "fp32"})


class BiasModel(PromptedCLIP):
    def build_prompts(self):
        self.frozen = self.backbone.encode_texts(self.class_texts())
        prompts = nn.Module()
        prompts.bias = nn.Parameter(torch.zeros_like(self.frozen))
        return prompts

    def text_features(self):
        return unit(self.frozen + self.prompts.bias)


@TRAINER_REGISTRY.register()
class Bias(PromptTrainer):
    structure = BiasModel
    options = "BIAS"
"""


def module(name: str, code: str) -> types.ModuleType:
    made = types.ModuleType(name)
    sys.modules[name] = made
    exec(compile(code, name, "exec"), made.__dict__)
    return made


@pytest.fixture(scope="module", autouse=True)
def extended(tmp_path_factory):
    """The files that the page asks for, in a folder that the packages search, too."""
    folder = tmp_path_factory.mktemp("more")
    (folder / "terms").mkdir()
    (folder / "offset.py").write_text(f"{STRUCTURE}\n\n{CRAFTED}")
    (folder / "bias.py").write_text(PER_CLASS)
    (folder / "terms/confidence.py").write_text(TERM)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(trainers, "__path__", [*trainers.__path__, str(folder)])
        terms = [*trainers.terms.__path__, str(folder / "terms")]
        patch.setattr(trainers.terms, "__path__", terms)
        patch.setattr(trainers, "MODULES", trainers.modules())
        module("datasets.sets.pond", DATA)
        module("dassl.evaluation.metrics.brier_score", METRIC)
        yield


def make_pond(folder: Path, *names: str) -> Path:
    """Pictures of these animals, and the configs beside links to the shared ones."""
    split = {part: [] for part in ("train", "val", "test")}
    for part, rows in split.items():
        for label, name in enumerate(names):
            for i in range(3):
                path = folder / f"data/pond/images/{name}/{part}{i}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                Image.new("RGB", (80, 70), (50 * label, 40 * i, 90)).save(path)
                rows.append([f"{name}/{path.name}", label, name])
    (folder / "data/pond/split_zhou_Pond.json").write_text(json.dumps(split))
    (folder / "configs/trainers/Offset").mkdir(parents=True)
    (folder / "configs/trainers/Offset/drawings.yaml").write_text(CONFIG)
    (folder / "configs/base").symlink_to(ROOT / "configs/base")
    (folder / "pond.yaml").write_text("DATASET:\n  NAME: Pond\n")
    return folder


@pytest.fixture
def folder(tmp_path):
    return make_pond(tmp_path, "frog", "newt", "pike")


@pytest.fixture
def five(tmp_path):
    """Three base classes and two new ones."""
    return make_pond(tmp_path, "frog", "newt", "pike", "heron", "dragonfly")


def arguments(folder: Path, trainer: str, *more: str, out: str = "out"):
    return train.parse_args(
        [
            "--root",
            str(folder / "data"),
            "--seed",
            "1",
            "--trainer",
            trainer,
            "--output-dir",
            str(folder / out),
            "--dataset-config-file",
            str(folder / "pond.yaml"),
            "--config-file",
            str(folder / "configs/trainers/Offset/drawings.yaml"),
            *more,
            "DATASET.NUM_SHOTS",
            "2",
        ]
    )


TEST = ("--eval-only", "--load-epoch", "1", "--model-dir")


@pytest.mark.parametrize("trainer", ["Offset", "CraftOffset"])
def test_the_structure_of_the_page_learns_base_classes_and_is_tested_on_new_ones(
    five, trainer, capsys
):
    base, new = (("DATASET.SUBSAMPLE_CLASSES", part) for part in ("base", "new"))
    args = arguments(five, trainer, *base)
    assert cfg_to_dict(train.setup_cfg(args))["TRAINER"]["OFFSET"] == {"PREC": "fp32"}
    assert train.main(args) == 0
    results = read_json(str(five / "out/results.json"))
    assert results["complete"] and results["trainer"] == trainer
    assert results["metrics"]["test"]["total"] == 9 and len(results["classnames"]) == 3
    log = (five / "out/log.txt").read_text()
    assert ("craft_static" in log) == ("craft_stochastic" in log) == (trainer == "CraftOffset")
    state = torch.load(five / "out/prompt_learner/model.pth.tar-2", weights_only=True)["state_dict"]
    assert list(state) == ["offset"] and state["offset"].abs().sum() > 0
    test = ("--eval-only", "--model-dir", str(five / "out"), "--load-epoch", "2", *new)
    assert train.main(arguments(five, trainer, *test, out="new")) == 0
    results = read_json(str(five / "new/results.json"))
    assert results["metrics"]["test"]["total"] == 6 and len(results["classnames"]) == 2
    picture = str(five / "data/pond/images/frog/test0.png")
    assert predict.main(["--model-dir", str(five / "out"), picture, "--classes", "a,b,c,d"]) == 0
    assert len(capsys.readouterr().out.splitlines()[-5:]) == 5


def test_the_model_of_the_page_works_without_its_trainer(five):
    cfg = train.setup_cfg(arguments(five, "Offset"))
    kind = sys.modules["trainers.offset"].OffsetModel
    backbone = load_backbone(cfg.MODEL.BACKBONE.NAME)
    model = kind(backbone, ["green_frog", "newt"], cfg.TRAINER.OFFSET)
    size = backbone.input_resolution
    images = torch.randn(3, 3, size, size)
    texts = backbone.encode_texts(["a photo of a green frog.", "a photo of a newt."])
    expected = backbone.scale * backbone.encode_images(images) @ texts.t()
    assert torch.allclose(model(images), expected, atol=1e-4)
    assert [name for name, _ in model.named_parameters()] == ["prompts.offset"]


@pytest.mark.parametrize("trainer", ["Offset", "CraftOffset", "CoOp"])
def test_the_term_of_the_page_joins_any_structure(five, trainer):
    more = ("TRAINER.TERMS", "('Confidence',)", "OPTIM.MAX_EPOCH", "1", "TRAINER.COOP.PREC", "fp32")
    args = arguments(five, trainer, *more)
    assert train.main(args) == 0
    assert "confidence" in (five / "out/log.txt").read_text()
    # Its options count, for runs with it only.
    settings = {
        words: run_settings(train.setup_cfg(arguments(five, trainer, *words)))
        for words in ((), more[:2], ("TRAINER.CONFIDENCE.WEIGHT", "2.0"))
    }
    plain, with_term, unused = settings.values()
    assert plain == unused and not any("CONFIDENCE" in key for key in plain)
    assert with_term == plain | {
        "TRAINER.TERMS": ("Confidence",),
        "TRAINER.CONFIDENCE.WEIGHT": 0.1,
    }
    weight = (*more, "TRAINER.CONFIDENCE.WEIGHT", "0")
    assert train.main(arguments(five, trainer, *weight, out="without")) == 0
    assert "confidence " not in (five / "without/log.txt").read_text().rpartition("Learnable")[2]


def test_an_unknown_term_names_those_that_there_are(five, capsys):
    terms = ("TRAINER.TERMS", "('Confidense',)")
    assert train.main(arguments(five, "Offset", *terms)) == 2
    error = capsys.readouterr().err
    assert "TRAINER.TERMS is ('Confidense',): give a list of some of" in error
    for name in ("Confidence", "StaticAlignment", "StochasticAlignment", "DomainDiscrepancy"):
        assert name in error
    cfg = train.setup_cfg(arguments(five, "Offset")).clone()
    cfg.defrost()
    cfg.TRAINER.TERMS = ("Confidense",)  # as upstream's configuration takes it
    with pytest.raises(UserError, match="TRAINER.TERMS has the unknown term 'Confidense': choose"):
        PromptTrainer.term_kinds(cfg)


def rename(folder: Path, *names: str) -> None:
    """The pond's classes get other names, in label order."""
    file = folder / "data/pond/split_zhou_Pond.json"
    split = json.loads(file.read_text())
    file.write_text(
        json.dumps(
            {
                part: [[path, label, names[label]] for path, label, _ in rows]
                for part, rows in split.items()
            }
        )
    )


def train_bias(folder: Path) -> None:
    """For an epoch on frog, newt and pike."""
    assert train.main(arguments(folder, "Bias", "OPTIM.MAX_EPOCH", "1")) == 0


def test_what_it_learned_per_class_is_refused_for_other_classes(folder, capsys):
    train_bias(folder)
    test = arguments(folder, "Bias", *TEST, str(folder / "out"), out="test")
    for names, difference in (
        (("newt", "frog", "pike"), "class 0 is 'frog' there and 'newt' here"),
        (("frog", "newt", "carp"), "class 2 is 'pike' there and 'carp' here"),
        (("frog", "pond_newt", "pike"), "class 1 is 'newt' there and 'pond newt' here"),
    ):
        rename(folder, *names)
        assert train.main(test) == 2
        line = capsys.readouterr().err.splitlines()[-1]
        assert (
            line.startswith("error: checkpoint '")
            and f"'bias' was learned for each class, and {difference};" in line
        )
        assert not (folder / "test/results.json").exists()
        start = ("MODEL.INIT_WEIGHTS", str(folder / "out/prompt_learner/model.pth.tar-1"))
        assert train.main(arguments(folder, "Bias", *start, out="again")) == 2
        assert f"'bias' was learned for each class, and {difference};" in capsys.readouterr().err
    rename(folder, "Frog", "newt_", " pike")  # the same to CLIP
    assert train.main(test) == 0


def test_without_the_names_of_the_training_it_says_so(folder, capsys):
    """Checkpoints of older versions, whose results.json knows them, and of other codes, where
    nobody does.
    """
    train_bias(folder)
    path = folder / "out/prompt_learner/model.pth.tar-1"
    checkpoint = torch.load(path)
    assert checkpoint.pop("classnames") == ["frog", "newt", "pike"]
    torch.save(checkpoint, path)
    rename(folder, "newt", "frog", "pike")
    assert train.main(arguments(folder, "Bias", *TEST, str(folder / "out"), out="test")) == 2
    assert "'bias' was learned for each class" in capsys.readouterr().err
    (folder / "out/results.json").unlink()
    assert train.main(arguments(folder, "Bias", *TEST, str(folder / "out"), out="test")) == 0
    said = capsys.readouterr().out
    assert (
        "does not tell which classes it was trained on, but 'bias' was learned for each of them"
        in said
    )


def test_tools_refuse_other_classes_too(folder, capsys, monkeypatch):
    train_bias(folder)
    model = ["--model-dir", str(folder / "out")]
    picture = str(folder / "data/pond/images/frog/test0.png")
    assert predict.main([*model, picture, "--classes", "frog,newt,pike"]) == 0
    capsys.readouterr()
    other = ["--classes", "newt,frog,pike"]
    for run in (
        lambda: predict.main([*model, picture, *other]),
        lambda: export.main([*model, str(folder / "o.safetensors"), *other]),
    ):
        assert run() == 2
        assert (
            "learned 'bias' for each of its classes, which no other class can use: leave out "
            "--classes" in capsys.readouterr().err
        )
    rename(folder, "newt", "frog", "pike")
    assert figures.main(["tsne", str(folder / "out"), "--out", str(folder / "t")]) == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert (
        "learned 'bias' for each" in error
        and "choose a data set with the classes of that run, not Pond" in error
    )
    assert not (folder / "o.safetensors").exists() and not list(folder.glob("out/features*"))


@pytest.mark.parametrize(("classes", "names"), [("base", ["frog", "newt"]), ("new", ["pike"])])
def test_base_and_new_classes_of_the_data_set_of_the_page(folder, classes, names):
    """Three classes: two of them are base classes, one is new."""
    (folder / "none.yaml").write_text(f"BASE: {ROOT}/configs/base/drawings.yaml\n")
    args = arguments(folder, "ZeroshotCLIP", "--eval-only", "DATASET.SUBSAMPLE_CLASSES", classes)
    args.config_file = [str(folder / "none.yaml")]
    assert train.main(args) == 0
    results = read_json(str(folder / "out/results.json"))
    assert results["classnames"] == names and results["metrics"]["test"]["total"] == 3 * len(names)


def test_the_metric_of_the_page_is_what_its_definition_says(folder, capsys, monkeypatch):
    seen = []
    process = Classification.process
    monkeypatch.setattr(
        Classification,
        "process",
        lambda self, scores, labels: seen.append((scores, labels)) or process(self, scores, labels),
    )
    args = arguments(folder, "Bias", "OPTIM.MAX_EPOCH", "1", "TEST.METRICS", "('brier_score',)")
    assert train.main(args) == 0
    distances = [
        (probability - (column == label)) ** 2
        for scores, labels in seen
        for row, label in zip(scores.softmax(1).tolist(), labels.tolist(), strict=True)
        for column, probability in enumerate(row)
    ]
    value = read_json(str(folder / "out/results.json"))["metrics"]["test"]["brier_score"]
    assert value == pytest.approx(sum(distances) / 9, rel=1e-5)
    assert f"* brier_score: {value:.4g}\n" in capsys.readouterr().out


# A protocol


@pytest.fixture
def protocol(tmp_path, monkeypatch):
    """The file of the page, beside the others in tools/protocols."""
    (tmp_path / "protocols").mkdir()
    (tmp_path / "protocols/new2base.py").write_text(PROTOCOL)
    with monkeypatch.context() as patch:
        patch.setattr(protocols, "__path__", [*protocols.__path__, str(tmp_path / "protocols")])
        protocols.load()
        yield protocols.PROTOCOLS["new2base"]
    sys.modules.pop("tools.protocols.new2base")
    protocols.load()


def test_the_protocol_of_the_page_has_jobs_a_table_and_a_part_of_the_report(
    protocol, tmp_path, capsys
):
    plan = tmp_path / "plan.yaml"
    keys = ["protocol: new2base", "datasets: dtd", "trainers: {CoOp: drawings}"]
    plan.write_text("\n".join([*keys, "craft: [false, true]", "seeds: [1, 2]", "shots: 4"]))
    jobs = plans.read_plan(str(plan)).jobs
    assert [job.folder for job in jobs[:2]] == [
        f"new2base/{part}/dtd/shots_4/CoOp/drawings/seed1" for part in ("train", "test_base")
    ]
    assert jobs[1].trained == jobs[0].folder and jobs[0].options[-1] == "new"
    for told_by in ("record", "folder"):
        output = tmp_path / told_by
        for job in jobs:
            folder = output / (job.folder if told_by == "folder" else job.folder.replace("/", "_"))
            folder.mkdir(parents=True)
            accuracy = 60.0 + job.seed + 2 * (job.trainer == "CraftCoOp") + 10 * job.test
            content = {
                "complete": True,
                "metrics": {"test": {"accuracy": accuracy}},
                "config": {},
                "run": asdict(job.run) if told_by == "record" else None,
            }
            (folder / "results.json").write_text(json.dumps(content))
        assert results.main(["new2base", str(output)]) == 0
        lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("|")]
        cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
        assert cells[0][4:] == ["new", "base", "H", "seeds"]
        assert cells[2][:6] == ["dtd", "CoOp", "drawings", "4", "61.50 ± 0.71", "71.50 ± 0.71"]
        assert cells[-1][1:5] == ["CraftCoOp", "4", *["+2.00 [+2.00, +2.00]"] * 2]
        assert report.main([str(output), "--out", str(tmp_path / "page.html")]) == 0
        assert "<h2 id=new2base>New to base classes</h2>" in (tmp_path / "page.html").read_text()
