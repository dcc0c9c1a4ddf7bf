"""log.txt, a copy of the output without parts for terminals only; progress on both."""

import atexit
import datetime
import logging
import os
import os.path as osp
import re
import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from typing import IO

from tqdm import tqdm

from dassl import distributed, record
from dassl.printable import Harmless, any_text_can_be_written, harmless
from dassl.utils.tools import UserError, mkdir_if_missing

_ANSI = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
_SILENCE_S = 30  # a log without a terminal hears from a long evaluation this often


@contextmanager
def at_level(names: Iterable[str], level: int) -> Iterator[None]:
    """Inside, the loggers of these names take messages from this level on only."""
    loggers = [logging.getLogger(name) for name in names]
    before = [logger.level for logger in loggers]
    try:
        for logger in loggers:
            logger.setLevel(level)
        yield
    finally:
        for logger, old in zip(loggers, before, strict=True):
            logger.setLevel(old)


class _LogFile:
    """A file that keeps only the final state of each line: progress bars redraw theirs with
    carriage returns.
    """

    def __init__(self, path: str):
        # Appending, so that no process of a run overwrites what another has written; names of files
        # need not be UTF-8.
        self._path, self._file = path, open(path, "a", encoding="utf-8", errors="backslashreplace")
        self._pending: dict[
            int, str
        ] = {}  # per stream, so that a bar on stderr does not cut a line of stdout

    def write(self, stream: int, text: str) -> None:
        """Raises UserError once if the system refuses (disk full); from then on the log is silent,
        so that the sentence is seen.
        """
        if self._file is None:
            return
        try:
            self._write(stream, text)
        except OSError as error:
            self._give_up()
            raise UserError(
                f"cannot write the log '{self._path}' ({error.strerror}): free space or choose "
                "another OUTPUT_DIR"
            ) from None

    def _give_up(self) -> None:
        file, self._file = self._file, None
        with suppress(OSError):  # it tries to write what is left
            file.close()

    def _write(self, stream: int, text: str) -> None:
        *lines, self._pending[stream] = (self._pending.get(stream, "") + text).split("\n")
        for line in lines:
            self._file.write(_ANSI.sub("", line.rstrip("\r").rpartition("\r")[2]) + "\n")
        if len(self._pending[stream]) > 4096:
            self._pending[stream] = self._pending[stream].rpartition("\r")[2]
        if lines:
            self._file.flush()

    def close(self) -> None:
        with suppress(UserError):  # at the end of the program, nobody listens
            for stream, text in list(self._pending.items()):
                if text := text.rstrip("\r").rpartition("\r")[2]:
                    self.write(stream, "\n")
        if self._file is not None:
            self._give_up()


class Logger(Harmless):
    """A stream that also writes to a log file."""

    def __init__(self, stream: IO[str], log: _LogFile):
        super().__init__(stream)
        self._log = log

    def write(self, text: str) -> int:
        self._log.write(id(self), harmless(text))
        return super().write(text)


_open: list = []  # [log file, stdout before, stderr before]


def _restore() -> None:
    if _open:
        log, sys.stdout, sys.stderr = _open
        _open.clear()
        log.close()


atexit.register(_restore)


def close_logger() -> None:
    """End what `setup_logger` began: stdout and stderr are again what they were before it."""
    _restore()


def setup_logger(output: str | None = None) -> None:
    """Copy stdout and stderr to `output` (a .txt or .log file) or `output`/log.txt; None does
    nothing.

    An existing log is kept under a name that ends in the time of its last change. The first of
    several processes does this; the others add their stderr, which holds their errors. Raises
    UserError if the log cannot be written.
    """
    if output is None:
        return
    _restore()
    any_text_can_be_written()
    path = output if output.endswith((".txt", ".log")) else osp.join(output, record.LOG)
    mkdir_if_missing(osp.dirname(path))
    try:
        if osp.exists(path) and distributed.is_main():
            stamp = time.strftime("-%Y-%m-%d-%H-%M-%S", time.localtime(osp.getmtime(path)))
            kept, n = path + stamp, 1
            while osp.exists(kept):
                kept, n = f"{path}{stamp}-{n}", n + 1
            os.rename(path, kept)
        if distributed.is_main():
            log = _LogFile(path)
        distributed.barrier()
        if not distributed.is_main():
            log = _LogFile(path)
    except OSError as error:
        raise UserError(
            f"cannot write the log '{path}' ({error.strerror}): choose another OUTPUT_DIR"
        ) from None
    _open.extend((log, sys.stdout, sys.stderr))
    sys.stdout, sys.stderr = (
        Logger(sys.stdout, log) if distributed.is_main() else sys.stdout,
        Logger(sys.stderr, log),
    )


def eta_text(seconds: float) -> str:
    """`h:mm:ss`."""
    return str(datetime.timedelta(seconds=int(seconds)))


def progress_bar(total: int, desc: str) -> tqdm:
    """A one-line bar on the terminal (never in the log), gone when closed; does nothing without a
    terminal.
    """
    terminal = sys.__stderr__
    return tqdm(
        total=total,
        desc=desc,
        file=terminal,
        leave=False,
        dynamic_ncols=True,
        disable=terminal is None or not terminal.isatty() or not distributed.is_main(),
    )


def track(loader: Iterable, desc: str) -> Iterator:
    """Iterate with progress: a bar on a terminal; otherwise a line every half minute."""
    total, start = len(loader), time.monotonic()
    last_line = start
    with progress_bar(total, desc) as bar:
        for done, item in enumerate(loader, 1):
            yield item
            bar.update()
            now = time.monotonic()
            if bar.disable and now - last_line > _SILENCE_S and done < total:
                last_line = now
                logging.getLogger(__name__).info(
                    f"{desc} batch [{done}/{total}] eta "
                    f"{eta_text((now - start) / done * (total - done))}"
                )
