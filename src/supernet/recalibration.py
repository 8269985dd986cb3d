"""Batch-norm statistics of one path, and its accuracy with them.

The statistics a supernet gathers in training are a mixture over paths and mean nothing for one of
them; without this step a path's accuracy is close to chance. They are computed anew for each path
from the same images, used, and taken back: evaluating paths A, B, A gives A the same score to the bit.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator

import numpy as np
from mindspore import Parameter, Tensor, nn, ops

from src.data.dataset import EvalData
from src.errors import UsageError
from src.supernet.network import Slots, Supernet
from src.training.metrics import HitCounter

# Decoded images are kept in memory up to this size; larger sets are decoded for every path.
MAX_CACHED_BYTES = 1 << 30
Batch = tuple[Tensor, Tensor, int]  # images, labels, how many of them count


def keep_in_memory(data: EvalData, image_size: int) -> Iterable[Batch]:
    """The batches of ``data`` as a list if they fit MAX_CACHED_BYTES, else ``data``, which decodes anew."""
    if data.total * 3 * image_size**2 * 4 > MAX_CACHED_BYTES:
        return data
    return [(Tensor(images.asnumpy().copy()), Tensor(labels.asnumpy().copy()), count) for images, labels, count in data]


class Forward(nn.Cell):
    """A network behind a compiled graph of its own, one for each way of computing batch-norm."""

    def __init__(self, network: nn.Cell):
        super().__init__(auto_prefix=False)
        self.network = network

    def construct(self, images: Tensor) -> Tensor:
        return self.network(images)


class Recalibration:
    """Computes a path's batch-norm statistics.

    Args:
        network: the supernet.
        batches: (images, labels, images that count) of fixed images; a batch that is filled up is left out.
    """

    def __init__(self, network: Supernet, batches: Iterable[Batch]):
        self.network, self._batches = network, batches
        self._norms = [cell for _, cell in network.cells_and_names() if isinstance(cell, nn.BatchNorm2d)]
        if not self._norms:
            raise UsageError("a network without batch-norm needs no recalibration")
        statistics = [value for norm in self._norms for value in (norm.moving_mean, norm.moving_variance)]
        self._statistics = statistics
        self._slots = Slots(network.space)
        self._slot_of = self._slots.of([value.name for value in statistics])
        # A built nn.BatchNorm2d holds the share of the NEW statistic as its momentum.
        self._shares = [float(norm.momentum) for norm in self._norms for _ in range(2)]
        self._forward = Forward(network)

    def _on_path(self, genes: np.ndarray) -> list[tuple[Parameter, float]]:
        used = self._slots.on(genes)[self._slot_of]
        return [
            (value, share)
            for value, share, is_used in zip(self._statistics, self._shares, used, strict=True)
            if is_used
        ]

    @contextlib.contextmanager
    def of_path(self, genes: np.ndarray) -> Iterator[int]:
        """Within the block the network has path ``genes`` [2L] and its statistics; gives the number of
        images they come from. Afterwards statistics, path and training flags are what they were.

        Each statistic is the mean over the batches of the batch's own.
        """
        network = self.network
        path = network.path.asnumpy().copy()
        training = [(cell, cell.training) for _, cell in network.cells_and_names()]
        values = self._on_path(genes)
        before = [value.asnumpy().copy() for value, _ in values]
        try:
            network.set_path(genes)
            images = self._gather(values)
            network.set_train(False)
            yield images
        finally:
            for (value, _), old in zip(values, before, strict=True):
                ops.assign(value, Tensor(old))
            network.set_path(path)
            for cell, flag in training:
                cell.training = flag

    def _gather(self, values: list[tuple[Parameter, float]]) -> int:
        # Batch-norm alone is in training: dropout would draw, and remember that it drew.
        self._forward.set_train(False)
        for norm in self._norms:
            norm.set_train(True)
        sums = [np.zeros(value.shape, np.float64) for value, _ in values]
        batches = images = 0
        for batch, _, count in self._batches:
            if count < batch.shape[0] and batches:
                continue
            for value, _ in values:
                # In place: a branch of a compiled graph goes on reading the memory it was compiled with,
                # which set_data would leave behind.
                ops.assign(value, Tensor(np.zeros(value.shape, np.float32)))
            self._forward(batch).asnumpy()
            for total, (value, share) in zip(sums, values, strict=True):
                # From zero the framework's update leads to that share of the batch's statistic.
                total += value.asnumpy().astype(np.float64) / share
            batches, images = batches + 1, images + count
        for (value, _), total in zip(values, sums, strict=True):
            ops.assign(value, Tensor((total / batches).astype(np.float32)))
        return images


class PathAccuracy:
    """How many fixed images the paths of a supernet classify right.

    Args:
        network: the supernet with trained weights.
        calibration, held_out: batches for the statistics, and for the accuracy.

    Attributes:
        recalibration: computes a path's statistics.
        held_out: as given.
        total: images of ``held_out``.
        calibration_images: images that the last path's statistics come from.
    """

    def __init__(
        self,
        network: Supernet,
        calibration: Iterable[Batch],
        held_out: Iterable[Batch],
    ):
        self.recalibration = Recalibration(network, calibration)
        self.held_out = held_out
        self._forward = Forward(network)
        self.calibration_images = 0
        self.total = sum(count for _, _, count in held_out)

    def hits(self, genes: np.ndarray) -> int:
        """How many of the ``total`` held-out images path ``genes`` [2L] classifies right."""
        counter = HitCounter(self.recalibration.network.space.num_classes)
        with self.recalibration.of_path(genes) as self.calibration_images:
            self._forward.set_train(False)
            for images, labels, count in self.held_out:
                counter.add(self._forward(images).asnumpy()[:count], labels.asnumpy()[:count])
        return counter.top1
