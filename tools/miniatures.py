"""Write a data set in its true layout with small generated pictures, for tests and for trying a
protocol without the data.

    python -m tools.miniatures NAME|all --root DIR [--no-split]

The numbers of classes, the files, folders and annotations are the real ones' (class names mostly
are not); --no-split leaves out the split_zhou_*.json, so that the data set makes its own split.
`datasets.check` knows from miniature.json what to expect.
"""

import argparse
import functools
import hashlib
import json
import random
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image
from scipy.io import savemat
from tqdm import tqdm

from dassl.utils import read_json, write_json
from datasets.base import PARTS, CoOpDataset, UserError
from datasets.check import MINIATURE
from datasets.prepare import find, prepared_classes
from datasets.sets.imagenet import ImageNet, ImageNetTest
from datasets.sets.imagenetv2 import ImageNetV2
from datasets.sets.metashift import FOLDERS, TABLE
from datasets.shifts import ShiftDataset
from tools import inputs
from tools.arguments import Parser

PER_CLASS = {
    "train": 5,
    "val": 1,
    "test": 2,
}  # pictures; where the official files know training and validation together, 6 and 2
MODES = ("RGB", "RGB", "RGB", "L", "RGB", "CMYK")
COLOURS = ("red", "amber", "green", "blue", "violet", "white", "black", "golden", "dark", "pale")
THINGS = (
    "abbey",
    "lily",
    "falcon",
    "sedan",
    "curry",
    "dancer",
    "lake",
    "tower",
    "violin",
    "hound",
    "bridge",
    "otter",
    "pasta",
    "jet",
    "fern",
)


def class_names(number: int) -> list[str]:
    """Distinct names of two or three words."""
    names = [f"{colour} {thing}" for thing in THINGS for colour in COLOURS]
    return (names + [f"{name} {i}" for i in range(2, 2 + number // len(names)) for name in names])[
        :number
    ]


@functools.cache
def _colour(label: int) -> np.ndarray:
    return np.random.RandomState(label).randint(0, 200, 3)


@functools.cache
def _grains() -> np.ndarray:
    return np.random.RandomState(0).randint(0, 56, 2**17)


def _noise(number: int) -> np.ndarray:
    """(20, 24, 3), another one for each of the first 100,000 numbers: a piece of one long row."""
    size, grains = 20 * 24 * 3, _grains()
    start = 7 * number % (len(grains) - size)
    return grains[start : start + size].reshape(20, 24, 3)


class Painter:
    """Writes pictures: noise around a colour of the class, now and then grey or CMYK, as in the
    real sets.
    """

    def __init__(self, folder: Path):
        self.folder, self.count = folder, 0

    def __call__(self, path: str, label: int) -> str:
        """Writes `path` (relative to the folder), unless it is there, and returns it."""
        number, self.count = self.count, self.count + 1
        if (file := self.folder / path).exists():
            return path
        noise = _noise(number)
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray((_colour(label) + noise).astype(np.uint8)).convert(
            MODES[number % len(MODES)]
        ).save(file)
        return path


def folder_per_class(cls: type[CoOpDataset], home: Path, names: list[str] | None = None) -> None:
    """Caltech101, DTD, EuroSAT, Food101; folders that a data set ignores are there too."""
    paint = Painter(home / cls.image_folder)
    for label, name in enumerate(
        names or [name.replace(" ", "_") for name in class_names(cls.classes)]
    ):
        for i in range(10):
            paint(f"{name}/{name}_{i:04d}.jpg", label)


def caltech101(cls, home):
    folder_per_class(
        cls,
        home,
        [
            "BACKGROUND_Google",
            "Faces_easy",
            *cls.corrections,
            *(f"class_{i}" for i in range(cls.classes - len(cls.corrections))),
        ],
    )


def eurosat(cls, home):
    folder_per_class(cls, home, ["Forest", "River", *cls.corrections])


def trainval(label: int) -> list[tuple[str, int, int]]:
    """(file of the list, label, running number) of a class's pictures."""
    return [
        ("trainval" if i < PER_CLASS["train"] + PER_CLASS["val"] else "test", label, i)
        for i in range(sum(PER_CLASS.values()))
    ]


def oxford_pets(cls, home):
    paint = Painter(home / "images")
    lines: dict[str, list[str]] = {"trainval": [], "test": []}
    for label, name in enumerate(class_names(cls.classes)):
        breed = (
            name.title().replace(" ", "_") if label % 3 else name.replace(" ", "_")
        )  # cats are upper, dogs lower case
        for part, _, i in trainval(label):
            lines[part].append(
                f"{Path(paint(f'{breed}_{i + 1}.jpg', label)).stem} {label + 1} {1 + label % 2} "
                f"{label + 1}"
            )
    write_lists(home / "annotations", lines)


def write_lists(folder: Path, lists: dict[str, list[str]]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, lines in lists.items():
        (folder / (name if "." in name else f"{name}.txt")).write_text("\n".join(lines) + "\n")


def oxford_flowers(cls, home):
    paint = Painter(home / "jpg")
    labels = [label for label in range(1, cls.classes + 1) for _ in range(10)]
    for number, label in enumerate(labels, 1):
        paint(f"image_{number:05d}.jpg", label)
    savemat(home / "imagelabels.mat", {"labels": np.array([labels], dtype=np.uint8)})
    write_json(
        {str(label): name for label, name in enumerate(class_names(cls.classes), 1)},
        str(home / "cat_to_name.json"),
    )


def stanford_cars(cls, home):
    paint = Painter(home)
    rows_of: dict[str, list[tuple[str, int]]] = {"trainval": [], "test": []}
    for label in range(cls.classes):
        for part, _, _ in trainval(label):
            folder = "cars_train" if part == "trainval" else "cars_test"
            file = f"{len(rows_of[part]) + 1:05d}.jpg"
            paint(f"{folder}/{file}", label)
            rows_of[part].append((file, label + 1))
    (home / "devkit").mkdir()
    names = np.empty((1, cls.classes), dtype=object)
    names[0] = [
        f"{name.title()} {1990 + label % 30}" for label, name in enumerate(class_names(cls.classes))
    ]
    savemat(home / "devkit" / "cars_meta.mat", {"class_names": names})
    for part, path in (
        ("trainval", home / "devkit" / "cars_train_annos.mat"),
        ("test", home / "cars_test_annos_withlabels.mat"),
    ):
        savemat(
            path,
            {
                "annotations": np.array(
                    [rows_of[part]], dtype=[("fname", object), ("class", object)]
                )
            },
        )


def sun397(cls, home):
    paint = Painter(home / "SUN397")
    lines: dict[str, list[str]] = {"ClassName": [], "Training_01": [], "Testing_01": []}
    for label, name in enumerate(class_names(cls.classes)):
        place = name.replace(" ", "_")
        folder = f"{place[0]}/{place}" + ("/indoor", "/outdoor", "", "")[label % 4]
        lines["ClassName"].append(f"/{folder}")
        for part, _, i in trainval(label):
            lines["Training_01" if part == "trainval" else "Testing_01"].append(
                "/" + paint(f"{folder}/sun_{label}_{i}.jpg", label)
            )
    write_lists(home, lines)


def ucf101(cls, home):
    paint = Painter(home / cls.image_folder)
    lines: dict[str, list[str]] = {"classInd": [], "trainlist01": [], "testlist01": []}
    for label, name in enumerate(class_names(cls.classes)):
        action = name.title().replace(" ", "")
        lines["classInd"].append(f"{label + 1} {action}")
        for part, _, i in trainval(label):
            video = f"v_{action}_g{i + 1:02d}_c01"
            paint(f"{name.title().replace(' ', '_')}/{video}.jpg", label)
            lines["trainlist01" if part == "trainval" else "testlist01"].append(
                f"{action}/{video}.avi" + (f" {label + 1}" if part == "trainval" else "")
            )
    write_lists(home / "ucfTrainTestlist", lines)


def fgvc_aircraft(cls, home):
    paint, names = Painter(home / "images"), class_names(cls.classes)
    lines: dict[str, list[str]] = {f"images_variant_{part}": [] for part in PARTS}
    for part, number in PER_CLASS.items():
        for label, name in enumerate(names):
            lines[f"images_variant_{part}"] += [
                f"{Path(paint(f'{1000000 + paint.count}.jpg', label)).stem} {name}"
                for _ in range(number)
            ]
    write_lists(home, {"variants": names} | lines)


def imagenet(cls, home):
    """ImageNet and its variants; those of 200 classes have a classnames.txt of all 1,000, as copied
    from ImageNet.
    """
    wnids = [f"n{1440764 + 7 * i:08d}" for i in range(ImageNet.classes)]
    write_lists(
        home,
        {
            "classnames": [
                f"{wnid} {name}" for wnid, name in zip(wnids, class_names(len(wnids)), strict=True)
            ]
        },
    )
    paint = Painter(home / cls.image_folder)
    chosen = sorted(random.Random(0).sample(range(len(wnids)), cls.classes))
    for label in chosen:
        for below, number in (
            (("", 1),) if issubclass(cls, ImageNetTest) else (("train/", 2), ("val/", 1))
        ):
            for i in range(number):
                paint(f"{below}{label if cls is ImageNetV2 else wnids[label]}/{i}.JPEG", label)
    if not cls.image_folder == "images":
        (home / cls.image_folder / "README.txt").write_text("not an image\n")


GROUPS = ((0, 0), (0, 1), (1, 0), (1, 1))
COUNTS = {"train": (9, 2, 1, 6), "val": (3, 2, 1, 2), "test": (2, 2, 2, 2)}  # images of each group


def entries() -> list[tuple[int, int, int, int]]:
    """(number from 0, part's number, label, domain) of the images."""
    groups = [
        (part, *group)
        for part, counts in enumerate(COUNTS.values())
        for group, count in zip(GROUPS, counts, strict=True)
        for _ in range(count)
    ]
    return [
        (number, *entry)
        for number, entry in enumerate(random.Random(0).sample(groups, len(groups)))
    ]


def waterbirds(cls, home):
    paint, lines = Painter(home), ["img_id,img_filename,y,split,place,place_filename"]
    for number, part, label, domain in entries():
        file = paint(f"{number % 3 + 1:03d}.Bird/Bird_{number:04d}.jpg", label)
        lines.append(f'{number + 1},{file},{label},{part},{domain},"/l/lake, {number}.jpg"')
    write_lists(home, {"metadata.csv": lines})


def celeba(cls, home):
    paint, names = (
        Painter(home / "img_align_celeba"),
        "5_o_Clock_Shadow Blond_Hair Eyeglasses Male Young".split(),
    )
    attributes, partition = [], []
    for number, part, label, domain in entries():
        file = paint(f"{number + 1:06d}.jpg", label)
        attributes.append(
            f"{file} "
            + " ".join(f"{value:2d}" for value in (-1, 2 * label - 1, 1, 2 * domain - 1, 1))
        )
        partition.append(f"{file} {part}")
    write_lists(
        home,
        {
            "list_attr_celeba.txt": [str(len(attributes)), " ".join(names) + " ", *attributes],
            "list_eval_partition.txt": partition,
        },
    )


def metashift(cls, home):
    paint, lines = Painter(home / cls.image_folder), ["id,filename,split,y,a"]
    place = {group: folder for folder, group in FOLDERS.items()}
    for number, part, label, domain in entries():
        file = paint(f"{place[label, domain]}/{number}.jpg", label)
        lines.append(f"{number},/home/of/whom/{cls.image_folder}/{file},{part},{label},{domain}")
    write_lists(home, {TABLE: lines})


def per_domain(cls, home):
    """A folder per domain, in it a folder per class (Office-31, Office-Home, TerraIncognita)."""
    paint = Painter(home)
    for domain in cls.domain_names:
        for label, name in enumerate(class_names(cls.classes)):
            for i in range(3):
                paint(f"{domain}/{name.title().replace(' ', '_')}/{i}.jpg", label)


def pacs(cls, home):
    paint, lines = Painter(home / "images"), {}
    for domain in cls.domain_names:
        for part, number in (("train", 3), ("crossval", 1)):
            lines[f"{domain}_{part}_kfold"] = [
                f"{paint(f'{domain}/{name}/{part}_{i}.jpg', label)} {label + 1}"
                for label, name in enumerate(n.replace(" ", "_") for n in class_names(cls.classes))
                for i in range(number)
            ]
    lines["sketch_train_kfold"].append("sketch/dog/n02103406_4068-1.png 1")
    write_lists(home / "splits", lines)


def vlcs(cls, home):
    paint = Painter(home)
    for domain in cls.domain_names:
        for part, number in (("train", 3), ("crossval", 1), ("test", 2)):
            for label in range(cls.classes):
                for i in range(number):
                    paint(f"{domain.upper()}/{part}/{label}/{i}.jpg", label)


def office_home_dg(cls, home):
    paint = Painter(home)
    for domain in cls.domain_names:
        for part, number in (("train", 2), ("val", 1)):
            for label, name in enumerate(class_names(cls.classes)):
                for i in range(number):
                    paint(f"{domain}/{part}/{name.title().replace(' ', '_')}/{i}.jpg", label)


def visda17(cls, home):
    paint = Painter(home)
    for part in ("train", "validation"):
        write_lists(
            home / part,
            {
                "image_list": [
                    f"{paint(f'{part}/{name}/{i}.jpg', label).partition('/')[2]} {label}"
                    for label, name in enumerate(n.replace(" ", "_") for n in class_names(12))
                    for i in range(3)
                ]
            },
        )


def domainnet(cls, home):
    """Lists and pictures; several data sets share the pictures."""
    paint, lines = Painter(home), {}
    for domain in cls.domain_names:
        for part in ("train", "test"):
            lines[f"{domain}_{part}"] = [
                f"{paint(f'{domain}/{name}/{part}.jpg', label)} {label}"
                for label, name in enumerate(n.replace(" ", "_") for n in class_names(cls.classes))
            ]
    write_lists(home / cls.list_folder, lines)


SPECIAL: dict[str, Callable] = {
    function.__name__: function
    for function in (
        caltech101,
        eurosat,
        oxford_pets,
        oxford_flowers,
        stanford_cars,
        sun397,
        ucf101,
        fgvc_aircraft,
        waterbirds,
        celeba,
        metashift,
        pacs,
        vlcs,
        office_home_dg,
        visda17,
        domainnet,
    )
}
SPECIAL |= dict.fromkeys(("office31", "office_home", "terra_incognita"), per_domain)
SPECIAL |= dict.fromkeys(("domainnet_dg", "mini_domainnet"), domainnet)


def make(cls: type[CoOpDataset], root: Path, split: bool = True) -> Path:
    """Write a miniature of `cls` below `root` and return its folder.

    Raises UserError if there is something already, or none can be made.
    """
    home = Path(root) / cls.folder
    if not cls.classes:
        raise UserError(
            f"there is no miniature of {cls.__name__}: make the real one with `{cls.remedy}`"
        )
    told = read_json(str(home / MINIATURE)) if (home / MINIATURE).is_file() else {}
    if home.exists() and (cls.__name__ in told or not told):  # data sets may share a folder
        raise UserError(f"'{home}' exists: delete it or choose another --root")
    home.mkdir(parents=True, exist_ok=True)
    writer = SPECIAL.get(
        cls.config_name(),
        imagenet
        if cls.__module__.startswith(f"{ImageNet.__module__.rpartition('.')[0]}.imagenet")
        else folder_per_class,
    )
    writer(cls, home)
    for place in (
        place
        for source in cls.sources
        for place in (source.unpack or {}).values()
        if not (home / place).exists()
    ):
        write_lists(home / place, {"list": ["what the official archive holds besides pictures"]})
    data = cls.__new__(cls)
    data.root, data.dataset_dir, data.image_dir = str(root), str(home), str(home / cls.image_folder)
    made = data.partition()
    expected = {part: len(made[part]) for part in PARTS}
    for part, number in zip(PARTS, cls.images, strict=True):
        if not number and not issubclass(cls, ShiftDataset):  # whose parts depend on domains
            expected[part] = 0
    numbers: dict[str, object] = {"images": expected}
    if cls.split_file and split:
        rows = {
            part: [
                [path, label, cls.corrections.get(name, name)] for path, label, name in made[part]
            ]
            for part in PARTS
        }
        write_json(rows, str(home / cls.split_file))
        numbers["split_md5"] = hashlib.md5((home / cls.split_file).read_bytes()).hexdigest()
    (home / MINIATURE).write_text(json.dumps({**told, cls.__name__: numbers}))
    return home


def main(arguments: list[str] | None = None) -> int:
    parser = Parser(
        description=__doc__,
        prog="python -m tools.miniatures",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("name", help="data set, or all")
    parser.add_argument("--root", required=True, type=inputs.path)
    parser.add_argument("--no-split", dest="split", action="store_false")
    return inputs.main(run, parser.parse_args(arguments))


def run(args: argparse.Namespace) -> int:
    chosen = (
        [cls for cls in prepared_classes().values() if cls.classes]
        if args.name == "all"
        else [find(args.name)]
    )
    for cls in tqdm(chosen, desc="miniatures"):
        make(cls, args.root, args.split)
    return 0


if __name__ == "__main__":
    sys.exit(main())
