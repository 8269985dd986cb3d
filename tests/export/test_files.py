"""Exported files against the network they come from."""

import dataclasses
import json
import subprocess
import sys
from pathlib import Path

import mindspore as ms
import numpy as np
import pytest
from mindspore import Tensor, nn

import export
from src.data.preprocessing import Preprocessing
from src.errors import RunFailed, UsageError
from src.export.described import manifest_path, read_manifest
from src.export.formats import runner
from src.export.graph import graph_of
from src.export.merge_bn import merge_batch_norm
from src.export.mindir_v1 import VERSION, mind_ir, rewrite, rewrite_into
from src.export.options import name_of, parse
from src.export.parity import compare, some_images
from src.files import sha256
from src.models import create_model, list_models
from src.models.layers import BatchNorm, ConvNormAct
from src.weights.loading import trained_of
from tests.exported import checkpoint, lively

CLASSES = ["class0", "class1", "class2"]
ROOT = Path(__file__).resolve().parents[2]


def exported(path: Path, folder: Path, photos: Path, *flags: str) -> dict:
    """Runs export.py and returns the manifest it writes."""
    common = ["--checkpoint_path", str(path), "--file_name", str(folder / "net"), "--image_path", str(photos / "val")]
    export.main([*common, *flags])
    return json.loads((folder / "net.manifest.json").read_text())


@pytest.mark.parametrize(
    ("model", "options", "merged", "flags"),
    [
        ("shufflenetv1", {"size": "0.5x"}, 0, ["--batch_size", "dynamic"]),
        pytest.param(
            *(
                "shufflenetv1",
                {"size": "0.5x", "pooling": "same"},
                0,
                ["--batch_size", "4", "--mindir_for", "lite-2.0"],
            ),
            marks=pytest.mark.slow,
        ),
        pytest.param(
            *("spos_oneshot_s_plus", {}, 72, ["--batch_size", "5", "--merge_bn", "--mindir_for", "lite-2.0"]),
            marks=pytest.mark.slow,
        ),
        ("tiny", {}, 2, ["--batch_size", "dynamic", "--merge_bn", "--preprocess"]),
    ],
)
def test_files_compute_what_the_network_computes(tmp_path, photos, tiny_model, model, options, merged, flags):
    """Also in a folder, and from a checkpoint, whose path the framework's own export refuses."""
    folder = tmp_path / "my networks, 网络 é"
    folder.mkdir()
    path = checkpoint(folder, model, CLASSES, **options)
    manifest = exported(path, folder, photos, "--file_format", "MINDIR,ONNX", *flags)
    assert {file.suffix for file in folder.iterdir()} == {".ckpt", ".json", ".mindir", ".onnx"}  # nothing half written
    assert [entry["format"] for entry in manifest["files"]] == ["MINDIR", "ONNX"]
    for entry in manifest["files"]:
        assert entry["parity"]["images"] == 13
        assert entry["parity"]["top1_agreement"] == 1
        assert entry["parity"]["largest_difference"] <= 1e-4 * max(1, entry["parity"]["largest_logit"])
    assert manifest["merged_batch_norms"] == (merged if "--merge_bn" in flags else 0)
    assert manifest["classes"] == CLASSES
    assert read_manifest(folder / "net.onnx")[1]["input"]["is_normalised"] == ("--preprocess" not in flags)


@pytest.mark.slow
@pytest.mark.parametrize("model", list_models())
@pytest.mark.parametrize("batch", ["1", "8"])
@pytest.mark.parametrize("merge", ["False", "True"])
def test_every_network_is_exported(tmp_path, photos, model, batch, merge):
    path = checkpoint(tmp_path, model, CLASSES)
    flags = ["--file_format", "MINDIR", "ONNX", "--batch_size", batch, "--merge_bn", merge, "--mindir_for", "lite-2.0"]
    manifest = exported(path, tmp_path, photos, *flags)
    assert len(manifest["files"]) == 2
    assert (manifest["merged_batch_norms"] > 0) == (merge == "True")


def test_a_difference_above_tolerance_fails_and_leaves_no_file(tmp_path, photos, tiny_model):
    path = checkpoint(tmp_path, tiny_model, CLASSES)
    with pytest.raises(RunFailed, match="differs from the network by"):
        exported(path, tmp_path, photos, "--file_format", "ONNX", "--tolerance", "1e-15")
    assert not (tmp_path / "net.onnx").exists()


def test_a_changed_file_is_noticed(tmp_path, photos, tiny_model):
    path = checkpoint(tmp_path, tiny_model, CLASSES)
    exported(path, tmp_path, photos, "--file_format", "ONNX")
    content = bytearray((tmp_path / "net.onnx").read_bytes())
    content[len(content) // 2] ^= 1
    (tmp_path / "net.onnx").write_bytes(content)
    with pytest.raises(UsageError, match="not the file that"):
        read_manifest(tmp_path / "net.onnx")


def test_a_supernet_is_refused_with_what_to_do_instead(tmp_path, photos, tiny_model, monkeypatch):
    path = checkpoint(tmp_path, tiny_model, CLASSES)
    trained = trained_of(path)
    supernet = dataclasses.replace(trained, config=trained.config.replace(train_supernet=True))
    monkeypatch.setattr("src.export.source.trained_of", lambda *_: supernet)
    with pytest.raises(UsageError, match=r"many networks: choose one with python search\.py"):
        exported(path, tmp_path, photos)


def test_air_needs_an_ascend(tmp_path, photos, tiny_model):
    with pytest.raises(UsageError, match="AIR needs an Ascend device, this is CPU"):
        exported(checkpoint(tmp_path, tiny_model, CLASSES), tmp_path, photos, "--file_format", "AIR")


def test_merging_keeps_convolutions_without_batch_norm_and_their_names():
    ms.set_context(mode=ms.PYNATIVE_MODE)
    images = Tensor(np.random.default_rng(1).normal(size=(2, 3, 8, 8)).astype(np.float32))
    plain = lambda: lively(  # noqa: E731
        nn.SequentialCell(
            [
                ConvNormAct(3, 4, 3, 2, norm=BatchNorm(eps=1e-3), act="relu6"),
                ConvNormAct(4, 4, 3, groups=4, norm=BatchNorm(beta=1e-4)),
                ConvNormAct(4, 5, act="relu"),
            ]
        )
    )
    ms.set_seed(3)
    network = plain()
    before = network(images).asnumpy()
    assert merge_batch_norm(network) == 2
    assert np.abs(network(images).asnumpy() - before).max() < 1e-6
    names = [parameter.name for parameter in network.get_parameters()]
    assert len(set(names)) == len(names) == 6
    assert merge_batch_norm(network) == 0


def _model(cell: nn.Cell, *shape: int):
    from mindspore.train import mind_ir_pb2 as mind_ir

    def build(folder: Path):
        ms.export(cell, Tensor(np.zeros(shape, np.float32)), file_name=str(folder / "cell"), file_format="MINDIR")
        model = mind_ir.ModelProto()
        model.ParseFromString((folder / "cell.mindir").read_bytes())
        return model

    return build


class Cosine(nn.Cell):
    def construct(self, x):
        return x.cos() + x.sin()


def test_mindir_of_an_unknown_operator_is_refused_by_name_and_left_alone(tmp_path):
    ms.set_context(mode=ms.GRAPH_MODE)
    model = _model(Cosine(), 2, 3)(tmp_path)
    before = model.SerializeToString(deterministic=True)
    with pytest.raises(UsageError, match="no rule for Cos, Sin"):
        rewrite(model)
    assert model.SerializeToString(deterministic=True) == before


class SharedNumber(nn.Cell):
    """Multiplies by a number that is also a batch norm's epsilon, so both use one constant."""

    def __init__(self):
        super().__init__()
        self.norm = nn.BatchNorm2d(3, eps=0.25)

    def construct(self, x):
        return self.norm(x * 0.25) * 0.25


def test_mindir_numbers_shared_between_operators_keep_their_meaning(tmp_path):
    ms.set_context(mode=ms.GRAPH_MODE)
    cell = lively(SharedNumber())
    images = np.random.default_rng(2).normal(size=(2, 3, 4, 4)).astype(np.float32)
    model = _model(cell, 2, 3, 4, 4)(tmp_path)
    rewrite(model)
    assert model.mind_ir_version == VERSION
    (tmp_path / "v1.mindir").write_bytes(model.SerializeToString())
    again = runner(tmp_path / "v1.mindir", "MINDIR")(images)
    assert np.abs(again - cell(Tensor(images)).asnumpy()).max() < 1e-6
    with pytest.raises(UsageError, match="has version 1"):
        rewrite(model)


def test_a_mindir_is_rewritten_into_a_folder_with_its_manifest(tmp_path):
    """As ``run_infer_310.sh`` has it done; a file that was changed since its export is not taken."""
    network = mind_ir.ModelProto(mind_ir_version=3)
    network.graph.name = "network"
    file, folder = tmp_path / "a net, é.mindir", tmp_path / "lite_Model"
    file.write_bytes(network.SerializeToString())
    entry = {"file": file.name, "bytes": file.stat().st_size, "sha256": sha256(file)}
    entry |= {"input": {"shape": [1, 3, 32, 32], "is_normalised": True}}
    head = {"classes": ["a"], "preprocessing": Preprocessing().to_dict()}
    text = json.dumps({**head, "files": [{"file": "other.onnx"}, entry]})
    manifest_path(file).write_text(text)
    assert rewrite_into(file, folder) == folder / file.name
    rewritten = mind_ir.ModelProto.FromString((folder / file.name).read_bytes())
    assert (rewritten.mind_ir_version, rewritten.graph.name) == (VERSION, "network")
    manifest, entry = read_manifest(folder / file.name)
    assert (manifest["classes"], manifest["files"][0]) == (["a"], {"file": "other.onnx"})
    assert entry["bytes"] == (folder / file.name).stat().st_size

    with pytest.raises(UsageError, match="has version 1"):
        rewrite_into(folder / file.name, tmp_path / "again")
    manifest_path(file).write_text(text.replace(sha256(file), "0" * 64))
    with pytest.raises(UsageError, match="not the file that"):
        rewrite_into(file, folder)
    manifest_path(file).unlink()
    rewrite_into(file, tmp_path / "alone")
    assert [path.name for path in (tmp_path / "alone").iterdir()] == [file.name]
    file.write_bytes(b"no MindIR")
    with pytest.raises(UsageError, match="no whole MindIR file"):
        rewrite_into(file, folder)
    assert not (tmp_path / "again").exists()


def test_rewriting_a_mindir_does_not_import_the_framework():
    code = "import sys, src.export.mindir_v1; print('mindspore' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"


def test_normalisation_inside_equals_outside(tiny_model):
    preprocessing = Preprocessing(image_size=32, resize=32, mean=(0.1, 0.5, 0.9), std=(0.2, 0.3, 0.4))
    network = lively(create_model(tiny_model, 3))
    pixels = np.random.default_rng(3).integers(0, 256, (2, 32, 32, 3), dtype=np.uint8)
    normal = (pixels / 255 - np.array(preprocessing.mean)) / np.array(preprocessing.std)
    outside = network(Tensor(normal.transpose(0, 3, 1, 2).astype(np.float32))).asnumpy()
    inside = graph_of(network, preprocessing, 2, True).cell(Tensor(pixels)).asnumpy()
    assert np.abs(inside - outside).max() < 1e-4 * max(1, np.abs(outside).max())


def test_comparison_tells_wrong_values_shapes_and_nan():
    logits = np.array([[1.0, 2.0], [4.0, 3.0]], np.float32)
    parity = compare(logits, logits + np.array([[0, 0], [0, 2.0]], np.float32))
    assert (parity.largest_difference, parity.largest_logit, parity.top1_agreement) == (2, 4, 0.5)
    parity.require(0.5, "file")
    with pytest.raises(RunFailed, match="file differs"):
        parity.require(0.49, "file")
    with pytest.raises(RunFailed, match="differs"):
        compare(logits, logits * np.nan).require(1e9, "file")
    with pytest.raises(RunFailed, match="gives logits"):
        compare(logits, logits[:, :1])


def test_images_for_the_check_are_spread_over_the_folder(photos, tmp_path):
    chosen = some_images(photos / "val", 3)
    assert [path.parent.name for path in chosen] == ["class0", "class1", "class2"]
    assert len(some_images("", 5)) == 2
    with pytest.raises(UsageError, match="no image in"):
        some_images(tmp_path, 3)


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--file_format", "TFLITE"], "--file_format 'TFLITE'"),
        (["--batch_size", "0"], "neither a number"),
        (["--width", "64", "--height", "32"], "square"),
        (["--width", "-3"], "at least 32 pixels"),
        (["--mindir_for", "lite-1"], "invalid choice"),
        (["--preprocess", "--mindir_for", "lite-2.0"], "Lite 2.0 cannot take uint8"),
        (["--batch_size", "dynamic", "--mindir_for", "lite-2.0"], "give a number"),
        (["--check_images", "0"], "must be positive"),
        (["--no_such_flag", "1"], "there is no flag"),
    ],
)
def test_wrong_options_are_refused(flags, message):
    with pytest.raises(UsageError, match=message):
        parse(flags)


def test_names_of_files(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").touch()

    def name(text: str) -> str:
        return str(name_of(parse(["--file_name", text])[0], "mnasnet"))

    assert [name(text) for text in ("", "new/b.onnx", "v1.0", "new/")] == ["mnasnet", "new/b", "v1.0", "new/mnasnet"]
    with pytest.raises(UsageError, match="file cannot be made"):
        name("file/net")


def test_upstream_flags_of_export():
    options, config = parse(
        ["--ckpt_file", "a.ckpt", "--file_name", "b", "--width", "64", "--file-format=onnx", "--device_id", "1"]
    )
    assert (config.checkpoint_path, config.image_size, config.device_id) == ("a.ckpt", 64, 1)
    assert (options.file_name, options.file_format, options.batch_size) == ("b", ["ONNX"], 1)
