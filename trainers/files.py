"""Temporary files and refused ones: Dassl's own ways where it has them. Upstream's has not."""

import uuid

import dassl.utils

try:
    import dassl.files as files
except ModuleNotFoundError:
    files = None

unreadable = getattr(dassl.utils, "unreadable", lambda what, error: None)


def temporary(path: str):
    """A context with an open neighbour of `path`, to be renamed to it."""
    return (
        files.temporary(path, ".part") if files else open(f"{path}.{uuid.uuid4().hex}.part", "xb")
    )
