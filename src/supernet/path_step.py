"""The supernet's training step: a path is drawn for each batch, and only what it goes through is updated."""

from __future__ import annotations

import json

import mindspore as ms
import numpy as np
from mindspore import Parameter, Tensor, nn

from src.settings.sections import Update
from src.space.sampler import PathSampler
from src.supernet.network import Slots, Supernet
from src.supernet.path_sgd import PathSGD
from src.training.loss import LabelSmoothedCrossEntropy
from src.training.scaled_gradients import ScaledGradients, state_parameter

# The sampler's state as JSON text fills a parameter of this many bytes, so that a checkpoint holds it.
STATE_BYTES = 16384


class SupernetStep(nn.Cell):
    """One training step along one path; called like :class:`src.training.step.TrainStep`, with the same results.

    Before every batch the sampler draws the path (the same one on every rank); after it, or after
    ``accumulate`` batches, what the paths went through is updated if the gradients are finite. The
    sampler's state is a parameter, so a run that is taken up again draws the same paths.

    Args:
        network: the supernet, in its precision.
        supernet: the same network, whose path is set.
        sampler: draws the paths.
        steps_per_epoch: batches of an epoch.
        learning_rates: of each update, float32 [updates].
        config, options: of :class:`src.training.scaled_gradients.ScaledGradients`.
    """

    def __init__(
        self,
        network: nn.Cell,
        supernet: Supernet,
        loss: LabelSmoothedCrossEntropy,
        optimizer: PathSGD,
        sampler: PathSampler,
        steps_per_epoch: int,
        learning_rates: np.ndarray,
        config: Update,
        **options,
    ):
        super().__init__(auto_prefix=False)
        self.network, self.supernet = network, supernet
        self.optimizer, self.sampler = optimizer, sampler
        self.gradients = ScaledGradients(network, loss, optimizer.parameters, config, **options)
        self.accumulate = self.gradients.accumulate
        if not self.gradients.dynamic:
            # Only noted: every supernet's checkpoint has one. What counts is the configuration's.
            self.loss_scale = state_parameter("loss_scale", float(self.gradients.loss_scale), ms.float32)
        self.steps_per_epoch, self.learning_rates = steps_per_epoch, np.asarray(learning_rates, np.float32)
        self.slots = Slots(supernet.space)
        self.slot_of = self.slots.of([p.name for p in optimizer.parameters])
        self.global_step = Parameter(Tensor([0], ms.int32), name="global_step", requires_grad=False)
        self.sampler_state = Parameter(
            Tensor(np.zeros(STATE_BYTES, np.uint8)), name="sampler_state", requires_grad=False
        )
        self.drawn = self.held = 0
        self.used = np.zeros(self.slots.count, bool)  # by the paths of an update
        self.is_taken_up = False

    def __call__(self, images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        if not self.is_taken_up:
            self._take_up()
        if self.drawn % self.steps_per_epoch == 0:
            self.sampler.begin_epoch(self.drawn // self.steps_per_epoch, self.steps_per_epoch)
        genes = self.sampler.draw()
        if self.held == 0:
            self.used[:] = False
        self.used |= self.slots.on(genes)
        self.supernet.set_path(genes)
        self.drawn += 1
        loss, finite, correct, held, gradients = self.gradients(images, labels, Tensor(self.held, ms.int32))
        self.held = int(held.asnumpy())
        if self.held == 0 and finite.asnumpy():
            self._update(gradients)
        self._note()
        return loss, finite, correct

    def _update(self, gradients: tuple[Tensor, ...]) -> None:
        updates = int(self.global_step.asnumpy()[0])
        rate = self.learning_rates[min(updates, len(self.learning_rates) - 1)]
        self.optimizer.update(np.flatnonzero(self.used[self.slot_of]).tolist(), gradients, float(rate))
        self.global_step.set_data(Tensor([updates + 1], ms.int32))

    def _note(self) -> None:
        """Puts all that decides the next paths where checkpoints find it."""
        used = np.flatnonzero(self.used).tolist()
        state = {"drawn": self.drawn, "held": self.held, "used": used, "sampler": self.sampler.get_state()}
        text = json.dumps(state).encode()
        if len(text) > STATE_BYTES:
            raise ValueError(f"the sampler's state takes {len(text)} bytes, more than {STATE_BYTES}")
        self.sampler_state.set_data(Tensor(np.frombuffer(text.ljust(STATE_BYTES, b"\0"), np.uint8).copy()))

    def begin_at(self, epoch: int, step: int) -> None:
        """Goes on after so many epochs and steps in a world that counts otherwise, with the sampler where it was.

        A window of accumulated batches that was begun is begun again.
        """
        self._take_up()
        self.drawn, self.held = epoch * self.steps_per_epoch + step, 0
        if self.accumulate > 1:
            self.gradients.forget()
        self.sampler.begin_epoch(epoch, self.steps_per_epoch)
        self._note()

    def _take_up(self) -> None:
        text = self.sampler_state.asnumpy().tobytes().rstrip(b"\0")
        if text:
            state = json.loads(text)
            self.drawn = state["drawn"]
            self.used[state["used"]] = True
            # Another sampler than so far takes over what it shares with that: random numbers, epoch, steps.
            own = self.sampler.get_state()
            self.sampler.set_state({key: state["sampler"].get(key, value) for key, value in own.items()})
            self.held = state["held"] if "held" in state else self._held_of_old(self.drawn)
        self.is_taken_up = True

    def _held_of_old(self, drawn: int) -> int:
        """How many batches the window of an older checkpoint holds; its sums are still of scaled gradients."""
        held = drawn % self.accumulate
        if held:
            for total in self.gradients.sums:
                total.set_data(total * (1.0 / (float(self.gradients.loss_scale) * self.accumulate)))
        return held
