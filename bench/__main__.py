"""Measures training steps and evaluation of every network in MindSpore (stock and ours), PyTorch and ONNX Runtime.

Writes a Markdown table for each workload.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

from bench.engines import Commands, Engine, add_arguments, machine, measure, table, wanted
from src.models import list_models

# glibc gives large freed blocks back at once; without this PyTorch touches fresh pages for every big tensor.
KEEP_MEMORY = {
    "MALLOC_MMAP_THRESHOLD_": "8589934592",
    "MALLOC_TRIM_THRESHOLD_": "17179869184",
    "MALLOC_TOP_PAD_": "268435456",
}
OURS = "ours (fused)"


def commands(args: argparse.Namespace, task: str, model: str, batch: int, size: int, folder: Path) -> Commands:
    """All engines for a workload."""
    threads, shape = str(args.threads), [str(batch), str(size)]
    ours = [sys.executable, "-m", "bench.mindspore_engine"]
    engines = {OURS: ([*ours, "fused", task, model, *shape], {})}
    if args.slow:
        engines["MindSpore stock"] = ([*ours, "standard", task, model, *shape], {})
    if args.bench_python:
        torch = [args.bench_python, "-m", "bench.torch_engine"]
        described = [task, str(folder / "network.json"), *shape, threads]
        for label, layout, compiling, environment in (
            ("PyTorch NCHW", "contiguous_format", "eager", {}),
            ("PyTorch channels_last", "channels_last", "eager", {}),
            ("PyTorch channels_last, malloc tuned", "channels_last", "eager", KEEP_MEMORY),
            ("PyTorch channels_last, compiled, malloc tuned", "channels_last", "compiled", KEEP_MEMORY),
        ):
            engines[label] = ([*torch, layout, compiling, *described], environment)
    if task == "eval":
        command = [sys.executable, "-m", "bench.onnx_engine", str(folder / "network.onnx"), *shape, threads]
        engines["ONNX Runtime"] = (command, {})
    return wanted(engines, args.without)


def workload(args: argparse.Namespace, task: str, model: str, batch: int, size: int) -> list[Engine]:
    with tempfile.TemporaryDirectory() as folder:
        describing = [sys.executable, "-m", "bench.describe", model, str(batch), str(size), folder]
        subprocess.run(describing, check=True, stdout=subprocess.DEVNULL)
        engines = commands(args, task, model, batch, size, Path(folder))
        return measure(engines, f"{model}, {task}", args.rounds, args.threads)


def parse(argv: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__.splitlines()[0])
    parser.add_argument("--models", nargs="+", default=list_models(), choices=list_models(), metavar="NAME")
    parser.add_argument("--tasks", nargs="+", default=["train", "eval"], choices=["train", "eval"])
    parser.add_argument("--batches", nargs="+", type=int, default=[1, 32], help="training leaves out 1")
    parser.add_argument("--sizes", nargs="+", type=int, default=[96, 224], help="pixels")
    parser.add_argument("--slow", action="store_true", help="stock MindSpore as well (minutes per workload)")
    add_arguments(parser)
    return parser.parse_args(argv)


def main(argv: list[str]) -> None:
    args = parse(argv)
    parts = [machine(args.threads, ["mindspore", "onnxruntime"], args.bench_python, ("torch",))]
    print(parts[0], flush=True)
    for model in args.models:
        for size in args.sizes:
            for task in args.tasks:
                for batch in args.batches:
                    if task == "train" and batch == 1:
                        continue
                    title = f"{model}, {task}, batch {batch}, {size} pixels"
                    parts.append(table(title, batch, workload(args, task, model, batch, size), OURS))
                    print(parts[-1], flush=True)
                    if args.output:
                        args.output.write_text("\n".join(parts))


if __name__ == "__main__":
    main(sys.argv[1:])
