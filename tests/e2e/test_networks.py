"""Every network of the registry from training to evaluation; those added later are picked up."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import mindspore
import numpy as np
import pytest

import eval as evaluation
import train
from src.data.sample import write_sample
from src.models import list_models
from src.runs.checkpoint import CheckpointFolder, read_checkpoint
from tests.watched import watch_training

# Options of a smaller form, where there is one.
SMALL = {"mnasnet": {"alpha": 0.5}, "shufflenetv1": {"size": "0.5x"}}
# Those whose parts spos_oneshot_plus has as well.
ALIKE = dict.fromkeys(("spos_oneshot", "spos_oneshot_s_plus"), pytest.mark.slow)
# The defaults, not each network's own recipe: these tests compare networks.
COMMON = "--config_path plain.yaml --image_size 32 --eval_resize 32 --workers 2 --check_data False"


@pytest.fixture(autouse=True)
def own_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "plain.yaml").touch()
    yield
    mindspore.set_context(mode=mindspore.PYNATIVE_MODE)


@pytest.fixture
def losses(monkeypatch) -> list[float]:
    """The loss of each training step, as it comes."""
    seen: list[float] = []
    watch_training(monkeypatch, seen.append)
    return seen


# Of an evaluation's result in the words of the network's document.
BEGINNINGS = {
    "mnasnet": " * Acc@1 ",
    "proxylessnas_mobile": "acc=",
    "shufflenetv1": "result:{'Loss': ",
    "spnasnet": "model ",
}


def start(name: str, data: Path, run: Path, words: str) -> None:
    options = [f"--model_options.{key}={value}" for key, value in SMALL.get(name, {}).items()]
    train.main([*f"--model {name} {COMMON} --data_path {data} --run_dir {run} {words}".split(), *options])


def result_of(run: Path, words: str = "") -> dict:
    evaluation.main(f"--checkpoint_path {run} --json {run}/out.json --check_data False --workers 2 {words}".split())
    return json.loads((run / "out.json").read_text())


@pytest.mark.parametrize("name", [pytest.param(name, marks=ALIKE.get(name, ())) for name in list_models()])
def test_from_training_to_evaluation(name, photos, tmp_path, monkeypatch, capsys):
    """Without compiling a graph, which takes ten times as long as the two steps."""
    monkeypatch.chdir(tmp_path)
    run = tmp_path / "run"
    start(name, photos, run, "--mode pynative --batch_size 4 --lr 0.001 --max_steps 2")
    checkpoint = read_checkpoint(CheckpointFolder(run / "checkpoints").newest_valid()[0])
    assert checkpoint.meta["model"] == name
    assert checkpoint.state["global_step"] == 2
    capsys.readouterr()
    result = result_of(run, "--mode pynative --eval_batch_size 8")
    said = capsys.readouterr().out
    assert f"\n{BEGINNINGS.get(name, '')}" in said
    assert (tmp_path / "eval_log.txt").exists() == (name == "shufflenetv1")
    assert (result["model"], result["images"], result["total"]) == (name, 13, 13)
    assert np.isfinite(result["loss"])
    assert 0 <= result["top1"] <= result["top5"] == 1


def test_one_seed_one_run(tiny_model, photos, tmp_path, losses):
    """With dropout and augmentation; the networks' own turn comes with the slow tests."""
    for number, seed in enumerate((3, 3, 4)):
        start(
            tiny_model,
            photos,
            tmp_path / str(number),
            f"--mode pynative --batch_size 4 --lr 0.001 --max_steps 2 --seed {seed}",
        )
    assert losses[:2] == losses[2:4]
    assert set(losses[4:]).isdisjoint(losses[:4])


@pytest.fixture(scope="module")
def digits(tmp_path_factory) -> Path:
    """30 training and 10 validation images of each digit."""
    whole, folder = tmp_path_factory.mktemp("sample"), tmp_path_factory.mktemp("digits")
    write_sample(whole)
    for split, count in (("train", 30), ("val", 10)):
        for digit in sorted((whole / split).iterdir()):
            (folder / split / digit.name).mkdir(parents=True)
            for file in sorted(digit.iterdir())[:count]:
                file.rename(folder / split / digit.name / file.name)
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("name", list_models())
def test_it_learns_and_learns_the_same_again(name, digits, tmp_path, losses):
    """210 steps on 300 digits, in graph mode; then the first three once more, bit for bit."""
    words = (
        "--batch_size 20 --lr 0.01 --warmup_epochs 2 --epochs 14 --eval_epochs 0 "
        "--crop_scale 0.8,1 --crop_ratio 0.95,1.05 --horizontal_flip 0"
    )
    start(name, digits, tmp_path / "run", words)
    first = losses[:3]
    with (tmp_path / "run" / "metrics.csv").open(newline="") as file:
        table = list(csv.DictReader(file))
    assert float(table[-1]["train_loss"]) < 0.5 * first[0]
    assert result_of(tmp_path / "run")["top1"] > 0.5
    losses.clear()
    start(name, digits, tmp_path / "again", f"{words} --max_steps 3")
    assert losses == first
