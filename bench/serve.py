"""What every engine's process does: make the workload once, then time it whenever a line comes in."""

from __future__ import annotations

import json
import resource
import sys
import time
from collections.abc import Callable

SAMPLE_SECONDS = 1.0


def serve(run: Callable[[], None]) -> None:
    """Answers every line on stdin with seconds per run, of as many runs as fill SAMPLE_SECONDS, and peak memory."""
    started = time.perf_counter()
    run()
    print(json.dumps({"first_run_s": time.perf_counter() - started}), flush=True)
    started = time.perf_counter()
    run()
    runs = max(1, round(SAMPLE_SECONDS / (time.perf_counter() - started)))
    for _ in sys.stdin:
        started = time.perf_counter()
        for _ in range(runs):
            run()
        seconds = (time.perf_counter() - started) / runs
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        print(json.dumps({"seconds": seconds, "peak_mb": peak}), flush=True)
