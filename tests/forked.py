"""Processes that are forked from one that has imported train.py: imports take seconds each time."""

import multiprocessing
import os
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import torch

import train

ROOT = Path(__file__).resolve().parent.parent
CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(["train"])


def run(arguments: Sequence[str], output: str) -> None:
    """train.py, which prints to the file `output`; ends the process with its exit code."""
    file = os.open(output, os.O_WRONLY)
    os.dup2(file, 1)
    os.dup2(file, 2)
    os.chdir(ROOT)
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
        self.process = CONTEXT.Process(target=run, args=(command[2:], self.file.name))
        self.process.start()

    def wait(self) -> int:
        self.process.join()
        print(self.file.read())
        self.file.close()
        return self.process.exitcode
