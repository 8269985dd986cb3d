"""How launched ranks are watched and ended, and what wrong arguments are told."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import time
from pathlib import Path

import pytest

from tests.launch.conftest import Stage
from tests.launch.test_launchers import rank_table, succeeds

LONG = "sleep 50"


def cpu(stage: Stage, count: int = 2, *more: str | Path) -> tuple[str | Path, ...]:
    return ("bash", "scripts/run_distribute_train_cpu.sh", str(count), stage.data, "mnasnet_cpu", *more)


def left_behind(stage: Stage) -> list[str]:
    """Command lines of processes that still belong to the stage."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            words = (process / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            environment = (process / "environ").read_bytes()
        except OSError:
            continue
        if str(stage.root).encode() in environment and words:
            found.append(words)
    return found


def started(stage: Stage, count: int) -> bool:
    return len(stage.calls("python")) == count


def program_pid(stage: Stage, rank: int) -> int:
    (run,) = stage.run_folders
    return int((run / "logs" / f"rank_{rank}.pid").read_text().split()[1])


# -- ends --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("rank", "status"), [(0, 2), (1, 7)])
def test_a_rank_that_fails_ends_all_and_is_named(stage, rank, status):
    stage.behave(1 - rank, LONG)
    stage.behave(rank, f"echo first; echo 'the reason' >&2; exit {status}")
    start = time.monotonic()
    result = stage.run(*cpu(stage))
    assert time.monotonic() - start < 15
    assert result.returncode == status
    assert f"rank {rank} ended with status {status}" in result.stderr
    assert "the reason" in result.stdout + result.stderr
    assert left_behind(stage) == []


@pytest.mark.parametrize("launcher", ["msrun", "mpirun"])
def test_a_killed_rank_ends_all_and_is_named(stage, launcher):
    stage.behave(0, LONG)
    stage.behave(1, f"echo 'last words'; {LONG}")
    process = stage.start(*cpu(stage, 2, "--launcher", launcher))
    stage.wait_for(lambda: started(stage, 2))
    stage.wait_for(lambda: "last words" in (stage.run_folders[0] / "logs" / "rank_1.log").read_text())
    start = time.monotonic()
    os.kill(program_pid(stage, 1), signal.SIGKILL)
    _, err = process.communicate(timeout=20)
    assert time.monotonic() - start < 10
    assert process.returncode == 1
    assert "rank 1 was ended by SIGKILL" in err and "last words" in err
    assert left_behind(stage) == []


@pytest.mark.parametrize(("signum", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_lets_rank_0_save_then_ends_all(stage, signum, status):
    (run_dir := stage.folder / "run").mkdir()
    stage.behave(0, f"trap 'sleep 1; touch {run_dir}/saved; exit {status}' INT TERM; {LONG} & wait; wait")
    stage.behave(1, f"trap 'touch {run_dir}/told; exit 1' INT TERM; {LONG} & wait; wait")
    process = stage.start(*cpu(stage, 2, "--run_dir", run_dir))
    stage.wait_for(lambda: started(stage, 2))
    time.sleep(0.5)
    process.send_signal(signum)
    _, err = process.communicate(timeout=20)
    assert process.returncode == status, err
    assert (run_dir / "saved").exists()
    assert not (run_dir / "told").exists()  # rank 0 could not have finished its step without rank 1
    assert left_behind(stage) == []


def test_a_second_signal_ends_all_at_once(stage):
    stage.behave(0, f"trap '' INT; {LONG}")
    stage.behave(1, LONG)
    process = stage.start(*cpu(stage), LAUNCH_GRACE="40")
    stage.wait_for(lambda: started(stage, 2))
    process.send_signal(signal.SIGINT)
    time.sleep(1)
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=10)
    assert process.returncode == 130
    assert left_behind(stage) == []


def test_a_killed_launcher_leaves_nothing_behind(stage):
    for rank in range(2):
        stage.behave(rank, LONG)
    process = stage.start(*cpu(stage), LAUNCH_GRACE="1")
    stage.wait_for(lambda: started(stage, 2))
    process.kill()
    process.communicate(timeout=20)
    stage.wait_for(lambda: left_behind(stage) == [])


def test_background_returns_at_once_and_can_be_ended(stage):
    stage.behave(0, f"trap 'exit 143' TERM; {LONG} & wait")
    stage.behave(1, LONG)
    start = time.monotonic()
    result = stage.run(*cpu(stage, 2, "--background"))
    succeeds(result)
    assert time.monotonic() - start < 10
    stage.wait_for(lambda: started(stage, 2))
    pid = int(result.stdout.partition("`kill ")[2].partition("`")[0])
    os.kill(pid, signal.SIGTERM)
    stage.wait_for(lambda: left_behind(stage) == [])
    (run,) = stage.run_folders
    assert "SIGTERM: ending all ranks" in (run / "logs" / "launch.log").read_text()


def test_a_launcher_that_cannot_start_ranks_is_named(stage):
    stage.behave("msrun", "echo 'no such network' >&2; exit 3")
    result = stage.run(*cpu(stage))
    assert result.returncode == 1
    assert "rank_0, rank_1 did not start through msrun" in result.stderr and "no such network" in result.stderr


def test_rank_0_is_shown_without_its_head(stage):
    stage.behave(0, "echo loss is falling")
    stage.behave(1, "echo rank one speaks")
    result = stage.run(*cpu(stage))
    succeeds(result)
    assert "loss is falling" in result.stdout
    assert "rank one speaks" not in result.stdout and "# RANK_ID" not in result.stdout


def test_logs_show_no_secrets(stage):
    """Names are listed one by one: whatever begins like a setting of the framework may be one."""
    hidden = dict.fromkeys(("AWS_SECRET_ACCESS_KEY", "MS_TOKEN", "HCCL_PASSWORD", "LAUNCH_SECRET"), "hidden")
    succeeds(stage.run(*cpu(stage, 1), **hidden, GLOG_v="2"))
    log = (stage.run_folders[0] / "logs" / "rank_0.log").read_text()
    assert "hidden" not in log and "# GLOG_v='2'\n" in log


# -- folders -----------------------------------------------------------------------------------------------


def test_every_start_has_a_folder_of_its_own(stage):
    for _ in range(3):
        succeeds(stage.run("bash", "scripts/run_standalone_train_cpu.sh", stage.data, "mnasnet_cpu"))
    assert len(stage.run_folders) == 3
    assert len({call.value("run_dir") for call in stage.calls("python")}) == 3


def test_resuming_goes_on_in_the_run_and_keeps_its_logs(stage):
    words = ("bash", "scripts/run_standalone_train_cpu.sh", stage.data, "mnasnet_cpu")
    succeeds(stage.run(*words))
    (run,) = stage.run_folders
    first = (run / "logs" / "rank_0.log").read_text()
    succeeds(stage.run(*words, "--resume", run))
    assert stage.run_folders == [run]
    assert (run / "logs" / "rank_0.log").read_text() == first
    assert len(list(run.glob("logs*/rank_0.log"))) == 2


@pytest.mark.parametrize("name", ["with space", "a;touch hacked", "$(touch hacked)", 'it\'s "quoted"', "-r", "*", "é"])
def test_odd_paths_arrive_as_they_are(stage, name):
    odd = stage.folder / "odd"
    data = odd / name
    data.mkdir(parents=True)
    (checkpoint := odd / f"{name}.ckpt").touch()
    launcher = stage.root / "scripts" / "run_distribute_train_cpu.sh"
    succeeds(stage.run("bash", launcher, "1", name, "mnasnet_cpu", "--run_dir", f"run {name}", cwd=odd))
    succeeds(stage.run("bash", stage.root / "scripts" / "run_eval_cpu.sh", name, checkpoint.name, cwd=odd))
    by_program = {Path(call.arguments[0]).name: call for call in stage.calls("python")}
    assert by_program["train.py"].value("data_path") == str(data)
    assert by_program["train.py"].value("run_dir") == f"run {name}"
    assert by_program["eval.py"].value("checkpoint_path") == str(checkpoint)
    assert not list(stage.folder.rglob("hacked"))


def test_a_rank_table_with_an_odd_name(stage):
    table = rank_table(stage, "my table;.json", devices=1)
    script = "scripts/run_distribute_train_ascend.sh"
    succeeds(stage.run("bash", script, table, "1", stage.data))
    assert stage.calls("python")[0].environment["RANK_TABLE_FILE"] == str(table)


# -- wrong arguments ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (
            ["run_distribute_train_cpu.sh", "2"],
            "error: DATA_PATH must be given; type: bash scripts/run_distribute_train_cpu.sh 2 DATA_PATH\n",
        ),
        (
            ["run_distribute_train_cpu.sh", "2", "nowhere"],
            "error: DATA_PATH: there is no folder 'nowhere'; type: bash ",
        ),
        (
            ["run_distribute_train_cpu.sh", "2", "."],
            "error: which network? Type: bash scripts/run_distribute_train_cpu",
        ),
        (["run_distribute_train_cpu.sh", "2", ".", "--launcher", "srun"], "error: --launcher must be one of"),
        (["run_standalone_train_cpu.sh", ".", "--ranks", "x"], "error: --ranks must be a whole number"),
    ],
)
def test_wrong_arguments_start_nothing(stage, words, expected):
    script, *rest = words
    result = stage.run("bash", f"scripts/{script}", *rest)
    assert result.returncode == 2
    assert result.stderr.startswith(expected) and result.stderr.count("\n") == 1
    assert stage.calls("python") == [] and stage.run_folders == []


def test_an_occupied_port_gives_the_line_to_type(stage):
    with socket.socket() as listener:
        listener.bind(("", 0))
        listener.listen()
        port = listener.getsockname()[1]
        result = stage.run(*cpu(stage), MASTER_PORT=str(port))
    assert result.returncode == 2 and stage.run_folders == []
    assert f"port {port} is taken" in result.stderr
    assert (
        f" bash scripts/run_distribute_train_cpu.sh 2 {stage.data}" in result.stderr.partition("type: MASTER_PORT=")[2]
    )


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("not json", "is not an HCCL rank table"),
        ("{}", "is not an HCCL rank table"),
        ('{"server_list": [{"device": [{"rank_id": "1", "device_id": "0"}]}]}', "ranks of"),
        ('{"server_list": []}', "SERVER_ID=0"),
    ],
)
def test_broken_rank_tables(stage, content, expected):
    table = stage.folder / "t.json"
    table.write_text(content)
    result = stage.run("bash", "scripts/run_distribute_train_ascend.sh", table, "1", stage.data)
    assert result.returncode == 2 and expected in result.stderr


def test_a_rank_table_for_another_number_of_devices(stage):
    table = rank_table(stage, devices=4)
    result = stage.run("bash", "scripts/run_distribute_train_ascend.sh", table, "8", stage.data)
    assert result.returncode == 2 and "8 ranks, but" in result.stderr and "names 4 cards" in result.stderr
    assert stage.run_folders == []


def test_a_missing_launcher_is_named(stage):
    (stage.bin / "mpirun").unlink()
    for tool in ("bash", "sh", "dirname"):  # and nothing else: this machine may have OpenMPI
        (stage.bin / tool).symlink_to(shutil.which(tool))
    result = stage.run(*cpu(stage, 2, "--launcher", "mpirun"), PATH=str(stage.bin))
    assert result.returncode == 2 and "apt-get install openmpi-bin" in result.stderr
    assert stage.run_folders == []
