"""The MicroNet challenge's account of a network: operation by operation, and the challenge score.

Rules of the challenge as upstream's profiler applies them (n: output elements, k: kernel side):

    operation                   parameters      multiplications   additions            quantizable
    convolution, dense          weights, bias   k k c/groups n    one less each, + n   yes
                                                                  with bias
    ReLU, ReLU6                 0               n                 0                    yes
    hard-sigmoid                0               3 n               n                    no
    hard-swish                  0               4 n               n                    no
    channel shuffle (C)         C + C C / 16    n                 0                    no
    global pooling (s x s, C)   0               C                 (s s - 1) C          no

A shuffle is stored as a sparse 1x1 convolution: C weights of 16 bits and a mask of one bit an entry. A
clip counts 2 n, an addition and a division n. Batch-norm (merged into its convolution), the gate's
product, other pooling, concat, split and dropout count nothing.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable
from math import prod

import mindspore as ms
from mindspore import Tensor, nn, ops

from src.errors import UsageError
from src.files import csv_text
from src.models.layers import ChannelShuffle, GlobalAvgPool, HardSigmoid, HardSwish
from src.models.tracing import answered, eager_evaluation

MILLION = 1e6
# The challenge's reference network, MobileNetV2-1.4, in millions.
REFERENCE_PARAMS, REFERENCE_OPERATIONS = 6.9, 1170.0
PRECISIONS = ("fp32", "fp16", "int8")
COLUMNS = (
    "op_name",
    "quantizable",
    "inp_size",
    "kernel_size",
    "Cin",
    "Cout",
    "params(M)",
    "mults(M)",
    "adds(M)",
    "MFLOPS",
)


@dataclasses.dataclass(frozen=True)
class Operation:
    """One row of the profile; counts for one image, not in millions."""

    name: str
    quantizable: bool
    input_size: int
    kernel: int
    in_channels: int
    out_channels: int
    params: float
    mults: int
    adds: int


@dataclasses.dataclass(frozen=True)
class Total:
    """Sums over operations: 32-bit parameters, multiplications, additions."""

    params: float
    mults: int
    adds: int


def total(operations: Iterable[Operation], quantizable: bool | None = None) -> Total:
    """Sums over all operations, or over those that are (not) quantizable."""
    chosen = [row for row in operations if quantizable is None or row.quantizable == quantizable]
    return Total(sum(row.params for row in chosen), sum(row.mults for row in chosen), sum(row.adds for row in chosen))


def challenge_score(operations: Iterable[Operation], precision: str = "fp32") -> float:
    """Parameters and operations as shares of the reference network's, summed up; smaller is better.

    Args:
        precision: ``fp32``; ``fp16`` (parameters and multiplications count half, additions stay 32-bit);
            ``int8`` (all of the quantizable operations counts a quarter).
    """
    operations = list(operations)
    if precision == "int8":
        shares = ((total(operations, True), 0.25, 0.25, 0.25), (total(operations, False), 1.0, 1.0, 1.0))
    elif precision in ("fp32", "fp16"):
        half = 0.5 if precision == "fp16" else 1.0
        shares = ((total(operations), half, half, 1.0),)
    else:
        raise UsageError(f"there is no precision {precision!r}; there are {', '.join(PRECISIONS)}")
    params = sum(part.params * weight for part, weight, _, _ in shares)
    counted = sum(part.mults * mult + part.adds * add for part, _, mult, add in shares)
    return params / MILLION / REFERENCE_PARAMS + counted / MILLION / REFERENCE_OPERATIONS


def profile(network: nn.Cell, image_size: int = 224) -> list[Operation]:
    """The operations of ``network`` for one RGB image of side ``image_size``, in order of execution.

    Shapes are traced with convolutions and dense layers left out. The network is left as it was.
    """
    found: list[Operation] = []
    names = {id(cell): name for name, cell in network.cells_and_names()}

    def recorded(rule: Callable) -> Callable:
        def answer(cell: nn.Cell, x: Tensor) -> Tensor:
            row, y = rule(names[id(cell)], cell, x)
            found.append(row)
            return y

        return answer

    with eager_evaluation(network), answered({kind: recorded(rule) for kind, rule in RULES.items()}):
        network(ops.zeros((1, 3, image_size, image_size), ms.float32))
    return found


def table(operations: Iterable[Operation]) -> list[list[str | int | float]]:
    """Rows under COLUMNS: each operation, then the sums total_quant, total_no_quant and total."""
    operations = list(operations)
    rows = [
        _row(op.name, op.quantizable, op.input_size, op.kernel, op.in_channels, op.out_channels, op)
        for op in operations
    ]
    for name, quantizable in (("total_quant", True), ("total_no_quant", False), ("total", None)):
        rows.append(_row(name, "", "", "", "", "", total(operations, quantizable)))
    return rows


def table_csv(operations: Iterable[Operation]) -> str:
    """The table as CSV text."""
    return csv_text(COLUMNS, table(operations))


def _row(*cells_and_counts) -> list[str | int | float]:
    *cells, counts = cells_and_counts
    millions = [round(value / MILLION, 6) for value in (counts.params, counts.mults, counts.adds)]
    return [*cells, *millions, round((counts.mults + counts.adds) / MILLION, 6)]


def _conv(name: str, cell: nn.Conv2d, x: Tensor) -> tuple[Operation, Tensor]:
    height = _length(x.shape[2], cell)
    width = _length(x.shape[3], cell)
    y = ops.zeros((1, cell.out_channels, height, width), ms.float32)
    vector = prod(cell.kernel_size) * cell.in_channels // cell.group
    params = vector * cell.out_channels + cell.out_channels * cell.has_bias
    row = _linear(name, vector, y.size, cell.has_bias, params)
    return dataclasses.replace(
        row,
        input_size=x.shape[2],
        kernel=cell.kernel_size[0],
        in_channels=cell.in_channels,
        out_channels=cell.out_channels,
    ), y


def _length(length: int, cell: nn.Conv2d) -> int:
    if cell.pad_mode == "same":
        return -(-length // cell.stride[0])
    padding = cell.padding[0] if isinstance(cell.padding, tuple) else cell.padding
    return (length + 2 * padding - cell.kernel_size[0]) // cell.stride[0] + 1


def _dense(name: str, cell: nn.Dense, x: Tensor) -> tuple[Operation, Tensor]:
    y = ops.zeros((*x.shape[:-1], cell.out_channels), ms.float32)
    params = cell.in_channels * cell.out_channels + cell.out_channels * cell.has_bias
    row = _linear(name, cell.in_channels, y.size, cell.has_bias, params)
    return dataclasses.replace(row, in_channels=cell.in_channels, out_channels=cell.out_channels), y


def _linear(name: str, vector: int, outputs: int, has_bias: bool, params: int) -> Operation:
    return Operation(name, True, 1, 1, 0, 0, params, vector * outputs, (vector - 1 + has_bias) * outputs)


def _elementwise(quantizable: bool, mults: int, adds: int) -> Callable:
    def rule(name: str, cell: nn.Cell, x: Tensor) -> tuple[Operation, Tensor]:
        channels, size = x.shape[1], x.shape[2] if x.ndim == 4 else 1
        return Operation(name, quantizable, size, 1, channels, channels, 0, mults * x.size, adds * x.size), x

    return rule


def _shuffle(name: str, cell: ChannelShuffle, x: Tensor) -> tuple[Operation, Tensor]:
    channels = x.shape[1]
    return Operation(name, False, x.shape[2], 1, channels, channels, channels + channels * channels / 16, x.size, 0), x


def _global_pool(name: str, cell: GlobalAvgPool, x: Tensor) -> tuple[Operation, Tensor]:
    channels, area = x.shape[1], prod(x.shape[2:])
    row = Operation(name, False, x.shape[2], x.shape[2], channels, channels, 0, channels, (area - 1) * channels)
    return row, ops.zeros((x.shape[0], channels, 1, 1), ms.float32)


RULES: dict[type[nn.Cell], Callable] = {
    nn.Conv2d: _conv,
    nn.Dense: _dense,
    nn.ReLU: _elementwise(True, 1, 0),
    nn.ReLU6: _elementwise(True, 1, 0),
    HardSigmoid: _elementwise(False, 3, 1),
    HardSwish: _elementwise(False, 4, 1),
    ChannelShuffle: _shuffle,
    GlobalAvgPool: _global_pool,
}
