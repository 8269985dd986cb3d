"""Weights by rule, alike wherever they are made, and photos: what parity is shown on. NumPy and nothing else.

A tensor's values are sines of their index (tests/golden/formulas.py) whose number is the checksum of its name in its
own source, so that a file of any source is made of the names and shapes of its tensors.
"""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from tests.golden.formulas import sines

CLASSES = 10
# Factor of all convolutions, such that activations neither fade nor grow.
GAINS = {"mnasnet": 0.65, "spnasnet": 0.65, "proxylessnas_mobile": 0.75, "shufflenetv1": 0.52, "spos": 0.73}
PHOTOS = Path(__file__).with_name("photos.npz")


def gain_of(model: str) -> float:
    return GAINS["spos" if model.startswith("spos") else model]


def tensor(name: str, shape: tuple[int, ...], gain: float) -> np.ndarray:
    """The values of a tensor, float32."""
    values = sines(zlib.crc32(name.encode()) % 1_000_003, shape)
    if "running_var" in name or "moving_variance" in name:
        values = 0.05 + 0.5 * (1.0 + values)  # some are small, so that epsilon shows
    elif len(shape) < 2:
        values = 1.0 + 0.3 * values if name.endswith((".gamma", ".weight")) else 0.2 * values
    else:
        values = gain * np.sqrt(2.0 / np.prod(shape[1:])) * values
    return values.astype(np.float32)


def tensors(shapes: Mapping[str, tuple[int, ...]], model: str) -> dict[str, np.ndarray]:
    """All tensors of a file; the counters of PyTorch are zero."""
    gain = gain_of(model)
    return {
        name: np.zeros((), np.int64) if name.endswith("num_batches_tracked") else tensor(name, tuple(shape), gain)
        for name, shape in shapes.items()
    }


def digest(shapes: Mapping[str, tuple[int, ...]]) -> str:
    """Of the names and shapes of all tensors, whatever their order."""
    lines = sorted(f"{name} {list(shape)}" for name, shape in shapes.items())
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()[:16]


def photos() -> np.ndarray:
    """Two photos of scikit-learn's (china.jpg by Leon Wong, flower.jpg by dany13, both CC BY), every fifth pixel of
    each row and column: uint8 [2, 64, 64, 3]."""
    return np.load(PHOTOS)["photos"]


def normalised(mean: tuple[float, ...], std: tuple[float, ...], is_bgr: bool = False) -> np.ndarray:
    """The photos as a network takes them, float32 [2, 3, 64, 64]; ``mean`` and ``std`` on the scale from 0 to 1."""
    pixels = photos()[..., ::-1] if is_bgr else photos()
    values = (pixels / 255.0 - np.array(mean)) / np.array(std)
    return values.transpose(0, 3, 1, 2).astype(np.float32)
