"""How many images are classified right: one count for training, search, exported files and files of results."""

from __future__ import annotations

import numpy as np


def cross_entropies(logits: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """The plain cross entropy of each image, float64 [N], of logits [N, K] and classes [N]."""
    shifted = logits.astype(np.float64) - logits.max(axis=1, keepdims=True)
    return np.log(np.exp(shifted).sum(axis=1)) - shifted[np.arange(len(labels)), labels]


class HitCounter:
    """Counts, batch by batch, which class the logits put first and whether the true one is among the first five.

    Of equal logits that of the lower class comes first; one that is no number comes last.

    Attributes:
        confusion: int64 [K, K] images, rows the true class, columns the one put first.
        top5: images whose class is among the first five.
    """

    def __init__(self, num_classes: int):
        self.confusion = np.zeros((num_classes, num_classes), np.int64)
        self.top5 = 0

    def add(self, logits: np.ndarray, labels: np.ndarray) -> None:
        """Counts images by their logits [N, K] and classes, whole numbers [N] from 0 to K - 1."""
        ranking = np.argsort(-logits, axis=1, kind="stable")
        np.add.at(self.confusion, (labels, ranking[:, 0]), 1)
        self.top5 += int((ranking[:, :5] == labels[:, None]).sum())

    @property
    def images(self) -> int:
        """Images counted."""
        return int(self.confusion.sum())

    @property
    def top1(self) -> int:
        """Images whose class is put first."""
        return int(np.trace(self.confusion))

    @property
    def per_class(self) -> np.ndarray:
        """Images of each class, and how many of them are put first: int64 [K, 2]."""
        return np.stack([self.confusion.sum(axis=1), np.diagonal(self.confusion)], axis=1)
