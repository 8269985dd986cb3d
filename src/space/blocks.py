"""What may stand at a position of a path, as convolutions written down once and at any width.

The networks (src/models/spos.py), the supernet's masks and cuts (src/supernet/network.py) and the costs
(src/space/cost.py) all read an op here; loads without MindSpore.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple

# How many channels a convolution takes or gives: those that enter the op, its searched inner width, those that leave.
IN, MID, OUT = "in", "mid", "out"


class Part(NamedTuple):
    """A convolution of an op, with batch-norm, at any width.

    Attributes:
        name: of its cell.
        source, target: of its input and its output, IN, MID or OUT.
        is_strided: takes the position's stride, where there is one.
        has_act: an activation follows.
    """

    name: str
    source: str
    target: str
    kernel: int = 1
    is_depthwise: bool = False
    is_strided: bool = False
    has_act: bool = False


class Op(NamedTuple):
    """A named choice at a position: what its convolutions are, one after the other.

    Attributes:
        body: of the branch that is searched; without any the op is the identity.
        shortcut: of the branch beside it, where the position has a stride.
    """

    name: str
    body: tuple[Part, ...] = ()
    shortcut: tuple[Part, ...] = ()


class Convolution(NamedTuple):
    """A convolution where it stands; on one pixel it is a fully connected layer.

    Attributes:
        inputs, outputs: channels.
        size: side of its output.
        has_bias: a bias and no batch-norm.
        pooled: elements that enter the global poolings in front of it.
    """

    inputs: int
    outputs: int
    kernel: int = 1
    groups: int = 1
    size: int = 1
    has_bias: bool = False
    pooled: int = 0

    @property
    def params(self) -> int:
        """Trainable parameters, with the bias or the two a channel of batch-norm."""
        return self.kernel**2 * self.inputs // self.groups * self.outputs + (2 - self.has_bias) * self.outputs

    @property
    def macs(self) -> int:
        """Multiply-accumulates on one image."""
        return self.size**2 * self.kernel**2 * self.inputs // self.groups * self.outputs

    @property
    def flops(self) -> int:
        """Operations by upstream's counter: macs, one an output with bias, one an element that is pooled."""
        return self.macs + self.has_bias * self.size**2 * self.outputs + self.pooled


def placed(parts: Iterable[Part], channels: Mapping[str, int], in_size: int, out_size: int) -> list[Convolution]:
    """The convolutions of ``parts`` with so many ``channels`` for IN, MID and OUT, between two square sizes."""
    found, size = [], in_size
    for part in parts:
        size = out_size if part.is_strided else size
        inputs, outputs = channels[part.source], channels[part.target]
        groups = inputs if part.is_depthwise else 1
        found.append(Convolution(inputs, outputs, part.kernel, groups, size))
    return found


def gate_width(channels: int) -> int:
    """Channels inside a squeeze-excite gate on ``channels``."""
    return ceil8(channels // 4)


def gate(channels: int, size: int) -> list[Convolution]:
    """The two convolutions of a squeeze-excite gate on ``channels`` of side ``size``."""
    inner = gate_width(channels)
    reduce = Convolution(channels, inner, has_bias=True, pooled=channels * size**2)
    return [reduce, Convolution(inner, channels, has_bias=True)]


def ceil8(channels: int) -> int:
    """``channels`` rounded up to a multiple of 8."""
    return -(-channels // 8) * 8


def _shortcut(kernel: int) -> tuple[Part, ...]:
    return (
        Part("depthwise", IN, IN, kernel, is_depthwise=True, is_strided=True),
        Part("project", IN, IN, has_act=True),
    )


def _shuffle_block(kernel: int) -> Op:
    """SNB-k, the ShuffleNetV2 unit: 1x1, depthwise k x k, 1x1."""
    body = (
        Part("expand", IN, MID, has_act=True),
        Part("depthwise", MID, MID, kernel, is_depthwise=True, is_strided=True),
        Part("project", MID, OUT, has_act=True),
    )
    return Op(f"SNB-{kernel}", body, _shortcut(kernel))


def _xception_block() -> Op:
    """SXB-3, the Xception-like unit: three times depthwise 3x3 and 1x1."""
    body = (
        Part("depthwise1", IN, IN, 3, is_depthwise=True, is_strided=True),
        Part("expand", IN, MID, has_act=True),
        Part("depthwise2", MID, MID, 3, is_depthwise=True),
        Part("mix", MID, MID, has_act=True),
        Part("depthwise3", MID, MID, 3, is_depthwise=True),
        Part("project", MID, OUT, has_act=True),
    )
    return Op("SXB-3", body, _shortcut(3))


# SPOS's four (arXiv 1904.00420), in the order of its genes.
SPOS_OPS = (_shuffle_block(3), _shuffle_block(5), _shuffle_block(7), _xception_block())
# Leaves a unit out, where its input has the shape of its output.
SKIP = Op("skip")
