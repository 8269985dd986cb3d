"""``python -m tests.weights.measure_memory IN OUT [words of convert]``: what a conversion adds to the peak of memory.

Beside the imports and the framework's first use, which come before; Linux alone says it (VmHWM of /proc).
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

from src.models import create_model
from src.weights import convert


def status(key: str) -> int:
    """A line of /proc/self/status in bytes."""
    lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    return 1024 * int(next(line for line in lines if line.startswith(key)).split()[1])


def main(words: list[str]) -> None:
    if words[1].endswith(".pth"):
        convert._torch()
    create_model("mnasnet", alpha=0.5)
    Path("/proc/self/clear_refs").write_text("5", encoding="utf-8")  # the peak begins anew
    before, start = status("VmRSS"), time.perf_counter()
    convert.main(words)
    seconds, size = time.perf_counter() - start, Path(words[0]).stat().st_size
    print(f"{size / 2**20:.1f} MiB: peak {(status('VmHWM') - before) / size:.2f} times the file more, {seconds:.1f} s")


if __name__ == "__main__":
    main(sys.argv[1:])
