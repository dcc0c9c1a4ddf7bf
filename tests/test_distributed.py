"""Training by two processes (gloo, CPU) against one process: the same losses, parameters and
metrics, one set of files, one sentence.
"""

import importlib.util
import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import two_processes
from forked import started
from PIL import Image
from tiny_run import make_cfg
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError, ProcessFailure
from two_processes import CASES, FIXED, function, outcome, tiny

import train
from dassl import distributed, outcomes
from trainers.parallel import average_gradients, from_main, gather

ROOT = Path(__file__).resolve().parent.parent
TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2"]


@pytest.fixture(autouse=True)
def _one_thread():
    """As many as each of the two processes has: another number rounds otherwise."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def torchrun(*arguments) -> subprocess.CompletedProcess:
    return subprocess.run(
        [*TORCHRUN, *map(str, arguments)],
        capture_output=True,
        text=True,
        cwd=ROOT,
        timeout=600,
        env={
            **os.environ,
            "OMP_NUM_THREADS": "1",
            "PYTHONWARNINGS": "ignore",
            "PYTHONPATH": str(ROOT),
        },
    )


def forked(folder: Path, action, *arguments) -> tuple[list[int], str]:
    """Exit codes and stderr of `action(rank, *arguments)` in two processes that know of each other.

    As under torchrun, but forked from a process that has imported everything: torchrun's own part
    is tested by `torchrun`.
    """
    # As torchrun's agent does: it outlives both processes.
    store = torch.distributed.TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
    errors = folder / "stderr.txt"
    errors.write_text("")
    processes = [
        started(two_processes.ranked, rank, store.port, str(errors), action, *arguments)
        for rank in (0, 1)
    ]
    for process in processes:
        process.join(600)
        process.kill()
    return [process.exitcode for process in processes], errors.read_text()


def close(one: dict, other: dict) -> float:
    """The largest difference, which must be small."""
    assert one.keys() == other.keys()
    largest = max(float((one[name] - other[name]).abs().max()) for name in one)
    assert largest < 1e-5, largest
    return largest


def equal(one: dict, other: dict) -> bool:
    return all(torch.equal(value, other[name]) for name, value in one.items())


@pytest.fixture(scope="module")
def found(tmp_path_factory) -> tuple[Path, dict, dict]:
    """Folder, what the first process found, what the second one found: all of
    tests/two_processes.py in one start.
    """
    folder = tmp_path_factory.mktemp("two")
    tiny(folder, "made", "CoOp")  # data and weights
    codes, errors = forked(folder, two_processes.all_of_it, folder)
    assert codes == [0, 0], errors
    return folder, *(torch.load(folder / f"rank{rank}.pt", weights_only=False) for rank in (0, 1))


# Exchange


@pytest.mark.slow
def test_gathered_rows_and_their_gradient_are_those_of_one_process(found):
    """Each process's loss is the function of the whole times its number from 1: a row's gradient is
    the sum, 3 times that of one process.
    """
    for rows in (1, 2, 5, 6):
        for rank in (0, 1):
            whole, gathered, gradient, labels = found[1 + rank]["gathering"][rows]
            assert torch.equal(whole, gathered) and labels.tolist() == list(range(rows))
            alone = whole.clone().requires_grad_()
            function(alone.flatten(1)).backward()
            assert torch.allclose(gradient, 3 * alone.grad[rank::2])


@pytest.mark.slow
def test_gradients_are_averaged_and_stay_absent_where_nobody_has_one(found):
    for who in found[1:]:
        a, b, c, d = who["averaging"]
        assert a.eq(1.5).all() and b.eq(5.0).all() and c.eq(4.0).all() and d is None
        assert (a.dtype, b.dtype, c.shape) == (torch.float, torch.double, (2, 3))
        assert who["main"][0] == 0 and [row[0].item() for row in who["main"][1]] == [1]


def test_in_one_process_all_of_it_does_nothing():
    rows, model = torch.rand(3, 2), torch.nn.Linear(2, 2)
    model(rows).sum().backward()
    before, state = model.weight.grad, torch.get_rng_state()
    average_gradients(model.parameters())
    distributed.separate_random_states()
    distributed.share_random_states()
    distributed.start()
    distributed.stop()
    assert (
        gather(rows) is rows
        and from_main(lambda: rows) is rows
        and model.weight.grad is before
        and torch.equal(state, torch.get_rng_state())
    )
    assert (
        distributed.rank(),
        distributed.world_size(),
        distributed.is_main(),
        distributed.first_to_fail(""),
    ) == (0, 1, True, True)
    assert (
        distributed.in_turn([rows])[0][0] is rows
        and distributed.in_turn(None) == []
        and distributed.gather_objects(3) == [3]
    )


def test_trainers_run_where_dassl_has_no_processes(monkeypatch):
    monkeypatch.setitem(sys.modules, "dassl.distributed", None)  # as upstream's
    spec = importlib.util.spec_from_file_location("parallel", ROOT / "trainers/parallel.py")
    spec.loader.exec_module(alone := importlib.util.module_from_spec(spec))
    assert (
        alone.several,
        alone.gather(1),
        alone.from_main(lambda: 2),
        alone.average_gradients([]),
    ) == (None, 1, 2, None)


# Training


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in CASES if name != "views"])
def test_two_processes_train_as_one(found, name):
    folder, first, second = found[0], found[1][name], found[2][name]
    alone = outcome(folder, "one", name)
    assert (
        len(first["steps"])
        == len(alone["steps"])
        == (
            2
            if name == "template"
            else 6
            if "DATALOADER.TRAIN_X.BATCH_SIZE" in CASES[name][1]
            else 4
        )
    )
    for step, (one, other, expected) in enumerate(
        zip(first["steps"], second["steps"], alone["steps"], strict=True)
    ):
        if name == "upstream":  # knows nothing of other processes: reports its own share
            one = {key: (one[key] + other[key]) / 2 for key in one}
        else:
            assert one == other
        assert one == pytest.approx(expected, rel=1e-5, abs=1e-5), step
    for mine, theirs, all_of_it in zip(
        first["images"], second["images"], alone["images"], strict=True
    ):
        assert mine == [batch[0::2] for batch in all_of_it] and theirs == [
            batch[1::2] for batch in all_of_it
        ]
    assert (
        max(
            float((first["model"][key] - first["before"][key]).abs().max())
            for key in first["model"]
        )
        > 1e-3
    )
    assert equal(first["model"], second["model"]) and close(first["model"], alone["model"]) < 1e-5
    assert first["results"] == second["results"] == alone["results"]
    assert first["draws"] == alone["draws"] and not set(first["draws"]) & set(second["draws"])
    assert (
        len(alone["results"]) == (3 if name == "best" else 1)
        and alone["results"][-1][2]["accuracy"] >= 0
    )


@pytest.mark.slow
def test_augmented_images_are_each_seen_once_and_drawn_apart(found):
    first, second = found[1]["views"], found[2]["views"]
    assert equal(first["model"], second["model"]) and first["steps"] == second["steps"]
    for epoch in (0, 3):
        paths = [
            path
            for who in (first, second)
            for step in who["images"][epoch : epoch + 3]
            for batch in step
            for path in batch
        ]
        assert len(paths) == len(set(paths)) == 12
    alone = outcome(found[0], "one", "views")
    assert first["images"][0][0] == alone["images"][0][0][0::2] and torch.equal(
        first["pixels"][0][0], alone["pixels"][0][0]
    )
    assert not set(first["draws"]) & set(second["draws"])
    draws = torch.cat(
        found[1]["streams"]
    )  # of two workers in each process, 8 batches of one image in all
    assert len(draws) == 8 and all(len(column.unique()) == 8 for column in draws.T)


@pytest.mark.slow
def test_a_resumed_run_equals_an_uninterrupted_one_to_the_bit(found):
    for who in found[1:]:
        start, whole, cut = who["resumed"]
        assert start == 1 and equal(whole, cut)


@pytest.mark.slow
def test_what_is_fitted_before_training_is_that_of_one_process(found):
    alone = two_processes.fitted(found[0])
    assert [sorted(state) for state in alone] == [["bias", "weight"], ["keys", "labels"]]
    for who in found[1:]:
        for state, expected in zip(who["fitted"], alone, strict=True):
            assert equal(state, expected) and expected[sorted(state)[0]].abs().max() > 1e-3


@pytest.mark.slow
def test_batches_too_small_for_two_processes_are_refused_before_the_first_step(found):
    for who in found[1:]:
        assert who["refused"] == [
            f"a batch of DATALOADER.{node} has 1 image(s) for 2 processes: change BATCH_SIZE, set "
            "DATALOADER.TRAIN_X.DROP_LAST True, or start fewer processes"
            for node in ("TRAIN_X", "TRAIN_X", "TRAIN_U")
        ]


# train.py


@pytest.fixture(scope="module")
def own(tmp_path_factory) -> Path:
    """A folder of pictures, and weights."""
    folder = tmp_path_factory.mktemp("own")
    for part, number in (("train", 4), ("test", 3)):
        for label, name in enumerate(("ant", "bee", "cat")):
            for i in range(number):
                path = folder / "data" / part / name / f"{i}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(
                    np.random.RandomState(10 * label + i)
                    .randint(60 * label, 60 * label + 90, (32, 32, 3))
                    .astype(np.uint8)
                ).save(path)
    make_cfg(folder, "CoOp")
    return folder


def arguments(folder: Path, output: str, trainer: str, *more) -> list[str]:
    """more: KEY VALUE ..., instead of the keys here."""
    flags = {
        "--root": folder / "data",
        "--seed": 1,
        "--trainer": trainer,
        "--output-dir": folder / output,
        "--backbone": folder / "clip.pt",
    }
    keys = {
        "DATASET.NAME": "ImageFolder",
        "INPUT.SIZE": "(32, 32)",
        "DATALOADER.NUM_WORKERS": 0,
        "DATALOADER.TRAIN_X.BATCH_SIZE": 3,
        "OPTIM.NAME": "sgd",
        "OPTIM.LR": 0.1,
        "OPTIM.MAX_EPOCH": 2,
        "TRAIN.PRINT_FREQ": 1,
        "TRAIN.CHECKPOINT_FREQ": 1,
        "TRAINER.COOP.PREC": "fp32",
        "USE_CUDA": False,
    }
    keys |= dict(zip(more[::2], more[1::2], strict=True))
    return [word for pair in (*flags.items(), *keys.items()) for word in pair]


def said(errors: str) -> list[str]:
    """The lines that begin with "error: ", in which torchrun's report at the end has no part."""
    return [line for line in errors.splitlines() if line.startswith("error: ")]


def program(folder: Path, action, *arguments) -> tuple[list[int], str]:
    """`forked` with the arguments of train.py."""
    return forked(folder, action, list(map(str, arguments)))


@pytest.mark.slow
def test_the_program_writes_one_set_of_files_and_goes_on(own, capsys):
    given = arguments(own, "run", "CraftCoOp", "INPUT.TRANSFORMS", FIXED[1], "DATASET.NUM_SHOTS", 2)
    done = torchrun("train.py", *given)
    assert done.returncode == 0, done.stderr
    out = own / "run"
    assert sorted(path.name for path in out.iterdir()) == [
        "config.yaml",
        "log.txt",
        "outcomes_test.npz",
        "prompt_learner",
        "results.json",
        "tensorboard",
    ]
    assert (
        len(list((out / "tensorboard").iterdir())) == 1
        and len(list((own / "data").rglob("shot_2-seed_1.json"))) == 1
    )
    assert sorted(path.name for path in (out / "prompt_learner").iterdir()) == [
        "checkpoint",
        "model.pth.tar-1",
        "model.pth.tar-2",
    ]
    log = (out / "log.txt").read_text()
    for text in (done.stdout, log):
        for line in (
            "2 processes: each has its share of every batch",
            "epoch [2/2] batch [2/2]",
            "Finish training",
            "* total: 9",
            "(cache miss, written to",
        ):
            assert text.count(line) == 1, line
    results = json.loads((out / "results.json").read_text())
    assert (
        results["complete"]
        and results["processes"] == 2
        and results["metrics"]["test"]["total"] == 9
    )
    shared = outcomes.read(out, "test", results)
    # The last epoch again, by one process: the same prompts.
    whole = torch.load(out / "prompt_learner/model.pth.tar-2", weights_only=True)["state_dict"]
    (out / "prompt_learner/model.pth.tar-2").unlink()
    (out / "prompt_learner/checkpoint").write_text("model.pth.tar-1\n")
    assert (
        train.main(train.parse_args(list(map(str, given)))) == 0
        and "Resume from epoch 1 of" in capsys.readouterr().out
    )
    close(
        whole, torch.load(out / "prompt_learner/model.pth.tar-2", weights_only=True)["state_dict"]
    )
    results = json.loads((out / "results.json").read_text())
    assert results["processes"] == 1
    # Batches that processes took in turn are in the order of the data set.
    alone = outcomes.read(out, "test", results)
    assert shared.paths == alone.paths and shared.label.tolist() == alone.label.tolist()
    assert np.abs(shared.own - alone.own).max() < 1e-3


@pytest.mark.slow
def test_the_error_of_one_process_is_one_sentence_and_ends_all(own):
    bad = own / "data/train/bee/2.png"
    whole = bad.read_bytes()
    bad.write_bytes(whole[:50])
    try:
        given = arguments(own, "bad", "CoOp", "INPUT.TRANSFORMS", "('random_flip', 'normalize')")
        codes, errors = program(own, two_processes.train_reporting, str(own / "report"), *given)
    finally:
        bad.write_bytes(whole)
    assert codes != [0, 0] and len(said(errors)) == 1 and "[rank" not in errors
    (sentence,) = said(errors)
    assert sentence.startswith(f"error: image '{bad}' cannot be read")
    assert (own / "bad/log.txt").read_text().count(sentence) == 1
    (report,) = own.glob("report*")  # of one process alone
    failure = ProcessFailure(local_rank=0, pid=1, exitcode=2, error_file=str(report))
    assert f"traceback : {sentence}" in ChildFailedError("train.py", {0: failure}).format_msg()


@pytest.mark.slow
def test_the_error_of_all_processes_is_said_once(own):
    given = arguments(own, "nan", "CoOp", "OPTIM.LR", 1e30, "INPUT.TRANSFORMS", FIXED[1])
    codes, errors = program(own, two_processes.train_program, *given)
    assert 0 not in codes and len(said(errors)) == 1
    assert re.match(
        r"error: the loss is nan at epoch \d, batch \d: lower OPTIM.LR", said(errors)[0]
    )


@pytest.mark.slow
def test_processes_of_different_seeds_are_refused(own):
    given = arguments(own, "different", "CoOp")
    codes, errors = program(own, two_processes.train_other_seed, *given)
    assert 0 not in codes and not (own / "different").exists()
    assert said(errors) == [
        "error: the processes of this run differ in SEED (1 in the first, 2 in process 1): start "
        "all of them with the same command and the same files"
    ]


@pytest.mark.slow
def test_a_killed_process_ends_all_with_a_sentence_and_the_checkpoint_is_left(own):
    codes, errors = program(own, two_processes.train_dying, *arguments(own, "killed", "CoOp"))
    assert codes[0] not in (0, None) and codes[1] == -signal.SIGKILL
    assert all(
        "another process of this run was ended (killed, or out of memory): run the same command "
        "again" in line
        for line in said(errors)
    )
    assert len(said(errors)) == 1 and "[rank" not in errors
    assert (own / "killed/prompt_learner/checkpoint").read_text() == "model.pth.tar-1\n" and not (
        own / "killed/results.json"
    ).exists()
