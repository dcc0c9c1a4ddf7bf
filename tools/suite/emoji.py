"""The suite's emoji: many artists' drawings of Unicode's emoji, in several styles.

Classes are Unicode's subgroups under the names of `tools.make_emoji_table`. All drawings of an
emoji, whatever the style, are in one part. The emoji of a training part are in two halves: those of
half "a" are labelled, those of half "b" are the unlabelled ones of a shifted style: no emoji is
both.
"""

import io
import re
import zipfile
from pathlib import Path

from PIL import Image

from datasets.sets.openmoji import emoji_table, line_drawing, read_svg
from datasets.suite import FOLDER, PICTURE_SIZE, Table, picture_of
from tools.pretrain_data import Emoji, fetch, hexcodes, icon_set
from tools.suite.split import Families, deal, near_copies, order, thumbnails

COLOUR = ("openmoji", "twemoji", "emojione", "emojione-v1", "streamline-emojis")
ONE_COLOUR = "emojione-monotone"
RENDERED = "@lobehub/fluent-emoji-3d@1.1"  # MIT
STYLES = {**dict.fromkeys(COLOUR, "colour"), "openmoji-line": "line", ONE_COLOUR: "one colour"}
LABELLED, UNLABELLED = 24, 12  # training drawings of a class in colour: three times eight shots
MOST = 240


def drawings(packages: Path) -> tuple[Table, dict[str, bytes]]:
    """({style/hexcode: row}, {file: WebP of a rendered picture}); rows lack family and split."""
    emoji = Emoji.read(packages)
    known = {row["hexcode"]: row for row in emoji_table()}
    rows: Table = {}
    for artist in (*COLOUR, ONE_COLOUR):
        icons, defaults, folder = icon_set(artist, packages)
        for hexcode, name in hexcodes(icons, folder, emoji).items():
            if hexcode in known:
                box = [icons[name].get(side, defaults.get(side, 0)) for side in ("left", "top")]
                sides = ("width", "height")
                box += [icons[name].get(side, defaults.get(side, 16)) for side in sides]
                rows[f"{artist}/{hexcode}"] = {"box": box, "body": icons[name]["body"]}
    for hexcode in known:
        body = re.sub(r"^.*?<svg[^>]*>|</svg>\s*$", "", line_drawing(read_svg(hexcode)), flags=re.S)
        rows[f"openmoji-line/{hexcode}"] = {"box": [0, 0, 72, 72], "body": body.strip()}
    pictures = rendered(packages, set(known))
    rows |= {f"rendered/{Path(file).stem}": {"file": file} for file in pictures}
    for key, row in rows.items():
        style, _, hexcode = key.partition("/")
        row |= {"class": known[hexcode]["class"], "style": STYLES.get(style, "rendered")}
    return rows, pictures


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
    rows, pictures = drawings(packages)
    known = {row["hexcode"]: row for row in emoji_table()}
    joined = Families()
    names = {key: f"{known[h]['class']}: {known[h]['family']}" for key, h in hexcodes_of(rows)}
    colour = [key for key, row in rows.items() if row["style"] == "colour"]
    features = thumbnails(picture_of(rows[key], PICTURE_SIZE) for key in colour)
    for a, b in near_copies(features):
        joined.join(names[colour[a]], names[colour[b]])
    family = {key: joined.root(name) for key, name in names.items()}
    dealt = deal(
        {key: rows[key] for key in colour}, family, MOST, lambda total: LABELLED + UNLABELLED
    )
    split = {row["family"]: row["split"] for row in dealt.values()}
    classes = {row["class"] for row in dealt.values()}
    table = {}
    for key, row in rows.items():
        if row["class"] in classes and family[key] in split:
            table[key] = {**row, "family": family[key], "split": split[family[key]]}
            if row["style"] == "colour" and key not in dealt:
                del table[key]
    halves = half_of(table)
    for row in table.values():
        if row["split"] == "train":
            row["half"] = halves[row["family"]]
    used = {row["file"] for row in table.values() if "file" in row}
    with zipfile.ZipFile(FOLDER / "emoji.zip", "w") as archive:
        for file in sorted(used):
            archive.writestr(zipfile.ZipInfo(file), pictures[file])
    return table


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
