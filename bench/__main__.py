"""Measures training steps and evaluation of every network in MindSpore (stock and ours), PyTorch and ONNX Runtime.

All engines of one workload are started, warmed up, and then sampled in turn, round after round, so that whatever else
the machine does meets them alike: compare the ratios, not the absolute numbers. Writes a Markdown table.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
from importlib import metadata
from pathlib import Path

from src.models import list_models

# glibc gives large freed blocks back at once; without this PyTorch touches fresh pages for every big tensor.
KEEP_MEMORY = {
    "MALLOC_MMAP_THRESHOLD_": "8589934592",
    "MALLOC_TRIM_THRESHOLD_": "17179869184",
    "MALLOC_TOP_PAD_": "268435456",
}
OURS = "ours (fused)"


@dataclasses.dataclass
class Engine:
    """One way to run a workload; ``process`` answers a line with a sample."""

    name: str
    process: subprocess.Popen
    samples: list[float] = dataclasses.field(default_factory=list)
    first_run_s: float = 0.0
    peak_mb: float = 0.0

    def answer(self) -> dict | None:
        line = self.process.stdout.readline()
        return json.loads(line) if line else None

    def sample(self) -> None:
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        answer = self.answer()
        self.samples.append(answer["seconds"])
        self.peak_mb = answer["peak_mb"]

    def stop(self) -> None:
        self.process.stdin.close()
        self.process.wait()


def commands(args: argparse.Namespace, task: str, model: str, batch: int, size: int, folder: Path) -> dict:
    """{name: (command, extra environment)} of all engines for a workload."""
    threads, shape = str(args.threads), [str(batch), str(size)]
    ours = [sys.executable, "-m", "bench.mindspore_engine"]
    engines = {OURS: ([*ours, "fused", task, model, *shape], {})}
    if args.slow:
        engines["MindSpore rewritten"] = ([*ours, "rewritten", task, model, *shape], {})
        engines["MindSpore stock"] = ([*ours, "standard", task, model, *shape], {})
    if args.torch_python:
        torch = [args.torch_python, "-m", "bench.torch_engine"]
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
    return {name: engine for name, engine in engines.items() if not any(part in name for part in args.without)}


def measure(args: argparse.Namespace, task: str, model: str, batch: int, size: int) -> list[Engine]:
    """Engines of one workload with their samples, those that failed left out with a line on stderr."""
    with tempfile.TemporaryDirectory() as name, contextlib.ExitStack() as stack:
        describing = [sys.executable, "-m", "bench.describe", model, str(batch), str(size), name]
        subprocess.run(describing, check=True, stdout=subprocess.DEVNULL)
        engines = []
        for label, (command, extra) in commands(args, task, model, batch, size, Path(name)).items():
            environment = {**os.environ, "OMP_NUM_THREADS": str(args.threads), **extra}
            process = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
            )
            engine = Engine(label, process)
            stack.callback(engine.stop)
            if (first := engine.answer()) is None:
                print(f"{label}: {model} does not run", file=sys.stderr)
                continue
            engine.first_run_s = first["first_run_s"]
            engines.append(engine)
        for _ in range(args.rounds):
            for engine in engines:
                engine.sample()
        return engines


def table(task: str, model: str, batch: int, size: int, engines: list[Engine]) -> str:
    rows = [
        f"### {model}, {task}, batch {batch}, {size} pixels",
        "",
        "| engine | images/s, median (range) | ours to it | first run, s | peak memory, MB |",
        "|--|--|--|--|--|",
    ]
    ours = next((statistics.median(e.samples) for e in engines if e.name == OURS), None)
    for engine in engines:
        middle = statistics.median(engine.samples)
        low, high = batch / max(engine.samples), batch / min(engine.samples)
        ratio = f"{middle / ours:.2f} x" if ours else ""
        rows.append(
            f"| {engine.name} | {batch / middle:.1f} ({low:.1f} to {high:.1f}) | {ratio} | {engine.first_run_s:.1f} "
            f"| {engine.peak_mb:.0f} |"
        )
    return "\n".join([*rows, ""])


def machine(args: argparse.Namespace) -> str:
    model = next(
        (line.split(":")[1].strip() for line in Path("/proc/cpuinfo").read_text().splitlines() if "model name" in line),
        platform.machine(),
    )
    versions = [f"{name} {metadata.version(name)}" for name in ("mindspore", "onnxruntime")]
    if args.torch_python:
        ask = [args.torch_python, "-c", "import torch; print('torch', torch.__version__)"]
        versions.append(subprocess.run(ask, capture_output=True, text=True, check=True).stdout.strip())
    load = os.getloadavg()[0]
    return f"{model}, {args.threads} threads, load {load:.1f} before the run; {', '.join(versions)}\n"


def parse(argv: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__.splitlines()[0])
    parser.add_argument("--models", nargs="+", default=list_models(), choices=list_models(), metavar="NAME")
    parser.add_argument("--tasks", nargs="+", default=["train", "eval"], choices=["train", "eval"])
    parser.add_argument("--batches", nargs="+", type=int, default=[1, 32], help="training leaves out 1")
    parser.add_argument("--sizes", nargs="+", type=int, default=[96, 224], help="pixels")
    parser.add_argument("--rounds", type=int, default=7, help="samples of each engine, about a second each")
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--slow", action="store_true", help="stock MindSpore as well (minutes per workload)")
    parser.add_argument("--without", nargs="*", default=[], help="leave out engines whose names hold one of these")
    own = Path(".venv-torch/bin/python")
    parser.add_argument("--torch_python", default=str(own) if own.exists() else "", help="interpreter that has torch")
    parser.add_argument("--output", type=Path, help="Markdown file (default: standard output only)")
    return parser.parse_args(argv)


def main(argv: list[str]) -> None:
    args = parse(argv)
    parts = [machine(args)]
    print(parts[0], flush=True)
    for model in args.models:
        for size in args.sizes:
            for task in args.tasks:
                for batch in args.batches:
                    if task == "train" and batch == 1:
                        continue
                    parts.append(table(task, model, batch, size, measure(args, task, model, batch, size)))
                    print(parts[-1], flush=True)
                    if args.output:
                        args.output.write_text("\n".join(parts))


if __name__ == "__main__":
    main(sys.argv[1:])
