"""A run whose images go while it trains: it saves where it is, stops with their name, and goes on to the bit."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

import train
from src.data.reading import ImageLost
from src.runs.checkpoint import CheckpointFolder, read_checkpoint
from src.training.trainer import Trainer

RUN = "--model tiny --batch_size 4 --lr 0.05 --workers 1 --epochs 3 --log_steps 1 --run_dir {run} --data_path {images}"


def newest(run: str):
    return read_checkpoint(CheckpointFolder(Path(run) / "checkpoints").newest_valid()[0])


@pytest.mark.slow
@pytest.mark.parametrize("is_of_validation", [False, True])
def test_a_run_stops_saved_at_a_lost_image_and_goes_on_when_it_is_back(
    tmp_path, photos, tiny_model, monkeypatch, is_of_validation
):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    shutil.copytree(photos, "images", symlinks=True)
    lost = Path("images/val/class1/3.jpg" if is_of_validation else "images/train/class1/3.jpg")
    train.main(RUN.format(run="whole", images="images").split())
    finish = Trainer._finish_epoch

    def finish_and_lose(self, *arguments) -> None:
        finish(self, *arguments)
        if self._at.epoch == 1:
            lost.rename("kept.jpg")

    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "_finish_epoch", finish_and_lose)
        with pytest.raises(ImageLost, match=lost.name):
            train.main(RUN.format(run="run", images="images").split())
    position = newest("run").meta["position"]
    assert (position["epoch"], position["loss_count"]) == (1, position["step"])
    Path("kept.jpg").rename(lost)
    train.main(["--resume", "run"])
    one, other = newest("run"), newest("whole")
    for name, array in {**other.weights, **other.state}.items():
        np.testing.assert_array_equal({**one.weights, **one.state}[name], array, err_msg=name, strict=True)
    keys = ("train_loss", "val_loss", "top1")
    assert [[row[key] for key in keys] for row in one.meta["position"]["history"]] == [
        [row[key] for key in keys] for row in other.meta["position"]["history"]
    ]
