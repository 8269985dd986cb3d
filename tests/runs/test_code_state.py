"""What a run keeps of the code that made it."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest

from src.runs import code_state as module
from src.runs.code_state import FILE, CodeState, code_state, keep_code_state


def git(folder: Path, *words: str) -> str:
    who = {f"GIT_{role}_{part}": "a@b" for role in ("AUTHOR", "COMMITTER") for part in ("NAME", "EMAIL")}
    command = ["git", "-C", str(folder), *words]
    return subprocess.run(command, env={**os.environ, **who}, capture_output=True, text=True, check=True).stdout.strip()


@pytest.fixture
def sources(tmp_path) -> Path:
    """A repository with one commit."""
    folder = tmp_path / "my sources"
    folder.mkdir()
    git(folder, "init", "--quiet")
    (folder / "a.py").write_text("one\n")
    (folder / ".gitignore").write_text("runs/\n")
    git(folder, "add", ".")
    git(folder, "commit", "--quiet", "--message", "first")
    return folder


@pytest.fixture(autouse=True)
def asked_anew():
    code_state.cache_clear()
    yield
    code_state.cache_clear()


def test_the_commit_alone_where_nothing_differs(sources):
    (sources / "runs").mkdir()
    (sources / "runs" / "log.txt").write_text("")
    assert code_state(sources) == CodeState(git(sources, "rev-parse", "HEAD"))


def test_the_difference_can_be_applied_and_strangers_are_named(sources, tmp_path):
    (sources / "a.py").write_text("two\n")
    (sources / "new file.py").write_text("three\n")
    state = code_state(sources)
    assert (state.commit, state.unknown, state.note) == (git(sources, "rev-parse", "HEAD"), ("new file.py",), "")
    (tmp_path / "it.diff").write_text(state.diff)
    git(sources, "checkout", "--quiet", "a.py")
    git(sources, "apply", str(tmp_path / "it.diff"))
    assert (sources / "a.py").read_text() == "two\n"


def test_a_note_says_why_there_is_none(tmp_path, monkeypatch):
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path))
    assert "not a git repository" in code_state(tmp_path).note
    git(tmp_path, "init", "--quiet")
    code_state.cache_clear()
    assert code_state(tmp_path).note == "the repository has no commit yet"
    code_state.cache_clear()
    monkeypatch.setenv("PATH", str(tmp_path))
    assert code_state(tmp_path) == CodeState(note="there is no git")


def test_a_git_that_does_not_answer_and_a_difference_beyond_measure(sources, monkeypatch):
    (sources / "a.py").write_text("two\n" * 10)
    monkeypatch.setattr(module, "_LARGEST_DIFF", 50)
    found = code_state(sources)
    assert (found.diff, "what differs is left out" in found.note, bool(found.commit)) == ("", True, True)
    code_state.cache_clear()
    (sources / "git").write_text("#!/bin/sh\nexec /bin/sleep 60\n")
    (sources / "git").chmod(0o755)
    monkeypatch.setenv("PATH", str(sources))
    monkeypatch.setattr(module, "_SECONDS", 0.05)
    assert "timed out" in code_state(sources).note


def test_a_run_has_an_entry_of_each_start_and_goes_on_whatever_fails(tmp_path, monkeypatch):
    states = [CodeState("c1", "change\n", ("x",)), CodeState("c1", "change\n"), CodeState("c2", note="why")]
    for state in states:
        monkeypatch.setattr(module, "code_state", lambda state=state: state)
        keep_code_state(tmp_path)
    entries = json.loads((tmp_path / FILE).read_text())
    assert [(entry["commit"], entry["unknown"], entry["note"]) for entry in entries] == [
        *(("c1", ["x"], ""), ("c1", [], ""), ("c2", [], "why"))
    ]
    assert [entry["diff"] for entry in entries] == [entries[0]["diff"]] * 2 + [""]
    assert (tmp_path / entries[0]["diff"]).read_text() == "change\n"
    (tmp_path / FILE).write_text("{}")
    keep_code_state(tmp_path)
    (tmp_path / FILE).write_text("no JSON")
    keep_code_state(tmp_path)
    keep_code_state(tmp_path / "nowhere")
    assert (tmp_path / FILE).read_text() == "no JSON"
