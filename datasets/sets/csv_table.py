"""Your own pictures: a table that says to which class, part, domain or group each belongs."""

import csv
import difflib
import logging
import os.path as osp
import re
import unicodedata
from contextlib import suppress

from dassl.data.datasets import DATASET_REGISTRY
from datasets.base import PARTS, Rows, Split, UserError, split_by_class
from datasets.domains import choose_domains, is_number, number_or_text
from datasets.files import read_cells, read_lines, shown
from datasets.sets.imagefolder import OwnDataset, part_of

log = logging.getLogger(__name__)

COLUMNS = ("path", "label", "classname", "split", "domain", "group")
SEPARATORS = ",;\t|"
Table = list[tuple[int, dict[str, str]]]  # (line number, {column: value})


def column_of(header: str) -> str:
    """One of COLUMNS, however it is written ("Class Name"); other headers as they are."""
    plain = re.sub(r"[\s_-]", "", header).lower()
    return plain if plain in COLUMNS else header


@DATASET_REGISTRY.register()
class CSV(OwnDataset):
    """DATASET.CSV (below DATASET.FOLDER) has a header and the columns

    path (relative to FOLDER), label (a number from 0, or text) and/or classname, and if you like
    split (train, val, test; without it each class is split 50% / 20% / 30%) and domain or group
    (names or numbers). Values stand between commas, semicolons or tabs; blanks around them mean
    nothing. A class is what has a label of its own; without the column label, what has a name of
    its own. A group is a pair of class and domain; where only `group` is given, it stands for the
    domain. With DATASET.SOURCE_DOMAINS only these domains are trained on; with TARGET_DOMAINS only
    those are tested, and their training images are the unlabelled ones.
    """

    chooses_domains = True
    repair = "correct the table or put the pictures there"

    @classmethod
    def sources_of_split(cls, cfg, home):
        name = cfg.DATASET.get("CSV", "images.csv")
        return {f"table '{name}'": osp.join(home, name)}

    def split_name(self) -> str:
        return f"the table '{self.path}'"

    def locate(self, cfg) -> None:
        super().locate(cfg)
        self.path = osp.join(self.dataset_dir, cfg.DATASET.get("CSV", "images.csv"))

    def partition(self) -> Split:
        parts = self.parts()
        if "all" not in parts:
            return parts
        log.warning(
            f"'{self.path}' has no column split: each class is split into 50% train, 20% val "
            "and 30% test here"
        )
        return split_by_class(parts["all"])

    def parts(self) -> dict[str, Rows]:
        table = self._table()
        labels, (self.domain_names, domains) = self._labels(table), self._domains(table)
        paths = self._paths(table)
        rows: Rows = [
            [path, label, name, domain]
            for path, (label, name), domain in zip(paths, labels, domains, strict=True)
        ]
        if "split" not in table[0][1]:
            return self.once({"all": rows})
        parts = [part_of(row["split"]) for _, row in table]
        if "" in parts:
            line, row = table[parts.index("")]
            raise UserError(
                f"'{self.path}' line {line} has the split '{shown(row['split'])}': write train, "
                "val or test"
            )
        return self.once(
            {
                part: [row for row, row_part in zip(rows, parts, strict=True) if row_part == part]
                for part in PARTS
            }
        )

    def split(self, cfg) -> Split:
        split, names = super().split(cfg), self.domain_names
        for part in PARTS:
            if not split[part] and part != "val":
                raise UserError(f"'{self.path}' has no row with the split '{part}': add some")
        remedy = ", or take the class out of the table"
        return choose_domains(split, cfg, names, f"'{self.path}'", "column domain of ", remedy)

    def _table(self) -> Table:
        """Rows with one value for each of COLUMNS that the table has."""
        if not osp.isfile(self.path):
            reason = "it is no file" if osp.exists(self.path) else "No such file or directory"
            raise UserError(
                f"'{self.path}' cannot be read as a CSV table ({reason}): correct DATASET.CSV, "
                "DATASET.FOLDER or --root"
            )
        cells = read_cells(self.path, self._separator(), "correct the table")
        _, header = next(cells, (0, []))
        columns = [column_of(cell) for cell in header]
        self._check_columns(columns)
        table = []
        for line, row in cells:
            if any(row[len(columns) :]) or len(row) < len(columns):
                raise UserError(
                    f"'{self.path}' line {line} has more or fewer values than the header: "
                    "correct it"
                )
            table.append(
                (line, {column: value for column, value in zip(columns, row) if column in COLUMNS})
            )
        if not table:
            raise UserError(
                f"'{self.path}' has no rows: write a header ({','.join(COLUMNS)}) and a line per "
                "image"
            )
        for column in ("path", "label", "domain", "group"):
            if empty := next((line for line, row in table if row.get(column) == ""), 0):
                raise UserError(
                    f"'{self.path}' line {empty} has no {column}: fill it in"
                    + (", or take the column out" if column != "path" else "")
                )
        return table

    def _separator(self) -> str:
        """The sign between the values of the header."""
        header = next(iter(read_lines(self.path, "correct the table")), "")
        for sign in SEPARATORS:
            with suppress(csv.Error):  # too long for one value with another sign
                if "path" in map(column_of, next(csv.reader([header], delimiter=sign), [])):
                    return sign
        return SEPARATORS[0]

    def _check_columns(self, columns: list[str]) -> None:
        """Raises UserError for a header that lacks a column, or has one twice or almost.

        Says which columns mean nothing here.
        """
        if columns and ("path" not in columns or not {"label", "classname"} & {*columns}):
            raise UserError(
                f"'{self.path}' has the columns {shown(', '.join(columns))}: it needs path, and "
                "label or classname"
            )
        if twice := [column for column in COLUMNS if columns.count(column) > 1]:
            raise UserError(f"'{self.path}' has the column {twice[0]} twice: take one of them out")
        others = [column for column in columns if column and column not in COLUMNS]
        absent = [column for column in COLUMNS if column not in columns]
        for column in others:
            if meant := difflib.get_close_matches(column.lower(), absent, 1, 0.8):
                raise UserError(
                    f"'{self.path}' has the column '{shown(column)}': rename it to {meant[0]}, "
                    "or take it out"
                )
        others += ["one without a name"] * ("" in columns)
        if others:
            log.warning(
                f"'{self.path}' has columns that mean nothing here: {shown(', '.join(others))}"
            )

    def _labels(self, table: Table) -> list[tuple[int, str]]:
        """(label, class name) of each row. Labels that are no numbers are in order of names."""
        has = table[0][1].keys()
        numbered = "label" in has and all(is_number(row["label"]) for _, row in table)
        if numbered and "classname" not in has:
            raise UserError(f"'{self.path}' has labels but no class names: add a column classname")
        names: dict[str, str] = {}
        labels = []
        for line, row in table:
            name = row["classname"] if "classname" in has else number_or_text(row["label"])
            key = number_or_text(row["label"]) if "label" in has else name
            if not name:
                raise UserError(f"'{self.path}' line {line} has no class name: fill it in")
            if names.setdefault(key, name) != name:
                raise UserError(
                    f"'{self.path}' line {line} gives label {shown(key)} to both "
                    f"'{shown(names[key])}' and '{shown(name)}': give every class its own label, "
                    "or take the column label out"
                )
            labels.append((key, name))
        if numbered:
            return [(int(key), name) for key, name in labels]
        in_order = sorted(names, key=lambda key: (names[key], key))
        order = {key: label for label, key in enumerate(in_order)}
        return [(order[key], name) for key, name in labels]

    def _domains(self, table: Table) -> tuple[tuple[str, ...], list[int]]:
        """Names of the domains in order, numbers first, and the domain's number of each row."""
        has = table[0][1].keys()
        column = "domain" if "domain" in has else "group"
        domains = [number_or_text(row.get(column, "")) for _, row in table]
        if {"domain", "group"} <= has:
            pairs: dict[str, tuple] = {}
            for (line, row), domain in zip(table, domains, strict=True):
                group = number_or_text(row["group"])
                pair = (row.get("classname") or row.get("label"), domain)
                if pairs.setdefault(group, pair) != pair:
                    raise UserError(
                        f"'{self.path}' line {line}: group '{shown(group)}' is class and domain "
                        f"{pairs[group]} elsewhere and {pair} here: a group is one class in one "
                        "domain, correct it or take the column group out"
                    )
        numbers = {int(name): name for name in domains if is_number(name)}
        texts = {name for name in domains if not is_number(name)}
        names = [*(numbers[number] for number in sorted(numbers)), *sorted(texts)]
        number = {name: place for place, name in enumerate(names)}
        return tuple(names), [number[name] for name in domains]

    def _paths(self, table: Table) -> list[str]:
        """Return the pictures' paths as the folder spells them.

        Backslashes, as on Windows, and other forms of accents are resolved, with a warning.
        """
        paths, changed = [], []
        for _, row in table:
            path = row["path"]
            if "\\" in path or not path.isascii():
                path = self._as_in_folder(path)
                changed += [row["path"]] * (path != row["path"])
            paths.append(path)
        if changed:
            log.warning(
                f"'{self.path}' writes {len(changed)} path(s) otherwise than the folder does, "
                f"first '{shown(changed[0])}': they are found all the same"
            )
        return paths

    def _as_in_folder(self, path: str) -> str:
        plain = path.replace("\\", "/")
        forms = [unicodedata.normalize(form, plain) for form in ("NFC", "NFD")]
        for spelling in (path, plain, *forms):
            if osp.lexists(osp.join(self.image_dir, spelling)):
                return spelling
        return path
