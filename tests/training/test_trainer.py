"""The training loop: exact resumption, what a checkpoint holds, how a run ends."""

from __future__ import annotations

import contextlib
import csv
import dataclasses
import json
import os
import re
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import mindspore as ms
import numpy as np
import pytest
from mindspore import Parameter, Tensor
from PIL import Image

import eval as evaluation
import train
from src.data.dataset import TrainData
from src.errors import Interrupted, RunFailed, UsageError
from src.machine.ranks import World
from src.models.layers import weights
from src.runs.checkpoint import BEST, LAST, CheckpointFolder, list_checkpoints, read_checkpoint
from src.runs.folder import METRICS
from src.runs.lock import sole_user
from src.runs.log import logged
from src.settings.config import DEFAULTS, load_config
from src.settings.sections import Schedule
from src.training import reporter
from src.training import trainer as engine
from src.training.evaluation import Evaluation, Evaluator
from src.training.going_on import Position
from src.training.lr_schedule import learning_rates
from src.training.step import TrainStep, state
from src.training.trainer import Trainer
from tests.images import class_folders
from tests.watched import watch_training

TIMINGS = ("images_per_second", "seconds")


class Runs:
    """Starts training in this process and notes the loss of every step."""

    def __init__(self, photos: Path, patch: pytest.MonkeyPatch):
        self.photos = photos
        self.losses: list[float] = []
        self.trainers: list[Trainer] = []
        self.after_step: Callable[[int], None] = lambda step: None
        watch_training(patch, self._note, self.trainers.append)

    def _note(self, loss: float) -> None:
        self.losses.append(loss)
        self.after_step(len(self.losses))

    def start(self, folder: Path, *more: str, val: bool = True) -> list[float]:
        """Trains into ``folder``; returns the losses of this start's steps, also when it is stopped."""
        self.losses.clear()
        data = self.photos if val else self.photos / "alone"
        words = f"--model tiny --data_path {data} --run_dir {folder} --batch_size 4 --workers 2 --check_data False"
        if "--mode" not in more:
            words += " --mode pynative"  # compiling takes longer than the steps of these runs
        try:
            train.main([*words.split(), *more])
        finally:
            self.after_step = lambda step: None
        return list(self.losses)

    def stop(self, folder: Path, after: int, *more: str, val: bool = True, signum: int = signal.SIGTERM) -> list[float]:
        """The same, but a signal comes in step ``after``."""
        self.after_step = lambda step: os.kill(os.getpid(), signum) if step == after else None
        with pytest.raises(Interrupted) as stop:
            self.start(folder, *more, val=val)
        assert stop.value.signum == signum
        return list(self.losses)


@pytest.fixture(scope="module")
def runs(photos, tiny_model) -> Iterator[Runs]:
    with pytest.MonkeyPatch.context() as patch:
        yield Runs(photos, patch)


FULL = ("--epochs", "2", "--lr", "0.05", "--log_steps", "1", "--save_checkpoint_steps", "4")


@pytest.fixture(scope="module")
def reference(runs, tmp_path_factory) -> tuple[Path, list[float]]:
    """A run of two epochs (6 steps each, 13 images evaluated) that nothing disturbed, and its losses."""
    folder = tmp_path_factory.mktemp("reference") / "run"
    return folder, runs.start(folder, *FULL, "--tensorboard")


@pytest.fixture
def no_picture(monkeypatch):
    """Drawing takes longer than the training of these runs."""
    monkeypatch.setattr(reporter, "draw_curves", lambda history, path, title: None)


def rows(folder: Path) -> list[dict[str, str]]:
    with (folder / "metrics.csv").open(newline="") as file:
        return [{key: value for key, value in row.items() if key not in TIMINGS} for row in csv.DictReader(file)]


def newest(folder: Path):
    return read_checkpoint(CheckpointFolder(folder / "checkpoints").newest_valid()[0])


def assert_same_state(one, other) -> None:
    for arrays, others in ((one.weights, other.weights), (one.state, other.state)):
        assert arrays.keys() == others.keys()
        for name, array in arrays.items():
            np.testing.assert_array_equal(array, others[name], err_msg=name, strict=True)
    positions = [checkpoint.meta["position"] for checkpoint in (one, other)]
    for position in positions:
        for row in position["history"]:
            for timing in TIMINGS:
                del row[timing]
    assert positions[0] == positions[1]


# -- exact resumption --------------------------------------------------------------------------


def test_a_run_stopped_three_times_is_the_run_that_was_not(runs, reference, tmp_path, no_picture, monkeypatch, capsys):
    """In the middle of an epoch, in an evaluation, in the middle of the next epoch."""
    folder = tmp_path / "run"
    losses = runs.stop(folder, 2, *FULL)
    assert [path.name for path in list_checkpoints(folder / "checkpoints")] == ["tiny-1_2.ckpt"]
    assert f"go on with: python train.py --resume {folder}" in capsys.readouterr().out

    real_run = Evaluator.run

    def signalled_run(*arguments, **keywords):
        os.kill(os.getpid(), signal.SIGTERM)
        return real_run(*arguments, **keywords)

    with monkeypatch.context() as patch:
        patch.setattr(Evaluator, "run", signalled_run)
        with pytest.raises(Interrupted):
            runs.start(folder, "--resume", "auto")
    losses += runs.losses
    assert newest(folder).meta["position"]["step"] == 6
    assert rows_or_none(folder) is None

    losses += runs.stop(folder, 3, "--resume", "auto", signum=signal.SIGHUP)
    assert newest(folder).path.name == "tiny-2_3.ckpt"
    assert len(rows(folder)) == 1
    losses += runs.start(folder, "--resume", str(folder))
    assert "going on otherwise" not in capsys.readouterr().out

    undisturbed, expected = reference
    assert losses == expected
    assert len(set(expected)) == 12
    assert rows(folder) == rows(undisturbed)
    assert_same_state(newest(folder), newest(undisturbed))


def rows_or_none(folder: Path) -> list[dict[str, str]] | None:
    return rows(folder) if (folder / "metrics.csv").exists() else None


@pytest.mark.parametrize(
    "flags",
    [
        "--optimizer rmsprop --accumulate 2 --grad_clip 0.1 --loss_scale_mode dynamic --scale_window 1 --lr 0.01",
        "--optimizer nesterov --amp_level O2 --loss_scale_mode dynamic --loss_scale 1048576 --lr_schedule linear",
    ],
)
def test_every_part_of_the_state_is_resumed(runs, tmp_path, no_picture, flags):
    """Stopped between the two batches of an update, with a loss scale that changes at every update."""
    flags = ["--epochs", "1", *flags.split()]
    expected = runs.start(tmp_path / "whole", *flags, val=False)
    losses = runs.stop(tmp_path / "stopped", 3, *flags, val=False)
    losses += runs.start(tmp_path / "stopped", "--resume", "auto", val=False)
    assert losses == expected
    assert_same_state(newest(tmp_path / "stopped"), newest(tmp_path / "whole"))
    end = newest(tmp_path / "whole").state
    assert end["loss_scale"] not in (1024, 1048576)
    assert end["global_step"] >= 2


def test_a_checkpoint_holds_every_parameter_of_the_step(runs, reference):
    trainer = runs.trainers[0]
    checkpoint = newest(reference[0])
    saved = {id(trainer._state[name]) for name in checkpoint.state}
    saved |= {id(weights(trainer._network)[name]) for name in checkpoint.weights}
    lost = {value.name for value in trainer._step.get_parameters() if id(value) not in saved}
    assert lost <= {"learning_rate", "momentum"}, "set anew from the configuration"
    assert {"global_step", "overflow_count", "dropout.steps"} <= checkpoint.state.keys()
    assert all(f"moments.{value.name}" in checkpoint.state for value in trainer._network.trainable_params())


def test_a_parameter_added_to_the_step_is_saved_and_asked_for(runs, reference):
    trainer = runs.trainers[0]
    trainer._step.added = Parameter(Tensor(1.0, ms.float32), name="added", requires_grad=False)
    try:
        assert "added" in state(trainer._step)
    finally:
        del trainer._step.added
    held = trainer._state
    trainer._state = {**held, "added": Parameter(Tensor(1.0, ms.float32), name="added")}
    try:
        with pytest.raises(UsageError, match=r"missing \['added'\]"):
            trainer.restore(newest(reference[0]))
    finally:
        trainer._state = held


def test_what_changes_in_a_trainer_is_its_position_and_that_is_saved(runs, reference, tmp_path, no_picture):
    """A new attribute that training changes has to become part of Position, or resuming would lose it."""
    before: dict[str, object] = {}
    real_fit = Trainer.fit

    def fit(trainer: Trainer):
        before.update({name: repr(value) for name, value in vars(trainer).items()})
        return real_fit(trainer)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Trainer, "fit", fit)
        runs.start(tmp_path, "--max_steps", "2", val=False)
    trainer = runs.trainers[-1]
    immutable = {name: value for name, value in vars(trainer).items() if isinstance(value, (int, float, str, tuple))}
    changed = {name for name in immutable if before[name] != repr(immutable[name])}
    assert changed == set()
    assert before["_at"] != repr(trainer._at)
    assert set(vars(trainer)) - set(before) == set()
    position = newest(reference[0]).meta["position"]
    assert position.keys() == {field.name for field in dataclasses.fields(Position)}
    assert dataclasses.asdict(Position(**position)) == position


def test_a_best_pointer_that_a_kill_left_behind_is_mended(runs, tmp_path, no_picture):
    runs.start(tmp_path, "--epochs", "1")
    folder = CheckpointFolder(tmp_path / "checkpoints")
    best = folder.pointed(BEST)
    assert best is not None
    for lost in (tmp_path / "checkpoints" / BEST, tmp_path / "metrics.csv", tmp_path / "result.json"):
        lost.unlink()
    assert runs.start(tmp_path, "--resume", "auto") == []
    assert folder.pointed(BEST) == best
    assert len(rows(tmp_path)) == 1
    assert json.loads((tmp_path / "result.json").read_text())["best_checkpoint"] == best.name


def test_a_damaged_newest_checkpoint_is_passed_over_and_named(runs, reference, tmp_path, no_picture, capsys):
    losses = runs.stop(tmp_path, 6, *FULL)[:4]
    paths = list_checkpoints(tmp_path / "checkpoints")
    assert [path.name for path in paths] == ["tiny-1_4.ckpt", "tiny-1_6.ckpt"]
    paths[1].write_bytes(paths[1].read_bytes()[:-100])
    losses += runs.stop(tmp_path, 3, "--resume", "auto")
    printed = capsys.readouterr().out
    assert f"passed over a damaged checkpoint: {paths[1]}" in printed
    assert f"going on from {paths[0]}" in printed
    assert losses == reference[1][:7]


# -- a run that moves, a start that fails ------------------------------------------------------


@pytest.fixture
def short(runs, tmp_path, monkeypatch, idle) -> Path:
    """A run that stopped in its second epoch, its photos and weights named by paths of another working folder."""
    (tmp_path / "started").mkdir()
    monkeypatch.chdir(tmp_path / "started")
    Path("photos").symlink_to(runs.photos)
    words = "--model tiny --data_path photos --run_dir ../run --batch_size 4 --check_data False --mode pynative"
    train.main([*words.split(), "--epochs", "3", "--max_steps", "8"])
    return tmp_path / "run"


def contents(run: Path) -> dict[str, bytes]:
    """Every file of a run but those that only grow."""
    files = [path for path in run.rglob("*") if path.is_file() and not path.name.startswith(("log.", "code"))]
    return {str(path.relative_to(run)): path.read_bytes() for path in files}


@pytest.mark.parametrize("inside", ["", "checkpoints/tiny-2_2.ckpt"])
def test_a_run_that_was_moved_goes_on_where_it_is(short, tmp_path, monkeypatch, inside):
    (tmp_path / "new").mkdir()
    short.rename(tmp_path / "new" / "place")
    monkeypatch.chdir(tmp_path / "new")
    train.main(["--resume", f"place/{inside}", "--max_steps", "0"])
    assert newest(Path("place")).path.name == "tiny-3_6.ckpt"
    assert json.loads(Path("place/result.json").read_text())["status"] == "finished"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["new", "started"]
    for facts in (load_config("place/config.yaml"), newest(Path("place")).trained.config):
        assert (facts.run_dir, facts.resume, facts.data_path) == ("", "", str(tmp_path / "started" / "photos"))


def test_images_that_are_gone_are_said_to_be_the_runs(runs, short, tmp_path):
    (tmp_path / "started" / "photos").unlink()
    before = contents(short)
    with pytest.raises(UsageError, match=rf"^{tmp_path}/started/photos is gone, the data_path of {short}; "):
        train.main(["--resume", str(short)])
    with pytest.raises(
        UsageError, match=rf"^{tmp_path}/started/photos is gone, the data_path of {newest(short).path}; "
    ):
        evaluation.main(["--checkpoint_path", str(newest(short).path)])
    assert contents(short) == before
    train.main(["--resume", str(short), "--data_path", str(runs.photos), "--max_steps", "0"])
    assert load_config(short / "config.yaml").data_path == str(runs.photos)


def test_weights_that_a_run_once_started_from_may_be_gone(runs, short, tmp_path, idle):
    """Also where it never came to its first checkpoint, but then it says what is missing."""
    start = newest(short).path.rename(tmp_path / "start.ckpt")
    words = f"--pretrained {start} --max_steps 1 --epochs 1"
    runs.start(tmp_path / "from", *words.split())
    start.unlink()
    train.main(["--resume", str(tmp_path / "from"), "--max_steps", "2"])
    assert newest(tmp_path / "from").path.name == "tiny-1_2.ckpt"


def crash(*_: object) -> None:
    raise RuntimeError("out of memory")


def test_a_start_that_fails_leaves_the_run_as_it_was(short, monkeypatch):
    """Refused, crashed in the first step, or with a loss that is no number after it."""
    (short / "metrics.csv").write_text("as somebody left it\n")
    before = contents(short)
    again = ["--resume", str(short), "--max_steps", "0", "--lr", "0.5", "--epochs", "9"]
    with pytest.raises(UsageError, match="state of another optimizer"):
        train.main([*again, "--optimizer", "rmsprop"])
    for step, error in ((crash, RuntimeError), (lambda *_: (Tensor(np.nan), Tensor(True), Tensor(0)), RunFailed)):
        with monkeypatch.context() as patch, pytest.raises(error):
            patch.setattr(TrainStep, "__call__", step)
            train.main(again)
    assert contents(short) == before
    train.main(again)
    assert load_config(short / "config.yaml").epochs == 9


def test_a_run_that_failed_at_its_start_is_no_run_and_may_be_started_again(runs, tmp_path, idle, monkeypatch):
    with monkeypatch.context() as patch, pytest.raises(RuntimeError):
        patch.setattr(TrainStep, "__call__", crash)
        runs.start(tmp_path / "run", "--epochs", "1")
    assert contents(tmp_path / "run") == {}
    runs.start(tmp_path / "run", "--epochs", "1")
    assert {"config.yaml", "classes.json", "result.json"} < contents(tmp_path / "run").keys()


def test_a_run_cannot_be_resumed_twice_at_once(short):
    with sole_user(short), pytest.raises(UsageError, match="is in use by process"):
        train.main(["--resume", str(short)])


# -- what does not fit -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ("--model_options.channels 4", "another model_options"),
        ("--num_classes 7", "another num_classes"),
        ("--optimizer rmsprop", "another optimizer or precision"),
    ],
)
def test_a_checkpoint_of_another_run_is_refused(runs, reference, tmp_path, flags, message):
    checkpoint = str(newest(reference[0]).path)
    with pytest.raises(UsageError, match=message):
        runs.start(tmp_path, *FULL, "--resume", checkpoint, *flags.split())


def test_first_weights_may_be_named_otherwise_on_resume(runs, reference, tmp_path, no_picture):
    checkpoint = str(newest(reference[0]).path)
    named = ("--model_options.init", "torchvision")
    assert runs.start(tmp_path, *FULL, "--resume", checkpoint, *named) == []  # goes on from the end


@pytest.mark.parametrize("fact", ["model", "model_options", "num_classes", "classes"])
def test_every_fact_of_a_checkpoint_must_be_that_of_the_run(runs, reference, fact):
    """Classes of other names too: their number alone would let labels mean something else."""
    trainer, checkpoint = runs.trainers[0], newest(reference[0])
    assert checkpoint.meta["classes"] == ["class0", "class1", "class2"]
    other = {"model": "other", "model_options": {"channels": 4}, "num_classes": 4, "classes": ["class0", "class1", "x"]}
    meta = {**checkpoint.meta, fact: other[fact]}
    with pytest.raises(UsageError, match=f"another {fact}: "):
        trainer.restore(dataclasses.replace(checkpoint, meta=meta))


def test_a_checkpoint_of_weights_alone_is_not_resumed(runs, reference):
    with pytest.raises(UsageError, match="holds weights only; start a new run from them with --pretrained"):
        runs.trainers[0].restore(dataclasses.replace(newest(reference[0]), state={}))


def test_other_data_settings_are_noted_on_resume(runs, reference, tmp_path, no_picture, capsys):
    checkpoint = str(newest(reference[0]).path)
    changes = "--batch_size 6 --seed 2 --workers 1"
    runs.start(tmp_path, *FULL, "--resume", checkpoint, *changes.split())
    said = "note: going on otherwise than so far: batch_size 4 -> 6, workers 2 -> 1, seed 1 -> 2\n"
    assert said in capsys.readouterr().out
    # The best checkpoint of another run's folder is not this run's.
    best = CheckpointFolder(reference[0] / "checkpoints").pointed(BEST)
    assert read_checkpoint(best).meta["position"]["best_epoch"] == 1
    assert runs.start(tmp_path / "other", *FULL, "--resume", str(best), "--max_steps", "6") == []
    assert "note: going on otherwise than so far: max_steps 0 -> 6\n" in capsys.readouterr().out
    assert not (tmp_path / "other" / "checkpoints" / BEST).exists()


# -- a world that changed ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "left", "steps", "updates", "schedule"),
    [
        ("--batch_size 2", 8, 12, 12, {}),
        ("--batch_size 12", 2, 2, 2, {}),  # 8 images are no step of 12: they are seen again
        ("--accumulate 2", 4, 6, 3, {}),
        ("--batch_size 2 --accumulate 4", 8, 12, 3, {}),
        ("--epochs 5 --lr 0.7 --lr_schedule linear", 4, 6, 6, {"epochs": 5, "lr": 0.7, "lr_schedule": "linear"}),
        ("--lr_scaling linear --batch_size 8 --drop_remainder False", 2, 3, 3, {"lr": 0.1 * 8 / 256}),
        ("--data_path more", 6, 9, 9, {}),  # a third of an epoch is a third of an epoch
    ],
)
def test_in_another_world_a_run_keeps_its_images_and_epochs_and_takes_that_worlds_rates(
    runs, short, tmp_path, monkeypatch, capsys, changes, left, steps, updates, schedule
):
    """It stopped in its second epoch of three, after 8 of 24 images and 8 updates; now it stops once more."""
    monkeypatch.chdir(tmp_path)
    if "more" in changes:
        class_folders(tmp_path / "more" / "train", per_class=12, classes=3, height=32, width=32)
    runs.losses.clear()
    train.main(["--resume", "run", *changes.split(), "--max_steps", "9"])
    capsys.readouterr()
    train.main(["--resume", "run", "--max_steps", "0"])
    assert re.findall(r"going on otherwise than so far: (.*)", capsys.readouterr().out) == ["max_steps 9 -> 0"]
    epochs = schedule.get("epochs", 3)
    assert len(runs.losses) == left + (epochs - 2) * steps
    rates = learning_rates(Schedule(**{"epochs": 3, "lr": 0.1, **schedule}), updates)
    table = rows(short)
    assert [float(row["lr"]) for row in table[1:]] == [rates[epoch * updates - 1] for epoch in range(2, epochs + 1)]
    done = [int(row["step"]) for row in table]
    assert (done[0], done[1] - 8, done[2] - done[1]) == (6, left * updates // steps, updates)


def test_a_window_of_other_batches_is_begun_again(runs, tmp_path, idle):
    """Of 4 images it held one batch; in its place come two of 2, and their update is the second one."""
    runs.stop(tmp_path, 3, "--epochs", "1", "--accumulate", "2", val=False)
    assert newest(tmp_path).state["accumulated_batches"] == 1
    runs.start(tmp_path, "--resume", "auto", "--batch_size", "2", "--max_steps", "2", val=False)
    assert newest(tmp_path).meta["position"]["step"] == 8 // 2 + 2
    step = runs.trainers[-1]._step
    for total in step.gradients.sums:
        total.set_data(Tensor(np.ones(total.shape, np.float32)))
    step.begin_at(0, 0)
    assert not any(total.asnumpy().any() for total in step.gradients.sums)


def test_a_window_and_a_loss_scale_that_mean_nothing_any_more_begin_afresh(runs, tmp_path, no_picture, capsys):
    """It stopped between the two batches of its second update."""
    flags = "--epochs 2 --lr 0.05 --optimizer rmsprop --accumulate 2 --loss_scale_mode dynamic"
    runs.stop(tmp_path, 3, *flags.split(), val=False)
    before = newest(tmp_path)
    assert (before.state["accumulated_batches"], before.state["global_step"]) == (1, 1)
    other = ["--batch_size", "2", "--accumulate", "3", "--loss_scale_mode", "none", "--epochs", "3"]
    runs.start(tmp_path, "--resume", "auto", *other, "--max_steps", "2", val=False)
    after = newest(tmp_path)
    # Two batches of 4 had been applied: that is step 4 of 2 images each, and a window takes three of those.
    assert (after.meta["position"]["step"], after.state["global_step"]) == (7, 2)
    assert "loss_scale" not in after.state and before.state["loss_scale"] == 1024
    scaled = ["--loss_scale_mode", "dynamic", "--loss_scale", "8", "--max_steps", "0"]
    runs.start(tmp_path, "--resume", "auto", *scaled, val=False)
    end = newest(tmp_path)
    assert (end.meta["position"]["epoch"], end.state["loss_scale"]) == (3, 8)
    assert "loss_scale_mode none -> dynamic, loss_scale 1024.0 -> 8.0" in capsys.readouterr().out


# -- how a run ends ----------------------------------------------------------------------------


def test_a_run_that_is_over_does_no_further_step(runs, tmp_path, no_picture):
    assert len(runs.start(tmp_path, "--max_steps", "4", "--epochs", "3", val=False)) == 4
    assert newest(tmp_path).path.name == "tiny-1_4.ckpt"
    result = json.loads((tmp_path / "result.json").read_text())
    assert (result["status"], result["updates"]) == ("stopped after 4 updates (max_steps)", 4)
    assert runs.start(tmp_path, "--resume", "auto", val=False) == []
    assert json.loads((tmp_path / "result.json").read_text()) == result


@pytest.fixture
def idle(monkeypatch, no_picture):
    """Steps and evaluations that count but compute nothing: without a compilation, and no epoch better than another."""

    def step(step: TrainStep, images: None, labels: None) -> tuple[Tensor, ...]:
        held = 0
        if step.is_accumulating:
            held = (step.accumulated_batches.asnumpy() + 1) % step.gradients.accumulate
            step.accumulated_batches.set_data(Tensor(held, ms.int32))
        counter = step.optimizer.global_step
        counter.set_data(Tensor(counter.asnumpy() + (held == 0), ms.int32))
        return Tensor(0.5), Tensor(True), Tensor(1)

    def no_images(data: TrainData, epoch: int, skip_steps: int = 0) -> Iterator[tuple[None, None]]:
        yield from [(None, None)] * (data.steps_per_epoch - skip_steps)

    monkeypatch.setattr(TrainStep, "__call__", step)
    monkeypatch.setattr(TrainData, "epoch", no_images)
    monkeypatch.setattr(Evaluator, "run", lambda *_, **__: Evaluation(0.5, 0.25, 0.75, 13, 13, 1.0, None))


def test_the_last_epoch_is_evaluated_and_saved_though_it_is_not_due(runs, tmp_path, idle):
    """Every second epoch is due; the third and last one is judged and kept all the same, the first one is not."""
    due = "--epochs 3 --eval_epochs 2 --save_checkpoint_epochs 2 --keep_checkpoint_max 9"
    runs.start(tmp_path, *due.split())
    assert [row["top1"] != "" for row in rows(tmp_path)] == [False, True, True]
    assert [path.name for path in list_checkpoints(tmp_path / "checkpoints")] == ["tiny-2_6.ckpt", "tiny-3_6.ckpt"]
    result = json.loads((tmp_path / "result.json").read_text())
    assert (result["best_epoch"], result["top1"]) == (2, result["best_top1"])


def test_without_evaluation_only_the_last_epoch_is_judged(runs, tmp_path, idle):
    runs.start(tmp_path, *["--epochs", "2", "--eval_epochs", "0"])
    assert [row["top1"] != "" for row in rows(tmp_path)] == [False, True]


def test_an_epoch_that_max_steps_completes_is_booked_and_saved_once(runs, tmp_path, idle):
    words = "--epochs 3 --max_steps 6 --save_checkpoint_steps 3 --save_checkpoint_epochs 5"
    runs.start(tmp_path, *words.split(), val=False)
    assert [row["step"] for row in rows(tmp_path)] == ["6"]
    assert [path.name for path in list_checkpoints(tmp_path / "checkpoints")] == ["tiny-1_3.ckpt", "tiny-1_6.ckpt"]
    assert json.loads((tmp_path / "result.json").read_text())["status"] == "stopped after 6 updates (max_steps)"


@pytest.mark.parametrize("rank", [0, 1])
def test_a_signal_is_heeded_by_the_rank_that_saves(runs, reference, monkeypatch, no_picture, rank):
    """Were each rank to stop where the signal met it, some would wait for the others in the next sum for ever."""
    finished, heeded = runs.trainers[0], []

    def request(is_heeded: bool) -> contextlib.nullcontext:
        heeded.append(is_heeded)
        return contextlib.nullcontext()

    monkeypatch.setattr(engine, "StopRequest", request)
    names = ("network", "step", "evaluator", "learning_rates", "train_data", "eval_data", "trained", "run")
    parts = {name: getattr(finished, f"_{name}") for name in names}
    trainer = Trainer(**parts, config=finished._config.replace(tensorboard=False), world=World(rank, 1))
    trainer._at, trainer._process = finished._at, finished._process
    files = {path: path.stat().st_mtime_ns for path in reference[0].rglob("*")}
    trainer.fit()
    assert heeded == [rank == 0]
    if rank:
        assert {path: path.stat().st_mtime_ns for path in reference[0].rglob("*")} == files


def test_early_stop_and_the_number_of_checkpoints_kept(runs, tmp_path, no_picture):
    """With a learning rate of zero and batch statistics that stay put nothing gets better after the first epoch."""
    frozen = "--mode graph --lr 0 --epochs 9 --early_stop 2 --keep_checkpoint_max 1 --crop_scale 1,1 --crop_ratio 1,1"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Evaluator, "run", _as_first(Evaluator.run))
        runs.start(tmp_path, *frozen.split())
    result = json.loads((tmp_path / "result.json").read_text())
    assert result["status"] == "stopped early: no better top-1 in 2 evaluations"
    assert (result["epochs"], result["best_epoch"]) == (3, 1)
    names = [path.name for path in list_checkpoints(tmp_path / "checkpoints")]
    assert names == ["tiny-1_6.ckpt", "tiny-3_6.ckpt"]
    assert (result["best_checkpoint"], result["last_checkpoint"]) == tuple(names)
    assert runs.start(tmp_path, "--resume", "auto") == []


def _as_first(real):
    results = []

    def run(*arguments, **keywords):
        if not results:
            results.append(real(*arguments, **keywords))
        return results[0]

    return run


def test_a_loss_that_is_no_number_stops_the_run_and_leaves_a_good_checkpoint(runs, tmp_path, no_picture):
    with pytest.raises(RunFailed, match=r"the loss is (nan|inf) at epoch 1, step \d.*tiny-1_1\.ckpt") as failure:
        runs.start(tmp_path, "--lr", "1e30", "--save_checkpoint_steps", "1", "--epochs", "5", val=False)
    last = newest(tmp_path)
    assert str(last.path) in str(failure.value)
    assert all(np.isfinite(array).all() for array in last.weights.values())
    events = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert [event["event"] for event in events] == ["diverged", "stopped"]


def test_weights_that_are_not_finite_are_never_saved(runs, tmp_path, no_picture):
    def poison(step: int) -> None:
        if step == 2:
            statistics = runs.trainers[-1]._network.features[0].norm.moving_mean
            statistics.set_data(Tensor(np.full(statistics.shape, np.nan, np.float32)))

    runs.after_step = poison
    with pytest.raises(RunFailed, match=r"stem.norm.moving_mean holds values that are not finite .* step 2"):
        runs.start(tmp_path, "--save_checkpoint_steps", "1", "--epochs", "1", val=False)
    assert newest(tmp_path).path.name == "tiny-1_1.ckpt"


def test_overflows_are_counted_and_end_the_run_when_there_is_no_end_to_them(runs, tmp_path, no_picture, capsys):
    half = "--amp_level O2 --loss_scale_mode dynamic --epochs 1"
    runs.start(tmp_path / "some", *half.split(), "--loss_scale", "1048576", val=False)
    checkpoint = newest(tmp_path / "some")
    count = int(checkpoint.state["overflow_count"])
    assert 1 <= count <= 5
    assert checkpoint.state["loss_scale"] == 2.0 ** (20 - count)
    assert checkpoint.state["global_step"] == 6 - count
    assert f"| {count} updates skipped for overflow" in capsys.readouterr().out
    with (
        pytest.MonkeyPatch.context() as patch,
        pytest.raises(RunFailed, match="the gradients were not finite 3 times in a row"),
    ):
        patch.setattr(engine, "MOST_OVERFLOWS_IN_A_ROW", 3)
        runs.start(tmp_path / "many", *half.split(), "--loss_scale", "18446744073709551616", val=False)


# -- the device's data sink --------------------------------------------------------------------


def test_the_sink_gets_the_same_steps(runs, reference, tmp_path, no_picture, monkeypatch):
    """No device here can sink data: a stand-in draws from the pipeline it is given, as the framework's would."""
    sizes = []

    def data_sink(step, pipeline, sink_size):
        sizes.append((sink_size, pipeline.get_dataset_size()))
        batches = pipeline.create_tuple_iterator(num_epochs=1)
        return lambda: step(*next(batches))

    monkeypatch.setattr(ms, "data_sink", data_sink)
    monkeypatch.setattr(train, "uses_sink", lambda sink, target: True)
    losses = runs.stop(tmp_path, 2, *FULL)
    losses += runs.start(tmp_path, "--resume", "auto", "--max_steps", "8")
    assert losses == reference[1][:8]
    assert sizes == [(1, 6), (1, 4), (1, 6)]


# -- what a run leaves behind ------------------------------------------------------------------


def test_the_run_folder_is_complete(reference):
    folder, losses = reference
    names = {path.name for path in folder.iterdir() if path.suffix != ".diff"}  # there while the sources are changed
    assert names == {
        *("checkpoints", "classes.json", "code.json", "config.yaml", "curves.png", "log.jsonl", "log.txt"),
        *("metrics.csv", "result.json", "tensorboard"),
    }
    assert json.loads((folder / "classes.json").read_text()) == {"class0": 0, "class1": 1, "class2": 2}
    with (folder / "metrics.csv").open(newline="") as file:
        table = list(csv.DictReader(file))
    assert tuple(table[0]) == METRICS
    assert [(row["epoch"], row["step"]) for row in table] == [("1", "6"), ("2", "12")]
    assert float(table[0]["train_loss"]) == np.mean(losses[:6])
    assert all(0 <= float(row["top1"]) <= float(row["top5"]) <= 1 for row in table)
    result = json.loads((folder / "result.json").read_text())
    assert (result["status"], result["epochs"], result["updates"]) == ("finished", 2, 12)
    assert result["top1"] == float(table[1]["top1"])
    assert result["last_checkpoint"] == CheckpointFolder(folder / "checkpoints").pointed(LAST).name
    with Image.open(folder / "curves.png") as picture:
        picture.verify()
        assert picture.size == (1200, 360)
    events = list((folder / "tensorboard").glob("events.out.tfevents.*"))
    assert len(events) == 1
    assert b"train_loss" in events[0].read_bytes()


def test_the_log_tells_every_step_and_epoch(reference):
    folder, losses = reference
    text = (folder / "log.txt").read_text()
    for number, loss in enumerate(losses):
        assert f"epoch: {number // 6 + 1} step: {number % 6 + 1}, loss is {loss:.6g}\n" in text
    assert "nan" not in text
    assert text.count("per step time: ") == 2
    assert len(re.findall(r"validation: loss .*, 13 of 13 images", text)) == 2
    assert "train success: finished" in text
    records = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    epochs = [record for record in records if record["event"] == "epoch"]
    assert [record["epoch"] for record in epochs] == [1, 2]
    assert set(METRICS) <= epochs[0].keys()
    assert records[-1]["event"] == "result"


def test_the_console_shows_what_differs_from_the_defaults_and_the_log_every_key(runs, tmp_path, idle, capsys):
    def keys(text: str) -> set[str]:
        return {line.partition(": ")[0] for line in text.splitlines()} & DEFAULTS.keys()

    runs.start(tmp_path, "--seed", "7", "--lr", "0.1", val=False)
    printed = capsys.readouterr().out
    given = ("model", "data_path", "batch_size", "workers", "check_data", "mode", "seed", "run_dir")
    assert DEFAULTS["lr"] == 0.1
    assert keys(printed) == set(given)
    assert "\nseed: 7\n" in printed
    assert keys((tmp_path / "log.txt").read_text()) == DEFAULTS.keys()


# -- several ranks -----------------------------------------------------------------------------


def test_ranks_that_do_not_agree_are_reported(runs, reference, monkeypatch, capsys):
    trainer, digests = runs.trainers[0], []
    monkeypatch.setattr(trainer, "_world", World(0, 2))
    for verdict, said in ((True, "all 2 ranks hold the same weights"), (False, "ended with different weights")):
        monkeypatch.setattr(engine, "all_equal", lambda digest, verdict=verdict: digests.append(digest) or verdict)
        with logged():
            trainer._compare_ranks()
        assert said in capsys.readouterr().out
    parameter = trainer._network.trainable_params()[0]
    value = parameter.asnumpy()
    parameter.set_data(Tensor(np.nextafter(value, np.float32(9))))
    trainer._compare_ranks()
    parameter.set_data(Tensor(value))
    assert digests[0] == digests[1] != digests[2]
