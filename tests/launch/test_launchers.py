"""What each launcher starts, with which arguments and environment."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path

import pytest

from src.settings.command_line import parse_arguments
from tests.launch.conftest import ROOT, Stage


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


# -- Single-Path-NAS: the scripts themselves ------------------------------------------------------------


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
    result = stage.run(*arguments, NODE_NUM="2", MASTER_ADDR="10.0.0.1")
    assert result.returncode == 2 and "--run_dir" in result.stderr
    result = stage.run(*arguments, NODE_NUM="2")
    assert result.returncode == 2 and "MASTER_ADDR" in result.stderr


@pytest.mark.parametrize("script", ["run_distribute_train_gpu.sh", "compat/run_distributed_train_gpu.sh"])
def test_gpu_with_mpirun(stage, script):
    succeeds(stage.run("bash", f"./scripts/{script}", "0,1,2,3,4,5,6,7", "8", stage.data))
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


def test_cpu(stage):
    succeeds(stage.run("bash", "scripts/run_distribute_train_cpu.sh", "2", stage.data))
    check_ranks(stage, 2, "spnasnet_cpu", "CPU")
    assert "lr_scaling" not in " ".join(stage.calls("python")[0].arguments)


@pytest.mark.parametrize("launcher", ["msrun", "mpirun"])
def test_ranks_share_cores_and_threads(stage, launcher):
    available = sorted(os.sched_getaffinity(0))
    for ranks in (1, 2):
        succeeds(
            stage.run("bash", "scripts/run_distribute_train_cpu.sh", str(ranks), stage.data, "--launcher", launcher)
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
    succeeds(stage.run("bash", "scripts/run_distribute_train_cpu.sh", "2", stage.data, OMP_NUM_THREADS="7"))
    assert {call.environment["OMP_NUM_THREADS"] for call in stage.calls("python")} == {"7"}


def test_cpu_through_mpirun_becomes_a_cluster(stage):
    succeeds(stage.run("bash", "scripts/run_distribute_train_cpu.sh", "2", stage.data, "--launcher=mpirun"))
    check_ranks(stage, 2, "spnasnet_cpu", "CPU")
    for rank, call in enumerate(stage.calls("python")):
        environment = call.environment
        assert not [name for name in environment if name.startswith("OMPI_")]
        assert (environment["MS_ROLE"], environment["MS_NODE_ID"]) == ("MS_WORKER", str(rank))
        assert (environment["RANK_ID"], environment["RANK_SIZE"], environment["MS_WORKER_NUM"]) == (str(rank), "2", "2")
        assert environment["MS_SCHED_PORT"] == environment["MASTER_PORT"]


@pytest.mark.parametrize("target", ["Ascend", "GPU"])
def test_one_device(stage, target):
    succeeds(stage.run("bash", f"./scripts/run_standalone_train_{target.lower()}.sh", "3", stage.data))
    (call,) = stage.calls("python")
    assert call.value("config_path") == f"spnasnet_{target.lower()}_1p"
    assert (call.value("device_id"), call.value("device_target")) == ("3", target)
    assert call.value("is_distributed") == "False"
    assert call.environment["DEVICE_ID"] == "3"
    assert (call.environment["RANK_ID"], call.environment["RANK_SIZE"], call.environment["DEVICE_NUM"]) == (
        "0",
        "1",
        "1",
    )


@pytest.mark.parametrize("target", ["Ascend", "GPU"])
def test_evaluation(stage, target):
    checkpoint = stage.folder / "ckpt_0"
    checkpoint.mkdir()
    script = f"./scripts/run_eval_{target.lower()}.sh"
    succeeds(stage.run("bash", script, "1", "../images", "../ckpt_0"))
    (call,) = stage.calls("python")
    assert call.arguments[0] == str(stage.root / "eval.py")
    assert Path(call.value("val_data_path")).samefile(stage.data)
    assert Path(call.value("checkpoint_path")).samefile(checkpoint)
    assert (call.value("device_id"), call.value("device_target")) == ("1", target)
    assert "--run_dir" not in call.arguments


def test_cpu_takes_no_device(stage):
    checkpoint = stage.folder / "net.ckpt"
    checkpoint.touch()
    succeeds(stage.run("bash", "scripts/run_standalone_train_cpu.sh", stage.data, "mnasnet_cpu", "--epochs", "2"))
    succeeds(stage.run("bash", "scripts/run_eval_cpu.sh", stage.data, checkpoint, "--per_class"))
    succeeds(stage.run("bash", "scripts/run_search_cpu.sh", stage.data))
    by_program = {Path(call.arguments[0]).name: call for call in stage.calls("python")}
    assert by_program["train.py"].value("config_path") == "mnasnet_cpu"
    assert by_program["train.py"].value("epochs") == "2"
    assert "--per_class" in by_program["eval.py"].arguments
    assert by_program["search.py"].value("data_path") == str(stage.data)
    assert not any("--device_id" in call.arguments for call in by_program.values())


@pytest.mark.parametrize("target", ["Ascend", "GPU"])
def test_search(stage, target):
    succeeds(stage.run("bash", f"scripts/run_search_{target.lower()}.sh", "0", stage.data))
    (call,) = stage.calls("python")
    assert call.arguments[0] == str(stage.root / "search.py")
    assert (call.value("device_target"), call.value("device_id")) == (target, "0")


def test_export(stage):
    checkpoint = stage.folder / "net.ckpt"
    checkpoint.touch()
    succeeds(stage.run("bash", "scripts/run_export.sh", checkpoint, "MINDIR", "--batch_size", "1"))
    (call,) = stage.calls("python")
    assert call.arguments[0] == str(stage.root / "export.py")
    assert (call.value("checkpoint_path"), call.value("file_format")) == (str(checkpoint), "MINDIR")


# -- the other seeds' names ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "recipe"),
    [
        (("bash", "run_distribute_train_for_ascend.sh"), "proxylessnas_mobile_ascend_8p"),
        (("bash", "run_distribute_train_ascend.sh"), "proxylessnas_mobile_ascend_8p"),
        (("bash", "./run_distribute_train.sh"), "shufflenetv1_ascend_8p"),
    ],
)
def test_eight_ascends_by_the_seeds_names(stage, words, recipe):
    table = rank_table(stage, "hccl_8p_01234567.json")
    succeeds(stage.run(*words, table, stage.data, cwd=stage.root / "scripts" / "compat"))
    check_ranks(stage, 8, recipe, "Ascend")
    assert stage.calls("python")[7].environment["RANK_TABLE_FILE"] == str(table)


@pytest.mark.parametrize(
    ("words", "recipe", "count"),
    [
        (("bash", "run_distribute_train_for_gpu.sh"), "proxylessnas_mobile_gpu_8p", 8),
        (("sh", "run_distribute_train_gpu.sh", "8"), "shufflenetv1_gpu_8p", 8),
        (("sh", "train_oneshot.sh"), "spos_oneshot_gpu_4p", 4),
        (("sh", "./train_oneshot+.sh"), "spos_oneshot_plus_gpu_4p", 4),
        (("sh", "./train_oneshot-s+.sh"), "spos_oneshot_s_plus_gpu_4p", 4),
        (("sh", "./train_oneshot-s+_mobilenetv3.sh"), "spos_oneshot_s_plus_gpu_4p", 4),
    ],
)
def test_gpus_by_the_seeds_names(stage, words, recipe, count):
    succeeds(stage.run(*words, stage.data, cwd=stage.root / "scripts" / "compat"))
    check_ranks(stage, count, recipe, "GPU")
    expected = ",".join(map(str, range(count)))
    assert stage.calls("mpirun")[0].environment["CUDA_VISIBLE_DEVICES"] == expected
    assert "lr_scaling" not in " ".join(stage.calls("python")[0].arguments)


SUPERNET_WITH_SE = {
    "model_options.use_se": "true",
    "model_options.last_conv_after_pooling": "true",
    "channel_start_epoch": "0",
    "channel_warm_up": "false",
}


@pytest.mark.parametrize(
    ("script", "flags"),
    [
        ("train_supernet.sh", {}),
        ("train_supernet+.sh", SUPERNET_WITH_SE),
        ("train_supernet+_with_constraints.sh", {**SUPERNET_WITH_SE, "path_sampler": "strolling"}),
    ],
)
def test_supernets_by_the_seeds_names(stage, script, flags):
    (stage.folder / "imagenet").mkdir()
    succeeds(stage.run("sh", f"./{script}", cwd=stage.root / "scripts" / "compat", HOME=str(stage.folder)))
    (call,) = stage.calls("python")
    assert call.arguments[0] == str(stage.root / "train.py")
    assert (call.value("config_path"), call.value("device_target")) == ("spos_supernet", "GPU")
    assert call.value("data_path") == str(stage.folder / "imagenet")
    assert {name: call.value(name) for name in flags} == flags
    arguments = [word for word in call.arguments[1:] if word.startswith("--")]
    config = parse_arguments(call.arguments[1:], "train")
    assert config.train_supernet and len(arguments) == len(set(arguments)) == 6 + len(flags)


def test_search_by_the_seeds_name_takes_the_newest_supernet(stage):
    words = ("sh", "./search_supernet.sh", stage.data)
    nothing = stage.run(*words, cwd=stage.root / "scripts" / "compat")
    assert nothing.returncode == 2 and "--supernet RUN" in nothing.stderr
    runs = [stage.root / "runs" / f"spos_supernet-20260101-00000{number}" for number in range(3)]
    for age, run in enumerate(runs):
        (run / "checkpoints").mkdir(parents=True)
        if age < 2:
            (run / "checkpoints" / "spos_oneshot-1_2.ckpt").touch()
        os.utime(run, (age, age))
    succeeds(stage.run(*words, cwd=stage.root / "scripts" / "compat"))
    succeeds(stage.run(*words, "--supernet", "mine", cwd=stage.root / "scripts" / "compat"))
    for call in stage.calls("python"):
        assert call.arguments[0] == str(stage.root / "search.py")
        assert (call.value("config_path"), call.value("device_target")) == ("spos_search", "GPU")
        assert call.value("data_path") == str(stage.data)
        assert call.arguments.count("--supernet") == 1
    assert {Path(call.value("supernet")) for call in stage.calls("python")} == {Path("mine"), runs[1]}


@pytest.mark.parametrize(
    ("words", "recipe", "target"),
    [
        (("bash", "run_standalone_train_for_ascend.sh", "0"), "proxylessnas_mobile_ascend_1p", "Ascend"),
        (("bash", "run_standalone_train_for_gpu.sh", "0"), "proxylessnas_mobile_gpu_1p", "GPU"),
        (("bash", "run_standalone_train.sh", "0"), "shufflenetv1_ascend_1p", "Ascend"),
        (("sh", "run_standalone_train_gpu.sh", "0"), "shufflenetv1_gpu_1p", "GPU"),
    ],
)
def test_one_device_by_the_seeds_names(stage, words, recipe, target):
    succeeds(stage.run(*words, stage.data, cwd=stage.root / "scripts" / "compat"))
    (call,) = stage.calls("python")
    assert (call.value("config_path"), call.value("device_target"), call.value("device_id")) == (recipe, target, "0")


@pytest.mark.parametrize(
    ("words", "model", "target"),
    [
        (("bash", "run_eval_for_ascend.sh", "0"), "proxylessnas_mobile", "Ascend"),
        (("bash", "run_eval_for_ascend.sh"), "proxylessnas_mobile", "Ascend"),
        (("bash", "run_eval_for_gpu.sh", "0"), "proxylessnas_mobile", "GPU"),
        (("bash", "run_eval.sh", "0"), "shufflenetv1", "Ascend"),
        (("sh", "run_eval_gpu.sh", "0"), "shufflenetv1", "GPU"),
        (("bash", "run_transfer_eval.sh"), "shufflenetv1", "CPU"),
    ],
)
def test_evaluation_by_the_seeds_names(stage, words, model, target):
    (stage.folder / "shufflenetv1-250_1251.ckpt").touch()  # ShuffleNetV1's README leaves the suffix away
    checkpoint = stage.folder / "shufflenetv1-250_1251"
    succeeds(stage.run(*words, stage.data, checkpoint, cwd=stage.root / "scripts" / "compat"))
    (call,) = stage.calls("python")
    assert call.arguments[0] == str(stage.root / "eval.py")
    assert (call.value("model"), call.value("device_target")) == (model, target)
    assert call.value("checkpoint_path") == f"{checkpoint}.ckpt"
    assert call.value("val_data_path") == str(stage.data)


def test_transfer(stage):
    checkpoint = stage.folder / "shufflenetv1.ckpt"
    checkpoint.touch()
    (stage.data / "train").mkdir()
    succeeds(stage.run("bash", "scripts/compat/run_transfer.sh", stage.data, checkpoint, "--epochs", "3"))
    (call,) = stage.calls("python")
    assert (call.value("config_path"), call.value("device_target")) == ("shufflenetv1_transfer", "CPU")
    assert (call.value("pretrained"), call.value("epochs")) == (str(checkpoint), "3")
    assert "lr_scaling" not in " ".join(call.arguments)


def test_transfer_of_an_unsplit_folder_gives_the_line_to_type(stage):
    (stage.folder / "my flowers").mkdir()
    result = stage.run("bash", "repo/scripts/compat/run_transfer.sh", "my flowers/", "net.ckpt", cwd=stage.folder)
    assert result.returncode == 2
    assert "python -m src.data.split my\\ flowers/ my\\ flowers_split" in result.stderr


@pytest.mark.parametrize(("kind", "epochs"), [("full", None), ("performance", "6")])
def test_mnasnet_one_device(stage, kind, epochs):
    words = ("bash", f"./test/train_{kind}_1p.sh", f"--data_path={stage.data}", "--device_id=2")
    succeeds(stage.run(*words, cwd=stage.root / "scripts" / "compat"))
    (call,) = stage.calls("python")
    assert (call.value("config_path"), call.value("device_id")) == ("mnasnet_ascend_1p", "2")
    assert (call.value("epochs") if epochs else None) == epochs


@pytest.mark.parametrize(("kind", "epochs"), [("full", None), ("performance", "6")])
def test_mnasnet_eight_devices(stage, kind, epochs):
    words = ("bash", f"test/train_{kind}_8p.sh", f"--data_path={stage.data}")
    succeeds(stage.run(*words, cwd=stage.root / "scripts" / "compat"))
    check_ranks(stage, 8, "mnasnet_ascend_8p", "Ascend")
    assert len(stage.calls("msrun")) == 1
    assert (stage.calls("python")[0].value("epochs") if epochs else None) == epochs


def test_mnasnet_evaluation_takes_the_newest_run(stage):
    words = ("bash", "./test/train_eval_8p.sh", f"--data_path={stage.data}")
    nothing = stage.run(*words, cwd=stage.root / "scripts" / "compat")
    assert nothing.returncode == 2 and "--checkpoint_path=" in nothing.stderr
    run = stage.root / "runs" / "mnasnet_ascend_8p-20260101-000000"
    (run / "checkpoints").mkdir(parents=True)
    (run / "checkpoints" / "mnasnet-1_2.ckpt").touch()
    succeeds(stage.run(*words, cwd=stage.root / "scripts" / "compat"))
    (call,) = stage.calls("python")
    assert Path(call.value("checkpoint_path")).samefile(run)
    assert call.value("model") == "mnasnet"


def test_mnasnet_without_data_says_what_to_type(stage):
    result = stage.run("bash", "scripts/compat/test/train_full_1p.sh")
    assert result.returncode == 2
    assert "bash scripts/compat/test/train_full_1p.sh --data_path=DATA_PATH" in result.stderr


def test_every_script_is_executable():
    scripts = [path for path in (ROOT / "scripts").rglob("*.sh") if path.read_text().startswith("#!")]
    assert len(scripts) > 30
    assert [path for path in scripts if not path.stat().st_mode & 0o111] == []
