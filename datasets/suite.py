"""The bundled suite: data sets of drawings that come with this repository.

`assets/suite/<table>.json.gz` holds drawings, classes, splits and families, made by
`tools.suite.make`; `<table>.zip` pictures that are no drawings. A family is what must not be on two
sides of a split: variants of one drawing, and near-copies of it.
"""

import functools
import gzip
import hashlib
import io
import json
import shutil
import zipfile
from pathlib import Path

from PIL import Image
from tqdm import tqdm

from dassl.utils import read_json, write_json
from datasets.base import PARTS, CoOpDataset
from datasets.drawings import render_svg, write_picture

FOLDER = Path(__file__).resolve().parents[1] / "assets" / "suite"
PICTURE_SIZE = 72  # pixels
HEAD = (
    '<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" '
    'viewBox="{} {} {} {}">'
)

Table = dict[str, dict]


@functools.cache
def read_table(name: str) -> Table:
    """{drawing: {"class", "split", "family", and "box" and "body" of its SVG or "file"}}."""
    return json.loads(gzip.decompress((FOLDER / f"{name}.json.gz").read_bytes()))


def files_of(name: str) -> list[Path]:
    """The table, and the archive of its pictures that are no drawings, if it has such."""
    return [FOLDER / f"{name}{ending}" for ending in (".json.gz", ".zip")]


def digest(name: str) -> str:
    """Of the files of a table."""
    found = filter(Path.is_file, files_of(name))
    return hashlib.sha256(b"".join(file.read_bytes() for file in found)).hexdigest()


def svg_of(row: dict) -> str:
    """The SVG of a row's "box" (left, top, width, height) and "body"."""
    return HEAD.format(*row["box"]) + row["body"] + "</svg>"


def archive_of(name: str) -> zipfile.ZipFile | None:
    """The pictures of a table that are no drawings, if it has such."""
    pack = FOLDER / f"{name}.zip"
    return zipfile.ZipFile(pack) if pack.is_file() else None


def picture_of(row: dict, size: int, archive: zipfile.ZipFile | None = None) -> Image.Image:
    """The RGB picture of a table's row; of a drawing it is size x size pixels.

    Raises as `render_svg`.
    """
    if "file" in row and archive is not None:
        return Image.open(io.BytesIO(archive.read(row["file"]))).convert("RGB")
    return render_svg(svg_of(row), size)


class SuiteDataset(CoOpDataset):
    """Parent of the suite's data sets. A data set is a subclass, and a table of `table`'s name, or
    else of its own; data sets of one table share the pictures.
    """

    table = ""
    templates = ("a picture of a {}.",)

    def __init_subclass__(cls) -> None:
        cls.table = cls.table or cls.__name__.lower()
        cls.folder = f"suite_{cls.table}"
        cls.split_file = f"split_zhou_{cls.__name__}.json"
        cls.few_shot_folder = f"split_fewshot_{cls.__name__}"
        cls.remedy = f"python -m datasets.prepare {cls.config_name()}"

    @classmethod
    def rows(cls, table: Table) -> dict[str, list[list]]:
        """{part: rows [path, label, class name]}."""
        labels = sorted({row["class"] for row in table.values()})
        return {
            part: [
                [f"{key}.png", labels.index(row["class"]), row["class"]]
                for key, row in table.items()
                if row["split"] == part
            ]
            for part in PARTS
        }

    @classmethod
    def prepare(cls, root: str, given: Path | None = None, progress: bool = True) -> dict[str, int]:
        """Write the pictures and the split file below `root`.

        Pictures that exist are kept if they are of the same table. Returns {data set: pictures}.
        Raises UserError if the package resvg-py is missing or the disk is full.
        """
        folder, table = Path(root).expanduser() / cls.folder, read_table(cls.table)
        split = cls.rows(table)
        archive = archive_of(cls.table)
        drawn, version = folder / "table.json", {"sha256": digest(cls.table)}
        known = read_json(str(drawn)) if drawn.is_file() else None
        if known != version:
            shutil.rmtree(folder / cls.image_folder, ignore_errors=True)
            write_json(version, str(drawn))
        used = {row[0].removesuffix(".png") for rows in split.values() for row in rows}
        for key in tqdm(used, desc=f"{cls.__name__} pictures", disable=not progress, mininterval=1):
            write_picture(
                folder / cls.image_folder / f"{key}.png",
                lambda row=table[key]: picture_of(row, PICTURE_SIZE, archive),
            )
        write_json(split, str(folder / cls.split_file))
        return {cls.__name__: len(used)}

    def clusters(self, items) -> list[str]:
        """The family of each item: pictures of a family are not independent.

        A picture that the table lacks, of data prepared by another version, stands for itself.
        """
        table, start = read_table(self.table), len(self.image_dir) + 1
        rows = [table.get(item.impath[start:].removesuffix(".png"), {}) for item in items]
        return [row.get("family", item.impath) for row, item in zip(rows, items, strict=True)]
