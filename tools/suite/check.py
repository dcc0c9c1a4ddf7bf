"""Check the suite's rules: `python -m tools.suite.check [--model CLIP [--test]] [SET ...]`.

Without --model the rules on sizes and copies; with it those on accuracy as well, on validation
pictures of base classes alone. The rules, written on 2026-11-26, before any model was trained on a
set:

* at least 8 classes and 400 test pictures among base classes, and as many among new ones;
* of each class at least 24 training pictures (three times eight shots) and 15 for validation;
* no family, and no near-copy, in two parts;
* the parts are drawn alike: of a class the families, ordered by a hash, are first those of
  validation, then those of training, then those of the test, whatever their sizes (of 2026-11-27);
* zero-shot accuracy between three times chance and 80%;
* logistic regression on frozen features, 16 shots, 8 points above zero-shot, on most sets;
* of every class the texts of two styles differ: cosine below 0.95.

Of the candidates the suite takes those that keep all rules, and Emoji, whose styles are the shifted
domains; if these are fewer than eight, those with the most headroom among the rest that break no
other rule (`chosen`). --test tells zero-shot and probe on test pictures, too; no rule reads these,
and they were looked at after the selections. --out writes all numbers as JSON. The exit code is 1
if a set breaks one of the first four.
"""

import argparse
import json
import math
import sys
import warnings
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from datasets.suite import (
    PICTURE_SIZE,
    SuiteDataset,
    Table,
    archive_of,
    files_of,
    picture_of,
    read_table,
)
from tools import inputs
from tools.arguments import Parser
from tools.results import markdown
from tools.suite.make import SETS
from tools.suite.split import SHOTS, VALIDATION, near_copies, order, thumbnails

CLASSES, TESTS = 8, 400  # on each side
PROBE_SHOTS, DRAWS, HEADROOM, MOST = 16, 5, 8.0, 80.0
ON_TEST = ("zero-shot on test", "probe on test")  # told, and read by no rule
# Zero-shot accuracy that is told beside that with the suite's template: {measure: template}.
OTHER_WORDS = {f"zero-shot, {words}": words for words in ("{}", "a photo of a {}.")}
STYLES, ALIKE = ("a line drawing of a {}.", "a rendered {}."), 0.95
STYLE = "colour"  # of the emoji that count
LEAST, SHIFTED, LITTLE = 8, "Emoji", "little headroom"


def base_and_new(table: Table) -> tuple[list[str], list[str]]:
    """CoOp's halves of the classes."""
    labels = sorted({row["class"] for row in table.values()})
    half = math.ceil(len(labels) / 2)
    return labels[:half], labels[half:]


def counted(table: Table) -> Table:
    """Without the shifted styles, and without the emoji that are never labelled."""
    return {
        key: row
        for key, row in table.items()
        if row.get("style", STYLE) == STYLE and row.get("half", "a") == "a"
    }


def sizes(table: Table) -> dict:
    """Counts of the data sheet."""
    base, new = base_and_new(table)
    part = Counter(row["split"] for row in table.values())
    tests = Counter(row["class"] for row in table.values() if row["split"] == "test")
    each = Counter((row["split"], row["class"]) for row in table.values())
    least = {
        name: min(each[name, label] for label in (*base, *new)) for name in ("train", "val", "test")
    }
    return {
        "classes": [len(base), len(new)],
        "train": part["train"],
        "val": part["val"],
        "test": [sum(tests[label] for label in side) for side in (base, new)],
        "least": least,
        "families": len({row["family"] for row in table.values()}),
        "test families": len({row["family"] for row in table.values() if row["split"] == "test"}),
    }


def too_small(count: dict) -> list[str]:
    """Sentences on the sizes that break a rule."""
    least = count["least"]
    broken = [f"{number} classes on a side" for number in count["classes"] if number < CLASSES]
    broken += [f"{number} test pictures on a side" for number in count["test"] if number < TESTS]
    if least["train"] < 3 * SHOTS:
        broken.append(f"a class with {least['train']} training pictures")
    if least["val"] < VALIDATION:
        broken.append(f"a class with {least['val']} validation pictures")
    return broken


def out_of_order(table: Table) -> list[str]:
    """Classes whose parts are not one order of families, cut in three."""
    places = {"val": 0, "train": 1, "test": 2}
    families: dict[str, dict[str, int]] = {}
    for row in table.values():
        families.setdefault(row["class"], {})[row["family"]] = places[row["split"]]
    dealt = {
        label: [members[name] for name in sorted(members, key=lambda name: order(label, name))]
        for label, members in families.items()
    }
    return [label for label, parts in dealt.items() if parts != sorted(parts)]


def pictures(table: Table, name: str, size: int) -> list:
    archive = archive_of(name)
    return [picture_of(row, size, archive) for row in table.values()]


def copies(table: Table, name: str) -> list[tuple[str, str]]:
    """Pairs of drawings in two parts that are of one family or near-copies."""
    rows, keys = list(table.values()), list(table)
    home: dict[str, tuple[str, str]] = {}
    pairs = []
    for key, row in table.items():
        first, part = home.setdefault(row["family"], (key, row["split"]))
        if part != row["split"]:
            pairs.append((first, key))
    near = near_copies(thumbnails(pictures(table, name, PICTURE_SIZE)))
    return pairs + [(keys[a], keys[b]) for a, b in near if rows[a]["split"] != rows[b]["split"]]


def encoded(model, pictures: list) -> np.ndarray:
    """(N, D) frozen features of N PIL images."""
    import torch
    from torchvision.transforms.functional import pil_to_tensor, resize

    from tools.pretrain_clip import MEAN, STD

    size = [model.input_resolution] * 2
    images = [pil_to_tensor(resize(picture, size, interpolation=3)) for picture in pictures]
    parts = (torch.stack(images).float() / 255).split(256)
    return torch.cat([model.encode_images((part - MEAN) / STD) for part in parts]).numpy()


@dataclass
class Features:
    """Frozen features: `of[part]` is (features (N, D), labels (N,)).

    text: (C, D), of the names. styles: the highest cosine of a class's texts in two styles, where
    that is asked. others: {measure of OTHER_WORDS: (C, D)}, of the names.
    """

    text: np.ndarray
    of: dict[str, tuple[np.ndarray, np.ndarray]]
    styles: float = 0.0
    others: dict[str, np.ndarray] = field(default_factory=dict)


def features_of(model, table: Table, name: str) -> Features:
    """Of a set's base classes."""
    labels, _ = base_and_new(table)
    chosen = {key: row for key, row in table.items() if row["class"] in labels}
    features = encoded(model, pictures(chosen, name, PICTURE_SIZE))

    def texts(template: str) -> np.ndarray:
        return model.encode_texts([template.format(label) for label in labels]).numpy()

    line, rendered = map(texts, STYLES)
    numbers = np.array([labels.index(row["class"]) for row in chosen.values()])
    split = np.array([row["split"] for row in chosen.values()])
    return Features(
        text=texts(SuiteDataset.templates[0]),
        of={
            part: (features[split == part], numbers[split == part])
            for part in ("train", "val", "test")
        },
        styles=float((line * rendered).sum(1).max()),
        others={measure: texts(template) for measure, template in OTHER_WORDS.items()},
    )


def accuracies(data: Features, test: bool = False) -> dict:
    """Zero-shot and probe in percent, on the validation pictures of base classes; `test`: on the
    test pictures, too.
    """
    from sklearn.linear_model import LogisticRegressionCV

    parts = ("val", "test") if test else ("val",)
    probes: dict[str, list[float]] = {part: [] for part in parts}
    for draw in range(DRAWS):
        rng = np.random.default_rng(draw)
        x, labels = data.of["train"]
        places = [np.flatnonzero(labels == label) for label in range(len(data.text))]
        taken = np.concatenate([rng.permutation(p)[:PROBE_SHOTS] for p in places])
        probe = LogisticRegressionCV(Cs=(1, 10, 100), cv=4, max_iter=2000)
        with warnings.catch_warnings():  # of attributes that are not read here
            warnings.simplefilter("ignore", FutureWarning)
            probe.fit(x[taken], labels[taken])
            for part in parts:
                probes[part].append(100 * float(probe.score(*data.of[part])))

    def zero_shot(part: str, text: np.ndarray) -> float:
        features, labels = data.of[part]
        return 100 * float(((features @ text.T).argmax(1) == labels).mean())

    found = {"chance": 100 / len(data.text)}
    for part in parts:
        behind = "" if part == "val" else " on test"
        found |= {f"zero-shot{behind}": zero_shot(part, data.text)}
        found |= {f"probe{behind}": float(np.mean(probes[part]))}
    found |= {measure: zero_shot("val", text) for measure, text in data.others.items()}
    return found | {"styles": data.styles, "validation pictures": len(data.of["val"][1])}


def verdict(seen: dict) -> list[str]:
    """The rules on accuracy that a set breaks."""
    faults = []
    if not 3 * seen["chance"] <= seen["zero-shot"] <= MOST:
        faults.append("zero-shot out of range")
    if seen["probe"] < seen["zero-shot"] + HEADROOM:
        faults.append(LITTLE)
    if seen["styles"] >= ALIKE:
        faults.append("styles make no difference")
    return faults


def chosen(sheet: dict[str, dict]) -> list[str]:
    """The sets of a data sheet, as --out writes it, that the rules take, in the sheet's order."""
    headroom = {
        name: seen["probe"] - seen["zero-shot"]
        for name, seen in sheet.items()
        if set(seen["faults"]) <= {LITTLE}
    }
    taken = {name for name in headroom if not sheet[name]["faults"] or name == SHIFTED}
    for name in sorted(headroom, key=lambda name: -headroom[name]):
        if len(taken) < LEAST:
            taken.add(name)
    return [name for name in sheet if name in taken]


def check(args: argparse.Namespace) -> int:
    model, names = None, args.sets or SETS
    read = [file for name in names for file in files_of(name.lower())]
    inputs.check_outputs([inputs.Output("--out", args.out)], [*read, args.model or ""])
    if args.model:
        from trainers.backbone import load_backbone

        if not Path(args.model).is_file():
            raise inputs.InputError(f"--model '{args.model}' is no file: give that of a CLIP")
        model = load_backbone(args.model)
    if args.test and not args.model:
        raise inputs.InputError("--test tells what a CLIP reaches: give --model, too")
    measured = ["chance", "zero-shot", "probe", *(ON_TEST if args.test else ())]
    lines, sheet, broken = [], {}, 0
    for name in names:
        table = counted(read_table(name.lower()))
        count = sizes(table)
        faults = too_small(count)
        if pairs := copies(read_table(name.lower()), name.lower()):
            faults.append(f"{len(pairs)} copies across parts, first {pairs[0][0]}, {pairs[0][1]}")
        if mixed := out_of_order(table):
            faults.append(f"parts of {len(mixed)} classes not drawn alike, first {mixed[0]}")
        broken += bool(faults)
        cells = [
            "+".join(map(str, count["classes"])),
            *(str(count[part]) for part in ("train", "val")),
            "+".join(map(str, count["test"])),
            str(count["families"]),
        ]
        if model is not None:
            count |= accuracies(features_of(model, table, name.lower()), args.test)
            cells += [f"{count[key]:.1f}" for key in measured]
            cells += [f"{count['styles']:.2f}"]
            faults += verdict(count)
        lines.append([name, *cells, "; ".join(faults) or "yes"])
        sheet[name] = count | {"faults": faults}
    head = ["set", "classes", "train", "val", "test", "families"]
    head += [*measured, "styles"] if model is not None else []
    sys.stdout.write(markdown([*head, "keeps the rules"], lines) + "\n")
    if model is not None:
        sys.stdout.write(f"taken: {', '.join(chosen(sheet))}\n")
    if args.out:
        inputs.write(args.out, json.dumps(sheet, indent=1), "--out")
    return int(broken > 0)


def main(arguments: list[str] | None = None) -> int:
    parser = Parser(
        description=__doc__,
        prog="python -m tools.suite.check",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("sets", nargs="*", choices=[*SETS, []], metavar="SET")
    parser.add_argument("--model", type=str, help="a CLIP's file")
    parser.add_argument(
        "--test", action="store_true", help="with --model: accuracies on test pictures, too"
    )
    parser.add_argument("--out", type=inputs.path, help="write the numbers as JSON")
    return inputs.main(check, parser.parse_args(arguments))


if __name__ == "__main__":
    sys.exit(main())
