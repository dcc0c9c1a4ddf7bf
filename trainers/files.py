"""Files: with dassl's own ways of reading and writing, or plain ones on upstream Dassl."""

import logging
import uuid
from typing import Any

import torch
from safetensors.torch import load_file

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
    """What torch.save, torch.jit.save or safetensors wrote to `path`, on the CPU.

    Nothing in the file is run. Raises an exception of any kind if the file cannot be read or is
    damaged.
    """
    if path.endswith(".safetensors"):
        # Copies: those of the file are its own memory, which ends with a crash if it is replaced.
        return {name: tensor.clone() for name, tensor in load_file(path).items()}
    if reader is None:
        return torch.load(path, map_location="cpu", weights_only=True)
    content, skipped = reader.read_file(path)
    if skipped:
        log.info(reader.unread(path, skipped))
    return content
