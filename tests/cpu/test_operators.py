"""Every C++ operator and its gradient against float64 NumPy, called through the C interface itself."""

import ctypes
import os
import subprocess
import sys

import numpy as np
import pytest

from src.cpu.build import EXTRA_FLAGS, BuildError, find_compiler, library
from src.cpu.inference import Program
from src.cpu.operators import CODES, HSIGMOID
from src.models import create_model

ACTS = ("plain", None, "relu", "relu6", "hswish")
TOLERANCE = 2e-5  # of the largest value
RNG = np.random.default_rng(7)


@pytest.fixture(scope="module")
def loaded():
    """The library, with three threads on any machine: an odd number, and more than some tests have rows or images."""
    try:
        loaded = ctypes.CDLL(str(library()))
    except BuildError as error:
        pytest.skip(str(error))
    threads = loaded.omp_get_max_threads()
    loaded.omp_set_num_threads(3)
    yield loaded
    loaded.omp_set_num_threads(threads)


def status_of(operator, arrays, shapes):
    """Calls an operator as the framework does, with arrays that have these shapes or are said to."""
    sizes = [(ctypes.c_int64 * max(len(shape), 1))(*shape) for shape in shapes]
    return operator(
        len(arrays),
        (ctypes.c_void_p * len(arrays))(*[a.ctypes.data for a in arrays]),
        (ctypes.c_int * len(arrays))(*map(len, shapes)),
        (ctypes.c_void_p * len(arrays))(*map(ctypes.addressof, sizes)),
        None,
        None,
        None,
    )


@pytest.fixture(scope="module")
def call(loaded):
    def run(name, inputs, *output_shapes):
        arrays = [np.ascontiguousarray(a, np.float32) for a in inputs]
        outputs = [np.full(shape, np.nan, np.float32) for shape in output_shapes]
        every = arrays + outputs
        assert status_of(getattr(loaded, name), every, [a.shape for a in every]) == 0
        return outputs if len(outputs) > 1 else outputs[0]

    return run


def test_memory_that_cannot_be_had_is_a_status(loaded):
    one = np.zeros(1, np.float32)
    shape = (1, 1, 1, 2**46)
    assert status_of(loaded.global_pool, [one, one, one], [shape, (1,), (1, 2**46, 1, 1)]) == 1


def numbers(*shape):
    """Float64 that are float32 exactly, so that both sides see the same input."""
    return RNG.normal(size=shape).astype(np.float32).astype(np.float64)


def assert_close(own, exact, what=""):
    scale = np.abs(exact).max() + 1e-30
    np.testing.assert_allclose(own / scale, exact / scale, rtol=0, atol=TOLERANCE, err_msg=str(what))


# The exact side: activations and rules.


def act(name, z):
    if name == "relu":
        return np.maximum(z, 0)
    if name == "relu6":
        return np.clip(z, 0, 6)
    if name == "hswish":
        return z * np.clip(z + 3, 0, 6) / 6
    return z


def act_slope(name, z):
    if name == "relu":
        return (z > 0) * 1.0
    if name == "relu6":
        return ((z > 0) & (z < 6)) * 1.0
    if name == "hswish":
        return np.where(z <= -3, 0, np.where(z >= 3, 1, (2 * z + 3) / 6))
    return np.ones_like(z)


class Rule:
    """What a reader does: nothing ("plain"), or act(x * scale + shift)."""

    def __init__(self, name, channels):
        self.name = name
        self.scale, self.shift = numbers(channels) + 1, numbers(channels)

    def array(self):
        if self.name == "plain":
            return np.zeros(1)
        return np.stack([self.scale, self.shift, np.full(self.scale.shape, CODES[self.name])])

    def value(self, x):
        return x if self.name == "plain" else act(self.name, x * self.scale + self.shift)

    def backward(self, x, d):
        """d x and the gradient of array()."""
        if self.name == "plain":
            return d, np.zeros(1)
        dz = act_slope(self.name, x * self.scale + self.shift) * d
        sums = [(dz * x).sum((0, 1, 2)), dz.sum((0, 1, 2))]
        return dz * self.scale, np.stack([*sums, np.zeros(self.scale.shape)])


# Convolution with batch-norm, from shifted views of the padded input.


def taps(x, kernel, stride):
    """For each tap (i, j) the padded array and the index of the view that it multiplies."""
    n, height, width, channels = x.shape
    pad, rows, columns = kernel // 2, -(-height // stride), -(-width // stride)
    padded = np.zeros((n, height + 2 * pad + stride, width + 2 * pad + stride, channels))
    padded[:, pad : pad + height, pad : pad + width] = x
    for i in range(kernel):
        for j in range(kernel):
            view = (slice(None), slice(i, i + stride * rows, stride), slice(j, j + stride * columns, stride))
            yield i, j, padded, view


def conv(x, weight, stride, groups):
    out, inner, kernel, _ = weight.shape
    total = 0.0
    for i, j, padded, view in taps(x, kernel, stride):
        part = padded[view].reshape(*padded[view].shape[:3], groups, inner)
        w = weight[:, :, i, j].reshape(groups, out // groups, inner)
        total = total + np.einsum("nhwgi,goi->nhwgo", part, w)
    return total.reshape(*total.shape[:3], out)


def conv_backward(x, weight, stride, groups, d):
    out, inner, kernel, _ = weight.shape
    d = d.reshape(*d.shape[:3], groups, out // groups)
    dw, d_padded = np.zeros_like(weight), 0.0
    for i, j, padded, view in taps(x, kernel, stride):
        part = padded[view].reshape(*padded[view].shape[:3], groups, inner)
        w = weight[:, :, i, j].reshape(groups, out // groups, inner)
        dw[:, :, i, j] = np.einsum("nhwgi,nhwgo->goi", part, d).reshape(out, inner)
        d_tap = np.zeros_like(padded)
        d_tap[view] = np.einsum("nhwgo,goi->nhwgi", d, w).reshape(padded[view].shape)
        d_padded = d_padded + d_tap
    pad = kernel // 2
    return d_padded[:, pad : pad + x.shape[1], pad : pad + x.shape[2]], dw


class Layer:
    """A convolution layer with random parameters, and what its operators should give."""

    EPS, KEEP = 1e-3, 0.9

    def __init__(self, kind, x, out, kernel, stride, groups, rule):
        self.kind, self.x, self.stride, self.groups = kind, x, stride, groups
        channels = x.shape[3]
        self.rule = Rule(rule, channels)
        self.weight = numbers(out, channels // groups, kernel, kernel)
        self.gamma, self.beta, self.mean = numbers(out) + 1, numbers(out), numbers(out)
        self.variance = np.abs(numbers(out)) + 0.5
        self.value = self.rule.value(x)
        self.y = conv(self.value, self.weight, stride, groups)
        self.input = x.transpose(0, 3, 1, 2) if kind == "stem" else x

    def settings(self, code=1):
        return [self.EPS, self.KEEP, code]

    def train(self, call):
        out = len(self.gamma)
        inputs = [self.input, self.rule.array(), self.weight, self.gamma, self.beta, self.mean, self.variance]
        y, rule, saved, mean, variance = call(
            f"{self.kind}_train", [*inputs, self.settings(2)], self.y.shape, (3, out), (2, out), (out,), (out,)
        )
        batch_mean, batch_variance = self.y.mean((0, 1, 2)), self.y.var((0, 1, 2))
        count = self.y.size // out
        scale = self.gamma / np.sqrt(batch_variance + self.EPS)
        assert_close(y, self.y, "y")
        assert_close(rule[:2], np.stack([scale, self.beta - batch_mean * scale]), "rule")
        assert (rule[2] == 2).all()
        assert_close(mean, 0.9 * self.mean + 0.1 * batch_mean, "moving mean")
        unbiased = batch_variance * count / max(count - 1, 1)
        assert_close(variance, 0.9 * self.variance + 0.1 * unbiased, "moving variance")
        return y, saved

    def backward(self, dy, d_rule):
        """Gradients of input, its rule, weight, gamma, beta from those of y and y's rule."""
        mean, inverse = self.y.mean((0, 1, 2)), 1 / np.sqrt(self.y.var((0, 1, 2)) + self.EPS)
        count = self.y.size // len(mean)
        d_scale = d_rule[0] - mean * d_rule[1]
        d_variance = -0.5 * self.gamma * d_scale * inverse**3
        d_mean = -self.gamma * inverse * d_rule[1]
        d = dy + d_mean / count + 2 * d_variance * (self.y - mean) / count
        d_value, dw = conv_backward(self.value, self.weight, self.stride, self.groups, d)
        return *self.rule.backward(self.x, d_value), dw, inverse * d_scale, d_rule[1]

    def check(self, call):
        y, saved = self.train(call)
        dy, d_rule = numbers(*self.y.shape), numbers(3, len(self.gamma))
        dx, d_own_rule, dw, d_gamma, d_beta = self.backward(dy, d_rule)
        inputs = [self.input, self.rule.array(), self.weight, self.gamma, y, saved, dy, d_rule]
        exact = {"weight": dw, "gamma": d_gamma, "beta": d_beta}
        if self.kind == "stem":
            own = call("image_grad", inputs, self.input.shape)
            assert_close(own, dx.transpose(0, 3, 1, 2), "image")
        else:
            exact = {"x": dx, "rule": d_own_rule, **exact}
        own = call(f"{self.kind}_grad", inputs, *[d.shape for d in exact.values()])
        for part, (name, d) in zip(own, exact.items(), strict=True):
            assert_close(part, d, name)
        self.check_inference(call)

    def check_inference(self, call):
        scale = self.gamma / np.sqrt(self.variance + self.EPS)
        z = self.y * scale + self.beta - self.mean * scale
        residuals = [np.zeros(1), numbers(*z.shape)] if self.kind == "pointwise" else [np.zeros(1)]
        inputs = [self.input, self.rule.array(), self.weight, self.gamma, self.beta, self.mean, self.variance]
        for residual in residuals:
            for name, code in CODES.items():
                own = call(f"{self.kind}_infer", [*inputs, self.settings(code), residual], z.shape)
                assert_close(own, act(name, z + residual), name)


def test_the_exact_side_by_finite_differences():
    layer = Layer("pointwise", numbers(2, 4, 3, 6), 4, 3, 2, 2, "hswish")
    dy, d_rule = numbers(*layer.y.shape), numbers(3, 4)
    d_rule[2] = 0

    def loss():
        y = conv(layer.rule.value(layer.x), layer.weight, 2, 2)
        scale = layer.gamma / np.sqrt(y.var((0, 1, 2)) + layer.EPS)
        return (y * dy).sum() + (scale * d_rule[0]).sum() + ((layer.beta - y.mean((0, 1, 2)) * scale) * d_rule[1]).sum()

    dx, d_own_rule, dw, d_gamma, d_beta = layer.backward(dy, d_rule)
    pairs = [(layer.x, dx), (layer.rule.scale, d_own_rule[0]), (layer.rule.shift, d_own_rule[1])]
    for array, gradient in [*pairs, (layer.weight, dw), (layer.gamma, d_gamma), (layer.beta, d_beta)]:
        for at in RNG.integers(0, array.size, 5):
            kept = array.flat[at]
            array.flat[at] = kept + 1e-6
            above = loss()
            array.flat[at] = kept - 1e-6
            below = loss()
            array.flat[at] = kept
            assert (above - below) / 2e-6 == pytest.approx(gradient.flat[at], rel=1e-5, abs=1e-6)


# (n, height, width, in, out, groups): channels that fill vectors and do not, one pixel, many and few pixels.
POINTWISE = [
    (2, 7, 7, 16, 24, 1),
    (1, 5, 3, 25, 57, 1),
    (3, 8, 8, 48, 16, 1),
    (2, 9, 5, 60, 240, 3),
    (2, 3, 3, 64, 40, 8),
    (1, 1, 1, 24, 100, 1),
    (2, 1, 1, 33, 7, 1),
    (1, 14, 14, 80, 130, 1),
    (5, 17, 13, 40, 64, 1),
]


@pytest.mark.parametrize("rule", ACTS)
@pytest.mark.parametrize("shape", POINTWISE)
def test_pointwise(call, shape, rule):
    n, height, width, channels, out, groups = shape
    Layer("pointwise", numbers(n, height, width, channels), out, 1, 1, groups, rule).check(call)


DEPTHWISE = [
    (2, 9, 7, 16),
    (1, 8, 8, 20),
    (3, 5, 12, 33),
    (1, 1, 1, 24),
    (2, 2, 3, 8),
    (1, 14, 14, 480),
    (4, 7, 7, 100),
]


@pytest.mark.parametrize("kernel", [3, 5, 7])
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("shape", DEPTHWISE)
def test_depthwise(call, shape, stride, kernel):
    for rule in ("plain", "relu"):
        Layer("depthwise", numbers(*shape), shape[3], kernel, stride, shape[3], rule).check(call)


@pytest.mark.parametrize("rule", ACTS)
def test_depthwise_reads_every_activation(call, rule):
    Layer("depthwise", numbers(2, 9, 8, 40), 40, 5, 2, 40, rule).check(call)


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("shape", [(2, 9, 7, 16), (1, 8, 8, 20), (3, 32, 31, 33), (1, 1, 1, 24), (2, 2, 3, 8)])
def test_stem(call, shape, stride):
    n, height, width, out = shape
    Layer("stem", numbers(n, height, width, 3), out, 3, stride, 1, "plain").check(call)


def test_statistics_far_from_zero(call):
    """Mean 1,000 times the deviation: a plain E[x^2] - E[x]^2 in float32 would leave nothing of the variance."""
    x = numbers(2, 16, 16, 8) * 1e-3 + 1
    layer = Layer("pointwise", x, 8, 1, 1, 1, "plain")
    layer.weight = np.eye(8).reshape(8, 8, 1, 1)
    inputs = [x, np.zeros(1), layer.weight, layer.gamma, layer.beta, layer.mean, layer.variance, [0.0, 0.0, 1]]
    _, _, saved, mean, variance = call("pointwise_train", inputs, x.shape, (3, 8), (2, 8), (8,), (8,))
    exact = x.astype(np.float32).astype(np.float64)
    np.testing.assert_allclose(variance, exact.var((0, 1, 2), ddof=1), rtol=1e-5)
    np.testing.assert_allclose(mean, exact.mean((0, 1, 2)), rtol=1e-6)
    np.testing.assert_allclose(saved[1], exact.std((0, 1, 2)) ** -1, rtol=1e-5)


def test_not_a_number_comes_through(call):
    x = numbers(1, 4, 4, 8)
    x[0, 2, 2, 3] = np.nan
    for name in ("relu", "relu6", "hswish"):
        layer = Layer("pointwise", x, 8, 1, 1, 1, name)
        rule = layer.rule.array()
        inputs = [x, rule, layer.weight, layer.gamma, layer.beta, layer.mean, layer.variance, layer.settings()]
        y, rule, *_ = call("pointwise_train", inputs, x.shape, (3, 8), (2, 8), (8,), (8,))
        assert np.isnan(y[0, 2, 2]).all()
        assert np.isnan(rule[:2]).all()


def test_repeats_bit_for_bit(call):
    for kind, out, kernel, groups in (("pointwise", 56, 1, 1), ("depthwise", 40, 5, 40)):
        layer = Layer(kind, numbers(3, 14, 14, 40), out, kernel, 1, groups, "hswish")
        y, saved = layer.train(call)
        inputs = [layer.x, layer.rule.array(), layer.weight, layer.gamma, y, saved, numbers(*y.shape), numbers(3, out)]
        shapes = [layer.x.shape, (3, 40), layer.weight.shape, (out,), (out,)]
        first, second = (call(f"{kind}_grad", inputs, *shapes) for _ in range(2))
        for a, b in zip(first, second, strict=True):
            assert (a == b).all()


# Operators between convolutions. (n, height, width, channels)
MAPS = [(2, 7, 6, 16), (1, 1, 1, 24), (3, 4, 5, 10), (5, 9, 9, 66)]


@pytest.mark.parametrize("shape", MAPS)
@pytest.mark.parametrize("rule", ACTS)
class TestBetweenConvolutions:
    def check_gradient(self, call, name, inputs, x, rule, d_value, *more):
        dx, d_rule = rule.backward(x, d_value)
        own = call(name, inputs, x.shape, d_rule.shape, *[d.shape for d in more])
        for part, exact in zip(own, (dx, d_rule, *more), strict=True):
            assert_close(part, exact, name)

    def check_gradient_of_two(self, call, name, inputs, a, left, da_value, b, right, db_value):
        exact = (*left.backward(a, da_value), *right.backward(b, db_value))
        own = call(name, inputs, *[part.shape for part in exact])
        for part, gradient in zip(own, exact, strict=True):
            assert_close(part, gradient, name)

    @pytest.mark.parametrize("joined", CODES)
    def test_add(self, call, shape, rule, joined):
        a, b, d = numbers(*shape), numbers(*shape), numbers(*shape)
        left, right = Rule(rule, shape[3]), Rule("relu", shape[3])
        inputs = [a, left.array(), b, right.array(), [CODES[joined]]]
        z = left.value(a) + right.value(b)
        assert_close(call("add", inputs[:4], shape), z)
        assert_close(call("add_activated", inputs, shape), act(joined, z))
        dz = act_slope(joined, z) * d
        self.check_gradient_of_two(call, "add_activated_grad", [*inputs, d], a, left, dz, b, right, dz)
        self.check_gradient(call, "apply_grad", [a, left.array(), d], a, left, d)

    @pytest.mark.parametrize("joined", CODES)
    def test_concat(self, call, shape, rule, joined):
        channels = shape[3]
        a, b = numbers(*shape), numbers(*shape[:3], channels + 11)
        left, right = Rule(rule, channels), Rule("relu", channels + 11)
        inputs = [a, left.array(), b, right.array(), [CODES[joined]]]
        z = np.concatenate([left.value(a), right.value(b)], axis=3)
        assert_close(call("concat", inputs, z.shape), act(joined, z))
        d = numbers(*z.shape)
        da, db = np.split(act_slope(joined, z) * d, [channels], axis=3)
        self.check_gradient_of_two(call, "concat_grad", [*inputs, d], a, left, da, b, right, db)

    def test_shuffle_and_split(self, call, shape, rule):
        x, reads, d = numbers(*shape), Rule(rule, shape[3]), numbers(*shape)
        half, parts = (*shape[:3], shape[3] // 2), np.split(d, 2, axis=3)
        rows = {16: 8, 24: 3, 10: 5, 66: 11}[shape[3]]
        order = np.arange(shape[3]).reshape(rows, -1).T.ravel()
        shuffled = reads.value(x)[..., order]
        d_value = np.empty(shape)
        d_value[..., order] = d
        assert_close(call("shuffle", [x, reads.array(), [rows]], shape), shuffled)
        self.check_gradient(call, "shuffle_grad", [x, reads.array(), [rows], d], x, reads, d_value)
        halves = call("split", [x, reads.array()], half, half)
        assert_close(np.concatenate(halves, axis=3), reads.value(x))
        self.check_gradient(call, "split_grad", [x, reads.array(), *parts], x, reads, d)
        halves = call("shuffle_split", [x, reads.array(), [rows]], half, half)
        assert_close(np.concatenate(halves, axis=3), shuffled)
        self.check_gradient(call, "shuffle_split_grad", [x, reads.array(), [rows], *parts], x, reads, d_value)

    def test_global_pool(self, call, shape, rule):
        x, reads = numbers(*shape), Rule(rule, shape[3])
        n, height, width, channels = shape
        own = call("global_pool", [x, reads.array()], (n, channels, 1, 1))
        assert_close(own[:, :, 0, 0], reads.value(x).mean((1, 2)))
        d = numbers(n, channels, 1, 1)
        d_value = np.broadcast_to(d.reshape(n, 1, 1, channels) / (height * width), shape)
        self.check_gradient(call, "global_pool_grad", [x, reads.array(), d], x, reads, d_value)

    def test_gate(self, call, shape, rule):
        x, reads, d = numbers(*shape), Rule(rule, shape[3]), numbers(*shape)
        gate = numbers(shape[0], shape[3], 1, 1)
        spread = gate.reshape(shape[0], 1, 1, shape[3])
        assert_close(call("gate", [x, reads.array(), gate], shape), reads.value(x) * spread)
        d_gate = (d * reads.value(x)).sum((1, 2)).reshape(gate.shape)
        self.check_gradient(call, "gate_grad", [x, reads.array(), gate, d], x, reads, d * spread, d_gate)

    @pytest.mark.parametrize("same", [False, True])
    def test_pools(self, call, shape, rule, same):
        x, reads = np.round(numbers(*shape)), Rule(rule, shape[3])  # windows with several largest values among them
        n, height, width, channels = shape
        rows, columns = -(-height // 2), -(-width // 2)
        value = reads.value(x)
        top, left = (height % 2, width % 2) if same else (1, 1)
        padding = ((0, 0), (top, 2), (left, 2), (0, 0))
        padded = np.pad(value, padding, constant_values=-np.inf if same else 0.0)
        views = [
            (slice(None), slice(i, i + 2 * rows, 2), slice(j, j + 2 * columns, 2)) for i in range(3) for j in range(3)
        ]
        windows = np.stack([padded[view] for view in views])
        pooled = (n, rows, columns, channels)

        def input_gradient(shares):
            d_padded = np.zeros(padded.shape)
            for view, share in zip(views, shares, strict=True):
                d_padded[view] += share
            return d_padded[:, top : top + height, left : left + width]

        d = numbers(*pooled)
        largest = windows.max(0)
        own = call("max_pool", [x, reads.array(), [same]], pooled)
        assert_close(own, largest)
        inside = np.stack([np.pad(np.ones(shape), padding)[view] for view in views]).astype(bool)
        first = np.cumsum((windows == largest) & inside, axis=0) == 1
        chosen = first & (windows == largest) & inside
        gradient = input_gradient(np.where(chosen, d, 0.0))
        if rule in ("plain", None, "hswish"):  # where a rounded value decides which of several zeros is the first
            self.check_gradient(call, "max_pool_grad", [x, reads.array(), [same], own, d], x, reads, gradient)

        share = 1 / inside.sum(0) if same else 1 / 9
        assert_close(call("avg_pool", [x, reads.array(), [same]], pooled), np.where(inside, windows, 0).sum(0) * share)
        gradient = input_gradient(np.where(inside, d * share, 0.0))
        self.check_gradient(call, "avg_pool_grad", [x, reads.array(), [same], d], x, reads, gradient)


@pytest.mark.parametrize("name", ["momentum", "marked_momentum", "rmsprop"])
def test_update_of_all_parameters(call, name):
    """Tensors of a vector and a rest, of less than a vector, of more than a thread's share; one not chosen."""
    shapes, chosen, decay = [(19,), (3, 1), (40, 7), (5,)], [1, 1, 1, 0], [0.0, 0.3, 0.1, 0.2]
    states = 1 if name == "momentum" else 2
    weights, *rest = ([numbers(*shape).astype(np.float32) for shape in shapes] for _ in range(2 + states))
    moments, gradients = rest[0], rest[-1]
    squares = [np.abs(value) for value in rest[0]]
    if name == "rmsprop":
        rest[0], moments = squares, rest[1]
    settings = {"rmsprop": [0.9, 0.8, 0.1]}.get(name, [0.9, name == "momentum"])
    old_weights, old_moments, old_squares = (
        [v.astype(np.float64) for v in values] for values in (weights, moments, squares)
    )
    lists = [*weights, *(value for values in rest for value in values)]
    call(f"{name}_update", [[0.05], [0.5], settings, decay, chosen, *lists], (1,))
    for i in range(len(shapes)):
        if not chosen[i]:
            assert (weights[i] == old_weights[i]).all()
            assert (moments[i] == old_moments[i]).all()
            continue
        gradient = 0.5 * gradients[i].astype(np.float64) + decay[i] * old_weights[i]
        if name == "rmsprop":
            square = 0.9 * old_squares[i] + 0.1 * gradient**2
            moment = 0.8 * old_moments[i] + 0.05 * gradient / np.sqrt(square + 0.1)
            assert_close(squares[i], square)
            weight = old_weights[i] - moment
        else:
            moment = 0.9 * old_moments[i] + gradient
            weight = old_weights[i] - 0.05 * (gradient + 0.9 * moment if name == "momentum" else moment)
        assert_close(moments[i], moment)
        assert_close(weights[i], weight)
        assert name != "marked_momentum" or not rest[1][i].any()


@pytest.mark.parametrize("bad", [None, np.inf, -np.inf, np.nan])
@pytest.mark.parametrize("place", [0, 7, 8, 300])
def test_whether_all_is_finite(call, bad, place):
    tensors = [numbers(19), numbers(43, 7), np.array([3e38, -3e38])]
    if bad is not None:
        tensors[1].flat[place] = bad
    assert call("all_finite", tensors, (1,))[0] == (bad is None)


class TestWholeNetwork:
    """network_infer against its program, carried out in NumPy."""

    def numpy_step(self, step, maps, parameters):
        x = maps[step.source.map]
        order = np.arange(x.shape[3]).reshape(step.source.rows or 1, -1).T.ravel()
        x = x[..., order]
        x = x[..., step.source.begin :][..., : step.source.channels]
        name = {code: name for name, code in CODES.items()}.get(step.code)
        if step.operation in ("stem", "pointwise", "depthwise"):
            weight = parameters[step.parameter]
            weight = weight.reshape(len(weight), -1, step.kernel, step.kernel)
            groups = step.out if step.operation == "depthwise" else step.groups
            y = conv(x, weight, step.stride, groups)
            if step.has_norm:
                gamma, beta, mean, variance = parameters[step.parameter + 1 : step.parameter + 5]
                y = (y - mean) / np.sqrt(variance + step.epsilon) * gamma + beta
            else:
                y = y + parameters[step.parameter + 1]
        elif step.operation in ("max_pool", "avg_pool"):
            n, height, width, channels = x.shape
            top, left = (height % 2, width % 2) if step.same else (1, 1)
            padded = np.full((n, height + top + 2, width + left + 2, channels), np.nan if step.same else 0.0)
            padded[:, top : top + height, left : left + width] = x
            reduce = np.nanmax if step.operation == "max_pool" else np.nanmean
            rows, columns = -(-height // 2), -(-width // 2)
            views = [padded[:, i : i + 2 * rows : 2, j : j + 2 * columns : 2] for i in range(3) for j in range(3)]
            y = reduce(np.stack(views), axis=0)
        elif step.operation == "global_pool":
            y = x.mean((1, 2), keepdims=True)
        elif step.operation == "gate":
            return act(name, x * maps[step.other])
        else:
            y = x
        if step.operation == "depthwise":
            y = y[..., np.argsort(order)]  # its result is a shuffled view as well
        if step.other >= 0:
            y = y + maps[step.other]
        return np.clip(y + 3, 0, 6) / 6 if step.code == HSIGMOID else act(name, y)

    # Sizes that are odd everywhere, channels that fill no vector, every kind of view and of joining branches.
    @pytest.mark.parametrize("images", [1, 2, 7])
    @pytest.mark.parametrize(
        "name, options, size",
        [
            ("mnasnet", {"alpha": 0.5}, 75),
            ("shufflenetv1", {"groups": 3, "size": "0.5x"}, 37),
            ("shufflenetv1", {"groups": 8, "size": "0.5x", "pooling": "same", "shuffle": "after"}, 36),
            ("spos_oneshot_s_plus", {}, 33),
            (
                "spos_oneshot",
                {"layout": "digits", "block_choices": "2,3,0,3,1,2", "channel_choices": "0,1,2,3,4,2"},
                32,
            ),
        ],
    )
    def test_network(self, call, name, options, size, images):
        program = Program(create_model(name, 5, **options))
        parameters = []
        for parameter in program.parameters:
            value = numbers(*parameter.shape)
            if value.ndim > 1:
                value = value / np.sqrt(value[0].size)
            if parameter.name.endswith("variance"):
                value = np.abs(value) + 0.5
            parameters.append(value.astype(np.float32).astype(np.float64))
        x = numbers(images, 3, size, size)
        maps = {0: x.transpose(0, 2, 3, 1)}
        for step in program.steps:
            y = self.numpy_step(step, maps, parameters)
            whole = maps.setdefault(step.target, np.full((*y.shape[:3], program.maps[step.target].channels), np.nan))
            whole[..., step.target_begin :][..., : y.shape[3]] = y
        inputs = [x, program.step_rows(), program.map_rows(), *parameters]
        own = call("network_infer", inputs, (images, 5))
        assert_close(own, maps[program.steps[-1].target][:, 0, 0])
        assert (own == call("network_infer", inputs, (images, 5))).all()


@pytest.mark.slow
@pytest.mark.parametrize(
    "flags",
    [
        "-DLANES=4",
        "-DLANES=4 -DREGISTERS=32",
        "-DLANES=16 -DREGISTERS=32 -Wno-psabi",
        "-fsanitize=address -g",
    ],
)
def test_other_machines_and_the_address_sanitizer(flags, tmp_path, root):
    """All of the above again: with the vectors of SSE, NEON and AVX-512, and with every access checked."""
    environment = {**os.environ, EXTRA_FLAGS: flags, "NAS_CPU_CACHE": str(tmp_path)}
    compile_them = "from src.cpu import build; build.ctypes.CDLL = str; build.library()"  # not under the sanitizer
    subprocess.run([sys.executable, "-c", compile_them], env=environment, cwd=root, check=True)
    if "address" in flags:
        # Without the second the first finds no exceptions in Python, and ends it at the first that is thrown.
        names = [[find_compiler(), f"-print-file-name={name}"] for name in ("libasan.so", "libstdc++.so.6")]
        paths = [subprocess.run(words, capture_output=True, text=True).stdout.strip() for words in names]
        options = "detect_leaks=0:allocator_may_return_null=1"
        environment |= {"LD_PRELOAD": " ".join(paths), "ASAN_OPTIONS": options}
    # The sanitizer writes to the descriptor and ends the process: that is not to be captured in there.
    command = [sys.executable, "-m", "pytest", "-x", "--capture=sys", __file__]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 0 and "skipped" not in done.stdout, done.stdout + done.stderr
