"""Reading files of tensors: with dassl's reader, or torch's restricted one on upstream Dassl."""

from typing import Any

import torch

try:
    import dassl.utils.tensorfile as reader
except ModuleNotFoundError:
    reader = None


def read_tensors(path: str) -> Any:
    """What torch.save or torch.jit.save wrote to `path`, on the CPU; nothing in the file is run.

    Raises an exception of any kind if the file cannot be read or is damaged.
    """
    if reader is None:
        return torch.load(path, map_location="cpu", weights_only=True)
    content, skipped = reader.read_file(path)
    if skipped:
        print(reader.unread(path, skipped))
    return content
