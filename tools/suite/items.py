"""Classes of the suite's data sets of items: one thing, drawn by many artists.

A class holds every drawing to which an artist gave one of its names. Artists: the sets of npm's
`@iconify-json` with a licence in `LICENCES` whose category is not in `NO_THINGS`. The names were
chosen by hand among those that occur often, before any model was trained on a set: things that can
be drawn; no brands, no signs, nothing whose name has two meanings.
"""

import csv
import functools
import json
import re
from pathlib import Path

from datasets.suite import FOLDER
from tools.inputs import InputError

LICENCES = (
    *("MIT", "Apache-2.0", "ISC", "CC-BY-4.0", "CC-BY-3.0", "CC0-1.0", "OFL-1.1", "Unlicense"),
    *("BSD-3-Clause", "CC-BY-SA-4.0"),
)
NO_THINGS = ("Logos", "Flags / Maps", "Programming")
EACH, MOST = 24, 400  # drawings of a class: of an artist, and of all
TABLE = FOLDER / "artists.csv"
COLUMNS = ("set", "name", "author", "licence", "url")
# {set: "class: name, name; class: ..."}; a class alone is its own name.
NAMES = {
    "Things": (
        "battery; bell; book; briefcase; calculator; calendar; camera: camera, photo camera; "
        "chain link: link; clipboard; compass; credit card; database; "
        "envelope: envelope, mail, email; eye; flag; floppy disk: floppy disk, save; folder; "
        "funnel: funnel, filter; gear: gear, cog, settings; "
        "gift: gift, wrapped gift; globe: globe, globe with meridians, earth; "
        "headphones: headphones, headphone; home: home, house; "
        "hourglass: hourglass, hourglass done, hourglass not done; key; keyboard; laptop; "
        "light bulb: light bulb, lightbulb, bulb; "
        "magnifying glass: search, zoom in, zoom out, magnifying glass tilted left; "
        "map: map, world map; "
        "microphone: microphone, mic, studio microphone; "
        "padlock: padlock, lock, locked, lock open, unlock, unlocked; "
        "paper plane: paper plane, send; pencil: pencil, edit; "
        "pin: pin, push pin, pushpin, round pushpin, map pin, location; "
        "price tag: tag, price tag, label; printer; rocket; shield; shopping bag; shopping cart; "
        "telephone: telephone, phone, telephone receiver; ticket; "
        "trash can: trash can, trash, bin, wastebasket, delete; trophy; umbrella; wallet"
    ),
    "Office": (
        "barcode; box: box, package; eraser; fingerprint; "
        "gamepad: gamepad, game controller, video game; glasses: glasses, eyeglasses; "
        "graduation cap; megaphone; newspaper; notebook; paper clip: paper clip, paperclip; pen; "
        "radio; receipt; robot; ruler; scissors; stopwatch: stopwatch, timer; "
        "television: television, tv; watch; webcam"
    ),
    "Tools": (
        "anchor; backpack; bed; bomb; chair; crown; dice: dice, game die; flashlight; "
        "flask: flask, lab flask; gem: gem, gem stone, diamond; hammer; magnet; medal; microscope; "
        "paint brush: paint brush, paintbrush, brush; palette: palette, artist palette; "
        "plug: plug, electric plug; stethoscope; syringe; telescope; test tube; thermometer; "
        "wrench: wrench, spanner"
    ),
    "Travel": (
        "airplane: airplane, plane; ambulance; bank; bicycle: bicycle, bike; "
        "building: building, office building; bus; car: car, automobile; castle; factory; "
        "hospital; hotel; mosque; school; ship: ship, boat, sailboat; store: store, shop; "
        "suitcase: suitcase, luggage; taxi; tent: tent, camping; train: train, subway, metro; "
        "truck: truck, delivery truck; wheelchair"
    ),
    "Living": (
        "apple: apple, red apple; beer: beer, beer mug; brain; bug; cake: cake, birthday cake; "
        "cat; cloud; coffee: coffee, hot beverage, cup, mug; cookie; dna; fire; fish; ghost; "
        "hamburger: hamburger, burger; ice cream; leaf; lightning: lightning, bolt, thunder; "
        "moon: moon, crescent moon; pizza; planet: planet, ringed planet; "
        "plant: plant, potted plant, seedling; skull; snowflake; sun; tornado; tree; "
        "wine: wine, wine glass"
    ),
}


def free(packages: Path) -> list[dict[str, str]]:
    """Rows of TABLE: of the Iconify packages in a folder, those that the rule takes.

    Raises InputError if the folder holds none.
    """
    found = sorted(packages.glob("iconify-json-*/package/info.json"))
    if not found:
        raise InputError(
            f"'{packages}' holds no package of Iconify (iconify-json-*/package/info.json): get "
            "them there with `npm pack @iconify-json/NAME` and unpack them"
        )
    rows = []
    for path in found:
        about = json.loads(path.read_text(encoding="utf-8"))
        licence, author = about["license"].get("spdx"), about["author"]
        if licence in LICENCES and about.get("category") not in NO_THINGS:
            values = (about["prefix"], about["name"], author["name"], licence, author.get("url"))
            rows.append(dict(zip(COLUMNS, (value or "" for value in values), strict=True)))
    return sorted(rows, key=lambda row: row["set"])


def write_artists(packages: Path) -> None:
    """Write TABLE from the packages in a folder."""
    rows = free(packages)
    with TABLE.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def artists() -> list[str]:
    """Prefixes of the Iconify sets."""
    with TABLE.open(encoding="utf-8", newline="") as file:
        return [row["set"] for row in csv.DictReader(file)]


@functools.cache
def classes(name: str) -> dict[str, str]:
    """{name that an artist gave: class} of a set."""
    result: dict[str, str] = {}
    for entry in NAMES[name].split(";"):
        label, _, names = (part.strip() for part in entry.partition(":"))
        result |= dict.fromkeys(re.split(r",\s*", names) if names else [label], label)
    return result


@functools.cache
def _phrases() -> re.Pattern:
    """Any class, or name of one, in singular or plural."""
    words = {word for name in NAMES for pair in classes(name).items() for word in pair}
    longest_first = sorted(words, key=lambda word: (-len(word), word))
    return re.compile(rf"\b({'|'.join(longest_first)})(s|es)?\b")


def shows(text: str) -> bool:
    """Whether a text in small letters has the name of an item of the suite in it."""
    return _phrases().search(text) is not None
