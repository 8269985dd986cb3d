"""Every learning-rate table against the values published for it, and against what its definition promises."""

import numpy as np
import pytest
from pydantic import ValidationError

from src.settings.config import choices_of
from src.settings.sections import Schedule
from src.training.lr_schedule import SCHEDULES, learning_rates, scaled


def table(name: str, steps_per_epoch: int, **keys) -> np.ndarray:
    """The rates of a schedule of these keys."""
    return learning_rates(Schedule(lr_schedule=name, **keys), steps_per_epoch)


SPNAS = {"name": "cosine_epoch", "lr": 1.5}
PROXYLESS = {
    "name": "two_phase_cosine",
    "lr": 0.2,
    "steps_per_epoch": 1223,
    "epochs": 360,
    "warmup_epochs": 5,
    "lr_tail_epochs": 60,
}
SHUFFLENET = {"name": "cosine", "lr": 0.5, "steps_per_epoch": 1251, "epochs": 250, "warmup_epochs": 4}
MNASNET = {
    "name": "linear",
    "lr": 0.2,
    "lr_init": 1e-4,
    "lr_end": 1e-5,
    "steps_per_epoch": 625,
    "epochs": 250,
    "warmup_epochs": 5,
}

# Values as text: every printed digit has to agree, or be the neighbouring float32.
PUBLISHED = [
    (
        {**SPNAS, "steps_per_epoch": 1251, "epochs": 180},
        {0: "1.5", 1250: "1.5", 1251: "1.4998858", 112_590: "0.75", -1: "1.1422863e-4"},
    ),
    (
        {**SPNAS, "steps_per_epoch": 10, "epochs": 20, "warmup_epochs": 5},
        {0: "0.03", 48: "1.47", 49: "1.5", 50: "1.28033", 60: "1.19084", 199: "0.0092337"},
    ),
    (
        {
            "name": "milestone",
            "lr": 1.5,
            "steps_per_epoch": 10,
            "epochs": 100,
            "lr_epochs": [30, 60, 90],
            "lr_gamma": 0.3,
        },
        {0: "1.5", 299: "1.5", 300: "0.45", 600: "0.135", 900: "0.0405"},
    ),
    (
        PROXYLESS,
        {
            0: "3.2706459e-5",
            1: "6.5412918e-5",
            6114: "0.2",
            6115: "0.19986296",
            183_450: "0.1",
            366_899: "5.4830634e-6",
            366_900: "8.9665796e-11",
            373_014: "5.4830633e-7",
            373_015: "5.389648e-7",
            -1: "3.757174e-10",
        },
    ),
    (
        SHUFFLENET,
        {
            0: "9.992006e-5",
            5003: "0.5",
            5004: "0.5",
            6255: "0.49997962",
            156_375: "0.25638467",
            311_499: "2.0386e-5",
            -1: "1.3026e-11",
        },
    ),
    (
        MNASNET,
        {0: "1e-4", 1: "1.6396798e-4", 3124: "0.19993603", 3125: "0.2", 78_125: "0.10204571", -1: "1.1306e-5"},
    ),
]


def last_digit(text: str) -> float:
    """The unit of the last printed digit: 0.01 for 1.25."""
    mantissa, _, exponent = text.partition("e")
    return 10.0 ** (int(exponent or 0) - len(mantissa.partition(".")[2]))


@pytest.mark.parametrize(
    ("arguments", "values"),
    PUBLISHED,
    ids=["spnas", "spnas-warm-up", "milestone", "proxyless", "shufflenet", "mnasnet"],
)
def test_published_values(arguments, values):
    rates = table(**arguments)
    assert rates.dtype == np.float32
    assert rates.shape == (arguments["steps_per_epoch"] * arguments["epochs"],)
    for step, text in values.items():
        tolerance = max(0.5 * last_digit(text), np.spacing(np.float32(text)))
        assert abs(float(rates[step]) - float(np.float32(text))) <= tolerance, (step, rates[step], text)


@pytest.mark.parametrize("name", SCHEDULES)
@pytest.mark.parametrize(("epochs", "warmup_epochs"), [(1, 0), (1, 3), (3, 3), (12, 2), (70, 5)])
def test_every_schedule_is_whole_and_within_its_bounds(name, epochs, warmup_epochs):
    rates = table(
        name,
        lr=0.5,
        steps_per_epoch=7,
        epochs=epochs,
        warmup_epochs=warmup_epochs,
        lr_init=0.05,
        lr_epochs=[3, 6],
        lr_gamma=0.5,
        lr_tail_epochs=60,
    )
    assert rates.shape == (7 * epochs,)
    assert np.isfinite(rates).all()
    assert (rates >= 0).all()
    assert (rates <= 0.5).all()
    if name != "two_phase_cosine":
        warm = rates[: 7 * warmup_epochs]
        decay = rates[7 * warmup_epochs :]
        assert (np.diff(warm) >= 0).all()
        assert (np.diff(decay) <= 0).all()


@pytest.mark.parametrize(
    ("name", "first"),
    [
        ("cosine", 1),
        ("cosine_epoch", 1),
        ("exponential", 1),
        ("milestone", 1),
        ("constant", 1),
        ("steps", 0),
        ("steps_decay", 0),
        ("linear", 0),
        ("poly", 0),
    ],
)
def test_warm_up_counts_as_its_upstream_does(name, first):
    rates = table(name, lr=0.4, lr_init=0.1, steps_per_epoch=5, epochs=8, warmup_epochs=2)
    np.testing.assert_allclose(rates[:10], 0.1 + 0.3 * (np.arange(10) + first) / 10, rtol=1e-6)


def test_mnasnet_ascend_multiplier():
    """0.1 + 0.9 e/5 for five epochs, then half a cosine over the rest, constant inside an epoch."""
    rates = table("cosine_staircase", lr=1.4, lr_init=0.14, steps_per_epoch=3, epochs=300, warmup_epochs=5)
    per_epoch = rates.reshape(300, 3)
    assert (per_epoch == per_epoch[:, :1]).all()
    epoch = np.arange(300)
    expected = np.where(epoch < 5, 0.1 + 0.9 * epoch / 5, 0.5 * (1 + np.cos(np.pi * (epoch - 5) / 295)))
    np.testing.assert_allclose(per_epoch[:, 0], 1.4 * expected, rtol=1e-6)


def test_two_phase_is_only_a_tail_when_the_run_is_no_longer_than_it():
    """The second phase starts from lr/10 and keeps the shape of 60 epochs, cut where the run ends."""
    arguments = {**PROXYLESS, "steps_per_epoch": 4}
    full = table(**{**arguments, "epochs": 60})
    np.testing.assert_allclose(full[:20], 0.02 * np.arange(1, 21) / 20, rtol=1e-6)
    np.testing.assert_allclose(full[4 * 30], 0.01, rtol=1e-6)
    np.testing.assert_array_equal(table(**{**arguments, "epochs": 20}), full[:80])


def test_two_phase_without_tail_is_one_phase():
    arguments = {"lr": 0.2, "steps_per_epoch": 4, "epochs": 20, "warmup_epochs": 5}
    np.testing.assert_array_equal(
        table("two_phase_cosine", lr_tail_epochs=0, **arguments), table("cosine_epoch", **arguments)
    )


def test_two_phase_takes_up_the_rate_a_cut_warm_up_reached():
    rates = table("two_phase_cosine", lr=1.0, steps_per_epoch=2, epochs=63, warmup_epochs=5, lr_tail_epochs=60)
    np.testing.assert_allclose(rates[:7], [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.006], rtol=1e-6)


def test_steps_fall_at_30_60_80_percent():
    rates = table("steps", lr=1.0, steps_per_epoch=10, epochs=10, warmup_epochs=1)
    np.testing.assert_allclose(rates[[29, 30, 59, 60, 79, 80]], [1, 0.1, 0.1, 0.01, 0.01, 0.001], rtol=1e-6)


def test_steps_decay_falls_every_second_epoch_after_the_warm_up():
    rates = table("steps_decay", lr=1.0, steps_per_epoch=10, epochs=10, warmup_epochs=3)
    np.testing.assert_allclose(rates[[30, 49, 50, 69, 70]], [1, 1, 0.94, 0.94, 0.94**2], rtol=1e-6)


@pytest.mark.parametrize(("name", "inside"), [("cosine", 1), ("cosine_epoch", 10), ("cosine_staircase", 10)])
def test_a_cosine_falls_to_lr_end(name, inside):
    """Half a cosine from 1 to 0.2, per update or constant for the ``inside`` updates of an epoch."""
    rates = table(name, lr=1.0, lr_end=0.2, steps_per_epoch=10, epochs=10)
    share = np.arange(100) // inside * inside / 100
    np.testing.assert_allclose(rates, 0.6 + 0.4 * np.cos(np.pi * share), rtol=1e-6)


def test_poly_is_the_square_of_what_is_left():
    rates = table("poly", lr=1.0, lr_end=0.2, steps_per_epoch=10, epochs=10)
    np.testing.assert_allclose(rates, 0.2 + 0.8 * (1 - np.arange(100) / 100) ** 2, rtol=1e-6)


def test_exponential_multiplies_once_an_epoch():
    rates = table("exponential", lr=1.0, lr_gamma=0.5, steps_per_epoch=2, epochs=4, warmup_epochs=1)
    np.testing.assert_allclose(rates, [0.5, 1, 1, 1, 0.5, 0.5, 0.25, 0.25], rtol=1e-6)


def test_every_choice_is_the_function_of_its_name():
    assert {name: schedule.__name__ for name, schedule in SCHEDULES.items()} == {
        name: name for name in choices_of("lr_schedule")
    }


def test_an_epoch_has_an_update():
    rates = table("constant", 1, lr=0.4, epochs=3, warmup_epochs=1)
    np.testing.assert_allclose(rates, [0.4, 0.4, 0.4], rtol=1e-6)  # the warm-up's only update runs at the peak
    with pytest.raises(ValidationError, match="steps_per_epoch"):
        table("cosine", 0)


def test_scaling_of_the_peak():
    schedule = Schedule(lr=0.3, lr_init=0.01, lr_scaling_base=512)
    assert scaled(schedule, 1024) == schedule
    linear = Schedule(lr=0.3, lr_init=0.01, lr_scaling_base=512, lr_scaling="linear")
    assert scaled(linear, 1280).lr == pytest.approx(0.75)
    assert (scaled(linear, 1280).lr_init, linear.lr) == (0.01, 0.3)
