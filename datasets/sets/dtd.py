"""Describable Textures Dataset (Cimpoi et al., CVPR 2014)."""

from dassl.data.datasets import DATASET_REGISTRY
from datasets.base import CoOpDataset, split_by_class
from datasets.download import Source
from datasets.sources import VGG, copy_of, split_list


@DATASET_REGISTRY.register()
class DescribableTextures(CoOpDataset):
    folder = "dtd"
    split_file = "split_zhou_DescribableTextures.json"
    split_md5 = "02ff57f1bbd002a43320737a3ecbc113"
    templates = ("{} texture.",)
    classes, images = 47, (2820, 1128, 1692)
    test_halves = (864, 828)
    sources = (
        Source(
            "dtd-r1.0.1.tar.gz",
            (VGG + "dtd/download/dtd-r1.0.1.tar.gz",),
            md5="fff73e5086ae6bdbea199a49dfb8a4c1",
            unpack={"dtd/images": "images", "dtd/imdb": "imdb", "dtd/labels": "labels"},
        ),
        split_list(split_file, "1u3_QfB467jqHgNXC00UIzbLZRQCg2S7x", split_md5),
    )
    mirror = copy_of("dtd")

    def partition(self):
        return split_by_class(self.class_folders())
