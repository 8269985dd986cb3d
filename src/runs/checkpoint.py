"""Checkpoints that are whole or absent.

A checkpoint is one MindSpore ``.ckpt`` file: the network's weights under their own names, everything
else that training changes under ``state.<name>``, and a JSON text ``meta``. Beside it lies
``<file>.json`` with the SHA-256 of the file. A file is written under a temporary name, flushed to disk,
its checksum file put in place, and only then renamed to its final name, which is never used twice; the
pointers ``last`` and ``best`` move after that. A kill at any moment leaves the earlier ones untouched.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import mindspore as ms
import numpy as np

from src.errors import UsageError
from src.files import parse_json, read_json, replacing, sha256, write_text
from src.machine.device import quiet_framework
from src.runs.trained import Trained

SUFFIX = ".ckpt"
LAST, BEST = "last", "best"
_STATE, _META = "state.", "meta"
FORMAT = 1
# Only the process that has the run writes files of such names, so the next one may remove them.
_SAVING = ".saving-"
_LEFTOVERS = (f"{_SAVING}*", ".writing-*.ckpt", ".writing-*.tmp")  # the latter of earlier versions


@dataclasses.dataclass(frozen=True)
class Checkpoint:
    """What a checkpoint file holds.

    Attributes:
        path: the file.
        weights: trainable parameters and batch-norm moving statistics by name.
        state: optimizer slots, counters, loss scale, … by name (empty: weights only).
        meta: all of :class:`Trained`, and the position of the run (empty for a file that is not ours).
    """

    path: Path
    weights: dict[str, np.ndarray]
    state: dict[str, np.ndarray]
    meta: dict[str, Any]

    @property
    def trained(self) -> Trained | None:
        """What was trained; None for a file that is not ours."""
        return Trained.from_meta(self.meta, self.path) if self.meta else None


def _checksum_file(path: Path) -> Path:
    return path.with_name(path.name + ".json")


def write_checkpoint(
    path: Path,
    weights: Mapping[str, np.ndarray],
    state: Mapping[str, np.ndarray],
    meta: Mapping[str, Any],
    number: int = 0,
) -> None:
    """Writes a checkpoint to ``path``, which must not exist yet; ``number`` is its place among those of a run.

    Raises:
        FileExistsError: a checkpoint is never overwritten.
        OSError, RuntimeError: the disk is full or not writable; nothing is left behind.
    """
    if path.exists():
        raise FileExistsError(f"{path} exists")
    meta = {**meta, "format": FORMAT}
    entries = [{"name": name, "data": ms.Tensor(value)} for name, value in weights.items()]
    entries += [{"name": _STATE + name, "data": ms.Tensor(value)} for name, value in state.items()]
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path, prefix=_SAVING) as temporary:
        # The framework replaces an existing file by removing it first; here that is our own temporary one.
        with quiet_framework():
            ms.save_checkpoint(entries, str(temporary), append_dict={_META: json.dumps(meta)}, crc_check=True)
        summary = {"sha256": sha256(temporary), "bytes": temporary.stat().st_size, "number": number}
        write_text(_checksum_file(path), json.dumps(summary, indent=1), _SAVING)


def verify(path: Path) -> None:
    """Compares a checkpoint with its checksum file, if there is one.

    Raises:
        UsageError: the file is missing, or not what was written.
    """
    if not path.is_file():
        raise UsageError(f"there is no checkpoint {path}")
    checksum = _checksum_file(path)
    if not checksum.is_file():
        return
    try:
        expected = read_json(checksum)["sha256"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UsageError(f"{checksum} is damaged; remove it only if you trust {path.name}") from error
    if sha256(path) != expected:
        raise UsageError(f"{path} is damaged: its SHA-256 is not the one in {checksum.name}")


def read_checkpoint(path: Path) -> Checkpoint:
    """Reads and checks a checkpoint, ours or any MindSpore ``.ckpt``.

    Raises:
        UsageError: missing, damaged or truncated, or not a checkpoint.
    """
    path = Path(path)
    content, meta = _content_of(path)
    arrays = {name: value.asnumpy() for name, value in content.items() if isinstance(value, ms.Tensor)}
    state = {name.removeprefix(_STATE): array for name, array in arrays.items() if name.startswith(_STATE)}
    weights = {name: array for name, array in arrays.items() if not name.startswith(_STATE)}
    return Checkpoint(path, weights, state, meta)


def read_meta(path: Path) -> dict[str, Any]:
    """What a checkpoint of ours says of itself, empty for others', without its arrays. Raises as the above."""
    return _content_of(path, is_all=False)[1]


def _content_of(path: Path, is_all: bool = True) -> tuple[dict[str, Any], dict[str, Any]]:
    """What the framework finds in a checkpoint, and its meta; ``is_all`` False spares the memory of the former."""
    verify(path)
    names: list[str] = []

    def is_read(name: str) -> bool:
        names.append(name)
        return is_all or name in (_META, names[0])  # the framework refuses to read nothing

    if path.suffix != SUFFIX:
        raise UsageError(f"{path} is not a checkpoint: its name must end in {SUFFIX}")
    try:
        with quiet_framework():
            content = ms.load_checkpoint(str(path), crc_check=True, choice_func=is_read)
    except (ValueError, RuntimeError, TypeError, KeyError, UnicodeDecodeError) as error:
        raise UsageError(f"{path} is damaged or not a MindSpore checkpoint") from error
    meta_text = content.pop(_META, None)
    meta = _parsed(meta_text, path) if isinstance(meta_text, str) else {}
    if not meta and any(name.startswith(_STATE) for name in names):
        raise UsageError(f"{path} is damaged: it ends before its meta")
    return content, meta


def _parsed(text: str, path: Path) -> dict[str, Any]:
    """The meta of a checkpoint, from the text in it."""
    try:
        meta = parse_json(text)
    except ValueError as error:
        raise UsageError(f"{path} is damaged: its meta is not JSON") from error
    if not isinstance(meta, dict):
        raise UsageError(f"{path} is damaged: its meta is no mapping")
    return meta


class CheckpointFolder:
    """The checkpoints of one run: numbered files, the pointers ``last`` and ``best``, the newest N kept."""

    def __init__(self, path: Path, keep: int = 5):
        self.path = path
        self.keep = keep

    def save(
        self,
        prefix: str,
        epoch: int,
        step: int,
        weights: Mapping[str, np.ndarray],
        state: Mapping[str, np.ndarray],
        meta: Mapping[str, Any],
        *,
        is_best: bool = False,
    ) -> Path:
        """Writes ``<prefix>-<epoch>_<step>.ckpt``, moves the pointers, prunes.

        ``epoch`` counts from 1 and ``step`` is the number of steps done in it, as in MindSpore's own
        names. No file is ever written over: where one of that name exists (damaged, or saved before
        the epoch's evaluation) the new one is ``…-2``, which counts as the newer.
        """
        path = self.path / f"{prefix}-{epoch}_{step}{SUFFIX}"
        attempt = 1
        while path.exists():
            attempt += 1
            path = self.path / f"{prefix}-{epoch}_{step}-{attempt}{SUFFIX}"
        number = 1 + max(map(_number, list_checkpoints(self.path)), default=0)
        write_checkpoint(path, weights, state, meta, number)
        self.point(LAST, path)
        if is_best:
            self.point(BEST, path)
        self._prune()
        return path

    def point(self, pointer: str, path: Path) -> None:
        """Makes ``last`` or ``best`` name a checkpoint of this folder."""
        write_text(self.path / pointer, f"{path.name}\n{_name_check(path.name)}\n", _SAVING)

    def pointed(self, pointer: str) -> Path | None:
        """The file that ``last`` or ``best`` names, if it is there."""
        try:
            name, _, check = (self.path / pointer).read_text(encoding="utf-8").strip().partition("\n")
        except (OSError, UnicodeDecodeError):
            return None
        path = self.path / Path(name).name  # a pointer never leads out of its folder
        is_whole = check in ("", _name_check(name))  # earlier versions wrote the name alone
        return path if is_whole and path.suffix == SUFFIX and path.is_file() else None

    def has_lost(self, pointer: str) -> bool:
        """Whether ``last`` or ``best`` is there and names no file of the folder: damaged, or the file is gone."""
        return (self.path / pointer).exists() and self.pointed(pointer) is None

    def newest_valid(self) -> tuple[Path | None, list[str]]:
        """The newest undamaged checkpoint, and a line on each damaged one that was passed over."""
        complaints = []
        for path in reversed(list_checkpoints(self.path)):
            try:
                read_checkpoint(path)
            except UsageError as error:
                complaints.append(str(error))
            else:
                return path, complaints
        return None, complaints

    def _prune(self) -> None:
        """Removes all but the newest ``keep`` files and the best one, and what a kill left half written."""
        if self.has_lost(BEST):
            return  # which file is the best nobody knows: it may be any
        protected = {self.pointed(LAST), self.pointed(BEST)}
        for path in list_checkpoints(self.path)[: -self.keep]:
            if path not in protected:
                path.unlink()
                _checksum_file(path).unlink(missing_ok=True)
        for pattern in _LEFTOVERS:
            for leftover in self.path.glob(pattern):
                leftover.unlink(missing_ok=True)


def list_checkpoints(folder: Path) -> list[Path]:
    """The ``.ckpt`` files of a folder, in the order they were trained.

    Each has its number; their names tell less, as a run that goes on with larger batches has fewer steps an epoch.
    Files of earlier versions and of others have none: they come first, by their names, numbers compared as numbers.
    """
    files = (path for path in folder.glob(f"*{SUFFIX}") if not path.name.startswith("."))
    return sorted(files, key=lambda path: (_number(path), [_numeral(part) for part in _parts(path.stem)]))


def _name_check(name: str) -> str:
    """What stands behind a name in a pointer, so that a digit that was damaged does not name another file."""
    return hashlib.sha256(name.encode()).hexdigest()[:16]


def _number(path: Path) -> int:
    """The place of a checkpoint among those of its run, from 1; 0 where nothing says so."""
    try:
        return int(read_json(_checksum_file(path))["number"])
    except (OSError, ValueError, OverflowError, KeyError, TypeError):
        return 0


def _numeral(part: str) -> int | str:
    return int(part) if part.isdecimal() else part


def _parts(stem: str) -> list[str]:
    # "net-10_5" -> ["net-", "10", "_", "5", ""]: text and numbers alternate, so lists compare.
    return re.split(r"(\d+)", stem)
