"""The protocols, one file of this folder each: a new file with a `PROTOCOL` is found by itself."""

import importlib
import pkgutil

from tools.protocols.base import PROTOCOLS, Protocol
from tools.protocols.rows import Row, averages, collect

__all__ = ["PROTOCOLS", "Protocol", "Row", "averages", "collect", "load"]


def load() -> None:
    """Import the files of this folder and list their protocols by rank in PROTOCOLS."""
    modules = [
        importlib.import_module(f"{__name__}.{name}")
        for _, name, _ in pkgutil.iter_modules(__path__)
    ]
    known = [module.PROTOCOL for module in modules if hasattr(module, "PROTOCOL")]
    PROTOCOLS.clear()
    PROTOCOLS.update(
        {
            protocol.name: protocol
            for protocol in sorted(known, key=lambda one: (one.rank, one.name))
        }
    )


load()
