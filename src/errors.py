"""How a program ends: exit statuses, the one-line message of a usage error and its 'did you mean'."""

from __future__ import annotations

import difflib
import signal
import sys
from collections.abc import Callable, Iterable

EXIT_FAILED = 1
EXIT_USAGE = 2


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
    stderr), 129, 130 or 143 (signals) or 1 (RunFailed, one line; any other exception keeps its traceback)."""
    try:
        main(sys.argv[1:] if argv is None else argv)
        at_end()
    except UsageError as error:
        print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
        sys.exit(EXIT_USAGE)
    except RunFailed as error:
        print(f"failed: {' '.join(str(error).split())}", file=sys.stderr)
        sys.exit(EXIT_FAILED)
    except Interrupted as stop:
        sys.exit(128 + stop.signum)
    except KeyboardInterrupt:
        sys.exit(128 + signal.SIGINT)
