"""The SPOS search space: what a path through the supernet can be.

A path picks, for each block position, one of four choice blocks and one of the channel scales
(Guo et al., arXiv 1904.00420, with the squeeze-excite and channel choices of the OneShot-S+ release).
Searches work on *genes*: an integer array [n, 2L] holding L block ids and then L channel indices.
"""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from src.errors import UsageError, nearest
from src.settings.limits import MAX_IMAGE_SIZE, MIN_IMAGE_SIZE
from src.space.choices import (
    BLOCKS,
    FIRST_SE_STAGE,
    ONESHOT_BLOCKS,
    ONESHOT_CHANNELS,
    S_PLUS_BLOCKS,
    S_PLUS_CHANNELS,
    SCALES,
    STEM_CHANNELS,
    ceil8,
    mid_channels,
)
from src.space.choices import LAYOUTS as EXTENTS


class Architecture(NamedTuple):
    """A path: block ids and channel indices, one of each per block position."""

    blocks: tuple[int, ...]
    channels: tuple[int, ...]


class Position(NamedTuple):
    """Where a block sits. Channels and square sizes of its input and output.

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


@dataclasses.dataclass(frozen=True)
class Space:
    """A supernet's extent. Field names are those of upstream's lookup-table files.

    Attributes:
        channels_layout: name of the layout, for messages and files.
        stage_repeats, stage_out_channels: block positions and output channels of each stage.
        channel_scales: choices of the main branch's width, in halves of the block's output.
        first_conv_out_channel, last_conv_out_channel: channels of the stem and of the head.
        input_size: side of the input image in pixels.
        use_se: squeeze-excite in the later stages, and hard-swish for ReLU from the third stage on.
        last_conv_after_pooling: the head's 1x1 convolution after global pooling (MobileNetV3's form).
        num_classes: width of the classifier.
    """

    channels_layout: str = "OneShot"
    stage_repeats: tuple[int, ...] = (4, 4, 8, 4)
    stage_out_channels: tuple[int, ...] = (64, 160, 320, 640)
    channel_scales: tuple[float, ...] = SCALES
    first_conv_out_channel: int = STEM_CHANNELS
    last_conv_out_channel: int = 1024
    input_size: int = 224
    use_se: bool = False
    last_conv_after_pooling: bool = False
    num_classes: int = 1000

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

    @property
    def length(self) -> int:
        """Number of block positions."""
        return sum(self.stage_repeats)

    def positions(self) -> list[Position]:
        """The block positions from the stem on."""
        found: list[Position] = []
        channels, size = self.first_conv_out_channel, -(-self.input_size // 2)
        for stage, (repeats, out) in enumerate(zip(self.stage_repeats, self.stage_out_channels, strict=True)):
            has_se = self.use_se and stage >= FIRST_SE_STAGE
            for repeat in range(repeats):
                if repeat == 0:
                    out_size = -(-size // 2)
                    found.append(Position(stage, 2, channels, out, size, out_size, channels, out - channels, has_se))
                    channels, size = out, out_size
                else:
                    found.append(Position(stage, 1, out, out, size, size, out // 2, out // 2, has_se))
        return found

    def mid_channels(self, out_channels: int, channel: int, rounded: bool = False) -> int:
        """Width of the main branch of a block with ``out_channels`` at channel index ``channel``.

        Fixed networks, lookup table and search use the truncated width; upstream's sampler in plain
        supernet training keeps the ``rounded`` one (up to a multiple of 8), which differs in stage 1.
        """
        mid = mid_channels(out_channels, self.channel_scales[channel])
        return ceil8(mid) if rounded else mid

    def check(self, architecture: Architecture) -> Architecture:
        """``architecture`` itself. Raises UsageError when it is not a path of this space."""
        for name, genes, choices in (
            ("block", architecture.blocks, len(BLOCKS)),
            ("channel", architecture.channels, len(self.channel_scales)),
        ):
            if len(genes) != self.length:
                raise UsageError(f"a path of this space has {self.length} {name} choices, not {len(genes)}")
            wrong = [gene for gene in genes if not 0 <= gene < choices]
            if wrong:
                raise UsageError(f"{name} choices go from 0 to {choices - 1}; {wrong[0]} does not exist")
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
        high = np.array([len(BLOCKS) - 1] * length + [last_channel] * length, dtype=np.int8)
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


# Layouts whose networks are not of ImageNet's size.
_SIZES = {"digits": {"input_size": 32, "num_classes": 10}}
LAYOUTS = {
    name: Space(
        channels_layout=name,
        stage_repeats=extent.repeats,
        stage_out_channels=extent.channels,
        channel_scales=extent.scales,
        last_conv_out_channel=extent.head,
        **_SIZES.get(name, {}),
    )
    for name, extent in EXTENTS.items()
}
PUBLISHED = {
    "OneShot": (LAYOUTS["OneShot"], Architecture(ONESHOT_BLOCKS, ONESHOT_CHANNELS)),
    "OneShot+": (
        dataclasses.replace(LAYOUTS["OneShot"], use_se=True, last_conv_after_pooling=True),
        Architecture(ONESHOT_BLOCKS, ONESHOT_CHANNELS),
    ),
    "OneShot-S+": (
        dataclasses.replace(LAYOUTS["OneShot"], use_se=True, last_conv_after_pooling=True),
        Architecture(S_PLUS_BLOCKS, S_PLUS_CHANNELS),
    ),
}


def make_space(layout: str, **changes) -> Space:
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
    return make_space(
        given.layout, use_se=given.use_se, last_conv_after_pooling=given.last_conv_after_pooling, **changes
    )
