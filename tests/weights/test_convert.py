"""Conversion from one form to another and back, and what it refuses."""

from __future__ import annotations

import json
import sys

import numpy as np
import pytest

from src.errors import UsageError
from src.models import create_model
from src.models.layers import weights
from src.runs.checkpoint import read_checkpoint
from src.weights import convert, mapping
from src.weights.containers import read
from src.weights.mapping import in_their_names
from src.weights.sources import Identity, target
from tests.weights.rules import tensors

OPTIONS = {"alpha": 0.5}


@pytest.fixture(scope="module")
def zeros() -> dict[str, np.ndarray]:
    network = create_model("mnasnet", 10, **OPTIONS)
    return {name: np.zeros(value.shape, np.float32) for name, value in weights(network).items()}


@pytest.fixture(scope="module")
def torchvision(zeros) -> dict[str, np.ndarray]:
    """A state dict of ten classes."""
    theirs = in_their_names(target("torchvision", "mnasnet"), Identity("mnasnet", OPTIONS), zeros)
    return tensors({name: array.shape for name, array in theirs.items()}, "mnasnet")


@pytest.fixture
def file(torchvision, tmp_path):
    """Writes the state dict with changes to an .npz."""

    def written(name: str = "in", without: str = "", **changes: np.ndarray):
        arrays = {key: array for key, array in {**torchvision, **changes}.items() if key != without}
        np.savez(tmp_path / f"{name}.npz", **arrays)
        return tmp_path / f"{name}.npz"

    return written


def run(*words: object) -> None:
    convert.main([str(word) for word in words])


def test_there_and_back_is_the_same_to_the_bit(file, torchvision, tmp_path, capsys):
    run(file(), tmp_path / "ours.ckpt", "--num_classes", 10)
    printed = capsys.readouterr().out
    assert "torchvision's names (BSD-3-Clause), mnasnet (alpha 0.5)" in printed
    assert "314 tensors in the file, 262 read for 262 weights, none left over" in printed
    assert "published: top-1 67.73% (torchvision)" in printed
    ours = read_checkpoint(tmp_path / "ours.ckpt")
    assert (ours.trained.model, ours.trained.model_options) == ("mnasnet", OPTIONS)
    assert (ours.trained.source, ours.trained.preprocessing.resize_kernel) == ("torchvision", "pil")
    run(tmp_path / "ours.ckpt", tmp_path / "timm.safetensors", "--to", "timm")
    assert "conv_stem.weight" in read(tmp_path / "timm.safetensors").arrays
    run(tmp_path / "timm.safetensors", tmp_path / "back.safetensors", "--to", "torchvision")
    back = read(tmp_path / "back.safetensors").arrays
    assert back.keys() == torchvision.keys()
    for name, array in torchvision.items():
        assert back[name].dtype == array.dtype and back[name].tobytes() == array.tobytes(), name
    assert ours.trained.num_classes == 10
    np.testing.assert_array_equal(ours.weights["features.stem.conv.weight"], torchvision["layers.0.weight"])


# Sources whose form loses nothing of ours; the others' files have no classifier bias, which must be zero.
@pytest.mark.parametrize(
    ("name", "model", "options"),
    [
        ("proxylessnas", "proxylessnas_mobile", {}),
        ("mindspore", "shufflenetv1", {"size": "0.5x", "pooling": "same"}),
        ("megvii", "shufflenetv1", {"size": "0.5x", "shuffle": "after"}),
        ("mxnet", "spos_oneshot_s_plus", {}),
    ],
)
def test_each_form_gives_back_what_it_was_given(name, model, options):
    """Groups apart, images in BGR, a classifier that convolves."""
    source, identity = target(name, model), Identity(model, options)
    shapes = {key: value.shape for key, value in weights(create_model(model, 10, **options)).items()}
    given = tensors(shapes, model)
    if not source.has_bias:
        with pytest.raises(UsageError, match=r"has no classifier\.bias, and this one is not zero"):
            in_their_names(source, identity, given)
        given["classifier.bias"] = np.zeros(10, np.float32)
    theirs = in_their_names(source, identity, given)
    back = mapping.in_our_names(mapping.Recognised(source, theirs_without_counters(theirs), ()), identity, shapes)
    assert back.keys() == given.keys()
    for key, array in given.items():
        assert back[key].tobytes() == array.tobytes(), key


def theirs_without_counters(arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    return {name: array for name, array in arrays.items() if not name.endswith("num_batches_tracked")}


def test_prefixes_are_understood_and_what_is_no_weight_is_said(file, torchvision, tmp_path, capsys):
    prefixed = {f"module.{name}": array for name, array in torchvision.items()}
    averages = {f"ema.module.{name}": array * 2 for name, array in torchvision.items() if array.ndim}
    np.savez(tmp_path / "many.npz", **averages, **prefixed, **{"optimizer.0.lr": np.zeros(1, np.float32)})
    run(tmp_path / "many.npz", tmp_path / "ours.ckpt", "--num_classes", 10)
    printed = capsys.readouterr().out
    assert "262 moving averages" in printed and "52 num_batches_tracked" in printed and "1 optimizer" in printed
    stem = read_checkpoint(tmp_path / "ours.ckpt").weights["features.stem.conv.weight"]
    np.testing.assert_array_equal(stem, torchvision["layers.0.weight"])
    backbone = {name if name.startswith("cl") else f"backbone.{name}": a for name, a in torchvision.items()}
    np.savez(tmp_path / "backbone.npz", **backbone)
    run(tmp_path / "backbone.npz", tmp_path / "backbone.ckpt", "--num_classes", 10)


def test_other_precisions_are_converted_and_said(file, torchvision, tmp_path, capsys):
    half = torchvision["layers.0.weight"].astype(np.float16)
    run(file(**{"layers.0.weight": half}), tmp_path / "ours.ckpt", "--num_classes", 10)
    assert "1 tensors of float16 read as float32" in capsys.readouterr().out
    stem = read_checkpoint(tmp_path / "ours.ckpt").weights["features.stem.conv.weight"]
    np.testing.assert_array_equal(stem, half.astype(np.float32))


TEN = ("--num_classes", 10)
REFUSED = {
    "surplus": ({"extra.weight": np.zeros(1, np.float32)}, "", TEN, r"does not fit mnasnet: left over: extra\.weight"),
    "missing": ({}, "layers.1.bias", TEN, r"does not fit mnasnet: missing: layers\.1\.bias"),
    "shape": ({"layers.15.bias": np.zeros(9, np.float32)}, "", TEN, r"wrong shape: features\.head\.norm\.beta \[9\]"),
    "nan": ({"layers.1.bias": np.full(16, np.nan, np.float32)}, "", TEN, r"layers\.1\.bias holds .*NaN or infinite"),
    "classes unsaid": ({}, "", (), "has 10 classes; say --num_classes 10"),
    "other classes": ({}, "", ("--num_classes", 5), "has 10 classes; say --num_classes 10"),
    "another network": ({}, "", (*TEN, "--model", "spnasnet"), "holds weights of mnasnet, not of spnasnet"),
    "another variant": ({}, "", (*TEN, "--model_options", "{alpha: 1.0}"), "give --model_options.alpha 0.5"),
    "another source": ({}, "", (*TEN, "--source", "timm"), "is not of timm: it begins with layers"),
    "no source": ({}, "", (*TEN, "--source", "tim"), r"no source 'tim' \(did you mean 'timm'"),
    "no such width": ({"layers.0.weight": np.zeros((17, 3, 3, 3), np.float32)}, "", TEN, "has 17 channels; MnasNet's"),
    "no such form": ({}, "", (*TEN, "--to", "megvii"), "megvii has no mnasnet; it can be torchvision, timm, mindcv"),
    "another epsilon": ({}, "", (*TEN, "--to", "mindcv"), "give --model_options.bn_eps 0.001"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_does_not_fit_is_refused_and_nothing_written(file, tmp_path, case):
    changes, without, words, cause = REFUSED[case]
    path = file(without=without, **changes)
    before = sorted(tmp_path.iterdir())
    with pytest.raises(UsageError, match=cause):
        run(path, tmp_path / "out.safetensors", *words)
    assert sorted(tmp_path.iterdir()) == before


def test_out_is_checked_before_anything_is_read(tmp_path, monkeypatch):
    (tmp_path / "there.npz").touch()
    for out, cause in (("out.bin", "the ending of OUT"), ("there.npz", "exists"), ("no/out.npz", "no folder")):
        with pytest.raises(UsageError, match=cause):
            run(tmp_path / "nothing.npz", tmp_path / out)
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(UsageError, match=r"PyTorch, which is not installed; give OUT\.safetensors"):
        run(tmp_path / "nothing.npz", tmp_path / "out.pth")
    with pytest.raises(UsageError, match=r"there is no .*nothing\.npz"):
        run(tmp_path / "nothing.npz", tmp_path / "out.npz")


def test_class_names_travel(file, tmp_path):
    (tmp_path / "classes.json").write_text(json.dumps([f"digit {number}" for number in range(10)]))
    run(file(), tmp_path / "ours.ckpt", *TEN, "--classes", tmp_path / "classes.json")
    assert read_checkpoint(tmp_path / "ours.ckpt").trained.classes[3] == "digit 3"
    (tmp_path / "classes.json").write_text(json.dumps([str(number) for number in range(11)]))
    with pytest.raises(UsageError, match="names 11 classes, the network has 10"):
        run(file(), tmp_path / "other.ckpt", *TEN, "--classes", tmp_path / "classes.json")


@pytest.mark.parametrize(
    ("name", "model", "options", "expected"),
    [
        ("torchvision", "mnasnet", {"alpha": 0.5}, (256, "bilinear", "pil", 0.485)),
        ("torchvision", "mnasnet", {"alpha": 1.3}, (232, "bilinear", "pil", 0.485)),
        ("timm", "mnasnet", {}, (256, "bicubic", "pil", 0.485)),
        ("timm", "spnasnet", {}, (256, "bilinear", "pil", 0.485)),
        ("proxylessnas", "proxylessnas_mobile", {}, (256, "bilinear", "pil", 0.485)),
        ("megvii", "shufflenetv1", {"shuffle": "after"}, (256, "bilinear", "mindspore", 0.0)),
        ("megvii", "spos_oneshot", {"shuffle": "megvii"}, (256, "bilinear", "mindspore", 0.0)),
        ("mxnet", "spos_oneshot", {}, (256, "bilinear", "pil", 123.68 / 255)),
        ("mindspore", "shufflenetv1", {"pooling": "same"}, (239, "bilinear", "mindspore", 0.485)),
        ("mindcv", "mnasnet", {"bn_eps": 0.001}, (256, "bilinear", "mindspore", 0.485)),
    ],
)
def test_images_are_treated_as_the_source_evaluates_them(name, model, options, expected):
    found = target(name, model).preprocessing_of(Identity(model, options))
    assert (found.resize, found.interpolation, found.resize_kernel, found.mean[0]) == expected
    assert found.image_size == 224
    if name == "megvii":
        assert found.std == (1 / 255,) * 3
