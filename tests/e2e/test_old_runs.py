"""Runs, checkpoints and a search journal written by an earlier version (tests/old_runs) go on in this one."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import mindspore
import pytest

import eval as evaluation
import search
import train
from src.runs.checkpoint import CheckpointFolder, read_checkpoint

OLD = Path(__file__).resolve().parents[1] / "old_runs"
COMMON = "--mode pynative --cpu_operators standard --workers 2"
SIZES = "--batch_size 4 --search_population 6 --search_generations 3 --search_retain 2 --calibration_images 8"


@pytest.fixture(autouse=True)
def old_runs(tmp_path, monkeypatch, tiny_model, mini_space):
    """A working folder that holds the old runs, which may be changed."""
    shutil.copytree(OLD, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    yield tmp_path
    mindspore.set_context(mode=mindspore.PYNATIVE_MODE)


def test_an_old_checkpoint_is_evaluated_with_the_same_result(photos):
    recorded = json.loads(Path("eval.json").read_text())
    evaluation.main(f"--checkpoint_path tiny --data_path {photos} --json again.json {COMMON}".split())
    result = json.loads(Path("again.json").read_text())
    for key in ("loss", "top1", "top5", "images", "total", "preprocessing", "model", "checkpoint"):
        assert result[key] == recorded[key], key


def test_an_old_run_goes_on_to_its_end(photos):
    before = read_checkpoint(CheckpointFolder(Path("tiny/checkpoints")).pointed("last"))
    train.main(f"--resume tiny --data_path {photos} --max_steps 0".split())
    after = read_checkpoint(CheckpointFolder(Path("tiny/checkpoints")).pointed("last"))
    assert (before.state["global_step"].item(), after.state["global_step"].item()) == (5, 12)
    assert json.loads(Path("tiny/result.json").read_text())["status"] == "finished"
    assert [row.split(",")[0] for row in Path("tiny/metrics.csv").read_text().splitlines()[1:]] == ["1", "2", "3", "4"]


def test_an_old_supernet_goes_on(photos):
    train.main(f"--resume supernet --data_path {photos} --max_steps 18".split())
    after = read_checkpoint(CheckpointFolder(Path("supernet/checkpoints")).pointed("last"))
    assert after.state["global_step"].item() == 18


def test_an_old_search_goes_on_with_the_same_candidates(photos):
    """Four of them are read from its journal; the others are scored anew, by the old supernet."""
    wanted = Path("search/candidates.csv").read_text()
    journal = Path("search/journal.jsonl").read_text().splitlines(keepends=True)
    assert len(journal) > 8
    for file in Path("search").iterdir():
        if file.name != "config.yaml":
            file.unlink()
    Path("search/journal.jsonl").write_text("".join(journal[:5]))
    words = (
        f"--config_path spos_search_digits --supernet supernet --data_path {photos} --run_dir search {COMMON} {SIZES}"
    )
    search.main(words.split())
    assert Path("search/candidates.csv").read_text() == wanted
    written = Path("search/journal.jsonl").read_text().splitlines(keepends=True)
    assert written[:5] == journal[:5]
    records = [json.loads(line) for line in written[5:]]
    assert all(record.pop("crc32") for record in records)  # which the earlier version did not write
    assert records == [json.loads(line) for line in journal[5:]]
