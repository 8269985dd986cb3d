"""What a launch gives every rank: arguments, environment, cores, a log; by rank table, msrun and mpirun."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path

import pytest

from tests.launch.conftest import Stage


def rank_table(stage: Stage, name: str = "hccl.json", servers: int = 1, devices: int = 8) -> Path:
    content = {
        "version": "1.0",
        "server_count": str(servers),
        "server_list": [
            {
                "server_id": f"10.0.0.{server}",
                "device": [
                    {
                        "device_id": str(device),
                        "device_ip": f"192.168.{server}.{device}",
                        "rank_id": str(server * devices + device),
                    }
                    for device in range(devices)
                ],
            }
            for server in range(servers)
        ],
        "status": "completed",
    }
    path = stage.folder / name
    path.write_text(json.dumps(content))
    return path


def succeeds(result) -> None:
    assert result.returncode == 0, result.stdout + result.stderr


def check_ranks(stage: Stage, count: int, recipe: str, target: str) -> None:
    """``count`` ranks of train.py, each with its own rank, one run folder, a log each."""
    calls = stage.calls("python")
    assert len(calls) == count
    run_dir = Path(calls[0].value("run_dir"))
    for call in calls:
        assert call.arguments[0] == str(stage.root / "train.py")
        assert call.value("config_path") == recipe
        assert call.value("data_path") == str(stage.data)
        assert call.value("device_target") == target
        assert call.value("is_distributed") == "True"
        assert call.value("run_dir") == str(run_dir)
    assert stage.run_folders == [run_dir]
    for rank in range(count):
        log = (run_dir / "logs" / f"rank_{rank}.log").read_text()
        assert log.startswith("# ")
        assert "\n# RANK_ID=" in log or "\n# OMPI_COMM_WORLD_RANK=" in log
        assert f"{stage.root}/train.py" in log


def test_ascend_with_a_rank_table(stage):
    table = rank_table(stage)
    succeeds(stage.run("bash", "./scripts/run_distribute_train_ascend.sh", "../hccl.json", "8", stage.data))
    check_ranks(stage, 8, "spnasnet_ascend_8p", "Ascend")
    for rank, call in enumerate(stage.calls("python")):
        environment = call.environment
        assert environment["RANK_TABLE_FILE"] == str(table)
        assert environment["SERVER_ID"] == "0"
        assert (environment["RANK_ID"], environment["DEVICE_ID"]) == (str(rank), str(rank))
        assert (environment["RANK_SIZE"], environment["DEVICE_NUM"]) == ("8", "8")
        assert environment["HCCL_CONNECT_TIMEOUT"] == "600"
        assert "MS_ROLE" not in environment
    assert not stage.calls("msrun")


def test_second_server_of_a_rank_table(stage):
    rank_table(stage, servers=2, devices=2)
    script = "scripts/run_distribute_train_ascend.sh"
    succeeds(stage.run("bash", script, "../hccl.json", "2", stage.data, "--run_dir", stage.root / "r", SERVER_ID="1"))
    calls = stage.calls("python")
    assert [call.environment["RANK_ID"] for call in calls] == ["2", "3"]
    assert [call.environment["DEVICE_ID"] for call in calls] == ["0", "1"]
    assert {call.environment["RANK_SIZE"] for call in calls} == {"4"}


def test_ascend_with_msrun(stage):
    succeeds(stage.run("bash", "scripts/run_distribute_train_ascend.sh", "msrun", "4", stage.data))
    (msrun,) = stage.calls("msrun")
    assert msrun.arguments[:2] == ["--worker_num=4", "--local_worker_num=4"]
    assert "--master_addr=127.0.0.1" in msrun.arguments and "--node_rank=0" in msrun.arguments
    assert "RANK_TABLE_FILE" not in msrun.environment
    assert msrun.environment["HCCL_CONNECT_TIMEOUT"] == "600"
    check_ranks(stage, 4, "spnasnet_ascend_8p", "Ascend")
    call = stage.calls("python")[3]
    assert (call.value("lr_scaling"), call.value("lr_scaling_base")) == ("linear", "1024")


def test_msrun_on_two_machines(stage):
    shared = stage.folder / "shared run"
    arguments = ("bash", "scripts/run_distribute_train_ascend.sh", "msrun", "2", stage.data, "--run_dir", shared)
    cluster = {"NODE_NUM": "2", "NODE_RANK": "1", "MASTER_ADDR": "10.0.0.1", "MASTER_PORT": "8200"}
    succeeds(stage.run(*arguments, **cluster))
    (msrun,) = stage.calls("msrun")
    wanted = "--worker_num=4 --local_worker_num=2 --master_addr=10.0.0.1 --master_port=8200 --node_rank=1"
    assert msrun.arguments[:5] == wanted.split()
    assert [call.environment["RANK_ID"] for call in stage.calls("python")] == ["2", "3"]
    assert (shared / "logs_node1" / "rank_3.log").is_file()


def test_several_machines_need_one_run_folder_and_a_master(stage):
    arguments = ("bash", "scripts/run_distribute_train_ascend.sh", "msrun", "2", stage.data)
    # The second machine: on the first one the port of another test may be taken.
    result = stage.run(*arguments, NODE_NUM="2", NODE_RANK="1", MASTER_ADDR="10.0.0.1")
    assert result.returncode == 2 and "--run_dir" in result.stderr
    result = stage.run(*arguments, NODE_NUM="2")
    assert result.returncode == 2 and "MASTER_ADDR" in result.stderr


def test_gpu_with_mpirun(stage):
    succeeds(stage.run("bash", "./scripts/run_distribute_train_gpu.sh", "0,1,2,3,4,5,6,7", "8", stage.data))
    (mpirun,) = stage.calls("mpirun")
    assert mpirun.arguments[:2] == ["-n", "8"]
    assert {"--merge-stderr-to-stdout", "--output-filename"} <= set(mpirun.arguments)
    assert mpirun.environment["CUDA_VISIBLE_DEVICES"] == "0,1,2,3,4,5,6,7"
    assert mpirun.environment["RANK_SIZE"] == "8"
    check_ranks(stage, 8, "spnasnet_gpu_8p", "GPU")
    for rank, call in enumerate(stage.calls("python")):
        assert call.environment["OMPI_COMM_WORLD_RANK"] == str(rank)  # MindSpore's NCCL reads OpenMPI's own
        assert "MS_ROLE" not in call.environment


def test_gpu_with_msrun(stage):
    succeeds(stage.run("bash", "scripts/run_distribute_train_gpu.sh", "2,3", "2", stage.data, "--launcher", "msrun"))
    assert not stage.calls("mpirun")
    check_ranks(stage, 2, "spnasnet_gpu_8p", "GPU")
    assert stage.calls("msrun")[0].environment["CUDA_VISIBLE_DEVICES"] == "2,3"
    assert "--launcher" not in stage.calls("python")[0].arguments


CPU = ("bash", "scripts/run_distribute_train_cpu.sh")


def test_cpu(stage):
    succeeds(stage.run(*CPU, "2", stage.data, "mnasnet_cpu"))
    check_ranks(stage, 2, "mnasnet_cpu", "CPU")
    assert "lr_scaling" not in " ".join(stage.calls("python")[0].arguments)


@pytest.mark.parametrize("launcher", ["msrun", "mpirun"])
def test_ranks_share_cores_and_threads(stage, launcher):
    available = sorted(os.sched_getaffinity(0))
    for ranks in (1, 2):
        succeeds(
            stage.run(
                *("bash", "scripts/run_distribute_train_cpu.sh", str(ranks), stage.data, "mnasnet_cpu"),
                *("--launcher", launcher),
            )
        )
    shares = []
    for run in stage.run_folders:
        for log in sorted((run / "logs").glob("rank_*.log")):
            cores = re.search(r", CPU cores ([\d,]+)\n", log.read_text())[1]
            shares.append([int(core) for core in cores.split(",")])
    whole, first, second = sorted(shares, key=len, reverse=True) if len(available) > 1 else shares
    assert whole == available
    assert sorted({*first, *second}) == available
    assert len(first) + len(second) == max(len(available), 2)
    threads = sorted(int(call.environment["OMP_NUM_THREADS"]) for call in stage.calls("python"))
    assert threads == sorted([len(available), *2 * [max(len(available) // 2, 1)]])


def test_a_chosen_number_of_threads_stays(stage):
    succeeds(stage.run(*CPU, "2", stage.data, "mnasnet_cpu", OMP_NUM_THREADS="7"))
    assert {call.environment["OMP_NUM_THREADS"] for call in stage.calls("python")} == {"7"}


def test_cpu_through_mpirun_becomes_a_cluster(stage):
    succeeds(stage.run(*CPU, "2", stage.data, "mnasnet_cpu", "--launcher=mpirun"))
    check_ranks(stage, 2, "mnasnet_cpu", "CPU")
    for rank, call in enumerate(stage.calls("python")):
        environment = call.environment
        assert not [name for name in environment if name.startswith("OMPI_")]
        assert (environment["MS_ROLE"], environment["MS_NODE_ID"]) == ("MS_WORKER", str(rank))
        assert (environment["RANK_ID"], environment["RANK_SIZE"], environment["MS_WORKER_NUM"]) == (str(rank), "2", "2")
        assert environment["MS_SCHED_PORT"] == environment["MASTER_PORT"]


@pytest.mark.parametrize(
    ("shell", "folder", "script", "network"),
    [
        (["bash"], ".", "scripts/run_standalone_train_gpu.sh", "mnasnet"),
        (["sh"], "scripts", "run_standalone_train_for_gpu.sh", "proxylessnas_mobile"),
        (["sh"], "scripts/shufflenetv1", "run_standalone_train_gpu.sh", "shufflenetv1"),
        ([], "..", "repo/scripts/spnasnet/run_standalone_train_gpu.sh", "spnasnet"),
    ],
)
def test_a_script_runs_in_any_shell_and_from_any_folder(stage, shell, folder, script, network):
    more = ["--model", network] if network == "mnasnet" else []
    result = stage.run(*shell, script, "3", stage.data, *more, cwd=stage.root / folder)
    succeeds(result)
    assert result.stdout.splitlines()[0] == f"{network} on 1 GPU, recipe {network}_gpu_1p"
    (call,) = stage.calls("python")
    assert call.arguments[0] == str(stage.root / "train.py")
    assert call.value("config_path") == f"{network}_gpu_1p"
    assert (call.value("device_id"), call.value("device_target")) == ("3", "GPU")
    assert call.value("is_distributed") == "False"
    place = [call.environment[name] for name in ("DEVICE_ID", "RANK_ID", "RANK_SIZE", "DEVICE_NUM")]
    assert place == ["3", "0", "1", "1"]


def test_mnasnets_scripts_answer_from_the_top_of_the_repository(stage):
    succeeds(stage.run("bash", "./test/train_performance_1p.sh", f"--data_path={stage.data}", "--device_id=2"))
    (call,) = stage.calls("python")
    assert (call.value("config_path"), call.value("device_id")) == ("mnasnet_ascend_1p", "2")
    assert (call.value("epochs"), call.value("measure_speed"), call.cwd) == ("6", "True", str(stage.root))
