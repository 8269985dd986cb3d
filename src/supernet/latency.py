"""``python -m src.supernet.latency``: how long every block of a space takes on this device.

A block is timed in a small network, behind a convolution that makes its input from an image, less that
network without it: so it runs on whatever operators whole networks run on, and starting a network counts
once. A path's latency is predicted as the sum of its blocks and of what whole networks take beyond them,
and the prediction is compared with whole networks, measured on the same device.
"""

from __future__ import annotations

import argparse
import json
import logging
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from mindspore import Tensor, nn

from src.cpu import MODES, inference, use_operators
from src.errors import UsageError, run
from src.files import read_sealed, write_sealed
from src.machine.device import describe_device, set_up, versions
from src.models.layers import BatchNorm, ConvNormAct, Network
from src.models.spos import create_block, create_subnet
from src.runs.log import logged
from src.space.cost import Table, cost_tables
from src.space.spaces import Domain, Position, Space, add_space_arguments, from_genes, space_of_arguments

_log = logging.getLogger("src.supernet.latency")  # also where the module is the program
MILLISECONDS = 1000.0
CLOCKS = {"elapsed": time.perf_counter, "processor": time.process_time}


def measure(
    cells: Sequence[nn.Cell], inputs: Tensor, repeats: int, clock: Callable[[], float] = time.perf_counter
) -> list[float]:
    """Time of one forward of each cell, ms, after two that compile and warm up: the shortest of ``repeats``, since
    whatever else the machine does only adds to it. The cells take turns, so that a slow moment meets all of them."""
    for cell in cells:
        for _ in range(2):
            cell(inputs).asnumpy()
    seconds = []
    for _ in range(repeats):
        for cell in cells:
            start = clock()
            cell(inputs).asnumpy()
            seconds.append(clock() - start)
    return [min(seconds[turn :: len(cells)]) * MILLISECONDS for turn in range(len(cells))]


def probe(position: Position, block: nn.Cell | None = None) -> Network:
    """The network around ``block`` at ``position``, or without it: images of twice the block's input size to one
    logit."""
    features: dict[str, nn.Cell] = {"entry": ConvNormAct(3, position.in_channels, 3, 2, norm=BatchNorm(), act="relu")}
    if block:
        features["block"] = block
    return Network(features, position.out_channels if block else position.in_channels, 1)


def measure_table(
    space: Space,
    batch: int,
    repeats: int,
    header: dict,
    compared: int = 50,
    prepare: Callable[[nn.Cell], nn.Cell] = lambda network: network,
    clock: Callable[[], float] = time.perf_counter,
) -> dict:
    """Times every distinct block of ``space``, and ``compared`` random whole networks to check the sum.

    Positions of the same shape share one measurement, an op that a position lacks repeats its last, and the
    identity takes no time. Stem, head and start are what whole networks take beyond their blocks, by the median.

    Args:
        header: what was measured on.
        prepare: makes of a network what computes it here.
        clock: seconds.

    Returns:
        The table as JSON values: header, choices [L][O][C] and fixed in ms, and the check.
    """
    rng = np.random.default_rng(0)

    def prepared(network: nn.Cell) -> nn.Cell:
        return prepare(network.set_train(False)).set_train(False)

    def timed(networks: Sequence[nn.Cell], size: int) -> list[float]:
        image = Tensor(rng.standard_normal((batch, 3, size, size)).astype(np.float32))
        return measure(networks, image, repeats, clock)

    positions, counts = space.positions(), space.op_counts()
    choices = np.empty((len(positions), max(counts), len(space.channel_scales)))
    known: dict[tuple, float] = {}
    for number, position in enumerate(positions):
        without = prepared(probe(position))
        for block, channel in np.ndindex(choices.shape[1:]):
            op, mid = position.ops[min(block, counts[number] - 1)], space.mid_channels(position.out_channels, channel)
            key = (position, op, mid)
            if not op.body:
                known[key] = 0.0
            if key not in known:
                whole = prepared(probe(position, create_block(position, op, mid, BatchNorm())))
                longer, shorter = timed([whole, without], 2 * position.in_size)
                known[key] = max(longer - shorter, 0.0)
            choices[number, block, channel] = known[key]
        _log.info(f"position {number + 1} of {len(positions)} measured")
    genes = Domain.of(space).sample(np.random.default_rng(0), compared)
    measured = np.array(
        [
            timed([prepared(create_subnet(space, path, space.num_classes))], space.input_size)[0]
            for path in from_genes(genes)
        ]
    )
    sums = Table("latency", "ms", 0.0, choices).totals(genes)
    fixed = float(np.median(measured - sums))
    return {
        "header": {**header, "batch_size": batch, "repeats": repeats, "space": _described(space)},
        "fixed": fixed,
        "choices": choices.tolist(),
        "check": {
            **compare(sums + fixed, measured),
            "rank_correlation_of_macs": rank_correlation(cost_tables(space)["macs"].totals(genes), measured),
        },
    }


def _described(space: Space) -> dict:
    """What of a space its blocks' latency depends on, as JSON gives it back."""
    fields = space.described()
    fields.pop("num_classes")
    return json.loads(json.dumps(fields))


def compare(predicted: np.ndarray, measured: np.ndarray) -> dict:
    """Rank correlation (Spearman) and mean relative error of predictions."""
    return {
        "paths": len(measured),
        "rank_correlation": rank_correlation(predicted, measured),
        "mean_relative_error": float(np.mean(np.abs(predicted - measured) / measured)),
    }


def rank_correlation(first: np.ndarray, second: np.ndarray) -> float:
    """Spearman's rank correlation; ties have their mean rank. NaN where one side is constant."""
    ranks = [_ranks(np.asarray(values, float)) for values in (first, second)]
    centred = [values - values.mean() for values in ranks]
    scale = np.sqrt((centred[0] ** 2).sum() * (centred[1] ** 2).sum())
    return float((centred[0] * centred[1]).sum() / scale) if scale else float("nan")


def _ranks(values: np.ndarray) -> np.ndarray:
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    return (last - (counts - 1) / 2.0)[inverse]


def read_latency_table(path: Path, space: Space) -> Table:
    """The table of a file written by this module, for ``space``.

    Raises:
        UsageError: missing, damaged, or of another space.
    """
    try:
        content = read_sealed(path)
        choices, fixed = np.array(content["choices"], float), float(content["fixed"])
        measured = dict(content["header"]["space"])
    except OSError as error:
        raise UsageError(f"cannot read the latency table {path}: {error.strerror}") from error
    except (ValueError, OverflowError, KeyError, TypeError) as error:
        raise UsageError(f"{path} is not a latency table of python -m src.supernet.latency") from error
    if other := sorted(key for key, value in _described(space).items() if measured.get(key) != value):
        raise UsageError(f"{path} is the latency table of another space: it differs in {', '.join(other)}")
    if choices.shape != cost_tables(space)["macs"].choices.shape or not np.isfinite([*choices.flat, fixed]).all():
        raise UsageError(f"{path} is damaged: it has not a number for each block of the space")
    return Table("latency", "ms", fixed, choices)


def main(argv: list[str]) -> None:
    """The command line; see the module's description."""
    parser = argparse.ArgumentParser(
        prog="python -m src.supernet.latency", description="Measure a search space's blocks."
    )
    parser.add_argument("file", metavar="FILE", type=Path, help="where the table is written (JSON)")
    add_space_arguments(parser)
    parser.add_argument("--batch_size", type=_positive, default=1)
    parser.add_argument("--repeats", type=_positive, default=10, help="forwards, of which the shortest counts")
    parser.add_argument("--compare", type=_positive, default=50, help="whole networks to compare with")
    parser.add_argument(
        "--clock",
        choices=CLOCKS,
        default="elapsed",
        help="processor: the time this process computed, for a busy machine and one thread (OMP_NUM_THREADS=1)",
    )
    parser.add_argument("--cpu_operators", choices=MODES, default="auto")
    parser.add_argument("--device_target", choices=("auto", "CPU", "GPU", "Ascend"), default="auto")
    given = parser.parse_args(argv)
    space = space_of_arguments(given)
    if not given.file.parent.is_dir():
        raise UsageError(f"there is no folder {given.file.parent} to write the table into")
    target = set_up(given.device_target, 0, "graph", False, 1)
    operators: set[str] = set()

    def prepare(network: nn.Cell) -> nn.Cell:
        operators.add(use_operators(network, given.cpu_operators))
        return inference(network)

    header = {"device": describe_device(target), "versions": versions(), "clock": given.clock}
    with logged():
        content = measure_table(
            space, given.batch_size, given.repeats, header, given.compare, prepare, CLOCKS[given.clock]
        )
    content["header"]["cpu_operators"] = " and ".join(sorted(operators))
    write_sealed(given.file, content)
    check = content["check"]
    print(
        f"{given.file}: over {check['paths']} random paths, predicted against measured latency: rank correlation "
        f"{check['rank_correlation']:.3f} (multiply-accumulates alone: {check['rank_correlation_of_macs']:.3f}), "
        f"mean error {check['mean_relative_error']:.1%}"
    )


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"must be a whole number from 1, not {text}")
    return int(text)


if __name__ == "__main__":
    run(main)
