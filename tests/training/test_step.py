"""The training step: dynamic loss scale, what it remembers, precision.

Its numbers are held to float64, together with those of the supernet's step, in tests/supernet/test_both_steps.py.
"""

import mindspore as ms
import numpy as np
import pytest
from mindspore import Tensor, nn

from src.settings.sections import Optimizer, Update
from src.training.loss import LabelSmoothedCrossEntropy
from src.training.optimizer import create_optimizer
from src.training.step import TrainStep, apply_precision, precision_note, state

CLASSES, FEATURES, BATCH = 3, 10, 4
RATE = 0.5


@pytest.fixture(params=["graph", "pynative"])
def mode(request):
    ms.set_context(mode=ms.GRAPH_MODE if request.param == "graph" else ms.PYNATIVE_MODE)
    yield request.param
    ms.set_context(mode=ms.PYNATIVE_MODE)


class Linear(nn.Cell):
    """The network whose gradient fits on one line."""

    def __init__(self):
        super().__init__()
        weight = np.random.default_rng(0).standard_normal((CLASSES, FEATURES)).astype(np.float32)
        self.classifier = nn.Dense(FEATURES, CLASSES, weight_init=Tensor(weight), bias_init="zeros")

    def construct(self, x):
        return self.classifier(x)


class Small(nn.Cell):
    """Convolution, batch norm, dense layer."""

    def __init__(self):
        super().__init__()
        rng = np.random.default_rng(0)
        weight = rng.standard_normal((4, 3, 3, 3)).astype(np.float32)
        self.conv = nn.Conv2d(3, 4, 3, stride=2, pad_mode="pad", padding=1, weight_init=Tensor(weight))
        self.norm = nn.BatchNorm2d(4)
        self.act = nn.ReLU()
        weight = rng.standard_normal((CLASSES, 4)).astype(np.float32)
        self.classifier = nn.Dense(4, CLASSES, weight_init=Tensor(weight), bias_init="zeros")

    def construct(self, x):
        return self.classifier(self.act(self.norm(self.conv(x))).mean((2, 3)))


def make_step(network=None, *, name="momentum", momentum=0.9, lr=RATE, smoothing=0.0, **options):
    network = network or Linear()
    optimizer = create_optimizer(
        network.trainable_params(), Optimizer(optimizer=name, momentum=momentum, weight_decay=0), lr
    )
    step = TrainStep(network, LabelSmoothedCrossEntropy(CLASSES, smoothing), optimizer, Update(**options))
    return step.set_train()


def batch(seed=1, size=BATCH, shape=(FEATURES,)):
    rng = np.random.default_rng(seed)
    images = rng.standard_normal((size, *shape)).astype(np.float32)
    return images, rng.integers(0, CLASSES, size).astype(np.int32)


def run(step, images, labels):
    loss, finite, correct = step(Tensor(images), Tensor(labels))
    assert loss.dtype == ms.float32
    return float(loss.asnumpy()), bool(finite.asnumpy()), int(correct.asnumpy())


def values(cell):
    return {param.name: param.asnumpy().copy() for param in cell.get_parameters()}


def assert_same(one, other):
    assert one.keys() == other.keys()
    for name in one:
        np.testing.assert_array_equal(one[name], other[name], err_msg=name)


@pytest.mark.parametrize("mode", ["graph"], indirect=True)
def test_overflow_skips_the_update_bit_for_bit_and_halves_the_scale(mode):
    images, labels = batch()
    step = make_step(
        apply_precision(Linear(), "O3"), loss_scale_mode="dynamic", loss_scale=2.0**30, scale_factor=2, scale_window=3
    )
    run(step, images * 1e-3, labels)
    start = {**values(step.network), **values(step.optimizer)}
    overflows = int(step.gradients.overflow_count.asnumpy())
    scale = float(step.gradients.loss_scale.asnumpy())
    assert overflows == 1
    assert scale == 2.0**29
    for _ in range(30):
        loss, finite, _ = run(step, images, labels)
        assert np.isfinite(loss)
        if finite:
            break
        overflows, scale = overflows + 1, scale / 2
        assert_same({**values(step.network), **values(step.optimizer)}, start)
        assert int(step.gradients.overflow_count.asnumpy()) == overflows
        assert float(step.gradients.loss_scale.asnumpy()) == scale
    assert finite
    assert overflows > 5
    assert int(step.optimizer.global_step.asnumpy()[0]) == 1
    assert (values(step.network)["classifier.weight"] != start["classifier.weight"]).any()
    for expected in (2, 0):  # the third good update in a row fills the window and doubles the scale
        run(step, images * 1e-3, labels)
        assert int(step.gradients.good_steps.asnumpy()) == expected
    assert float(step.gradients.loss_scale.asnumpy()) == 2 * scale
    assert len(step.compile_cache) == 1


def test_the_scale_never_falls_below_one():
    images, labels = batch()
    step = make_step(loss_scale_mode="dynamic", loss_scale=3.0, scale_factor=2)
    for expected in (1.5, 1.0, 1.0):
        assert not run(step, images * np.nan, labels)[1]
        assert float(step.gradients.loss_scale.asnumpy()) == expected


def test_the_scale_never_grows_to_infinity():
    images, labels = batch()
    step = make_step(loss_scale_mode="dynamic", loss_scale=2.0**63, scale_window=1)
    for _ in range(3):
        assert run(step, images * 0, labels)[1]
        assert float(step.gradients.loss_scale.asnumpy()) == 2.0**64


def test_a_nan_label_reaches_the_loss_but_never_the_weights(mode):
    images, labels = batch()
    step = make_step()
    before = {**values(step.network), **values(step.optimizer)}
    soft = np.eye(CLASSES, dtype=np.float32)[labels]
    wrong = np.where(np.arange(BATCH)[:, None] == 1, np.nan, soft).astype(np.float32)
    loss, finite, _ = run(step, images, wrong)
    assert np.isnan(loss)
    assert not finite
    assert int(step.gradients.overflow_count.asnumpy()) == 1
    assert_same({**values(step.network), **values(step.optimizer)}, before)
    assert run(step, images, soft)[1]


def test_soft_labels_train_like_the_classes_they_stand_for():
    images, labels = batch()
    hard, soft = make_step(smoothing=0.1), make_step(smoothing=0.1)
    assert run(hard, images, labels) == run(soft, images, np.eye(CLASSES, dtype=np.float32)[labels])
    assert_same(values(hard.network), values(soft.network))


STATE_OPTIONS = {
    "lr": np.linspace(0.5, 0.1, 20).astype(np.float32),
    "loss_scale_mode": "dynamic",
    "loss_scale": 2.0**10,
    "scale_window": 2,
    "accumulate": 2,
    "grad_clip": 1.0,
}
IMAGE = (3, 8, 8)


@pytest.mark.parametrize("mode", ["graph"], indirect=True)
def test_state_restored_inside_a_window_goes_on_bit_for_bit(mode, tmp_path):
    def feed(step, steps):
        for seed in steps:
            images, labels = batch(seed, shape=IMAGE)
            run(step, images * (np.nan if seed == 3 else 1), labels)

    whole = make_step(Small(), name="rmsprop", **STATE_OPTIONS)
    feed(whole, range(7))
    saved = [*whole.network.get_parameters(), *state(whole).values()]
    path = str(tmp_path / "whole_state.ckpt")
    ms.save_checkpoint([{"name": param.name, "data": param} for param in saved], path)
    feed(whole, range(7, 12))
    loaded = ms.load_checkpoint(path)
    second = make_step(Small(), name="rmsprop", **STATE_OPTIONS)
    targets = {**{param.name: param for param in second.network.get_parameters()}, **state(second)}
    assert loaded.keys() == targets.keys()
    for key, param in targets.items():
        param.set_data(loaded[key])
    feed(second, range(7, 12))
    assert int(second.gradients.overflow_count.asnumpy()) == 1
    assert int(second.optimizer.global_step.asnumpy()[0]) == 5
    assert_same(values(second), values(whole))


def test_no_field_is_missing_from_the_state():
    """What training changes is in the network or in the state; and the state is exactly this."""
    step = make_step(Small(), **STATE_OPTIONS)
    before = values(step)
    for seed in range(5):
        images, labels = batch(seed, shape=IMAGE)
        run(step, images * (np.nan if seed == 2 else 1), labels)
    changed = {name for name, value in values(step).items() if not np.array_equal(value, before[name])}
    network = {param.name for param in step.network.get_parameters()}
    trained = {param.name for param in step.network.trainable_params()}
    assert changed <= network | state(step).keys()
    assert state(step).keys() == {
        "global_step",
        "loss_scale",
        "good_steps",
        "overflow_count",
        "accumulated_batches",
        *(f"{slot}.{name}" for slot in ("moments", "accumulated") for name in trained),
    }
    assert not any(name in ("loss_scale", "accumulated_batches") for name in state(make_step(Small())))


def test_what_the_step_remembers_is_not_trained():
    step = make_step(Small(), **STATE_OPTIONS)
    assert not any(param.requires_grad for name, param in state(step).items() if name.startswith("accumulated"))
    assert [param.name for param in step.optimizer.parameters] == [
        param.name for param in step.network.trainable_params()
    ]


@pytest.mark.parametrize("mode", ["graph"], indirect=True)
@pytest.mark.parametrize("level", ["O0", "O1", "O2", "O3"])
def test_every_precision_level_trains(mode, level):
    network = Small()
    names = [param.name for param in network.get_parameters()]
    step = make_step(apply_precision(network, level), lr=0.1, loss_scale_mode="dynamic")
    images, labels = batch(shape=IMAGE)
    losses = [run(step, images, labels)[0] for _ in range(8)]
    assert losses[-1] < 0.8 * losses[0]
    assert int(step.gradients.overflow_count.asnumpy()) == 0
    assert [param.name for param in network.get_parameters()] == names
    assert {param.dtype for param in network.get_parameters()} == {ms.float32}


@pytest.mark.parametrize(
    ("level", "conv", "norm"),
    [
        ("O0", ms.float32, ms.float32),
        ("O1", ms.float16, ms.float32),
        ("O2", ms.float16, ms.float32),
        ("O3", ms.float16, ms.float16),
    ],
)
def test_what_each_precision_level_computes_in(level, conv, norm):
    network = apply_precision(Small(), level)
    images = Tensor(batch(shape=IMAGE)[0])
    features = network.conv(images)
    assert features.dtype == conv
    assert network.norm(features).dtype == norm


def test_precision_note_only_where_there_is_something_to_say():
    assert "imitates float16" in precision_note("O2", "CPU")
    assert precision_note("O0", "CPU") == ""
    assert precision_note("O2", "Ascend") == ""
