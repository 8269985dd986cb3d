"""int8 files: what stays float, what they answer, what their manifest says."""

import json

import numpy as np
import onnx
import pytest

import export
import infer_onnx
from src.errors import UsageError
from src.export.quantize import nodes_of, quantize_int8
from tests.exported import checkpoint

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
    assert nodes_of(model, []) == []


def test_excluded_parts_have_float_weights(float_file, tmp_path):
    calibration = [np.random.default_rng(4).normal(size=(4, 3, 32, 32)).astype(np.float32)]
    weights = {}
    for name, exclude in (("all", []), ("some", ["first", "last"])):
        quantize_int8(float_file, tmp_path / f"{name}.onnx", calibration, "minmax", exclude)
        tensors = onnx.load(tmp_path / f"{name}.onnx").graph.initializer
        weights[name] = sum(tensor.data_type == onnx.TensorProto.INT8 and len(tensor.dims) > 1 for tensor in tensors)
    assert weights == {"all": 3, "some": 1}


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


def test_onnx_evaluation_refuses_what_it_cannot_do(float_file, photos):
    with pytest.raises(UsageError, match="no file"):
        infer_onnx.main(["--onnx_path", "none.onnx", "--dataset_path", str(photos)])
    with pytest.raises(UsageError, match="no CUDAExecutionProvider"):
        infer_onnx.main(["--onnx_path", str(float_file), "--dataset_path", str(photos), "--device_target", "GPU"])
