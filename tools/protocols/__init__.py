"""The protocols, one file of this folder each: a new file with a `PROTOCOL` is found by itself."""

import pkgutil

from dassl.program import import_file, refuse
from tools.protocols.base import PROTOCOLS, Protocol, by_folder
from tools.protocols.rows import Row, averages, collect

__all__ = ["PROTOCOLS", "Protocol", "Row", "averages", "collect", "load"]


def load() -> None:
    """Import the files of this folder, and list their protocols by rank in PROTOCOLS.

    Ends as `refuse` for a PROTOCOL that is none, and if two files name their protocols alike.
    """
    names = [name for _, name, _ in pkgutil.iter_modules(__path__)]
    modules = [import_file(f"{__name__}.{name}") for name in names]
    known = [module.PROTOCOL for module in modules if hasattr(module, "PROTOCOL")]
    for module in modules:
        if not isinstance(getattr(module, "PROTOCOL", None), Protocol | None):
            refuse(f"PROTOCOL of {module.__name__} is no Protocol: make it one, or rename it")
    PROTOCOLS.clear()
    by_folder.cache_clear()
    for protocol in sorted(known, key=lambda one: (one.rank, one.name)):
        if protocol.name in PROTOCOLS:
            refuse(
                f"two files of tools/protocols have a protocol '{protocol.name}': rename one, or "
                "take its file out"
            )
        PROTOCOLS[protocol.name] = protocol


load()
