"""The cells of `src.models.layers` with this package's operators inside.

Each class computes what its base class does, from the same children, for activations that travel as (tensor, rule),
see `operators`; Tensors in NCHW, the image and everything behind the global pool, go the standard way. A cell of a
built network becomes one by `src.cpu.use_operators`, which gives it the class and calls `prepare`.
"""

from __future__ import annotations

from mindspore import Tensor, nn, ops

from src.cpu.operators import CODES, Operators, constant, zeros
from src.models import layers

Value = tuple[Tensor, Tensor]
assign = ops.Assign()


def plain_rule() -> Tensor:
    return constant(0)


def conv_kind(cell: layers.ConvNormAct) -> str | None:
    """stem, pointwise or depthwise; None for a convolution the operators do not have."""
    conv = cell.conv
    kernel, stride = conv.kernel_size[0], conv.stride[0]
    if conv.has_bias or stride > 2 or conv.dilation != (1, 1):
        return None
    if kernel == 1:
        return "pointwise" if stride == 1 else None
    if conv.group == conv.in_channels == conv.out_channels:
        return "depthwise" if kernel in (3, 5, 7) else None
    return "stem" if conv.group == 1 and conv.in_channels == 3 else None


class FusedConvNormAct(layers.ConvNormAct):
    def prepare(self, operators: Operators) -> None:
        kind, stride = conv_kind(self), self.conv.stride[0]
        self.is_stem = kind == "stem"
        self.train_op, self.infer_op = operators.train(kind, stride), operators.infer(kind, stride)
        # nn.BatchNorm2d.momentum is the share of the new statistic.
        self.settings = constant(self.norm.eps, 1.0 - self.norm.momentum, code_of(self.act))
        self.plain = plain_rule()

    def construct(self, x: Value | Tensor, mask: Tensor | None = None) -> Value:
        weight = self.conv.weight
        if mask is not None:
            weight = weight * mask.reshape(-1, 1, 1, 1)
        return self.normalised(x, weight, self.plain)

    def normalised(self, x: Value | Tensor, weight: Tensor, residual: Tensor) -> Value:
        """``residual`` is added before the activation, in evaluation only; the plain rule stands for none."""
        norm = self.norm
        data, rule = (x, self.plain) if self.is_stem else x
        if norm.training:
            y, rule, _, mean, variance = self.train_op(
                data, rule, weight, norm.gamma, norm.beta, norm.moving_mean, norm.moving_variance, self.settings
            )
            assign(norm.moving_mean, mean)
            assign(norm.moving_variance, variance)
            return y, rule
        y = self.infer_op(
            data, rule, weight, norm.gamma, norm.beta, norm.moving_mean, norm.moving_variance, self.settings, residual
        )
        return y, self.plain


class FusedInvertedBottleneck(layers.InvertedBottleneck):
    def prepare(self, operators: Operators) -> None:
        self.add, self.plain = operators.add, plain_rule()

    def construct(self, x: Value) -> Value:
        y = self.depthwise(self.expand(x))
        if not self.residual:
            return self.project(y)
        if not self.project.norm.training and x[1].shape == (1,):
            return self.project.normalised(y, self.project.conv.weight, x[0])
        y = self.project(y)
        return self.add(x[0], x[1], y[0], y[1]), self.plain


class FusedAdd(layers.Add):
    def prepare(self, operators: Operators) -> None:
        self.add, self.code, self.plain = operators.add_activated, constant(code_of(self.act)), plain_rule()

    def construct(self, first: Value, second: Value) -> Value:
        return self.add(first[0], first[1], second[0], second[1], self.code), self.plain


class FusedConcat(layers.Concat):
    def prepare(self, operators: Operators) -> None:
        self.join, self.code, self.plain = operators.concat, constant(code_of(self.act)), plain_rule()

    def construct(self, first: Value, second: Value) -> Value:
        return self.join(first[0], first[1], second[0], second[1], self.code), self.plain


class FusedChannelShuffle(layers.ChannelShuffle):
    def prepare(self, operators: Operators) -> None:
        self.shuffle, self.row_count, self.plain = operators.shuffle, constant(self.rows), plain_rule()

    def construct(self, x: Value) -> Value:
        return self.shuffle(x[0], x[1], self.row_count), self.plain


class FusedSplit(layers.Split):
    def prepare(self, operators: Operators) -> None:
        self.split, self.plain = operators.split, plain_rule()

    def construct(self, x: Value) -> tuple[Value, Value]:
        first, second = self.split(x[0], x[1])
        return (first, self.plain), (second, self.plain)


class FusedShuffledHalves(layers.ShuffledHalves):
    def prepare(self, operators: Operators) -> None:
        self.halves, self.rows, self.plain = operators.shuffle_split, constant(self.shuffle.rows), plain_rule()

    def construct(self, x: Value) -> tuple[Value, Value]:
        first, second = self.halves(x[0], x[1], self.rows)
        return (first, self.plain), (second, self.plain)


class FusedChannelMask(layers.ChannelMask):
    """The mask becomes part of the rule: every activation is 0 where scale and shift are."""

    def prepare(self, operators: Operators) -> None:
        self.is_prepared = True

    def construct(self, x: Value, mask: Tensor) -> Value:
        data, rule = x
        row = mask.reshape(-1)
        if rule.shape == (1,):
            return data, ops.stack([row, zeros(row), ops.ones_like(row)])
        return data, rule * ops.stack([row, row, ops.ones_like(row)])


class FusedGlobalAvgPool(layers.GlobalAvgPool):
    def prepare(self, operators: Operators) -> None:
        self.mean = operators.global_pool

    def construct(self, x: Value | Tensor) -> Tensor:
        if isinstance(x, tuple):
            return self.mean(x[0], x[1])
        return x.mean((2, 3), keep_dims=True)


class FusedSqueezeExcite(layers.SqueezeExcite):
    def prepare(self, operators: Operators) -> None:
        self.gate, self.plain = operators.gate, plain_rule()

    def construct(self, x: Value | Tensor) -> Value | Tensor:
        gate = self.expand(self.reduce(self.pool(x)))
        if isinstance(x, tuple):
            return self.gate(x[0], x[1], gate), self.plain
        return x * gate


class FusedPool(nn.Cell):
    """What MaxPool and AvgPool share."""

    def prepare(self, operators: Operators) -> None:
        self.fused = operators.max_pool if isinstance(self, layers.MaxPool) else operators.avg_pool
        self.same, self.plain = constant(self.pool.pad_mode.lower() == "same"), plain_rule()

    def construct(self, x: Value) -> Value:
        return self.fused(x[0], x[1], self.same), self.plain


class FusedMaxPool(FusedPool, layers.MaxPool):
    pass


class FusedAvgPool(FusedPool, layers.AvgPool):
    pass


def code_of(act: nn.Cell) -> int:
    return next(CODES[name] for name, kind in layers.ACTIVATIONS.items() if type(act) is kind)


FUSED: dict[type[nn.Cell], type[nn.Cell]] = {
    layers.ConvNormAct: FusedConvNormAct,
    layers.InvertedBottleneck: FusedInvertedBottleneck,
    layers.Add: FusedAdd,
    layers.Concat: FusedConcat,
    layers.ChannelShuffle: FusedChannelShuffle,
    layers.Split: FusedSplit,
    layers.ShuffledHalves: FusedShuffledHalves,
    layers.ChannelMask: FusedChannelMask,
    layers.GlobalAvgPool: FusedGlobalAvgPool,
    layers.SqueezeExcite: FusedSqueezeExcite,
    layers.MaxPool: FusedMaxPool,
    layers.AvgPool: FusedAvgPool,
}
