"""Files, images and seeds, for all other modules."""

import errno
import json
import math
import os
import os.path as osp
import platform
import random
import re
import urllib.error
import urllib.request
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from importlib import metadata
from typing import IO, Any

import numpy as np
import torch
from PIL import ExifTags, Image, ImageOps
from torch.utils import deterministic as _deterministic

from dassl import files
from dassl.errors import UserError


def mkdir_if_missing(dirname: str) -> None:
    """Create a folder and its parents. Raises UserError where that is not allowed."""
    try:
        os.makedirs(dirname or ".", exist_ok=True)
    except OSError as error:
        raise UserError(
            f"cannot create the folder '{dirname}' ({error.strerror}): choose another place"
        ) from None


def check_isfile(fpath: str) -> bool:
    """Whether `fpath` is a file; warns if not."""
    isfile = osp.isfile(fpath)
    if not isfile:
        warnings.warn(f'No file found at "{fpath}"', stacklevel=2)
    return isfile


def listdir_nohidden(path: str, sort: bool = False) -> list[str]:
    """Names in a folder, without those that begin with a dot."""
    names = [name for name in os.listdir(path) if not name.startswith(".")]
    return sorted(names) if sort else names


def tolist_if_not(x: Any) -> list:
    return x if isinstance(x, list) else [x]


_NO_MEMORY = re.compile("(?i)can(?:'t|not) allocate memory|out of memory|unable to mmap")
_REMEDIES = {
    errno.EACCES: "correct its rights",
    errno.EPERM: "correct its rights",
    errno.ENOMEM: "free memory, or use a machine with more",
    errno.EMFILE: "allow a process more open files (ulimit -n)",
    errno.ENFILE: "close other programs",
    errno.ELOOP: "correct the links, which go in a circle",
    errno.EISDIR: "move that folder away",
    errno.ENOTDIR: "correct the path",
}


def _refused(error: BaseException | None) -> int:
    """The errno with which the system refused to read a file; 0 if `error` may be the file's own
    fault.
    """
    while error is not None:
        if isinstance(error, MemoryError) or _NO_MEMORY.search(
            str(error)
        ):  # torch says so in a RuntimeError
            return errno.ENOMEM
        # A damaged file can ask for places that it lacks, which is EINVAL.
        if isinstance(error, OSError) and error.errno not in (None, errno.ENOENT, errno.EINVAL):
            return error.errno
        error = error.__cause__ or error.__context__
    return 0


def unreadable(what: str, error: BaseException) -> UserError | None:
    """The sentence about a file that cannot be read for want of rights, memory or handles; None if
    it may be damaged.

    A good file must not be called damaged. what: e.g. "checkpoint 'path'".
    """
    number = _refused(error)
    remedy = _REMEDIES.get(number, "look after the disk or the network, then try again")
    return UserError(f"{what} cannot be read ({os.strerror(number)}): {remedy}") if number else None


def atomic_write(path: str, write: Callable[[IO[bytes]], Any] | bytes) -> None:
    """Call `write(file)` on a temporary neighbour of `path`, force it to disk, then rename it to
    `path`. write: or the bytes to write.

    A crash at any moment leaves either the old file or the new one. Raises UserError if the system
    refuses (disk full, not allowed); the old file is then intact.
    """
    if files.is_special(path):
        raise UserError(
            f"'{path}' is a pipe or a device, and cannot be replaced by a file: choose another name"
        )
    try:
        with files.temporary(path) as file:
            file.write(write) if isinstance(write, bytes) else write(file)
            file.flush()
            os.fsync(file.fileno())
            os.replace(file.name, path)
        directory = os.open(files.absolute(osp.dirname(path)), os.O_RDONLY)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)
    except (OSError, RuntimeError) as error:
        # torch reports a failed write as RuntimeError; the cause, if known, is chained to it.
        cause = (
            error.__context__
            if isinstance(error.__context__, (OSError, KeyboardInterrupt))
            else error
        )
        if isinstance(cause, KeyboardInterrupt):
            raise KeyboardInterrupt from None
        reason = getattr(cause, "strerror", None) or str(cause).strip().splitlines()[0]
        raise UserError(
            f"cannot write '{path}' ({reason}): free space or choose another OUTPUT_DIR; "
            f"an earlier '{osp.basename(path)}' is intact"
        ) from None


def read_json(fpath: str) -> Any:
    """Parsed JSON, with or without byte order mark.

    Raises FileNotFoundError, or UserError naming a file that is not JSON or cannot be read.
    """
    if files.is_special(fpath):
        raise UserError(f"'{fpath}' is a pipe or a device, not a file: move it away")
    try:
        with open(fpath, encoding="utf-8-sig") as file:
            return json.load(file)
    except FileNotFoundError:
        raise
    except (
        OSError,
        ValueError,
        RecursionError,
        MemoryError,
    ) as error:  # bad JSON and bad UTF-8; brackets within brackets
        raise unreadable(f"'{fpath}'", error) or UserError(
            f"'{fpath}' is not valid JSON ({error}): restore or delete it"
        ) from None


def write_json(obj: Any, fpath: str) -> None:
    """Write JSON atomically, creating the folder."""
    mkdir_if_missing(osp.dirname(fpath))
    atomic_write(fpath, files.json_text(obj))


# What DatasetWrapper says about pictures, each once in a run; `{}` is the first such file.
PICTURE_NOTES = {
    "transparency": "Note: '{}' has transparent pixels, whose hidden colours are used as they are "
    "stored, as published (INPUT.TRANSPARENCY drop): set it to white to put such pictures on white",
    "orientation": "Note: '{}' is a photo that viewers turn (EXIF orientation), but is used as it "
    "is stored, as published (INPUT.UPRIGHT False): set it to True to turn such pictures",
    "depth": "Note: '{}' holds grey values that may be of other than 8 or 16 bits: "
    "docs/datasets.md says how they are scaled",
}
TRANSPARENCY = ("drop", "white")
# PIL's warning names no file, and only the orientation is read from there.
warnings.filterwarnings("ignore", message="Corrupt EXIF data")


def read_image(
    path: str,
    draft: tuple[int, int] | None = None,
    transparency: str = "drop",
    upright: bool = False,
    notice: Callable[[str], Any] = lambda kind: None,
    picture: Image.Image | None = None,
) -> Image.Image:
    """The image as 8-bit RGB, whatever its kind: deep grey, palette, CMYK, transparent ones.

    Of an animation it is the first picture. transparency: "drop" takes the colours as stored,
    "white" puts the picture on white. upright: turn it as its EXIF data says. With `draft` (height,
    width) a JPEG is decoded at a fraction of its size that is not below it. `notice` is called with
    the keys of PICTURE_NOTES that hold. With `picture` that image is taken instead of a file, and
    `path` only names it. Raises UserError naming a file that is missing, unreadable or too large.
    """
    out = "take it out of the data set"
    remedy = f"restore it or {out}"
    if picture is None and files.is_special(path):
        raise UserError(f"image '{path}' is a pipe or a device, not a file: take it away")
    try:
        # The caller's own picture stays open, and is not decoded at a fraction of its size.
        with Image.open(path) if picture is None else nullcontext(picture) as image:
            if draft is not None and picture is None:
                image.draft(None, draft[::-1])
            image.load()
            if 0 in image.size:  # Image.new takes such sizes, and transforms divide by them
                raise ValueError(f"its size is {image.width} x {image.height} pixels")
            if _is_turned(image):
                if upright:
                    image = ImageOps.exif_transpose(image)
                else:
                    notice("orientation")
            return _as_rgb(image, transparency, notice)
    except FileNotFoundError:
        raise UserError(f"image '{path}' does not exist: {remedy}") from None
    except Image.DecompressionBombError:
        most = 2 * Image.MAX_IMAGE_PIXELS
        raise UserError(
            f"image '{path}' has more than the {most:,} pixels that are read: make it "
            f"smaller or {out}"
        ) from None
    except MemoryError:
        raise UserError(
            f"image '{path}' does not fit into memory: free some, or make it smaller"
        ) from None
    except Exception as error:  # PIL raises a dozen kinds, OSError and SyntaxError among them
        if refused := unreadable(f"image '{path}'", error):
            raise refused from None
        unknown = isinstance(error, Image.UnidentifiedImageError)
        reason = "not an image" if unknown else str(error).rstrip(".")
        raise UserError(f"image '{path}' cannot be read ({reason}): {remedy}") from None


def _is_turned(image: Image.Image) -> bool:
    """Whether the EXIF data asks viewers to turn or mirror the picture; damaged data does not."""
    try:
        return image.getexif().get(ExifTags.Base.Orientation, 1) in range(2, 9)
    except Exception:  # noqa: BLE001 - it fails in many ways, and the picture itself is good
        return False


def _as_rgb(image: Image.Image, transparency: str, notice: Callable[[str], Any]) -> Image.Image:
    if image.mode.startswith("I") or image.mode == "F":
        return _eight_bits(np.asarray(image), notice).convert("RGB")
    if not image.has_transparency_data:
        return image if image.mode == "RGB" else image.convert("RGB")
    if image.mode == "La":  # grey multiplied by alpha: PIL converts it to this mode only
        image = image.convert("LA")
    image = image.convert("RGBA")
    if image.getchannel("A").getextrema()[0] < 255:
        if transparency == "white":
            image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
        else:
            notice("transparency")
    return image.convert("RGB")


def _eight_bits(values: np.ndarray, notice: Callable[[str], Any]) -> Image.Image:
    """Grey values (H, W) of another type as 8 bits.

    Whole numbers count as of 8, 12 or 16 bits and other ones as up to 1, 255, 4095 or 65535,
    whichever is the least that holds all of the picture. Where none does (negative or larger
    values), the smallest value becomes black and the largest white. Raises ValueError for values
    that are not finite.
    """
    low, high = float(values.min()), float(values.max())
    if not math.isfinite(high - low):
        raise ValueError("some of its values are not finite")
    whole = values.dtype.kind in "iu"
    if not (whole and low >= 0 and 2**15 <= high < 2**16):  # of 16 bits without doubt
        notice("depth")
    if low < 0 or high > 65535:
        grey = np.rint((values.astype(np.float64) - low) * (255 / max(high - low, 1e-300)))
    elif whole:
        grey = values.astype(np.int64) >> next(bits - 8 for bits in (8, 12, 16) if high < 2**bits)
    else:
        white = next(white for white in (1, 255, 4095, 65535) if high <= white)
        grey = np.rint(values * (255 / white))
    return Image.fromarray(grey.astype(np.uint8))


def set_random_seed(seed: int) -> None:
    """Seed Python, numpy and torch on all devices."""
    random.seed(seed)
    np.random.seed(seed % 2**32)
    torch.manual_seed(seed)  # all CUDA devices too


_NO_DETERMINISM = re.compile(r"(.+?) does not have a deterministic implementation")
_CUBLAS = "CUBLAS_WORKSPACE_CONFIG"


@contextmanager
def deterministic(instead: str = "set SEED -1, which gives up repeatability") -> Iterator[None]:
    """Inside, the same seed gives the same bits on one device; torch's settings come back.

    instead: what a user can do who needs an operation that has no deterministic version on the
    device. Raises UserError for one.
    """
    enabled = torch.are_deterministic_algorithms_enabled()
    warn_only = torch.is_deterministic_algorithms_warn_only_enabled()
    benchmark, fill = torch.backends.cudnn.benchmark, _deterministic.fill_uninitialized_memory
    # Without it cuBLAS may take another algorithm each time, so torch refuses to work.
    cublas = os.environ.get(_CUBLAS)
    os.environ.setdefault(_CUBLAS, ":4096:8")
    # With warn_only, attention with a gradient would stay as it is, and warn.
    torch.use_deterministic_algorithms(True)
    torch.backends.cudnn.benchmark = False
    _deterministic.fill_uninitialized_memory = False  # nothing here reads what it did not write
    try:
        yield
    except RuntimeError as error:
        if cublas is not None and _CUBLAS in str(error):
            raise UserError(
                f"{_CUBLAS} is '{cublas}', with which a run with a seed cannot be repeated: take "
                "it out of the environment, or set it to :4096:8"
            ) from error
        if (found := _NO_DETERMINISM.match(str(error))) is None:
            raise
        raise UserError(
            f"{found[1]} has no deterministic version on this device, and the run has a seed: "
            f"compute the same with other operations, or {instead}"
        ) from error
    finally:
        if cublas is None:
            os.environ.pop(_CUBLAS, None)
        torch.use_deterministic_algorithms(enabled, warn_only=warn_only)
        torch.backends.cudnn.benchmark = benchmark
        _deterministic.fill_uninitialized_memory = fill


def get_rng_state() -> dict:
    """States of all generators as plain lists and tensors, so that `weights_only` loading accepts
    them.
    """
    kind, keys, *rest = np.random.get_state()
    state = {
        "python": random.getstate(),
        "numpy": [kind, keys.tolist(), *rest],
        "torch": torch.get_rng_state(),
    }
    if torch.cuda.is_initialized():  # else nothing was drawn there
        state["cuda"] = torch.cuda.get_rng_state_all()
    return state


def set_rng_state(state: dict) -> None:
    """Undo of get_rng_state. CUDA states are taken for as many devices as there are."""
    version, internal, gauss = state["python"]
    random.setstate((version, tuple(internal), gauss))
    kind, keys, *rest = state["numpy"]
    np.random.set_state((kind, np.array(keys, dtype=np.uint32), *rest))
    torch.set_rng_state(state["torch"])
    if torch.cuda.is_initialized():  # of a run on a CPU it stays so
        for device, cuda in enumerate(state.get("cuda", [])[: torch.cuda.device_count()]):
            torch.cuda.set_rng_state(cuda, device)


def versions() -> dict[str, str]:
    """{name: version} of the software that can change a number."""
    numbers = {"python": platform.python_version(), "platform": platform.platform()}
    for package in ("torch", "torchvision", "numpy", "pillow", "scikit-learn"):
        try:
            numbers[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return numbers


def collect_env_info(use_cuda: bool = True) -> str:
    """Versions and devices, one a line.

    use_cuda: whether GPUs are named, which starts them.
    """
    lines = [f"{name}: {version}" for name, version in versions().items()]
    lines.append(f"CPU: {os.cpu_count()} cores, {torch.get_num_threads()} threads")
    count = torch.cuda.device_count() if use_cuda else 0
    cuda = [torch.cuda.get_device_name(i) for i in range(count)]
    none = "no device" if use_cuda else "not used"
    lines.append(f"CUDA: {torch.version.cuda}, {', '.join(cuda)}" if cuda else f"CUDA: {none}")
    return "\n".join(lines)


def download_url(url: str, dst: str, from_gdrive: bool = False) -> None:
    """Download to the file `dst`, whole or not at all. Raises UserError naming the address."""
    if from_gdrive:
        try:
            import gdown
        except ImportError:
            raise UserError(
                f"'{url}' is on Google Drive: install gdown, or download it by hand to '{dst}'"
            ) from None
        gdown.download(url, dst, quiet=False)
        return

    def fetch(file: IO[bytes]) -> None:
        try:
            with urllib.request.urlopen(url, timeout=60) as response:
                while block := response.read(1 << 20):
                    file.write(block)
        except (urllib.error.URLError, TimeoutError, ValueError) as error:
            raise UserError(
                f"cannot download '{url}' ({error}): download it by hand to '{dst}'"
            ) from None

    mkdir_if_missing(osp.dirname(dst))
    atomic_write(dst, fetch)
