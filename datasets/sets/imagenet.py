"""ImageNet 2012 (Deng et al., CVPR 2009), and the parent of its variants."""

import os.path as osp
from collections.abc import Sequence
from pathlib import Path

from dassl.data.datasets import DATASET_REGISTRY
from datasets.base import CoOpDataset, Rows, Split, UserError, rows_of_folders
from datasets.download import Source
from datasets.files import list_folder, read_class_names
from datasets.sources import class_names


class ImageNetFolders(CoOpDataset):
    """Parent of ImageNet and its variants: a folder per class and classnames.txt; no split file."""

    few_shot_val = False

    @classmethod
    def sources_of_split(cls, cfg, home):
        """classnames.txt, and the names of the images except for ImageNet, which has too many to
        list.
        """
        lists = {"list 'classnames.txt'": osp.join(home, "classnames.txt")}
        return lists if cls.images[0] else lists | super().sources_of_split(cfg, home)

    def split(self, cfg) -> Split:
        """The folders as they are; nothing names an image that could be missing, so nothing is
        looked up a second time.
        """
        return self.partition()

    def named(self, folders: Sequence[str], names: dict[str, str]) -> dict[str, str]:
        """{folder: class name} in the order of labels; `names` is classnames.txt, {wnid: class
        name}.
        """
        return {folder: names.get(folder, "") for folder in folders}

    def rows(self, below: str = "") -> Rows:
        """Rows of the class folders in `below`.

        Raises UserError if there are not `classes` of them, or one is empty or has no name.
        """
        path, where = osp.join(self.dataset_dir, "classnames.txt"), osp.join(self.image_dir, below)
        inside = list_folder(where)
        if not osp.isfile(path):
            raise UserError(
                f"'{path}' of data set {type(self).__name__} does not exist: copy it from "
                f"ImageNet's folder or {self.how_to_get(self.root)}"
            )
        if inside.pictures and not inside.folders:
            raise UserError(
                f"'{where}' holds {len(inside.pictures):,} pictures but no class folders: sort "
                "them into a folder per class, named by its wnid as in classnames.txt "
                "(torchvision.datasets.ImageNet does it for the archives of ImageNet)"
            )
        if len(inside.folders) != self.classes:
            raise UserError(
                f"'{where}' holds {len(inside.folders)} class folders instead of {self.classes}: "
                "unpack the whole archive there and nothing else"
            )
        names = self.named(inside.folders, read_class_names(path))
        if missing := [folder for folder in inside.folders if not names.get(folder)]:
            raise UserError(f"'{path}' has no name for folder '{missing[0]}': restore the file")
        return rows_of_folders(
            self.image_dir, below, {folder: label for label, folder in enumerate(names)}, names
        )


class ImageNetTest(ImageNetFolders):
    """Parent of the variants: all images are for tests; as in CoOp they are the training part too,
    from which class names come.
    """

    @classmethod
    def neighbour(cls, root: str, source: Source) -> Path | None:
        file = Path(root).expanduser() / ImageNet.folder / source.name
        return file if source.name == class_names().name and file.is_file() else None

    def partition(self) -> Split:
        rows = self.rows()
        return {"train": rows, "val": [], "test": rows}


@DATASET_REGISTRY.register()
class ImageNet(ImageNetFolders):
    """The 50,000 validation images are both validation and test part, as published."""

    folder = "imagenet"
    classes, images = 1000, (1281167, 0, 50000)
    test_halves = (25000, 25000)
    val_is_test = True
    own_template_in_ensemble = False  # as published for the ensemble of seven
    sources = (class_names(),)
    manual = (
        "Sign in at https://image-net.org/download-images and fetch ILSVRC2012_img_train.tar and "
        "ILSVRC2012_img_val.tar.",
        "Sort them into imagenet/images/train/<wnid>/ and imagenet/images/val/<wnid>/ "
        "(torchvision.datasets.ImageNet does it).",
        "Then run this command again: it adds classnames.txt, and `python -m datasets.check "
        "ImageNet` looks whether all is there.",
    )

    def partition(self) -> Split:
        val = self.rows("val")
        return {"train": self.rows("train"), "val": val, "test": val}
