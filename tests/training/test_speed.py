"""The speed of a run: which steps are timed, and what is said of them."""

from __future__ import annotations

import numpy as np

from src.training.speed import Speed


class Loss:
    """Counts how often it was waited for."""

    waits = 0

    def asnumpy(self) -> np.ndarray:
        Loss.waits += 1
        return np.float32(1)


def test_the_first_two_steps_of_each_epoch_do_not_count():
    # An epoch of four steps and one of three: a long first step, then others of 2, 4 and 6 seconds that count.
    moments = iter([100.0, 109.0, 111.0, 115.0, 300.0, 301.0, 307.0])
    speed = Speed(images_per_step=24, clock=lambda: next(moments))
    for step in (1, 2, 3, 4, 1, 2, 3):
        speed(step, Loss())
    assert str(speed) == "FPS: 6.00 images/s (3 steps, without the first 2 of each epoch)"
    assert Loss.waits == 7  # the device has done each step when the clock is read


def test_a_run_too_short_to_measure_says_so():
    speed = Speed(images_per_step=24)
    for step in (1, 2, 1, 2):
        speed(step, Loss())
    assert str(speed) == "FPS: not measured; an epoch must have more than 2 steps"
