"""The CPU launchers for real, on a copy of the repository that has one network more: two processes against one.

The one is this process: test_launchers.py says what the launchers make of a single rank.
"""

from __future__ import annotations

import csv
import json
import os
import shutil
import subprocess
from pathlib import Path

import mindspore as ms
import numpy as np
import pytest

import eval as evaluation
import train
from src.cpu.build import cache_folder
from src.runs.checkpoint import Checkpoint, list_checkpoints, read_checkpoint
from tests.images import class_folders
from tests.launch.conftest import ROOT
from tests.launch.test_two_ranks import environment

# No augmentation and no dropout: what a step computes then depends on its images alone.
RECIPE = """\
model: tiny
model_options: {dropout: 0.0}
batch_size: 8
workers: 1
crop_scale: [1.0, 1.0]
crop_ratio: [1.0, 1.0]
horizontal_flip: 0.0
lr: 0.05
lr_schedule: constant
epochs: 9
max_steps: 20
eval_epochs: 0
device_target: CPU
"""


@pytest.fixture(scope="module")
def repository(tmp_path_factory) -> Path:
    """A repository with the network of tests/tiny.py among its own, as CONTRIBUTING.md says to add one."""
    folder = tmp_path_factory.mktemp("a repository")
    for name in ("src", "scripts", "configs"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("train.py", "eval.py", "default_config.yaml"):
        shutil.copy(ROOT / name, folder / name)
    module = (ROOT / "tests" / "tiny.py").read_text().partition("\n\nif __name__")[0]
    (folder / "src/models/tiny.py").write_text(f"{module}\n\nfrom src.models import register\n\nregister(ENTRY)\n")
    (folder / "configs" / "tiny_cpu.yaml").write_text(RECIPE)
    return folder


def start(repository: Path, script: str, *words: str | Path) -> str:
    """What a launcher printed; it must succeed."""
    result = subprocess.run(
        ["bash", f"scripts/{script}", *map(str, words)],
        cwd=repository,
        env=environment(
            NETWORK="tiny",
            PYTHONPATH="",
            XDG_CACHE_HOME=str(repository / "cache"),
            NAS_CPU_CACHE=str(cache_folder()),  # the operators are built once on a machine
        ),
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout


def weights_of(run: Path) -> Checkpoint:
    (path,) = list_checkpoints(run / "checkpoints")[-1:]
    return read_checkpoint(path)


@pytest.fixture(scope="module")
def trained(repository, photos) -> Path:
    """A run of two processes: batches of 4 each, 20 steps, into the seventh epoch."""
    run = repository / "two processes"
    words = (photos, "--sync_batch_norm", "true", "--batch_size", "4", "--run_dir", run)
    printed = start(repository, "run_distribute_train_cpu.sh", "2", *words)
    assert "all 2 ranks hold the same weights" in printed
    assert f"CPU, {max(len(os.sched_getaffinity(0)) // 2, 1)} cores" in printed
    assert "SyncBatchNorm" in printed and "MindSpore's own are used instead" in printed  # why not the fused operators
    return run


def test_two_processes_train_as_one_on_the_joint_batch(tiny_model, repository, photos, trained):
    alone = repository / "one process"
    recipe = repository / "configs" / "tiny_cpu.yaml"
    train.main(["--config_path", str(recipe), "--data_path", str(photos), "--run_dir", str(alone)])
    single, double = weights_of(alone), weights_of(trained)
    assert double.meta["position"]["epoch"] == 6 and double.meta["position"]["step"] == 2
    assert sorted(double.weights) == sorted(single.weights)
    for name, array in single.weights.items():
        np.testing.assert_allclose(double.weights[name], array, rtol=0, atol=1e-5, err_msg=name)


def evaluated(repository: Path, trained: Path, images: Path, ranks: int) -> dict:
    """What run_eval_cpu.sh with two ranks or eval.py in this process finds on a folder's images, without the speed."""
    result = repository / f"{images.name}-{ranks}.json"
    words = [str(word) for word in ("--batch_size", 4, "--json", result)]
    if ranks > 1:
        start(repository, "run_eval_cpu.sh", images, trained, "--ranks", ranks, *words)
    else:
        evaluation.main(["--val_data_path", str(images), "--checkpoint_path", str(trained), *words])
        ms.set_context(mode=ms.PYNATIVE_MODE)
    figures = json.loads(result.read_text())
    return {key: figures[key] for key in ("loss", "top1", "top5", "images", "total")}


@pytest.mark.slow
def test_ranks_with_statistics_of_their_own_judge_by_those_that_are_saved(tiny_model, repository, photos, tmp_path):
    data, run = tmp_path / "data", repository / "own statistics"
    class_folders(data / "train", per_class=9, height=32, width=32)
    class_folders(data / "val", per_class=5, height=32, width=32)
    words = (data, "--batch_size", "4", "--epochs", "1", "--eval_epochs", "1", "--run_dir", run)
    start(repository, "run_distribute_train_cpu.sh", "2", *words)
    with (run / "metrics.csv").open() as file:
        (row,) = csv.DictReader(file)
    figures = evaluated(repository, run, data / "val", 1)
    assert float(row["val_loss"]) == pytest.approx(figures["loss"], rel=1e-5)
    assert float(row["top1"]) == pytest.approx(figures["top1"])


# A folder needs an image of each of the three classes; test_two_ranks.py has all numbers from 1.
COUNTS = [13, *(pytest.param(count, marks=pytest.mark.slow) for count in (3, 4, 17, 32, 33))]


@pytest.mark.parametrize("count", COUNTS)
def test_two_processes_evaluate_as_one(tiny_model, repository, trained, tmp_path, count):
    folder = class_folders(tmp_path / f"val{count}", per_class=11, height=32, width=32)
    for path in sorted(folder.rglob("*.jpg"), key=lambda path: (int(path.stem), path.parent))[count:]:
        path.unlink()
    single, double = (evaluated(repository, trained, folder, ranks) for ranks in (1, 2))
    assert single == double
    assert double["images"] == double["total"] == count
