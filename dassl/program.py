"""How a program ends early: by Ctrl-C, without a reader (`| head`), or by a user's own file.

Quick to import.
"""

import importlib
import importlib.util
import os
import select
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import ModuleType
from typing import NoReturn

from dassl.errors import UserError
from dassl.printable import harmless

# Exit codes: what a shell makes of the signals SIGINT and SIGPIPE.
INTERRUPTED, UNREAD = 130, 141
_STOP = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class _State:
    """The process that listens (0: none), and whether Ctrl-C came while it did.

    started: whether this process is a program of this project.
    """

    listener = 0
    heard = False
    started = False


def while_importing(name: str) -> None:
    """Call it before large imports: until `interruptible`, Ctrl-C ends the program at once.

    name: `__name__` of a script, or of the package of a program that `python -m` starts. Does
    nothing where the caller is only imported, e.g. by a test.
    """
    started = (
        name == "__main__"
        or sys.argv[0] == "-m"
        and any(f"{name}." in word for word in sys.orig_argv)
    )
    _State.started = _State.started or started
    if started and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, _leave)


def _leave(*_) -> None:
    """Not by an exception, which libraries in the middle of their import turn into others."""
    with suppress(Exception):
        sys.stdout.flush()
    with suppress(OSError):
        os.write(2, b"interrupted\n")
    os._exit(INTERRUPTED)


def import_file(name: str) -> ModuleType:
    """The module `name`, one of a folder whose files are all found: a user's own may be among them.

    If it cannot be imported, `refuse` says so.
    """
    try:
        return importlib.import_module(name)
    except (Exception, SystemExit) as error:
        said = str(error.args[0]) if isinstance(error, KeyError) and error.args else str(error)
        reason = " ".join(f"{type(error).__name__}: {said}".split())
        cause = error
    refuse(f"'{_file(name)}' cannot be imported ({reason}): correct it or take it out", cause)


def refuse(sentence: str, cause: BaseException | None = None) -> NoReturn:
    """End a program of this project with exit code 2 and this sentence; elsewhere a UserError.

    For mistakes that are found by imports, before anything could catch an exception.
    """
    error = UserError(sentence)
    if _State.started and not _State.listener:
        say(f"error: {harmless(str(error))}")
        raise SystemExit(2) from None
    raise error from cause


def _file(name: str) -> str:
    """The file of a module, relative to this project if it lies there."""
    with suppress(ImportError, AttributeError, ValueError):
        spec = importlib.util.find_spec(name)
        if spec and spec.origin:
            root = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
            near = os.path.relpath(spec.origin, root)
            return spec.origin if near.startswith(os.pardir) else near
    return f"{name.replace('.', '/')}.py"


def _raise(number: int, *_) -> None:
    if os.getpid() == _State.listener:
        _State.heard = True
        raise KeyboardInterrupt
    if number != signal.SIGINT:  # a forked worker is to end by it, as if nobody listened
        signal.signal(number, signal.SIG_DFL)
        os.kill(os.getpid(), number)


@contextmanager
def interruptible() -> Iterator[None]:
    """Inside, Ctrl-C raises KeyboardInterrupt, and is never lost.

    Destructors swallow an exception, and libraries turn it into one of their own (a full disk, a
    dead worker). So `check`, and the end of the context, raise KeyboardInterrupt again. Forked
    workers do not hear Ctrl-C: their parent does, and ends them. SIGTERM and SIGHUP are treated
    alike where the caller lets them raise KeyboardInterrupt. An ignored signal stays ignored.
    """
    nested = _State.listener == os.getpid()
    if (
        nested or threading.current_thread() is not threading.main_thread()
    ):  # others cannot set handlers
        yield
        return
    known = (signal.default_int_handler, _leave, _raise)
    before = {
        number: signal.getsignal(number) for number in _STOP if signal.getsignal(number) in known
    }
    hook, owner = sys.unraisablehook, _State.listener

    def quiet(unraisable) -> None:
        if not _State.heard:  # what Ctrl-C breaks on its way is no news
            hook(unraisable)

    try:
        sys.unraisablehook, _State.listener, _State.heard = quiet, os.getpid(), False
        for number in before:
            signal.signal(number, _raise)
        yield
        check()
    except Exception:
        check()
        raise
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        sys.unraisablehook, _State.listener, _State.heard = hook, owner, False


def interrupted() -> bool:
    """Whether Ctrl-C came since `interruptible` was entered."""
    return _State.heard and os.getpid() == _State.listener


def check() -> None:
    """Raise the KeyboardInterrupt that something swallowed."""
    if interrupted():
        raise KeyboardInterrupt from None


def drop_unread() -> bool:
    """Whether stdout or stderr has lost its reader; further output to it is then discarded."""
    gone = False
    for stream in (sys.stdout, sys.stderr):
        try:
            number = stream.fileno()
        except (AttributeError, OSError, ValueError):  # no file
            continue
        poll = select.poll()
        poll.register(number, 0)
        if any(event & (select.POLLERR | select.POLLHUP) for _, event in poll.poll(0)):
            os.dup2(os.open(os.devnull, os.O_WRONLY), number)
            gone = True
    return gone


def say(sentence: str) -> None:
    """A line on stderr, if anybody reads it."""
    try:
        sys.stderr.write(f"{sentence}\n")
        sys.stderr.flush()
    except BrokenPipeError:
        drop_unread()
