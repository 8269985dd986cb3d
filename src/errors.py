"""How a program ends: exit statuses, the one-line message of an error and its 'did you mean'; output nobody takes."""

from __future__ import annotations

import contextlib
import difflib
import errno
import os
import signal
import sys
from collections.abc import Callable, Iterable, Iterator
from typing import Any, TextIO

EXIT_FAILED = 1
EXIT_USAGE = 2
# What the system says of a place that takes no more, or nothing: the user's to mend, no fault of the program.
_PLACE = {
    errno.ENOSPC,
    errno.EDQUOT,
    errno.EFBIG,
    errno.EROFS,
    errno.EACCES,
    errno.EPERM,
    errno.EIO,
    errno.ENAMETOOLONG,
    errno.ENOTDIR,
    errno.EISDIR,
}


class UsageError(Exception):
    """Wrong command line, configuration or input data. The message is one line that says what to do."""


class RunFailed(Exception):
    """The run cannot go on, and not through a mistake of the user's alone (a NaN loss, a full disk)."""


class Interrupted(Exception):
    """A signal asked the program to stop; carries its number. State has been saved before it is raised."""

    def __init__(self, signum: int):
        super().__init__(signal.Signals(signum).name)
        self.signum = signum


def nearest(word: str, known: Iterable[str]) -> str:
    """`` (did you mean 'x'?)`` for the known word closest to ``word``, or an empty string."""
    matches = difflib.get_close_matches(word, list(known), n=1, cutoff=0.65)
    return f" (did you mean {matches[0]!r}?)" if matches else ""


def run(
    main: Callable[[list[str]], None], argv: list[str] | None = None, at_end: Callable[[], None] = lambda: None
) -> None:
    """Runs ``main(argv)``, then, if it is done, ``at_end()``, and exits with 0 (done), 2 (usage error, one line on
    stderr), 129, 130 or 143 (signals) or 1 (RunFailed or a full or read-only place, one line; any other exception keeps
    its traceback). Output that cannot be written changes nothing of that."""
    with steady_output():
        try:
            main(sys.argv[1:] if argv is None else argv)
            at_end()
        except UsageError as error:
            _end(f"error: {error}", EXIT_USAGE)
        except RunFailed as error:
            _end(f"failed: {error}", EXIT_FAILED)
        except Interrupted as stop:
            sys.exit(128 + stop.signum)
        except KeyboardInterrupt:
            sys.exit(128 + signal.SIGINT)
        except OSError as error:
            if error.errno not in _PLACE:
                raise
            _end(f"failed: {f'{error.filename}: ' if error.filename else ''}{error.strerror}", EXIT_FAILED)


def _end(message: str, status: int) -> None:
    print(" ".join(message.split()), file=sys.stderr)
    sys.exit(status)


class _Steady:
    """A stream whose reader may be gone or whose disk may be full: what it does not take is lost, and no more."""

    def __init__(self, stream: TextIO | None):
        self._stream = stream or open(os.devnull, "w")  # noqa: PTH123, SIM115  a daemon has closed it
        with contextlib.suppress(AttributeError, OSError):
            self._stream.reconfigure(errors="backslashreplace")  # a path may hold what the encoding does not

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        with contextlib.suppress(OSError):
            return self._stream.write(text)
        return len(text)

    def flush(self) -> None:
        with contextlib.suppress(OSError):
            self._stream.flush()

    def give_up(self) -> None:
        """Lets go what could not be written, or the interpreter tries again as it ends, and fails for it."""
        try:
            self._stream.flush()
        except OSError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), self._stream.fileno())


@contextlib.contextmanager
def steady_output() -> Iterator[None]:
    """Within the block, what standard output and error do not take is lost, and nothing is raised for it."""
    before = sys.stdout, sys.stderr
    steady = [_Steady(stream) for stream in before]
    sys.stdout, sys.stderr = steady
    try:
        yield
    finally:
        for stream in steady:
            stream.give_up()
        sys.stdout, sys.stderr = before
