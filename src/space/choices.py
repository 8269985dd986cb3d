"""What a path of SPOS chooses from (arXiv 1904.00420), and the paths others published: plain constants.

Below both the networks (src/models/spos.py) and the search over them (src/supernet); loads without MindSpore.
"""

from __future__ import annotations

from typing import NamedTuple

BLOCKS = ("SNB-3", "SNB-5", "SNB-7", "SXB-3")  # ShuffleNetV2 units by depthwise kernel, and the Xception-like unit
KERNELS = (3, 5, 7, 3)
XCEPTION = 3  # block id of SXB-3
SCALES = tuple(round(0.2 * step, 1) for step in range(1, 11))
STEM_CHANNELS = 16
FIRST_SE_STAGE = 2  # squeeze-excite sits in the third and fourth stage only; the first stage has index 0


class Layout(NamedTuple):
    """Extent of a network: blocks and output channels of its stages, width choices of a block, channels of the head."""

    repeats: tuple[int, ...]
    channels: tuple[int, ...]
    scales: tuple[float, ...] = SCALES
    head: int = 1024


LAYOUTS = {
    "OneShot": Layout((4, 4, 8, 4), (64, 160, 320, 640)),
    "ShuffleNetV2+": Layout((4, 4, 8, 4), (48, 128, 256, 512)),
    # Small enough to train, search and train again on the digits in minutes.
    "digits": Layout((2, 2, 2), (32, 64, 128), SCALES[1::2], head=128),
}

ONESHOT_BLOCKS = (0, 0, 3, 1, 1, 1, 0, 0, 2, 0, 2, 1, 1, 0, 2, 0, 2, 1, 3, 2)
ONESHOT_CHANNELS = (6, 5, 3, 5, 2, 6, 3, 4, 2, 5, 7, 5, 4, 6, 7, 4, 4, 5, 4, 3)
S_PLUS_BLOCKS = (0, 0, 0, 1, 0, 0, 1, 0, 3, 2, 0, 1, 2, 2, 1, 2, 0, 0, 2, 0)
S_PLUS_CHANNELS = (8, 7, 6, 8, 5, 7, 3, 4, 2, 4, 2, 3, 4, 5, 6, 6, 3, 3, 4, 6)


def mid_channels(out_channels: int, scale: float) -> int:
    """Inner width of a block with ``out_channels`` outputs: half of them times ``scale``, truncated (the
    searched networks are not rounded to multiples of 8)."""
    return int(out_channels // 2 * scale)


def ceil8(channels: int) -> int:
    """``channels`` rounded up to a multiple of 8."""
    return -(-channels // 8) * 8
