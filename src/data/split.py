"""Splits class folders into a training and a validation part.

A run does so by itself where there is no validation folder (`val_share`), and keeps which images are which in its
`split.json`. For folders that are to serve other programs too:

    python -m src.data.split FOLDER NEW_FOLDER [--val_share 0.2] [--seed 1]

FOLDER/<class>/<image> stays as it is; NEW_FOLDER gets train/ and val/ with links to its images.
"""

from __future__ import annotations

import argparse
import collections
import dataclasses
import hashlib
import json
import os
import sys
import tempfile
from pathlib import Path

import numpy as np

from src.data.folders import Images, build_class_index, list_images, some
from src.data.packed import PackedImage
from src.errors import UsageError, run
from src.files import read_sealed, sealed, write_text

SPLIT_FILE = "split.json"
HELD_OUT_FILE = "held_out.json"  # of a supernet: what trained it, and what scores its paths


@dataclasses.dataclass(frozen=True)
class Split:
    """Which images of class folders train and which validate, or score a supernet's paths.

    Images are known by class, name and size, not by where they lie: the folder may be moved or copied.

    Attributes:
        train, val: path inside the folder (``daisy/1.jpg``) to size in bytes.
        seen: the files it was drawn from, which need no second look.
    """

    train: dict[str, int]
    val: dict[str, int]
    seen: Images | None = dataclasses.field(default=None, compare=False, repr=False)

    @classmethod
    def drawn(cls, files: Images, share: float, seed: int) -> Split:
        """``share`` of every class validates; drawn from ``seed``. Raises UsageError as :func:`divide` does."""
        return cls(*({_name(path): _size(path) for path, _ in part} for part in divide(files, share, seed)), seen=files)

    @classmethod
    def read(cls, path: Path) -> Split:
        """The inverse of :meth:`write`. Raises UsageError for any other file."""
        try:
            content = read_sealed(path)
            parts = dict(content["train"]), dict(content["val"])
            if not all(type(size) is int for part in parts for size in part.values()):
                raise ValueError("a size that is no number")
            return cls(*parts)
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise UsageError(f"{path} is damaged: it does not say which images train and which validate") from error

    def write(self, path: Path) -> None:
        """As JSON, one image a line."""
        parts = (f'"{name}": {_one_a_line(part)}' for name, part in (("train", self.train), ("val", self.val)))
        write_text(path, sealed("{" + ",\n".join(parts)))

    def is_of(self, files: Images) -> bool:
        """Whether every image of the split is among ``files``."""
        return not self._missing(files)

    def parts(self, files: Images) -> tuple[Images, Images]:
        """``files`` that train and that validate, in their order; images that came later are in neither.

        Raises:
            UsageError: images of the split are gone, or others stand in their place.
        """
        if files is not self.seen and (missing := self._missing(files)):
            raise UsageError(
                f"{len(missing)} of the {len(self.train) + len(self.val)} images that the run has split are gone or "
                f"changed: {some(missing)}. Give their folder as --data_path, or start a new run"
            )
        return tuple([file for file in files if _name(file[0]) in part] for part in (self.train, self.val))

    def _missing(self, files: Images) -> list[str]:
        paths = {_name(path): path for path, _ in files}
        return [
            name for name, size in {**self.train, **self.val}.items() if name not in paths or _size(paths[name]) != size
        ]


def _name(path: Path) -> str:
    return "/".join(str(path).rsplit(os.sep, 2)[-2:])  # three times as fast as by the path's own parts


def _size(path: Path) -> int:
    return path.pack.size(path.position) if isinstance(path, PackedImage) else os.stat(path).st_size  # noqa: PTH116


def _one_a_line(sizes: dict[str, int]) -> str:
    """JSON by the encoder in C, which knows no line ends; a quotation mark in a name is escaped."""
    return json.dumps(sizes).replace(', "', ',\n"')


def fingerprint(*parts: Images) -> str:
    """SHA-256 of the images' classes, names and sizes, in their order and parts; wherever their folder lies."""
    digest = hashlib.sha256()
    for part in parts:
        digest.update(b"".join(b"%s %d\n" % (os.fsencode(_name(path)), _size(path)) for path, _ in part))
        digest.update(b"\n")
    return digest.hexdigest()


def divide(files: Images, share: float, seed: int) -> tuple[Images, Images]:
    """(the rest, ``share`` of the images of every class), each in the order of ``files``; drawn from ``seed``.

    Of a small class each part gets at least one image.

    Raises:
        UsageError: a class has a single image, or the share is all or nothing.
    """
    if not 0 < share < 1:
        raise UsageError(f"a share of {share:g} of the images leaves one side empty: give one between 0 and 1")
    rng = np.random.default_rng(seed)
    positions = collections.defaultdict(list)
    for position, (_, label) in enumerate(files):
        positions[label].append(position)
    drawn = set()
    for label in sorted(positions):
        if len(positions[label]) < 2:
            name = files[positions[label][0]][0].parent.name
            raise UsageError(f"class {name} has a single image, and a split needs two: add one, or remove the class")
        count = min(max(round(share * len(positions[label])), 1), len(positions[label]) - 1)
        drawn.update(rng.permutation(positions[label])[:count].tolist())
    parts: tuple[Images, Images] = ([], [])
    for position, file in enumerate(files):
        parts[position in drawn].append(file)
    return parts


def split_folder(source: Path, target: Path, share: float, seed: int) -> tuple[int, int]:
    """Makes ``target`` with train/ and val/ of links to the images of ``source``; returns how many each has.

    Raises:
        UsageError: ``target`` exists or cannot be written, or a class of ``source`` is too small.
    """
    parts = divide(list_images(source, build_class_index(source)), share, seed)
    if target.exists():
        raise UsageError(f"{target} exists already: give the name of a new folder")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        unfinished = Path(tempfile.mkdtemp(prefix=f".{target.name}-", dir=target.parent))
        unfinished.chmod(0o755)
        for name, files in zip(("train", "val"), parts, strict=True):
            for path, _ in files:
                link = unfinished / name / path.parent.name / path.name
                link.parent.mkdir(parents=True, exist_ok=True)
                link.symlink_to(path.resolve())
        unfinished.rename(target)
    except OSError as error:
        raise UsageError(f"cannot make {target}: {error.strerror}") from error
    return len(parts[0]), len(parts[1])


def main(argv: list[str]) -> None:
    """The command line; see the module's description."""
    parser = argparse.ArgumentParser(prog="python -m src.data.split", description="Split class folders in two.")
    parser.add_argument("folder", type=Path, metavar="FOLDER", help="class folders with images")
    parser.add_argument("new_folder", type=Path, metavar="NEW_FOLDER", help="gets train/ and val/")
    parser.add_argument("--val_share", type=float, default=0.2, help="share of each class's images in val/ (0.2)")
    parser.add_argument("--seed", type=int, default=1, help="of the draw (1)")
    given = parser.parse_args(argv)
    if not given.folder.is_dir():
        raise UsageError(f"{given.folder} is not a folder")
    trained, validated = split_folder(given.folder.absolute(), given.new_folder, given.val_share, given.seed)
    print(f"{given.new_folder}: {trained} images in train/, {validated} in val/")


if __name__ == "__main__":
    run(main, sys.argv[1:])
