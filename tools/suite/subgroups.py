"""Write `datasets/sets/emoji.csv`: the class of each emoji, and its family.

Classes are Unicode's subgroups under names that a person would use. Emoji that show the same thing
are a family. Source: the Unicode emoji data as packaged in `emojibase-data` (MIT; `npm pack
emojibase-data`). Run once: the suite reads the committed table.

    python -m tools.suite.subgroups --emojibase DIR_OF_UNPACKED_PACKAGE
"""

import argparse
import csv
import json
import re
import sys
from pathlib import Path

from datasets.sets.emoji_groups import TABLE
from tools import inputs
from tools.arguments import Parser
from tools.suite.split import order

COLUMNS = ("hexcode", "family", "class")

# Class name -> Unicode's subgroups. Subgroups left out have too few pictures, or pictures that are
# all alike (flags, keycaps).
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


def rows(emojibase: Path) -> list[dict[str, str]]:
    """Rows of the table, classes in ABC order.

    Families are in an order that looks random, into which later versions of Unicode only insert.
    """
    emoji = json.loads((emojibase / "en" / "data.json").read_text(encoding="utf-8"))
    groups = json.loads((emojibase / "meta" / "groups.json").read_text(encoding="utf-8"))
    class_of = {subgroup: name for name, members in CLASSES.items() for subgroup in members}
    table = []
    for item in emoji:
        name = class_of.get(groups["subgroups"].get(str(item.get("subgroup")), ""))
        if name:
            table.append(dict(zip(COLUMNS, (item["hexcode"], family(item["label"]), name))))
    return sorted(table, key=lambda row: (row["class"], order(row["class"], row["family"])))


def main() -> int:
    parser = Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--emojibase",
        type=inputs.path,
        required=True,
        help="folder of the unpacked emojibase-data package",
    )
    table = rows(parser.parse_args().emojibase)
    with open(TABLE, "w", encoding="utf-8", newline="") as handle:
        writer = csv.DictWriter(handle, COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(table)
    classes = {row["class"] for row in table}
    sys.stdout.write(f"{len(table)} emoji in {len(classes)} classes\n")
    return 0


if __name__ == "__main__":
    sys.exit(inputs.main(lambda _: main(), argparse.Namespace()))
