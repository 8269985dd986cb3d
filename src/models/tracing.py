"""Parameters and multiply-accumulates of a network, layer by layer, found by tracing shapes.

One image of zeros goes through the network with convolutions and dense layers answered by stand-ins
that only give the shape of their result, so any input size costs a fraction of a second. The same pass
(:func:`answered`) serves the MicroNet account and the CPU operators' program of a network.

Two conventions for operations:
  macs: multiply-accumulates of convolutions and dense layers; no bias, batch-norm, activation, pooling.
  macs_with_pooling_and_bias: those, plus one for every output that gets a bias and one for every
      element that enters a global pool (the SPOS repository's "FLOPs", arXiv 1904.00420's search).
"""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable, Iterator, Mapping
from math import prod
from typing import Any

import mindspore as ms
import numpy as np
from mindspore import Tensor, nn

from src.models.layers import ACTIVATIONS, GlobalAvgPool


@dataclasses.dataclass
class Layer:
    """One row of the table.

    Attributes:
        op: conv, depthwise, dense, max_pool, avg_pool, global_pool or norm.
        name: of the cell; a batch-norm right behind a convolution counts as part of it.
        kernel, stride, output_size: height and width.
        params: trainable ones.
        macs, macs_with_pooling_and_bias: for one image; see the module.
    """

    op: str
    name: str
    kernel: tuple[int, int]
    stride: tuple[int, int]
    groups: int
    in_channels: int
    out_channels: int
    output_size: tuple[int, int]
    params: int
    macs: int
    macs_with_pooling_and_bias: int


@dataclasses.dataclass
class Cost:
    """Totals of a network for one image, and the layers they come from."""

    params: int
    macs: int
    macs_with_pooling_and_bias: int
    layers: list[Layer]

    def to_dict(self) -> dict:
        return dataclasses.asdict(self)


def count(net: nn.Cell, image_size: int = 224, in_channels: int = 3) -> Cost:
    """Cost of ``net`` for one image [in_channels, image_size, image_size].

    The network is left as it was: weights, statistics, training flags, execution mode.
    """
    layers: list[Layer] = []
    names = {id(cell): name for name, cell in net.cells_and_names()}
    seen: set[int] = set()

    def recorded(trace: Callable) -> Callable:
        def rule(cell: nn.Cell, x: Tensor) -> Tensor:
            params = 0 if id(cell) in seen else _trainable(cell)
            seen.add(id(cell))
            return trace(layers, names[id(cell)].removesuffix(".conv"), params, cell, x)

        return rule

    with eager_evaluation(net), answered({kind: recorded(trace) for kind, trace in TRACES.items()}):
        net(_zeros(1, in_channels, image_size, image_size))
    return Cost(
        params=_trainable(net),
        macs=sum(layer.macs for layer in layers),
        macs_with_pooling_and_bias=sum(layer.macs_with_pooling_and_bias for layer in layers),
        layers=layers,
    )


@contextlib.contextmanager
def answered(rules: Mapping[type[nn.Cell], Callable[..., Any]]) -> Iterator[None]:
    """Within the block a call of a cell gives what the rule of its kind, the first that fits, makes of the cell and
    its inputs; a cell without a rule runs its own construct on them, whatever they are."""
    call = nn.Cell.__call__

    def answer(cell: nn.Cell, *inputs: Any) -> Any:
        for kind, rule in rules.items():
            if isinstance(cell, kind):
                return rule(cell, *inputs)
        return cell.construct(*inputs)

    nn.Cell.__call__ = answer
    try:
        yield
    finally:
        nn.Cell.__call__ = call


@contextlib.contextmanager
def eager_evaluation(net: nn.Cell) -> Iterator[None]:
    """Within the block ``net`` runs operator by operator and evaluates; then mode and training flags are as before."""
    mode = ms.get_context("mode")
    training = [(cell, cell.training) for _, cell in net.cells_and_names()]
    ms.set_context(mode=ms.PYNATIVE_MODE)
    net.set_train(False)
    try:
        yield
    finally:
        for cell, flag in training:
            cell.training = flag
        ms.set_context(mode=mode)


def _zeros(*shape: int) -> Tensor:
    return Tensor.from_numpy(np.zeros(shape, np.float32))


def _trainable(cell: nn.Cell) -> int:
    return sum(parameter.size for parameter in cell.trainable_params())


def _conv(layers: list[Layer], name: str, params: int, cell: nn.Conv2d, x: Tensor) -> Tensor:
    size = tuple(
        _size_after(length, cell.kernel_size[axis], cell.stride[axis], cell.dilation[axis], cell.pad_mode, pads)
        for axis, (length, pads) in enumerate(zip(x.shape[2:], _pads(cell), strict=True))
    )
    outputs = cell.out_channels * prod(size)
    macs = outputs * prod(cell.kernel_size) * cell.in_channels // cell.group
    depthwise = cell.group == cell.in_channels > 1
    layers.append(
        Layer(
            op="depthwise" if depthwise else "conv",
            name=name,
            kernel=tuple(cell.kernel_size),
            stride=tuple(cell.stride),
            groups=cell.group,
            in_channels=cell.in_channels,
            out_channels=cell.out_channels,
            output_size=size,
            params=params,
            macs=macs,
            macs_with_pooling_and_bias=macs + outputs * cell.has_bias,
        )
    )
    return _zeros(x.shape[0], cell.out_channels, *size)


def _pads(cell: nn.Conv2d) -> tuple[int, int]:
    """Rows and columns of padding in all, top and bottom or left and right together."""
    padding = cell.padding if isinstance(cell.padding, tuple) else (cell.padding,) * 4
    return padding[0] + padding[1], padding[2] + padding[3]


def _size_after(length: int, kernel: int, stride: int, dilation: int, pad_mode: str, pads: int) -> int:
    if pad_mode == "same":
        return -(-length // stride)
    return (length + pads * (pad_mode == "pad") - dilation * (kernel - 1) - 1) // stride + 1


def _dense(layers: list[Layer], name: str, params: int, cell: nn.Dense, x: Tensor) -> Tensor:
    vectors = prod(x.shape[1:-1])
    macs = vectors * cell.in_channels * cell.out_channels
    biases = vectors * cell.out_channels * cell.has_bias
    layers.append(
        Layer(
            op="dense",
            name=name,
            kernel=(1, 1),
            stride=(1, 1),
            groups=1,
            in_channels=cell.in_channels,
            out_channels=cell.out_channels,
            output_size=(1, vectors),
            params=params,
            macs=macs,
            macs_with_pooling_and_bias=macs + biases,
        )
    )
    return _zeros(*x.shape[:-1], cell.out_channels)


def _norm(layers: list[Layer], name: str, params: int, cell: nn.BatchNorm2d, x: Tensor) -> Tensor:
    if layers and layers[-1].op in ("conv", "depthwise") and layers[-1].out_channels == cell.num_features:
        layers[-1].params += params
    else:
        channels, size = cell.num_features, tuple(x.shape[2:])
        layers.append(Layer("norm", name, (1, 1), (1, 1), channels, channels, channels, size, params, 0, 0))
    return x


def _window_pool(op: str) -> Callable:
    def trace(layers: list[Layer], name: str, params: int, cell: nn.Cell, x: Tensor) -> Tensor:
        y = cell.construct(x)
        kernel, stride = (_pair(value) for value in (cell.kernel_size, cell.stride))
        channels = x.shape[1]
        layers.append(
            Layer(op, name.removesuffix(".pool"), kernel, stride, 1, channels, channels, tuple(y.shape[2:]), 0, 0, 0)
        )
        return y

    return trace


def _global_pool(layers: list[Layer], name: str, params: int, cell: nn.Cell, x: Tensor) -> Tensor:
    channels, size = x.shape[1], tuple(x.shape[2:])
    layers.append(Layer("global_pool", name, size, (1, 1), 1, channels, channels, (1, 1), 0, 0, channels * prod(size)))
    return cell.construct(x)


def _shape_kept(layers: list[Layer], name: str, params: int, cell: nn.Cell, x: Tensor) -> Tensor:
    return x


def _pair(value: int | tuple) -> tuple[int, int]:
    return tuple(value[-2:]) if isinstance(value, tuple) else (value, value)


TRACES: dict[type[nn.Cell], Callable] = {
    nn.Conv2d: _conv,
    nn.Dense: _dense,
    nn.BatchNorm2d: _norm,
    nn.MaxPool2d: _window_pool("max_pool"),
    nn.AvgPool2d: _window_pool("avg_pool"),
    GlobalAvgPool: _global_pool,
    **dict.fromkeys(ACTIVATIONS.values(), _shape_kept),
}
