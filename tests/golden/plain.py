"""The networks but MnasNet in plain NumPy, float64: short and independent of `src`.

Typed from the published tables and papers: arXiv 1904.02877, 1812.00332, 1707.01083 and 1904.00420, and from the MXNet
re-implementation of the last for squeeze-excite and the tails. check_authors.py compares them with their authors' own
code. Activations are [N, C, H, W].
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from tests.golden.formulas import Formula


class Plain:
    """The operations that all have in common; every convolution and batch-norm takes the formula's next values."""

    def __init__(self, formula: Formula, eps: float = 1e-5):
        self.formula, self.eps = formula, eps
        self.convs = self.norms = 0

    def conv(
        self, x: np.ndarray, out: int, k: int = 1, stride: int = 1, groups: int = 1, bias: bool = False
    ) -> np.ndarray:
        """Cross-correlation, k // 2 zeros on every side."""
        channels = x.shape[1] // groups
        weight = self.formula.conv(self.convs, (out, channels, k, k)).reshape(groups, out // groups, channels, k, k)
        pad = k // 2
        padded = np.pad(x, ((0, 0), (0, 0), (pad, pad), (pad, pad)))
        windows = np.lib.stride_tricks.sliding_window_view(padded, (k, k), axis=(2, 3))[:, :, ::stride, ::stride]
        windows = windows.reshape(len(x), groups, channels, *windows.shape[2:])
        y = np.einsum("ngchwij,gocij->ngohw", windows, weight, optimize=True)
        y = y.reshape(len(x), out, *y.shape[3:])
        if bias:
            y = y + self.formula.bias(self.convs, out)[:, None, None]
        self.convs += 1
        return y

    def norm(self, x: np.ndarray) -> np.ndarray:
        values = self.formula.norm(self.norms, x.shape[1])
        gamma, beta, mean, variance = (value[:, None, None] for value in values.values())
        self.norms += 1
        return gamma * (x - mean) / np.sqrt(variance + self.eps) + beta

    def classifier(self, x: np.ndarray, classes: int) -> np.ndarray:
        weight, bias = self.formula.classifier(classes, x.shape[1])
        return x @ weight.T + bias


def relu(x: np.ndarray) -> np.ndarray:
    return np.maximum(x, 0.0)


def relu6(x: np.ndarray) -> np.ndarray:
    return np.clip(x, 0.0, 6.0)


def hard_sigmoid(x: np.ndarray) -> np.ndarray:
    return np.clip(x + 3.0, 0.0, 6.0) / 6.0


def hard_swish(x: np.ndarray) -> np.ndarray:
    return x * hard_sigmoid(x)


def mean_of_pixels(x: np.ndarray) -> np.ndarray:
    return x.mean(axis=(2, 3), keepdims=True)


# Units of the two networks of inverted bottlenecks: outputs, kernel, stride, expansion.
PROXYLESSNAS = (
    (16, 3, 1, 1),
    (32, 5, 2, 3),
    (32, 3, 1, 3),
    (40, 7, 2, 3),
    (40, 3, 1, 3),
    (40, 5, 1, 3),
    (40, 5, 1, 3),
    (80, 7, 2, 6),
    (80, 5, 1, 3),
    (80, 5, 1, 3),
    (80, 5, 1, 3),
    (96, 5, 1, 6),
    (96, 5, 1, 3),
    (96, 5, 1, 3),
    (96, 5, 1, 3),
    (192, 7, 2, 6),
    (192, 7, 1, 6),
    (192, 7, 1, 3),
    (192, 7, 1, 3),
    (320, 7, 1, 6),
)
SPNASNET = (
    (16, 3, 1, 1),
    (24, 3, 2, 3),
    (24, 3, 1, 3),
    (24, 3, 1, 3),
    (40, 5, 2, 6),
    (40, 3, 1, 3),
    (40, 3, 1, 3),
    (40, 3, 1, 3),
    (80, 5, 2, 6),
    (80, 3, 1, 3),
    (80, 3, 1, 3),
    (80, 3, 1, 3),
    (96, 5, 1, 6),
    (96, 5, 1, 3),
    (96, 5, 1, 3),
    (96, 5, 1, 3),
    (192, 5, 2, 6),
    (192, 5, 1, 6),
    (192, 5, 1, 6),
    (192, 5, 1, 6),
    (320, 3, 1, 6),
)


def proxylessnas(formula: Formula, images: np.ndarray, classes: int) -> np.ndarray:
    """ProxylessNAS-Mobile; the two units of stage 2 that hold nothing are left out."""
    return bottlenecks(Plain(formula, eps=1e-3), PROXYLESSNAS, relu6, images, classes)


def spnasnet(formula: Formula, images: np.ndarray, classes: int) -> np.ndarray:
    """Single-Path NAS as MindSpore and timm have it."""
    return bottlenecks(Plain(formula), SPNASNET, relu, images, classes)


def bottlenecks(
    net: Plain,
    units: Sequence[tuple[int, int, int, int]],
    act: Callable[[np.ndarray], np.ndarray],
    images: np.ndarray,
    classes: int,
) -> np.ndarray:
    x = act(net.norm(net.conv(images, 32, 3, 2)))
    for out, kernel, stride, expansion in units:
        y, mid = x, expansion * x.shape[1]
        if expansion > 1:
            y = act(net.norm(net.conv(y, mid)))
        y = act(net.norm(net.conv(y, mid, kernel, stride, groups=mid)))
        y = net.norm(net.conv(y, out))
        x = x + y if stride == 1 and out == x.shape[1] else y
    x = act(net.norm(net.conv(x, 1280)))
    return net.classifier(x.mean(axis=(2, 3)), classes)


SHUFFLENET_CHANNELS = {
    (3, "0.5x"): (12, 120, 240, 480),
    (3, "1.0x"): (24, 240, 480, 960),
    (3, "1.5x"): (24, 360, 720, 1440),
    (3, "2.0x"): (48, 480, 960, 1920),
    (8, "0.5x"): (16, 192, 384, 768),
    (8, "1.0x"): (24, 384, 768, 1536),
    (8, "1.5x"): (24, 576, 1152, 2304),
    (8, "2.0x"): (48, 768, 1536, 3072),
}


def shufflenetv1(
    formula: Formula,
    images: np.ndarray,
    classes: int,
    groups: int = 3,
    size: str = "2.0x",
    pooling: str = "symmetric",
    shuffle: str = "before",
) -> np.ndarray:
    """ShuffleNetV1; ``shuffle`` before (the paper, MindSpore) or after (megvii) the depthwise convolution."""
    stem, *stages = SHUFFLENET_CHANNELS[groups, size]
    net = Plain(formula)
    x = relu(net.norm(net.conv(images, stem, 3, 2)))
    x = pool(x, pooling, "max")
    for number, out in enumerate(stages):
        for repeat in range((4, 8, 4)[number]):
            stride = 2 if repeat == 0 else 1
            mid = out // 4
            y = relu(net.norm(net.conv(x, mid, groups=1 if number == repeat == 0 else groups)))
            y = shuffled(y, groups) if shuffle == "before" else y
            y = net.norm(net.conv(y, mid, 3, stride, groups=mid))
            y = shuffled(y, groups) if shuffle == "after" else y
            if stride == 1:
                x = relu(x + net.norm(net.conv(y, out, groups=groups)))
            else:
                y = net.norm(net.conv(y, out - x.shape[1], groups=groups))
                x = relu(np.concatenate([pool(x, pooling, "mean"), y], axis=1))
    return net.classifier(x.mean(axis=(2, 3)), classes)


def shuffled(x: np.ndarray, groups: int) -> np.ndarray:
    """Output channel a C/g + b is input channel b g + a, one channel at a time."""
    y, rest = np.empty_like(x), x.shape[1] // groups
    for a in range(groups):
        for b in range(rest):
            y[:, a * rest + b] = x[:, b * groups + a]
    return y


def pool(x: np.ndarray, mode: str, what: str) -> np.ndarray:
    """3 x 3, stride 2, one window at a time.

    ``symmetric`` pads one on every side, and a padded zero counts in the mean; ``same`` pads so that
    ceil(size / 2) windows fit, the odd one at the end, and averages over what is there.
    """
    height, width = x.shape[2:]
    y = np.empty((*x.shape[:2], -(-height // 2), -(-width // 2)))
    top, left = (1, 1) if mode == "symmetric" else (height % 2, width % 2)
    for i in range(y.shape[2]):
        for j in range(y.shape[3]):
            rows = slice(max(2 * i - top, 0), 2 * i - top + 3)
            columns = slice(max(2 * j - left, 0), 2 * j - left + 3)
            window = x[:, :, rows, columns]
            count = 9 if mode == "symmetric" else window.shape[2] * window.shape[3]
            y[:, :, i, j] = window.max(axis=(2, 3)) if what == "max" else window.sum(axis=(2, 3)) / count
    return y


ONESHOT = (
    (0, 0, 3, 1, 1, 1, 0, 0, 2, 0, 2, 1, 1, 0, 2, 0, 2, 1, 3, 2),
    (6, 5, 3, 5, 2, 6, 3, 4, 2, 5, 7, 5, 4, 6, 7, 4, 4, 5, 4, 3),
)
S_PLUS = (
    (0, 0, 0, 1, 0, 0, 1, 0, 3, 2, 0, 1, 2, 2, 1, 2, 0, 0, 2, 0),
    (8, 7, 6, 8, 5, 7, 3, 4, 2, 4, 2, 3, 4, 5, 6, 6, 3, 3, 4, 6),
)
# Blocks and channels of the stages, tenths of the inner widths, channels of the head.
SPOS_LAYOUTS = {
    "OneShot": ((4, 4, 8, 4), (64, 160, 320, 640), (2, 4, 6, 8, 10, 12, 14, 16, 18, 20), 1024),
    "ShuffleNetV2+": ((4, 4, 8, 4), (48, 128, 256, 512), (2, 4, 6, 8, 10, 12, 14, 16, 18, 20), 1024),
    "digits": ((2, 2, 2), (32, 64, 128), (4, 8, 12, 16, 20), 128),
}


def spos(
    formula: Formula,
    images: np.ndarray,
    classes: int,
    block_choices: Sequence[int] = ONESHOT[0],
    channel_choices: Sequence[int] = ONESHOT[1],
    use_se: bool = False,
    last_conv_after_pooling: bool = False,
    layout: str = "OneShot",
) -> np.ndarray:
    """A path of Single Path One-Shot: block 0, 1, 2: SNB of kernel 3, 5, 7; block 3: SXB."""
    repeats, outputs, tenths, head = SPOS_LAYOUTS[layout]
    later = hard_swish if use_se else relu
    net = Plain(formula)
    x = later(net.norm(net.conv(images, 16, 3, 2)))
    choices = iter(zip(block_choices, channel_choices, strict=True))
    for stage, out in enumerate(outputs):
        act = relu if stage == 0 else later
        for repeat in range(repeats[stage]):
            block, channel = next(choices)
            mid, kernel = out // 2 * tenths[channel] // 10, (3, 5, 7, 3)[block]
            if repeat == 0:
                stride, width, y = 2, x.shape[1], x
                passed = net.norm(net.conv(x, width, kernel, 2, groups=width))
                passed = act(net.norm(net.conv(passed, width)))
            else:
                stride, width = 1, x.shape[1] // 2
                mixed = np.empty_like(x)
                for i in range(width):
                    mixed[:, 2 * i], mixed[:, 2 * i + 1] = x[:, i], x[:, width + i]
                passed, y = mixed[:, :width], mixed[:, width:]
            if block == 3:
                y = net.norm(net.conv(y, y.shape[1], 3, stride, groups=y.shape[1]))
                for wide in (mid, mid):
                    y = act(net.norm(net.conv(y, wide)))
                    y = net.norm(net.conv(y, wide, 3, groups=wide))
            else:
                y = act(net.norm(net.conv(y, mid)))
                y = net.norm(net.conv(y, mid, kernel, stride, groups=mid))
            y = act(net.norm(net.conv(y, out - width)))
            if use_se and stage >= 2:
                y = squeeze_excite(net, y)
            x = np.concatenate([passed, y], axis=1)
    if last_conv_after_pooling:
        x = later(net.conv(mean_of_pixels(x), head, bias=True))
    elif use_se:
        x = later(net.norm(net.conv(x, multiple_of_8(head * 3 // 4))))
        x = squeeze_excite(net, mean_of_pixels(x))
        x = later(net.conv(x, head, bias=True))
    else:
        x = mean_of_pixels(relu(net.norm(net.conv(x, head))))
    return net.classifier(x[:, :, 0, 0], classes)


def squeeze_excite(net: Plain, x: np.ndarray) -> np.ndarray:
    channels = x.shape[1]
    gate = relu(net.conv(mean_of_pixels(x), multiple_of_8(channels // 4), bias=True))
    return x * hard_sigmoid(net.conv(gate, channels, bias=True))


def multiple_of_8(channels: int) -> int:
    return (channels + 7) // 8 * 8
