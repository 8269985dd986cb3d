"""A space whose positions differ in what they choose from, as those of inverted bottlenecks will: three ops where the
stride is 2, five where it is 1, of which the last leaves the unit out."""

from src.space.blocks import SKIP, SPOS_OPS
from src.space.spaces import Position, Space


class Skipping(Space):
    def positions(self) -> list[Position]:
        found = Space.positions(self)
        return [p._replace(ops=SPOS_OPS[1:] if p.stride == 2 else (*SPOS_OPS, SKIP)) for p in found]


SKIPPING = Skipping(
    "skipping", (2, 2), (32, 48), (0.4, 0.8, 1.2, 1.6, 2.0), last_conv_out_channel=32, input_size=32, num_classes=10
)
