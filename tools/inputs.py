"""What all command-line tools do about bad input: one sentence, exit code 2. Nothing here imports torch."""

import argparse
import io
import os
import sys
import uuid
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout, suppress
from pathlib import Path

from dassl.printable import Harmless, escaped, harmless


class InputError(Exception):
    """Bad input. The message is one sentence: the culprit and the remedy."""


def path(text: str) -> Path:
    """A path of the command line; `~` is the home folder."""
    return Path(os.path.expanduser(text))


def main(run: Callable[[argparse.Namespace], int], args: argparse.Namespace, *kinds: type[Exception], interrupted: str = "interrupted") -> int:
    """run(args); 2 after the sentence of an InputError or one of `kinds`; 130 after Ctrl-C; 141 if nobody reads on (`| head`)."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # names of files need not be text
            stream.reconfigure(errors="backslashreplace")
    try:
        with redirect_stdout(Harmless(sys.stdout)), redirect_stderr(Harmless(sys.stderr)):
            code = run(args)
        sys.stdout.flush()
        return code
    except (InputError, *kinds) as error:
        sys.stderr.write(f"error: {escaped(str(error))}\n")
        return 2
    except KeyboardInterrupt:
        sys.stderr.write(f"{interrupted}\n")
        return 130
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # Python flushes once more at its end
        return 141  # what a shell makes of SIGPIPE


def write(path: Path, save: Callable[[Path], None] | str, option: str) -> None:
    """save(temporary neighbour of `path`, of the same suffix), or text, then rename it to `path`; folders are made. Raises InputError naming `option`."""
    part = path.with_name(f".{uuid.uuid4().hex}{path.suffix}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(save, str):
            part.write_text(harmless(save), encoding="utf-8", errors="backslashreplace")  # names of files need not be text
        else:
            save(part)
        part.replace(path)
    except OSError as error:
        raise InputError(f"'{path}' cannot be written ({error.strerror}): choose another {option}") from None
    finally:
        with suppress(OSError):  # where there is no folder, there is no file
            part.unlink(missing_ok=True)


def check_name(path: Path, option: str, suffixes: tuple[str, ...] = ()) -> None:
    """Raise InputError for what cannot be the name of a file to write, of one of the suffixes if any are given."""
    if not path.name or os.path.isdir(path):
        raise InputError(f"{option} is '{path}', a folder: give the name of a file")
    if suffixes and path.suffix.lower() not in suffixes:
        raise InputError(f"{option} is '{path}': give a name that ends in {', '.join(suffixes)}")
