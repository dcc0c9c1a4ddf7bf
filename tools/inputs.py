"""What command-line tools do about bad input: one sentence, exit code 2. No torch here."""

import argparse
import csv
import errno
import io
import os
import shutil
import sys
import uuid
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, redirect_stderr, redirect_stdout, suppress
from pathlib import Path
from typing import NamedTuple

from dassl import files, program, record
from dassl.errors import UserError
from dassl.printable import Harmless, any_text_can_be_written, escaped, harmless

# What tools keep in folders of their own; a key in the first file tells what the folder is of.
OF_A_FIT = ("fit.json", "photos.csv", "numbers.json", "report.html")
OF_A_SELECTION = ("selection.json", "selection.md")
OF_A_JUDGEMENT = ("judgement.json", "judgement.md")
_OWNERS = (
    ("fit", OF_A_FIT, "known"),
    ("selection", OF_A_SELECTION, "digest"),
    ("selection", OF_A_JUDGEMENT, "selection"),
)


class InputError(Exception):
    """Bad input. The message is one sentence: the culprit and the remedy.

    Control characters of names in it are escaped, line feeds too.
    """

    def __init__(self, message: str = ""):
        super().__init__(escaped(message))


def path(text: str) -> Path:
    """A path of the command line; `~` is the home folder."""
    return Path(os.path.expanduser(text))


def main(
    run: Callable[[argparse.Namespace], int],
    args: argparse.Namespace,
    *,
    interrupted: str = "interrupted",
) -> int:
    """run(args), or the exit code of what went wrong.

    2 after the sentence of an InputError or a UserError; 130 after Ctrl-C; 141 if nobody reads the
    output (`| head`).
    """
    any_text_can_be_written()
    try:
        with (
            program.interruptible(),
            redirect_stdout(Harmless(sys.stdout)),
            redirect_stderr(Harmless(sys.stderr)),
        ):
            code = run(args)
            sys.stdout.flush()
        return code
    except (InputError, UserError) as error:
        program.say(f"error: {harmless(str(error))}")
        return 2
    except KeyboardInterrupt:
        program.say(interrupted)
        return program.INTERRUPTED
    except BrokenPipeError:
        if not program.drop_unread():
            raise
        return program.UNREAD


def write(path: Path, save: Callable[[Path], None] | str | bytes, option: str) -> None:
    """Write `path` as a whole, or not at all; missing folders are made.

    save: a text, bytes, or a function that writes the file whose path it gets, of the same suffix.
    Raises InputError naming `option`.
    """
    _check_place(path, option)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with files.temporary(str(path), path.suffix) as part:
            if isinstance(save, str):  # names of files need not be text
                save = harmless(save).encode(errors="backslashreplace")
            if isinstance(save, bytes):
                part.write(save)
                part.flush()
            else:
                save(Path(part.name))
            os.replace(part.name, path)
    except OSError as error:
        raise _unwritable(path, error.strerror, option) from None


def _unwritable(path: Path, why: str | None, option: str) -> InputError:
    return InputError(f"'{path}' cannot be written ({why}): choose another {option}")


def comma_separated(head: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """A table as CSV, with one kind of line end on every system."""
    buffer = io.StringIO()
    csv.writer(buffer, lineterminator="\n").writerows([head, *rows])
    return buffer.getvalue()


def make_folder(path: Path, remedy: str) -> None:
    """Make a folder and its parents. Raises InputError, `remedy` last, where that fails."""
    try:
        path.resolve().mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(
            f"cannot create the folder '{path}' ({error.strerror}): {remedy}"
        ) from None


def check_new(path: str) -> None:
    """Raise InputError if something is at `path` that is not an empty folder."""
    if os.path.lexists(path) and not (os.path.isdir(path) and not os.listdir(path)):
        raise InputError(f"'{path}' is there already: choose a new or an empty folder")


@contextmanager
def new_folder(path: str) -> Iterator[str]:
    """A neighbour of the folder `path` to write into, which takes its place at the end.

    Raises InputError as `check_new`, and if the folder cannot be written; nothing is left then.
    """
    check_new(path)
    parent, name = files.absolute(os.path.dirname(path) or "."), os.path.basename(path)
    part = os.path.join(parent, f".{name}.{uuid.uuid4().hex}.part")
    try:
        os.makedirs(part)
        yield part
        with suppress(FileNotFoundError):
            os.rmdir(path)
        os.rename(part, path)
    except OSError as error:
        raise InputError(
            f"'{path}' cannot be written ({error.strerror}): choose another folder"
        ) from None
    finally:
        shutil.rmtree(part, ignore_errors=True)


class Output(NamedTuple):
    """A file, or a folder, that an option of a tool names to write.

    path: None if the option was not given. suffixes: the name has to end in one of them, if any
    are given. folder: it is one; the tool itself checks whether it can be written to.
    """

    option: str
    path: Path | None
    suffixes: tuple[str, ...] = ()
    folder: bool = False


def check_outputs(outputs: Iterable[Output], read: Iterable[str | Path] = ()) -> None:
    """Check what all output options of a tool name, before any work.

    read: the files that the tool reads, besides those of runs. Raises InputError for a file that
    cannot be written, that is read, or that a run or a tool keeps in its folder; and for two
    options that name one file.
    """
    taken: list[tuple[Output, Path]] = []
    read = list(read)
    for output in outputs:
        option, path = output.option, output.path
        if path is None:
            continue
        if not output.folder:
            _check_place(path, option, output.suffixes)
            if _is_among(path, read):
                raise InputError(f"{option} is '{path}', which is to be read: give another name")
            if owner := owner_of(path):
                raise InputError(
                    f"{option} is '{path}', which belongs to a {owner}: give another name"
                )
        for earlier, other in taken:
            _check_two(earlier, other, output, path)
        taken.append((output, path))


def owner_of(path: Path) -> str:
    """What keeps a file of this name there: a run, a fit or a selection; "" for nothing."""
    target = Path(os.path.realpath(path))
    for place in (Path(os.path.realpath(path.parent), path.name), target):  # a link and its file
        if record.is_kept(place):
            return "run"
        for owner, names, key in _OWNERS:
            if place.name.lower() in names and key in record.peek(place.parent / names[0]):
                return owner
    return ""


def _is_among(path: Path, read: Iterable[str | Path]) -> bool:
    """Whether a path is one of some files, under whatever name."""
    try:
        written = os.stat(path)
    except (OSError, ValueError):  # what is not there is not read
        return False
    for other in read:
        with suppress(OSError, ValueError):
            if os.path.samestat(written, os.stat(other)):
                return True
    return False


def _check_two(earlier: Output, one: Path, later: Output, two: Path) -> None:
    """Raise InputError if two outputs would be one file, or one a file in the other's place."""
    first, second = (Path(os.path.realpath(path)) for path in (one, two))
    if first == second or _is_among(one, [two]):
        if earlier.option == later.option:
            raise InputError(
                f"{later.option} has two files to write, both '{two}': give another name"
            )
        raise InputError(f"{earlier.option} and {later.option} are both '{two}': give two names")
    # Systems on which A is a cannot be told before the files are there.
    if str(first).casefold() == str(second).casefold():
        raise InputError(
            f"{earlier.option} is '{one}' and {later.option} is '{two}', which are one file where "
            "case does not count: give two names"
        )
    for above, place, below in ((earlier, first, second), (later, second, first)):
        if not above.folder and place in below.parents:
            raise InputError(
                f"{above.option} is '{above.path}', which has to be a folder for "
                f"{(later if above is earlier else earlier).option}: give another name"
            )


def _check_place(path: Path, option: str, suffixes: tuple[str, ...] = ()) -> None:
    """Raise InputError if `path` cannot be a file to write, or its folder cannot be written to."""
    if not path.name or os.path.isdir(path):
        raise InputError(f"{option} is '{path}', a folder: give the name of a file")
    if files.is_special(str(path)):
        raise InputError(f"{option} is '{path}', a pipe or a device: give the name of a file")
    if suffixes and path.suffix.lower() not in suffixes:
        raise InputError(f"{option} is '{path}': give a name that ends in {', '.join(suffixes)}")
    # Before the work whose result goes there; `write` finds the rest.
    above = next(place for place in path.absolute().parents if os.path.lexists(place))
    if not os.path.isdir(above):
        raise _unwritable(path, os.strerror(errno.ENOTDIR), option)
    if not os.access(above, os.W_OK | os.X_OK):
        raise _unwritable(path, os.strerror(errno.EACCES), option)
