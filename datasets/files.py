"""Text, tables and folders that people made: the one place where data sets and tools read them."""

import csv
import errno
import hashlib
import html
import logging
import os
import os.path as osp
import re
import stat
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from PIL import Image, features

from datasets.errors import UserError

log = logging.getLogger(__name__)

PUBLISHED_FILE = "published"  # what `kind_of_split` says of a published file
REPAIR = "prepare the data set again"  # the remedy for files of a published data set
_BLANK = r"[\s\ufeff\u200b\u200e\u200f\u2060]"  # blanks, and signs without width
_ENDS = re.compile(rf"^{_BLANK}+|{_BLANK}+$")
# What systems, archives and NAS devices add, in lower case. Hidden names are left out too.
JUNK_FOLDERS = frozenset(
    "@eadir|@__thumb|@tmp|@recycle|@recently-snapshot|@snapshot|@sharebin|@transcode|#recycle|"
    "#snapshot|~snapshot|thumbs|thumbnails|_thumbs|picasaoriginals|_vti_cnf|__macosx|__pycache__|"
    "$recycle.bin|recycler|system volume information|lost+found|lost.dir|found.000|"
    "network trash folder|temporary items".split("|")
)
JUNK_FILES = frozenset(("thumbs.db", "ehthumbs.db", "desktop.ini", ".ds_store", ".directory"))
HEIC = (".heic", ".heif")  # what phones of Apple write
RAW = tuple(
    ".dng .cr2 .cr3 .crw .nef .nrw .arw .raf .orf .rw2 .pef .srw .raw".split()
)  # of cameras
VIDEOS = (".mp4", ".mov", ".m4v", ".avi", ".mkv", ".webm", ".wmv", ".mpg", ".mpeg", ".3gp", ".mts")
ENDINGS = (
    ".jpg .jpeg .jpe .jfif .png .apng .ppm .pgm .pbm .pnm .bmp .dib .tif .tiff .webp .gif .avif "
    ".jp2 .tga"
).split() + [*HEIC]

with suppress(ImportError):  # optional: Pillow itself has no decoder of HEIC
    import pillow_heif

    pillow_heif.register_heif_opener()


def _readable(endings: Iterable[str]) -> tuple[str, ...]:
    """Those whose format this Pillow can decode."""
    formats = Image.registered_extensions()
    found = [ending for ending in endings if formats.get(ending) in Image.OPEN]
    return tuple(one for one in found if one != ".avif" or features.check("avif"))


EXTENSIONS = _readable(ENDINGS)


# Text


def stripped(text: str) -> str:
    """Without blanks and invisible signs (byte order marks among them) at its ends."""
    return _ENDS.sub("", text)


def shown(text: str) -> str:
    """A name for a sentence: short, and printable where it is not UTF-8."""
    if len(text) > 200:
        return f"{shown(text[:60])}..."
    return text.encode("utf-8", "backslashreplace").decode()


def is_utf8(text: str) -> bool:
    """False for names of files and folders that are other bytes, as old archives have them."""
    return text.encode("utf-8", "replace").decode() == text


def _not_read(what: str, error: OSError, remedy: str) -> UserError:
    """The sentence about a file or folder that the system does not give. It may be a good one."""
    if error.errno in (errno.EACCES, errno.EPERM):
        remedy = "correct its rights"
    return UserError(f"{what} cannot be read ({error.strerror}): {remedy}")


def read_text(path: str, remedy: str = REPAIR, what: str = "") -> str:
    """A UTF-8 text without byte order mark, with line feeds for all kinds of line ends.

    Raises UserError, which begins with `what` and ends with `remedy`, if the file cannot be read
    or is not text.
    """
    try:
        with open(path, encoding="utf-8-sig") as file:
            text = file.read()
    except OSError as error:
        raise _not_read(f"{what}'{path}'", error, remedy) from None
    except UnicodeDecodeError:
        text = "\0"
    if "\0" in text:
        raise UserError(
            f"{what}'{path}' cannot be read (not UTF-8 text): save it as UTF-8 text, or {remedy}"
        )
    return text


def read_lines(path: str, remedy: str = REPAIR, what: str = "") -> list[str]:
    """The stripped lines that are not empty. Raises UserError as `read_text` does."""
    return [line for line in map(stripped, read_text(path, remedy, what).split("\n")) if line]


def read_cells(
    path: str, separator: str | None = ",", remedy: str = REPAIR
) -> Iterator[tuple[int, list[str]]]:
    """(line number, stripped cells) of the lines of a table that are not blank.

    A separator None is any run of blanks.
    Raises UserError as `read_text` does, and for quotation marks that are not closed.
    """
    lines = read_text(path, remedy).removesuffix("\n").split("\n")
    if separator is None:
        yield from (
            (number, cells) for number, cells in enumerate(map(str.split, lines), 1) if cells
        )
        return
    rows = csv.reader((f"{line}\n" for line in lines), delimiter=separator, strict=True)
    try:
        for cells in rows:
            cells = [stripped(cell) for cell in cells]
            if any(cells):
                yield rows.line_num, cells
    except csv.Error as error:
        reason = "a quotation mark is not closed or stands inside a value"
        if "limit" in str(error):
            reason = "a value is longer than csv can read"
        where = f"line {rows.line_num}"
        raise UserError(f"'{path}' cannot be read ({where}: {reason}): {remedy}") from None


def read_class_names(path: str) -> dict[str, str]:
    """{folder: class name} of ImageNet's classnames.txt.

    Its lines are a folder, a space and the name of its class. Raises UserError for a line without
    a name, and for two names of a folder.
    """
    return _paired(path, (line.split(maxsplit=1) for line in read_lines(path)))


def names_of_folders(path: str, folders: Sequence[str], remedy: str) -> dict[str, str]:
    """The same of exactly these folders, whose names may have blanks.

    A tab may stand for the space. Folders without a line are not in the result. Raises UserError
    for a line that could be of two folders, and for one that is of none while a folder has none.
    """
    # A Mac writes accents otherwise than an editor does.
    known = {unicodedata.normalize("NFC", folder): folder for folder in folders}
    found, lost = [], []
    for line in read_lines(path, remedy):
        plain = unicodedata.normalize("NFC", line)
        cuts = (
            [len(plain) if plain in known else plain.find("\t")]
            if "\t" in plain
            else [match.start() for match in re.finditer(r"\s+|$", plain)]
        )
        fitting = [cut for cut in cuts if stripped(plain[:cut]) in known]
        if len(fitting) > 1:
            one, other = (known[stripped(plain[:cut])] for cut in fitting[:2])
            raise UserError(
                f"'{path}' has the line '{shown(line)}', which begins with the folders '{one}' "
                f"and '{other}': write a tab behind the folder that is meant"
            )
        if fitting:
            found.append([known[stripped(plain[: fitting[0]])], stripped(plain[fitting[0] :])])
        else:
            lost.append(line)
    names = _paired(path, found)
    if lost and (nameless := [folder for folder in folders if folder not in names]):
        raise UserError(
            f"'{path}' has the line '{shown(lost[0])}', which begins with no folder, and folder "
            f"'{shown(nameless[0])}' has no line: correct the line or delete it"
        )
    if lost:
        first = f"first '{shown(lost[0])}'"
        log.warning(f"'{path}' has {len(lost)} line(s) of folders that are not there, {first}")
    return names


def _paired(path: str, pairs: Iterable[Sequence[str]]) -> dict[str, str]:
    names: dict[str, str] = {}
    for folder, *name in pairs:
        if not name or not name[0]:
            raise UserError(
                f"'{path}' has the line '{shown(folder)}': a line is a folder, a space and the "
                "name of its class"
            )
        if names.setdefault(folder, name[0]) != name[0]:
            raise UserError(
                f"'{path}' names folder '{shown(folder)}' both '{shown(names[folder])}' and "
                f"'{shown(name[0])}': delete one of the lines"
            )
    return names


def text_for_clip(name: str) -> str:
    """What CLIP's tokenizer makes of a class name."""
    text = unicodedata.normalize("NFC", html.unescape(html.unescape(name)))
    return " ".join(text.replace("_", " ").lower().split())


def same_for_clip(names: Iterable[str]) -> list[list[str]]:
    """Groups of two or more names that are the same text for CLIP."""
    groups: dict[str, list[str]] = {}
    for name in names:
        groups.setdefault(text_for_clip(name), []).append(name)
    return [group for group in groups.values() if len(group) > 1]


# Folders


def _kind(entry: os.DirEntry) -> str:
    """folder, file, or other (a pipe, a device, a link to nothing or to itself)."""
    try:
        return "folder" if entry.is_dir() else "file" if entry.is_file() else "other"
    except OSError:
        return "other"


def _entries(path: str, remedy: str) -> list[os.DirEntry]:
    try:
        with os.scandir(path) as found:
            return sorted(found, key=lambda entry: entry.name)
    except OSError as error:
        raise _not_read(f"'{shown(path)}'", error, remedy) from None


def _is_junk(name: str) -> bool:
    return name.startswith(".") or name.lower() in JUNK_FOLDERS


def is_picture(name: str, unread: bool = False) -> bool:
    """Whether a file of this name is taken for a picture.

    unread: those of `why_not_read` count, too.
    """
    known = name.lower().endswith(EXTENSIONS) or unread and why_not_read(name) != ""
    return known and not name.startswith(".")


def why_not_read(name: str) -> str:
    """What to do about a file of this name that no program here reads; "" for other files.

    That is HEIC, RAW, and videos. The text completes a sentence after a colon.
    """
    ending = osp.splitext(name)[1].lower()
    if ending in HEIC and ending not in EXTENSIONS:
        return (
            "HEIC needs the package pillow-heif: install it (.venv/bin/python -m pip install "
            "pillow-heif), or save the photos as JPEG"
        )
    if ending in RAW:
        return f"RAW photos ({ending}) are not read: save them as JPEG, or take them out"
    if ending in VIDEOS:
        return "videos are not read: save frames of them as pictures, or take them out"
    return ""


def why_unread(path: str, error: UserError) -> str:
    """What to tell of a picture after the `error` of reading it, which has a data set's remedy.

    Where its kind is the reason, what to do about that kind.
    """
    if os.access(path, os.R_OK) and (why := why_not_read(path)):
        return f"image '{path}' cannot be read: {why}"
    return str(error).rpartition(": ")[0]


def _leads_up(entry: os.DirEntry, real: str) -> bool:
    """Whether an entry of the folder `real` is a link to that folder or to one above it."""
    if not entry.is_symlink():
        return False
    return osp.join(real, "").startswith(osp.join(osp.realpath(entry.path), ""))


@dataclass
class Folder:
    """Sorted names of the subfolders and pictures of one folder."""

    folders: list[str] = field(default_factory=list)
    pictures: list[str] = field(default_factory=list)


def list_folder(
    path: str, remedy: str = f"{REPAIR} or correct --root", left_out: Counter | None = None
) -> Folder:
    """List the visible subfolders and pictures of `path`.

    `left_out` counts junk of systems and links in circles. Raises UserError if `path` is not a
    directory or cannot be read.
    """
    left_out = Counter() if left_out is None else left_out
    real, found = osp.realpath(path), Folder()
    for entry in _entries(path, remedy):
        kind = _kind(entry)
        if kind == "file" and is_picture(entry.name):
            found.pictures.append(entry.name)
        elif kind == "folder" and not entry.name.startswith("."):
            if _is_junk(entry.name):
                left_out[f"folder(s) {shown(entry.name)}"] += 1
            elif _leads_up(entry, real):
                left_out["link(s) in a circle"] += 1
            else:
                found.folders.append(entry.name)
    return found


def list_images(
    folder: str,
    below: str = "",
    left_out: Counter | None = None,
    remedy: str = f"{REPAIR} or correct --root",
    unread: bool = False,
) -> list[str]:
    """Sorted paths, relative to `folder`, of the images in `folder`/`below` and its subfolders.

    None if that is no folder. Links do not make a picture two. `left_out` counts what is there
    besides, by its kind. unread: photos and videos of `why_not_read` are listed, too. Raises
    UserError for what cannot be read, and for a picture that is a link to nothing.
    """
    left_out = Counter() if left_out is None else left_out
    top = osp.join(folder, below)
    folders, links = [(top, False)] if osp.isdir(top) else [], []
    real_folders: set[str] = set()
    pictures: list[tuple[bool, str, str]] = []  # whether through a link, path, real path
    while folders or links:
        # Links come last, so that what they lead to keeps its own path.
        parent, linked = folders.pop() if folders else links.pop(0)
        real = osp.realpath(parent)
        if real in real_folders:
            left_out["link(s) to folders that are there already"] += 1
            continue
        real_folders.add(real)
        for entry in _entries(parent, remedy):
            kind, through = _kind(entry), linked or entry.is_symlink()
            if why := _why_left_out(entry, kind, real, unread):
                left_out[why] += 1
            elif kind == "folder":
                (links if through else folders).append((entry.path, through))
            elif kind == "file" and is_picture(entry.name, unread):
                itself = osp.join(real, entry.name)
                pictures.append(
                    (through, entry.path, osp.realpath(itself) if entry.is_symlink() else itself)
                )
    chosen: dict[str, str] = {}
    for _, path, real in sorted(pictures):
        if chosen.setdefault(real, path) != path:
            left_out["link(s) to pictures that are there already"] += 1
    return sorted(osp.relpath(path, folder).replace(os.sep, "/") for path in chosen.values())


def _why_left_out(entry: os.DirEntry, kind: str, real: str, unread: bool) -> str:
    """In words; "" for folders to look into, for pictures, and for files that are in no way odd.

    Raises UserError for a picture that is a link to nothing.
    """
    if entry.name.lower() in JUNK_FILES:
        return ""
    if entry.name.startswith("."):
        return "hidden"
    if kind == "folder":
        if _is_junk(entry.name):
            return f"folder(s) {shown(entry.name)}"
        return "link(s) in a circle" if _leads_up(entry, real) else ""
    if kind == "other":
        if is_picture(entry.name) and entry.is_symlink():
            raise UserError(
                f"'{shown(entry.path)}' is a link to nothing: restore the picture that it leads "
                "to, or delete the link"
            )
        return "pipe(s), device(s) or dead link(s)"
    if is_picture(entry.name, unread):
        return ""
    return f"file(s) {shown(osp.splitext(entry.name)[1].lower()) or 'without ending'}"


def say_left_out(where: str, left_out: Counter) -> str:
    """One line, "" if nothing was left out."""
    counts = ", ".join(f"{count} {what}" for what, count in sorted(left_out.items()))
    return f"Left out of '{shown(where)}': {counts}" if counts else ""


def file_identities(folder: str, paths: Iterable[str], name: str, remedy: str) -> dict[str, tuple]:
    """{path: identity of its file on the disk}.

    The identity is the same for links, hard links and all spellings of a path. Raises UserError
    with the number and the first three of the paths that are missing in `folder`, and for a path
    that is not a regular file or cannot be accessed.
    """
    identities: dict[str, tuple] = {}
    missing = []
    for path in dict.fromkeys(paths):
        try:
            status = os.stat(osp.join(folder, path))
        except PermissionError:
            raise UserError(
                f"'{shown(osp.join(folder, path))}' cannot be read (Permission denied): correct "
                "the rights"
            ) from None
        except (OSError, ValueError):  # ValueError: no path at all
            missing.append(shown(path))
            continue
        if not stat.S_ISREG(status.st_mode):
            raise UserError(
                f"{name} names '{shown(path)}' in '{folder}', which is no picture but a folder, "
                f"a pipe or a device: {remedy}"
            )
        identities[path] = (status.st_dev, status.st_ino)
        if not status.st_ino:  # some network drives do not number files
            identities[path] = (osp.realpath(osp.join(folder, path)),)
    if missing:
        raise UserError(
            f"{name} names {len(missing)} image(s) that are not in '{folder}', first "
            f"{', '.join(missing[:3])}: {remedy}"
        )
    return identities


def kind_of_split(path: Path, md5: str) -> str:
    """Return "generated", "there", PUBLISHED_FILE or "other".

    Raises UserError for an unreadable file.
    """
    if not path.is_file():
        return "generated"
    try:
        content = path.read_bytes()
    except OSError as error:
        raise UserError(
            f"'{path}' cannot be read ({error.strerror}): correct its rights, or look after the "
            "disk"
        ) from None
    if not md5:
        return "there"
    return PUBLISHED_FILE if hashlib.md5(content).hexdigest() == md5 else "other"
