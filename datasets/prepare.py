"""Make a data set ready: `python -m datasets.prepare openmoji [--root DATA]`. Running it again changes nothing."""

import argparse
import sys

from datasets import icons, openmoji
from datasets.base import UserError

PREPARE = {"openmoji": openmoji.prepare, "icons": icons.prepare}


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, prog="python -m datasets.prepare")
    parser.add_argument("name", choices=sorted(PREPARE), help="data set to prepare")
    parser.add_argument("--root", default="data", help="folder of all data sets (DATASET.ROOT; default: data)")
    args = parser.parse_args(arguments)
    try:
        counts = PREPARE[args.name](args.root)
    except UserError as error:
        sys.stderr.write(f"error: {error}\n")
        return 2
    for name, pictures in counts.items():
        sys.stdout.write(f"{name}: {pictures} pictures under {args.root}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
