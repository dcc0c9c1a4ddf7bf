"""Your own pictures: a table that says of each which class, part, domain or group it belongs to."""

import csv
import os.path as osp

from dassl.data.datasets import DATASET_REGISTRY
from datasets.base import PARTS, Rows, Split, UserError, split_by_class
from datasets.imagefolder import OwnDataset

COLUMNS = ("path", "label", "classname", "split", "domain", "group")


@DATASET_REGISTRY.register()
class CSV(OwnDataset):
    """DATASET.CSV (below DATASET.FOLDER) has a header and the columns

    path (relative to FOLDER), label (a number from 0, or text) and/or classname, and if you like split (train, val, test; without it
    each class is split 50% / 20% / 30%) and domain or group (names or numbers). A group is a pair of class and domain; where
    only `group` is given, it stands for the domain. With DATASET.SOURCE_DOMAINS only these domains are trained on; with
    TARGET_DOMAINS only those are tested, and their training images are the unlabelled ones.
    """

    @classmethod
    def sources_of_split(cls, cfg, home):
        name = cfg.DATASET.get("CSV", "images.csv")
        return {f"table '{name}'": osp.join(home, name)}

    def partition(self) -> Split:
        self.path = osp.join(self.dataset_dir, self.csv)
        table = self._table()
        labels = self._labels(table)
        self.domains = self._domains(table)
        self.domain_names = tuple(self.domains[0])
        rows: Rows = [[row["path"], label, name, domain] for row, (label, name), domain in zip(table, labels, self.domains[1], strict=True)]
        if "split" not in table[0]:
            print(f"'{self.path}' has no column split: each class is split into 50% train, 20% val and 30% test here")
            return split_by_class(rows)
        if wrong := next((number for number, row in enumerate(table, 2) if row["split"] not in PARTS), 0):
            raise UserError(f"'{self.path}' line {wrong} has the split '{table[wrong - 2]['split']}': write train, val or test")
        return {part: [row for row, told in zip(rows, table, strict=True) if told["split"] == part] for part in PARTS}

    def split(self, cfg) -> Split:
        self.csv = cfg.DATASET.get("CSV", "images.csv")
        split = super().split(cfg)
        for part in PARTS:
            if not split[part] and part != "val":
                raise UserError(f"'{self.path}' has no row with the split '{part}': add some")
        names = self.domains[0]
        for key in ("SOURCE_DOMAINS", "TARGET_DOMAINS"):
            if unknown := [name for name in cfg.DATASET[key] if name not in names]:
                raise UserError(f"DATASET.{key} names '{unknown[0]}', which is not in column domain of '{self.path}' ({', '.join(names) or 'no column'})")
        if cfg.DATASET.TARGET_DOMAINS:
            target = {names.index(name) for name in cfg.DATASET.TARGET_DOMAINS}
            split["unlabelled"] = [row for row in split["train"] if row[3] in target]
            split["test"] = [row for row in split["test"] if row[3] in target]
        if cfg.DATASET.SOURCE_DOMAINS:
            source = {names.index(name) for name in cfg.DATASET.SOURCE_DOMAINS}
            classes = {row[1]: row[2] for row in split["train"]}
            split |= {part: [row for row in split[part] if row[3] in source] for part in ("train", "val")}
            if lost := sorted(classes.keys() - {row[1] for row in split["train"]}):
                raise UserError(f"DATASET.SOURCE_DOMAINS leaves class '{classes[lost[0]]}' of '{self.path}' without training images: name more domains, or "
                                "take the class out of the table")
        return split

    def _table(self) -> list[dict[str, str]]:
        try:
            with open(self.path, encoding="utf-8-sig", newline="") as file:
                table = list(csv.DictReader(file))
        except (OSError, UnicodeDecodeError, csv.Error) as error:
            raise UserError(f"'{self.path}' cannot be read as a CSV table ({getattr(error, 'strerror', None) or error}): "
                            "correct DATASET.CSV, DATASET.FOLDER or --root") from None
        if not table:
            raise UserError(f"'{self.path}' has no rows: write a header ({','.join(COLUMNS)}) and a line per image")
        if "path" not in table[0] or not {"label", "classname"} & table[0].keys():
            raise UserError(f"'{self.path}' has the columns {', '.join(map(str, table[0]))}: it needs path, and label or classname")
        for number, row in enumerate(table, 2):
            if any(value is None for value in row.values()) or None in row:
                raise UserError(f"'{self.path}' line {number} has more or fewer values than the header: correct it")
        return table

    def _labels(self, table: list[dict[str, str]]) -> list[tuple[int, str]]:
        """(label, class name) of each row. Text labels are class names; without numbers labels are alphabetical."""
        given = [row.get("label", "") for row in table]
        numbered = all(text.isdigit() for text in given)
        if "classname" not in table[0] and numbered:
            raise UserError(f"'{self.path}' has labels but no class names: add a column classname")
        names = [row.get("classname", text) for row, text in zip(table, given, strict=True)]
        if empty := next((number for number, name in enumerate(names, 2) if not name), 0):
            raise UserError(f"'{self.path}' line {empty} has no class name: fill it in")
        order = {name: label for label, name in enumerate(sorted(set(names)))}
        return [(int(text) if numbered else order[name], name) for text, name in zip(given, names, strict=True)]

    def _domains(self, table: list[dict[str, str]]) -> tuple[list[str], list[int]]:
        """Names of the domains in order, and the domain's number of each row."""
        column = "domain" if "domain" in table[0] else "group"
        names = sorted({row.get(column, "") for row in table}, key=lambda name: (not name.isdigit(), int(name) if name.isdigit() else 0, name))
        if "domain" in table[0] and "group" in table[0]:
            pairs: dict[str, tuple] = {}
            for number, row in enumerate(table, 2):
                pair = (row.get("classname") or row.get("label"), row["domain"])
                if pairs.setdefault(row["group"], pair) != pair:
                    raise UserError(f"'{self.path}' line {number}: group '{row['group']}' is class and domain {pairs[row['group']]} elsewhere "
                                    f"and {pair} here: a group is one class in one domain, correct it or take the column group out")
        return names, [names.index(row.get(column, "")) for row in table]
