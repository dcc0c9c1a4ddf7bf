"""Temporary files and locks: Dassl's own where it has them. Upstream's Dassl has not."""

import functools
import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from datasets.errors import UserError

try:
    import dassl.files as files
except ModuleNotFoundError:
    files = None

absolute = getattr(files, "absolute", lambda path: os.path.abspath(os.path.expanduser(path)))


def temporary(path: Path):
    """A context with an open neighbour of `path`, to be renamed to it."""
    if not files:
        return open(path.with_suffix(f".{os.getpid()}.tmp"), "wb")
    _tidy(path.parent)
    return files.temporary(str(path), ".tmp", tidy=False)


@functools.cache
def _tidy(folder: Path) -> None:
    """Remove files of killed processes, once: a folder may get thousands of pictures."""
    files.remove_abandoned(str(folder))


@contextmanager
def alone(folder: Path) -> Iterator[None]:
    """Hold a data set's folder, made if missing. Raises UserError if another one prepares it."""
    if not files:
        yield
        return
    os.makedirs(folder, exist_ok=True)
    with ExitStack() as stack:
        try:
            stack.enter_context(files.folder_lock(str(folder)))
        except files.Busy as error:
            raise UserError(
                f"another program is preparing '{folder}' ({error}): wait for its end"
            ) from None
        yield
