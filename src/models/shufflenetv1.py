"""ShuffleNetV1 (arXiv 1707.01083), groups 3 and 8, four widths.

ReLU, batch-norm eps 1e-5 and momentum 0.9, classifier with bias; convolutions start Xavier-uniform
as in MindSpore upstream. Two known forms disagree on two points, and weights of one are of no use
in the other:

=============  =====================  ==========================
               pooling                shuffle
=============  =====================  ==========================
default        symmetric              before the depthwise
MindSpore      same (``pooling``)     before the depthwise
megvii         symmetric              after it (``shuffle``)
=============  =====================  ==========================

The default is the paper's order with padding alike on all sides. Upstream's MindSpore checkpoints
and its published 73.9 % belong to ``pooling="same"``.
"""

from math import sqrt
from typing import NamedTuple

from mindspore import Tensor, nn
from mindspore.common.initializer import Initializer, Uniform

from src.data.preprocessing import Preprocessing
from src.models import ModelEntry, Published, one_of, register
from src.models.layers import Add, AvgPool, BatchNorm, ChannelShuffle, Concat, ConvNormAct, MaxPool, Network, initialise

NORM, ACT = BatchNorm(), "relu"
REPEATS = (4, 8, 4)


class Width(NamedTuple):
    groups: int
    size: str
    stem: int
    stages: tuple[int, int, int]


WIDTHS = (
    # groups, size, stem, channels of the three stages
    Width(3, "0.5x", 12, (120, 240, 480)),
    Width(3, "1.0x", 24, (240, 480, 960)),
    Width(3, "1.5x", 24, (360, 720, 1440)),
    Width(3, "2.0x", 48, (480, 960, 1920)),
    Width(8, "0.5x", 16, (192, 384, 768)),
    Width(8, "1.0x", 24, (384, 768, 1536)),
    Width(8, "1.5x", 24, (576, 1152, 2304)),
    Width(8, "2.0x", 48, (768, 1536, 3072)),
)


class ShuffleUnit(nn.Cell):
    """Grouped 1x1, channel shuffle, depthwise 3x3, grouped 1x1; added to the input at stride 1,
    concatenated behind the pooled input at stride 2."""

    def __init__(
        self, in_channels: int, channels: int, stride: int, groups: int, first: bool, pooling: str, shuffle: str
    ):
        super().__init__()
        mid = channels // 4
        out = channels if stride == 1 else channels - in_channels
        self.expand = ConvNormAct(in_channels, mid, groups=1 if first else groups, norm=NORM, act=ACT)
        self.depthwise = ConvNormAct(mid, mid, 3, stride, groups=mid, norm=NORM)
        self.project = ConvNormAct(mid, out, groups=groups, norm=NORM)
        mixing = ChannelShuffle(mid, mid // groups)
        self.shuffle_before = mixing if shuffle == "before" else nn.Identity()
        self.shuffle_after = mixing if shuffle == "after" else nn.Identity()
        self.shortcut = nn.Identity() if stride == 1 else AvgPool(pooling)
        self.join = Add(ACT) if stride == 1 else Concat(ACT)

    def construct(self, x: Tensor) -> Tensor:
        y = self.depthwise(self.shuffle_before(self.expand(x)))
        return self.join(self.shortcut(x), self.project(self.shuffle_after(y)))


def xavier(name: str, conv: nn.Conv2d) -> Initializer:
    """Xavier-uniform, a grouped 1x1 convolution drawn as the separate convolutions it stands for."""
    area = conv.kernel_size[0] * conv.kernel_size[1]
    out_channels = conv.out_channels // conv.group if area == 1 else conv.out_channels
    return Uniform(sqrt(6.0 / (area * (conv.in_channels // conv.group + out_channels))))


def shufflenetv1(
    num_classes: int,
    groups: int = 3,
    size: str = "2.0x",
    pooling: str = "symmetric",
    shuffle: str = "before",
) -> nn.Cell:
    """Builds the network for ``num_classes`` classes.

    Args:
        groups, size: a row of WIDTHS.
        pooling: ``symmetric`` or ``same`` (MindSpore upstream's: pads right and bottom).
        shuffle: ``before`` or ``after`` the depthwise convolution (megvii's).
    """
    groups = one_of("groups", groups, dict.fromkeys(width.groups for width in WIDTHS))
    size = one_of("size", size, dict.fromkeys(width.size for width in WIDTHS))
    one_of("pooling", pooling, ("symmetric", "same"))
    one_of("shuffle", shuffle, ("before", "after"))
    width = next(width for width in WIDTHS if (width.groups, width.size) == (groups, size))

    features = {
        "stem": ConvNormAct(3, width.stem, kernel=3, stride=2, norm=NORM, act=ACT),
        "pool": MaxPool(pooling),
    }
    in_channels = width.stem
    for stage, (channels, repeats) in enumerate(zip(width.stages, REPEATS, strict=True), start=1):
        units = []
        for repeat in range(repeats):
            first = stage == 1 and repeat == 0
            units.append(ShuffleUnit(in_channels, channels, 2 if repeat == 0 else 1, groups, first, pooling, shuffle))
            in_channels = channels
        features[f"stage{stage}"] = nn.SequentialCell(units)
    net = Network(features, in_channels, num_classes)
    initialise(net, conv=xavier)
    return net


MEGVII = "megvii-model/ShuffleNet-Series (its own pooling, shuffle and BGR input)"

register(
    ModelEntry(
        name="shufflenetv1",
        build=shufflenetv1,
        paper="ShuffleNet: An Extremely Efficient Convolutional Neural Network for Mobile Devices, arXiv 1707.01083",
        preprocessing=Preprocessing(resize=239),
        published=(
            Published("groups 3, 2.0x, pooling same, 8 Ascend 910", 0.739, 0.914, "MindSpore model zoo, shufflenetv1"),
            Published("groups 3, 2.0x, pooling same, 8 V100", 0.738, 0.914, "MindSpore model zoo, shufflenetv1"),
            Published("groups 3, 2.0x", 0.741, 0.914, MEGVII),
            Published("groups 3, 1.5x", 0.716, 0.902, MEGVII),
            Published("groups 3, 1.0x", 0.678, 0.877, MEGVII),
            Published("groups 3, 0.5x", 0.573, 0.800, MEGVII),
            Published("groups 8, 2.0x", 0.729, 0.908, MEGVII),
            Published("groups 8, 1.5x", 0.710, 0.896, MEGVII),
            Published("groups 8, 1.0x", 0.680, 0.864, MEGVII),
            Published("groups 8, 0.5x", 0.588, 0.810, MEGVII),
        ),
        variants=({}, *({"groups": w.groups, "size": w.size} for w in WIDTHS if (w.groups, w.size) != (3, "2.0x"))),
    )
)
