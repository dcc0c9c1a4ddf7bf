"""Registries map names in a config to classes or functions."""

import difflib
from collections.abc import Callable, Iterable

from dassl.utils.tools import UserError


def did_you_mean(requested: object, known: Iterable[str]) -> str:
    """ "did you mean 'x'? ", or nothing if nothing known is near."""
    lowered = {name.lower(): name for name in known}
    close = difflib.get_close_matches(str(requested).lower(), lowered, 1, 0.5)
    return f"did you mean '{lowered[close[0]]}'? " if close else ""


def check_availability(requested: str, available: list[str], kind: str = "name") -> None:
    """Raise UserError listing `available` and the closest match unless `requested` is one of them."""
    if requested in available:
        return
    raise UserError(
        f"unknown {kind} '{requested}': {did_you_mean(requested, available)}known ones are {', '.join(sorted(available)) or '(none)'}"
    )


class Registry:
    """Name -> object, filled with the decorator `@REGISTRY.register()` or with the call `REGISTRY.register(object)`."""

    def __init__(self, name: str):
        self._name = name
        self._objects: dict[str, Callable] = {}

    def register(self, name: str | Callable | None = None, force: bool = False) -> Callable:
        """Decorator, or, given an object, its registration. Raises KeyError if the name is taken and `force` is False."""
        if callable(name):
            return self.register(force=force)(name)

        def add(obj: Callable) -> Callable:
            key = name or obj.__name__
            if key in self._objects and not force:
                raise KeyError(f"{self._name} registry already holds '{key}'")
            self._objects[key] = obj
            return obj

        return add

    def get(self, name: str) -> Callable:
        """The registered object. Raises UserError listing the known names."""
        check_availability(name, self.registered_names(), self._name.lower())
        return self._objects[name]

    def registered_names(self) -> list[str]:
        return list(self._objects)

    def __contains__(self, name: str) -> bool:
        return name in self._objects

    def __iter__(self):
        return iter(self._objects.items())
