"""The CoOp layout, read once for all data sets: a folder of images and one split file.

`split_zhou_<Name>.json` is {"train": [[path, label, class name], ...], "val": ..., "test": ...} with paths relative to the
image folder. A data set is a subclass that names its folder, split file and templates (see `datasets/openmoji.py`).
"""

import hashlib
import math
import os
import os.path as osp
import random
from collections import Counter
from collections.abc import Sequence

import dassl.utils
from dassl.data.datasets import DatasetBase, Datum
from dassl.utils import read_json, write_json

UserError = getattr(dassl.utils, "UserError", ValueError)  # upstream Dassl, where these data sets run too, has none
SUBSETS = ("all", "base", "new")
PARTS = ("train", "val", "test")
Rows = list[list]  # [path, label, class name]


def data_root(cfg) -> str:
    """Absolute DATASET.ROOT. Raises UserError if it is not set or not there."""
    root = osp.abspath(osp.expanduser(cfg.DATASET.ROOT)) if cfg.DATASET.ROOT else ""
    if not root:
        raise UserError("DATASET.ROOT is not set: give the folder of the data sets with --root")
    if not osp.isdir(root):
        raise UserError(f"DATASET.ROOT '{root}' does not exist: create it with datasets.prepare or correct --root")
    return root


def read_split(path: str) -> dict[str, Rows]:
    """The three parts of a split file, checked. Raises UserError naming the file and what is wrong with it."""
    split = read_json(path)
    if not isinstance(split, dict) or not all(isinstance(split.get(part), list) for part in PARTS):
        raise UserError(f"split file '{path}' lacks one of the lists train, val, test: restore it")
    names: dict[int, str] = {}
    for part in PARTS:
        for row in split[part]:
            if not (isinstance(row, list) and len(row) == 3 and isinstance(row[0], str) and type(row[1]) is int and isinstance(row[2], str)):
                raise UserError(f"split file '{path}' has the row {row!r} in {part}: a row is [path, label, class name]")
            if names.setdefault(row[1], row[2]) != row[2]:
                raise UserError(f"split file '{path}' gives label {row[1]} to both '{names[row[1]]}' and '{row[2]}': "
                                "give every class its own label")
    if missing := sorted(set(range(len(names))) - names.keys()):
        raise UserError(f"split file '{path}' has {len(names)} classes but none with label {missing[0]}: number them from 0")
    if missing := sorted(names.keys() - {row[1] for row in split["train"]}):
        raise UserError(f"split file '{path}' has no training image of label {missing[0]} ('{names[missing[0]]}'): classes are those of "
                        "the list train, so add one or take the class out")
    return split


def check_images(folder: str, split: dict[str, Rows], path: str) -> None:
    """Raises UserError with the number and the first three of the images that the split names and the folder lacks."""
    there: dict[str, set[str]] = {}
    missing = []
    for row in (row for part in PARTS for row in split[part]):
        parent, name = osp.split(osp.join(folder, row[0]))
        if parent not in there:
            there[parent] = set(os.listdir(parent)) if osp.isdir(parent) else set()
        if name not in there[parent]:
            missing.append(row[0])
    if missing:
        raise UserError(f"split file '{path}' names {len(missing)} image(s) that are not in '{folder}', first "
                        f"{', '.join(missing[:3])}: prepare the data set again or correct the split file")


def subsample_classes(subset: str, *parts: Sequence[Datum]) -> list[list[Datum]]:
    """The parts with only the base classes (the first ceil(n/2) labels) or the new ones, relabelled from 0.

    Raises UserError for an unknown subset (DATASET.SUBSAMPLE_CLASSES).
    """
    if subset not in SUBSETS:
        raise UserError(f"DATASET.SUBSAMPLE_CLASSES is '{subset}': choose one of {', '.join(SUBSETS)}")
    if subset == "all":
        return [list(part) for part in parts]
    labels = sorted({item.label for part in parts for item in part})
    half = math.ceil(len(labels) / 2)
    chosen = labels[:half] if subset == "base" else labels[half:]
    new_label = {label: number for number, label in enumerate(chosen)}
    return [[Datum(impath=item.impath, label=new_label[item.label], domain=item.domain, classname=item.classname)
             for item in part if item.label in new_label] for part in parts]


class CoOpDataset(DatasetBase):
    """A data set in the CoOp layout; subclasses set the class attributes.

    folder: below DATASET.ROOT. image_folder: below `folder`. split_file: its name. templates: format strings with `{}`
    for the class name, the first one being the data set's own.
    """

    folder = ""
    image_folder = "images"
    split_file = ""
    templates: Sequence[str] = ("a photo of a {}.",)
    remedy = ""  # the command that makes the data set

    def __init__(self, cfg):
        root = data_root(cfg)
        self.dataset_dir = osp.join(root, self.folder)
        self.image_dir = osp.join(self.dataset_dir, self.image_folder)
        path = osp.join(self.dataset_dir, self.split_file)
        for needed in (self.dataset_dir, path, self.image_dir):
            if not osp.exists(needed):
                raise UserError(f"'{needed}' of data set {type(self).__name__} does not exist: "
                                + (f"run `{self.remedy} --root {cfg.DATASET.ROOT}`" if self.remedy else "prepare it or correct --root"))
        split = read_split(path)
        check_images(self.image_dir, split, path)
        train, val, test = ([self._datum(row) for row in split[part]] for part in PARTS)
        if cfg.DATASET.NUM_SHOTS >= 1:
            train, val = self._few_shot(train, val, cfg.DATASET.NUM_SHOTS, cfg.SEED, path)
        train, val, test = subsample_classes(cfg.DATASET.SUBSAMPLE_CLASSES, train, val, test)
        super().__init__(train_x=train, val=val, test=test)

    def _datum(self, row: list) -> Datum:
        return Datum(impath=osp.join(self.image_dir, row[0]), label=row[1], classname=row[2])

    def _row(self, item: Datum) -> list:
        return [osp.relpath(item.impath, self.image_dir).replace(os.sep, "/"), item.label, item.classname]

    def _few_shot(self, train: list[Datum], val: list[Datum], shots: int, seed: int, path: str) -> tuple[list[Datum], list[Datum]]:
        """The published draw: `shots` training and at most 4 validation images per class.

        Cached as JSON under a name of shots and seed and the checksum of the split file. The random state is the same
        whether the cache was hit or not.
        """
        with open(path, "rb") as file:
            checksum = hashlib.sha256(file.read()).hexdigest()
        cache = osp.join(self.dataset_dir, "split_fewshot", f"{type(self).__name__}-shot_{shots}-seed_{seed}.json")
        if seed >= 0 and osp.isfile(cache):
            try:
                found = read_json(cache)
                if found.get("split_sha256") == checksum:
                    counts = Counter(row[1] for row in found["train"])
                    if short := sum(count < shots for count in counts.values()):
                        print(f"{short} class(es) have fewer than {shots} images: all that they have are used")
                    return [self._datum(row) for row in found["train"]], [self._datum(row) for row in found["val"]]
            except (UserError, AttributeError, KeyError, TypeError, IndexError):
                print(f"The few-shot cache '{cache}' is not readable: it is drawn again")
        state = random.getstate()
        train = self.generate_fewshot_dataset(train, num_shots=shots)
        val = self.generate_fewshot_dataset(val, num_shots=min(shots, 4))
        random.setstate(state)
        if seed >= 0:
            rows = {"split_sha256": checksum, "train": [self._row(item) for item in train], "val": [self._row(item) for item in val]}
            try:
                write_json(rows, cache)
            except (UserError, OSError) as error:
                print(f"The few-shot draw is not cached ({error})")
        return train, val
