"""Write the suite's tables of drawings, classes and splits to `assets/suite` (needs npm; run once).

    python -m tools.suite.make --packages DIR [SET ...]
    python -m tools.suite.make --packages DIR --artists    # writes assets/suite/artists.csv

SET: one of the sets of `tools.suite.sources` or `tools.suite.items`, or Emoji (all by default). The
rules of the splits are in `tools.suite.split`.
"""

import argparse
import gzip
import json
import sys
from collections import Counter, defaultdict
from collections.abc import Callable
from pathlib import Path

from datasets.suite import FOLDER, PICTURE_SIZE, Table, picture_of
from tools import inputs
from tools.arguments import Parser
from tools.pretrain_data import Emoji as EmojiWords
from tools.pretrain_data import drawing, icon_set, named_icons
from tools.suite import emoji, items
from tools.suite.sources import ICONIFY, Source
from tools.suite.split import SHOTS, Families, deal, name_family, near_copies, order, thumbnails

SETS = (*items.NAMES, *ICONIFY, "Emoji")


def collect(source: Source, packages: Path) -> dict[str, dict]:
    """{artist/name: {"class", "box", "body"}} of the drawings of a source."""
    rows: dict[str, dict] = {}
    for artist in source.artists:
        icons, defaults, folder = icon_set(artist, packages)
        metadata = json.loads((folder / "metadata.json").read_text(encoding="utf-8"))
        classes = defaultdict(list)
        for label, categories in source.classes.items():
            for category in categories.split(", "):
                start, _, name = category.rpartition("/") if "/" in category else ("", "", category)
                known = start if start in source.artists else ""
                category = name if known else category
                if known in ("", artist):
                    for icon in metadata["categories"].get(category, ()):
                        classes[icon].append(label)
        for name, icon in icons.items():
            labels = list(dict.fromkeys(classes.get(name, ())))
            if not labels or not name.endswith(source.styles):
                continue
            if source.left_out and name.removesuffix("-outline").endswith(source.left_out):
                continue
            if len(labels) > 1 and source.several == "none":
                continue
            rows[f"{artist}/{name}"] = {"class": labels[0], **drawing(icon, defaults)}
    return rows


def collect_items(name: str, packages: Path) -> dict[str, dict]:
    """As `collect`, of a set of items; of an artist at most `items.EACH` drawings of a class."""
    words, classes = EmojiWords.read(packages), items.classes(name)
    found: dict[tuple[str, str], dict[str, dict]] = defaultdict(dict)
    for artist in items.artists():
        for icon in named_icons(artist, "", packages, words):
            label = classes.get(words.items[icon.item]["label"], classes.get(icon.words))
            if label:
                found[artist, label][f"{artist}/{icon.name}"] = {"class": label, **icon.drawing}
    return {
        key: drawings[key]
        for (_, label), drawings in found.items()
        for key in sorted(drawings, key=lambda key: order(label, key))[: items.EACH]
    }


def families(rows: dict[str, dict], of_name: Callable[[str], str]) -> dict[str, str]:
    """{drawing: family}: of one `of_name`, or near-copies."""
    joined, keys = Families(), list(rows)
    first: dict[str, str] = {}
    for key in keys:
        joined.join(key, first.setdefault(of_name(key), key))
    drawings = thumbnails(picture_of(rows[key], PICTURE_SIZE) for key in keys)
    for a, b in near_copies(drawings):
        joined.join(keys[a], keys[b])
    return {key: joined.root(key) for key in keys}


def write(table: Table, path: Path) -> None:
    """Without a date, so that the bytes are the same every time."""
    path.parent.mkdir(parents=True, exist_ok=True)
    text = json.dumps(dict(sorted(table.items())), separators=(",", ":"))
    path.write_bytes(gzip.compress(text.encode(), 9, mtime=0))


def describe(name: str, table: Table, path: Path) -> str:
    labels = sorted({row["class"] for row in table.values()})
    half = (len(labels) + 1) // 2
    sides = {label: "base" if place < half else "new" for place, label in enumerate(labels)}
    tests = Counter(
        sides[row["class"]]
        for row in table.values()
        if row["split"] == "test" and row.get("style", "colour") == "colour"
    )
    parts = Counter(row["split"] for row in table.values())
    return (
        f"{name}: {len(labels)} classes, {len(table)} drawings {dict(parts)}, test {dict(tests)}, "
        f"{len({row['family'] for row in table.values()})} families, {path.stat().st_size:,} bytes"
    )


def table_of(name: str, args: argparse.Namespace) -> Table:
    if name == "Emoji":
        return emoji.make(args.packages)
    if name in items.NAMES:
        rows = collect_items(name, args.packages)
        same = families(rows, lambda key: f"{key.partition('/')[0]}/{rows[key]['class']}")
        return deal(rows, same, items.MOST, lambda _: 3 * SHOTS)
    rows = collect(ICONIFY[name], args.packages)
    same = families(rows, lambda key: name_family(key.rpartition("/")[2]))
    return deal(rows, same, ICONIFY[name].most)


def make(args: argparse.Namespace) -> int:
    if args.artists:
        items.write_artists(args.packages)
        sys.stdout.write(f"{items.TABLE.name}: {len(items.artists())} artists\n")
        return 0
    for name in args.sets or SETS:
        table, path = table_of(name, args), FOLDER / f"{name.lower()}.json.gz"
        write(table, path)
        sys.stdout.write(f"{describe(name, table, path)}\n")
    return 0


def main() -> int:
    parser = Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sets", nargs="*", choices=[*SETS, []], metavar="SET")
    parser.add_argument(
        "--packages", type=inputs.path, required=True, help="folder of the npm packages"
    )
    parser.add_argument(
        "--artists",
        action="store_true",
        help="write the table of artists from the Iconify packages that lie there, and no set",
    )
    return inputs.main(make, parser.parse_args())


if __name__ == "__main__":
    sys.exit(main())
