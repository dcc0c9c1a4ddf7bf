"""Caltech101 (Fei-Fei et al., CVPRW 2004), without the background and the second face class."""

from dassl.data.datasets import DATASET_REGISTRY
from datasets.base import CoOpDataset, split_by_class
from datasets.download import Source
from datasets.sources import copy_of, split_list


@DATASET_REGISTRY.register()
class Caltech101(CoOpDataset):
    folder = "caltech-101"
    image_folder = "101_ObjectCategories"
    split_file = "split_zhou_Caltech101.json"
    split_md5 = "385cabeb25ebeebaa36167d7028ebc52"
    corrections = {
        "airplanes": "airplane",
        "Faces": "face",
        "Leopards": "leopard",
        "Motorbikes": "motorbike",
    }
    classes, images = 100, (4128, 1649, 2465)
    test_halves = (1549, 916)
    sources = (
        Source(
            "caltech-101.zip",
            ("https://data.caltech.edu/records/mzrjq-6wc02/files/caltech-101.zip",),
            md5="3138e1922a9193bfa496528edbbc45d0",
            inner="caltech-101/101_ObjectCategories.tar.gz",
            unpack={"101_ObjectCategories": "101_ObjectCategories"},
        ),
        split_list(split_file, "1hyarUivQE36mY6jSomru6Fjd-JzwcCzN", split_md5),
    )
    mirror = copy_of("caltech-101")

    def partition(self):
        return split_by_class(self.class_folders(ignored=("BACKGROUND_Google", "Faces_easy")))
