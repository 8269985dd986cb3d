"""The data pipelines: random, repeatable batches for training; every image exactly once for evaluation.

MindSpore's C++ operators decode and transform. The order, the shards and the reading are ours, so that an explicit
list of files (without the ones a check refused) is served in an order known beforehand. Bytes travel through the
pipeline; a batch is normalised as a whole when it leaves it.
"""

from __future__ import annotations

import functools
import logging
import math
import os
from collections.abc import Iterator

import mindspore
import mindspore.dataset as ds
import numpy as np

from src.data.folders import Images
from src.data.preprocessing import Preprocessing
from src.data.reading import Reader
from src.data.transforms import cuts_the_normalized, eval_transforms, normalization, normalize, train_transforms
from src.errors import UsageError
from src.settings.sections import Augmentation

_log = logging.getLogger(__name__)
_BATCHES_AHEAD = 4  # MindSpore's own 16 would hold 1.2 GB of 128 images of 224 pixels

Batch = tuple[mindspore.Tensor, mindspore.Tensor]


@functools.cache
def usable_workers(requested: int) -> int:
    """Data threads a process may use: at least 1, at most the CPUs it may run on; a lower number is logged.

    MindSpore refuses more than the machine has.
    """
    present = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    if requested > present:
        _log.warning("workers: %d instead of %d, the CPUs present", present, requested)
    return max(1, min(requested, present))


def shard_range(total: int, rank: int, world: int) -> range:
    """Positions of ``total`` things that fall to one of ``world`` ranks: contiguous, disjoint, sizes differing by at
    most one, none left out."""
    return range(total * rank // world, total * (rank + 1) // world)


class TrainData:
    """Shuffled, augmented training batches, a pure function of (seed, epoch, rank, world, workers).

    All ranks share one order per epoch. Step ``s`` takes the next ``world * batch_size`` images of it and each rank
    the next ``batch_size`` of those, so a step sees the same images however many devices share it. With
    ``drop_remainder`` the tail that does not fill a step is left out; without it, the last step is smaller (and of
    equal size on all ranks: at most ``world - 1`` images are left out).

    Attributes:
        is_replacing: an image that can no longer be read has its place taken by another, not the run ended.
        workers: data threads in use. MindSpore's random operators give other pixels with another number, so a run
            that is to be resumed bit for bit records it.
        steps_per_epoch: batches of one epoch.
    """

    def __init__(
        self,
        files: Images,
        config: Augmentation,
        preprocessing: Preprocessing,
        batch_size: int,
        seed: int,
        workers: int,
        rank: int = 0,
        world: int = 1,
        is_replacing: bool = False,
    ):
        self.is_replacing = is_replacing
        self.files, self.config, self.preprocessing = files, config, preprocessing
        self.batch_size, self.seed = batch_size, seed
        self.workers = usable_workers(workers)
        self.rank, self.world = rank, world
        multiple = batch_size * world if config.drop_remainder else world
        self.images_per_epoch = len(files) // multiple * multiple
        self.steps_per_epoch = math.ceil(self.images_per_epoch / (batch_size * world))
        if self.steps_per_epoch == 0:
            raise UsageError(
                f"{len(files)} training images do not fill one step of {batch_size} on {world} device(s): "
                f"lower batch_size"
            )

    def order(self, epoch: int) -> np.ndarray:
        """Indices into ``files`` that this rank serves in an epoch, in order."""
        rng = np.random.default_rng([self.seed, epoch])
        common = rng.permutation(len(self.files))[: self.images_per_epoch]
        steps = np.split(common, range(self.batch_size * self.world, len(common), self.batch_size * self.world))
        return np.concatenate([step.reshape(self.world, -1)[self.rank] for step in steps])

    def pipeline(self, epoch: int, skip_steps: int = 0, is_normalized: bool = True) -> ds.Dataset:
        """The pipeline of one epoch; see :meth:`_pipeline`."""
        return self._pipeline(epoch, skip_steps, is_normalized)[0]

    def _pipeline(self, epoch: int, skip_steps: int, is_normalized: bool) -> tuple[ds.Dataset, Reader]:
        """The MindSpore data set of one epoch (columns ``image`` and ``label``), its random operators seeded.

        The seed takes effect when the iterator is made: make it before the next call. It is MindSpore's global data
        seed, which also reseeds ``random`` and ``numpy.random``.

        Args:
            is_normalized: without it the images are bytes, unless the cutout comes after the normalisation.
        """
        ds.config.set_seed(int(np.random.SeedSequence([self.seed, epoch, self.rank]).generate_state(1)[0]))
        operators = train_transforms(self.config, self.preprocessing)
        if is_normalized and not cuts_the_normalized(self.config):
            operators.append(normalization(self.preprocessing))
        reader = Reader([self.files[index] for index in self.order(epoch)], self.workers, self.is_replacing)
        pipeline = _pipeline(reader, operators, self.batch_size, self.workers)
        return (pipeline.skip(skip_steps) if skip_steps else pipeline), reader

    def epoch(self, epoch: int, skip_steps: int = 0) -> Iterator[Batch]:
        """Batches of one epoch: images float32 [batch, 3, size, size] and labels int32 [batch].

        Args:
            epoch: counted from 0; each has its own order and augmentation.
            skip_steps: leave out so many batches at the start. The rest is bit for bit that of the whole epoch: the
                skipped images are still decoded, which moves the random operators to where they were.
        """
        if skip_steps < self.steps_per_epoch:
            pipeline, reader = self._pipeline(epoch, skip_steps, is_normalized=False)
            yield from _batches(pipeline, reader, self.batch_size, self.preprocessing)


class EvalData:
    """This rank's share of the images in batches of one size; over all ranks each image occurs exactly once.

    Attributes:
        total: images of this rank.
        total_all_ranks: images of the whole set.
        steps: batches of this rank.
    """

    def __init__(
        self,
        files: Images,
        preprocessing: Preprocessing,
        batch_size: int,
        workers: int,
        rank: int = 0,
        world: int = 1,
    ):
        share = shard_range(len(files), rank, world)
        self.files = files[share.start : share.stop]
        self.preprocessing, self.batch_size = preprocessing, batch_size
        self.workers = usable_workers(workers)
        self.total, self.total_all_ranks = len(share), len(files)
        self.steps = math.ceil(self.total / batch_size)

    def __iter__(self) -> Iterator[tuple[mindspore.Tensor, mindspore.Tensor, int]]:
        """Images float32 [batch, 3, size, size], labels int32 [batch], and how many of the batch count.

        The last batch is filled up by repeating its last image, so that a network is compiled for one shape only;
        what lies behind the third value must be left out of every figure.
        """
        if not self.total:
            return
        reader = Reader(self.files + self.files[-1:] * (self.steps * self.batch_size - self.total), self.workers)
        pipeline = _pipeline(reader, eval_transforms(self.preprocessing), self.batch_size, self.workers)
        batches = _batches(pipeline, reader, self.batch_size, self.preprocessing)
        for step, (images, labels) in enumerate(batches):
            yield images, labels, min(self.batch_size, self.total - step * self.batch_size)

    def pipeline(self) -> ds.Dataset:
        """The MindSpore data set of this rank's images (columns ``image`` and ``label``), each once: the last batch may
        be smaller."""
        transforms = [*eval_transforms(self.preprocessing), normalization(self.preprocessing)]
        return _pipeline(Reader(self.files, self.workers), transforms, self.batch_size, self.workers)


def _pipeline(reader: Reader, transforms: list, batch_size: int, workers: int) -> ds.Dataset:
    ds.config.set_prefetch_size(_BATCHES_AHEAD)
    rows = ds.GeneratorDataset(reader.rows, ["image", "label"], num_parallel_workers=1)
    rows = rows.map(transforms, "image", num_parallel_workers=workers)
    return rows.batch(batch_size, num_parallel_workers=1)


def _batches(pipeline: ds.Dataset, reader: Reader, batch_size: int, preprocessing: Preprocessing) -> Iterator[Batch]:
    """Raises ImageLost in place of the first batch that lacks an image."""
    iterator = pipeline.create_tuple_iterator(num_epochs=1, output_numpy=True)
    try:
        for images, labels in iterator:
            if len(images) < batch_size:
                reader.require_all()
            if images.dtype == np.uint8:
                images = mindspore.Tensor.from_numpy(normalize(images, preprocessing))
            yield mindspore.Tensor(images), mindspore.Tensor(labels)
        reader.require_all()
    finally:
        iterator.stop()  # ends the threads of an epoch that is left early
