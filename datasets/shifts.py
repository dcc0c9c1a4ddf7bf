"""What data sets of several domains have in common: some are trained on, others tested.

Domain generalisation tests domains of which training saw nothing; adaptation gives the target's
images, without labels, to training (PDA, DAPL, TrainerXU). Layouts are those of Dassl, and so are
parts, where it has the data set.
"""

import os.path as osp
from collections.abc import Mapping, Sequence

from datasets.base import (
    PARTS,
    CoOpDataset,
    Rows,
    Split,
    UserError,
    rows_of_folders,
    split_off_val,
)
from datasets.files import list_folder, read_lines


class ShiftDataset(CoOpDataset):
    """Parent of data sets with domains: DATASET.SOURCE_DOMAINS are trained on and validated,
    TARGET_DOMAINS tested.

    domain_names: in the order of the domains' numbers. domain_images: published numbers of images
    of a domain, where they are known. adaptation: whether training has the
    target's images without labels. whole_test: whether all images of a target are tested, and not
    its test part alone.
    """

    chooses_domains = True
    image_folder = ""
    domain_names: tuple[str, ...] = ()
    domain_images: Mapping[str, int] = {}
    adaptation = False
    whole_test = True
    source_domains: tuple[str, ...] = ()
    target_domains: tuple[str, ...] = ()

    def split(self, cfg) -> Split:
        """Raises UserError for an unknown domain, a missing choice, and a target that is trained
        on.
        """
        self.source_domains, self.target_domains = (
            self._chosen(cfg, key) for key in ("SOURCE_DOMAINS", "TARGET_DOMAINS")
        )
        if both := [name for name in self.target_domains if name in self.source_domains]:
            raise UserError(
                f"'{both[0]}' is in DATASET.SOURCE_DOMAINS and in TARGET_DOMAINS: a target is a "
                "domain that is not trained on, so take it out of one"
            )
        return super().split(cfg)

    def _chosen(self, cfg, key: str) -> tuple[str, ...]:
        wanted = [str(name).strip() for name in cfg.DATASET[key]]
        known = ", ".join(self.domain_names)
        if unknown := [name for name in wanted if name not in self.domain_names]:
            raise UserError(
                f"DATASET.{key} names '{unknown[0]}', a domain that {type(self).__name__} lacks: "
                f"choose of {known}"
            )
        if not wanted:
            raise UserError(
                f"DATASET.{key} is empty: {type(self).__name__} has the domains {known}; name "
                "those to train on in SOURCE_DOMAINS, and those to test in TARGET_DOMAINS"
            )
        return tuple(wanted)

    def partition(self) -> Split:
        sources = self.source_domains or self.domain_names[:-1]
        targets = self.target_domains or self.domain_names[-1:]
        split: Split = {part: [] for part in PARTS}
        for name in sources:
            parts = self.numbered(name)
            for part in ("train", "val"):
                split[part] += parts[part]
        unlabelled: Rows = []
        for name in targets:
            parts = self.numbered(name)
            every = [row for part in PARTS for row in parts[part]]
            split["test"] += every if self.whole_test else parts["test"]
            unlabelled += every if self.whole_test else parts["train"]
        return split | ({"unlabelled": unlabelled} if self.adaptation else {})

    def numbered(self, name: str) -> dict[str, Rows]:
        """The parts of a domain, with the domain's number as the fourth value of a row."""
        number = self.domain_names.index(name)
        return {part: [[*row, number] for row in rows] for part, rows in self.domain(name).items()}

    def domain(self, name: str) -> dict[str, Rows]:
        """{train, val, test: rows [path, label, class name]} of a domain."""
        raise NotImplementedError

    # Reading

    def listed(self, file: str, first: int = 0, below: str = "", place: int = 1) -> Rows:
        """Rows of a list whose lines are a path and a label.

        first: the lowest label. below: what comes before the paths. place: of the class's name
        among the folders of a path. Raises UserError with the number of a line that is none.
        """
        path, rows = osp.join(self.dataset_dir, file), []
        for number, line in enumerate(read_lines(path), 1):
            image, _, label = line.strip().rpartition(" ")
            folders = image.split("/")
            if not line.strip():
                continue
            if not image or not label.isdecimal() or len(folders) <= place:
                raise UserError(
                    f"'{path}' line {number} is '{line.strip()}': a line is an image with its "
                    "folders, and its class; restore the file"
                )
            name = folders[place].replace("_", " ")
            rows.append([osp.join(below, image), int(label) - first, name])
        return rows

    def in_folders(self, below: str, names: Sequence[str] = ()) -> Rows:
        """Rows of a folder per class, labels in alphabetical order; names: of classes in numbered
        folders.

        Raises UserError if the folder has other classes than the data set.
        """
        folders = list_folder(osp.join(self.image_dir, below)).folders
        if self.classes and len(folders) != self.classes:
            raise UserError(
                f"'{osp.join(self.image_dir, below)}' has {len(folders)} folders for "
                f"{self.classes} classes: the data set is not complete, prepare it again"
            )
        called = dict(zip(folders, names or folders, strict=True))
        labels = {name: label for label, name in enumerate(folders)}
        spelled = {folder: text.replace("_", " ").lower() for folder, text in called.items()}
        return rows_of_folders(self.image_dir, below, labels, spelled)


class FolderDomains(ShiftDataset):
    """A folder per domain, in it a folder per class.

    For generalisation a fifth of each class is for validation; for adaptation, as published,
    nothing is.
    """

    def domain(self, name: str) -> dict[str, Rows]:
        if self.adaptation:
            return {"train": self.in_folders(name), "val": [], "test": []}
        split = split_off_val(self.in_folders(name), [])
        return {part: split[part] for part in PARTS}
