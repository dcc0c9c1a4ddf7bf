"""Drawings and the pictures that are made of them: SVG to pixels, pixels to files."""

import io
import os
from collections.abc import Callable
from pathlib import Path

from PIL import Image

from datasets.errors import UserError
from datasets.locks import temporary


def rasterize(svg: str, size: int) -> Image.Image:
    """RGBA picture within size x size pixels.

    Raises ValueError if the drawing is not valid, UserError without resvg-py.
    """
    try:
        import resvg_py
    except ImportError:
        raise UserError(
            "the package resvg-py is not installed: run `pip install resvg-py`"
        ) from None
    return Image.open(
        io.BytesIO(bytes(resvg_py.svg_to_bytes(svg_string=svg, width=size, height=size)))
    ).convert("RGBA")


def render_svg(svg: str, size: int) -> Image.Image:
    """RGB picture (size x size pixels) on white paper. Raises as `rasterize` does."""
    picture = rasterize(svg, size)
    paper = Image.new("RGBA", (size, size), "white")
    picture.thumbnail((size, size))
    paper.alpha_composite(picture, ((size - picture.width) // 2, (size - picture.height) // 2))
    return paper.convert("RGB")


def write_picture(path: Path, draw: Callable[[], Image.Image], packages: str = "resvg-py") -> None:
    """Write the image that `draw()` returns as PNG, whole or not at all; an existing file is kept.

    packages: what makes the image, to install again if the drawing is not valid.
    Raises UserError if it cannot be drawn or written.
    """
    if path.is_file():
        return
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with temporary(path) as file:
            draw().save(file, "PNG")
            file.flush()
            os.replace(file.name, path)
    except OSError as error:
        raise UserError(
            f"cannot write '{path}' ({error.strerror or error}): free space or choose another "
            "--root"
        ) from None
    except ValueError as error:
        raise UserError(
            f"the drawing for '{path}' cannot be rendered ({error}): install {packages} again"
        ) from None
