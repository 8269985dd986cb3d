"""What a program has when it starts, and what is left when it ends."""

from __future__ import annotations

import contextlib
import json
import logging

import pytest

from src.errors import UsageError
from src.machine.ranks import World
from src.runs import run
from src.runs.lock import sole_user
from src.runs.log import record
from src.runs.run import started
from src.settings.config import load_config

log = logging.getLogger("src.somewhere")


@pytest.fixture
def order(monkeypatch) -> list[tuple]:
    """What a start does to device and ranks, in order; the process is ``world``."""
    done: list[tuple] = []
    monkeypatch.setattr(run, "current_world", lambda: done.append(("who",)) or World(device_id=3))
    monkeypatch.setattr(run, "set_up", lambda *asked: done.append(("device", *asked)) or "GPU")
    monkeypatch.setattr(run, "initialise", lambda *asked: done.append(("ranks", *asked)))
    return done


def test_device_then_ranks_then_folder_and_log(order, tmp_path, capsys):
    asked = load_config(
        "", {"device_target": "GPU", "device_id": 5, "mode": "pynative", "seed": 7, "run_dir": str(tmp_path)}
    )
    with started(asked, "train") as current:
        assert order == [
            ("who",),
            ("device", "GPU", 5, "pynative", asked.deterministic, 7),
            ("ranks", World(device_id=3), False, "GPU"),
        ]
        assert (current.target, current.folder.path) == ("GPU", tmp_path)
        assert current.folder.checkpoints.is_dir()
        assert str(current).startswith("GPU, MindSpore ") and str(current).endswith(", rank 0 of 1")
        log.info("within")
    log.info("after")
    assert capsys.readouterr().out == (tmp_path / "log.txt").read_text() == "within\n"


@pytest.mark.parametrize("program", ["eval", "export_subnet"])
def test_a_program_that_only_talks_leaves_no_folder(order, tmp_path, monkeypatch, capsys, program):
    monkeypatch.chdir(tmp_path)
    with started(load_config(""), program) as current:
        log.info("within")
    assert current.folder is None
    assert list(tmp_path.iterdir()) == []
    assert capsys.readouterr().out == "within\n"


def test_ranks_beside_the_main_one_are_quiet_and_write_nothing(order, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(run, "current_world", lambda: World(1, 2, 1, "msrun"))
    asked = load_config("", {"run_dir": str(tmp_path / "run"), "device_id": 5})
    with started(asked, "search") as current:
        log.info("within")
        record("event")
    assert order[0][2] == 1, "the launcher's card, not the one asked for"
    assert current.folder.path == tmp_path / "run"
    assert not (tmp_path / "run").exists()
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("rank", [0, 1])
def test_a_folder_in_use_is_refused_before_its_log_is_touched_but_not_to_the_other_ranks(
    order, tmp_path, monkeypatch, rank
):
    monkeypatch.setattr(run, "current_world", lambda: World(rank, 2, rank, "msrun"))
    refusal = pytest.raises(UsageError, match="in use") if rank == 0 else contextlib.nullcontext()
    asked = load_config("", {"run_dir": str(tmp_path)})
    with sole_user(tmp_path), refusal, started(asked, "train"):
        log.info("within")
    assert not (tmp_path / "log.txt").exists()


def test_a_file_system_without_locks_is_noted_in_the_log(order, tmp_path, monkeypatch):
    monkeypatch.setattr(run, "sole_user", lambda folder: contextlib.nullcontext("no locks"))
    with started(load_config("", {"run_dir": str(tmp_path)}), "train"):
        pass
    assert (tmp_path / "log.txt").read_text() == "note: no locks\n"


def test_a_failure_is_recorded_and_its_log_closed(order, tmp_path, capsys):
    with pytest.raises(UsageError), started(load_config("", {"run_dir": str(tmp_path)}), "train"):
        raise UsageError("no images")
    log.info("after")
    last = json.loads((tmp_path / "log.jsonl").read_text().splitlines()[-1])
    assert (last["event"], last["message"]) == ("stopped", "no images")
    assert capsys.readouterr().out == ""
