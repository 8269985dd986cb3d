"""Single Path One-Shot NAS (arXiv 1904.00420): the networks it found, and any other path of its spaces.

A path picks an op and an inner width for each position of a space (src/space/spaces.py). Three networks
of the MXNet re-implementation (CanyonWind/Single-Path-One-Shot-NAS-MXNet) are registered; any other
path is one of them with other ``block_choices`` and ``channel_choices``.

Batch-norm eps 1e-5, first shift 1e-4. Convolutions start N(0, 1 / inputs per group), but stem,
squeeze-excite, the convolution after pooling and the classifier N(0, 0.01); biases zero.
"""

import functools
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import NamedTuple

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
from src.space.blocks import IN, MID, OUT, Op, Part, gate_width
from src.space.spaces import LAYOUTS, ONESHOT, S_PLUS, SHUFFLES, Architecture, Position, Space, create_space


def cells_of(
    parts: Iterable[Part], channels: Mapping[str, int], stride: int, norm: BatchNorm, act: str
) -> nn.SequentialCell:
    """The cells of ``parts``, under their names, with so many ``channels`` for IN, MID and OUT."""
    cells = OrderedDict()
    for part in parts:
        inputs = channels[part.source]
        cells[part.name] = ConvNormAct(
            inputs,
            channels[part.target],
            part.kernel,
            stride if part.is_strided else 1,
            groups=inputs if part.is_depthwise else 1,
            norm=norm,
            act=act if part.has_act else None,
        )
    return nn.SequentialCell(cells)


class ChoiceBlock(nn.Cell):
    """An op of SPOS at its position.

    Stride 1: the channels are shuffled, the first half passes, the second goes through the body; in megvii's order
    every other channel passes.
    Stride 2: projection and body both take the whole input. Output: [passed or projected, body].

    Args:
        mid: inner width of the body.
    """

    def __init__(self, position: Position, op: Op, mid: int, norm: BatchNorm):
        super().__init__()
        stride, act = position.stride, position.act
        if stride == 1:
            self.shortcut = nn.Identity()
            rows = {"mxnet": 2, "megvii": position.in_channels // 2}[position.shuffle]
            self.divide = ShuffledHalves(position.in_channels, rows)
        else:
            self.shortcut = cells_of(op.shortcut, {IN: position.in_channels}, stride, norm, act)
            self.divide = Both()
        channels = {IN: position.main_in, MID: mid, OUT: position.main_out}
        self.body = cells_of(op.body, channels, stride, norm, act)
        out = position.main_out
        self.se = SqueezeExcite(out, gate_width(out)) if position.has_se else nn.Identity()
        self.join = Concat()

    def construct(self, x: Tensor) -> Tensor:
        passing, entering = self.divide(x)
        return self.join(self.shortcut(passing), self.se(self.body(entering)))


class Both(nn.Cell):
    """The input twice: for the two branches of a stride-2 block."""

    def construct(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return x, x


class Assembled(NamedTuple):
    """The cells of a network around its positions, under their names.

    Attributes:
        features, hidden: before and after pooling.
        channels: that the classifier takes.
    """

    features: OrderedDict[str, nn.Cell]
    hidden: OrderedDict[str, nn.Cell]
    channels: int


def assemble(
    space: Space,
    make_block: Callable[[Position], nn.Cell],
    norm: BatchNorm,
    make_stage: Callable[[list[nn.Cell]], nn.Cell] = nn.SequentialCell,
) -> Assembled:
    """Stem, stages and head of ``space``, with what ``make_block`` gives at each position.

    Args:
        make_stage: holds the blocks of a stage.
    """
    act, last = space.act, space.last_conv_out_channel
    features = OrderedDict(stem=ConvNormAct(3, space.first_conv_out_channel, kernel=3, stride=2, norm=norm, act=act))
    stages: list[list[nn.Cell]] = [[] for _ in space.stage_repeats]
    for position in space.positions():
        stages[position.stage].append(make_block(position))
    for number, blocks in enumerate(stages, start=1):
        features[f"stage{number}"] = make_stage(blocks)
    width = space.stage_out_channels[-1]
    hidden: OrderedDict[str, nn.Cell] = OrderedDict()
    if space.last_conv_after_pooling:
        hidden["conv"] = ConvNormAct(width, last, act=act)
    elif space.use_se:
        inner = space.tail_width
        features["head"] = ConvNormAct(width, inner, norm=norm, act=act)
        hidden["se"] = SqueezeExcite(inner, gate_width(inner))
        hidden["conv"] = ConvNormAct(inner, last, act=act)
    else:
        features["head"] = ConvNormAct(width, last, norm=norm, act=act)
    return Assembled(features, hidden, last)


def create_subnet(
    space: Space, architecture: Architecture, num_classes: int, bn_momentum: float = 0.9, bn_variance: float = 1.0
) -> Network:
    """The network of a path. Its weights have the supernet's names less ``choices.<op>``."""
    norm = BatchNorm(momentum=bn_momentum, beta=1e-4, variance=bn_variance)
    path = iter(zip(architecture.blocks, space.mids(space.check(architecture)), strict=True))

    def block(position: Position) -> nn.Cell:
        choice, mid = next(path)
        return create_block(position, position.ops[choice], mid, norm)

    cells = assemble(space, block, norm)
    network = Network(cells.features, cells.channels, num_classes, cells.hidden, dropout=space.dropout)
    draw_first_weights(network)
    return network


def create_block(position: Position, op: Op, mid: int, norm: BatchNorm) -> nn.Cell:
    """``op`` at ``position`` with ``mid`` channels inside: [N, in_channels, H, W] to [N, out_channels, H', W']."""
    return ChoiceBlock(position, op, mid, norm) if op.body else nn.Identity()


def choices(option: str, values: str | Sequence[int], counts: Sequence[int]) -> tuple[int, ...]:
    """An index below each of ``counts``, from a sequence or a list in one string, ``0,3,1,...``.
    Raises UsageError for anything else."""
    indices = values
    if isinstance(values, str):
        indices = [int(word) if word.strip().isdecimal() else None for word in values.split(",")]
    if (
        not isinstance(indices, Sequence)
        or len(indices) != len(counts)
        or not all(type(index) is int and 0 <= index < count for index, count in zip(indices, counts, strict=True))
    ):
        most = max(counts) - 1
        raise UsageError(f"{option} must be {len(counts)} whole numbers from 0 to {most}, not {values!r}")
    return tuple(indices)


def architecture_of(
    space: Space, block_choices: str | Sequence[int], channel_choices: str | Sequence[int]
) -> Architecture:
    """The path of ``space`` that a network's options say. Raises UsageError where they say none."""
    return Architecture(
        choices("block_choices", block_choices, space.op_counts()),
        choices("channel_choices", channel_choices, [len(space.channel_scales)] * space.length),
    )


def spos(
    num_classes: int,
    block_choices: str | Sequence[int] = ONESHOT.blocks,
    channel_choices: str | Sequence[int] = ONESHOT.channels,
    use_se: bool = False,
    last_conv_after_pooling: bool = False,
    layout: str = "OneShot",
    bn_momentum: float = 0.9,
    bn_variance: float = 1.0,
    shuffle: str = "mxnet",
) -> nn.Cell:
    """Builds the network of a path for ``num_classes`` classes.

    Args:
        block_choices: per block an index of its position's ops: SNB-3, SNB-5, SNB-7, SXB-3.
        channel_choices: per block 0 ... 9 (digits: 4, blocks: 0), the share of half the outputs that the
            block is wide inside.
        use_se: squeeze-excite in stages 3 and 4, hard-swish but in stage 1, dropout 0.2 instead of 0.1.
        last_conv_after_pooling: the last 1x1 convolution works on the pooled vector, with a bias and
            without batch-norm. Otherwise, with ``use_se``: the ShuffleNetV2+ tail.
        layout: channels of the stages, a key of LAYOUTS.
        bn_momentum: share of the old moving statistic kept. 0.9 is the paper's (megvii); the MXNet
            re-implementation trains with 0.1.
        bn_variance: first value of the moving variance: 1 (megvii) or 0 (MXNet re-implementation).
        shuffle: which half of the channels passes a block of stride 1: ``mxnet`` (the first half of each half) or
            ``megvii`` (the even ones). Weights of one are of no use in the other, in whatever order.
    """
    space = create_space(
        one_of("layout", layout, LAYOUTS),
        use_se=one_of("use_se", use_se, (False, True)),
        last_conv_after_pooling=one_of("last_conv_after_pooling", last_conv_after_pooling, (False, True)),
        shuffle=one_of("shuffle", shuffle, SHUFFLES),
    )
    return create_subnet(
        space,
        architecture_of(space, block_choices, channel_choices),
        num_classes,
        share("bn_momentum", bn_momentum),
        one_of("bn_variance", bn_variance, (0.0, 1.0)),
    )


def draw_first_weights(network: nn.Cell) -> None:
    """Draws the weights of a path's network, or of a supernet, as SPOS starts them."""
    initialise(network, conv=first_weights, dense=Normal(0.01), bias=Zero())


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
            block_choices=S_PLUS.blocks,
            channel_choices=S_PLUS.channels,
            use_se=True,
            last_conv_after_pooling=True,
        ),
        paper=PAPER,
        preprocessing=PREPROCESSING,
        published=(Published("", 0.7575, 0.9277, MXNET),),
    )
)
