"""CONTRIBUTING.md is true: in a copy of the repository a key, a schedule and a network cost what it says, no more."""

from __future__ import annotations

import csv
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.docs.pages import ROOT

KEY = '    lr_teeth: Whole = _key(2, "sawtooth: teeth in a run", ge=1)\n'
SCHEDULE = '''def sawtooth(plan: Plan) -> np.ndarray:
    """From lr down to 0, lr_teeth times."""
    return plan.lr * (1 - plan.step * plan.lr_teeth / plan.steps % 1)


'''
RECIPE = """\
model: tiny
batch_size: 4
workers: 1
epochs: 2
lr: 0.08
lr_schedule: sawtooth
lr_teeth: 4
device_target: CPU
mode: pynative
cpu_operators: standard
"""
PROGRAM = """\
import train, sys
train.main(sys.argv[1:])
from src.models import table
table.list_models = lambda: ["tiny"]
print(table.overview())
"""


def insert(file: Path, before: str, text: str) -> None:
    source = file.read_text(encoding="utf-8")
    assert source.count(before) == 1, before
    file.write_text(source.replace(before, text + before), encoding="utf-8")


@pytest.fixture(scope="module")
def repository(tmp_path_factory) -> Path:
    """The repository with one key, one schedule and one network more, each added as CONTRIBUTING.md says."""
    folder = tmp_path_factory.mktemp("repository")
    for name in ("src", "configs"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("train.py", "default_config.yaml"):
        shutil.copy(ROOT / name, folder / name)
    # A key is one line; a schedule is one function, and its name among the choices.
    insert(folder / "src/settings/sections.py", "    lr_scaling: ", KEY)
    insert(folder / "src/settings/sections.py", '"constant"] = _key("cosine"', '"sawtooth", ')
    insert(folder / "src/training/lr_schedule.py", "# Each choice of the key is", SCHEDULE)
    # A network is one module and one recipe.
    module = (ROOT / "tests" / "tiny.py").read_text().partition("\n\nif __name__")[0]
    (folder / "src/models/tiny.py").write_text(f"{module}\n\nfrom src.models import register\n\nregister(ENTRY)\n")
    (folder / "configs" / "tiny_cpu.yaml").write_text(RECIPE)
    assert python(folder, "-m", "src.settings.generate").returncode == 0
    return folder


def python(folder: Path, *words: str | Path) -> subprocess.CompletedProcess:
    environment = {**os.environ, "PYTHONPATH": str(folder)}
    return subprocess.run(
        [sys.executable, *map(str, words)], cwd=folder, env=environment, capture_output=True, text=True, timeout=300
    )


def test_generated_files_and_help_know_the_new_key_and_choice(repository):
    assert "lr_teeth: 2" in (repository / "default_config.yaml").read_text()
    assert '"sawtooth"' in (repository / "configs" / "schema.json").read_text()
    printed = python(repository, "train.py", "--help").stdout
    assert "--lr_teeth WHOLE" in printed and "sawtooth" in printed and "[2; at least 1]" in printed
    refused = python(repository, "train.py", "--model", "tiny", "--lr_teeth", "0")
    assert refused.returncode == 2 and "lr_teeth is 0; it must be at least 1" in refused.stderr


def test_the_new_network_trains_by_the_new_schedule(repository, photos):
    run = repository / "run"
    done = python(repository, "-c", PROGRAM, "--config_path", "tiny_cpu", "--data_path", photos, "--run_dir", run)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "| `tiny` |" in done.stdout
    with (run / "metrics.csv").open() as file:
        rates = [float(row["lr"]) for row in csv.DictReader(file)]
    # 24 images in batches of 4, two epochs: updates 5 and 11 of 12, each the last of its tooth of 3.
    np.testing.assert_allclose(rates, [0.08 / 3, 0.08 / 3], rtol=1e-6)
    assert "lr_teeth: 4" in (run / "config.yaml").read_text()
