"""From a configuration to a search, and the search itself: each path evaluated once, noted, and repeatable."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Protocol

import numpy as np

from src.errors import UsageError, nearest
from src.files import sha256
from src.machine.ranks import World, all_reduce_sum
from src.settings.config import Config
from src.settings.sections import Search as SearchKeys
from src.space import evolution
from src.space.constraints import Constraints, read_bounds
from src.space.cost import Table, cost_tables
from src.space.evolution import Search, TwoStageSearch
from src.space.journal import Journal
from src.space.score import ratio_tables, score_table
from src.space.spaces import Architecture, Domain, Space, from_genes
from src.supernet.latency import read_latency_table

# Keys of the search that decide neither which paths are scored nor their scores.
_WITHOUT_EFFECT = ("supernet", "search_top", "search_recipe")


@dataclasses.dataclass(frozen=True)
class Candidate:
    """An evaluated path.

    Attributes:
        index: order of evaluation, from 0.
        generation: of the search that asked for it first, from 0.
        accuracy: top-1, 0 to 1.
    """

    index: int
    generation: int
    architecture: Architecture
    accuracy: float


class Scores(Protocol):
    """What evaluates a path: how many of ``total`` images are classified right."""

    total: int

    def hits(self, genes: np.ndarray) -> int: ...


def tables_of(config: Config, space: Space) -> dict[str, Table]:
    """Every cost a path can be constrained by."""
    model = config.comparison_model
    tables = {**cost_tables(space), "score": score_table(space, model), **ratio_tables(space, model)}
    if config.latency_table:
        tables["latency"] = read_latency_table(Path(config.latency_table), space)
    return tables


def search_of(config: Config, space: Space, tables: Mapping[str, Table]) -> Search:
    """The configured search.

    Raises:
        UsageError: a name or size that does not exist, or constraints that no path meets.
    """
    blocks = _fixed(config, "fixed_block_choices", ("channels", "channels_then_blocks"), [0] * space.length)
    # Two-stage and block searches hold the scale that fixed networks without channel choice have.
    middle = next((i for i, scale in enumerate(space.channel_scales) if scale >= 1.0), len(space.channel_scales) - 1)
    channels = _fixed(config, "fixed_channel_choices", ("blocks", "blocks_then_channels"), [middle] * space.length)
    scope = config.search_scope
    if scope == "joint":
        return _search(config, Domain.of(space), tables, config.seed)
    if scope == "blocks":
        return _search(config, Domain.of(space, channels=channels), tables, config.seed)
    if scope == "channels":
        return _search(config, Domain.of(space, blocks=blocks), tables, config.seed)
    if scope == "blocks_then_channels":
        first = _search(config, Domain.of(space, channels=channels), tables, config.seed)
        return TwoStageSearch(first, lambda best: _second(config, space, tables, "blocks", best))
    first = _search(config, Domain.of(space, blocks=blocks), tables, config.seed)
    return TwoStageSearch(first, lambda best: _second(config, space, tables, "channels", best))


def _fixed(config: Config, key: str, scopes: Sequence[str], default: list[int]) -> list[int]:
    """The choices that ``scopes`` hold."""
    given = config[key]
    if given and config.search_scope not in scopes:
        raise UsageError(f"{key} is for --search_scope {' or '.join(scopes)}, not for {config.search_scope}")
    return given or default


def _second(config: Config, space: Space, tables: Mapping[str, Table], held: str, best: np.ndarray) -> Search:
    path = from_genes(best[None])[0]
    return _search(config, Domain.of(space, **{held: getattr(path, held)}), tables, config.seed + 1)


def _search(config: Config, domain: Domain, tables: Mapping[str, Table], seed: int) -> Search:
    if "latency" not in tables and "latency" in (*config.search_constraints, *config.search_objectives):
        raise UsageError("latency needs --latency_table FILE, which python -m src.supernet.latency writes")
    constraints = Constraints(tables, read_bounds(config.search_constraints))
    balanced = config.search_target == "balanced"
    fitness = evolution.balanced(tables["score"], config.score_ratio) if balanced else evolution.by_accuracy
    method = evolution.METHODS[config.search_method]
    population, generations, retain = config.search_population, config.search_generations, config.search_retain
    options: dict = {
        "random": {"count": population},
        "genetic": {
            "population": population,
            "iterations": generations,
            "retain": retain,
            "survive": config.search_survive,
            "mutation": config.search_mutation,
        },
        "megvii": {
            "population": population,
            "generations": generations,
            "select": retain,
            "mutations": population // 2,
            "crossovers": population // 2,
            "mutation": config.search_mutation,
        },
        "pareto": {
            "population": population,
            "generations": generations,
            "mutation": config.search_mutation,
            "objectives": [_objective(name, tables) for name in config.search_objectives],
        },
    }[config.search_method]
    return method(domain, constraints, seed=seed, fitness=fitness, **options)


def _objective(name: str, tables: Mapping[str, Table]) -> Table:
    if name not in tables:
        raise UsageError(f"cannot minimise {name!r}{nearest(name, tables)}; there are {', '.join(tables)}")
    return tables[name]


def header_of(config: Config, space: Space, checkpoint: str, images: str) -> dict:
    """What decides a search and its results, for the journal's first line.

    Args:
        checkpoint: SHA-256 of the supernet's checkpoint.
        images: fingerprint of those that the statistics and the scores are from.
    """
    keys = [key for key in SearchKeys.model_fields if key not in _WITHOUT_EFFECT]
    keys += ["search_holdout", "calibration_images", "seed"]
    return {
        **{key: config[key] for key in keys},
        "latency_table": sha256(Path(config.latency_table)) if config.latency_table else "",  # wherever it lies
        "batch_size": config.eval_batch_size or config.batch_size,  # the statistics are means over batches
        "space": space.described(),
        "checkpoint": checkpoint,
        "images": images,
    }


def run_search(
    search: Search,
    scores: Scores,
    journal: Journal,
    world: World,
    after_each: Callable[[Candidate, bool], None],
) -> list[Candidate]:
    """Runs ``search`` to its end; what the journal holds is not evaluated again.

    Each rank evaluates its share of a generation, in groups of as many paths as there are ranks; a
    group is noted in order when all of it is known, so the result does not depend on their number.

    Args:
        after_each: called with every new candidate, and whether it came from the journal.
    """
    noted: Iterator[dict] = iter(list(journal.records))
    known: dict[bytes, float] = {}
    candidates: list[Candidate] = []
    while len(genes := search.ask()):
        fresh = [row for row in _unique(genes) if row.tobytes() not in known]
        position = 0
        while position < len(fresh):
            group = fresh[position : position + 1]
            record = next(noted, None)
            if record is None:
                group = fresh[position : position + world.size]
                accuracies = _evaluate(group, scores, world)
            else:
                accuracies = [record.get("accuracy")]
                path = [list(part) for part in from_genes(group[0][None])[0]]
                if [record.get("blocks"), record.get("channels")] != path or type(accuracies[0]) not in (int, float):
                    raise UsageError(f"{journal.path} does not fit this search; give another run_dir")
            for row, accuracy in zip(group, accuracies, strict=True):
                candidate = Candidate(len(candidates), search.generation, from_genes(row[None])[0], accuracy)
                if record is None:
                    journal.append(_record(candidate))
                known[row.tobytes()] = accuracy
                candidates.append(candidate)
                after_each(candidate, record is not None)
            position += len(group)
        search.tell(genes, [known[row.tobytes()] for row in genes])
    return candidates


def _unique(genes: np.ndarray) -> list[np.ndarray]:
    return list({row.tobytes(): row for row in genes}.values())


def _evaluate(group: Sequence[np.ndarray], scores: Scores, world: World) -> list[float]:
    hits = [0] * len(group)
    if world.rank < len(group):
        hits[world.rank] = scores.hits(group[world.rank])
    return [count / scores.total for count in all_reduce_sum(hits)]


def _record(candidate: Candidate) -> dict:
    blocks, channels = candidate.architecture
    return {
        "index": candidate.index,
        "generation": candidate.generation,
        "blocks": list(blocks),
        "channels": list(channels),
        "accuracy": candidate.accuracy,
    }
