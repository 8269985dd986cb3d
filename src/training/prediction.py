"""What a network says of images: the most probable classes of each, on the preprocessing of the evaluation."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from mindspore import nn

from src.data.check import examine
from src.data.dataset import EvalData, usable_workers
from src.data.images import is_image_name
from src.data.preprocessing import Preprocessing

_BATCHES_TOGETHER = 16  # that one pipeline feeds; the first answer waits for one batch only


@dataclasses.dataclass(frozen=True)
class Answer:
    """What is said of one image.

    Attributes:
        path: of the image.
        top: (label, probability) of the most probable classes, the first one first; empty for what is no image.
        refusal: why there is no answer, or ``""``.
    """

    path: Path
    top: tuple[tuple[int, float], ...] = ()
    refusal: str = ""


def answers(
    network: nn.Cell,
    paths: Sequence[Path],
    preprocessing: Preprocessing,
    *,
    batch_size: int,
    workers: int,
    max_pixels: int,
    count: int = 5,
) -> Iterator[Answer]:
    """One answer for each of ``paths``, in their order.

    Args:
        network: images to logits [N, K], in evaluation mode.
        batch_size: images at once.
        workers: threads that check and decode.
        max_pixels: a larger image is refused.
        count: classes named of an image, or all if there are fewer.
    """
    batch_size = min(batch_size, len(paths))
    threads = usable_workers(workers)
    start, size = 0, batch_size
    while start < len(paths):
        chunk = paths[start : start + size]
        with ThreadPoolExecutor(threads) as pool:
            refusals = list(pool.map(lambda path: _refusal(path, max_pixels), chunk))
        sound = [(path, 0) for path, refusal in zip(chunk, refusals, strict=True) if not refusal]
        told = iter(_probabilities(network, EvalData(sound, preprocessing, batch_size, workers)))
        for path, refusal in zip(chunk, refusals, strict=True):
            yield Answer(path, refusal=refusal) if refusal else Answer(path, _top(next(told), count))
        start, size = start + size, batch_size * _BATCHES_TOGETHER


def _refusal(path: Path, max_pixels: int) -> str | None:
    return examine(path, max_pixels)[0] if is_image_name(path.name) else "not an image by its name"


def _probabilities(network: nn.Cell, data: EvalData) -> Iterator[np.ndarray]:
    """Of each image, float64 [K]."""
    for images, _, valid in data:
        logits = network(images).asnumpy()[:valid].astype(np.float64)
        shares = np.exp(logits - logits.max(axis=1, keepdims=True))
        yield from shares / shares.sum(axis=1, keepdims=True)


def _top(probabilities: np.ndarray, count: int) -> tuple[tuple[int, float], ...]:
    order = np.argsort(-probabilities, kind="stable")[:count]
    return tuple((int(label), float(probabilities[label])) for label in order)
