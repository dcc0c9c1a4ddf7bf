"""The table of colours: one look per method, readable on white and in grey."""

import pytest

from tools import colours, configs, plots
from tools.protocols import Row


def luminance(colour: str) -> float:
    """Relative luminance of sRGB, by the formula of WCAG 2.1."""
    parts = [int(colour[place : place + 2], 16) / 255 for place in (1, 3, 5)]
    linear = [x / 12.92 if x <= 0.03928 else ((x + 0.055) / 1.055) ** 2.4 for x in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one: str, other: str = "#ffffff") -> float:
    low, high = sorted([luminance(one), luminance(other)])
    return (high + 0.05) / (low + 0.05)


def test_every_method_of_the_table_is_one_and_has_a_look_of_its_own():
    assert colours.METHODS.keys() <= set(configs.structures())
    hues, markers = zip(*colours.METHODS.values(), strict=True)
    assert len(set(hues)) == len(set(markers)) == len(colours.METHODS)
    assert not set(markers) & set(colours.UNTRAINED.values())


def test_methods_are_read_on_white_and_craft_is_darker_in_grey():
    for structure, (hue, _) in colours.METHODS.items():
        looks = colours.variants(structure, {"plain": False, "craft": True})
        plain, craft = looks["plain"], looks["craft"]
        assert contrast(hue) >= 4.5 and craft.colour == hue, structure
        assert contrast(plain.colour) >= 2 and contrast(plain.colour, craft.colour) > 1.5
        assert plain.marker == craft.marker and (plain.full, craft.full) == (False, True)
        assert (plain.line, craft.line, plain.inside) == ("--", "-", "white")


def test_more_variants_are_shades_in_their_order():
    crafted = {"a": False, "b": False, "c": True, "d": True, "e": True}
    looks = colours.variants("CoOp", crafted)
    shades = [luminance(look.colour) for look in looks.values()]
    assert shades == sorted(shades, reverse=True) and len(set(shades)) == 5


def test_a_structure_that_is_not_in_the_table_has_the_same_look_in_all_pictures():
    def row(trainer: str) -> Row:
        return Row("set", trainer, "cfg", "8", {"base": {1: 50.0}})

    alone = plots.looks([row("Offset")])
    among = plots.looks([row("CoOp"), row("Offset"), row("Zzz")])
    assert alone["Offset"] == among["Offset"] and among["CoOp"].colour.startswith("#")
    found = {colours.of_method(f"Structure{number}") for number in range(200)}
    assert len(found) > 40  # of 48 pairs


def test_what_learns_nothing_is_grey_and_full():
    looks = colours.variants("ZeroshotCLIP", {"ZeroshotCLIP": False}, learns=False)
    assert looks["ZeroshotCLIP"] == colours.Look(colours.GREY, "x", True)


@pytest.mark.parametrize(
    ("share", "expected"), [(0.0, "#204060"), (0.5, "#90a0b0"), (-0.5, "#102030")]
)
def test_shares_of_white_and_black(share, expected):
    assert colours.mixed("#204060", share) == expected
