"""Images seen and epochs done are carried into a world that counts otherwise, exactly where that can be."""

from __future__ import annotations

import json
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from src.runs.checkpoint import Checkpoint
from src.runs.folder import METRICS
from src.runs.trained import Trained
from src.settings.config import load_config
from src.training.going_on import Pace, Position, differences, held_in, pace_of, position_of, shifted


def pace(images=100, ranks=1, batch_size=5, accumulate=1) -> Pace:
    """Without the images that fill no step."""
    return Pace(images, ranks, batch_size, images // (ranks * batch_size), accumulate)


def checkpoint(then: Pace | None, position: Position, updates: int, held: int = 0, **config) -> Checkpoint:
    meta = {"position": vars(position), "config": load_config("", config).values(), "pace": then and then._asdict()}
    meta |= {"model": "m", "model_options": {}, "num_classes": 2, "classes": ["a"], "preprocessing": PREPROCESSING}
    state = {"global_step": np.array([updates], np.int32), "accumulated_batches": np.array(held, np.int32)}
    return Checkpoint(Path("net.ckpt"), {}, state, json.loads(json.dumps(meta)))


PREPROCESSING = {"image_size": 32, "resize": 36, "interpolation": "bilinear", "resize_kernel": "mindspore"}
PREPROCESSING |= {"mean": [0, 0, 0], "std": [1, 1, 1]}


def test_in_the_same_world_nothing_changes_also_with_a_window_begun_and_on_other_ranks():
    """Not even where overflows or windows that outlast an epoch have put the updates behind their place."""
    position = Position(epoch=3, step=7, loss_sum=1.5, loss_count=7, history=[dict.fromkeys(METRICS, 1)], offset=4)
    for held in (0, 2, -1):
        saved = checkpoint(pace(accumulate=3, batch_size=10), position, 11, held)
        for now in (pace(accumulate=3, batch_size=10), pace(accumulate=3, batch_size=5, ranks=2)):
            assert position_of(saved, now, seed=1) == position


@pytest.mark.parametrize(
    ("now", "seed", "step"),
    [
        (pace(batch_size=10), 1, 6),
        (pace(batch_size=1, ranks=5, accumulate=2), 1, 13),
        (pace(batch_size=2, ranks=4), 1, 8),  # 65 images are 8 steps of 8, and one is seen again
        (pace(batch_size=60), 1, 1),  # more than its epoch has
        (pace(batch_size=10), 2, 6),  # in another order an image is a share of the epoch
        (pace(images=1000), 1, 130),
        (pace(images=70), 1, 9),
    ],
)
def test_images_seen_are_images_seen(now, seed, step):
    """13 steps of 5 images were done of 20, and two epochs; an update more was done than the steps tell."""
    found = position_of(checkpoint(pace(), Position(epoch=2, step=13), 54), now, seed)
    assert (found.epoch, found.step) == (2, step)
    assert found.offset == 54 - (2 * now.updates + step // now.accumulate)


@pytest.mark.parametrize("now", [pace(batch_size=10), pace(images=7), pace(accumulate=3), pace(ranks=7)])
def test_an_epoch_that_is_done_is_done_and_one_that_waits_for_its_evaluation_still_does(now):
    for step, expected in ((0, 0), (20, now.steps)):
        assert position_of(checkpoint(pace(), Position(epoch=2, step=step), 40), now, 1).step == expected


@pytest.mark.parametrize(("held", "step"), [(0, 6), (1, 6), (3, 5), (-3, 5)])
def test_images_whose_gradients_wait_for_their_update_are_seen_again(held, step):
    saved = checkpoint(pace(accumulate=4), Position(epoch=0, step=13), 3, held)
    assert position_of(saved, pace(batch_size=10), 1).step == step


@pytest.mark.parametrize(
    "now", [pace(batch_size=b, ranks=r, images=i) for b in (1, 3, 8) for r in (1, 4) for i in (60, 100)]
)
def test_the_rest_of_the_run_takes_the_rest_of_the_rates(now):
    """Rate by rate, up to the last one of the table, wherever it stopped; a rate here is its own place."""
    for epoch, step in ((0, 1), (1, 0), (2, 11), (4, 20)):
        updates = 20 * epoch + step - 1  # one was skipped
        found = position_of(checkpoint(pace(), Position(epoch=epoch, step=step), updates), now, 1)
        epochs = 5
        rates = shifted(np.arange(epochs * now.updates), found.offset)
        left = (epochs - epoch) * now.steps - found.step
        taken = rates[updates : updates + left]
        assert taken.tolist() == list(range(epochs * now.updates))[epochs * now.updates - left :]
        share = Fraction(step, 20) - Fraction(found.step, now.steps)
        assert share < Fraction(1, now.steps) or now.images == 60


def test_rates_of_a_run_that_is_over_are_none_to_fall_off():
    assert shifted(np.arange(3.0), -50).tolist() == [2.0]
    assert shifted(np.arange(3.0), 0).tolist() == [0.0, 1.0, 2.0]
    assert shifted(np.arange(3.0), 2).tolist() == [0.0, 0.0, 0.0, 1.0, 2.0]


def test_a_checkpoint_of_an_earlier_version_counts_as_its_batches_tell():
    for drop, steps in ((True, 14), (False, 15)):
        saved = checkpoint(None, Position(), 0, batch_size=7, accumulate=2, drop_remainder=drop)
        assert pace_of(saved, pace()) == Pace(100, 1, 7, steps, 2)


def test_a_supernets_state_says_what_it_holds():
    text = json.dumps({"drawn": 5, "held": -2}).encode().ljust(64, b"\0")
    assert held_in({"sampler_state": np.frombuffer(text, np.uint8)}) == 2
    assert held_in({"sampler_state": np.zeros(64, np.uint8)}) == 0
    assert held_in({}) == 0


def test_every_difference_is_told_and_a_place_is_none(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data").mkdir()

    def trained(**config) -> Trained:
        version = {"mindspore": "2.10.0" if "lr" in config else "2.9.0"}
        return Trained("m", {}, 2, [], None, load_config("", config), version, "")

    before = trained(data_path="data", run_dir="a", pretrained="")
    after = trained(
        data_path=str(tmp_path / "data"), resume="a", run_dir="b", lr=0.5, stroll={"cuts": 3}, pretrained="x"
    )
    assert differences(before, after, pace(), pace(ranks=2, images=90)) == [
        "lr 0.1 -> 0.5",
        "pretrained '' -> x",
        "stroll {} -> {'cuts': 3}",
        "ranks 1 -> 2",
        "training images 100 -> 90",
        "mindspore 2.9.0 -> 2.10.0",
    ]
    assert differences(before, before, pace(), pace()) == []
