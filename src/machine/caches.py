"""Where what can be made again is kept: the user's cache folder, or a temporary one where that cannot be had."""

from __future__ import annotations

import functools
import logging
import os
import tempfile
from pathlib import Path

_log = logging.getLogger(__name__)


def cache_folder(name: str) -> Path:
    """``mobile-nas/<name>`` in XDG_CACHE_HOME, in ~/.cache, or in a temporary folder.

    A container may have no home for its user, or one that cannot be written to. A note then says which variable names
    a folder that lasts.
    """
    try:
        folder = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "mobile-nas" / name
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if os.access(folder, os.W_OK | os.X_OK):
            return folder
        reason = f"{folder} cannot be written to"
    except (OSError, RuntimeError) as error:  # RuntimeError: nobody knows of a home
        reason = " ".join(str(error).split())
    folder = private_folder() / name
    folder.mkdir(exist_ok=True)
    _note(f"there is no cache folder here ({reason}); {folder.parent} serves. XDG_CACHE_HOME can name one that lasts")
    return folder


def private_folder() -> Path:
    """A temporary folder that is this user's alone: the same in every process, but never one that another made."""
    folder = Path(tempfile.gettempdir()) / f"mobile-nas-{os.getuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    if folder.is_symlink() or not is_private(folder):
        return Path(tempfile.mkdtemp(prefix="mobile-nas-"))
    return folder


def close_to_others(folder: Path) -> None:
    """Takes from other users the right to write to a folder of this one, which a generous umask has given them."""
    facts = folder.stat()
    if facts.st_uid == os.getuid() and facts.st_mode & 0o022:
        folder.chmod(facts.st_mode & 0o755)


def is_private(path: Path) -> bool:
    """Whether no other user, but the system's own, can have written what is there."""
    facts = path.stat()
    return facts.st_uid in (os.getuid(), 0) and not facts.st_mode & 0o022


@functools.cache
def _note(message: str) -> None:
    """Once in a process."""
    _log.warning(message)
