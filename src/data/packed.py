"""Images inside one file: a path below that file's own, ``train.rec/n01440764/17``, that reads itself.

To all that lists, checks, splits and feeds images it is a path like any other; only its bytes come from elsewhere.
"""

from __future__ import annotations

import io
import os
from pathlib import Path
from typing import BinaryIO, Protocol


class Pack(Protocol):
    """A file of images.

    Attributes:
        path: the file.
        stamp: what changes when it or a file that belongs to it changes.
        names: its classes in the order of their labels; empty where it knows numbers only.
    """

    path: Path
    stamp: str
    names: list[str]

    def labels(self) -> list[int]:
        """The class of each image."""

    def size(self, position: int) -> int:
        """Bytes of an image."""

    def read(self, position: int) -> bytes:
        """An image's bytes, as the file that was packed held them."""


class PackedImage(type(Path())):
    """The path of an image inside a pack."""

    __slots__ = ("pack", "position")
    pack: Pack
    position: int

    @classmethod
    def inside(cls, pack: Pack, class_name: str, position: int) -> PackedImage:
        image = cls(pack.path, class_name, str(position))
        image.pack, image.position = pack, position
        return image

    def is_file(self) -> bool:
        return True

    def is_dir(self) -> bool:
        return False

    def stat(self, **_) -> os.stat_result:
        """Its size is the image's; the rest is the file's."""
        facts = list(self.pack.path.stat())
        facts[6] = self.pack.size(self.position)
        return os.stat_result(facts)

    def read_bytes(self) -> bytes:
        return self.pack.read(self.position)

    def open(self, *_, **__) -> BinaryIO:
        return io.BytesIO(self.read_bytes())
