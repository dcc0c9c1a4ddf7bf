"""Messages on upstream Dassl, which installs no handler: to sys.stdout, as `print` puts them."""

import logging
import sys


class Stdout(logging.Handler):
    """Writes messages to the current sys.stdout, which `setup_logger` copies to a file."""

    def emit(self, record: logging.LogRecord) -> None:
        sys.stdout.write(f"{self.format(record)}\n")


def install() -> None:
    """Give the loggers of this project's packages a handler, unless `dassl.messages` has."""
    try:
        import dassl.messages  # noqa: F401
    except ModuleNotFoundError:
        for logger in map(logging.getLogger, ("datasets", "trainers")):
            if not logger.handlers:
                logger.addHandler(Stdout())
                logger.setLevel(logging.INFO)
