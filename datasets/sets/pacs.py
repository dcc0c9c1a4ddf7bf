"""PACS (Li et al., ICCV 2017): photos, art paintings, cartoons, sketches; Dassl's lists."""

from dassl.data.datasets import DATASET_REGISTRY
from datasets.base import Rows
from datasets.download import Source
from datasets.shifts import ShiftDataset

BROKEN = "sketch/dog/n02103406_4068-1.png"  # Dassl leaves it out, too
NAMES = ("art_painting", "cartoon", "photo", "sketch")


def lists_of(names: tuple[str, ...]) -> tuple[str, ...]:
    """The two lists of each domain."""
    parts = ("train", "crossval")
    return tuple(f"splits/{name}_{part}_kfold.txt" for name in names for part in parts)


@DATASET_REGISTRY.register()
class PACS(ShiftDataset):
    folder, image_folder = "pacs", "images"
    domain_names = NAMES
    lists = lists_of(NAMES)
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
            [row for row in self.listed(file, 1) if row[0] != BROKEN] for file in lists_of((name,))
        )
        return {"train": train, "val": val, "test": []}
