"""``python -m src.data.sample DIR``: a small real data set, so that everything can be tried without a download.

The 1,797 handwritten digits that come with scikit-learn (8 x 8 pixels, 16 grays; E. Alpaydin and C. Kaynak, UCI
Optical Recognition of Handwritten Digits) become ``train/<digit>/`` (1,437) and ``val/<digit>/`` (360), every digit
in the same proportion. They are enlarged to 32 x 32 with a smooth (bicubic) kernel: the smallest input the networks
take, without the blocks that nearest-neighbour enlarging would draw. ``--classes 0-4`` writes some of the digits.
"""

from __future__ import annotations

import argparse
import os
import re
from collections.abc import Collection
from pathlib import Path

import numpy as np
from PIL import Image

from src.errors import UsageError, run
from src.files import replacing

IMAGE_SIZE = 32
VAL_IMAGES = 360
SPLIT_SEED = 1
DIGITS = range(10)
_WHITE = 16  # brightest gray of the scans


def sample_images(classes: Collection[int] = DIGITS) -> dict[str, np.ndarray]:
    """Path inside the sample (``val/7/0042.png``) to a uint8 [32, 32] image, of all 1,797 digits or of some classes.

    An image stands in the same split whatever other digits are asked for.
    """
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    digits = load_digits()
    numbers = np.arange(len(digits.target))
    _, val = train_test_split(numbers, test_size=VAL_IMAGES, stratify=digits.target, random_state=SPLIT_SEED)
    split = np.full(len(numbers), "train", dtype=object)
    split[val] = "val"
    return {
        f"{split[number]}/{digits.target[number]}/{number:04d}.png": _enlarge(digits.images[number])
        for number in numbers
        if digits.target[number] in classes
    }


def write_sample(folder: str | os.PathLike, classes: Collection[int] = DIGITS) -> tuple[int, int]:
    """Writes the sample, or completes it; a folder that holds it already is left as it is.

    Returns:
        How many images it has for training and for validation.

    Raises:
        UsageError: the folder holds something else.
    """
    folder, images = Path(folder), sample_images(classes)
    present = set()
    if folder.exists():
        present = {path.relative_to(folder).as_posix() for path in folder.rglob("[!.]*") if not path.is_dir()}
        for name in sorted(present):
            if name not in images or not _holds(folder / name, images[name]):
                raise UsageError(f"{folder} holds {name}, which is not of the sample: give a new or empty folder")
    for name in sorted(set(images) - present):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path, is_flushed=False) as unfinished:
            Image.fromarray(images[name]).save(unfinished, "PNG")
    validation = sum(name.startswith("val/") for name in images)
    return len(images) - validation, validation


def _digits(text: str) -> list[int]:
    """``0-4`` or ``1,3,5-9`` as digits."""
    ranges = [re.fullmatch(r"([0-9])(?:-([0-9]))?", part) for part in text.split(",")]
    found = {digit for ends in ranges if ends for digit in range(int(ends[1]), int(ends[2] or ends[1]) + 1)}
    if not all(ranges) or len(found) < 2:
        raise argparse.ArgumentTypeError(f"{text!r} names no two digits or more: write 0-4 or 1,3,5-9")
    return sorted(found)


def _enlarge(scan: np.ndarray) -> np.ndarray:
    gray = Image.fromarray(np.round(scan * (255 / _WHITE)).astype(np.uint8))
    return np.asarray(gray.resize((IMAGE_SIZE, IMAGE_SIZE), Image.Resampling.BICUBIC))


def _holds(path: Path, expected: np.ndarray) -> bool:
    try:
        with Image.open(path) as image:
            return np.array_equal(np.asarray(image), expected)
    except (OSError, SyntaxError):
        return False


def main(argv: list[str]) -> None:
    """The command line; see the module's description."""
    parser = argparse.ArgumentParser(prog="python -m src.data.sample", description="Write the sample data set.")
    parser.add_argument("folder", metavar="DIR", help="where train/ and val/ are written")
    parser.add_argument("--classes", type=_digits, default=list(DIGITS), metavar="0-4", help="digits it has (0-9)")
    given = parser.parse_args(argv)
    trained, validated = write_sample(given.folder, given.classes)
    digits = " ".join(map(str, given.classes)) if len(given.classes) < len(DIGITS) else "0-9"
    print(
        f"{given.folder}: {trained} training and {validated} validation images of the digits {digits}, "
        f"{IMAGE_SIZE} x {IMAGE_SIZE} pixels"
    )


if __name__ == "__main__":
    run(main)
