"""Convolutions as others of MindSpore's own operators: for machines without a C++ compiler, where that is faster.

Exactly the standard cells in NCHW, but for the convolutions that would take a reference path: the stem becomes an
unfolding and a product, a grouped 1x1 a batched product, a depthwise convolution k products with banded matrices.
"""

from __future__ import annotations

import platform
from pathlib import Path

import numpy as np
from mindspore import Tensor, nn, ops

from src.models import layers


def are_faster(cpu_info: Path = Path("/proc/cpuinfo")) -> bool:
    """Whether a network trains faster with these than with MindSpore's own convolutions on this processor.

    With AVX-512 MindSpore 2.10 takes oneDNN's reference loops for all but ungrouped 1x1 (seen in oneDNN's log), and
    MnasNet at 224 pixels trained 3.8 times faster rewritten; with AVX2 it takes matrix products, and rewritten
    networks trained at a third to nine tenths of the standard ones' speed. No other processor was measured.
    """
    if platform.machine() != "x86_64" or not cpu_info.exists():
        return True
    return "avx512f" in cpu_info.read_text().split()


class RewrittenConvNormAct(layers.ConvNormAct):
    def prepare(self) -> None:
        conv = self.conv
        self.unfolded = self.grouped = self.depthwise = False
        self.kernel, self.stride, self.groups = conv.kernel_size[0], conv.stride[0], conv.group
        self.out_channels = conv.out_channels
        if self.kernel == 1:
            self.grouped = self.groups > 1 and self.stride == 1
        elif self.groups == 1:
            self.unfolded = True
        else:
            self.depthwise = self.groups == conv.in_channels == conv.out_channels and self.stride <= 2

    def construct(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        if self.unfolded:
            y = unfolded(x, self.conv.weight, self.kernel, self.stride)
        elif self.grouped:
            y = grouped(x, self.conv.weight, self.groups)
        elif self.depthwise:
            y = banded(x, self.conv.weight, self.kernel, self.stride)
        else:
            y = self.conv(x)
        if mask is not None:
            y = y * mask
        return self.act(self.norm(y))


def unfolded(x: Tensor, weight: Tensor, kernel: int, stride: int) -> Tensor:
    """Dense k x k: the k^2 C taps of every output pixel side by side, times the weights."""
    n, _, height, width = x.shape
    taps = ops.unfold(x, kernel, padding=kernel // 2, stride=stride)
    y = ops.matmul(weight.reshape(weight.shape[0], -1), taps)
    return y.reshape(n, weight.shape[0], -(-height // stride), -(-width // stride))


def grouped(x: Tensor, weight: Tensor, groups: int) -> Tensor:
    """1x1 in groups: one product per group, all in one batch."""
    n, channels, height, width = x.shape
    out = weight.shape[0]
    kernels = weight.reshape(groups, out // groups, channels // groups)
    y = ops.matmul(kernels, x.reshape(n, groups, channels // groups, height * width))
    return y.reshape(n, out, height, width)


def bands(kernel: int, stride: int, width: int) -> np.ndarray:
    """[kernel, width * outputs]: 1 where tap j of output o falls on input i."""
    i, o = np.arange(width)[:, None], np.arange(-(-width // stride))[None, :]
    return np.stack([i == o * stride + j - kernel // 2 for j in range(kernel)]).astype(np.float32).reshape(kernel, -1)


def banded(x: Tensor, weight: Tensor, kernel: int, stride: int) -> Tensor:
    """Depthwise: for each kernel row, rows of the image [channels, rows, width] times a band matrix of its taps."""
    n, channels, height, width = x.shape
    out_height, out_width = -(-height // stride), -(-width // stride)
    band = Tensor(bands(kernel, stride, width))
    taps = ops.matmul(weight.reshape(channels * kernel, kernel), band).reshape(channels, kernel, width, out_width)
    # Rows padded to a multiple of the stride, so that the rows of one kernel row are a plain slice of one phase:
    # the gradient of a slice in steps of 2 fails in this framework.
    top = kernel // 2
    phase_rows = out_height + (kernel - 1) // stride
    bottom = max(phase_rows * stride - height - top, 0)
    # ops.pad would do, but from a process's second step on its gradient is wrong in MindSpore 2.10's graph mode.
    pad = ops.Pad(((0, 0), (0, 0), (top, bottom), (0, 0)))
    rows = pad(x.transpose(1, 0, 2, 3))[:, :, : phase_rows * stride]
    phases = rows.reshape(channels, n, phase_rows, stride * width)
    y = 0.0
    for i in range(kernel):
        first, phase = i // stride, i % stride
        part = phases[:, :, first : first + out_height, phase * width : (phase + 1) * width]
        y = y + ops.bmm(part.reshape(channels, n * out_height, width), taps[:, i])
    return y.reshape(channels, n, out_height, out_width).transpose(1, 0, 2, 3)


REWRITTEN: dict[type[nn.Cell], type[nn.Cell]] = {layers.ConvNormAct: RewrittenConvNormAct}
