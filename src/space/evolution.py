"""Searches over paths: random, genetic (two forms) and multi-objective, each by ask and tell.

    genes = search.ask()        # the paths of the next generation that wait for an accuracy
    search.tell(accuracies)     # in the same order; ask() gives no rows when the search is over

All choices follow from the seed and the accuracies told, so a search that is started again and told
the journal's accuracies stands exactly where it was.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from src.errors import UsageError
from src.space.constraints import DRAWS_AT_ONCE, Constraints
from src.space.cost import Table
from src.space.spaces import Domain, different_pairs

_log = logging.getLogger(__name__)
# Batches of children drawn for one generation before it is filled up otherwise.
MAX_BATCHES = 100
Fitness = Callable[[np.ndarray, np.ndarray], np.ndarray]


def by_accuracy(genes: np.ndarray, accuracy: np.ndarray) -> np.ndarray:
    """Fitness of paths: their accuracy."""
    return accuracy


def balanced(score: Table, ratio: float = 1.0) -> Fitness:
    """Fitness: accuracy less ``ratio`` times the normalised score (upstream's balanced target)."""
    return lambda genes, accuracy: accuracy - ratio * score.totals(genes)


class Search:
    """What every search has: a domain, constraints, and the paths evaluated so far.

    Args:
        domain: what a path may be; fixed genes stay fixed.
        constraints: every path asked for meets them.
        seed: of all choices.
        fitness: larger is better; of genes [n, 2L] and accuracies [n].

    Raises:
        UsageError: no path of the domain meets the constraints; the message says what is reachable.
    """

    def __init__(self, domain: Domain, constraints: Constraints, seed: int, fitness: Fitness = by_accuracy):
        constraints.require_reachable(domain)
        for line in constraints.idle(domain):
            _log.warning(line)
        self.domain, self.constraints, self.fitness = domain, constraints, fitness
        self.rng = np.random.default_rng(seed)
        self.generation = 0
        self.genes = np.empty((0, len(domain.low)), dtype=np.int8)
        self.accuracies = np.empty(0)

    def ask(self) -> np.ndarray:
        """Genes [n, 2L] of the paths to evaluate now; no rows: the search is over."""
        raise NotImplementedError

    def tell(self, genes: np.ndarray, accuracies: Sequence[float]) -> None:
        """The accuracies of what :meth:`ask` gave."""
        self.genes = np.concatenate([self.genes, genes])
        self.accuracies = np.concatenate([self.accuracies, accuracies])
        self.generation += 1

    def total(self) -> int:
        """Largest number of paths the search will ask for."""
        raise NotImplementedError

    def ranked(self) -> np.ndarray:
        """Indices of the paths told, fittest first; of equals the earlier one."""
        return np.argsort(-self.fitness(self.genes, self.accuracies), kind="stable")

    def best(self) -> np.ndarray:
        """Genes [2L] of the fittest path told."""
        return self.genes[self.ranked()[0]]


class RandomSearch(Search):
    """``count`` random paths that meet the constraints."""

    def __init__(self, *args, count: int = 100, **kwargs):
        super().__init__(*args, **kwargs)
        self.count = count

    def ask(self) -> np.ndarray:
        return self.constraints.sample(self.domain, self.rng, self.count if self.generation == 0 else 0)

    def total(self) -> int:
        return self.count


class GeneticSearch(Search):
    """Upstream's genetic search.

    Each iteration keeps the ``retain`` fittest of the population, lets every other survive with
    chance ``survive``, and fills up with children of two different survivors: every gene from either
    parent, then redrawn with chance ``mutation``. Children outside the constraints are dropped.
    """

    def __init__(
        self,
        *args,
        population: int = 50,
        iterations: int = 20,
        retain: int = 10,
        survive: float = 0.1,
        mutation: float = 0.1,
        **kwargs,
    ):
        super().__init__(*args, **kwargs)
        if not 2 <= retain <= population or iterations < 1:
            raise UsageError(
                f"search_retain {retain} must be 2 to search_population, which is {population}, "
                f"and search_generations, {iterations}, at least 1"
            )
        self.population, self.iterations = population, iterations
        self.retain, self.survive, self.mutation = retain, survive, mutation
        self.members = self.constraints.sample(self.domain, self.rng, population)
        self.member_accuracies = np.empty(0)

    def ask(self) -> np.ndarray:
        evaluated = len(self.member_accuracies)
        return self.members[evaluated:] if self.generation < self.iterations else self.members[:0]

    def tell(self, genes: np.ndarray, accuracies: Sequence[float]) -> None:
        super().tell(genes, accuracies)
        self.member_accuracies = np.concatenate([self.member_accuracies, accuracies])
        if self.generation < self.iterations:
            self._evolve()

    def _evolve(self) -> None:
        order = np.argsort(-self.fitness(self.members, self.member_accuracies), kind="stable")
        lucky = self.rng.random(len(order)) < self.survive
        lucky[: self.retain] = True
        parents = order[lucky]
        survivors = self.members[parents]
        children = self._children(survivors, self.population - len(survivors))
        self.members = np.concatenate([survivors, children])
        self.member_accuracies = self.member_accuracies[parents]

    def _children(self, parents: np.ndarray, count: int) -> np.ndarray:
        found: list[np.ndarray] = []
        for _ in range(MAX_BATCHES):
            mothers, fathers = different_pairs(self.rng, parents, DRAWS_AT_ONCE)
            twice = (np.repeat(mothers, 2, axis=0), np.repeat(fathers, 2, axis=0))
            children = self.domain.cross(self.rng, *twice, self.mutation)
            found.extend(children[self.constraints.satisfied(children)])
            if len(found) >= count:
                break
        found = found[:count]
        return np.concatenate(
            [
                np.array(found, dtype=np.int8).reshape(-1, len(self.domain.low)),
                self.constraints.sample(self.domain, self.rng, count - len(found)),
            ]
        )

    def total(self) -> int:
        return self.population + (self.iterations - 1) * (self.population - self.retain)


class MegviiSearch(Search):
    """megvii's search (arXiv 1904.00420's released code).

    Each generation takes the ``select`` fittest paths seen so far and makes ``mutations`` mutants and
    ``crossovers`` crossings of them, filled up with random paths; no path is visited twice.
    """

    def __init__(
        self,
        *args,
        population: int = 50,
        generations: int = 20,
        select: int = 10,
        mutations: int = 25,
        crossovers: int = 25,
        mutation: float = 0.1,
        **kwargs,
    ):
        super().__init__(*args, **kwargs)
        if not (select >= 2 and mutations + crossovers <= population and generations >= 1):
            raise UsageError("mutants and crossings together must fit the population, and 2 paths must be selected")
        self.population, self.generations, self.select = population, generations, select
        self.mutations, self.crossovers, self.mutation = mutations, crossovers, mutation
        self._visited: set[bytes] = set()
        self._pending = self._fill([])

    def ask(self) -> np.ndarray:
        return self._pending

    def tell(self, genes: np.ndarray, accuracies: Sequence[float]) -> None:
        super().tell(genes, accuracies)
        if self.generation >= self.generations:
            self._pending = self._pending[:0]
            return
        parents = self.genes[self.ranked()[: self.select]]
        chosen = self._fresh(
            lambda n: self.domain.mutate(self.rng, parents[self.rng.integers(len(parents), size=n)], self.mutation),
            self.mutations,
        )
        if len(parents) > 1:
            chosen += self._fresh(
                lambda n: self.domain.cross(self.rng, *different_pairs(self.rng, parents, n), 0.0), self.crossovers
            )
        self._pending = self._fill(chosen)

    def _fill(self, chosen: list[np.ndarray]) -> np.ndarray:
        chosen = chosen + self._fresh(
            lambda n: self.constraints.sample(self.domain, self.rng, n), self.population - len(chosen)
        )
        return np.array(chosen, dtype=np.int8).reshape(-1, len(self.domain.low))

    def _fresh(self, make: Callable[[int], np.ndarray], count: int) -> list[np.ndarray]:
        """At most ``count`` unvisited paths inside the constraints out of ten times as many made."""
        found: list[np.ndarray] = []
        rows = make(10 * count) if count else np.empty((0, len(self.domain.low)), dtype=np.int8)
        for row in rows[self.constraints.satisfied(rows)]:
            if len(found) < count and row.tobytes() not in self._visited:
                self._visited.add(row.tobytes())
                found.append(row)
        return found

    def total(self) -> int:
        return self.population * self.generations


class ParetoSearch(Search):
    """NSGA-II (Deb et al. 2002, by pymoo) over accuracy against one or more costs.

    Args:
        objectives: cost tables to minimise beside maximising the accuracy.
    """

    def __init__(
        self,
        *args,
        objectives: Sequence[Table],
        population: int = 50,
        generations: int = 20,
        mutation: float = 0.1,
        seed: int,
        **kwargs,
    ):
        super().__init__(*args, seed=seed, **kwargs)
        if not objectives or population < 2 or generations < 1:
            raise UsageError("a Pareto search needs a cost to minimise, 2 paths and 1 generation")
        self.objectives, self.population, self.generations = tuple(objectives), population, generations
        self._algorithm = _nsga2(self, population, mutation, seed)
        self._individuals = self._algorithm.ask()

    def ask(self) -> np.ndarray:
        rows = self._individuals.get("X") if self._individuals is not None else []
        return np.array(rows, dtype=np.int8).reshape(-1, len(self.domain.low))

    def tell(self, genes: np.ndarray, accuracies: Sequence[float]) -> None:
        super().tell(genes, accuracies)
        self._individuals.set("F", self.values(genes, np.asarray(accuracies)))
        self._algorithm.tell(infills=self._individuals)
        self._individuals = self._algorithm.ask() if self.generation < self.generations else None

    def values(self, genes: np.ndarray, accuracies: np.ndarray) -> np.ndarray:
        """What is minimised: error, then each cost, [n, 1 + costs]."""
        return np.stack([1.0 - accuracies, *(table.totals(genes) for table in self.objectives)], axis=1)

    def total(self) -> int:
        return self.population * self.generations


def _nsga2(search: ParetoSearch, population: int, mutation: float, seed: int):
    # pymoo is needed by this search only, and loads slowly.
    from pymoo.algorithms.moo.nsga2 import NSGA2
    from pymoo.config import Config
    from pymoo.core.mutation import Mutation
    from pymoo.core.problem import Problem
    from pymoo.core.repair import Repair
    from pymoo.core.sampling import Sampling
    from pymoo.operators.crossover.ux import UX

    Config.warnings["not_compiled"] = False
    domain, constraints = search.domain, search.constraints

    class Paths(Sampling):
        def _do(self, problem, n_samples, *args, random_state, **kwargs):
            return constraints.sample(domain, random_state, n_samples)

    class Redraw(Mutation):
        def _do(self, problem, genes, *args, random_state, **kwargs):
            return domain.mutate(random_state, genes, mutation)

    class IntoBounds(Repair):
        def _do(self, problem, genes, **kwargs):
            return np.array([constraints.repair(domain, search.rng, row.astype(np.int8)) for row in genes])

    algorithm = NSGA2(
        pop_size=population,
        sampling=Paths(),
        crossover=UX(),
        mutation=Redraw(),
        repair=IntoBounds(),
        eliminate_duplicates=True,
    )
    problem = Problem(n_var=len(domain.low), n_obj=1 + len(search.objectives), xl=domain.low, xu=domain.high, vtype=int)
    return algorithm.setup(problem, termination=("n_gen", search.generations + 1), seed=seed, verbose=False)


class TwoStageSearch(Search):
    """One search, then a second one around the best path of the first (blocks first, then channels,
    or the reverse).

    Args:
        first: the search of the first stage.
        make_second: builds the second from the genes [2L] of the first's best path.
    """

    def __init__(self, first: Search, make_second: Callable[[np.ndarray], Search]):
        super().__init__(first.domain, first.constraints, 0, first.fitness)
        self._stage, self._make_second, self._first_total = first, make_second, first.total()
        self._in_second = False

    def ask(self) -> np.ndarray:
        genes = self._stage.ask()
        if not len(genes) and not self._in_second:
            self._stage, self._in_second = self._make_second(self._stage.best()), True
            genes = self._stage.ask()
        return genes

    def tell(self, genes: np.ndarray, accuracies: Sequence[float]) -> None:
        super().tell(genes, accuracies)
        self._stage.tell(genes, accuracies)

    def total(self) -> int:
        return self._first_total * 2 if not self._in_second else self._first_total + self._stage.total()


def pareto_front(values: np.ndarray) -> np.ndarray:
    """Indices of the rows of ``values`` [n, m] (all minimised) that no other row dominates; of equal
    rows the first."""
    front = []
    for index, row in enumerate(values):
        as_good = (values <= row).all(axis=1)
        better = as_good & (values < row).any(axis=1)
        equal = as_good & ~better
        if not better.any() and np.flatnonzero(equal)[0] == index:
            front.append(index)
    return np.array(front, dtype=int)


METHODS: Mapping[str, type[Search]] = {
    "random": RandomSearch,
    "genetic": GeneticSearch,
    "megvii": MegviiSearch,
    "pareto": ParetoSearch,
}
