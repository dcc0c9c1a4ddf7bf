"""Files, images, seeds: what everything else leans on."""

import json
import os
import os.path as osp
import platform
import random
import urllib.error
import urllib.request
import uuid
import warnings
from collections.abc import Callable
from importlib import metadata
from typing import IO, Any

import numpy as np
import torch
from PIL import Image

from dassl.printable import escaped


class UserError(Exception):
    """Bad input. The message is one sentence: the culprit (file or key) and the remedy; further lines are further arguments.

    Control characters of names in it are escaped: they could change the terminal, or forge lines of the log.
    """

    def __init__(self, message: str = "", *more: str):
        # A worker process of a DataLoader wraps the sentence into its traceback.
        message = message.strip().splitlines()[-1].rpartition("UserError: ")[2] if "Traceback" in message else message
        super().__init__("\n".join(map(escaped, (message, *more))))


def mkdir_if_missing(dirname: str) -> None:
    """Create a folder and its parents. Raises UserError where that is not allowed."""
    try:
        os.makedirs(dirname or ".", exist_ok=True)
    except OSError as error:
        raise UserError(f"cannot create the folder '{dirname}' ({error.strerror}): choose another place") from None


def check_isfile(fpath: str) -> bool:
    """Whether `fpath` is a file; warns if not."""
    isfile = osp.isfile(fpath)
    if not isfile:
        warnings.warn(f'No file found at "{fpath}"', stacklevel=2)
    return isfile


def listdir_nohidden(path: str, sort: bool = False) -> list[str]:
    """Names in a folder but those that begin with a dot."""
    names = [name for name in os.listdir(path) if not name.startswith(".")]
    return sorted(names) if sort else names


def tolist_if_not(x: Any) -> list:
    return x if isinstance(x, list) else [x]


def atomic_write(path: str, write: Callable[[IO[bytes]], Any]) -> None:
    """Call `write(file)` on a temporary neighbour of `path`, force it to disk, then rename it to `path`.

    A crash at any moment leaves either the old file or the new one. Raises UserError if the system refuses
    (disk full, not allowed); the old file is then intact.
    """
    folder = osp.dirname(osp.abspath(path))
    temporary = osp.join(folder, f".{osp.basename(path)}.{uuid.uuid4().hex}")
    try:
        with open(temporary, "xb") as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
        directory = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)
    except BaseException as error:
        if osp.exists(temporary):
            os.unlink(temporary)
        # torch reports a failed write as RuntimeError; the cause, if known, is chained to it.
        cause = error.__context__ if isinstance(error.__context__, OSError) else error
        if isinstance(error, (OSError, RuntimeError)):
            reason = getattr(cause, "strerror", None) or str(cause).strip().splitlines()[0]
            raise UserError(f"cannot write '{path}' ({reason}): free space or choose another OUTPUT_DIR; "
                            f"an earlier '{osp.basename(path)}' is intact") from None
        raise


def read_json(fpath: str) -> Any:
    """Parsed JSON. Raises FileNotFoundError, or UserError naming a file that is not JSON."""
    with open(fpath, encoding="utf-8") as file:
        try:
            return json.load(file)
        except ValueError as error:  # bad JSON and bad UTF-8 alike
            raise UserError(f"'{fpath}' is not valid JSON ({error}): restore or delete it") from None


def write_json(obj: Any, fpath: str) -> None:
    """Write JSON atomically, creating the folder."""
    mkdir_if_missing(osp.dirname(fpath))
    text = json.dumps(obj, indent=4, separators=(",", ": "))
    atomic_write(fpath, lambda file: file.write(text.encode()))


def read_image(path: str, draft: tuple[int, int] | None = None) -> Image.Image:
    """The image as 8-bit RGB: grey, palette, CMYK, 16-bit and transparent files included (alpha is dropped).

    With `draft` (height, width) a JPEG is decoded at a fraction of its size that is not below it. Raises UserError naming a missing or unreadable file.
    """
    try:
        with Image.open(path) as image:
            if draft is not None:
                image.draft(None, draft[::-1])
            if image.mode == "RGB":
                image.load()
                return image
            if image.mode.startswith("I"):  # 16-bit grey, which PIL would clip to white
                image = Image.fromarray((np.asarray(image, dtype=np.uint32) >> 8).clip(0, 255).astype(np.uint8))
            elif "transparency" in image.info:
                image = image.convert("RGBA")  # PIL warns without this step; the colours are the same
            return image.convert("RGB")
    except FileNotFoundError:
        raise UserError(f"image '{path}' does not exist: restore it or take it out of the data set's split file") from None
    except Exception as error:  # PIL raises a dozen kinds, OSError and SyntaxError among them
        reason = "not an image" if isinstance(error, Image.UnidentifiedImageError) else str(error).rstrip(".")
        raise UserError(f"image '{path}' cannot be read ({reason}): "
                        "restore it or take it out of the data set's split file") from None


def set_random_seed(seed: int) -> None:
    """Seed Python, numpy and torch on all devices."""
    random.seed(seed)
    np.random.seed(seed % 2**32)
    torch.manual_seed(seed)  # all CUDA devices too


def get_rng_state() -> dict:
    """States of all generators as plain lists and tensors, so that `weights_only` loading accepts them."""
    kind, keys, *rest = np.random.get_state()
    state = {"python": random.getstate(), "numpy": [kind, keys.tolist(), *rest], "torch": torch.get_rng_state()}
    if torch.cuda.is_available():
        state["cuda"] = torch.cuda.get_rng_state_all()
    return state


def set_rng_state(state: dict) -> None:
    """Undo of get_rng_state. CUDA states are taken for as many devices as there are."""
    version, internal, gauss = state["python"]
    random.setstate((version, tuple(internal), gauss))
    kind, keys, *rest = state["numpy"]
    np.random.set_state((kind, np.array(keys, dtype=np.uint32), *rest))
    torch.set_rng_state(state["torch"])
    if torch.cuda.is_available():
        for device, cuda in enumerate(state.get("cuda", [])[: torch.cuda.device_count()]):
            torch.cuda.set_rng_state(cuda, device)


def versions() -> dict[str, str]:
    """Versions of what can change a number."""
    found = {"python": platform.python_version(), "platform": platform.platform()}
    for package in ("torch", "torchvision", "numpy", "pillow", "scikit-learn"):
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return found


def collect_env_info() -> str:
    """Versions and devices, one a line."""
    lines = [f"{name}: {version}" for name, version in versions().items()]
    lines.append(f"CPU: {os.cpu_count()} cores, {torch.get_num_threads()} threads")
    cuda = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    lines.append(f"CUDA: {torch.version.cuda}, {', '.join(cuda)}" if cuda else "CUDA: no device")
    return "\n".join(lines)


def download_url(url: str, dst: str, from_gdrive: bool = False) -> None:
    """Download to the file `dst`, whole or not at all. Raises UserError naming the address."""
    if from_gdrive:
        try:
            import gdown
        except ImportError:
            raise UserError(f"'{url}' is on Google Drive: install gdown, or download it by hand to '{dst}'") from None
        gdown.download(url, dst, quiet=False)
        return

    def fetch(file: IO[bytes]) -> None:
        try:
            with urllib.request.urlopen(url, timeout=60) as response:
                while block := response.read(1 << 20):
                    file.write(block)
        except (urllib.error.URLError, TimeoutError, ValueError) as error:
            raise UserError(f"cannot download '{url}' ({error}): download it by hand to '{dst}'") from None

    mkdir_if_missing(osp.dirname(dst))
    atomic_write(dst, fetch)
