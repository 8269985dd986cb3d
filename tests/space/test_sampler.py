"""Path samplers: the published schedules and constants, exact resume, and honest refusals."""

import json
from collections import Counter

import numpy as np
import pytest

from src.errors import UsageError
from src.space.constraints import Bound, Constraints, read_bounds
from src.space.cost import Table, cost_tables
from src.space.sampler import (
    METHODS,
    BinnedSampler,
    ChannelSchedule,
    RejectionSampler,
    SandwichSampler,
    Stroll,
    StrollingSampler,
    create_sampler,
    read_stroll,
)
from src.space.spaces import LAYOUTS, PUBLISHED, Domain, create_space
from tests.skipping import SKIPPING

PLUS = PUBLISHED["OneShot+"][0]
ONESHOT = ChannelSchedule(PLUS, start_epoch=0)


def smallest_scales(layout, epochs, **options):
    space = LAYOUTS[layout]
    schedule = ChannelSchedule(space, start_epoch=60, **options)
    return [space.channel_scales[schedule.channel_range(epoch)[0]] for epoch in epochs]


def test_oneshot_warm_up_is_the_published_table():
    expected = [2.0] * 60 + [1.8, 1.6, 1.4, 1.2] + [1.0] * 2 + [0.8] * 3 + [0.6] * 4 + [0.4] * 5 + [0.2] * 42
    assert smallest_scales("OneShot", range(120)) == expected


def test_v2_warm_up_is_the_published_table_with_its_gap_closed():
    after = [1.8] + [1.6] * 2 + [1.4] * 3 + [1.2] * 4 + [1.0] * 5 + [0.8] * 6 + [0.6] * 15 + [0.4] + [0.2] * 10
    assert smallest_scales("ShuffleNetV2+", range(60, 60 + len(after))) == after


def test_options_of_the_schedule():
    assert min(smallest_scales("OneShot", range(120), ignore_first_two=True)) == 0.6
    assert smallest_scales("OneShot", [59, 60], warm_up=False) == [2.0, 0.2]
    assert ChannelSchedule(PLUS).channel_range(10_000) == (9, 9)
    assert ChannelSchedule(PLUS, fixed=4).channel_range(0) == (4, 4)
    assert ChannelSchedule(PLUS, fixed=0).channel_range(0) == (0, 0)
    for wrong in (-2, 10):
        with pytest.raises(UsageError, match=f"no channel index {wrong}"):
            ChannelSchedule(PLUS, fixed=wrong)


def test_warm_up_of_a_reduced_space_stays_inside_it():
    schedule = ChannelSchedule(LAYOUTS["digits"], start_epoch=2)
    assert [schedule.channel_range(epoch)[0] for epoch in range(9)] == [4, 4, 3, 2, 1, 0, 0, 0, 0]


def test_strolling_constants_are_upstreams():
    stroll = Stroll()
    assert stroll.caps() == [330, 310, 290, 270, 250, 230, 210, 210, 230, 250, 270, 290, 310, 330]
    assert stroll.picks() == [6, 6, 6, 9, 9, 6, 6, 6]
    assert [round(size, 4) for size in stroll.sizes()] == [5.0, 4.6857, 4.3714, 4.0571, 3.7429, 3.4286, 3.1143, 2.8]


def test_strolling_cells_turn_at_the_ends():
    stroll = Stroll()
    for i, j, params, descending in [
        (0, 0, (2.8, 5.0), True),
        (0, 3, (2.8, stroll.sizes()[3]), True),
        (0, 4, (stroll.sizes()[4], 5.0), False),
        (1, 0, (2.8, 5.0), False),
        (1, 4, (2.8, stroll.sizes()[3]), True),
        (1, 7, (2.8, 5.0), True),
    ]:
        bounds, is_descending = stroll.cell(i, j)
        assert (bounds[1].low, bounds[1].high) == params
        assert is_descending == descending
        assert (bounds[0].low, bounds[0].high) == (stroll.caps()[i] - 20, stroll.caps()[i])


def test_strolling_stays_in_its_cells_and_walks_through_all():
    sampler = StrollingSampler(ONESHOT, 1, cost_tables(PLUS))
    steps = 14 * 8 * 2
    sampler.begin_epoch(0, steps)
    genes = np.stack([sampler.draw() for _ in range(steps)])
    flops, params = (cost_tables(PLUS)[name].totals(genes) for name in ("flops", "params"))
    for step in range(steps):
        i, j = divmod(step // 2, 8)
        for bound, cost in zip(Stroll().cell(i, j)[0], (flops[step], params[step]), strict=True):
            assert bound.low <= cost <= bound.high
    assert sampler.cell == 0
    sampler.begin_epoch(1, 5)  # upstream divides by zero here
    sampler.draw()
    assert sampler.cell == 1


def test_rejection_meets_the_constraints_and_nothing_else():
    bounds = [Bound("flops", 190, 330), Bound("params", 2.8, 5.0)]
    schedule = ChannelSchedule(PLUS, start_epoch=0, warm_up=False)
    sampler = create_sampler("random", schedule, 2, 1, bounds)
    genes = np.stack([sampler.draw() for _ in range(50)])
    assert Constraints(cost_tables(PLUS), bounds).satisfied(genes).all()
    assert len(np.unique(genes, axis=0)) == 50


def test_bins_are_used_evenly():
    space = LAYOUTS["OneShot"]
    sampler = create_sampler("binned", ChannelSchedule(space, fixed=4), 3, 1)
    genes = np.stack([sampler.draw() for _ in range(350)])
    flops = cost_tables(space)["flops"].totals(genes)
    assert ((flops >= 290) & (flops <= 360)).all()
    counts, _ = np.histogram(flops, bins=np.arange(290, 361, 10))
    assert (counts > 25).all()


def test_a_bin_takes_the_first_of_its_tries_that_falls_into_it_or_the_last():
    space = LAYOUTS["OneShot"]
    flops, domain = cost_tables(space)["flops"], Domain.of(space, channel_range=(4, 4))
    sampler = BinnedSampler(ChannelSchedule(space, fixed=4), 3, flops, 290, 360, 10, max_tries=4)
    rng, found = np.random.default_rng(3), Counter()
    for _ in range(60):
        low = 290 + 10 * rng.integers(7)
        tries = domain.sample(rng, 4)
        inside = [index for index, cost in enumerate(flops.totals(tries)) if low <= cost <= low + 10]
        found[len(inside)] += 1
        np.testing.assert_array_equal(sampler.draw(), tries[inside[0] if inside else 3])
    assert {0, 1, 2} <= set(found)
    narrow = create_sampler("binned", ChannelSchedule(space, fixed=4), 3, 1, bins=(290, 294, 10))
    assert narrow.bins == [(290, 300)]


def test_fair_sampling_takes_each_block_once_in_four_steps():
    sampler = create_sampler("fair", ONESHOT, 4, 1)
    for _ in range(3):
        group = np.stack([sampler.draw() for _ in range(4)])
        assert all(sorted(group[:, position]) == [0, 1, 2, 3] for position in range(20))


def test_fair_sampling_of_positions_with_three_and_with_five_ops_takes_each_equally_often_in_fifteen_steps():
    sampler = create_sampler("fair", ChannelSchedule(SKIPPING), 4, 1)
    for _ in range(2):
        group = np.stack([sampler.draw() for _ in range(15)])
        for position, count in enumerate((3, 5, 3, 5)):
            assert np.bincount(group[:, position]).tolist() == [15 // count] * count


def test_sandwich_begins_each_group_with_the_extremes():
    schedule = ChannelSchedule(PLUS, start_epoch=0, warm_up=False)
    sampler = create_sampler("sandwich", schedule, 5, 1)
    flops = cost_tables(PLUS)["flops"]
    low, high = flops.range(Domain.of(PLUS))
    for _ in range(2):
        drawn = flops.totals(np.stack([sampler.draw() for _ in range(4)]))
        assert (drawn[0], drawn[1]) == (high, low)
        assert ((drawn[2:] > low) & (drawn[2:] < high)).all()


def test_a_stroll_of_fewer_windows_goes_on_from_one_of_its_own():
    schedule = ChannelSchedule(LAYOUTS["OneShot"])
    long, short = (create_sampler("strolling", schedule, 1, 1, stroll=Stroll(cuts=cuts)) for cuts in (7, 2))
    short.set_state({**long.get_state(), "cell": len(long._cells) - 1})
    short.draw()
    assert short.cell in range(len(short._cells))


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(("epoch", "at"), [(0, 1), (0, 7), (1, 3)])
def test_resumed_draws_are_those_of_the_uninterrupted_run(method, epoch, at):
    """Interrupted after ``at`` draws of ``epoch``; in the first one the channels are fixed, later they are free."""
    schedule = ChannelSchedule(LAYOUTS["OneShot"], start_epoch=1, warm_up=False, fixed=4)
    options = {"bounds": [Bound("flops", 300, 345)]}

    def start():
        sampler, drawn = create_sampler(method, schedule, 11, 3, **options), []
        for begun in range(epoch + 1):
            sampler.begin_epoch(begun, 448)
            drawn += [sampler.draw() for _ in range(at)]
        return sampler, drawn

    whole, head = start()
    state = json.loads(json.dumps(whole.get_state()))
    rest = [whole.draw() for _ in range(5)]
    whole.begin_epoch(epoch + 1, 448)
    rest += [whole.draw() for _ in range(9)]

    resumed = create_sampler(method, schedule, 999, 3, **options)
    resumed.set_state(state)
    again = [resumed.draw() for _ in range(5)]
    resumed.begin_epoch(epoch + 1, 448)
    again += [resumed.draw() for _ in range(9)]
    np.testing.assert_array_equal(rest, again)

    np.testing.assert_array_equal(head, start()[1])


def test_uniform_draws_cover_the_range_of_the_epoch():
    sampler = create_sampler("uniform", ChannelSchedule(PLUS, start_epoch=0), 6, 3)
    seen = [Counter(), Counter()]
    for epoch in range(2):
        sampler.begin_epoch(epoch, 100)
        for _ in range(50):
            seen[epoch].update(sampler.draw()[20:].tolist())
    assert (set(seen[0]), set(seen[1])) == ({8, 9}, {7, 8, 9})


@pytest.mark.parametrize(
    ("method", "options", "message"),
    [
        ("random", {"bounds": [Bound("flops", 10, 20)]}, r"flops can be from 64\.163 to 849\.515 M"),
        ("random", {"bounds": [Bound("params", 9, 10)]}, r"params can be from 2\.4033 to 7\.47988 M"),
        ("random", {"bounds": [Bound("flops", 64, 70), Bound("params", 7, 8)]}, "at once; the closest found"),
        ("random", {"bounds": [Bound("flops", 64, 80)]}, "sample by strolling evolution"),
        ("binned", {"bins": (10.0, 40.0, 10.0)}, "flops can be from"),
        ("binned", {"bins": (10.0, 40.0)}, "low, high, width"),
        ("strolling", {"stroll": Stroll(params_low=8, params_high=9)}, "params can be from"),
        ("sandwhich", {}, "did you mean 'sandwich'"),
    ],
)
def test_what_no_path_can_give_is_refused_at_once(method, options, message):
    schedule = ChannelSchedule(PLUS, start_epoch=0, warm_up=False)
    with pytest.raises(UsageError, match=message):
        create_sampler(method, schedule, 1, 1, **options)


def test_a_constraint_out_of_reach_of_a_later_epoch_is_refused_before_the_first():
    schedule = ChannelSchedule(PLUS, start_epoch=3)
    with pytest.raises(UsageError, match="epoch 1 has flops"):
        RejectionSampler(schedule, 1, Constraints(cost_tables(PLUS), [Bound("flops", 190, 330)]), 10)
    small_first = ChannelSchedule(PLUS, start_epoch=3, fixed=0)
    few = Constraints(cost_tables(PLUS), [Bound("flops", 60, 200)])
    RejectionSampler(small_first, 1, few, 3)
    with pytest.raises(UsageError, match="epoch 4 has flops"):
        RejectionSampler(small_first, 1, few, 4)


def test_tight_bounds_are_met_by_moving_paths_into_them():
    constraints = Constraints(cost_tables(PLUS), [Bound("flops", 80, 82), Bound("params", 2.5, 2.6)])
    genes = constraints.sample(Domain.of(PLUS), np.random.default_rng(0), 5)
    assert constraints.satisfied(genes).all()
    assert (constraints.excess(genes) == 0).all()


def test_excess_is_in_shares_of_a_costs_span():
    """Widths 0 to 4 at one position cost 0 to 4 of it; a cost that no choice changes counts as it is."""
    rising = Table("rising", "", 0.0, np.broadcast_to(np.arange(5.0), (1, 4, 5)))
    flat = Table("flat", "", 1.0, np.zeros((1, 4, 5)))
    genes = np.array([[0, width] for width in range(5)], np.int8)

    def excess(*bounds: Bound) -> list[float]:
        return Constraints({"rising": rising, "flat": flat}, bounds).excess(genes).tolist()

    assert excess(Bound("rising", 1, 3)) == [0.25, 0, 0, 0, 0.25]
    assert excess(Bound("flat", 1, 1)) == [0] * 5
    assert excess(Bound("rising", 1, 2), Bound("flat", 3, 4)) == [2.25, 2, 2, 2.25, 2.5]


def test_bounds_from_a_configuration():
    assert read_bounds({"flops": [0, 330], "params": [2.8, 0]}) == [
        Bound("flops", high=330.0),
        Bound("params", low=2.8),
    ]
    words = [str(bound) for bound in read_bounds({"flops": [0, 330], "params": [2.8, 0], "macs": [1, 2]})]
    assert words == ["flops up to 330", "params from 2.8 on", "macs from 1 to 2"]
    for wrong in ({"flops": 330}, {"flops": [3, 2]}, {"flops": ["x", 1]}):
        with pytest.raises(UsageError):
            read_bounds(wrong)
    with pytest.raises(UsageError, match="did you mean 'flops'"):
        Constraints(cost_tables(PLUS), [Bound("flop", 0, 1)])


def test_stroll_settings_that_mean_nothing_are_refused():
    for name, values in {
        "flops_low": (-1, 330, 400),
        "params_low": (-1, 5, 6),
        "cuts": (0,),
        "parents": (1, 11),
        "mutation": (0, 1.1),
        "pick_interval": (0,),
        "pick_floor": (-1, 10),
    }.items():
        for value in values:
            with pytest.raises(UsageError):
                Stroll(**{name: value})
    Stroll(flops_low=0, params_low=0, cuts=1, children=2, parents=2, mutation=1, pick_interval=1, pick_floor=1)


def test_bins_and_groups_that_mean_nothing_are_refused():
    flops = cost_tables(PLUS)["flops"]
    for low, high, width in ((-10, 360, 10), (360, 360, 10), (370, 360, 10), (290, 360, 0)):
        with pytest.raises(UsageError, match=f"bins from {low} to {high} of width {width} do not exist"):
            create_sampler("binned", ONESHOT, 1, 1, bins=(low, high, width))
    with pytest.raises(UsageError, match="at least 3 paths"):
        SandwichSampler(ONESHOT, 1, flops, group=2)
    threes = SandwichSampler(ChannelSchedule(PLUS, start_epoch=0, warm_up=False), 1, flops, group=3)
    costs = flops.totals(np.stack([threes.draw() for _ in range(6)])).reshape(2, 3)
    low, high = flops.range(Domain.of(PLUS))
    assert (costs[:, 0] == high).all() and (costs[:, 1] == low).all()
    assert ((low < costs[:, 2]) & (costs[:, 2] < high)).all()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"flop_high": 300}, "did you mean 'flops_high'"),
        ({"cuts": 2.5}, "cuts must be a number, whole where its default is"),
        ({"flops_low": "190"}, "flops_low must be a number"),
        ({"mutation": True}, "mutation must be a number"),
    ],
)
def test_stroll_settings_of_a_configuration_are_checked(changes, message):
    assert read_stroll({"flops_high": 300, "cuts": 5}) == Stroll(flops_high=300, cuts=5)
    with pytest.raises(UsageError, match=message):
        read_stroll(changes)


def test_other_stroll_settings_for_a_reduced_space():
    space = create_space("digits")
    stroll = Stroll(1.2, 0.5, 3, 0.05, 0.11)
    sampler = create_sampler("strolling", ChannelSchedule(space, start_epoch=0), 1, 1, stroll=stroll)
    sampler.begin_epoch(0, 6 * 8)
    genes = np.stack([sampler.draw() for _ in range(48)])
    flops = cost_tables(space)["flops"].totals(genes)
    assert ((flops >= 0.5) & (flops <= 1.2)).all()
