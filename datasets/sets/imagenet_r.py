"""ImageNet-R (Hendrycks et al., ICCV 2021): 200 classes in renditions, for tests only."""

from dassl.data.datasets import DATASET_REGISTRY
from datasets.download import Source
from datasets.sets.imagenet import ImageNetTest
from datasets.sources import class_names, copy_of


@DATASET_REGISTRY.register()
class ImageNetR(ImageNetTest):
    folder = "imagenet-rendition"
    image_folder = "imagenet-r"
    classes, images = 200, (0, 0, 30000)
    sources = (
        Source(
            "imagenet-r.tar",
            ("https://people.eecs.berkeley.edu/~hendrycks/imagenet-r.tar",),
            unpack={image_folder: image_folder},
        ),
        class_names(),
    )
    mirror = copy_of("imagenet-rendition")
