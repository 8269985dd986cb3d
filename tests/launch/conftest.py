"""A stage for the launchers: a copy of scripts/ and configs/ and stand-ins for python, msrun and mpirun.

The stand-ins record what they were called with. Those of msrun and mpirun start their ranks as the real
ones do, with the same variables; python runs src/launch/*.py for real and records everything else.
"""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

RECORDER = """\
import json, os, sys, time
program, folder = sys.argv[1], sys.argv[2]
arguments = sys.argv[3:]
rank = os.environ.get("RANK_ID", os.environ.get("OMPI_COMM_WORLD_RANK", "x"))
path = os.path.join(folder, f"{program}-{rank}-{os.getpid()}")
with open(path + ".part", "w") as file:
    json.dump({"program": program, "arguments": arguments, "environment": dict(os.environ), "cwd": os.getcwd()}, file)
os.replace(path + ".part", path + ".json")
"""

PYTHON = """\
#!/usr/bin/env bash
case ${1:-} in
    */src/launch/*.py) exec REAL "$@" ;;
esac
REAL RECORDER python RECORDS "$@"
if [[ $MS_ROLE == MS_SCHED ]]; then exit 0; fi
rank=${RANK_ID:-${OMPI_COMM_WORLD_RANK:-0}}
behaviour="BEHAVIOUR/$rank"
if [[ -f $behaviour ]]; then . "$behaviour"; fi
"""

MSRUN = """\
#!/usr/bin/env bash
REAL RECORDER msrun RECORDS "$@"
if [[ -f BEHAVIOUR/msrun ]]; then . BEHAVIOUR/msrun; fi
node=0
while [[ $1 == --* ]]; do
    case $1 in
        --worker_num=*) export RANK_SIZE=${1#*=} MS_WORKER_NUM=${1#*=} ;;
        --local_worker_num=*) local_number=${1#*=} ;;
        --node_rank=*) node=${1#*=} ;;
        --join=*) join=${1#*=} ;;
    esac
    shift
done
[[ $join == False ]] || exit 9
export OMP_NUM_THREADS=${OMP_NUM_THREADS:-1}
for ((i = 0; i < local_number; i++)); do
    rank=$((node * local_number + i))
    MS_ROLE=MS_WORKER RANK_ID=$rank MS_NODE_ID=$rank DEVICE_ID=$i setsid python "$@" &
done
"""

MPIRUN = """\
#!/usr/bin/env bash
REAL RECORDER mpirun RECORDS "$@"
while [[ $1 == -* ]]; do
    case $1 in
        -n) number=$2; shift ;;
        --bind-to | --output-filename) shift ;;
    esac
    shift
done
pids=()
for ((i = 0; i < number; i++)); do
    OMPI_COMM_WORLD_RANK=$i OMPI_COMM_WORLD_LOCAL_RANK=$i OMPI_COMM_WORLD_SIZE=$number \\
        OMPI_COMM_WORLD_LOCAL_SIZE=$number setsid "$@" &
    pids+=($!)
done
status=0
for pid in "${pids[@]}"; do wait "$pid" || status=$?; done
exit "$status"
"""


@dataclasses.dataclass
class Call:
    """One recorded call: the program, its arguments, the environment it saw."""

    program: str
    arguments: list[str]
    environment: dict[str, str]
    cwd: str

    def value(self, flag: str) -> str:
        """What follows ``--flag``."""
        return self.arguments[self.arguments.index(f"--{flag}") + 1]


class Stage:
    """A repository on which the launchers run with stand-ins."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.root = folder / "repo"
        self.records = folder / "records"
        self.behaviour = folder / "behaviour"
        self.bin = folder / "bin"
        for path in (self.root, self.records, self.behaviour, self.bin):
            path.mkdir()
        for name in ("scripts", "test", "src/launch", "src/settings", "configs"):
            shutil.copytree(ROOT / name, self.root / name, ignore=shutil.ignore_patterns("__pycache__"))
        for name in ("src/__init__.py", "src/errors.py", "src/files.py", "default_config.yaml"):
            shutil.copy(ROOT / name, self.root / name)
        for name in ("train.py", "eval.py", "export.py", "search.py"):
            (self.root / name).touch()
        recorder = folder / "recorder.py"
        recorder.write_text(RECORDER)
        for name, text in (("python", PYTHON), ("msrun", MSRUN), ("mpirun", MPIRUN)):
            for word, value in (
                ("REAL", sys.executable),
                ("RECORDER", recorder),
                ("RECORDS", self.records),
                ("BEHAVIOUR", self.behaviour),
            ):
                text = text.replace(word, str(value))
            path = self.bin / name
            path.write_text(text)
            path.chmod(0o755)
        self.data = folder / "images"
        self.data.mkdir()

    def environment(self, **extra: str) -> dict[str, str]:
        kept = {name: os.environ[name] for name in ("HOME", "LANG", "TMPDIR") if name in os.environ}
        path = f"{self.bin}:/usr/local/bin:/usr/bin:/bin"
        return {**kept, "PATH": path, "VIRTUAL_ENV": "none", "LAUNCH_GRACE": "5", **extra}

    def behave(self, rank: int | str, script: str) -> None:
        """Shell lines that the program of ``rank`` (or ``msrun``) runs after it was recorded."""
        (self.behaviour / str(rank)).write_text(script)

    def start(self, *words: str | Path, cwd: Path | None = None, **extra: str) -> subprocess.Popen:
        return subprocess.Popen(
            [str(word) for word in words],
            cwd=cwd or self.root,
            env=self.environment(**extra),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def run(self, *words: str | Path, cwd: Path | None = None, **extra: str) -> subprocess.CompletedProcess:
        """Runs a launcher to its end."""
        process = self.start(*words, cwd=cwd, **extra)
        out, err = process.communicate(timeout=60)
        return subprocess.CompletedProcess(words, process.returncode, out, err)

    def calls(self, program: str) -> list[Call]:
        """Recorded calls of a program, in the order of the ranks."""
        paths = sorted(self.records.glob(f"{program}-*.json"), key=lambda path: path.name.split("-")[1].zfill(4))
        return [Call(**json.loads(path.read_text())) for path in paths]

    def wait_for(self, condition, seconds: float = 20) -> None:
        """Waits until ``condition()`` holds."""
        deadline = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < deadline, "it did not happen in time"
            time.sleep(0.05)

    @property
    def run_folders(self) -> list[Path]:
        return sorted((self.root / "runs").glob("*"))


@pytest.fixture
def stage(tmp_path) -> Stage:
    return Stage(tmp_path)
