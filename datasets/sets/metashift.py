"""MetaShift (Liang and Zou, ICLR 2022): cats and dogs, indoors and outdoors."""

import os.path as osp

from dassl.data.datasets import DATASET_REGISTRY
from datasets.base import PARTS, Rows, Split, shuffled, warn_of_own_split
from datasets.download import Source
from datasets.files import list_images, read_cells
from datasets.groups import GroupDataset, UserError, columns_of, position

PICTURES, TABLE = "MetaShift-Cat-Dog-indoor-outdoor", "metadata_metashift.csv"
# Folders of the authors' script (Weixin-Liang/MetaShift), with label and domain of their pictures.
FOLDERS = {
    "train/cat/cat(indoor)": (1, 1),
    "train/dog/dog(outdoor)": (0, 0),
    "test/cat/cat(outdoor)": (1, 0),
    "test/dog/dog(indoor)": (0, 1),
}
TEST, VALIDATION = 0.25, 0.1  # shares of all pictures (SubpopBench)


@DATASET_REGISTRY.register()
class MetaShift(GroupDataset):
    """Classes, domains and numbers of images are those of SubpopBench (Yang et al., ICML 2023).

    The split is that of SubpopBench's `metadata_metashift.csv` in the data set's folder. It is
    drawn in the order in which a disk lists files, so that nobody can draw it again: without the
    table, pictures in the order of their names are split by the same shares, with a warning.
    """

    folder = "metashift"
    image_folder = PICTURES
    class_names, domain_names = ("dog", "cat"), ("outdoor", "indoor")
    lists = (TABLE,)
    classes, images = 2, (2276, 349, 874)
    sources = (
        Source(
            "metashift.tar.gz",
            ("https://www.dropbox.com/s/a7k65rlj4ownyr2/metashift.tar.gz?dl=1",),
            unpack={PICTURES: PICTURES},
        ),
    )

    @classmethod
    def sources_of_split(cls, cfg, home: str) -> dict[str, str]:
        """The table; without it, the names of the images too."""
        files = super().sources_of_split(cfg, home)
        if osp.isfile(osp.join(home, TABLE)):
            return files
        return files | {"names of the images": osp.join(home, cls.image_folder)}

    def partition(self) -> Split:
        path = osp.join(self.dataset_dir, TABLE)
        if osp.isfile(path):
            return self._published(path)
        warn_of_own_split(path, "the one of SubpopBench")
        rows: Rows = []
        for folder, (label, domain) in FOLDERS.items():
            if not (pictures := list_images(self.image_dir, folder)):
                raise UserError(
                    f"'{osp.join(self.image_dir, folder)}' holds no images: {self.repair}"
                )
            rows += [[file, label, self.class_names[label], domain] for file in pictures]
        rows, test = shuffled(rows), int(len(rows) * TEST)
        train = test + int(len(rows) * VALIDATION)
        return {"train": rows[train:], "val": rows[test:train], "test": rows[:test]}

    def _published(self, path: str) -> Split:
        """SubpopBench's table, whose paths are those of the machine that wrote it."""
        split: Split = {part: [] for part in PARTS}
        cells = read_cells(path)
        _, header = next(cells, (0, []))
        for number, (file, *codes) in columns_of(
            path, header, cells, ("filename", "split", "y", "a")
        ):
            below = file.replace("\\", "/").rpartition(f"{PICTURES}/")[2]
            if (folder := osp.dirname(below)) not in FOLDERS:
                raise UserError(
                    f"'{path}' line {number} has the filename '{file}', which is in none of "
                    f"{', '.join(FOLDERS)} below {PICTURES}: restore the file"
                )
            part, label, domain = (
                position(path, number, column, code, known)
                for column, code, known in zip(
                    ("split", "y", "a"),
                    codes,
                    (("0", "1", "2"), ("0", "1"), ("0", "1")),
                    strict=True,
                )
            )
            if (own := FOLDERS[folder]) != (label, domain):
                raise UserError(
                    f"'{path}' line {number} has y {label} and a {domain} for '{below}', whose "
                    f"folder says {self.class_names[own[0]]} and {self.domain_names[own[1]]}: "
                    "restore the file"
                )
            split[PARTS[part]].append([below, label, self.class_names[label], domain])
        return split
