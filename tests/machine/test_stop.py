"""Signals as a wish."""

import os
import signal
import subprocess
import sys
import time

import pytest

from src.errors import Interrupted
from src.machine.stop import SIGNALS, StopRequest


def started(root, within: str, before: str = "") -> subprocess.Popen:
    """A process that runs ``within`` while signals are only noted; it has begun to."""
    code = f"import ctypes, os, signal, time\nfrom src.machine.stop import StopRequest\n{before}\n"
    code += f"with StopRequest() as stop:\n    print('ready', flush=True)\n    {within}\n"
    process = subprocess.Popen([sys.executable, "-c", code], cwd=root, stdout=subprocess.PIPE)
    process.stdout.readline()
    return process


@pytest.mark.parametrize("signum", SIGNALS)
def test_a_signal_is_only_noted_until_it_is_asked_for(signum):
    before = [signal.getsignal(each) for each in SIGNALS]
    with pytest.raises(Interrupted) as stop, StopRequest() as request:
        assert not request.is_set
        request.raise_if_set()
        os.kill(os.getpid(), signum)
        assert request.is_set
        request.raise_if_set()
    assert stop.value.signum == signum
    assert [signal.getsignal(each) for each in SIGNALS] == before


@pytest.mark.parametrize("second", SIGNALS)
def test_the_second_signal_ends_the_process_at_once(root, second):
    within = f"os.kill(os.getpid(), signal.SIGTERM); os.kill(os.getpid(), {int(second)}); time.sleep(60)"
    with started(root, within) as process:
        assert process.wait(50) == -second


@pytest.mark.parametrize("second", SIGNALS)
def test_the_second_signal_ends_a_process_that_is_inside_a_graph(root, second):
    """There Python's handlers wait, two signals of a kind become one, and a lock that is never freed stands for it."""
    locking = "wait, lock = ctypes.CDLL(None).pthread_mutex_lock, ctypes.create_string_buffer(64); wait(lock)"
    with started(root, "wait(lock)", locking) as process:
        try:
            time.sleep(0.2)  # until it waits
            process.send_signal(signal.SIGTERM)
            with pytest.raises(subprocess.TimeoutExpired):
                process.wait(0.2)
            process.send_signal(second)
            assert process.wait(20) == 128 + second
        finally:
            process.kill()


def test_what_a_process_was_started_to_ignore_it_goes_on_ignoring(root):
    """nohup ignores SIGHUP, so that training goes on when the terminal is closed."""
    within = "[os.kill(os.getpid(), signal.SIGHUP) for _ in range(3)]; time.sleep(0.1); print(stop.is_set)"
    with started(root, within, "signal.signal(signal.SIGHUP, signal.SIG_IGN)") as process:
        assert process.stdout.read() == b"False\n"
    assert process.returncode == 0


@pytest.mark.parametrize("signum", SIGNALS)
def test_a_signal_does_not_stop_the_ranks_beside_the_main_one(signum):
    """They would wait for each other in the next sum for ever; the main rank's end ends them."""
    with StopRequest(is_heeded=False) as request:
        os.kill(os.getpid(), signum)
        assert not request.is_set
        request.raise_if_set()
