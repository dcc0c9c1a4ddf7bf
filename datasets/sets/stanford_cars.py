"""Stanford Cars (Krause et al., ICCVW 2013)."""

import os.path as osp

from dassl.data.datasets import DATASET_REGISTRY
from datasets.base import CoOpDataset, Rows, read_mat, split_off_val
from datasets.download import Source
from datasets.sources import copy_of, split_list

STANFORD = "http://ai.stanford.edu/~jkrause/"


@DATASET_REGISTRY.register()
class StanfordCars(CoOpDataset):
    folder = "stanford_cars"
    image_folder = ""
    split_file = "split_zhou_StanfordCars.json"
    split_md5 = "91255fab2e15280e6d9d9d24cc87efdb"
    lists = (
        "devkit/cars_meta.mat",
        "devkit/cars_train_annos.mat",
        "cars_test_annos_withlabels.mat",
    )
    classes, images = 196, (6509, 1635, 8041)
    test_halves = (4002, 4039)
    sources = (
        Source(
            "cars_train.tgz",
            (STANFORD + "car196/cars_train.tgz",),
            unpack={"cars_train": "cars_train"},
        ),
        Source(
            "cars_test.tgz", (STANFORD + "car196/cars_test.tgz",), unpack={"cars_test": "cars_test"}
        ),
        Source("car_devkit.tgz", (STANFORD + "cars/car_devkit.tgz",), unpack={"devkit": "devkit"}),
        Source(
            "cars_test_annos_withlabels.mat", (STANFORD + "car196/cars_test_annos_withlabels.mat",)
        ),
        split_list(split_file, "1ObCFbaAgVu0I-k_Au-gIUcefirdAuizT", split_md5),
    )
    mirror = copy_of(
        "stanford_cars", also=("gdrive:150nwNkg7qXh28yabiqNAOfBMMll7ALlu",)
    )  # the official addresses are dead since 2023

    def partition(self):
        names = [
            self._year_first(str(name[0]))
            for name in read_mat(
                osp.join(self.dataset_dir, "devkit", "cars_meta.mat"), "class_names"
            )[0]
        ]
        return split_off_val(
            self._annotated("cars_train", osp.join("devkit", "cars_train_annos.mat"), names),
            self._annotated("cars_test", "cars_test_annos_withlabels.mat", names),
        )

    @staticmethod
    def _year_first(name: str) -> str:
        words = name.split(" ")
        return " ".join([words[-1], *words[:-1]])

    def _annotated(self, folder: str, file: str, names: list[str]) -> Rows:
        annotations = read_mat(osp.join(self.dataset_dir, file), "annotations")[0]
        labels = [int(row["class"][0, 0]) - 1 for row in annotations]
        return [
            [f"{folder}/{row['fname'][0]}", label, names[label]]
            for row, label in zip(annotations, labels, strict=True)
        ]
