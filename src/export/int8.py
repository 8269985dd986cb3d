"""``--quantize int8`` of export.py: quantise a checkpoint's network and measure what that costs.

ONNX files are made and run by ONNX Runtime, MindIR files by MindSpore Lite 2.0.
"""

from __future__ import annotations

import argparse
import dataclasses
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from src.data.labels import labelled_images
from src.errors import UsageError
from src.export import lite
from src.export.accuracy import count_hits
from src.export.described import manifest_path
from src.export.formats import FORMATS, onnx_runner, write
from src.export.graph import Graph, graph_of
from src.export.manifest import file_entry, write_manifest
from src.export.merge_bn import merge_batch_norm
from src.export.parity import batches, compare, logits_of_file, some_images
from src.export.quantize import quantize_int8
from src.export.source import Source

_CALIBRATION_BATCH = 16
_ROUNDS = 5


@dataclasses.dataclass(frozen=True)
class Runnable:
    """A file and how it runs.

    Attributes:
        path: the file.
        logits: of images, [N, K].
        milliseconds: of one prediction at the file's batch, 1 when that is open.
    """

    path: Path
    logits: Callable[[list[Path]], np.ndarray]
    milliseconds: Callable[[], float]


def check_int8(source: Source, options: argparse.Namespace) -> None:
    """Raises UsageError for what can be known before anything is written."""
    if unknown := set(options.file_format) - set(_MAKERS):
        raise UsageError(f"--quantize int8 makes ONNX and MINDIR files, not {', '.join(unknown)}")
    if not (options.calibration_path or source.train_data_path):
        raise UsageError("--calibration_path is missing: a folder of images such as the network will see")
    if "MINDIR" not in options.file_format:
        return
    lite.require_int8(source.model)
    if options.preprocess or options.batch_size is None:
        raise UsageError(
            "int8 MindIR is for MindSpore Lite 2.0, which takes neither uint8 images nor an open batch: leave "
            "--preprocess away and give --batch_size a number, or choose --file_format ONNX"
        )


def export_int8(source: Source, options: argparse.Namespace, name: Path) -> None:
    """Writes ``<name>_int8`` as ONNX or MindIR, or both, as ``--file_format`` says, and one manifest, whose
    ``quantization`` says how and at what cost in accuracy and time.

    The caller has asked :func:`check_int8`.
    """
    network = source.network()
    merged = merge_batch_norm(network)
    images = some_images(options.calibration_path or source.train_data_path, options.calibration_images)
    entries = []
    with tempfile.TemporaryDirectory() as temporary:
        for file_format in dict.fromkeys(options.file_format):
            batch = None if file_format == "ONNX" else options.batch_size
            graph = graph_of(network, source.preprocessing, batch, options.preprocess)
            path = name.with_name(f"{name.name}_int8{FORMATS[file_format]}")
            plain, quantized = _MAKERS[file_format](source, options, graph, images, path, Path(temporary))
            entries.append(_measured(source, options, graph, file_format, plain, quantized))
            entries[-1]["quantization"]["calibration_images"] = len(images)
    write_manifest(manifest_path(path), source, entries, merged)
    print(f"{manifest_path(path)}: how it was quantised, and the figures above")


def _make_onnx(
    source: Source, options: argparse.Namespace, graph: Graph, images: list[Path], path: Path, folder: Path
) -> tuple[Runnable, Runnable]:
    """The float and the int8 file."""
    plain = folder / "float.onnx"
    write(graph, plain, "ONNX")
    inputs = batches(images, source.preprocessing, _CALIBRATION_BATCH, options.preprocess)
    calibration = [values[:valid] for values, valid in inputs]
    quantize_int8(plain, path, calibration, options.calibration_method, options.exclude)

    def runnable(file: Path) -> Runnable:
        run = onnx_runner(file)

        def milliseconds() -> float:
            start = time.perf_counter()
            run(calibration[0][:1])
            return (time.perf_counter() - start) * 1000

        return Runnable(file, lambda paths: logits_of_file(run, paths, source.preprocessing, graph), milliseconds)

    return runnable(plain), runnable(path)


def _make_mindir(
    source: Source, options: argparse.Namespace, graph: Graph, images: list[Path], path: Path, folder: Path
) -> tuple[Runnable, Runnable]:
    """The same by Lite's converter."""
    described, plain, bytes_of_images = folder / "lite.onnx", folder / "float.mindir", folder / "calibration"
    write(graph, described, "ONNX")
    lite.convert(described, plain)
    bytes_of_images.mkdir()
    calibration = (values for values, _ in batches(images, source.preprocessing, graph.batch, False))
    lite.convert(
        described,
        path,
        lite.int8_config(described, bytes_of_images, calibration, options.calibration_method, options.exclude),
    )
    manifest = folder / "both.json"
    entries = [file_entry(file, "MINDIR", graph, source.num_classes, None) for file in (plain, path)]
    write_manifest(manifest, source, entries, 0)

    def runnable(file: Path) -> Runnable:
        return Runnable(
            file,
            lambda paths: lite.logits_of_lite(file, manifest, paths),
            lambda: lite.milliseconds_of_lite(file, manifest, images[0]),
        )

    return runnable(plain), runnable(path)


_MAKERS = {"ONNX": _make_onnx, "MINDIR": _make_mindir}


def _measured(
    source: Source, options: argparse.Namespace, graph: Graph, file_format: str, plain: Runnable, quantized: Runnable
) -> dict:
    """The manifest's entry of the int8 file, its figures printed."""
    images = some_images(options.image_path or source.val_data_path, options.check_images)
    parity = compare(plain.logits(images), quantized.logits(images))
    pairs = [(plain.milliseconds(), quantized.milliseconds()) for _ in range(1 + _ROUNDS)][1:]  # the first warms up
    before_ms, after_ms = (round(min(times), 3) for times in zip(*pairs, strict=True))
    path, float_bytes = quantized.path, plain.path.stat().st_size
    print(
        f"{path}: {path.stat().st_size:,} bytes (float32: {float_bytes:,}), {after_ms:.2f} ms a prediction "
        f"(float32: {before_ms:.2f}); {parity}"
    )
    accuracies = {}
    if files := _validation_images(source):
        paths, labels = [path for path, _ in files], [label for _, label in files]
        before, after = (count_hits(file.logits(paths), labels) for file in (plain, quantized))
        accuracies = {"float_accuracy": dataclasses.asdict(before), "accuracy": dataclasses.asdict(after)}
        print(
            f"{path}: top-1 {after.top1 / after.images:.2%} (float32: {before.top1 / before.images:.2%}) "
            f"of the {after.images} images of {source.val_data_path}"
        )
    quantization = {
        "type": options.quantize,
        "method": options.calibration_method,
        "float_parts": list(options.exclude),
        "float_bytes": float_bytes,
        "milliseconds": after_ms,
        "float_milliseconds": before_ms,
        "float_accuracy": None,
        "accuracy": None,
        **accuracies,
    }
    return {**file_entry(path, file_format, graph, source.num_classes, parity), "quantization": quantization}


def _validation_images(source: Source) -> list[tuple[Path, int]]:
    """The checkpoint's validation images and their classes; none where these or the classes' names are not known."""
    if not source.val_data_path or not source.classes:
        return []
    classes = {name: label for label, name in enumerate(source.classes)}
    return labelled_images(Path(source.val_data_path), classes)
