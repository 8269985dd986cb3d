"""``<name>.manifest.json``: everything a program needs to use an exported file rightly."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import onnx
import onnxruntime

from src.errors import UsageError
from src.export.graph import INPUT_NAME, OUTPUT_NAME, Graph
from src.export.parity import Parity
from src.export.source import Source
from src.files import sha256, write_json
from src.machine.device import versions

FORMAT = 1
SUFFIX = ".manifest.json"


def manifest_path(file: Path) -> Path:
    """``out/net.onnx`` -> ``out/net.manifest.json``."""
    return file.with_name(file.stem + SUFFIX)


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
    write_json(path, content)


def read_manifest(file: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """The manifest beside an exported file and its entry for that file, whose checksum must be right.

    Raises:
        UsageError: none there, damaged, of another file, or the file was changed since.
    """
    path = manifest_path(file)
    try:
        content: Mapping[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        entry = next(entry for entry in content["files"] if entry["file"] == file.name)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UsageError(f"{path} cannot be read: export {file.name} again with export.py") from error
    except StopIteration:
        raise UsageError(f"{path} does not describe {file.name}: export it again with export.py") from None
    if sha256(file) != entry["sha256"]:
        raise UsageError(f"{file} is not the file that {path.name} describes: export it again")
    return dict(content), entry
