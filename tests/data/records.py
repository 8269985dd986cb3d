"""Writes MXNet RecordIO as dmlc-core and MXNet describe it, apart from the reader that is tested."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from pathlib import Path

import numpy as np

MAGIC = struct.pack("<I", 0xCED7230A)


def chunk(kind: int, data: bytes) -> bytes:
    """One part of a record."""
    return MAGIC + struct.pack("<I", kind << 29 | len(data)) + data + b"\0" * (-len(data) % 4)


def record(data: bytes) -> bytes:
    """A record; cut wherever its data hold the magic number at a multiple of 4."""
    cuts = [place for place in range(0, len(data) - 3, 4) if data[place : place + 4] == MAGIC]
    ends = [*cuts, len(data)]
    starts = [0, *(cut + 4 for cut in cuts)]
    parts = [data[start:end] for start, end in zip(starts, ends, strict=True)]
    kinds = [0] if len(parts) == 1 else [1, *[2] * (len(parts) - 2), 3]
    return b"".join(chunk(kind, part) for kind, part in zip(kinds, parts, strict=True))


def image_record(content: bytes, label: float, number: int = 0, labels: Sequence[float] = ()) -> bytes:
    extra = struct.pack(f"<{len(labels)}f", *labels)
    return record(struct.pack("<IfQQ", len(labels), label, number, 0) + extra + content)


def write_rec(path: Path, records: Sequence[bytes], keys: Sequence[int] = ()) -> Path:
    """``path`` and the index beside it."""
    places = np.cumsum([0, *map(len, records)]).tolist()
    path.write_bytes(b"".join(records))
    lines = [f"{key}\t{place}\n" for key, place in zip(keys or range(len(records)), places, strict=False)]
    path.with_suffix(".idx").write_text("".join(lines))
    return path


def pack_folder(split: Path, path: Path, seed: int = 0, has_list: bool = True) -> Path:
    """The class folders of ``split`` as im2rec packs them: numbered in sorted order, written in another."""
    folders = sorted(folder for folder in split.iterdir() if folder.is_dir())
    files = [(label, file) for label, folder in enumerate(folders) for file in sorted(folder.iterdir())]
    order = np.random.default_rng(seed).permutation(len(files)).tolist()
    if has_list:
        lines = [f"{number}\t{files[number][0]:f}\t{files[number][1].relative_to(split)}\n" for number in order]
        path.with_suffix(".lst").write_text("".join(lines))
    records = [image_record(files[number][1].read_bytes(), files[number][0], number) for number in order]
    return write_rec(path, records, order)
