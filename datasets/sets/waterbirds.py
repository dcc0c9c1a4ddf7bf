"""Waterbirds (Sagawa et al., ICLR 2020): birds of CUB on land or water of Places."""

import dataclasses
import os.path as osp
from pathlib import Path

from dassl.data.datasets import DATASET_REGISTRY
from datasets.base import PARTS, Split
from datasets.download import Source, arrange
from datasets.files import list_images, read_cells
from datasets.groups import GroupDataset, UserError, columns_of, position

COLUMNS, BINARY = ("img_filename", "y", "split", "place"), ("0", "1")


@DATASET_REGISTRY.register()
class Waterbirds(GroupDataset):
    """Classes, domains and split are those of metadata.csv (kohpangwei/group_DRO), the template
    that of chingyaoc/debias_vl.

    In training 95% of the birds are where they belong: 3,498 and 184 landbirds on land and water,
    56 and 1,057 waterbirds. Labels are kept as published, though Eastern Towhee, Western Meadowlark
    and Western Wood Pewee pass for waterbirds there.
    """

    folder = "waterbird_complete95_forest2water2"
    image_folder = ""
    templates = ("This is a picture of a {}.",)
    class_names, domain_names = ("landbird", "waterbird"), ("land", "water")
    lists = ("metadata.csv",)
    classes, images = 2, (4795, 1199, 5794)
    sources = (
        Source(
            f"{folder}.tar.gz",
            (
                f"https://nlp.stanford.edu/data/dro/{folder}.tar.gz",
                f"https://downloads.cs.stanford.edu/nlp/data/dro/{folder}.tar.gz",
            ),
            unpack={folder: ""},
        ),
    )

    def partition(self) -> Split:
        path, split = osp.join(self.dataset_dir, "metadata.csv"), {part: [] for part in PARTS}
        cells = read_cells(path)
        _, header = next(cells, (0, []))
        for number, (file, *codes) in columns_of(path, header, cells, COLUMNS):
            label, part, place = (
                position(path, number, column, code, known)
                for column, code, known in zip(
                    COLUMNS[1:], codes, (BINARY, ("0", "1", "2"), BINARY), strict=True
                )
            )
            split[PARTS[part]].append([file, label, self.class_names[label], place])
        return split

    @classmethod
    def prepare(cls, root: str, given: Path | None = None, progress: bool = True) -> dict[str, int]:
        """As the parent's, but below `root`: the archive is the data set's folder itself.

        It is put in place in one step, unless the folder exists.
        """
        home = Path(root).expanduser()
        for source in cls.sources:
            arrange(
                dataclasses.replace(source, unpack={cls.folder: cls.folder}), home, given, progress
            )
        if not (images := list_images(str(home / cls.folder))):
            raise UserError(
                f"'{home / cls.folder}' holds no images: delete it and prepare {cls.__name__} again"
            )
        return {cls.__name__: len(images)}
