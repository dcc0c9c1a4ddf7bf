"""Which few shots a run draws: `python -m datasets.picks NAME ... [--root DATA] [--write]`.

Prints a checksum of the training images that each number of shots and each seed draws from a data
set. picks.json beside this file holds known checksums, {data set: {"of": whose draw it is, "picks"
or "places": {shots: {seed: checksum}}}}; a run's log says whether its picks are the known ones.
--write adds what was drawn, and refuses what contradicts a known checksum. For a published set that
is the published draw, and needs the published split.

Checksums of published sets are those of the picks' places in the training list of the split file,
which depend on the numbers of images of its classes alone ("sizes"). The sizes were derived from
the places that cross_modal_adaptation's index files name (Lin et al., CVPR 2023; folder indices),
and tests/test_picks.py draws these places again.
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
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

from dassl.data.datasets import Datum
from dassl.utils import write_json
from datasets.errors import UserError
from datasets.files import PUBLISHED_FILE, kind_of_split
from datasets.locks import absolute
from tools.arguments import Parser

FILE = Path(__file__).resolve().parent / "picks.json"
SHOTS, SEEDS = (1, 2, 4, 8, 16), (1, 2, 3)
STUDY, PUBLISHED = "the bundled study", "the published split"
BY_PATH, BY_PLACE = "picks", "places"  # keys of picks.json and of results.json


def checksum(picks: Iterable[tuple[str, int]]) -> str:
    """16 hexadecimal digits of (path below DATASET.ROOT, label) in any order."""
    text = json.dumps(sorted(map(list, picks)), ensure_ascii=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def places(drawn: Iterable[Datum], listed: Sequence[Datum]) -> str:
    """`digest` of the places of the images `drawn` in the training list that they are from."""
    known = {id(item): place for place, item in enumerate(listed)}
    return digest(known[id(item)] for item in drawn)


def digest(numbers: Iterable[int]) -> str:
    """16 hexadecimal digits of places in any order."""
    return hashlib.sha256(json.dumps(sorted(numbers)).encode()).hexdigest()[:16]


def places_of(sizes: Iterable[int], shots: int, seed: int) -> list[int]:
    """The places that a run draws from a list of classes of these sizes, one class after the other.

    A class of fewer images than `shots` gives all.
    """
    source, start, found = random.Random(seed), 0, []
    for size in sizes:
        listed = range(start, start + size)
        found += source.sample(listed, shots) if size >= shots else listed
        start += size
    return found


@functools.cache
def _stored() -> dict:
    return json.loads(FILE.read_text(encoding="utf-8"))


def known(dataset: str, shots: int, seed: int) -> tuple[str, str, str]:
    """(checksum, whether it is BY_PATH or BY_PLACE, whose draw it is) by the name in
    configs/datasets; the checksum is "" if unknown.
    """
    entry = _stored().get(dataset, {})
    kind = BY_PLACE if BY_PLACE in entry else BY_PATH
    return entry.get(kind, {}).get(str(shots), {}).get(str(seed), ""), kind, entry.get("of", "")


def described(
    dataset: str,
    shots: int,
    seed: int,
    found: Mapping[str, str],
    kind_of_list: Callable[[], str] = lambda: PUBLISHED_FILE,
) -> str:
    """A run's picks in words, for its log.

    found: {BY_PATH or BY_PLACE: checksum}. kind_of_list: `datasets.files.kind_of_split` of the list
    that they were drawn from, which is asked for where places are known: in another list they are
    other images.
    """
    wanted, kind, of = known(dataset, shots, seed)
    text = found[BY_PATH]
    if not wanted:
        return text
    split = kind_of_list() if kind == BY_PLACE else PUBLISHED_FILE
    if split not in (PUBLISHED_FILE, "there"):
        return f"{text}, of another split than the published one"
    if found[kind] != wanted:
        return f"{text}, another draw than that of {of}"
    unknown = " (if its lists are, which nothing tells)" if split != PUBLISHED_FILE else ""
    return f"{text}, the draw of {of}{unknown}"


def drawn(kind: type, root: str, shots: int, seed: int) -> dict[str, str]:
    """{BY_PATH or BY_PLACE: checksum} of what a data set draws. Raises UserError as a run does."""
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
            found = kind(cfg)
            return {BY_PATH: found.picks, BY_PLACE: found.places}
    finally:
        random.setstate(state)


def _of(kind: type, root: str) -> str:
    """Whose draw a data set's picks are. Raises UserError for a split that is not the published."""
    from datasets.suite import SuiteDataset

    if issubclass(kind, SuiteDataset):
        return STUDY
    if not kind.split_md5:
        raise UserError(
            f"no checksum of a published split of {kind.__name__} is known, so nothing tells whose "
            "its picks are: leave --write out"
        )
    path = Path(root, kind.folder, kind.split_file)
    if kind_of_split(path, kind.split_md5) != PUBLISHED_FILE:
        raise UserError(
            f"'{path}' is not the published split of {kind.__name__}, so its picks are nobody "
            "else's: leave --write out, or get the published file with datasets.prepare"
        )
    return PUBLISHED


def _add(entry: dict, name: str, shots: int, seed: int, checksums: dict[str, str]) -> None:
    """Put a checksum into a data set's entry. Raises UserError if the entry has another one."""
    kind = BY_PLACE if entry["of"] == PUBLISHED else BY_PATH
    found = checksums[kind]
    of_shots = entry.setdefault(kind, {}).setdefault(str(shots), {})
    stored = of_shots.setdefault(str(seed), found)
    if stored != found:
        raise UserError(
            f"'{FILE}' has {stored} for {name}, {shots} shots, seed {seed}, and {found} was drawn: "
            "look for what changed since, and take the stored one out if the new one is right"
        )


def _in_order(entry: dict) -> dict:
    """An entry with its shots and seeds rising."""
    kind = BY_PLACE if BY_PLACE in entry else BY_PATH
    picks = {
        shots: dict(sorted(of_shots.items(), key=lambda pair: int(pair[0])))
        for shots, of_shots in sorted(entry[kind].items(), key=lambda pair: int(pair[0]))
    }
    return {**entry, kind: picks}


def work(args: argparse.Namespace) -> int:
    from datasets.prepare import find

    root = absolute(args.root)
    content = json.loads(FILE.read_text(encoding="utf-8"))
    for kind in map(find, args.names):
        name = kind.config_name()
        entry = content.get(name, {}) | {"of": _of(kind, root)} if args.write else {}
        for shots in args.shots:
            for seed in args.seeds:
                found = drawn(kind, root, shots, seed)
                sys.stdout.write(f"{name} {shots} shots, seed {seed}: {found[BY_PATH]}\n")
                if args.write:
                    _add(entry, name, shots, seed, found)
        if args.write:
            content[name] = _in_order(entry)
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
