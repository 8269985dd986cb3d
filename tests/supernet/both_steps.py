"""Both training steps around one small network, and what NumPy makes of the same batches in float64.

The network is linear in each of its parameters: of the supernet's kind it has a classifier and two positions with
four blocks each, whose outputs are added up; of the other kind the classifier alone. Run as a program, this file
is one rank of two: ``python -m tests.supernet.both_steps RESULTS``.
"""

from __future__ import annotations

import json
import math
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import mindspore as ms
import numpy as np
from mindspore import Parameter, ParameterTuple, Tensor, nn, ops

from src.cpu.build import library
from src.cpu.operators import Operators
from src.machine.ranks import all_reduce_sum, broadcast_parameters
from src.settings.sections import Optimizer, Update
from src.supernet.path_sgd import PathSGD
from src.supernet.path_step import SupernetStep
from src.training.loss import LabelSmoothedCrossEntropy
from src.training.one_pass import AllFinite, update_in_one_pass
from src.training.optimizer import create_optimizer
from src.training.step import TrainStep

KINDS = ("train", "supernet")
CLASSES, FEATURES, BATCH, POSITIONS = 8, 5, 6, 2
SMOOTHING, MOMENTUM, DECAY = 0.15, 0.8, 0.03
# No two alike, neither rising nor falling.
RATES = np.array([0.5, 0.07, 0.31, 0.9, 0.13, 0.23, 0.41], np.float32)
# How many blocks there are at each position, and those of both for each batch; a block comes back after it was left,
# one at each position never comes.
COUNTS = (4, 5)
PATHS = [(0, 2), (1, 2), (0, 3), (2, 2), (0, 0), (1, 3), (2, 1), (0, 2), (0, 0), (1, 2), (2, 0), (0, 3)]


class Choices(nn.Cell):
    """Images [N, FEATURES] to logits [N, CLASSES]: the classifier's, and those of the block of each position."""

    class Space(NamedTuple):
        length: int

        @property
        def stage_repeats(self) -> tuple[int, ...]:
            return (1,) * self.length

        def op_counts(self) -> list[int]:
            return list(COUNTS[: self.length])

    def __init__(self, positions: int):
        super().__init__(auto_prefix=False)
        self.space = self.Space(positions)
        self.path = Parameter(Tensor(np.zeros(positions or 1, np.int32)), name="path", requires_grad=False)
        random = np.random.default_rng(3)

        def drawn(name: str, *shape: int) -> Parameter:
            return Parameter(Tensor(random.normal(0, 0.7, shape).astype(np.float32)), name=name)

        self.weight = drawn("classifier.weight", CLASSES, FEATURES)
        self.bias = drawn("classifier.bias", CLASSES)
        self.places = tuple((position, block) for position in range(positions) for block in range(COUNTS[position]))
        self.blocks = ParameterTuple(
            [
                drawn(f"features.stage{position + 1}.0.choices.{block}.weight", CLASSES, FEATURES)
                for position, block in self.places
            ]
        )

    def construct(self, images: Tensor) -> Tensor:
        logits = ops.matmul(images, self.weight.T) + self.bias
        for (position, block), weight in zip(self.places, self.blocks):  # noqa: B905 - compiled code knows no strict
            is_chosen = (self.path[position] == block).astype(ms.float32)
            logits = logits + is_chosen * ops.matmul(images, weight.T)
        return logits

    def set_path(self, genes: Sequence[int]) -> None:
        ops.assign(self.path, Tensor(np.array(genes[: self.space.length], np.int32)))


class Script:
    """A sampler that draws the paths it is given."""

    def __init__(self, paths: Sequence[Sequence[int]]):
        self.paths, self.at, self.epochs = paths, 0, []

    def begin_epoch(self, epoch: int, steps: int) -> None:
        self.epochs.append((epoch, steps))

    def draw(self) -> np.ndarray:
        self.at += 1
        return np.array([*self.paths[(self.at - 1) % len(self.paths)], 0, 0])

    def get_state(self) -> dict:
        return {"at": self.at}

    def set_state(self, state: dict) -> None:
        self.at = state["at"]


class Register(nn.Cell):
    """Stands for the check of a saturating card: beside the gradients it reads a register of this rank alone."""

    def __init__(self):
        super().__init__(auto_prefix=False)
        self.is_clear = Parameter(Tensor(1.0, ms.float32), name="register", requires_grad=False)

    def set(self, is_clear: bool) -> None:
        ops.assign(self.is_clear, Tensor(float(is_clear), ms.float32))

    def construct(self, gradients):
        return ops.logical_and(self.is_clear > 0, ms.amp.all_finite(gradients))


class Batch(NamedTuple):
    images: np.ndarray
    labels: np.ndarray
    path: tuple[int, ...]

    def times(self, factor: float) -> Batch:
        return self._replace(images=(self.images * factor).astype(np.float32))


def batches(count: int, size: int = BATCH) -> list[Batch]:
    random = np.random.default_rng(5)
    return [
        Batch(
            random.normal(0, 1.2, (size, FEATURES)).astype(np.float32),
            random.integers(0, CLASSES, size).astype(np.int32),
            PATHS[number % len(PATHS)],
        )
        for number in range(count)
    ]


def make_step(
    kind: str,
    rule: str = "momentum",
    operators: str = "standard",
    *,
    paths: Sequence[Sequence[int]] = PATHS,
    momentum: float = MOMENTUM,
    decay: float = DECAY,
    rates: np.ndarray = RATES,
    **options,
) -> nn.Cell:
    """A step of ``kind`` with fresh weights. ``options`` are the step's own, keys of the schema among them."""
    update = Update(**{key: options.pop(key) for key in Update.model_fields if key in options})
    fused = Operators(library()) if operators == "fused" else None
    loss = LabelSmoothedCrossEntropy(CLASSES, SMOOTHING, "uniform")
    if kind == "train":
        network = Choices(0)
        keys = Optimizer(optimizer=rule, momentum=momentum, weight_decay=decay)
        optimizer = create_optimizer(network.trainable_params(), keys, rates)
        if fused:
            update_in_one_pass(optimizer, fused)
            options.setdefault("all_finite", AllFinite(fused))
        return TrainStep(network, loss, optimizer, update, **options).set_train()
    network = Choices(POSITIONS)
    optimizer = PathSGD(list(network.trainable_params()), momentum, rule == "nesterov", decay, "weights", fused)
    if fused:
        options.setdefault("all_finite", AllFinite(fused))
    return SupernetStep(network, network, loss, optimizer, Script(paths), 4, rates, update, **options).set_train()


def feed(step: nn.Cell, batch: Batch) -> tuple[float, bool, int]:
    """One step; its loss, whether its gradients were finite, its correct predictions."""
    loss, finite, correct = step(Tensor(batch.images), Tensor(batch.labels))
    return float(loss.asnumpy()), bool(finite.asnumpy()), int(correct.asnumpy())


def learned(step: nn.Cell) -> dict[str, np.ndarray]:
    """The trained parameters by name, and under ``velocity.`` their velocities."""
    trained = {parameter.name: parameter.asnumpy().copy() for parameter in step.network.trainable_params()}
    prefixes = ("moments.", "accum.", "velocity.")
    for parameter in step.get_parameters():
        if parameter.name.startswith(prefixes):
            trained["velocity." + parameter.name.partition(".")[2]] = parameter.asnumpy().copy()
    return trained


def remembered(step: nn.Cell) -> dict[str, np.ndarray]:
    """Everything the step and its network hold, but what counts batches and not updates."""
    beside = ("sampler_state", "path", "register", "overflow_count")
    return {value.name: value.asnumpy().copy() for value in step.get_parameters() if value.name not in beside}


def number(step: nn.Cell, name: str) -> int:
    (found,) = [value for value in step.get_parameters() if value.name == name]
    return int(found.asnumpy().reshape(-1)[0])


class Reference:
    """Stochastic gradient descent with momentum in float64, one update for each list of batches."""

    def __init__(self, step: nn.Cell, rule: str, momentum=MOMENTUM, decay=DECAY, rates=RATES, grad_clip=0.0):
        self.values = {
            name: value.astype(np.float64) for name, value in learned(step).items() if "velocity" not in name
        }
        self.velocity = {name: np.zeros_like(value) for name, value in self.values.items()}
        self.is_path = len(self.values) > 2
        self.is_nesterov, self.momentum, self.decay, self.grad_clip = rule == "nesterov", momentum, decay, grad_clip
        self.rates, self.updates, self.norms = rates.astype(np.float64), 0, []

    def names(self, batch: Batch) -> list[str]:
        """The parameters that ``batch`` goes through."""
        blocks = enumerate(batch.path, start=1) if self.is_path else ()
        return ["classifier.weight", "classifier.bias"] + [f"features.stage{p}.0.choices.{b}.weight" for p, b in blocks]

    def evaluate(self, batch: Batch) -> tuple[float, int, dict[str, np.ndarray]]:
        """Loss, correct predictions, and the gradients of what the batch goes through."""
        names = self.names(batch)
        images = batch.images.astype(np.float64)
        logits = images @ sum(self.values[name] for name in names if name.endswith("weight")).T
        logits = logits + self.values["classifier.bias"]
        probability = np.exp(logits - logits.max(1, keepdims=True))
        probability /= probability.sum(1, keepdims=True)
        target = np.eye(CLASSES)[batch.labels] * (1 - SMOOTHING) + SMOOTHING / CLASSES
        error = (probability - target) / len(images)
        gradients = {name: error.sum(0) if name.endswith("bias") else error.T @ images for name in names}
        loss = -(target * np.log(probability)).sum(1).mean()
        return loss, int((logits.argmax(1) == batch.labels).sum()), gradients

    def update(self, window: Sequence[Batch]) -> set[str]:
        """One update by the mean over the batches; returns what it went through."""
        if not self.is_path:  # what accumulation stands for: one large batch
            joint = Batch(*(np.concatenate([batch[part] for batch in window]) for part in (0, 1)), ())
            gradients = self.evaluate(joint)[2]
        else:
            gradients = {}
            for batch in window:
                for name, gradient in self.evaluate(batch)[2].items():
                    gradients[name] = gradients.get(name, 0) + gradient / len(window)
        norm = np.sqrt(sum((gradient**2).sum() for gradient in gradients.values()))
        self.norms.append(norm)
        shorten = min(1.0, self.grad_clip / norm) if self.grad_clip else 1.0
        rate = self.rates[self.updates]
        self.updates += 1
        for name, gradient in gradients.items():
            decayed = shorten * gradient + (0 if name.endswith("bias") else self.decay) * self.values[name]
            self.velocity[name] = self.momentum * self.velocity[name] + decayed
            direction = decayed + self.momentum * self.velocity[name] if self.is_nesterov else self.velocity[name]
            self.values[name] = self.values[name] - rate * direction
        return set(gradients)

    def learned(self) -> dict[str, np.ndarray]:
        return self.values | {f"velocity.{name}": value for name, value in self.velocity.items()}


# Two ranks: three windows of two batches and a fourth. In the second one rank's card alone reports an overflow, in
# the third one rank alone meets an infinity.
TOGETHER = {"rule": "nesterov", "accumulate": 2, "loss_scale_mode": "fixed", "loss_scale": 1024.0, "grad_clip": 0.5}


def main(results: str) -> None:
    from mindspore.communication import get_rank, init

    ms.set_device("CPU")
    ms.set_context(mode=ms.GRAPH_MODE)
    init()
    rank = get_rank()
    half = slice(rank * BATCH, (rank + 1) * BATCH)
    found = {}
    for kind in KINDS:
        register = Register()
        step = make_step(kind, all_finite=register, **TOGETHER)
        finite = []
        for at, batch in enumerate(batches(8, 2 * BATCH)):
            register.set(not (at == 2 and rank == 1))
            own = Batch(batch.images[half], batch.labels[half], batch.path)
            finite.append(feed(step, own.times(np.inf) if (at, rank) == (5, 0) else own)[1])
        np.savez(Path(results) / f"{kind}{rank}.npz", **remembered(step))
        found[kind] = [finite, number(step, "overflow_count"), number(step, "global_step")]
    found["sum"] = all_reduce_sum([rank + 2**60, 0.1, 1e300 if rank else -1e300, math.inf if rank else 1.0])
    told = [Parameter(Tensor(np.full(shape, rank + 0.1, np.float32)), name=f"told{shape}") for shape in ((2, 3), (1,))]
    broadcast_parameters(told)
    found["told"] = [value.asnumpy().tolist() for value in told]
    (Path(results) / f"{rank}.json").write_text(json.dumps(found))


if __name__ == "__main__":
    main(sys.argv[1])
    sys.stdout.flush()
    os._exit(0)  # the framework's own clean-up of a communicator can crash
