"""How programs end."""

import signal

import pytest

from src.errors import Interrupted, RunFailed, UsageError, nearest, run


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


def test_success_does_not_exit(monkeypatch):
    monkeypatch.setattr("sys.argv", ["train.py", "--key"])
    given = []
    assert run(given.extend, at_end=lambda: given.append("end")) is None
    assert given == ["--key", "end"]


def test_the_nearest_word_is_offered_if_any_is_near():
    known = ["rmsprop", "momenta", "momentum"]
    assert nearest("momentun", known) == " (did you mean 'momentum'?)"
    assert nearest("adam", known) == ""
    assert nearest("use_se", ["seed"]) == nearest("name", ["file_name"]) == ""


def test_an_error_of_ours_keeps_its_traceback():
    with pytest.raises(ZeroDivisionError):
        run(lambda argv: 1 / 0, [])
