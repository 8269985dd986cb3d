"""One rank of a launched program: python src/launch/rank.py --log_dir DIR [--keep_mpi] PROGRAM [ARGUMENTS ...]

Started by src/launch/launcher.py, directly or through msrun or mpirun, once per rank. It gives the rank its
own share of the CPU cores, writes the rank's log with command and environment on top, and leaves the
exit status in a file, so that the launcher knows it whatever started the rank. Two more services:

* msrun starts the scheduler by the same command; here it serves the ranks and runs no program.
* The CPU's collectives do not start under plain mpirun. Unless --keep_mpi (GPU) is given, a rank of
  mpirun is turned into one of MindSpore's own cluster, for which rank 0 also runs the scheduler.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import shlex
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import BinaryIO

# Seconds in which rank 0 may finish its step and save after the first SIGTERM. The other ranks go on
# meanwhile: rank 0 cannot finish a step without them.
GRACE = float(os.environ.get("LAUNCH_GRACE", "30"))
SCHEDULER = "from mindspore.communication import init; init()"
PROGRAMS_OF_MPI = ("OMPI_", "PMIX_", "ORTE_", "OPAL_")
# What a log shows of the environment: nothing that could be a secret.
SHOWN = (
    "ASCEND_DEVICE_ID", "ASCEND_GLOBAL_LOG_LEVEL", "ASCEND_HOME_PATH", "ASCEND_OPP_PATH", "ASCEND_RT_VISIBLE_DEVICES",
    "CUDA_HOME", "CUDA_VISIBLE_DEVICES", "DEVICE_ID", "DEVICE_NUM", "DEVICE_TARGET", "GLOG_log_dir", "GLOG_v",
    "HCCL_CONNECT_TIMEOUT", "HCCL_EXEC_TIMEOUT", "HCCL_IF_IP", "HCCL_SOCKET_IFNAME", "HCCL_WHITELIST_DISABLE",
    "LAUNCH_GRACE", "LAUNCH_HOST", "LAUNCH_LOCAL_RANK", "LAUNCH_LOCAL_SIZE", "LAUNCH_PID", "LD_LIBRARY_PATH",
    "MASTER_ADDR", "MASTER_PORT", "MS_NODE_ID", "MS_ROLE", "MS_SCHED_HOST", "MS_SCHED_PORT", "MS_TOPO_TIMEOUT",
    "MS_WORKER_NUM", "NCCL_DEBUG", "NCCL_IB_DISABLE", "NCCL_P2P_DISABLE", "NCCL_SOCKET_IFNAME", "NODE_NUM", "NODE_RANK",
    "OMPI_COMM_WORLD_LOCAL_RANK", "OMPI_COMM_WORLD_LOCAL_SIZE", "OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE",
    "OMP_NUM_THREADS", "OMP_WAIT_POLICY", "PATH", "PYTHONPATH", "RANK_ID", "RANK_SIZE", "RANK_TABLE_FILE", "SERVER_ID",
    "SLURM_JOB_ID", "SLURM_PROCID", "VIRTUAL_ENV",
)  # fmt: skip


def cluster_of_mpi(environment: Mapping[str, str]) -> dict[str, str]:
    """``environment`` of a rank of mpirun as that of a worker of MindSpore's own cluster."""
    kept = {name: value for name, value in environment.items() if not name.startswith(PROGRAMS_OF_MPI)}
    rank, size = environment["OMPI_COMM_WORLD_RANK"], environment["OMPI_COMM_WORLD_SIZE"]
    return {
        **kept,
        "RANK_ID": rank,
        "RANK_SIZE": size,
        "DEVICE_ID": environment["OMPI_COMM_WORLD_LOCAL_RANK"],
        "MS_ROLE": "MS_WORKER",
        "MS_NODE_ID": rank,
        "MS_WORKER_NUM": size,
        "MS_SCHED_HOST": environment.get("MASTER_ADDR", "127.0.0.1"),
        "MS_SCHED_PORT": environment.get("MASTER_PORT", "8118"),
    }


def place_of(environment: Mapping[str, str]) -> tuple[int, int, int]:
    """(rank, local rank, ranks on this machine) from the variables of msrun, mpirun or launcher.py."""
    if "OMPI_COMM_WORLD_RANK" in environment:
        names = ("OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_LOCAL_RANK", "OMPI_COMM_WORLD_LOCAL_SIZE")
        return tuple(int(environment[name]) for name in names)
    rank = int(environment.get("RANK_ID", "0"))
    local_rank = int(environment.get("LAUNCH_LOCAL_RANK", environment.get("DEVICE_ID", "0")))
    return rank, local_rank, int(environment.get("LAUNCH_LOCAL_SIZE", "1"))


def cores_of(cores: Sequence[int], local_rank: int, local_size: int) -> list[int]:
    """The share of ``cores`` of one of ``local_size`` ranks: consecutive, disjoint; all if there are too few."""
    cores = sorted(cores)
    if local_size < 2 or len(cores) < local_size or not 0 <= local_rank < local_size:
        return cores
    return cores[len(cores) * local_rank // local_size : len(cores) * (local_rank + 1) // local_size]


def header(command: Sequence[str], environment: Mapping[str, str], cores: Sequence[int]) -> str:
    """The top of a log: lines that start with ``#``."""
    lines = [
        f"{time.strftime('%Y-%m-%d %H:%M:%S')} on {socket.gethostname()}, CPU cores {','.join(map(str, cores))}",
        f"in {Path.cwd()}",
        shlex.join(command),
    ]
    lines += [f"{name}={value!r}" for name, value in sorted(environment.items()) if name in SHOWN]
    return "".join(f"# {line}\n" for line in lines)


def write_whole(path: Path, text: str) -> None:
    """``path`` appears with all of ``text`` or not at all."""
    part = path.with_name(f"{path.name}.{os.getpid()}")
    part.write_text(text, encoding="utf-8")
    part.replace(path)


def die_with_parent() -> None:
    """Linux ends the calling process when the one that started it is killed."""
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG


def start(command: Sequence[str], environment: Mapping[str, str], log: BinaryIO) -> subprocess.Popen:
    return subprocess.Popen(
        command,
        env=dict(environment),
        stdin=subprocess.DEVNULL,
        stdout=log,
        stderr=subprocess.STDOUT,
        start_new_session=True,
        preexec_fn=die_with_parent,
    )


def end(process: subprocess.Popen, seconds: float) -> None:
    """Gives ``process`` some time to end by itself, then kills it with all it started."""
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(seconds)
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


class Stop:
    """The signal that was received, and when."""

    def __init__(self) -> None:
        self.signum = 0
        self.since = 0.0

    def note(self, signum: int, frame: object = None) -> None:
        if not self.signum:
            self.signum, self.since = signum, time.monotonic()


def launcher_is_gone(environment: Mapping[str, str]) -> bool:
    """Whether the launcher, if it is a process of this machine, no longer exists."""
    pid = environment.get("LAUNCH_PID", "")
    if not pid or environment.get("LAUNCH_HOST") != socket.gethostname():
        return False
    try:
        os.kill(int(pid), 0)
    except ProcessLookupError:
        return True
    except PermissionError:
        return False
    return False


def wait(process: subprocess.Popen, is_main: bool, stop: Stop, environment: Mapping[str, str]) -> int:
    """The exit status of ``process`` (128 + n for signal n). A stop reaches rank 0 at once, others after the grace."""
    is_told = False
    while True:
        try:
            status = process.wait(0.2)
        except subprocess.TimeoutExpired:
            if launcher_is_gone(environment):
                stop.note(signal.SIGTERM)
            waited = time.monotonic() - stop.since if stop.signum else 0.0
            if stop.signum and is_main and not is_told:
                process.send_signal(stop.signum)
                is_told = True
            if stop.signum and waited > GRACE:
                end(process, 0)
        else:
            return status if status >= 0 else 128 - status


def main(argv: list[str]) -> int:
    keeps_mpi = False
    log_dir = Path("logs")
    while argv and argv[0].startswith("--"):
        option = argv.pop(0)
        if option == "--keep_mpi":
            keeps_mpi = True
        elif option == "--log_dir" and argv:
            log_dir = Path(argv.pop(0))
        else:
            print(f"error: {option} is not an option of rank.py; {__doc__.splitlines()[0]}", file=sys.stderr)
            return 2
    if not argv:
        print(f"error: no program given; {__doc__.splitlines()[0]}", file=sys.stderr)
        return 2
    environment = dict(os.environ)
    rank, local_rank, local_size = place_of(environment)
    is_mpi = "OMPI_COMM_WORLD_RANK" in environment and not keeps_mpi
    if is_mpi:
        environment = cluster_of_mpi(environment)
    is_scheduler = environment.get("MS_ROLE") == "MS_SCHED"
    scheduler_command = [sys.executable, "-c", SCHEDULER]

    stop = Stop()
    for signum in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(signum, stop.note)
    cores: list[int] = []
    if hasattr(os, "sched_getaffinity"):
        cores = cores_of(list(os.sched_getaffinity(0)), 0 if is_scheduler else local_rank, local_size)
        if not is_scheduler:
            os.sched_setaffinity(0, cores)

    log_dir.mkdir(parents=True, exist_ok=True)
    name = "scheduler" if is_scheduler else f"rank_{rank}"
    command = scheduler_command if is_scheduler else ["python", *argv]
    with contextlib.ExitStack() as stack:
        if is_mpi and rank == 0:
            scheduler_log = stack.enter_context((log_dir / "scheduler.log").open("ab"))
            scheduler = start(scheduler_command, {**environment, "MS_ROLE": "MS_SCHED"}, scheduler_log)
            stack.callback(end, scheduler, 5)
        log = stack.enter_context((log_dir / f"{name}.log").open("ab"))
        log.write(header(command, environment, cores).encode(errors="replace"))
        log.flush()
        process = start(command, environment, log)
        write_whole(log_dir / f"{name}.pid", f"{os.getpid()} {process.pid}\n")
        status = wait(process, rank == 0 or is_scheduler, stop, environment)
        end(process, 0)
        write_whole(log_dir / f"{name}.status", f"{status}\n")
    return status


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
