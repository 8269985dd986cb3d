"""Evaluation: every image counted exactly once, on any number of devices and at any batch size."""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Callable, Iterator

import mindspore as ms
import numpy as np
from mindspore import Tensor, nn

from src.cpu import inference
from src.data.dataset import EvalData
from src.errors import RunFailed
from src.machine.ranks import all_reduce_counts, all_reduce_sum
from src.training.loss import LabelSmoothedCrossEntropy
from src.training.metrics import HitCounter, cross_entropies


@dataclasses.dataclass(frozen=True)
class Evaluation:
    """The result over a data set; accuracies are fractions.

    Attributes:
        loss: mean over the images, with the training loss's label smoothing.
        top1, top5: share of images whose class is the first, or among the first five.
        images: images evaluated. total: images there are.
        images_per_second: over all ranks, decoding included, the first batch (compilation) not; 0 for a single batch.
        confusion: int64 [K, K], rows the true class, columns the predicted one; None if not asked for.
        cross_entropy: the mean loss without label smoothing, as other programs give it; nan of a supernet's paths.
    """

    loss: float
    top1: float
    top5: float
    images: int
    total: int
    images_per_second: float
    confusion: np.ndarray | None
    cross_entropy: float = math.nan

    def __str__(self) -> str:
        return (
            f"loss {self.loss:.4f}, top-1 {self.top1:.2%}, top-5 {self.top5:.2%}, {self.images} of {self.total} images"
        )


class _Scores(nn.Cell):
    """Logits and the loss of each image, in evaluation mode."""

    def __init__(self, network: nn.Cell, loss: LabelSmoothedCrossEntropy):
        super().__init__(auto_prefix=False)
        self.network = network
        self.loss = loss

    def construct(self, images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        logits = self.network(images).astype(ms.float32)
        return logits, self.loss.per_sample(logits, labels)


class Evaluator:
    """Evaluates one network again and again; its graph is compiled once.

    Args:
        network: images to logits [N, K].
        loss: the run's loss.
    """

    def __init__(self, network: nn.Cell, loss: LabelSmoothedCrossEntropy):
        self._scores = _Scores(inference(network), loss)
        self._num_classes = loss.num_classes

    def run(
        self, data: EvalData, with_confusion: bool = False, before_batch: Callable[[], None] = lambda: None
    ) -> Evaluation:
        """Evaluates all of ``data``, this rank its share, and sums up over the ranks.

        Args:
            before_batch: called before each batch; an exception of its ends the evaluation.

        Raises:
            RunFailed: the ranks together did not see each image once.
        """
        self._scores.set_train(False)
        counter = HitCounter(self._num_classes)
        loss_sum, entropy_sum, timed_images = 0.0, 0.0, 0
        start = time.perf_counter()
        for number, (logits, losses, labels) in enumerate(self._batches(data, before_batch)):
            counter.add(logits, labels)
            loss_sum += float(losses.sum(dtype=np.float64))
            entropy_sum += float(cross_entropies(logits, labels).sum())
            if number == 0:
                start = time.perf_counter()
            else:
                timed_images += len(labels)
        seconds = time.perf_counter() - start
        speed = timed_images / seconds if timed_images else 0.0
        counts = [counter.images, counter.top1, counter.top5]
        sums = all_reduce_sum([*counts, loss_sum, entropy_sum, speed])
        images, top1_hits, top5_hits, loss_sum, entropy_sum, speed = sums
        if images != data.total_all_ranks:
            raise RunFailed(f"evaluated {images} of {data.total_all_ranks} images: the ranks' shares do not add up")
        return Evaluation(
            loss=loss_sum / images,
            cross_entropy=entropy_sum / images,
            top1=top1_hits / images,
            top5=top5_hits / images,
            images=images,
            total=data.total_all_ranks,
            images_per_second=speed,
            confusion=all_reduce_counts(counter.confusion) if with_confusion else None,
        )

    def _batches(
        self, data: EvalData, before_batch: Callable[[], None]
    ) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
        """Logits, losses and labels of the real images of each batch (the last one is filled up)."""
        for images, labels, valid in data:
            before_batch()
            logits, losses = self._scores(images, labels)
            yield logits.asnumpy()[:valid], losses.asnumpy()[:valid], labels.asnumpy()[:valid]
