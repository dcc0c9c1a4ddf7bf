"""Fetch and render the pictures that the small bundled CLIP is pretrained on.

    python -m tools.pretrain_data --out BANK_DIR [--packages DIR]    # needs npm; about 10 minutes

The pictures are icons and emoji of npm packages with a free licence (`SETS`, `EMOJI`, a font). None
of their artists drew a picture of the suite's sets of categories (`KEPT_OUT`). A caption names an
item in its artist's words ("sailing boat"), never a class of the suite: pictures whose name equals
a category, or has an item of the suite as a word in it, are left out (`is_class`), and so are such
tags. Writes to BANK_DIR `mono.npy` (N, S, S) and `colour.npy`
(M, S, S, 3), uint8 on white paper; `index.json`, a row for each picture, those of mono.npy first;
and `items.json`, {item: its words}.
"""

import argparse
import json
import logging
import re
import signal
import subprocess
import sys
import tarfile
import unicodedata
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from multiprocessing import get_context
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont
from tqdm import tqdm

from datasets.drawings import render_svg
from datasets.suite import svg_of
from tools import inputs
from tools.arguments import Parser
from tools.suite import items
from tools.suite.sources import class_words

log = logging.getLogger(__name__)
SIZE = 72
EMOJIBASE = "emojibase-data@17"
FONT = "@expo-google-fonts/noto-emoji@0.4"  # monochrome line drawings, OFL-1.1
# Icon sets: package -> (licence, style of a picture whose name tells none).
SETS = {
    "tabler": ("MIT", "line"),
    "ph": ("MIT", "line"),
    "fluent": ("MIT", "line"),
    "hugeicons": ("MIT", "line"),
    "game-icons": ("CC BY 3.0", "solid"),
    "boxicons": ("MIT", "line"),
    "mingcute": ("Apache-2.0", "line"),
    "mynaui": ("MIT", "line"),
    "tdesign": ("MIT", "line"),
    "whh": ("OFL-1.1", "solid"),
    "bi": ("MIT", "line"),
    "lucide": ("ISC", "line"),
    "lucide-lab": ("ISC", "line"),
    "carbon": ("Apache-2.0", "line"),
    "fluent-mdl2": ("MIT", "line"),
    "ix": ("MIT", "line"),
    "ion": ("MIT", "solid"),
    "si": ("MIT", "line"),
    "heroicons": ("MIT", "line"),
    "pepicons-pop": ("CC BY 4.0", "line"),
    "pepicons-pencil": ("CC BY 4.0", "line"),
    "f7": ("MIT", "line"),
    "teenyicons": ("MIT", "line"),
    "dinkie-icons": ("MIT", "pixel"),
    "mage": ("Apache-2.0", "line"),
    "pixelarticons": ("MIT", "pixel"),
    "pixel": ("CC BY 4.0", "pixel"),
    "memory": ("Apache-2.0", "pixel"),
    "stash": ("MIT", "line"),
    "jam": ("MIT", "line"),
    "garden": ("Apache-2.0", "line"),
    "fluent-color": ("MIT", "shaded"),
    "ant-design": ("MIT", "line"),
    "picon": ("OFL-1.1", "solid"),
    "bx": ("MIT", "line"),
    "bxs": ("MIT", "solid"),
    "gravity-ui": ("MIT", "line"),
    "octicon": ("MIT", "line"),
    "majesticons": ("MIT", "solid"),
    "vaadin": ("Apache-2.0", "solid"),
    "grommet-icons": ("Apache-2.0", "line"),
    "marketeq": ("MIT", "flat"),
    "temaki": ("CC0-1.0", "solid"),
    "maki": ("CC0-1.0", "solid"),
    "map": ("OFL-1.1", "solid"),
    "cil": ("CC BY 4.0", "line"),
    "proicons": ("MIT", "line"),
    "eva": ("MIT", "solid"),
    "akar-icons": ("MIT", "line"),
    "meteocons": ("MIT", "line"),
    "wi": ("OFL-1.1", "solid"),
    "system-uicons": ("Unlicense", "line"),
    "ooui": ("MIT", "solid"),
    "meteor-icons": ("MIT", "line"),
    "flat-color-icons": ("MIT", "flat"),
    "ls": ("OFL-1.1", "solid"),
    "subway": ("CC BY 4.0", "solid"),
    "el": ("OFL-1.1", "solid"),
    "zondicons": ("MIT", "solid"),
    "feather": ("MIT", "line"),
    "foundation": ("MIT", "solid"),
    "raphael": ("MIT", "solid"),
    "icons8": ("MIT", "line"),
    "clarity": ("MIT", "line"),
    "gis": ("CC BY 4.0", "solid"),
    "guidance": ("CC BY 4.0", "line"),
    "medical-icon": ("MIT", "solid"),
    "covid": ("CC BY 4.0", "line"),
    "wpf": ("MIT", "solid"),
    "duo-icons": ("MIT", "duotone"),
    "nrk": ("CC BY 4.0", "solid"),
    "fontisto": ("MIT", "solid"),
    "uiw": ("MIT", "solid"),
    "fad": ("CC BY 4.0", "line"),
}
# Sets drawn for Unicode emoji.
EMOJI = {
    "noto": ("Apache-2.0", "flat"),
    "noto-v1": ("Apache-2.0", "flat"),
    "fxemoji": ("Apache-2.0", "flat"),
}
NAMING = ("noto", "twemoji")  # sets that tell the emoji of their names, which others use, too
# Artists of the suite, and sets that copy them or that they copied.
KEPT_OUT = (
    *("mdi", "mdi-light", "ic", "material-symbols", "material-symbols-light"),
    *("icon-park", "icon-park-outline", "icon-park-solid", "icon-park-twotone"),
    *("ri", "healthicons", "solar", "iconoir", "uil", "uim", "uis", "la", "lets-icons"),
    *("fa", "fa-solid", "fa-regular", "fa6-solid", "fa6-regular", "fa7-solid", "fa7-regular"),
    *("basil", "flowbite", "line-md", "iconamoon", "qlementine-icons", "openmoji", "twemoji"),
    *("emojione", "emojione-v1", "emojione-monotone", "streamline", "streamline-emojis"),
    *("fluent-emoji", "fluent-emoji-flat", "fluent-emoji-high-contrast"),
)
# Words of a name that tell the style, and words that tell nothing of the item.
STYLE_WORDS = {
    **dict.fromkeys(("outline", "outlined", "line", "linear", "light", "thin", "regular"), "line"),
    **dict.fromkeys(("fill", "filled", "solid", "bold"), "solid"),
    **dict.fromkeys(("duotone", "twotone", "duo"), "duotone"),
}
EMPTY_WORDS = {"rounded", "round", "sharp", "sm", "lg", "xs", "xl", "alt", "variant", "color"}
EMPTY_WORDS |= {"circled", "boxed", "ios", "md", "logo", "print", "pencil-print"}
# Words that stand before an item and name its kind: "animal-cat", "food-apple".
KINDS = {"animal", "food", "vehicle", "weather", "sport", "sports", "emoji", "drink", "building"}
SKINS = ("light", "medium-light", "medium", "medium-dark", "dark")
WANTED_WEIGHTS = {"ph": ("", "fill", "duotone"), "fluent": ("24-regular", "24-filled")}


def slug(name: str) -> str:
    ascii_name = unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode().lower()
    return re.sub(r"[^a-z0-9]+", "-", ascii_name).strip("-")


def fetch(package: str, folder: Path) -> Path:
    """Return the folder of an unpacked npm package, which `npm pack` downloads if it is missing."""
    name = package.rsplit("@", 1)[0].lstrip("@").replace("/", "-")
    folders = sorted(path for path in folder.glob(f"{name}-[0-9]*") if path.is_dir())
    if folders:
        return folders[-1] / "package"
    packed = subprocess.run(
        ["npm", "pack", "--silent", package], cwd=folder, check=True, capture_output=True, text=True
    )
    archive = folder / packed.stdout.split()[-1]
    target = archive.with_suffix("")
    with tarfile.open(archive) as tar:
        tar.extractall(target, filter="data")
    return target / "package"


def icon_set(name: str, packages: Path) -> tuple[dict, dict, Path]:
    """(icons by name, default sizes, folder) of an Iconify set; hidden icons are left out."""
    folder = fetch(f"@iconify-json/{name}@1.2", packages)
    content = json.loads((folder / "icons.json").read_text(encoding="utf-8"))
    icons = {key: icon for key, icon in content["icons"].items() if not icon.get("hidden")}
    return icons, content, folder


def drawing(icon: dict, defaults: dict) -> dict:
    """{"box": [left, top, width, height], "body"} of an Iconify icon."""
    box = [icon.get(side, defaults.get(side, 0)) for side in ("left", "top")]
    box += [icon.get(side, defaults.get(side, 16)) for side in ("width", "height")]
    return {"box": box, "body": icon["body"]}


@dataclass
class Emoji:
    """Words of Unicode's emoji, from `emojibase-data`.

    items: {hexcode: {"label", "tags"}}; names: {slug of any of its names: hexcode}.
    """

    items: dict[str, dict] = field(default_factory=dict)
    names: dict[str, str] = field(default_factory=dict)

    @classmethod
    def read(cls, packages: Path) -> "Emoji":
        emoji = cls()
        data = fetch(EMOJIBASE, packages) / "en" / "data.json"
        for item in json.loads(data.read_text(encoding="utf-8")):
            label = item["label"].replace(":", " ").replace("’", "'").lower()
            tags = [tag.lower() for tag in item.get("tags", [])]
            emoji.items[item["hexcode"]] = {
                "label": re.sub(r"\s+", " ", label),
                "tags": [tag for tag in tags if not tells_class(tag)],
            }
            emoji.names[slug(item["label"])] = item["hexcode"]
            if len(item["emoji"].replace("\ufe0f", "")) == 1:
                name = slug(unicodedata.name(item["emoji"][0], ""))
                emoji.names.setdefault(name, item["hexcode"])
        plain = {key.replace("-FE0F", "").lower(): key for key in emoji.items}
        for artist in NAMING:
            chars = icon_set(artist, packages)[2] / "chars.json"
            for code, name in json.loads(chars.read_text(encoding="utf-8")).items():
                if code.replace("-fe0f", "") in plain:
                    emoji.names.setdefault(name, plain[code.replace("-fe0f", "")])
        return emoji


def is_class(words: str) -> bool:
    """Whether words are a category of the suite, in singular or plural, or one of its items is
    among them.
    """
    singular = words.removesuffix("s")
    return words in class_words() or singular in class_words() or items.shows(words)


def tells_class(tag: str) -> bool:
    """Whether a tag is a class, or has a category of the suite as a word in it."""
    return is_class(tag) or not class_words().isdisjoint(tag.split())


def read_name(name: str, style: str) -> tuple[str, str]:
    """(words of the item, style) of an icon's name."""
    kept = []
    for word in name.split("-"):
        if word in STYLE_WORDS:
            style = STYLE_WORDS[word]
        elif word not in EMPTY_WORDS and not word.isdigit():
            kept.append(word)
    if len(kept) > 1 and kept[0] in KINDS:
        kept = kept[1:]
    return " ".join(kept), style


@dataclass(frozen=True)
class Icon:
    """An icon of an Iconify set. item: an emoji's hexcode, or the words."""

    name: str
    words: str
    item: str
    style: str
    drawing: dict


def named_icons(artist: str, usual: str, packages: Path, emoji: Emoji) -> Iterator[Icon]:
    """The icons of a set whose names have words; `emoji.items` then knows all of their items."""
    icons, defaults, _ = icon_set(artist, packages)
    weights = WANTED_WEIGHTS.get(artist)
    for name, icon in icons.items():
        if weights and not _wanted(name, weights):
            continue
        words, style = read_name(name, usual)
        if len(words) < 2:
            continue
        item = emoji.names.get(words.replace(" ", "-"), words)
        emoji.items.setdefault(item, {"label": words, "tags": []})
        yield Icon(name, words, item, style, drawing(icon, defaults))


def icon_jobs(packages: Path, emoji: Emoji) -> list[dict]:
    """Rows {artist, item, style, svg} of the icon sets."""
    return [
        {"artist": artist, "item": icon.item, "style": icon.style, "svg": svg_of(icon.drawing)}
        for artist, (_, usual) in SETS.items()
        for icon in named_icons(artist, usual, packages, emoji)
        if not is_class(icon.words) and not is_class(emoji.items[icon.item]["label"])
    ]


def _wanted(name: str, weights: tuple[str, ...]) -> bool:
    """Whether an icon is of one of the weights ("" stands for a name without any)."""
    known = {word for word in name.split("-")[-1:] if word in STYLE_WORDS}
    return any(name.endswith(f"-{weight}") if weight else not known for weight in weights)


def hexcodes(icons: dict, folder: Path, emoji: Emoji) -> dict[str, str]:
    """{hexcode: name} of an Iconify set of emoji; skin tones are left out."""
    plain = {key.replace("-FE0F", "").lower(): key for key in emoji.items}
    codes = folder / "chars.json"
    chars = json.loads(codes.read_text(encoding="utf-8")) if codes.exists() else {}
    by_name = {name: code.replace("-fe0f", "") for code, name in chars.items()}
    joined = {name.replace("-", ""): hexcode for name, hexcode in emoji.names.items()}
    names: dict[str, str] = {}
    for name in icons:
        hexcode = plain.get(by_name.get(name, "")) or emoji.names.get(name)
        hexcode = hexcode or joined.get(name.replace("-", ""))
        if hexcode is not None:
            names.setdefault(hexcode, name)
    return names


def emoji_jobs(packages: Path, emoji: Emoji) -> list[dict]:
    """Rows {artist, item, style, svg} of the emoji sets."""
    rows = []
    for artist, (_, style) in EMOJI.items():
        icons, defaults, folder = icon_set(artist, packages)
        for hexcode, name in hexcodes(icons, folder, emoji).items():
            if not is_class(emoji.items[hexcode]["label"]):
                svg = svg_of(drawing(icons[name], defaults))
                rows.append({"artist": artist, "item": hexcode, "style": style, "svg": svg})
    return rows


def font_rows(packages: Path, emoji: Emoji) -> list[dict]:
    """Rows {artist, item, style, picture} of the monochrome font, two weights.

    Emoji of one code point only: the font has no joined ones.
    """
    rows = []
    for path in sorted(fetch(FONT, packages).glob("[36]00*/*.ttf")):
        font = ImageFont.truetype(str(path), int(SIZE * 0.72))
        blank = font.getmask("\u0378").getbbox()
        for hexcode in emoji.items:
            code = hexcode.replace("-FE0F", "")
            if not re.fullmatch("[0-9A-F]{4,6}", code) or is_class(emoji.items[hexcode]["label"]):
                continue
            if font.getmask(chr(int(code, 16))).getbbox() in (None, blank):
                continue
            canvas = Image.new("L", (SIZE, SIZE), "white")
            ImageDraw.Draw(canvas).text(
                (SIZE // 2, SIZE // 2), chr(int(code, 16)), fill="black", font=font, anchor="mm"
            )
            rows.append(
                {"artist": FONT, "item": hexcode, "style": "line", "picture": np.asarray(canvas)}
            )
    return rows


def render(row: dict) -> np.ndarray | None:
    """(S, S) without colour, else (S, S, 3); None if it is empty or cannot be read."""
    try:
        picture = np.asarray(render_svg(row["svg"], SIZE))
    except (ValueError, OSError) as error:
        log.warning("%s/%s: not rendered (%s)", row["artist"], row["item"], error)
        return None
    if (picture < 200).any(2).sum() < 20:
        return None
    spread = picture.max(2).astype(int) - picture.min(2)
    return picture[:, :, 0] if spread.max() < 12 else picture


def rendered(rows: list[dict]) -> list[dict]:
    """The rows with their pictures, without those that cannot be rendered."""
    # A fork inherits the locks of threads that torch started. Ctrl-C ends this process, and with it
    # the others.
    with ProcessPoolExecutor(
        mp_context=get_context("spawn"),
        initializer=signal.signal,
        initargs=(signal.SIGINT, signal.SIG_IGN),
    ) as pool:
        pictures = pool.map(render, rows, chunksize=64)
        for row, picture in zip(rows, tqdm(pictures, total=len(rows), mininterval=5), strict=True):
            row["picture"] = picture
    return [row for row in rows if row["picture"] is not None]


def write(rows: list[dict], emoji: Emoji, folder: Path) -> None:
    """Write the bank; the pictures without colour come first."""
    mono = [row for row in rows if row["picture"].ndim == 2]
    colour = [row for row in rows if row["picture"].ndim == 3]
    for name, part in (("mono", mono), ("colour", colour)):
        np.save(folder / f"{name}.npy", np.stack([row["picture"] for row in part]))
    index = [{key: row[key] for key in ("artist", "item", "style")} for row in (*mono, *colour)]
    (folder / "index.json").write_text(json.dumps(index), encoding="utf-8")
    used = {row["item"] for row in index}
    items = {key: words for key, words in emoji.items.items() if key in used}
    (folder / "items.json").write_text(json.dumps(items), encoding="utf-8")
    artists = {row["artist"] for row in index}
    log.info(
        f"{len(mono)} pictures in one colour, {len(colour)} in several, {len(items)} items, "
        f"{len(artists)} artists"
    )


def main() -> int:
    parser = Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=inputs.path, required=True)
    parser.add_argument(
        "--packages", type=inputs.path, help="folder of the npm packages (default: OUT/packages)"
    )
    args = parser.parse_args()
    logging.basicConfig(level=logging.INFO)
    packages = args.packages or args.out / "packages"
    inputs.make_folder(packages, "give --packages a folder where you may write")
    inputs.make_folder(args.out, "give --out a folder where you may write")
    emoji = Emoji.read(packages)
    rows = rendered(icon_jobs(packages, emoji) + emoji_jobs(packages, emoji))
    write(rows + font_rows(packages, emoji), emoji, args.out)
    return 0


if __name__ == "__main__":
    sys.exit(inputs.main(lambda _: main(), argparse.Namespace()))
