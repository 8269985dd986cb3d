"""Which code a run was made by: code.json in its folder, and what differs from the commit as a diff beside it."""

from __future__ import annotations

import functools
import hashlib
import json
import os
import subprocess
import time
from pathlib import Path
from typing import NamedTuple

from src.files import write_json, write_text

FILE = "code.json"
_SOURCES = Path(__file__).resolve().parents[2]
_SECONDS = 5  # a git that does not answer, on a dead network drive say, holds up no run
_LARGEST_DIFF = 10_000_000  # characters


class CodeState(NamedTuple):
    """The sources as they are.

    Attributes:
        commit: its hash; "" where there is none.
        diff: what differs from it in files that git knows; "" if nothing does.
        unknown: files beside them that git does not know and is not told to ignore.
        note: why something of this is missing; "" if nothing is.
    """

    commit: str = ""
    diff: str = ""
    unknown: tuple[str, ...] = ()
    note: str = ""


@functools.cache
def code_state(folder: Path = _SOURCES) -> CodeState:
    """The state of the sources in ``folder``, asked for once a process: a program does not see later changes."""
    try:
        # One start of git says what the commit is and whether anything differs: 10 ms here, as each start is.
        entries = _git(folder, "status", "--porcelain=v2", "--branch", "-z", "--no-renames", "--", ".").split("\0")
        commit = next(entry.split()[-1] for entry in entries if entry.startswith("# branch.oid "))
        if commit == "(initial)":
            return CodeState(note="the repository has no commit yet")
        unknown = tuple(entry[2:] for entry in entries if entry.startswith("? "))
        is_changed = any(entry[:2] in ("1 ", "2 ", "u ") for entry in entries)
        diff = _git(folder, "diff", "--no-ext-diff", "--no-textconv", "HEAD", "--", ".") if is_changed else ""
    except FileNotFoundError:
        return CodeState(note="there is no git")
    except subprocess.CalledProcessError as error:
        said = error.stderr.strip().splitlines()
        return CodeState(note=said[0] if said else f"git ended with status {error.returncode}")
    except (OSError, StopIteration, subprocess.SubprocessError) as error:
        return CodeState(note=f"git did not answer: {error}")
    if len(diff) > _LARGEST_DIFF:
        return CodeState(commit, "", unknown, f"what differs is left out: it has {len(diff):,} characters")
    return CodeState(commit, diff, unknown)


def _git(folder: Path, *words: str) -> str:
    quiet = {**os.environ, "GIT_OPTIONAL_LOCKS": "0", "LC_ALL": "C"}  # a look takes no lock from somebody's commit
    # In a container the sources often belong to somebody else, which git alone would refuse to look at.
    settings = ["-c", "safe.directory=*", "-c", "core.fsmonitor=false"]
    command = ["git", "-C", str(folder), *settings, *words]
    done = subprocess.run(command, env=quiet, capture_output=True, timeout=_SECONDS, check=False)
    out, err = (output.decode("utf-8", "replace") for output in (done.stdout, done.stderr))
    if done.returncode:
        raise subprocess.CalledProcessError(done.returncode, command, out, err)
    return out


def keep_code_state(folder: Path) -> None:
    """Adds this start to code.json of a run, and writes code-<hash>.diff where the sources differ from the commit.

    A run that goes on has an entry of each start. Whatever fails, the run goes on without.
    """
    state = code_state()
    entry = {"started": time.strftime("%Y-%m-%dT%H:%M:%S%z"), "commit": state.commit, "diff": ""}
    if state.diff:
        entry["diff"] = f"code-{hashlib.sha256(state.diff.encode()).hexdigest()[:8]}.diff"
    entry |= {"unknown": list(state.unknown), "note": state.note}
    path = folder / FILE
    try:
        if entry["diff"] and not (folder / entry["diff"]).exists():
            write_text(folder / entry["diff"], state.diff)
        earlier = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else []
        write_json(path, [*earlier, entry])
    except (OSError, ValueError, TypeError):
        return
