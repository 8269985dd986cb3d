"""predict.py: what it says is what eval.py counts, of every image that can be read, however they are named."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from mindspore import Tensor
from PIL import Image

import mindspore_hub_conf
import predict
from src.data.dataset import EvalData
from src.data.folders import find_images
from src.errors import UsageError
from src.export.source import source_of
from src.models import create_model
from src.models.layers import weights
from src.runs import sheet
from src.runs.checkpoint import write_checkpoint
from src.runs.trained import Trained
from src.settings.config import load_config
from src.training.parts import preprocessing_of
from src.training.prediction import answers
from tests.images import encode, photo

NAMES = ["ape", "bee", "a, comma", "n01440764", "eel", "fox"]


@pytest.fixture(scope="module")
def checkpoint(tiny_model, tmp_path_factory) -> Path:
    """Weights that tell the photos apart, of six classes and a seventh logit without a name."""
    network = create_model(tiny_model, 7)
    learned = {name: value.asnumpy() for name, value in weights(network).items()}
    learned["classifier.weight"] = np.random.default_rng(1).normal(size=(7, 8)).astype(np.float32) * 5
    config = load_config("", {"model": tiny_model, "mean": [0.1, 0.2, 0.3]})
    trained = Trained(tiny_model, {}, 7, NAMES, preprocessing_of(config), config, {}, "")
    path = tmp_path_factory.mktemp("checkpoint") / "tiny.ckpt"
    write_checkpoint(path, learned, {}, trained.to_meta())
    return path


def said(capsys, *words: str | Path) -> list[str]:
    predict.main([*map(str, words), "--mode", "pynative"])
    return capsys.readouterr().out.splitlines()


def test_it_says_what_the_network_does_on_the_pixels_of_the_evaluation(checkpoint, photos, tmp_path, capsys):
    file = tmp_path / "all.json"
    lines = said(capsys, photos / "val", "--checkpoint_path", checkpoint, "--json", file, "--eval_batch_size", "4")
    found = json.loads(file.read_text())
    source = source_of(checkpoint, load_config())
    images = find_images([str(photos / "val")])
    (batch, _, _), *more = EvalData([(path, 0) for path in images], source.preprocessing, 13, 1)
    assert not more and source.preprocessing.mean == (0.1, 0.2, 0.3)
    logits = source.network()(batch).asnumpy().astype(np.float64)
    shares = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    assert [entry["image"] for entry in found["images"]] == [str(path) for path in images]
    for entry, row in zip(found["images"], shares, strict=True):
        order = np.argsort(-row)[:5]
        assert [top["label"] for top in entry["top"]] == order.tolist()
        assert [top["class"] for top in entry["top"]] == [[*NAMES, "unused 6"][label] for label in order]
        np.testing.assert_allclose([top["probability"] for top in entry["top"]], row[order], rtol=1e-4)
        first, second = entry["top"][:2]
        assert {top["name"] for top in entry["top"] if top["class"] == "n01440764"} <= {"tench, Tinca tinca"}
        words = f"{first['name']} {first['probability']:.1%}, {second['name']} {second['probability']:.1%}, "
        assert any(line.startswith(f"{entry['image']}: {words}") for line in lines)
    assert found["preprocessing"] == source.preprocessing.to_dict() and found["model"] == "tiny"
    assert len({entry["top"][0]["probability"] for entry in found["images"]}) == 13, "each image has its own"


def test_what_is_no_image_is_named_and_the_others_are_answered(checkpoint, tmp_path, capsys):
    folder = tmp_path / "photos"
    folder.mkdir()
    for number, name in enumerate(("a.jpg", "b.png", "d.bmp")):
        (folder / name).write_bytes(encode(photo(number), {".jpg": "JPEG", ".png": "PNG", ".bmp": "BMP"}[name[-4:]]))
    (folder / "c.jpg").write_bytes((folder / "a.jpg").read_bytes()[:300])
    (folder / "notes.txt").write_text("no picture")
    words = [folder / "*", "--checkpoint_path", checkpoint, "--sheet", tmp_path / "sheet.png"]
    with pytest.raises(UsageError, match="2 of 5 images could not be read; what is said of the others holds"):
        said(capsys, *words, "--json", tmp_path / "found.json")
    lines = capsys.readouterr().out
    assert f"note: {folder / 'c.jpg'}: truncated" in lines and "notes.txt: not an image by its name" in lines
    entries = json.loads((tmp_path / "found.json").read_text())["images"]
    assert [("top" in entry, "error" in entry) for entry in entries] == [(True, False)] * 2 + [(False, True)] + [
        (True, False),
        (False, True),
    ]
    with Image.open(tmp_path / "sheet.png") as picture:
        assert picture.mode == "RGB" and len(picture.getcolors(1 << 20)) > 500


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        ([], "which images"),
        (["nowhere.jpg"], "nowhere.jpg: there is no such image, folder or pattern"),
        (["none/*.jpg"], "there is no such image, folder or pattern"),
        (["empty"], "empty holds no image"),
        (["photo.jpg", "--sheet", "nowhere/sheet.png"], r"--sheet nowhere/sheet.png: there is no folder nowhere"),
        (["photo.jpg", "--batch", "3"], "there is no flag"),
        (["photo.jpg", "--lr", "3"], "predict.py has no use for it"),
    ],
)
def test_bad_input_is_refused_before_anything_starts(checkpoint, tmp_path, monkeypatch, words, complaint):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    (tmp_path / "photo.jpg").write_bytes(encode(photo(), "JPEG"))
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(UsageError, match=complaint):
        predict.main([*words, "--checkpoint_path", str(checkpoint)])
    assert sorted(tmp_path.rglob("*")) == before


def test_files_folders_and_patterns_stand_for_images_once_and_in_order(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("b/2.jpg", "b/deep/1.png", "b/.hidden.jpg", "b/notes.txt", "a[1].jpg", "z.jpg"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    assert [str(path) for path in find_images(["z.jpg", "b", "*.jpg", "a[1].jpg", "b/**/*.png"])] == [
        "z.jpg",
        "b/2.jpg",
        "b/deep/1.png",
        "a[1].jpg",
    ]


def test_many_images_are_answered_in_their_order(tmp_path):
    """Over the seams between pipelines, with images that cannot be read on both sides of one."""
    paths = []
    for number in range(40):
        paths.append(tmp_path / f"{number}.png")
        good = encode(np.full((40, 40, 3), number * 6, np.uint8), "PNG")
        paths[-1].write_bytes(good if number not in (1, 2, 33) else b"")

    def brightness(images: Tensor) -> Tensor:
        gray = images.asnumpy().mean(axis=(1, 2, 3))
        return Tensor(np.stack([gray, -gray], axis=1).astype(np.float32))

    config = load_config("", {"model": "mnasnet", "image_size": 32, "mean": [0, 0, 0], "std": [1, 1, 1]})
    found = list(
        answers(brightness, paths, preprocessing_of(config), batch_size=2, workers=1, max_pixels=10_000, count=1)
    )
    assert [answer.path for answer in found] == paths
    assert [number for number, answer in enumerate(found) if answer.refusal] == [1, 2, 33]
    for number, answer in enumerate(found):
        if not answer.refusal:
            assert answer.top == ((0, pytest.approx(1 / (1 + np.exp(-2 * number * 6 / 255)), rel=1e-5)),)


def test_a_sheet_holds_at_most_its_number_and_any_text(tmp_path, monkeypatch):
    monkeypatch.setattr(sheet, "MOST", 17)
    (tmp_path / "p.jpg").write_bytes(encode(photo(height=20, width=90), "JPEG"))
    long = [("a class whose name nobody could write in such a narrow field", 0.5), ("", 0.25), ("日本\n", 0.125)]
    images = [(tmp_path / "p.jpg", long, ""), (tmp_path / "q.jpg", [], "truncated: the file ends in its header " * 9)]
    sheet.draw_sheet(images * 90, tmp_path / "many.png")
    sheet.draw_sheet(images[1:], tmp_path / "one.png")
    sizes = []
    for name in ("many.png", "one.png"):
        with Image.open(tmp_path / name) as picture:
            sizes.append(picture.size)
    assert sizes[0][0] == 8 * (176 + 14) + 14 and sizes[0][1] < 3 * 300
    assert sizes[1][0] == 176 + 2 * 14


# -- the hub -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "words", "options", "model"),
    [
        ("spnasnet", (), {}, "spnasnet"),
        ("single_path_nas", (10,), {}, "spnasnet"),
        ("proxylessnas-mobile", (), {"num_classes": 10}, "proxylessnas_mobile"),
        ("shufflenetv1", (), {"n_class": 10, "model_size": "1.0x", "group": 8}, "shufflenetv1"),
        ("mnasnet", (10,), {"alpha": 0.5}, "mnasnet"),
        ("spos", (), {}, "spos_oneshot"),
        ("spos_oneshot_plus", (), {}, "spos_oneshot_plus"),
        ("spos_oneshot_s_plus", (), {}, "spos_oneshot_s_plus"),
    ],
)
def test_the_hub_gives_every_network_by_its_name_and_the_originals(monkeypatch, name, words, options, model):
    made = {}
    monkeypatch.setattr(mindspore_hub_conf, "create_model", lambda name, **given: made.update(name=name, **given))
    mindspore_hub_conf.create_network(name, *words, **options)
    wanted = {"num_classes": 10} if words or len(options) > 1 or "num_classes" in options else {}
    wanted |= {"size": "1.0x", "groups": 8} if "group" in options else {"alpha": 0.5} if "alpha" in options else {}
    assert made == {"name": model, **wanted}


def test_the_hub_gives_a_trained_network_and_one_for_other_classes(checkpoint, tiny_model):
    trained = mindspore_hub_conf.create_network(tiny_model, pretrained=str(checkpoint))
    other = mindspore_hub_conf.create_network(tiny_model, 3, pretrained=str(checkpoint))
    assert trained.classifier.weight.shape == (7, 8) and other.classifier.weight.shape == (3, 8)
    learned = [weights(network)["features.stem.conv.weight"].asnumpy() for network in (trained, other)]
    np.testing.assert_array_equal(*learned)
    assert abs(trained.classifier.weight.asnumpy()).max() > 5
    for words, complaint in (((3, 4), "takes one number of classes"), ((), "there is no network 'resnet'")):
        with pytest.raises(UsageError, match=complaint):
            mindspore_hub_conf.create_network("resnet", *words)
