"""FGVC-Aircraft (Maji et al., 2013): 100 variants in the partition that comes with it."""

import os.path as osp

from dassl.data.datasets import DATASET_REGISTRY
from datasets.base import PARTS, CoOpDataset, Rows, UserError
from datasets.download import Source
from datasets.files import read_lines
from datasets.sources import VGG, copy_of


@DATASET_REGISTRY.register()
class FGVCAircraft(CoOpDataset):
    folder = "fgvc_aircraft"
    templates = ("a photo of a {}, a type of aircraft.",)
    lists = ("variants.txt", *(f"images_variant_{part}.txt" for part in PARTS))
    classes, images = 100, (3334, 3333, 3333)
    test_halves = (1666, 1667)
    sources = (
        Source(
            "fgvc-aircraft-2013b.tar.gz",
            (VGG + "fgvc-aircraft/archives/fgvc-aircraft-2013b.tar.gz",),
            unpack={
                f"fgvc-aircraft-2013b/data/{name}": name
                for name in (
                    "images",
                    "variants.txt",
                    *(f"images_variant_{part}.txt" for part in PARTS),
                )
            },
        ),
    )
    mirror = copy_of("fgvc_aircraft")

    def partition(self):
        labels = {
            name: label
            for label, name in enumerate(read_lines(osp.join(self.dataset_dir, "variants.txt")))
        }
        return {part: self._listed(f"images_variant_{part}.txt", labels) for part in PARTS}

    def _listed(self, file: str, labels: dict[str, int]) -> Rows:
        """Lines are the number of an image and its variant."""
        path, rows = osp.join(self.dataset_dir, file), []
        for line in read_lines(path):
            image, _, name = line.partition(" ")
            if name not in labels:
                raise UserError(
                    f"'{path}' has the line '{line}', whose variant is not in variants.txt: "
                    "prepare the data set again"
                )
            rows.append([f"{image}.jpg", labels[name], name])
        return rows
