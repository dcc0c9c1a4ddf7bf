"""What a check says: lines that are ok, a note or a fault. Nothing here imports torch."""

import textwrap
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from dassl.errors import UserError

OK, NOTE, FAULT = "ok", "note", "fault"
# Between the processes of `trial` and `work`:
MARK = "@doctor "  # begins a line of stdout that is a result, in JSON
RANDOM = "random:"  # before a name of tools.plain_way.SIZES, in place of a CLIP's name or file
WIDTH, INDENT = 118, 22  # columns: of a line, and before what it says


@dataclass
class Line:
    """What one check found. numbers: what was measured, for the JSON."""

    check: str
    status: str
    said: str
    remedy: str = ""
    numbers: dict = field(default_factory=dict)

    def __str__(self) -> str:
        text = f"{self.said}: {self.remedy}" if self.remedy else self.said
        head = f"{self.status:<7}{self.check:<{INDENT - 7}}"
        return textwrap.fill(
            text,
            WIDTH,
            initial_indent=head,
            subsequent_indent=" " * INDENT,
            break_long_words=False,
            break_on_hyphens=False,
            replace_whitespace=False,
            drop_whitespace=True,
        )


def ok(check: str, said: str, **numbers) -> Line:
    return Line(check, OK, said, numbers=numbers)


def note(check: str, said: str, remedy: str = "", **numbers) -> Line:
    return Line(check, NOTE, said, remedy, numbers)


def fault(check: str, said: str, remedy: str, **numbers) -> Line:
    return Line(check, FAULT, said, remedy, numbers)


def guarded(check: str, find: Callable[[], Iterator[Line]]) -> Iterator[Line]:
    """The lines of a check; of one that fails itself, a fault in their place.

    So that no check stops those after it.
    """
    try:
        yield from find()
    except UserError as error:  # its sentence ends in the remedy
        said, _, remedy = str(error).rpartition(": ")
        yield fault(
            check, said or remedy, remedy if said else "mend that, and run the doctor again"
        )
    except ImportError as error:
        yield fault(
            check,
            f"not checked, since a package cannot be imported ({first_line(error)})",
            "run `pip install -r requirements.txt` in the environment of this python",
        )
    except Exception as error:  # noqa: BLE001 - the next checks go on
        yield fault(
            check,
            f"the check itself failed ({type(error).__name__}: {first_line(error)})",
            "mend what it names, or report it with this line",
        )


def first_line(error: BaseException) -> str:
    """The first line of an error's message, which may be empty."""
    return next(iter(str(error).strip().splitlines()), "no reason given")
