"""One process to a run."""

from __future__ import annotations

import errno
import fcntl
import os
import re
import signal
import socket
import subprocess
import sys

import pytest

from src.errors import UsageError
from src.runs.lock import LOCK_FILE, sole_user

HOLDER = """
import subprocess, sys, time
from pathlib import Path
from src.runs.lock import sole_user
with sole_user(Path(sys.argv[1])):
    print(subprocess.Popen(["sleep", "60"], stdout=subprocess.DEVNULL).pid, flush=True)
    time.sleep(60)
"""


def test_a_second_user_is_told_who_the_first_is_and_has_the_folder_after_it(tmp_path):
    with sole_user(tmp_path) as complaint:
        assert complaint == ""
        first = rf"{tmp_path} is in use by process {os.getpid()} on {socket.gethostname()} since 20.*; wait for its end"
        with pytest.raises(UsageError, match=first), sole_user(tmp_path):
            pass
        assert [path.name for path in tmp_path.iterdir()] == [LOCK_FILE], "the refused one left the lock as it was"
    for _ in range(2):
        with sole_user(tmp_path):
            assert str(os.getpid()) in (tmp_path / LOCK_FILE).read_text()
        assert list(tmp_path.iterdir()) == []


def test_the_lock_dies_with_its_process_though_what_that_started_lives_on(tmp_path, root):
    with subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(tmp_path)], cwd=root, stdout=subprocess.PIPE, text=True
    ) as holder:
        child = int(holder.stdout.readline())
        try:
            with pytest.raises(UsageError, match=f"in use by process {holder.pid} on "), sole_user(tmp_path):
                pass
            holder.send_signal(signal.SIGKILL)
            holder.wait()
            assert (tmp_path / LOCK_FILE).exists()
            os.kill(child, 0)  # is alive
            with sole_user(tmp_path):
                assert re.match(rf"process {os.getpid()} on .*\)$", (tmp_path / LOCK_FILE).read_text())
        finally:
            os.kill(child, signal.SIGKILL)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.EOPNOTSUPP])
def test_a_file_system_without_locks_is_named_and_used_all_the_same(tmp_path, monkeypatch, number):
    def flock(descriptor: int, operation: int) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "flock", flock)
    with sole_user(tmp_path) as complaint:
        assert f"{tmp_path} is on a file system without locks ({os.strerror(number)})" in complaint


def test_a_lock_on_a_file_that_the_last_user_removed_is_no_lock(tmp_path, monkeypatch):
    """It ended between our opening of the file and our lock on it."""
    real, calls = fcntl.flock, []

    def flock(descriptor: int, operation: int) -> None:
        calls.append(descriptor)
        if len(calls) == 1:
            (tmp_path / LOCK_FILE).unlink()
        real(descriptor, operation)

    monkeypatch.setattr(fcntl, "flock", flock)
    with sole_user(tmp_path):
        assert len(calls) == 2
        with pytest.raises(UsageError, match="in use"), sole_user(tmp_path):
            pass


def test_a_folder_that_cannot_be_written_is_a_usage_error(tmp_path):
    (tmp_path / LOCK_FILE).mkdir()
    with pytest.raises(UsageError, match=f"cannot lock the run folder {tmp_path}: Is a directory"), sole_user(tmp_path):
        pass
