"""Bounds on what a path may cost: tested in one operation, sampled, and refused when out of reach."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence

import numpy as np

from src.errors import UsageError, nearest
from src.space.cost import Table
from src.space.spaces import Domain

MAX_REPAIR_MOVES = 150
STARTS = 8  # random paths that are repaired before a set of bounds counts as out of reach
DRAWS_AT_ONCE = 64


@dataclasses.dataclass(frozen=True)
class Bound:
    """``low <= cost <= high`` of the table ``metric``, in the table's unit."""

    metric: str
    low: float = -math.inf
    high: float = math.inf

    def __str__(self) -> str:
        if math.isinf(self.low):
            return f"{self.metric} up to {self.high:g}"
        if math.isinf(self.high):
            return f"{self.metric} from {self.low:g} on"
        return f"{self.metric} from {self.low:g} to {self.high:g}"


def read_bounds(ranges: Mapping[str, Sequence[float]]) -> list[Bound]:
    """Bounds from ``{metric: [low, high]}``, where 0 means unbounded.

    Raises:
        UsageError: not a pair of numbers, or the lower above the upper.
    """
    bounds = []
    for metric, limits in ranges.items():
        if not isinstance(limits, (list, tuple)) or len(limits) != 2:
            raise UsageError(f"the constraint on {metric} must be [low, high] (0: unbounded), not {limits!r}")
        try:
            low, high = (float(limit) for limit in limits)
        except (TypeError, ValueError) as error:
            raise UsageError(f"the constraint on {metric} must be two numbers, not {limits!r}") from error
        bound = Bound(metric, low or -math.inf, high or math.inf)
        if not bound.low <= bound.high:
            raise UsageError(f"the constraint on {metric} has its lower bound {low:g} above its upper bound {high:g}")
        bounds.append(bound)
    return bounds


class Constraints:
    """Bounds over the cost tables of one space.

    Args:
        tables: cost tables by name.
        bounds: all must hold.

    Raises:
        UsageError: a bound on a cost there is no table for.
    """

    def __init__(self, tables: Mapping[str, Table], bounds: Sequence[Bound] = ()):
        for bound in bounds:
            if bound.metric not in tables:
                known = ", ".join(tables)
                raise UsageError(f"cannot constrain {bound.metric!r}{nearest(bound.metric, tables)}; there are {known}")
        self.bounds = tuple(bounds)
        self._tables = [tables[bound.metric] for bound in bounds]
        # Relative to each table's whole span, so that millions and milliseconds weigh alike.
        self._spans = [float(np.ptp(table.choices, axis=(1, 2)).sum()) / table.divisor or 1.0 for table in self._tables]

    def __str__(self) -> str:
        return " and ".join(str(bound) for bound in self.bounds) or "none"

    def satisfied(self, genes: np.ndarray) -> np.ndarray:
        """Which of the paths [n, 2L] meet every bound, bool [n]."""
        met = np.ones(len(genes), dtype=bool)
        for table, bound in zip(self._tables, self.bounds, strict=True):
            cost = table.totals(genes)
            met &= (cost >= bound.low) & (cost <= bound.high)
        return met

    def excess(self, genes: np.ndarray) -> np.ndarray:
        """How far paths are outside the bounds, as shares of each cost's span summed up, [n]; 0 inside."""
        total = np.zeros(len(genes))
        for table, bound, span in zip(self._tables, self.bounds, self._spans, strict=True):
            cost = table.totals(genes)
            total += (np.maximum(bound.low - cost, 0) + np.maximum(cost - bound.high, 0)) / span
        return total

    def require_reachable(self, domain: Domain, where: str = "") -> None:
        """Raises UsageError, saying what is reachable, when no path of ``domain`` meets the bounds.

        A single bound is decided exactly; that several contradict each other is concluded when none
        of a set of random paths could be moved into them.
        """
        for table, bound in zip(self._tables, self.bounds, strict=True):
            low, high = table.range(domain)
            reachable = f"{table.name} can be from {low:.6g} to {high:.6g} {table.unit}".rstrip()
            if bound.low > high or bound.high < low:
                in_units = table.unit == "M" and max(bound.low, 0) <= 1e6 * high and bound.low >= 1e6 * low
                hint = "; bounds are given in M, so divide by 1,000,000" if in_units else ""
                raise UsageError(f"no path{where} has {bound}: {reachable}{hint}")
        rng = np.random.default_rng(0)
        tried = []
        for start in domain.sample(rng, STARTS):
            tried.append(self.repair(domain, rng, start))
            if self.satisfied(tried[-1][None])[0]:
                return
        closest = tried[self.excess(np.stack(tried)).argmin()][None]
        costs = ", ".join(f"{table.name} {table.totals(closest)[0]:.6g} {table.unit}" for table in self._tables)
        raise UsageError(f"no path{where} has {self} at once; the closest found has {costs}")

    def idle(self, domain: Domain) -> list[str]:
        """A line on each bound that every path of ``domain`` meets, so that it was hardly meant so."""
        lines = []
        for table, bound in zip(self._tables, self.bounds, strict=True):
            low, high = table.range(domain)
            if bound.low <= low and high <= bound.high:
                lines.append(f"every path has {bound}: {table.name} can be from {low:.6g} to {high:.6g} {table.unit}")
        return lines

    def repair(self, domain: Domain, rng: np.random.Generator, genes: np.ndarray) -> np.ndarray:
        """``genes`` [2L] moved inside the bounds by single random changes that each come closer.

        Where no single change helps, a tenth of the genes is drawn anew. Gives up, returning the
        last state, after MAX_REPAIR_MOVES.
        """
        genes = genes.copy()
        for _ in range(MAX_REPAIR_MOVES):
            present = self.excess(genes[None])[0]
            if present == 0:
                break
            moves = _single_changes(domain, genes)
            better = np.flatnonzero(self.excess(moves) < present) if len(moves) else np.empty(0, dtype=int)
            genes = moves[rng.choice(better)] if len(better) else domain.mutate(rng, genes[None], 0.1)[0]
        return genes

    def sample(self, domain: Domain, rng: np.random.Generator, count: int) -> np.ndarray:
        """``count`` random paths inside the bounds, [count, 2L].

        Uniform where random draws meet the bounds often enough; where they hardly ever do, random
        draws moved inside.

        Raises:
            UsageError: nothing meets the bounds.
        """
        if not count:
            return domain.sample(rng, 0)
        chosen: list[np.ndarray] = []
        for _ in range(max(16, count)):
            rows = domain.sample(rng, DRAWS_AT_ONCE)
            chosen.extend(rows[self.satisfied(rows)])
            if len(chosen) >= count:
                return np.stack(chosen[:count])
        self.require_reachable(domain)
        while len(chosen) < count:
            row = self.repair(domain, rng, domain.sample(rng, 1)[0])
            if self.satisfied(row[None])[0]:
                chosen.append(row)
        return np.stack(chosen)


def _single_changes(domain: Domain, genes: np.ndarray) -> np.ndarray:
    """Every path that differs from ``genes`` in one gene, [m, 2L]."""
    spans = (domain.high - domain.low).astype(int) + 1
    gene = np.repeat(np.arange(len(genes)), spans)
    value = np.concatenate([np.arange(low, high + 1) for low, high in zip(domain.low, domain.high, strict=True)])
    changed = np.repeat(genes[None], len(gene), axis=0)
    changed[np.arange(len(gene)), gene] = value
    return changed[value != genes[gene]]
