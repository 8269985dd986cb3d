"""Both training steps against float64: accumulation, loss scale, clipping, rates, overflow, one rank and two."""

import json
import math
import os
import socket
import subprocess
import sys

import mindspore as ms
import numpy as np
import pytest
from mindspore import Tensor

from tests.supernet.both_steps import (
    KINDS,
    PATHS,
    TOGETHER,
    Reference,
    Register,
    batches,
    feed,
    learned,
    make_step,
    number,
    remembered,
)

both = pytest.mark.parametrize("kind", KINDS)


@pytest.fixture(params=["graph"])
def mode(request):
    ms.set_context(mode=ms.GRAPH_MODE if request.param == "graph" else ms.PYNATIVE_MODE)
    yield request.param
    ms.set_context(mode=ms.PYNATIVE_MODE)


def assert_same(one, other):
    assert one.keys() == other.keys()
    for name in one:
        np.testing.assert_array_equal(one[name], other[name], err_msg=name)


UPDATES = 5
CLIP = {"train": 0.75, "supernet": 1.3}  # some updates are longer, some shorter


PLAIN = ("graph", "momentum", 1, {})
CLIPPED = ("graph", "nesterov", 3, {"loss_scale_mode": "fixed", "loss_scale": 1000.0, "grad_clip": None})
EAGER = ("pynative", "sgd", 2, {"loss_scale_mode": "fixed", "loss_scale": 48.0})


@both
@pytest.mark.parametrize(
    ("operators", "mode", "rule", "accumulate", "options"),
    [
        ("standard", *PLAIN),
        ("standard", *CLIPPED),
        pytest.param("standard", *EAGER, marks=pytest.mark.slow),
        ("fused", *PLAIN),
        ("fused", *CLIPPED),
        ("fused", *EAGER),
    ],
    indirect=["mode"],
    ids=[f"{name}, {form}" for name in ("standard", "fused") for form in ("plain", "clipped", "eager")],
)
def test_updates_equal_float64(kind, operators, mode, rule, accumulate, options):
    if "grad_clip" in options:
        options = options | {"grad_clip": CLIP[kind]}
    step = make_step(kind, rule, operators, accumulate=accumulate, **options)
    reference = Reference(step, rule, grad_clip=options.get("grad_clip", 0.0))
    data = batches(UPDATES * accumulate)
    correct_predictions = 0
    for start in range(0, len(data), accumulate):
        window = data[start : start + accumulate]
        before = learned(step)
        for place, batch in enumerate(window):
            expected_loss, expected_correct, _ = reference.evaluate(batch)
            if place:
                assert_same(learned(step), before)
            loss, finite, correct = feed(step, batch)
            assert (finite, correct) == (True, expected_correct)
            assert loss == pytest.approx(expected_loss, rel=2e-6)
            correct_predictions += correct
        moved = reference.update(window)
        after = learned(step)
        for name, expected in reference.learned().items():
            np.testing.assert_allclose(after[name], expected, rtol=2e-5, atol=2e-6, err_msg=f"{start}: {name}")
        for name, value in after.items():
            is_moved = not np.array_equal(value, before[name])
            assert is_moved == (name.removeprefix("velocity.") in moved), name
    assert number(step, "global_step") == UPDATES
    assert number(step, "overflow_count") == 0
    assert 0 < correct_predictions < len(data) * len(data[0].labels)
    if "grad_clip" in options:
        assert min(reference.norms) < options["grad_clip"] < max(reference.norms)
    if kind == "supernet":
        assert step.sampler.epochs == [(epoch, 4) for epoch in range(-(-len(data) // 4))]
    if mode == "graph":
        compiled = step if kind == "train" else step.gradients
        assert len(compiled.compile_cache) == 1


@both
def test_a_loss_scale_of_a_power_of_two_changes_no_bit(kind, mode):
    plain = make_step(kind, accumulate=2)
    scaled = make_step(kind, accumulate=2, loss_scale_mode="fixed", loss_scale=1024.0)
    for batch in batches(6):
        assert feed(plain, batch) == feed(scaled, batch)
        assert_same(learned(plain), learned(scaled))


@both
def test_clipping_shortens_to_the_norm_and_never_lengthens(kind, mode):
    (batch,) = batches(1)
    alone = {"momentum": 0.0, "decay": 0.0, "rates": np.ones(1, np.float32)}

    def movement(**options):
        step = make_step(kind, **alone, **options)
        before = learned(step)
        gradients = Reference(step, "momentum").evaluate(batch)[2].values()
        feed(step, batch)
        moved = {name: before[name] - value for name, value in learned(step).items() if "velocity" not in name}
        return moved, np.sqrt(sum((gradient**2).sum() for gradient in gradients))

    whole, norm = movement()
    for factor, options in ((1 / 3, {"loss_scale_mode": "fixed", "loss_scale": 64.0}), (1.01, {})):
        clipped, _ = movement(grad_clip=float(norm * factor), **options)
        length = np.sqrt(sum((value.astype(np.float64) ** 2).sum() for value in clipped.values()))
        assert length == pytest.approx(norm * min(factor, 1.0), rel=1e-5)
        for name, value in whole.items():
            np.testing.assert_allclose(clipped[name], min(factor, 1.0) * value, rtol=1e-4, atol=1e-6, err_msg=name)


@pytest.mark.parametrize(
    ("kind", "mode"), [("train", "graph"), ("train", "pynative"), ("supernet", "graph")], indirect=["mode"]
)
def test_an_overflow_leaves_nothing_behind(kind, mode):
    """Two windows of four meet an infinity, in their first batch or in their last; the others never hear of it."""
    options = {"accumulate": 2, "loss_scale_mode": "fixed", "loss_scale": 1024.0, "grad_clip": 0.5}
    step = make_step(kind, **options)
    data = batches(8)
    bad = (2, 5)
    for at, batch in enumerate(data):
        before = remembered(step)
        loss, finite, _ = feed(step, batch.times(np.inf) if at in bad else batch)
        assert np.isfinite(loss) == (at not in bad)
        assert finite == (at in (0, 1, 4, 6, 7))
        if at == 1:
            after_first = remembered(step)
        if at in (3, 5):
            assert_same(remembered(step), after_first)
            assert number(step, "overflow_count") == (at - 1) // 2
    assert (number(step, "global_step"), number(step, "overflow_count")) == (2, 2)
    assert not all(np.array_equal(before[name], value) for name, value in remembered(step).items())

    never = make_step(kind, paths=[PATHS[at] for at in (0, 1, 6, 7)], **options)
    for at in (0, 1, 6, 7):
        feed(never, data[at])
    assert_same(remembered(step), remembered(never))


@both
def test_what_only_a_register_knows_spoils_the_whole_window(kind, mode):
    """A saturating card's sums are finite; the verdict on the first batch of three is not to be forgotten."""
    register = Register()
    step = make_step(kind, accumulate=3, all_finite=register, loss_scale_mode="dynamic", loss_scale=32.0)
    before = learned(step)
    for at, batch in enumerate(batches(6)):
        register.set(at != 0)
        _, finite, _ = feed(step, batch)
        assert finite == (at > 2)
        if at == 2:
            assert_same(learned(step), before)
            assert (number(step, "overflow_count"), number(step, "loss_scale")) == (1, 16)
            assert not any(value.any() for name, value in remembered(step).items() if name.startswith("accumulated"))
    assert (number(step, "overflow_count"), number(step, "global_step"), number(step, "good_steps")) == (1, 1, 1)


def take_over(step, values):
    """Gives ``step`` the state of another, as a resumed run does."""
    parameters = {value.name: value for value in step.get_parameters()}
    assert parameters.keys() == values.keys()
    for name, value in values.items():
        parameters[name].set_data(Tensor(value))


def saved(step):
    return {value.name: value.asnumpy().copy() for value in step.get_parameters()}


@both
def test_a_run_that_goes_on_with_fewer_batches_to_an_update_still_updates(kind):
    first = make_step(kind, accumulate=4)
    data = batches(6)
    for batch in data[:3]:
        feed(first, batch)
    second = make_step(kind, accumulate=2)
    take_over(second, saved(first))
    for batch, updates in zip(data[3:], (1, 1, 2), strict=True):
        feed(second, batch)
        assert number(second, "global_step") == updates


def test_an_older_checkpoint_of_a_supernet_goes_on_within_its_window():
    """It says only how many paths were drawn, and its sums are of gradients that are still scaled, and no means."""
    options = {"accumulate": 3, "loss_scale_mode": "fixed", "loss_scale": 48.0}
    whole = make_step("supernet", **options)
    data = batches(6)
    for batch in data[:5]:
        feed(whole, batch)
    older = saved(whole)
    state = json.loads(older["sampler_state"].tobytes().rstrip(b"\0"))
    assert state.pop("held") == 2
    text = json.dumps(state).encode().ljust(len(older["sampler_state"]), b"\0")
    older["sampler_state"] = np.frombuffer(text, np.uint8).copy()
    for name, value in older.items():
        if name.startswith("accumulated"):
            older[name] = value * np.float32(48 * 3)
    resumed = make_step("supernet", **options)
    take_over(resumed, older)
    for step in (whole, resumed):
        feed(step, data[5])
    assert number(resumed, "global_step") == 2
    for name, value in remembered(whole).items():
        np.testing.assert_allclose(remembered(resumed)[name], value, rtol=1e-6, atol=1e-7, err_msg=name)


# -- two ranks ---------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def two_ranks(root, tmp_path_factory):
    """The folder of results of two ranks, and the scheduler by which they found each other."""
    folder = tmp_path_factory.mktemp("two_ranks")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    common = {
        **os.environ,
        "PYTHONPATH": str(root),
        "MS_WORKER_NUM": "2",
        "MS_SCHED_HOST": "127.0.0.1",
        "MS_SCHED_PORT": port,
        "RANK_SIZE": "2",
        "OMP_NUM_THREADS": "1",
    }
    scheduler = [sys.executable, "-c", "from mindspore.communication import init; init()"]
    program = [sys.executable, "-m", "tests.supernet.both_steps", str(folder)]
    commands = [(scheduler, {"MS_ROLE": "MS_SCHED"})] + [
        (program, {"MS_ROLE": "MS_WORKER", "RANK_ID": str(rank), "MS_NODE_ID": str(rank), "DEVICE_ID": str(rank)})
        for rank in range(2)
    ]
    processes = []
    try:
        for number_of, (command, place) in enumerate(commands):
            with (folder / f"{number_of}.log").open("w") as log:
                processes.append(
                    subprocess.Popen(command, env=common | place, cwd=folder, stdout=log, stderr=subprocess.STDOUT)
                )
        for process in processes[1:]:
            process.wait(150)
    finally:
        for process in processes:
            process.kill()
            process.wait()
    logs = "".join((folder / f"{number_of}.log").read_text()[-2000:] for number_of in range(3))
    assert [process.returncode for process in processes[1:]] == [0, 0], logs
    return folder


@both
def test_two_ranks_train_as_one_and_skip_together(kind, two_ranks):
    """Ranks agree to the bit, equal one process with the joint batches, and skip where one card alone says so."""
    ranks = [json.loads((two_ranks / f"{rank}.json").read_text())[kind] for rank in range(2)]
    assert ranks[0] == ranks[1]
    finite, overflows, updates = ranks[0]
    assert finite == [True, True, False, False, True, False, True, True]
    assert (overflows, updates) == (2, 2)
    first, second = ({**np.load(two_ranks / f"{kind}{rank}.npz")} for rank in range(2))
    assert_same(first, second)
    single = make_step(kind, paths=[PATHS[at] for at in (0, 1, 6, 7)], **TOGETHER)
    joint = batches(8, 12)
    for at in (0, 1, 6, 7):
        feed(single, joint[at])
    for name, value in remembered(single).items():
        np.testing.assert_allclose(first[name], value, rtol=0, atol=1e-6, err_msg=name)


def test_two_ranks_gather_every_number_and_take_the_values_of_the_first(two_ranks):
    for rank in range(2):
        found = json.loads((two_ranks / f"{rank}.json").read_text())
        assert found["sum"] == [2**61 + 1, 0.2, 0.0, math.inf]
        assert found["told"] == [[[float(np.float32(0.1))] * 3] * 2, [float(np.float32(0.1))]]
