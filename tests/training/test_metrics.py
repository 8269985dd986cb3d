"""Hits are counted like a reader would count them: the place of the true class among the logits."""

import numpy as np
import pytest

from src.training.metrics import HitCounter, cross_entropies

CLASSES = 9
RANDOM = np.random.default_rng(4)
# Rounded, so that equal logits occur; one of an image of each tenth is no number.
LOGITS = RANDOM.normal(size=(60, CLASSES)).round(0).astype(np.float32)
LOGITS[::10, 3] = np.nan
LABELS = RANDOM.integers(0, CLASSES, 60)


def place(row: np.ndarray, label: int) -> int:
    """How many classes come before ``label``: larger logits, and equal ones of lower classes."""
    if np.isnan(row[label]):
        return int((~np.isnan(row)).sum() + np.isnan(row[:label]).sum())
    return sum(value > row[label] or (value == row[label] and other < label) for other, value in enumerate(row))


@pytest.mark.parametrize("batch", [1, 7, 60])
def test_every_image_is_counted_by_the_place_of_its_class(batch):
    counter = HitCounter(CLASSES)
    for start in range(0, 60, batch):
        counter.add(LOGITS[start : start + batch], LABELS[start : start + batch])
    places = np.array([place(row, label) for row, label in zip(LOGITS, LABELS, strict=True)])
    assert (counter.images, counter.top1, counter.top5) == (60, (places == 0).sum(), (places < 5).sum())
    assert 0 < counter.top1 < counter.top5 < 60
    first = [next(k for k in range(CLASSES) if place(row, k) == 0) for row in LOGITS]
    expected = np.zeros((CLASSES, CLASSES), int)
    for label, predicted in zip(LABELS, first, strict=True):
        expected[label, predicted] += 1
    np.testing.assert_array_equal(counter.confusion, expected)
    assert counter.confusion.dtype == np.int64
    images = np.bincount(LABELS, minlength=CLASSES)
    np.testing.assert_array_equal(counter.per_class, np.stack([images, np.diagonal(expected)], 1))


def test_cross_entropy_is_that_of_the_softmax():
    logits = np.array([[1.0, 2.0, -3.0], [800.0, 0.0, 0.0]], np.float32)
    softmax = np.exp([1, 2, -3]) / np.exp([1, 2, -3]).sum()
    np.testing.assert_allclose(cross_entropies(logits, np.array([2, 1])), [-np.log(softmax[2]), 800.0], rtol=1e-12)
