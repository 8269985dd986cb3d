"""Starts the ranks of a program, watches them and ends them together; the shell launchers call it.

    python src/launch/launcher.py [OPTIONS] PROGRAM [ARGUMENTS ...]

    --launcher none|msrun|mpirun|rank_table   what starts the ranks (none: this process, one rank)
    --ranks N           ranks on this machine
    --target CPU|GPU|Ascend
    --name NAME         beginning of the run folder's name
    --makes_run         PROGRAM takes --run_dir: it gets a fresh one unless ARGUMENTS name one
    --rank_table FILE   HCCL rank table (rank_table)

Among ARGUMENTS, --background (leave the terminal at once), --launcher X and --ranks N are ours as well.
Several machines: NODE_NUM, NODE_RANK, MASTER_ADDR, MASTER_PORT in the environment (msrun) or SERVER_ID
(rank_table). The exit status is 0, that of the first rank that failed, or 129, 130, 143 after a signal.
"""

from __future__ import annotations

import contextlib
import os
import resource
import shlex
import shutil
import socket
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
if __name__ == "__main__":  # by its path, from any folder
    sys.path[0] = str(ROOT)

from src.errors import UsageError, run  # noqa: E402
from src.files import fresh_folder, read_json  # noqa: E402
from src.launch.watch import Job, Signals, adopt_orphans, watch  # noqa: E402
from src.settings.run_folders import run_going_on, search_of  # noqa: E402

RANK = str(Path(__file__).resolve().with_name("rank.py"))
LAUNCHERS = ("none", "msrun", "mpirun", "rank_table")
GRACE = float(os.environ.get("LAUNCH_GRACE", "30"))  # seconds rank 0 has to save after a signal
START_TIMEOUT = float(os.environ.get("LAUNCH_START_TIMEOUT", "120"))  # seconds until every rank must have shown up


@dataclass
class Options:
    """What is to be started; see the head of this file. ``typed`` is the line that asked for it, ``about`` says what
    it is, ``variables`` go into the ranks' environment."""

    launcher: str = "none"
    ranks: int = 1
    target: str = "CPU"
    name: str = "run"
    makes_run: bool = False
    background: bool = False
    rank_table: str = ""
    typed: str = ""
    about: str = ""
    variables: dict[str, str] = field(default_factory=dict)
    command: list[str] = field(default_factory=list)


def parse(argv: Sequence[str]) -> Options:
    """Options before PROGRAM, and ours among its arguments."""
    options = Options()
    words = list(argv)
    while words and words[0].startswith("--"):
        name = words.pop(0).removeprefix("--")
        if name in ("makes_run", "background"):
            setattr(options, name, True)
        elif name in ("launcher", "ranks", "target", "name", "rank_table") and words:
            _set(options, name, words.pop(0))
        else:
            raise UsageError(f"--{name} is not an option of launcher.py, or its value is missing")
    if not words:
        raise UsageError("no program given")
    return with_arguments(options, words[0], words[1:])


def with_arguments(options: Options, program: str, arguments: Sequence[str]) -> Options:
    """``options`` for ``program``, which gets the ``arguments`` that are not ours."""
    options.command = [program]
    words = list(arguments)
    while words:
        word = words.pop(0)
        name, has_value, value = word.removeprefix("--").partition("=")
        if word == "--background":
            options.background = True
        elif word.startswith("--") and name in ("launcher", "ranks"):
            if not has_value and not words:
                raise UsageError(f"--{name} needs a value")
            _set(options, name, value if has_value else words.pop(0))
        else:
            options.command.append(word)
    if options.ranks > 1 and options.launcher == "none":
        options.launcher = "msrun"
    return options


def _set(options: Options, name: str, value: str) -> None:
    if name == "ranks" and (not value.isdecimal() or int(value) < 1):
        raise UsageError(f"--ranks must be a whole number from 1, not {value!r}")
    if name == "launcher" and value not in LAUNCHERS:
        raise UsageError(f"--launcher must be one of {', '.join(LAUNCHERS)}, not {value!r}")
    setattr(options, name, int(value) if name == "ranks" else value)


def value_of(arguments: Sequence[str], name: str) -> str:
    """The last value given for ``--name``, or an empty text."""
    found = ""
    for word, following in zip(arguments, [*arguments[1:], ""], strict=False):
        if word == f"--{name}":
            found = following
        elif word.startswith(f"--{name}="):
            found = word.partition("=")[2]
    return found


# -- where ------------------------------------------------------------------------------------------


def open_folders(options: Options, nodes: Nodes) -> tuple[Path, Path]:
    """(run folder, log folder); completes the command with the run folder. Nothing is ever removed."""
    run_dir = value_of(options.command, "run_dir")
    resumed = value_of(options.command, "resume")
    if options.makes_run and not run_dir:
        recipe = value_of(options.command, "config_path")
        run = run_going_on(resumed, "", recipe)
        if run or (Path(options.command[0]).name == "search.py" and (run := search_of(recipe))):
            run_dir = str(run)
        elif resumed and resumed != "auto" and Path(resumed).is_dir():
            run_dir = resumed
        elif nodes.number > 1:
            raise UsageError("several machines write one run: add --run_dir FOLDER, one that all of them see")
        else:
            run_dir = str(fresh_folder(ROOT / "runs", options.name))
        options.command += ["--run_dir", run_dir]
    folder = Path(run_dir) if run_dir and options.makes_run else fresh_folder(ROOT / "runs", options.name)
    folder.mkdir(parents=True, exist_ok=True)
    name = f"logs_node{nodes.rank}" if nodes.number > 1 else "logs"
    logs = folder / name
    try:
        logs.mkdir()
    except FileExistsError:
        logs = fresh_folder(folder, name)
    return folder, logs


# -- who --------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Nodes:
    """The machines of the job and this one's place among them."""

    number: int
    rank: int
    master: str


def nodes_from(environment: Mapping[str, str]) -> Nodes:
    """NODE_NUM, NODE_RANK and MASTER_ADDR."""
    numbers = {}
    for name, default in (("NODE_NUM", "1"), ("NODE_RANK", "0")):
        text = environment.get(name) or default
        if not text.isdecimal():
            raise UsageError(f"{name} must be a whole number, not {text!r}")
        numbers[name] = int(text)
    nodes = Nodes(numbers["NODE_NUM"], numbers["NODE_RANK"], environment.get("MASTER_ADDR") or "127.0.0.1")
    if not 0 <= nodes.rank < nodes.number:
        raise UsageError(f"NODE_RANK={nodes.rank} must be from 0 to NODE_NUM - 1 = {nodes.number - 1}")
    if nodes.number > 1 and not environment.get("MASTER_ADDR"):
        raise UsageError("several machines need MASTER_ADDR, the address of the one with NODE_RANK=0")
    return nodes


def port_for(environment: Mapping[str, str], nodes: Nodes, typed: str) -> int:
    """MASTER_PORT, or a free one on a single machine, or msrun's 8118. An occupied one is an error."""
    text = environment.get("MASTER_PORT", "")
    if text and not (text.isdecimal() and 1024 <= int(text) <= 65535):
        raise UsageError(f"MASTER_PORT must be from 1024 to 65535, not {text!r}")
    if not text and nodes.number == 1:
        return free_port()
    port = int(text or "8118")
    if nodes.rank == 0 and is_occupied(port):
        raise UsageError(f"port {port} is taken by another program; type: MASTER_PORT={free_port()} {typed}")
    return port


def free_port() -> int:
    """A port below the range the system hands out by itself, so that nobody gets it in the meantime."""
    for port in range(20000 + os.getpid() % 10000, 32000):
        if not is_occupied(port):
            return port
    raise UsageError("no free port between 20000 and 32000; give one by MASTER_PORT")


def is_occupied(port: int) -> bool:
    with socket.socket() as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind(("", port))
        except OSError:
            return True
    return False


def ranks_of_table(path: Path, server_index: int) -> tuple[list[tuple[int, int]], int]:
    """([(rank, device) of one server], ranks in all) of an HCCL rank table.

    Raises:
        UsageError: the file is not a rank table, or has no such server.
    """
    try:
        servers = read_json(path)["server_list"]
        ranks = [[(int(card["rank_id"]), int(card["device_id"])) for card in server["device"]] for server in servers]
    except OSError as error:
        raise UsageError(
            f"cannot read {path}: {error.strerror}; python -m src.launch.rank_tables writes a rank table"
        ) from error
    except (ValueError, OverflowError, KeyError, TypeError) as error:
        raise UsageError(f"{path} is not an HCCL rank table; python -m src.launch.rank_tables writes one") from error
    if server_index >= len(ranks):
        raise UsageError(f"SERVER_ID={server_index}, but {path} has {len(ranks)} servers, counted from 0")
    total = sum(map(len, ranks))
    if sorted(rank for server in ranks for rank, _ in server) != list(range(total)):
        raise UsageError(
            f"the ranks of {path} are not 0 to {total - 1}; python -m src.launch.rank_tables merge makes them so"
        )
    return ranks[server_index], total


# -- starting ---------------------------------------------------------------------------------------


def prepare(options: Options, nodes: Nodes) -> dict[str, str]:
    """The environment of this machine's ranks. Looks for all that a start needs, before it gets a folder.

    Raises:
        UsageError: no such launcher here, an occupied port, a rank table that does not fit.
    """
    environment = {
        **os.environ,
        **options.variables,
        "LAUNCH_HOST": socket.gethostname(),
        "LAUNCH_LOCAL_SIZE": str(options.ranks),
    }
    if options.launcher != "none":  # msrun would give every rank one thread
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        environment.setdefault("OMP_NUM_THREADS", str(max(cores // options.ranks, 1)))
    if options.target == "Ascend":
        environment.setdefault("HCCL_CONNECT_TIMEOUT", "600")
    if options.launcher == "rank_table":
        environment.setdefault("SERVER_ID", "0")
        fitting_ranks(options, environment)
    elif options.launcher != "none":
        if not shutil.which(options.launcher):
            raise UsageError(
                "msrun is not on PATH; it comes with MindSpore: activate its environment"
                if options.launcher == "msrun"
                else "mpirun is not on PATH; install OpenMPI (apt-get install openmpi-bin) or add --launcher msrun"
            )
        environment["MASTER_ADDR"] = nodes.master
        environment["MASTER_PORT"] = str(port_for(os.environ, nodes, options.typed))
        for name in ("RANK_TABLE_FILE", "RANK_ID", "DEVICE_ID"):  # left over, they would mislead the framework
            environment.pop(name, None)
    return environment


def fitting_ranks(options: Options, environment: Mapping[str, str]) -> tuple[list[tuple[int, int]], int]:
    """:func:`ranks_of_table` for this machine. Raises UsageError if it has another number of them than asked for."""
    table, server_id = Path(options.rank_table).resolve(), environment["SERVER_ID"]
    if not server_id.isdecimal():
        raise UsageError(f"SERVER_ID must be a whole number, not {server_id!r}")
    ranks, total = ranks_of_table(table, int(server_id))
    if len(ranks) != options.ranks:
        raise UsageError(
            f"{table} gives server {server_id} {len(ranks)} devices, not {options.ranks}; "
            "give that number as DEVICE_NUM, or write another table with python -m src.launch.rank_tables"
        )
    return ranks, total


def start(options: Options, nodes: Nodes, environment: dict[str, str], logs: Path) -> Job:
    """Starts the ranks of this machine in what :func:`prepare` has made their environment."""
    rank_command = [RANK, "--log_dir", str(logs)]
    if options.launcher == "none":
        environment.update(RANK_ID="0", RANK_SIZE="1", DEVICE_NUM="1")
        device = value_of(options.command, "device_id")
        if device:
            environment["DEVICE_ID"] = device
        environment["LAUNCH_LOCAL_RANK"] = "0"
        return Job([0], [_spawn(["python", *rank_command, *options.command], environment, logs)], logs, "one process")
    if options.launcher == "rank_table":
        return _start_rank_table(options, environment, rank_command, logs)
    if options.launcher == "mpirun":
        return _start_mpirun(options, environment, rank_command, logs)
    total = options.ranks * nodes.number
    first = options.ranks * nodes.rank
    environment["DEVICE_NUM"] = str(options.ranks)
    command = ["msrun", f"--worker_num={total}", f"--local_worker_num={options.ranks}"]
    command += [f"--master_addr={nodes.master}", f"--master_port={environment['MASTER_PORT']}"]
    command += [f"--node_rank={nodes.rank}", f"--log_dir={logs / 'msrun'}", "--join=False", "--cluster_time_out=300"]
    how = f"msrun, scheduler at {nodes.master}:{environment['MASTER_PORT']}"
    starter = _spawn([*command, *rank_command, *options.command], environment, logs)
    return Job(list(range(first, first + options.ranks)), [starter], logs, how)


def _start_rank_table(options: Options, environment: dict[str, str], rank_command: list[str], logs: Path) -> Job:
    table = Path(options.rank_table).resolve()
    ranks, total = fitting_ranks(options, environment)
    starters = []
    for local_rank, (rank, device) in enumerate(ranks):
        own = {
            "RANK_TABLE_FILE": str(table),
            "RANK_ID": str(rank),
            "RANK_SIZE": str(total),
            "DEVICE_ID": str(device),
            "DEVICE_NUM": str(len(ranks)),
            "LAUNCH_LOCAL_RANK": str(local_rank),
        }
        starters.append(_spawn(["python", *rank_command, *options.command], {**environment, **own}, logs))
    return Job([rank for rank, _ in ranks], starters, logs, f"the rank table {table}")


def _start_mpirun(options: Options, environment: dict[str, str], rank_command: list[str], logs: Path) -> Job:
    environment.update(RANK_SIZE=str(options.ranks), DEVICE_NUM=str(options.ranks))
    # Ranks bind themselves to their share of the cores; OpenMPI's default would give each one a single core.
    command = ["mpirun", "-n", str(options.ranks), "--bind-to", "none"]
    command += ["--output-filename", str(logs / "mpirun"), "--merge-stderr-to-stdout"]
    if os.geteuid() == 0:
        command.append("--allow-run-as-root")
    if (os.cpu_count() or 1) < options.ranks:
        command.append("--oversubscribe")
    keep = ["--keep_mpi"] if options.target != "CPU" else []
    starter = _spawn([*command, "python", *rank_command, *keep, *options.command], environment, logs)
    return Job(list(range(options.ranks)), [starter], logs, "mpirun")


def _spawn(command: list[str], environment: Mapping[str, str], logs: Path) -> subprocess.Popen:
    with (logs / "launcher.log").open("ab") as log:
        log.write(f"# {shlex.join(command)}\n".encode(errors="replace"))
        log.flush()
        return subprocess.Popen(
            command,
            env={**environment, "LAUNCH_PID": str(os.getpid())},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )


# -- the whole --------------------------------------------------------------------------------------


def leave_terminal(logs: Path) -> None:
    """Goes on in a process of its own that writes to launch.log; the one that was called ends with status 0."""
    output = logs / "launch.log"
    pid = os.fork()
    if pid:
        print(
            f"in the background as process {pid}: `tail -f {shlex.quote(str(output))}` follows it, `kill {pid}` ends it"
        )
        sys.stdout.flush()
        os._exit(0)
    os.setsid()
    descriptor = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    for stream in (1, 2):
        os.dup2(descriptor, stream)
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)


def launch(options: Options) -> int:
    """Starts what ``options`` asks for and stays until it has ended, unless in the background; the exit status.

    Raises:
        UsageError: something to put right before the program can start.
    """
    program = Path(options.command[0])
    if not program.is_file():
        raise UsageError(f"{program} is not there; this version of the repository has no such program")
    if options.target == "Ascend":  # eight ranks start many threads; not every user may raise this
        with contextlib.suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_NPROC, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    nodes = nodes_from(os.environ)
    environment = prepare(options, nodes)
    folder, logs = open_folders(options, nodes)
    signals = Signals()
    if options.background:
        leave_terminal(logs)
    adopt_orphans()
    job = start(options, nodes, environment, logs)
    place = f"run folder {folder}" if options.makes_run else f"folder {folder}"
    print(f"{place}; {job.names[0]} follows, logs of all ranks in {logs} (started by {job.how})", flush=True)
    return watch(job, signals, GRACE, START_TIMEOUT)


def main(argv: list[str]) -> None:
    options = parse(argv)
    options.typed = shlex.join(["python", *sys.argv])
    sys.exit(launch(options))


if __name__ == "__main__":
    run(main)
