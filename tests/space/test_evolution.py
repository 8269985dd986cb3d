"""Searches on a known landscape: they find its peak, obey their constraints and repeat themselves."""

import numpy as np
import pytest

from src.errors import UsageError
from src.settings.config import choices_of
from src.space import evolution
from src.space.constraints import Bound, Constraints
from src.space.cost import cost_tables
from src.space.score import score_table
from src.space.spaces import LAYOUTS, PUBLISHED, Architecture, Domain, create_space, from_genes

SPACE = PUBLISHED["OneShot+"][0]
TABLES = cost_tables(SPACE)
LIMIT = [Bound("flops", high=328), Bound("params", 2.5, 4.5)]


def accuracy_of(genes):
    """A smooth landscape: large kernels and middle widths are good."""
    blocks, channels = genes[:, :20].astype(float), genes[:, 20:].astype(float)
    return 0.5 + 0.01 * (blocks == 2).sum(axis=1) - 0.002 * np.abs(channels - 5).sum(axis=1)


def search(name, seed=1, space=SPACE, bounds=LIMIT, domain=None, **options):
    constraints = Constraints(cost_tables(space), bounds)
    if name == "pareto":
        options.setdefault("objectives", [cost_tables(space)["flops"]])
    return evolution.METHODS[name](domain or Domain.of(space), constraints, seed=seed, **options)


def run(a_search, landscape=accuracy_of):
    asked = []
    while len(genes := a_search.ask()):
        asked.append(genes)
        a_search.tell(genes, landscape(genes))
    return asked


SMALL = {
    "random": {"count": 60},
    "genetic": {"population": 16, "iterations": 8, "retain": 4},
    "megvii": {"population": 16, "generations": 8, "select": 4, "mutations": 8, "crossovers": 8},
    "pareto": {"population": 16, "generations": 8},
}


@pytest.mark.parametrize("name", SMALL)
def test_every_path_asked_for_meets_the_constraints(name):
    a_search = search(name, **SMALL[name])
    asked = np.concatenate(run(a_search))
    assert Constraints(TABLES, LIMIT).satisfied(asked).all()
    assert len(asked) == len(a_search.genes) <= a_search.total() + 40  # genetic: survivors vary


@pytest.mark.parametrize("name", SMALL)
def test_one_seed_one_search(name):
    first, second, other = (np.concatenate(run(search(name, seed, **SMALL[name]))) for seed in (5, 5, 6))
    np.testing.assert_array_equal(first, second)
    assert first.shape != other.shape or (first != other).any()


@pytest.mark.parametrize("name", ["genetic", "megvii", "pareto"])
def test_evolution_beats_random_draws(name):
    found = search(name, **SMALL[name])
    run(found)
    random = search("random", count=len(found.genes))
    run(random)
    assert found.accuracies.max() > random.accuracies.max()
    assert accuracy_of(found.best()[None])[0] == found.accuracies.max()


def test_genetic_keeps_the_fittest_and_asks_only_for_what_is_new():
    a_search = search("genetic", population=12, iterations=4, retain=5, survive=0.0)
    for _ in range(3):
        genes = a_search.ask()
        a_search.tell(genes, accuracy_of(genes))
        np.testing.assert_array_equal(a_search.members[:5], a_search.genes[a_search.ranked()[:5]])
        assert len(a_search.ask()) == 7


def test_children_are_drawn_until_there_are_enough():
    """More than the 128 of one batch, unmutated: each gene is that of one of the two parents."""
    a_search = search("genetic", bounds=[], population=300, iterations=2, retain=2, survive=0.0, mutation=0.0)
    first = a_search.ask()
    a_search.tell(first, accuracy_of(first))
    children, parents = a_search.ask(), a_search.members[:2]
    assert len(children) == 298
    assert ((children == parents[0]) | (children == parents[1])).all()


def test_upstream_sizes_are_the_defaults():
    genetic, megvii = search("genetic"), search("megvii")
    assert (genetic.population, genetic.iterations, genetic.retain) == (50, 20, 10)
    assert (genetic.survive, genetic.mutation) == (0.1, 0.1)
    assert (megvii.population, megvii.generations, megvii.select) == (50, 20, 10)
    assert (megvii.mutations, megvii.crossovers, megvii.mutation) == (25, 25, 0.1)
    assert search("random").count == 100


def test_megvii_visits_no_path_twice_even_when_few_are_left():
    tiny = create_space("digits", stage_repeats=(1, 1), stage_out_channels=(32, 64))
    domain = Domain.of(tiny, channels=(2, 2))
    a_search = search("megvii", space=tiny, bounds=[], domain=domain, **SMALL["megvii"])
    asked = np.concatenate(run(a_search, lambda genes: genes[:, 0] / 10))
    assert len(np.unique(asked, axis=0)) == len(asked) == domain.size() == 16


def test_small_domains_end_every_search():
    tiny = create_space("digits", stage_repeats=(1, 1), stage_out_channels=(32, 64))
    domain = Domain.of(tiny, channels=(2, 2))
    for name, options in SMALL.items():
        a_search = search(name, space=tiny, bounds=[], domain=domain, **options)
        run(a_search, lambda genes: genes[:, 0] / 10)
        assert a_search.best()[0] == 3


def test_balanced_fitness_prefers_the_smaller_of_equals():
    fitness = evolution.balanced(score_table(SPACE), ratio=1.0)
    flat = search("genetic", fitness=fitness, **SMALL["genetic"])
    run(flat, lambda genes: np.full(len(genes), 0.5))
    best = TABLES["flops"].totals(flat.best()[None])[0]
    assert best < np.median(TABLES["flops"].totals(flat.genes[:16]))


def test_pareto_search_spreads_over_the_front():
    a_search = search("pareto", bounds=[], population=24, generations=12)
    run(a_search)
    values = a_search.values(a_search.genes, a_search.accuracies)
    front = evolution.pareto_front(values)
    assert len(front) >= 5
    start = evolution.pareto_front(values[:24])
    assert values[front][:, 1].min() < values[start][:, 1].min()
    assert values[front][:, 0].min() < values[start][:, 0].min()


def test_pareto_front_of_a_small_example():
    values = np.array([[1.0, 3.0], [2.0, 2.0], [3.0, 1.0], [2.0, 3.0], [2.0, 2.0]])
    assert evolution.pareto_front(values).tolist() == [0, 1, 2]
    assert evolution.pareto_front(values[[3, 1]]).tolist() == [1]  # what is dominated may stand first


@pytest.mark.parametrize("first", ["blocks", "channels"])
def test_two_stages_fix_what_the_first_found(first):
    length = SPACE.length
    start = Domain.of(SPACE, channels=(4,) * length) if first == "blocks" else Domain.of(SPACE, blocks=(0,) * length)

    def second(best):
        path = from_genes(best[None])[0]
        fixed = {"blocks": path.blocks} if first == "blocks" else {"channels": path.channels}
        options = {**SMALL["genetic"], "iterations": 4}
        return search("genetic", 2, bounds=[], domain=Domain.of(SPACE, **fixed), **options)

    stages = evolution.TwoStageSearch(search("genetic", bounds=[], domain=start, **SMALL["genetic"]), second)
    total = stages.total()
    asked = run(stages)
    assert (total, stages.total()) == (2 * (16 + 7 * 12), 16 + 7 * 12 + 16 + 3 * 12)
    half = SMALL["genetic"]["iterations"]
    early, late = np.concatenate(asked[:half]), np.concatenate(asked[half:])
    part = slice(0, length) if first == "blocks" else slice(length, None)
    other = slice(length, None) if first == "blocks" else slice(0, length)
    assert (early[:, other] == early[0, other]).all()
    assert (late[:, part] == early[np.argmax(accuracy_of(early)), part]).all()
    assert accuracy_of(stages.best()[None])[0] == stages.accuracies.max() >= accuracy_of(early).max()


def test_a_bound_given_in_single_flops_is_told_the_unit():
    with pytest.raises(UsageError, match=r"flops can be from 64.* M; bounds are given in M, so divide by 1,000,000"):
        search("random", bounds=[Bound("flops", 190e6, 330e6)])


def test_a_bound_that_every_path_meets_is_named(caplog):
    search("random", bounds=[Bound("flops", high=330e6), Bound("params", 2, 4)])
    (record,) = caplog.records
    assert record.message.startswith("every path has flops up to 3.3e+08: flops can be from 64.")


@pytest.mark.parametrize("name", SMALL)
def test_infeasible_constraints_end_at_once(name):
    with pytest.raises(UsageError, match="flops can be from 64"):
        search(name, bounds=[Bound("flops", high=50)])
    largest = Domain.of(SPACE, channels=(9,) * 20)
    with pytest.raises(UsageError, match=r"flops can be from 4\d\d"):
        search(name, bounds=LIMIT, domain=largest)


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("genetic", {"retain": 1}),
        ("genetic", {"retain": 51}),
        ("genetic", {"iterations": 0}),
        ("megvii", {"mutations": 30, "crossovers": 30}),
        ("megvii", {"select": 1}),
        ("megvii", {"generations": 0}),
        ("pareto", {"objectives": []}),
        ("pareto", {"population": 1}),
        ("pareto", {"generations": 0}),
    ],
)
def test_settings_that_mean_nothing_are_refused(name, options):
    with pytest.raises(UsageError):
        search(name, **options)


@pytest.mark.parametrize(
    ("name", "options", "total"),
    [
        ("random", {"count": 1}, 1),
        ("genetic", {"population": 2, "iterations": 1, "retain": 2}, 2),
        ("genetic", {"population": 6, "iterations": 3, "retain": 2, "survive": 0.0}, 14),
        ("megvii", {"population": 4, "generations": 1, "select": 2, "mutations": 2, "crossovers": 2}, 4),
        ("megvii", {"population": 5, "generations": 3, "select": 2, "mutations": 2, "crossovers": 2}, 15),
        ("pareto", {"population": 2, "generations": 1}, 2),
        ("pareto", {"population": 4, "generations": 3}, 12),
    ],
)
def test_a_search_asks_for_as_many_paths_as_it_says(name, options, total):
    a_search = search(name, **options)
    assert a_search.total() == total
    run(a_search)
    assert len(a_search.genes) == total


def test_every_choice_of_the_key_is_a_search():
    assert set(evolution.METHODS) == set(choices_of("search_method"))


def test_rare_paths_are_still_searched():
    bounds = [Bound("flops", 100, 110)]
    a_search = search("genetic", bounds=bounds, **SMALL["genetic"])
    asked = np.concatenate(run(a_search))
    assert Constraints(TABLES, bounds).satisfied(asked).all()
    assert isinstance(from_genes(asked)[0], Architecture)
    assert LAYOUTS["OneShot"].check(from_genes(asked)[0])
