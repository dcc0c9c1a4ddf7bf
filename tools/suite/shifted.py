"""The data sheet of the suite's shifted and grouped sets, which no rule of `check` is about.

    python -m tools.suite.shifted --root DATA --model assets/drawings_clip.pt [--out FILE.json]

Reads the prepared data sets as a run does. Zero-shot accuracy and logistic regression on frozen
features (16 shots a class, the mean of five draws) are of test pictures. The regression learns from
the emoji in colour, as what is trained there and tested on another style does, and on the groups
from their own training pictures. --out writes all numbers as JSON.
"""

import argparse
import json
import sys
from pathlib import Path

import numpy as np
from PIL import Image

from dassl.data.datasets import DATASET_REGISTRY
from datasets.base import CoOpDataset
from datasets.check import load
from datasets.prepare import list_files
from tools import inputs
from tools.arguments import Parser
from tools.results import markdown
from tools.suite.check import Features, accuracies, encoded
from tools.sweep import add_root

# Data set -> the one that the regression learns from.
SETS = {
    "Emoji": "Emoji",
    "EmojiLine": "Emoji",
    "EmojiOneColour": "Emoji",
    "EmojiRendered": "Emoji",
    "EmojiGroups": "EmojiGroups",
}
COLUMNS = ("chance", "zero-shot", "probe")


def features(model, items) -> tuple[np.ndarray, np.ndarray]:
    """(N, D) of the pictures of items, and their labels (N,)."""
    pictures = [Image.open(item.impath).convert("RGB") for item in items]
    return encoded(model, pictures), np.array([item.label for item in items])


def measured(model, source: CoOpDataset, data: CoOpDataset) -> dict[str, float]:
    """Chance, zero-shot and probe in percent, on the test pictures of `data`."""
    names = [data.templates[0].format(name.replace("_", " ")) for name in data.classnames]
    # `accuracies` asks of "val"; here these are the test pictures.
    parts = {"train": features(model, source.train_x), "val": features(model, data.test)}
    found = accuracies(Features(model.encode_texts(names).numpy(), parts))
    return {column: found[column] for column in COLUMNS}


def sheet(args: argparse.Namespace) -> int:
    from trainers.backbone import load_backbone

    read = [args.model, *list_files(Path(args.root))]
    inputs.check_outputs([inputs.Output("--out", args.out)], read)
    if not Path(args.model).is_file():
        raise inputs.InputError(f"--model '{args.model}' is no file: give that of a CLIP")
    data = {name: load(DATASET_REGISTRY.get(name), args.root)[0] for name in SETS}
    model, found = load_backbone(args.model), {}
    for name, source in SETS.items():
        one = data[name]
        found[name] = {
            "classes": one.num_classes,
            "train": len(one.train_x),
            "val": len(one.val),
            "test": len(one.test),
            "families": len(set(one.clusters(one.test))),
            **measured(model, data[source], one),
        }
    sys.stdout.write(markdown(*table(found)) + "\n")
    if args.out:
        inputs.write(args.out, json.dumps(found, indent=1), "--out")
    return 0


def table(found: dict[str, dict]) -> tuple[list[str], list[list[str]]]:
    """(head, rows) of the data sheet."""
    head = ["set", "classes", "train", "val", "test", "families in test", *COLUMNS]
    counts = ("classes", "train", "val", "test", "families")
    rows = [
        [name, *(str(row[key]) for key in counts), *(f"{row[key]:.1f}" for key in COLUMNS)]
        for name, row in found.items()
    ]
    return head, rows


def main(arguments: list[str] | None = None) -> int:
    parser = Parser(
        description=__doc__,
        prog="python -m tools.suite.shifted",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add_root(parser)
    parser.add_argument("--model", required=True, help="a CLIP's file")
    parser.add_argument("--out", type=inputs.path, help="write the numbers as JSON")
    return inputs.main(sheet, parser.parse_args(arguments))


if __name__ == "__main__":
    sys.exit(main())
