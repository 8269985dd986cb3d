"""Prediction in the C++ application: python -m bench.lite_engine MODEL BATCH SIZE THREADS.

Speaks as `bench.serve` does, but every sample is a process of its own, which loads the model and warms up untimed.
"""

from __future__ import annotations

import json
import re
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import mindspore as ms
import numpy as np
from mindspore import Tensor
from PIL import Image

from bench.serve import SAMPLE_SECONDS
from src.export.lite import PROGRAMS
from src.export.mindir_v1 import rewrite_file
from src.models import create_model


def main(model: str, batch: str, size: str, threads: str) -> None:
    ms.set_context(mode=ms.GRAPH_MODE)
    shape = (int(batch), 3, int(size), int(size))
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        network = create_model(model)
        network.set_train(False)
        mindir = folder / "network.mindir"
        ms.export(network, Tensor(np.zeros(shape, np.float32)), file_name=str(mindir), file_format="MINDIR")
        rewrite_file(mindir)
        pixels = np.random.default_rng(0).integers(0, 256, (*shape[2:], 3), np.uint8)
        Image.fromarray(pixels).save(folder / "image.png")

        def seconds(runs: int) -> float:
            command = [PROGRAMS / "main", f"--mindir_path={mindir}", f"--dataset_path={folder}", f"--threads={threads}"]
            done = subprocess.run([*command, f"--benchmark={runs}"], capture_output=True, text=True, check=True)
            return float(re.search(r"mean ([0-9.]+)", done.stdout)[1]) / 1000

        started = time.perf_counter()
        runs = max(1, round(SAMPLE_SECONDS / seconds(1)))
        print(json.dumps({"first_run_s": time.perf_counter() - started}), flush=True)
        for _ in sys.stdin:
            sample = {"seconds": seconds(runs)}
            peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
            print(json.dumps({**sample, "peak_mb": peak}), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
