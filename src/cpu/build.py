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

from src.files import replacing, sha256
from src.machine import caches

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
CHECKSUM = 16  # digits of the SHA-256 in a library's name


class BuildError(Exception):
    """The operators cannot be built here; the message is one line that says why."""


def cache_folder() -> Path:
    """Where built libraries are kept: NAS_CPU_CACHE, or a folder of the user's caches."""
    own = os.environ.get("NAS_CPU_CACHE")
    return Path(own) if own else caches.cache_folder("cpu")


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

    Any number of processes may ask at once: each builds into a file of its own and moves it into place. A library's
    name ends with the checksum of its content, for the loader would map a damaged one and die in it.

    Raises:
        BuildError: no compiler, another processor or system, a failed build, a library that does not load.
    """
    if sys.platform != "linux" or platform.machine() not in PROCESSORS:
        raise BuildError(f"they are not made for {platform.machine()} on {sys.platform}")
    compiler = find_compiler()
    folder, key = cache_folder(), _key(compiler)
    path = _kept(folder, key)
    if not path:
        _log.info(f"building the CPU operators with {Path(compiler).name}, once (about 10 s)")
        path = _build(compiler, folder, key)
    try:
        ctypes.CDLL(str(path))
    except OSError as error:
        raise BuildError(f"{path} does not load: {error}") from error
    return path


def _kept(folder: Path, key: str) -> Path | None:
    """The library for ``key`` in the cache, if it is whole. Whoever could write to it could have any code run here.

    Raises:
        BuildError: the folder or the library may be another user's work.
    """
    if folder.is_dir():
        caches.close_to_others(folder)
    for path in sorted(folder.glob(f"operators-{key}-*.so")):
        if not (caches.is_private(folder) and caches.is_private(path)):
            raise BuildError(
                f"another user can write to {path}: remove it, or name a folder of your own by NAS_CPU_CACHE"
            )
        if path.stem.endswith(sha256(path)[:CHECKSUM]):
            return path
        _log.warning(f"{path} is damaged and is built anew")
        path.unlink(missing_ok=True)
    return None


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


def _build(compiler: str, folder: Path, key: str) -> Path:
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory() as work, ThreadPoolExecutor() as pool:
            sources = {source: f"{work}/{source.stem}.o" for source in sorted(SOURCES.glob("*.cc"))}
            compiling = [[compiler, *flags(), "-c", str(source), "-o", out] for source, out in sources.items()]
            list(pool.map(_compile, compiling))
            built = Path(work) / "operators.so"
            _compile([compiler, *flags(), *sources.values(), "-o", str(built)])
            path = folder / f"operators-{key}-{sha256(built)[:CHECKSUM]}.so"
            with replacing(path) as copy:
                shutil.copyfile(built, copy)
        path.chmod(0o644)  # whatever the umask allows others
        return path
    except (OSError, subprocess.SubprocessError) as error:
        raise BuildError(str(error)) from error


def _compile(command: list[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True, timeout=BUILD_SECONDS)
    if done.returncode != 0:
        first = next((line for line in done.stderr.splitlines() if "error" in line), done.stderr[:200])
        raise BuildError(f"{command[0]} fails: {first}")
