"""A program for launched ranks: 20 steps with synchronised batch norm, 1 … 33 images evaluated, an overflow.

    two_ranks.py IMAGES RESULTS

IMAGES is a class folder tree of at least 33 images; each rank writes RESULTS/<rank>.npz and <rank>.json.
"""

import json
import sys
from pathlib import Path

import mindspore as ms
import numpy as np
from mindspore import Tensor

from src.data.dataset import EvalData
from src.data.folders import build_class_index, list_images
from src.data.preprocessing import Preprocessing
from src.machine.ranks import (
    all_equal,
    all_reduce_counts,
    all_reduce_sum,
    barrier,
    broadcast_parameters,
    current_world,
    initialise,
    leave,
)
from src.settings.sections import Optimizer, Update
from src.training.evaluation import Evaluator
from src.training.loss import LabelSmoothedCrossEntropy
from src.training.optimizer import create_optimizer
from src.training.step import TrainStep
from src.training.sync_batch_norm import synchronise_batch_norm
from tests.tiny import tiny

STEPS, JOINT_BATCH, CLASSES = 20, 8, 3


def train(world, loss):
    network = tiny(CLASSES, dropout=0.0)
    synchronise_batch_norm(network, world.size)
    # Ranks that drew other weights must still start as rank 0 does.
    if world.rank:
        for parameter in network.trainable_params():
            parameter.set_data(parameter + world.rank)
    broadcast_parameters(network.get_parameters())
    rates = np.full(STEPS, 0.05, np.float32)
    optimizer = create_optimizer(network.trainable_params(), Optimizer(weight_decay=1e-4), rates)
    step = TrainStep(network, loss, optimizer, Update())
    step.set_train(True)
    own = JOINT_BATCH // world.size
    random = np.random.default_rng(0)
    for _ in range(STEPS):
        images = random.normal(size=(JOINT_BATCH, 3, 32, 32)).astype(np.float32)
        labels = random.integers(0, CLASSES, JOINT_BATCH).astype(np.int32)
        mine = slice(world.rank * own, (world.rank + 1) * own)
        step(Tensor(images[mine]), Tensor(labels[mine]))
    return network


def overflow(world, loss) -> list[bool]:
    """A step in which the last rank alone meets an infinity: whether it was done, whether any weight moved, whether
    this rank's own batch-norm statistics are still finite."""
    network = tiny(CLASSES, dropout=0.0)
    broadcast_parameters(network.get_parameters())
    optimizer = create_optimizer(network.trainable_params(), Optimizer(weight_decay=0), np.full(1, 0.1, np.float32))
    step = TrainStep(network, loss, optimizer, Update())
    step.set_train(True)
    before = [weight.asnumpy().copy() for weight in optimizer.parameters]
    images = np.random.default_rng(1).normal(size=(JOINT_BATCH, 3, 32, 32)).astype(np.float32)
    if world.rank == world.size - 1:
        images[0, 0, 5, 5] = np.inf
    _, done, _ = step(Tensor(images), Tensor(np.arange(JOINT_BATCH, dtype=np.int32) % CLASSES))
    has_moved = any(
        (parameter.asnumpy() != old).any() for parameter, old in zip(optimizer.parameters, before, strict=True)
    )
    own = network.features[0].norm.moving_variance.asnumpy()
    return [bool(done), has_moved, bool(np.isfinite(own).all())]


def evaluate(world, loss, folder: Path) -> list:
    """Results of one network with the same weights in every job, those of training differ in their last bits."""
    ms.set_seed(2)
    network = tiny(CLASSES)
    broadcast_parameters(network.get_parameters())
    files = list_images(folder, build_class_index(folder))
    evaluator = Evaluator(network, loss)
    results = []
    for count in range(1, 34):
        data = EvalData(files[:count], Preprocessing().at_size(32), 4, 1, world.rank, world.size)
        result = evaluator.run(data, with_confusion=True)
        results.append([result.loss, result.top1, result.top5, result.images, result.confusion.tolist()])
    return results


def main(images: str, results: str) -> None:
    world = current_world()
    ms.set_device("CPU")
    ms.set_context(mode=ms.GRAPH_MODE)
    ms.set_seed(1)
    initialise(world, device_target="CPU")
    loss = LabelSmoothedCrossEntropy(CLASSES, 0.1, "uniform")
    network = train(world, loss)
    folder = Path(results)
    np.savez(folder / f"{world.rank}.npz", **{each.name: each.asnumpy() for each in network.get_parameters()})
    figures = {
        "evaluation": evaluate(world, loss, Path(images)),
        "overflow": overflow(world, loss),
        "sum": all_reduce_sum([world.rank + 1, 0.1]),
        "equal": [all_equal(b"same"), all_equal(bytes([world.rank, 7]))],
        "counts": all_reduce_counts(np.array([[world.rank + 1, 2**40 + 1]])).tolist(),
    }
    barrier()
    (folder / f"{world.rank}.json").write_text(json.dumps(figures))


if __name__ == "__main__":
    main(*sys.argv[1:3])
    leave()
