"""How large the original's spaces are, counted in each way that its document's figures could be meant.

``python -m src.space.extent`` prints it as the table of docs/search.md.
"""

from __future__ import annotations

from src.errors import UsageError, run
from src.space.blocks import SPOS_OPS
from src.space.cost import cost_tables, supernet_params
from src.space.spaces import PUBLISHED, Architecture, Domain, Space, to_genes

BEGIN, END = "<!-- made by `python -m src.space.extent` -->", "<!-- end of the table -->"
SMALLEST_TRAINED = 0.6  # "Smaller channel scales will make the network crashing too"
MEBI = 2**20
SPACES = {
    "plain": PUBLISHED["OneShot"][0],
    "squeeze-excite, last convolution after pooling": PUBLISHED["OneShot+"][0],
}


def statistics(space: Space) -> int:
    """Running means and variances of the supernet: two a channel of each batch-norm."""
    convolutions = space.input_block() + space.output_block()
    for position in space.positions():
        widest = space.mid_channels(position.out_channels, len(space.channel_scales) - 1)
        convolutions += [found for op in position.ops for found in position.convolutions(op, widest)]
    return 2 * sum(convolution.outputs for convolution in convolutions if not convolution.has_bias)


def everywhere(space: Space, op: str, scale: float) -> Architecture:
    """The path with one op and one channel scale at every position."""
    block = [known.name for known in SPOS_OPS].index(op)
    return Architecture((block,) * space.length, (space.channel_scales.index(scale),) * space.length)


def rows_of(space: Space) -> list[tuple[str, str]]:
    """What is counted, and the count."""
    flops = cost_tables(space)["flops"]
    first = space.channel_scales.index(SMALLEST_TRAINED)
    part = Domain.of(space, channel_range=(first, len(space.channel_scales) - 1))
    params, kept = supernet_params(space), statistics(space)
    small, large = (
        flops.totals(to_genes([everywhere(space, op, scale)]))[0] for op, scale in (("SNB-3", 0.6), ("SXB-3", 2.0))
    )
    choices = len(SPOS_OPS) * (len(space.channel_scales) - first)
    return [
        ("trainable parameters of the supernet", f"{params:,}"),
        ("the same and the running statistics", f"{params + kept:,}"),
        ("these over 2^20", f"{(params + kept) / MEBI:.2f}"),
        ("paths of the eight scales from 0.6 on", f"{choices}^{space.length}"),
        ("MFLOPs of their paths, cheapest to dearest", "{:.1f} to {:.1f}".format(*flops.range(part))),
        ("MFLOPs of all paths", "{:.1f} to {:.1f}".format(*flops.range(Domain.of(space)))),
        ("MFLOPs of SNB-3 at 0.6 everywhere", f"{small:.1f}"),
        ("MFLOPs of SXB-3 at 2.0 everywhere", f"{large:.1f}"),
    ]


def table() -> str:
    """One column a space, in Markdown."""
    columns = [dict(rows_of(space)) for space in SPACES.values()]
    lines = [BEGIN, f"| | {' | '.join(SPACES)} |", f"|---|{'--:|' * len(SPACES)}"]
    lines += [f"| {name} | {' | '.join(column[name] for column in columns)} |" for name in columns[0]]
    return "\n".join([*lines, END])


def main(argv: list[str]) -> None:
    """The command line; see the module's description."""
    if argv:
        raise UsageError("python -m src.space.extent takes no arguments")
    print(table())


if __name__ == "__main__":
    run(main)
