"""Tensors of frozen features on disk, under a name made of everything that determines them."""

import hashlib
import json
import logging
import os
import random
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import torch
from torch import Tensor
from yacs.config import CfgNode

from trainers.errors import UserError
from trainers.files import read_tensors, temporary, unreadable

log = logging.getLogger(__name__)

VERSION = 2  # of what determines the numbers; a change makes every cache file a miss


@contextmanager
def rng_untouched() -> Iterator[None]:
    """Restore the global random states of Python, numpy and torch at the end of the context."""
    python, numpy = random.getstate(), np.random.get_state()
    # A GPU that nothing uses has no state yet, and asking for it would start it.
    devices = range(torch.cuda.device_count() if torch.cuda.is_initialized() else 0)
    with torch.random.fork_rng(devices):
        try:
            yield
        finally:
            random.setstate(python)
            np.random.set_state(numpy)


def describe(items: Sequence, root: str, transform: object, **what) -> dict:
    """All that determines image features, as plain JSON.

    images (path below `root`, size, time, label; of one in memory name, hash, label), transform,
    and `what`. Raises UserError for an image that cannot be read.
    """
    images = []
    for item in items:
        if held := getattr(item, "fingerprint", None):
            images.append([item.impath, held, int(item.label)])
            continue
        try:
            stat = os.stat(item.impath)
        except OSError as error:
            raise UserError(
                f"image '{item.impath}' cannot be read ({error.strerror}): restore it, or take it "
                "out of the data set"
            ) from None
        images.append(
            [
                os.path.relpath(item.impath, root or "."),
                stat.st_size,
                stat.st_mtime_ns,
                int(item.label),
            ]
        )
    return {"version": VERSION, "images": images, "transform": plain_repr(transform), **what}


def reading_options(cfg: CfgNode) -> dict:
    """What decides about the pixels of a file, as far as it is not the default.

    Upstream's configuration has no such keys.
    """
    spec, options = cfg.INPUT, dict[str, object]()
    if spec.get("DRAFT", False):
        options["draft"] = list(spec.SIZE)
    if (transparency := spec.get("TRANSPARENCY", "drop")) != "drop":
        options["transparency"] = transparency
    if spec.get("UPRIGHT", False):
        options["upright"] = True
    return options


def plain_repr(transform: object) -> str:
    """A transform in words that are the same in every process."""
    return re.sub(r" at 0x[0-9a-fA-F]+", "", repr(transform))


class TensorFile:
    """The file in `folder` (None: no cache) that `description`, plain JSON, determines.

    A damaged file is replaced, and a folder that cannot be written is skipped, with a message.
    """

    def __init__(self, folder: str | None, description: object):
        self.key = hashlib.sha256(json.dumps(description, sort_keys=True).encode()).hexdigest()
        self.path = os.path.join(folder, f"{self.key[:24]}.pt") if folder else None

    def state(self, hit: bool) -> str:
        """For the log: whether the file was used."""
        if hit:
            return f"(cache hit: '{self.path}')"
        return (
            f"(cache miss, written to '{self.path}')"
            if self.path and os.path.isfile(self.path)
            else "(not cached)"
        )

    def read(
        self, whole: Callable[[dict[str, Tensor]], bool], say: Callable[[str], None] = log.info
    ) -> dict[str, Tensor] | None:
        """The tensors; None without a file, or if it is unreadable, of another key, not `whole`."""
        if not self.path or not os.path.isfile(self.path):
            return None
        try:
            stored = read_tensors(self.path)
            good = stored["key"] == self.key and whole(stored)
        except Exception as error:  # noqa: BLE001 - a damaged archive can fail in any way
            if refused := unreadable(f"cache file '{self.path}'", error):
                say(f"The {refused}; its content is made again")
                return None
            good = False
        if not good:
            say(f"The cache file '{self.path}' is damaged: making it again")
            return None
        return stored

    def write(self, tensors: dict[str, Tensor], say: Callable[[str], None] = log.info) -> None:
        """Atomically: several runs may share the folder."""
        if not self.path:
            return
        try:
            os.makedirs(os.path.dirname(self.path), exist_ok=True)
            with temporary(self.path) as file:
                torch.save({**tensors, "key": self.key}, file)
                file.flush()
                os.replace(file.name, self.path)
        except (OSError, RuntimeError) as error:  # torch.save turns a full disk into a RuntimeError
            folder, reason = os.path.dirname(self.path), str(error).splitlines()[0]
            say(f"Nothing can be cached in '{folder}' ({reason}): going on without")
