"""Copies of photos, sorted into folders by class. Used by tools.predict."""

import contextlib
import filecmp
import os
import re
import shutil
from collections.abc import Iterable, Sequence
from pathlib import Path

from dassl import files
from datasets.files import shown
from tools.inputs import InputError, make_folder

UNSURE = "unsure"
LONGEST = 100  # letters of a folder's name
# What file systems and shells of other systems do not take in a name.
_ODD = re.compile(r'[<>:"/\\|?*\x00-\x1f\x7f]')


def folder_names(classes: Sequence[str], with_unsure: bool) -> dict[str, str]:
    """{class: folder name}, different for different classes also where case does not count.

    Raises InputError for a class that is called like the folder for photos without a sure class,
    if that is needed (`with_unsure`).
    """
    names: dict[str, str] = {}
    taken: set[str] = set()
    for name in classes:
        plain = _ODD.sub("_", name).strip(". ")[:LONGEST] or "_"
        if with_unsure and plain.casefold() == UNSURE:
            raise InputError(
                f"photos below --at-least would go into '{UNSURE}', which is a class, too: leave "
                "--at-least out, or use --csv"
            )
        number, free = 2, plain
        while free.casefold() in taken:
            free, number = f"{plain}-{number}", number + 1
        taken.add(free.casefold())
        names[name] = free
    return names


def check_place(folder: Path, given: Iterable[str], run: str) -> None:
    """Raise InputError if `folder` cannot take copies: it is in a folder of photos or of the run,
    or no folder.

    given: files and folders to be sorted. Copies among them would be sorted once more. run: the
    folder of the model, where a class may have the name of a folder of checkpoints.
    """
    place = folder.resolve()
    if Path(run).resolve() in (place, *place.parents):
        raise InputError(
            f"--sort-into '{folder}' is in '{run}', which belongs to a run: choose a folder "
            "elsewhere"
        )
    for path in map(Path, given):
        if path.is_dir() and path.resolve() in (place, *place.parents):
            raise InputError(
                f"--sort-into '{folder}' is in '{path}', whose photos are to be sorted: choose a "
                "folder elsewhere"
            )
    make_folder(folder, "choose another --sort-into")
    if not os.access(place, os.W_OK | os.X_OK):
        raise InputError(
            f"cannot write to the folder '{folder}' (Permission denied): correct its rights, or "
            "choose another --sort-into"
        )


def copy(photo: str, folder: Path) -> tuple[Path, bool]:
    """(place of the copy, whether it was made now) of a photo in `folder`, which is made.

    No file is replaced: where the name is taken by another content, a number is added; an equal
    file is the copy. Raises InputError if the system refuses; no half file is left.
    """
    source = Path(photo)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        number, place = 2, folder / source.name
        while True:
            if os.path.lexists(place):
                if place.is_file() and filecmp.cmp(source, place, shallow=False):
                    return place, False
            elif _copy_new(source, place):
                return place, True
            place = folder / f"{source.stem}-{number}{source.suffix}"
            number += 1
    except OSError as error:
        raise InputError(
            f"'{shown(photo)}' cannot be copied into '{folder}' ({error.strerror}): free space or "
            "correct the rights"
        ) from None


def _copy_new(source: Path, place: Path) -> bool:
    """Copy with the file's time, whole or not at all; False if `place` came to be meanwhile."""
    with files.temporary(str(place), ".part") as part, open(source, "rb") as photo:
        shutil.copyfileobj(photo, part)
        part.flush()
        with contextlib.suppress(OSError):  # some network drives keep no times
            shutil.copystat(source, part.name)
        try:
            os.link(part.name, place)
        except FileExistsError:
            return False
        except OSError:  # no hard links, as on FAT
            if os.path.lexists(place):
                return False
            os.rename(part.name, place)
    return True
