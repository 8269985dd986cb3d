"""Where a run goes on when its world is another: batches, ranks, images, accumulation, rates or sampler.

A position means images seen within an epoch and epochs done, and is carried as that. Updates are counted on; the rates
are those of the new world from its own place on. In an unchanged world all of this is the identity.
"""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from src.data.dataset import TrainData
from src.errors import UsageError
from src.runs.checkpoint import Checkpoint
from src.runs.folder import METRICS
from src.runs.trained import Trained
from src.settings.config import DEFAULTS, Config


@dataclasses.dataclass
class Position:
    """Where a run is: what a checkpoint's meta holds besides the run's unchanging facts.

    Attributes:
        epoch: epochs completed.
        step: steps done in the epoch after those; all of them when the run was stopped in its evaluation.
        loss_sum, loss_count: over the steps of that epoch.
        history: a row of metrics.csv per completed epoch.
        best_top1, best_epoch: best evaluation so far (-1 and 0: none yet).
        stale: evaluations since the best one.
        offset: updates done less their place in the table of rates; not 0 after a change of world only.
    """

    epoch: int = 0
    step: int = 0
    loss_sum: float = 0.0
    loss_count: int = 0
    history: list[dict[str, Any]] = dataclasses.field(default_factory=list)
    best_top1: float = -1.0
    best_epoch: int = 0
    stale: int = 0
    offset: int = 0


class Pace(NamedTuple):
    """How a run counts.

    Attributes:
        images: that it trains on.
        ranks: that share a step.
        batch_size: images of a step and rank.
        steps: of an epoch.
        accumulate: steps of an update.
    """

    images: int
    ranks: int
    batch_size: int
    steps: int
    accumulate: int

    @property
    def batch(self) -> int:
        """Images of a step."""
        return self.ranks * self.batch_size

    @property
    def updates(self) -> int:
        """Updates of an epoch."""
        return math.ceil(self.steps / self.accumulate)

    def counts_like(self, other: Pace) -> bool:
        """Whether a step and an update of both are the same, however many ranks share it."""
        return (self.images, self.batch, *self[3:]) == (other.images, other.batch, *other[3:])


def pace_of_data(data: TrainData, accumulate: int) -> Pace:
    """How a run on ``data`` counts."""
    return Pace(len(data.files), data.world, data.batch_size, data.steps_per_epoch, accumulate)


def pace_of(checkpoint: Checkpoint, now: Pace) -> Pace:
    """How the run of a checkpoint counted; of an earlier version's, which does not say, as far as its batches tell."""
    if pace := checkpoint.meta.get("pace"):
        try:
            found = Pace(**pace)
        except TypeError as error:
            raise _damaged(checkpoint, "pace") from error
        if not all(type(number) is int and number > 0 for number in found):
            raise _damaged(checkpoint, "pace")
        return found
    config = Trained.from_meta(checkpoint.meta, checkpoint.path).config
    batch = config.batch_size * now.ranks
    steps = now.images // batch if config.drop_remainder else math.ceil(now.images / batch)
    return Pace(now.images, now.ranks, config.batch_size, max(steps, 1), config.accumulate)


def saved_position(checkpoint: Checkpoint) -> Position:
    """Where the run of ``checkpoint`` was. Raises UsageError if it does not say."""
    try:
        position = Position(**checkpoint.meta["position"])
        counts = (position.epoch, position.step, position.loss_count, position.best_epoch, position.stale)
        figures = (position.loss_sum, position.best_top1)
        is_possible = (
            all(type(count) is int and count >= 0 for count in counts)
            and type(position.offset) is int
            and all(type(figure) in (int, float) for figure in figures)
            and all(set(METRICS) <= row.keys() for row in position.history)
        )
    except (KeyError, TypeError, AttributeError) as error:
        raise _damaged(checkpoint, "position") from error
    if not is_possible:
        raise _damaged(checkpoint, "position")
    return position


def _damaged(checkpoint: Checkpoint, what: str) -> UsageError:
    return UsageError(f"{checkpoint.path} is damaged: its meta has no {what} that can be")


def position_of(checkpoint: Checkpoint, now: Pace, seed: int) -> Position:
    """Where the run of ``checkpoint`` goes on at the pace of ``now``."""
    position = saved_position(checkpoint)
    then = pace_of(checkpoint, now)
    if then.counts_like(now):
        return position
    is_same_order = then.images == now.images and checkpoint.trained.config.seed == seed
    step = _step(position.step, held_in(checkpoint.state), then, now, is_same_order)
    updates = int(checkpoint.state["global_step"].reshape(-1)[0])
    place = position.epoch * now.updates + step // now.accumulate
    return dataclasses.replace(position, step=step, offset=updates - place)


def _step(step: int, held: int, then: Pace, now: Pace, is_same_order: bool) -> int:
    """Steps of the new pace that are done in the epoch. What they leave over is seen again, rather than not at all."""
    if step == then.steps:
        return now.steps
    applied = max(step - held, 0)  # a window of accumulated batches that was begun is begun again
    done = applied * then.batch // now.batch if is_same_order else applied * now.steps // then.steps
    return min(done, now.steps)


def held_in(state: Mapping[str, np.ndarray]) -> int:
    """Batches whose gradients wait for their update, in the state of a training step or of a supernet's."""
    if "sampler_state" in state:
        text = state["sampler_state"].tobytes().rstrip(b"\0")
        return abs(json.loads(text).get("held", 0)) if text else 0
    return abs(int(state.get("accumulated_batches", 0)))


def shifted(rates: np.ndarray, offset: int) -> np.ndarray:
    """The table of ``rates`` for updates that are ``offset`` ahead of their place in it; what is over is filled up."""
    if offset < 0:
        return rates[min(-offset, len(rates) - 1) :]
    return np.concatenate([np.repeat(rates[:1], offset), rates])


def begins_afresh(then: Config, now: Config) -> tuple[str, ...]:
    """Beginnings of the names in a step's state that mean nothing under the new configuration."""
    window = ("accumulated",) if then.accumulate != now.accumulate else ()
    scale = ("loss_scale", "good_steps") if then.loss_scale_mode != now.loss_scale_mode else ()
    return window + scale


def differences(earlier: Trained, ours: Trained, then: Pace, now: Pace) -> list[str]:
    """Whatever differs from the run so far, each as ``what old -> new``."""
    before, after = earlier.config.kept(), ours.config.kept()
    pairs = [(key, before[key], after[key]) for key in DEFAULTS]
    pairs += [("ranks", then.ranks, now.ranks), ("training images", then.images, now.images)]
    pairs += [(name, earlier.versions[name], ours.versions.get(name)) for name in earlier.versions]
    return [f"{what} {old or repr(old)} -> {new or repr(new)}" for what, old, new in pairs if old != new]
