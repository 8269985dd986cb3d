"""What a user gets wrong: exit status 2, one line that says what to do, no traceback."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

import eval as evaluation
import train
from src.errors import run
from src.runs.checkpoint import list_checkpoints
from tests.images import encode, photo


@pytest.fixture(autouse=True)
def own_folders(tmp_path, monkeypatch):
    """Runs and caches of these tests stay in the test's folder."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def outcome(capfd) -> Callable:
    """Runs a program's main and gives its exit status and what it wrote to stdout and stderr."""

    def start(program, *words: str | Path) -> tuple[int, str, str]:
        status = 0
        try:
            run(program.main, [str(word) for word in words])
        except SystemExit as ending:
            status = ending.code
        return status, *capfd.readouterr()

    return start


@pytest.fixture(scope="module")
def finished(photos, tiny_model, tmp_path_factory) -> Path:
    """A run of two epochs."""
    folder = tmp_path_factory.mktemp("finished") / "run"
    train.main(f"--model tiny --data_path {photos} --batch_size 8 --epochs 2 --run_dir {folder} --workers 1".split())
    return folder


def refused(result: tuple[int, str, str], *parts: str) -> bool:
    status, _, error = result
    assert status == 2, error
    assert error.count("\n") == 1, error
    assert error.startswith("error: ")
    for part in parts:
        assert part in error
    return True


# -- training ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "parts"),
    [
        ("", ["which network?", "--model", "summary.py"]),
        ("--resume gone", ["--resume gone: there is no such run folder or checkpoint"]),
        ("--model spnasnett", ["no network 'spnasnett'", "spnasnet"]),
        ("--model tiny --learning_rat 0.1", ["no flag '--learning_rat'"]),
        ("--model tiny --bacth_size 4", ["no flag '--bacth_size'", "batch_size"]),
        ("--model tiny --epochs ten", ["epochs must be a whole number"]),
        ("--model tiny --epochs 0", ["epochs is 0", "at least 1"]),
        ("--model tiny --config_path nothing", ["no configuration 'nothing'"]),
        ("--model tiny", ["--data_path is missing"]),
        ("--model tiny --data_path nowhere", ["nowhere is not a folder"]),
        ("--model tiny --data_path {photos} --image_size 31", ["image_size is 31", "32"]),
        ("--model tiny --data_path {photos} --device_target Ascend", ["no Ascend here"]),
        ("--model tiny --data_path {photos} --batch_size 8 --sink on", ["--sink auto"]),
        ("--model tiny --data_path {photos} --is_distributed", ["needs a launcher", "msrun"]),
        ("--model tiny --data_path {photos} --batch_size 25", ["do not fill one step", "lower batch_size"]),
        ("--model tiny --data_path {photos} --batch_size 8 --num_classes 2", ["has 3 classes"]),
        ("--model tiny --data_path {photos} --batch_size 8 --model_options.width 4", ["no option 'width'", "channels"]),
        ("--model tiny --data_path {photos} --optimizer adam", ["optimizer is 'adam'", "momentum"]),
        ("--model tiny --data_path {photos} --resume gone", ["no such run folder or checkpoint"]),
        ("--model tiny --data_path {photos} --resume auto", ["give --run_dir too"]),
        (
            "--model tiny --data_path {photos} --batch_size 8 --pretrained gone.ckpt",
            ["--pretrained gone.ckpt: there is no such file or folder"],
        ),
        ("--model tiny --data_path {photos}/val/class0", ["move each into a folder named after its class"]),
    ],
)
def test_training_refuses_in_one_line(outcome, photos, tiny_model, words, parts):
    assert refused(outcome(train, *words.format(photos=photos).split()), *parts)
    # What only the images or the device can tell leaves a folder whose log says so.
    assert list(Path().glob("runs/*/log.txt")) or not Path("runs").exists()


@pytest.mark.parametrize(
    "words",
    [
        "--data_path nowhere",
        "--data_path {photos} --val_data_path nowhere",
        "--data_path {photos} --model_options.width 4",
        "--data_path {photos} --image_size 31",
        "--data_path {photos} --pretrained gone.ckpt",
        "--data_path {photos} --resume gone",
        "--data_path {photos} --run_dir made --is_distributed",
    ],
)
def test_a_start_that_cannot_be_leaves_no_folder(outcome, photos, tiny_model, words):
    assert refused(outcome(train, "--model", "tiny", *words.format(photos=photos).split()))
    assert not Path("runs").exists() and not Path("made").exists()


def test_a_used_run_folder_is_not_trained_over(outcome, photos, finished):
    before = {path: path.stat().st_mtime_ns for path in finished.rglob("*")}
    result = outcome(train, "--model", "tiny", "--data_path", photos, "--run_dir", finished)
    assert refused(result, "holds a run already", "--resume auto")
    assert {path: path.stat().st_mtime_ns for path in finished.rglob("*")} == before


def test_going_on_with_a_run_that_is_over_says_so(outcome, photos, finished, tmp_path):
    shutil.copytree(finished, tmp_path / "run")
    before = {path.name: path.read_bytes() for path in (tmp_path / "run" / "checkpoints").glob("*.ckpt")}
    status, printed, _ = outcome(train, "--resume", tmp_path / "run", "--run_dir", tmp_path / "run")
    assert status == 0
    assert "nothing is left to train: finished\n" in printed and "the first step compiles" not in printed
    assert {path.name: path.read_bytes() for path in (tmp_path / "run" / "checkpoints").glob("*.ckpt")} == before


def test_resuming_an_empty_run_folder_is_refused(outcome, photos, tmp_path, tiny_model):
    (tmp_path / "empty").mkdir()
    assert refused(outcome(train, "--model", "tiny", "--data_path", photos, "--resume", "empty"), "it holds")


def test_a_corrupt_image_is_named_and_can_be_left_out(outcome, photos, tmp_path, tiny_model):
    shutil.copytree(photos / "train", tmp_path / "data" / "train")
    bad = tmp_path / "data" / "train" / "class1" / "broken.jpg"
    bad.write_bytes(encode(photo(), "JPEG")[:300])
    words = f"--model tiny --data_path {tmp_path / 'data'} --batch_size 8 --max_steps 1 --mode pynative".split()
    assert refused(outcome(train, *words), "broken.jpg", "--skip_bad_images")
    status, printed, _ = outcome(train, *words, "--skip_bad_images")
    assert status == 0
    assert "left out class1/broken.jpg" in printed
    assert "24 training images of 3 classes" in printed


def test_a_process_of_its_own_ends_the_same_way(root, tmp_path):
    """The real command, so that nothing the framework prints at its start comes before our line."""
    command = [sys.executable, root / "train.py", "--model", "spnasnet", "--no_such_key", "1"]
    process = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False)
    assert (process.returncode, process.stdout) == (2, "")
    assert process.stderr == "error: there is no flag '--no_such_key'\n"
    assert not (tmp_path / "runs").exists()


def test_help_shows_every_key(outcome):
    status, printed, error = outcome(train, "--help")
    assert (status, error) == (0, "")
    assert "--config_path RECIPE" in printed
    assert "  --batch_size WHOLE            images per step and device [32; from 1 to 1048576]" in printed


# -- evaluation --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "parts"),
    [
        ("", ["--checkpoint_path is missing"]),
        ("--checkpoint_path nowhere", ["no such file or folder"]),
        ("--checkpoint_path {photos}", ["neither a run folder nor a folder with .ckpt files"]),
        ("--checkpoint_path {run} --model spnasnet", ["is a checkpoint of tiny, not of spnasnet"]),
        ("--checkpoint_path {run} --num_classes 10", ["has 3 classes, not 10"]),
        ("--checkpoint_path {run} --val_data_path nowhere", ["nowhere is not a folder"]),
        ("--checkpoint_path {run} --val_data_path {photos}/val/class0", ["move each into a folder"]),
        ("--checkpoint_path {run} --image_size 400", ["image_size is 400"]),
    ],
)
def test_evaluation_refuses_in_one_line(outcome, photos, finished, words, parts):
    assert refused(outcome(evaluation, *words.format(photos=photos, run=finished).split()), *parts)


def test_a_damaged_checkpoint_is_refused(outcome, finished, tmp_path):
    for file in (finished / "checkpoints").iterdir():
        shutil.copy(file, tmp_path)
    newest = list_checkpoints(tmp_path)[-1]
    newest.write_bytes(newest.read_bytes()[:-50])
    assert refused(outcome(evaluation, "--checkpoint_path", newest), str(newest), "damaged")
    assert refused(outcome(evaluation, "--checkpoint_path", tmp_path), str(newest), "damaged")
    newest.with_name(newest.name + ".json").unlink()
    assert refused(outcome(evaluation, "--checkpoint_path", newest), str(newest), "damaged")


@pytest.mark.parametrize(("change", "part"), [("rename", "koala"), ("remove", "lacks classes"), ("flat", "move each")])
def test_a_validation_folder_that_does_not_fit_is_refused(outcome, photos, finished, tmp_path, change, part):
    val = tmp_path / "val"
    shutil.copytree(photos / "val", val)
    if change == "rename":
        (val / "class1").rename(val / "koala")
    elif change == "remove":
        shutil.rmtree(val / "class1")
    else:
        for file in list(val.rglob("*.jpg")):
            file.rename(val / f"{file.parent.name}_{file.name}")
        for folder in list(val.iterdir()):
            if folder.is_dir():
                folder.rmdir()
    assert refused(outcome(evaluation, "--checkpoint_path", finished, "--val_data_path", val), part)


def test_a_bad_validation_image_is_named_and_can_be_left_out(outcome, photos, finished, tmp_path):
    shutil.copytree(photos / "val", tmp_path / "val")
    (tmp_path / "val" / "class0" / "bad.jpg").write_bytes(b"not a picture")
    words = ["--checkpoint_path", finished, "--val_data_path", tmp_path / "val", "--mode", "pynative"]
    assert refused(outcome(evaluation, *words), "bad.jpg")
    status, printed, _ = outcome(evaluation, *words, "--skip_bad_images", "--json", tmp_path / "out.json")
    assert status == 0
    assert "left out" in printed
    assert json.loads((tmp_path / "out.json").read_text())["images"] == 13
