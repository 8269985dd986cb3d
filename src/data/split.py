"""Splits class folders into a training and a validation part:

    python -m src.data.split FOLDER NEW_FOLDER [--val_share 0.2] [--seed 1]

FOLDER/<class>/<image> stays as it is; NEW_FOLDER gets train/ and val/ with links to its images.
"""

from __future__ import annotations

import argparse
import collections
import sys
import tempfile
from pathlib import Path

import numpy as np

from src.data.folders import Images, build_class_index, list_images
from src.errors import UsageError, run


def divide(files: Images, share: float, seed: int) -> tuple[Images, Images]:
    """(the rest, ``share`` of the images of every class), each in the order of ``files``; drawn from ``seed``.

    Raises:
        UsageError: a class has too few images to give any, or to keep any.
    """
    rng = np.random.default_rng(seed)
    positions = collections.defaultdict(list)
    for position, (_, label) in enumerate(files):
        positions[label].append(position)
    drawn = set()
    for label in sorted(positions):
        count = round(share * len(positions[label]))
        if not 0 < count < len(positions[label]):
            name = files[positions[label][0]][0].parent.name
            raise UsageError(
                f"a share of {share:g} of the {len(positions[label])} images of class {name} leaves one side empty"
            )
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
