"""MXNet's list of arrays (``.params``): little-endian, three versions of an array's head, names behind the arrays.

====================  ==========================================================================
list                  uint64 0x112, uint64 0, uint64 count, the arrays, uint64 count, the names
array, first          uint32 dimensions, uint32 each; context; type; values
V1  0xF993FAC8        uint32 dimensions, int64 each; context; type; values
V2  0xF993FAC9        int32 storage, then as V1; V3 (0xF993FACA) differs in what no dimensions mean
context, type         int32 device, int32 number; int32 code
name                  uint64 length, bytes
====================  ==========================================================================
"""

from __future__ import annotations

import struct
from typing import Any

import numpy as np

from src.weights.raw import Damaged

HEAD = struct.pack("<QQ", 0x112, 0)
V1, V2, V3 = 0xF993FAC8, 0xF993FAC9, 0xF993FACA
MOST_DIMENSIONS = 8
TYPES = {0: "<f4", 1: "<f8", 2: "<f2", 3: "u1", 4: "<i4", 5: "i1", 6: "<i8", 7: "?"}


def read(data: bytes) -> dict[str, np.ndarray]:
    """The arrays by name, ``arg:`` and ``aux:`` before them left away.

    Raises:
        Damaged: it ends early, or states what cannot be.
    """
    if not data.startswith(HEAD):
        raise Damaged("it does not begin as one")
    cursor = _Cursor(data, len(HEAD))
    arrays = [_array(cursor) for _ in range(cursor.count("arrays", 16))]
    names = [_name(cursor) for _ in range(cursor.count("names", 8))]
    if cursor.left:
        raise Damaged(f"{cursor.left} bytes lie behind its end")
    if len(names) != len(arrays):
        raise Damaged(f"it has {len(arrays)} arrays and {len(names)} names")
    found = dict(zip((name.removeprefix("arg:").removeprefix("aux:") for name in names), arrays, strict=True))
    if len(found) < len(names):
        raise Damaged("two of its arrays have one name")
    return found


class _Cursor:
    """A place in the data; it never leaves them."""

    def __init__(self, data: bytes, position: int):
        self.data, self.position = data, position

    @property
    def left(self) -> int:
        return len(self.data) - self.position

    def take(self, count: int) -> memoryview:
        if count > self.left:
            raise Damaged(f"it ends early: {count} bytes are due where {self.left} are left")
        self.position += count
        return memoryview(self.data)[self.position - count : self.position]

    def number(self, kind: str) -> Any:
        (value,) = struct.unpack(f"<{kind}", self.take(struct.calcsize(f"<{kind}")))
        return value

    def count(self, of_what: str, least_bytes: int) -> int:
        """A number of things of which each takes some bytes that must be there."""
        count = self.number("Q")
        if count * least_bytes > self.left:
            raise Damaged(f"it states {count} {of_what}, more than its bytes can hold")
        return count


def _array(cursor: _Cursor) -> np.ndarray:
    magic = cursor.number("I")
    if magic in (V2, V3) and (storage := cursor.number("i")) != 0:
        raise Damaged(f"an array is sparse (storage {storage}); weights are dense")
    if magic in (V1, V2, V3):
        dimensions, kind = cursor.number("I"), "q"
    else:
        dimensions, kind = magic, "I"  # the first version had no magic number
    if dimensions > MOST_DIMENSIONS:
        raise Damaged(f"an array has {dimensions} dimensions")
    shape = [cursor.number(kind) for _ in range(dimensions)]
    if not shape and magic != V3:
        raise Damaged("an array is empty")
    if any(side < 0 for side in shape):
        raise Damaged(f"an array has shape {shape}")
    cursor.take(8)  # where it was: device and number
    code = cursor.number("i")
    if code not in TYPES:
        raise Damaged(f"an array is of type {code}, which no weights of these networks are")
    dtype = np.dtype(TYPES[code])
    size = 1
    for side in shape:
        size *= side
    return np.frombuffer(cursor.take(size * dtype.itemsize), dtype).reshape(shape)


def _name(cursor: _Cursor) -> str:
    try:
        return bytes(cursor.take(cursor.number("Q"))).decode("utf-8")
    except UnicodeDecodeError as error:
        raise Damaged("a name is no text") from error
