"""Both ways: our code runs on upstream Dassl, and code written for upstream runs here."""

import ast
import copy
import dataclasses
import io
import json
import pickle
import subprocess
import sys
from pathlib import Path

import forked
import pytest
import torch
import upstream_stand_in
from tiny_run import STRUCTURES, make_trainer
from upstream_stand_in import UPSTREAM
from yacs.config import CfgNode

import datasets
import trainers
from dassl import strict_yaml
from dassl.config import clean_cfg, counted, get_cfg_default
from dassl.data.datasets import Datum, base_dataset
from dassl.engine import TrainerX
from dassl.optim import build_optimizer
from dassl.optim.radam import RAdam
from train import read_config

ROOT = Path(__file__).resolve().parent.parent
FILES = sorted((ROOT / "trainers").rglob("*.py")) + sorted((ROOT / "datasets").glob("*.py"))


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_only_upstream_names_are_imported(path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("dassl"):
            assert {alias.name for alias in node.names} <= UPSTREAM.get(node.module, set()), (
                f"line {node.lineno}"
            )


def test_everything_imports_where_dassl_has_no_user_error():
    code = (
        "import dassl.engine, dassl.utils; del dassl.utils.UserError; import datasets, trainers, "
        "trainers.errors as e; print(e.UserError.__name__)"
    )
    done = forked.python("-c", code, cwd=ROOT)
    assert done.stdout.strip() == "ValueError", done.stderr


def test_messages_are_seen_where_dassl_installs_no_handler():
    code = (
        "import sys, logging, dassl; sys.modules['dassl.messages'] = None\n"
        "for name in ('trainers', 'datasets'): logging.getLogger(name).handlers.clear()\n"
        "import trainers; logging.getLogger('trainers.base').info('Learnable: 3')"
    )
    done = forked.python("-c", code, cwd=ROOT)
    assert done.stdout.splitlines() == ["Learnable: 3"], done.stderr


@pytest.mark.parametrize(
    "name", [f"{craft}{name}" for craft in ("", "Craft") for name in STRUCTURES]
)
def test_a_step_where_batches_are_parsed_into_three(tmp_path, name, monkeypatch):
    """As upstream's TrainerX does: images, labels, domains."""
    monkeypatch.setattr(
        TrainerX,
        "parse_batch_train",
        lambda self, batch: (batch["img"], batch["label"], batch["domain"]),
    )
    trainer = make_trainer(tmp_path, name)
    trainer.batch_idx, trainer.num_batches = 0, 9
    assert torch.tensor(
        trainer.forward_backward(next(iter(trainer.train_loader_x)))["loss"]
    ).isfinite()


# Ours on upstream's engine


@pytest.fixture(scope="module")
def elsewhere(tmp_path_factory):
    """What training every Craft trainer on the stand-in gives."""
    folder = tmp_path_factory.mktemp("upstream")
    done = subprocess.run(
        [sys.executable, "-W", "ignore", upstream_stand_in.__file__, str(folder)],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.parametrize("name", STRUCTURES)
def test_craft_trains_on_upstreams_attributes_alone_with_the_same_losses(tmp_path, name, elsewhere):
    trainer = make_trainer(tmp_path, f"Craft{name}", *upstream_stand_in.OPTIONS)
    found = elsewhere[name]
    assert (
        found["losses"] == pytest.approx(upstream_stand_in.losses(trainer), rel=1e-6)
        and len(found["losses"]) == 3
    )
    assert found["anchors"] == trainer.anchors.labels.tolist()
    assert found["features"] == (
        name in ("CoOp", "CoCoOp")
    )  # cached, since the transform draws nothing
    assert found["accuracy"] == pytest.approx(trainer.test())


def test_cached_views_are_made_there_too(elsewhere):
    assert elsewhere["views"]["views"][:2] == [2, 12] and all(
        0 < loss < 10 for loss in elsewhere["views"]["losses"]
    )


def test_the_transform_of_a_loader_is_its_own_and_without_one_that_of_the_configuration(tmp_path):
    trainer = make_trainer(tmp_path, "CoOp")
    own = trainer.test_loader.dataset.transform
    assert trainer.transform_of(trainer.test_loader, is_train=False) is own
    for loader in (None, [1, 2]):
        assert repr(trainer.transform_of(loader, is_train=False)) == repr(own)
        assert "RandomResizedCrop" in repr(trainer.transform_of(loader, is_train=True))


# Upstream's on ours


def from_pickle(data: bytes):
    return pickle.Unpickler(io.BytesIO(data)).load()


def test_few_shot_pickles_of_upstream_hold_the_images(monkeypatch):
    theirs = upstream_stand_in.Datum
    items = [theirs("a/1.jpg", 3, 1, "cat"), theirs("a/2.jpg")]
    with monkeypatch.context() as patch:
        patch.setattr(base_dataset, "Datum", theirs)
        data = pickle.dumps({"train": items})
    assert from_pickle(data)["train"] == [Datum("a/1.jpg", 3, 1, "cat"), Datum("a/2.jpg")]
    ours = pickle.dumps(Datum("a/1.jpg", 3, 1, "cat"))
    assert from_pickle(ours) == Datum("a/1.jpg", 3, 1, "cat")
    monkeypatch.setattr(base_dataset, "Datum", theirs)  # and the other way round
    found = from_pickle(ours)
    assert type(found) is theirs and (
        found.impath,
        found.label,
        found.domain,
        found.classname,
    ) == ("a/1.jpg", 3, 1, "cat")


def test_a_datum_has_upstreams_private_attributes_and_stays_what_it_was():
    item = Datum(impath="x.png", label=2, domain=1, classname="dog")
    assert (item._impath, item._label, item._domain, item._classname) == ("x.png", 2, 1, "dog")
    with pytest.raises(AttributeError):
        item.label = 3
    with pytest.raises(AttributeError):
        item._label = 3
    assert (
        item == copy.deepcopy(item)
        and hash(item) == hash(copy.copy(item))
        and item != Datum("x.png", 2, 0, "dog")
    )
    assert dataclasses.replace(item, label=5) == Datum("x.png", 5, 1, "dog")
    assert repr(item) == "Datum(impath='x.png', label=2, domain=1, classname='dog')"

    class Captioned(Datum):
        """As forks extend it."""

        def __init__(self, caption, **kwargs):
            super().__init__(**kwargs)
            self._caption = caption

    found = copy.copy(Captioned("a dog", impath="x.png"))
    assert found._caption == "a dog" and found._impath == "x.png"


def test_names_that_forks_import():
    from dassl.engine.trainer import SummaryWriter

    assert SummaryWriter.__module__.startswith("torch.utils.tensorboard")


def test_clean_cfg_leaves_what_a_trainer_reads():
    cfg = get_cfg_default()
    trainers.extend_cfg(cfg)
    cfg.TRAINER.FORK = CfgNode({"A": 1})
    mine, other = cfg.clone(), cfg.clone()
    clean_cfg(mine, "CraftCoOp")
    assert {key for key, value in mine.TRAINER.items() if isinstance(value, CfgNode)} == {
        "COOP",
        "CRAFT",
    }
    assert "CACHED_VIEWS" in mine.TRAINER and "NAME" in mine.TRAINER
    clean_cfg(other, "Fork")
    assert {key for key, value in other.TRAINER.items() if isinstance(value, CfgNode)} == {"FORK"}


def test_radam_decays_weights_as_upstreams_does():
    """Against the paper's steps, written out; the decay is not part of the gradient."""
    start, rate, decay, (b1, b2) = torch.tensor([0.5, -2.0, 3.0]), 0.1, 0.3, (0.9, 0.99)
    weight = torch.nn.Parameter(start.clone())
    cfg = get_cfg_default()
    cfg.merge_from_list(
        [
            "OPTIM.NAME",
            "radam",
            "OPTIM.LR",
            rate,
            "OPTIM.WEIGHT_DECAY",
            decay,
            "OPTIM.ADAM_BETA2",
            b2,
        ]
    )
    optim = build_optimizer([weight], cfg.OPTIM)
    assert type(optim) is RAdam
    slow, mean, square, longest = start.double(), 0, 0, 2 / (1 - b2) - 1
    for step in range(1, 12):
        weight.grad = weight.detach() ** 3
        gradient = slow**3
        optim.step()
        mean, square = b1 * mean + (1 - b1) * gradient, b2 * square + (1 - b2) * gradient**2
        length = longest - 2 * step * b2**step / (1 - b2**step)
        slow = slow * (1 - rate * decay)
        if length >= 5:
            factor = (
                (length - 4) * (length - 2) * longest / ((longest - 4) * (longest - 2) * length)
            ) ** 0.5
            slow = slow - rate * factor * mean / (1 - b1**step) / (
                (square / (1 - b2**step)).sqrt() + 1e-8
            )
        else:
            slow = slow - rate * mean / (1 - b1**step)
    assert torch.allclose(weight.double(), slow, rtol=1e-4)
    with pytest.raises(ValueError, match="degenerated_to_sgd"):
        RAdam([weight], degenerated_to_sgd=False)


# Configurations

PUBLISHED = {  # as the authors' files write them: whole numbers
    "TRAINER": {
        "PROMPTSRC": {
            "N_CTX_VISION": 4,
            "N_CTX_TEXT": 4,
            "CTX_INIT": "a photo of a",
            "PREC": "fp16",
            "PROMPT_DEPTH_VISION": 9,
            "PROMPT_DEPTH_TEXT": 9,
            "TEXT_LOSS_WEIGHT": 25,
            "IMAGE_LOSS_WEIGHT": 10,
            "GPA_MEAN": 30,
            "GPA_STD": 30,
        }
    },
    "OPTIM": {"LR": 0.0025, "MAX_EPOCH": 50, "WARMUP_CONS_LR": "1e-5"},
    "INPUT": {"SIZE": "(224, 224)"},
}
CONFIGS = sorted((ROOT / "configs" / "trainers").rglob("*.yaml"))


def upstream_cfg() -> CfgNode:
    cfg = upstream_stand_in.plain_defaults(get_cfg_default())
    trainers.extend_cfg(cfg)
    datasets.extend_cfg(cfg)
    return cfg


@pytest.mark.parametrize("own", [False, True])
def test_published_files_merge_with_yacs_alone(tmp_path, own):
    cfg = upstream_cfg()
    if own:
        cfg = get_cfg_default()
        trainers.extend_cfg(cfg)
    (tmp_path / "x.yaml").write_text(json.dumps(PUBLISHED))  # JSON is YAML
    cfg.merge_from_file(str(tmp_path / "x.yaml"))
    assert (
        cfg.TRAINER.PROMPTSRC.GPA_MEAN == 30
        and cfg.TRAINER.PROMPTSRC.TEXT_LOSS_WEIGHT == 25
        and cfg.INPUT.SIZE == (224, 224)
    )
    cfg.merge_from_list(
        ["TRAINER.PROMPTSRC.GPA_STD", 5, "TRAINER.PROMPTSRC.IMAGE_LOSS_WEIGHT", "12"]
    )
    assert (
        cfg.TRAINER.PROMPTSRC.GPA_STD,
        cfg.TRAINER.PROMPTSRC.IMAGE_LOSS_WEIGHT,
        cfg.OPTIM.WARMUP_CONS_LR,
    ) == (5, 12, 1e-5)


@pytest.mark.parametrize(
    "path", CONFIGS, ids=lambda path: str(path.relative_to(ROOT / "configs" / "trainers"))
)
def test_our_configs_merge_with_yacs_alone(path):
    cfg = upstream_cfg()
    for file, _ in read_config(str(path)):
        tree = strict_yaml.load(Path(file).read_text())
        tree.pop("BASE", None)
        cfg.merge_from_other_cfg(CfgNode(tree))


def test_fractions_and_whole_numbers_are_one_configuration():
    found = []
    for numbers in ((25, 10, "6", 2), (25.0, "10.0", 6.0, 2.0), (25.5, 10, 6, 2)):
        cfg = get_cfg_default()
        trainers.extend_cfg(cfg)
        keys = ("TEXT_LOSS_WEIGHT", "IMAGE_LOSS_WEIGHT", "GPA_MEAN", "GPA_STD")
        cfg.merge_from_list(
            [
                word
                for key, number in zip(keys, numbers, strict=True)
                for word in (f"TRAINER.PROMPTSRC.{key}", number)
            ]
        )
        found.append(json.dumps(counted(cfg)))
    assert found[0] == found[1] != found[2]


def test_what_yacs_refuses_is_refused():
    cfg = get_cfg_default()
    for pairs, error in (
        (["OPTIM.LR"], AssertionError),
        (["OPTIM.NONE", 1], AssertionError),
        (["SEED.X", 1], (AssertionError, TypeError)),
        (["OPTIM.MAX_EPOCH", 1.5], ValueError),
    ):
        with pytest.raises(error):
            cfg.merge_from_list(pairs)
    cfg.merge_from_list(["MODEL.BACKBONE.NAME", "'7'", "OPTIM.LR", 1])
    assert cfg.MODEL.BACKBONE.NAME == "7" and cfg.OPTIM.LR == 1.0
