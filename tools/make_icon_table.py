"""Write `assets/icons.json.gz`, the drawings, classes and splits of the data set Icons (needs npm;
run once).

    python -m tools.make_icon_table --packages DIR

Icons of artists that the tiny CLIP is not pretrained on, in the categories that their authors gave
them. Many more pictures than there are emoji: enough for a standard error below one point on base
and on new classes.
"""

import argparse
import gzip
import hashlib
import json
import re
import sys
from collections import Counter, defaultdict
from pathlib import Path

from datasets.sets.icons import TABLE
from tools import inputs
from tools.pretrain_data import fetch

SETS = {
    "icon-park": "Apache-2.0",
    "solar": "CC BY 4.0",
    "iconoir": "MIT",
    "streamline-ultimate-color": "CC BY 4.0",
}
# Class -> categories of the sets' own metadata. Categories left out say what an icon is for (UI,
# Actions), not what it shows.
CLASSES = {
    "animal": "icon-park Animals, iconoir Animals",
    "arrow": "icon-park Arrows, solar Arrows, solar Arrows Action, iconoir Navigation",
    "baby product": "icon-park Baby",
    "brand logo": "icon-park Brand, streamline-ultimate-color Logos",
    "building": "icon-park Build, iconoir Buildings, solar Building",
    "camera or film": (
        "solar Video, iconoir Photos and Videos, streamline-ultimate-color ImagesPhotography, "
        "streamline-ultimate-color VideoMoviesTv"
    ),
    "chart": "icon-park Charts, solar Business, iconoir Business",
    "chat message": (
        "icon-park Communicate, iconoir Communication, solar Messages, streamline-ultimate-color "
        "MessagesChatSmileys"
    ),
    "clock or calendar": "icon-park Time, solar Time",
    "clothing": "icon-park Clothes, iconoir Clothing",
    "computer or phone": "icon-park Hardware, iconoir Devices, solar Devices, "
    "streamline-ultimate-color ComputersDevicesElectronics, streamline-ultimate-color "
    "PhonesMobileDevices",
    "cosmetics": "icon-park Makeups",
    "database": "icon-park Datas, iconoir Database",
    "face": "icon-park Emoji, iconoir Emojis, solar Faces",
    "file or folder": "solar Files, solar Folders, iconoir Docs, "
    "streamline-ultimate-color FilesFolders",
    "food or drink": "icon-park Foods, iconoir Food, solar Food, "
    "streamline-ultimate-color FoodDrinks",
    "game": "icon-park Game, iconoir Gaming",
    "geometric shape": "icon-park Graphics, iconoir Shapes",
    "hand gesture": "icon-park Hands, iconoir Gestures, solar Hands",
    "health": "icon-park Health, iconoir Health, solar Medicine, "
    "streamline-ultimate-color HealthBeauty",
    "household object": "icon-park Life, iconoir Home, solar Home",
    "lock or shield": "icon-park Safe, iconoir Security, solar Security",
    "map": "iconoir Maps, solar Map, streamline-ultimate-color MapsNavigation",
    "money": (
        "icon-park Money, iconoir Finance, solar Money, streamline-ultimate-color "
        "MoneyPaymentsFinance"
    ),
    "music": "icon-park Music, iconoir Music, iconoir Audio, streamline-ultimate-color MusicAudio",
    "office supplies": "icon-park Office, streamline-ultimate-color WorkOfficeCompanies",
    "person": "icon-park Peoples, iconoir Users, solar Users, streamline-ultimate-color Users",
    "plant": "icon-park Energy, iconoir Nature, solar Nature",
    "science": "iconoir Science, streamline-ultimate-color Science",
    "shopping": "iconoir Shopping, solar Shopping, streamline-ultimate-color ShoppingEcommerce",
    "software": "iconoir Development, solar IT, streamline-ultimate-color ProgramingAppsWebsites",
    "sport": "icon-park Sports, iconoir Activities, solar Sports, streamline-ultimate-color Sports",
    "text formatting": "icon-park Edit, iconoir Editor, iconoir Typography, solar Text Formatting",
    "vehicle": "icon-park Travel, iconoir Transport, streamline-ultimate-color Transportation",
    "weather": "icon-park Weather, iconoir Weather, solar Weather, "
    "streamline-ultimate-color Weather",
}
SIZES = {"val": 4, "train": 16}  # pictures per class; the rest is the test set
NUMBERS = "one|two|three|four|five|six|seven|eight|nine|ten"


def family(name: str) -> str:
    """Variants of one drawing (numbered, filled, rounded) share a family, and a family stays on one
    side of the split.
    """
    return re.sub(
        rf"(-({NUMBERS}|\d+|linear|solid|square|circle|rounded|minimalistic|alt))+(?=-|$)", "", name
    )


def collect(packages: Path) -> tuple[dict[str, dict[str, list[str]]], dict[str, dict]]:
    """Return {class: {family: icons}} and {icon: its size and drawing} of all artists' packages."""
    class_of = {
        category: name
        for name, categories in CLASSES.items()
        for category in categories.split(", ")
    }
    members: dict[str, dict[str, list]] = defaultdict(lambda: defaultdict(list))
    bodies: dict[str, dict] = {}
    for artist in SETS:
        folder = fetch(f"@iconify-json/{artist}@1.2", packages)
        icons = json.loads((folder / "icons.json").read_text())
        categories = json.loads((folder / "metadata.json").read_text())["categories"]
        for category, names in categories.items():
            label = class_of.get(f"{artist} {category}")
            if label is None:
                continue
            for name in names:
                if artist == "solar" and not name.endswith("-linear") or name.endswith("-solid"):
                    continue  # the same drawing in another style
                icon, key = icons["icons"][name], f"{artist}/{name}"
                if key not in bodies:  # the first category of an icon counts
                    size = [icon.get(side, icons.get(side, 16)) for side in ("width", "height")]
                    bodies[key] = {"size": size, "body": icon["body"]}
                    members[label][family(name)].append(key)
    return members, bodies


def split_of(label: str, families: dict[str, list[str]]) -> dict[str, list[str]]:
    """{part: icons} of a class, by families in the order of hashes of their names."""
    parts: dict[str, list[str]] = {"val": [], "train": [], "test": []}

    def order(key: str) -> str:
        return hashlib.sha256(f"{label}/{key}".encode()).hexdigest()

    for key in sorted(families, key=order):
        icons = families[key]
        part = "test"
        if len(icons) <= 2:
            part = next((p for p, most in SIZES.items() if len(parts[p]) < most), "test")
        parts[part] += icons
    return parts


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--packages", type=inputs.path, required=True, help="folder of the npm packages"
    )
    members, bodies = collect(parser.parse_args().packages)
    table: dict[str, dict] = {}
    taken: dict[str, str] = {}
    for label in sorted(members):
        # A family that another class has too would be on both sides.
        families = {
            key: icons
            for key, icons in members[label].items()
            if taken.setdefault(key, label) == label
        }
        parts = split_of(label, families)
        for part, icons in parts.items():
            table |= {icon: {"class": label, "split": part, **bodies[icon]} for icon in icons}
        counts = {part: len(icons) for part, icons in parts.items() if icons}
        sys.stdout.write(f"{label}: {counts}\n")
    text = json.dumps(dict(sorted(table.items())), separators=(",", ":"))
    # Without a date, so that the bytes are the same every time.
    TABLE.write_bytes(gzip.compress(text.encode(), 9, mtime=0))
    sys.stdout.write(
        f"{len(table)} icons in {len(members)} classes: "
        f"{Counter(row['split'] for row in table.values())}, {TABLE.stat().st_size:,} bytes\n"
    )
    return 0


if __name__ == "__main__":
    sys.exit(inputs.main(lambda _: main(), argparse.Namespace()))
