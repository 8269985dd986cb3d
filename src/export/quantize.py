"""int8 by post-training static quantisation of an ONNX file, with ONNX Runtime's quantiser."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import onnx
import onnx.version_converter

from src.export.graph import INPUT_NAME

METHODS = {"minmax": "MinMax", "entropy": "Entropy", "percentile": "Percentile"}
PARTS = ("first", "last")
_OPSET = 13
_MULTIPLIERS = ("Conv", "Gemm", "MatMul")


def quantize_int8(
    source: Path, target: Path, calibration: Iterable[np.ndarray], method: str = "minmax", exclude: Sequence[str] = ()
) -> None:
    """Writes the int8 form of ``source``: quantise-dequantise pairs, weights int8 per channel, activations uint8.

    Args:
        source: a float file, its batch norms merged.
        calibration: batches of inputs, whose activations set the ranges.
        method: a key of METHODS: the whole range, the one of least information lost, or 99.999 % of the values.
        exclude: some of PARTS, which stay float.
    """
    from onnxruntime.quantization import CalibrationMethod, QuantFormat, QuantType, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    with tempfile.TemporaryDirectory() as folder:
        prepared, newer = Path(folder) / "prepared.onnx", Path(folder) / "newer.onnx"
        # Scales per channel need DequantizeLinear's axis; MindSpore writes opset 11.
        onnx.save(onnx.version_converter.convert_version(onnx.load(source), _OPSET), newer)
        quant_pre_process(str(newer), str(prepared), skip_symbolic_shape=True)
        quantize_static(
            str(prepared),
            str(target),
            _reader(calibration),
            quant_format=QuantFormat.QDQ,
            per_channel=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            calibrate_method=getattr(CalibrationMethod, METHODS[method]),
            nodes_to_exclude=nodes_of(onnx.load(prepared), exclude),
        )


def nodes_of(model: onnx.ModelProto, parts: Sequence[str]) -> list[str]:
    """Names of the nodes that make up ``parts``: the first and the last that multiply."""
    multipliers = [node for node in model.graph.node if node.op_type in _MULTIPLIERS]
    chosen = {
        "first": multipliers[:1],
        "last": multipliers[-1:],
    }
    return [node.name for part in parts for node in chosen[part]]


def _reader(batches: Iterable[np.ndarray]):
    from onnxruntime.quantization import CalibrationDataReader

    class Reader(CalibrationDataReader):
        def __init__(self):
            self._batches = iter(batches)

        def get_next(self) -> dict[str, np.ndarray] | None:
            batch = next(self._batches, None)
            return None if batch is None else {INPUT_NAME: batch}

    return Reader()
