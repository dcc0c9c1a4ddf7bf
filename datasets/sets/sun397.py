"""SUN397 (Xiao et al., CVPR 2010), its first partition."""

import os.path as osp

from dassl.data.datasets import DATASET_REGISTRY
from datasets.base import CoOpDataset, Rows, UserError, split_off_val
from datasets.download import Source
from datasets.files import read_lines
from datasets.sources import copy_of, split_list

PRINCETON = "http://vision.princeton.edu/projects/2010/SUN/"


@DATASET_REGISTRY.register()
class SUN397(CoOpDataset):
    folder = "sun397"
    image_folder = "SUN397"
    split_file = "split_zhou_SUN397.json"
    lists = ("ClassName.txt", "Training_01.txt", "Testing_01.txt")
    classes, images = 397, (15880, 3970, 19850)
    test_halves = (9950, 9900)
    sources = (
        Source(
            "SUN397.tar.gz",
            (PRINCETON + "SUN397.tar.gz",),
            md5="8ca2778205c41d23104230ba66911c7a",
            unpack={"SUN397": "SUN397"},
        ),
        Source(
            "Partitions.zip",
            (PRINCETON + "download/Partitions.zip",),
            unpack={name: name for name in ("ClassName.txt", "Training_01.txt", "Testing_01.txt")},
        ),
        split_list(split_file, "1y2RD81BYuiyvebdN-JymPfyWYcd8_MUq"),
    )
    mirror = copy_of("sun397")

    def partition(self):
        labels = {
            line.lstrip("/"): label
            for label, line in enumerate(read_lines(osp.join(self.dataset_dir, "ClassName.txt")))
        }
        return split_off_val(
            self._listed("Training_01.txt", labels), self._listed("Testing_01.txt", labels)
        )

    def _listed(self, file: str, labels: dict[str, int]) -> Rows:
        """Lines are /a/abbey/sun_x.jpg; the class is the folder without its letter, an "indoor" or
        "outdoor" below it in front.
        """
        path, rows = osp.join(self.dataset_dir, file), []
        for line in read_lines(path):
            image = line.lstrip("/")
            folder = osp.dirname(image)
            if folder not in labels:
                raise UserError(
                    f"'{path}' has the line '{line}', whose folder is not in ClassName.txt: "
                    "prepare the data set again"
                )
            rows.append([image, labels[folder], " ".join(reversed(folder.split("/")[1:]))])
        return rows
