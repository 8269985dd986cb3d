"""``python -m src.data.sample DIR``: a small real data set, so that everything can be tried without a download.

The 1,797 handwritten digits that come with scikit-learn (8 x 8 pixels, 16 grays; E. Alpaydin and C. Kaynak, UCI
Optical Recognition of Handwritten Digits) become ``train/<digit>/`` (1,437) and ``val/<digit>/`` (360), every digit
in the same proportion. They are enlarged to 32 x 32 with a smooth (bicubic) kernel: the smallest input the networks
take, without the blocks that nearest-neighbour enlarging would draw.
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path

import numpy as np
from PIL import Image

from src.errors import UsageError, run
from src.files import replacing

IMAGE_SIZE = 32
VAL_IMAGES = 360
SPLIT_SEED = 1
_WHITE = 16  # brightest gray of the scans


def sample_images() -> dict[str, np.ndarray]:
    """Path inside the sample (``val/7/0042.png``) to a uint8 [32, 32] image, for all 1,797 digits."""
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
    }


def write_sample(folder: str | os.PathLike) -> None:
    """Writes the sample, or completes it; a folder that holds it already is left as it is.

    Raises:
        UsageError: the folder holds something else.
    """
    folder, images = Path(folder), sample_images()
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
    folder = parser.parse_args(argv).folder
    write_sample(folder)
    print(f"{folder}: 1437 training and 360 validation images of the digits 0-9, {IMAGE_SIZE} x {IMAGE_SIZE} pixels")


if __name__ == "__main__":
    run(main)
