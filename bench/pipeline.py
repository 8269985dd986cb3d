"""Measures data pipelines on the same JPEG files: ours, torchvision (v2 and Pillow), tf.data and DALI on the CPU.

The files are made: photographs' size (500 x 375 pixels, about 50 KB) and nothing of their content. Files of your own
can be given as a folder of class folders.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image

from bench.engines import Commands, add_arguments, machine, measure, table, wanted

OTHERS = {
    "torchvision_v2": "torchvision io + transforms v2",
    "torchvision_pil": "torchvision ImageFolder, Pillow",
    "tf_data": "tf.data, decode_and_crop",
    "dali": "DALI on the CPU",
}


def make_jpegs(folder: Path, count: int) -> None:
    """``count`` smooth images with some texture in ten class folders; the same files at every call."""
    rng = np.random.default_rng(0)

    def blots(width: int, height: int) -> np.ndarray:
        small = Image.fromarray(rng.integers(0, 256, (height, width, 3), np.uint8))
        return np.asarray(small.resize((500, 375), Image.Resampling.BICUBIC), np.float32)

    for number in range(count):
        pixels = 0.75 * blots(32, 24) + 0.25 * blots(125, 94) + rng.normal(0, 5, (375, 500, 1))
        file = folder / str(number % 10) / f"{number:04d}.jpg"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(file, quality=82)


def commands(args: argparse.Namespace, folder: Path, ending: str) -> Commands:
    shape = [str(folder), str(args.batch), str(args.size), str(args.threads)]
    engines = {"ours": ([sys.executable, "-m", "bench.loaders", "ours" + ending, *shape], {})}
    if args.bench_python:
        for name, label in OTHERS.items():
            engines[label] = ([args.bench_python, "-m", "bench.loaders", name + ending, *shape], {})
    return wanted(engines, args.without)


def parse(argv: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench.pipeline", description=__doc__.splitlines()[0])
    parser.add_argument("--folder", type=Path, help="a folder of class folders with .jpg files (default: made ones)")
    parser.add_argument("--count", type=int, default=600, help="files to make")
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--size", type=int, default=224, help="pixels")
    add_arguments(parser)
    return parser.parse_args(argv)


def main(argv: list[str]) -> None:
    args = parse(argv)
    parts = [
        machine(
            args.threads, ["mindspore"], args.bench_python, ("torchvision", "tensorflow-cpu", "nvidia-dali-cuda120")
        )
    ]
    print(parts[0], flush=True)
    with tempfile.TemporaryDirectory() as made:
        folder = args.folder or Path(made)
        if not args.folder:
            make_jpegs(folder, args.count)
        count = sum(1 for _ in folder.glob("*/*.jpg"))
        for ending, what in (("", "float32, normalised"), ("_bytes", "uint8")):
            title = f"{count} JPEG files to batches of {args.batch} x {args.size} pixels, {what}"
            engines = measure(commands(args, folder, ending), "the pipeline", args.rounds, args.threads)
            parts.append(table(title, count, engines, "ours"))
            print(parts[-1], flush=True)
    if args.output:
        args.output.write_text("\n".join(parts))


if __name__ == "__main__":
    main(sys.argv[1:])
