"""Registries map names in a config to classes or functions."""

from collections.abc import Callable, Iterable, Iterator
from typing import Any

from dassl.names import check_availability


class Registry:
    """Name -> object, filled with the decorator `@REGISTRY.register()` or with the call
    `REGISTRY.register(object)`.
    """

    def __init__(self, name: str, reserved: Iterable[str] = ()):
        """reserved: names that nothing may be registered under."""
        self._name = name
        self._reserved = tuple(reserved)
        self._objects: dict[str, Callable] = {}

    def register(self, name: str | Callable | None = None, force: bool = False) -> Callable:
        """Decorator, or, given an object, its registration.

        Raises KeyError if the name is reserved, or taken and `force` is False.
        """
        if callable(name):
            return self.register(force=force)(name)

        def add(obj: Callable) -> Callable:
            key = name or obj.__name__
            if key in self._reserved:
                raise KeyError(f"the {self._name} registry keeps the name '{key}': give another")
            if key in self._objects and not force:
                raise KeyError(
                    f"{self._name} registry already holds '{key}' of "
                    f"{self._objects[key].__module__}, {obj.__module__} has another"
                )
            self._objects[key] = obj
            return obj

        return add

    def get(self, name: str) -> Any:
        """The registered class or function. Raises UserError listing the known names."""
        check_availability(name, self.registered_names(), self._name.lower())
        return self._objects[name]

    def registered_names(self) -> list[str]:
        return list(self._objects)

    def __contains__(self, name: str) -> bool:
        return name in self._objects

    def __iter__(self) -> Iterator[tuple[str, Any]]:
        return iter(self._objects.items())
