"""Processes that are forked from one that has imported train.py: imports take seconds each time."""

import logging
import multiprocessing
import os
import runpy
import signal
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Callable, Sequence
from multiprocessing.context import ForkServerProcess as Process
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

import train
from tools import launchers

ROOT = Path(__file__).resolve().parent.parent
OURS = ("dassl", "datasets", "tools", "trainers", "train")
CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(["train"])


def started(function: Callable, *arguments) -> Process:
    """A process that calls the function.

    The fork server looks for what it is to import where it is started (before Python 3.12.8), and
    says nothing if it finds nothing: then every fork would import torch anew.
    """
    here = os.getcwd()
    os.chdir(ROOT)
    try:
        process = CONTEXT.Process(target=function, args=arguments)
        process.start()
    finally:
        os.chdir(here)
    return process


def _begin(output: str, errors: str, folder: str | Path) -> None:
    """As a process begins that a shell starts in `folder`."""
    for number, path in ((1, output), (2, errors)):
        os.dup2(os.open(path, os.O_WRONLY), number)
    os.chdir(folder)
    multiprocessing.set_start_method("fork", force=True)  # a fork server's own is another


def run(arguments: Sequence[str], output: str) -> None:
    """train.py, which prints to the file `output`; ends the process with its exit code."""
    _begin(output, output, ROOT)
    torch.set_num_threads(1)
    sys.argv = ["train.py", *arguments]
    sys.exit(train.main(train.parse_args(list(arguments))))


class Popen:
    """Takes the place of subprocess.Popen where the command is a train.py.

    What it printed is printed when it has ended.
    """

    def __init__(self, command: Sequence[str], cwd: Path):
        assert command[:2] == [sys.executable, "train.py"] and cwd == ROOT
        self.file = tempfile.NamedTemporaryFile("r", encoding="utf-8")
        self.process = started(run, command[2:], self.file.name)

    def wait(self) -> int:
        self.process.join()
        print(self.file.read())
        self.file.close()
        return self.process.exitcode


def _program(words: Sequence[str], folder: str, output: str, errors: str) -> None:
    _begin(output, errors, folder)
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    for known in (sys.modules, logging.root.manager.loggerDict):
        for name in [name for name in known if name.partition(".")[0] in OURS]:
            del known[name]
    elsewhere = {str(ROOT), str(ROOT / "tests"), "", os.getcwd()}
    sys.path[:] = [folder, *(path for path in sys.path if path not in elsewhere)]
    sys.orig_argv[1:] = words
    kind, *rest = words
    if kind == "-c":
        sys.argv = ["-c"]
        exec(compile(rest[0], "<string>", "exec"), {"__name__": "__main__"})
    elif kind == "-m":
        sys.argv = ["-m", *rest[1:]]  # until the module runs, as the interpreter does
        runpy.run_module(rest[0], run_name="__main__", alter_sys=True)
    else:
        sys.argv = list(words)
        runpy.run_path(kind, run_name="__main__")


def _serve(environment: dict[str, str], output: str, arguments: Sequence) -> None:
    _begin(output, output, ROOT)
    os.environ.clear()
    os.environ.update(environment)
    for number in (signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    torch.set_num_threads(int(environment["OMP_NUM_THREADS"]))
    launchers.serve(*arguments)


class Executor:
    """Takes the place of submitit's local executor in a sweep: its workers are forked."""

    def __init__(self, pattern: str):
        self.folder, self.number = Path(pattern).parent, 0

    def update_parameters(self, **_) -> None:
        """Nothing of it matters to a fork."""

    def submit(self, function, *arguments) -> SimpleNamespace:
        assert function is launchers.serve
        self.number += 1
        output = self.folder / f"{self.number}.txt"
        output.touch()
        environment = {**os.environ, "SUBMITIT_LOCAL_JOB_ID": str(self.number)}
        worker = started(_serve, environment, str(output), arguments)
        return SimpleNamespace(
            job_id=str(self.number),
            done=lambda: not worker.is_alive(),
            paths=SimpleNamespace(stdout=output),
        )


def workers(patch: pytest.MonkeyPatch) -> None:
    """From now on the workers of a sweep are forked: one that starts anew imports for seconds."""
    patch.setattr("submitit.LocalExecutor", Executor)


def python(*words: str, cwd: Path) -> subprocess.CompletedProcess:
    """`python -W ignore WORDS` with the modules that lie in `cwd`; torch and the like are imported
    already. WORDS: a file, or -m and a module, with arguments; or -c and code.
    """
    with tempfile.NamedTemporaryFile("r") as output, tempfile.NamedTemporaryFile("r") as errors:
        files = (output.name, errors.name)
        process = started(_program, words, str(cwd), *files)
        process.join()
        return subprocess.CompletedProcess(words, process.exitcode, output.read(), errors.read())
