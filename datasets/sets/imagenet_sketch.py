"""ImageNet-Sketch (Wang et al., NeurIPS 2019): for tests only."""

from dassl.data.datasets import DATASET_REGISTRY
from datasets.download import Source
from datasets.sets.imagenet import ImageNetTest
from datasets.sources import class_names, copy_of


@DATASET_REGISTRY.register()
class ImageNetSketch(ImageNetTest):
    folder = "imagenet-sketch"
    classes, images = 1000, (0, 0, 50889)
    sources = (
        Source(
            "ImageNet-Sketch.zip",
            ("gdrive:1Mj0i5HBthqH1p_yeXzsg22gZduvgoNeA",),
            unpack={"sketch": "images"},
        ),
        class_names(),
    )
    mirror = copy_of("imagenet-sketch")
