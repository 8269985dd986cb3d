"""CONTRIBUTING.md is true: in a copy of the repository every addition costs the files and lines it says, and works.

One process trains the new network with the new key, schedule, augmentation and optimizer; then it trains a supernet
over the new space, searches that and trains what was found.
"""

from __future__ import annotations

import csv
import os
import re
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from src.runs.checkpoint import Checkpoint, CheckpointFolder, read_checkpoint
from tests.docs.pages import ROOT

KEY = '    lr_teeth: Whole = _key(2, "sawtooth: teeth in a run", ge=1)\n'
SCHEDULE = '''def sawtooth(plan: Plan) -> np.ndarray:
    """From lr down to 0, lr_teeth times."""
    return plan.lr * (1 - plan.step * plan.lr_teeth / plan.steps % 1)


'''
AUGMENTATION_KEY = '    vertical_flip: Number = _key(0.0, "probability", ge=0, le=1)\n'
AUGMENTATION = "        vision.RandomVerticalFlip(config.vertical_flip) if config.vertical_flip else None,\n"
OPTIMIZER = """\
    if config.optimizer == "adam":
        return nn.Adam(groups, rate, loss_scale=loss_scale)
"""
OP = 'POINTWISE = Op("1x1", (Part("expand", IN, MID, has_act=True), Part("project", MID, OUT, has_act=True)))\n'
SPACE = """\
class Lean(Space):
    def positions(self) -> list[Position]:
        return [p if p.stride == 2 else p._replace(ops=(*p.ops, POINTWISE, SKIP)) for p in Space.positions(self)]


"""
LAYOUT = '        Lean("lean", (2,), (24,), (0.6, 1.2, 2.0), last_conv_out_channel=16, input_size=32),\n'
RECIPE = """\
model: tiny
batch_size: 4
workers: 1
crop_scale: [1.0, 1.0]
crop_ratio: [1.0, 1.0]
horizontal_flip: 0.0
vertical_flip: 1.0
optimizer: adam
epochs: 2
lr: 0.08
lr_schedule: sawtooth
lr_teeth: 4
device_target: CPU
mode: pynative
cpu_operators: standard
"""
# Lines put in, by file. A choice's name stands in a line that is there.
LINES = {
    "src/settings/sections.py": 2 + 2,  # two keys, two lines of choices
    "src/training/lr_schedule.py": 5,
    "src/data/transforms.py": 1,
    "src/training/optimizer.py": 2,
    "src/space/blocks.py": 1,
    "src/space/spaces.py": 1 + 5 + 1,  # what is imported, the class, the layout
}
ADDED = {"src/models/tiny.py", "configs/tiny_cpu.yaml"}
GENERATED = {"default_config.yaml", "configs/schema.json"}
PROGRAM = """\
import sys, numpy as np, search, train
from src.data.preprocessing import Preprocessing
from src.data.transforms import train_transforms
from src.models import table
from src.settings.config import load_config
from tests.images import encode

photos, folder = sys.argv[1:]
common = f"--data_path {photos} --run_dir {folder}"
train.main(f"--config_path tiny_cpu {common}/run".split())
table.list_models = lambda: ["tiny"]
print(table.overview())
image = encode(np.repeat(np.uint8([9, 200]), 16)[:, None, None] * np.ones((1, 32, 3), np.uint8), "PNG")
for step in train_transforms(load_config("tiny_cpu"), Preprocessing().at_size(32)):
    image = step(np.frombuffer(image, np.uint8) if isinstance(image, bytes) else image)
print("rows", image[0, :, 0].tolist())

common += "/{} --mode pynative --cpu_operators standard --workers 1 --check_data False --batch_size 4"
layout = "--model spos_oneshot --model_options.layout lean --image_size 32"
few = "--search_population 3 --search_generations 1 --search_retain 2 --calibration_images 4"
train.main(f"--train_supernet True {layout} {common.format('space')} --calibration_images 4 --max_steps 2".split())
words = f"--search_scope channels --fixed_block_choices 0,4 {few} {common.format('search')}"
search.main(f"--supernet {folder}/space {words}".split())
train.main(f"--config_path {folder}/search/best.yaml {common.format('found')} --max_steps 1".split())
"""


def insert(file: Path, before: str, text: str) -> None:
    source = file.read_text(encoding="utf-8")
    assert source.count(before) == 1, before
    file.write_text(source.replace(before, text + before), encoding="utf-8")


@pytest.fixture(scope="module")
def repository(tmp_path_factory) -> Path:
    """The repository with one more of everything, each added as CONTRIBUTING.md says."""
    folder = tmp_path_factory.mktemp("repository")
    for name in ("src", "configs"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("train.py", "search.py", "default_config.yaml"):
        shutil.copy(ROOT / name, folder / name)
    # A key is one line; a schedule is one function, and its name among the choices.
    insert(folder / "src/settings/sections.py", "    lr_scaling: ", KEY)
    insert(folder / "src/settings/sections.py", '"constant"] = _key("cosine"', '"sawtooth", ')
    insert(folder / "src/training/lr_schedule.py", "# Each choice of the key is", SCHEDULE)
    # An augmentation is its key and one entry; an optimizer is one branch, and its name among the choices.
    insert(folder / "src/settings/sections.py", "    color_jitter: ", AUGMENTATION_KEY)
    insert(folder / "src/data/transforms.py", "        _color_jitter(*config", AUGMENTATION)
    insert(folder / "src/settings/sections.py", '"rmsprop"] = _key("momentum"', '"adam", ')
    insert(folder / "src/training/optimizer.py", "    # nn.Momentum(use_nesterov=True)", OPTIMIZER)
    # An op is one entry; a space is a class where its positions differ, and a layout.
    insert(folder / "src/space/blocks.py", "# Leaves a unit out", OP)
    insert(folder / "src/space/spaces.py", "SPOS_OPS, Convolution", "POINTWISE, SKIP, ")
    insert(folder / "src/space/spaces.py", "def to_genes(", SPACE)
    insert(folder / "src/space/spaces.py", "        # Small enough to train", LAYOUT)
    # A network is one module and one recipe.
    module = (ROOT / "tests" / "tiny.py").read_text().partition("\n\nif __name__")[0]
    (folder / "src/models/tiny.py").write_text(f"{module}\n\nfrom src.models import register\n\nregister(ENTRY)\n")
    (folder / "configs" / "tiny_cpu.yaml").write_text(RECIPE)
    assert python(folder, "-m", "src.settings.generate").returncode == 0
    return folder


@pytest.fixture(scope="module")
def done(repository, photos) -> Path:
    """The folder of four runs: of the network, the supernet, its search and what that found; ``printed`` is of all."""
    folder = repository / "runs"
    done = python(repository, "-c", PROGRAM, photos, folder)
    assert done.returncode == 0, done.stdout + done.stderr
    (folder / "printed").write_text(done.stdout)
    return folder


def python(folder: Path, *words: str | Path) -> subprocess.CompletedProcess:
    environment = {**os.environ, "PYTHONPATH": f"{folder}:{ROOT}"}  # the latter for tests.images
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


def test_no_other_file_and_no_other_line_is_touched(repository):
    def files(top: Path) -> set[str]:
        found = [file for name in ("src", "configs") for file in (top / name).rglob("*") if file.is_file()]
        return {str(file.relative_to(top)) for file in found if file.suffix != ".pyc"} | {"default_config.yaml"}

    assert files(repository) - files(ROOT) == ADDED
    typed = {name: added(ROOT / name, repository / name) for name in files(ROOT) - GENERATED}
    assert {name: count for name, count in typed.items() if count} == LINES


def added(before: Path, after: Path) -> int:
    """How many lines of ``after`` are not in ``before``."""
    old, new = (Counter(file.read_text(encoding="utf-8").splitlines()) for file in (before, after))
    return (new - old).total()


def test_the_new_network_trains_by_the_new_schedule(done):
    assert "| `tiny` |" in (done / "printed").read_text()
    with (done / "run" / "metrics.csv").open() as file:
        rates = [float(row["lr"]) for row in csv.DictReader(file)]
    # 24 images in batches of 4, two epochs: updates 5 and 11 of 12, each the last of its tooth of 3.
    np.testing.assert_allclose(rates, [0.08 / 3, 0.08 / 3], rtol=1e-6)
    assert "lr_teeth: 4" in (done / "run" / "config.yaml").read_text()


def test_the_new_augmentation_and_optimizer_are_in_that_run(done):
    assert f"rows {[200] * 16 + [9] * 16}" in (done / "printed").read_text()
    config = (done / "run" / "config.yaml").read_text()
    assert "vertical_flip: 1.0" in config and "optimizer: adam" in config
    assert any(name.startswith("moment2.") for name in last(done / "run").state)


def test_the_new_space_is_trained_searched_and_its_best_trained(done):
    """With the new op at the one position that has it; the search's costs are the found network's."""
    choices = "0 4", re.search(r"channel_choices: \[(.*)\]", (done / "search" / "best.yaml").read_text())[1]
    with (done / "search" / "candidates.csv").open() as file:
        found = [row for row in csv.DictReader(file) if (row["blocks"], row["channels"].replace(" ", ", ")) == choices]
    weights = {name: array.size for name, array in last(done / "found").weights.items() if ".moving_" not in name}
    assert sum(weights.values()) == round(float(found[0]["params"]) * 1e6)
    # 12 channels in and out: 1x1 to m and 1x1 back, each with its batch norm.
    of_op = sum(size for name, size in weights.items() if name.startswith("features.stage1.1."))
    assert of_op in [12 * m + 2 * m + m * 12 + 2 * 12 for m in (7, 14, 24)]


def last(run: Path) -> Checkpoint:
    return read_checkpoint(CheckpointFolder(run / "checkpoints").pointed("last"))
