"""Files: with dassl's own ways of reading and writing, or plain ones on upstream Dassl."""

import logging
import uuid
from typing import Any

import torch

import dassl.utils

try:
    import dassl.files as files
    import dassl.utils.tensorfile as reader
except ModuleNotFoundError:
    files = reader = None  # type: ignore[assignment]

log = logging.getLogger(__name__)

unreadable = getattr(dassl.utils, "unreadable", lambda what, error: None)


def temporary(path: str):
    """A context with an open neighbour of `path`, to be renamed to it."""
    return (
        files.temporary(path, ".part") if files else open(f"{path}.{uuid.uuid4().hex}.part", "xb")
    )


def read_tensors(path: str) -> Any:
    """What torch.save or torch.jit.save wrote to `path`, on the CPU; nothing in the file is run.

    Raises an exception of any kind if the file cannot be read or is damaged.
    """
    if reader is None:
        return torch.load(path, map_location="cpu", weights_only=True)
    content, skipped = reader.read_file(path)
    if skipped:
        log.info(reader.unread(path, skipped))
    return content
