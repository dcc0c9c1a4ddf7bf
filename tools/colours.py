"""How a method looks in every picture: one hue and one marker, in one table.

Without CRAFT a method is light, hollow and dashed; with CRAFT it has the same hue and marker, dark,
full and solid. In grey, markers tell methods apart, and lightness and filling tell CRAFT.
"""

import zlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

# Dark enough for a contrast of 4.5 with white (tests/test_colours.py), as WCAG 2.1 asks of text.
METHODS = {
    "CoOp": ("#1f5fa8", "o"),
    "CoCoOp": ("#b8500a", "s"),
    "VPT": ("#1b7a3d", "^"),
    "IVLP": ("#b3202c", "D"),
    "MaPLe": ("#6b3fa0", "v"),
    "PromptSRC": ("#7a4a2b", "P"),
    "KgCoOp": ("#b0247a", "X"),
    "ProGrad": ("#0b7378", "<"),
    "TCP": ("#666600", ">"),
    "LinearProbe": ("#44546a", "p"),
    "TipAdapter": ("#8a5f00", "h"),
    "DFR": ("#33338f", "*"),
}
GREY = "#6a6a6a"  # of methods that learn nothing
UNTRAINED = {"ZeroshotCLIP": "x", "ZeroshotCLIP2": "+", "OrthCal": "1"}
# Of structures that the table does not know, by a checksum of their names: the same in all
# pictures, whatever else is in them.
OTHER_HUES = ("#14708f", "#9c3d54", "#4c6b1f", "#7d3c98", "#8c4a00", "#3d5a80")
OTHER_MARKERS = "d8HosD^v"

# Of things that are not methods, such as classes.
HUES = tuple(hue for hue, _ in METHODS.values())[:8]
MARKERS = "osD^vP*X"

LIGHT, LIGHTEST = 0.15, 0.45  # shares of white in methods without CRAFT
DARKEST = 0.5  # share of black in the last of several variants with CRAFT


@dataclass(frozen=True)
class Look:
    """colour: "#rrggbb"; marker: matplotlib's; full: whether the marker is filled."""

    colour: str
    marker: str
    full: bool

    @property
    def inside(self) -> str:
        """The colour inside a marker."""
        return self.colour if self.full else "white"

    @property
    def line(self) -> str:
        """Matplotlib's line style."""
        return "-" if self.full else "--"


def of_method(structure: str, learns: bool = True) -> tuple[str, str]:
    """(hue, marker) of a structure."""
    if structure in METHODS:
        return METHODS[structure]
    number = zlib.crc32(structure.encode())
    marker = OTHER_MARKERS[number // len(OTHER_HUES) % len(OTHER_MARKERS)]
    if not learns or structure in UNTRAINED:
        return GREY, UNTRAINED.get(structure, marker)
    return OTHER_HUES[number % len(OTHER_HUES)], marker


def mixed(colour: str, share: float) -> str:
    """A colour with a share of white, or of black if it is below 0."""
    parts = [int(colour[place : place + 2], 16) for place in (1, 3, 5)]
    if share > 0:
        parts = [round(part + (255 - part) * share) for part in parts]
    else:
        parts = [round(part * (1 + share)) for part in parts]
    return "#" + "".join(f"{part:02x}" for part in parts)


def variants(structure: str, crafted: Mapping[str, bool], learns: bool = True) -> dict[str, Look]:
    """{name: look} of the variants of one structure; crafted: {name: whether it has CRAFT}."""
    hue, marker = of_method(structure, learns)
    plain = [name for name, craft in crafted.items() if not craft]
    built = [name for name, craft in crafted.items() if craft]
    lights = [LIGHTEST + (LIGHT - LIGHTEST) * place for place in _even(plain)] if learns else []
    shades = dict(zip(plain, lights or [0.0] * len(plain), strict=True))
    shades |= {name: -DARKEST * place for name, place in zip(built, _even(built), strict=True)}
    return {
        name: Look(mixed(hue, shades[name]), marker, crafted[name] or not learns)
        for name in crafted
    }


def _even(names: Iterable[str]) -> list[float]:
    """A place from 0 to 1 for each name."""
    count = len(list(names))
    return [number / max(count - 1, 1) for number in range(count)]
