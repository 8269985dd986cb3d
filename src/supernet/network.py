"""The supernet: every path of a space in one network, of which each forward computes one.

The path is the value of a parameter, not part of the graph, so one compiled graph serves all paths,
and only the chosen block of each position is computed. Block weights are held at full width; a
narrower path masks the channels behind its width.

Masking ``exact`` keeps masked channels at zero through batch-norm, activation and depthwise
convolution, so that a path computes what the stand-alone network with the same weights computes.
``upstream`` (CanyonWind/Single-Path-One-Shot-NAS-MXNet) masks the 1x1 convolutions only: a masked
channel goes on as act(beta) and adds to what follows.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence

import mindspore as ms
import numpy as np
from mindspore import Parameter, Tensor, nn, ops
from mindspore.common.initializer import Normal, Zero

from src.errors import UsageError, nearest
from src.models.layers import (
    BatchNorm,
    ChannelMask,
    ConvNormAct,
    Dropout,
    GlobalAvgPool,
    Network,
    SqueezeExcite,
    initialise,
)
from src.models.spos import ChoiceBlock, first_weights
from src.space.choices import BLOCKS, XCEPTION, ceil8
from src.space.spaces import Architecture, Position, Space

MASKINGS = ("exact", "upstream")


class MaskedBlock(ChoiceBlock):
    """A choice block at full width, of which the first channels are used."""

    def __init__(self, *args, is_exact: bool, **kwargs):
        super().__init__(*args, **kwargs)
        self.is_exact = is_exact
        self.mask = ChannelMask()
        self.is_xception = kwargs["choice"] == XCEPTION

    def construct(self, x: Tensor, mask: Tensor) -> Tensor:
        passing, entering = self.divide(x)
        if self.is_xception:
            y = self.pointwise(self.body.expand, self.body.depthwise1(entering), mask)
            y = self.depthwise(self.body.depthwise2, y, mask)
            y = self.pointwise(self.body.mix, y, mask)
            y = self.depthwise(self.body.depthwise3, y, mask)
        else:
            y = self.pointwise(self.body.expand, entering, mask)
            y = self.depthwise(self.body.depthwise, y, mask)
        return self.join(self.shortcut(passing), self.se(self.body.project(y)))

    def pointwise(self, cell: ConvNormAct, x: Tensor, mask: Tensor) -> Tensor:
        return self.mask(cell(x), mask) if self.is_exact else cell(x, mask)

    def depthwise(self, cell: ConvNormAct, x: Tensor, mask: Tensor) -> Tensor:
        # Batch-norm turns the zeros of masked channels into beta - mean gamma / sigma.
        return self.mask(cell(x), mask) if self.is_exact else cell(x)


class SuperBlock(nn.Cell):
    """One position of the supernet: all four choice blocks, one of which is computed.

    Args:
        masks: 0/1 by channel index and channel, float32 [C, mid].
    """

    def __init__(self, blocks: Sequence[MaskedBlock], masks: np.ndarray):
        super().__init__()
        self.choices = nn.CellList(blocks)
        self.masks = Tensor(masks[:, :, None, None])
        self.is_graph = ms.get_context("mode") == ms.GRAPH_MODE

    def construct(self, x: Tensor, block: Tensor, channel: Tensor) -> Tensor:
        mask = ops.gather(self.masks, channel, 0).expand_dims(0)
        if self.is_graph:
            # One switch over the four: half the compile time, a third of the step time of if and elif.
            return self.choices[block](x, mask)
        return self.choices[int(block)](x, mask)


class Features(nn.Cell):
    """Stem, stages of super blocks and, where the head convolves before pooling, the head."""

    def __init__(self, cells: OrderedDict[str, nn.Cell], stages: int):
        super().__init__()
        self.stem = cells.pop("stem")
        self.stages = stages
        self.head = cells.pop("head", nn.Identity())
        for name, blocks in cells.items():
            self.insert_child_to_cell(name, blocks)
        self.blocks = [block for blocks in cells.values() for block in blocks]

    def construct(self, x: Tensor, path: Tensor) -> Tensor:
        x = self.stem(x)
        length = len(self.blocks)
        for position in range(length):
            x = self.blocks[position](x, path[position], path[length + position])
        return self.head(x)


class Supernet(nn.Cell):
    """Images [N, 3, H, W] to logits [N, classes] along the path last set.

    Args:
        space: what it holds.
        num_classes: width of the classifier.
        masking: one of MASKINGS.
        rounded: mask widths rounded up to multiples of 8, as upstream's plain training does.
        affine: whether batch-norm learns scale and shift (megvii's supernet: no).
        bn_momentum: share of the old moving statistic kept.
    """

    def __init__(
        self,
        space: Space,
        num_classes: int,
        masking: str = "exact",
        rounded: bool = False,
        affine: bool = True,
        bn_momentum: float = 0.9,
    ):
        super().__init__()
        if masking not in MASKINGS:
            raise UsageError(f"there is no masking {masking!r}{nearest(masking, MASKINGS)}; there are exact, upstream")
        self.space = space
        norm = BatchNorm(momentum=bn_momentum, beta=1e-4 if affine else 0.0, affine=affine)

        def super_block(position: Position, act: str) -> SuperBlock:
            widths = [
                min(space.mid_channels(position.out_channels, index, rounded), _full_width(space, position))
                for index in range(len(space.channel_scales))
            ]
            masks = (np.arange(widths[-1])[None, :] < np.array(widths)[:, None]).astype(np.float32)
            blocks = [
                MaskedBlock(
                    position.in_channels,
                    position.out_channels,
                    stride=position.stride,
                    choice=choice,
                    mid=widths[-1],
                    use_se=position.has_se,
                    norm=norm,
                    act=act,
                    is_exact=masking == "exact",
                )
                for choice in range(len(BLOCKS))
            ]
            return SuperBlock(blocks, masks)

        cells, hidden, channels = _assemble(space, super_block, nn.CellList, norm)
        self.features = Features(cells, len(space.stage_repeats))
        self.channels = channels
        self.pool = GlobalAvgPool()
        self.hidden = nn.SequentialCell(hidden) if hidden else nn.Identity()
        self.dropout = Dropout(_dropout(space))
        self.classifier = nn.Dense(channels, num_classes)
        self.path = Parameter(Tensor(np.zeros(2 * space.length, np.int32)), name="path", requires_grad=False)
        _initialise(self)

    def construct(self, x: Tensor) -> Tensor:
        x = self.hidden(self.pool(self.features(x, self.path)))
        return self.classifier(self.dropout(x.reshape(-1, self.channels)))

    def set_path(self, genes: np.ndarray) -> None:
        """Takes the path ``genes`` [2L] from the next forward on."""
        ops.assign(self.path, Tensor(np.asarray(genes, np.int32)))


def build_subnet(
    space: Space, architecture: Architecture, num_classes: int, bn_momentum: float = 0.9, bn_variance: float = 1.0
) -> Network:
    """The stand-alone network of a path. Its weights have the supernet's names less ``choices.<block>``."""
    norm = BatchNorm(momentum=bn_momentum, beta=1e-4, variance=bn_variance)
    path = iter(zip(architecture.blocks, space.mids(space.check(architecture)), strict=True))

    def block(position: Position, act: str) -> ChoiceBlock:
        choice, mid = next(path)
        return _choice_block(position, choice, mid, norm, act)

    cells, hidden, channels = _assemble(space, block, nn.SequentialCell, norm)
    network = Network(cells, channels, num_classes, hidden, dropout=_dropout(space))
    _initialise(network)
    return network


def build_block(space: Space, position: Position, block: int, channel: int) -> ChoiceBlock:
    """One block of a stand-alone network, from [N, in_channels, H, W] to [N, out_channels, H', W']."""
    act = "relu" if position.stage == 0 else _activation(space)
    return _choice_block(position, block, space.mid_channels(position.out_channels, channel), BatchNorm(), act)


def _choice_block(position: Position, choice: int, mid: int, norm: BatchNorm, act: str) -> ChoiceBlock:
    return ChoiceBlock(
        position.in_channels,
        position.out_channels,
        stride=position.stride,
        choice=choice,
        mid=mid,
        use_se=position.has_se,
        norm=norm,
        act=act,
    )


def _activation(space: Space) -> str:
    return "hswish" if space.use_se else "relu"


def _assemble(
    space: Space,
    make_block: Callable[[Position, str], nn.Cell],
    make_stage: Callable[[list[nn.Cell]], nn.Cell],
    norm: BatchNorm,
) -> tuple[OrderedDict[str, nn.Cell], OrderedDict[str, nn.Cell], int]:
    """Cells before and after pooling by name, and the classifier's inputs."""
    act = _activation(space)
    last = space.last_conv_out_channel
    cells = OrderedDict(stem=ConvNormAct(3, space.first_conv_out_channel, kernel=3, stride=2, norm=norm, act=act))
    stages: list[list[nn.Cell]] = [[] for _ in space.stage_repeats]
    for position in space.positions():
        stages[position.stage].append(make_block(position, "relu" if position.stage == 0 else act))
    for number, blocks in enumerate(stages, start=1):
        cells[f"stage{number}"] = make_stage(blocks)
    width = space.stage_out_channels[-1]
    hidden: OrderedDict[str, nn.Cell] = OrderedDict()
    if space.last_conv_after_pooling:
        hidden["conv"] = ConvNormAct(width, last, act=act)
    elif space.use_se:
        inner = ceil8(last * 3 // 4)
        cells["head"] = ConvNormAct(width, inner, norm=norm, act=act)
        hidden["se"] = SqueezeExcite(inner, ceil8(inner // 4))
        hidden["conv"] = ConvNormAct(inner, last, act=act)
    else:
        cells["head"] = ConvNormAct(width, last, norm=norm, act=act)
    return cells, hidden, last


def _full_width(space: Space, position: Position) -> int:
    return space.mid_channels(position.out_channels, len(space.channel_scales) - 1)


def _dropout(space: Space) -> float:
    return 0.2 if space.use_se else 0.1


def _initialise(network: nn.Cell) -> None:
    initialise(network, conv=first_weights, dense=Normal(0.01), bias=Zero())


def subnet_weights(weights: dict[str, np.ndarray], space: Space, architecture: Architecture) -> dict[str, np.ndarray]:
    """The weights of a path, cut out of a supernet's, under the names of :func:`build_subnet`.

    Args:
        weights: of the supernet, by name.

    Returns:
        New arrays: of each position the chosen block's, of its inner channels the first.
    """
    found = {}
    mids = space.mids(architecture)
    stages = [position.stage for position in space.positions()]
    for name, value in weights.items():
        words = name.split(".")
        if "choices" not in words:
            if name != "path":
                found[name] = value.copy()
            continue
        stage, index, choice = int(words[1].removeprefix("stage")) - 1, int(words[2]), int(words[4])
        position = stages.index(stage) + index
        if choice != architecture.blocks[position]:
            continue
        inner = mids[position]
        found[".".join(words[:3] + words[5:])] = _cut(words[5:], value, inner).copy()
    return found


# Which axes of a body's weights are inner channels: outputs (and per-channel vectors) 0, inputs 1.
_INNER_AXES = {
    "expand": (0,),
    "depthwise": (0,),
    "depthwise2": (0,),
    "mix": (0, 1),
    "depthwise3": (0,),
    "project": (1,),
}


def _cut(words: list[str], value: np.ndarray, inner: int) -> np.ndarray:
    if words[0] != "body":
        return value
    for axis in _INNER_AXES.get(words[1], ()):
        if axis < value.ndim:
            value = value[(slice(None),) * axis + (slice(inner),)]
    return value
