"""Scores predicted results: python postprocess.py --result_path FOLDER --label_path FILE [--per_class FILE].

Each of the original repositories had a form of its own, which its own flags still choose:
Single-Path-NAS --result_path --label_path, ProxylessNAS --result_dir --dataset_name, ShuffleNetV1 --result_path
--label_file.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from src.errors import UsageError, run
from src.export.scoring import Score, read_labels, score
from src.files import write_csv
from src.runs.wording import filled, wording_of


def main(argv: list[str]) -> None:
    parser = argparse.ArgumentParser(prog="postprocess.py", description="Score predicted results against labels.")
    folder = parser.add_mutually_exclusive_group()
    folder.add_argument("--result_path", help="folder of <image>_0.bin files")
    folder.add_argument("--result_dir", help="the same, ProxylessNAS' form (./result_Files)")
    labels = parser.add_mutually_exclusive_group()
    labels.add_argument("--label_path", help="labels in JSON, {file name: class}")
    labels.add_argument("--label_file", help="labels as lines name:class, ShuffleNetV1's form")
    labels.add_argument(
        "--dataset_name", help="imagenet2012: ./preprocess_Result/imagenet_label.json, ProxylessNAS' form"
    )
    parser.add_argument("--per_class", metavar="FILE", help="write images and accuracy of each class as CSV")
    parser.add_argument("--skip_bad_images", action="store_true", help="leave out images that could not be read")
    options = parser.parse_args(argv)
    if options.dataset_name not in (None, "imagenet2012"):
        raise UsageError(f"--dataset_name {options.dataset_name}: only imagenet2012 is known; use --label_path")
    if not (options.label_path or options.label_file or options.dataset_name or options.result_dir):
        raise UsageError("--label_path is missing: python -m src.data.labels --img_path FOLDER writes it")
    label_file = options.label_path or options.label_file or "preprocess_Result/imagenet_label.json"
    result_folder = options.result_path or options.result_dir or "result_Files"
    result = score(Path(result_folder), read_labels(Path(label_file)), options.skip_bad_images)
    if options.per_class:
        rows = [
            {"class": label, "images": images, "top1": hits / max(images, 1)}
            for label, (images, hits) in enumerate(result.per_class)
        ]
        write_csv(Path(options.per_class), ("class", "images", "top1"), rows)
    print(report(result, options))


def report(result: Score, options: argparse.Namespace) -> str:
    """The result in the words of the form that was used."""
    if options.label_file:
        network = "shufflenetv1"
    else:
        network = "proxylessnas_mobile" if options.result_dir or options.dataset_name else "spnasnet"
    accuracies = {"top1": result.top1 / result.total, "top5": result.top5 / result.total}
    return filled(wording_of(network).scores, images=result.total, **accuracies)


if __name__ == "__main__":
    run(main, sys.argv[1:])
