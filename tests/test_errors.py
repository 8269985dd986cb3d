"""How programs end."""

import errno
import io
import signal
import subprocess
import sys

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
        (OSError(errno.ENOSPC, "No space left on device", "a/b.csv"), 1, "failed: a/b.csv: No space left on device\n"),
        (OSError(errno.EROFS, "Read-only file system"), 1, "failed: Read-only file system\n"),
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


@pytest.mark.parametrize("error", [ZeroDivisionError(), FileNotFoundError(errno.ENOENT, "No such file", "x")])
def test_an_error_of_ours_keeps_its_traceback(error):
    def main(argv):
        raise error

    with pytest.raises(type(error)):
        run(main, [])


def test_streams_are_as_they_were_afterwards():
    before = sys.stdout, sys.stderr
    run(lambda argv: None, [])
    assert (sys.stdout, sys.stderr) == before


def test_a_long_help_may_be_read_by_its_first_lines_only(root):
    command = 'set -o pipefail; "$0" -c "$1" --help | head -n 1'
    program = "from src.settings.command_line import answer_help; answer_help('train')"
    ended = subprocess.run(
        ["bash", "-c", command, sys.executable, program], cwd=root, capture_output=True, text=True, check=False
    )
    assert (ended.returncode, ended.stderr) == (0, "") and ended.stdout.startswith("usage: python train.py")


def test_a_letter_that_the_console_does_not_know_is_written_as_its_number(monkeypatch):
    taken = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(taken, encoding="ascii"))
    run(lambda argv: print("runs/ä"), [])
    assert taken.getvalue() == b"runs/\\xe4\n"


# What each program does with its output, without the framework.
PROGRAM = """
import sys
from src.errors import UsageError, run
def main(argv):
    for line in range(100_000):
        print("line", line)
    if argv:
        raise UsageError(argv[0])
    open(sys.argv[1], "w").write("done")
run(main, sys.argv[2:])
"""


@pytest.mark.parametrize("argument", ["", "why"])
@pytest.mark.parametrize("output", ["> /dev/full", "| head -n 1", ">&-", ">&- 2>&- <&-", "> /dev/full 2> /dev/full"])
def test_output_that_nobody_takes_changes_neither_work_nor_status(root, tmp_path, output, argument):
    command = f'set -o pipefail; "$0" -c "$1" "$2" {argument} {output}'
    ended = subprocess.run(
        ["bash", "-c", command, sys.executable, PROGRAM, str(tmp_path / "result")],
        cwd=root,
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == (2 if argument else 0)
    assert ended.stderr == ("error: why\n" if argument and "2>" not in output else "")
    assert (tmp_path / "result").exists() == (not argument)
    if not argument:
        assert (tmp_path / "result").read_text() == "done"  # descriptor 1 was free, and prints went into this file
