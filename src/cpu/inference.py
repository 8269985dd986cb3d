"""A network's evaluation as one operator: no launch per layer, no activation that leaves the caches.

The cells of a network are traced once into a program for `csrc/network.cc`: maps of activations, and steps that make
one from another. Shuffles and splits are views of a map that its reader follows; sums, concatenations and activations
behind a convolution become part of it. The parameters themselves are the operator's inputs and are folded and packed in
every call, so there is nothing that could grow stale.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from functools import partial
from typing import NoReturn

import mindspore as ms
import numpy as np
from mindspore import Parameter, Tensor, nn

from src.cpu.cells import code_of, conv_kind
from src.cpu.operators import CODES, HSIGMOID, Operators
from src.models import layers
from src.models.tracing import answered

OPERATIONS = ("stem", "pointwise", "depthwise", "copy", "max_pool", "avg_pool", "global_pool", "gate")


class NoProgram(Exception):
    """The network holds something that a program cannot express; the message names it."""


@dataclasses.dataclass(frozen=True)
class View:
    """``channels`` channels of a map from ``begin`` on, counted after a shuffle of all its channels if ``rows``."""

    map: int
    channels: int
    begin: int = 0
    rows: int = 0

    def reshape(self, *shape: int) -> View:
        return self  # a pooled vector, which has one pixel


@dataclasses.dataclass
class Map:
    channels: int
    pad: int = 0
    is_batched: bool = False


@dataclasses.dataclass
class Step:
    """One row of the program; the fields that csrc/program.h reads, in its order."""

    operation: str
    source: View
    target: int
    target_begin: int
    out: int
    other: int = -1
    kernel: int = 1
    stride: int = 1
    groups: int = 1
    code: int = CODES[None]
    epsilon: float = 0.0
    parameter: int = 0
    has_norm: bool = False
    same: bool = False

    def row(self) -> list[float]:
        view = self.source
        read = [view.map, view.rows, view.begin, view.channels]
        fields = [getattr(self, field.name) for field in dataclasses.fields(self)[2:]]
        return [float(value) for value in (OPERATIONS.index(self.operation), *read, *fields)]


class Program:
    """Steps, maps and parameters of a network's evaluation.

    Raises:
        NoProgram: it cannot be expressed.
    """

    def __init__(self, network: layers.Network):
        self.maps, self.steps = [Map(3)], []
        self.parameters: list[Parameter] = []
        with answered(self.rules()):
            pooled = self.pool(network.features(View(0, 3)), is_batched=True)
            self.classes = network.classifier(network.dropout(network.hidden(pooled))).channels

    def step_rows(self) -> np.ndarray:
        """float32 [steps, fields], as network_infer takes them."""
        return np.array([step.row() for step in self.steps], np.float32)

    def map_rows(self) -> np.ndarray:
        """float32 [maps, 3]: channels, padding of a line on either side, one pixel for each image (1) or not (0)."""
        return np.array([[each.channels, each.pad, each.is_batched] for each in self.maps], np.float32)

    def rules(self) -> dict[type[nn.Cell], Callable]:
        """What each kind of cell makes of views; any other runs on them as it is."""
        return {kind: partial(traced, self) for kind, traced in TRACES.items()} | dict.fromkeys(KNOWN, refused)

    def add(self, operation: str, source: View, out: int, is_batched: bool = False, **settings: float) -> View:
        self.maps.append(Map(out, 0, is_batched or self.maps[source.map].is_batched))
        self.steps.append(Step(operation, source, len(self.maps) - 1, 0, out, **settings))
        return View(len(self.maps) - 1, out)

    def taken(self, *parameters: Parameter) -> int:
        self.parameters += parameters
        return len(self.parameters) - len(parameters)

    def is_whole(self, view: View) -> bool:
        return view.begin == 0 and view.channels == self.maps[view.map].channels

    def in_order(self, view: View) -> View:
        """``view`` as a map of its own, unless it is one."""
        if self.is_whole(view) and not view.rows:
            return view
        return self.add("copy", view, view.channels)

    def last_writer(self, view: View) -> Step | None:
        """The step behind ``view``, if it alone made it and nothing has read it."""
        read = {step.source.map for step in self.steps} | {step.other for step in self.steps}
        writers = [step for step in self.steps if step.target == view.map]
        if view.rows or view.map in read or len(writers) != 1 or not self.is_whole(view):
            return None
        return writers[0]

    def conv(self, cell: layers.ConvNormAct, x: View) -> View:
        conv, norm = cell.conv, cell.norm
        if isinstance(norm, nn.Identity):
            # Only behind pooling: the standard cell on [N, C, 1, 1].
            kind = "pointwise"
            settings = {"parameter": self.taken(conv.weight, conv.bias)}
        else:
            kind = conv_kind(cell)
            taken = self.taken(conv.weight, norm.gamma, norm.beta, norm.moving_mean, norm.moving_variance)
            settings = {"parameter": taken, "epsilon": norm.eps, "has_norm": True}
        settings |= {"kernel": conv.kernel_size[0], "stride": conv.stride[0], "code": final_code(cell.act)}
        if kind == "depthwise":
            if not self.is_whole(x):
                x = self.in_order(x)
            self.maps[x.map].pad = max(self.maps[x.map].pad, conv.kernel_size[0] // 2)
            y = self.add(kind, x, conv.out_channels, **settings)
            return dataclasses.replace(y, rows=x.rows)
        return self.add(kind, x, conv.out_channels, groups=conv.group, **settings)

    def dense(self, cell: nn.Dense, x: View) -> View:
        bias = self.taken(cell.weight, cell.bias)
        return self.add("pointwise", x, cell.out_channels, parameter=bias)

    def bottleneck(self, cell: layers.InvertedBottleneck, x: View) -> View:
        y = cell.project(cell.depthwise(cell.expand(x)))
        return self.sum(x, y, CODES[None]) if cell.residual else y

    def sum(self, first: View, second: View, code: int) -> View:
        step = self.last_writer(second)
        first = self.in_order(first)
        if step is None or step.operation != "pointwise" or step.code != CODES[None] or step.other >= 0:
            raise NoProgram("a sum behind something other than a linear 1x1 convolution")
        step.other, step.code = first.map, code
        return second

    def concat(self, first: View, second: View, code: int) -> View:
        if code == CODES["hswish"]:
            raise NoProgram("a concatenation with an activation that is no bound")
        self.maps.append(Map(first.channels + second.channels))
        target = len(self.maps) - 1
        begin = 0
        for view in (first, second):
            step = self.last_writer(view)
            if step is None or (step.code != code and CODES[None] not in (step.code, code)):
                step = Step("copy", view, target, begin, view.channels)
                self.steps.append(step)
            if code != CODES[None]:
                step.code = code
            step.target, step.target_begin = target, begin
            begin += view.channels
        return View(target, begin)

    def pool(self, x: View, is_batched: bool = False) -> View:
        return self.add("global_pool", self.in_order(x), x.channels, is_batched)

    def squeeze_excite(self, cell: layers.SqueezeExcite, x: View) -> View:
        if self.maps[x.map].is_batched:
            raise NoProgram("squeeze-excite behind the global pool")
        x = self.in_order(x)
        gate = cell.expand(cell.reduce(self.pool(x)))
        return self.add("gate", x, x.channels, other=gate.map)

    def window(self, cell: layers.MaxPool | layers.AvgPool, x: View) -> View:
        kind = "max_pool" if isinstance(cell, layers.MaxPool) else "avg_pool"
        same = cell.pool.pad_mode.lower() == "same"
        return self.add(kind, self.in_order(x), x.channels, stride=2, same=same)


def final_code(act: nn.Cell) -> int:
    return HSIGMOID if isinstance(act, layers.HardSigmoid) else code_of(act)


def shuffled(program: Program, cell: layers.ChannelShuffle, x: View) -> View:
    return dataclasses.replace(program.in_order(x), rows=cell.rows)


def refused(cell: nn.Cell, *views: View) -> NoReturn:
    raise NoProgram(type(cell).__name__)


def halves(program: Program, cell: layers.Split, x: View) -> tuple[View, View]:
    half = x.channels // 2
    first = dataclasses.replace(x, channels=half)
    return first, dataclasses.replace(first, begin=x.begin + half)


TRACES = {
    layers.ConvNormAct: Program.conv,
    layers.InvertedBottleneck: Program.bottleneck,
    layers.Add: lambda program, cell, a, b: program.sum(a, b, code_of(cell.act)),
    layers.Concat: lambda program, cell, a, b: program.concat(a, b, code_of(cell.act)),
    layers.ChannelShuffle: shuffled,
    layers.Split: halves,
    layers.ShuffledHalves: lambda program, cell, x: halves(program, cell.split, shuffled(program, cell.shuffle, x)),
    layers.SqueezeExcite: Program.squeeze_excite,
    layers.MaxPool: Program.window,
    layers.AvgPool: Program.window,
    layers.Dropout: lambda program, cell, x: x,
    nn.Dense: Program.dense,
}
KNOWN = (layers.GlobalAvgPool, nn.Conv2d, nn.BatchNorm2d)


class Inference(nn.Cell):
    """What ``network`` computes in evaluation, whatever mode it is in; without gradients."""

    def __init__(self, network: layers.Network, operators: Operators):
        super().__init__(auto_prefix=False)
        program = Program(network)
        classes = program.classes
        self.parameters = ms.ParameterTuple(program.parameters)
        self.steps, self.maps = Tensor(program.step_rows()), Tensor(program.map_rows())
        self.operator = operators.custom("network_infer", lambda x, *rest: (x[0], classes), 1)

    def construct(self, images: Tensor) -> Tensor:
        return self.operator(images, self.steps, self.maps, *self.parameters)
