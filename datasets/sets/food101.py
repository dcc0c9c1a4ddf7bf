"""Food-101 (Bossard et al., ECCV 2014)."""

from dassl.data.datasets import DATASET_REGISTRY
from datasets.base import CoOpDataset, split_by_class
from datasets.download import Source
from datasets.sources import copy_of, split_list


@DATASET_REGISTRY.register()
class Food101(CoOpDataset):
    folder = "food-101"
    split_file = "split_zhou_Food101.json"
    templates = ("a photo of {}, a type of food.",)
    classes, images = 101, (50500, 20200, 30300)
    test_halves = (15300, 15000)
    sources = (
        Source(
            "food-101.tar.gz",
            ("http://data.vision.ee.ethz.ch/cvl/food-101.tar.gz",),
            md5="85eeb15f3717b99a5da872d97d918f87",
            unpack={"food-101/images": "images", "food-101/meta": "meta"},
        ),
        split_list(split_file, "1QK0tGi096I0Ba6kggatX1ee6dJFIcEJl"),
    )
    mirror = copy_of("food101")

    def partition(self):
        return split_by_class(self.class_folders())
