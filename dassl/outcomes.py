"""What a test said about each image: outcomes_<split>.npz beside results.json. Without torch.

The file is compressed numpy without pickled objects. Scores are stored minus the image's highest
score, in half precision: all classes up to ALL_CLASSES, above it the KEPT highest with their class
numbers. Highest score, log of the sum of exponentials and the label's own score are in single
precision, so that negative log likelihood and confidence lose nothing to rounding, and the
predicted class is stored, since half precision can tie two classes.

The engine writes the file before results.json, so that a file of another run than results.json
tells is left only by a run that was cut off; `read` refuses such a file.
"""

import hashlib
import io
import json
import zipfile
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from dassl.errors import UserError
from dassl.files import is_file
from dassl.identity import same_run
from dassl.record import OUTCOMES

FORMAT = 1
ALL_CLASSES = 128  # scores of all classes up to so many, Food101's and Flowers102's among them
KEPT = 10  # scores of an image beyond that
AGAIN = "run the test again"
TIES = ("config_hash", "model_sha256", "loaded")  # that the file has in common with results.json
# What reading a file with wrong bytes ends in.
_DAMAGES = (
    *(ValueError, LookupError, TypeError, AttributeError, EOFError, RuntimeError, MemoryError),
    *(zipfile.BadZipFile, zlib.error),
)
_BRIEF = ("label", "predicted", "cluster")  # what a table reads
_OF_CLASSES = ("scores", "classes")  # two dimensions; others have one
_WHOLE = ("label", "domain", "predicted", "cluster", "classes")  # whole numbers
_ARRAYS = ("label", "domain", "predicted", "highest", "log_sum_exp", "own", "scores")


@dataclass(frozen=True, eq=False)
class Outcomes:
    """What a test said about N images of C classes, in the order of the data set.

    paths: relative to DATASET.ROOT, with slashes. label, domain, predicted: (N,) whole numbers.
    highest, log_sum_exp, own: (N,) float32, of an image's scores: the highest one, the log of the
    sum of exponentials, the label's one (-inf for a label without a score). scores: (N, C), or
    (N, KEPT) from the highest down, float16, minus `highest`. classes: (N, KEPT) the classes of
    `scores`, None if these are all. cluster: (N,) numbers of groups of images that are not
    independent, None if every image stands for itself. ties: which run the file is of.
    """

    split: str
    classnames: tuple[str, ...]
    ties: dict[str, Any]
    paths: tuple[str, ...]
    label: NDArray
    domain: NDArray
    predicted: NDArray
    highest: NDArray
    log_sum_exp: NDArray
    own: NDArray
    scores: NDArray
    classes: NDArray | None = None
    cluster: NDArray | None = None

    @property
    def correct(self) -> NDArray:
        """(N,) whether the predicted class is the label."""
        return self.predicted == self.label

    @property
    def negative_log_likelihood(self) -> NDArray:
        """(N,) float32, in nats."""
        return self.log_sum_exp - self.own

    @property
    def confidence(self) -> NDArray:
        """(N,) float32: the probability of the highest score."""
        return np.exp(self.highest - self.log_sum_exp)


@dataclass(frozen=True, eq=False)
class Hits:
    """Of N images: which were predicted right, their clusters, and which images they are.

    correct: (N,) bool. cluster: (N,) numbers from 0 without gap. images: SHA-256 of the paths, the
    labels and the clusters: equal for two tests on the same images.
    """

    correct: NDArray
    cluster: NDArray
    images: str


def place(folder: str | Path, split: str) -> Path:
    """The file of a run's folder."""
    return Path(folder, OUTCOMES.format(split))


def numbered(names: Sequence[str]) -> NDArray | None:
    """(N,) numbers of equal names, by first appearance; None if no two are equal."""
    numbers: dict[str, int] = {}
    found = [numbers.setdefault(name, len(numbers)) for name in names]
    return None if len(numbers) == len(found) else np.array(found, np.int32)


def write(file: IO[bytes], outcomes: Outcomes) -> None:
    """Write the bytes of the file; the same outcomes give the same bytes."""
    about = {
        "format": FORMAT,
        "split": outcomes.split,
        "classnames": outcomes.classnames,
        "images": _digest(outcomes),
        **outcomes.ties,
    }
    arrays = {name: getattr(outcomes, name) for name in _ARRAYS}
    more = {"classes": outcomes.classes, "cluster": outcomes.cluster}
    arrays |= {name: array for name, array in more.items() if array is not None}
    np.savez_compressed(file, about=_text(about), paths=_text(outcomes.paths), **arrays)


def read(folder: str | Path, split: str, record: dict) -> Outcomes:
    """The outcomes of the test of `split` that `record`, the results.json in `folder`, is of.

    Raises UserError for a file that is missing, damaged, of another format, or of another run.
    """
    about, arrays = _load(place(folder, split), split, record)
    paths = tuple(arrays.pop("paths"))
    ties = {key: about[key] for key in TIES}
    return Outcomes(split, tuple(about["classnames"]), ties, paths, **arrays)


def read_hits(folder: str | Path, split: str, record: dict) -> Hits:
    """As `read`, without paths and scores: a table reads a thousand files."""
    about, arrays = _load(place(folder, split), split, record, _BRIEF)
    correct = arrays["predicted"] == arrays["label"]
    cluster = arrays.get("cluster")
    every = np.arange(len(correct)) if cluster is None else cluster
    return Hits(correct, every, about["images"])


def brief(folder: str | Path, split: str, record: dict) -> bytes:
    """The bytes of a file with what `read_hits` needs and no more, for tools.archive.

    Not compressed: a thousand of them compress better together. Raises UserError as `read`.
    """
    about, arrays = _load(place(folder, split), split, record, _BRIEF)
    small = {name: array.astype(_least(array)) for name, array in arrays.items()}
    file = io.BytesIO()
    np.savez(file, about=_text({**about, "brief": True}), **small)
    return file.getvalue()


def _least(numbers: NDArray) -> np.dtype:
    """The smallest kind of whole number that holds all."""
    if not len(numbers):
        return np.dtype(np.uint8)
    return np.result_type(np.min_scalar_type(numbers.min()), np.min_scalar_type(numbers.max()))


def _text(content: object) -> NDArray:
    """JSON as an array of bytes: numpy's own text takes four bytes a letter."""
    return np.frombuffer(json.dumps(content).encode(), np.uint8)


def _digest(outcomes: Outcomes) -> str:
    cluster = outcomes.cluster
    known = [outcomes.paths, outcomes.label.tolist(), None if cluster is None else cluster.tolist()]
    return hashlib.sha256(json.dumps(known).encode()).hexdigest()


def _load(
    path: Path, split: str, record: dict, wanted: Sequence[str] = ()
) -> tuple[dict, dict[str, Any]]:
    """(about, arrays by name) of a file that fits `record`; without `wanted` all arrays.

    The file is read at once and closed.
    """
    if not is_file(path):
        raise UserError(f"'{path}' does not exist: {AGAIN} with TEST.SAVE_OUTCOMES True")
    try:
        content = io.BytesIO(path.read_bytes())
        with np.load(content, allow_pickle=False) as stored:
            about = json.loads(stored["about"].tobytes())
            if about["format"] != FORMAT:
                raise UserError(
                    f"'{path}' has format {about['format']} and this version reads format "
                    f"{FORMAT}: use the version that wrote the file, or {AGAIN}"
                )
            names_of_classes, _ = about["classnames"], about["images"]
            if about.get("brief") and not wanted:
                raise UserError(
                    f"'{path}' comes from an archive and tells which class each image was given, "
                    f"but no scores: {AGAIN}"
                )
            names = [name for name in stored.files if name in wanted or not wanted]
            arrays = {name: stored[name] for name in names if name != "about"}
        if "paths" in arrays:
            arrays["paths"] = json.loads(arrays["paths"].tobytes())
        _check_whole(arrays, wanted, len(names_of_classes))
        _check_same(path, split, record, about, arrays)
    except OSError as error:
        if error.errno is None:  # numpy's word for what is no file of its own
            raise UserError(f"'{path}' is damaged ({error}): {AGAIN}") from None
        raise UserError(
            f"'{path}' cannot be read ({error.strerror}): correct its rights, or look after the "
            "disk"
        ) from None
    except _DAMAGES as error:
        raise UserError(f"'{path}' is damaged ({error}): {AGAIN}") from None
    return about, arrays


def _check_whole(arrays: dict[str, Any], wanted: Sequence[str], classes: int) -> None:
    """Raise ValueError unless every array is there, of its kind and shape, and of as many images
    as the others.
    """
    needed = [name for name in ("paths", *_ARRAYS) if name in wanted or not wanted]
    if missing := [name for name in needed if name not in arrays]:
        raise ValueError(f"it lacks {missing[0]}")
    if unknown := sorted(arrays.keys() - {"paths", "classes", *_ARRAYS, *_BRIEF}):
        raise ValueError(f"it has an unknown array {unknown[0]}")
    if len({len(array) for array in arrays.values()}) > 1:
        raise ValueError("its arrays are of different numbers of images")
    if not len(arrays["label"]):
        raise ValueError("it holds no images")
    for name, array in arrays.items():
        if name == "paths":
            continue
        if array.ndim != (2 if name in _OF_CLASSES else 1):
            raise ValueError(f"its {name} has {array.ndim} dimensions")
        if array.dtype.kind not in ("iu" if name in _WHOLE else "f"):
            raise ValueError(f"its {name} holds {array.dtype} numbers")
        if name not in _WHOLE and np.isnan(array).any():
            raise ValueError(f"its {name} has values that are no numbers")
    if (arrays["label"] < 0).any():
        raise ValueError("it has labels below 0")
    if "scores" in arrays:
        kept = arrays["classes"].shape[1] if "classes" in arrays else classes
        if arrays["scores"].shape[1] != kept:
            raise ValueError(f"it has {arrays['scores'].shape[1]} scores of an image, not {kept}")


def _check_same(path: Path, split: str, record: dict, about: dict, arrays: dict[str, Any]) -> None:
    """Raise UserError if the file is of another run, model or split than the record."""
    metrics = record.get("metrics", {}).get(split, {})
    ours = {
        "split": about["split"],
        **{key: about[key] for key in TIES},
        "total": len(arrays["label"]),
        "correct": int((arrays["predicted"] == arrays["label"]).sum()),
    }
    theirs = {"split": split, **{key: record.get(key) for key in TIES}}
    theirs |= {key: metrics.get(key, ours[key]) for key in ("total", "correct")}
    for key, value in ours.items():
        same = value == theirs[key]
        if key == "config_hash" and isinstance(value, str):
            same = same_run(theirs[key], value)
        if not same:
            raise UserError(
                f"'{path}' is of another run than the results.json beside it ({key} is {value!r} "
                f"there and {theirs[key]!r} here): {AGAIN}"
            )
