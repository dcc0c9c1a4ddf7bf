"""A folder or table of somebody's own photos: what is there, and a split that copies do not cross.

Used by tools.fit. Nothing here writes into the folder of photos.

Two photos are copies if their bytes are the same, or if they are near copies: one is as bright as
the other after a factor of at most BRIGHTER, and small versions of SMALL x SMALL pixels then have
grey values with a cosine of at least ALIKE and colours that differ by at most SHADES on average.
That holds for a photo and its resized, recompressed or brightened version, and for the pictures of
a burst.
"""

import hashlib
import os
import unicodedata
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from tqdm import tqdm

import datasets
from dassl import files
from dassl.config import get_cfg_default
from dassl.errors import UserError
from dassl.utils import read_image
from datasets.base import PARTS, Rows
from datasets.files import (
    EXTENSIONS,
    HEIC,
    JUNK_FOLDERS,
    RAW,
    VIDEOS,
    is_utf8,
    list_folder,
    list_images,
    same_for_clip,
    shown,
    stripped,
    text_for_clip,
    why_not_read,
    why_unread,
)
from datasets.sets.csv_table import CSV
from datasets.sets.imagefolder import ImageFolder, part_of
from tools.inputs import InputError, comma_separated
from tools.suite.split import Families

SMALL, FINE = 16, 32  # FINE: pixels of a side at which brightness is fitted, since highlights clip
ALIKE, SHADES = 0.98, 10.0
BRIGHTER = 1.7  # from 80% to 130% of a photo's brightness, and a little more
WHITE = 250  # of 255: from here on a brighter version may be cut off
MAYBE = 0.85  # cosine of photos with cut highlights from which they are fitted and compared
DEPTH = 3  # folders below the given one in which class folders are looked for
ENOUGH_TO_CHOOSE = 100  # validation photos: fewer tell epochs apart by chance
PATH = "correct the path of the photos"
TABLES = (".csv", ".tsv", ".txt")


@dataclass(frozen=True)
class Photo:
    """One photo. path: absolute. name: its class. part: as the user has it, "" without parts.

    digest: SHA-256 of its bytes, once they are read.
    """

    path: str
    name: str
    part: str
    digest: str = ""


@dataclass
class Photos:
    """The photos of a folder or table. notes: what the user ought to know, one sentence each."""

    place: Path
    rows: list[Photo]
    notes: list[str] = field(default_factory=list)

    @property
    def names(self) -> list[str]:
        return sorted({row.name for row in self.rows})


# The folder


def homes(folder: Path, depth: int = DEPTH) -> list[Path]:
    """The topmost folders at or below `folder` with subfolders that hold pictures themselves.

    The parts train, val and test of a folder count for that folder.
    """
    inside = list_folder(str(folder), PATH).folders
    if any(list_folder(str(folder / name), PATH).pictures for name in inside):
        return [folder]
    if depth == 0:
        return []
    below = [home for name in inside for home in homes(folder / name, depth - 1)]
    return list(dict.fromkeys(one.parent if part_of(one.name) else one for one in below))


def classes_beside(folder: Path) -> list[str]:
    """Names of `folder` and its neighbours that hold pictures, if they look like classes."""
    folder = folder.resolve()
    try:
        inside = list_folder(str(folder.parent), PATH)
        names = [
            name
            for name in inside.folders
            if name == folder.name or list_folder(str(folder.parent / name), PATH).pictures
        ]
    except UserError:  # folders that may not be read are nothing to propose
        return []
    return names if len(names) > 1 and not inside.pictures else []


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return ", ".join(map(shown, names[:3])) + more


def _above(folder: Path) -> str:
    """The remedy where a class folder was given, "" where its neighbours are no classes."""
    if names := classes_beside(folder):
        parent = folder.resolve().parent
        return f"give the folder above, '{parent}', whose folders are the classes {_listed(names)}"
    return ""


def check_layout(folder: Path, nested: bool) -> None:
    """Raise InputError, naming the right folder, unless `folder` holds class folders.

    nested: folders of folders are classes.
    """
    inside = list_folder(str(folder), PATH)
    if not inside.folders:
        if not inside.pictures:
            raise InputError(
                f"'{folder}' holds no photos{_unread(folder)}: put those of each class into a "
                "folder of its own, named like the class"
            )
        remedy = _above(folder) or (
            "put those of each class into a folder of its own, named like the class"
        )
        raise InputError(
            f"'{folder}' holds {len(inside.pictures)} photo(s) but no class folders: {remedy}"
        )
    found = homes(folder)
    if nested or not found:
        return
    if found == [folder] or any(map(part_of, inside.folders)):
        _check_class_folders(folder)
        return
    first = found[0]
    inner = _listed([name for name in list_folder(str(first), PATH).folders])
    if len(found) == 1:
        raise InputError(
            f"'{folder}' is a folder above the class folders ({inner}): give '{first}', or add "
            "--nested if the folders in it are the classes"
        )
    raise InputError(
        f"'{folder}' holds {len(found)} folders of class folders, first '{first}' with {inner}: "
        f"give one of them, such as '{first}', or add --nested if they are the classes"
    )


def class_folders(folder: Path) -> list[Path]:
    """The class folders of `folder`, or of its parts train, val and test, if it has them."""

    def inside(place: Path) -> list[Path]:
        return [place / name for name in list_folder(str(place), PATH).folders]

    parts = [inside(place) for place in inside(folder) if part_of(place.name)]
    return [place for part in parts for place in part] or inside(folder)


def _check_class_folders(folder: Path) -> None:
    """Raise InputError for a class folder that holds nothing but folders of pictures.

    It lies beside classes and may hold classes itself, such as those of last year.
    """
    for place in class_folders(folder):
        inside = list_folder(str(place), PATH)
        if inside.pictures or part_of(place.name):
            continue
        if full := [name for name in inside.folders if list_images(str(place / name))]:
            raise InputError(
                f"'{place}' lies beside class folders and holds no photos itself, but folders of "
                f"photos ({_listed(full)}): move it away if these are classes, or add --nested if "
                f"'{shown(place.name)}' is a class"
            )


def notes_on_nested(folder: Path) -> list[str]:
    """How many photos lie in folders within class folders that hold photos themselves."""
    deep = [
        place / name
        for place in class_folders(folder)
        if list_folder(str(place), PATH).pictures and list_folder(str(place), PATH).folders
        for name in list_images(str(place))
        if "/" in name
    ]
    if not deep:
        return []
    first = shown(os.path.relpath(deep[0], folder))
    return [
        f"{len(deep)} photo(s) lie in folders within class folders, first '{first}', and are taken "
        "for photos of that class: move them away if they are none"
    ]


def _files(folder: Path, endings: tuple[str, ...]) -> Iterator[str]:
    """Paths of visible files with these endings, relative to `folder`, in order."""
    for top, folders, names in os.walk(folder):
        folders[:] = sorted(
            name for name in folders if name[0] != "." and name.lower() not in JUNK_FOLDERS
        )
        for name in sorted(names):
            if name.lower().endswith(endings) and not name.startswith("."):
                yield os.path.relpath(os.path.join(top, name), folder)


def _unread(folder: Path) -> str:
    """ ", but videos" and the like, of what a folder without pictures holds instead."""
    for what, endings in (("HEIC photos", HEIC), ("RAW photos", RAW), ("videos", VIDEOS)):
        for name in _files(folder, endings):
            return f" but {what}, first '{shown(name)}' ({why_not_read(name)})"
    return ""


def check_kinds(folder: Path) -> list[str]:
    """Notes on RAW and videos. Raises InputError for HEIC photos that nothing here can read.

    They lie beside photos in most cameras and phones, so that they are no reason to stop.
    """
    heic = [] if HEIC[0] in EXTENSIONS else list(_files(folder, HEIC))
    if heic:
        raise InputError(
            f"'{folder}' holds {len(heic)} HEIC photo(s), first '{shown(heic[0])}': "
            f"{why_not_read(heic[0])}"
        )
    for name in list_folder(str(folder), PATH).folders:
        if not list_images(str(folder / name)) and _unread(folder / name):
            raise InputError(
                f"class folder '{folder / name}' holds no photos{_unread(folder / name)}"
            )
    notes = []
    for what, endings in (("RAW photo(s)", RAW), ("video(s)", VIDEOS)):
        if names := list(_files(folder, endings)):
            first = f"first '{shown(names[0])}'"
            notes.append(f"{len(names)} {what} are left out, {first}: {why_not_read(names[0])}")
    return notes


# Reading


def _configuration(place: Path):
    cfg = get_cfg_default()
    datasets.extend_cfg(cfg)
    is_table = not place.is_dir()
    cfg.DATASET.ROOT = str(place.parent if is_table else place)
    if is_table:
        cfg.DATASET.CSV = place.name
    return cfg


def read(place: Path, nested: bool = False, least: int = 2) -> Photos:
    """The photos of a folder of class folders, or of a table, of `least` classes or more.

    Raises InputError or UserError for what cannot be meant; the sentence names folder and remedy.
    """
    place = Path(files.absolute(str(place)))
    if not place.exists():
        raise InputError(f"'{place}' does not exist: {PATH}")
    notes: list[str] = []
    if place.is_dir():
        check_layout(place, nested)
        notes += check_kinds(place) + notes_on_nested(place)
        root, parts = place, ImageFolder.rows_of(_configuration(place))
    elif place.suffix.lower() in TABLES:
        root, parts = place.parent, CSV.rows_of(_configuration(place))
    else:
        raise InputError(
            f"'{place}' is neither a folder of photos nor a table (.csv): give the folder that "
            "holds one folder per class"
        )
    photos = Photos(place, _photos(root, parts), notes)
    _check_names(photos, least)
    _check_labels(photos, [row for rows in parts.values() for row in rows])
    return photos


def _photos(root: Path, parts: dict[str, Rows]) -> list[Photo]:
    return [
        Photo(files.straight(os.path.join(root, row[0])), row[2], part if part in PARTS else "")
        for part, rows in parts.items()
        for row in rows
    ]


def _check_names(photos: Photos, least: int) -> None:
    """Raise InputError for fewer classes than `least`, classes of one name, names that are no word,
    and names that a table cannot hold.
    """
    names = photos.names
    if len(names) < least:
        one = f" only, '{shown(names[0])}'" if names else ""
        remedy = "add a folder with photos of something else, since a model chooses between classes"
        if photos.place.is_dir() and (above := _above(photos.place)):
            remedy += f"; if '{shown(photos.place.name)}' is a class itself, {above}"
        raise InputError(f"'{photos.place}' has one class{one}: {remedy}")
    if blank := [name for name in names if not text_for_clip(name)]:
        raise InputError(
            f"'{photos.place}' has the class name '{shown(blank[0])}', which is no word: rename "
            f"the {'folder' if photos.place.is_dir() else 'class'}"
        )
    for same in same_for_clip(names):
        raise InputError(
            f"'{photos.place}' has the classes '{shown(same[0])}' and '{shown(same[1])}', which "
            "are one name for CLIP (it ignores case, underscores and how accents are encoded): "
            "put their photos into one folder, or rename one"
        )
    for name in names:
        if not is_utf8(name) or stripped(name) != name:
            raise InputError(
                f"'{photos.place}' has the class name '{shown(name)}', which is not UTF-8 or has "
                "invisible signs at an end: rename the folder"
            )
    for row in photos.rows:
        if not is_utf8(row.path) or stripped(row.path) != row.path or set("\r\n\0") & set(row.path):
            raise InputError(
                f"'{shown(row.path)}' has a name that is not UTF-8, has a line break, or ends in a "
                "blank: rename it"
            )


def _check_labels(photos: Photos, rows: Rows) -> None:
    """Raise InputError for two labels of one name, as a table can have; note unused domains."""
    labels: dict[str, int] = {}
    for row in rows:
        if labels.setdefault(row[2], row[1]) != row[1]:
            raise InputError(
                f"'{photos.place}' gives two labels the class name '{shown(row[2])}', by which "
                "CLIP knows a class: give each label a name of its own"
            )
    if len({row[3] for row in rows if len(row) > 3}) > 1:
        photos.notes.append(f"the domains or groups of '{photos.place}' are not used here")


# Copies


@dataclass
class Contents:
    """digests: {path: SHA-256}. pictures: (N, FINE, FINE, 3) in 0..255, in the order of `digests`.

    unreadable: {path: why}.
    """

    digests: dict[str, str]
    pictures: NDArray[np.uint8]
    unreadable: dict[str, str]

    @cached_property
    def near(self) -> list[tuple[str, str]]:
        """Pairs of near copies, of whatever classes."""
        paths = list(self.digests)
        return [(paths[one], paths[other]) for one, other in near_copies(self.pictures)]


def contents(paths: Sequence[str]) -> Contents:
    """Read every photo once, with a progress bar. Files that are no pictures are `unreadable`."""
    digests: dict[str, str] = {}
    unreadable: dict[str, str] = {}
    pictures: list[NDArray] = []
    for path in tqdm(paths, desc="reading photos", unit="photo", leave=False, disable=None):
        try:
            picture = read_image(path, (2 * FINE, 2 * FINE), "white", True)
        except UserError as error:
            unreadable[path] = why_unread(path, error)
            continue
        with open(path, "rb") as file:
            digests[path] = hashlib.sha256(file.read()).hexdigest()
        pictures.append(np.asarray(picture.resize((FINE, FINE), Image.Resampling.BOX)))
    return Contents(digests, np.array(pictures, np.uint8), unreadable)


def _small(pictures: NDArray) -> NDArray:
    """(N, FINE, FINE, 3) -> (N, SMALL * SMALL, 3), means of squares."""
    side = FINE // SMALL
    squares = pictures.reshape(-1, SMALL, side, SMALL, side, 3)
    return squares.mean((2, 4), dtype=np.float32).reshape(-1, SMALL * SMALL, 3)


def shapes(small: NDArray) -> NDArray:
    """(N, P, 3) -> (N, P): grey values minus their mean, of unit norm; 0 for a plain picture."""
    grey = small.mean(2)
    grey -= grey.mean(1, keepdims=True)
    return grey / np.maximum(np.linalg.norm(grey, axis=1, keepdims=True), 1e-6)


def near_copies(pictures: NDArray[np.uint8]) -> list[tuple[int, int]]:
    """Pairs of near copies among (N, FINE, FINE, 3)."""
    if not len(pictures):
        return []
    small = _small(pictures)
    shape = shapes(small)
    cut = (pictures >= WHITE).mean((1, 2, 3)) > 0.01
    pairs: list[tuple[int, int]] = []
    for start in range(0, len(pictures), 256):
        rows = slice(start, start + 256)
        # Without cut highlights brightness changes no shape, but for how pixels are rounded.
        least = np.where(cut[rows, None] | cut, MAYBE, ALIKE - 0.01)
        one, other = np.nonzero(shape[rows] @ shape.T >= least)
        one += start
        one, other = one[one < other], other[one < other]
        for first in range(0, len(one), 256):  # as many as a processor's cache holds
            a, b = one[first : first + 256], other[first : first + 256]
            near = np.einsum("bp,bp->b", shape[a], shape[b]) >= ALIKE
            near &= np.abs(small[a] - small[b]).mean((1, 2)) <= SHADES
            # Most others are sorted out while they are small: there can be millions.
            left = np.flatnonzero(~near)
            left = left[_as_bright(small[a[left]], small[b[left]], 0.9, 1.5 * SHADES)]
            left = left[_as_bright(pictures[a[left]], pictures[b[left]], ALIKE, SHADES)]
            near[left] = True
            pairs += zip(a[near].tolist(), b[near].tolist(), strict=True)
    return pairs


def _look_alike(one: NDArray, other: NDArray, least: float, shades: float) -> NDArray[np.bool_]:
    """(B,): whether stacks (B, SMALL * SMALL, 3) have shapes and colours that are nearly equal."""
    cosine = np.einsum("bp,bp->b", shapes(one), shapes(other))
    return (cosine >= least) & (np.abs(one - other).mean((1, 2)) <= shades)


def _as_bright(one: NDArray, other: NDArray, least: float, shades: float) -> NDArray[np.bool_]:
    """`_look_alike` of the lighter picture of each pair and the other, made as bright.

    Both stacks are (B, FINE, FINE, 3) or (B, SMALL * SMALL, 3).
    """
    if not len(one):
        return np.zeros(0, bool)
    a, b = (picture.reshape(len(one), -1).astype(np.float32) for picture in (one, other))
    swapped = (a.mean(1) > b.mean(1))[:, None]
    dark, light = np.where(swapped, b, a), np.where(swapped, a, b)
    whole = _sum(dark, dark)
    factor = _sum(dark, light) / np.maximum(whole, 1.0)
    for _ in range(3):  # what the factor cuts off at white says nothing about it
        inside = np.where((light < WHITE) & (factor * dark < 255), dark, 0)
        left = _sum(inside, dark)
        # Black lines on white leave nothing to fit: they are as black at any factor.
        enough = left > 0.05 * whole
        factor = np.where(enough, _sum(inside, light) / np.maximum(left, 1.0), factor)
    brightened, other = (
        _small(stack) if one.ndim == 4 else stack.reshape(one.shape)
        for stack in (np.minimum(255, factor * dark), light)
    )
    return (factor[:, 0] <= BRIGHTER) & _look_alike(brightened, other, least, shades)


def _sum(one: NDArray, other: NDArray) -> NDArray:
    """(B, P) twice -> (B, 1): the sums of their products."""
    return np.einsum("bp,bp->b", one, other)[:, None]


def families_of(photos: Sequence[Photo], found: Contents, exact: bool) -> dict[str, str]:
    """{path: family}: copies have one family. exact: only files of the same bytes are copies."""
    families, first = Families(), dict[str, str]()
    for path in found.digests:
        families.join(path, first.setdefault(found.digests[path], path))
    names = {photo.path: photo.name for photo in photos}
    for one, other in [] if exact else found.near:
        # What the user put into two classes is no copy, however alike it looks.
        if names.get(one) == names.get(other):
            families.join(one, other)
    return {path: families.root(path) for path in found.digests}


def check_readable(photos: Photos, unreadable: dict[str, str], skip: bool) -> list[Photo]:
    """The photos that can be read, with a note on the others.

    Raises InputError for others unless `skip`.
    """
    if unreadable and not skip:
        path, first = next(iter(unreadable.items()))
        remedy = ": restore or delete them"
        if why := why_not_read(path):
            first, remedy = f"'{shown(path)}'", f": {why}"
        raise InputError(
            f"{len(unreadable)} of {len(photos.rows)} photo(s) cannot be read, first {first}"
            f"{remedy}, or leave them out with --skip-unreadable"
        )
    photos.notes += [f"left out: {why}" for why in unreadable.values()]
    return [row for row in photos.rows if row.path not in unreadable]


def check_classes_of_copies(photos: Sequence[Photo], digests: dict[str, str]) -> None:
    """Raise InputError if photos of two classes have the same bytes."""
    first: dict[str, Photo] = {}
    twins = [
        (one, photo)
        for photo in photos
        if (one := first.setdefault(digests[photo.path], photo)).name != photo.name
    ]
    if twins:
        one, other = twins[0]
        raise InputError(
            f"{len(twins)} photo(s) lie in two classes, first '{shown(one.path)}' of "
            f"'{shown(one.name)}', which is '{shown(other.path)}' of '{shown(other.name)}': delete "
            "the copy in the wrong class"
        )


def note_on_near_copies(photos: Sequence[Photo], found: Contents) -> list[str]:
    """A note on photos that look like photos of another class.

    Other than files of the same bytes they may be right: photos of alike things look alike.
    """
    names = {photo.path: photo.name for photo in photos}
    across = [(a, b) for a, b in found.near if names.get(a, "") != names.get(b, "")]
    if not across:
        return []
    one, other = across[0]
    return [
        f"{len({path for pair in across for path in pair})} photo(s) look like a photo of another "
        f"class, first '{shown(one)}' of '{shown(names[one])}' and '{shown(other)}' of "
        f"'{shown(names[other])}': if they are copies, delete the one in the wrong class"
    ]


# The split


def split(
    photos: Photos, test: Photos | None = None, exact: bool = False, skip: bool = False
) -> list[tuple[Photo, str]]:
    """(photo, part) of all photos that are used; what is left out is in `photos.notes`.

    Copies are on one side, and the same bytes count once. Where the user has no parts, a class
    gives 30% of its families to the test, at least one, if `test` has no photos for it; 20% to the
    validation part, if the folder has ENOUGH_TO_CHOOSE photos for that; the rest to training.
    Raises InputError for copies across classes, unreadable photos, and a class that is too small.
    """
    if test:
        test = _of_same_classes(photos, test)
    elif {row.part for row in photos.rows} == {"train", "val"}:
        photos.notes.append("there is no test part: the validation part is tested")
        part = {"train": "train", "val": "test"}
        photos.rows = [replace(row, part=part[row.part]) for row in photos.rows]
    every = [*photos.rows, *(test.rows if test else ())]
    found = contents(list(dict.fromkeys(row.path for row in every)))
    whole = Photos(photos.place, every, photos.notes)
    every = check_readable(whole, found.unreadable, skip)
    check_classes_of_copies(every, found.digests)
    families = families_of(every, found, exact)
    photos.notes += [] if exact else note_on_near_copies(every, found)
    ours = {row.path for row in photos.rows}
    own = [row for row in every if row.path in ours and row.part != "test"]
    given = [row for row in every if row.path not in ours or row.part == "test"]
    given = _once(given, found.digests, photos.notes)
    tested = {families[row.path] for row in given}
    kept = [row for row in own if families[row.path] not in tested]
    if len(kept) < len(own):
        photos.notes.append(
            f"{len(own) - len(kept)} photo(s) look like test photos, first "
            f"'{shown(next(row.path for row in own if families[row.path] in tested))}', and are "
            "not trained on"
        )
    kept = _once(kept, found.digests, photos.notes)
    has_parts = any(row.part == "val" for row in kept)
    choose = not has_parts and 0.2 * len(kept) >= ENOUGH_TO_CHOOSE
    dealt = [(row, "test") for row in given]
    for name in photos.names:
        groups: dict[str, list[Photo]] = defaultdict(list)
        for row in (row for row in kept if row.name == name):
            groups[families[row.path]].append(row)
        if not groups:
            _refuse_without_training(photos, name, sum(row.name == name for row in own), test)
        dealt += _deal(photos, name, list(groups.values()), found.digests, bool(given), choose)
    if not given and any(row.part for row in kept):
        count = sum(part == "test" for _, part in dealt)
        photos.notes.append(
            f"'{photos.place}' names parts but no test photos: {count} of its {len(dealt)} photos "
            "are tested on and not learned from"
        )
    return [(replace(row, digest=found.digests[row.path]), part) for row, part in dealt]


def _of_same_classes(photos: Photos, test: Photos) -> Photos:
    """`test` with the class names of `photos`, which may encode accents otherwise.

    Raises InputError for a test class that is not learned; notes classes without a test.
    """
    ours = {unicodedata.normalize("NFC", name): name for name in photos.names}
    theirs = {name: ours.get(unicodedata.normalize("NFC", name), "") for name in test.names}
    if other := [name for name, known in theirs.items() if not known]:
        raise InputError(
            f"--test '{test.place}' has the class '{shown(other[0])}', which '{photos.place}' "
            "lacks: rename its folder, or add photos to learn it from"
        )
    if any(row.part == "test" for row in photos.rows):
        raise InputError(
            f"'{photos.place}' has a test part of its own: leave --test out, or take that part away"
        )
    if lacking := sorted(set(photos.names) - set(theirs.values())):
        photos.notes.append(f"--test has no photo of {len(lacking)} class(es): {_listed(lacking)}")
    photos.notes += test.notes
    rows = [replace(row, name=theirs[row.name], part="test") for row in test.rows]
    return Photos(test.place, rows)


def _refuse_without_training(photos: Photos, name: str, count: int, test: Photos | None) -> None:
    """Raise InputError for a class whose photos are all tested, `count` of them unasked."""
    of_class = f"of class '{shown(name)}' of '{photos.place}'"
    if not count:
        raise InputError(
            f"all photos {of_class} are in the test part: put some into the part train"
        )
    other = f"give other --test photos than '{test.place}'" if test else "test it on other photos"
    raise InputError(f"all {count} training photos {of_class} look like test photos: {other}")


def _once(rows: list[Photo], digests: dict[str, str], notes: list[str]) -> list[Photo]:
    """Each content once, the first path; a note counts the others."""
    first: dict[str, Photo] = {}
    again = [row for row in rows if first.setdefault(digests[row.path], row) is not row]
    if again:
        one = first[digests[again[0].path]]
        notes.append(
            f"{len(again)} photo(s) are the same file once more, first '{shown(again[0].path)}' "
            f"('{shown(one.path)}'): each is taken once"
        )
    return list(first.values())


def _deal(
    photos: Photos,
    name: str,
    groups: list[list[Photo]],
    digests: dict[str, str],
    has_test: bool,
    choose: bool,
) -> list[tuple[Photo, str]]:
    """The photos of a class with their parts. Large families train, so that test photos differ."""
    count = sum(map(len, groups))
    if any(row.part for group in groups for row in group) and has_test:
        return [(row, row.part or "train") for group in groups for row in group]
    least = 1 if has_test else 2
    if len(groups) < least:
        alike = f", which are copies of {len(groups)}" if count > len(groups) else ""
        remedy = "add photos, take the class out" + (
            ""
            if has_test or count == len(groups)
            else ", or count only files of the same bytes as copies with --exact-copies"
        )
        raise InputError(
            f"class '{shown(name)}' of '{photos.place}' has {count} photo(s){alike}, and one to "
            f"learn from{'' if has_test else ' and one to test on'} are needed: {remedy}"
        )
    order = sorted(groups, key=lambda group: (-len(group), min(digests[r.path] for r in group)))
    tests = 0 if has_test else max(1, round(0.3 * len(order)))
    validation = round(0.2 * len(order)) if choose and len(order) > 4 else 0
    parts = ["train"] * (len(order) - tests - validation) + ["val"] * validation + ["test"] * tests
    return [(row, part) for group, part in zip(order, parts, strict=True) for row in group]


def table(dealt: Sequence[tuple[Photo, str]]) -> str:
    """The split as a table that `datasets.sets.csv_table.CSV` reads, with absolute paths."""
    in_order = sorted(dealt, key=lambda pair: (PARTS.index(pair[1]), pair[0].path))
    rows = [[photo.path, photo.name, part] for photo, part in in_order]
    return comma_separated(["path", "classname", "split"], rows)


def drawn(
    dealt: Sequence[tuple[Photo, str]], shots: int, notes: list[str]
) -> list[tuple[Photo, str]]:
    """At most `shots` training photos of a class, by their order in `dealt`, and all others."""
    seen: dict[str, int] = defaultdict(int)
    kept = []
    for photo, part in dealt:
        seen[photo.name] += part == "train"
        if part != "train" or seen[photo.name] <= shots:
            kept.append((photo, part))
    if lost := len(dealt) - len(kept):
        notes.append(f"{lost} training photo(s) are not used, as --shots {shots} asks")
    return kept
