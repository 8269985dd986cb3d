"""From the weights of one data set to the classes of another: split, train, evaluate."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

import eval as evaluation
import train
from src.data import split
from src.runs.folder import checkpoints_of
from tests.images import class_folders

SMALL = ["--batch_size", "8", "--epochs", "1", "--workers", "1", "--check_data", "False", "--mode", "pynative"]


@pytest.fixture(scope="module")
def taught(photos, tiny_model, tmp_path_factory) -> Path:
    """A run on three classes."""
    folder = tmp_path_factory.mktemp("taught") / "run"
    train.main(["--model", "tiny", "--data_path", str(photos), "--run_dir", str(folder), *SMALL])
    return folder


def test_pretrained_weights_learn_other_classes(taught, tmp_path, capsys):
    flowers = class_folders(tmp_path / "flowers", per_class=6, classes=5, height=32, width=32)
    split.main([str(flowers), str(tmp_path / "split")])
    (checkpoint,) = checkpoints_of(str(taught))
    run = tmp_path / "run"
    words = ["--model", "tiny", "--data_path", tmp_path / "split", "--pretrained", checkpoint, "--run_dir", run, *SMALL]
    train.main([str(word) for word in words])
    said = f"starting from the weights of {checkpoint} without its classifier.weight and classifier.bias"
    assert f"{said}, which start afresh for 5 classes" in capsys.readouterr().out
    evaluation.main(["--checkpoint_path", str(run), "--json", str(tmp_path / "e.json"), "--mode", "pynative"])
    assert json.loads((tmp_path / "e.json").read_text())["images"] == 5


def test_as_many_classes_keep_the_classifier(taught, photos, tmp_path, capsys):
    shutil.copytree(photos / "train", tmp_path / "others" / "train")
    (checkpoint,) = checkpoints_of(str(taught))
    words = ["--model", "tiny", "--data_path", tmp_path / "others", "--pretrained", checkpoint, "--run_dir", tmp_path]
    train.main([str(word) for word in [*words, *SMALL]])
    assert f"starting from the weights of {checkpoint}\n" in capsys.readouterr().out
