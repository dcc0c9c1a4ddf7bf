"""Oxford Flowers 102 (Nilsback and Zisserman, ICVGIP 2008)."""

import os.path as osp

from dassl.data.datasets import DATASET_REGISTRY
from dassl.utils import read_json
from datasets.base import CoOpDataset, UserError, read_mat, split_by_class
from datasets.download import Source
from datasets.sources import VGG, copy_of, split_list


@DATASET_REGISTRY.register()
class OxfordFlowers(CoOpDataset):
    folder = "oxford_flowers"
    image_folder = "jpg"
    split_file = "split_zhou_OxfordFlowers.json"
    split_md5 = "cfeaf0508c398ca993bf48ca5f034569"
    lists = ("imagelabels.mat", "cat_to_name.json")
    templates = ("a photo of a {}, a type of flower.",)
    classes, images = 102, (4093, 1633, 2463)
    test_halves = (1053, 1410)
    sources = (
        Source(
            "102flowers.tgz",
            (VGG + "flowers/102/102flowers.tgz",),
            md5="52808999861908f626f3c1f4e79d11fa",
            unpack={"jpg": "jpg"},
        ),
        Source(
            "imagelabels.mat",
            (VGG + "flowers/102/imagelabels.mat",),
            md5="e0620be6f572b9609742df49c70aed4d",
        ),
        split_list(
            "cat_to_name.json",
            "1AkcxCXeK_RCGCEC_GvmWxjcjaNhu-at0",
            "e9e30ddad249c414268af3d43f0a4222",
        ),
        split_list(split_file, "1Pp0sRXzZFZq15zVOzKjKBu4A9i01nozT", split_md5),
    )
    mirror = copy_of("oxford_flowers")

    def partition(self):
        """Labels are those of imagelabels.mat, from 1, in the order of the images' numbers."""
        labels = read_mat(osp.join(self.dataset_dir, "imagelabels.mat"), "labels").ravel()
        path = osp.join(self.dataset_dir, "cat_to_name.json")
        if not osp.isfile(path):
            raise UserError(
                f"'{path}' of data set OxfordFlowers does not exist: {self.how_to_get(self.root)}"
            )
        names = read_json(path)
        if not isinstance(names, dict):
            raise UserError(f"'{path}' is no list of names by label: prepare the data set again")
        if missing := sorted(
            {int(label) for label in labels} - {int(label) for label in names if label.isdecimal()}
        ):
            raise UserError(
                f"'{path}' has no name for label {missing[0]}: prepare the data set again"
            )
        return split_by_class(
            [
                [f"image_{number:05d}.jpg", int(label) - 1, names[str(label)]]
                for number, label in enumerate(labels, 1)
            ]
        )
