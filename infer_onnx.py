"""Evaluates an ONNX file with ONNX Runtime: python infer_onnx.py --onnx_path FILE --dataset_path VAL."""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

from src.data.folders import build_class_index, find_split
from src.data.labels import labelled_images
from src.data.preprocessing import Preprocessing
from src.errors import UsageError, run
from src.export.accuracy import accuracy
from src.export.described import read_manifest
from src.export.formats import onnx_runner

PROVIDERS = {"CPU": "CPUExecutionProvider", "GPU": "CUDAExecutionProvider", "Ascend": "CANNExecutionProvider"}


def main(argv: list[str]) -> None:
    parser = argparse.ArgumentParser(prog="infer_onnx.py", description="Evaluate an ONNX file that export.py wrote.")
    parser.add_argument("--onnx_path", required=True, help="the file; its manifest lies beside it")
    parser.add_argument("--dataset_path", required=True, help="validation images in class folders, or their parent")
    parser.add_argument("--device_target", default="CPU", choices=PROVIDERS)
    parser.add_argument("--batch_size", type=int, default=32, help="images at once, where the file leaves it open (32)")
    parser.add_argument("--config_path", help="has no effect: the manifest says what the network needs")
    options = parser.parse_args(argv)
    path = Path(options.onnx_path)
    if not path.is_file():
        raise UsageError(f"there is no file {path}")
    if options.batch_size < 1:
        raise UsageError("--batch_size must be at least 1")
    manifest, entry = read_manifest(path)
    folder = find_split(options.dataset_path, "val")
    images = labelled_images(folder, classes_of(folder, manifest["classes"]))
    start = time.perf_counter()
    result = accuracy(
        onnx_runner(path, provider(options.device_target)),
        images,
        Preprocessing.from_dict(manifest["preprocessing"]),
        entry["input"]["shape"][0] or min(options.batch_size, len(images)),
        is_normalising=not entry["input"]["is_normalised"],
    )
    seconds = time.perf_counter() - start
    print(f"{path} with {PROVIDERS[options.device_target]}: {result.images / seconds:.1f} images/s")
    print(f"images = {result.images}\ncorrect_top1 = {result.top1}\ncorrect_top5 = {result.top5}")
    print(f"top-1 {result.top1 / result.images:.4%}, top-5 {result.top5 / result.images:.4%}")


def classes_of(folder: Path, names: list[str]) -> dict[str, int] | None:
    """The label of each class: all of the network's, or those ``folder`` has, which is said; None: no names known."""
    own = {name: label for label, name in enumerate(names)}
    found = build_class_index(folder)
    if not own or not found.keys() < own.keys():
        return own or None
    print(f"note: {folder} has images of {len(found)} of the network's {len(own)} classes")
    return {name: own[name] for name in found}


def provider(device_target: str) -> tuple[str, ...]:
    """The execution provider of a device. Raises UsageError when this ONNX Runtime does not have it."""
    import onnxruntime

    wanted = PROVIDERS[device_target]
    present = onnxruntime.get_available_providers()
    if wanted not in present:
        raise UsageError(
            f"--device_target {device_target}: this ONNX Runtime has no {wanted}, only {', '.join(present)}"
        )
    return (wanted,)


if __name__ == "__main__":
    run(main, sys.argv[1:])
