"""A training process that is stopped or killed, and started again."""

from __future__ import annotations

import os
import queue
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import train
from src.runs.checkpoint import LAST, Checkpoint, CheckpointFolder, list_checkpoints, read_checkpoint

KILLS, STOPS = 28, (4, 12, 20)  # three of them are SIGTERM
PATIENCE = 300  # seconds; a start of the framework takes long on a busy machine
RUN = "--model tiny --batch_size 4 --lr 0.05 --workers 1 --check_data False --log_steps 1 --eval_batch_size 4"


class Process:
    """``train.py`` in a process of its own; its lines can be waited for."""

    def __init__(self, root: Path, place: Path, *words: str):
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.tiny", "train", *words],
            cwd=place,
            env={**os.environ, "PYTHONPATH": str(root)},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self.lines: list[str] = []
        self._unread: queue.Queue[str] = queue.Queue()
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        for line in self._process.stdout:
            self.lines.append(line.rstrip("\n"))
            self._unread.put(line)

    def wait_for(self, is_it: Callable[[str], bool]) -> None:
        """Waits for the next line that ``is_it``."""
        deadline = time.monotonic() + PATIENCE
        while not is_it(self._unread.get(timeout=max(deadline - time.monotonic(), 0.01))):
            pass

    def send(self, signum: int) -> None:
        self._process.send_signal(signum)

    def end(self) -> int:
        """The exit status, once it is there."""
        return self._process.wait(PATIENCE)

    def __enter__(self) -> Process:
        return self

    def __exit__(self, *_) -> None:
        self._process.kill()
        self._process.wait(PATIENCE)


def newest(run: Path) -> Checkpoint:
    return read_checkpoint(CheckpointFolder(run / "checkpoints").newest_valid()[0])


def assert_same_end(run: Path, undisturbed: Path) -> None:
    one, other = newest(run), newest(undisturbed)
    for arrays, others in ((one.weights, other.weights), (one.state, other.state)):
        assert arrays.keys() == others.keys()
        for name, array in arrays.items():
            np.testing.assert_array_equal(array, others[name], err_msg=name, strict=True)
    columns = ("epoch", "step", "lr", "train_loss", "val_loss", "top1", "top5")
    histories = [checkpoint.meta["position"]["history"] for checkpoint in (one, other)]
    assert [[row[key] for key in columns] for row in histories[0]] == [
        [row[key] for key in columns] for row in histories[1]
    ]


def is_step(line: str) -> bool:
    return line.startswith("epoch: ") and "loss is" in line


def test_stopped_by_signals_and_resumed(root, photos, tiny_model, tmp_path):
    """SIGTERM ends with 143, Ctrl-C with 130 or (MindSpore may turn it into SIGTERM) 143, each with a checkpoint."""
    words = [*RUN.split(), "--data_path", str(photos), "--epochs", "30"]
    run = tmp_path / "run"
    start = [*words, "--run_dir", str(run)]
    stops = ((signal.SIGTERM, {143}, []), (signal.SIGINT, {130, 143}, ["--resume", "auto"]))
    for signum, statuses, more in stops:
        with Process(root, tmp_path, *start, *more) as process:
            for _ in range(3):
                process.wait_for(is_step)
            process.send(signum)
            assert process.end() in statuses
            steps = [line for line in process.lines if is_step(line)]
            assert any(line.startswith("stopped by a signal (SIG") for line in process.lines)
            assert not any("Traceback" in line for line in process.lines)
        files = CheckpointFolder(run / "checkpoints")
        assert files.pointed(LAST) == files.newest_valid()[0]
        assert not list(files.path.glob(".*"))
        position = newest(run).meta["position"]
        assert 3 <= position["epoch"] * 6 + position["step"] < 180
        assert len(steps) >= 3
        assert not (run / "result.json").exists()
    with Process(root, tmp_path, "--resume", str(run)) as process:
        assert process.end() == 0
        assert any(line.startswith("going on from ") for line in process.lines)
    train.main([*words, "--run_dir", str(tmp_path / "undisturbed")])
    assert_same_end(run, tmp_path / "undisturbed")


@pytest.mark.slow
def test_killed_again_and_again_and_resumed(root, photos, tiny_model, tmp_path):
    """One run, a checkpoint after each step, SIGKILL at random moments: its start, its steps, its writing.

    It evaluates nothing: a kill in each start's first evaluation, which compiles, would leave it where it is.
    """
    rng = random.Random(11)
    words = [*RUN.split(), "--data_path", str(photos / "alone"), "--epochs", "60", "--save_checkpoint_steps", "1"]
    run = tmp_path / "run"
    reached, in_writing = [], 0
    for kill in range(KILLS):
        with Process(root, tmp_path, *words, "--run_dir", str(run), "--resume", "auto") as process:
            if kill % 7 == 6 and kill not in STOPS:
                time.sleep(rng.uniform(0, 6))
            else:
                process.wait_for(is_step)
                time.sleep(rng.uniform(0, 0.5))
            process.send(signal.SIGTERM if kill in STOPS else signal.SIGKILL)
            assert process.end() == (143 if kill in STOPS else -signal.SIGKILL)
        if (run / "checkpoints").is_dir():
            in_writing += bool(list((run / "checkpoints").glob(".saving-*")))
            for path in list_checkpoints(run / "checkpoints"):
                read_checkpoint(path)
            position = newest(run).meta["position"]
            reached.append(position["epoch"] * 6 + position["step"])
    assert reached == sorted(reached)
    assert len(set(reached)) > KILLS // 2
    assert reached[-1] < 360, "the run was over before the last kill"
    assert in_writing >= 2
    with Process(root, tmp_path, "--run_dir", str(run), "--resume", "auto") as process:
        assert process.end() == 0
    train.main([*words, "--run_dir", str(tmp_path / "undisturbed")])
    assert_same_end(run, tmp_path / "undisturbed")
