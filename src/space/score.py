"""One number for the size of a path: operations and parameters relative to a published network.

``python -m src.space.score`` prints it for the published choices.
"""

from __future__ import annotations

import dataclasses

from src.errors import UsageError, nearest, run
from src.space.cost import MILLION, Table, cost_tables
from src.space.spaces import PUBLISHED, Space, to_genes


@dataclasses.dataclass(frozen=True)
class Comparison:
    """A published network to compare with: operations (macs) and parameters, in millions."""

    flops: float
    params: float


COMPARISONS = {
    "SinglePathOneShot": Comparison(328, 3.4),
    "MobileNetV3_large": Comparison(217, 5.4),
    "MobileNetV2_1.4": Comparison(585, 6.9),
    "ShuffleNetV2+_medium": Comparison(222, 5.6),
}
MAX_SCORE = 1.0


def comparison(name: str) -> Comparison:
    """A comparison model by name. Raises UsageError naming what exists."""
    if name not in COMPARISONS:
        existing = ", ".join(COMPARISONS)
        raise UsageError(f"there is no comparison model {name!r}{nearest(name, COMPARISONS)}; there are {existing}")
    return COMPARISONS[name]


def normalized_score(flops: float, params: float, model: str = "SinglePathOneShot") -> float:
    """Mean of the ratios of operations and parameters (both in millions) to the comparison model's."""
    reference = comparison(model)
    return 0.5 * flops / reference.flops + 0.5 * params / reference.params


def sum_score(flops: float, params: float) -> float:
    """The sum of both ratios to OneShot, as upstream's tables print it (OneShot itself: 2)."""
    return 2 * normalized_score(flops, params)


def qualifies(
    flops: float, params: float, model: str = "SinglePathOneShot", flop_max: float = 1.0, param_max: float = -1.0
) -> bool:
    """Upstream's rule for a searched path: ratios below their limits (-1: none) and a score of at most 1."""
    reference = comparison(model)
    return (
        (flop_max == -1 or flops / reference.flops < flop_max)
        and (param_max == -1 or params / reference.params < param_max)
        and normalized_score(flops, params, model) <= MAX_SCORE
    )


def score_table(space: Space, model: str = "SinglePathOneShot") -> Table:
    """The normalised score as a cost table: it is linear in operations and parameters."""
    reference, tables = comparison(model), cost_tables(space)
    weights = {
        "flops": 0.5 / (reference.flops * MILLION),
        "params": 0.5 / (reference.params * MILLION),
    }
    return Table(
        "score",
        "",
        sum(weight * tables[name].fixed for name, weight in weights.items()),
        sum(weight * tables[name].choices for name, weight in weights.items()),
    )


def ratio_tables(space: Space, model: str = "SinglePathOneShot") -> dict[str, Table]:
    """Operations and parameters over the comparison model's, as cost tables ``flops_ratio`` and ``params_ratio``."""
    tables, reference = cost_tables(space), comparison(model)
    millions = {"flops": reference.flops, "params": reference.params}
    return {
        f"{cost}_ratio": dataclasses.replace(tables[cost], name=f"{cost}_ratio", unit="", divisor=number * MILLION)
        for cost, number in millions.items()
    }


def main(argv: list[str]) -> None:
    """Markdown: costs and scores of the published choices; a score with * meets upstream's rule for a searched path."""
    if argv:
        raise UsageError("python -m src.space.score takes no arguments")
    head = ["path", "MFLOPs", "MMACs", "M parameters", "sum score", *(f"score to {name}" for name in COMPARISONS)]
    print(" | ".join(head))
    print(" | ".join("---" for _ in head))
    for name, (space, path) in PUBLISHED.items():
        costs = {key: table.totals(to_genes([path]))[0] for key, table in cost_tables(space).items()}
        size = costs["flops"], costs["params"]
        scores = [
            f"{normalized_score(*size, model):.4f}{'*' if qualifies(*size, model) else ''}" for model in COMPARISONS
        ]
        shown = [f"{costs[key]:.3f}" for key in ("flops", "macs", "params")]
        print(" | ".join([name, *shown, f"{sum_score(*size):.4f}", *scores]))


if __name__ == "__main__":
    run(main)
