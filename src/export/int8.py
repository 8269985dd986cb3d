"""``--quantize int8`` of export.py: quantise a checkpoint's network and measure what that costs."""

from __future__ import annotations

import argparse
import dataclasses
import tempfile
from pathlib import Path

from src.data.classes import find_split
from src.errors import UsageError
from src.export.evaluate import Accuracy, accuracy
from src.export.formats import onnx_runner, write
from src.export.graph import graph_of
from src.export.manifest import file_entry, manifest_path, write_manifest
from src.export.merge_bn import merge_batch_norm
from src.export.parity import batches, compare, logits_of_file, some_images
from src.export.quantize import quantize_int8
from src.export.source import Source
from src.labels import labels_of

_CALIBRATION_BATCH, _EVALUATION_BATCH = 16, 32


def export_int8(source: Source, options: argparse.Namespace, path: Path) -> None:
    """Writes ``path`` and its manifest, whose ``quantization`` says how and, where there are validation images, how
    many are right before and after.

    Raises:
        UsageError: no images to calibrate with.
    """
    folder = options.calibration_path or source.train_data_path
    if not folder:
        raise UsageError("--calibration_path is missing: a folder of images such as the network will see")
    network = source.network()
    merged = merge_batch_norm(network)
    graph = graph_of(network, source.preprocessing, None, options.preprocess)
    calibration = [
        values[:valid]
        for values, valid in batches(
            some_images(folder, options.calibration_images),
            source.preprocessing,
            _CALIBRATION_BATCH,
            options.preprocess,
        )
    ]
    with tempfile.TemporaryDirectory() as temporary:
        plain = Path(temporary) / "float.onnx"
        write(graph, plain, "ONNX")
        quantize_int8(plain, path, calibration, options.calibration_method, options.exclude)
        before, after = (_accuracy(source, file, options.preprocess) for file in (plain, path))
        images = some_images(options.image_path or source.val_data_path, options.check_images)
        expected, actual = (
            logits_of_file(onnx_runner(file), images, source.preprocessing, graph) for file in (plain, path)
        )
        float_bytes = plain.stat().st_size
    parity = compare(expected, actual)
    print(f"{path}: {path.stat().st_size:,} bytes (float32: {float_bytes:,}); {parity}")
    if before and after:
        print(
            f"{path}: top-1 {after.top1 / after.images:.2%} (float32: {before.top1 / before.images:.2%}) "
            f"of the {after.images} images of {source.val_data_path}"
        )
    quantization = {
        "type": options.quantize,
        "method": options.calibration_method,
        "calibration_images": sum(map(len, calibration)),
        "float_parts": list(options.exclude),
        "float_bytes": float_bytes,
        "float_accuracy": dataclasses.asdict(before) if before else None,
        "accuracy": dataclasses.asdict(after) if after else None,
    }
    entry = file_entry(path, "ONNX", graph, source.num_classes, parity)
    write_manifest(manifest_path(path), source, [{**entry, "quantization": quantization}], merged)


def _accuracy(source: Source, file: Path, is_normalising: bool) -> Accuracy | None:
    """Over the checkpoint's validation images; None where these or the names of its classes are not known."""
    if not source.val_data_path or not source.classes:
        return None
    folder = find_split(source.val_data_path, "val")
    labels = labels_of(folder, {name: label for label, name in enumerate(source.classes)})
    files = [(folder / name, label) for name, label in labels.items()]
    return accuracy(onnx_runner(file), files, source.preprocessing, min(_EVALUATION_BATCH, len(files)), is_normalising)
