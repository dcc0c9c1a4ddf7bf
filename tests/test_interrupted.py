"""Interrupted, crowded, copied: Ctrl-C, two programs in one folder, files that cannot be read."""

import builtins
import contextlib
import errno
import fcntl
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from test_train_cli import arguments
from test_train_cli import files as files  # a fixture
from tiny_run import make_trainer

import dassl.files as shared
import train
from dassl import distributed, program, record, strict_yaml
from dassl.utils import (
    UserError,
    load_checkpoint,
    read_image,
    read_json,
    save_checkpoint,
    scalars,
    write_json,
)
from dassl.utils.logger import _restore
from dassl.utils.tools import atomic_write, unreadable
from dassl.utils.torchtools import newest_first
from datasets import check, emoji_groups, prepare
from datasets.drawings import write_picture
from tools import (
    export,
    figures,
    inputs,
    interpret,
    launchers,
    parse_test_res,
    predict,
    report,
    results,
    sweep,
)
from trainers.cache import TensorFile
from trainers.coop import CoOp

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(autouse=True)
def _ctrl_c_is_heard():
    """A shell starts background commands, and so perhaps these tests, with Ctrl-C ignored."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def ctrl_c(*_, **__) -> None:
    os.kill(os.getpid(), signal.SIGINT)


class Falls:
    """Ctrl-C arrives in its destructor, where Python swallows the exception, as in a loader's."""

    def __del__(self):
        ctrl_c()


# Ctrl-C


def test_ctrl_c_is_raised_again_where_it_was_swallowed(capfd):
    with pytest.raises(KeyboardInterrupt), program.interruptible():
        Falls()
        assert program.interrupted()
        program.check()
        raise AssertionError("not reached")
    with pytest.raises(KeyboardInterrupt), program.interruptible():
        Falls()  # until the end of the context
    assert capfd.readouterr().err == "" and not program.interrupted()
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_ctrl_c_that_a_library_turns_into_its_own_error_is_ctrl_c():
    with pytest.raises(KeyboardInterrupt), program.interruptible(), program.interruptible():
        try:
            ctrl_c()
        except KeyboardInterrupt:
            raise RuntimeError("unexpected pos 46 vs 0") from None
    with pytest.raises(RuntimeError), program.interruptible():
        raise RuntimeError


def test_what_is_ignored_stays_ignored_and_sigterm_is_left_alone_unless_it_interrupts():
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with program.interruptible():
        ctrl_c()
        assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)  # as in the jobs of a sweep
    with pytest.raises(KeyboardInterrupt), program.interruptible():
        with contextlib.suppress(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGTERM)
    signal.signal(signal.SIGTERM, before)


def test_forked_workers_do_not_hear_ctrl_c_and_end_by_sigterm():
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    with program.interruptible():
        child = os.fork()
        if child == 0:
            ctrl_c()
            os.kill(os.getpid(), signal.SIGTERM)
            os._exit(7)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGTERM
    signal.signal(signal.SIGTERM, before)


LONG = ("OPTIM.MAX_EPOCH", "4", "TRAIN.CHECKPOINT_FREQ", "1")


def learned(folder: Path) -> dict:
    return load_checkpoint(str(folder / "prompt_learner/model.pth.tar-4"))


@pytest.mark.parametrize("moment", ["step", "destructor", "saving"])
def test_an_interrupted_training_says_so_and_goes_on_to_the_same_bits(
    files, capfd, monkeypatch, moment
):
    step, save = CoOp.forward_backward, torch.save

    def interrupted_step(self, batch):
        if self.epoch == 2:
            Falls() if moment == "destructor" else ctrl_c()
        return step(self, batch)

    class Half:
        """A file in the middle of which Ctrl-C comes."""

        def __init__(self, file):
            self._file, self._left = file, 3

        def write(self, data):
            self._left -= 1
            if not self._left:
                ctrl_c()
            return self._file.write(data)

        def __getattr__(self, name):
            return getattr(self._file, name)

    def interrupted_save(state, file):
        save(state, Half(file) if state["epoch"] == 3 else file)

    run = train.parse_args(arguments(files, *LONG))
    with monkeypatch.context() as patch:
        patch.setattr(torch, "save", interrupted_save) if moment == "saving" else patch.setattr(
            CoOp, "forward_backward", interrupted_step
        )
        assert train.main(run) == 130
    said = capfd.readouterr()
    assert said.err == "interrupted: run the same command again to go on from the last checkpoint\n"
    assert "epoch [4/4]" not in said.out and not (files / "out/results.json").exists()
    assert sorted(path.name for path in (files / "out/prompt_learner").iterdir()) == [
        "checkpoint",
        "model.pth.tar-1",
        "model.pth.tar-2",
    ]
    _restore()
    assert train.main(run) == 0 and "Resume from epoch 2" in capfd.readouterr().out
    _restore()
    assert (
        train.main(train.parse_args(arguments(files, *LONG, "OUTPUT_DIR", str(files / "whole"))))
        == 0
    )
    cut, whole = learned(files / "out"), learned(files / "whole")
    assert torch.equal(cut["state_dict"]["ctx"], whole["state_dict"]["ctx"]) and torch.equal(
        cut["rng"]["torch"], whole["rng"]["torch"]
    )


def test_ctrl_c_while_loaders_with_workers_end(files, capfd, monkeypatch):
    after = CoOp.run_epoch

    def run_epoch(self):
        after(self)
        if self.epoch == 1:
            Falls()

    monkeypatch.setattr(CoOp, "run_epoch", run_epoch)
    assert (
        train.main(train.parse_args(arguments(files, *LONG, "DATALOADER.NUM_WORKERS", "2"))) == 130
    )
    said = capfd.readouterr()
    assert (
        "Traceback" not in said.err
        and said.err.startswith("interrupted: ")
        and "epoch [3/4]" not in said.out
    )


def test_a_trainer_without_train_py_does_not_call_ctrl_c_a_full_disk(tmp_path):
    def write(file):
        try:
            ctrl_c()
        except KeyboardInterrupt:
            raise RuntimeError("unexpected pos 46 vs 0")  # noqa: B904 - as torch does

    with pytest.raises(KeyboardInterrupt):
        atomic_write(str(tmp_path / "x"), write)
    assert not list(tmp_path.iterdir())


WORK = {  # program: (its main, arguments, what it calls first)
    "predict": (predict.main, ["--model-dir", "run", "x.png"], (predict, "find_images")),
    "export": (
        export.main,
        ["--model-dir", "run", "x.safetensors"],
        (export.trained, "load_from"),
    ),
    "interpret": (interpret.main, ["--model-dir", "run"], (interpret.trained, "load_from")),
    "figures": (figures.main, ["tsne", "run"], (figures.trained, "read")),
    "results": (results.main, ["base2new", "runs"], (results, "collect")),
    "report": (report.main, ["runs"], (report, "runs_of")),
    "sweep": (sweep.main, ["plan.yaml"], (sweep, "read_plan")),
    "parse_test_res": (parse_test_res.main, ["."], (parse_test_res, "summarise")),
    "prepare": (prepare.main, ["emoji_groups", "--root", "data"], (emoji_groups, "draw")),
    "check": (check.main, ["solar"], (check, "examine")),
}


@pytest.mark.parametrize("name", WORK)
def test_every_program_says_that_it_was_interrupted(name, tmp_path, monkeypatch, capfd):
    main, given, (module, function) = WORK[name]
    here = os.getcwd()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(module, function, ctrl_c)
    assert main(given) == 130
    os.chdir(here)  # a sweep goes elsewhere
    last = capfd.readouterr().err.strip().splitlines()[-1]
    assert (
        last.endswith("interrupted") or "interrupted: run the same command again to go on" in last
    )


def test_ctrl_c_while_a_tool_saves_leaves_nothing(tmp_path, monkeypatch, capfd):
    stub = SimpleNamespace(classnames=["a"])
    monkeypatch.setattr(export.trained, "load_from", lambda args: stub)
    monkeypatch.setattr(export, "contents", lambda trainer: ({}, {}))
    monkeypatch.setattr(export, "save", ctrl_c)
    assert export.main(["--model-dir", "run", str(tmp_path / "x.safetensors")]) == 130
    with pytest.raises(KeyboardInterrupt):
        inputs.write(tmp_path / "x.png", ctrl_c, "--out")
    monkeypatch.setattr(emoji_groups, "draw", ctrl_c)
    assert prepare.main(["emoji_groups", "--root", str(tmp_path / "data")]) == 130
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


# A module whose import is interrupted: found through PYTHONPATH, before all others.
FINDER = """
import os, signal, sys
class Finder:
    def find_spec(name, *_):
        if name in ("torch", "tools.inputs"):
            os.kill(os.getpid(), signal.SIGINT)
            raise ImportError("what a library makes of Ctrl-C")
sys.meta_path.insert(0, Finder)
"""
PROGRAMS = [
    "train.py",
    *(
        f"-mtools.{path.stem}"
        for path in sorted((ROOT / "tools").glob("*.py"))
        if "__main__" in path.read_text()
    ),
    "-mdatasets.prepare",
    "-mdatasets.check",
]


@pytest.mark.parametrize("name", PROGRAMS)
def test_ctrl_c_during_imports_is_one_word(name, tmp_path):
    (tmp_path / "sitecustomize.py").write_text(FINDER)
    done = subprocess.run(
        [sys.executable, name],
        cwd=ROOT,
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(tmp_path), "PYTHONWARNINGS": "ignore"},
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    assert (done.returncode, done.stderr) == (130, "interrupted\n")


def test_importing_the_packages_leaves_ctrl_c_to_the_program_that_does(monkeypatch):
    for name in ("tools", "datasets", "train"):
        program.while_importing(name)
    monkeypatch.setattr(sys, "argv", ["-m"])
    monkeypatch.setattr(sys, "orig_argv", ["python", "-m", "mine.program"])
    program.while_importing("tools")
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


# | head


@contextlib.contextmanager
def unread():
    """A stdout whose reader has gone."""
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "w") as stream, contextlib.redirect_stdout(stream):
        yield
        _restore()  # the log


def test_output_that_nobody_reads_ends_a_run_without_traceback(files, capfd):
    with unread():
        assert train.main(train.parse_args(arguments(files))) == 141
    (line,) = capfd.readouterr().err.splitlines()
    assert line.startswith("stopped, since nobody reads the output: run the same command again")


def test_output_that_nobody_reads_ends_a_tool(capfd):
    def run(args):
        sys.stdout.write("x" * 100_000)

    with unread():
        assert inputs.main(run, None) == 141 and capfd.readouterr().err == ""


def test_a_broken_pipe_of_another_kind_is_not_taken_for_it():
    def run(args):
        raise BrokenPipeError

    with pytest.raises(BrokenPipeError):
        inputs.main(run, None)


# Done by content


def test_a_test_is_done_while_the_model_that_it_tested_is_there(files, capsys):
    assert train.main(train.parse_args(arguments(files))) == 0
    flags = [
        "--eval-only",
        "--skip-done",
        "--model-dir",
        str(files / "out"),
        "--load-epoch",
        "2",
        "--output-dir",
        str(files / "new"),
    ]

    def evaluate() -> bool:
        """Whether it was done already."""
        _restore()
        capsys.readouterr()
        assert train.main(train.parse_args(arguments(files, *flags))) == 0
        return capsys.readouterr().out.startswith("Done already")

    assert not evaluate() and evaluate()
    trained, tested = files / "out/results.json", files / "new/results.json"
    assert (
        json.loads(trained.read_text())["model_sha256"] is None
        and len(json.loads(tested.read_text())["model_sha256"]) == 64
    )
    os.utime(trained, (time.time() + 5000,) * 2)  # a copy without times, a clock that is ahead
    assert evaluate()
    path = files / "out/prompt_learner/model.pth.tar-2"
    state = load_checkpoint(str(path))
    state["state_dict"]["ctx"] += 1
    torch.save(state, path)
    os.utime(trained, (0, 0))
    assert not evaluate() and evaluate()  # of another model, however old it looks
    old = {
        key: value for key, value in json.loads(tested.read_text()).items() if key != "model_sha256"
    }
    tested.write_text(json.dumps(old))  # as an older version leaves it: by time
    assert evaluate()
    os.utime(trained, (time.time() + 5000,) * 2)
    assert not evaluate()


def test_a_sweep_tells_done_by_content_too(tmp_path):
    job = launchers.Job("test", "d", "CoOp", "c", 1, (), test=True, trained="training")
    model = tmp_path / "training/prompt_learner/model.pth.tar-3"
    save_checkpoint({"state_dict": {"ctx": torch.zeros(2)}, "epoch": 3}, str(model.parent))
    write_json(
        {"complete": True, "deployed": "last_step", "epochs": 3, "config_hash": "h"},
        str(tmp_path / "training/results.json"),
    )
    done = {
        "complete": True,
        "config_hash": "h",
        "loaded": job.loads(str(tmp_path)),
        "model_sha256": shared.model_checksum(str(tmp_path / "training"), 3),
    }
    write_json(done, str(tmp_path / "test/results.json"))
    os.utime(tmp_path / "test/results.json", (0, 0))

    def state():
        return launchers.state_of(job, str(tmp_path), "h", dict)

    assert state() == ("done", "")
    model.write_bytes(model.read_bytes() + b" ")
    assert state()[0] == "missing"


# Two programs in one folder


@contextlib.contextmanager
def held(folder: Path):
    """Another process that holds the folder, until it is killed."""
    folder.mkdir(parents=True, exist_ok=True)
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        with shared.folder_lock(str(folder)):
            os.write(writing, b"x")
            time.sleep(100)
        os._exit(0)
    os.read(reading, 1)
    try:
        yield child
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)


def test_two_runs_do_not_share_a_folder(files, capsys):
    run = train.parse_args(arguments(files))
    with held(files / "out") as process:
        assert train.main(run) == 2
        said = capsys.readouterr().err
        assert (
            f"error: another run is writing to '{files / 'out'}' (process {process} on " in said
            and "wait for its end, or choose another" in said
        )
        assert [path.name for path in (files / "out").iterdir()] == [".lock"]
        job = launchers.Job("out", "d", "CoOp", "c", 1, ())
        assert (
            launchers.state_of(job, str(files), "h", dict)[0] == "running"
            and launchers._claim(files / "out", "") is None
        )
        (files / "out/.lock").write_bytes(bytes(range(256)))
        assert train.main(run) == 2 and "(another process): wait" in capsys.readouterr().err
    # A killed run's lock is free, and leaves nothing behind.
    assert train.main(run) == 0 and not (files / "out/.lock").exists()


def test_a_lock_that_is_let_go_of_meanwhile_is_taken_anew(tmp_path, monkeypatch):
    """The lock of a file that was removed after its opening would keep nobody out."""
    take, calls = shared._take, []

    def removed_meanwhile(file):
        if not calls:
            os.unlink(tmp_path / ".lock")
        calls.append(file)
        return take(file)

    monkeypatch.setattr(shared, "_take", removed_meanwhile)
    with shared.folder_lock(str(tmp_path)) as locked:
        assert (
            locked
            and len(calls) == 2
            and (tmp_path / ".lock").read_text().startswith(f"process {os.getpid()} on ")
        )


def test_a_file_system_without_locks_is_said_and_no_obstacle(files, capsys, monkeypatch):
    def lockf(*_):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "lockf", lockf)
    assert train.main(train.parse_args(arguments(files, "OPTIM.MAX_EPOCH", "1"))) == 0
    assert (
        f"Note: the file system of '{files / 'out'}' has no locks" in capsys.readouterr().out
        and not (files / "out/.lock").exists()
    )


def test_a_data_set_is_prepared_by_one_program_at_a_time(tmp_path):
    from datasets.download import Source, arrange

    (tmp_path / "labels.txt").write_text("x")
    with (
        held(tmp_path / "set"),
        pytest.raises(
            UserError,
            match=r"another program is preparing '.*set' \(process \d+ on .*\): wait for its end",
        ),
    ):
        arrange(Source("labels.txt"), tmp_path / "set", tmp_path / "labels.txt", False)
    assert (
        arrange(Source("labels.txt"), tmp_path / "set", tmp_path / "labels.txt", False)
        and not (tmp_path / "set/.lock").exists()
    )


# Processes of torchrun


def test_processes_with_other_settings_are_refused(files, monkeypatch):
    args = train.parse_args(arguments(files))
    cfg = train.setup_cfg(args)
    train.check_processes(cfg, args)
    for key, value in (("SEED", 2), ("OPTIM.LR", 0.3), ("--load-epoch", 7)):
        monkeypatch.setattr(
            distributed,
            "gather_objects",
            lambda own, change={key: value}: [own, own, own | change],
        )
        with pytest.raises(
            UserError,
            match=rf"the processes of this run differ in {key} \(.* in the first, {value} in "
            r"process 2\): start all of them",
        ):
            train.check_processes(cfg, args)


def test_processes_with_other_data_are_refused(tmp_path, monkeypatch):
    trainer = make_trainer(tmp_path, "CoOp")
    seen = []
    monkeypatch.setattr(distributed, "world_size", lambda: 2)
    monkeypatch.setattr(
        distributed, "gather_objects", lambda own: seen.append(own) or [seen[0], own]
    )
    trainer._check_same_data()
    trainer.dm.dataset.test.pop()
    with pytest.raises(
        UserError,
        match=(
            r"process 1 of this run reads other images or labels \(test\) than the first one: give "
            r"all processes the same split"
        ),
    ):
        trainer._check_same_data()


# Temporary files


def test_what_a_killed_writer_left_is_removed_and_what_is_being_written_is_not(tmp_path):
    target = tmp_path / "results.json"
    left, written, other = (
        tmp_path / f".{name}.{digit * 32}"
        for name, digit in (("results.json", "1"), ("results.json", "2"), ("other.json", "3"))
    )
    for path in (left, written, other):
        path.write_text("half")
    with open(written) as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        write_json({}, str(target))
        assert not left.exists() and written.exists() and other.exists()
    write_json({}, str(target))
    assert sorted(tmp_path.iterdir()) == [other, target]


def test_a_temporary_file_that_is_removed_before_it_is_locked_is_made_again(tmp_path, monkeypatch):
    flock, removed = fcntl.flock, []

    def slow(file, how):
        if not removed:
            removed.append(file.name)
            os.unlink(file.name)
        return flock(file, how)

    monkeypatch.setattr(fcntl, "flock", slow)
    write_json({"a": 1}, str(tmp_path / "x.json"))
    assert read_json(str(tmp_path / "x.json")) == {"a": 1} and removed


def test_caches_and_pictures_are_tidied_too(tmp_path, monkeypatch):
    file = TensorFile(str(tmp_path), {"a": 1})
    left = [
        tmp_path / f".{os.path.basename(file.path)}.{'a' * 32}.part",
        tmp_path / f".1F600.png.{'b' * 32}.tmp",
    ]
    for path in left:
        path.write_text("half")
    file.write({"x": torch.zeros(2)})
    assert not left[0].exists() and left[1].exists() and file.read(lambda tensors: True) is not None
    from PIL import Image

    write_picture(tmp_path / "1F601.png", lambda: Image.new("RGB", (2, 2)))
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(
        ["1F601.png", os.path.basename(file.path)]
    )


# Files that cannot be read


@pytest.fixture
def refusing(monkeypatch):
    """refusing(path, number): the system refuses to open it. (Root may read everything.)"""
    plain = builtins.open

    def start(path, number):
        def opened(file, *args, **more):
            if str(file) == str(path):
                raise OSError(number, os.strerror(number), str(file))
            return plain(file, *args, **more)

        monkeypatch.setattr(builtins, "open", opened)
        monkeypatch.setattr("io.open", opened)

    return start


@pytest.mark.parametrize(
    ("number", "remedy"),
    [
        (errno.EACCES, "Permission denied): correct its rights"),
        (errno.EIO, "error): look after the disk"),
        (errno.EMFILE, "Too many open files): allow a process more open files"),
    ],
)
def test_a_good_file_that_cannot_be_read_is_not_called_damaged(tmp_path, refusing, number, remedy):
    folder = tmp_path / "prompt_learner"
    save_checkpoint({"state_dict": {"ctx": torch.zeros(3)}, "epoch": 1}, str(folder))
    write_json({}, str(tmp_path / "results.json"))
    cache = TensorFile(str(tmp_path), {"a": 1})
    cache.write({"x": torch.zeros(2)})
    for path, read in (
        (folder / "model.pth.tar-1", load_checkpoint),
        (tmp_path / "results.json", read_json),
        (folder / "checkpoint", None),
    ):
        refusing(path, number)
        with pytest.raises(UserError) as error:
            read(str(path)) if read else newest_first(str(folder))
        assert f"{path}' cannot be read (" in str(error.value) and remedy in str(error.value)
        assert not {"delete", "truncated", "damaged", "restore"} & set(
            str(error.value).replace(";", " ").split()
        )
    said = []
    refusing(cache.path, number)
    assert (
        cache.read(lambda tensors: True, said.append) is None
        and "damaged" not in said[0]
        and "cannot be read (" in said[0]
    )


def test_too_little_memory_is_told_from_damage():
    torch_says = RuntimeError(
        "[enforce fail at alloc_cpu.cpp:127] err == 0. DefaultCPUAllocator: can't allocate memory: "
        "you tried to allocate 9 bytes."
    )
    for error in (MemoryError(), torch_says, OSError(errno.ENOMEM, "Cannot allocate memory")):
        assert "Cannot allocate memory): free memory" in str(unreadable("'x'", error))
    for error in (
        RuntimeError("PytorchStreamReader failed"),
        OSError(errno.EINVAL, "Invalid argument"),
        ValueError(),
    ):
        assert unreadable("'x'", error) is None


def test_a_sweep_and_tables_tell_rights_from_damage(tmp_path, refusing, monkeypatch):
    job = launchers.Job("job", "d", "CoOp", "c", 1, ())
    write_json({"complete": True}, str(tmp_path / "job/results.json"))
    monkeypatch.setattr(Path, "read_bytes", lambda path: open(path, "rb").read())
    refusing(tmp_path / "job/results.json", errno.EACCES)
    state, note = launchers.state_of(job, str(tmp_path), "h", dict)
    assert state == "failed" and note.endswith(
        "results.json' cannot be read (Permission denied): correct its rights, or look after the "
        "disk"
    )


@pytest.mark.parametrize(
    "content",
    [b"[" * 200_000, bytes(range(256)) * 4, b"\xff\xfe{", b"1" * 5000, b"", b"{"],
    ids=len,
)
def test_random_bytes_in_small_files(tmp_path, content):
    path = tmp_path / "results.json"
    path.write_bytes(content)
    with pytest.raises(UserError, match="results.json' is not valid JSON"):
        read_json(str(path))
    assert launchers.read(path) == {}
    with pytest.raises((ValueError, RecursionError)):  # as tables expect
        record.read(path)
    save_checkpoint({"state_dict": {"ctx": torch.zeros(3)}, "epoch": 1}, str(tmp_path))
    (tmp_path / "checkpoint").write_bytes(content)
    (tmp_path / "model.pth.tar-²").write_bytes(content)  # a digit, but no number
    assert newest_first(str(tmp_path)) == ["model.pth.tar-1"]
    (tmp_path / "job").mkdir()
    (tmp_path / "job/sweep.json").write_bytes(content)
    assert launchers.state_of(
        launchers.Job("job", "d", "CoOp", "c", 1, ()), str(tmp_path), "h", dict
    ) == ("missing", "")


def test_yaml_that_python_cannot_hold_is_bad_yaml():
    for text in ("[" * 5000, "day: 2024-13-45", f"number: {'1' * 5000}"):
        with pytest.raises(strict_yaml.yaml.YAMLError):
            strict_yaml.load(text)


def in_time(work, seconds: float = 10):
    """What work() returns or raises, if it does not wait for ever."""
    found = []

    def target():
        try:
            found.append(work())
        except Exception as error:
            found.append(error)

    thread = threading.Thread(target=target, daemon=True)
    thread.start()
    thread.join(seconds)
    assert found, "it waits for ever"
    return found[0]


def test_pipes_where_files_are_expected_do_not_hang(tmp_path):
    for name in ("results.json", "sweep.json", "log.txt", ".lock"):
        os.mkfifo(tmp_path / name)
    path = tmp_path / "results.json"
    assert "a pipe or a device" in str(in_time(lambda: read_json(str(path))))
    assert "a pipe or a device" in str(in_time(lambda: record.read(path)))
    assert "a pipe or a device" in str(in_time(lambda: write_json({}, str(path))))
    assert (
        in_time(lambda: launchers.read(path)) == {}
        and in_time(lambda: launchers.progress_of(tmp_path)) == ""
    )
    job = launchers.Job(tmp_path.name, "d", "CoOp", "c", 1, ())
    assert in_time(lambda: launchers.state_of(job, str(tmp_path.parent), "h", dict))[0] == "failed"
    os.mkfifo(tmp_path / "x.png")
    assert "a pipe or a device" in str(in_time(lambda: read_image(str(tmp_path / "x.png"))))
    assert (
        in_time(
            lambda: (
                parse_test_res.read_log(tmp_path / "log.txt", "accuracy", "=> result") or "nothing"
            )
        )
        == "nothing"
    )
    with pytest.raises(
        inputs.InputError,
        match="--json is '/dev/null', a pipe or a device: give the name of a file",
    ):
        inputs.check_outputs([inputs.Output("--json", Path("/dev/null"))])
    with pytest.raises(
        UserError, match="'/dev/null' is a pipe or a device, and cannot be replaced"
    ):
        write_json({}, "/dev/null")


# TensorBoard on a full disk


def test_a_disk_that_is_full_when_curves_begin_is_one_sentence(tmp_path, monkeypatch):
    def full(**_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(scalars, "SummaryWriter", full)
    hook = threading.excepthook
    with pytest.raises(
        UserError,
        match=r"cannot write the curves to '.*tensorboard' \(No space left on device\): free space",
    ):
        make_trainer(tmp_path, "CoOp").train()
    assert threading.excepthook is hook


def test_the_thread_that_writes_curves_says_no_traceback(tmp_path, monkeypatch, capfd):
    from tensorboard.summary.writer.record_writer import RecordWriter

    log = scalars.ScalarLog(str(tmp_path))

    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(RecordWriter, "write", full)
    with pytest.raises(UserError, match="cannot write the curves to"):
        for step in range(100):
            log.add_scalar("a", 1.0, step)
            time.sleep(0.01)
    assert capfd.readouterr().err == ""


# A loss that is not finite


def blamed(folder: Path, *options, change=None) -> str:
    trainer = make_trainer(folder, "CoOp", *options)
    if change:
        change(trainer)
    with pytest.raises(UserError) as error:
        trainer.train()
    return str(error.value)


def test_a_loss_that_is_not_finite_names_the_culprit(tmp_path):
    make_trainer(tmp_path, "CoOp")
    weights = torch.load(tmp_path / "clip.pt", weights_only=True)
    torch.save(weights | {"logit_scale": torch.tensor(1e3)}, tmp_path / "steep.pt")
    said = blamed(  # as half precision may make of large weights; a file of such is refused earlier
        tmp_path,
        change=lambda trainer: next(iter(trainer.backbone.image.buffers())).fill_(torch.nan),
    )
    assert said.startswith(
        "the loss is nan at epoch 1, batch 1, since the pretrained weights "
        f"'{tmp_path / 'clip.pt'}' hold numbers that are not finite"
    )
    assert "LR" not in said and "checkpoint" not in said
    said = blamed(tmp_path, "MODEL.BACKBONE.NAME", str(tmp_path / "steep.pt"))
    assert (
        f"since exp(logit_scale) of the CLIP '{tmp_path / 'steep.pt'}' is not finite" in said
        and "checkpoint" not in said
    )
    said = blamed(
        tmp_path,
        change=lambda trainer: setattr(
            trainer.train_loader_x.dataset,
            "transform",
            lambda _: torch.full((3, 32, 32), torch.nan),
        ),
    )
    assert (
        "since the input made of the image '" in said
        and ".png' is not finite: look at that image, and at INPUT.PIXEL_STD" in said
    )
    torch.save({"ctx": torch.full((4, 64), float("inf"))}, tmp_path / "start.pt")
    said = blamed(tmp_path, "MODEL.INIT_WEIGHTS", str(tmp_path / "start.pt"))
    assert "since 'ctx' is not finite before the first step: correct MODEL.INIT_WEIGHTS" in said
    said = blamed(
        tmp_path,
        change=lambda trainer: setattr(
            trainer, "loss_terms", lambda *_: {"own": trainer.model.ctx.sum() * float("inf")}
        ),
    )
    assert (
        "although weights, images and parameters are finite: use PREC fp32, or lower the weights "
        "of the loss terms" in said
    )
    said = blamed(tmp_path, "OPTIM.LR", 1e30)
    assert said.endswith(": lower OPTIM.LR or use PREC fp32")  # there is no checkpoint


# Surroundings


def test_lists_of_threads(monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    for given in ("2,2", " 2 ", "02,1"):
        monkeypatch.setenv("OMP_NUM_THREADS", given)
        assert sweep.slots(1, False)[1] == 2
    for given in ("many", "0", "-1", "2.5"):
        monkeypatch.setenv("OMP_NUM_THREADS", given)
        with pytest.raises(
            inputs.InputError,
            match=f"OMP_NUM_THREADS is '{given}': set it to a number of threads from 1, or unset "
            "it",
        ):
            sweep.slots(1, False)


def test_a_folder_for_temporary_files_with_a_long_name(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / ("t" * 110)))
    shared.shorten_tempdir()
    assert (
        tempfile.tempdir == "/tmp"
        and "Note: temporary files are put into /tmp, since '" in capsys.readouterr().err
    )
    shared.shorten_tempdir()
    assert capsys.readouterr().err == ""


def test_hidden_files_of_the_user_are_not_taken_for_abandoned_ones(tmp_path):
    mine, ours = (tmp_path / f".mine.{'0' * 32}{end}" for end in (".json", ".tmp"))
    mine.touch()
    ours.touch()
    shared.remove_abandoned(str(tmp_path))
    assert mine.exists() and not ours.exists()
