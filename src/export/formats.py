"""Writing a graph as MindIR, ONNX or AIR, and running the first two from their files."""

from __future__ import annotations

import contextlib
import io
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

import mindspore as ms
import numpy as np
from mindspore import Tensor, nn

from src.errors import UsageError
from src.export.graph import INPUT_NAME, OUTPUT_NAME, Graph
from src.files import replacing

FORMATS = {"MINDIR": ".mindir", "ONNX": ".onnx", "AIR": ".air"}
MINDIR_FOR = ("mindspore", "lite-2.0")

Run = Callable[[np.ndarray], np.ndarray]


def write(graph: Graph, path: Path, file_format: str, target: str = "CPU") -> None:
    """Writes ``path``, whole or not at all.

    Args:
        path: with the suffix of the format.
        target: the device in use; AIR needs an Ascend.

    Raises:
        UsageError: AIR without an Ascend.
    """
    if file_format == "AIR" and target != "Ascend":
        raise UsageError(f"--file_format AIR needs an Ascend device, this is {target}: choose MINDIR or ONNX")
    path.parent.mkdir(parents=True, exist_ok=True)
    # The framework takes no path with a space, a comma or a letter beyond ASCII in it.
    with tempfile.TemporaryDirectory() as folder:
        plain = Path(folder) / f"network{path.suffix}"
        if file_format == "ONNX":
            names = {"input_names": [INPUT_NAME], "output_names": [OUTPUT_NAME]}
            ms.onnx.export(graph.cell, graph.placeholder(), file_name=str(plain), **names)
        else:
            with contextlib.redirect_stdout(io.StringIO()):  # the framework prints of its progress
                ms.export(graph.cell, graph.placeholder(), file_name=str(plain), file_format=file_format)
        with replacing(path) as unfinished:
            shutil.copyfile(plain, unfinished)


def runner(path: Path, file_format: str) -> Run:
    """A function from a batch of images to logits [N, K] that runs the file: MindIR by MindSpore, ONNX, once
    onnx.checker has passed it, by ONNX Runtime."""
    return _mindir_runner(path) if file_format == "MINDIR" else onnx_runner(path)


def _mindir_runner(path: Path) -> Run:
    cell = nn.GraphCell(ms.load(str(path)))
    return lambda images: cell(Tensor(images)).asnumpy()


def onnx_runner(path: Path, providers: tuple[str, ...] = ("CPUExecutionProvider",), threads: int = 0) -> Run:
    """``threads``: 0 leaves the number to ONNX Runtime. Raises UsageError if the file is no ONNX, or damaged."""
    import onnx
    import onnxruntime

    try:
        onnx.checker.check_model(onnx.load(path), full_check=True)
    except Exception as error:  # protobuf's, Unicode's, ONNX's own: whatever the bytes make its parsers stumble over
        raise UsageError(f"{path} is no ONNX file, or damaged: {' '.join(str(error).split())[:120]}") from error
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(str(path), options, providers=list(providers))
    name = session.get_inputs()[0].name
    return lambda images: session.run(None, {name: images})[0]
