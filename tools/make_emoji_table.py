"""Write `datasets/sets/emoji.csv`, the table behind the bundled benchmark: which emoji is in which
class and split.

Source of names and subgroups: the Unicode emoji data as packaged in `emojibase-data` (MIT; `npm
pack emojibase-data`). Only needed when the table is to change; the benchmark itself reads the
committed table.

    python -m tools.make_emoji_table --emojibase DIR_OF_UNPACKED_PACKAGE
"""

import argparse
import csv
import hashlib
import json
import re
import sys
from collections import defaultdict
from pathlib import Path

from tools import inputs

TABLE = Path(__file__).resolve().parent.parent / "datasets" / "sets" / "emoji.csv"
COLUMNS = ("hexcode", "name", "family", "class", "split")

# Unicode subgroups -> class name a person would use. Subgroups left out have too few pictures, or
# (flags, keycaps)
# pictures that are all alike.
CLASSES = {
    "smiling face": ("face-smiling", "face-affection", "face-tongue"),
    "worried face": ("face-concerned",),
    "skeptical face": ("face-neutral-skeptical",),
    "sick or sleepy face": ("face-unwell", "face-sleepy"),
    "heart": ("heart",),
    "hand gesture": (
        "hand-fingers-open",
        "hand-fingers-partial",
        "hand-single-finger",
        "hand-fingers-closed",
        "hands",
        "hand-prop",
    ),
    "body part": ("body-parts",),
    "gesturing person": ("person-gesture",),
    "worker": ("person-role",),
    "fantasy person": ("person-fantasy",),
    "active person": ("person-activity",),
    "athlete": ("person-sport",),
    "mammal": ("animal-mammal",),
    "bird": ("animal-bird",),
    "insect": ("animal-bug",),
    "marine animal": ("animal-marine",),
    "plant": ("plant-flower", "plant-other"),
    "fruit": ("food-fruit",),
    "vegetable": ("food-vegetable",),
    "prepared food": ("food-prepared",),
    "asian food": ("food-asian",),
    "dessert": ("food-sweet",),
    "drink": ("drink",),
    "building": ("place-building", "place-religious"),
    "place": ("place-geographic", "place-other"),
    "land vehicle": ("transport-ground",),
    "aircraft": ("transport-air",),
    "weather": ("sky-weather",),
    "celebration": ("event",),
    "sport": ("sport",),
    "game": ("game",),
    "clothing": ("clothing",),
    "musical instrument": ("musical-instrument",),
    "household object": ("household",),
    "book or paper": ("book-paper",),
    "camera or lamp": ("light-video",),
    "computer": ("computer",),
    "office supplies": ("office",),
    "tool": ("tool",),
    "mail": ("mail",),
    "arrow": ("arrow",),
    "geometric shape": ("geometric",),
    "media button": ("av-symbol",),
    "letter button": ("alphanum",),
    "zodiac sign": ("zodiac",),
    "religious symbol": ("religion",),
    "traffic sign": ("transport-sign",),
    "warning sign": ("warning",),
}
TRAIN, VAL = (
    10,
    3,
)  # pictures per class kept for few-shot training and for validation; the rest is the test set


def family(name: str) -> str:
    """Emoji that show the same thing (gender, hair, skin or hour variants) share a family, and a
    family stays on one side.
    """
    name = name.lower().replace("’", "'")
    if re.search(r"o'clock|-thirty", name):
        return "clock face"
    name = name.split(":")[0]
    name = re.sub(
        r"\b(man|men|woman|women|boy|girl|person|people|santa|mother|mrs|mx|facing right)\b\.?",
        " ",
        name,
    )
    name = re.sub(r"\bmer(maid|person)\b", "merman", name.replace("merman", "mermaid"))
    return " ".join(re.findall(r"[\w']+", name))


def rows(emojibase: Path) -> list[dict]:
    emoji = json.loads((emojibase / "en" / "data.json").read_text())
    subgroups = json.loads((emojibase / "meta" / "groups.json").read_text())["subgroups"]
    class_of = {subgroup: name for name, members in CLASSES.items() for subgroup in members}
    families: dict[str, dict[str, list]] = defaultdict(lambda: defaultdict(list))
    for item in emoji:
        name = class_of.get(subgroups.get(str(item.get("subgroup")), ""))
        if name:
            families[name][family(item["label"])].append(item)
    table = []
    for name, members in sorted(families.items()):
        # A hash order is a fixed shuffle that later Unicode versions only insert into.
        order = sorted(
            members, key=lambda key: hashlib.sha256(f"{name}/{key}".encode()).hexdigest()
        )
        counts = {"val": 0, "train": 0, "test": 0}
        small = sum(map(len, members.values())) < 24
        wanted = {"val": VAL - small, "train": TRAIN - 2 * small}
        for key in order:
            # Families of many pictures go to the test side, so that one thing never fills a class's
            # few shots.
            split = next(
                (s for s in wanted if counts[s] < wanted[s] and len(members[key]) <= 3), "test"
            )
            counts[split] += len(members[key])
            table += [
                dict(zip(COLUMNS, (item["hexcode"], item["label"], key, name, split)))
                for item in members[key]
            ]
        if min(counts.values()) < 2:
            raise SystemExit(
                f"class '{name}' has {counts} pictures: too few, take it out of CLASSES"
            )
    return table


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--emojibase",
        type=inputs.path,
        required=True,
        help="folder of the unpacked emojibase-data package",
    )
    table = rows(parser.parse_args().emojibase)
    with open(TABLE, "w", newline="") as handle:
        writer = csv.DictWriter(handle, COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(table)
    count = {
        split: sum(row["split"] == split for row in table) for split in ("train", "val", "test")
    }
    classes = {row["class"] for row in table}
    sys.stdout.write(f"{len(table)} emoji in {len(classes)} classes: {count}\n")
    return 0


if __name__ == "__main__":
    sys.exit(inputs.main(lambda _: main(), argparse.Namespace()))
