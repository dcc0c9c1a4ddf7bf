"""Write `assets/emoji/*.zip`: the benchmark's emoji by another artist, as a further data set (needs
npm; run once).

    python -m tools.make_emoji_pictures --packages DIR

EmojiOne 2 (CC BY 4.0), which is not among the pictures the tiny CLIP is pretrained on.
"""

import argparse
import io
import sys
import zipfile

from PIL import Image

from datasets.sets.openmoji import BUNDLED, PICTURE_SIZE, emoji_table, render_svg
from datasets.suite import svg_of
from tools import inputs
from tools.pretrain_data import Emoji, drawing, hexcodes, icon_set

SETS = ("emojione",)


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--packages", type=inputs.path, required=True)
    packages = parser.parse_args().packages
    emoji, wanted = Emoji.read(packages), {row["hexcode"] for row in emoji_table()}
    BUNDLED.mkdir(parents=True, exist_ok=True)
    for style in SETS:
        icons, defaults, folder = icon_set(style, packages)
        drawings = {
            hexcode: render_svg(svg_of(drawing(icons[name], defaults)), PICTURE_SIZE)
            for hexcode, name in hexcodes(icons, folder, emoji).items()
            if hexcode in wanted
        }
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
