"""SIGKILL at random moments of a search, of one rank of two and of their launcher; each is started again.

Of training in one process tests/e2e/test_interruption.py does so. Nothing may be left behind: no temporary file, no
process.
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import search
from src.files import WRITING
from src.machine.ranks import World
from src.runs.checkpoint import CheckpointFolder, list_checkpoints, read_checkpoint
from src.settings.run_folders import JOURNAL
from src.space.journal import Journal
from src.supernet.searching import run_search, search_of, tables_of
from tests.attack import stand_in
from tests.launch.test_cpu_launch import repository  # noqa: F401  a fixture
from tests.launch.test_two_ranks import environment

PATIENCE = 300
FORKS, SEARCH_KILLS = 12, 8
SPACE = stand_in.LAYOUTS["digits"]


def wait_for(happens: Callable[[], object], process: subprocess.Popen) -> None:
    deadline = time.monotonic() + PATIENCE
    while not happens():
        assert process.poll() is None, process.communicate()[0]
        assert time.monotonic() < deadline
        time.sleep(0.02)


def processes_of(word: str) -> list[int]:
    """Processes with ``word`` on their command line."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            words = (folder / "cmdline").read_bytes().decode(errors="replace")
        except OSError:
            continue
        if word in words:
            found.append(int(folder.name))
    return found


def lines_of(path: Path) -> int:
    return len(path.read_bytes().splitlines()) if path.exists() else 0


def ended(pid: int) -> int:
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def searched(folder: Path, seconds: float) -> None:
    """A search with its journal in ``folder``, without anything around it."""
    asked = {"search_population": 24, "search_generations": 4, "search_retain": 8, "seed": 5}
    config = stand_in.load_config("", {"model": "spos_oneshot", "model_options": {"layout": "digits"}, **asked})
    the_search = search_of(config, SPACE, tables_of(config, SPACE))
    with Journal(folder / JOURNAL, {"seed": 5}) as journal:
        run_search(the_search, stand_in.Scores(seconds), journal, World(), lambda *_: None)


def test_a_search_killed_again_and_again_finds_what_it_would_have_found(tmp_path):
    for name in ("killed", "whole"):
        (tmp_path / name).mkdir()
    searched(tmp_path / "whole", 0)
    rng, lengths = random.Random(3), []
    for _ in range(FORKS):
        child = os.fork()
        if child == 0:
            searched(tmp_path / "killed", 0.004)
            os._exit(0)
        time.sleep(rng.uniform(0, 0.06))
        os.kill(child, signal.SIGKILL)
        ended(child)
        journal = tmp_path / "killed" / JOURNAL
        lengths.append(len(Journal(journal, {"seed": 5}).records) if journal.exists() else 0)
    assert lengths == sorted(lengths)
    assert len(set(lengths)) > 3
    searched(tmp_path / "killed", 0)
    assert (tmp_path / "killed" / JOURNAL).read_bytes() == (tmp_path / "whole" / JOURNAL).read_bytes()


@pytest.mark.slow
def test_a_program_that_searches_is_killed_again_and_again(root, tmp_path, monkeypatch):
    """Eight times, once by SIGTERM; its results are those of a search left in peace, to the byte."""
    words = [*stand_in.SEARCH.split(), "--run_dir"]
    run, whole, rng = tmp_path / "run", tmp_path / "whole", random.Random(5)
    command = [sys.executable, "-m", "tests.attack.stand_in", str(tmp_path), "0.3", *words, str(run)]
    for kill in range(SEARCH_KILLS):
        before = lines_of(run / JOURNAL)
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
        with subprocess.Popen(command, cwd=root, **pipes) as process:
            wait_for(lambda before=before: lines_of(run / JOURNAL) > before, process)
            time.sleep(rng.uniform(0, 0.3))
            signum = signal.SIGTERM if kill == 3 else signal.SIGKILL
            process.send_signal(signum)
            process.communicate(timeout=PATIENCE)
        assert process.returncode == (143 if signum == signal.SIGTERM else -signal.SIGKILL)
    stand_in.replace_scoring(monkeypatch.setattr, tmp_path)
    for folder in (run, whole):
        search.main([*words, str(folder)])
    for name in (JOURNAL, "candidates.csv", "best.yaml"):
        assert (run / name).read_bytes() == (whole / name).read_bytes()
    assert not [path for path in run.rglob(".*") if path.name.startswith(WRITING)]
    assert not processes_of(str(tmp_path))


def newest(run: Path):
    return read_checkpoint(CheckpointFolder(run / "checkpoints").newest_valid()[0])


@pytest.mark.slow
def test_a_rank_or_the_launcher_is_killed_and_two_ranks_end_where_they_would_have(repository, photos):  # noqa: F811
    runs = {name: repository / name for name in ("left in peace", "killed")}
    rng = random.Random(7)

    def start(run: Path, *words: str) -> subprocess.Popen:
        """Two ranks; a checkpoint after each step, so that a kill is often within a save."""
        options = ["--batch_size", "4", "--save_checkpoint_steps", "1", "--run_dir", str(run), *words]
        return subprocess.Popen(
            ["bash", "scripts/run_distribute_train_cpu.sh", "2", str(photos), *options],
            cwd=repository,
            env=environment(NETWORK="tiny", PYTHONPATH="", XDG_CACHE_HOME=str(repository / "cache")),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )

    def ranks_of(run: Path) -> list[int]:
        """The processes that train: those with train.py on their line."""
        return [pid for pid in processes_of(str(run)) if pid in processes_of("train.py")]

    with start(runs["left in peace"]) as process:
        output = process.communicate(timeout=PATIENCE)[0]
    assert process.returncode == 0, output
    run = runs["killed"]
    for kill in ("a rank", "the launcher", "a rank"):
        before = len(list_checkpoints(run / "checkpoints")) and newest(run).meta["position"]
        with start(run, "--resume", "auto") as process:

            def is_further(before=before) -> bool:
                return bool(list_checkpoints(run / "checkpoints")) and newest(run).meta["position"] != before

            wait_for(is_further, process)
            time.sleep(rng.uniform(0, 0.3))
            os.kill(process.pid if kill == "the launcher" else rng.choice(ranks_of(run)[-2:]), signal.SIGKILL)
            process.communicate(timeout=PATIENCE)
        assert process.returncode
        deadline = time.monotonic() + 60
        while processes_of(str(run)):
            assert time.monotonic() < deadline, f"left behind after a kill of {kill}"
            time.sleep(0.2)
        for path in list_checkpoints(run / "checkpoints"):
            read_checkpoint(path)
    with start(run, "--resume", "auto") as process:
        output = process.communicate(timeout=PATIENCE)[0]
    assert process.returncode == 0, output
    one, other = newest(run), newest(runs["left in peace"])
    assert one.meta["position"]["epoch"] == other.meta["position"]["epoch"]
    for name, array in {**other.weights, **other.state}.items():
        np.testing.assert_array_equal({**one.weights, **one.state}[name], array, err_msg=name, strict=True)
    assert not list((run / "checkpoints").glob(".*"))
