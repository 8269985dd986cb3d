"""What the readers of containers share."""

from __future__ import annotations

import zipfile
import zlib

import numpy as np

# What zipfile raises of a damaged archive: its own error, or of a name, a method, a size, a stream that cannot be.
UNZIPPING = (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError, ValueError, OSError)


class Damaged(Exception):
    """The file is not what its container says, or asks for what is not done. One line on what is wrong."""


def of_bfloat16(data: bytes) -> np.ndarray:
    """bfloat16, the upper halves of float32, as those.

    Raises:
        Damaged: half a value at its end.
    """
    if len(data) % 2:
        raise Damaged("a bfloat16 has two bytes, the last has one")
    return (np.frombuffer(data, "<u2").astype(np.uint32) << 16).view(np.float32)
