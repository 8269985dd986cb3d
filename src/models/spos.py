"""Single Path One-Shot NAS (arXiv 1904.00420): the networks it found, and the blocks it chose from.

Twenty blocks in four stages, each one of four kinds (BLOCKS) with a searched inner width. Three
networks of the MXNet re-implementation (CanyonWind/Single-Path-One-Shot-NAS-MXNet) are registered;
any other path is one of them with other ``block_choices`` and ``channel_choices``.

Batch-norm eps 1e-5, first shift 1e-4. Convolutions start N(0, 1 / inputs per group), but stem,
squeeze-excite, the convolution after pooling and the classifier N(0, 0.01); biases zero.
"""

import functools
from collections import OrderedDict
from collections.abc import Sequence

from mindspore import Tensor, nn
from mindspore.common.initializer import Initializer, Normal, Zero

from src.data.preprocessing import Preprocessing
from src.errors import UsageError
from src.models import ModelEntry, Published, one_of, register, share
from src.models.layers import (
    BatchNorm,
    Concat,
    ConvNormAct,
    Network,
    ShuffledHalves,
    SqueezeExcite,
    initialise,
)
from src.space.choices import (
    BLOCKS,
    FIRST_SE_STAGE,
    KERNELS,
    LAYOUTS,
    ONESHOT_BLOCKS,
    ONESHOT_CHANNELS,
    S_PLUS_BLOCKS,
    S_PLUS_CHANNELS,
    STEM_CHANNELS,
    XCEPTION,
    ceil8,
    mid_channels,
)


class ShuffleBody(nn.Cell):
    """SNB-k, the ShuffleNetV2 body: 1x1, depthwise k x k, 1x1."""

    def __init__(self, in_channels: int, mid: int, out: int, kernel: int, stride: int, norm: BatchNorm, act: str):
        super().__init__()
        self.expand = ConvNormAct(in_channels, mid, norm=norm, act=act)
        self.depthwise = ConvNormAct(mid, mid, kernel, stride, groups=mid, norm=norm)
        self.project = ConvNormAct(mid, out, norm=norm, act=act)

    def construct(self, x: Tensor) -> Tensor:
        return self.project(self.depthwise(self.expand(x)))


class XceptionBody(nn.Cell):
    """SXB-3: three times depthwise 3x3 and 1x1."""

    def __init__(self, in_channels: int, mid: int, out: int, stride: int, norm: BatchNorm, act: str):
        super().__init__()
        self.depthwise1 = ConvNormAct(in_channels, in_channels, 3, stride, groups=in_channels, norm=norm)
        self.expand = ConvNormAct(in_channels, mid, norm=norm, act=act)
        self.depthwise2 = ConvNormAct(mid, mid, 3, groups=mid, norm=norm)
        self.mix = ConvNormAct(mid, mid, norm=norm, act=act)
        self.depthwise3 = ConvNormAct(mid, mid, 3, groups=mid, norm=norm)
        self.project = ConvNormAct(mid, out, norm=norm, act=act)

    def construct(self, x: Tensor) -> Tensor:
        x = self.expand(self.depthwise1(x))
        return self.project(self.depthwise3(self.mix(self.depthwise2(x))))


class ChoiceBlock(nn.Cell):
    """One block of a path.

    Stride 1: the channels are shuffled, the first half passes, the second goes through the body.
    Stride 2: projection and body both take the whole input. Output: [passed or projected, body].

    Args:
        choice: index into BLOCKS.
        mid: inner width of the body.
        use_se: squeeze-excite as the body's last operation.
    """

    def __init__(
        self,
        in_channels: int,
        channels: int,
        stride: int,
        choice: int,
        mid: int,
        use_se: bool,
        norm: BatchNorm,
        act: str,
    ):
        super().__init__()
        kernel = KERNELS[choice]
        if stride == 1:
            entering = in_channels // 2
            self.shortcut = nn.Identity()
            self.divide = ShuffledHalves(in_channels, 2)
        else:
            entering = in_channels
            self.shortcut = nn.SequentialCell(
                OrderedDict(
                    depthwise=ConvNormAct(in_channels, in_channels, kernel, stride, groups=in_channels, norm=norm),
                    project=ConvNormAct(in_channels, in_channels, norm=norm, act=act),
                )
            )
            self.divide = Both()
        out = channels - entering
        if choice == XCEPTION:
            self.body = XceptionBody(entering, mid, out, stride, norm, act)
        else:
            self.body = ShuffleBody(entering, mid, out, kernel, stride, norm, act)
        self.se = SqueezeExcite(out, ceil8(out // 4)) if use_se else nn.Identity()
        self.join = Concat()

    def construct(self, x: Tensor) -> Tensor:
        passing, entering = self.divide(x)
        return self.join(self.shortcut(passing), self.se(self.body(entering)))


class Both(nn.Cell):
    """The input twice: for the two branches of a stride-2 block."""

    def construct(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return x, x


def choices(option: str, values: str | Sequence[int], length: int, known: int) -> tuple[int, ...]:
    """``length`` indices below ``known``, from a sequence or a list in one string, ``0,3,1,...``.
    Raises UsageError for anything else."""
    indices = values
    if isinstance(values, str):
        indices = [int(word) if word.strip().isdecimal() else None for word in values.split(",")]
    if (
        not isinstance(indices, Sequence)
        or len(indices) != length
        or not all(type(index) is int and 0 <= index < known for index in indices)
    ):
        raise UsageError(f"{option} must be {length} whole numbers from 0 to {known - 1}, not {values!r}")
    return tuple(indices)


def spos(
    num_classes: int,
    block_choices: str | Sequence[int] = ONESHOT_BLOCKS,
    channel_choices: str | Sequence[int] = ONESHOT_CHANNELS,
    use_se: bool = False,
    last_conv_after_pooling: bool = False,
    layout: str = "OneShot",
    bn_momentum: float = 0.9,
    bn_variance: float = 1.0,
) -> nn.Cell:
    """Builds the network of a path for ``num_classes`` classes.

    Args:
        block_choices: per block an index into BLOCKS.
        channel_choices: per block 0 ... 9 (digits: 4), the share of half the outputs that the block is wide inside.
        use_se: squeeze-excite in stages 3 and 4, hard-swish but in stage 1, dropout 0.2 instead of 0.1.
        last_conv_after_pooling: the last 1x1 convolution works on the pooled vector, with a bias and
            without batch-norm. Otherwise, with ``use_se``: the ShuffleNetV2+ tail.
        layout: channels of the stages, a key of LAYOUTS.
        bn_momentum: share of the old moving statistic kept. 0.9 is the paper's (megvii); the MXNet
            re-implementation trains with 0.1.
        bn_variance: first value of the moving variance: 1 (megvii) or 0 (MXNet re-implementation).
    """
    use_se = one_of("use_se", use_se, (False, True))
    last_conv_after_pooling = one_of("last_conv_after_pooling", last_conv_after_pooling, (False, True))
    extent = LAYOUTS[one_of("layout", layout, LAYOUTS)]
    length = sum(extent.repeats)
    variance = one_of("bn_variance", bn_variance, (0.0, 1.0))
    norm = BatchNorm(momentum=share("bn_momentum", bn_momentum), beta=1e-4, variance=variance)
    path = zip(
        choices("block_choices", block_choices, length, len(BLOCKS)),
        choices("channel_choices", channel_choices, length, len(extent.scales)),
        strict=True,
    )
    act = "hswish" if use_se else "relu"

    features = {"stem": ConvNormAct(3, STEM_CHANNELS, kernel=3, stride=2, norm=norm, act=act)}
    in_channels = STEM_CHANNELS
    for stage, (channels, repeats) in enumerate(zip(extent.channels, extent.repeats, strict=True)):
        blocks = []
        for repeat in range(repeats):
            choice, width = next(path)
            blocks.append(
                ChoiceBlock(
                    in_channels,
                    channels,
                    stride=2 if repeat == 0 else 1,
                    choice=choice,
                    mid=mid_channels(channels, extent.scales[width]),
                    use_se=use_se and stage >= FIRST_SE_STAGE,
                    norm=norm,
                    act="relu" if stage == 0 else act,
                )
            )
            in_channels = channels
        features[f"stage{stage + 1}"] = nn.SequentialCell(blocks)

    hidden = {}
    if last_conv_after_pooling:
        hidden["conv"] = ConvNormAct(in_channels, extent.head, act=act)
    elif use_se:
        wide = ceil8(extent.head * 3 // 4)
        features["head"] = ConvNormAct(in_channels, wide, norm=norm, act=act)
        hidden["se"] = SqueezeExcite(wide, ceil8(wide // 4))
        hidden["conv"] = ConvNormAct(wide, extent.head, act=act)
    else:
        features["head"] = ConvNormAct(in_channels, extent.head, norm=norm, act=act)
    net = Network(features, extent.head, num_classes, hidden, dropout=0.2 if use_se else 0.1)
    initialise(net, conv=first_weights, dense=Normal(0.01), bias=Zero())
    return net


def first_weights(name: str, conv: nn.Conv2d) -> Initializer:
    """N(0, 0.01) for the stem and wherever there is a bias, else N(0, 1 / inputs per group)."""
    if name.startswith("features.stem") or conv.has_bias:
        return Normal(0.01)
    return Normal(conv.group / conv.in_channels)


PAPER = "Single Path One-Shot Neural Architecture Search with Uniform Sampling, arXiv 1904.00420"
MXNET = "CanyonWind/Single-Path-One-Shot-NAS-MXNet"
PREPROCESSING = Preprocessing(
    resize_kernel="pil",
    mean=(123.68 / 255, 116.779 / 255, 103.939 / 255),
    std=(58.393 / 255, 57.12 / 255, 57.375 / 255),
)

register(
    ModelEntry(
        name="spos_oneshot",
        build=spos,
        paper=PAPER,
        preprocessing=PREPROCESSING,
        published=(
            Published("", 0.7402, 0.9160, MXNET),
            Published("classifier without bias, BGR input", 0.749, 0.920, "megvii-model/SinglePathOneShot"),
        ),
    )
)
register(
    ModelEntry(
        name="spos_oneshot_plus",
        build=functools.partial(spos, use_se=True, last_conv_after_pooling=True),
        paper=PAPER,
        preprocessing=PREPROCESSING,
        published=(Published("", 0.7524, 0.9258, MXNET),),
    )
)
register(
    ModelEntry(
        name="spos_oneshot_s_plus",
        build=functools.partial(
            spos,
            block_choices=S_PLUS_BLOCKS,
            channel_choices=S_PLUS_CHANNELS,
            use_se=True,
            last_conv_after_pooling=True,
        ),
        paper=PAPER,
        preprocessing=PREPROCESSING,
        published=(Published("", 0.7575, 0.9277, MXNET),),
    )
)
