"""Builds the C++ operators with the machine's own compiler, once per source, compiler and processor."""

from __future__ import annotations

import ctypes
import functools
import hashlib
import logging
import os
import platform
import shutil
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from src.files import replacing

_log = logging.getLogger(__name__)
SOURCES = Path(__file__).parent / "csrc"
FLAGS = (
    "-std=c++17",
    "-O2",
    "-march=native",
    "-fopenmp",
    "-fPIC",
    "-shared",
    "-fno-math-errno",
    "-fno-trapping-math",
)
EXTRA_FLAGS = "NAS_CPU_FLAGS"  # environment variable: more compiler flags, as for a build with a sanitizer
PROCESSORS = ("x86_64", "aarch64")
BUILD_SECONDS = 300


class BuildError(Exception):
    """The operators cannot be built here; the message is one line that says why."""


def cache_folder() -> Path:
    """Where built libraries are kept: NAS_CPU_CACHE, or a folder below the user's cache folder."""
    if own := os.environ.get("NAS_CPU_CACHE"):
        return Path(own)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "mobile-nas" / "cpu"


def flags() -> list[str]:
    return [*FLAGS, *os.environ.get(EXTRA_FLAGS, "").split()]


def find_compiler() -> str:
    """CXX, or the first of g++, clang++ and c++ that is installed. Raises BuildError."""
    for name in (os.environ.get("CXX"), "g++", "clang++", "c++"):
        if name and (path := shutil.which(name)):
            return path
    raise BuildError("there is no C++ compiler (g++ or clang++) here")


@functools.cache
def library() -> Path:
    """The built library, from the cache or built now (about 10 s; a line says so).

    Any number of processes may ask at once: each builds into a file of its own and moves it into place.

    Raises:
        BuildError: no compiler, another processor or system, a failed build, a library that does not load.
    """
    if sys.platform != "linux" or platform.machine() not in PROCESSORS:
        raise BuildError(f"they are not made for {platform.machine()} on {sys.platform}")
    compiler = find_compiler()
    path = cache_folder() / f"operators-{_key(compiler)}.so"
    if not path.exists():
        _log.info(f"building the CPU operators with {Path(compiler).name}, once (about 10 s)")
        _build(compiler, path)
    try:
        ctypes.CDLL(str(path))
    except OSError as error:
        raise BuildError(f"{path} does not load: {error}") from error
    return path


def _key(compiler: str) -> str:
    """Of everything the built code depends on."""
    parts = [
        _output([compiler, "--version"]),
        " ".join(flags()),
        # What -march=native stands for: the same cache may be seen by different machines.
        _output([compiler, "-march=native", "-E", "-dM", "-x", "c++", os.devnull]),
    ]
    parts += [f"{file.name}\n{file.read_text()}" for file in sorted(SOURCES.iterdir())]
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:20]


def _output(command: list[str]) -> str:
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=BUILD_SECONDS).stdout
    except (OSError, subprocess.SubprocessError) as error:
        raise BuildError(f"{command[0]} does not run: {error}") from error


def _build(compiler: str, path: Path) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor() as pool, replacing(path) as built:
            sources = {source: f"{folder}/{source.stem}.o" for source in sorted(SOURCES.glob("*.cc"))}
            compiling = [[compiler, *flags(), "-c", str(source), "-o", out] for source, out in sources.items()]
            list(pool.map(_compile, compiling))
            _compile([compiler, *flags(), *sources.values(), "-o", str(built)])
    except (OSError, subprocess.SubprocessError) as error:
        raise BuildError(str(error)) from error


def _compile(command: list[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True, timeout=BUILD_SECONDS)
    if done.returncode != 0:
        first = next((line for line in done.stderr.splitlines() if "error" in line), done.stderr[:200])
        raise BuildError(f"{command[0]} fails: {first}")
