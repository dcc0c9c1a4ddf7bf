"""ImageNetV2, matched frequency (Recht et al., ICML 2019): for tests only."""

from dassl.data.datasets import DATASET_REGISTRY
from datasets.download import Source
from datasets.errors import UserError
from datasets.sets.imagenet import ImageNetTest
from datasets.sources import class_names, copy_of


@DATASET_REGISTRY.register()
class ImageNetV2(ImageNetTest):
    folder = "imagenetv2"
    image_folder = "imagenetv2-matched-frequency-format-val"
    classes, images = 1000, (0, 0, 10000)
    sources = (
        Source(
            "imagenetv2-matched-frequency.tar.gz",
            ("hf:datasets/vaishaal/ImageNetV2/imagenetv2-matched-frequency.tar.gz",),
            unpack={image_folder: image_folder},
        ),
        class_names(),
    )
    mirror = copy_of("imagenetv2")

    def named(self, folders, names):
        """Folders are the labels themselves, "0" to "999", in the order of the wnids.

        Raises UserError if not all wnids have a name.
        """
        if len(names) != self.classes:
            raise UserError(
                f"'{self.dataset_dir}/classnames.txt' names {len(names)} classes instead of "
                f"{self.classes}, so that folder numbers cannot be told: copy it from ImageNet's "
                "folder"
            )
        return {str(label): names[wnid] for label, wnid in enumerate(sorted(names))}
