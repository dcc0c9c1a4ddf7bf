"""Where the messages of library code go: to sys.stdout, one per line, as `print` puts them.

Modules of this project log through `logging.getLogger(__name__)`. The package `dassl` installs this
handler when it is imported, so that notes and warnings are seen without any set-up, and are in
log.txt once `setup_logger` has opened it. A program that wants them elsewhere changes the handlers
of the loggers in LOGGERS. Quick to import.
"""

import logging
import sys

LOGGERS = ("craft", "dassl", "datasets", "tools", "trainers")


class Stdout(logging.Handler):
    """Writes messages, without time or level, to the current sys.stdout.

    Errors of the stream (its reader is gone, the disk of the log is full) reach the caller, as with
    `print`.
    """

    def emit(self, record: logging.LogRecord) -> None:
        if sys.stdout is not None:
            sys.stdout.write(f"{self.format(record)}\n")


def install() -> None:
    """Give each of LOGGERS a Stdout handler, once; their messages go nowhere else."""
    for name in LOGGERS:
        logger = logging.getLogger(name)
        if not logger.handlers:
            logger.addHandler(Stdout())
            logger.setLevel(logging.INFO)
            logger.propagate = False
