"""Which few shots a run draws: `python -m datasets.picks NAME ... [--root DATA] [--write]`.

Prints a checksum of the training images that each number of shots and each seed draws from a data
set. picks.json beside this file holds known checksums, {data set: {"of": whose draw it is, "picks":
{shots: {seed: checksum}}}}; a run's log says whether its picks are the known ones. --write puts
there what was drawn. For a published set that is the published draw, and needs the published split.
"""

import argparse
import contextlib
import functools
import hashlib
import io
import json
import os.path as osp
import random
import sys
from collections.abc import Iterable
from pathlib import Path

from dassl.utils import write_json
from datasets.errors import UserError
from datasets.locks import absolute
from tools.arguments import Parser

FILE = Path(__file__).resolve().parent / "picks.json"
SHOTS, SEEDS = (1, 2, 4, 8, 16), (1, 2, 3)
STUDY, PUBLISHED = "the bundled study", "the published split"


def checksum(picks: Iterable[tuple[str, int]]) -> str:
    """16 hexadecimal digits of (path below DATASET.ROOT, label) in any order."""
    text = json.dumps(sorted(map(list, picks)), ensure_ascii=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


@functools.cache
def _stored() -> dict:
    return json.loads(FILE.read_text(encoding="utf-8"))


def known(dataset: str, shots: int, seed: int) -> tuple[str, str]:
    """(checksum, whose draw it is) by the name in configs/datasets; "" if unknown."""
    entry = _stored().get(dataset, {})
    return entry.get("picks", {}).get(str(shots), {}).get(str(seed), ""), entry.get("of", "")


def described(dataset: str, shots: int, seed: int, found: str) -> str:
    """A run's picks in words, for its log."""
    wanted, of = known(dataset, shots, seed)
    if not wanted:
        return found
    return f"{found}, {'the draw' if found == wanted else 'another draw than that'} of {of}"


def drawn(kind: type, root: str, shots: int, seed: int) -> str:
    """The checksum of what a data set draws. Raises UserError as a run does."""
    import datasets
    from dassl.config import get_cfg_default

    cfg = get_cfg_default()
    datasets.extend_cfg(cfg)
    cfg.DATASET.ROOT, cfg.DATASET.NAME = root, kind.__name__
    cfg.DATASET.NUM_SHOTS, cfg.SEED = shots, seed
    state = random.getstate()
    random.seed(seed)  # as train.py does before it makes the data set
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            return kind(cfg).picks
    finally:
        random.setstate(state)


def _of(kind: type, root: str) -> str:
    """Whose draw a data set's picks are. Raises UserError for a split that is not the published."""
    from datasets.check import kind_of_split
    from datasets.suite import SuiteDataset

    if issubclass(kind, SuiteDataset):
        return STUDY
    path = Path(root, kind.folder, kind.split_file)
    if not kind.split_md5 or kind_of_split(path, kind.split_md5) != "published":
        raise UserError(
            f"'{path}' is not the published split of {kind.__name__}, so its picks are nobody "
            "else's: leave --write out, or get the published file with datasets.prepare"
        )
    return PUBLISHED


def work(args: argparse.Namespace) -> int:
    from datasets.prepare import find

    root = absolute(args.root)
    content = json.loads(FILE.read_text(encoding="utf-8"))
    for name in args.names:
        kind = find(name)
        entry = {"of": _of(kind, root), "picks": {}} if args.write else {}
        for shots in args.shots:
            for seed in args.seeds:
                found = drawn(kind, root, shots, seed)
                sys.stdout.write(f"{kind.config_name()} {shots} shots, seed {seed}: {found}\n")
                if args.write:
                    entry["picks"].setdefault(str(shots), {})[str(seed)] = found
        if args.write:
            content[kind.config_name()] = entry
    if args.write:
        write_json(content, str(FILE))
    return 0


def main(arguments: list[str] | None = None) -> int:
    from tools import inputs

    parser = Parser(
        description=__doc__,
        prog="python -m datasets.picks",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("names", nargs="+", metavar="NAME", help="data sets")
    parser.add_argument("--root", type=osp.expanduser, default="data", help="default: data")
    parser.add_argument("--shots", type=int, nargs="+", default=SHOTS, metavar="N")
    parser.add_argument("--seeds", type=int, nargs="+", default=SEEDS, metavar="N")
    parser.add_argument("--write", action="store_true", help="into datasets/picks.json")
    return inputs.main(work, parser.parse_args(arguments))


if __name__ == "__main__":
    sys.exit(main())
