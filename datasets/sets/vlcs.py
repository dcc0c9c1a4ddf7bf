"""VLCS (Torralba and Efros, CVPR 2011; Fang et al., ICCV 2013): four photo collections."""

from dassl.data.datasets import DATASET_REGISTRY
from datasets.base import Rows
from datasets.download import Source
from datasets.shifts import ShiftDataset

NAMES = ("bird", "car", "chair", "dog", "person")  # of the folders, which are numbered


@DATASET_REGISTRY.register()
class VLCS(ShiftDataset):
    folder = "VLCS"
    domain_names = ("caltech", "labelme", "pascal", "sun")
    whole_test = False
    classes = 5
    sources = (
        Source("vlcs.zip", ("gdrive:1r0WL5DDqKfSPp9E3tRENwHaXNs1olLZd",), unpack={"VLCS": ""}),
    )

    def domain(self, name: str) -> dict[str, Rows]:
        parts = {"train": "train", "val": "crossval", "test": "test"}
        return {
            part: self.in_folders(f"{name.upper()}/{folder}", NAMES)
            for part, folder in parts.items()
        }
