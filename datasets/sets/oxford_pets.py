"""Oxford-IIIT Pets (Parkhi et al., CVPR 2012)."""

import os.path as osp

from dassl.data.datasets import DATASET_REGISTRY
from datasets.base import CoOpDataset, Rows, UserError, split_off_val
from datasets.download import Source
from datasets.files import read_lines
from datasets.sources import VGG, copy_of, split_list


@DATASET_REGISTRY.register()
class OxfordPets(CoOpDataset):
    folder = "oxford_pets"
    split_file = "split_zhou_OxfordPets.json"
    split_md5 = "fadad0caba06c4d0d2baf192015f50b4"
    lists = ("annotations/trainval.txt", "annotations/test.txt")
    templates = ("a photo of a {}, a type of pet.",)
    classes, images = 37, (2944, 736, 3669)
    test_halves = (1881, 1788)
    sources = (
        Source(
            "images.tar.gz",
            (VGG + "pets/data/images.tar.gz",),
            md5="5c4f3ee8e5d25df40f4fd59a7f44e54c",
            unpack={"images": "images"},
        ),
        Source(
            "annotations.tar.gz",
            (VGG + "pets/data/annotations.tar.gz",),
            md5="95a8c909bbe2e81eed6a22bccdf3f68f",
            unpack={"annotations": "annotations"},
        ),
        split_list(split_file, "1501r8Ber4nNKvmlFVQZ8SeUHTcdTTEqs", split_md5),
    )
    mirror = copy_of("oxford_pets")

    def partition(self):
        return split_off_val(self._annotated("trainval.txt"), self._annotated("test.txt"))

    def _annotated(self, file: str) -> Rows:
        """Lines are: image, class from 1, species, breed within it.

        The breed's name is that of the image without its number.
        """
        path, rows = osp.join(self.dataset_dir, "annotations", file), []
        for line in read_lines(path):
            words = line.split()
            if line.startswith("#"):
                continue
            if len(words) != 4 or not words[1].isdecimal() or "_" not in words[0]:
                raise UserError(
                    f"'{path}' has the line '{line}': a line is an image, its class, species and "
                    "breed; prepare the data set again"
                )
            rows.append([f"{words[0]}.jpg", int(words[1]) - 1, words[0].rpartition("_")[0].lower()])
        return rows
