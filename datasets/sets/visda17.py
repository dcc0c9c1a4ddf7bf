"""VisDA-2017 (Peng et al., arXiv 1710.06924): from rendered objects to photos."""

from dassl.data.datasets import DATASET_REGISTRY
from datasets.base import Rows
from datasets.download import Source
from datasets.shifts import ShiftDataset

FOLDERS = {"synthetic": "train", "real": "validation"}
ARCHIVES = "http://csr.bu.edu/ftp/visda17/clf/"


@DATASET_REGISTRY.register()
class VisDA17(ShiftDataset):
    """The photos, all of which are tested, are those without labels, as published."""

    folder = "visda17"
    domain_names = ("synthetic", "real")
    domain_images = {"synthetic": 152397, "real": 55388}
    adaptation = True
    lists = tuple(f"{part}/image_list.txt" for part in ("train", "validation"))
    classes = 12
    sources = tuple(
        Source(f"{part}.tar", (f"{ARCHIVES}{part}.tar",), unpack={part: part})
        for part in ("train", "validation")
    )

    def domain(self, name: str) -> dict[str, Rows]:
        part = FOLDERS[name]
        rows = self.listed(f"{part}/image_list.txt", below=part, place=0)
        return {"train": rows, "val": [], "test": []}
