"""What is promised to survive a power cut: recorded flushes and renames, and the order they must have.

The page cache hides whether anything reached the disk: a file reads back right whatever was flushed. So the calls
themselves are recorded, with what a file held when it was flushed.
"""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest


class Flush(NamedTuple):
    """An fsync: of which file or folder, and the content the file had (None: a folder)."""

    path: Path
    content: bytes | None


class Rename(NamedTuple):
    """A rename within or into a folder."""

    source: Path
    target: Path


Recording = list[Flush | Rename]


@contextlib.contextmanager
def recorded() -> Iterator[Recording]:
    """Every flush and rename of this process within the block, in order."""
    events: Recording = []
    real_fsync, real_renames = os.fsync, {name: getattr(Path, name) for name in ("replace", "rename")}

    def fsync(descriptor: int) -> None:
        path = Path(f"/proc/self/fd/{descriptor}").readlink()
        is_file = stat.S_ISREG(os.fstat(descriptor).st_mode)
        events.append(Flush(path, path.read_bytes() if is_file else None))
        real_fsync(descriptor)

    def renaming(name: str):
        def rename(path: Path, target: Path) -> Path:
            events.append(Rename(path.resolve(), Path(target).resolve()))
            return real_renames[name](path, target)

        return rename

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", fsync)
        for name in real_renames:
            patch.setattr(Path, name, renaming(name))
        yield events


def names_given(events: Recording) -> list[str]:
    """Names of the files that got their place, in the order they got it."""
    return [event.target.name for event in events if isinstance(event, Rename)]


def assert_survives(path: Path, events: Recording) -> None:
    """``path`` was written elsewhere in its folder, flushed with all its content, renamed, and its name flushed.

    Raises:
        AssertionError: a power cut at some moment could leave another ``path`` than the old or the new one.
    """
    path = path.resolve()
    places = [place for place, event in enumerate(events) if isinstance(event, Rename) and event.target == path]
    assert places, f"{path.name} was written in place"
    for place in places:
        source = events[place].source
        assert source.parent == path.parent, f"{path.name} comes from another folder, perhaps another file system"
        flushed = [event.content for event in events[:place] if isinstance(event, Flush) and event.path == source]
        assert flushed, f"{path.name} got its name before its content was on the disk"
        after = events[place + 1] if place + 1 < len(events) else None
        assert after == Flush(path.parent, None), f"the name of {path.name} is not on the disk"
    assert flushed[-1] == path.read_bytes(), f"{path.name} changed after it was flushed"
