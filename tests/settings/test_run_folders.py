"""A run is the folder that is named, wherever it was when it was written."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from src.errors import UsageError
from src.settings.command_line import parse_arguments
from src.settings.config import INPUTS, load_config, saved_config
from src.settings.run_folders import run_of


@pytest.fixture
def moved(tmp_path, monkeypatch) -> Path:
    """A run, in the working folder, whose files say that it is somewhere else."""
    monkeypatch.chdir(tmp_path)
    run = Path("old/run")
    (run / "checkpoints").mkdir(parents=True)
    (run / "checkpoints" / "net-1_5.ckpt").touch()
    (run / "journal.jsonl").touch()
    (run / "config.yaml").write_text("epochs: 7\nrun_dir: old/run\nresume: old/run\n")
    shutil.move(run, "moved")
    return tmp_path / "moved"


NAMES = ("", "checkpoints", "checkpoints/", "checkpoints/net-1_5.ckpt", "checkpoints/net-gone.ckpt")


@pytest.mark.parametrize("program", ["train", "search"])
@pytest.mark.parametrize("inside", NAMES)
def test_the_folder_that_is_named_is_the_run(moved, tmp_path, monkeypatch, program, inside):
    (tmp_path / "elsewhere").mkdir()
    link = tmp_path / "link"
    link.symlink_to(moved)
    for place, named in (
        (tmp_path, "moved"),
        (tmp_path / "elsewhere", "../moved"),
        (tmp_path, moved),
        (tmp_path, link),
    ):
        monkeypatch.chdir(place)
        config = parse_arguments(["--resume", f"{named}/{inside}"], program)
        assert (Path(config.run_dir).resolve(), config.epochs) == (moved, 7)
    monkeypatch.chdir(moved if inside != NAMES[-2] else moved / "checkpoints")
    config = parse_arguments(["--resume", {"": ".", NAMES[-2]: "net-1_5.ckpt"}.get(inside, inside)], program)
    assert (Path(config.run_dir).resolve(), config.epochs) == (moved, 7)


def test_auto_looks_in_the_folder_that_is_named_or_whose_configuration_is(moved):
    for words in ("--run_dir moved", "--config_path moved/config.yaml"):
        config = parse_arguments([*words.split(), "--resume", "auto"], "train")
        assert (Path(config.run_dir), config.epochs) == (Path("moved"), 7)


def test_a_run_that_is_to_be_another_is_not_taken_for_the_one_it_comes_from(moved):
    assert parse_arguments(["--resume", "moved", "--run_dir", "other"], "train").run_dir == "other"
    assert parse_arguments(["--config_path", "moved/config.yaml"], "train").run_dir == ""
    assert parse_arguments(["--config_path", "moved/config.yaml"], "search").run_dir == "moved", "a search goes on"
    Path("config.yaml").write_text("run_dir: mine\n")
    assert parse_arguments(["--config_path", "config.yaml"], "train").run_dir == "mine", "a recipe of that name"


def test_no_run_is_at_a_folder_without_a_configuration(moved):
    (moved / "config.yaml").unlink()
    assert [run_of(moved / inside) for inside in NAMES] == [None] * len(NAMES)
    assert run_of(Path("/checkpoints")) is None


def test_inputs_are_kept_by_full_paths_and_places_are_not(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in INPUTS:
        Path(name).touch()
    given = load_config("", {**{name: name for name in INPUTS}, "run_dir": "run", "resume": "auto", "epochs": 3})
    kept = given.kept()
    assert [kept[name] for name in INPUTS] == [str(tmp_path / name) for name in INPUTS]
    assert (kept.run_dir, kept.resume, kept.epochs) == ("", "", 3)
    Path("search_recipe").unlink()
    assert given.kept().search_recipe == "search_recipe", "the name of a recipe"
    assert load_config().kept().values() == load_config().values()


def test_an_input_that_is_gone_is_said_to_be_the_runs(moved, tmp_path):
    (moved / "config.yaml").write_text("data_path: /gone/data\n")
    config = parse_arguments(["--resume", "moved"], "train")
    with pytest.raises(UsageError, match=r"^/gone/data is gone, the data_path of moved; .* with --data_path$"):
        config.require_inputs("val_data_path", "data_path")
    for words in (
        ["--resume", "moved", "--data_path", "typed"],
        ["--config_path", "moved/config.yaml", "--data_path", "x"],
    ):
        parse_arguments(words, "train").require_inputs("data_path")  # the user's own mistakes are told elsewhere
    with pytest.raises(UsageError, match=r"/gone/data is gone, the data_path of a/net\.ckpt; "):
        saved_config({"data_path": "/gone/data"}, "a/net.ckpt").require_inputs("data_path")
    saved_config({"data_path": str(tmp_path)}, "a/net.ckpt").require_inputs("data_path", "val_data_path")
