"""What all command-line tools do about bad input: one sentence, exit code 2. Nothing here imports torch."""

import argparse
import io
import os
import sys
from collections.abc import Callable
from pathlib import Path

from dassl import files, program


class InputError(Exception):
    """Bad input. The message is one sentence: the culprit and the remedy."""


def main(run: Callable[[argparse.Namespace], int], args: argparse.Namespace, *kinds: type[Exception], interrupted: str = "interrupted") -> int:
    """run(args); 2 after the sentence of an InputError or one of `kinds`; 130 after Ctrl-C; 141 if nobody reads on (`| head`)."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # names of files need not be text
            stream.reconfigure(errors="backslashreplace")
    try:
        with program.interruptible():
            code = run(args)
            sys.stdout.flush()
        return code
    except (InputError, *kinds) as error:
        program.say(f"error: {error}")
        return 2
    except KeyboardInterrupt:
        program.say(interrupted)
        return program.INTERRUPTED
    except BrokenPipeError:
        if not program.drop_unread():
            raise
        return program.UNREAD


def write(path: Path, save: Callable[[Path], None] | str, option: str) -> None:
    """save(temporary neighbour of `path`, of the same suffix), or text, then rename it to `path`; folders are made. Raises InputError naming `option`."""
    check_name(path, option)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with files.temporary(str(path), path.suffix) as part:
            if isinstance(save, str):
                part.write(save.encode(errors="backslashreplace"))  # names of files need not be text
                part.flush()
            else:
                save(Path(part.name))
            os.replace(part.name, path)
    except OSError as error:
        raise InputError(f"'{path}' cannot be written ({error.strerror}): choose another {option}") from None


def check_name(path: Path, option: str, suffixes: tuple[str, ...] = ()) -> None:
    """Raise InputError for what cannot be the name of a file to write, of one of the suffixes if any are given."""
    if not path.name or os.path.isdir(path):
        raise InputError(f"{option} is '{path}', a folder: give the name of a file")
    if files.is_special(str(path)):
        raise InputError(f"{option} is '{path}', a pipe or a device: give the name of a file")
    if suffixes and path.suffix.lower() not in suffixes:
        raise InputError(f"{option} is '{path}': give a name that ends in {', '.join(suffixes)}")
