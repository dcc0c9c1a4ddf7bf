"""Write `assets/emoji/*.zip`: the benchmark's emoji by another artist, as a further data set (needs
npm; run once).

    python -m tools.make_emoji_pictures --packages DIR

EmojiOne 2 (CC BY 4.0), which is not among the pictures the tiny CLIP is pretrained on.
"""

import argparse
import io
import json
import re
import sys
import unicodedata
import zipfile
from pathlib import Path

from PIL import Image

from datasets.sets.openmoji import BUNDLED, PICTURE_SIZE, emoji_table, render_svg
from tools import inputs
from tools.pretrain_data import EMOJIBASE, concepts, fetch, slug

SETS = {"emojione": "@iconify-json/emojione@1.2"}


def names_of(packages: Path) -> dict[str, str]:
    """{slug of a name, hyphens dropped: hexcode}: today's and Unicode's names, and those that
    Noto's and Twemoji's icons use.
    """
    table, names = concepts(fetch(EMOJIBASE, packages))
    plain = {key.replace("-FE0F", "").lower(): key for key in table}
    for package in ("@iconify-json/noto@1.2", "@iconify-json/twemoji@1.2"):
        for code, name in json.loads((fetch(package, packages) / "chars.json").read_text()).items():
            if code.replace("-fe0f", "") in plain:
                names.setdefault(name, plain[code.replace("-fe0f", "")])
    for hexcode in table:
        first = chr(int(hexcode.split("-")[0], 16))
        if hexcode.replace("-FE0F", "").count("-") == 0:
            names.setdefault(slug(unicodedata.name(first, "")), hexcode)
    return {name.replace("-", ""): hexcode for name, hexcode in names.items()}


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--packages", type=inputs.path, required=True)
    packages = parser.parse_args().packages
    names, wanted = names_of(packages), {row["hexcode"] for row in emoji_table()}
    BUNDLED.mkdir(parents=True, exist_ok=True)
    for style, package in SETS.items():
        icons = json.loads((fetch(package, packages) / "icons.json").read_text())
        drawings = {}
        for name, icon in icons["icons"].items():
            hexcode = names.get(re.sub(r"\W", "", name))
            if hexcode in wanted and hexcode not in drawings:
                width, height = (icon.get(key, icons.get(key, 16)) for key in ("width", "height"))
                svg = (
                    '<svg xmlns="http://www.w3.org/2000/svg" '
                    'xmlns:xlink="http://www.w3.org/1999/xlink" '
                    f'viewBox="0 0 {width} {height}">{icon["body"]}</svg>'
                )
                drawings[hexcode] = render_svg(svg, PICTURE_SIZE)
        with zipfile.ZipFile(BUNDLED / f"{style}.zip", "w", zipfile.ZIP_STORED) as archive:
            for hexcode, picture in sorted(drawings.items()):
                buffer = io.BytesIO()
                picture.quantize(
                    64, method=Image.Quantize.MEDIANCUT, dither=Image.Dither.NONE
                ).save(buffer, "PNG", optimize=True)
                # ZipInfo has a fixed date, so that the bytes are the same every time.
                archive.writestr(zipfile.ZipInfo(f"{hexcode}.png"), buffer.getvalue())
        sys.stdout.write(f"{style}: {len(drawings)} of {len(wanted)} emoji\n")
    return 0


if __name__ == "__main__":
    sys.exit(inputs.main(lambda _: main(), argparse.Namespace()))
