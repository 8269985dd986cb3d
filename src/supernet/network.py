"""The supernet: every path of a space in one network, of which each forward computes one.

The path is the value of a parameter, not part of the graph, so one compiled graph serves all paths,
and only the chosen op of each position is computed. Its weights are held at full width; a
narrower path masks the channels behind its width.

Masking ``exact`` keeps masked channels at zero through batch-norm, activation and depthwise
convolution, so that a path computes what the stand-alone network with the same weights computes.
``upstream`` (CanyonWind/Single-Path-One-Shot-NAS-MXNet) masks the 1x1 convolutions only: a masked
channel goes on as act(beta) and adds to what follows.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from typing import NamedTuple

import mindspore as ms
import numpy as np
from mindspore import Parameter, Tensor, nn, ops

from src.errors import UsageError, nearest
from src.models.layers import BatchNorm, ChannelMask, Dropout, GlobalAvgPool
from src.models.spos import ChoiceBlock, assemble, draw_first_weights
from src.space.blocks import MID, Op
from src.space.spaces import Architecture, Position, Space

MASKINGS = ("exact", "upstream")


class MaskedBlock(ChoiceBlock):
    """A choice block at full width, of which the first inner channels are used."""

    def __init__(self, position: Position, op: Op, mid: int, norm: BatchNorm, is_exact: bool):
        super().__init__(position, op, mid, norm)
        self.mask = ChannelMask()
        self.convolutions = list(self.body)
        inner = [part.target == MID for part in op.body]
        # After batch-norm, which turns the zeros of masked channels into beta - mean gamma / sigma.
        self.is_masked_after = [is_inner and is_exact for is_inner in inner]
        self.is_masked_inside = [
            is_inner and not is_exact and not part.is_depthwise for is_inner, part in zip(inner, op.body, strict=True)
        ]

    def construct(self, x: Tensor, mask: Tensor) -> Tensor:
        passing, y = self.divide(x)
        for index in range(len(self.convolutions)):
            convolution = self.convolutions[index]
            y = convolution(y, mask) if self.is_masked_inside[index] else convolution(y)
            if self.is_masked_after[index]:
                y = self.mask(y, mask)
        return self.join(self.shortcut(passing), self.se(y))


class MaskedSkip(nn.Cell):
    """The identity, whatever the mask."""

    def construct(self, x: Tensor, mask: Tensor) -> Tensor:
        return x


class SuperBlock(nn.Cell):
    """One position of the supernet: all its ops, one of which is computed.

    Args:
        masks: 0/1 by channel index and channel, float32 [C, mid].
    """

    def __init__(self, blocks: Sequence[nn.Cell], masks: np.ndarray):
        super().__init__()
        self.choices = nn.CellList(blocks)
        self.masks = Tensor(masks[:, :, None, None])
        self.is_graph = ms.get_context("mode") == ms.GRAPH_MODE

    def construct(self, x: Tensor, block: Tensor, channel: Tensor) -> Tensor:
        mask = ops.gather(self.masks, channel, 0).expand_dims(0)
        if self.is_graph:
            # One switch over the ops: half the compile time, a third of the step time of if and elif.
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

        def super_block(position: Position) -> SuperBlock:
            widths = [
                min(space.mid_channels(position.out_channels, index, rounded), _full_width(space, position))
                for index in range(len(space.channel_scales))
            ]
            masks = (np.arange(widths[-1])[None, :] < np.array(widths)[:, None]).astype(np.float32)
            blocks = [
                MaskedBlock(position, op, widths[-1], norm, masking == "exact") if op.body else MaskedSkip()
                for op in position.ops
            ]
            return SuperBlock(blocks, masks)

        cells, hidden, channels = assemble(space, super_block, norm, nn.CellList)
        self.features = Features(cells, len(space.stage_repeats))
        self.channels = channels
        self.pool = GlobalAvgPool()
        self.hidden = nn.SequentialCell(hidden) if hidden else nn.Identity()
        self.dropout = Dropout(space.dropout)
        self.classifier = nn.Dense(channels, num_classes)
        self.path = Parameter(Tensor(np.zeros(2 * space.length, np.int32)), name="path", requires_grad=False)
        draw_first_weights(self)

    def construct(self, x: Tensor) -> Tensor:
        x = self.hidden(self.pool(self.features(x, self.path)))
        return self.classifier(self.dropout(x.reshape(-1, self.channels)))

    def set_path(self, genes: np.ndarray) -> None:
        """Takes the path ``genes`` [2L] from the next forward on."""
        ops.assign(self.path, Tensor(np.asarray(genes, np.int32)))


def _full_width(space: Space, position: Position) -> int:
    return space.mid_channels(position.out_channels, len(space.channel_scales) - 1)


class Place(NamedTuple):
    """Where a parameter of a supernet belongs: to an op of a position, and which of the op's own it is."""

    position: int
    op: int
    words: list[str]


def place_of(name: str, space: Space) -> Place | None:
    """The place of parameter ``name``, None for what all paths share: ``features.stage2.0.choices.3.body.…``."""
    words = name.split(".")
    if "choices" not in words:
        return None
    stage, index, op = int(words[1].removeprefix("stage")) - 1, int(words[2]), int(words[4])
    return Place(sum(space.stage_repeats[:stage]) + index, op, words[5:])


class Slots:
    """Numbers for the ops of all positions, and a last one for what every path goes through.

    Attributes:
        count: how many there are.
    """

    def __init__(self, space: Space):
        self.space = space
        *self.first, self.shared = np.cumsum([0, *space.op_counts()]).tolist()
        self.count = self.shared + 1

    def of(self, names: Sequence[str]) -> np.ndarray:
        """The slot of each parameter of a supernet, by its name."""
        places = [place_of(name, self.space) for name in names]
        return np.array([self.first[place.position] + place.op if place else self.shared for place in places])

    def on(self, genes: np.ndarray) -> np.ndarray:
        """Which slots the path ``genes`` [2L] goes through, bool by slot."""
        used = np.zeros(self.count, bool)
        used[np.add(self.first, genes[: self.space.length])] = True
        used[self.shared] = True
        return used


def subnet_weights(weights: dict[str, np.ndarray], space: Space, architecture: Architecture) -> dict[str, np.ndarray]:
    """The weights of a path, cut out of a supernet's, under the names of :func:`create_subnet`.

    Args:
        weights: of the supernet, by name.

    Returns:
        New arrays: of each position the chosen block's, of its inner channels the first.
    """
    found = {}
    mids, positions = space.mids(architecture), space.positions()
    for name, value in weights.items():
        place = place_of(name, space)
        if place is None:
            if name != "path":
                found[name] = value.copy()
        elif place.op == architecture.blocks[place.position]:
            op = positions[place.position].ops[place.op]
            alone = name.replace(f".choices.{place.op}.", ".", 1)
            found[alone] = _cut(op, place.words, value, mids[place.position]).copy()
    return found


def _cut(op: Op, words: list[str], value: np.ndarray, inner: int) -> np.ndarray:
    """The first ``inner`` of a weight's or a per-channel vector's outputs and inputs, where those are inner ones."""
    if words[0] != "body":
        return value
    part = next(part for part in op.body if part.name == words[1])
    if part.target == MID:
        value = value[:inner]
    if part.source == MID and not part.is_depthwise and value.ndim > 1:
        value = value[:, :inner]
    return value
