"""A cache folder is found on every machine, and nobody else's is taken."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import pytest

from src.machine import caches


@pytest.fixture
def temporary(tmp_path, monkeypatch) -> Path:
    """The folder for temporary files; nobody has been told anything yet."""
    folder = tmp_path / "tmp"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    caches._note.cache_clear()
    return folder


def unknown(self: Path) -> Path:
    raise RuntimeError("Could not determine home directory.")


def test_the_users_own_cache_is_taken(temporary, tmp_path, monkeypatch, caplog):
    monkeypatch.setenv("HOME", str(tmp_path))
    assert caches.cache_folder("cpu") == tmp_path / ".cache" / "mobile-nas" / "cpu"
    assert caches.cache_folder("cpu").stat().st_mode & 0o777 == 0o700
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "own"))
    assert caches.cache_folder("checks") == tmp_path / "own" / "mobile-nas" / "checks"
    assert not caplog.records and not list(temporary.iterdir())


@pytest.mark.parametrize("home", ["unknown", "a file", "read-only"])
def test_without_a_home_a_temporary_folder_serves_and_a_note_says_so_once(
    temporary, tmp_path, monkeypatch, caplog, home
):
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    if home == "unknown":
        monkeypatch.setattr(Path, "expanduser", unknown)
    elif home == "a file":
        (tmp_path / "home").write_text("")
    else:  # access rights do not bind root, who may run this
        monkeypatch.setattr(os, "access", lambda path, mode: not Path(path).is_relative_to(tmp_path / "home"))
    folder = caches.cache_folder("cpu")
    assert folder == temporary / f"mobile-nas-{os.getuid()}" / "cpu" == caches.cache_folder("cpu")
    assert folder.is_dir() and folder.parent.stat().st_mode & 0o777 == 0o700
    (record,) = caplog.records
    assert record.levelname == "WARNING" and "XDG_CACHE_HOME" in record.message and str(folder.parent) in record.message


@pytest.mark.parametrize("foreign", ["writable", "link"])
def test_a_temporary_folder_that_may_be_anothers_is_left_alone(temporary, tmp_path, foreign):
    taken = temporary / f"mobile-nas-{os.getuid()}"
    if foreign == "link":
        (tmp_path / "elsewhere").mkdir(mode=0o700)
        taken.symlink_to(tmp_path / "elsewhere")
    else:
        taken.mkdir()
        taken.chmod(0o777)
    own = caches.private_folder()
    assert own != taken and own.parent == temporary and own.stat().st_mode & 0o777 == 0o700


def test_what_others_can_write_is_not_private(tmp_path, monkeypatch):
    assert caches.is_private(tmp_path)
    for mode in (0o720, 0o702):
        tmp_path.chmod(mode)
        assert not caches.is_private(tmp_path)
    tmp_path.chmod(0o700)
    real = tmp_path.stat()
    for owner, is_private in ((real.st_uid + 4711, False), (0, True)):
        facts = os.stat_result((real.st_mode, *real[1:4], owner, *real[5:]))
        monkeypatch.setattr(Path, "stat", lambda self, facts=facts: facts)
        assert caches.is_private(tmp_path) == is_private
