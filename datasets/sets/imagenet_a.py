"""ImageNet-A (Hendrycks et al., CVPR 2021): 200 classes, for tests only."""

from dassl.data.datasets import DATASET_REGISTRY
from datasets.download import Source
from datasets.sets.imagenet import ImageNetTest
from datasets.sources import class_names, copy_of


@DATASET_REGISTRY.register()
class ImageNetA(ImageNetTest):
    folder = "imagenet-adversarial"
    image_folder = "imagenet-a"
    classes, images = 200, (0, 0, 7500)
    sources = (
        Source(
            "imagenet-a.tar",
            ("https://people.eecs.berkeley.edu/~hendrycks/imagenet-a.tar",),
            unpack={image_folder: image_folder},
        ),
        class_names(),
    )
    mirror = copy_of("imagenet-adversarial")
