"""What a data set is: lists of Datum for training, validation and test."""

import hashlib
import logging
import os.path as osp
import random
import tarfile
import zipfile
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field, fields

from PIL import Image
from torch import Tensor

from dassl.printable import CONTROL
from dassl.utils import UserError, check_availability, download_url

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Datum:
    """One image: path, class index, domain index, class name.

    Data sets written for upstream Dassl also read its private attributes (`_impath`, ...), and
    their few-shot pickles hold these.
    """

    impath: str = ""
    label: int = 0
    domain: int = 0
    classname: str = ""

    @property
    def _impath(self) -> str:
        return self.impath

    @property
    def _label(self) -> int:
        return self.label

    @property
    def _domain(self) -> int:
        return self.domain

    @property
    def _classname(self) -> str:
        return self.classname

    def __getstate__(self) -> dict:
        names = {name: f"_{name}" for name in FIELDS}
        return {names.get(key, key): value for key, value in vars(self).items()}

    def __setstate__(self, state: dict) -> None:
        names = {f"_{name}": name for name in FIELDS}
        vars(self).update({names.get(key, key): value for key, value in state.items()})


FIELDS = tuple(one.name for one in fields(Datum))


@dataclass(frozen=True)
class Picture(Datum):
    """An image that a program holds in memory; `impath` only names it in messages.

    picture: a PIL image, which is transformed as one from a file is, or a tensor (3, H, W), which
    is taken as it is.
    """

    picture: Image.Image | Tensor | None = field(default=None, repr=False, compare=False)

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the kind, the size and the content of the picture."""
        held = self.picture
        if isinstance(held, Tensor):
            kind, content = f"{held.dtype} {tuple(held.shape)}", held.cpu().contiguous().numpy()
        else:
            colours = held.convert("RGBA") if held.mode == "P" else held  # with the palette
            kind, content = f"{held.mode} {held.size}", colours.tobytes()
        digest = hashlib.sha256(kind.encode())
        digest.update(content)
        return digest.hexdigest()


class DatasetBase:
    """Lists of Datum. Classes are counted over train_x alone, as labels start at 0 without gaps.

    A subclass takes cfg, fills the lists and calls `super().__init__(train_x=..., val=...,
    test=...)`.
    """

    dataset_dir = ""
    domains: Sequence[str] = []

    def __init__(
        self,
        train_x: Sequence[Datum] | None = None,
        train_u: Sequence[Datum] | None = None,
        val: Sequence[Datum] | None = None,
        test: Sequence[Datum] | None = None,
    ):
        self._train_x, self._train_u, self._val, self._test = train_x, train_u, val, test
        for name in {item.classname for part in (train_x, val, test) for item in part or ()}:
            if CONTROL.search(str(name)):  # would go to the terminal, into the log and into tables
                raise UserError(
                    f"the class name {name!r} has control characters: rename its folder, or "
                    "correct the file that it is from"
                )
        self._num_classes = self.get_num_classes(train_x or [])
        self._lab2cname, self._classnames = self.get_lab2cname(train_x or [])

    @property
    def train_x(self):
        return self._train_x

    @property
    def train_u(self):
        return self._train_u

    @property
    def val(self):
        return self._val

    @property
    def test(self):
        return self._test

    @property
    def lab2cname(self) -> dict[int, str]:
        return self._lab2cname

    @property
    def classnames(self) -> list[str]:
        """In label order."""
        return self._classnames

    @property
    def num_classes(self) -> int:
        return self._num_classes

    def clusters(self, items: Sequence[Datum]) -> list[str]:
        """The name of each image's cluster: images of one cluster are not independent.

        Examples are pictures of one object, frames of one film. Intervals of tables draw clusters.
        The default takes every image for itself.
        """
        return [item.impath for item in items]

    @staticmethod
    def get_num_classes(data_source: Sequence[Datum]) -> int:
        """Largest label + 1."""
        return max((item.label for item in data_source), default=-1) + 1

    @staticmethod
    def get_lab2cname(data_source: Sequence[Datum]) -> tuple[dict[int, str], list[str]]:
        """({label: class name}, class names in label order)."""
        mapping = {item.label: item.classname for item in data_source}
        return mapping, [mapping[label] for label in sorted(mapping)]

    def check_input_domains(
        self, source_domains: Sequence[str], target_domains: Sequence[str]
    ) -> None:
        """Raises UserError for a domain that the data set does not have."""
        for domain in (*source_domains, *target_domains):
            check_availability(domain, list(self.domains), "domain")

    def download_data(self, url: str, dst: str, from_gdrive: bool = True) -> None:
        """Download an archive to `dst` and unpack it there."""
        download_url(url, dst, from_gdrive=from_gdrive)
        if zipfile.is_zipfile(dst):
            with zipfile.ZipFile(dst) as archive:
                archive.extractall(osp.dirname(dst))
        elif tarfile.is_tarfile(dst):
            with tarfile.open(dst) as archive:
                archive.extractall(osp.dirname(dst), filter="data")
        else:
            raise UserError(
                f"'{dst}' is neither a zip nor a tar archive: download it again from {url}"
            )

    def generate_fewshot_dataset(
        self, *data_sources: Sequence[Datum], num_shots: int = -1, repeat: bool = False
    ):
        """`num_shots` items per label of each source, drawn with Python's `random.sample` in the
        order labels first appear.

        A label with fewer gives all it has (with `repeat`, drawn with replacement); that is said
        once. num_shots < 1 returns the sources. One source gives a list, several a list of lists.
        """
        if num_shots < 1:
            return data_sources[0] if len(data_sources) == 1 else data_sources
        log.info(f"Creating a {num_shots}-shot dataset")
        results = []
        for source in data_sources:
            chosen, short = [], 0
            for items in self.split_dataset_by_label(source).values():
                if len(items) >= num_shots:
                    chosen += random.sample(items, num_shots)
                else:
                    short += 1
                    chosen += random.choices(items, k=num_shots) if repeat else items
            if short:
                log.info(
                    f"{short} class(es) have fewer than {num_shots} images: all that they have are "
                    "used"
                )
            results.append(chosen)
        return results[0] if len(results) == 1 else results

    def split_dataset_by_label(self, data_source: Sequence[Datum]) -> dict[int, list[Datum]]:
        output: dict[int, list[Datum]] = defaultdict(list)
        for item in data_source:
            output[item.label].append(item)
        return output

    def split_dataset_by_domain(self, data_source: Sequence[Datum]) -> dict[int, list[Datum]]:
        output: dict[int, list[Datum]] = defaultdict(list)
        for item in data_source:
            output[item.domain].append(item)
        return output
