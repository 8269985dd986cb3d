"""The three commands of SPOS, each taking what the one before it left; no file is edited between them."""

from __future__ import annotations

import csv
import json

import mindspore
import pytest

import eval as evaluation
import search
import train
from src.config import load_config
from src.errors import UsageError

COMMON = "--mode pynative --workers 2 --check_data False --batch_size 4"


@pytest.fixture(autouse=True)
def own_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    yield
    mindspore.set_context(mode=mindspore.PYNATIVE_MODE)


def supernet(photos, run, words: str = "") -> None:
    recipe = f"--config_path spos_supernet_digits --data_path {photos} --run_dir {run} --calibration_images 8"
    train.main(f"{recipe} {COMMON} --epochs 1 --channel_start_epoch 0 --search_holdout 0.25 {words}".split())


@pytest.mark.slow
def test_supernet_search_and_the_found_network(photos, tmp_path, capsys):
    space, found, alone = tmp_path / "space", tmp_path / "found", tmp_path / "alone"
    supernet(photos, space)
    printed = capsys.readouterr().out
    assert "6 training images are held out for the search" in printed
    for name in ("smallest", "largest", "random 1", "random 3"):
        assert f"path {name} (" in printed
    assert f"next: python search.py --supernet {space}" in printed
    assert json.loads((space / "result.json").read_text())["updates"] == 18 // 4

    words = f"--supernet {space} --data_path {photos} --run_dir {found} {COMMON} --calibration_images 8"
    sizes = "--search_population 3 --search_generations 2 --search_retain 2"
    search.main(f"--config_path spos_search_digits {words} {sizes}".split())
    printed = capsys.readouterr().out
    assert "scored on 6 training images held out" in printed
    rows = list(csv.DictReader((found / "candidates.csv").open()))
    assert len(rows) >= 3
    assert max(float(row["flops"]) for row in rows) <= 0.9
    best = max(rows, key=lambda row: float(row["accuracy"]))
    assert all((found / name).stat().st_size for name in ("index.html", "accuracy.png", "choices.png"))

    recipe = load_config(str(found / "best.yaml"))
    assert not recipe.train_supernet
    chosen = " ".join(map(str, recipe.model_options["block_choices"]))
    assert float(best["accuracy"]) in [float(row["accuracy"]) for row in rows if row["blocks"] == chosen]
    train.main(f"--config_path {found}/best.yaml --data_path {photos} --run_dir {alone} {COMMON} --max_steps 2".split())
    result = json.loads((alone / "result.json").read_text())
    assert (result["model"], result["updates"], result["num_classes"]) == ("spos_oneshot", 2, 3)


@pytest.mark.slow
def test_a_resumed_supernet_is_the_uninterrupted_one(photos, tmp_path):
    from src.checkpoint import CheckpointFolder, read_checkpoint

    def last(run):
        return read_checkpoint(CheckpointFolder(run / "checkpoints").pointed("last"))

    supernet(photos, tmp_path / "whole", "--eval_epochs 0 --max_steps 4")
    supernet(photos, tmp_path / "parts", "--eval_epochs 0 --max_steps 2")
    supernet(photos, tmp_path / "parts", "--eval_epochs 0 --max_steps 4 --resume auto")
    whole, parts = last(tmp_path / "whole"), last(tmp_path / "parts")
    for expected, got in ((whole.weights, parts.weights), (whole.state, parts.state)):
        assert expected.keys() == got.keys()
        assert [name for name in expected if expected[name].tobytes() != got[name].tobytes()] == []


@pytest.mark.slow
def test_a_supernet_has_no_accuracy_of_its_own(photos, tmp_path):
    supernet(photos, tmp_path / "space", "--max_steps 1 --eval_epochs 0")
    with pytest.raises(UsageError, match=r"search\.py --supernet"):
        evaluation.main(f"--checkpoint_path {tmp_path}/space --val_data_path {photos}/val --mode pynative".split())
