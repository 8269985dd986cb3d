"""Run folders: made, refused, resumed, searched for checkpoints."""

import csv
import json
import os
from pathlib import Path

import numpy as np
import pytest

from src import files
from src.errors import UsageError
from src.runs.checkpoint import CheckpointFolder
from src.runs.folder import METRICS, RunFolder, checkpoint_of, checkpoints_of, open_run
from src.settings.config import load_config
from src.settings.run_folders import is_run


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def config(**changes):
    return load_config("", {"model": "mnasnet", **changes})


def a_run(path, checkpoints=1) -> RunFolder:
    run = open_run(config(run_dir=str(path)))
    run.write_config(config(run_dir=str(path)))
    for number in range(1, checkpoints + 1):
        CheckpointFolder(run.checkpoints).save(
            "net", number, 1, {"w": np.full(3, number, np.float32)}, {}, {}, is_best=number == 2
        )
    return run


def test_a_folder_is_named_after_recipe_and_time_and_never_used_twice(tmp_path):
    paths = [open_run(load_config("mnasnet_cpu")).path for _ in range(3)]
    assert len(set(paths)) == 3
    assert all(path.parts[-2] == "runs" and path.name.startswith("mnasnet_cpu-2") for path in paths)
    assert all((tmp_path / path / "checkpoints").is_dir() for path in paths)
    assert open_run(config()).path.name.startswith("mnasnet-2")


def test_a_used_folder_is_refused_unless_it_is_resumed(tmp_path):
    a_run(tmp_path / "run")
    assert is_run(tmp_path / "run")
    with pytest.raises(UsageError, match=r"holds a run already; go on with --resume auto"):
        open_run(config(run_dir="run"))
    (tmp_path / "elsewhere").mkdir()
    with pytest.raises(UsageError, match="holds a run already"):
        open_run(config(run_dir="run", resume="elsewhere"))
    for resume in ("auto", "run", str(tmp_path / "run")):
        assert open_run(config(run_dir="run", resume=resume)).path.resolve() == tmp_path / "run"
    assert open_run(config(resume="run")).path.resolve() == tmp_path / "run"


def test_a_folder_that_holds_no_run_is_used(tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").touch()
    assert open_run(config(run_dir="mine")).checkpoints.is_dir()
    assert (tmp_path / "mine" / "notes.txt").exists()


@pytest.mark.parametrize("path", ["file", "file/below"])
def test_a_folder_that_cannot_be_made_is_a_usage_error(tmp_path, path):
    (tmp_path / "file").touch()
    with pytest.raises(UsageError, match="cannot make the run folder file"):
        open_run(config(run_dir=path))


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_that_is_read_only_is_a_usage_error(tmp_path):
    (tmp_path / "locked").mkdir(mode=0o500)
    with pytest.raises(UsageError, match="Permission denied"):
        open_run(config(run_dir="locked"))


def test_a_run_goes_on_from_its_newest_checkpoint_only(tmp_path):
    """From another one it would write a second history over the first; that is another run's."""
    run = a_run(tmp_path / "run", checkpoints=3)
    newest, earlier = (run.checkpoints / f"net-{number}_1.ckpt" for number in (3, 1))
    for named in (newest, "run/checkpoints/net-3_1.ckpt", "run/checkpoints"):
        assert open_run(config(resume=str(named), run_dir="run")).path == Path("run")
        assert open_run(config(resume=str(named))).path.resolve() == tmp_path / "run"
        assert checkpoint_of(str(named), run)[0].resolve() == newest
    with pytest.raises(UsageError, match=r"come further, to net-3_1\.ckpt; .*--resume .*, or give another --run_dir"):
        checkpoint_of(str(earlier), run)
    other = open_run(config(resume=str(earlier), run_dir="other"))
    assert checkpoint_of(str(earlier), other) == (earlier, [])
    unseen = open_run(config(resume=str(earlier), run_dir="unseen"), is_main=False)
    assert checkpoint_of(str(earlier), unseen) == (earlier, []), "a rank whose folder the main one has yet to make"


def test_auto_needs_to_know_the_folder():
    with pytest.raises(UsageError, match="give --run_dir too"):
        open_run(config(resume="auto"))


def test_other_ranks_touch_nothing(tmp_path):
    assert open_run(config(run_dir="run"), is_main=False).path.name == "run"
    assert not list(tmp_path.iterdir())


def test_the_checkpoint_to_resume(tmp_path):
    run = a_run(tmp_path / "run", checkpoints=3)
    third = run.checkpoints / "net-3_1.ckpt"
    second = run.checkpoints / "net-2_1.ckpt"
    assert checkpoint_of("", run) == (None, [])
    for resume in ("auto", "run", str(run.checkpoints), str(third)):
        found, complaints = checkpoint_of(resume, run)
        assert (found.resolve(), complaints) == (third, [])
    third.write_bytes(b"")
    found, complaints = checkpoint_of("auto", run)
    assert found.resolve() == second
    assert str(third) in complaints[0]


def test_resuming_nothing(tmp_path):
    empty = open_run(config(run_dir="empty"))
    assert checkpoint_of("auto", empty) == (None, []), "a run that was killed before its first checkpoint starts anew"
    for resume, message in (("nowhere", "no such run folder or checkpoint"), ("empty", "it holds none")):
        with pytest.raises(UsageError, match=message):
            checkpoint_of(resume, empty)
    run = a_run(tmp_path / "run")
    (run.checkpoints / "net-1_1.ckpt").write_bytes(b"damaged")
    with pytest.raises(UsageError, match=r"no usable checkpoint.*net-1_1\.ckpt is damaged"):
        checkpoint_of("auto", run)


def test_a_run_that_was_killed_before_its_first_checkpoint_is_told_how_to_start_anew(tmp_path):
    run = a_run(tmp_path / "run", checkpoints=0)
    with pytest.raises(UsageError, match=r"it holds none; --run_dir run --resume auto starts that run anew$"):
        checkpoint_of("run", run)
    assert checkpoint_of("auto", run) == (None, [])


def test_the_checkpoints_to_evaluate(tmp_path):
    run = a_run(tmp_path / "run", checkpoints=3)
    assert [path.name for path in checkpoints_of("run")] == ["net-2_1.ckpt"], "the best of a run"
    (run.checkpoints / "best").unlink()
    assert [path.name for path in checkpoints_of("run")] == ["net-3_1.ckpt"], "or else the last"
    assert [path.name for path in checkpoints_of("run/checkpoints")] == [f"net-{n}_1.ckpt" for n in (1, 2, 3)]
    for name in ("net-1_1.ckpt", "net-1_1"):
        assert [path.name for path in checkpoints_of(f"run/checkpoints/{name}")] == ["net-1_1.ckpt"]
    for text, message in (
        ("", "--checkpoint_path is missing"),
        ("nowhere", "no such file or folder"),
        (".", "neither a run folder nor a folder with .ckpt files"),
    ):
        with pytest.raises(UsageError, match=message):
            checkpoints_of(text)
    unfinished = open_run(config(run_dir="unfinished"))
    unfinished.write_config(config())
    with pytest.raises(UsageError, match="holds no checkpoint yet"):
        checkpoints_of("unfinished")


def test_the_saved_configuration_starts_the_same_run(tmp_path):
    run = open_run(config(run_dir="run"))
    asked = config(lr=0.25, model_options={"alpha": 0.5}, val_data_path="a b: c")
    run.write_config(asked)
    assert dict(load_config(run.path / "config.yaml")) == dict(asked)


def test_metrics_keep_every_digit_and_leave_out_what_was_not_measured(tmp_path):
    run = open_run(config(run_dir="run"))
    row = dict.fromkeys(METRICS, 0.1 + 0.2)
    run.write_metrics([{**row, "epoch": 1, "top1": None, "other": 5}, {**row, "epoch": 2}])
    with (run.path / "metrics.csv").open(newline="") as file:
        first, second = csv.DictReader(file)
    assert tuple(first) == METRICS
    assert (first["epoch"], first["top1"], float(second["top1"])) == ("1", "", 0.1 + 0.2)


def test_json_files(tmp_path):
    run = open_run(config(run_dir="run"))
    run.write_json("classes.json", {"ä": 0})
    assert json.loads((run.path / "classes.json").read_text(encoding="utf-8")) == {"ä": 0}


def test_a_run_without_a_name_is_called_after_its_network(monkeypatch):
    monkeypatch.setattr(files.time, "strftime", lambda form: "20260101-000000")
    assert open_run(config()).path == Path("runs", "mnasnet-20260101-000000")
