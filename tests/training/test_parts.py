"""From a configuration to the parts of a run."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from src.data.preprocessing import Preprocessing
from src.data.transforms import train_transforms
from src.errors import UsageError
from src.machine.ranks import World
from src.models import get_entry
from src.models.layers import Dropout
from src.runs.log import logged
from src.settings.config import load_config
from src.training import parts as build
from tests.images import class_folders, encode, photo


def config(**changes):
    return load_config("", {"model": "mnasnet", **changes})


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


# -- preprocessing -----------------------------------------------------------------------------


def test_without_a_word_it_is_the_networks_own(monkeypatch):
    """Of a network in whose preprocessing every value is another than the default."""
    own = (48, 61, "bicubic", "pil", (0.1, 0.2, 0.3), (0.4, 0.5, 0.6))
    monkeypatch.setattr(build, "get_entry", lambda name: SimpleNamespace(preprocessing=Preprocessing(*own)))
    assert dataclasses.astuple(build.preprocessing_of(config())) == own
    assert all(value != usual for value, usual in zip(own, dataclasses.astuple(Preprocessing()), strict=True))


def test_what_the_configuration_says_is_changed():
    asked = config(image_size=160, eval_resize=200, interpolation="bicubic", mean=[0.1, 0.2, 0.3], resize_kernel="pil")
    result = build.preprocessing_of(asked)
    assert (result.image_size, result.resize, result.interpolation) == (160, 200, "bicubic")
    assert (result.mean, result.std) == ((0.1, 0.2, 0.3), get_entry("mnasnet").preprocessing.std)


def test_the_resize_follows_the_image_size():
    assert build.preprocessing_of(config(image_size=112)).resize == 128


def test_a_checkpoints_own_preprocessing_is_the_base():
    base = get_entry("shufflenetv1").preprocessing.at_size(64)
    assert build.preprocessing_of(config(), base) == base
    assert build.preprocessing_of(config(image_size=32), base).resize == 34


@pytest.mark.parametrize(("image_size", "resize"), [(64, 50), (0, 100)])
def test_a_resize_below_the_crop_is_refused(image_size, resize):
    with pytest.raises(UsageError, match=r"eval_resize \d+ is smaller than image_size"):
        build.preprocessing_of(config(image_size=image_size, eval_resize=resize))


def test_a_recipes_resize_below_the_crop_is_told_as_the_recipes():
    asked = load_config("digits", {"model": "mnasnet", "image_size": 64})
    said = r"eval_resize 32 \(of the recipe digits\) is smaller than image_size 64; give --eval_resize too: 73 "
    with pytest.raises(UsageError, match=said):
        build.preprocessing_of(asked)
    with pytest.raises(UsageError, match="eval_resize 40 is smaller"):
        build.preprocessing_of(asked.replace(eval_resize=40))
    assert build.preprocessing_of(asked.replace(eval_resize=0)).resize == 73


# -- data --------------------------------------------------------------------------------------


@pytest.fixture
def split(tmp_path) -> Path:
    class_folders(tmp_path / "data" / "train", per_class=4, classes=3)
    class_folders(tmp_path / "data" / "val", per_class=2, classes=3)
    return tmp_path / "data"


def test_the_validation_folder(split, tmp_path):
    assert build.eval_folder(config(data_path=str(split))) == split / "val"
    assert build.eval_folder(config(data_path=str(split / "train"))) == split / "val"
    assert build.eval_folder(config(val_data_path=str(split))) == split / "val"
    assert build.eval_folder(config(val_data_path=str(split / "val"), data_path="other")) == split / "val"
    class_folders(tmp_path / "only" / "train")
    assert build.eval_folder(config(data_path=str(tmp_path / "only"))) is None
    assert build.eval_folder(config()) is None


def test_training_images_and_their_classes(split):
    classes, files = build.train_images(config(data_path=str(split)))
    assert classes == {"class0": 0, "class1": 1, "class2": 2}
    assert [label for _, label in files] == [0] * 4 + [1] * 4 + [2] * 4


def test_missing_data_is_asked_for():
    with pytest.raises(UsageError, match="--data_path is missing"):
        build.train_images(config())


@pytest.mark.parametrize("check_data", [True, False])
def test_bad_images_stop_the_run_or_are_left_out(split, check_data, capsys):
    (split / "train" / "class1" / "bad.jpg").write_bytes(encode(photo(), "JPEG")[:300])
    with logged():
        if check_data:
            with pytest.raises(UsageError, match=r"bad\.jpg"):
                build.train_images(config(data_path=str(split)))
        asked = config(data_path=str(split), check_data=check_data, skip_bad_images=True)
        _, files = build.train_images(asked)
    assert len(files) == (12 if check_data else 13)
    assert ("note: left out" in capsys.readouterr().out) == check_data


def test_odd_images_are_recorded(split, tmp_path):
    (split / "train" / "class0" / "odd.jpg").write_bytes(encode(Image.fromarray(photo()).convert("CMYK"), "JPEG"))
    with logged(tmp_path):
        build.train_images(config(data_path=str(split)))
    records = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert ["odd.jpg" in record["note"] and "CMYK" in record["note"] for record in records] == [True]


def test_a_validation_folder_of_other_classes_is_refused(split):
    (split / "val" / "class2").rename(split / "val" / "klass2")
    with pytest.raises(UsageError, match="klass2"):
        build.eval_images(split / "val", {"class0": 0, "class1": 1, "class2": 2}, config())


def test_the_number_of_classes():
    classes = {"a": 0, "b": 1, "c": 2}
    assert build.classes_in_head(config(), classes) == 3
    assert build.classes_in_head(config(num_classes=1000), classes) == 1000
    with pytest.raises(UsageError, match="--num_classes 2, but the training folder has 3"):
        build.classes_in_head(config(num_classes=2), classes)


def test_the_evaluation_batch_is_no_larger_than_the_set(split):
    files = [(split / "val" / "class0" / "0.jpg", 0)] * 13
    preprocessing = build.preprocessing_of(config(image_size=32))
    for asked, expected in ((config(), 13), (config(eval_batch_size=8), 8), (config(batch_size=4), 4)):
        assert build.eval_data_of(asked, files, preprocessing, World()).batch_size == expected


def test_training_data_take_every_key(split):
    asked = config(
        image_size=32, batch_size=5, seed=3, crop_scale=[0.5, 0.9], crop_ratio=[1, 1], horizontal_flip=0.25,
        color_jitter=[0.1, 0.2, 0.3, 0.05], cutout=True, cutout_length=8, cutout_position="normalized",
        drop_remainder=False, workers=1,
    )  # fmt: skip
    data = build.train_data_of(asked, [(split, 0)] * 12, build.preprocessing_of(asked), World(1, 2))
    assert (data.batch_size, data.seed, data.workers, data.rank, data.world) == (5, 3, 1, 1, 2)
    assert data.steps_per_epoch == 2
    assert data.preprocessing.image_size == 32
    late = ["RandomCropDecodeResize", "RandomHorizontalFlip", "RandomColorAdjust", "Normalize", "CutOut", "HWC2CHW"]
    assert [type(step).__name__ for step in train_transforms(data.config, data.preprocessing)] == late


# -- schedule, network, step -------------------------------------------------------------------


def test_one_rate_for_each_update(capsys):
    with logged():
        rates = build.learning_rates_of(config(epochs=3, accumulate=4, lr=0.5), 10, World())
        scaled = build.learning_rates_of(
            config(epochs=2, batch_size=64, lr_scaling="linear", lr_schedule="constant"), 5, World(0, 8)
        )
    assert rates.shape == (9,)
    assert rates.max() == np.float32(0.5)
    np.testing.assert_allclose(scaled, np.full(10, 0.2), rtol=1e-6)
    assert capsys.readouterr().out == "learning rate 0.1 times 512/256 = 0.2 (lr_scaling)\n"


def test_each_rank_draws_its_own_dropout():
    keys = []
    for rank in (0, 1):
        network = build.network_of(config(model_options={"alpha": 0.5}), 3, World(rank, 2))
        keys += [cell.key for _, cell in network.cells_and_names() if isinstance(cell, Dropout)]
    assert len(set(keys)) == 2
