"""What a misspelt name may stand for. Quick to import."""

import difflib
from collections.abc import Callable, Iterable, Sequence

from dassl.errors import UserError

# By kind: what else to say about an unknown name, or nothing.
HINTS: dict[str, Callable[[str], str]] = {}


def did_you_mean(requested: object, known: Iterable[str]) -> str:
    """ "did you mean 'x'? ", or nothing if nothing known is near."""
    lowered = {name.lower(): name for name in known}
    close = difflib.get_close_matches(str(requested).lower(), lowered, 1, 0.5)
    return f"did you mean '{lowered[close[0]]}'? " if close else ""


def check_availability(requested: str, available: list[str], kind: str = "name") -> None:
    """Raise UserError with all names and the closest one unless `requested` is `available`."""
    if requested in available:
        return
    hint = HINTS[kind](requested) if kind in HINTS else ""
    raise UserError(
        f"unknown {kind} '{requested}': {did_you_mean(requested, available)}known ones are "
        f"{', '.join(sorted(available)) or '(none)'}{hint}"
    )


def closest(name: str, known: Sequence[str]) -> list[str]:
    """The known keys that `name` is likely to stand for, the nearest first: those of its last word
    wherever they are, else the most similar one.
    """

    def plain(text: str) -> str:
        return text.lower().replace("_", "")

    def likeness(key: str) -> float:
        whole, last = (
            difflib.SequenceMatcher(None, plain(a), plain(b)).ratio()
            for a, b in ((name, key), (name.rpartition(".")[2], key.rpartition(".")[2]))
        )
        return whole + last

    same = [key for key in known if plain(key.rpartition(".")[2]) == plain(name.rpartition(".")[2])]
    if exact := [key for key in same if plain(key) == plain(name)]:
        return exact
    return sorted(same, key=likeness, reverse=True)[:3] or [max(known, key=likeness)]
