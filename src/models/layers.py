"""The cells every network here is composed of: the one place in `src/models` that touches tensors.

Images and activations are [N, C, H, W]. Convolutions pad k // 2 zeros on every side, so only the
stride changes a size: H_out = ceil(H_in / stride). Whatever a cell computes, MindSpore can export to
ONNX; that is why hard-swish, pooling and shuffle are spelled out here.
"""

from __future__ import annotations

import dataclasses
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping
from typing import NamedTuple

import mindspore as ms
from mindspore import Parameter, Tensor, nn, ops
from mindspore.common.initializer import Initializer, initializer


@dataclasses.dataclass(frozen=True)
class BatchNorm:
    """How a network normalises.

    Attributes:
        eps: added to the variance.
        momentum: share of the OLD moving statistic that is kept (as in MindSpore, MXNet and
            TensorFlow; PyTorch's momentum is one minus this).
        beta, variance: first values of the shift and of the moving variance (scale 1, mean 0).
        affine: False leaves scale and shift at their first values.
    """

    eps: float = 1e-5
    momentum: float = 0.9
    beta: float = 0.0
    variance: float = 1.0
    affine: bool = True

    def build(self, channels: int) -> nn.BatchNorm2d:
        return nn.BatchNorm2d(
            channels,
            eps=self.eps,
            momentum=self.momentum,
            affine=self.affine,
            beta_init=self.beta,
            moving_var_init=self.variance,
        )


class HardSigmoid(nn.Cell):
    """relu6(x + 3) / 6."""

    def construct(self, x: Tensor) -> Tensor:
        return ops.relu6(x + 3.0) * (1.0 / 6.0)


class HardSwish(nn.Cell):
    """x relu6(x + 3) / 6 (arXiv 1905.02244)."""

    def construct(self, x: Tensor) -> Tensor:
        return x * (ops.relu6(x + 3.0) * (1.0 / 6.0))


ACTIVATIONS: dict[str | None, type[nn.Cell]] = {
    None: nn.Identity,
    "relu": nn.ReLU,
    "relu6": nn.ReLU6,
    "hswish": HardSwish,
    "hsigmoid": HardSigmoid,
}


class ConvNormAct(nn.Cell):
    """Convolution, batch normalisation, activation; a bias exactly where there is no normalisation.

    Args:
        norm: None for none.
        act: a key of ACTIVATIONS.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel: int = 1,
        stride: int = 1,
        groups: int = 1,
        norm: BatchNorm | None = None,
        act: str | None = None,
    ):
        super().__init__()
        self.conv = nn.Conv2d(
            in_channels,
            out_channels,
            kernel,
            stride,
            pad_mode="pad",
            padding=kernel // 2,
            group=groups,
            has_bias=norm is None,
        )
        self.norm = norm.build(out_channels) if norm else nn.Identity()
        self.act = ACTIVATIONS[act]()

    def construct(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """``mask``, 0/1 [1, C, 1, 1]: which channels of the convolution are kept, before the normalisation."""
        y = self.conv(x)
        if mask is not None:
            y = y * mask
        return self.act(self.norm(y))


class InvertedBottleneck(nn.Cell):
    """1x1 expansion, depthwise k x k, linear 1x1 projection (arXiv 1801.04381).

    Expansion 1 has no first convolution: a depthwise-separable unit. The input is added wherever
    it fits: stride 1 and as many channels out as in.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel: int,
        stride: int,
        expand: int,
        norm: BatchNorm,
        act: str,
    ):
        super().__init__()
        mid = in_channels * expand
        self.residual = stride == 1 and in_channels == out_channels
        self.expand = ConvNormAct(in_channels, mid, norm=norm, act=act) if expand > 1 else nn.Identity()
        self.depthwise = ConvNormAct(mid, mid, kernel, stride, groups=mid, norm=norm, act=act)
        self.project = ConvNormAct(mid, out_channels, norm=norm)

    def construct(self, x: Tensor) -> Tensor:
        y = self.project(self.depthwise(self.expand(x)))
        return x + y if self.residual else y


class Bottlenecks(NamedTuple):
    """One row of a network's table: ``repeats`` inverted bottlenecks, the first with ``stride``."""

    stage: int
    kernel: int
    expand: int
    channels: int
    stride: int
    repeats: int


def bottleneck_stages(
    rows: Iterable[Bottlenecks], in_channels: int, norm: BatchNorm, act: str
) -> dict[str, nn.SequentialCell]:
    """The stages of a table, named ``stage<number>``; each is the sequence of its units."""
    units: dict[str, list[nn.Cell]] = {}
    for row in rows:
        for repeat in range(row.repeats):
            stride = row.stride if repeat == 0 else 1
            unit = InvertedBottleneck(in_channels, row.channels, row.kernel, stride, row.expand, norm, act)
            units.setdefault(f"stage{row.stage}", []).append(unit)
            in_channels = row.channels
    return {stage: nn.SequentialCell(cells) for stage, cells in units.items()}


class GlobalAvgPool(nn.Cell):
    """[N, C, H, W] to [N, C, 1, 1]."""

    def construct(self, x: Tensor) -> Tensor:
        return x.mean((2, 3), keep_dims=True)


class SqueezeExcite(nn.Cell):
    """Scales each channel by a gate computed from all channels' means (arXiv 1709.01507)."""

    def __init__(self, channels: int, squeezed: int):
        super().__init__()
        self.pool = GlobalAvgPool()
        self.reduce = ConvNormAct(channels, squeezed, act="relu")
        self.expand = ConvNormAct(squeezed, channels, act="hsigmoid")

    def construct(self, x: Tensor) -> Tensor:
        return x * self.expand(self.reduce(self.pool(x)))


class MaxPool(nn.Cell):
    """3 x 3, stride 2, of activations that are not negative (a padded zero must not win).

    Args:
        pad_mode: ``symmetric`` pads one on every side; ``same`` (MindSpore upstream's ShuffleNetV1)
            pads right and bottom only where the size is even.
    """

    def __init__(self, pad_mode: str = "symmetric"):
        super().__init__()
        self.pad, self.pool = _pooling(nn.MaxPool2d, pad_mode)

    def construct(self, x: Tensor) -> Tensor:
        return self.pool(self.pad(x))


class AvgPool(nn.Cell):
    """3 x 3, stride 2.

    Args:
        pad_mode: ``symmetric`` pads one zero on every side and counts it; ``same`` (MindSpore
            upstream's ShuffleNetV1) pads right and bottom only where the size is even, and divides
            by the number of true elements.
    """

    def __init__(self, pad_mode: str = "symmetric"):
        super().__init__()
        self.pad, self.pool = _pooling(nn.AvgPool2d, pad_mode)

    def construct(self, x: Tensor) -> Tensor:
        return self.pool(self.pad(x))


def _pooling(pool: type[nn.Cell], pad_mode: str) -> tuple[nn.Cell, nn.Cell]:
    if pad_mode == "same":
        return nn.Identity(), pool(3, 2, pad_mode="same")
    return nn.Pad(((0, 0), (0, 0), (1, 1), (1, 1))), pool(3, 2, pad_mode="valid")


class ChannelShuffle(nn.Cell):
    """Channels viewed as [rows, C / rows], transposed and flattened: output channel
    a * rows + b is input channel b * C / rows + a."""

    def __init__(self, channels: int, rows: int):
        super().__init__()
        self.channels, self.rows = channels, rows

    def construct(self, x: Tensor) -> Tensor:
        height, width = x.shape[2:]
        x = x.reshape(-1, self.rows, self.channels // self.rows, height * width)
        return x.transpose(0, 2, 1, 3).reshape(-1, self.channels, height, width)


class Split(nn.Cell):
    """The first and the second half of the channels."""

    def construct(self, x: Tensor) -> tuple[Tensor, Tensor]:
        first, second = ops.chunk(x, 2, axis=1)
        return first, second


class ShuffledHalves(nn.Cell):
    """The first and the second half of the shuffled channels."""

    def __init__(self, channels: int, rows: int):
        super().__init__()
        self.shuffle, self.split = ChannelShuffle(channels, rows), Split()

    def construct(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return self.split(self.shuffle(x))


class ChannelMask(nn.Cell):
    """Zeroes the channels whose mask is 0."""

    def construct(self, x: Tensor, mask: Tensor) -> Tensor:
        """``mask``: 0/1, [1, C, 1, 1]."""
        return x * mask


class Concat(nn.Cell):
    """Channels of the first, then of the second input, then the activation."""

    def __init__(self, act: str | None = None):
        super().__init__()
        self.act = ACTIVATIONS[act]()

    def construct(self, first: Tensor, second: Tensor) -> Tensor:
        return self.act(ops.concat((first, second), axis=1))


class Add(nn.Cell):
    """The sum of two inputs, then the activation."""

    def __init__(self, act: str | None = None):
        super().__init__()
        self.act = ACTIVATIONS[act]()

    def construct(self, first: Tensor, second: Tensor) -> Tensor:
        return self.act(first + second)


WORD = 2**32 - 1


def _mix(x: Tensor) -> Tensor:
    """A bijective hash of 32-bit words (C. Wellons' "lowbias32" constants), held in int64.

    Ascend documents no uint32 for products and bitwise operations, but int64 for all of them. A word
    times a factor of at most 31 bits and a sign stays within int64, where it keeps the low 32 bits of
    the unsigned product; the second constant, 0x846CA68B, is therefore written less 2**32.
    """
    x = _word((x ^ _shift(x, 16)) * Tensor(0x7FEB352D, ms.int64))
    x = _word((x ^ _shift(x, 15)) * Tensor(0x846CA68B - 2**32, ms.int64))
    return x ^ _shift(x, 16)


def _word(x: Tensor) -> Tensor:
    return ops.bitwise_and(x, Tensor(WORD, ms.int64))


def _shift(x: Tensor, bits: int) -> Tensor:
    return ops.bitwise_right_shift(x, Tensor(bits, ms.int64))


class Dropout(nn.Cell):
    """Zeroes a share ``rate`` of the elements and scales the others by 1 / (1 - rate); training only.

    Whether an element stays is a pure function of (seed, rank, number of training forwards so far,
    index of the element). The framework's own dropout cannot be repeated on the CPU; this one is
    equal to the bit in every run and mode, and since the count of forwards is a parameter
    (``steps``), a resumed run goes on with the masks it would have had.

    Args:
        rate: 0 <= rate < 1.
        seed: None takes that of `mindspore.set_seed`, or 0 where none is set.
        rank: of the process in data-parallel training, so that ranks draw different masks.
    """

    def __init__(self, rate: float, seed: int | None = None, rank: int = 0):
        super().__init__()
        self.rate = rate
        self.steps = Parameter(Tensor(0, ms.int32), name="steps", requires_grad=False)
        self.reseed(ms.get_seed() or 0 if seed is None else seed, rank)

    def reseed(self, seed: int, rank: int) -> None:
        """Draws all later masks from another stream; before the first compiled forward."""
        self.key = (seed * 0x9E3779B1 + rank * 0x85EBCA77) % 2**32

    def construct(self, x: Tensor) -> Tensor:
        if not self.training or self.rate == 0.0:
            return x
        step = ops.cast(ops.assign_add(self.steps, Tensor(1, ms.int32)), ms.int64)
        index = ops.cast(ops.arange(x.size), ms.int64)
        bits = _mix(index ^ _mix(_word(step + Tensor(self.key, ms.int64))))
        # 24 bits are all that a float32 holds exactly.
        uniform = ops.cast(_shift(bits, 8), ms.float32) * (1.0 / 2**24)
        kept = ops.cast(uniform >= self.rate, x.dtype) * (1.0 / (1.0 - self.rate))
        return x * kept.reshape(x.shape)


class Network(nn.Cell):
    """Images [N, 3, H, W] to logits [N, num_classes].

    Args:
        features: named cells in order, from the image to the last feature maps.
        channels: of the pooled vector that the classifier takes.
        hidden: cells between pooling and classifier, on [N, C, 1, 1].
        dropout: rate in front of the classifier.
    """

    def __init__(
        self,
        features: Mapping[str, nn.Cell],
        channels: int,
        num_classes: int,
        hidden: Mapping[str, nn.Cell] | None = None,
        dropout: float = 0.0,
    ):
        super().__init__()
        self.channels = channels
        self.features = nn.SequentialCell(OrderedDict(features))
        self.pool = GlobalAvgPool()
        self.hidden = nn.SequentialCell(OrderedDict(hidden)) if hidden else nn.Identity()
        self.dropout = Dropout(dropout) if dropout else nn.Identity()
        self.classifier = nn.Dense(channels, num_classes)

    def construct(self, x: Tensor) -> Tensor:
        x = self.hidden(self.pool(self.features(x)))
        return self.classifier(self.dropout(x.reshape(-1, self.channels)))


def initialise(
    net: nn.Cell,
    conv: Callable[[str, nn.Conv2d], Initializer],
    dense: Initializer | None = None,
    bias: Initializer | None = None,
) -> None:
    """Draws first weights anew, repeatably under `mindspore.set_seed`.

    Args:
        conv: gives the initializer of a convolution from its name and cell.
        dense, bias: of dense weights and of every bias; None leaves the framework's, uniform
            within 1 / sqrt(inputs) either side of zero.
    """
    for name, cell in net.cells_and_names():
        if isinstance(cell, nn.Conv2d):
            _draw(cell.weight, conv(name, cell))
        elif isinstance(cell, nn.Dense) and dense is not None:
            _draw(cell.weight, dense)
        if isinstance(cell, (nn.Conv2d, nn.Dense)) and cell.has_bias and bias is not None:
            _draw(cell.bias, bias)


def _draw(parameter: Parameter, init: Initializer) -> None:
    parameter.set_data(initializer(init, parameter.shape, parameter.dtype))


def seed_dropout(net: nn.Cell, seed: int, rank: int = 0) -> None:
    """Gives every dropout of ``net`` the masks of (seed, rank); call it before the first step."""
    for _, cell in net.cells_and_names():
        if isinstance(cell, Dropout):
            cell.reseed(seed, rank)


def weights(net: nn.Cell) -> dict[str, Parameter]:
    """What a network has learned, by name: its parameters (frozen ones too) and batch-norm moving
    statistics, but not the counters of its dropouts."""
    counters = {f"{name}.steps" for name, cell in net.cells_and_names() if isinstance(cell, Dropout)}
    return {name: value for name, value in net.parameters_and_names() if name not in counters}
