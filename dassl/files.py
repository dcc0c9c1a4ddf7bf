"""Locks, temporary files and checksums of checkpoints, for files that processes share. Quick to
import.
"""

import errno
import fcntl
import functools
import hashlib
import json
import os
import os.path as osp
import re
import socket
import stat
import tempfile
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from dassl import program

LOCK = ".lock"  # in the output folder of a run, while it runs
_NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL)


def straight(path: str) -> str:
    """A path without `..`, as short as that leaves it the path of the same file.

    Behind a link `..` is the folder above the link's target, which no text tells.
    """
    plain = osp.normpath(path)
    if osp.pardir not in path.split(os.sep) or osp.realpath(plain) == (real := osp.realpath(path)):
        return plain
    return real


def absolute(path: str) -> str:
    """The absolute path of the same file; ~ is the home folder."""
    return straight(osp.join(os.getcwd(), osp.expanduser(path)))


class Busy(Exception):
    """Another process holds the lock; the message says which, as far as is known."""


# The lock of a folder


@contextmanager
def folder_lock(folder: str) -> Iterator[bool]:
    """Hold `folder`, which exists, for this process alone, at most until the process ends.

    Yields False where the file system has no locks. Raises Busy, or OSError if no file can be made
    there. The lock belongs to the process (lockf): workers that outlive it do not keep it.
    """
    path = osp.join(folder, LOCK)
    while True:
        file = os.fdopen(os.open(path, os.O_RDWR | os.O_CREAT, 0o666), "r+b")
        try:
            works = _take(file)
        except BlockingIOError:
            with file:
                raise Busy(_holder(file)) from None
        # Who held it before may have removed the file since it was opened here.
        if not works or _is(file, path):
            break
        file.close()
    try:
        if works:
            with suppress(OSError):  # a full disk: the words are for people only
                file.truncate()
                file.write(f"process {os.getpid()} on {socket.gethostname()}\n".encode())
                file.flush()
        yield works
    finally:
        with suppress(OSError):
            os.unlink(path)
        with suppress(OSError):
            file.close()


def _take(file: IO[bytes]) -> bool:
    """Lock the file; False if there are no locks. Raises BlockingIOError if it is locked."""
    for attempt in range(20):  # who only looks (`is_locked`) holds it for an instant
        try:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        except OSError as error:
            if error.errno in _NO_LOCKS:
                return False
            if error.errno not in (errno.EACCES, errno.EAGAIN):
                raise
            if attempt < 19:
                time.sleep(0.02)
    raise BlockingIOError


def _is(file: IO[bytes], path: str) -> bool:
    """Whether the open file is the one at `path` now."""
    try:
        return osp.samestat(os.fstat(file.fileno()), os.stat(path))
    except OSError:
        return False


def _holder(file: IO[bytes]) -> str:
    holder = re.match(rb"process \d+ on [\w.-]+", file.read(200))
    return holder[0].decode() if holder else "another process"


def is_locked(folder: str) -> bool:
    """Whether a living process, another than this one, holds the lock of `folder`."""
    path = osp.join(folder, LOCK)
    if not is_file(path):
        return False
    with suppress(OSError), open(path, "rb") as file:
        try:
            fcntl.lockf(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except OSError as error:
            return error.errno in (errno.EACCES, errno.EAGAIN)
    return False


# Temporary files


@contextmanager
def temporary(path: str, suffix: str = "", tidy: bool = True) -> Iterator[IO[bytes]]:
    """An open temporary neighbour of `path`, which the body renames to it; else it is removed.

    Its name ends in `suffix`. It is locked as long as it is open: files that killed processes left
    are locked by nobody, so that with `tidy` those for this `path` are removed, and no others.
    """
    folder, name = absolute(osp.dirname(path)), osp.basename(path)
    if tidy:
        remove_abandoned(folder, name)
    while True:
        file = open(osp.join(folder, f".{name}.{uuid.uuid4().hex}{suffix}"), "xb")
        with suppress(OSError):  # without locks nothing is removed either
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if os.fstat(file.fileno()).st_nlink:
            break
        file.close()  # removed between its making and its locking
    try:
        with file:
            yield file
    finally:
        with suppress(OSError):
            os.unlink(file.name)


def remove_abandoned(folder: str, name: str = "") -> None:
    """Remove temporary files for `name` (without: for any) that killed processes left in a folder.

    Does nothing where the file system has no locks. Without a name only `.tmp` files are looked
    at, as others may be the user's.
    """
    suffix = r"(\.\w+)?" if name else r"\.tmp"
    ours = re.compile(rf"\.{re.escape(name) or '.+'}\.[0-9a-f]{{32}}{suffix}")
    with suppress(OSError):
        paths = [osp.join(folder, entry) for entry in os.listdir(folder) if ours.fullmatch(entry)]
        for path in filter(is_file, paths):
            with suppress(OSError), open(path, "rb") as file:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                os.unlink(path)


def is_file(path: str | os.PathLike[str]) -> bool:
    """Whether a path is a regular file: reading a pipe would wait for ever."""
    try:
        return stat.S_ISREG(os.stat(path).st_mode)
    except (OSError, ValueError):
        return False


def is_special(path: str) -> bool:
    """Whether a path exists and is neither a file nor a folder, such as a pipe or a device."""
    try:
        mode = os.stat(path).st_mode
    except (OSError, ValueError):
        return False
    return not stat.S_ISREG(mode) and not stat.S_ISDIR(mode)


def shorten_tempdir() -> None:
    """Put temporary files into /tmp, and say so, if the usual name is too long for sockets."""
    folder = tempfile.gettempdir()
    if len(os.fsencode(folder)) > 107 - len(
        "/craft-sweep-12345678/listener-12345678"
    ) and os.access("/tmp", os.W_OK | os.X_OK):
        program.say(
            f"Note: temporary files are put into /tmp, since '{folder}' (TMPDIR) is too long a "
            "name for sockets"
        )
        tempfile.tempdir = "/tmp"


def json_text(content: object) -> bytes:
    """JSON as all files of the project have it."""
    return json.dumps(content, indent=4, separators=(",", ": ")).encode()


# Checkpoints


_CHECKPOINT = re.compile(r"model.*\.pth\.tar(-\d+)?", re.IGNORECASE)


def checkpoint_name(epoch: int | None) -> str:
    """The file of an epoch, counted from 1; None: of the best one."""
    return "model-best.pth.tar" if epoch is None else f"model.pth.tar-{epoch}"


LATEST = "checkpoint"  # names the last checkpoint beside it
CHECKSUMS = "checksums.json"  # {checkpoint_name: `model_checksum`}, in place of the checkpoints


def is_checkpoint(path: str | os.PathLike[str]) -> bool:
    """Whether there is a checkpoint, or the file that names the last one beside it."""
    folder, name = osp.split(path)
    if name.lower() == LATEST and is_file(path):
        with suppress(OSError):
            return any(map(_CHECKPOINT.fullmatch, os.listdir(folder or ".")))
    return bool(_CHECKPOINT.fullmatch(name)) and is_file(path)


def holds_checkpoints(folder: Path) -> bool:
    """Whether a run saved a checkpoint of any of its models in the folder."""
    return any(map(is_checkpoint, folder.glob("*/model*")))


def model_checksum(folder: str, epoch: int | None) -> str | None:
    """Checksum of an epoch's checkpoints in a run's folder; None if there are none.

    Of a run without its checkpoints (tools.archive), the one that they had. Raises OSError for a
    checkpoint that cannot be read.
    """
    contents = {
        name: _content(path, os.stat(path).st_size, os.stat(path).st_mtime_ns)
        for name, path in _checkpoints(folder, epoch).items()
    }
    return _checksum(contents) if contents else _remembered(folder, epoch)


def is_replaced(folder: str, epoch: int | None, checksum: str) -> bool:
    """Whether the folder now holds another model of the epoch than the one with this checksum.

    Of a folder without its checkpoints, and of one that cannot be read, nothing is known: False.
    """
    with suppress(OSError):
        return model_checksum(folder, epoch) not in (None, checksum)
    return False


def checksum_of(name: str, checkpoint: bytes) -> str:
    """`model_checksum` of a folder in which the model `name` alone has a checkpoint."""
    return _checksum({name: hashlib.sha256(checkpoint).hexdigest()})


def _checksum(contents: dict[str, str]) -> str:
    """Of {name of a model: SHA-256 of its checkpoint}."""
    lines = "\n".join(f"{name} {content}" for name, content in contents.items())
    return hashlib.sha256(lines.encode(errors="surrogateescape")).hexdigest()


def lacks_checkpoints(folder: str, epoch: int | None) -> bool:
    """Whether a run's folder came from an archive, which leaves its checkpoints out."""
    return _remembered(folder, epoch) is not None and not _checkpoints(folder, epoch)


def _checkpoints(folder: str, epoch: int | None) -> dict[str, str]:
    """{name of a model: path of its checkpoint} in a run's folder."""
    try:
        names = sorted(os.listdir(folder))
    except (FileNotFoundError, NotADirectoryError):
        return {}
    paths = {name: osp.join(folder, name, checkpoint_name(epoch)) for name in names}
    return {name: path for name, path in paths.items() if is_file(path)}


def _remembered(folder: str, epoch: int | None) -> str | None:
    """What CHECKSUMS tells; None if it is no file, or damaged."""
    path = osp.join(folder, CHECKSUMS)
    if not is_file(path):
        return None
    with open(path, "rb") as file:
        try:
            return str(json.loads(file.read())[checkpoint_name(epoch)])
        except (ValueError, LookupError, TypeError):
            return None


@functools.lru_cache(4096)
def _content(path: str, size: int, time: int) -> str:
    """A sweep asks for the same model once for each of its tests."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def same_model(results: dict, path: str, model_dir: str, epoch: int | None) -> bool:
    """Whether the results at `path`, of a test, are of the model that `model_dir` holds now.

    By the checksum of the model that was tested. Results of older versions have none: they count
    if they are newer than the model's own. Raises OSError for a checkpoint that cannot be read.
    """
    if stored := results.get("model_sha256"):
        return stored == model_checksum(model_dir, epoch)
    trained = osp.join(model_dir, "results.json")
    return not is_file(trained) or osp.getmtime(trained) <= osp.getmtime(path)
