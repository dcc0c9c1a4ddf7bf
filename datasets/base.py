"""The CoOp layout, read once for all data sets: a folder of images and a list of which image is in
which part and class.

A data set is a subclass of CoOpDataset in a file of its own, named as CoOp names its config
(`datasets/sets/oxford_pets.py`): folder, split file, template, class-name corrections, where the
files come from. `split_zhou_<Name>.json` is {"train": [[path, label, class name], ...], "val": ...,
"test": ...} with paths relative to the image folder; here a row may have a fourth value, the
domain. Without that file a data set's `partition` makes a split.
"""

import hashlib
import json
import logging
import math
import os
import os.path as osp
import random
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence, Set
from pathlib import Path

from dassl.data.datasets import DATASET_REGISTRY, DatasetBase, Datum
from dassl.utils import read_json, write_json
from datasets.download import Source, arrange
from datasets.errors import UserError
from datasets.files import (
    REPAIR,
    file_identities,
    is_utf8,
    kind_of_split,
    list_folder,
    list_images,
    same_for_clip,
    shown,
    text_for_clip,
)
from datasets.locks import absolute
from datasets.repeats import place as errors_place
from datasets.repeats import with_errors_repeated

log = logging.getLogger(__name__)

FOLDED = ("base_seen", "base_unseen")  # sides of a fold of the base classes
SUBSETS = ("all", "base", "new", *FOLDED)
PARTS = ("train", "val", "test")
TARGET_CLASSES = ("same", "subset")
ALL_SHOTS = -1  # DATASET.NUM_SHOTS that means all images
SPARE = 20  # validation images per class that ImageNet's training part gives
SAME_TEXT = "are the same text for CLIP"  # by which datasets.check knows the warning
Rows = list[list]  # [path, label, class name] or [path, label, class name, domain]
Split = dict[str, Rows]


def data_root(cfg, remedy: str) -> str:
    """Absolute DATASET.ROOT. Raises UserError, `remedy` last, if it is not set or not there."""
    root = absolute(cfg.DATASET.ROOT) if cfg.DATASET.ROOT else ""
    if not root:
        raise UserError("DATASET.ROOT is not set: give the folder of the data sets with --root")
    if not osp.isdir(root):
        raise UserError(f"DATASET.ROOT '{root}' does not exist: {remedy}")
    return root


# Reading lists and folders


def read_split(path: str) -> Split:
    """Read and check the three parts of a split file. Raises UserError, naming file and fault."""
    split = read_json(path)
    if not isinstance(split, dict) or not all(isinstance(split.get(part), list) for part in PARTS):
        raise UserError(f"split file '{path}' lacks one of the lists train, val, test: restore it")
    for part in PARTS:
        for row in split[part]:
            if not (
                isinstance(row, list)
                and len(row) in (3, 4)
                and isinstance(row[0], str)
                and type(row[1]) is int
                and isinstance(row[2], str)
            ):
                raise UserError(
                    f"split file '{path}' has the row {row!r} in {part}: a row is [path, label, "
                    "class name]"
                )
    check_split(split, f"split file '{path}'")
    return split


def check_split(split: Split, name: str) -> None:
    """One name per label, labels from 0 without gap, every class in train, names that are text.

    Raises UserError.
    """
    names: dict[int, str] = {}
    for row in (row for part in PARTS for row in split[part]):
        if names.setdefault(row[1], row[2]) != row[2]:
            raise UserError(
                f"{name} gives label {row[1]} to both '{names[row[1]]}' and '{row[2]}': give every "
                "class its own label"
            )
    if missing := sorted(set(range(len(names))) - names.keys()):
        raise UserError(
            f"{name} has {len(names)} classes but none with label {missing[0]}: number them from 0"
        )
    if missing := sorted(names.keys() - {row[1] for row in split["train"]}):
        raise UserError(
            f"{name} has no training image of label {missing[0]} ('{names[missing[0]]}'): classes "
            "are those of the list train, so add one or take the class out"
        )
    for text in names.values():
        if not text_for_clip(text):
            raise UserError(
                f"{name} has the class name '{shown(text)}', which is no word: give the class a "
                "name"
            )
        if not is_utf8(text):
            raise UserError(
                f"{name} has the class name '{shown(text)}', which is not UTF-8 text: rename the "
                "class"
            )


def warn_of_repeats(split: Split, identity: Mapping[str, tuple], name: str) -> None:
    """Say which files are in two parts, or in two classes of one part, however their paths are
    written.
    """
    for one, other in (("train", "test"), ("train", "val"), ("val", "test")):
        known = {identity[row[0]] for row in split[one]}
        twice = sorted({row[0] for row in split[other] if identity[row[0]] in known})
        if twice and split[one] != split[other]:  # val may serve as test
            log.warning(
                f"Warning: {name} has {len(twice)} image(s) in both {one} and {other}, first "
                f"{', '.join(map(shown, twice[:3]))}"
            )
    for part in PARTS:
        first: dict[tuple, list] = {}
        again = [row for row in split[part] if first.setdefault(identity[row[0]], row) is not row]
        if again:
            others = [
                f"'{shown(row[0])}' in '{row[2]}' and '{first[identity[row[0]]][2]}'"
                for row in again[:3]
            ]
            log.warning(
                f"Warning: {name} lists {len(again)} image(s) of {part} more than once, first "
                f"{', '.join(others)}"
            )


def warn_of_own_split(path: str, published: str) -> None:
    """Say that the file of the `published` split is missing."""
    log.warning(
        f"'{path}' does not exist: the split is made here and is NOT {published}, so numbers "
        "cannot be compared with papers"
    )


def warn_of_same_text(name: str, classnames: Sequence[str]) -> None:
    """Say which classes CLIP cannot tell apart by their names."""
    if same := same_for_clip(classnames):
        groups = ", ".join(" and ".join(f"'{shown(text)}'" for text in group) for group in same[:5])
        log.warning(
            f"Warning: the names of {len(same)} group(s) of classes of {name} {SAME_TEXT}, which "
            f"cannot tell them apart: {groups}"
        )


def read_mat(path: str, key: str):
    """The array `key` of a MATLAB file. Raises UserError if it cannot be read."""
    try:
        from scipy.io import loadmat  # comes with scikit-learn

        return loadmat(path)[key]
    except Exception as error:  # scipy raises a dozen kinds
        raise UserError(
            f"'{path}' cannot be read as a MATLAB file with '{key}' "
            f"({' '.join(str(error).split())}): prepare the data set again"
        ) from None


def rows_of_folders(
    image_dir: str,
    below: str,
    labels: Mapping[str, int],
    names: Mapping[str, str],
    remedy: str = "the data set is not complete, prepare it again",
    left_out: Counter | None = None,
) -> Rows:
    """Rows of all images in the folders of `image_dir`/`below` that `labels` numbers.

    Raises UserError for an empty one.
    """
    rows = []
    for folder, label in labels.items():
        images = list_images(image_dir, osp.join(below, folder), left_out)
        if not images:
            raise UserError(
                f"'{shown(osp.join(image_dir, below, folder))}' holds no images: {remedy}"
            )
        rows += [[image, label, names[folder]] for image in images]
    return rows


# Making a split where none is published. A generator of its own: the split is the same for every
# run and seed.


def by_label(rows: Iterable[list]) -> dict[int, Rows]:
    """Rows of each label, labels in the order in which they appear."""
    groups = defaultdict(list)
    for row in rows:
        groups[row[1]].append(row)
    return groups


def shuffled(rows: Rows) -> Rows:
    return random.Random(0).sample(rows, len(rows))


def split_by_class(rows: Rows, train: float = 0.5, val: float = 0.2) -> Split:
    """CoOp's 50% / 20% / 30% of each class. Raises UserError for a class that is too small."""
    split: Split = {part: [] for part in PARTS}
    for members in by_label(rows).values():
        first, second = round(len(members) * train), round(len(members) * val)
        if not 0 < first < first + second < len(members):
            raise UserError(
                f"class '{members[0][2]}' has {len(members)} image(s), too few for a training, "
                "validation and test part: add some or take it out"
            )
        members = shuffled(members)
        split["train"] += members[:first]
        split["val"] += members[first : first + second]
        split["test"] += members[first + second :]
    return split


def split_off_val(trainval: Rows, test: Rows, val: float = 0.2) -> Split:
    """Take 20% of each class's training images as the validation part, as CoOp does.

    A class with one training image keeps it for training; a warning counts such classes.
    """
    split: Split = {"train": [], "val": [], "test": test}
    classes = by_label(trainval).values()
    if alone := [members[0][2] for members in classes if len(members) == 1]:
        log.warning(
            f"{len(alone)} class(es) with one training image have none in the val part made here, "
            f"first '{alone[0]}'"
        )
    for members in classes:
        count, members = min(max(1, round(len(members) * val)), len(members) - 1), shuffled(members)
        split["val"] += members[:count]
        split["train"] += members[count:]
    return split


def fold_of(text: str) -> tuple[int, int]:
    """(k, n) of DATASET.FOLD "k/n". Raises UserError for another text."""
    match = re.fullmatch(r"([1-9]\d*)/([1-9]\d*)", text)
    number, count = map(int, match.groups()) if match else (0, 0)
    if not 1 <= number <= count or count < 2:
        raise UserError(
            f"DATASET.FOLD is '{text}': write k/n, fold k from 1 to n of n folds, such as 2/4"
        )
    return number, count


def chosen_labels(labels: Sequence[int], subset: str, fold: str = "", cut: int = 0) -> list[int]:
    """The labels of a subset of the classes (DATASET.SUBSAMPLE_CLASSES), in rising order.

    labels: of all classes, rising. cut: 0 takes the first ceil(n/2) labels as base classes, as
    published; another number draws as many by a generator seeded by it (DATASET.CUT). fold: "k/n"
    holds every n-th base class out, the k-th first (DATASET.FOLD): base_unseen are these,
    base_seen the others. No seed of a run changes them. Raises UserError for an unknown subset, a
    fold without a subset that reads it, and for a side of a fold with fewer than two classes.
    """
    if subset not in SUBSETS:
        raise UserError(
            f"DATASET.SUBSAMPLE_CLASSES is '{subset}': choose one of {', '.join(SUBSETS)}"
        )
    if bool(fold) != (subset in FOLDED):
        raise UserError(
            f"DATASET.FOLD is '{fold}' with DATASET.SUBSAMPLE_CLASSES {subset}: a fold goes with "
            f"{' or '.join(FOLDED)}, and these need a fold such as 1/4"
        )
    if subset == "all":
        return list(labels)
    half = math.ceil(len(labels) / 2)
    base = list(labels[:half])
    if cut:  # a text, since small numbers as seeds draw alike: 1 would cut 10 classes as published
        base = sorted(random.Random(f"cut {cut}").sample(labels, half))
    if subset in ("base", "new"):
        return base if subset == "base" else sorted(set(labels) - set(base))
    number, count = fold_of(fold)
    unseen = base[number - 1 :: count]
    if min(len(unseen), len(base) - len(unseen)) < 2:
        raise UserError(
            f"DATASET.FOLD is '{fold}', which holds {len(unseen)} of {len(base)} base classes out: "
            "choose a number of folds that leaves two classes or more on each side"
        )
    return unseen if subset == "base_unseen" else sorted(set(base) - set(unseen))


def subsample_classes(
    subset: str, *parts: Sequence[Datum], fold: str = "", cut: int = 0
) -> list[list[Datum]]:
    """The parts with only the classes of `chosen_labels`, relabelled from 0.

    Raises UserError as `chosen_labels`, and for a subset without classes.
    """
    labels = sorted({item.label for part in parts for item in part})
    chosen = chosen_labels(labels, subset, fold, cut)
    if subset == "all":
        return [list(part) for part in parts]
    if not chosen:
        raise UserError(
            f"DATASET.SUBSAMPLE_CLASSES {subset} leaves no class of {len(labels)}: set it to all"
        )
    new_label = {label: number for number, label in enumerate(chosen)}
    return [
        [
            Datum(
                impath=item.impath,
                label=new_label[item.label],
                domain=item.domain,
                classname=item.classname,
            )
            for item in part
            if item.label in new_label
        ]
        for part in parts
    ]


def subset_of(cfg, *parts: Sequence[Datum]) -> list[list[Datum]]:
    """`subsample_classes` as DATASET.SUBSAMPLE_CLASSES, FOLD and CUT say."""
    node = cfg.DATASET
    fold, cut = node.get("FOLD", ""), node.get("CUT", 0)
    return subsample_classes(node.SUBSAMPLE_CLASSES, *parts, fold=fold, cut=cut)


def base_labels(cfg, *parts: Sequence[Datum]) -> frozenset[int]:
    """Which labels of a run on all classes are base classes; none for a run on a subset."""
    if cfg.DATASET.SUBSAMPLE_CLASSES != "all":
        return frozenset()
    labels = sorted({item.label for part in parts for item in part})
    return frozenset(chosen_labels(labels, "base", cut=cfg.DATASET.get("CUT", 0)))


def check_fold(cfg, train: Sequence[Datum], val: Sequence[Datum]) -> None:
    """Raise UserError if a side of a fold has a class without a training or validation image."""
    names = {item.label: item.classname for item in (*train, *val)}
    for part, items in (("training", train), ("validation", val)):
        if lacking := sorted(names.keys() - {item.label for item in items}):
            raise UserError(
                f"DATASET.FOLD '{cfg.DATASET.FOLD}' leaves class '{names[lacking[0]]}' of "
                f"{cfg.DATASET.NAME} without {part} images: add some, or choose settings without "
                "folds"
            )


def check_picks(path: str, picked: Sequence[Datum], train: Sequence[Datum]) -> None:
    """Raise UserError if the picks of the index file `path` leave out a class of `train`."""
    paths = {item.impath for item in picked}
    there = {item.label for item in train if item.impath in paths}
    left_out = {item.label: item.classname for item in train if item.label not in there}
    if left_out:
        raise UserError(
            f"'{path}' picks no image of {len(left_out)} class(es), first "
            f"{', '.join(list(left_out.values())[:3])}, so that nothing would be learned of them: "
            "add images of every class, or take DATASET.INDICES out"
        )


def labelled_like(source: Sequence[Datum], target: Sequence[Datum]) -> list[Datum]:
    """The target's items with the source's labels: their own if both have the same classes in the
    same order, else by class name.

    Raises UserError if a name that is needed belongs to several of the source's labels.
    """
    names, others = ({item.label: item.classname for item in items} for items in (source, target))
    if names == others:
        return list(target)
    for name, count in Counter(names.values()).items():
        if count > 1 and name in others.values():
            raise UserError(
                f"DATASET.TARGET_LABELLED: {count} classes are named '{name}', so the target's "
                "label cannot be told: use a target with the same classes in the same order"
            )
    labels = {name: label for label, name in names.items()}
    return [
        Datum(
            impath=item.impath,
            label=labels[item.classname],
            domain=item.domain,
            classname=item.classname,
        )
        for item in target
    ]


def without_target(cfg, name: str):
    """The configuration of a run on the data set `name`, the target of this one."""
    cfg_of_target = cfg.clone()
    cfg_of_target.defrost()
    cfg_of_target.DATASET.NAME, cfg_of_target.DATASET.TARGET, cfg_of_target.DATASET.INDICES = (
        name,
        "",
        "",
    )
    cfg_of_target.DATASET.SOURCE_DOMAINS = (
        cfg_of_target.DATASET.TARGET_DOMAINS
    ) = ()  # of the source
    return cfg_of_target


def offers(given: Path, source: Source) -> bool:
    """Whether a file or folder of the user can replace `source`; otherwise it is downloaded."""
    if given.is_file():
        return given.name == source.name
    return any(
        (given / name).exists()
        for name in (
            source.name,
            *(path for pair in (source.unpack or {}).items() for path in pair if path),
        )
    )


class CoOpDataset(DatasetBase):
    """A data set in the CoOp layout; subclasses set the class attributes.

    folder: below DATASET.ROOT. image_folder: below `folder`. split_file: its name; split_md5:
    checksum of the published one. templates: format strings with `{}` for the class name, the first
    one being the data set's own. corrections: {class name in the files: as published}. classes,
    images: published numbers (train, val, test), 0 where not known or no part of its own.
    test_halves: those of the test part of the base and the new classes, as published codes log
    them. sources, mirror: what it is made of, and an archive of all of it (`datasets.prepare`).
    manual: what only a person can fetch, in three lines.

    lists: files that `partition` reads, below `folder`; none: it goes by the names of the images.

    Options (config node DATASET): NUM_SHOTS, SUBSAMPLE_CLASSES, FOLD, CUT, VALIDATION, TEMPLATE
    (instead of the data set's own), INDICES (a folder with published few-shot picks,
    `<INDICES>/<config name>/shot_<k>-seed_<s>.json`).
    """

    folder = ""
    image_folder = "images"
    split_file = ""
    split_md5 = ""
    lists: Sequence[str] = ()
    few_shot_folder = "split_fewshot"
    templates: Sequence[str] = ("a photo of a {}.",)
    corrections: Mapping[str, str] = {}
    classes = 0
    images: tuple[int, int, int] = (0, 0, 0)
    test_halves: tuple[int, int] = (0, 0)
    sources: Sequence[Source] = ()
    mirror: Source | None = None
    manual: Sequence[str] = ()
    few_shot_val = True  # ImageNet: the validation part is the test part and stays whole
    val_is_test = False  # whether the published validation part is the test part
    chooses_domains = False  # whether DATASET.SOURCE_DOMAINS and TARGET_DOMAINS have an effect
    root_remedy = "create it with datasets.prepare or correct --root"
    repair = f"{REPAIR} or correct the split file"  # what to do about images that are not there
    picks = places = ""  # checksums of the few shots of all classes, by path and by place
    picks_in_words = ""  # and what is known of them
    remedy = ""  # the command that makes the data set, if it is not `datasets.prepare <name>`

    def __init__(self, cfg):
        self._check_options(cfg)
        self.locate(cfg)
        if template := cfg.DATASET.get("TEMPLATE", ""):
            if not template.count("{}") == template.count("{") == template.count("}") == 1:
                raise UserError(
                    f"DATASET.TEMPLATE is '{template}': write one {{}} where the class name goes, "
                    "and no other braces"
                )
            self.templates = (template,)
        split = self.split(cfg)
        parts = [[self._datum(row) for row in split[part]] for part in PARTS]
        train, val, test = parts
        if cfg.DATASET.NUM_SHOTS >= 1:
            train, val = self._few_shot(train, val, cfg)
            from datasets import picks  # a program, too, which Python wants to load first

            self.picks = picks.checksum((self._relative(item), item.label) for item in train)
            self.places = picks.places(train, parts[0])
            self.picks_in_words = picks.described(
                self.config_name(),
                cfg.DATASET.NUM_SHOTS,
                cfg.SEED,
                {picks.BY_PATH: self.picks, picks.BY_PLACE: self.places},
                self._kind_of_split,
            )
        elif cfg.DATASET.get("INDICES", ""):
            log.warning(
                "Warning: DATASET.INDICES is not used, since DATASET.NUM_SHOTS is "
                f"{cfg.DATASET.NUM_SHOTS}: all images are taken"
            )
        if cfg.DATASET.get("VALIDATION", "published") == "whole":
            val = self._whole_val(train, *parts)
        apart = [self._datum(row) for row in split.get("unlabelled", [])]
        train, val, test, apart = subset_of(cfg, train, val, test, apart)
        if cfg.DATASET.SUBSAMPLE_CLASSES in FOLDED:
            check_fold(cfg, train, val)
        target = self._target(
            apart if "unlabelled" in split else None, cfg, {item.classname for item in train}
        )
        if cfg.DATASET.get("TARGET_LABELLED", False):
            if {item.impath for item in target} & {item.impath for item in test}:
                raise UserError(
                    "DATASET.TARGET_LABELLED would train on the test images of "
                    f"{type(self).__name__} with their labels: leave it out"
                )
            train += labelled_like(train, target)
        if folder := cfg.DATASET.get("REPEAT_FROM", ""):
            train = with_errors_repeated(train, self.root, folder, cfg.DATASET.REPEAT)
        # Without labels, and without the class names that would tell them.
        unlabelled = [Datum(impath=item.impath, label=-1, domain=item.domain) for item in target]
        super().__init__(train_x=train, train_u=unlabelled or None, val=val, test=test)
        self.base_labels = base_labels(cfg, train, val, test)
        warn_of_same_text(type(self).__name__, self.classnames)

    def locate(self, cfg) -> None:
        """Set root, dataset_dir and image_dir. Raises UserError for a folder that is missing."""
        self.root = data_root(cfg, self.root_remedy)
        self.dataset_dir = osp.join(self.root, self.folder) if self.folder else self.root
        self.image_dir = (
            osp.join(self.dataset_dir, self.image_folder) if self.image_folder else self.dataset_dir
        )
        for needed in (self.dataset_dir, self.image_dir):
            if not osp.isdir(needed):
                raise UserError(
                    f"folder '{needed}' of data set {type(self).__name__} does not exist: "
                    f"{self.how_to_get(cfg.DATASET.ROOT)}"
                )

    def _kind_of_split(self) -> str:
        """`datasets.files.kind_of_split` of its split file; "there" for lists of its own."""
        if not self.split_file:
            return "there"
        return kind_of_split(Path(self.dataset_dir, self.split_file), self.split_md5)

    def _check_options(self, cfg) -> None:
        """Raise UserError for options that cannot be meant."""
        shots = cfg.DATASET.NUM_SHOTS
        if shots < 1 and shots != ALL_SHOTS:
            raise UserError(
                f"DATASET.NUM_SHOTS is {shots}: set it to 1 or more images per class, or to "
                f"{ALL_SHOTS} for all"
            )
        for key in ("SOURCE_DOMAINS", "TARGET_DOMAINS"):
            if cfg.DATASET[key] and not self.chooses_domains:
                names = ", ".join(map(str, cfg.DATASET[key]))
                raise UserError(
                    f"DATASET.{key} is ({names}) but {type(self).__name__} has no domains to "
                    "choose from: take the key out, or use DATASET.NAME CSV with a column domain"
                )

    @classmethod
    def how_to_get(cls, root: str) -> str:
        return f"run `{cls.remedy or f'python -m datasets.prepare {cls.__name__}'} --root {root}`"

    # What decides which images are in which part and class. A run on other content is another run.

    @classmethod
    def content(cls, cfg) -> dict[str, str]:
        """{description: path} of the files that decide parts and classes, whether they exist or
        not.

        A folder counts by the names of its images (`image_names`).
        """
        home = osp.join(absolute(cfg.DATASET.ROOT), cls.home(cfg))
        files = cls.sources_of_split(cfg, home)
        if (indices := cfg.DATASET.get("INDICES", "")) and cfg.DATASET.NUM_SHOTS >= 1:
            files["index file of DATASET.INDICES"] = cls.index_file(cfg, indices)
        if folder := cfg.DATASET.get("REPEAT_FROM", ""):
            files["outcomes of DATASET.REPEAT_FROM"] = errors_place(folder)
        name = cfg.DATASET.get("TARGET", "")
        target = DATASET_REGISTRY.get(name) if name and name in DATASET_REGISTRY else None
        if hasattr(target, "content"):
            theirs = target.content(without_target(cfg, name))
            files |= {f"{what} of DATASET.TARGET": path for what, path in theirs.items()}
        return files

    @classmethod
    def home(cls, cfg) -> str:
        """The data set's folder, below DATASET.ROOT."""
        return cls.folder

    @classmethod
    def sources_of_split(cls, cfg, home: str) -> dict[str, str]:
        """The part of `content` that is in the data set's own folder `home`."""
        path = osp.join(home, cls.split_file)
        files = {f"split file '{cls.split_file}'": path} if cls.split_file else {}
        if files and osp.isfile(path):
            return files
        if cls.lists:
            return files | {f"list '{name}'": osp.join(home, name) for name in cls.lists}
        return files | {"names of the images": osp.join(home, cls.image_folder)}

    @staticmethod
    def image_names(folder: str) -> list[str]:
        return list_images(folder)

    @classmethod
    def index_file(cls, cfg, indices: str) -> str:
        file = f"shot_{cfg.DATASET.NUM_SHOTS}-seed_{cfg.SEED}.json"
        return osp.join(osp.expanduser(indices), cls.config_name(), file)

    @classmethod
    def prepare(cls, root: str, given: Path | None = None, progress: bool = True) -> dict[str, int]:
        """Download the files of the data set, or take them from `given`, and put them in place.

        Returns {data set: pictures}. Raises UserError if a file cannot be obtained, or only by a
        person.
        """
        folder = Path(root).expanduser() / cls.folder
        if given is not None and not given.exists():
            raise UserError(f"'{given}' does not exist: correct --from")
        if (
            given is not None
            and given.is_file()
            and given.name
            not in (names := [source.name for source in (*cls.sources, cls.mirror) if source])
        ):
            raise UserError(
                f"'{given}' is none of the files that {cls.__name__} is made of: rename it to one "
                f"of {', '.join(names)}"
            )
        if cls.mirror and given is not None and given.name == cls.mirror.name:
            arrange(cls.mirror, folder, given, progress)
        else:
            for source in cls.sources:
                offer = given if given and offers(given, source) else cls.neighbour(root, source)
                try:
                    arrange(source, folder, offer, progress)
                except UserError as error:
                    if offer or cls.mirror is None:
                        raise
                    log.warning(f"{error}\nTrying a copy of the whole data set instead")
                    arrange(cls.mirror, folder, None, progress)
                    break
        images = list_images(str(folder / cls.image_folder))
        if not images:
            raise UserError(
                *cls.manual
                or [
                    f"'{folder / cls.image_folder}' holds no images: delete '{folder}' and prepare "
                    f"{cls.__name__} again"
                ]
            )
        return {cls.__name__: len(images)}

    @classmethod
    def neighbour(cls, root: str, source: Source) -> Path | None:
        """Return an existing file of another data set that equals `source`, or None."""
        return None

    @classmethod
    def config_name(cls) -> str:
        """The name of its file, which is CoOp's name of its config and of its folder of few-shot
        picks.
        """
        return cls.__module__.rsplit(".", 1)[-1]

    # The split

    def split(self, cfg) -> Split:
        """The published split if its file is there, else `partition`'s; checked, with corrected
        class names.
        """
        path = osp.join(self.dataset_dir, self.split_file)
        if self.split_file and osp.exists(path):
            name, split = f"split file '{path}'", read_split(path)
        else:
            name, split = self.split_name(), self.partition()
            check_split(split, name)
            if self.split_file:
                warn_of_own_split(path, "the published one")
        warn_of_repeats(
            split,
            file_identities(
                self.image_dir, (row[0] for part in PARTS for row in split[part]), name, self.repair
            ),
            name,
        )
        if self.corrections:
            split = {
                part: [
                    [row[0], row[1], self.corrections.get(row[2], row[2]), *row[3:]] for row in rows
                ]
                for part, rows in split.items()
            }
        return split

    def split_name(self) -> str:
        """What sentences call a split that was made here."""
        return f"the split of '{self.dataset_dir}'"

    def partition(self) -> Split:
        """A split without the published file.

        Raises UserError where only the published one makes sense.
        """
        path = osp.join(self.dataset_dir, self.split_file)
        raise UserError(
            f"'{path}' of data set {type(self).__name__} does not exist: "
            f"{self.how_to_get(self.root)}"
        )

    def class_folders(self, ignored: Sequence[str] = ()) -> Rows:
        """Rows of a folder per class, labels in alphabetical order, for `partition`."""
        folders = [name for name in list_folder(self.image_dir).folders if name not in ignored]
        return rows_of_folders(
            self.image_dir,
            "",
            {name: label for label, name in enumerate(folders)},
            {name: name for name in folders},
        )

    def _datum(self, row: list) -> Datum:
        return Datum(
            impath=osp.join(self.image_dir, row[0]),
            label=row[1],
            classname=row[2],
            domain=row[3] if len(row) > 3 else 0,
        )

    def _target(self, apart: list[Datum] | None, cfg, classes: Set[str]) -> list[Datum]:
        """Training images of the target domain, as many per class as of the source.

        The target is another data set (DATASET.TARGET), or the rows that the split keeps `apart` as
        "unlabelled". Raises UserError if the target is empty, has classes the source lacks, or
        lacks some and DATASET.TARGET_CLASSES is not "subset".
        """
        name = cfg.DATASET.get("TARGET", "")
        if not name and apart is None:
            return []
        if name:
            items = DATASET_REGISTRY.get(name)(without_target(cfg, name)).train_x
        else:
            name = f"{cfg.DATASET.NAME} ({', '.join(cfg.DATASET.TARGET_DOMAINS)})"
            items = [item for item in apart if item.classname in classes]
            if cfg.DATASET.NUM_SHOTS >= 1:
                items = self._draw(items, cfg.DATASET.NUM_SHOTS)
        if not items:
            raise UserError(
                f"target {name} has no training images: choose another DATASET.TARGET or "
                "TARGET_DOMAINS"
            )
        target_classes = {item.classname for item in items}
        rule = cfg.DATASET.get("TARGET_CLASSES", "same")
        if rule not in TARGET_CLASSES:
            raise UserError(
                f"DATASET.TARGET_CLASSES is '{rule}': choose one of {', '.join(TARGET_CLASSES)}"
            )
        for lacking, who, here, allowed in (
            (target_classes - classes, cfg.DATASET.NAME, name, False),
            (classes - target_classes, name, cfg.DATASET.NAME, rule == "subset"),
        ):
            if lacking and not allowed:
                raise UserError(
                    f"{who} lacks {len(lacking)} class(es) of {here}: "
                    f"{', '.join(sorted(lacking)[:5])}: choose a target with the same classes, or, "
                    "if it has some of them only, set DATASET.TARGET_CLASSES subset"
                )
        return items

    # Few-shot picks

    def _draw(self, items: list[Datum], shots: int) -> list[Datum]:
        """`shots` images per class, leaving the random state as it was."""
        state = random.getstate()
        try:
            return self.generate_fewshot_dataset(items, num_shots=shots)
        finally:
            random.setstate(state)

    def _few_shot(
        self, train: list[Datum], val: list[Datum], cfg
    ) -> tuple[list[Datum], list[Datum]]:
        """Return the published draw: `shots` training and at most 4 validation images per class.

        Cached as JSON, with paths relative to DATASET.ROOT and a checksum of the lists that were
        drawn from. The random state afterwards is the same with and without the cache.
        """
        shots, seed = cfg.DATASET.NUM_SHOTS, cfg.SEED
        if indices := cfg.DATASET.get("INDICES", ""):
            path = self.index_file(cfg, indices)
            picks = self._picks(path, train, val)
            check_picks(path, picks[0], subset_of(cfg, train)[0])
            return picks
        drawn_from = [
            [[self._relative(item), item.label, item.classname, item.domain] for item in part]
            for part in (train, val)
        ]
        checksum = hashlib.sha256(json.dumps(drawn_from).encode()).hexdigest()
        cache = osp.join(self.dataset_dir, self.few_shot_folder, f"shot_{shots}-seed_{seed}.json")
        if seed >= 0 and (cached := self._cached_picks(cache, checksum, shots, train, val)):
            return cached
        state = random.getstate()
        drawn = {"train": self.generate_fewshot_dataset(train, num_shots=shots), "val": []}
        if self.few_shot_val:
            drawn["val"] = self.generate_fewshot_dataset(val, num_shots=min(shots, 4))
        random.setstate(state)
        if seed >= 0:
            self._cache_picks(cache, checksum, {"train": train, "val": val}, drawn)
        return drawn["train"], drawn["val"] if self.few_shot_val else val

    def _whole_val(
        self, drawn: list[Datum], train: list[Datum], val: list[Datum], test: list[Datum]
    ) -> list[Datum]:
        """The whole validation part, for choosing settings; `drawn` are the training images.

        Where the published validation part is the test part, it is made of at most SPARE training
        images of each class that were not drawn. Raises UserError if it is empty, and if the test
        part has images of it or training images: settings would be chosen on the test.
        """
        if self.val_is_test:
            taken = {item.impath for item in drawn}
            spare = [[item.impath, item.label, item] for item in train if item.impath not in taken]
            rows = [shuffled(members)[:SPARE] for members in by_label(spare).values()]
            val = [row[-1] for members in rows for row in members]
        name = type(self).__name__
        if not val:
            raise UserError(
                f"DATASET.VALIDATION is whole, but {name} has no validation images apart from the "
                "images of training and test: add some, or set it to published"
            )
        tested = {item.impath for item in test}
        for part, items in (("training", train), ("validation", val)):
            if shared := [item.impath for item in items if item.impath in tested]:
                raise UserError(
                    f"DATASET.VALIDATION is whole, but {name} has {len(shared)} {part} image(s) "
                    f"in its test part, first '{shown(shared[0])}': settings cannot be chosen "
                    "without the test there, so take another data set"
                )
        return val

    def _cached_picks(
        self, cache: str, checksum: str, shots: int, train: list[Datum], val: list[Datum]
    ) -> tuple[list[Datum], list[Datum]] | None:
        """Return the few-shot picks of a cache file; None if it is missing, damaged or outdated."""
        if not osp.isfile(cache):
            return None
        try:
            stored = read_json(cache)
            if stored.get("drawn_from_sha256") != checksum:
                return None
            picks = [
                [items[place] for place in stored["places"][part]]
                for part, items in (("train", train), ("val", val))
            ]
        except (UserError, AttributeError, KeyError, TypeError, IndexError):
            log.warning(f"The few-shot cache '{cache}' is not readable: it is drawn again")
            return None
        counts = Counter(item.label for item in picks[0]).values()
        if short := sum(count < shots for count in counts):
            log.warning(
                f"{short} class(es) have fewer than {shots} images: all that they have are used"
            )
        return picks[0], picks[1] if self.few_shot_val else val

    def _cache_picks(
        self,
        cache: str,
        checksum: str,
        parts: dict[str, list[Datum]],
        drawn: dict[str, list[Datum]],
    ) -> None:
        """Write few-shot picks to a cache file; a folder that refuses it is noted.

        A pick is stored by its place in the list, since rows of several classes may share a path.
        The paths are for people.
        """
        places = {
            part: {id(item): place for place, item in enumerate(items)}
            for part, items in parts.items()
        }
        picks = {
            "drawn_from_sha256": checksum,
            **{part: [self._relative(item) for item in items] for part, items in drawn.items()},
            "places": {
                part: [places[part][id(item)] for item in items] for part, items in drawn.items()
            },
        }
        try:
            write_json(picks, cache)
        except (UserError, OSError) as error:
            log.warning(f"The few-shot draw is not cached ({error})")

    def _relative(self, item: Datum) -> str:
        path = (
            item.impath[len(self.root) + 1 :]
            if item.impath.startswith(self.root + os.sep)
            else osp.relpath(item.impath, self.root)
        )
        return path.replace(os.sep, "/")

    def _picks(
        self, path: str, train: list[Datum], val: list[Datum]
    ) -> tuple[list[Datum], list[Datum]]:
        """The images that a public index file names (cross_modal_adaptation's format: {part:
        {"data": [{"impath", ...}]}}).

        Paths count from the data set's folder, whatever stands before it. Raises UserError for one
        that is not in the split.
        """
        if not osp.isfile(path):
            raise UserError(
                f"DATASET.INDICES: '{path}' does not exist: correct the folder, or take the key "
                "out to draw the images here"
            )
        found, parts = read_json(path), []
        for part, items in (("train", train), ("val", val)):
            known: dict[str, list[Datum]] = defaultdict(list)
            for item in items:
                known[osp.relpath(item.impath, self.dataset_dir).replace(os.sep, "/")].append(item)
            try:
                names = [
                    entry["impath"].replace("\\", "/").rpartition(f"/{self.folder}/")[2]
                    for entry in found[part]["data"]
                ]
                labels = [entry.get("label") for entry in found[part]["data"]]
                labels = [label if isinstance(label, int) else None for label in labels]
            except (KeyError, TypeError, AttributeError):
                raise UserError(
                    f"'{path}' is not an index file of few-shot picks ({part}: data: impath): "
                    "correct DATASET.INDICES"
                ) from None
            if missing := [name for name in names if name not in known]:
                raise UserError(
                    f"'{path}' names {len(missing)} image(s) that are not in the {part} part of "
                    f"{type(self).__name__}, first {', '.join(missing[:3])}: use the published "
                    "split file, or take DATASET.INDICES out"
                )
            pairs = list(dict.fromkeys(zip(names, labels, strict=True)))
            if again := len(names) - len(pairs):
                log.warning(
                    f"'{path}' names {again} image(s) of the {part} part more than once: each is "
                    "taken once"
                )
            parts.append([_with_label(path, name, known[name], label) for name, label in pairs])
        return parts[0], parts[1] if self.few_shot_val else val


def _with_label(path: str, name: str, items: Sequence[Datum], label: object) -> Datum:
    """Return the row of a path that an index file means by its label.

    Several rows may share a path. Raises UserError if no row or several rows fit.
    """
    by_row = {(item.label, item.domain, item.classname): item for item in items}
    if len(by_row) > 1:
        by_row = {row: item for row, item in by_row.items() if item.label == label}
    if len(by_row) != 1:
        raise UserError(
            f"'{path}' names '{name}', which the split lists {len(items)} times, in different "
            "classes or domains: take all but one of these rows out of the split, or "
            "DATASET.INDICES out"
        )
    return next(iter(by_row.values()))
