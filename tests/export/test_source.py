"""What is exported: the checkpoint's own facts, or for an upstream file what the user says."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from types import SimpleNamespace

import mindspore as ms
import numpy as np
import pytest
from mindspore import Tensor

import eval as evaluation
from src.data.preprocessing import Preprocessing
from src.errors import UsageError
from src.export import parity, source
from src.export.int8 import _validation_images
from src.export.options import parse
from src.models import create_model
from src.models.layers import weights
from src.runs.trained import Trained
from src.settings.config import load_config, saved_config
from src.weights.mapping import in_their_names
from src.weights.sources import Identity, target
from tests.images import class_folders

OWN = Preprocessing(48, 60, mean=(0.1, 0.2, 0.3))


@pytest.fixture
def source_of(monkeypatch):
    """:func:`source.source_of` for a checkpoint that says ``trained`` of itself."""

    def made(trained: Trained | None, **changes) -> source.Source:
        monkeypatch.setattr(source, "trained_of", lambda *_: trained)
        return source.source_of(Path("net.ckpt"), load_config("", changes))

    return made


def trained(classes=("a", "b"), **config) -> Trained:
    return Trained("mnasnet", {"alpha": 0.5}, 4, list(classes), OWN, load_config("", config), {}, "CPU")


def test_a_checkpoint_of_ours_knows_network_classes_and_preprocessing(source_of):
    found = source_of(trained(), model_options={"alpha": 1.0}, image_size=96)
    assert (found.model, found.model_options, found.num_classes) == ("mnasnet", {"alpha": 0.5}, 4)
    assert found.classes == ("a", "b", "unused 2", "unused 3")
    assert found.preprocessing == Preprocessing(96, 120, mean=(0.1, 0.2, 0.3))
    assert source_of(trained()).preprocessing == OWN


@pytest.mark.parametrize(("given", "classes"), [({}, 1000), ({"num_classes": 7}, 7)])
def test_an_upstream_file_is_what_the_user_says(source_of, given, classes):
    found = source_of(None, model="mnasnet", model_options={"alpha": 0.75}, **given)
    assert (found.model, found.model_options, found.num_classes, found.classes) == (
        "mnasnet",
        {"alpha": 0.75},
        classes,
        (),
    )
    assert (found.val_data_path, found.train_data_path) == ("", "")


def test_an_upstream_checkpoint_tells_its_network(tmp_path):
    """By names and shapes of its tensors, to export.py and to eval.py; whoever says otherwise is told."""
    file = tmp_path / "upstream.ckpt"
    network = create_model("shufflenetv1", 10, size="0.5x", pooling="same")
    ours = {name: value.asnumpy() for name, value in weights(network).items()}
    upstream = in_their_names(target("mindspore", "shufflenetv1"), Identity("shufflenetv1", network.options), ours)
    upstream["moments.classifier.weight"] = np.zeros(1, np.float32)
    ms.save_checkpoint([{"name": name, "data": Tensor(array)} for name, array in upstream.items()], str(file))
    form = {"size": "0.5x", "pooling": "same"}
    for given in ({}, {"model": "shufflenetv1"}, {"model_options": {"pooling": "same"}}):
        found = source.source_of(file, load_config("", given))
        assert (found.model, found.model_options, found.num_classes) == ("shufflenetv1", form, 10)
        config, trained = evaluation.as_trained(file, load_config("", given))
        assert (config.model, config.model_options, trained.source) == ("shufflenetv1", form, "mindspore")
    for given, cause in (
        ({"model": "mnasnet"}, "holds weights of shufflenetv1, not of mnasnet"),
        ({"model_options": {"groups": 8}}, "holds another shufflenetv1: give --model_options.groups 3"),
    ):
        with pytest.raises(UsageError, match=cause):
            source.source_of(file, load_config("", given))
    stranger = tmp_path / "stranger.ckpt"
    ms.save_checkpoint([{"name": "conv.weight", "data": Tensor(np.zeros(1, np.float32))}], str(stranger))
    with pytest.raises(
        UsageError,
        match=r"does not say which network it is, nor do its tensors. names .conv.weight, ….; give --model NAME",
    ):
        source.source_of(stranger, load_config(""))


def test_remembered_folders_count_while_they_are_there_and_those_asked_for_must_be(source_of, tmp_path, capsys):
    for name in ("old", "new"):
        for split in ("train", "val"):
            class_folders(tmp_path / name / split, per_class=1, classes=2)
    old, new = str(tmp_path / "old"), str(tmp_path / "new")
    found = source_of(trained(data_path=old))
    assert (found.val_data_path, found.train_data_path) == (f"{old}/val", f"{old}/train")
    found = source_of(trained(data_path=old, val_data_path=new))
    assert (found.val_data_path, found.train_data_path) == (f"{new}/val", f"{old}/train")
    found = source_of(trained(data_path=old), val_data_path=new)
    assert (found.val_data_path, found.train_data_path) == (f"{new}/val", f"{old}/train")
    gone = source_of(trained(data_path=str(tmp_path / "gone"), val_data_path=str(tmp_path / "gone")))
    assert (gone.val_data_path, gone.train_data_path) == ("", "")
    remembered = dataclasses.replace(trained(), config=saved_config({"data_path": "/gone"}, "runs/a/net.ckpt"))
    assert source_of(remembered).val_data_path == ""
    said = "note: /gone is gone, the data_path of runs/a/net.ckpt; say where it is now with --data_path; until then"
    assert said in capsys.readouterr().out
    with pytest.raises(UsageError, match="gone"):
        source_of(trained(data_path=old), val_data_path=str(tmp_path / "gone"))


def test_accuracy_is_measured_where_images_and_names_of_classes_are_known(source_of, tmp_path):
    for split in ("train", "val"):
        class_folders(tmp_path / split, per_class=2, classes=2)
    names = ("class0", "class1")
    found = source_of(trained(names, data_path=str(tmp_path)))
    assert [label for _, label in _validation_images(found)] == [0, 0, 1, 1]
    assert _validation_images(source_of(trained(names))) == []
    upstream = source_of(None, model="mnasnet", num_classes=2, val_data_path=str(tmp_path))
    assert upstream.val_data_path and _validation_images(upstream) == []


# -- the check of a file ---------------------------------------------------------------------------


@pytest.mark.parametrize(("batch", "sizes"), [(None, [2, 2, 1, 1]), (2, [2, 2, 2])])
def test_a_file_with_an_open_batch_must_also_do_for_one_image(monkeypatch, batch, sizes):
    """What it answers to one image alone is what is compared; a fixed batch is never asked for one."""
    images, asked = np.arange(5.0).reshape(5, 1), []

    def batches(paths, preprocessing, size, is_normalising):
        assert (size, is_normalising) == (batch, True)
        yield images[:2], 2
        yield images[2:4], 2
        yield (images[4:], 1) if batch is None else (images[[4, 4]], 1)

    def run(values):
        asked.append(len(values))
        return values + (100 if asked.count(1) == 2 else 0)

    monkeypatch.setattr(parity, "batches", batches)
    graph = SimpleNamespace(batch=batch, is_normalising=True)
    logits = parity.logits_of_file(run, [Path("x")] * 5, OWN, graph)
    assert asked == sizes
    assert logits.ravel().tolist() == ([100, 1, 2, 3, 4] if batch is None else [0, 1, 2, 3, 4])


# -- options ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "image_size"),
    [
        ("", 0),
        ("--width 64", 64),
        ("--height 96", 96),
        ("--width 64 --height 64", 64),
        ("--image_size 80", 80),
        ("--width 32 --image_size 80", 32),
    ],
)
def test_one_side_is_enough(words, image_size):
    assert parse(words.split())[1].image_size == image_size


@pytest.mark.parametrize(
    "words",
    [
        "--preprocess --mindir_for lite-2.0 --file_format ONNX",
        "--preprocess --file_format MINDIR",
        "--preprocess False --mindir_for lite-2.0",
        "--batch_size dynamic --mindir_for lite-2.0 --file_format ONNX",
        "--batch_size dynamic --file_format MINDIR,onnx",
        "--batch_size 4 --mindir_for lite-2.0 --file_format MINDIR",
    ],
)
def test_what_lite_cannot_is_refused_for_its_files_only(words):
    options, _ = parse(words.split())
    assert options.preprocess == ("--preprocess" in words and "False" not in words)
    assert options.batch_size == (None if "dynamic" in words else 4 if "4" in words.split() else 1)
    json.dumps(vars(options))
