"""Data parallel training: who this process is among the ranks, and what ranks tell each other.

The launcher says who is who through the environment; nothing here reads a configuration. Collectives
are AllReduce sums and Broadcasts of float32, the ones every device has (the CPU has no Barrier, no
maximum and no sums of integers).
"""

from __future__ import annotations

import math
import os
import shlex
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import mindspore as ms
import numpy as np
from mindspore import Parameter, Tensor, ops
from mindspore.communication import init

from src.errors import UsageError

# A count travels as digits of so many bits: sums of a digit over up to 4096 ranks stay below 2^24 and are
# therefore exact in float32, in whatever order the ranks are added.
DIGIT_BITS = 12


class World(NamedTuple):
    """Place of this process: ``rank`` of ``size`` processes, its local card, and what started it.

    ``launcher`` is msrun, mpirun, rank_table (Ascend) or "" for a process started by hand; it is scheduler
    for the extra process by which the ranks of msrun find each other, which must not train.
    """

    rank: int = 0
    size: int = 1
    device_id: int = 0
    launcher: str = ""

    def card(self, chosen: int) -> int:
        """The card to compute on: the launcher's, or the ``chosen`` one of a process started by hand."""
        return self.device_id if self.launcher else chosen

    @property
    def is_main(self) -> bool:
        """Whether this rank is the one that writes."""
        return self.rank == 0 and self.launcher != "scheduler"


def world_from(environment: Mapping[str, str]) -> World:
    """The world that a launcher's environment variables describe.

    Raises:
        UsageError: a variable is missing, not a number, or outside its range.
    """
    if environment.get("MS_ROLE") == "MS_SCHED":
        return World(size=_number(environment, "MS_WORKER_NUM"), launcher="scheduler")
    if environment.get("MS_ROLE") == "MS_WORKER":
        launcher, names = "msrun", ("RANK_ID", "RANK_SIZE", "DEVICE_ID")
    elif "OMPI_COMM_WORLD_SIZE" in environment:
        launcher = "mpirun"
        names = ("OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE", "OMPI_COMM_WORLD_LOCAL_RANK")
    elif environment.get("RANK_TABLE_FILE"):
        launcher, names = "rank_table", ("RANK_ID", "RANK_SIZE", "DEVICE_ID")
    elif (copies := environment.get("SLURM_STEP_NUM_TASKS", "1")) != "1":
        raise UsageError(
            f"srun has started this program {copies} times, and no launcher tells them which ranks they are; "
            "type: sbatch scripts/cluster/train.sbatch DATA_PATH RUN_DIR"
        )
    else:
        return World(device_id=_number(environment, "DEVICE_ID", 0))
    size = _number(environment, names[1])
    rank = _number(environment, names[0], None if size > 1 else 0)
    if size < 1 or rank >= size:
        raise UsageError(f"{names[0]}={rank} does not fit {names[1]}={size}: ranks count from 0 to {names[1]} - 1")
    return World(rank, size, _number(environment, names[2], rank), launcher)


def _number(environment: Mapping[str, str], name: str, default: int | None = None) -> int:
    text = environment.get(name, "")
    if not text and default is not None:
        return default
    if not text.isdecimal():
        raise UsageError(f"the launcher must set {name} to a whole number (msrun: --node_rank), not {text!r}")
    return int(text)


def current_world() -> World:
    """The world of this process."""
    return world_from(os.environ)


def initialise(world: World, is_distributed: bool = False, device_target: str = "CPU") -> None:
    """Joins the communicator if there is more than one rank. Call it after the device was set.

    In the scheduler's process this serves the ranks until they are done and then ends the program, so
    call it before any work.

    Raises:
        SystemExit: in the scheduler's process, at the end of the job.
        UsageError: ``is_distributed`` was asked for and no launcher started this process, or the CPU
            was started through plain mpirun.
    """
    if is_distributed and not world.launcher:
        count = 2 if device_target == "CPU" else 8
        run = "" if Path(sys.argv[0]).name == "eval.py" else "--makes_run "
        options = f"{run}--launcher msrun --ranks {count} --target {device_target}"
        raise UsageError(
            f"--is_distributed needs a launcher; type: python {_script('launcher.py')} {options} {shlex.join(sys.argv)}"
        )
    if world.size == 1 and world.launcher != "scheduler":
        return
    if world.launcher == "mpirun" and device_target == "CPU":
        raise UsageError(
            "the CPU's collectives do not start under plain mpirun; type: "
            f"mpirun -n {world.size} python {_script('rank.py')} --log_dir logs {shlex.join(sys.argv)}"
        )
    init()
    if world.launcher == "scheduler":
        sys.exit(0)


def _script(name: str) -> str:
    """A program of src/launch as it is reached from where the program was."""
    return shlex.quote(str(Path(sys.argv[0]).parent / "src" / "launch" / name))


def broadcast_parameters(parameters: Iterable[Parameter]) -> None:
    """Gives every parameter the value it has on rank 0."""
    if current_world().size == 1:
        return
    broadcast = ops.Broadcast(0)
    for parameter in parameters:
        ops.assign(parameter, broadcast((parameter.value(),))[0])


def gather(values: np.ndarray) -> np.ndarray:
    """The ``values`` of every rank, [ranks, *shape], to the bit: whole numbers, infinities and NaN too.

    Every rank passes an array of the same shape and type. It travels as bytes, which float32 holds exactly: each
    rank fills in its own row, and the sum over the ranks puts the rows together.
    """
    world = current_world()
    rows = np.zeros((world.size, values.nbytes), np.float32)
    rows[world.rank] = np.frombuffer(values.tobytes(), np.uint8)
    return _reduce(rows).astype(np.uint8).view(values.dtype).reshape(world.size, *values.shape)


def all_reduce_sum(values: Sequence[float]) -> list[float]:
    """Sum of each value over all ranks, rounded once: independent of the number and order of the ranks.

    ``int`` values, 64 bits at most, give an ``int``. A value that is infinite or undefined makes its sum so.
    """
    # Eight bytes each, one collective for all.
    words = [value if isinstance(value, int) else np.float64(value).view(np.int64) for value in values]
    columns = gather(np.array(words, np.int64)).T
    return [
        sum(column.tolist()) if isinstance(value, int) else _sum(column.view(np.float64).tolist())
        for value, column in zip(values, columns, strict=True)
    ]


def _sum(numbers: Sequence[float]) -> float:
    """The float nearest to the sum of ``numbers``; infinite if that is larger than any."""
    if not all(map(math.isfinite, numbers)):
        return float(sum(number for number in numbers if not math.isfinite(number)))
    try:
        return math.fsum(numbers)
    except OverflowError:  # on the way or in the end
        return math.fsum(number / 2**64 for number in numbers) * 2.0**64


def all_reduce_counts(counts: np.ndarray) -> np.ndarray:
    """Sum over all ranks of an array of whole numbers from 0 to 2^48 - 1, int64 of any shape; exact."""
    places = DIGIT_BITS * np.arange(4).reshape(-1, *[1] * counts.ndim)
    digits = (counts.astype(np.int64) >> places) & ((1 << DIGIT_BITS) - 1)
    return (_reduce(digits.astype(np.float32)).astype(np.int64) << places).sum(0)


def all_equal(digest: bytes) -> bool:
    """Whether every rank passes the same bytes; all ranks get the same answer, and pass equally many."""
    digests = gather(np.frombuffer(digest, np.uint8))
    return bool((digests == digests[0]).all())


def _reduce(values: np.ndarray) -> np.ndarray:
    """The sum of a float32 array over all ranks."""
    if current_world().size == 1 or not values.size:
        return values
    return ops.AllReduce()(Tensor(values)).asnumpy()


def barrier() -> None:
    """Waits until every rank is here."""
    all_reduce_sum([0])


def leave() -> None:
    """Ends the process of a rank on the CPU that is done, without the framework's own clean-up.

    That clean-up crashed once (SIGSEGV, rank 1, a busy machine) after all work was done, which made a good job fail.
    Only below src/launch/launcher.py, which ends the scheduler itself; msrun's waits for ranks that take their leave.
    """
    is_launched = "LAUNCH_PID" in os.environ and current_world().size > 1
    if is_launched and ms.get_context("device_target") == "CPU":
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(0)
