"""Names of files and classes may hold what a terminal obeys: it is escaped here.

Nothing here needs torch, which takes seconds to import.
"""

import io
import re
import sys
from typing import IO

# Control characters, and those that separate lines or turn the direction of the text around them.
CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]")
# The same, but for colours, tabs and ends of lines.
_OBEYED = re.compile(r"(\x1b\[[0-9;]*m|[\t\n\r])|" + CONTROL.pattern)


def any_text_can_be_written() -> None:
    """From now on stdout and stderr escape what their encoding lacks.

    Class names need not be ASCII, nor names of files UTF-8.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def escaped(text: str) -> str:
    """`text` on one line, with control characters as Python writes them."""
    return CONTROL.sub(lambda match: match[0].encode("unicode_escape").decode(), text)


def harmless(text: str) -> str:
    """Escape all control characters in lines of a program but colours, tabs and ends of lines."""
    return _OBEYED.sub(lambda match: match[1] or escaped(match[0]), text)


class Harmless:
    """A stream on which no text can change the terminal; all else is as of the stream it wraps."""

    def __init__(self, stream: IO[str]):
        self._stream = stream

    def write(self, text: str) -> int:
        self._stream.write(harmless(text))
        return len(text)

    def __getattr__(self, name: str):
        return getattr(self._stream, name)
