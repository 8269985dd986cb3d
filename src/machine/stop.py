"""SIGTERM and Ctrl-C as a wish that training heeds at the end of a step."""

from __future__ import annotations

import signal
from types import FrameType, TracebackType

from src.errors import Interrupted

SIGNALS = (signal.SIGINT, signal.SIGTERM)


class StopRequest:
    """While active, the first SIGINT or SIGTERM is only noted; a second one ends the process at once.

    Whenever MindSpore runs a graph it installs a SIGINT handler of its own, which sends SIGTERM to the
    process; so Ctrl-C mostly arrives as SIGTERM, and the exit status is 143 then.

    The handler does nothing but set a flag: saving a checkpoint inside a signal handler could run in the
    middle of anything, another save included.

    Args:
        is_heeded: False for the ranks beside the main one: were each to stop where the signal met it, some
            would wait for the others in the next sum for ever. The main rank's end ends them.
    """

    def __init__(self, is_heeded: bool = True) -> None:
        self._is_heeded = is_heeded
        self._signum = 0
        self._previous: dict[int, object] = {}

    def __enter__(self) -> StopRequest:
        self._previous = {signum: signal.signal(signum, self._note) for signum in SIGNALS}
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for signum, handler in self._previous.items():
            signal.signal(signum, handler)

    def _note(self, signum: int, frame: FrameType | None) -> None:
        self._signum = signum
        for each in SIGNALS:
            signal.signal(each, signal.SIG_DFL)

    @property
    def is_set(self) -> bool:
        """Whether a signal came."""
        return self._is_heeded and self._signum != 0

    def raise_if_set(self) -> None:
        """Raises Interrupted with the signal's number if one came."""
        if self.is_set:
            raise Interrupted(self._signum)
