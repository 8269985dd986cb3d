"""Which path each training step of the supernet takes.

A sampler is a seeded generator; its state is plain JSON, so that a resumed run draws the very paths
an uninterrupted one would have drawn. Whatever a sampler is asked for that no path can give ends
in a UsageError when it is built, never in an endless loop.
"""

from __future__ import annotations

import bisect
import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np

from src.errors import UsageError, nearest
from src.space.constraints import DRAWS_AT_ONCE, Bound, Constraints
from src.space.cost import Table, cost_tables
from src.space.spaces import Domain, Space, different_pairs

# Epochs after the start of channel choice at which one more (smaller) scale joins the draw.
_WARM_UP_STEPS = {
    "OneShot": (1, 2, 3, 4, 6, 9, 13, 18),
    "ShuffleNetV2+": (1, 3, 6, 10, 15, 21, 36, 37),
}
MAX_DRAWS = 200 * DRAWS_AT_ONCE


@dataclasses.dataclass(frozen=True)
class ChannelSchedule:
    """Which channel indices may be drawn in an epoch.

    Before ``start_epoch`` every block keeps the one index ``fixed``. From then on any index from the
    smallest allowed to the largest is drawn; with ``warm_up`` the smallest goes down step by step,
    at first slowly enough for the weights to follow.

    Attributes:
        space: decides the number of indices and the pace of the warm-up.
        start_epoch: 0-based epoch of the first channel choice (-1: never, a supernet of blocks only).
        warm_up: widen the range step by step.
        ignore_first_two: never draw the two smallest scales (0.2 and 0.4).
        fixed: index held before the start (-1: the largest; megvii's block supernet has scale 1.0, index 4).
    """

    space: Space
    start_epoch: int = -1
    warm_up: bool = True
    ignore_first_two: bool = False
    fixed: int = -1

    def __post_init__(self):
        if not -1 <= self.fixed < len(self.space.channel_scales):
            raise UsageError(f"there is no channel index {self.fixed} to hold fixed")

    def channel_range(self, epoch: int) -> tuple[int, int]:
        """Smallest and largest channel index of a 0-based ``epoch``."""
        last = len(self.space.channel_scales) - 1
        if self.start_epoch < 0 or epoch < self.start_epoch:
            held = last if self.fixed < 0 else self.fixed
            return held, held
        smallest = min(2, last) if self.ignore_first_two else 0
        if not self.warm_up:
            return smallest, last
        steps = _WARM_UP_STEPS.get(self.space.channels_layout, _WARM_UP_STEPS["OneShot"])
        return max(smallest, last - 1 - bisect.bisect_right(steps, epoch - self.start_epoch)), last

    def domain(self, epoch: int) -> Domain:
        """What a path may be in ``epoch``."""
        return Domain.of(self.space, channel_range=self.channel_range(epoch))

    def stages(self, epochs: int) -> dict[tuple[int, int], int]:
        """Every range that occurs within ``epochs`` with the first epoch it holds in."""
        first: dict[tuple[int, int], int] = {}
        for epoch in range(epochs):
            first.setdefault(self.channel_range(epoch), epoch)
        return first


class PathSampler:
    """Uniform paths within the epoch's channel range, and the base of the other samplers.

    Use: ``begin_epoch`` once an epoch, ``draw`` once a step.

    Args:
        schedule: channel range by epoch.
        seed: of the draws.
    """

    def __init__(self, schedule: ChannelSchedule, seed: int):
        self.schedule = schedule
        self.rng = np.random.default_rng(seed)
        self.begin_epoch(0, 1)

    def begin_epoch(self, epoch: int, steps: int) -> None:
        """Takes over the channel range of the 0-based ``epoch``, which has ``steps`` steps."""
        self.epoch, self.steps = epoch, steps
        self.domain = self.schedule.domain(epoch)

    def draw(self) -> np.ndarray:
        """The next path's genes [2L]."""
        return self.domain.sample(self.rng, 1)[0]

    def get_state(self) -> dict:
        """All that decides the next draws, as plain JSON values."""
        return {"rng": self.rng.bit_generator.state, "epoch": self.epoch, "steps": self.steps}

    def set_state(self, state: Mapping) -> None:
        """Goes on where :meth:`get_state` was taken."""
        self.rng.bit_generator.state = state["rng"]
        self.begin_epoch(state["epoch"], state["steps"])


class RejectionSampler(PathSampler):
    """Uniform over the paths that meet the constraints: draws until one does.

    Raises:
        UsageError: when built, for an epoch whose draws do not meet the constraints.
    """

    def __init__(self, schedule: ChannelSchedule, seed: int, constraints: Constraints, epochs: int):
        super().__init__(schedule, seed)
        self.constraints = constraints
        trial = np.random.default_rng(seed)
        for epoch in schedule.stages(epochs).values():
            domain = schedule.domain(epoch)
            constraints.require_reachable(domain, f" of epoch {epoch + 1}")
            self._draw(domain, trial, epoch)

    def draw(self) -> np.ndarray:
        return self._draw(self.domain, self.rng, self.epoch)

    def _draw(self, domain: Domain, rng: np.random.Generator, epoch: int) -> np.ndarray:
        for _ in range(MAX_DRAWS // DRAWS_AT_ONCE):
            rows = domain.sample(rng, DRAWS_AT_ONCE)
            met = np.flatnonzero(self.constraints.satisfied(rows))
            if len(met):
                return rows[met[0]]
        raise UsageError(
            f"none of {MAX_DRAWS} random paths of epoch {epoch + 1} has {self.constraints}; "
            "widen the bounds or sample by strolling evolution"
        )


class BinnedSampler(PathSampler):
    """Paths spread evenly over bins of operations (megvii's supernet): a bin at random, then random
    paths until one falls into it.

    Args:
        low, high, step: bins from ``low`` to ``high`` of width ``step``, in M.
        max_tries: draws for one bin; the last is kept when none fits, as upstream does.
        epochs: for which the bins must be reachable.
    """

    def __init__(
        self,
        schedule: ChannelSchedule,
        seed: int,
        table: Table,
        low: float,
        high: float,
        step: float,
        max_tries: int = 500,
        epochs: int = 1,
    ):
        super().__init__(schedule, seed)
        if not 0 <= low < high or step <= 0:
            raise UsageError(f"bins from {low:g} to {high:g} of width {step:g} do not exist")
        count = max(1, round((high - low) / step))
        self.bins = [(low + i * step, low + (i + 1) * step) for i in range(count)]
        self.table, self.max_tries = table, max_tries
        for epoch in schedule.stages(epochs).values():
            for bin_low, bin_high in self.bins:
                inside = Constraints({table.name: table}, [Bound(table.name, bin_low, bin_high)])
                inside.require_reachable(schedule.domain(epoch), f" of epoch {epoch + 1}")

    def draw(self) -> np.ndarray:
        low, high = self.bins[self.rng.integers(len(self.bins))]
        rows = self.domain.sample(self.rng, self.max_tries)
        cost = self.table.totals(rows)
        inside = np.flatnonzero((cost >= low) & (cost <= high))
        return rows[inside[0] if len(inside) else -1]


class FairSampler(PathSampler):
    """Strictly fair (FairNAS, arXiv 1907.01845): within every four steps each position takes each of
    its four ops once, in random order. Positions with other numbers of ops share the shortest round in
    which each takes all of its own equally often."""

    def __init__(self, schedule: ChannelSchedule, seed: int):
        self.orders: list[list[int]] = []
        super().__init__(schedule, seed)

    def draw(self) -> np.ndarray:
        if not self.orders:
            counts = np.array(self.schedule.space.op_counts())
            steps = np.arange(np.lcm.reduce(counts))
            self.orders = self.rng.permuted(steps % counts[:, None], axis=1).T.tolist()
        genes = super().draw()
        genes[: self.schedule.space.length] = self.orders.pop(0)
        return genes

    def get_state(self) -> dict:
        return {**super().get_state(), "orders": [list(order) for order in self.orders]}

    def set_state(self, state: Mapping) -> None:
        super().set_state(state)
        self.orders = [list(order) for order in state["orders"]]


class SandwichSampler(PathSampler):
    """The sandwich rule (arXiv 1903.05134), one path a step: the largest, the smallest, then random
    ones, over and over. With ``accumulate`` set to the group's size a group makes one update."""

    def __init__(self, schedule: ChannelSchedule, seed: int, table: Table, group: int = 4):
        if group < 3:
            raise UsageError("a sandwich group has at least 3 paths: the largest, the smallest and a random one")
        self.table, self.group, self.turn = table, group, 0
        super().__init__(schedule, seed)

    def draw(self) -> np.ndarray:
        turn, self.turn = self.turn, (self.turn + 1) % self.group
        if turn < 2:
            return self.table.extreme(self.domain, largest=turn == 0)
        return super().draw()

    def get_state(self) -> dict:
        return {**super().get_state(), "turn": self.turn}

    def set_state(self, state: Mapping) -> None:
        super().set_state(state)
        self.turn = state["turn"]


@dataclasses.dataclass(frozen=True)
class Stroll:
    """Constants of strolling evolution; the defaults are upstream's, which its command line cannot change.

    Attributes:
        flops_high, flops_low, cuts: range of operations in M and the number of windows it is cut into.
        params_low, params_high: range of parameters in M.
        children, parents: size of a generation, and how many of its first become the next parents.
        mutation: chance per gene.
        pick_interval, pick_floor: which child of the sorted generation trains: 0, 3, 6, 9 and back,
            none below ``pick_floor``.
    """

    flops_high: float = 330.0
    flops_low: float = 190.0
    cuts: int = 7
    params_low: float = 2.8
    params_high: float = 5.0
    children: int = 10
    parents: int = 5
    mutation: float = 0.1
    pick_interval: int = 3
    pick_floor: int = 6

    def __post_init__(self):
        if not (0 <= self.flops_low < self.flops_high and 0 <= self.params_low < self.params_high):
            raise UsageError("strolling evolution needs its lower bounds below its upper bounds")
        if self.cuts < 1 or not 2 <= self.parents <= self.children or not 0 < self.mutation <= 1:
            raise UsageError("strolling evolution needs 1 cut, 2 parents, as many children and a mutation chance")
        if self.pick_interval < 1 or not 0 <= self.pick_floor < self.children:
            raise UsageError("strolling evolution must pick one of its children")

    @property
    def window(self) -> float:
        """Width of a window of operations, M."""
        return (self.flops_high - self.flops_low) / self.cuts

    def caps(self) -> list[float]:
        """Upper ends of the windows on the way down and up again, M."""
        down = [self.flops_high - cut * self.window for cut in range(self.cuts)]
        return down + down[::-1]

    def picks(self) -> list[int]:
        """Which child is taken in each cell of a window."""
        there = list(range(0, self.children, self.pick_interval))
        return [max(pick, self.pick_floor) for pick in there + there[::-1]]

    def sizes(self) -> list[float]:
        """Limits on parameters, from the largest to the smallest, M; as many as picks."""
        return np.linspace(self.params_high, self.params_low, len(self.picks())).tolist()

    def cell(self, i: int, j: int) -> tuple[list[Bound], bool]:
        """The bounds of cell ``j`` of window ``i``, and whether large children come first."""
        sizes = self.sizes()
        forth, half = i % 2 == 0, len(sizes) // 2
        limit = sizes[j if forth else len(sizes) - 1 - j]
        flops = Bound("flops", self.caps()[i] - self.window, self.caps()[i])
        if forth == (j < half):
            return [flops, Bound("params", self.params_low, limit)], True
        return [flops, Bound("params", limit, self.params_high)], False


def read_stroll(changes: Mapping[str, float]) -> Stroll:
    """Upstream's constants with some changed. Raises UsageError for a name or value that does not exist."""
    fields = {field.name: type(field.default) for field in dataclasses.fields(Stroll)}
    for name, value in changes.items():
        if name not in fields:
            raise UsageError(f"stroll has no {name!r}{nearest(name, fields)}; it has {', '.join(fields)}")
        if isinstance(value, bool) or not isinstance(value, (int, fields[name])):
            raise UsageError(f"stroll: {name} must be a number, whole where its default is, not {value!r}")
    return Stroll(**changes)


class StrollingSampler(PathSampler):
    """Strolling evolution (upstream's ``evolution`` constraint): a small population that wanders down
    and up the range of operations, and within each window through the range of parameters.

    Genes mutate over the whole space whatever the channel schedule says, as upstream's do. When
    generations of children keep missing a window, random paths moved into it fill up.

    Raises:
        UsageError: when built, for a window that no path meets.
    """

    def __init__(
        self,
        schedule: ChannelSchedule,
        seed: int,
        tables: Mapping[str, Table],
        stroll: Stroll | None = None,
    ):
        self.stroll = stroll or Stroll()
        self.parents = np.empty((0, 2 * schedule.space.length), dtype=np.int8)
        self.cell, self.emitted = 0, 0
        self._whole = Domain.of(schedule.space)
        self._cells = []
        for i in range(len(self.stroll.caps())):
            for j, pick in enumerate(self.stroll.picks()):
                bounds, descending = self.stroll.cell(i, j)
                self._cells.append((Constraints(tables, bounds), descending, pick))
        self._params = tables["params"]
        for constraints in {str(cell[0]): cell[0] for cell in self._cells}.values():
            constraints.require_reachable(self._whole)
        super().__init__(schedule, seed)

    def draw(self) -> np.ndarray:
        constraints, descending, pick = self._cells[self.cell]
        if not len(self.parents):
            self.parents = self._whole.sample(self.rng, self.stroll.parents)
        children = self._children(constraints)
        size = self._params.totals(children)
        children = children[np.argsort(-size if descending else size, kind="stable")]
        self.parents = children[: self.stroll.parents]
        self.emitted += 1
        # Upstream divides by zero for epochs shorter than the number of cells.
        if self.emitted >= max(1, self.steps // len(self.stroll.caps()) // len(self.stroll.picks())):
            self.emitted, self.cell = 0, (self.cell + 1) % len(self._cells)
        return children[pick]

    def _children(self, constraints: Constraints) -> np.ndarray:
        found: list[np.ndarray] = []
        for _ in range(MAX_DRAWS // DRAWS_AT_ONCE):
            mothers, fathers = different_pairs(self.rng, self.parents, DRAWS_AT_ONCE)
            children = self._whole.cross(self.rng, mothers, fathers, self.stroll.mutation)
            found.extend(children[constraints.satisfied(children)])
            if len(found) >= self.stroll.children:
                return np.stack(found[: self.stroll.children])
        missing = self.stroll.children - len(found)
        return np.stack([*found, *constraints.sample(self._whole, self.rng, missing)])

    def get_state(self) -> dict:
        return {
            **super().get_state(),
            "parents": self.parents.tolist(),
            "cell": self.cell,
            "emitted": self.emitted,
        }

    def set_state(self, state: Mapping) -> None:
        super().set_state(state)
        self.parents = np.array(state["parents"], dtype=np.int8).reshape(-1, 2 * self.schedule.space.length)
        self.cell, self.emitted = state["cell"] % len(self._cells), state["emitted"]  # of a stroll with more windows


METHODS = ("uniform", "random", "strolling", "binned", "fair", "sandwich")


def create_sampler(
    method: str,
    schedule: ChannelSchedule,
    seed: int,
    epochs: int,
    bounds: Sequence[Bound] = (),
    stroll: Stroll | None = None,
    bins: Sequence[float] = (290.0, 360.0, 10.0),
) -> PathSampler:
    """The sampler ``method``, one of METHODS.

    Args:
        epochs: length of the run, over which what is asked for must be reachable.
        bounds: for ``random``.
        stroll: for ``strolling``.
        bins: for ``binned``: low, high and width in M.
    """
    tables = cost_tables(schedule.space)
    if method == "uniform":
        return PathSampler(schedule, seed)
    if method == "random":
        return RejectionSampler(schedule, seed, Constraints(tables, bounds), epochs)
    if method == "strolling":
        return StrollingSampler(schedule, seed, tables, stroll)
    if method == "binned":
        if len(bins) != 3:
            raise UsageError("the bins of operations are given as [low, high, width]")
        return BinnedSampler(schedule, seed, tables["flops"], *bins, epochs=epochs)
    if method == "fair":
        return FairSampler(schedule, seed)
    if method == "sandwich":
        return SandwichSampler(schedule, seed, tables["flops"])
    raise UsageError(f"there is no sampler {method!r}{nearest(method, METHODS)}; there are {', '.join(METHODS)}")
