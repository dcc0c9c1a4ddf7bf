"""The engine: transforms, loaders, loop, checkpoints, resume, results."""

import errno
import json
import math
import multiprocessing
import os
import random
import re
import sys
import textwrap
import time
import types
from collections import Counter
from pathlib import Path

import forked
import numpy as np
import pytest
import torch
from PIL import Image
from tiny_run import TinyNoise, make_cfg, make_trainer, write_table

import train
from dassl.config import get_cfg_default, merge_from_list
from dassl.data import DataManager, DatasetWrapper
from dassl.data.data_manager import build_data_loader
from dassl.data.datasets import DATASET_REGISTRY, DatasetBase, Datum, build_dataset
from dassl.data.samplers import build_sampler
from dassl.data.transforms import build_transform
from dassl.engine import TRAINER_REGISTRY, TrainerX, TrainerXU, build_trainer, run_hash
from dassl.evaluation import EVALUATOR_REGISTRY, Classification, build_evaluator
from dassl.metrics import compute_accuracy
from dassl.optim import build_lr_scheduler, build_optimizer
from dassl.utils import (
    Registry,
    UserError,
    load_checkpoint,
    read_image,
    save_checkpoint,
    set_random_seed,
    setup_logger,
)
from dassl.utils.scalars import WANDB_ID, ScalarLog
from dassl.utils.tools import atomic_write

CKPT = "output/prompt_learner/model.pth.tar-2"


# Images, transforms, loaders


def test_every_kind_of_image_file_becomes_rgb(tmp_path):
    ramp = np.arange(64, dtype=np.uint8).reshape(8, 8) * 4
    cases = {
        "grey.png": Image.fromarray(ramp),
        "sixteen.png": Image.fromarray(ramp.astype(np.uint16) * 256),
        "palette.png": Image.fromarray(ramp).convert("P"),
        "alpha.png": Image.fromarray(ramp).convert("RGBA"),
        "cmyk.jpg": Image.new("CMYK", (8, 8), (0, 255, 255, 0)),
    }
    for name, picture in cases.items():
        picture.save(tmp_path / name)
        found = np.asarray(read_image(str(tmp_path / name)))
        assert found.shape == (8, 8, 3), name
        expected = (
            np.full((8, 8, 3), (254, 0, 0))
            if name == "cmyk.jpg"
            else np.repeat(ramp[..., None], 3, 2)
        )
        assert np.abs(found.astype(int) - expected).max() <= 2, name


@pytest.mark.parametrize("workers", [0, 1])
@pytest.mark.parametrize(
    "name", ["CoOp", "CraftCoOp"]
)  # read in training, or already for the anchors
def test_unreadable_image_is_named_without_a_worker_traceback(tmp_path, workers, name):
    bad = Path(make_trainer(tmp_path, "CoOp").dm.dataset.train_x[4].impath)
    bad.write_bytes(bad.read_bytes()[:40])
    with pytest.raises(UserError) as error:
        make_trainer(tmp_path, name, "DATALOADER.NUM_WORKERS", workers).train()
    assert re.fullmatch(
        rf"image '{bad}' cannot be read \(.*\): restore it or take it out of the data set",
        str(error.value),
    )


@pytest.mark.parametrize("no_test", [False, True])
def test_workers_end_with_the_run(tmp_path, no_test):
    """Those of validation last from epoch to epoch, and would hold up who drops the trainer."""
    others = set(multiprocessing.active_children())  # of other tests; some may end meanwhile

    def workers() -> int:
        return len(set(multiprocessing.active_children()) - others)

    keys = {"DATALOADER.NUM_WORKERS": 1, "OPTIM.MAX_EPOCH": 1, "TEST.NO_TEST": no_test}
    trainer = make_trainer(tmp_path, "CoOp", *(word for pair in keys.items() for word in pair))
    trainer.test("val")
    assert workers() == 0
    trainer._training = True  # in the middle of a run
    trainer.test("val")
    assert workers() == 1
    trainer.train()
    assert workers() == 0


def test_test_transform_resizes_the_short_side_and_crops(tmp_path):
    cfg = make_cfg(
        tmp_path,
        "CoOp",
        "INPUT.SIZE",
        (32, 32),
        "INPUT.PIXEL_MEAN",
        [0.0, 0.0, 0.0],
        "INPUT.PIXEL_STD",
        [1.0, 1.0, 1.0],
    )
    wide = Image.new("RGB", (64, 32), "black")
    wide.paste("white", (16, 0, 48, 32))
    assert build_transform(cfg, is_train=False)(wide).shape == (3, 32, 32)
    assert build_transform(cfg, is_train=False)(wide).min() == 1.0
    assert (
        build_transform(cfg, is_train=True, choices=["normalize"])(wide).min() == 0.0
    )  # squeezed, nothing cut off
    with pytest.raises(
        UserError,
        match="unknown transform in INPUT.TRANSFORMS 'random_flop': did you mean 'random_flip'?",
    ):
        build_transform(cfg, choices=["random_flop"])


def test_training_order_of_transforms_does_not_depend_on_the_config(tmp_path):
    cfg = make_cfg(tmp_path, "CoOp")
    picture = Image.fromarray(np.random.RandomState(0).randint(0, 255, (40, 40, 3), dtype=np.uint8))
    names = [
        "normalize",
        "colorjitter",
        "random_flip",
        "random_resized_crop",
        "cutout",
        "gaussian_noise",
        "randomgrayscale",
    ]
    torch.manual_seed(3)
    first = build_transform(cfg, choices=names)(picture)
    torch.manual_seed(3)
    assert torch.equal(first, build_transform(cfg, choices=names[::-1])(picture))


def test_batch_has_the_published_keys_and_the_last_one_is_kept(tmp_path):
    cfg = make_cfg(
        tmp_path,
        "CoOp",
        "DATALOADER.TRAIN_X.BATCH_SIZE",
        5,
        "DATALOADER.K_TRANSFORMS",
        2,
        "DATALOADER.RETURN_IMG0",
        True,
    )
    dm = DataManager(cfg)
    batches = list(dm.train_loader_x)
    assert set(batches[0]) == {"img", "img0", "label", "domain", "impath", "index", "classname"}
    assert [len(batch["label"]) for batch in batches] == [5, 5, 2]
    assert [views.shape for views in batches[0]["img"]] == [(5, 3, 32, 32)] * 2
    assert not torch.equal(*batches[0]["img"])
    assert next(iter(dm.test_loader))["img"].shape == (3, 3, 32, 32)  # one view each
    assert [
        len(b["label"])
        for b in DataManager(
            make_cfg(
                tmp_path,
                "CoOp",
                "DATALOADER.TRAIN_X.BATCH_SIZE",
                5,
                "DATALOADER.TRAIN_X.DROP_LAST",
                True,
            )
        ).train_loader_x
    ] == [5, 5]


def test_several_transforms_of_an_image(tmp_path):
    """Each of them K_TRANSFORMS times in training, as a list, whoever wraps the data set."""
    cfg = make_cfg(tmp_path, "CoOp", "DATALOADER.K_TRANSFORMS", 2)
    items = build_dataset(cfg).train_x
    once, twice = build_transform(cfg, is_train=False), [build_transform(cfg, is_train=True)] * 2
    views = DatasetWrapper(cfg, items, once, is_train=True)[0]["img"]
    assert len(views) == 2 and torch.equal(*views)
    assert torch.equal(DatasetWrapper(cfg, items, once)[0]["img"], views[0])
    batch = next(iter(DataManager(cfg, custom_tfm_train=twice).train_loader_x))
    assert {key: len(batch[key]) for key in batch if key.startswith("img")} == {"img": 2, "img2": 2}


def test_prompt_learners_take_one_view_of_an_image(tmp_path):
    for number, message in (
        (0, ": set it to 1 or more"),
        (2, ", but CoOp trains on one view of an image: set it to 1"),
    ):
        with pytest.raises(UserError, match=f"DATALOADER.K_TRANSFORMS is {number}{message}"):
            make_trainer(tmp_path, "CoOp", "DATALOADER.K_TRANSFORMS", number)


@DATASET_REGISTRY.register()
class WithUnlabelled(TinyNoise):
    """TinyNoise whose training images are the unlabelled ones, too."""

    def __init__(self, cfg):
        super().__init__(cfg)
        DatasetBase.__init__(self, train_x=self.train_x, train_u=self.train_x, test=self.test)


def test_each_training_loader_has_its_own_last_batch(tmp_path):
    cfg = make_cfg(
        tmp_path,
        "CoOp",
        "DATALOADER.TRAIN_U.SAME_AS_X",
        False,
        "DATALOADER.TRAIN_U.BATCH_SIZE",
        5,
        "DATALOADER.TRAIN_U.DROP_LAST",
        True,
        "DATALOADER.TRAIN_X.BATCH_SIZE",
        5,
        "DATASET.NAME",
        "WithUnlabelled",
    )
    data = DataManager(cfg)
    assert [len(batch["img"]) for batch in data.train_loader_x] == [5, 5, 2] and [
        len(batch["img"]) for batch in data.train_loader_u
    ] == [5, 5]


def test_a_batch_that_all_images_do_not_fill_is_kept_whatever_drop_last_says(tmp_path):
    cfg = make_cfg(
        tmp_path, "CoOp", "DATALOADER.TRAIN_X.BATCH_SIZE", 13, "DATALOADER.TRAIN_X.DROP_LAST", True
    )
    assert [len(batch["img"]) for batch in DataManager(cfg).train_loader_x] == [12]


def test_workers_do_not_share_an_augmentation_stream(tmp_path):
    cfg = make_cfg(tmp_path, "CoOp", "DATALOADER.NUM_WORKERS", 2)
    data = build_dataset(cfg).train_x[:1] * 4

    class Draws(DatasetWrapper):
        def __getitem__(self, index):
            return {
                "draw": torch.tensor(
                    [random.random(), float(np.random.rand()), float(torch.rand(1))]
                )
            }

    torch.manual_seed(5)
    loader = build_data_loader(cfg, "SequentialSampler", data, 1, dataset_wrapper=Draws)
    draws = torch.cat([batch["draw"] for batch in loader])
    assert all(len(column.unique()) == 4 for column in draws.T)
    torch.manual_seed(5)
    assert torch.equal(
        draws,
        torch.cat(
            [
                batch["draw"]
                for batch in build_data_loader(
                    cfg, "SequentialSampler", data, 1, dataset_wrapper=Draws
                )
            ]
        ),
    )


def test_draft_decodes_jpegs_smaller_but_not_below_the_input_size(tmp_path):
    path = str(tmp_path / "large.jpg")
    Image.effect_mandelbrot((400, 320), (-2, -1.5, 1, 1.5), 50).convert("RGB").save(
        path, quality=95
    )
    assert (
        read_image(path).size == (400, 320)
        and read_image(path, (64, 64)).size == (100, 80)
        and read_image(path, (512, 512)).size == (400, 320)
    )
    exact, quick = (
        np.asarray(read_image(path, draft).resize((50, 40)), dtype=float)
        for draft in (None, (64, 64))
    )
    assert 0 < np.abs(exact - quick).mean() < 8
    for draft, equal in ((False, True), (True, False)):
        wrapper = DatasetWrapper(
            make_cfg(tmp_path, "CoOp", "INPUT.DRAFT", draft), [Datum(path)], transform=None
        )
        assert np.array_equal(np.asarray(wrapper[0]["img"]), np.asarray(read_image(path))) == equal


ITEMS = [Datum(f"{i}", label=i % 4, domain=i % 3) for i in range(48)]


def test_domain_and_class_samplers():
    for name, count in (("SeqDomainSampler", 3), ("RandomDomainSampler", 2)):
        order = list(build_sampler(name, data_source=ITEMS, batch_size=6, n_domain=2))
        assert len(order) % 6 == 0 and len(order) >= 24
        for start in range(0, len(order), 6):
            assert (
                list(Counter(ITEMS[i].domain for i in order[start : start + 6]).values())
                == [6 // count] * count
            )
    order = list(build_sampler("RandomClassSampler", data_source=ITEMS, batch_size=6, n_ins=3))
    for start in range(0, len(order), 6):
        assert list(Counter(ITEMS[i].label for i in order[start : start + 6]).values()) == [3, 3]
    with pytest.raises(
        UserError, match="unknown sampler 'RandomSample': did you mean 'RandomSampler'?"
    ):
        build_sampler("RandomSample", data_source=ITEMS)
    with pytest.raises(UserError, match="batch size 7 is not a multiple of N_INS 3"):
        build_sampler("RandomClassSampler", data_source=ITEMS, batch_size=7, n_ins=3)


# Optimiser and schedule


def rates(epochs, **options):
    cfg = get_cfg_default()
    merge_from_list(
        cfg,
        [
            "OPTIM.NAME",
            "sgd",
            "OPTIM.LR",
            0.002,
            "OPTIM.MAX_EPOCH",
            epochs,
            "OPTIM.LR_SCHEDULER",
            "cosine",
        ]
        + [x for key, value in options.items() for x in (f"OPTIM.{key}", value)],
    )
    optimizer = build_optimizer(torch.nn.Linear(2, 2), cfg.OPTIM)
    schedule = build_lr_scheduler(optimizer, cfg.OPTIM)
    found = []
    for _ in range(epochs):
        found.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    return found


def test_published_learning_rates_one_warm_up_epoch_then_cosine_from_its_start():
    found = rates(5, WARMUP_EPOCH=1, WARMUP_TYPE="constant")
    assert found == pytest.approx([1e-5] + [0.001 * (1 + np.cos(np.pi * k / 5)) for k in range(4)])
    assert rates(4) == pytest.approx([0.001 * (1 + np.cos(np.pi * k / 4)) for k in range(4)])
    assert rates(4, WARMUP_EPOCH=2, WARMUP_TYPE="linear")[:3] == pytest.approx([1e-5, 0.001, 0.002])


# Training, checkpoints, resume


def test_a_run_leaves_log_results_tensorboard_and_the_contract_lines(tmp_path, capsys):
    cfg = make_cfg(tmp_path, "CoOp", "TRAIN.PRINT_FREQ", 2)
    setup_logger(cfg.OUTPUT_DIR)
    set_random_seed(cfg.SEED)
    trainer = build_trainer(cfg)
    accuracy = trainer.test() if trainer.train() is None else None
    log = (tmp_path / "output/log.txt").read_text()
    for line in (
        r"^Evaluate on the \*test\* set$",
        r"^=> result$",
        r"^\* total: 8$",
        r"^\* correct: \d$",
        r"^\* accuracy: [\d.]+%$",
        r"^\* error: [\d.]+%$",
        r"^\* macro_f1: [\d.]+%$",
        r"^Finish training$",
        r"^epoch \[1/2\] batch \[2/3\] time [\d.]+ .* loss [\d.]+ .* lr [\d.e+-]+ eta 0:00:\d\d$",
        r"^epoch \[2/2\] loss [\d.]+ acc [\d.]+% time [\d.]+ s eta 0:00:00 lr 0\.05$",
    ):
        assert re.search(line, log, re.M), line
    assert "\r" not in log
    results = json.loads((tmp_path / "output/results.json").read_text())
    assert (
        results["complete"]
        and results["seed"] == 1
        and results["trainer"] == "CoOp"
        and results["dataset"] == "TinyNoise"
    )
    assert (
        results["config_hash"] == run_hash(cfg)
        and results["epochs"] == 2
        and results["config"]["OPTIM"]["LR"] == 0.1
    )
    assert (
        results["metrics"]["test"]["accuracy"] == pytest.approx(accuracy)
        and results["metrics"]["test"]["total"] == 8
    )
    assert (
        results["wall_time_s"] > 0
        and results["peak_memory_mb"] > 50
        and {"torch", "python"} <= results["versions"].keys()
    )
    assert list((tmp_path / "output/tensorboard").iterdir())


def state_of(path: Path):
    return load_checkpoint(str(path))


def test_same_seed_same_bits(tmp_path):
    for name in "ab":
        make_trainer(tmp_path / name, "CoOp").train()
    assert torch.equal(*(state_of(tmp_path / name / CKPT)["state_dict"]["ctx"] for name in "ab"))


KILLED = """
    import os, sys
    from pathlib import Path
    sys.path[:0] = [{root!r}, {tests!r}]
    import torch
    torch.set_num_threads(1)
    from tiny_run import make_trainer
    from trainers.coop import CoOp
    where, count = {where!r}, [0]
    after_epoch, step = CoOp.after_epoch, CoOp.forward_backward
    def dying_after_epoch(self):
        after_epoch(self)
        if where == "epoch" and self.epoch == 1:
            os._exit(9)
    def dying_step(self, batch):
        if where == "batch" and self.epoch == 2 and self.batch_idx == 1:
            os._exit(9)
        return step(self, batch)
    CoOp.after_epoch, CoOp.forward_backward = dying_after_epoch, dying_step
    make_trainer(Path({folder!r}), "CoOp", "OPTIM.MAX_EPOCH", 4, "TRAIN.CHECKPOINT_FREQ", 1).train()
"""


@pytest.mark.slow
@pytest.mark.parametrize("where", ["epoch", "batch"])
def test_a_killed_and_resumed_run_equals_an_uninterrupted_one_to_the_bit(tmp_path, where):
    options = ("OPTIM.MAX_EPOCH", 4, "TRAIN.CHECKPOINT_FREQ", 1)
    make_trainer(tmp_path / "whole", "CoOp", *options).train()
    tests = Path(__file__).parent
    script = textwrap.dedent(KILLED).format(
        root=str(tests.parent), tests=str(tests), where=where, folder=str(tmp_path / "cut")
    )
    killed = forked.python("-c", script, cwd=tests.parent)
    assert killed.returncode == 9, killed.stderr
    assert (
        not (tmp_path / "cut/output/results.json").exists()
        and not (tmp_path / "cut/output/prompt_learner/model.pth.tar-3").exists()
    )
    trainer = make_trainer(tmp_path / "cut", "CoOp", *options)
    trainer.train()
    assert trainer.start_epoch == 2
    whole, cut = (
        state_of(tmp_path / name / "output/prompt_learner/model.pth.tar-4")
        for name in ("whole", "cut")
    )
    assert torch.equal(whole["state_dict"]["ctx"], cut["state_dict"]["ctx"])
    assert torch.equal(
        whole["optimizer"]["state"][0]["momentum_buffer"],
        cut["optimizer"]["state"][0]["momentum_buffer"],
    )
    assert (
        torch.equal(whole["rng"]["torch"], cut["rng"]["torch"])
        and whole["rng"]["python"] == cut["rng"]["python"]
    )
    results = [
        json.loads((tmp_path / name / "output/results.json").read_text())
        for name in ("whole", "cut")
    ]
    assert results[0]["metrics"] == results[1]["metrics"] and results[1]["complete"]


def test_another_configuration_in_the_folder_is_not_continued(tmp_path):
    make_trainer(tmp_path, "CoOp").train()
    with pytest.raises(
        UserError,
        match=(
            r"model.pth.tar-2' is of a run with another configuration \(OPTIM.LR is 0.1 there and "
            r"0.3 here\): choose"
        ),
    ):
        make_trainer(tmp_path, "CoOp", "OPTIM.LR", 0.3).train()


def test_disk_full_while_saving_keeps_the_old_checkpoint(tmp_path, monkeypatch):
    make_trainer(tmp_path, "CoOp").train()
    before = (tmp_path / CKPT).read_bytes()
    monkeypatch.setattr(
        os,
        "fsync",
        lambda fd: (_ for _ in ()).throw(OSError(errno.ENOSPC, "No space left on device")),
    )
    with pytest.raises(
        UserError,
        match=r"cannot write '.*model.pth.tar-2' \(No space left on device\): free space "
        ".*is intact",
    ):
        save_checkpoint(
            {"state_dict": {"ctx": torch.zeros(3)}, "epoch": 2},
            str(tmp_path / "output/prompt_learner"),
        )
    assert (tmp_path / CKPT).read_bytes() == before and len(
        list((tmp_path / CKPT).parent.iterdir())
    ) == 2


def test_a_file_is_whole_or_as_before_at_any_moment(tmp_path):
    """Also the first time, when there is nothing to keep."""
    path = tmp_path / "file"

    def interrupted(file):
        file.write(b"half")
        file.flush()
        seen.append(path.read_bytes() if path.exists() else None)
        raise KeyboardInterrupt

    for before in (None, b"whole"):
        if before:
            atomic_write(str(path), lambda file: file.write(b"whole"))
        seen = []
        with pytest.raises(KeyboardInterrupt):
            atomic_write(str(path), interrupted)
        assert seen == [before] and (path.read_bytes() if path.exists() else None) == before
    assert [found.name for found in tmp_path.iterdir()] == ["file"]


def test_non_finite_loss_stops_and_keeps_the_last_checkpoint(tmp_path, monkeypatch):
    trainer = make_trainer(tmp_path, "CoOp", "OPTIM.MAX_EPOCH", 3, "TRAIN.CHECKPOINT_FREQ", 1)
    terms = type(trainer).loss_terms

    def broken(self, *args):
        found = terms(self, *args)
        return (
            {name: term * float("nan") for name, term in found.items()}
            if self.epoch == 2
            else found
        )

    monkeypatch.setattr(type(trainer), "loss_terms", broken)
    with pytest.raises(
        UserError, match="the loss is nan at epoch 3, batch 1: lower OPTIM.LR or use PREC fp32"
    ):
        trainer.train()
    kept = state_of(tmp_path / CKPT)
    assert kept["epoch"] == 2 and torch.isfinite(kept["state_dict"]["ctx"]).all()
    assert not (tmp_path / "output/results.json").exists()


def test_truncated_and_missing_checkpoints_are_named(tmp_path):
    trainer = make_trainer(tmp_path, "CoOp")
    trainer.train()
    path = tmp_path / CKPT
    path.write_bytes(path.read_bytes()[:300])
    with pytest.raises(
        UserError,
        match=(
            "model.pth.tar-2' cannot be read: it is truncated or not a checkpoint; copy it again, "
            "or move it away"
        ),
    ):
        trainer.load_model(str(tmp_path / "output"), epoch=2)
    with pytest.raises(
        UserError,
        match="model.pth.tar-7' does not exist: check --model-dir, --load-epoch or RESUME; its "
        "folder has the epochs 2$",
    ):
        trainer.load_model(str(tmp_path / "output"), epoch=7)


def test_best_val_is_kept_and_deployed(tmp_path, capsys, monkeypatch):
    make_trainer(tmp_path / "none", "CoOp", "TEST.FINAL_MODEL", "last_step").train()
    assert state_of(tmp_path / "none" / CKPT)["val_result"] is None
    trainer = make_trainer(tmp_path, "CoOp", "TEST.FINAL_MODEL", "best_val", "OPTIM.MAX_EPOCH", 3)
    trainer.val_loader = trainer.test_loader
    scores = iter([50.0, 75.0, 25.0])
    test = type(trainer).test
    monkeypatch.setattr(
        type(trainer),
        "test",
        lambda self, split=None: next(scores) if split == "val" else test(self, split),
    )
    trainer.train()
    best = state_of(tmp_path / "output/prompt_learner/model-best.pth.tar")
    assert best["epoch"] == 2 and best["val_result"] == 75.0
    assert torch.equal(best["state_dict"]["ctx"], trainer.model.ctx)
    assert "Deploy the model with the best val performance" in capsys.readouterr().out


@pytest.mark.parametrize(
    "scores, epoch", [([75.0, 75.0, 50.0], 1), ([50.0, 75.0, 75.0], 2), ([10.0, 20.0, 30.0], 3)]
)
def test_of_equally_good_epochs_the_first_is_the_best(tmp_path, monkeypatch, scores, epoch):
    trainer = make_trainer(tmp_path, "CoOp", "TEST.FINAL_MODEL", "best_val", "OPTIM.MAX_EPOCH", 3)
    trainer.val_loader, values, plain = trainer.test_loader, iter(scores), type(trainer).test
    monkeypatch.setattr(
        type(trainer),
        "test",
        lambda self, split=None: next(values) if split == "val" else plain(self, split),
    )
    trainer.train()
    best = state_of(tmp_path / "output/prompt_learner/model-best.pth.tar")
    assert best["epoch"] == epoch and best["val_result"] == max(scores) == trainer.best_result


def test_checkpoints_are_of_every_second_epoch_and_the_last(tmp_path):
    make_trainer(tmp_path, "CoOp", "TRAIN.CHECKPOINT_FREQ", 2, "OPTIM.MAX_EPOCH", 5).train()
    assert sorted(path.name for path in (tmp_path / "output/prompt_learner").glob("model.*")) == [
        f"model.pth.tar-{epoch}" for epoch in (2, 4, 5)
    ]


def test_the_part_that_is_tested_is_that_of_the_configuration(tmp_path):
    write_table(tmp_path)
    trainer = make_trainer(
        tmp_path, "CoOp", "DATASET.NAME", "CSV", "DATASET.FOLDER", "own", "TEST.SPLIT", "val"
    )
    trainer.test()
    metrics = results_of(tmp_path)["metrics"]
    assert metrics.keys() == {"val"} and metrics["val"]["total"] == len(
        trainer.dm.dataset.val
    ) != len(trainer.dm.dataset.test)
    trainer.test("test")
    metrics = results_of(tmp_path)["metrics"]  # of one run, both stay
    assert metrics.keys() == {"val", "test"} and metrics["test"]["total"] == len(
        trainer.dm.dataset.test
    )
    for loader, part in (
        (trainer.val_loader, "-val-"),
        (trainer.test_loader, "-test-"),
        (trainer.train_loader_x, "-train-"),
    ):
        assert all(part in path for batch in loader for path in batch["impath"])


@pytest.mark.parametrize(
    ("key", "value"), [("config_hash", "other"), ("loaded", {"model_dir": "elsewhere", "epoch": 1})]
)
def test_numbers_of_another_run_do_not_get_into_the_results(tmp_path, key, value):
    make_trainer(tmp_path, "CoOp").test()
    path = tmp_path / "output/results.json"
    found = results_of(tmp_path)
    for change, parts in (({}, {"val", "test"}), ({key: value}, {"test"})):
        path.write_text(json.dumps(found | {"metrics": {"val": {"accuracy": 99.0}}} | change))
        make_trainer(tmp_path, "CoOp").test()
        assert results_of(tmp_path)["metrics"].keys() == parts


def test_seconds_count_what_is_encoded_before_training(tmp_path, monkeypatch):
    """Else methods that encode much beforehand (anchors, many views) seem as fast as others."""
    now = time.time
    trainer = make_trainer(tmp_path, "CoOp")
    monkeypatch.setattr(time, "time", lambda: now() + 500)  # what building took
    trainer.train()
    assert 500 < results_of(tmp_path)["wall_time_s"] < 1000


def test_seconds_of_the_parts_of_a_run_add_up(tmp_path):
    options = ("TRAIN.CHECKPOINT_FREQ", 1, "OPTIM.MAX_EPOCH", 2)
    make_trainer(tmp_path, "CoOp", *options).train()
    (tmp_path / CKPT).unlink()
    path = tmp_path / "output/prompt_learner/model.pth.tar-1"
    (path.parent / "checkpoint").write_text(f"{path.name}\n")
    torch.save(state_of(path) | {"seconds": 1000.0}, path)
    make_trainer(tmp_path, "CoOp", *options).train()
    assert (
        1000 < results_of(tmp_path)["wall_time_s"] < 1500
        and 1000 < state_of(tmp_path / CKPT)["seconds"] < 1500
    )


def test_the_time_left_is_that_of_the_steps_left(tmp_path, monkeypatch):
    from dassl.engine import trainer as engine

    left, average = [], engine.AverageMeter
    monkeypatch.setattr(
        engine,
        "AverageMeter",
        type("Second", (average,), {"avg": property(lambda self: 1.0, lambda self, value: None)}),
    )
    monkeypatch.setattr(engine, "eta_text", lambda seconds: left.append(round(seconds)) or "")
    trainer = make_trainer(tmp_path, "CoOp", "OPTIM.MAX_EPOCH", 2, "TEST.NO_TEST", True)
    trainer.train()
    # The line of an epoch, after its batches', tells the time by the clock.
    assert len(trainer.train_loader_x) == 3 and left[:3] + left[4:7] == [5, 4, 3, 2, 1, 0]


def test_a_finished_run_that_is_started_again_still_knows_its_epochs(tmp_path):
    make_trainer(tmp_path, "CoOp").train()
    make_trainer(tmp_path, "CoOp").train()  # nothing left to train: only tests
    assert results_of(tmp_path)["epochs"] == 2 and results_of(tmp_path)["complete"]


def test_what_is_no_checkpoint_is_refused_in_a_sentence(tmp_path):
    trainer = make_trainer(tmp_path, "CoOp")
    trainer.train()
    path = tmp_path / CKPT
    weights = state_of(path)["state_dict"]
    for content in (
        [1, 2],
        torch.zeros(3),
        {"state_dict": {"ctx": 5}},
        {"state_dict": [torch.zeros(2)]},
    ):
        torch.save(content, path)
        with pytest.raises(
            UserError,
            match=(
                "model.pth.tar-2' is not a checkpoint: it holds no tensors by name; give a file "
                "that a training run wrote"
            ),
        ):
            trainer.load_model(str(tmp_path / "output"), epoch=2)
    torch.save(weights, path)  # fit to be loaded, not to go on from
    trainer.load_model(str(tmp_path / "output"), epoch=2)
    with pytest.raises(
        UserError,
        match=(
            "model.pth.tar-2' lacks 'state_dict', so no run can go on from it: load it with "
            "--model-dir, or move it away"
        ),
    ):
        make_trainer(tmp_path, "CoOp").train()
    with pytest.raises(
        UserError, match="checkpoint '/nowhere/x.pt' does not exist: check MODEL.INIT_WEIGHTS"
    ):
        make_trainer(tmp_path, "CoOp", "MODEL.INIT_WEIGHTS", "/nowhere/x.pt")


def test_the_best_model_comes_along_from_another_folder(tmp_path, monkeypatch):
    """A best epoch before the interruption is deployed by a run that goes on elsewhere; without its
    file the next epoch is the best.
    """
    options = ("TEST.FINAL_MODEL", "best_val", "TRAIN.CHECKPOINT_FREQ", 1, "OPTIM.MAX_EPOCH", 3)

    def run(name, scores, *more):
        trainer = make_trainer(
            tmp_path, "CoOp", *options, "OUTPUT_DIR", str(tmp_path / name), *more
        )
        trainer.val_loader, scores = trainer.test_loader, iter(scores)
        plain = type(trainer).test
        with monkeypatch.context() as patch:
            patch.setattr(
                type(trainer),
                "test",
                lambda self, split=None: next(scores) if split == "val" else plain(self, split),
            )
            trainer.train()
        return trainer

    first = tmp_path / "first/prompt_learner"
    run("first", [90.0, 80.0, 70.0])
    for name in ("model.pth.tar-3", "checkpoint"):
        (first / name).unlink()
    best = state_of(first / "model-best.pth.tar")["state_dict"]["ctx"]
    second = run("second", [50.0], "RESUME", str(tmp_path / "first"))
    assert second.start_epoch == 2 and torch.equal(second.model.ctx, best)
    (first / "model-best.pth.tar").unlink()
    third = run("third", [50.0], "RESUME", str(tmp_path / "first"))
    assert state_of(tmp_path / "third/prompt_learner/model-best.pth.tar")[
        "epoch"
    ] == 3 and not torch.equal(third.model.ctx, best)


def test_evaluators_written_for_upstream(tmp_path):
    """The contract's signature, and whatever kind of number."""

    @EVALUATOR_REGISTRY.register()
    class Own(Classification):
        def __init__(self, cfg, lab2cname=None):
            super().__init__(cfg, lab2cname)

        def evaluate(self):
            return super().evaluate() | {"auc": np.float32(3)}

    make_trainer(tmp_path, "CoOp", "TEST.EVALUATOR", "Own").train()
    assert results_of(tmp_path)["metrics"]["test"]["auc"] == 3.0


def test_results_of_another_kind_are_written_over(tmp_path):
    (tmp_path / "output").mkdir()
    (tmp_path / "output/results.json").write_text("[]")
    make_trainer(tmp_path, "CoOp").train()
    assert results_of(tmp_path)["complete"]


def test_best_val_without_a_validation_set_is_refused(tmp_path):
    """The last epoch would be tested under the name of the best one."""
    trainer = make_trainer(tmp_path, "CoOp", "TEST.FINAL_MODEL", "best_val")
    assert trainer.val_loader is None
    with pytest.raises(UserError, match="has no validation images to choose the best epoch by: "):
        trainer.train()
    make_trainer(tmp_path, "CoOp", "TEST.FINAL_MODEL", "best_val", "TEST.NO_TEST", True).train()


def test_evaluating_on_the_way_changes_no_draw(tmp_path):
    """With workers, whose seeds the main process draws: a resumed run tests more often than an
    uninterrupted one.
    """
    states = []
    for tests in (0, 2):
        trainer = make_trainer(tmp_path, "CoOp", "DATALOADER.NUM_WORKERS", 1)
        for _ in range(tests):
            trainer.test()
        states.append(torch.get_rng_state())
    assert torch.equal(*states)


def test_resume_prefers_the_own_folder_and_says_where_there_is_nothing(tmp_path):
    options = ("OPTIM.MAX_EPOCH", 3, "TRAIN.CHECKPOINT_FREQ", 1)
    make_trainer(tmp_path, "CoOp", *options).train()
    (tmp_path / "output/prompt_learner/model.pth.tar-3").unlink()
    (tmp_path / "output/prompt_learner/checkpoint").write_text("model.pth.tar-2\n")
    other = ("OUTPUT_DIR", str(tmp_path / "other"), "RESUME", str(tmp_path / "output"))
    first = make_trainer(tmp_path, "CoOp", *options, *other)
    first.before_train()
    assert first.start_epoch == 2
    first.close_writer()
    make_trainer(tmp_path, "CoOp", *options, *other).train()
    again = make_trainer(tmp_path, "CoOp", *options, *other)
    again.before_train()
    assert again.start_epoch == 3  # its own last epoch, not the second of the folder it came from
    again.close_writer()
    lost = make_trainer(
        tmp_path, "CoOp", "OUTPUT_DIR", str(tmp_path / "third"), "RESUME", str(tmp_path / "nowhere")
    )
    with pytest.raises(
        UserError,
        match="RESUME '.*nowhere' holds no checkpoint of prompt_learner: correct --resume",
    ):
        lost.train()


def test_parameters_that_are_not_finite_are_not_saved(tmp_path):
    trainer = make_trainer(tmp_path, "CoOp", "TRAIN.CHECKPOINT_FREQ", 1)
    after_epoch = trainer.after_epoch

    def broken():
        if trainer.epoch == 1:
            trainer.model.ctx.data[0] = float("nan")
        after_epoch()

    trainer.after_epoch = broken
    with pytest.raises(
        UserError,
        match=(
            "'ctx' is not finite after epoch 2: lower OPTIM.LR or use PREC fp32; the last "
            "checkpoint is from before"
        ),
    ):
        trainer.train()
    assert sorted(path.name for path in (tmp_path / "output/prompt_learner").iterdir()) == [
        "checkpoint",
        "model.pth.tar-1",
    ]


def test_the_hash_holds_what_can_change_a_run_and_nothing_else(tmp_path):
    def key(trainer="CoOp", *options):
        return run_hash(make_cfg(tmp_path, trainer, *options))

    plain = key()
    for same in (
        ("TRAINER.MAPLE.N_CTX", 3),
        ("TRAINER.CRAFT.LAMBDA_STATIC", 1.0),
        ("TRAIN.CHECKPOINT_FREQ", 1),
        ("OUTPUT_DIR", "x"),
    ):
        assert key("CoOp", *same) == plain, same
    for other in (
        ("TRAINER.COOP.N_CTX", 3),
        ("OPTIM.LR", 0.2),
        ("SEED", 2),
        ("DATALOADER.NUM_WORKERS", 2),
        ("TRAINER.CACHED_VIEWS", 1),
    ):
        assert key("CoOp", *other) != plain, other
    assert key("CraftCoOp", "TRAINER.CRAFT.LAMBDA_STATIC", 1.0) != key("CraftCoOp")
    weights = tmp_path / "clip.pt"
    weights.write_bytes(weights.read_bytes() + b" ")
    assert key() != plain


def test_a_registry_takes_what_it_is_called_with(tmp_path):
    registry = Registry("THING")

    def one():
        pass

    assert registry.register(one) is one and registry.get("one") is one
    with pytest.raises(KeyError, match="already holds 'one'"):
        registry.register(one)
    assert registry.register("two")(one) is one and registry.registered_names() == ["one", "two"]


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("TRAIN.PRINT_FREQ", -1, "TRAIN.PRINT_FREQ is -1: set it to 0 or more"),
        ("OPTIM.MAX_EPOCH", 0, "OPTIM.MAX_EPOCH is 0"),
        ("OPTIM.LR", -0.1, "OPTIM.LR is -0.1: set it to 0 or more"),
        ("DATALOADER.NUM_WORKERS", -1, "DATALOADER.NUM_WORKERS is -1"),
        ("DATALOADER.TRAIN_X.BATCH_SIZE", 0, "DATALOADER.TRAIN_X.BATCH_SIZE is 0"),
        ("OPTIM.LR", None, "OPTIM.LR is None: set it to 0 or more"),
        (
            "TEST.FINAL_MODEL",
            "bestval",
            "TEST.FINAL_MODEL is 'bestval': choose one of last_step, best_val",
        ),
        ("TEST.SPLIT", "validation", "TEST.SPLIT is 'validation': choose one of train, val, test"),
    ],
)
def test_values_that_no_trainer_can_work_with(tmp_path, key, value, message):
    with pytest.raises(UserError, match=message):
        make_trainer(tmp_path, "CoOp", key, value)


def results_of(folder):
    return json.loads((folder / "output/results.json").read_text())


# Written against upstream's interface only


@TRAINER_REGISTRY.register()
class UpstreamStyle(TrainerX):
    def build_model(self):
        cfg = self.cfg
        self.model = torch.nn.Sequential(
            torch.nn.Flatten(),
            torch.nn.Linear(3 * cfg.INPUT.SIZE[0] * cfg.INPUT.SIZE[1], self.num_classes),
        )
        self.model.to(self.device)
        self.optim = build_optimizer(self.model, cfg.OPTIM)
        self.sched = build_lr_scheduler(self.optim, cfg.OPTIM)
        self.register_model("linear", self.model, self.optim, self.sched)

    def forward_backward(self, batch):
        image, label, domain = self.parse_batch_train(batch)
        assert len(image) == len(label) == len(domain)
        output = self.model(image)
        loss = torch.nn.functional.cross_entropy(output, label)
        self.model_backward_and_update(loss)
        summary = {"loss": loss.item(), "acc": compute_accuracy(output, label)[0].item()}
        if (self.batch_idx + 1) == self.num_batches:
            self.update_lr()
        return summary


@TRAINER_REGISTRY.register()
class UnlabelledStyle(TrainerXU, UpstreamStyle):
    def forward_backward(self, batch_x, batch_u):
        image, label, unlabelled = self.parse_batch_train(batch_x, batch_u)
        self.seen.append((len(image), len(unlabelled)))
        return {"loss": float(self.model(image).sum())}


def test_a_trainer_written_for_upstream_learns_and_reloads(tmp_path):
    trainer = make_trainer(tmp_path, "UpstreamStyle", "OPTIM.MAX_EPOCH", 12, "OPTIM.LR", 0.01)
    trainer.train()
    first = trainer.test()
    assert first > 60  # four colours, linearly separable
    again = make_trainer(tmp_path / "other", "UpstreamStyle")
    again.load_model(str(tmp_path / "output"), epoch=12)
    again.set_model_mode("eval")
    assert torch.equal(again.model[1].weight, trainer.model[1].weight)


def test_a_trainer_written_for_upstream_is_warned_of_other_classes(tmp_path, capsys):
    trainer = make_trainer(tmp_path, "UpstreamStyle", "OPTIM.MAX_EPOCH", 1)
    trainer.train()
    path, folder = tmp_path / "output/results.json", str(tmp_path / "output")
    assert load_checkpoint(f"{folder}/linear/model.pth.tar-1")["classnames"] == list(
        TinyNoise.names
    )
    results = json.loads(path.read_text())
    capsys.readouterr()
    train.warn_of_classes(trainer, folder)
    assert capsys.readouterr().out == ""
    for names, said in (
        (results["classnames"][::-1], True),
        (["Tabby cat", *results["classnames"][1:]], False),
        (["a", "b"], False),
    ):
        path.write_text(json.dumps({**results, "classnames": names}))
        train.warn_of_classes(trainer, folder)
        assert (
            "was trained on other classes, and '1.weight' has 4 rows, as many"
            in capsys.readouterr().out
        ) == said


@pytest.mark.parametrize("count, expected", [("train_x", 3), ("train_u", 6), ("smaller_one", 3)])
def test_epoch_length_with_unlabelled_data(tmp_path, count, expected):
    trainer = make_trainer(
        tmp_path,
        "UnlabelledStyle",
        "TRAIN.COUNT_ITER",
        count,
        "OPTIM.MAX_EPOCH",
        1,
        "TEST.NO_TEST",
        True,
    )
    trainer.train_loader_u = build_data_loader(
        trainer.cfg, "RandomSampler", trainer.dm.dataset.train_x, 2, tfm=trainer.dm.tfm_train
    )
    trainer.seen = []
    trainer.train()
    assert trainer.seen == [(4, 2)] * expected


# Small pieces


def test_evaluator_against_hand_computed_values(tmp_path, capsys):
    cfg = get_cfg_default()
    merge_from_list(cfg, ["TEST.PER_CLASS_RESULT", True])
    evaluator = build_evaluator(cfg, lab2cname={0: "a", 1: "b"})
    evaluator.process(torch.tensor([[2.0, 1.0], [0.0, 1.0], [3.0, 1.0]]), torch.tensor([0, 1, 1]))
    results = evaluator.evaluate()
    assert results["accuracy"] == pytest.approx(200 / 3) and results["macro_f1"] == pytest.approx(
        200 / 3
    )
    assert results["perclass_accuracy"] == pytest.approx(75)
    top = compute_accuracy(
        torch.tensor([[1.0, 2.0, 3.0], [3.0, 2.0, 1.0]]), torch.tensor([1, 0]), topk=(1, 2)
    )
    assert [value.item() for value in top] == [50.0, 100.0]


def test_classes_without_images_are_in_the_matrix_and_told(tmp_path, capsys):
    cfg = get_cfg_default()
    merge_from_list(
        cfg, ["TEST.PER_CLASS_RESULT", True, "TEST.COMPUTE_CMAT", True, "OUTPUT_DIR", str(tmp_path)]
    )
    evaluator = build_evaluator(cfg, lab2cname={0: "a", 1: "b", 2: "c", 3: "d"})
    scores = torch.eye(4)[[1, 3, 1, 1]]
    evaluator.process(scores, torch.tensor([1, 1, 1, 2]))
    results = evaluator.evaluate()
    expected = torch.tensor(
        [[0, 0, 0, 0], [0, 2 / 3, 0, 1 / 3], [0, 1, 0, 0], [0, 0, 0, 0]], dtype=torch.float64
    )
    assert torch.allclose(torch.load(tmp_path / "cmat.pt"), expected)
    said = capsys.readouterr().out
    for label, name in ((0, "a"), (3, "d")):
        assert (
            f"* class: {label} ({name})\ttotal: 0\tcorrect: 0\tacc: none, without images\n" in said
        )
    assert "* class: 1 (b)\ttotal: 3\tcorrect: 2\tacc: 66.7%" in said and results[
        "perclass_accuracy"
    ] == pytest.approx(100 / 3)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("kind", ["Classification", "GroupClassification"])
def test_scores_that_are_no_numbers_end_a_test(tmp_path, value, kind, monkeypatch):
    root = ("DATASET.NAME", "CSV", "DATASET.ROOT", str(write_table(tmp_path)))
    options = ("TEST.EVALUATOR", kind, "TEST.COMPUTE_CMAT", True)
    trainer = make_trainer(tmp_path, "ZeroshotCLIP", *root, *options)
    scores = torch.zeros(3, 4)
    scores[1, 2] = value
    monkeypatch.setattr(trainer, "model_inference", lambda images: scores[: len(images)])
    with pytest.raises(
        UserError,
        match=(
            "the model's scores are NaN or infinite for some images, so there is no result: use "
            "PREC fp32"
        ),
    ):
        trainer.test()
    assert not list((tmp_path / "output").glob("*"))
    domains = (
        (torch.zeros(3),) if kind == "GroupClassification" else ()
    )  # as a trainer with a test loop of its own calls it
    with pytest.raises(UserError, match="the model's scores are NaN or infinite"):
        trainer.evaluator.process(scores, torch.zeros(3), *domains)


def test_scores_that_are_no_numbers_reach_no_evaluator(tmp_path, monkeypatch):
    trainer = make_trainer(tmp_path, "ZeroshotCLIP")
    trainer.evaluator = types.SimpleNamespace(
        reset=lambda: None, process=lambda *_: None, evaluate=lambda: {"own": 1.0}
    )
    assert trainer.test() == 1
    monkeypatch.setattr(
        trainer, "model_inference", lambda images: torch.full((len(images), 4), math.nan)
    )
    with pytest.raises(UserError, match="the model's scores are NaN or infinite"):
        trainer.test()


def test_unknown_names_list_the_known_ones(tmp_path):
    registry = Registry("THING")
    registry.register()(DatasetBase)
    with pytest.raises(
        UserError,
        match="unknown thing 'DatasetBas': did you mean 'DatasetBase'\\? known ones are "
        "DatasetBase",
    ):
        registry.get("DatasetBas")
    with pytest.raises(UserError, match="unknown trainer 'CoOpp': did you mean 'CoOp'"):
        make_trainer(tmp_path, "CoOpp")
    with pytest.raises(UserError, match="unknown dataset 'TinyNoize': did you mean 'TinyNoise'"):
        make_trainer(tmp_path, "CoOp", "DATASET.NAME", "TinyNoize")
    cfg = get_cfg_default()
    with pytest.raises(
        UserError, match="unknown config key 'OPTIM.LRR': the closest known key is 'OPTIM.LR'"
    ):
        merge_from_list(cfg, ["OPTIM.LRR", 1])


class FakeWandb:
    """What the engine uses of the package wandb, with its calls recorded."""

    def __init__(self, fails: bool = False):
        self.logged, self.fails, self.finished = [], fails, False

    def init(self, **options):
        if self.fails:
            raise RuntimeError("api_key not\nconfigured")
        self.options = options
        return self

    def log(self, values):
        self.logged.append(values)

    def finish(self):
        self.finished = True


def test_a_training_that_goes_on_goes_on_with_its_run_of_weights_and_biases(tmp_path, monkeypatch):
    fake, options = FakeWandb(), get_cfg_default().LOG
    monkeypatch.setitem(sys.modules, "wandb", fake)
    options.WANDB = True
    ids = []
    for folder in ("one", "one", "two", "two"):
        (tmp_path / folder).mkdir(exist_ok=True)
        ScalarLog(str(tmp_path / folder), options).close()
        ids.append(fake.options["id"])
        (tmp_path / "two" / WANDB_ID).write_text("") if folder == "two" else None
    assert ids[0] == ids[1] and len(set(ids)) == 3 and all(name.isalnum() for name in ids)


def test_weights_and_biases_is_told_what_tensorboard_is_told_and_never_needed(
    tmp_path, monkeypatch
):
    fake = FakeWandb()
    monkeypatch.setitem(sys.modules, "wandb", fake)
    make_trainer(tmp_path, "CoOp").train()
    assert not hasattr(fake, "options")
    make_trainer(
        tmp_path,
        "CoOp",
        "LOG.WANDB",
        True,
        "LOG.WANDB_PROJECT",
        "mine",
        "OUTPUT_DIR",
        str(tmp_path / "other"),
    ).train()
    assert (
        fake.finished
        and fake.options["project"] == "mine"
        and fake.options["config"]["TRAINER"]["NAME"] == "CoOp"
        and "entity" not in fake.options
    )
    assert {"train/loss", "train/lr", "test/accuracy"} <= {
        tag for values in fake.logged for tag in values
    }
    names = {key: fake.options[key] for key in ("name", "group", "resume")}
    group = "CoOp TinyNoise all shots"
    assert names == {"name": f"{group} seed 1", "group": group, "resume": "allow"}
    hashes = [
        json.loads((tmp_path / name / "results.json").read_text())["config_hash"]
        for name in ("output", "other")
    ]
    assert hashes[0] == hashes[1]  # where curves go changes no result
    monkeypatch.setitem(sys.modules, "wandb", FakeWandb(fails=True))
    with pytest.raises(
        UserError,
        match=(
            r"LOG.WANDB is True but wandb does not start \(api_key not configured\): run `wandb "
            r"login`, set WANDB_MODE"
        ),
    ):
        make_trainer(
            tmp_path, "CoOp", "LOG.WANDB", True, "OUTPUT_DIR", str(tmp_path / "third")
        ).train()
    monkeypatch.setitem(sys.modules, "wandb", None)
    with pytest.raises(
        UserError,
        match="the package wandb is not installed: run `pip install wandb`, or set LOG.WANDB False",
    ):
        make_trainer(
            tmp_path, "CoOp", "LOG.WANDB", True, "OUTPUT_DIR", str(tmp_path / "fourth")
        ).train()
