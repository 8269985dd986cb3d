"""The entry points for schedulers, as far as they can be tried without a cluster."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from pathlib import Path

import pytest
import yaml

from src.settings.config import load_config
from tests.launch.conftest import ROOT, Stage
from tests.launch.test_launchers import succeeds
from tests.launch.test_watching import LONG, left_behind, started

CLUSTER = ROOT / "scripts" / "cluster"

SRUN = """\
#!/usr/bin/env bash
while [[ $1 == --* ]]; do
    case $1 in --ntasks=*) number=${1#*=} ;; esac
    shift
done
status=0
pids=()
for ((node = 0; node < number; node++)); do
    SLURM_NODEID=$node "$@" &
    pids+=($!)
done
if [[ -n ${STEPS:-} ]]; then echo "${pids[*]}" >"$STEPS"; fi
for pid in "${pids[@]}"; do wait "$pid" || status=$?; done
exit "$status"
"""


def add_program(stage: Stage, name: str, text: str) -> None:
    (stage.bin / name).write_text(text)
    (stage.bin / name).chmod(0o755)


@pytest.mark.parametrize("path", sorted(CLUSTER.glob("*.s*")), ids=lambda path: path.name)
def test_syntax(path):
    subprocess.run(["bash", "-n", path], check=True)


def slurm(stage: Stage, nodes: int) -> dict[str, str]:
    """The variables and programs that Slurm gives a batch script."""
    add_program(stage, "srun", SRUN)
    add_program(stage, "scontrol", "#!/bin/sh\nprintf '127.0.0.1\\nother\\n'\n")
    names = {"SLURM_JOB_NUM_NODES": str(nodes), "SLURM_JOB_NODELIST": "n[1-2]", "SLURM_JOB_ID": "4711"}
    return {**names, "SLURM_SUBMIT_DIR": str(stage.root), "TARGET": "CPU", "RANKS": "2"}


def test_slurm_starts_the_ranks_of_every_node(stage):
    run = stage.folder / "shared folder"
    spooled = stage.folder / "slurm_script"  # Slurm runs a copy
    spooled.write_text((stage.root / "scripts/cluster/train.sbatch").read_text())
    words = ("bash", spooled, stage.data, run, "mnasnet_cpu", "--epochs", "3")
    succeeds(stage.run(*words, cwd=stage.folder, **slurm(stage, 2)))
    calls = stage.calls("python")
    assert [call.environment["RANK_ID"] for call in calls] == ["0", "1", "2", "3"]
    assert {call.environment["RANK_SIZE"] for call in calls} == {"4"}
    for call in calls:
        assert call.value("config_path") == "mnasnet_cpu" and call.value("epochs") == "3"
        assert call.value("run_dir") == str(run) and call.value("resume") == "auto"
    for msrun in stage.calls("msrun"):
        assert "--master_addr=127.0.0.1" in msrun.arguments and "--master_port=24711" in msrun.arguments
    assert {path.name for path in run.iterdir()} == {"logs_node0", "logs_node1"}


def test_slurm_sees_a_failed_rank(stage):
    stage.behave(3, "exit 5")
    words = ("bash", stage.root / "scripts/cluster/train.sbatch", stage.data, stage.folder / "run", "mnasnet_cpu")
    result = stage.run(*words, **slurm(stage, 2))
    assert result.returncode == 5 and "rank 3 ended with status 5" in result.stderr


def test_slurms_warning_lets_rank_0_save_before_the_job_ends(stage):
    """`#SBATCH --signal=TERM@120` signals the job's steps, not the batch script: the launcher of every node."""
    assert "#SBATCH --signal=TERM@120\n" in (CLUSTER / "train.sbatch").read_text()
    run = stage.folder / "run"
    stage.behave(0, f"trap 'sleep 1; touch {stage.folder}/saved; exit 143' TERM; {LONG} & wait; wait")
    for rank in (1, 2, 3):
        stage.behave(rank, LONG)
    words = ("bash", stage.root / "scripts/cluster/train.sbatch", stage.data, run, "mnasnet_cpu")
    steps = stage.folder / "steps"
    process = stage.start(*words, **{**slurm(stage, 2), "STEPS": str(steps), "LAUNCH_GRACE": "3"})
    stage.wait_for(lambda: started(stage, 4) and steps.is_file() and steps.read_text().endswith("\n"))
    time.sleep(0.5)
    for pid in steps.read_text().split():
        os.kill(int(pid), signal.SIGTERM)
    process.communicate(timeout=30)
    assert process.returncode == 143
    assert (stage.folder / "saved").exists()
    assert left_behind(stage) == []


@pytest.mark.parametrize("target", ["Ascend", "GPU"])
@pytest.mark.parametrize("index", ["SLURM_NODEID", "VC_TASK_INDEX", "JOB_COMPLETION_INDEX"])
def test_every_schedulers_numbering_is_known(stage, target, index):
    names = {"TARGET": target, "RANKS": "1", "DATA_PATH": str(stage.data), "RUN_DIR": str(stage.folder / "run")}
    names |= {"NODE_NUM": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "8300", index: "1"}
    succeeds(stage.run("bash", "scripts/cluster/node.sh", **names))
    (call,) = stage.calls("python")
    assert (call.environment["RANK_ID"], call.value("device_target")) == ("1", target)
    assert "--node_rank=1" in stage.calls("msrun")[0].arguments


def test_missing_variables_are_named(stage):
    assert "RANKS: is the number of ranks" in stage.run("bash", "scripts/cluster/node.sh", TARGET="CPU").stderr
    names = {"TARGET": "TPU", "RANKS": "1", "DATA_PATH": "d", "RUN_DIR": "r"}
    result = stage.run("bash", "scripts/cluster/node.sh", **names)
    assert result.returncode == 2 and "not 'TPU'" in result.stderr
    assert stage.run("bash", "scripts/cluster/train.sbatch").returncode == 2


def pod_of(document: dict) -> dict:
    """The pod template of a job."""
    return document["spec"]["tasks"][0]["template"] if "tasks" in document["spec"] else document["spec"]["template"]


@pytest.mark.parametrize("name", ["volcano.yaml", "kubernetes.yaml"])
def test_kubernetes_jobs(name, stage):
    documents = list(yaml.safe_load_all((CLUSTER / name).read_text()))
    assert all({"apiVersion", "kind", "metadata", "spec"} <= document.keys() for document in documents)
    job = documents[-1]
    spec = pod_of(job)["spec"]
    (container,) = spec["containers"]
    variables = {each["name"]: each["value"] for each in container["env"]}
    assert all(isinstance(value, str) for value in variables.values())  # Kubernetes takes text only
    mounted = {mount["name"] for mount in container["volumeMounts"]}
    assert mounted == {volume["name"] for volume in spec["volumes"]}
    assert container["resources"]["limits"]["huawei.com/Ascend910"] == variables["RANKS"]
    if name == "volcano.yaml":
        (task,) = job["spec"]["tasks"]
        assert int(variables["NODE_NUM"]) == task["replicas"] == job["spec"]["minAvailable"]
        assert task["name"] == "node" and {"env", "svc"} <= job["spec"]["plugins"].keys()
        variables |= {"VC_TASK_INDEX": "0", "VC_NODE_HOSTS": "127.0.0.1,other"}
    else:
        service = documents[0]
        assert int(variables["NODE_NUM"]) == job["spec"]["completions"] == job["spec"]["parallelism"]
        assert variables["MASTER_ADDR"] == f"{job['metadata']['name']}-0.{service['metadata']['name']}"
        assert spec["subdomain"] == service["metadata"]["name"]
        variables |= {"JOB_COMPLETION_INDEX": "0", "MASTER_ADDR": "127.0.0.1"}
    recipe = load_config("mnasnet_ascend_8p")
    assert recipe.model == "mnasnet"
    words = [*container["command"], *container.get("args", [])]
    assert "mnasnet_ascend_8p" in " ".join(words)
    variables |= {"DATA_PATH": str(stage.data), "RUN_DIR": str(stage.folder / "run"), "MASTER_PORT": "8301"}
    succeeds(stage.run(*words, **variables))
    calls = stage.calls("python")
    assert len(calls) == 8
    assert {call.environment["RANK_SIZE"] for call in calls} == {"16"}
    assert "--master_addr=127.0.0.1" in stage.calls("msrun")[0].arguments
    assert Path(calls[0].value("run_dir")) == stage.folder / "run"
