"""Where a training step's time goes: python -m bench.profile MODEL. Every operator beside its roofline.

The operators are built once more, with their clocks in. The roofline of a call is what its multiplications take at the
machine's highest rate or what its tensors, each moved once, take at its memory's, whichever is longer; both rates are
measured first.
"""

from __future__ import annotations

import argparse
import collections
import ctypes
import math
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from bench.mindspore_engine import workload
from src.cpu import build
from src.models import list_models

RATES = """
#include <omp.h>

#include "simd.h"
using namespace cpu;
constexpr int chains = 10;
extern "C" float multiply(long turns) {
  float total = 0;
#pragma omp parallel reduction(+ : total)
  {
    Vec sum[chains] = {};
    Vec x = splat(1e-3f), y = splat(0.999f);
    for (long i = 0; i < turns; ++i) {
      keep(x), keep(y);
#pragma GCC unroll 16
      for (int c = 0; c < chains; ++c) sum[c] = sum[c] * y + x;
    }
    for (int c = 0; c < chains; ++c) total += sum[c][0];
  }
  return total;
}
extern "C" int chain_floats() { return chains * static_cast<int>(lanes); }
extern "C" int threads() { return omp_get_max_threads(); }
extern "C" void copy(const float* from, float* to, long n) {
#pragma omp parallel for schedule(static)
  for (long i = 0; i < n; i += lanes) store(to + i, load(from + i));
}
"""


def rates() -> tuple[float, float]:
    """(multiply-adds/s in float32, bytes/s copied) of all threads: the best of several goes."""
    with tempfile.TemporaryDirectory() as folder:
        source, built = Path(folder) / "rates.cc", Path(folder) / "rates.so"
        source.write_text(RATES)
        command = [build.find_compiler(), *build.FLAGS, f"-I{build.SOURCES}", str(source), "-o", str(built)]
        subprocess.run(command, check=True)
        library = ctypes.CDLL(str(built))
    turns, floats = 20_000_000, 1 << 25
    from_, to = np.ones(floats, np.float32), np.ones(floats, np.float32)
    pointer = lambda array: array.ctypes.data_as(ctypes.c_void_p)  # noqa: E731
    seconds = [timed(lambda: library.multiply(ctypes.c_long(turns))) for _ in range(5)]
    copies = [timed(lambda: library.copy(pointer(from_), pointer(to), ctypes.c_long(floats))) for _ in range(9)]
    multiplied = turns * library.chain_floats() * library.threads()
    return multiplied / min(seconds), 2 * 4 * floats / min(copies)


def timed(run) -> float:
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


def multiply_adds(name: str, shapes: list[list[int]]) -> int:
    """Of a convolution's call: forward once its products, backward twice."""
    if name.endswith("_train"):
        out, weight, passes = shapes[8], shapes[2], 1
    elif name in ("pointwise_grad", "depthwise_grad", "stem_grad"):
        out, weight, passes = shapes[4], shapes[2], 1 if name == "stem_grad" else 2
    else:
        return 0
    return passes * math.prod(out) * math.prod(weight[1:])


def step(model: str, batch: int, size: int, steps: int, path: Path) -> float:
    """Seconds of a training step, the median; the profile is at ``path`` afterwards."""
    run = workload("fused", "train", model, batch, size)
    run()
    library = ctypes.CDLL(str(build.library()))
    library.write_profile(str(path).encode())
    seconds = [timed(run) for _ in range(steps)]
    library.write_profile(str(path).encode())
    return statistics.median(seconds)


def speed(products: float, seconds: float) -> str:
    return f"{products / seconds / 1e9:.0f}" if products else ""


def report(lines: list[str], steps: int, step_s: float, rate: float, bandwidth: float, rows: int) -> str:
    """Markdown: operators by time, then the longest calls."""
    kinds = collections.defaultdict(lambda: [0.0, 0.0, 0])
    calls = []
    for line in lines:
        seconds, key = line.rstrip("\n").split("\t")
        name, *texts = key.split(" ")
        shapes = [[int(d) for d in text.split("x") if d] for text in texts]
        times = [float(s) for s in seconds.split()]
        per_step = len(times) / steps
        taken = statistics.median(times) * per_step
        products = multiply_adds(name, shapes) * per_step
        floor = max(products / rate, sum(4 * math.prod(s) for s in shapes) * per_step / bandwidth)
        for column, value in enumerate((taken, floor, products)):
            kinds[name][column] += value
        told = [shapes[2], shapes[0]] if products else [max(shapes, key=math.prod)]
        what = " on ".join([name, *("x".join(map(str, shape)) for shape in told)])
        calls.append((taken, floor, products, f"{per_step:g} {what}"))
    parts = [f"step {1e3 * step_s:.0f} ms; {rate / 1e9:.0f} G multiply-adds/s, {bandwidth / 1e9:.1f} GB/s copied", ""]
    parts += ["| operator | ms in a step | share | roofline, ms | G multiply-adds/s |", "|--|--:|--:|--:|--:|"]
    everything = [(*values, name) for name, values in kinds.items()]
    inside = sum(row[0] for row in everything)
    everything.append((step_s - inside, 0.0, 0, "everything else"))
    for taken, floor, products, name in sorted(everything, reverse=True):
        share = f"{taken / step_s:.1%}"
        parts.append(f"| {name} | {1e3 * taken:.1f} | {share} | {1e3 * floor:.1f} | {speed(products, taken)} |")
    parts += ["", "| calls | ms in a step | roofline, ms | G multiply-adds/s |", "|--|--:|--:|--:|"]
    for taken, floor, products, name in sorted(calls, reverse=True)[:rows]:
        parts.append(f"| {name} | {1e3 * taken:.1f} | {1e3 * floor:.1f} | {speed(products, taken)} |")
    return "\n".join(parts)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.profile", description=__doc__.splitlines()[0])
    parser.add_argument("model", choices=list_models(), metavar="MODEL")
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--size", type=int, default=224, help="pixels")
    parser.add_argument("--steps", type=int, default=8)
    parser.add_argument("--rows", type=int, default=20, help="calls to list")
    args = parser.parse_args()
    os.environ[build.EXTRA_FLAGS] = f"{os.environ.get(build.EXTRA_FLAGS, '')} -DPROFILE"
    try:
        rate, bandwidth = rates()
    except build.BuildError as error:
        sys.exit(f"error: {error}; there is nothing to profile without it")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "profile"
        step_s = step(args.model, args.batch, args.size, args.steps, path)
        lines = path.read_text().splitlines()
    print(f"{args.model}, batch {args.batch}, {args.size} pixels: ", end="")
    print(report(lines, args.steps, step_s, rate, bandwidth, args.rows))


if __name__ == "__main__":
    sys.exit(main())
