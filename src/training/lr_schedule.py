"""Learning-rate schedules: pure functions from a run's length to one rate per update.

A schedule returns the rates of all updates at once, so it can be tested, plotted and stored. Two ways
of counting a linear warm-up of ``w`` updates are in use upstream and both are kept: update ``i`` is
``(i + 1) / w`` of the way up (the last warm-up update runs at the peak), or ``i / w`` (the first one
runs at the initial rate). Each schedule names its own.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from pydantic import Field

from src.settings.config import choices_of
from src.settings.sections import Schedule


class Plan(Schedule):
    """The schedule's keys and what they are counted in.

    ``steps_per_epoch`` counts updates, which with gradient accumulation are fewer than batches.
    """

    steps_per_epoch: int = Field(ge=1)

    def changed(self, **keys: float) -> Plan:
        """The same plan with other values for some keys."""
        return self.model_copy(update=keys)

    @property
    def steps(self) -> int:
        """Updates of the whole run."""
        return self.epochs * self.steps_per_epoch

    @property
    def warmup_steps(self) -> int:
        """Updates of the warm-up, which may be longer than the run."""
        return self.warmup_epochs * self.steps_per_epoch

    @property
    def step(self) -> np.ndarray:
        """0, 1, 2, ...: the index of every update."""
        return np.arange(self.steps)

    @property
    def epoch(self) -> np.ndarray:
        """The 0-based epoch of every update."""
        return self.step // self.steps_per_epoch

    @property
    def decayed_share(self) -> np.ndarray:
        """How much of the time after the warm-up is over, from 0 to just below 1, for every update."""
        remaining = max(self.steps - self.warmup_steps, 1)
        return np.maximum(self.step - self.warmup_steps, 0) / remaining

    def warmed_up(self, rates: np.ndarray, first: int) -> np.ndarray:
        """``rates`` with the warm-up in front: update i is ``(i + first) / w`` of the way from lr_init to lr."""
        way = (self.step + first) / max(self.warmup_steps, 1)
        return np.where(self.step < self.warmup_steps, self.lr_init + (self.lr - self.lr_init) * way, rates)


def _half_cosine(share: np.ndarray | float) -> np.ndarray:
    """From 1 at share 0 down to 0 at share 1."""
    return (1 + np.cos(np.pi * np.asarray(share, np.float64))) / 2


def constant(plan: Plan) -> np.ndarray:
    """Warm-up (i + 1)/w, then the peak."""
    return plan.warmed_up(np.full(plan.steps, plan.lr, np.float64), first=1)


def cosine(plan: Plan) -> np.ndarray:
    """Warm-up (i + 1)/w, then per update half a cosine from lr to lr_end. ShuffleNetV1 and SPOS."""
    rates = plan.lr_end + (plan.lr - plan.lr_end) * _half_cosine(plan.decayed_share)
    return plan.warmed_up(rates, first=1)


def cosine_epoch(plan: Plan) -> np.ndarray:
    """Warm-up (i + 1)/w per update, then a cosine of the absolute epoch, constant inside an epoch.

    The cosine is already under way when the warm-up ends. Single-Path-NAS.
    """
    rates = plan.lr_end + (plan.lr - plan.lr_end) * _half_cosine(plan.epoch / plan.epochs)
    return plan.warmed_up(rates, first=1)


def cosine_staircase(plan: Plan) -> np.ndarray:
    """Warm-up e/w and cosine both constant inside an epoch, the cosine starting at the peak.

    MnasNet on Ascend starts at a tenth of the peak: ``lr_init`` = 0.1 * ``lr``.
    """
    one_step_per_epoch = plan.changed(steps_per_epoch=1)
    share = one_step_per_epoch.decayed_share
    rates = plan.lr_end + (plan.lr - plan.lr_end) * _half_cosine(share)
    return np.repeat(one_step_per_epoch.warmed_up(rates, first=0), plan.steps_per_epoch)


def two_phase_cosine(plan: Plan) -> np.ndarray:
    """``cosine_epoch`` to 0 up to the last lr_tail_epochs, then again from a tenth of the rate reached. ProxylessNAS.

    The second phase counts its updates from 0, warm-up included, and is shaped for lr_tail_epochs even
    where the run is shorter than that: the first phase is then empty and the second starts from lr/10.
    """
    main_epochs = max(plan.epochs - plan.lr_tail_epochs, 0)
    main = np.zeros(0)
    reached = plan.lr
    if main_epochs:
        main = cosine_epoch(plan.changed(epochs=main_epochs))
        reached = main[-1]
    if not plan.lr_tail_epochs:
        return main
    tail = cosine_epoch(plan.changed(lr=reached / 10, epochs=plan.lr_tail_epochs))
    return np.concatenate([main, tail])[: plan.steps]


def steps(plan: Plan) -> np.ndarray:
    """Warm-up i/w, then a tenth, a hundredth, a thousandth of the peak from 30, 60, 80 % of the run on."""
    passed = sum((plan.step >= share * plan.steps).astype(np.int64) for share in (0.3, 0.6, 0.8))
    return plan.warmed_up(plan.lr * 0.1**passed, first=0)


def steps_decay(plan: Plan) -> np.ndarray:
    """Warm-up i/w, then times 0.94 every second epoch after it."""
    epochs_since = np.maximum(plan.step - plan.warmup_steps, 0) // plan.steps_per_epoch
    return plan.warmed_up(plan.lr * 0.94 ** (epochs_since // 2), first=0)


def linear(plan: Plan) -> np.ndarray:
    """Warm-up i/w, then per update a straight line from lr to lr_end. ShuffleNetV1's and MnasNet's other form."""
    return plan.warmed_up(plan.lr + (plan.lr_end - plan.lr) * plan.decayed_share, first=0)


def poly(plan: Plan) -> np.ndarray:
    """Warm-up i/w, then per update the squared share of the time left, from lr to lr_end."""
    rates = plan.lr_end + (plan.lr - plan.lr_end) * (1 - plan.decayed_share) ** 2
    return plan.warmed_up(rates, first=0)


def exponential(plan: Plan) -> np.ndarray:
    """Warm-up (i + 1)/w, then times lr_gamma each epoch after it."""
    epochs_since = np.maximum(plan.epoch - plan.warmup_epochs, 0)
    return plan.warmed_up(plan.lr * float(plan.lr_gamma) ** epochs_since, first=1)


def milestone(plan: Plan) -> np.ndarray:
    """Warm-up (i + 1)/w, then times lr_gamma at each of lr_epochs (0-based). Single-Path-NAS calls it exponential."""
    passed = np.searchsorted(np.sort(np.asarray(plan.lr_epochs, np.int64)), plan.epoch, side="right")
    return plan.warmed_up(plan.lr * float(plan.lr_gamma) ** passed, first=1)


# Each choice of the key is the function of that name.
SCHEDULES: dict[str, Callable[[Plan], np.ndarray]] = {name: globals()[name] for name in choices_of("lr_schedule")}


def learning_rates(config: Schedule, steps_per_epoch: int) -> np.ndarray:
    """The rate of every update of a run: float32 [epochs * steps_per_epoch].

    Args:
        steps_per_epoch: updates (not batches) in an epoch, at least 1.
    """
    keys = {key: config[key] for key in Schedule.model_fields}
    return SCHEDULES[config.lr_schedule](Plan(**keys, steps_per_epoch=steps_per_epoch)).astype(np.float32)


def scaled(config: Schedule, total_batch: int) -> Schedule:
    """The schedule whose peak is meant for ``total_batch`` images an update, as ``lr_scaling`` says.

    ``linear`` is in proportion to lr_scaling_base (Goyal et al., arXiv 1706.02677).
    """
    if config.lr_scaling == "none":
        return config
    return config.model_copy(update={"lr": config.lr * total_batch / config.lr_scaling_base})
