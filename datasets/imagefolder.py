"""Your own pictures: a folder per class."""

import os.path as osp

from dassl.data.datasets import DATASET_REGISTRY
from datasets.base import PARTS, CoOpDataset, Rows, Split, UserError, folders_of, read_class_names, rows_of_folders, split_by_class, split_off_val


class OwnDataset(CoOpDataset):
    """Parent of data sets whose folder is DATASET.FOLDER below DATASET.ROOT (or absolute; empty: ROOT itself)."""

    image_folder = ""
    few_shot_folder = ".split_fewshot"  # hidden, since folders are classes

    def __init__(self, cfg):
        self.folder = cfg.DATASET.get("FOLDER", "")
        super().__init__(cfg)

    @classmethod
    def home(cls, cfg) -> str:
        return osp.expanduser(cfg.DATASET.get("FOLDER", ""))

    @classmethod
    def how_to_get(cls, root: str) -> str:
        return "correct DATASET.FOLDER or --root"


@DATASET_REGISTRY.register()
class ImageFolder(OwnDataset):
    """Either one folder per class, or train/, test/ and perhaps val/ with one folder per class in each.

    Labels are alphabetical. A file classnames.txt (lines: folder, space, class name) gives folders another name; else the
    class name is the folder's. Without train/ each class is split 50% / 20% / 30%; without val/ a fifth of train/ is taken;
    without test/ the test part is val/.
    """

    @classmethod
    def sources_of_split(cls, cfg, home):
        return {"list 'classnames.txt'": osp.join(home, "classnames.txt"), **super().sources_of_split(cfg, home)}

    def partition(self) -> Split:
        tops = folders_of(self.dataset_dir)
        if not tops:
            raise UserError(f"'{self.dataset_dir}' holds no folders: DATASET.NAME ImageFolder needs one folder per class")
        if "train" not in tops:
            print(f"'{self.dataset_dir}' has no folder train: each class is split into 50% train, 20% val and 30% test here")
            return split_by_class(self._rows("", tops, tops))
        if not {"val", "test"} & set(tops):
            raise UserError(f"'{self.dataset_dir}' has a folder train but neither val nor test: add one, or move the class folders up")
        classes = folders_of(osp.join(self.dataset_dir, "train"))
        parts = {part: self._rows(part, folders_of(osp.join(self.dataset_dir, part)), classes) for part in PARTS if part in tops}
        if "val" not in parts:
            return split_off_val(parts["train"], parts["test"])
        return {"test": parts["val"]} | parts

    def _rows(self, below: str, folders: list[str], classes: list[str]) -> Rows:
        file = osp.join(self.dataset_dir, "classnames.txt")
        names = {name: name for name in classes} | (read_class_names(file) if osp.isfile(file) else {})
        if other := sorted(set(folders) - set(classes)):
            raise UserError(f"'{osp.join(self.dataset_dir, below, other[0])}' is a class without training images: add a folder '{other[0]}' to train")
        return rows_of_folders(self.image_dir, below, {name: label for label, name in enumerate(classes) if name in folders}, names)
