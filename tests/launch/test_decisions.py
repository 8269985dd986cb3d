"""What the launchers decide, each decision with its condition met and not met, without starting a rank."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest

from src.errors import UsageError
from src.launch import jobs
from src.launch import launcher as launcher_module
from src.launch import rank as rank_module
from src.launch import watch as watch_module
from src.launch.calls import Call
from src.launch.script_table import SCRIPTS
from tests.launch.conftest import ROOT


@pytest.fixture
def programs() -> SimpleNamespace:
    """The modules by which ranks are started, run and watched."""
    return SimpleNamespace(launcher=launcher_module, rank=rank_module, watch=watch_module)


@pytest.fixture
def launcher(programs) -> ModuleType:
    return programs.launcher


# -- jobs.py and the shell ---------------------------------------------------------------------


def test_a_checkpoint_may_be_named_without_its_suffix(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "net.ckpt").touch()
    (tmp_path / "both").mkdir()
    (tmp_path / "both.ckpt").touch()

    def named(text: str) -> str:
        return jobs.checkpoint_of(Call(SCRIPTS["scripts/run_eval_cpu.sh"], "", {"CHECKPOINT": text}, "", [], {}))

    assert named("net") == named("net.ckpt") == str(tmp_path / "net.ckpt")
    assert named("both") == named(str(tmp_path / "both")) == str(tmp_path / "both")
    with pytest.raises(UsageError, match="no file or folder 'none'"):
        named("none")


def test_the_newest_run_that_has_checkpoints(monkeypatch, tmp_path):
    monkeypatch.setattr(jobs, "ROOT", tmp_path)
    files = {"net-1": "a.ckpt", "net-3": "a.ckpt", "net-2": "", "other-9": "a.ckpt"}
    for age, (name, file) in enumerate(files.items()):
        (folder := tmp_path / "runs" / name / "checkpoints").mkdir(parents=True)
        if file:
            (folder / file).touch()
        os.utime(folder.parent, (1000 + age, 1000 + age))
    assert Path(jobs.newest_run("net-", "--flag")).name == "net-3"
    os.utime(tmp_path / "runs" / "net-1", (5000, 5000))
    assert Path(jobs.newest_run("net-", "--flag")).name == "net-1"
    with pytest.raises(UsageError, match=r"no run x-\.\.\. with checkpoints is in .*; add --flag"):
        jobs.newest_run("x-", "--flag")


def test_a_number_of_devices_nobody_can_tell_is_not_compared(tmp_path):
    folder = {"LAUNCH_DEVICE_FOLDER": str(tmp_path)}
    (tmp_path / "davinci_manager").touch()
    assert jobs.device_count("Ascend", folder) is None
    for number in range(3):
        (tmp_path / f"davinci{number}").touch()
    assert jobs.device_count("Ascend", folder) == 3
    assert jobs.device_count("CPU", folder) is None
    call = Call(SCRIPTS["scripts/run_distribute_train_cpu.sh"], "", {}, "", [], {})
    for count, present in ((4, None), (3, 3), (2, 3)):
        jobs.refuse_more(call, count, present, "", {})


def test_the_repositorys_environment_serves_only_where_none_is_active(tmp_path):
    (tmp_path / "scripts").mkdir()
    (tmp_path / "bin").mkdir()
    (tmp_path / "scripts" / "launch.sh").write_bytes((ROOT / "scripts" / "launch.sh").read_bytes())
    (tmp_path / ".venv" / "bin").mkdir(parents=True)
    for python, word in ((tmp_path / "bin" / "python", "active"), (tmp_path / ".venv/bin/python", "own")):
        python.write_text(f"#!/bin/sh\necho {word}\n")
        python.chmod(0o755)

    def python_of(**environment: str) -> str:
        path = f"{tmp_path}/bin:/usr/bin:/bin"
        command = ["sh", str(tmp_path / "scripts" / "launch.sh")]
        return subprocess.run(command, env={"PATH": path, **environment}, capture_output=True, text=True).stdout.strip()

    assert (python_of(), python_of(VIRTUAL_ENV="one")) == ("own", "active")
    (tmp_path / ".venv/bin/python").unlink()
    assert python_of() == "active"


def test_earlier_results_are_moved_aside_and_never_over_each_other(tmp_path):
    def keep() -> None:
        lines = f". {ROOT}/scripts/infer.sh\nkeep_earlier acc.log"
        subprocess.run(["bash", "-c", lines], cwd=tmp_path, check=True, capture_output=True)

    keep()
    assert list(tmp_path.iterdir()) == []
    for number in range(3):
        (tmp_path / "acc.log").write_text(str(number))
        keep()
    assert [(tmp_path / f"acc.log.{number}").read_text() for number in (1, 2, 3)] == ["0", "1", "2"]
    assert not (tmp_path / "acc.log").exists()


# -- launcher.py ---------------------------------------------------------------------------------

STALE = {"RANK_TABLE_FILE": "old.json", "RANK_ID": "5", "DEVICE_ID": "7"}


@pytest.fixture
def stale(monkeypatch):
    for name, value in STALE.items():
        monkeypatch.setenv(name, value)
    for name in ("MASTER_ADDR", "MASTER_PORT", "OMP_NUM_THREADS", "HCCL_CONNECT_TIMEOUT", "SERVER_ID"):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.parametrize("name", ["msrun", "mpirun"])
def test_what_an_earlier_job_left_in_the_environment_is_not_handed_on(launcher, stale, monkeypatch, name):
    monkeypatch.setattr(launcher.shutil, "which", lambda program: program)
    options = launcher.Options(launcher=name, ranks=2)
    environment = launcher.prepare(options, launcher.Nodes(1, 0, "127.0.0.1"))
    assert not STALE.keys() & environment.keys()
    assert environment["MASTER_ADDR"] == "127.0.0.1"
    assert environment["LAUNCH_LOCAL_SIZE"] == "2"


def test_one_process_keeps_its_card_and_needs_neither_port_nor_threads(launcher, stale):
    environment = launcher.prepare(launcher.Options(), launcher.Nodes(1, 0, "127.0.0.1"))
    assert environment["DEVICE_ID"] == "7"
    assert not {"MASTER_PORT", "OMP_NUM_THREADS", "HCCL_CONNECT_TIMEOUT", "SERVER_ID"} & environment.keys()
    on_ascend = launcher.prepare(launcher.Options(target="Ascend"), launcher.Nodes(1, 0, "127.0.0.1"))
    assert on_ascend["HCCL_CONNECT_TIMEOUT"] == "600"


def test_what_the_user_set_is_left_alone(launcher, stale, monkeypatch):
    monkeypatch.setattr(launcher.shutil, "which", lambda program: program)
    for name, value in (("OMP_NUM_THREADS", "3"), ("HCCL_CONNECT_TIMEOUT", "9")):
        monkeypatch.setenv(name, value)
    options = launcher.Options(launcher="msrun", ranks=2, target="Ascend")
    environment = launcher.prepare(options, launcher.Nodes(1, 0, "127.0.0.1"))
    assert (environment["OMP_NUM_THREADS"], environment["HCCL_CONNECT_TIMEOUT"]) == ("3", "9")


@pytest.mark.parametrize(
    ("words", "launched"),
    [
        (["p.py"], ("none", 1)),
        (["--ranks", "2", "p.py"], ("msrun", 2)),
        (["--launcher", "mpirun", "--ranks", "2", "p.py"], ("mpirun", 2)),
        (["--launcher", "msrun", "p.py"], ("msrun", 1)),
        (["--launcher", "msrun", "--ranks", "2", "p.py", "--launcher=mpirun", "--ranks", "3"], ("mpirun", 3)),
    ],
)
def test_several_ranks_need_a_launcher_which_is_msrun_unless_said(launcher, words, launched):
    options = launcher.parse(words)
    assert (options.launcher, options.ranks) == launched
    assert options.command == ["p.py"]


def test_words_of_ours_are_told_from_the_programs(launcher):
    options = launcher.parse(["p.py", "--background", "ranks", "--rank", "4", "--launchers=5", "--background=1"])
    assert options.command == ["p.py", "ranks", "--rank", "4", "--launchers=5", "--background=1"]
    assert options.background
    assert not launcher.parse(["p.py", "x"]).background
    for words in (["p.py", "--ranks"], ["--name"], ["--what", "p.py"], ["--makes_run"]):
        with pytest.raises(UsageError):
            launcher.parse(words)


def test_the_last_value_of_a_flag_counts(launcher):
    assert launcher.value_of(["--a", "1", "--a=2", "--ab", "3"], "a") == "2"
    assert launcher.value_of(["--a=1", "--a", "2"], "a") == "2"
    assert launcher.value_of(["--ab", "1", "a", "2"], "a") == ""


def test_the_run_folder_is_the_one_named_the_resumed_one_or_a_fresh_one(launcher, tmp_path, monkeypatch):
    monkeypatch.setattr(launcher, "ROOT", tmp_path)
    (earlier := tmp_path / "earlier").mkdir()
    (checkpoint := tmp_path / "a.ckpt").touch()
    one = launcher.Nodes(1, 0, "127.0.0.1")

    def opened(*words: str, nodes=one, program="p.py", **options):
        asked = launcher.Options(name="net", command=[program, *words], **options)
        return launcher.open_folders(asked, nodes), asked.command[1 + len(words) :]

    (folder, logs), added = opened("--run_dir", str(tmp_path / "mine"), makes_run=True)
    assert (folder, logs, added) == (tmp_path / "mine", tmp_path / "mine" / "logs", [])
    (folder, logs), added = opened("--resume", str(earlier), makes_run=True)
    assert (folder, logs, added) == (earlier, earlier / "logs", ["--run_dir", str(earlier)])
    for resume in ("auto", str(checkpoint)):
        (folder, _), added = opened("--resume", resume, makes_run=True)
        assert folder.parent == tmp_path / "runs" and added == ["--run_dir", str(folder)]
    (earlier / "checkpoints").mkdir()
    (earlier / "config.yaml").touch()
    own = str(earlier / "config.yaml")
    for words in (
        ("--resume", str(earlier / "checkpoints" / "net-1_1.ckpt")),
        ("--resume", str(earlier / "checkpoints")),
        ("--config_path", own, "--resume", "auto"),
    ):
        (folder, _), added = opened(*words, makes_run=True)
        assert (folder, added) == (earlier, ["--run_dir", str(earlier)])
    (folder, _), _ = opened("--config_path", own, makes_run=True)
    assert folder.parent == tmp_path / "runs", "the same once more is another run"
    (earlier / "journal.jsonl").touch()
    (folder, _), _ = opened("--config_path", own, program="search.py", makes_run=True)
    assert folder == earlier, "but a search goes on"
    (folder, _), added = opened("--run_dir", str(earlier))
    assert folder.parent == tmp_path / "runs" and added == [], "a program without a run folder gets its logs elsewhere"
    two = launcher.Nodes(2, 1, "10.0.0.1")
    (_, logs), _ = opened("--run_dir", str(tmp_path / "mine"), nodes=two, makes_run=True)
    assert logs == tmp_path / "mine" / "logs_node1"
    with pytest.raises(UsageError, match="add --run_dir FOLDER"):
        opened(nodes=two, makes_run=True)


def test_an_occupied_port_is_an_error_only_where_the_scheduler_will_listen(launcher):
    first, second = launcher.Nodes(2, 0, "10.0.0.1"), launcher.Nodes(2, 1, "10.0.0.1")
    with socket.socket() as listener:
        listener.bind(("", 0))
        listener.listen()
        port = listener.getsockname()[1]
        asked = {"MASTER_PORT": str(port)}
        assert launcher.port_for(asked, second, "") == port
        for nodes in (first, launcher.Nodes(1, 0, "127.0.0.1")):
            with pytest.raises(UsageError, match=f"port {port} is taken"):
                launcher.port_for(asked, nodes, "")
    assert launcher.port_for({}, second, "") == 8118
    assert 20000 <= launcher.port_for({}, launcher.Nodes(1, 0, "127.0.0.1"), "") < 32000
    for text in ("1023", "65536", "x"):
        with pytest.raises(UsageError, match="from 1024 to 65535"):
            launcher.port_for({"MASTER_PORT": text}, second, "")
    assert launcher.port_for({"MASTER_PORT": "65535"}, second, "") == 65535


@pytest.mark.parametrize(
    ("environment", "message"),
    [
        ({"NODE_NUM": "2"}, "need MASTER_ADDR"),
        ({"NODE_NUM": "2", "NODE_RANK": "2", "MASTER_ADDR": "a"}, "must be from 0 to NODE_NUM - 1 = 1"),
        ({"NODE_NUM": "two"}, "NODE_NUM must be a whole number"),
    ],
)
def test_machines_that_cannot_be(launcher, environment, message):
    with pytest.raises(UsageError, match=message):
        launcher.nodes_from(environment)


def test_one_machine_needs_no_address(launcher):
    assert launcher.nodes_from({"NODE_NUM": "", "NODE_RANK": ""}) == launcher.Nodes(1, 0, "127.0.0.1")
    assert launcher.nodes_from({"NODE_NUM": "2", "NODE_RANK": "1", "MASTER_ADDR": "a"}) == launcher.Nodes(2, 1, "a")


# -- rank.py and watch.py --------------------------------------------------------------------------


class Clock:
    """Stands for the module ``time``: sleeping is what makes it go on."""

    def __init__(self, now: float = 100.0):
        self.now = now

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


class Process:
    """Stands for a running program that ends after ``seconds`` of the clock, or when it is told to."""

    def __init__(self, clock: Clock, seconds: float, status: int = 0):
        self.clock, self.end_at, self.status, self.told = clock, clock.now + seconds, status, []

    def wait(self, seconds: float) -> int:
        if self.clock.now >= self.end_at:
            return self.status
        self.clock.now += seconds
        raise subprocess.TimeoutExpired("program", seconds)

    def send_signal(self, signum: int) -> None:
        self.told.append((signum, round(self.clock.now)))


@pytest.mark.parametrize(("is_main", "told"), [(True, [(signal.SIGINT, 100)]), (False, [])])
def test_a_signal_reaches_rank_0_at_once_and_once_the_others_never(programs, monkeypatch, is_main, told):
    """Rank 0 cannot finish its step without the others; they are ended after the time it has to save."""
    rank, clock, ended = programs.rank, Clock(), []
    process = Process(clock, 1000, status=-signal.SIGKILL)

    def end(process: Process, seconds: float) -> None:
        ended.append(round(clock.now))
        process.end_at = clock.now

    monkeypatch.setattr(rank, "time", clock)
    monkeypatch.setattr(rank, "GRACE", 20.0)
    monkeypatch.setattr(rank, "end", end)
    stop = rank.Stop()
    stop.note(signal.SIGINT)
    stop.note(signal.SIGTERM)
    assert rank.wait(process, is_main, stop, {}) == 128 + signal.SIGKILL
    assert [(signum, round(when)) for signum, when in process.told] == told
    assert ended == [120]


def test_a_program_that_nobody_stops_is_waited_for(programs, monkeypatch):
    rank, clock = programs.rank, Clock()
    monkeypatch.setattr(rank, "time", clock)
    process = Process(clock, 500, status=7)
    here = {"LAUNCH_PID": str(os.getpid()), "LAUNCH_HOST": socket.gethostname()}
    assert rank.wait(process, True, rank.Stop(), here) == 7
    assert process.told == []


def test_a_launcher_is_gone_only_if_it_was_a_process_of_this_machine(programs):
    gone = subprocess.Popen(["true"])
    gone.wait()
    here = {"LAUNCH_HOST": socket.gethostname(), "LAUNCH_PID": str(gone.pid)}
    assert programs.rank.launcher_is_gone(here)
    assert not programs.rank.launcher_is_gone({**here, "LAUNCH_PID": str(os.getpid())})
    assert not programs.rank.launcher_is_gone({**here, "LAUNCH_HOST": "another"})
    assert not programs.rank.launcher_is_gone({**here, "LAUNCH_PID": ""})


@pytest.mark.parametrize(
    ("local_rank", "size", "share"),
    [(0, 1, None), (0, 2, [0, 1]), (1, 2, [2, 3, 7]), (2, 3, [3, 7]), (5, 6, None), (2, 2, None), (4, 5, [7])],
)
def test_ranks_share_the_cores_where_there_are_enough(programs, local_rank, size, share):
    assert programs.rank.cores_of([7, 3, 0, 2, 1], local_rank, size) == (share or [0, 1, 2, 3, 7])


@pytest.mark.parametrize(
    ("ranks", "done", "seconds"),
    [
        ([0, 1], [0], 0),
        ([0, 1], [1], 5),
        ([2, 3], [2, 3], 0),
        ([2, 3], [2], 5),
    ],
)
def test_the_end_waits_for_rank_0_or_where_it_is_elsewhere_for_all(
    programs, monkeypatch, tmp_path, ranks, done, seconds
):
    watch, clock, killed = programs.watch, Clock(), []
    monkeypatch.setattr(watch, "time", clock)
    monkeypatch.setattr(watch, "kill_all", lambda job: killed.append(clock.now))
    for rank in done:
        (tmp_path / f"rank_{rank}.status").write_text("0\n")
    job = watch.Job(ranks, [], tmp_path, "nothing")
    console = SimpleNamespace(show_new=lambda: None)
    watch.end_all(job, 5.0, console, SimpleNamespace(received=[signal.SIGTERM]), signal.SIGTERM)
    assert [round(now - 100) for now in killed] == [seconds]


def test_only_rank_0_of_this_machine_is_told_to_stop(programs, monkeypatch, tmp_path):
    watch, told = programs.watch, []
    monkeypatch.setattr(watch, "time", Clock())
    monkeypatch.setattr(watch, "kill_all", lambda job: None)
    monkeypatch.setattr(watch.os, "kill", lambda pid, signum: told.append((pid, signum)))
    for rank in (0, 1):
        (tmp_path / f"rank_{rank}.pid").write_text(f"{900000 + rank} {910000 + rank}\n")
    console = SimpleNamespace(show_new=lambda: None)
    job = watch.Job([0, 1], [], tmp_path, "nothing")
    watch.end_all(job, 0.0, console, SimpleNamespace(received=[]), signal.SIGINT)
    assert told == [(900000, signal.SIGINT)]


def test_a_failed_rank_that_was_killed_gives_status_1_and_a_stopped_one_its_own(programs, monkeypatch, tmp_path):
    watch = programs.watch
    monkeypatch.setattr(watch, "time", Clock())
    monkeypatch.setattr(watch, "kill_all", lambda job: None)
    (tmp_path / "rank_0.log").touch()
    job = watch.Job([0], [], tmp_path, "nothing")
    for status, exit_status in ((3, 3), (137, 1), (139, 1), (143, 143), (130, 130), (0, 0)):
        (tmp_path / "rank_0.status").write_text(f"{status}\n")
        assert watch.watch(job, SimpleNamespace(received=[]), 1.0, 1.0) == exit_status


def test_a_rank_that_vanished_without_a_status_was_killed(programs, tmp_path):
    status_of = programs.watch.status_of
    assert status_of(tmp_path, "rank_0") is None  # it has not started
    (tmp_path / "rank_0.pid").write_text(f"{os.getpid()} 1")
    assert status_of(tmp_path, "rank_0") is None
    gone = subprocess.Popen(["true"])
    gone.wait()
    (tmp_path / "rank_0.pid").write_text(f"{gone.pid} 1")
    assert status_of(tmp_path, "rank_0") == 137
    (tmp_path / "rank_0.status").write_text("0")
    assert status_of(tmp_path, "rank_0") == 0
