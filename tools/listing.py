"""What there is: trainers, configs, data sets; for `train.py --list`. No torch without a root."""

import os
import sys
import textwrap
from argparse import Namespace
from pathlib import Path

from tools import configs, inputs

WIDTH = 118


def _block(name: str, words: list[str]) -> str:
    """A name, and words behind it, wrapped."""
    return textwrap.fill(
        ", ".join(words),
        WIDTH,
        initial_indent=f"  {name:<18}",
        subsequent_indent=" " * 20,
        break_long_words=False,
        break_on_hyphens=False,
    )


def _trainers() -> list[str]:
    """A line per structure with its configs; CRAFT's presets once."""
    plain = [name for name in configs.trainers() if not configs.has_craft(name)]
    lines = ["Trainers, each with its configs (--trainer NAME --config-file FILE):"]
    for name in plain:
        lines.append(_block(name, list(configs.stems(f"trainers/{name}"))))
    crafted = [configs.with_craft(name) for name in plain if configs.takes_craft(name)]
    lines += [
        "",
        "With CRAFT, by a config of the structure and a preset of configs/craft:",
        _block("trainers", crafted),
        _block("presets", list(configs.presets())),
    ]
    own = {name: configs.stems(f"trainers/{name}") for name in crafted}
    lines += [_block(name, list(stems)) for name, stems in own.items() if stems]
    return lines


def _data_sets(root: str | None) -> list[str]:
    """Config names of the data sets; with a root, which of them are there."""
    names = list(configs.stems("datasets"))
    if root is None:
        bundled = [name for name in configs.bundled_datasets() if name in names]
        others = [name for name in names if name not in bundled]
        return [
            "Data sets (--dataset-config-file configs/datasets/NAME.yaml); with --root, what is "
            "there:",
            _block("bundled", bundled),
            _block("others", others),
        ]
    from datasets.prepare import prepared_classes  # takes seconds to import

    classes = prepared_classes()
    there: list[str] = []
    absent: list[str] = []
    for name in names:
        kind = classes.get(configs.registered(name))
        if kind is None:  # for one's own pictures: DATASET.FOLDER says where
            continue
        place = Path(root) / kind.folder
        if not place.is_dir():
            absent.append(name)
        elif kind.split_file and not (place / kind.split_file).is_file():
            there.append(f"{name} (without {kind.split_file}, so a run makes a split)")
        else:
            there.append(name)
    return [
        f"Data sets below '{root}' (`python -m datasets.check --root {root}` looks closer):",
        _block("there", there or ["none"]),
        _block("absent", absent or ["none"]),
        *([f"  `python -m datasets.prepare NAME --root {root}` makes one ready"] if absent else []),
    ]


def run(args: Namespace) -> int:
    """Raises InputError for a root that is no folder."""
    if args.root is not None and not os.path.isdir(args.root):
        raise inputs.InputError(f"--root is '{args.root}', which is no folder: correct it")
    sys.stdout.write("\n".join(_trainers()) + "\n\n")
    sys.stdout.flush()
    sys.stdout.write("\n".join(_data_sets(args.root)) + "\n")
    return 0


def main(root: str | None) -> int:
    """0, or 2 after one sentence about bad input."""
    return inputs.main(run, Namespace(root=root and os.path.expanduser(root)))


if __name__ == "__main__":
    sys.exit(main(None))
