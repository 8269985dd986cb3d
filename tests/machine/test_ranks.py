"""Who a process is, as its launcher's environment says, and sums that do not depend on the ranks' order."""

import math

import numpy as np
import pytest

from src.errors import UsageError, run
from src.machine.ranks import (
    World,
    all_equal,
    all_reduce_counts,
    all_reduce_sum,
    gather,
    initialise,
    leave,
    world_from,
)


@pytest.mark.parametrize(
    ("environment", "world"),
    [
        ({}, World(0, 1, 0, "")),
        ({"DEVICE_ID": "3", "RANK_ID": "0", "RANK_SIZE": "1"}, World(0, 1, 3, "")),
        ({"SLURM_JOB_ID": "7", "SLURM_NTASKS": "8", "SLURM_STEP_NUM_TASKS": "1"}, World(0, 1, 0, "")),
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
        ({"SLURM_STEP_NUM_TASKS": "4", "SLURM_PROCID": "0"}, "srun has started this program 4 times.*train.sbatch"),
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
    assert all_reduce_sum([]) == []


@pytest.fixture
def together(monkeypatch):
    """``together(call, values)``: what ``call`` of each rank's own value returns on that rank, for so many ranks.

    Every rank's part of a collective is caught on its way; then all of them get the float32 sum.
    """

    class Sent(Exception):
        pass

    def run_ranks(call, values):
        sums: list[np.ndarray] = []  # of the collectives so far
        while True:
            parts, results = [], []
            for rank, value in enumerate(values):
                left = iter(sums)

                def reduce(part, left=left, parts=parts):
                    if not part.size:
                        return part
                    for total in left:
                        return total
                    assert part.dtype == np.float32
                    parts.append(part)
                    raise Sent

                world = World(rank, len(values))
                monkeypatch.setattr("src.machine.ranks.current_world", lambda world=world: world)
                monkeypatch.setattr("src.machine.ranks._reduce", reduce)
                try:
                    results.append(call(value))
                except Sent:
                    continue
            if not parts:
                return results
            assert len(parts) == len(values), "some ranks wait for others that have gone on"
            order = np.random.default_rng(len(sums)).permutation(len(parts))
            sums.append(np.sum([parts[index] for index in order], axis=0, dtype=np.float32))

    return run_ranks


TINIEST, LARGEST = 5e-324, 1.7976931348623157e308


@pytest.mark.parametrize(
    ("numbers", "total"),
    [
        ([1e308, 1e308, -1e308], 1e308),
        ([LARGEST, LARGEST], math.inf),
        ([-LARGEST, -LARGEST, 1.0], -math.inf),
        ([1e308, 1.0, -1e308], 1.0),
        ([TINIEST, TINIEST, TINIEST], 3 * TINIEST),
        ([0.1] * 10, 1.0),
        ([2.0**53, 1.0, 1.0], 2.0**53 + 2),
        ([1.0, math.inf, 2.0], math.inf),
        ([LARGEST, -math.inf, LARGEST], -math.inf),
        ([math.inf, -math.inf], math.nan),
        ([1.0, math.nan, math.inf], math.nan),
        ([0.1 * rank - 20 for rank in range(500)], math.fsum(0.1 * rank - 20 for rank in range(500))),
    ],
)
def test_every_rank_gets_the_float_nearest_to_the_sum(together, numbers, total):
    # A count beside it, larger than a float could hold to the last digit.
    for sums in together(all_reduce_sum, [[2**60 + 1, number, -3, number] for number in numbers]):
        np.testing.assert_array_equal(sums[1::2], [total, total])
        assert sums[::2] == [len(numbers) * (2**60 + 1), -3 * len(numbers)]
        assert [type(value) for value in sums] == [int, float, int, float]


def test_what_ranks_gather_is_each_ones_own_to_the_bit(together):
    numbers = np.random.default_rng(1).integers(0, 2**64, (300, 2, 3), np.uint64)
    numbers[7] = np.array([math.nan, math.inf, -0.0, TINIEST, -LARGEST, 0.1]).view(np.uint64).reshape(2, 3)
    for gathered in together(gather, list(numbers.view(np.float64)))[::100]:
        assert (gathered.dtype, gathered.shape) == (np.float64, (300, 2, 3))
        np.testing.assert_array_equal(gathered.view(np.uint64), numbers)


def test_ranks_tell_whether_all_hold_the_same_bytes(together):
    assert together(all_equal, [b"same bytes"] * 5) == [True] * 5
    for odd in range(5):
        digests = [b"same bytes"] * 5
        digests[odd] = b"sane bytes"
        assert together(all_equal, digests) == [False] * 5


def test_counts_of_many_ranks(monkeypatch):
    counts = np.random.default_rng(0).integers(0, 2**48, (3, 4))
    assert (all_reduce_counts(counts) == counts).all()
    monkeypatch.setattr("src.machine.ranks._reduce", lambda digits: digits * np.float32(4096))
    total = all_reduce_counts(counts // 4096)
    assert total.dtype == np.int64 and (total == counts // 4096 * 4096).all()


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
