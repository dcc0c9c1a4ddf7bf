"""Captions of the small bundled CLIP's pretraining: true of the picture, and never a class.

A picture has a look: its style, the colour of ink and paper, whether colours were taken out. A
caption names the item and, sometimes, parts of the look.
"""

import random
from dataclasses import dataclass

STYLES = {
    "line": ("a line drawing of", "an outline of", "a sketch of", "a line icon of"),
    "solid": ("a silhouette of", "a solid icon of", "a black shape of", "a stencil of"),
    "duotone": ("a two tone icon of", "a duotone drawing of"),
    "flat": ("a cartoon of", "a flat colour picture of", "a colourful illustration of"),
    "shaded": ("a rendered", "a shaded picture of", "a glossy 3d picture of", "a 3d render of"),
    "pixel": ("a pixel art picture of", "a pixelated", "an 8 bit icon of"),
}
NEUTRAL = (
    *("a photo of", "a picture of", "an image of", "a drawing of", "an icon of", "this is"),
    *("an emoji of", "an illustration of", "a small picture of", "a clean image of", "", ""),
)
GREY = ("a black and white picture of", "a grey picture of", "a monochrome drawing of")
# Name -> red, green, blue.
INKS = {
    "black": (20, 20, 20),
    "grey": (125, 125, 125),
    "red": (215, 40, 40),
    "orange": (240, 135, 30),
    "yellow": (240, 200, 40),
    "green": (45, 155, 70),
    "blue": (45, 90, 210),
    "light blue": (90, 185, 240),
    "purple": (135, 65, 175),
    "pink": (240, 115, 170),
    "brown": (130, 85, 45),
    "white": (250, 250, 250),
}
PAPERS = {
    "white": (255, 255, 255),
    "grey": (200, 200, 200),
    "yellow": (252, 240, 170),
    "pink": (252, 205, 220),
    "blue": (190, 215, 250),
    "green": (200, 240, 205),
    "orange": (252, 215, 170),
    "purple": (225, 205, 245),
}


@dataclass(frozen=True)
class Look:
    """What a picture looks like; ink "" is the artist's own colours."""

    style: str
    ink: str = ""
    paper: str = "white"
    grey: bool = False


def random_look(rng: random.Random) -> Look:
    ink = rng.choice(list(INKS)) if rng.random() < 0.4 else ""
    return Look(rng.choice(list(STYLES)), ink, rng.choice(list(PAPERS)), rng.random() < 0.1)


def caption(words: str, look: Look, rng: random.Random) -> str:
    """A caption of an item of these words."""
    if look.grey and rng.random() < 0.5:
        start = rng.choice(GREY)
    elif rng.random() < 0.5:
        start = rng.choice(STYLES[look.style])
    else:
        start = rng.choice(NEUTRAL)
    colour = look.ink if rng.random() < 0.6 else ""
    noun = f"{colour} {words}".strip()
    article = "an" if noun[0] in "aeiou" else "a"
    if start.endswith(("rendered", "pixelated")) or rng.random() < 0.1:
        article = ""
    end = f" on a {look.paper} background" if look.paper != "white" and rng.random() < 0.3 else ""
    text = " ".join(part for part in (start, article, noun) if part) + end
    return text + rng.choice((".", ""))
