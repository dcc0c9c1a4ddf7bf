"""Fetch and render the pictures that the tiny bundled CLIP is pretrained on: other artists'
drawings of emoji.

    python -m tools.pretrain_data --out BANK_DIR [--packages DIR]    # needs npm; about 15 minutes

Each artist is an npm package with a free licence (`ARTISTS`). Every drawing is rendered three
times: as it is, with a black outline, and as a line drawing (white fill, black stroke), because the
benchmark's style is outlined and its shifted domain is line drawings. General icons (`ICONS`) whose
name is that of an emoji count as further artists of it, the others as concepts of their own.
OpenMoji itself is used only for emoji outside the benchmark's classes (`datasets/sets/emoji.csv`),
so that no benchmark picture is ever seen; EmojiOne and the icon sets of `datasets/sets/icons.py`
are kept out altogether: they are downstream data sets. Writes `pictures.npy` (N, S, S, 3) uint8,
`index.json` (concept and artist of each) and `concepts.json` (captions).
"""

import argparse
import csv
import json
import logging
import re
import signal
import subprocess
import sys
import tarfile
import unicodedata
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont
from tqdm import tqdm

from datasets.sets.openmoji import line_drawing, render_svg, svg_folder
from tools import inputs
from tools.make_emoji_table import CLASSES, TABLE

log = logging.getLogger(__name__)
SIZE = 72
EMOJIBASE = "emojibase-data@17"
FONT = "@expo-google-fonts/noto-emoji@0.4"  # monochrome line drawings, OFL-1.1
# Sets drawn for Unicode emoji: package -> licence.
ARTISTS = {
    "@iconify-json/noto@1.2": "Apache-2.0",
    "@iconify-json/noto-v1@1.2": "Apache-2.0",
    "@iconify-json/twemoji@1.2": "CC BY 4.0",
    "@iconify-json/fluent-emoji@1.2": "MIT",
    "@iconify-json/fluent-emoji-flat@1.2": "MIT",
    "@iconify-json/fluent-emoji-high-contrast@1.2": "MIT",
    "@iconify-json/streamline-emojis@1.2": "CC BY 4.0",
    "@iconify-json/fxemoji@1.2": "Apache-2.0",
}
RENDERED = "@lobehub/fluent-emoji-3d@1.1"  # MIT; pictures, one file per hexcode
# General icons with a plain word as name: more shapes and words, in line and glyph style.
ICONS = {
    "@iconify-json/mdi@1.2": "Apache-2.0",
    "@iconify-json/ph@1.2": "MIT",
    "@iconify-json/tabler@1.2": "MIT",
    "@iconify-json/game-icons@1.2": "CC BY 3.0",
    "@iconify-json/flat-color-icons@1.2": "MIT",
    "@iconify-json/lucide@1.2": "ISC",
    "@iconify-json/material-symbols@1.2": "Apache-2.0",
    "@iconify-json/healthicons@1.2": "MIT",
    "@iconify-json/maki@1.2": "CC0-1.0",
    "@iconify-json/temaki@1.2": "CC0-1.0",
    "@iconify-json/streamline-freehand-color@1.2": "CC BY 4.0",
    "@iconify-json/streamline-plump-color@1.2": "CC BY 4.0",
    "@iconify-json/streamline-kameleon-color@1.2": "CC BY 4.0",
    "@iconify-json/streamline-stickies-color@1.2": "CC BY 4.0",
}
CATEGORIES = (
    "mdi",
    "streamline",
    "healthicons",
)  # icon sets whose categories say what a picture shows
VARIANT = re.compile(
    r"-(bold|thin|light|fill|duotone|twotone|off|variant|outline|filled|rounded|sharp|negative|flat"
    r"|duo)"
    r"(-|$)|\d"
)
SHAPES = "path,circle,rect,ellipse,polygon,polyline,line,use"


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


def svg_variants(body: str, width: int, height: int) -> list[str]:
    """The drawing as it is, outlined, and as a line drawing; stroke about as thick as OpenMoji's (2
    of 72).
    """
    head = (
        '<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" '
        f'viewBox="0 0 {width} {height}">'
    )
    stroke = f"stroke:#000;stroke-width:{0.026 * width:.3f};stroke-linejoin:round"
    styles = (
        "",
        f"<style>{SHAPES}{{{stroke}}}</style>",
        f"<style>{SHAPES}{{{stroke};fill:#fff;opacity:1;fill-opacity:1}}</style>",
    )
    return [f"{head}{style}{body}</svg>" for style in styles]


def render_all(job: tuple[str, list[str]]) -> tuple[str, list[np.ndarray]]:
    key, drawings = job
    pictures = []
    for drawing in drawings:
        try:
            pictures.append(np.asarray(render_svg(drawing, SIZE)))
        except ValueError as error:
            log.warning("%s: not rendered (%s)", key, error)
    return key, pictures


def concepts(emojibase: Path) -> tuple[dict, dict[str, str]]:
    """{hexcode: caption words} of every emoji, and {slug of any of its names: hexcode}."""
    subgroups = json.loads((emojibase / "meta" / "groups.json").read_text())["subgroups"]
    human = {member: name for name, members in CLASSES.items() for member in members}
    table, names = {}, {}
    for item in json.loads((emojibase / "en" / "data.json").read_text()):
        subgroup = subgroups.get(str(item.get("subgroup")), "other symbol")
        label = item["label"].replace(":", " ").replace("’", "'").lower()
        table[item["hexcode"]] = {
            "label": label,
            "tags": item.get("tags", []),
            "class": human.get(subgroup, subgroup.replace("-", " ")),
        }
        names[slug(item["label"])] = item["hexcode"]
        if len(item["emoji"].replace("\ufe0f", "")) == 1:
            names.setdefault(slug(unicodedata.name(item["emoji"][0], "")), item["hexcode"])
    return table, names


def jobs(packages: Path, table: dict, names: dict) -> list[tuple[str, str, list[str]]]:
    """(artist, concept, drawings) of everything to render."""
    plain = {key.replace("-FE0F", "").lower(): key for key in table}
    result = []
    for package in ARTISTS:
        folder = fetch(package, packages)
        icons = json.loads((folder / "icons.json").read_text())
        chars = (
            json.loads((folder / "chars.json").read_text())
            if (folder / "chars.json").exists()
            else {}
        )
        for code, name in chars.items():
            if code.replace("-fe0f", "") in plain:
                names.setdefault(name, plain[code.replace("-fe0f", "")])
        joined = {
            name.replace("-", ""): hexcode for name, hexcode in names.items()
        }  # fxemoji writes "artistpalette"
        done = set()
        for name, icon in icons["icons"].items():
            hexcode = names.get(name) or names.get(re.sub(r"-\d+$", "", name)) or joined.get(name)
            if hexcode and (name not in done):
                done.add(name)
                size = (
                    icon.get("width", icons.get("width", 16)),
                    icon.get("height", icons.get("height", 16)),
                )
                result.append((package, hexcode, svg_variants(icon["body"], *size)))
    seen = {row["hexcode"] for row in csv.DictReader(open(TABLE))}
    for hexcode in table:
        path = svg_folder() / f"{hexcode}.svg"
        if hexcode not in seen and path.exists():
            text = path.read_text()
            result.append(("openmoji-outside-benchmark", hexcode, [text, line_drawing(text)]))
    return result


def icon_jobs(
    packages: Path, table: dict, names: dict[str, str]
) -> list[tuple[str, str, list[str]]]:
    result = []
    for package in ICONS:
        folder = fetch(package, packages)
        icons = json.loads((folder / "icons.json").read_text())
        width, height = icons.get("width", 16), icons.get("height", 16)
        category_of: dict[str, str] = {}
        if any(name in package for name in CATEGORIES):
            for category, members in json.loads((folder / "metadata.json").read_text())[
                "categories"
            ].items():
                words = " ".join(
                    re.findall(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])", category)
                ).lower()  # FoodDrinks, Food / Drink
                category_of |= {name: words for name in members if name not in category_of}
        for name, icon in icons["icons"].items():
            if VARIANT.search(name) or icon.get("hidden"):
                continue  # style variants of one shape
            words = name.replace("-", " ")
            concept = names.get(name)
            if concept is None:
                concept = f"icon {words}"
                table.setdefault(concept, {"label": words, "tags": [], "class": ""})
                table[concept]["class"] = table[concept]["class"] or category_of.get(name, "")
            size = icon.get("width", width), icon.get("height", height)
            result.append((package, concept, svg_variants(icon["body"], *size)[:1]))
    return result


def font_pictures(packages: Path, table: dict) -> list[tuple[str, np.ndarray]]:
    """Line drawings from the monochrome font, two weights; emoji of one code point only (the font
    has no joined ones).
    """
    pictures = []
    for path in sorted(fetch(FONT, packages).glob("[36]00*/*.ttf")):
        font = ImageFont.truetype(str(path), int(SIZE * 0.72))
        blank = font.getmask("\u0378").getbbox()
        for hexcode in table:
            code = hexcode.replace("-FE0F", "")
            if (
                hexcode.startswith("icon")
                or "-" in code
                or font.getmask(chr(int(code, 16))).getbbox() in (None, blank)
            ):
                continue
            canvas = Image.new("RGB", (SIZE, SIZE), "white")
            ImageDraw.Draw(canvas).text(
                (SIZE // 2, SIZE // 2), chr(int(code, 16)), fill="black", font=font, anchor="mm"
            )
            pictures.append((hexcode, np.asarray(canvas)))
    return pictures


def rendered_pictures(packages: Path, table: dict) -> list[tuple[str, np.ndarray]]:
    plain = {key.replace("-FE0F", "").lower(): key for key in table if not key.startswith("icon")}
    pictures = []
    for path in sorted((fetch(RENDERED, packages) / "assets").glob("*.webp")):
        if hexcode := plain.get(path.stem.replace("-fe0f", "")):
            picture, paper = (
                Image.open(path).convert("RGBA").resize((SIZE, SIZE)),
                Image.new("RGBA", (SIZE, SIZE), "white"),
            )
            paper.alpha_composite(picture)
            pictures.append((hexcode, np.asarray(paper.convert("RGB"))))
    return pictures


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=inputs.path, required=True)
    parser.add_argument(
        "--packages", type=inputs.path, help="folder of the npm packages (default: OUT/packages)"
    )
    args = parser.parse_args()
    logging.basicConfig(level=logging.INFO)
    packages = args.packages or args.out / "packages"
    packages.mkdir(parents=True, exist_ok=True)
    args.out.mkdir(parents=True, exist_ok=True)
    table, names = concepts(fetch(EMOJIBASE, packages))
    work = jobs(packages, table, names) + icon_jobs(packages, table, names)
    pictures, index = [], []
    # A fork inherits the locks of threads that torch started. Ctrl-C ends this process, and with it
    # the others.
    with ProcessPoolExecutor(
        mp_context=get_context("spawn"),
        initializer=signal.signal,
        initargs=(signal.SIGINT, signal.SIG_IGN),
    ) as pool:
        tasks = ((f"{artist}/{concept}", drawings) for artist, concept, drawings in work)
        for (artist, concept, _), (_, rendered) in zip(
            work, tqdm(pool.map(render_all, tasks, chunksize=32), total=len(work), mininterval=5)
        ):
            for style, picture in enumerate(rendered):
                pictures.append(picture)
                index.append({"artist": artist, "concept": concept, "style": style})
    for artist, render, style in ((FONT, font_pictures, 2), (RENDERED, rendered_pictures, 0)):
        for concept, picture in render(packages, table):
            pictures.append(picture)
            index.append({"artist": artist, "concept": concept, "style": style})
    np.save(args.out / "pictures.npy", np.stack(pictures))
    (args.out / "index.json").write_text(json.dumps(index))
    (args.out / "concepts.json").write_text(json.dumps(table))
    artists = {row["artist"] for row in index}
    log.info(
        "%d pictures of %d concepts by %d artists",
        len(index),
        len({row["concept"] for row in index}),
        len(artists),
    )
    return 0


if __name__ == "__main__":
    sys.exit(inputs.main(lambda _: main(), argparse.Namespace()))
