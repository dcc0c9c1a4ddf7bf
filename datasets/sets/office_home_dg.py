"""Office-Home for generalisation (Zhou et al., TIP 2021): Dassl's parts."""

from dassl.data.datasets import DATASET_REGISTRY
from datasets.base import Rows
from datasets.download import Source
from datasets.shifts import ShiftDataset


@DATASET_REGISTRY.register()
class OfficeHomeDG(ShiftDataset):
    folder = "office_home_dg"
    domain_names = ("art", "clipart", "product", "real_world")
    classes = 65
    sources = (
        Source(
            "office_home_dg.zip",
            ("gdrive:1gkbf_KaxoBws-GWT3XIPZ7BnkqbAxIFa",),
            unpack={"office_home_dg": ""},
        ),
    )

    def domain(self, name: str) -> dict[str, Rows]:
        train, val = (self.in_folders(f"{name}/{part}") for part in ("train", "val"))
        return {"train": train, "val": val, "test": []}
