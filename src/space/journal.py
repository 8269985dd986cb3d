"""The journal of a search: one JSON line per evaluated path, on the disk before the next begins.

Each line ends with its own CRC-32, so that a digit that was damaged is not taken for an accuracy.
"""

from __future__ import annotations

import contextlib
import json
import os
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO

from src.errors import UsageError
from src.files import flush, naming, parse_json

_SEAL = b', "crc32": '


class Journal:
    """A file of JSON lines: a header that says what is searched, then a record per candidate.

    A line that was being written when the process was killed has no line end and is dropped. Nothing is written before
    the first record of this process: a search that fails before that leaves the folder to another.

    Args:
        path: of the file; it is created, or gone on with.
        header: settings that decide the search. An existing journal must have the same.
        is_writing: whether this process writes; the other ranks of a launch read what is there, and
            keep in memory what is appended.
        before_writing: called once, by the process that writes, before its first record.

    Attributes:
        records: what was recorded before, and since.

    Raises:
        UsageError: the file belongs to another search, or is damaged before its last line.
    """

    def __init__(
        self,
        path: Path,
        header: Mapping,
        is_writing: bool = True,
        before_writing: Callable[[], None] = lambda: None,
    ):
        self.path = path
        self.records: list[dict] = []
        self._header = json.loads(json.dumps(header))
        self._is_writing, self._before_writing = is_writing, before_writing
        self._file: BinaryIO | None = None
        self._whole = self._read(self._header) if path.exists() else 0

    def _read(self, header: Mapping) -> int:
        """Takes over the whole lines of the file; returns their length in bytes."""
        content = self.path.read_bytes()
        whole = content.rfind(b"\n") + 1
        lines = content[:whole].splitlines()
        for number, line in enumerate(lines, start=1):
            try:
                record, is_sealed = _unsealed(line)
                if number == 1:
                    seals = is_sealed
                elif seals and not is_sealed:
                    raise ValueError("a line without a checksum in a journal of lines with them")
            except ValueError as error:
                raise UsageError(f"{self.path} is damaged in line {number}; move it away to search anew") from error
            if number > 1:
                self.records.append(record)
            elif (difference := _difference(record, header)) is not None:
                raise UsageError(
                    f"{self.path} belongs to a search with other settings ({difference}); "
                    "give another run_dir, or the same settings"
                )
        return whole

    def append(self, record: Mapping) -> None:
        """Adds a record; where this process writes, it is on the disk when this returns."""
        if self._is_writing:
            if self._file is None:
                self._open()
            self._write(record)
        self.records.append(json.loads(json.dumps(record)))

    def _open(self) -> None:
        self._before_writing()
        self._file = self.path.open("ab")
        self._file.truncate(self._whole)
        if not self._whole:
            self._write({"search": self._header})
        flush(self.path.parent)  # the name has to survive a power cut too; its maker may have been killed first

    def _write(self, record: Mapping) -> None:
        with naming(self.path):
            self._file.write(_sealed(record))
            self._file.flush()
            os.fsync(self._file.fileno())

    def close(self) -> None:
        if self._file:
            with contextlib.suppress(OSError):  # what was not taken has been reported, and is no whole line
                self._file.close()

    def __enter__(self) -> Journal:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _sealed(record: Mapping) -> bytes:
    body = json.dumps(record).encode()[:-1]
    return body + _SEAL + b"%d}\n" % zlib.crc32(body)


def _unsealed(line: bytes) -> tuple[Any, bool]:
    """The record of a line, and whether it had a checksum; earlier versions wrote none.

    Raises:
        ValueError: no JSON, or not what was written.
    """
    record = parse_json(line)
    if not isinstance(record, dict):
        raise ValueError("it is no record")
    body, sealed, _ = line.rpartition(_SEAL)
    if sealed and record.pop("crc32", None) != zlib.crc32(body):
        raise ValueError("its checksum is another")
    return record, bool(sealed)


def _difference(first: object, header: Mapping) -> str | None:
    """In what the first line of a journal differs from ``header``; None for nothing.

    What an earlier version did not write is not compared.
    """
    old = first.get("search") if isinstance(first, dict) else None
    if not isinstance(old, dict):
        return "it is no journal of a search"
    names = sorted(key for key in old if old[key] != header.get(key))
    return ", ".join(names) or None
