"""What makes a run another run beyond its configuration: the lists of images that it read.

The hash of a run is that of its settings and, where the data set names files that decide which
images are in which part and class, "-" and a hash of their content. Nothing here imports torch.
"""

import functools
import hashlib
import json
import os
from collections.abc import Callable, Iterable, Mapping

SEPARATOR = "-"


def joined(settings: str, data: Mapping[str, str]) -> str:
    """Join the hash of a run's settings with a hash of its data, {what: SHA-256}."""
    if not data:
        return settings
    text = json.dumps(data, sort_keys=True)
    return settings + SEPARATOR + hashlib.sha256(text.encode()).hexdigest()[:8]


def of_settings(run: str) -> str:
    """The part of a run's hash that follows from its settings."""
    return run.partition(SEPARATOR)[0]


def same_run(stored: object, wanted: str) -> bool:
    """Whether two hashes are of one run.

    A hash without data, as older versions wrote it, fits any data.
    """
    if not isinstance(stored, str):
        return False
    settings, _, data = stored.partition(SEPARATOR)
    other_settings, _, other_data = wanted.partition(SEPARATOR)
    return settings == other_settings and (data == other_data or not data or not other_data)


def changes(stored: object, data: Mapping[str, str]) -> list[str]:
    """Name the files of `data` whose content differs from `stored`; [] if one is unknown."""
    if not isinstance(stored, Mapping) or not stored or not data:
        return []
    return sorted(what for what in {**stored, **data} if stored.get(what) != data.get(what))


DIGITS = 12  # of a SHA-256 in a configuration


def told(sets: Iterable[Mapping[str, str] | None]) -> list[str]:
    """Files of data sets, each {what: SHA-256} or None, as SELECTION.DATA tells them."""
    return sorted(
        {f"{sha[:DIGITS]} {what}" for files in sets for what, sha in (files or {}).items()}
    )


def other_versions(known: Iterable[str], data: Mapping[str, str]) -> list[str]:
    """Names of the files that are told as in `told`, and are others in `data`."""
    versions: dict[str, set[str]] = {}
    for digits, what in (text.split(" ", 1) for text in known if " " in text):
        versions.setdefault(what, set()).add(digits)
    return sorted(
        what
        for what, sha in data.items()
        if what in versions and sha[:DIGITS] not in versions[what]
    )


def file_hash(path: str) -> str | None:
    """SHA-256 of a file's content; None if the file cannot be read."""
    if not os.path.isfile(path):
        return None
    try:
        status = os.stat(path)
        return _of_content(
            path, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns
        )
    except OSError:
        return None


@functools.lru_cache(4096)
def _of_content(path: str, *state: int) -> str:
    """A sweep asks for the same files once for each of a thousand runs."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def folders_below(path: str) -> list[str]:
    """The folder and all below it but hidden ones, each once though links may go in circles."""
    seen, folders = set(), []
    for top, below, _ in os.walk(path, followlinks=True):
        below[:] = [name for name in below if not name.startswith(".")]  # caches of runs
        real = os.path.realpath(top)
        if real in seen:
            below.clear()
            continue
        seen.add(real)
        folders.append(top)
    return folders


def names_hash(path: str, names: Callable[[str], Iterable[str]]) -> str | None:
    """SHA-256 of `names(path)`, the names of the images below a folder; None if there is no folder.

    Remembered until one of the folders changes.
    """
    known = _listed.get(path)
    if known and all(_changed(folder) == time for folder, time in known[0].items()):
        return known[1]
    if not os.path.isdir(path):
        return None
    times = {folder: _changed(folder) for folder in folders_below(path)}
    text = json.dumps(sorted(names(path)))
    _listed[path] = times, hashlib.sha256(text.encode()).hexdigest()
    return _listed[path][1]


_listed: dict[str, tuple[dict[str, int], str]] = {}


def _changed(folder: str) -> int:
    try:
        return os.stat(folder).st_mtime_ns
    except OSError:
        return -1
