"""Signals as a wish."""

import os
import signal
import subprocess
import sys

import pytest

from src.errors import Interrupted
from src.machine.stop import SIGNALS, StopRequest


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
    code = (
        "import os, signal, time\nfrom src.machine.stop import StopRequest\n"
        f"with StopRequest():\n    os.kill(os.getpid(), signal.SIGTERM)\n    os.kill(os.getpid(), {int(second)})\n"
        "    time.sleep(60)\n"
    )
    process = subprocess.run([sys.executable, "-c", code], cwd=root, timeout=50, check=False)
    assert process.returncode == -second


@pytest.mark.parametrize("signum", SIGNALS)
def test_a_signal_does_not_stop_the_ranks_beside_the_main_one(signum):
    """They would wait for each other in the next sum for ever; the main rank's end ends them."""
    with StopRequest(is_heeded=False) as request:
        os.kill(os.getpid(), signum)
        assert not request.is_set
        request.raise_if_set()
