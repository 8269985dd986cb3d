"""Who a process is, as its launcher's environment says, and sums that do not depend on the ranks' order."""

import itertools
import math
import random

import numpy as np
import pytest

from src.errors import UsageError, run
from src.machine.ranks import (
    DIGITS,
    World,
    _from_digits,
    _to_digits,
    all_reduce_counts,
    all_reduce_sum,
    initialise,
    leave,
    world_from,
)


@pytest.mark.parametrize(
    ("environment", "world"),
    [
        ({}, World(0, 1, 0, "")),
        ({"DEVICE_ID": "3", "RANK_ID": "0", "RANK_SIZE": "1"}, World(0, 1, 3, "")),
        (
            {"MS_ROLE": "MS_WORKER", "RANK_ID": "9", "RANK_SIZE": "16", "DEVICE_ID": "1"},
            World(9, 16, 1, "msrun"),
        ),
        ({"MS_ROLE": "MS_SCHED", "MS_WORKER_NUM": "2", "RANK_ID": "0"}, World(0, 2, 0, "scheduler")),
        (
            {"OMPI_COMM_WORLD_RANK": "5", "OMPI_COMM_WORLD_SIZE": "8", "OMPI_COMM_WORLD_LOCAL_RANK": "1"},
            World(5, 8, 1, "mpirun"),
        ),
        (
            {"RANK_TABLE_FILE": "/t.json", "RANK_ID": "2", "RANK_SIZE": "4", "DEVICE_ID": "6"},
            World(2, 4, 6, "rank_table"),
        ),
    ],
)
def test_environment_of_each_launcher(environment, world):
    assert world_from(environment) == world


def test_only_rank_zero_writes():
    assert [World(rank, 3).is_main for rank in range(3)] == [True, False, False]


@pytest.mark.parametrize(
    ("environment", "named"),
    [
        ({"MS_ROLE": "MS_WORKER", "RANK_SIZE": "2"}, "RANK_ID"),
        ({"MS_ROLE": "MS_WORKER", "RANK_ID": "1"}, "RANK_SIZE"),
        ({"RANK_TABLE_FILE": "t", "RANK_ID": "2", "RANK_SIZE": "2"}, "RANK_ID=2"),
        ({"RANK_TABLE_FILE": "t", "RANK_ID": "-1", "RANK_SIZE": "2"}, "RANK_ID"),
        ({"OMPI_COMM_WORLD_SIZE": "two", "OMPI_COMM_WORLD_RANK": "0"}, "OMPI_COMM_WORLD_SIZE"),
    ],
)
def test_broken_environment_is_named(environment, named):
    with pytest.raises(UsageError, match=named):
        world_from(environment)


@pytest.mark.parametrize(
    ("program", "expected"),
    [
        ("train.py", "python src/launch/launcher.py --makes_run --launcher msrun --ranks 2 --target CPU train.py"),
        (
            "my/train.py",
            "python my/src/launch/launcher.py --makes_run --launcher msrun --ranks 2 --target CPU my/train.py",
        ),
        ("eval.py", "python src/launch/launcher.py --launcher msrun --ranks 2 --target CPU eval.py"),
    ],
)
def test_distributed_without_launcher_gives_the_line_to_type(monkeypatch, program, expected):
    monkeypatch.setattr("sys.argv", [program, "--data_path", "my images"])
    with pytest.raises(UsageError) as error:
        initialise(World(), is_distributed=True, device_target="CPU")
    assert str(error.value).endswith(f"type: {expected} --data_path 'my images'")


def test_plain_mpirun_on_the_cpu_is_refused_with_the_line_to_type(monkeypatch):
    monkeypatch.setattr("sys.argv", ["train.py", "--epochs", "1"])
    with pytest.raises(UsageError, match=r"mpirun -n 2 python src/launch/rank.py --log_dir logs train.py --epochs 1"):
        initialise(World(0, 2, 0, "mpirun"), True, "CPU")


def test_one_process_needs_no_communicator():
    initialise(World(), is_distributed=False)
    assert all_reduce_sum([3, -2, 0.5]) == [3, -2, 0.5]


def test_sums_are_exact_in_any_order():
    rng = random.Random(5)
    values = [rng.uniform(-20, 20) for _ in range(6)] + [50_000.0, -1e-3]
    sums = set()
    for order in itertools.islice(itertools.permutations(values), 0, 40_000, 997):
        columns = zip(*(_to_digits(value) for value in order), strict=True)
        sums.add(_from_digits([sum(column) for column in columns]))
    assert sums == {math.fsum(values)}


def test_large_counts_stay_whole():
    count = 2**40 + 1
    total = _from_digits([4096 * digit for digit in _to_digits(count)])
    assert total == 4096 * count and isinstance(total, int)
    assert max(_to_digits(-count)) == 0.0 and len(_to_digits(count)) == DIGITS + 1
    assert max(4096 * digit for digit in _to_digits(2**100 - 1)) < 2**24


def test_small_losses_are_carried():
    loss = 2.0**-36 * 0.7109375
    assert _from_digits(_to_digits(loss)) == loss


def test_losses_of_a_network_that_ran_away_are_carried():
    loss = 3.4028234663852886e38 * 50_000
    assert _from_digits([2 * digit for digit in _to_digits(loss)]) == 2 * loss
    assert _from_digits(_to_digits(-(2.0**200))) == -math.inf


def test_counts_of_many_ranks(monkeypatch):
    counts = np.random.default_rng(0).integers(0, 2**48, (3, 4))
    assert (all_reduce_counts(counts) == counts).all()
    monkeypatch.setattr("src.machine.ranks._reduce", lambda digits: digits * np.float32(4096))
    total = all_reduce_counts(counts // 4096)
    assert total.dtype == np.int64 and (total == counts // 4096 * 4096).all()


@pytest.mark.parametrize("value", [math.inf, -math.inf, math.nan])
def test_non_finite_values_show(value):
    total = _from_digits([a + b for a, b in zip(_to_digits(value), _to_digits(1.0), strict=True)])
    assert total == value or (math.isnan(value) and math.isnan(total))


def test_only_a_launched_rank_among_several_leaves_without_clean_up(monkeypatch):
    left = []
    monkeypatch.setattr("os._exit", left.append)
    monkeypatch.setenv("LAUNCH_PID", "1")
    leave()
    monkeypatch.setattr("src.machine.ranks.current_world", lambda: World(1, 2))
    monkeypatch.delenv("LAUNCH_PID")
    leave()  # below msrun alone
    assert left == []
    monkeypatch.setenv("LAUNCH_PID", "1")
    run(lambda argv: None, [], at_end=leave)
    assert left == [0]
    with pytest.raises(SystemExit) as ending:
        run(_refuse, [], at_end=leave)
    assert left == [0] and ending.value.code == 2


def _refuse(argv):
    raise UsageError("no")
