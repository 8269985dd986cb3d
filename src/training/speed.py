"""How many images a run trains on in a second, once it is under way."""

from __future__ import annotations

import time
from collections.abc import Callable

from mindspore import Tensor

FIRST_STEPS = 2  # of each epoch: they compile, or wait for the first images


class Speed:
    """Times the steps of a run but the first ones of each epoch; called after each step, by :class:`Trainer`.

    Args:
        images_per_step: of all ranks together.
        clock: seconds.
    """

    def __init__(self, images_per_step: int, clock: Callable[[], float] = time.perf_counter):
        self._images_per_step, self._clock = images_per_step, clock
        self._steps, self._seconds = 0, 0.0
        self._since: float | None = None

    def __call__(self, step: int, loss: Tensor) -> None:
        """Notes the end of a step, by its number in the epoch from 1; reads the loss, which the device then has."""
        loss.asnumpy()
        now = self._clock()
        if step > FIRST_STEPS and self._since is not None:
            self._steps += 1
            self._seconds += now - self._since
        self._since = now

    def __str__(self) -> str:
        if not self._steps:
            return f"FPS: not measured; an epoch must have more than {FIRST_STEPS} steps"
        images_per_second = self._steps * self._images_per_step / self._seconds
        counted = f"{self._steps} steps, without the first {FIRST_STEPS} of each epoch"
        return f"FPS: {images_per_second:.2f} images/s ({counted})"
