"""One process to a run: the kernel's lock on a file of the folder, which ends with its process however that ends."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import shlex
import socket
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from src.errors import UsageError
from src.files import naming

LOCK_FILE = ".lock"
_WITHOUT_LOCKS = (errno.ENOLCK, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL)


@contextlib.contextmanager
def sole_user(folder: Path) -> Iterator[str]:
    """Within the block no other process can have ``folder``; the file of the lock is there no longer than that.

    Gives what the user is to be told: "", or that the file system has no locks, and the block then runs without one.
    On NFS the lock holds between machines.

    Raises:
        UsageError: another process has the folder; it is named.
    """
    path = folder / LOCK_FILE
    try:
        descriptor = _opened(path)
    except OSError as error:
        if error.errno not in _WITHOUT_LOCKS:
            raise UsageError(f"cannot lock the run folder {folder}: {error.strerror}") from error
        yield (
            f"{folder} is on a file system without locks ({error.strerror}); "
            "start no second process on this run, nobody would stop it"
        )
        return
    try:
        with naming(path):
            os.pwrite(descriptor, _this_process().encode(), 0)
        yield ""
    finally:
        with contextlib.suppress(OSError):
            path.unlink()  # before it is free: who waits for it must not find the name of a file nobody sees
        os.close(descriptor)


def _opened(path: Path) -> int:
    """The file, locked. Whoever had it before may have removed it between opening and locking."""
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if path.exists() and os.path.samestat(os.fstat(descriptor), path.stat()):
                os.ftruncate(descriptor, 0)
                return descriptor
        except BlockingIOError:
            holder = os.pread(descriptor, 1000, 0).decode(errors="replace") or "another process"
            os.close(descriptor)
            raise UsageError(
                f"{path.parent} is in use by {holder}; wait for its end, or give another --run_dir"
            ) from None
        except OSError:
            os.close(descriptor)
            raise
        os.close(descriptor)


def _this_process() -> str:
    since = time.strftime("%Y-%m-%d %H:%M:%S")
    return f"process {os.getpid()} on {socket.gethostname()} since {since} ({shlex.join(sys.argv)[:300]})"


def is_in_use(folder: Path) -> bool:
    """Whether a process has ``folder``, as far as the file system knows."""
    try:
        with (folder / LOCK_FILE).open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    return False
