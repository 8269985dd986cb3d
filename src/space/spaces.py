"""The SPOS search space: what a path through the supernet can be.

A path picks, for each position, one of its ops and one of the channel scales (Guo et al., arXiv
1904.00420, with the squeeze-excite and channel choices of the OneShot-S+ release). How many ops there
are is the position's to say. Searches work on *genes*: an integer array [n, 2L] holding L indices of
ops (upstream calls them blocks) and then L channel indices.
"""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from src.errors import UsageError, nearest
from src.settings.limits import MAX_IMAGE_SIZE, MIN_IMAGE_SIZE
from src.space.blocks import SPOS_OPS, Convolution, Op, ceil8, gate, placed

FIRST_SE_STAGE = 2  # squeeze-excite sits in the third and fourth stage only; the first stage has index 0
SHUFFLES = ("mxnet", "megvii")  # which channels pass a block of stride 1: of each half the first half, or the even ones
SCALES = tuple(round(0.2 * step, 1) for step in range(1, 11))


class Architecture(NamedTuple):
    """A path: indices of ops and of channel scales, one of each per position."""

    blocks: tuple[int, ...]
    channels: tuple[int, ...]


class Position(NamedTuple):
    """Where an op sits, and which there are to choose from. Channels and square sizes of its input and output.

    ``main_in`` and ``main_out`` are the channels that enter and leave the main branch: half of them
    at stride 1, where the other half passes by; at stride 2 the whole input, and what the projection
    (which keeps the input's channels) leaves of the output.
    """

    stage: int
    stride: int
    in_channels: int
    out_channels: int
    in_size: int
    out_size: int
    main_in: int
    main_out: int
    has_se: bool
    act: str
    ops: tuple[Op, ...]
    shuffle: str = "mxnet"

    def convolutions(self, op: Op, mid: int) -> list[Convolution]:
        """All that ``op`` consists of here with ``mid`` channels inside; nothing for the identity."""
        if not op.body:
            return []
        channels = {"in": self.main_in, "mid": mid, "out": self.main_out}
        found = placed(op.body, channels, self.in_size, self.out_size)
        if self.stride > 1:
            found += placed(op.shortcut, {"in": self.in_channels}, self.in_size, self.out_size)
        if self.has_se:
            found += gate(self.main_out, self.out_size)
        return found


@dataclasses.dataclass(frozen=True)
class Space:
    """The extent of a supernet and of its paths' networks. Field names are those of upstream's lookup-table files.

    Attributes:
        channels_layout: name of the layout, for messages and files.
        stage_repeats, stage_out_channels: block positions and output channels of each stage.
        channel_scales: choices of the main branch's width, in halves of the block's output.
        first_conv_out_channel, last_conv_out_channel: channels of the stem and of the head.
        input_size: side of the input image in pixels.
        use_se: squeeze-excite in the later stages, and hard-swish for ReLU from the third stage on.
        last_conv_after_pooling: the head's 1x1 convolution after global pooling (MobileNetV3's form).
        num_classes: width of the classifier.
        shuffle: one of SHUFFLES.
    """

    channels_layout: str = "OneShot"
    stage_repeats: tuple[int, ...] = (4, 4, 8, 4)
    stage_out_channels: tuple[int, ...] = (64, 160, 320, 640)
    channel_scales: tuple[float, ...] = SCALES
    first_conv_out_channel: int = 16
    last_conv_out_channel: int = 1024
    input_size: int = 224
    use_se: bool = False
    last_conv_after_pooling: bool = False
    num_classes: int = 1000
    shuffle: str = "mxnet"

    def __post_init__(self):
        if len(self.stage_repeats) != len(self.stage_out_channels) or not self.stage_repeats:
            raise UsageError("a space needs as many stage_out_channels as stage_repeats, and at least one")
        if min(self.stage_repeats) < 1 or not self.channel_scales or min(self.channel_scales) <= 0:
            raise UsageError("stage_repeats and channel_scales must be positive")
        width = self.first_conv_out_channel
        for channels in self.stage_out_channels:
            if channels % 2 or channels <= width:
                raise UsageError(
                    f"stage_out_channels must be even and grow from the stem's {width}: {channels} does not"
                )
            width = channels
        if min(self.mid_channels(channels, 0) for channels in self.stage_out_channels) < 1:
            raise UsageError("the smallest channel scale leaves a block without channels")

    def described(self) -> dict:
        """Every field by its name. The order of channels is left away where it is that of earlier versions, whose
        files do not say it."""
        fields = dataclasses.asdict(self)
        if self.shuffle == SHUFFLES[0]:
            del fields["shuffle"]
        return fields

    @property
    def length(self) -> int:
        """Number of block positions."""
        return sum(self.stage_repeats)

    @property
    def act(self) -> str:
        """The activation of stem, head and all stages but the first, which has ReLU."""
        return "hswish" if self.use_se else "relu"

    @property
    def dropout(self) -> float:
        """Rate in front of the classifier."""
        return 0.2 if self.use_se else 0.1

    def positions(self) -> list[Position]:
        """The block positions from the stem on."""
        found: list[Position] = []
        channels, size = self.first_conv_out_channel, -(-self.input_size // 2)
        for stage, (repeats, out) in enumerate(zip(self.stage_repeats, self.stage_out_channels, strict=True)):
            kind = (self.use_se and stage >= FIRST_SE_STAGE, "relu" if stage == 0 else self.act, SPOS_OPS, self.shuffle)
            for repeat in range(repeats):
                if repeat == 0:
                    out_size = -(-size // 2)
                    found.append(Position(stage, 2, channels, out, size, out_size, channels, out - channels, *kind))
                    channels, size = out, out_size
                else:
                    found.append(Position(stage, 1, out, out, size, size, out // 2, out // 2, *kind))
        return found

    def op_counts(self) -> list[int]:
        """How many ops there are to choose from at each position."""
        return [len(position.ops) for position in self.positions()]

    def input_block(self) -> list[Convolution]:
        """The stem."""
        return [Convolution(3, self.first_conv_out_channel, 3, size=-(-self.input_size // 2))]

    def output_block(self) -> list[Convolution]:
        """Head and classifier."""
        width, last, size = self.stage_out_channels[-1], self.last_conv_out_channel, self.positions()[-1].out_size
        classifier = Convolution(last, self.num_classes, has_bias=True)
        if self.last_conv_after_pooling:
            return [Convolution(width, last, has_bias=True, pooled=width * size**2), classifier]
        if self.use_se:
            # ShuffleNetV2+'s tail: 1x1, pooling, squeeze-excite on one pixel, then the head's 1x1.
            first, second = gate(self.tail_width, 1)
            first = first._replace(pooled=first.pooled + self.tail_width * size**2)
            head = Convolution(self.tail_width, last, has_bias=True)
            return [Convolution(width, self.tail_width, size=size), first, second, head, classifier]
        return [Convolution(width, last, size=size), classifier._replace(pooled=last * size**2)]

    @property
    def tail_width(self) -> int:
        """Channels before pooling in ShuffleNetV2+'s tail."""
        return ceil8(self.last_conv_out_channel * 3 // 4)

    def mid_channels(self, out_channels: int, channel: int, rounded: bool = False) -> int:
        """Width of the main branch of a block with ``out_channels`` at channel index ``channel``.

        Fixed networks, lookup table and search use the truncated width; upstream's sampler in plain
        supernet training keeps the ``rounded`` one (up to a multiple of 8), which differs in stage 1.
        """
        mid = int(out_channels // 2 * self.channel_scales[channel])
        return ceil8(mid) if rounded else mid

    def check(self, architecture: Architecture) -> Architecture:
        """``architecture`` itself. Raises UsageError when it is not a path of this space."""
        for name, genes, counts in (
            ("block", architecture.blocks, self.op_counts()),
            ("channel", architecture.channels, [len(self.channel_scales)] * self.length),
        ):
            if len(genes) != self.length:
                raise UsageError(f"a path of this space has {self.length} {name} choices, not {len(genes)}")
            for gene, count in zip(genes, counts, strict=True):
                if not 0 <= gene < count:
                    raise UsageError(f"{name} choices go from 0 to {count - 1}; {gene} does not exist")
        return architecture

    def largest_mids(self) -> list[int]:
        """Width of every position's main branch at the largest scale, as the supernet holds it."""
        last = len(self.channel_scales) - 1
        return [self.mid_channels(position.out_channels, last) for position in self.positions()]

    def mids(self, architecture: Architecture, rounded: bool = False) -> list[int]:
        """Main-branch width of every block of a path; ``rounded`` widths never exceed the supernet's."""
        return [
            min(self.mid_channels(position.out_channels, channel, rounded), largest)
            for position, channel, largest in zip(
                self.positions(), architecture.channels, self.largest_mids(), strict=True
            )
        ]


def to_genes(architectures: Sequence[Architecture]) -> np.ndarray:
    """Paths as genes [n, 2L], int8."""
    return np.array([[*path.blocks, *path.channels] for path in architectures], dtype=np.int8)


def from_genes(genes: np.ndarray) -> list[Architecture]:
    """Genes [n, 2L] as paths."""
    length = genes.shape[1] // 2
    return [Architecture(tuple(row[:length]), tuple(row[length:])) for row in genes.tolist()]


@dataclasses.dataclass(frozen=True, eq=False)
class Domain:
    """The part of a space that may be drawn from: an inclusive range for every gene.

    Attributes:
        low, high: smallest and largest value of each gene, int8 [2L]. A fixed gene has both equal.
    """

    low: np.ndarray
    high: np.ndarray

    @classmethod
    def of(
        cls,
        space: Space,
        blocks: Sequence[int] | None = None,
        channels: Sequence[int] | None = None,
        channel_range: tuple[int, int] | None = None,
    ) -> Domain:
        """All of ``space``, or the part with ``blocks`` or ``channels`` fixed, or the channel indices
        kept within the inclusive ``channel_range``."""
        length, last = space.length, len(space.channel_scales) - 1
        first_channel, last_channel = channel_range or (0, last)
        low = np.array([0] * length + [first_channel] * length, dtype=np.int8)
        high = np.array([count - 1 for count in space.op_counts()] + [last_channel] * length, dtype=np.int8)
        if blocks is not None or channels is not None:
            filled = space.check(Architecture(tuple(blocks or [0] * length), tuple(channels or [0] * length)))
            if blocks is not None:
                low[:length] = high[:length] = filled.blocks
            if channels is not None:
                low[length:] = high[length:] = filled.channels
        return cls(low, high)

    def sample(self, rng: np.random.Generator, count: int) -> np.ndarray:
        """``count`` uniform draws, [count, 2L]."""
        return rng.integers(self.low, self.high, size=(count, len(self.low)), dtype=np.int8, endpoint=True)

    def cross(self, rng: np.random.Generator, mothers: np.ndarray, fathers: np.ndarray, mutation: float) -> np.ndarray:
        """Children [n, 2L]: every gene from either parent with equal chance, then with chance
        ``mutation`` replaced by a uniform draw (which may be the old value)."""
        inherited = np.where(rng.random(mothers.shape) < 0.5, mothers, fathers)
        return self.mutate(rng, inherited, mutation)

    def mutate(self, rng: np.random.Generator, genes: np.ndarray, mutation: float) -> np.ndarray:
        """``genes`` with each replaced, with chance ``mutation``, by a uniform draw."""
        fresh = self.sample(rng, len(genes))
        return np.where(rng.random(genes.shape) < mutation, fresh, genes).astype(np.int8)

    def size(self) -> int:
        """Number of paths in the domain."""
        total = 1
        for low, high in zip(self.low.tolist(), self.high.tolist(), strict=True):
            total *= high - low + 1
        return total


def different_pairs(rng: np.random.Generator, parents: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
    """``count`` mothers and fathers [count, 2L], each pair two different rows of ``parents`` [n >= 2, 2L]."""
    mother = rng.integers(len(parents), size=count)
    father = (mother + rng.integers(1, len(parents), size=count)) % len(parents)
    return parents[mother], parents[father]


LAYOUTS = {
    space.channels_layout: space
    for space in (
        Space("OneShot"),
        Space("ShuffleNetV2+", stage_out_channels=(48, 128, 256, 512)),
        # The paper's search for blocks alone: all are half their output wide inside.
        Space("blocks", channel_scales=(1.0,)),
        # Small enough to train, search and train again on the digits in minutes.
        Space(
            "digits",
            (2, 2, 2),
            (32, 64, 128),
            SCALES[1::2],
            last_conv_out_channel=128,
            input_size=32,
            num_classes=10,
        ),
    )
}
ONESHOT = Architecture(
    blocks=(0, 0, 3, 1, 1, 1, 0, 0, 2, 0, 2, 1, 1, 0, 2, 0, 2, 1, 3, 2),
    channels=(6, 5, 3, 5, 2, 6, 3, 4, 2, 5, 7, 5, 4, 6, 7, 4, 4, 5, 4, 3),
)
S_PLUS = Architecture(
    blocks=(0, 0, 0, 1, 0, 0, 1, 0, 3, 2, 0, 1, 2, 2, 1, 2, 0, 0, 2, 0),
    channels=(8, 7, 6, 8, 5, 7, 3, 4, 2, 4, 2, 3, 4, 5, 6, 6, 3, 3, 4, 6),
)
_PLUS = dataclasses.replace(LAYOUTS["OneShot"], use_se=True, last_conv_after_pooling=True)
PUBLISHED = {"OneShot": (LAYOUTS["OneShot"], ONESHOT), "OneShot+": (_PLUS, ONESHOT), "OneShot-S+": (_PLUS, S_PLUS)}


def create_space(layout: str, **changes) -> Space:
    """The space of a named layout, with some fields changed (use_se, input_size, …).

    Raises:
        UsageError: there is no such layout or field; the message names the nearest.
    """
    if layout not in LAYOUTS:
        raise UsageError(f"there is no layout {layout!r}{nearest(layout, LAYOUTS)}; there are {', '.join(LAYOUTS)}")
    fields = [field.name for field in dataclasses.fields(Space)]
    for name in changes:
        if name not in fields:
            raise UsageError(f"a space has no {name!r}{nearest(name, fields)}; it has {', '.join(fields)}")
    return dataclasses.replace(LAYOUTS[layout], **changes)


def add_space_arguments(parser: argparse.ArgumentParser) -> None:
    """The flags that say which space, read by :func:`space_of_arguments`."""
    parser.add_argument("--layout", default="OneShot", help=", ".join(LAYOUTS))
    parser.add_argument("--use_se", action="store_true")
    parser.add_argument("--last_conv_after_pooling", action="store_true")
    parser.add_argument("--image_size", type=int, default=0, help="pixels (0: the layout's own)")


def space_of_arguments(given: argparse.Namespace) -> Space:
    """The space that the flags say. Raises UsageError for a layout or size there is none of."""
    changes = {"input_size": given.image_size} if given.image_size else {}
    if given.image_size and not MIN_IMAGE_SIZE <= given.image_size <= MAX_IMAGE_SIZE:
        raise UsageError(f"image_size is {given.image_size}; it must be from {MIN_IMAGE_SIZE} to {MAX_IMAGE_SIZE}")
    return create_space(
        given.layout, use_se=given.use_se, last_conv_after_pooling=given.last_conv_after_pooling, **changes
    )
