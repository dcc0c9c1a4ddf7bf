"""PACS (Li et al., ICCV 2017): photos, art paintings, cartoons, sketches; Dassl's lists."""

from dassl.data.datasets import DATASET_REGISTRY
from datasets.base import Rows
from datasets.download import Source
from datasets.shifts import ShiftDataset

BROKEN = "sketch/dog/n02103406_4068-1.png"  # Dassl leaves it out, too


@DATASET_REGISTRY.register()
class PACS(ShiftDataset):
    folder, image_folder = "pacs", "images"
    domain_names = ("art_painting", "cartoon", "photo", "sketch")
    lists = tuple(
        f"splits/{name}_{part}_kfold.txt"
        for name in ("art_painting", "cartoon", "photo", "sketch")
        for part in ("train", "crossval")
    )
    classes = 7
    sources = (
        Source(
            "pacs.zip",
            ("gdrive:1m4X4fROCCXMO0lRLrr6Zz9Vb3974NWhE",),
            unpack={"images": "images", "splits": "splits"},
        ),
    )

    def domain(self, name: str) -> dict[str, Rows]:
        train, val = (
            [row for row in self.listed(f"splits/{name}_{part}_kfold.txt", 1) if row[0] != BROKEN]
            for part in ("train", "crossval")
        )
        return {"train": train, "val": val, "test": []}
