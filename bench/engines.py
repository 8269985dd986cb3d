"""Engines as processes that are sampled in turn, round after round.

Whatever else the machine does meets all of them alike: compare the ratios, not the absolute numbers.
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
from importlib import metadata
from pathlib import Path

# The interpreter of `make bench`'s own environment, which holds what ours is compared with.
BENCH_PYTHON = Path(".venv-bench/bin/python")

Commands = dict[str, tuple[list[str], dict[str, str]]]


@dataclasses.dataclass
class Engine:
    """One way to run a workload; ``process`` (see `bench.serve`) answers a line with a sample.

    Attributes:
        samples: seconds per run. first_run_s: what is compiled or built on the way included.
    """

    name: str
    process: subprocess.Popen
    samples: list[float] = dataclasses.field(default_factory=list)
    first_run_s: float = 0.0
    peak_mb: float = 0.0

    @property
    def seconds(self) -> float:
        return statistics.median(self.samples)

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


def measure(commands: Commands, workload: str, rounds: int, threads: int) -> list[Engine]:
    """Engines of one workload with their samples, those that failed left out with a line on stderr.

    Args:
        commands: {name: (command, extra environment)}.
    """
    with contextlib.ExitStack() as stack:
        engines = []
        for label, (command, extra) in commands.items():
            environment = {**os.environ, "OMP_NUM_THREADS": str(threads), **extra}
            process = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
            )
            engine = Engine(label, process)
            stack.callback(engine.stop)
            if (first := engine.answer()) is None:
                print(f"{label}: {workload} does not run", file=sys.stderr)
                continue
            engine.first_run_s = first["first_run_s"]
            engines.append(engine)
        for _ in range(rounds):
            for engine in engines:
                engine.sample()
        return engines


def table(title: str, images: int, engines: list[Engine], ours: str) -> str:
    """Markdown: images/s of every engine, for runs of ``images`` images, and the ratio of the engine ``ours`` to it."""
    rows = [
        f"### {title}",
        "",
        "| engine | images/s, median (range) | ours to it | first run, s | peak memory, MB |",
        "|--|--|--|--|--|",
    ]
    reference = next((engine.seconds for engine in engines if engine.name == ours), None)
    for engine in engines:
        low, high = images / max(engine.samples), images / min(engine.samples)
        ratio = f"{engine.seconds / reference:.2f} x" if reference else ""
        rows.append(
            f"| {engine.name} | {images / engine.seconds:.1f} ({low:.1f} to {high:.1f}) | {ratio} "
            f"| {engine.first_run_s:.1f} | {engine.peak_mb:.0f} |"
        )
    return "\n".join([*rows, ""])


def machine(threads: int, packages: list[str], bench_python: str = "", bench_packages: tuple[str, ...] = ()) -> str:
    """One line: processor, threads, load, versions of our environment and of that of ``bench_python``.

    Says on stderr if there is none.
    """
    cpu_info = Path("/proc/cpuinfo")
    lines = cpu_info.read_text().splitlines() if cpu_info.exists() else []
    model = next((line.split(":")[1].strip() for line in lines if "model name" in line), platform.machine())
    versions = [f"{name} {metadata.version(name)}" for name in packages]
    if bench_python:
        ask = (
            "import sys; from importlib.metadata import distributions;"
            "[print(d.name, d.version) for d in distributions() if d.name.replace('_', '-') in sys.argv[1:]]"
        )
        command = [bench_python, "-c", ask, *bench_packages]
        versions += subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
    else:
        note = "note: only what is installed here; `make bench` installs the others, --bench_python names them"
        print(note, file=sys.stderr)
    return f"{model}, {threads} threads, load {os.getloadavg()[0]:.1f} before the run; {', '.join(versions)}\n"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What every bench program takes."""
    parser.add_argument("--rounds", type=int, default=7, help="samples of each engine, about a second each")
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--without", nargs="*", default=[], help="leave out engines whose names hold one of these")
    parser.add_argument(
        "--bench_python",
        default=str(BENCH_PYTHON) if BENCH_PYTHON.exists() else "",
        help="interpreter of the environment that has PyTorch and the others",
    )
    parser.add_argument("--output", type=Path, help="Markdown file (default: standard output only)")


def wanted(commands: Commands, without: list[str]) -> Commands:
    """``commands`` without the engines whose names hold one of ``without``."""
    return {name: command for name, command in commands.items() if not any(part in name for part in without)}
