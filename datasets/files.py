"""Text, tables and folders that people made: the one place where data sets and tools read them."""

import csv
import html
import io
import os
import os.path as osp
import re
import stat
import sys
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from PIL import Image, features

from datasets.errors import UserError

REPAIR = "prepare the data set again"  # the remedy for files of a published data set
_BLANK = r"[\s\ufeff\u200b\u200e\u200f\u2060]"  # blanks, and signs without width
_ENDS = re.compile(rf"^{_BLANK}+|{_BLANK}+$")
# Folders and files that operating systems, archives and NAS devices add, in lower case. What begins with a dot is hidden anyway.
JUNK_FOLDERS = frozenset((
    "@eadir", "@tmp", "@recycle", "@recently-snapshot", "@snapshot", "#recycle", "#snapshot", "__macosx", "__pycache__", "$recycle.bin", "recycler",
    "system volume information", "lost+found", "lost.dir", "found.000", "network trash folder", "temporary items"))
JUNK_FILES = frozenset(("thumbs.db", "ehthumbs.db", "desktop.ini", ".ds_store", ".directory"))


def _readable(suffixes: Iterable[str]) -> tuple[str, ...]:
    """Those whose format this Pillow can decode."""
    formats = Image.registered_extensions()
    return tuple(suffix for suffix in suffixes if formats.get(suffix) in Image.OPEN and (suffix != ".avif" or features.check("avif")))


EXTENSIONS = _readable((".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".apng", ".ppm", ".pgm", ".pbm", ".pnm", ".bmp", ".dib", ".tif", ".tiff", ".webp", ".gif",
                        ".avif", ".jp2", ".tga"))


# Text


def stripped(text: str) -> str:
    """Without blanks and invisible signs (byte order marks among them) at its ends."""
    return _ENDS.sub("", text)


def shown(text: str) -> str:
    """A name for a sentence: short, and printable where it is not UTF-8."""
    return text.encode("utf-8", "backslashreplace").decode() if len(text) < 200 else f"{shown(text[:60])}..."


def print_any_name() -> None:
    """From now on print \\xe9 for what the terminal cannot show, and names of files that are not UTF-8, instead of failing."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def is_utf8(text: str) -> bool:
    """False for names of files and folders that are other bytes, as old archives have them."""
    return text.encode("utf-8", "replace").decode() == text


def read_text(path: str, remedy: str = REPAIR, what: str = "") -> str:
    """A UTF-8 text without byte order mark; every line ends in a line feed, whatever it ends in there.

    Raises UserError, which begins with `what` and ends with `remedy`, if the file cannot be read or is not text.
    """
    try:
        with open(path, encoding="utf-8-sig") as file:
            text = file.read()
    except OSError as error:
        raise UserError(f"{what}'{path}' cannot be read ({error.strerror}): {remedy}") from None
    except UnicodeDecodeError:
        text = "\0"
    if "\0" in text:
        raise UserError(f"{what}'{path}' cannot be read (not UTF-8 text): save it as UTF-8 text, or {remedy}")
    return text


def read_lines(path: str, remedy: str = REPAIR, what: str = "") -> list[str]:
    """The lines of a text file, stripped, without empty ones. Raises UserError as `read_text` does."""
    return [line for line in map(stripped, read_text(path, remedy, what).split("\n")) if line]


def read_cells(path: str, separator: str | None = ",", remedy: str = REPAIR) -> Iterator[tuple[int, list[str]]]:
    """(line number, stripped cells) of the lines of a table that are not blank; a separator None is any run of blanks.

    Raises UserError as `read_text` does, and for quotation marks that are not closed.
    """
    lines = read_text(path, remedy).removesuffix("\n").split("\n")
    if separator is None:
        yield from ((number, cells) for number, cells in enumerate(map(str.split, lines), 1) if cells)
        return
    rows = csv.reader((f"{line}\n" for line in lines), delimiter=separator, strict=True)
    try:
        for cells in rows:
            cells = [stripped(cell) for cell in cells]
            if any(cells):
                yield rows.line_num, cells
    except csv.Error as error:
        reason = "a quotation mark is not closed or stands inside a value" if "limit" not in str(error) else error
        raise UserError(f"'{path}' cannot be read (line {rows.line_num}: {reason}): {remedy}") from None


def read_class_names(path: str) -> dict[str, str]:
    """{folder: class name} of a file whose lines are a folder, a space and its class name (ImageNet's classnames.txt).

    Raises UserError for a line without a name, and for two names of a folder.
    """
    return _paired(path, (line.split(maxsplit=1) for line in read_lines(path)))


def names_of_folders(path: str, folders: Sequence[str], remedy: str) -> dict[str, str]:
    """The same of exactly these folders, whose names may have blanks; a tab may stand for the space. Folders without a line are not in it.

    Raises UserError for a line that could be of two folders, and for one that is of none while a folder has none.
    """
    known, found, lost = {unicodedata.normalize("NFC", folder): folder for folder in folders}, [], []
    for line in read_lines(path, remedy):
        plain = unicodedata.normalize("NFC", line)
        cuts = [len(plain) if plain in known else plain.find("\t")] if "\t" in plain else [match.start() for match in re.finditer(r"\s+|$", plain)]
        fitting = [cut for cut in cuts if stripped(plain[:cut]) in known]
        if len(fitting) > 1:
            one, other = (known[stripped(plain[:cut])] for cut in fitting[:2])
            raise UserError(f"'{path}' has the line '{shown(line)}', which begins with the folders '{one}' and '{other}': write a tab behind the folder that is meant")
        if fitting:
            found.append([known[stripped(plain[:fitting[0]])], stripped(plain[fitting[0]:])])
        else:
            lost.append(line)
    names = _paired(path, found)
    if lost and (nameless := [folder for folder in folders if folder not in names]):
        raise UserError(f"'{path}' has the line '{shown(lost[0])}', which begins with no folder, and folder '{shown(nameless[0])}' has no line: "
                        "correct the line or delete it")
    if lost:
        print(f"'{path}' has {len(lost)} line(s) of folders that are not there, first '{shown(lost[0])}'")
    return names


def _paired(path: str, pairs: Iterable[Sequence[str]]) -> dict[str, str]:
    names: dict[str, str] = {}
    for folder, *name in pairs:
        if not name or not name[0]:
            raise UserError(f"'{path}' has the line '{shown(folder)}': a line is a folder, a space and the name of its class")
        if names.setdefault(folder, name[0]) != name[0]:
            raise UserError(f"'{path}' names folder '{shown(folder)}' both '{shown(names[folder])}' and '{shown(name[0])}': delete one of the lines")
    return names


def text_for_clip(name: str) -> str:
    """What CLIP's tokenizer makes of a class name: names with the same text cannot be told apart."""
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
        raise UserError(f"'{shown(path)}' cannot be read ({error.strerror}): {remedy}") from None


def _is_junk(name: str) -> bool:
    return name.startswith(".") or name.lower() in JUNK_FOLDERS


def is_picture(name: str) -> bool:
    """Whether a file of this name is taken for a picture."""
    return name.lower().endswith(EXTENSIONS) and not name.startswith(".")


def _leads_up(entry: os.DirEntry, real: str) -> bool:
    """Whether an entry of the folder `real` is a link to that folder or to one above it."""
    return entry.is_symlink() and osp.join(real, "").startswith(osp.join(osp.realpath(entry.path), ""))


@dataclass
class Folder:
    """Names of what lies in a folder itself, sorted: folders, and files that are taken for pictures."""

    folders: list[str] = field(default_factory=list)
    pictures: list[str] = field(default_factory=list)


def list_folder(path: str, remedy: str = f"{REPAIR} or correct --root", left_out: Counter | None = None) -> Folder:
    """Without hidden folders, junk of systems and links in circles, which `left_out` counts.

    Raises UserError if it is no folder or cannot be read.
    """
    real, found, left_out = osp.realpath(path), Folder(), Counter() if left_out is None else left_out
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


def list_images(folder: str, below: str = "", left_out: Counter | None = None, remedy: str = f"{REPAIR} or correct --root") -> list[str]:
    """Paths relative to `folder` of the images in `folder`/`below` and its subfolders, sorted; links do not make a picture two.

    `left_out` counts what is there besides, by its kind. Raises UserError for what cannot be read, and for a picture that is a link to nothing.
    """
    left_out = Counter() if left_out is None else left_out
    folders, links, real_folders, pictures = [(osp.join(folder, below), False)], [], set(), []
    while folders or links:
        parent, linked = folders.pop() if folders else links.pop(0)  # links last: what they lead to keeps its own path
        real = osp.realpath(parent)
        if real in real_folders:
            left_out["link(s) to folders that are there already"] += 1
            continue
        real_folders.add(real)
        for entry in _entries(parent, remedy):
            kind = _kind(entry)
            if kind == "folder" and _is_junk(entry.name):
                left_out[f"folder(s) {shown(entry.name)}" if entry.name[0] != "." else "hidden"] += 1
            elif kind == "folder" and _leads_up(entry, real):
                left_out["link(s) in a circle"] += 1
            elif kind == "folder":
                (links if entry.is_symlink() or linked else folders).append((entry.path, entry.is_symlink() or linked))
            elif kind == "file" and is_picture(entry.name):
                pictures.append((entry.is_symlink() or linked, entry.path, osp.realpath(entry.path) if entry.is_symlink() else osp.join(real, entry.name)))
            elif is_picture(entry.name) and entry.is_symlink():
                raise UserError(f"'{shown(entry.path)}' is a link to nothing: restore the picture that it leads to, or delete the link")
            elif entry.name.lower() not in JUNK_FILES:
                suffix = osp.splitext(entry.name)[1].lower() or "without ending"
                left_out["hidden" if entry.name[0] == "." else f"file(s) {shown(suffix)}" if kind == "file" else "pipe(s), device(s) or dead link(s)"] += 1
    chosen: dict[str, str] = {}
    for _, path, real in sorted(pictures):
        if chosen.setdefault(real, path) != path:
            left_out["link(s) to pictures that are there already"] += 1
    return sorted(osp.relpath(path, folder).replace(os.sep, "/") for path in chosen.values())


def say_left_out(where: str, left_out: Counter) -> str:
    """One line, "" if nothing was left out."""
    found = ", ".join(f"{count} {what}" for what, count in sorted(left_out.items()))
    return f"Left out of '{shown(where)}': {found}" if found else ""


def file_identities(folder: str, paths: Iterable[str], name: str, remedy: str) -> dict[str, tuple]:
    """{path: what only this file on the disk has}: the same for links, hard links and all spellings of a path.

    Raises UserError with the number and the first three of those that are not in `folder`, and for what is no file or cannot be looked at.
    """
    found: dict[str, tuple] = {}
    missing = []
    for path in dict.fromkeys(paths):
        try:
            status = os.stat(osp.join(folder, path))
        except PermissionError:
            raise UserError(f"'{shown(osp.join(folder, path))}' cannot be read (Permission denied): correct the rights") from None
        except (OSError, ValueError):  # ValueError: no path at all
            missing.append(shown(path))
            continue
        if not stat.S_ISREG(status.st_mode):
            raise UserError(f"{name} names '{shown(path)}' in '{folder}', which is no picture but a folder, a pipe or a device: {remedy}")
        found[path] = (status.st_dev, status.st_ino) if status.st_ino else (osp.realpath(osp.join(folder, path)),)
    if missing:
        raise UserError(f"{name} names {len(missing)} image(s) that are not in '{folder}', first {', '.join(missing[:3])}: {remedy}")
    return found
