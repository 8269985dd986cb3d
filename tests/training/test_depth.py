"""What trains in which epoch, at which share of the rate, and whose statistics stay."""

from __future__ import annotations

from functools import partial

import pytest
from mindspore import nn

from src.errors import UsageError
from src.models.layers import AvgPool, BatchNorm, ConvNormAct, Network
from src.runs.checkpoint import list_checkpoints, read_checkpoint
from src.settings.config import coerce
from src.settings.sections import Depth
from src.training import reporter
from src.training.depth import check_freeze, rate_shares, stages, still_norms, switches, trained_stages
from tests.training.test_trainer import Runs, assert_same_state, newest, runs  # noqa: F401 - a fixture

FREEZE = {"classifier": 2, "1": 3}


@pytest.fixture(scope="module")
def network() -> Network:
    """Three stages and a pool between them, which is none."""
    norm = BatchNorm()
    features = {
        "stem": ConvNormAct(3, 4, norm=norm),
        "pool": AvgPool("pad"),
        "stage1": nn.SequentialCell(ConvNormAct(4, 4, norm=norm), ConvNormAct(4, 4, norm=norm)),
    }
    return Network(features, 5, 2, hidden={"conv": ConvNormAct(4, 5)})


@pytest.mark.parametrize(
    ("text", "read"),
    [
        ("{}", {}),
        ("{classifier: 2, 3: 4}", {"classifier": 2, "3": 4}),
        ("{10: 1, 9: 2, classifier: 3}", {"classifier": 3, "9": 2, "10": 1}),
        ('{"2": "5"}', {"2": 5}),
    ],
)
def test_a_schedule_is_read_in_the_order_of_the_run(text, read):
    assert list(coerce("freeze", text, "here").items()) == list(read.items())


@pytest.mark.parametrize(
    "text",
    [
        *("head: 2", "classifier: 0", "classifier: -1", "0: 2", "classifier: 1, 0: 2", "-1: 2", "1.5: 2", "true: 2"),
        *("2: 1.5", "2: [1]", "1: 2, 01: 3"),
    ],
)
def test_nonsense_is_refused(text):
    with pytest.raises(UsageError, match=r"here: freeze is .*; it must say what trains for how many epochs"):
        coerce("freeze", f"{{{text}}}", "here")


@pytest.mark.parametrize("value", [0, -0.5, 1.01])
def test_a_layer_decay_out_of_range_is_refused(value):
    with pytest.raises(UsageError, match=r"layer_decay is .*; it must be above 0 and at most 1"):
        coerce("layer_decay", value, "here")


def test_the_classifier_first_then_the_last_stages_then_all():
    assert [trained_stages(FREEZE, epoch) for epoch in range(7)] == [0, 0, 1, 1, 1, None, None]
    assert [trained_stages({"2": 1}, epoch) for epoch in range(2)] == [2, None]
    assert trained_stages({}, 0) is None
    assert switches(FREEZE, 9) == [2, 5] and switches(FREEZE, 5) == [2] and switches({}, 9) == []


def test_cells_with_parameters_are_stages(network):
    assert [next(p.name for p in stage.trainable_params()) for stage in stages(network)] == [
        "features.stem.conv.weight",
        "features.stage1.0.conv.weight",
        "hidden.conv.conv.weight",
    ]


def test_more_stages_than_there_are_is_refused_and_a_stage_that_never_trains_is_named(network, caplog):
    check_freeze(FREEZE, network, 9)
    assert not caplog.records
    check_freeze(FREEZE, network, 5)
    assert "freeze lasts to the end of the run: the first 2 of 3 stages never train" in caplog.text
    with pytest.raises(UsageError, match="freeze: 4 stages train, and the network has 3 before its classifier"):
        check_freeze({"4": 1}, network, 9)


def shares(network: Network, epoch: int, **keys) -> dict[str, float]:
    found = rate_shares(network, Depth(**keys), epoch)
    order = [p.name for p in network.trainable_params() if p in found]
    assert [p.name for p in found] == order
    return {p.name: share for p, share in found.items()}


def test_a_stage_has_a_share_of_the_rate_of_the_one_behind_it(network):
    whole = shares(network, 0, layer_decay=0.5)
    assert len(whole) == len(network.trainable_params())
    wanted = {"features.stem": 0.125, "features.stage1": 0.25, "hidden": 0.5, "classifier": 1.0}
    for name, share in whole.items():
        assert [share] == [wanted[begin] for begin in wanted if name.startswith(f"{begin}.")]
    assert set(shares(network, 0).values()) == {1.0}


def test_what_is_frozen_has_no_share(network):
    late = [shares(network, epoch, layer_decay=0.5, freeze=FREEZE) for epoch in (0, 2, 5)]
    assert list(late[0]) == ["classifier.weight", "classifier.bias"]
    assert {name.partition(".")[0] for name in late[1]} == {"hidden", "classifier"}
    assert late[1].items() <= late[2].items() and late[2] == shares(network, 0, layer_decay=0.5)


@pytest.mark.parametrize(
    ("choice", "count"), [("stages", (3, 3, 0)), ("all", (3, 3, 3)), ("none", (0, 0, 0))], ids=lambda value: str(value)
)
def test_statistics_stay_where_they_are_asked_to(network, choice, count):
    config = Depth(freeze=FREEZE, freeze_batch_norm=choice)
    assert tuple(len(still_norms(network, config, epoch)) for epoch in (0, 2, 5)) == count


# -- in a run ----------------------------------------------------------------------------------

SMALL = ("--batch_size", "8")
KEYS = "--epochs 3 --lr 0.05 --lr_schedule constant --weight_decay 0.1 --layer_decay 0.5 --freeze"
THAWING = (*SMALL, *KEYS.split(), "{classifier: 1, 1: 1}")
OTHERWISE = ("--optimizer", "rmsprop", "--cpu_operators", "standard", "--accumulate", "2")


@pytest.fixture
def start(runs, monkeypatch):  # noqa: F811
    monkeypatch.setattr(reporter, "draw_curves", lambda history, path, title: None)
    return partial(runs.start, val=False)


def test_what_is_frozen_stays_to_the_bit_and_switches_are_resumed(runs, start, tmp_path):  # noqa: F811
    expected = start(tmp_path / "whole", *THAWING)
    first, second, third = map(read_checkpoint, list_checkpoints(tmp_path / "whole" / "checkpoints"))
    stem = [name for name in first.weights if name.startswith("features.stem.")]
    assert len(stem) == 5, "kernel, scale, shift and statistics"
    for name in first.weights:
        assert (first.weights[name] == second.weights[name]).all() == (name in stem), name
        assert (second.weights[name] != third.weights[name]).any(), name
    moments = [
        {name.removeprefix("moments.").rsplit(".", 2)[0] for name in point.state if name.startswith("moments.")}
        for point in (first, second, third)
    ]
    assert third.state["global_step"] == 9, "what a step remembers goes over to the next"
    assert moments[0] == {"classifier"}
    assert moments[1] - moments[0] == {"features.depthwise"} and moments[2] - moments[1] == {"features.stem"}

    # Stopped where an epoch and its frozen stages end, and between two such places.
    folder = tmp_path / "stopped"
    losses = start(folder, *THAWING, "--max_steps", "3")
    losses += runs.stop(folder, 2, *SMALL, "--resume", "auto", "--max_steps", "0", val=False)
    losses += start(folder, *SMALL, "--resume", "auto")
    assert losses == expected and len(set(expected)) == 9
    assert_same_state(newest(folder), third)


def test_a_window_of_batches_goes_over_a_switch(runs, start, tmp_path):  # noqa: F811
    """With the framework's own optimizer; an epoch has three batches, an update two."""
    expected = start(tmp_path / "whole", *THAWING, *OTHERWISE)
    losses = runs.stop(tmp_path / "stopped", 5, *THAWING, *OTHERWISE, val=False)
    losses += start(tmp_path / "stopped", *SMALL, "--resume", "auto")
    assert losses == expected and len(set(expected)) == 9
    assert_same_state(newest(tmp_path / "stopped"), newest(tmp_path / "whole"))
