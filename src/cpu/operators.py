"""The operators of `csrc` as MindSpore primitives with gradients.

Tensors are float32 [N, H, W, C], but images, which are [N, 3, H, W]. A tensor travels with its rule, what is still to
be done when it is read: [3, C] for activation(x * scale + shift), rows scale, shift and (repeated) the activation's
code; or one element for nothing. The operator that reads it does that on the way, so normalised activations are
never stored. The C++ sources say what each operator's arguments are, in order.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable
from pathlib import Path

from mindspore import Tensor, ops

from src.cpu.build import SOURCES

# The primitives themselves, not the functions around them, which double the time a graph takes to compile.
zeros = ops.ZerosLike()


def activation_codes() -> dict[str, int]:
    """The numbers by which the C++ knows activations: ``enum Code`` of csrc/rule.h."""
    listed = re.search(r"enum Code \{(.*?)\}", (SOURCES / "rule.h").read_text(encoding="utf-8"), re.DOTALL)[1]
    return {name: int(code) for name, code in re.findall(r"(\w+) = (\d+)", listed)}


CODE = activation_codes()
CODES = {None: CODE["AFFINE"], "relu": CODE["RELU"], "relu6": CODE["RELU6"], "hswish": CODE["HSWISH"]}
HSIGMOID = CODE["HSIGMOID"]  # of gates, in evaluation as one operator


def same_types(count: int) -> Callable:
    return lambda *types: (types[0],) * count


class Operators:
    """The primitives of one built library; each is made once, when it is first asked for."""

    def __init__(self, library: Path):
        self.library = library

    def custom(self, name: str, shapes: Callable, outputs: int, bprop: Callable | None = None) -> ops.Custom:
        if outputs == 1:
            return ops.Custom(f"{self.library}:{name}", shapes, lambda *types: types[0], "aot", bprop)
        return ops.Custom(f"{self.library}:{name}", shapes, same_types(outputs), "aot", bprop)

    @functools.cache  # noqa: B019 - one instance per library lives as long as the process
    def train(self, kind: str, stride: int) -> ops.Custom:
        """Convolution and batch statistics; ``kind`` is stem, pointwise or depthwise.

        (x, rule, weight, gamma, beta, moving mean, moving variance, settings) to (y, rule of y, saved statistics,
        new moving mean, new moving variance).
        """

        def shapes(x, rule, weight, *rest):
            out = weight[0]
            return output_shape(kind, stride, x, weight), (3, out), (2, out), (out,), (out,)

        grad, image_grad = self.convolution_grads(kind)
        if kind == "stem":

            def bprop(x, rule, weight, gamma, beta, mean, variance, settings, out, dout):
                d = grad(x, rule, weight, gamma, out[0], out[2], dout[0], dout[1])
                dx = image_grad(x, rule, weight, gamma, out[0], out[2], dout[0], dout[1])
                return (
                    dx,
                    zeros(rule),
                    d[0],
                    d[1],
                    d[2],
                    zeros(mean),
                    zeros(variance),
                    zeros(settings),
                )
        else:

            def bprop(x, rule, weight, gamma, beta, mean, variance, settings, out, dout):
                d = grad(x, rule, weight, gamma, out[0], out[2], dout[0], dout[1])
                return (
                    d[0],
                    d[1],
                    d[2],
                    d[3],
                    d[4],
                    zeros(mean),
                    zeros(variance),
                    zeros(settings),
                )

        return told_apart(self.custom(f"{kind}_train", shapes, 5, bprop), stride)

    @functools.cache  # noqa: B019
    def infer(self, kind: str, stride: int) -> ops.Custom:
        """Convolution, moving statistics, residual, activation; ``residual`` only without an activation.

        (x, rule, weight, gamma, beta, moving mean, moving variance, settings, residual or one element) to plain y.
        """
        train, apply_grad = self.train(kind, stride), self.apply_grad
        grad, image_grad = self.convolution_grads(kind)

        def bprop(x, rule, weight, gamma, beta, mean, variance, settings, residual, out, dout):
            # The raw output once more, read under the rule that the moving statistics make.
            raw = train(x, rule, weight, gamma, beta, mean, variance, settings)
            inverse = ops.rsqrt(variance + settings[0])
            scale = gamma * inverse
            moving_rule = ops.stack([scale, beta - mean * scale, zeros(scale) + settings[2]])
            dy, d_moving_rule = apply_grad(raw[0], moving_rule, dout)
            d = grad(x, rule, weight, gamma, raw[0], raw[2], dy, zeros(moving_rule))
            if kind == "stem":
                dx = image_grad(x, rule, weight, gamma, raw[0], raw[2], dy, zeros(moving_rule))
                d_rule, dw = zeros(rule), d[0]
            else:
                dx, d_rule, dw = d[0], d[1], d[2]
            d_residual = zeros(residual)
            if residual.shape != (1,):
                d_residual = dout
            d_gamma = (d_moving_rule[0] - mean * d_moving_rule[1]) * inverse
            d_statistics = zeros(mean), zeros(variance), zeros(settings)
            return dx, d_rule, dw, d_gamma, d_moving_rule[1], *d_statistics, d_residual

        op = self.custom(f"{kind}_infer", lambda x, r, weight, *rest: output_shape(kind, stride, x, weight), 1, bprop)
        return told_apart(op, stride)

    def convolution_grads(self, kind: str) -> tuple[ops.Custom, ops.Custom | None]:
        """The backward operator of ``kind``, and for the stem that of the image, which is apart."""
        if kind == "stem":
            return (
                self.custom("stem_grad", lambda x, r, w, g, *rest: (w, g, g), 3),
                self.custom("image_grad", lambda x, *rest: x, 1),
            )
        return self.custom(f"{kind}_grad", lambda x, r, w, g, *rest: (x, r, w, g, g), 5), None

    @functools.cached_property
    def add(self) -> ops.Custom:
        """(a, rule, b, rule) to a + b."""
        apply_grad = self.apply_grad

        def bprop(a, rule_a, b, rule_b, out, dout):
            da, d_rule_a = dout, zeros(rule_a)
            if rule_a.shape != (1,):
                da, d_rule_a = apply_grad(a, rule_a, dout)
            db, d_rule_b = dout, zeros(rule_b)
            if rule_b.shape != (1,):
                db, d_rule_b = apply_grad(b, rule_b, dout)
            return da, d_rule_a, db, d_rule_b

        return self.custom("add", lambda a, *rest: a, 1, bprop)

    @functools.cached_property
    def add_activated(self) -> ops.Custom:
        """(a, rule, b, rule, [code]) to activation(a + b)."""
        return self.custom("add_activated", lambda a, *rest: a, 1, self.join_grad("add_activated"))

    @functools.cached_property
    def apply_grad(self) -> ops.Custom:
        return self.custom("apply_grad", lambda x, rule, d: (x, rule), 2)

    @functools.cached_property
    def concat(self) -> ops.Custom:
        """(a, rule, b, rule, [code]) to activation([a, b] along the channels)."""
        shapes = lambda a, ra, b, *rest: (a[0], a[1], a[2], a[3] + b[3])  # noqa: E731
        return self.custom("concat", shapes, 1, self.join_grad("concat"))

    def join_grad(self, name: str) -> Callable:
        grad = self.custom(f"{name}_grad", lambda a, rule_a, b, rule_b, *rest: (a, rule_a, b, rule_b), 4)

        def bprop(a, rule_a, b, rule_b, code, out, dout):
            d = grad(a, rule_a, b, rule_b, code, dout)
            return d[0], d[1], d[2], d[3], zeros(code)

        return bprop

    @functools.cached_property
    def shuffle(self) -> ops.Custom:
        """(x, rule, [rows]) to x with output channel a * rows + b from input channel b * C / rows + a."""
        grad = self.custom("shuffle_grad", lambda x, rule, *rest: (x, rule), 2)

        def bprop(x, rule, rows, out, dout):
            d = grad(x, rule, rows, dout)
            return d[0], d[1], zeros(rows)

        return self.custom("shuffle", lambda x, *rest: x, 1, bprop)

    @functools.cached_property
    def split(self) -> ops.Custom:
        """(x, rule) to the halves of the channels."""
        grad = self.custom("split_grad", lambda x, rule, *rest: (x, rule), 2)

        def bprop(x, rule, out, dout):
            d = grad(x, rule, dout[0], dout[1])
            return d[0], d[1]

        def shapes(x, rule):
            half = (x[0], x[1], x[2], x[3] // 2)
            return half, half

        return self.custom("split", shapes, 2, bprop)

    @functools.cached_property
    def shuffle_split(self) -> ops.Custom:
        """(x, rule, [rows]) to the halves of the shuffled channels."""
        grad = self.custom("shuffle_split_grad", lambda x, rule, *rest: (x, rule), 2)

        def bprop(x, rule, rows, out, dout):
            d = grad(x, rule, rows, dout[0], dout[1])
            return d[0], d[1], zeros(rows)

        def shapes(x, *rest):
            half = (x[0], x[1], x[2], x[3] // 2)
            return half, half

        return self.custom("shuffle_split", shapes, 2, bprop)

    @functools.cached_property
    def global_pool(self) -> ops.Custom:
        """(x, rule) to means [N, C, 1, 1]."""
        grad = self.custom("global_pool_grad", lambda x, rule, d: (x, rule), 2)

        def bprop(x, rule, out, dout):
            d = grad(x, rule, dout)
            return d[0], d[1]

        return self.custom("global_pool", lambda x, rule: (x[0], x[3], 1, 1), 1, bprop)

    @functools.cached_property
    def gate(self) -> ops.Custom:
        """(x, rule, gate [N, C, 1, 1]) to x * gate."""
        grad = self.custom("gate_grad", lambda x, rule, gate, d: (x, rule, gate), 3)

        def bprop(x, rule, gate, out, dout):
            d = grad(x, rule, gate, dout)
            return d[0], d[1], d[2]

        return self.custom("gate", lambda x, *rest: x, 1, bprop)

    @functools.cached_property
    def max_pool(self) -> ops.Custom:
        """(x, rule, [same]) to 3 x 3 maxima at stride 2."""
        grad = self.custom("max_pool_grad", lambda x, rule, *rest: (x, rule), 2)

        def bprop(x, rule, same, out, dout):
            d = grad(x, rule, same, out, dout)
            return d[0], d[1], zeros(same)

        return self.custom("max_pool", lambda x, *rest: halved(x), 1, bprop)

    @functools.cached_property
    def avg_pool(self) -> ops.Custom:
        """(x, rule, [same]) to 3 x 3 means at stride 2."""
        grad = self.custom("avg_pool_grad", lambda x, rule, *rest: (x, rule), 2)

        def bprop(x, rule, same, out, dout):
            d = grad(x, rule, same, dout)
            return d[0], d[1], zeros(same)

        return self.custom("avg_pool", lambda x, *rest: halved(x), 1, bprop)

    def update(self, name: str) -> ops.Custom:
        """``momentum``, ``marked_momentum`` or ``rmsprop``: one update of a list of parameters, in place.

        (rate, factor of the gradients, settings, decay of each, share of the rate for each, *weights, *states,
        *gradients); a share of 0 leaves weight and state as they are. What it returns means nothing.
        """
        op = self.custom(f"{name}_update", lambda rate, *rest: (1,), 1)
        # Without it a graph would run it when it likes, or not at all: its output is of no use.
        op.add_prim_attr("side_effect_mem", True)
        return op

    @functools.cached_property
    def all_finite(self) -> ops.Custom:
        """(*tensors) to [1]: 1 if no element is infinite or NaN, else 0."""
        return self.custom("all_finite", lambda *shapes: (1,), 1)


def told_apart(op: ops.Custom, stride: int) -> ops.Custom:
    """PyNative keeps the output shapes it has inferred by an operator's attributes and inputs, not by its instance."""
    op.add_prim_attr("stride", stride)
    return op


def output_shape(kind: str, stride: int, x: tuple[int, ...], weight: tuple[int, ...]) -> tuple[int, ...]:
    height, width = (x[2], x[3]) if kind == "stem" else (x[1], x[2])
    return x[0], -(-height // stride), -(-width // stride), weight[0]


def halved(x: tuple[int, ...]) -> tuple[int, ...]:
    return x[0], -(-x[1] // 2), -(-x[2] // 2), x[3]


def constant(*values: float) -> Tensor:
    """Settings of an operator, as the tensor in which it takes them."""
    return Tensor([float(value) for value in values])
