"""Two real processes on the CPU, started by msrun and by OpenMPI, against one."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from tests.images import class_folders
from tests.launch.conftest import ROOT

pytestmark = pytest.mark.slow


def environment(**extra: str) -> dict[str, str]:
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    return {**os.environ, "PATH": path, "PYTHONPATH": str(ROOT), "VIRTUAL_ENV": sys.prefix, **extra}


def launch(folder: Path, images: Path, *options: str) -> Path:
    """Runs tests/scripts/two_ranks.py and returns the folder with its results."""
    folder.mkdir()
    program = ROOT / "tests" / "launch" / "two_ranks.py"
    words = [sys.executable, ROOT / "src" / "launch" / "launcher.py", "--makes_run", *options]
    # The launcher keeps its logs in --run_dir; the program reads its first two arguments only.
    result = subprocess.run(
        [*map(str, words), str(program), str(images), str(folder), "--run_dir", str(folder / "run")],
        env=environment(),
        capture_output=True,
        text=True,
        timeout=170,
    )
    assert result.returncode == 0, result.stdout + result.stderr
    return folder


@pytest.fixture(scope="module")
def images(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("images")
    class_folders(folder, per_class=11, classes=3, height=32, width=32)
    return folder


@pytest.fixture(scope="module")
def alone(images, tmp_path_factory) -> Path:
    return launch(tmp_path_factory.mktemp("alone") / "results", images)


LAUNCHERS = [
    "msrun",
    pytest.param(
        "mpirun",
        marks=pytest.mark.skipif(not shutil.which("mpirun"), reason="OpenMPI is absent: apt-get install openmpi-bin"),
    ),
]


@pytest.fixture(scope="module", params=LAUNCHERS)
def together(request, images, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp(request.param) / "results"
    return launch(folder, images, "--launcher", request.param, "--ranks", "2")


def test_two_ranks_train_as_one(alone, together):
    first, second, single = (np.load(path) for path in (together / "0.npz", together / "1.npz", alone / "0.npz"))
    assert sorted(first) == sorted(single)
    for name in single:
        assert (first[name] == second[name]).all(), name
        np.testing.assert_allclose(first[name], single[name], rtol=0, atol=1e-5, err_msg=name)


def test_two_ranks_evaluate_as_one(alone, together):
    single = json.loads((alone / "0.json").read_text())["evaluation"]
    for rank in range(2):
        figures = json.loads((together / f"{rank}.json").read_text())
        assert figures["evaluation"] == single
        assert figures["sum"] == [3, 0.2]
        assert figures["equal"] == [True, False]
        assert figures["counts"] == [[3, 2**41 + 2]]
    assert [count for *_, count, _ in single] == list(range(1, 34))


def test_an_overflow_on_one_rank_skips_the_step_on_both(together):
    first, second = (json.loads((together / f"{rank}.json").read_text())["overflow"] for rank in range(2))
    assert first == [False, False, True]
    assert second == [False, False, False]  # batch-norm statistics are each rank's own


def start_training(folder: Path, data: Path) -> subprocess.Popen:
    words = ["bash", ROOT / "scripts/run_distribute_train_cpu.sh", "2", data, "mnasnet_cpu", "--run_dir", folder]
    small = ["--epochs", "500", "--batch_size", "2", "--eval_epochs", "0", "--image_size", "32", "--log_steps", "1"]
    return subprocess.Popen(
        [*map(str, words), *small],
        env=environment(LAUNCH_GRACE="60"),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def wait_for_steps(folder: Path) -> None:
    deadline = time.monotonic() + 150
    log = folder / "log.txt"
    while not (log.is_file() and "loss is" in log.read_text()):
        assert time.monotonic() < deadline, "no training step within 150 s"
        time.sleep(0.2)


def pids_of(folder: Path) -> list[int]:
    return [int(pid) for path in (folder / "logs").glob("*.pid") for pid in path.read_text().split()]


def test_killing_a_rank_ends_training_and_names_it(photos, tmp_path):
    process = start_training(tmp_path / "run", photos)
    try:
        wait_for_steps(tmp_path / "run")
        pids = pids_of(tmp_path / "run")
        start = time.monotonic()
        os.kill(int((tmp_path / "run/logs/rank_1.pid").read_text().split()[1]), signal.SIGKILL)
        _, err = process.communicate(timeout=60)
        assert time.monotonic() - start < 15
    finally:
        process.kill()
    assert process.returncode == 1
    assert "rank 1 was ended by SIGKILL" in err
    assert [pid for pid in pids if Path(f"/proc/{pid}").exists()] == []


def test_sigterm_saves_a_checkpoint_and_ends_all_ranks(photos, tmp_path):
    process = start_training(tmp_path / "run", photos)
    try:
        wait_for_steps(tmp_path / "run")
        pids = pids_of(tmp_path / "run")
        process.terminate()
        _, err = process.communicate(timeout=90)
    finally:
        process.kill()
    assert process.returncode == 143, err
    assert list((tmp_path / "run/checkpoints").glob("*.ckpt")), err
    assert [pid for pid in pids if Path(f"/proc/{pid}").exists()] == []
