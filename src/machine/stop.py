"""SIGTERM, SIGHUP and Ctrl-C as a wish that training heeds at the end of a step."""

from __future__ import annotations

import os
import signal
import socket
import threading
from types import FrameType, TracebackType

from src.errors import Interrupted

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class StopRequest:
    """While active, the first of SIGNALS is only noted; a second one ends the process at once.

    Whenever MindSpore runs a graph it installs a SIGINT handler of its own, which sends SIGTERM to the
    process; so Ctrl-C mostly arrives as SIGTERM, and the exit status is 143 then.

    The handler does nothing but set a flag: saving a checkpoint inside a signal handler could run in the
    middle of anything, another save included. Python calls it between two of its own instructions only, so not before
    a graph is done, where two signals of a kind have become one; and MindSpore puts its SIGINT handler's predecessor
    back after a graph, over what was set meanwhile. Therefore a thread counts the signals as they come.

    A signal that the process was started to ignore stays ignored: nohup does so with SIGHUP, a script with Ctrl-C.

    Args:
        is_heeded: False for the ranks beside the main one: were each to stop where the signal met it, some
            would wait for the others in the next sum for ever. The main rank's end ends them.
    """

    def __init__(self, is_heeded: bool = True) -> None:
        self._is_heeded = is_heeded
        self._signum = 0
        self._previous: dict[int, object] = {}

    def __enter__(self) -> StopRequest:
        received, self._arrivals = socket.socketpair()
        self._arrivals.setblocking(False)
        self._previous_fd = signal.set_wakeup_fd(self._arrivals.fileno(), warn_on_full_buffer=False)
        heard = [signum for signum in SIGNALS if signal.getsignal(signum) != signal.SIG_IGN]
        self._previous = {signum: signal.signal(signum, self._note) for signum in heard}
        threading.Thread(target=_end_at_the_second, args=(received, set(heard)), daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for signum, handler in self._previous.items():
            signal.signal(signum, handler)
        signal.set_wakeup_fd(self._previous_fd)
        self._arrivals.close()

    def _note(self, signum: int, frame: FrameType | None) -> None:
        self._signum = signum
        for each in self._previous:
            signal.signal(each, signal.SIG_DFL)

    @property
    def is_set(self) -> bool:
        """Whether a signal came."""
        return self._is_heeded and self._signum != 0

    def raise_if_set(self) -> None:
        """Raises Interrupted with the signal's number if one came."""
        if self.is_set:
            raise Interrupted(self._signum)


def _end_at_the_second(arrivals: socket.socket, heard: set[int]) -> None:
    """Ends the process when a second of the signals ``heard`` has come, as their numbers do, a byte each."""
    count = 0
    with arrivals:
        while signums := arrivals.recv(64):
            for signum in filter(heard.__contains__, signums):
                count += 1
                if count == 2:
                    os._exit(128 + signum)
