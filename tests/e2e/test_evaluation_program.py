"""eval.py on a file, a folder of checkpoints and a run, and the files it writes."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest
from PIL import Image

import eval as evaluation
import train
from src.runs.checkpoint import CheckpointFolder, list_checkpoints
from src.settings.config import load_config

CONTRACT = {
    "model",
    "checkpoint",
    "loss",
    "cross_entropy",
    "label_smoothing",
    "top1",
    "top5",
    "images",
    "total",
    "images_per_second",
    "preprocessing",
}


@pytest.fixture(scope="module")
def finished(photos, tiny_model, tmp_path_factory) -> Path:
    """A run of three epochs on data whose path it remembers."""
    folder = tmp_path_factory.mktemp("finished") / "run"
    words = f"--model tiny --data_path {photos} --batch_size 4 --epochs 3 --eval_batch_size 8 --run_dir {folder}"
    train.main(f"{words} --workers 1 --label_smoothing 0.2 --image_size 48 --check_data False".split())
    return folder


def evaluate(*words: str | Path) -> None:
    evaluation.main([*map(str, words), "--workers", "1", "--check_data", "False", "--mode", "pynative"])


def test_a_run_gives_what_training_measured(finished, tmp_path, capsys):
    evaluate("--checkpoint_path", finished, "--eval_batch_size", "8", "--json", tmp_path / "out.json")
    result = json.loads((tmp_path / "out.json").read_text())
    assert result.keys() >= CONTRACT
    best = CheckpointFolder(finished / "checkpoints").pointed("best")
    assert result["checkpoint"] == str(best)
    epoch = int(best.stem.split("-")[1].split("_")[0])
    with (finished / "metrics.csv").open(newline="") as file:
        trained = list(csv.DictReader(file))[epoch - 1]
    assert (result["top1"], result["top5"]) == (float(trained["top1"]), float(trained["top5"]))
    assert result["loss"] == pytest.approx(float(trained["val_loss"]), rel=1e-4)
    assert (result["model"], result["images"], result["total"]) == ("tiny", 13, 13)
    assert result["images_per_second"] > 0
    assert result["preprocessing"]["image_size"] == 48
    printed = capsys.readouterr().out
    assert "13 of 13 images" in printed
    assert "preprocessing: resize 56" in printed


def test_the_loss_can_be_another_than_the_runs_and_the_plain_one_stands_beside(finished, tmp_path, capsys):
    found = {}
    for smoothing in ("", "0", "0.1"):
        words = ["--label_smoothing", smoothing] if smoothing else []
        evaluate("--checkpoint_path", finished, "--json", tmp_path / "out.json", *words)
        found[smoothing] = json.loads((tmp_path / "out.json").read_text())
    assert [found[given]["label_smoothing"] for given in found] == [0.2, 0.0, 0.1]
    plain = {result["cross_entropy"] for result in found.values()}
    assert len(plain) == 1 and found["0"]["loss"] == pytest.approx(*plain, rel=1e-5)
    assert len({result["loss"] for result in found.values()}) == 3
    assert capsys.readouterr().out.count(" without smoothing") == 2


@pytest.mark.parametrize("given", [{}, {"data_path": "elsewhere"}, {"val_data_path": "elsewhere"}])
def test_the_checkpoints_own_data_serve_only_where_none_are_named(finished, photos, given):
    """A recipe can name data too: on eval.py's command line both flags mean the validation images."""
    path = list_checkpoints(finished / "checkpoints")[0]
    config, _ = evaluation.as_trained(path, load_config("", given))
    expected = {"data_path": "", "val_data_path": "", **(given or {"data_path": str(photos)})}
    assert {key: config[key] for key in expected} == expected


def test_a_folder_is_evaluated_in_order_and_the_best_is_marked(finished, tmp_path, capsys):
    checkpoints = list_checkpoints(finished / "checkpoints")
    assert len(checkpoints) == 3
    evaluate("--ckpt_path", finished / "checkpoints", "--json", tmp_path / "o.json", "--csv", tmp_path / "o.csv")
    content = json.loads((tmp_path / "o.json").read_text())
    assert [result["checkpoint"] for result in content["all"]] == [str(path) for path in checkpoints]
    assert all(result.keys() >= CONTRACT for result in content["all"])
    best = max(content["all"], key=lambda result: result["top1"])
    assert (content["checkpoint"], content["top1"]) == (best["checkpoint"], best["top1"])
    lines = capsys.readouterr().out.splitlines()
    assert lines[-1].startswith(f"3 checkpoints; best top-1 {best['top1']:.2%}: {best['checkpoint']}")
    assert "(best so far)" in next(line for line in lines if line.startswith(best["checkpoint"]))
    with (tmp_path / "o.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["checkpoint"] for row in rows] == [str(path) for path in checkpoints]
    assert [float(row["top1"]) for row in rows] == [result["top1"] for result in content["all"]]


def test_a_file_and_a_table_for_each_class(finished, photos, tmp_path, capsys):
    checkpoint = list_checkpoints(finished / "checkpoints")[0]
    evaluate(
        *("--checkpoint_path", checkpoint, "--val_data_path", photos / "val"),
        *("--per_class", "True", "--json", tmp_path / "new" / "out.json"),
    )
    result = json.loads((tmp_path / "new" / "out.json").read_text())
    assert result["checkpoint"] == str(checkpoint)
    with (tmp_path / "new" / "per_class.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(row["class"], int(row["images"])) for row in rows] == [("class0", 5), ("class1", 4), ("class2", 4)]
    assert sum(float(row["top1"]) * int(row["images"]) for row in rows) == pytest.approx(13 * result["top1"])
    with Image.open(tmp_path / "new" / "confusion.png") as picture:
        picture.verify()
    assert "per-class accuracies: " in capsys.readouterr().out
