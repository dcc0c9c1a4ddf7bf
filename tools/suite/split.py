"""How the suite's drawings are put into families, and families into parts.

The rules, fixed before any model was trained on a table (of the second deal, docs/review.md):

* a drawing belongs to a family: drawings of one name but for numbers and styles, and drawings that
  look nearly the same (`near_copies`), whatever they are called; a family stays in one part;
* a family in two classes is left out; a family keeps at most 24 drawings, a class a number of them;
* of a class, families are dealt in the order of hashes of their names, whatever their sizes: to
  validation until it has 15 drawings, to training until it has the larger of 24 (three times eight
  shots) and a third of the rest, and to the test;
* a class with less than 24 training, 15 validation or ten test drawings, or less than ten families,
  is left out.
"""

import hashlib
import re
import sys
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable

import numpy as np

from datasets.suite import Table

NUMBERS = "one|two|three|four|five|six|seven|eight|nine|ten"
VARIANTS = (
    f"{NUMBERS}|\\d+|outline|outlined|filled|fill|line|linear|solid|bold|duotone|broken|light|thin|"
    "square|circle|rounded|round|alt|variant|remix|minimalistic|h|v|off|slash|left|right|up|down"
)
SHOTS, VALIDATION, FAMILIES, TEST = 8, 15, 10, 10
LARGEST = 24  # drawings of a family that are kept
ALIKE = 0.94  # cosine of two thumbnails from which drawings are near-copies
THUMBNAIL = 16  # pixels


def name_family(name: str) -> str:
    """Variants of one drawing by name: numbered, filled, rounded, turned."""
    return re.sub(rf"(-({VARIANTS}))+(?=-|$)", "", name) or name


def thumbnails(pictures: Iterable) -> np.ndarray:
    """(N, T * T): grey, ink minus its mean, unit norm; the drawing's box fills the thumbnail."""
    rows = []
    for picture in pictures:
        grey = 255 - np.asarray(picture.convert("L"), float)
        lines, columns = np.nonzero(grey > 25)
        if len(lines):
            box = (columns.min(), lines.min(), columns.max() + 1, lines.max() + 1)
            picture = picture.crop(box)
        small = picture.convert("L").resize((THUMBNAIL, THUMBNAIL), 4)
        ink = 255 - np.asarray(small, float).ravel()
        ink -= ink.mean()
        rows.append(ink / max(float(np.linalg.norm(ink)), 1e-6))
    return np.array(rows)


def near_copies(features: np.ndarray, least: float = ALIKE) -> list[tuple[int, int]]:
    """Pairs of rows whose cosine is at least `least`."""
    pairs = []
    for start in range(0, len(features), 512):
        cosine = features[start : start + 512] @ features.T
        first, second = np.nonzero(cosine >= least)
        pairs += [(int(a + start), int(b)) for a, b in zip(first, second) if a + start < b]
    return pairs


class Families:
    """Disjoint sets of drawings, joined pair by pair."""

    def __init__(self) -> None:
        self.parent: dict[str, str] = {}

    def root(self, key: str) -> str:
        while self.parent.setdefault(key, key) != key:
            key = self.parent[key]
        return key

    def join(self, first: str, second: str) -> None:
        a, b = sorted((self.root(first), self.root(second)))
        self.parent[b] = a


def order(label: str, key: str) -> str:
    return hashlib.sha256(f"{label}/{key}".encode()).hexdigest()


def training(total: int) -> int:
    """Drawings for training, of a class of so many."""
    return max(3 * SHOTS, (total - VALIDATION) // 3)


def deal(
    rows: Table,
    family: dict[str, str],
    most: int,
    training: Callable[[int], int] = training,
    least: int = 3 * SHOTS,
) -> Table:
    """The rows that are kept, with "family" and "split"; least: drawings for training."""
    classes: dict[str, dict[str, list[str]]] = defaultdict(lambda: defaultdict(list))
    for key, row in rows.items():
        classes[row["class"]][family[key]].append(key)
    owners = Counter(name for members in classes.values() for name in members)
    kept: dict[str, dict] = {}
    for label in sorted(classes):
        members = {name: keys for name, keys in classes[label].items() if owners[name] == 1}
        parts = split_of(label, members, most, training)
        counts = {part: len(keys) for part, keys in parts.items()}
        small = counts["val"] < VALIDATION or counts["train"] < least or counts["test"] < TEST
        if small or len(members) < FAMILIES:
            sys.stdout.write(f"  left out: {label} {counts}, {len(members)} families\n")
            continue
        for part, keys in parts.items():
            kept |= {key: {**rows[key], "family": family[key], "split": part} for key in keys}
    return kept


def split_of(
    label: str, members: dict[str, list[str]], most: int, training: Callable[[int], int]
) -> dict[str, list[str]]:
    """{part: drawings} of a class.

    One order of the families, cut in three, whatever the sizes of the families: what is validated
    is drawn as what is tested.
    """
    dealt: list[list[str]] = []
    total = 0
    for name in sorted(members, key=lambda key: order(label, key)):
        keys = sorted(members[name], key=lambda key: order(label, key))[:LARGEST]
        if total == most:
            break
        dealt.append(keys[: most - total])
        total += len(dealt[-1])
    wanted = {"val": VALIDATION, "train": training(total)}
    parts: dict[str, list[str]] = {"val": [], "train": [], "test": []}
    for keys in dealt:
        part = next((p for p, number in wanted.items() if len(parts[p]) < number), "test")
        parts[part] += keys
    return parts
