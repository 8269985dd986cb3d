"""The three commands of SPOS, each taking what the one before it left; no file is edited between them."""

from __future__ import annotations

import csv
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import time
from pathlib import Path

import mindspore
import numpy as np
import pytest

import eval as evaluation
import search
import train
from src.errors import UsageError
from src.runs.checkpoint import CheckpointFolder, read_checkpoint
from src.settings.config import load_config

# Standard operators: without a graph the fused ones take long to set up, and a graph takes long to compile.
COMMON = "--mode pynative --cpu_operators standard --workers 2 --check_data False --batch_size 4"
SIZES = "--search_population 8 --search_generations 4 --search_retain 3 --calibration_images 8"
KILLS = 10
PATIENCE = 300  # seconds


@pytest.fixture(autouse=True)
def own_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    yield
    mindspore.set_context(mode=mindspore.PYNATIVE_MODE)


def supernet(photos, run, words: str = "", common: str = COMMON) -> None:
    recipe = f"--config_path spos_supernet_digits --data_path {photos} --run_dir {run} --calibration_images 8"
    train.main(f"{recipe} {common} --epochs 1 --channel_start_epoch 0 --search_holdout 0.5 {words}".split())


def last(run):
    return read_checkpoint(CheckpointFolder(run / "checkpoints").pointed("last"))


@pytest.fixture(scope="module")
def trained(photos, tmp_path_factory):
    """A supernet's run, long enough for its paths to differ; not to be changed."""
    run = tmp_path_factory.mktemp("supernet") / "run"
    words = "--epochs 4 --warmup_epochs 0 --lr 0.1 --channel_warm_up False --max_steps 12 --eval_epochs 0"
    supernet(photos, run, words)
    return run


@pytest.fixture(scope="module")
def searched(photos, trained, tmp_path_factory):
    """The run of a search of that supernet; not to be changed."""
    run = tmp_path_factory.mktemp("search") / "run"
    search.main(search_words(photos, trained, run))
    return run


def search_words(photos, trained, run) -> list[str]:
    words = f"--supernet {trained} --data_path {photos} --run_dir {run} {COMMON} {SIZES}"
    return f"--config_path spos_search_digits {words}".split()


def candidates(run):
    return list(csv.DictReader((run / "candidates.csv").open()))


@pytest.mark.slow
def test_the_supernet_says_how_its_paths_fare(photos, tmp_path, capsys):
    supernet(photos, tmp_path / "space")
    printed = capsys.readouterr().out
    assert "12 training images are held out for the search" in printed
    for name in ("smallest", "largest", "random 1", "random 3"):
        assert f"path {name} (" in printed
    assert f"next: python search.py --config_path spos_search_digits --supernet {tmp_path / 'space'}" in printed
    assert json.loads((tmp_path / "space" / "result.json").read_text())["updates"] == 12 // 4


@pytest.mark.slow
def test_search_and_the_found_network(photos, searched, tmp_path):
    rows = candidates(searched)
    assert len(rows) >= 8
    assert len({row["accuracy"] for row in rows}) >= 3
    assert max(float(row["flops"]) for row in rows) <= 0.9
    best = max(rows, key=lambda row: float(row["accuracy"]))
    assert all((searched / name).stat().st_size for name in ("index.html", "accuracy.png", "choices.png"))
    assert "scored on 12 training images held out" in (searched / "log.txt").read_text()

    recipe = load_config(str(searched / "best.yaml"))
    assert not recipe.train_supernet
    chosen = " ".join(map(str, recipe.model_options["block_choices"]))
    assert float(best["accuracy"]) in [float(row["accuracy"]) for row in rows if row["blocks"] == chosen]
    words = f"--data_path {photos} --run_dir {tmp_path}/alone {COMMON} --max_steps 2"
    train.main(f"--config_path {searched}/best.yaml {words}".split())
    result = json.loads((tmp_path / "alone" / "result.json").read_text())
    assert (result["model"], result["updates"], result["num_classes"]) == ("spos_oneshot", 2, 3)


@pytest.mark.slow
def test_a_path_is_exported_with_its_weights(photos, searched, tmp_path, capsys):
    recipe = tmp_path / "path.yaml"
    shutil.copy(searched / "best.yaml", recipe)
    # The search's own configuration says which supernet, data and calibration images.
    search.main(f"--resume {searched} --export_subnet {recipe}".split())
    printed = capsys.readouterr().out
    accuracies = re.search(r"held out: ([0-9.]+) in the supernet, ([0-9.]+) alone", printed).groups()
    chosen = load_config(str(recipe)).model_options
    paths = {"blocks": "block_choices", "channels": "channel_choices"}
    (row,) = [
        row
        for row in candidates(searched)
        if all(row[column] == " ".join(map(str, chosen[option])) for column, option in paths.items())
    ]
    assert [float(accuracy) for accuracy in accuracies] == pytest.approx([float(row["accuracy"])] * 2, abs=1e-4)
    assert float(re.search(r"between the logits: (\S+)", printed)[1]) < 1e-4

    evaluation.main(f"--checkpoint_path {tmp_path}/path.ckpt --val_data_path {photos}/val {COMMON}".split())
    assert "13 of 13 images" in capsys.readouterr().out
    words = f"--pretrained {tmp_path}/path.ckpt --data_path {photos} --run_dir {tmp_path}/tuned {COMMON}"
    train.main(f"--config_path {recipe} {words} --lr 0 --max_steps 1 --eval_epochs 0".split())
    tuned, cut = last(tmp_path / "tuned").weights, read_checkpoint(tmp_path / "path.ckpt").weights
    learned = [name for name in cut if not name.rpartition(".")[2].startswith("moving_")]
    assert all(np.array_equal(tuned[name], cut[name]) for name in learned), "a rate of zero changes nothing"

    with pytest.raises(UsageError, match="is there already"):
        search.main(f"--resume {searched} --export_subnet {recipe}".split())
    with pytest.raises(UsageError, match="of another space"):
        search.main(f"--resume {searched} --export_subnet spos_oneshot_cpu".split())


@pytest.mark.slow
def test_a_finished_search_is_not_searched_again(searched, tmp_path, capsys):
    run = tmp_path / "again"
    shutil.copytree(searched, run)
    (run / "candidates.csv").unlink()
    search.main(f"--config_path {run}/config.yaml --run_dir {run}".split())
    assert "path 0" not in capsys.readouterr().out
    assert (run / "candidates.csv").read_bytes() == (searched / "candidates.csv").read_bytes()
    with pytest.raises(UsageError, match=r"other settings \(search_population, seed\)"):
        search.main(f"--config_path {run}/config.yaml --run_dir {run} --seed 2 --search_population 4".split())


@pytest.mark.slow
def test_a_search_that_cannot_be_is_refused_in_one_line(photos, trained, tmp_path):
    for words, message in [
        ("", "which supernet"),
        ("--supernet nowhere", "--supernet nowhere: there is no such file or folder"),
        (f"--supernet {tmp_path}", "neither a run folder nor a folder with .ckpt files"),
        (f"--supernet {trained} --run_dir {trained}", "holds a run that is no search"),
        (f"--supernet {trained} --search_constraints '{{flop: [0, 1]}}'", "did you mean 'flops'"),
        (f"--supernet {trained} --search_constraints '{{flops: [2, 1]}}'", "lower bound 2 above its upper bound 1"),
        (f"--supernet {trained} --search_constraints '{{flops: [0, 0.01]}}'", "flops can be from"),
        (f"--supernet {trained} --search_constraints '{{flops: 1}}'", r"must be \[low, high\]"),
        (f"--supernet {trained} --search_constraints '{{latency: [0, 1]}}'", "latency needs --latency_table"),
        (f"--supernet {trained} --search_population 1", "search_retain 10 must be 2 to search_population, which is 1"),
        (f"--supernet {trained} --data_path nowhere", "nowhere is not a folder"),
    ]:
        with pytest.raises(UsageError, match=message):
            search.main(shlex.split(f"--data_path {photos} {COMMON} {words}"))


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["pynative", "graph"])
def test_a_resumed_supernet_is_the_uninterrupted_one(photos, tmp_path, mode):
    common = COMMON.replace("pynative", mode)
    supernet(photos, tmp_path / "whole", "--eval_epochs 0 --max_steps 4", common)
    supernet(photos, tmp_path / "parts", "--eval_epochs 0 --max_steps 2", common)
    supernet(photos, tmp_path / "parts", "--eval_epochs 0 --max_steps 4 --resume auto", common)
    whole, parts = last(tmp_path / "whole"), last(tmp_path / "parts")
    for expected, got in ((whole.weights, parts.weights), (whole.state, parts.state)):
        assert expected.keys() == got.keys()
        assert [name for name in expected if expected[name].tobytes() != got[name].tobytes()] == []


@pytest.mark.slow
def test_a_supernet_has_no_accuracy_of_its_own(trained, photos):
    with pytest.raises(UsageError, match=r"search\.py --supernet"):
        evaluation.main(f"--checkpoint_path {trained} --val_data_path {photos}/val --mode pynative".split())


def assert_same_search(run, undisturbed):
    for name in ("candidates.csv", "journal.jsonl", "best.yaml"):
        assert (run / name).read_bytes() == (undisturbed / name).read_bytes(), name


@pytest.mark.slow
def test_killed_ten_times_at_random_moments_a_search_ends_like_an_undisturbed_one(
    root, photos, trained, searched, tmp_path
):
    run, rng = tmp_path / "run", np.random.default_rng(1)
    command = [sys.executable, str(root / "search.py"), *search_words(photos, trained, run)]

    def noted() -> int:
        journal = run / "journal.jsonl"
        return journal.read_bytes().count(b"\n") if journal.exists() else 0

    def start() -> subprocess.Popen:
        return subprocess.Popen(command, env={**os.environ, "PYTHONPATH": str(root)}, stdout=subprocess.DEVNULL)

    for kill in range(KILLS):
        before, deadline = noted(), time.monotonic() + PATIENCE
        with start() as process:
            # Some lives end while they start; the others after one or two more lines, somewhere in a path.
            lines = kill % 3
            while noted() < before + lines and process.poll() is None:
                assert time.monotonic() < deadline
                time.sleep(0.005)
            time.sleep(rng.uniform(0, 0.3) if lines else rng.uniform(0, 8))
            assert process.poll() is None, "the search was over before its tenth kill"
            process.kill()
    assert noted() > 3
    with start() as process:
        assert process.wait(PATIENCE) == 0
    assert_same_search(run, searched)


@pytest.mark.slow
def test_two_processes_search_like_one(root, photos, trained, searched, tmp_path):
    launched(root, "run_search_cpu.sh", photos, "--ranks", "2", *search_words(photos, trained, tmp_path / "run"))
    assert_same_search(tmp_path / "run", searched)
    assert "rank 0 of 2" in (tmp_path / "run" / "log.txt").read_text()


@pytest.mark.slow
def test_two_processes_train_the_same_paths(root, photos, tmp_path):
    words = f"--run_dir {tmp_path}/run {COMMON} --max_steps 2 --eval_epochs 0 --search_holdout 0.25"
    more = "--channel_start_epoch 0 --channel_warm_up False --warmup_epochs 0 --calibration_images 8"
    script, recipe = "run_distribute_train_cpu.sh", "spos_supernet_digits"
    printed = launched(root, script, "2", photos, recipe, *words.split(), *more.split())
    # A rank on another path would have updated other blocks.
    assert "all 2 ranks hold the same weights" in printed
    sampler = last(tmp_path / "run").state["sampler_state"].tobytes().rstrip(b"\0")
    assert json.loads(sampler)["drawn"] == 2


def launched(root, script, *words) -> str:
    """What a launcher printed; it must succeed."""
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    result = subprocess.run(
        ["bash", str(root / "scripts" / script), *map(str, words)],
        env={**os.environ, "PATH": path, "PYTHONPATH": str(root), "VIRTUAL_ENV": sys.prefix},
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout
