"""``<name>.manifest.json``: everything a program needs to use an exported file rightly. `described.py` reads it."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import onnx
import onnxruntime

from src.export.graph import INPUT_NAME, OUTPUT_NAME, Graph
from src.export.parity import Parity
from src.export.source import Source
from src.files import sha256, write_sealed
from src.machine.device import versions

FORMAT = 1


def file_entry(path: Path, file_format: str, graph: Graph, num_classes: int, parity: Parity | None) -> dict[str, Any]:
    """What is said of one file."""
    return {
        "file": path.name,
        "format": file_format,
        "bytes": path.stat().st_size,
        "sha256": sha256(path),
        "input": {
            "name": INPUT_NAME,
            "shape": list(graph.input_shape),
            "dtype": graph.input_dtype,
            "layout": "NHWC" if graph.is_normalising else "NCHW",
            "is_normalised": not graph.is_normalising,
        },
        "output": {"name": OUTPUT_NAME, "shape": [graph.batch, num_classes], "dtype": "float32"},
        "parity": dataclasses.asdict(parity) if parity else None,
    }


def write_manifest(path: Path, source: Source, files: list[dict[str, Any]], merged_batch_norms: int) -> None:
    """Writes the manifest of ``files``, which lie beside it."""
    content = {
        "manifest": FORMAT,
        "model": source.model,
        "model_options": source.model_options,
        "num_classes": source.num_classes,
        "classes": list(source.classes),
        "preprocessing": source.preprocessing.to_dict(),
        "checkpoint": source.checkpoint.name,
        "merged_batch_norms": merged_batch_norms,
        "files": files,
        "versions": {**versions(), "onnx": onnx.__version__, "onnxruntime": onnxruntime.__version__},
    }
    write_sealed(path, content)
