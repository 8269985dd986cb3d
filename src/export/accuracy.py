"""Accuracy of an exported file over a data set, every image once."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from src.data.preprocessing import Preprocessing
from src.errors import UsageError
from src.export.formats import Run
from src.export.parity import batches
from src.training.metrics import HitCounter


@dataclasses.dataclass(frozen=True)
class Accuracy:
    """Counts of images: all, and with their class first or among the first five."""

    images: int
    top1: int
    top5: int


def count_hits(logits: np.ndarray, labels: Sequence[int]) -> Accuracy:
    """Of logits [N, K].

    Raises:
        UsageError: a label that is no class of the file.
    """
    classes = logits.shape[1]
    if max(labels) >= classes:
        raise UsageError(f"the images have a class {max(labels)}, the file only {classes} classes")
    counter = HitCounter(classes)
    counter.add(logits, np.array(labels))
    return Accuracy(counter.images, counter.top1, counter.top5)


def accuracy(
    run: Run, files: list[tuple[Path, int]], preprocessing: Preprocessing, batch: int, is_normalising: bool
) -> Accuracy:
    """Runs the file on all images.

    Args:
        files: images and their classes.
        batch: images at once; the last batch is filled up and what fills it is not counted.
        is_normalising: the file takes uint8 [N, H, W, 3].
    """
    inputs = batches([path for path, _ in files], preprocessing, batch, is_normalising)
    return count_hits(np.concatenate([run(values)[:valid] for values, valid in inputs]), [label for _, label in files])
