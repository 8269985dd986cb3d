"""Training watched step by step."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from src.training.trainer import Trainer


def watch_training(
    patch: pytest.MonkeyPatch, after_step: Callable[[float], None], made: Callable[[Trainer], None] = lambda _: None
) -> None:
    """Has every trainer that is made from now on given to ``made``, and the loss of each step to ``after_step``."""
    real_init = Trainer.__init__

    def init(trainer: Trainer, **parts) -> None:
        real_init(trainer, **parts)
        trainer.after_step.append(lambda step, loss: after_step(float(loss.asnumpy())))
        made(trainer)

    patch.setattr(Trainer, "__init__", init)
