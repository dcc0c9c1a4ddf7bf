"""What data sets with groups have in common: a group is a pair of class and spurious attribute,
which travels as the image's domain.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence

from datasets.base import PARTS, CoOpDataset, Split, UserError


class GroupDataset(CoOpDataset):
    """Parent of data sets whose rows have four values: [path, label, class name, domain].

    class_names, domain_names: in the order of labels and of domains. `train_group_counts` {(label,
    domain): images} counts the whole training part, before few-shot picks.
    """

    class_names: tuple[str, ...] = ()
    domain_names: tuple[str, ...] = ()
    # Four images per class would leave groups out, and a model may be chosen by its worst group.
    few_shot_val = False

    def __init__(self, cfg):
        super().__init__(cfg)
        label = {
            name: number for number, name in enumerate(self.classnames)
        }  # base or new classes are numbered anew
        self.train_group_counts = {
            (label[name], domain): count
            for (name, domain), count in sorted(self.train_group_counts.items())
            if name in label
        }

    def split(self, cfg) -> Split:
        """Raises UserError for a row without a known domain, and for a group that a part with
        images lacks.
        """
        split, domains = super().split(cfg), range(len(self.domain_names))
        for part in PARTS:
            if wrong := next(
                (
                    row
                    for row in split[part]
                    if len(row) != 4 or type(row[3]) is not int or row[3] not in domains
                ),
                None,
            ):
                raise UserError(
                    f"{type(self).__name__} has the row {wrong!r} in {part}: a row is [path, "
                    f"label, class name, domain] with a domain from 0 to {len(domains) - 1}, "
                    "correct the split file or prepare the data set again"
                )
        if not split["train"]:
            raise UserError(
                f"{type(self).__name__} has no training images in its table: prepare "
                f"'{self.dataset_dir}' again"
            )
        classes = {row[1]: row[2] for row in split["train"]}
        for part in (part for part in PARTS if split[part]):
            groups = {(row[1], row[3]) for row in split[part]}
            if lacking := [
                (label, domain)
                for label in sorted(classes)
                for domain in domains
                if (label, domain) not in groups
            ]:
                label, domain = lacking[0]
                raise UserError(
                    f"{type(self).__name__} has no picture of group ({classes[label]}, "
                    f"{self.domain_names[domain]}) in {part}: add some or prepare "
                    f"'{self.dataset_dir}' again"
                )
        self.train_group_counts = Counter((row[2], row[3]) for row in split["train"])
        return split


def columns_of(
    path: str, header: Sequence[str], cells: Iterable[tuple[int, list[str]]], wanted: Sequence[str]
) -> Iterator[tuple[int, list[str]]]:
    """(line number, values of the columns `wanted`).

    Raises UserError if the header lacks one or a line is not as long as the header.
    """
    if lacking := [name for name in wanted if name not in header]:
        raise UserError(
            f"'{path}' has no column {lacking[0]} (it has {', '.join(header) or 'none'}): restore "
            "the file"
        )
    places = [header.index(name) for name in wanted]
    for number, row in cells:
        if len(row) != len(header):
            raise UserError(
                f"'{path}' line {number} has {len(row)} values instead of {len(header)}: restore "
                "the file"
            )
        yield number, [row[place] for place in places]


def position(path: str, number: int, column: str, value: str, known: Sequence[str]) -> int:
    """Where `value` is in `known`. Raises UserError with the line number if it is not."""
    if value not in known:
        raise UserError(
            f"'{path}' line {number} has the {column} '{value}': it must be one of "
            f"{', '.join(known)}, restore the file"
        )
    return known.index(value)
