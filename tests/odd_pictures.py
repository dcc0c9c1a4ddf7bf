"""Pictures that are not what they seem: turned by EXIF, of other modes, transparent."""

from pathlib import Path

import numpy as np
from PIL import Image

READING = {"INPUT.UPRIGHT": True, "INPUT.TRANSPARENCY": "white"}  # as tools.fit sets them
DEEP = "deep.png"


def write_odd(folder: Path) -> list[str]:
    """Paths of one picture of each kind. Each half has its own colour, so that turning counts."""
    folder.mkdir(parents=True, exist_ok=True)
    noise = np.random.RandomState(0).randint(0, 90, (160, 144, 4)).astype(np.uint8)
    noise[:80, :, 0] += 160
    noise[:, :30, 3] = 0
    clear = Image.fromarray(noise)
    plain = clear.convert("RGB")
    exif = Image.Exif()
    exif[274] = 6
    plain.save(folder / "turned.jpg", exif=exif, quality=95)
    plain.save(folder / "turned.png", exif=exif)
    plain.convert("CMYK").save(folder / "cmyk.jpg", exif=exif, quality=95)
    plain.quantize(8).save(folder / "palette.png", transparency=0)
    plain.convert("L").save(folder / "grey.png")
    plain.convert("L").save(folder / "grey clear.png", transparency=noise[0, 0, 1].item())
    clear.convert("LA").save(folder / "la.png")
    clear.save(folder / "rgba.png", exif=exif)
    deep = np.asarray(plain.convert("L")).astype(np.uint16) * 257
    Image.fromarray(deep).save(folder / DEEP, exif=exif)
    return sorted(map(str, folder.iterdir()))
