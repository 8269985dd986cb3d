"""What a path costs: parameters and operations as sums over convolutions, and over lookup tables.

Every cost here is a sum of one entry per block position and a constant, so a table [L, O, C] of L
positions, at most O ops and C channel scales holds all there is to know: a path's cost is a gather
and a sum, a million paths' one NumPy operation, and the cheapest and dearest path of a domain are exact.

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
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from src.errors import UsageError, run
from src.files import write_text
from src.space.blocks import Convolution
from src.space.spaces import Domain, Space, add_space_arguments, space_of_arguments

MILLION = 1e6
ROWS_AT_ONCE = 1 << 14


@dataclasses.dataclass(frozen=True, eq=False)
class Table:
    """An additive cost over the genes of a space.

    Attributes:
        name: flops, macs, params, score or latency.
        unit: of the totals: M (millions), ms, or nothing.
        fixed: what every path pays (stem, head), in entries' units.
        choices: cost of every op and channel choice at every position, [L, O, C]. Where a position has fewer
            than O ops, those that it lacks repeat its last, which no range and no span minds.
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


COUNTED = ("flops", "macs", "params")


def _total(cost: str, convolutions: Sequence[Convolution]) -> int:
    return sum(getattr(convolution, cost) for convolution in convolutions)


@functools.lru_cache(maxsize=16)
def cost_tables(space: Space) -> Mapping[str, Table]:
    """The tables ``flops``, ``macs`` and ``params`` of a space: exact counts, totals in millions."""
    positions, counts = space.positions(), space.op_counts()
    shape = (len(positions), max(counts), len(space.channel_scales))
    entries = {cost: np.empty(shape, dtype=np.int64) for cost in COUNTED}
    for p, block, channel in np.ndindex(shape):
        position = positions[p]
        op = position.ops[min(block, counts[p] - 1)]
        convolutions = position.convolutions(op, space.mid_channels(position.out_channels, channel))
        for cost, entry in entries.items():
            entry[p, block, channel] = _total(cost, convolutions)
    ends = space.input_block() + space.output_block()
    return {cost: Table(cost, "M", _total(cost, ends), entry, MILLION) for cost, entry in entries.items()}


def supernet_params(space: Space) -> int:
    """Trainable parameters of the supernet: all ops of every position at full width."""
    table = cost_tables(space)["params"]
    widest = zip(table.choices[:, :, -1], space.op_counts(), strict=True)
    return int(table.fixed + sum(ops[:count].sum() for ops, count in widest))


def lookup_table(space: Space) -> dict:
    """The costs in the layout of upstream's lookup-table JSON, in millions; ``flops`` by its own counter, and
    ``macs`` beside it."""
    tables = cost_tables(space)
    config = {
        name: list(value) if isinstance(value, tuple) else value
        for name, value in space.described().items()
        if name != "num_classes"
    }
    content: dict = {"config": config}
    for name in COUNTED:
        content[name] = {
            "input_block": _total(name, space.input_block()) / MILLION,
            "nas_block": (tables[name].choices / MILLION).tolist(),
            "output_block": _total(name, space.output_block()) / MILLION,
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
