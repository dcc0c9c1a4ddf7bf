"""Scenes that are drawn here: landscapes and kitchens, backgrounds of a data set with groups.

Scenes are drawn with whole numbers only and from seeds that are hashes of names: pixels do not
depend on the machine, the order or what was drawn before.
"""

import hashlib

import numpy as np

SIDE = 192  # pixels of a scene
X, Y = np.meshgrid(np.arange(SIDE), np.arange(SIDE))


def number_of(text: str) -> int:
    """A number that looks random, but is the same for the same text everywhere."""
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:4], "big")


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
    """A scene of SIDE x SIDE pixels (`pixels`, RGB); its name seeds all that is random."""

    def __init__(self, name: str):
        self.random, self.pixels = RandomIntegers(name), np.zeros((SIDE, SIDE, 3), dtype=np.int64)

    def land(self) -> None:
        (self.meadow, self.forest, self.desert, self.mountains)[self.random(0, 4)]()

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
                through(self.random(-grain, grain + 1, (25, 17)), SIDE).T, SIDE
            ).T + self.random(-grain // 3, grain // 3 + 1, (SIDE, SIDE))
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
                self.random(15, SIDE - 15),
                self.random(8, max(9, horizon // 2)),
                11,
                11,
                self.colour(255, 225, 90),
            )
        for _ in range(self.random(0, 3)):
            x, y = self.random(0, SIDE), self.random(4, max(5, horizon * 2 // 3))
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
        return through(self.random(low, high + 1, knots), SIDE, sharp)

    # Outdoors

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
            self.tree(self.random(8, SIDE - 8), horizon + self.random(4, 16), self.random(22, 40))
        for _ in range(90):
            x, y = self.random(0, SIDE), self.random(horizon + 22, SIDE)
            self.box(x, y, 2, 5, self.pixels[y, x] * self.random(70, 85) // 100)
        petals = self.colour(
            *((250, 240, 120), (245, 245, 245), (240, 130, 170), (230, 80, 70))[self.random(0, 4)]
        )
        for _ in range(self.random(6, 22)):
            self.blob(self.random(2, SIDE - 2), self.random(horizon + 26, SIDE - 2), 3, 2, petals)

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
            for x in range(self.random(-10, 6), SIDE + 10, 20 - 4 * distance):
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
            x, y = self.random(0, SIDE), self.random(ground + 16, SIDE)
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
                self.random(8, SIDE - 8),
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
            x, y = self.random(0, SIDE), self.random(horizon + 34, SIDE)
            self.blob(x, y, self.random(2, 6), self.random(1, 4), self.colour(165, 125, 85))
        line = self.ridge(9, -3, 3)
        for y in range(horizon + 50, SIDE, self.random(14, 22)):
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
                self.random(0, SIDE),
                self.random(ground + 12, SIDE),
            )
            self.blob(x, y + 2, 6, 4, stone * 70 // 100)
            self.blob(x - 1, y, 5, 3, stone)

    # Indoors

    def kitchen(self) -> None:
        """A table before a wall of tiles, boards or paint, with a shelf or a window at times."""
        edge = self.random(84, 120)  # of the table
        wall = self.colour(*((235, 225, 205), (205, 220, 225), (240, 235, 230))[self.random(0, 3)])
        self.fill(Y < edge, wall, wall * 92 // 100)
        if self.random(0, 2):
            side = self.random(18, 34)
            joints = (X % side < 2) | (Y % side < 2)
            self.pixels[joints & (Y < edge)] = self.colour(190, 185, 180)
        if self.random(0, 2):
            self.window(edge)
        else:
            self.shelf(edge)
        wood = self.colour(*((165, 115, 70), (200, 160, 110), (120, 80, 55))[self.random(0, 3)])
        self.fill(Y >= edge, wood * 112 // 100, wood * 85 // 100, grain=8)
        for line in range(edge + self.random(10, 18), SIDE, self.random(14, 26)):
            self.box(0, line, SIDE, 2, wood * 70 // 100)
        self.box(0, edge, SIDE, 3, wood * 125 // 100)

    def window(self, edge: int) -> None:
        width, left = self.random(50, 84), self.random(4, 110)
        height = min(edge - 14, self.random(48, 76))
        self.box(left - 4, 6, width + 8, height + 8, (245, 245, 245))
        self.box(left, 10, width, height, self.colour(170, 210, 240))
        self.box(left + width // 2 - 2, 10, 4, height, (245, 245, 245))

    def shelf(self, edge: int) -> None:
        board, x = self.random(36, edge - 20), self.random(2, 12)
        while x < SIDE - 10:
            width, height = self.random(8, 20), self.random(12, 30)
            self.box(x, board - height, width, height, self.colour(150, 130, 130, spread=90))
            x += width + self.random(2, 14)
        self.box(0, board, SIDE, 5, self.colour(130, 95, 65))
