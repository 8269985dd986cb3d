"""``python -m bench.soak``: one process that trains for 200 epochs of a tiny set, and what it holds meanwhile.

Memory, threads and open files after each epoch, and how long training waited for its saves. After the first ten epochs
they are to be flat: what grows with the epochs would end a long run.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

import numpy as np

import train
from src.errors import run
from src.runs.checkpoint import CheckpointFolder
from src.training.trainer import Trainer
from tests.images import class_folders

WARM = 10  # epochs


class Held(NamedTuple):
    """What the process holds.

    Attributes:
        memory: resident, MB. threads, files: numbers of them.
    """

    memory: float
    threads: int
    files: int


def held() -> Held:
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    files = sum(1 for _ in Path("/proc/self/fd").iterdir()) - 1
    return Held(int(status["VmRSS"].split()[0]) / 1024, int(status["Threads"]), files)


def main(argv: list[str]) -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.soak", description=__doc__.splitlines()[0])
    parser.add_argument("--epochs", type=int, default=200)
    parser.add_argument("--model", default="shufflenetv1")
    given = parser.parse_args(argv)
    after: list[Held] = []
    saves: list[float] = []
    save, finish = CheckpointFolder.save, Trainer._finish_epoch

    def timed_save(self: CheckpointFolder, *arguments, **options) -> Path:
        start = time.perf_counter()
        path = save(self, *arguments, **options)
        saves.append(time.perf_counter() - start)
        return path

    def noted_finish(self: Trainer, *arguments) -> None:
        finish(self, *arguments)
        after.append(held())

    CheckpointFolder.save, Trainer._finish_epoch = timed_save, noted_finish
    with tempfile.TemporaryDirectory() as folder:
        for split, count in (("train", 8), ("val", 4)):
            class_folders(Path(folder) / split, per_class=count, classes=2, height=32, width=32)
        words = f"--data_path {folder} --run_dir {folder}/run --epochs {given.epochs} --batch_size 8 --workers 1"
        start = time.perf_counter()
        train.main([*words.split(), "--model", given.model, *RECIPE.split()])
        seconds = time.perf_counter() - start
    print(report(after, saves, seconds))


RECIPE = "--image_size 32 --lr 0.01 --log_steps 1000 --device_target CPU --save_checkpoint_epochs 1"


def report(after: list[Held], saves: list[float], seconds: float) -> str:
    lines = [f"{len(after)} epochs in {seconds:.0f} s on {os.cpu_count()} CPUs"]
    for epoch in sorted({1, WARM, len(after) // 2, len(after)}):
        now = after[epoch - 1]
        lines.append(f"after epoch {epoch:>4}: {now.memory:7.1f} MB, {now.threads} threads, {now.files} open files")
    warm = after[WARM:]
    slope = np.polyfit(range(len(warm)), [now.memory for now in warm], 1)[0] * 1024 if len(warm) > 1 else float("nan")
    lines.append(
        f"after the first {WARM}: {slope:+.1f} KB an epoch, "
        f"{min(now.threads for now in warm)} to {max(now.threads for now in warm)} threads, "
        f"{min(now.files for now in warm)} to {max(now.files for now in warm)} open files"
    )
    lines.append(
        f"{len(saves)} saves: median {1000 * statistics.median(saves):.0f} ms, longest {1000 * max(saves):.0f} ms, "
        f"{sum(saves) / seconds:.1%} of the time"
    )
    return "\n".join(lines)


if __name__ == "__main__":
    run(main)
