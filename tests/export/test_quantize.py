"""int8 files: what stays float, what they answer, what their manifest says."""

import json

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

import export
import infer_onnx
from src.errors import RunFailed, UsageError
from src.export import lite
from src.export.formats import onnx_runner
from src.export.quantize import nodes_of, quantize_int8
from tests.exported import checkpoint
from tests.images import accepted_files, write_files

CLASSES = ["class0", "class1", "class2"]


@pytest.fixture(scope="module")
def float_file(tiny_model, photos, tmp_path_factory):
    """An exported tiny network, batch norms merged, open batch."""
    folder = tmp_path_factory.mktemp("float")
    path = checkpoint(folder, tiny_model, CLASSES)
    flags = ["--file_format", "ONNX", "--batch_size", "dynamic", "--merge_bn", "--image_path", str(photos / "val")]
    export.main(["--checkpoint_path", str(path), "--file_name", str(folder / "net"), *flags])
    return folder / "net.onnx"


def test_parts_are_found_in_the_graph(float_file):
    model = onnx.load(float_file)
    multipliers = [node for node in model.graph.node if node.op_type in ("Conv", "Gemm", "MatMul")]
    assert nodes_of(model, ["first"]) == [multipliers[0].name]
    assert nodes_of(model, ["last"]) == [multipliers[-1].name]
    assert nodes_of(model, ["depthwise"]) == [multipliers[1].name]
    assert nodes_of(model, ["last", "first", "last"]) == [multipliers[-1].name, multipliers[0].name]
    assert nodes_of(model, []) == []


def test_excluded_parts_have_float_weights(float_file, tmp_path):
    calibration = [np.random.default_rng(4).normal(size=(4, 3, 32, 32)).astype(np.float32)]
    weights = {}
    for name, exclude in (("all", []), ("some", ["first", "last"]), ("dense", ["depthwise"])):
        quantize_int8(float_file, tmp_path / f"{name}.onnx", calibration, "minmax", exclude)
        tensors = onnx.load(tmp_path / f"{name}.onnx").graph.initializer
        weights[name] = sum(tensor.data_type == onnx.TensorProto.INT8 and len(tensor.dims) > 1 for tensor in tensors)
    assert weights == {"all": 3, "some": 1, "dense": 2}


def test_float_depthwise_weights_stay_float_when_the_file_is_loaded(tmp_path):
    """One channel that is always 0 has weights a thousandfold: one scale for all channels would lose the others."""
    rng = np.random.default_rng(5)
    shapes = {"expand": (8, 3, 1, 1), "depthwise": (8, 1, 3, 3), "project": (4, 8, 1, 1)}
    weights = {name: rng.normal(size=shape) for name, shape in shapes.items()}
    weights["expand"][0], weights["depthwise"][0] = 0, 1000
    nodes, last = [], "images"
    for name, groups, activation in (("expand", 1, "Relu"), ("depthwise", 8, "Relu"), ("project", 1, "")):
        side = weights[name].shape[2]
        output = name if activation else "logits"
        shape = {"kernel_shape": [side, side], "pads": [side // 2] * 4, "group": groups}
        nodes.append(helper.make_node("Conv", [last, f"{name}.weight"], [output], name=name, **shape))
        if activation:
            nodes.append(helper.make_node(activation, [name], [f"{name}.out"], name=f"{name}.{activation}"))
        last = f"{name}.out"
    graph = helper.make_graph(
        nodes,
        "separable",
        [helper.make_tensor_value_info("images", TensorProto.FLOAT, ["N", 3, 8, 8])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["N", 4, 8, 8])],
        [numpy_helper.from_array(values.astype(np.float32), f"{name}.weight") for name, values in weights.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 11)], ir_version=8)
    onnx.save(model, tmp_path / "float.onnx")
    images = rng.normal(size=(4, 3, 8, 8)).astype(np.float32)
    expected = onnx_runner(tmp_path / "float.onnx")(images)
    quantize_int8(tmp_path / "float.onnx", tmp_path / "int8.onnx", [images], exclude=["depthwise"])
    difference = np.abs(onnx_runner(tmp_path / "int8.onnx")(images) - expected).max()
    assert difference < 0.05 * np.abs(expected).max()


def test_settings_of_lites_converter(float_file, tmp_path):
    config = lite.int8_config(float_file, tmp_path, [np.ones((1, 3, 4, 4), np.float32)] * 2, "entropy", ["first"])
    first = nodes_of(onnx.load(float_file), ["first"])[0]
    for line in ("activation_quant_method=KL", "calibrate_size=2", f"calibrate_path=images:{tmp_path}"):
        assert line in config.splitlines()
    assert f"skip_quant_node={first}" in config.splitlines()
    assert [path.stat().st_size for path in sorted(tmp_path.iterdir())] == [192, 192]
    assert "skip_quant_node" not in lite.int8_config(float_file, tmp_path, [], "minmax", [])


def test_export_reports_the_cost_and_the_file_is_evaluated(tiny_model, photos, tmp_path, capsys):
    path = checkpoint(tmp_path, tiny_model, CLASSES)
    flags = ["--quantize", "int8", "--calibration_path", str(photos / "train"), "--calibration_images", "10"]
    common = [
        "--checkpoint_path",
        str(path),
        "--file_name",
        str(tmp_path / "net"),
        "--val_data_path",
        str(photos / "val"),
    ]
    export.main([*common, "--file_format", "ONNX", *flags])
    entry = json.loads((tmp_path / "net_int8.manifest.json").read_text())["files"][0]
    assert entry["quantization"]["calibration_images"] == 10
    assert entry["quantization"]["accuracy"]["images"] == 13
    assert entry["quantization"]["milliseconds"] > 0
    assert entry["parity"]["largest_difference"] < 0.2 * entry["parity"]["largest_logit"]
    capsys.readouterr()
    infer_onnx.main(
        ["--onnx_path", str(tmp_path / "net_int8.onnx"), "--dataset_path", str(photos), "--batch_size", "5"]
    )
    assert f"correct_top1 = {entry['quantization']['accuracy']['top1']}\n" in capsys.readouterr().out
    infer_onnx.main(["--onnx_path", str(tmp_path / "net.onnx"), "--dataset_path", str(photos)])
    assert f"correct_top1 = {entry['quantization']['float_accuracy']['top1']}\n" in capsys.readouterr().out


def test_calibration_needs_images(tiny_model, photos, tmp_path):
    path = checkpoint(tmp_path, tiny_model, CLASSES)
    with pytest.raises(UsageError, match="--calibration_path is missing"):
        export.main(["--checkpoint_path", str(path), "--file_name", str(tmp_path / "net"), "--quantize", "int8"])


def test_lites_converter_is_stopped_where_it_hangs(tmp_path, monkeypatch):
    (tmp_path / "convert").write_text("#!/bin/sh\nexec sleep 60\n")
    (tmp_path / "convert").chmod(0o755)
    monkeypatch.setattr(lite, "PROGRAMS", tmp_path)
    monkeypatch.setattr(lite, "_SECONDS", 0.2)
    with pytest.raises(RunFailed, match="did not end within 0 s"):
        lite.convert(tmp_path / "a.onnx", tmp_path / "a.mindir")
    (tmp_path / "convert").write_text("#!/bin/sh\necho 'no such operator'\nexit 1\n")
    monkeypatch.setattr(lite, "_SECONDS", 60)
    with pytest.raises(RunFailed, match="failed with status 1: no such operator"):
        lite.convert(tmp_path / "a.onnx", tmp_path / "a.mindir")
    with pytest.raises(UsageError, match=r"int8 MindIR of shufflenetv1: .* never ends; choose"):
        lite.require_int8("shufflenetv1")


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--file_format", "MINDIR"], "build.sh --fetch"),
        (["--file_format", "AIR"], "makes ONNX and MINDIR files, not AIR"),
    ],
)
def test_int8_that_cannot_be_made_is_refused_before_anything_is_written(
    tiny_model, photos, tmp_path, monkeypatch, flags, message
):
    monkeypatch.setattr(lite, "PROGRAMS", tmp_path)
    path = checkpoint(tmp_path, tiny_model, CLASSES)
    common = ["--checkpoint_path", str(path), "--file_name", str(tmp_path / "net"), "--quantize", "int8"]
    with pytest.raises(UsageError, match=message):
        export.main([*common, "--calibration_path", str(photos / "train"), *flags])
    assert list(tmp_path.glob("net*")) == []


def test_some_of_the_networks_classes_keep_their_labels(tmp_path, capsys):
    for name in ("cat", "eel"):
        write_files(tmp_path / name, {"1.jpg": accepted_files()["plain.jpg"]})
    assert infer_onnx.classes_of(tmp_path, ["ant", "cat", "dog", "eel"]) == {"cat": 1, "eel": 3}
    assert capsys.readouterr().out == f"note: {tmp_path} has images of 2 of the network's 4 classes\n"
    assert infer_onnx.classes_of(tmp_path, ["cat", "eel"]) == {"cat": 0, "eel": 1}
    assert infer_onnx.classes_of(tmp_path, ["cat", "dog"]) == {"cat": 0, "dog": 1}  # which the reader of images refuses
    assert infer_onnx.classes_of(tmp_path, []) is None
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("content", [b"", b"no protobuf", bytes(range(256)) * 9])
def test_what_is_no_onnx_is_named(tmp_path, content):
    (tmp_path / "net.onnx").write_bytes(content)
    with pytest.raises(UsageError, match=r"net\.onnx is no ONNX file, or damaged: "):
        infer_onnx.onnx_runner(tmp_path / "net.onnx")


def test_onnx_evaluation_refuses_what_it_cannot_do(float_file, photos):
    with pytest.raises(UsageError, match="no file"):
        infer_onnx.main(["--onnx_path", "none.onnx", "--dataset_path", str(photos)])
    with pytest.raises(UsageError, match="no CUDAExecutionProvider"):
        infer_onnx.main(["--onnx_path", str(float_file), "--dataset_path", str(photos), "--device_target", "GPU"])
