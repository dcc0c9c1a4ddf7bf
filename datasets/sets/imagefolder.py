"""Your own pictures: a folder per class."""

import logging
import os.path as osp
import re
from collections import Counter
from collections.abc import Mapping, Sequence

from dassl.data.datasets import DATASET_REGISTRY
from datasets.base import (
    PARTS,
    CoOpDataset,
    Rows,
    Split,
    UserError,
    rows_of_folders,
    split_by_class,
    split_off_val,
)
from datasets.files import file_identities, list_folder, names_of_folders, say_left_out, shown

log = logging.getLogger(__name__)

PLACE = "correct DATASET.FOLDER or --root"
PART_WORDS = {
    "train": ("train", "training", "trn"),
    "val": ("val", "valid", "validation", "validate", "dev"),
    "test": ("test", "testing", "tst"),
}
# A name with one of these words in it is no class, if it holds nothing but folders.
_LIKE_A_PART = re.compile(
    r"(?<![a-z])(train(ing)?|test(ing)?|val(id(ation)?)?|dev|eval(uation)?|holdout|trainval|"
    r"(un)?label+ed|split|fold)(?![a-z])"
)


def part_of(name: str) -> str:
    """train, val or test, in whatever way it is written; "" for other names."""
    word = re.sub(r"[\W_]+", "", name.lower())
    short = re.sub(r"(set|data|images?|split|dir|folder)$", "", word)
    return next((part for part, words in PART_WORDS.items() if {word, short} & {*words}), "")


class OwnDataset(CoOpDataset):
    """Parent of data sets in the folder DATASET.FOLDER.

    FOLDER is below DATASET.ROOT, or absolute; empty, it is ROOT itself.
    """

    image_folder = ""
    few_shot_folder = ".split_fewshot"  # hidden, since folders are classes
    root_remedy = "correct --root"

    def __init__(self, cfg):
        self.folder = cfg.DATASET.get("FOLDER", "")
        super().__init__(cfg)

    @classmethod
    def home(cls, cfg) -> str:
        return osp.expanduser(cfg.DATASET.get("FOLDER", ""))

    @classmethod
    def how_to_get(cls, root: str) -> str:
        return PLACE

    @classmethod
    def rows_of(cls, cfg) -> dict[str, Rows]:
        """`parts` of the data set that `cfg` names. Nothing is split, drawn or written."""
        data = cls.__new__(cls)
        data.folder = cfg.DATASET.get("FOLDER", "")
        data.locate(cfg)
        return data.parts()

    def parts(self) -> dict[str, Rows]:
        """Rows of train, val and test as the user names them; {"all": rows} if nothing does."""
        raise NotImplementedError

    def once(self, parts: dict[str, Rows]) -> dict[str, Rows]:
        """Return the rows of each part with every file once, however its path is written.

        A warning counts the others. Raises UserError for a file in two classes or domains, and for
        missing files.
        """
        paths = (row[0] for rows in parts.values() for row in rows)
        identity = file_identities(self.image_dir, paths, self.split_name(), self.repair)
        first: dict[tuple, list] = {}
        kept, again = {}, []
        for part, rows in parts.items():
            here: dict[tuple, list] = {}
            for row in rows:
                one = first.setdefault(identity[row[0]], row)
                if one[1:] != row[1:]:
                    domain = ", in another domain" if one[1] == row[1] else ""
                    raise UserError(
                        f"{self.split_name()} has one file in two places: '{shown(one[0])}' of "
                        f"class '{shown(one[2])}' is '{shown(row[0])}' of class "
                        f"'{shown(row[2])}'{domain}: take one of them out"
                    )
                if here.setdefault(identity[row[0]], row) is not row:
                    again.append(row[0])
            kept[part] = list(here.values())
        if again:
            log.warning(
                f"{self.split_name()} has {len(again)} image(s) more than once, first "
                f"'{shown(again[0])}': each is taken once"
            )
        return kept


@DATASET_REGISTRY.register()
class ImageFolder(OwnDataset):
    """One folder per class, or train/, test/ and perhaps val/ with one folder per class in each.

    Other spellings of the parts are known (Training, valid, test_set). Labels are alphabetical. A
    file classnames.txt (lines: folder, space or tab, class name) gives folders another name; else
    the class name is the folder's. Without train/ each class is split 50% / 20% / 30%; without
    val/ a fifth of train/ is taken; without test/ the test part is val/.
    """

    @classmethod
    def sources_of_split(cls, cfg, home):
        return {
            "list 'classnames.txt'": osp.join(home, "classnames.txt"),
            **super().sources_of_split(cfg, home),
        }

    def partition(self) -> Split:
        parts = self.parts()
        if "all" in parts:
            log.warning(
                f"'{self.dataset_dir}' has no folder train: each class is split into 50% train, "
                "20% val and 30% test here"
            )
            return split_by_class(parts["all"])
        if "val" not in parts:
            return split_off_val(parts["train"], parts["test"])
        return {"test": parts["val"]} | parts

    def parts(self) -> dict[str, Rows]:
        self.left_out: Counter = Counter()
        tops = self._folders("")
        if not tops:
            raise UserError(
                f"'{self.dataset_dir}' holds no folders: DATASET.NAME ImageFolder needs one "
                "folder per class"
            )
        places = self._parts(tops)
        classes = self._folders(places["train"]) if places else tops
        names = self._names(classes)
        rows = {"all": self._rows("", tops, names)} if not places else {}
        rows |= {
            part: self._rows(places[part], self._folders(places[part]), names)
            for part in PARTS
            if part in places
        }
        once = self.once(rows)
        self._say()
        return once

    def _folders(self, below: str) -> list[str]:
        return list_folder(osp.join(self.dataset_dir, below), PLACE, self.left_out).folders

    def _say(self) -> None:
        if sentence := say_left_out(self.dataset_dir, self.left_out):
            log.warning(sentence)

    def _parts(self, tops: Sequence[str]) -> dict[str, str]:
        """{part: its folder below the data set's}; {} if the folders are classes.

        Raises UserError where folders may be parts but it does not say which, and for a part
        without class folders.
        """
        where = self.dataset_dir
        holds = {name: list_folder(osp.join(where, name), PLACE) for name in tops}
        named = {name: part for name in tops if (part := part_of(name))}
        flat = not any(holds[name].folders for name in named)
        if flat and not len(tops) == len(named) > 1:  # "train" may be a class beside "bus"
            self._check_classes(tops, holds)
            return {}
        places: dict[str, str] = {}
        for name, part in named.items():
            if part in places:
                raise UserError(
                    f"'{where}' has the folders '{places[part]}' and '{name}', which both mean "
                    f"{part}: keep one of them"
                )
            if not holds[name].folders:
                raise UserError(
                    f"'{osp.join(where, name)}' holds no class folders but "
                    f"{len(holds[name].pictures)} picture(s): sort them into one folder per class, "
                    "or move the folder away"
                )
            places[part] = self._unnested(part, name)
        if "train" not in places:
            raise UserError(
                f"'{where}' has a folder {', '.join(places.values())} but none of training "
                "images: add a folder train"
            )
        if not {"val", "test"} & places.keys():
            raise UserError(
                f"'{where}' has a folder {places['train']} but neither val nor test: add one, or "
                "move the class folders up"
            )
        self._check_beside(
            places["train"], {name: holds[name] for name in tops if name not in named}
        )
        if any(part != name for part, name in places.items()):
            log.warning(
                f"'{where}' has its parts in "
                f"{', '.join(f'{name} ({part})' for part, name in places.items())}"
            )
        return places

    def _check_beside(self, train: str, others: Mapping) -> None:
        """Count the folders beside the parts as left out.

        Raises UserError if one has the classes.
        """
        classes = set(list_folder(osp.join(self.dataset_dir, train), PLACE).folders)
        for name, content in others.items():
            if classes & set(content.folders):
                raise UserError(
                    f"'{osp.join(self.dataset_dir, name)}' holds class folders but is neither "
                    "train, val nor test: rename it, or move it away"
                )
            self.left_out["folder(s) beside the parts"] += 1

    def _unnested(self, part: str, below: str) -> str:
        """The folder with the class folders, which some archives have as train/train."""
        inside = list_folder(osp.join(self.dataset_dir, below), PLACE)
        while [part_of(name) for name in inside.folders] == [part] and not inside.pictures:
            below = osp.join(below, inside.folders[0])
            inside = list_folder(osp.join(self.dataset_dir, below), PLACE)
        return below

    def _check_classes(self, tops: Sequence[str], holds: dict) -> None:
        """Raises UserError if these folders look like parts, or like the folder of the classes."""
        nested = [name for name in tops if holds[name].folders and not holds[name].pictures]
        for name in nested:
            words = re.sub(r"[\d_]", " ", re.sub(r"([a-z])([A-Z])", r"\1 \2", name)).lower()
            if _LIKE_A_PART.search(words):
                raise UserError(
                    f"'{osp.join(self.dataset_dir, name)}' looks like a part of the data set and "
                    "not like a class: name the parts train, val and test, or the folder otherwise"
                )
        if nested == list(tops) and len(tops) == 1:
            raise UserError(
                f"'{self.dataset_dir}' holds one folder only, '{shown(tops[0])}', with folders "
                f"in it: add '{shown(tops[0])}' to DATASET.FOLDER"
            )

    def _rows(self, below: str, folders: Sequence[str], names: Mapping[str, str]) -> Rows:
        """Rows of the class folders in `below`.

        `names` is {folder: class name} of all classes in the order of labels.
        """
        where = osp.join(self.dataset_dir, below)
        if other := sorted(set(folders) - names.keys()):
            raise UserError(
                f"'{osp.join(where, shown(other[0]))}' is a class without training images: add a "
                f"folder '{shown(other[0])}' to train"
            )
        if lacking := [name for name in names if name not in folders]:
            log.warning(
                f"'{where}' has no folder of {len(lacking)} class(es) of the training images, "
                f"first '{shown(lacking[0])}'"
            )
        if beside := len(list_folder(where, PLACE).pictures):
            self.left_out["picture(s) in no class folder"] += beside
        labels = {name: label for label, name in enumerate(names) if name in folders}
        return rows_of_folders(
            self.image_dir, below, labels, names, "add some, or delete the folder", self.left_out
        )

    def _names(self, classes: Sequence[str]) -> dict[str, str]:
        """{folder: class name} in the order of labels."""
        file, names = osp.join(self.dataset_dir, "classnames.txt"), {name: name for name in classes}
        if not osp.lexists(file):
            return names
        if not osp.isfile(file):
            raise UserError(f"'{file}' is no file: correct it or delete it")
        return names | names_of_folders(file, classes, "correct it or delete it")
