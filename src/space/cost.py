"""What a path costs: parameters and operations by a closed form, and sums over lookup tables.

Every cost here is a sum of one entry per block position and a constant, so a table [L, 4, C] holds
all there is to know: a path's cost is a gather and a sum, a million paths' one NumPy operation, and
the cheapest and dearest path of a domain are exact.

Two conventions of counting operations at the space's input size:
    macs   multiply-accumulates of convolutions and fully connected layers.
    flops  upstream's counter: macs, plus one per output element of a layer with bias, plus one per
           element that enters a global pooling.
Batch-norm, activations, additions and masks count nothing in either.

``python -m src.space.cost FOLDER`` writes a space's lookup table in the layout of upstream's files.
"""

from __future__ import annotations

import argparse
import dataclasses
import functools
import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from src.errors import UsageError, run
from src.files import write_text
from src.space.choices import BLOCKS, KERNELS, XCEPTION, ceil8
from src.space.spaces import Domain, Position, Space, add_space_arguments, space_of_arguments

MILLION = 1e6
ROWS_AT_ONCE = 1 << 14


@dataclasses.dataclass(frozen=True, eq=False)
class Table:
    """An additive cost over the genes of a space.

    Attributes:
        name: flops, macs, params, score or latency.
        unit: of the totals: M (millions), ms, or nothing.
        fixed: what every path pays (stem, head), in entries' units.
        choices: cost of every block and channel choice at every position, [L, 4, C].
        divisor: entries per unit (a table of exact counts has 1e6 for totals in millions).
    """

    name: str
    unit: str
    fixed: float
    choices: np.ndarray
    divisor: float = 1.0

    def totals(self, genes: np.ndarray) -> np.ndarray:
        """Costs [n] of paths given as genes [n, 2L], in the table's unit.

        Rows go through in slices that stay in the cache: a million paths take a fifth of a second.
        """
        length, blocks, channels = self.choices.shape
        offsets = np.arange(length, dtype=np.int16) * (blocks * channels)
        entries = self.choices.reshape(-1)
        sums = np.empty(len(genes))
        for start in range(0, len(genes), ROWS_AT_ONCE):
            rows = genes[start : start + ROWS_AT_ONCE]
            index = rows[:, :length] * np.int16(channels) + rows[:, length:] + offsets
            sums[start : start + ROWS_AT_ONCE] = entries.take(index).sum(axis=1)
        return (sums + self.fixed) / self.divisor

    def extreme(self, domain: Domain, largest: bool) -> np.ndarray:
        """Genes [2L] of the cheapest or the dearest path of ``domain`` (the first of equals)."""
        length, _, channels = self.choices.shape
        block = np.arange(self.choices.shape[1])[None, :, None]
        channel = np.arange(channels)[None, None, :]
        low, high = domain.low[:, None, None], domain.high[:, None, None]
        allowed = (block >= low[:length]) & (block <= high[:length])
        allowed = allowed & (channel >= low[length:]) & (channel <= high[length:])
        signed = np.where(allowed, self.choices * (-1.0 if largest else 1.0), np.inf)
        best = signed.reshape(length, -1).argmin(axis=1)
        return np.concatenate([best // channels, best % channels]).astype(np.int8)

    def range(self, domain: Domain) -> tuple[float, float]:
        """Smallest and largest cost any path of ``domain`` has."""
        ends = np.stack([self.extreme(domain, False), self.extreme(domain, True)])
        low, high = self.totals(ends).tolist()
        return low, high


def _se_width(out_channels: int) -> int:
    """Channels inside a squeeze-excite gate on ``out_channels``."""
    return ceil8(out_channels // 4)


def _conv(in_channels: int, out_channels: int, kernel: int = 1, groups: int = 1) -> int:
    return kernel * kernel * in_channels // groups * out_channels


def block_params(position: Position, block: int, mid: int) -> int:
    """Trainable parameters of a choice block with main-branch width ``mid`` (batch-norm: two a channel)."""
    k, c, o, i = KERNELS[block], position.main_in, position.main_out, position.in_channels
    if block == XCEPTION:
        params = 9 * c + 2 * c + c * mid + 2 * mid + 9 * mid + 2 * mid + mid * mid + 2 * mid
        params += 9 * mid + 2 * mid + mid * o + 2 * o
    else:
        params = c * mid + k * k * mid + mid * o + 2 * (2 * mid + o)
    if position.stride == 2:
        params += k * k * i + i * i + 4 * i
    if position.has_se:
        params += 2 * o * _se_width(o) + _se_width(o) + o
    return params


def block_macs(position: Position, block: int, mid: int) -> int:
    """Multiply-accumulates of a choice block on one image."""
    k, c, o, i = KERNELS[block], position.main_in, position.main_out, position.in_channels
    inside, outside = position.in_size**2, position.out_size**2
    if block == XCEPTION:
        macs = outside * (9 * c + c * mid + 9 * mid + mid * mid + 9 * mid + mid * o)
    else:
        macs = inside * c * mid + outside * (k * k * mid + mid * o)
    if position.stride == 2:
        macs += outside * (k * k * i + i * i)
    if position.has_se:
        macs += 2 * o * _se_width(o)
    return macs


def _block_extras(position: Position) -> int:
    """What upstream's counter adds to a block's macs: the squeeze-excite gate's biases and pooling."""
    if not position.has_se:
        return 0
    o = position.main_out
    return _se_width(o) + o + o * position.out_size**2


def _fixed_costs(space: Space) -> dict[str, tuple[int, int]]:
    """(input block, output block) of each counted cost."""
    stem, last, size = space.first_conv_out_channel, space.last_conv_out_channel, -(-space.input_size // 2)
    width, area = space.stage_out_channels[-1], space.positions()[-1].out_size ** 2
    stem_macs = size * size * _conv(3, stem, 3)
    classifier = last * space.num_classes
    if space.last_conv_after_pooling:
        params, macs, extras = width * last + last, width * last, last + width * area
    elif space.use_se:
        # ShuffleNetV2+'s tail: 1x1, batch-norm, pooling, squeeze-excite, then the head's 1x1 with bias.
        inner = ceil8(last * 3 // 4)
        gate = _se_width(inner)
        params = width * inner + 2 * inner + 2 * inner * gate + gate + inner + inner * last + last
        macs = area * width * inner + 2 * inner * gate + inner * last
        # The gate's own pooling sees one element a channel.
        extras = inner * area + inner + gate + inner + last
    else:
        params, macs, extras = width * last + 2 * last, area * width * last, last * area
    params, macs, extras = params + classifier + space.num_classes, macs + classifier, extras + space.num_classes
    return {
        "params": (_conv(3, stem, 3) + 2 * stem, params),
        "macs": (stem_macs, macs),
        "flops": (stem_macs, macs + extras),
    }


@functools.lru_cache(maxsize=16)
def cost_tables(space: Space) -> Mapping[str, Table]:
    """The tables ``flops``, ``macs`` and ``params`` of a space: exact counts, totals in millions."""
    positions = space.positions()
    shape = (len(positions), len(BLOCKS), len(space.channel_scales))
    params, macs, flops = (np.empty(shape, dtype=np.int64) for _ in range(3))
    for p, position in enumerate(positions):
        for channel in range(shape[2]):
            mid = space.mid_channels(position.out_channels, channel)
            for block in range(shape[1]):
                params[p, block, channel] = block_params(position, block, mid)
                macs[p, block, channel] = block_macs(position, block, mid)
                flops[p, block, channel] = macs[p, block, channel] + _block_extras(position)
    fixed = {name: sum(costs) for name, costs in _fixed_costs(space).items()}
    entries = {"flops": flops, "macs": macs, "params": params}
    return {name: Table(name, "M", fixed[name], counts, MILLION) for name, counts in entries.items()}


def supernet_params(space: Space) -> int:
    """Trainable parameters of the supernet: all four blocks of every position at full width."""
    table = cost_tables(space)["params"]
    return int(table.fixed + table.choices[:, :, -1].sum())


def lookup_table(space: Space) -> dict:
    """The costs in the layout of upstream's lookup-table JSON, in millions; ``flops`` by its own counter, and
    ``macs`` beside it."""
    tables, fixed = cost_tables(space), _fixed_costs(space)
    config = {
        field.name: list(value) if isinstance(value := getattr(space, field.name), tuple) else value
        for field in dataclasses.fields(space)
        if field.name != "num_classes"
    }
    content: dict = {"config": config}
    for name in ("flops", "macs", "params"):
        content[name] = {
            "input_block": fixed[name][0] / MILLION,
            "nas_block": (tables[name].choices / MILLION).tolist(),
            "output_block": fixed[name][1] / MILLION,
        }
    return content


def lookup_table_name(space: Space) -> str:
    """Upstream's file name for the lookup table of a space."""
    se = "_se" if space.use_se else ""
    tail = "_lastConvAfterPooling" if space.last_conv_after_pooling else ""
    return f"lookup_table{se}{tail}_{space.channels_layout}.json"


def write_lookup_table(space: Space, folder: Path) -> Path:
    """Writes the lookup table into ``folder`` and returns its path."""
    path = folder / lookup_table_name(space)
    write_text(path, json.dumps(lookup_table(space)))
    return path


def main(argv: list[str]) -> None:
    """The command line; see the module's description."""
    parser = argparse.ArgumentParser(prog="python -m src.space.cost", description="Write a space's lookup table.")
    parser.add_argument("folder", metavar="FOLDER", type=Path)
    add_space_arguments(parser)
    given = parser.parse_args(argv)
    if not given.folder.is_dir():
        raise UsageError(f"there is no folder {given.folder}")
    print(write_lookup_table(space_of_arguments(given), given.folder))


if __name__ == "__main__":
    run(main)
