"""How programs end."""

import signal

import pytest

from src.errors import Interrupted, RunFailed, UsageError, run


@pytest.mark.parametrize(
    ("error", "status", "message"),
    [
        (UsageError("no such\nfolder:  x"), 2, "error: no such folder: x\n"),
        (RunFailed("the loss is\nnan"), 1, "failed: the loss is nan\n"),
        (Interrupted(signal.SIGTERM), 143, ""),
        (Interrupted(signal.SIGINT), 130, ""),
        (KeyboardInterrupt(), 130, ""),
    ],
)
def test_exit_status_and_one_line_on_stderr(capsys, error, status, message):
    def main(argv):
        assert argv == ["--key", "value"]
        raise error

    with pytest.raises(SystemExit) as ending:
        run(main, ["--key", "value"])
    assert ending.value.code == status
    assert capsys.readouterr() == ("", message)


def test_success_does_not_exit():
    assert run(lambda argv: None, []) is None


def test_an_error_of_ours_keeps_its_traceback():
    with pytest.raises(ZeroDivisionError):
        run(lambda argv: 1 / 0, [])
