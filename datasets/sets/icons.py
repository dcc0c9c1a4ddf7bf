"""Icons of four artists in the categories that their authors gave them: the larger further data set
of the bundled benchmark.

`assets/icons.json.gz` holds drawings, classes and splits (made by `tools/make_icon_table.py`). The
tiny CLIP was pretrained on none of these artists. Test sets of base and of new classes have about
1,850 pictures each.
"""

import gzip
import json
from pathlib import Path

from tqdm import tqdm

from dassl.data.datasets import DATASET_REGISTRY
from dassl.utils import write_json
from datasets.base import PARTS, CoOpDataset
from datasets.sets.openmoji import PICTURE_SIZE, render_svg, write_picture

TABLE = Path(__file__).resolve().parents[2] / "assets" / "icons.json.gz"
HEAD = (
    '<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" viewBox="0 '
    '0 {} {}">'
)


@DATASET_REGISTRY.register()
class Icons(CoOpDataset):
    """IconPark, Solar, Iconoir and Streamline Ultimate Color in 35 classes."""

    folder = "icons"
    split_file = "split_zhou_Icons.json"
    templates = ("a picture of a {}.",)
    remedy = "python -m datasets.prepare icons"

    @classmethod
    def prepare(cls, root: str, given: Path | None = None, progress: bool = True) -> dict[str, int]:
        return prepare(root, progress)


def icon_table() -> dict[str, dict]:
    """{artist/name: its class, split, size (width, height) and SVG body}."""
    return json.loads(gzip.decompress(TABLE.read_bytes()))


def prepare(root: str, progress: bool = True) -> dict[str, int]:
    """Write the pictures and the split file to `root`/icons; what is there already is kept.

    Returns {data set: pictures}.

    Raises UserError if the package resvg-py is missing or the disk is full.
    """
    folder, table = Path(root).expanduser() / Icons.folder, icon_table()
    for key, row in tqdm(table.items(), desc="Icons pictures", disable=not progress, mininterval=1):
        svg = HEAD.format(*row["size"]) + row["body"] + "</svg>"
        write_picture(
            folder / Icons.image_folder / f"{key}.png",
            lambda svg=svg: render_svg(svg, PICTURE_SIZE),
        )
    label = {
        name: number for number, name in enumerate(sorted({row["class"] for row in table.values()}))
    }
    write_json(
        {
            part: [
                [f"{key}.png", label[row["class"]], row["class"]]
                for key, row in table.items()
                if row["split"] == part
            ]
            for part in PARTS
        },
        str(folder / Icons.split_file),
    )
    return {"Icons": len(table)}
