"""How a program ends: exit statuses and the one-line message of a usage error."""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable

EXIT_DONE = 0
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


def run(
    main: Callable[[list[str]], None], argv: list[str] | None = None, at_end: Callable[[], None] = lambda: None
) -> None:
    """Runs ``main(argv)``, then, if it is done, ``at_end()``, and exits with 0 (done), 2 (usage error, one line on
    stderr), 130 or 143 (signals) or 1 (RunFailed, one line; any other exception keeps its traceback)."""
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
