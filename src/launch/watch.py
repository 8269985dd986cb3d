"""The ranks of a launched program: whether they run, what they say, how they end together."""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

FAILURE_GRACE = 3.0  # seconds rank 0 has when another rank failed
LAST_LINES = 20
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@dataclass(frozen=True)
class Job:
    """The ranks started on this machine.

    Attributes:
        ranks: their numbers.
        starters: processes that started them (msrun ends at once, mpirun with its ranks).
        logs: where rank_N.log, rank_N.pid and rank_N.status are.
        how: what started them, in words.
    """

    ranks: list[int]
    starters: list[subprocess.Popen]
    logs: Path
    how: str

    @property
    def names(self) -> list[str]:
        return [f"rank_{rank}" for rank in self.ranks]


class Signals:
    """Signals that asked this process to stop, in order."""

    def __init__(self) -> None:
        self.received: list[int] = []
        for signum in SIGNALS:
            signal.signal(signum, lambda number, _: self.received.append(number))


def adopt_orphans() -> None:
    """On Linux, processes whose parent ended become children of this one: msrun leaves its ranks behind."""
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(36, 1)  # PR_SET_CHILD_SUBREAPER


def pids_of(logs: Path, name: str) -> list[int]:
    """Process ids of a rank: rank.py and the program it started; empty before it has started."""
    with contextlib.suppress(OSError, ValueError):
        return [int(pid) for pid in (logs / f"{name}.pid").read_text().split()]
    return []


def is_alive(pid: int) -> bool:
    """Whether process ``pid`` runs; a child of ours that ended is waited for."""
    with contextlib.suppress(ChildProcessError):
        if os.waitpid(pid, os.WNOHANG)[0] == pid:
            return False
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    return True


def status_of(logs: Path, name: str) -> int | None:
    """The exit status of a rank: None while it runs or has not started, 137 if it vanished without leaving one."""
    pids = pids_of(logs, name)
    is_running = bool(pids) and is_alive(pids[0])
    with contextlib.suppress(OSError, ValueError):
        return int((logs / f"{name}.status").read_text())
    return 128 + signal.SIGKILL if pids and not is_running else None


def ended_at(logs: Path, name: str) -> float:
    """When a rank left its status, in seconds since 1970; 0 for one that was killed before it could."""
    try:
        return (logs / f"{name}.status").stat().st_mtime
    except OSError:
        return 0.0


class Console:
    """Shows the log of one rank as it grows, without its head of lines that begin with ``# ``."""

    def __init__(self, log: Path):
        self.log = log
        self._position = 0
        self._is_in_head = True

    def show_new(self) -> None:
        """Writes what is new to the standard output."""
        with contextlib.suppress(FileNotFoundError), self.log.open("rb") as file:
            file.seek(self._position)
            while self._is_in_head:
                line = file.readline()
                if not line.endswith(b"\n"):
                    return
                self._is_in_head = line.startswith(b"# ")
                if self._is_in_head:
                    self._position = file.tell()
            file.seek(self._position)
            sys.stdout.buffer.write(file.read())
            sys.stdout.flush()
            self._position = file.tell()


def watch(job: Job, signals: Signals, grace: float, start_timeout: float) -> int:
    """Waits until all ranks are done, or ends them together; returns the job's exit status.

    That is 0, the status of the rank that failed first (1 if it was killed or crashed), or 128 + n after
    signal n, in which case rank 0 has had ``grace`` seconds to save.
    """
    console = Console(job.logs / f"{job.names[0]}.log")
    deadline = time.monotonic() + start_timeout
    while True:
        console.show_new()
        if signals.received:
            signum = signals.received[0]
            print(f"{signal.Signals(signum).name}: ending all ranks", file=sys.stderr, flush=True)
            end_all(job, grace, console, signals, signum)
            return 128 + signum
        statuses = {name: status_of(job.logs, name) for name in job.names}
        failed = sorted((ended_at(job.logs, name), name) for name, status in statuses.items() if status)
        if failed:
            end_all(job, FAILURE_GRACE, console, signals, signal.SIGTERM)
            name = failed[0][1]
            status = statuses[name] or 1
            report(job, name, status, is_shown=name == job.names[0])
            return status if status < 128 or status - 128 in SIGNALS else 1
        if all(status == 0 for status in statuses.values()):
            console.show_new()
            end_starters(job)
            return 0
        missing = [name for name in job.names if not pids_of(job.logs, name)]
        is_hopeless = any(starter.poll() for starter in job.starters) or time.monotonic() > deadline
        if missing and is_hopeless:
            kill_all(job)
            print(f"error: {', '.join(missing)} did not start through {job.how}:", file=sys.stderr)
            print(last_lines(job.logs / "launcher.log"), file=sys.stderr, flush=True)
            return 1
        time.sleep(0.1)


def report(job: Job, name: str, status: int, is_shown: bool) -> None:
    """Says which rank failed, how, and the last lines of its log unless they have just been shown."""
    log = job.logs / f"{name}.log"
    how = f"was ended by {signal.Signals(status - 128).name}" if status > 128 else f"ended with status {status}"
    others = "; the other ranks were ended" if len(job.ranks) > 1 else ""
    print(f"error: {name.replace('_', ' ')} {how}{others}; its log is {log}", file=sys.stderr)
    if not is_shown:
        print(last_lines(log), file=sys.stderr)
    sys.stderr.flush()


def last_lines(log: Path) -> str:
    """The end of a log, indented."""
    try:
        lines = log.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return "    (no log)"
    return "\n".join(f"    {line}" for line in lines[-LAST_LINES:])


def end_all(job: Job, grace: float, console: Console, signals: Signals, signum: int) -> None:
    """Lets rank 0 finish its step and save, then kills whatever still runs.

    Only rank 0 is told: to finish its step it needs the other ranks alive. Where rank 0 is on another
    machine, the ranks here get the time instead. Another Ctrl-C cuts it short.
    """
    awaited = ["rank_0"] if 0 in job.ranks else job.names
    for pid in pids_of(job.logs, "rank_0")[:1]:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signum)
    deadline = time.monotonic() + grace
    known_signals = len(signals.received)
    while time.monotonic() < deadline and len(signals.received) == known_signals:
        console.show_new()
        if all(status_of(job.logs, name) is not None for name in awaited):
            break
        time.sleep(0.1)
    kill_all(job)
    console.show_new()


def end_starters(job: Job) -> None:
    """After all ranks are done: gives mpirun and the scheduler a moment to end by themselves."""
    deadline = time.monotonic() + 5
    while time.monotonic() < deadline and any(is_alive(pid) for pid in pids_of(job.logs, "scheduler")):
        time.sleep(0.1)
    for starter in job.starters:
        with contextlib.suppress(subprocess.TimeoutExpired):
            starter.wait(5)
    kill_all(job)


def kill_all(job: Job) -> None:
    """Ends every process of the job on this machine and waits for it."""
    # A rank that left its status has cleaned up; its numbers may be those of other processes by now.
    unfinished = [name for name in [*job.names, "scheduler"] if not (job.logs / f"{name}.status").exists()]
    pids = [pid for name in unfinished for pid in pids_of(job.logs, name)]
    for pid in [*reversed(pids), *(starter.pid for starter in job.starters if starter.poll() is None)]:
        kill_group(pid)
    for starter in job.starters:
        starter.wait()
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline and any(is_alive(pid) for pid in pids):
        time.sleep(0.05)
    reap_children(deadline)


def kill_group(pid: int) -> None:
    """Kills the process group of ``pid``, also what is left of it after ``pid`` itself; never our own group."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        try:
            group = os.getpgid(pid)
        except ProcessLookupError:
            group = pid  # every program of a rank leads a group of its own
        if group != os.getpgrp():
            os.killpg(group, signal.SIGKILL)
        else:
            os.kill(pid, signal.SIGKILL)


def reap_children(deadline: float) -> None:
    """Waits for the children of this process, those handed over to it included, until none is left."""
    with contextlib.suppress(ChildProcessError):
        while time.monotonic() < deadline:
            if not os.waitpid(-1, os.WNOHANG)[0]:
                time.sleep(0.05)
