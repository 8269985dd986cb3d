"""Weights, statistics and images by formula: alike wherever they are made, so nothing but results is kept.

Every value is a sine of its index: element n of tensor number i is

    sin(2 pi ((A (n + 1)^2 + B (i + 1) (n + 1)) mod P) / P)

in whole numbers up to the sine. A plain sin(n) would make every weight matrix one of rank 2, since sin(a + b) is a
sum of two products; the square makes it of full rank, and no two channels, taps or layers alike: whatever is
swapped, transposed or left out shows in the logits.

Convolutions and batch-norms are counted each on their own, in the order in which the image meets them; the shortcut
of a unit comes before its body. Needs NumPy and nothing else.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np

A, B, P = 618_033, 271_829, 1_000_003
IMAGES, HEIGHT, WIDTH, CLASSES = 2, 64, 45, 10  # sides that halve to even and to odd ones
NORM = ("gamma", "beta", "moving_mean", "moving_variance")
# Each kind of tensor takes its numbers from a thousand of its own.
_CONV, _NORM, _BIAS, _CLASSIFIER, _IMAGE, _VELOCITY = range(0, 6000, 1000)


def sines(number: int, shape: Iterable[int]) -> np.ndarray:
    """Tensor ``number`` of ``shape``, float64, within -1 and 1."""
    shape = tuple(shape)
    n = np.arange(1, np.prod(shape, dtype=int) + 1, dtype=np.int64)
    phase = (A * (n * n % P) + B * (number + 1) % P * n) % P
    return np.sin(2.0 * np.pi * phase / P).reshape(shape)


class Formula:
    """The values of one network's parameters.

    Args:
        gain: factor of all convolutions.
    """

    def __init__(self, gain: float = 1.0):
        self.gain = gain

    def conv(self, number: int, shape: Iterable[int]) -> np.ndarray:
        """Weights [outputs, inputs per group, k, k] of convolution ``number``, scaled by the number of summands."""
        _, *summed = shape
        return self.gain * np.sqrt(2.0 / np.prod(summed)) * sines(_CONV + number, shape)

    def bias(self, number: int, channels: int) -> np.ndarray:
        """Of the convolution ``number``."""
        return 0.3 * sines(_BIAS + number, (channels,))

    def norm(self, number: int, channels: int) -> dict[str, np.ndarray]:
        """Batch-norm ``number``. Some variances are small, so that eps shows."""
        gamma, beta, mean, variance = sines(_NORM + number, (4, channels))
        values = 1.0 + 0.3 * gamma, 0.2 * beta, 0.2 * mean, 0.05 + 0.5 * (1.0 + variance)
        return dict(zip(NORM, values, strict=True))

    def classifier(self, classes: int, inputs: int) -> tuple[np.ndarray, np.ndarray]:
        """Weight and bias."""
        return 2.0 / np.sqrt(inputs) * sines(_CLASSIFIER, (classes, inputs)), 0.1 * sines(_CLASSIFIER + 1, (classes,))

    def by_name(self, shapes: Mapping[str, tuple[int, ...]]) -> dict[str, np.ndarray]:
        """All parameters and statistics of a network of `src.models`, from its names and shapes in its order."""
        found: dict[str, np.ndarray] = {}
        numbers: dict[str, dict[str, int]] = {"conv": {}, "norm": {}}
        for name, shape in shapes.items():
            cell, _, part = name.rpartition(".")
            if cell == "classifier":
                found[name] = self.classifier(*shapes["classifier.weight"])[part == "bias"]
                continue
            kind = cell.rpartition(".")[2]
            number = numbers[kind].setdefault(cell, len(numbers[kind]))
            if kind == "norm":
                found[name] = self.norm(number, *shape)[part]
            else:
                found[name] = self.bias(number, *shape) if part == "bias" else self.conv(number, shape)
        return found


def images(count: int = IMAGES, height: int = HEIGHT, width: int = WIDTH) -> np.ndarray:
    """[count, 3, height, width], with a mean of their own in every channel."""
    return 1.5 * sines(_IMAGE, (count, 3, height, width)) + np.array([0.5, 0.0, -0.5])[:, None, None]


# The golden update: one step of MnasNet on one batch. The batch's number is one of a few at which no activation lies so
# near a ReLU's corner that float32 could take the other side: one that does moves gradients by a hundredth.
UPDATE = {"alpha": 0.5, "gain": 1.0, "smoothing": 0.1, "lr": 0.5, "momentum": 0.9, "weight_decay": 0.02}
BUCKETS = 64


def update_batch() -> tuple[np.ndarray, np.ndarray]:
    """Images [8, 3, 32, 32] and their labels."""
    batch = 1.5 * sines(_IMAGE + 8, (8, 3, 32, 32)) + np.array([0.5, 0.0, -0.5])[:, None, None]
    return batch, np.arange(8) * 7 % CLASSES


def velocity(number: int, shape: Iterable[int]) -> np.ndarray:
    """What the optimizer remembers of parameter ``number`` before the step."""
    return 0.1 * sines(_VELOCITY + number, shape)


def sketch(values: np.ndarray) -> np.ndarray:
    """``values`` in BUCKETS numbers: each element is added to a bucket with a sign, both by a hash of its index.

    A count sketch (Charikar, Chen, Farach-Colton, 2002): it is linear, and the expected square of its length is that of
    ``values``, with a relative deviation of sqrt(2 / BUCKETS). So the distance between two tensors is read off their
    sketches to a tenth or so, and the median over a hundred tensors to a hundredth, for 256 bytes a tensor.
    """
    n = np.arange(1, values.size + 1, dtype=np.int64)
    hashed = A * (n * n % P) % P
    signs = 1.0 - 2.0 * (hashed // BUCKETS % 2)
    return np.bincount(hashed % BUCKETS, signs * np.asarray(values, float).ravel(), BUCKETS)


def distances(found: np.ndarray, exact: np.ndarray) -> np.ndarray:
    """Relative distance of each row of sketches [tensors, BUCKETS]."""
    return np.linalg.norm(found - exact, axis=1) / np.linalg.norm(exact, axis=1)
