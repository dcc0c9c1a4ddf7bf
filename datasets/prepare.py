"""Make a data set ready: `python -m datasets.prepare NAME [--root DATA] [--from ARCHIVE_OR_DIR]`.

Running it again changes nothing.

NAME is that of a config or of a class (oxford_pets, OxfordPets). Files are downloaded, and checked
where a checksum is known, or taken from `--from`: an archive, or a folder that holds archives or
the unpacked data.
"""

import argparse
import difflib
import os
import sys
from pathlib import Path

import datasets
from dassl.data.datasets import DATASET_REGISTRY
from datasets.base import CoOpDataset, UserError
from datasets.sets.imagefolder import OwnDataset
from tools import inputs
from tools.arguments import Parser


def prepared_classes() -> dict[str, type[CoOpDataset]]:
    """{registered name: class} of the data sets that this package brings."""
    return {
        name: cls
        for name in DATASET_REGISTRY.registered_names()
        if (cls := DATASET_REGISTRY.get(name)).__module__.startswith(f"{datasets.__name__}.")
        and issubclass(cls, CoOpDataset)
        and not issubclass(cls, OwnDataset)
    }


def list_files(root: Path) -> list[Path]:
    """The lists and split files that data sets below `root` read, there or not."""
    return [
        Path(root, cls.folder, name)
        for cls in prepared_classes().values()
        for name in (cls.split_file, *cls.lists)
        if name
    ]


def find(name: str) -> type[CoOpDataset]:
    """The data set of a class's, config's or folder's name, in any spelling.

    Raises UserError listing the known names.
    """
    classes = prepared_classes()

    def plain(text: str) -> str:
        return text.lower().replace("-", "").replace("_", "")

    spellings = {
        plain(text): cls
        for cls in reversed(classes.values())
        for text in (cls.folder, cls.config_name(), cls.__name__)
    }
    if plain(name) in spellings:
        return spellings[plain(name)]
    close = difflib.get_close_matches(plain(name), spellings, 1, 0.5)
    hint = f"did you mean '{spellings[close[0]].__name__}'? " if close else ""
    raise UserError(f"unknown data set '{name}': {hint}known ones are {', '.join(sorted(classes))}")


def main(arguments: list[str] | None = None) -> int:
    parser = Parser(
        description=__doc__,
        prog="python -m datasets.prepare",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("name", help="data set to prepare")
    parser.add_argument(
        "--root",
        type=os.path.expanduser,
        default="data",
        help="folder of all data sets (DATASET.ROOT; default: data)",
    )
    parser.add_argument(
        "--from",
        dest="given",
        type=lambda text: Path(os.path.expanduser(text)),
        help="an archive or a folder that you have already",
    )
    return inputs.main(
        run,
        parser.parse_args(arguments),
        interrupted="interrupted: run the same command again to go on",
    )


def run(args: argparse.Namespace) -> int:
    for name, pictures in find(args.name).prepare(args.root, args.given).items():
        sys.stdout.write(f"{name}: {pictures:,} pictures under {args.root}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
