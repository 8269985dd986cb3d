"""Convolutions made of other operators equal the framework's, values and gradients."""

import mindspore as ms
import numpy as np
import pytest
from mindspore import Tensor, nn, ops

from src.cpu.rewritten import banded, grouped, unfolded

RNG = np.random.default_rng(1)


def numbers(*shape):
    return Tensor(RNG.normal(size=shape).astype(np.float32))


def assert_like(conv, rewritten, x):
    weights = numbers(*conv.weight.shape)

    def framework(x, w):
        return ops.conv2d(x, w, None, conv.stride[0], "pad", conv.kernel_size[0] // 2, 1, conv.group)

    standard, pull_standard = ms.vjp(framework, x, weights)
    own, pull_own = ms.vjp(rewritten, x, weights)
    np.testing.assert_allclose(own.asnumpy(), standard.asnumpy(), atol=2e-5)
    cotangent = numbers(*own.shape)
    for a, b in zip(pull_own(cotangent), pull_standard(cotangent), strict=True):
        scale = np.abs(b.asnumpy()).max()
        np.testing.assert_allclose(a.asnumpy() / scale, b.asnumpy() / scale, atol=2e-6)


@pytest.mark.parametrize("kernel", [3, 5, 7])
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("size", [(9, 7), (8, 8), (1, 1), (2, 5)])
def test_depthwise(kernel, stride, size):
    conv = nn.Conv2d(5, 5, kernel, stride, pad_mode="pad", padding=kernel // 2, group=5)
    assert_like(conv, lambda x, w: banded(x, w, kernel, stride), numbers(2, 5, *size))


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("size", [(9, 7), (8, 8)])
def test_stem(stride, size):
    conv = nn.Conv2d(3, 6, 3, stride, pad_mode="pad", padding=1)
    assert_like(conv, lambda x, w: unfolded(x, w, 3, stride), numbers(2, 3, *size))


@pytest.mark.parametrize("groups", [3, 8])
def test_grouped(groups):
    conv = nn.Conv2d(2 * groups, 5 * groups, 1, group=groups)
    assert_like(conv, lambda x, w: grouped(x, w, groups), numbers(2, 2 * groups, 3, 4))
