"""Animals and food of OpenMoji outdoors and in a kitchen: the suite's groups.

As Waterbirds: in training 95% of the pictures of a class have the background that the class would
have; in validation and test every pose is there on both. Each group's test has at least 40
different emoji, so that worst-group accuracy is not that of a few drawings.
"""

from collections import defaultdict
from pathlib import Path

import numpy as np
from PIL import Image
from tqdm import tqdm

from dassl.data.datasets import DATASET_REGISTRY
from dassl.utils import write_json
from datasets.base import PARTS
from datasets.groups import GroupDataset
from datasets.sets.openmoji import PICTURE_SIZE, emoji_table, write_picture
from datasets.sets.openmoji_groups import (
    DEAL,
    FINE,
    MATCHING,
    RandomIntegers,
    Scene,
    X,
    Y,
    cutout,
    number_of,
)

SUBGROUPS = {
    "animal": ("mammal", "bird", "insect", "marine animal"),
    "food": ("fruit", "vegetable", "prepared food", "asian food", "dessert", "drink"),
}
POSES = {"train": 12, "val": 4, "test": 8}  # of each emoji: place, size and side


@DATASET_REGISTRY.register()
class EmojiGroups(GroupDataset):
    """Two classes, two backgrounds; domain 0 is the background of class 0."""

    folder = "emoji_groups"
    split_file = "split_zhou_EmojiGroups.json"
    templates = ("a picture of a {}.",)
    class_names, domain_names = tuple(SUBGROUPS), ("outdoors", "kitchen")
    adjusted_average = True
    remedy = "python -m datasets.prepare emoji_groups"

    @classmethod
    def prepare(cls, root: str, given: Path | None = None, progress: bool = True) -> dict[str, int]:
        """Write the pictures, then the split file; existing ones are kept.

        Returns {data set: pictures}. Raises UserError if a package is missing, a drawing is not
        readable or the disk is full.
        """
        home, rows = Path(root).expanduser() / cls.folder, pictures()
        every = tqdm(
            [row for part in PARTS for row in rows[part]],
            desc=f"{cls.__name__} pictures",
            disable=not progress,
            mininterval=1,
        )
        for path, _, domain in every:
            write_picture(home / cls.image_folder / path, lambda p=path, d=domain: draw(p, d))
        split = {
            part: [[path, label, cls.class_names[label], domain] for path, label, domain in found]
            for part, found in rows.items()
        }
        write_json(split, str(home / cls.split_file))
        return {cls.__name__: sum(map(len, rows.values()))}

    def clusters(self, items) -> list[str]:
        """The emoji of each item: its poses are not independent."""
        return [Path(item.impath).stem.rpartition("-")[0] for item in items]


def emoji_of_parts() -> dict[str, list[tuple[str, int]]]:
    """{part: (hexcode, label) of its emoji}; emoji of one family are in one part, and each part has
    a share of every subgroup.
    """
    label = {name: place for place, names in enumerate(SUBGROUPS.values()) for name in names}
    families: dict[str, dict[str, list[str]]] = defaultdict(lambda: defaultdict(list))
    for row in emoji_table():
        if row["class"] in label:
            families[row["class"]][row["family"]].append(row["hexcode"])
    parts: dict[str, list[tuple[str, int]]] = {part: [] for part in PARTS}
    for name, members in sorted(families.items()):
        for number, family in enumerate(sorted(members, key=number_of)):
            part = DEAL[number % len(DEAL)]
            parts[part] += [(hexcode, label[name]) for hexcode in members[family]]
    return parts


def pictures() -> dict[str, list[tuple[str, int, int]]]:
    """{part: (path, label, domain) of its pictures}."""
    parts: dict[str, list[tuple[str, int, int]]] = {part: [] for part in PARTS}
    for part, members in emoji_of_parts().items():
        for label, kind in enumerate(SUBGROUPS):
            poses = [
                f"{hexcode}-{pose:02d}"
                for hexcode, its_label in members
                if its_label == label
                for pose in range(POSES[part])
            ]
            apart = (len(poses) * (100 - MATCHING) + 50) // 100
            elsewhere = set(sorted(poses, key=number_of)[:apart])
            for name in poses:
                own = 1 - label if name in elsewhere else label
                for domain in (own,) if part == "train" else (0, 1):
                    place = EmojiGroups.domain_names[domain]
                    parts[part].append((f"{part}/{kind}_{place}/{name}.png", label, domain))
    return parts


def draw(path: str, domain: int) -> Image.Image:
    """An emoji, in a pose that is the same on both backgrounds, in a scene of its own."""
    name = Path(path).stem
    random, scene = RandomIntegers(name), Kitchen(path)
    figure = cutout(name.rpartition("-")[0], random(46, 74))
    figure = figure[:, ::-1] if random(0, 2) else figure
    height, width = figure.shape[:2]
    left = random(1, PICTURE_SIZE - width)
    foot = random(max(height + 1, 72), PICTURE_SIZE - 1)
    (scene.kitchen if domain else scene.land)()
    whole = scene.pixels.reshape(PICTURE_SIZE, 2, PICTURE_SIZE, 2, 3).sum((1, 3)) + 2 >> 2
    x, y = X[:PICTURE_SIZE, :PICTURE_SIZE], Y[:PICTURE_SIZE, :PICTURE_SIZE]
    across = (width + 6) ** 2
    shadow = 9 * (2 * (x - left) - width) ** 2 + (y - foot + 2) ** 2 * across <= 9 * across
    whole[shadow] = whole[shadow] * 5 // 8
    part = whole[foot - height : foot, left : left + width]
    alpha = figure[..., 3:]
    part[:] = (figure[..., :3] * alpha + part * (255 - alpha) + 127) // 255
    return Image.fromarray(whole.astype(np.uint8))


class Kitchen(Scene):
    """Also a table before a wall of tiles, boards or paint, with a shelf or a window at times."""

    def kitchen(self) -> None:
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
        for line in range(edge + self.random(10, 18), FINE, self.random(14, 26)):
            self.box(0, line, FINE, 2, wood * 70 // 100)
        self.box(0, edge, FINE, 3, wood * 125 // 100)

    def window(self, edge: int) -> None:
        width, left = self.random(50, 84), self.random(4, 110)
        height = min(edge - 14, self.random(48, 76))
        self.box(left - 4, 6, width + 8, height + 8, (245, 245, 245))
        self.box(left, 10, width, height, self.colour(170, 210, 240))
        self.box(left + width // 2 - 2, 10, 4, height, (245, 245, 245))

    def shelf(self, edge: int) -> None:
        board, x = self.random(36, edge - 20), self.random(2, 12)
        while x < FINE - 10:
            width, height = self.random(8, 20), self.random(12, 30)
            self.box(x, board - height, width, height, self.colour(150, 130, 130, spread=90))
            x += width + self.random(2, 14)
        self.box(0, board, FINE, 5, self.colour(130, 95, 65))
