"""The suite's emoji: many artists' drawings of Unicode's emoji, in several styles.

Classes are Unicode's subgroups under the names of `tools.suite.subgroups`. All drawings of an
emoji, whatever the style, are in one part. The emoji of a training part are in two halves: those of
half "a" are labelled, those of half "b" are the unlabelled ones of a shifted style: no emoji is
both.
"""

import io
import re
import zipfile
from pathlib import Path
from xml.etree import ElementTree

from PIL import Image

from datasets.sets.emoji_groups import emoji_table, read_svg
from datasets.suite import FOLDER, PICTURE_SIZE, Table, picture_of
from tools.pretrain_data import Emoji, drawing, fetch, hexcodes, icon_set
from tools.suite.split import Families, deal, near_copies, order, thumbnails

COLOUR = ("openmoji", "twemoji", "emojione", "emojione-v1", "streamline-emojis")
ONE_COLOUR = "emojione-monotone"
RENDERED = "@lobehub/fluent-emoji-3d@1.1"  # MIT
STYLES = {**dict.fromkeys(COLOUR, "colour"), "openmoji-line": "line", ONE_COLOUR: "one colour"}
LABELLED, UNLABELLED = 24, 12  # training drawings of a class in colour: three times eight shots
MOST = 240
SVG = "http://www.w3.org/2000/svg"


def drawings(packages: Path) -> tuple[Table, dict[str, bytes]]:
    """({style/hexcode: row}, {file: WebP of a rendered picture}); rows lack family and split."""
    emoji = Emoji.read(packages)
    known = {row["hexcode"]: row for row in emoji_table()}
    rows: Table = {}
    for artist in (*COLOUR, ONE_COLOUR):
        icons, defaults, folder = icon_set(artist, packages)
        for hexcode, name in hexcodes(icons, folder, emoji).items():
            if hexcode in known:
                rows[f"{artist}/{hexcode}"] = drawing(icons[name], defaults)
    for hexcode in known:
        body = re.sub(r"^.*?<svg[^>]*>|</svg>\s*$", "", line_drawing(read_svg(hexcode)), flags=re.S)
        rows[f"openmoji-line/{hexcode}"] = {"box": [0, 0, 72, 72], "body": body.strip()}
    pictures = rendered(packages, set(known))
    rows |= {f"rendered/{Path(file).stem}": {"file": file} for file in pictures}
    for key, row in rows.items():
        style, _, hexcode = key.partition("/")
        row |= {"class": known[hexcode]["class"], "style": STYLES.get(style, "rendered")}
    return rows, pictures


def line_drawing(svg: str) -> str:
    """An OpenMoji SVG with only its top-level line groups."""
    ElementTree.register_namespace("", SVG)
    root = ElementTree.fromstring(svg)
    for group in list(root):
        if group.tag == f"{{{SVG}}}g" and not re.match("line", group.get("id", "")):
            root.remove(group)
    return ElementTree.tostring(root, encoding="unicode")


def rendered(packages: Path, known: set[str]) -> dict[str, bytes]:
    """{file: WebP} of the rendered emoji on white paper."""
    plain = {key.replace("-FE0F", "").lower(): key for key in known}
    pictures = {}
    for path in sorted((fetch(RENDERED, packages) / "assets").glob("*.webp")):
        hexcode = plain.get(path.stem.replace("-fe0f", ""))
        if hexcode is not None:
            size = (PICTURE_SIZE, PICTURE_SIZE)
            picture = Image.open(path).convert("RGBA").resize(size, Image.Resampling.LANCZOS)
            paper = Image.new("RGBA", size, "white")
            paper.alpha_composite(picture)
            buffer = io.BytesIO()
            paper.convert("RGB").save(buffer, "WEBP", quality=80, method=6)
            pictures[f"{hexcode}.webp"] = buffer.getvalue()
    return pictures


def make(packages: Path) -> Table:
    """The table; writes the rendered pictures to emoji.zip."""
    rows, files = drawings(packages)
    names = family_names(rows, files)
    colour = {key: row for key, row in rows.items() if row["style"] == "colour"}
    wanted = LABELLED + UNLABELLED
    dealt = deal(colour, names, MOST, lambda total: wanted, wanted)
    split = {row["family"]: row["split"] for row in dealt.values()}
    table = {
        key: {**row, "family": names[key], "split": split[names[key]]}
        for key, row in rows.items()
        if key in dealt or row["style"] != "colour" and names[key] in split
    }
    halves = half_of(table)
    for row in table.values():
        if row["split"] == "train":
            row["half"] = halves[row["family"]]
    table = in_all_styles(table)
    used = {row["file"] for row in table.values() if "file" in row}
    with zipfile.ZipFile(FOLDER / "emoji.zip", "w") as archive:
        for file in sorted(used):
            archive.writestr(zipfile.ZipInfo(file), files[file])
    return table


def family_names(rows: Table, files: dict[str, bytes]) -> dict[str, str]:
    """{drawing: family}: all drawings of an emoji and its variants, and of emoji that look nearly
    the same in any style.
    """
    known = {row["hexcode"]: row for row in emoji_table()}
    names = {key: f"{known[h]['class']}: {known[h]['family']}" for key, h in hexcodes_of(rows)}
    joined, keys = Families(), list(rows)
    pictures = (
        Image.open(io.BytesIO(files[row["file"]])).convert("RGB")
        if "file" in row
        else picture_of(row, PICTURE_SIZE)
        for row in rows.values()
    )
    for a, b in near_copies(thumbnails(pictures)):
        joined.join(names[keys[a]], names[keys[b]])
    return {key: joined.root(name) for key, name in names.items()}


def in_all_styles(table: Table) -> Table:
    """Without the classes that a style lacks in a part, or in a half of the training part."""
    styles = {row["style"] for row in table.values()}
    places = {("train", "a"), ("train", "b"), ("val", None), ("test", None)}
    found: dict[str, set] = {}
    for row in table.values():
        place = (row["style"], row["split"], row.get("half"))
        found.setdefault(row["class"], set()).add(place)
    wanted = {(style, *place) for style in styles for place in places}
    whole = {label for label, known in found.items() if known >= wanted}
    return {key: row for key, row in table.items() if row["class"] in whole}


def hexcodes_of(rows: Table) -> list[tuple[str, str]]:
    return [(key, key.partition("/")[2]) for key in rows]


def half_of(table: Table) -> dict[str, str]:
    """{training family: "a" or "b"}: the first LABELLED drawings in colour of a class are "a"."""
    sizes: dict[tuple[str, str], int] = {}
    for row in table.values():
        if row["split"] == "train":
            key = (row["class"], row["family"])
            sizes[key] = sizes.get(key, 0) + (row["style"] == "colour")
    halves: dict[str, str] = {}
    labelled: dict[str, int] = {}
    for label, name in sorted(sizes, key=lambda key: order(*key)):
        halves[name] = "a" if labelled.get(label, 0) < LABELLED else "b"
        if halves[name] == "a":
            labelled[label] = labelled.get(label, 0) + sizes[label, name]
    return halves
