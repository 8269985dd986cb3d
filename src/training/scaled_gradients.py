"""Gradients ready for an update: scaled loss, unscale, average over ranks and batches, finite?, clip.

One cell for every training step, for CPU, GPU and Ascend, in graph and PyNative mode. Everything it remembers is
a Parameter, so that a checkpoint can hold all of it.
"""

from __future__ import annotations

from collections.abc import Callable

import mindspore as ms
from mindspore import Parameter, ParameterTuple, Tensor, nn, ops

from src.machine.ranks import current_world
from src.settings.sections import Update

# A dynamic scale stays between these: without a ceiling, gradients that are all zero would let it grow to infinity.
LEAST_LOSS_SCALE, LARGEST_LOSS_SCALE = 1.0, 2.0**64

_times = ops.MultitypeFuncGraph("times")
_sum_of_squares = ops.MultitypeFuncGraph("sum_of_squares")
_plus = ops.MultitypeFuncGraph("plus")
_store_unless = ops.MultitypeFuncGraph("store_unless")


@_times.register("Tensor", "Tensor")
def _times_one(factor, gradient):
    return gradient * factor


@_sum_of_squares.register("Tensor")
def _sum_of_squares_one(gradient):
    return (gradient * gradient).sum()


@_plus.register("Tensor", "Tensor")
def _plus_one(buffer, gradient):
    return buffer + gradient


@_store_unless.register("Tensor", "Tensor", "Tensor")
def _store_unless_one(empty, buffer, value):
    return ops.assign(buffer, ops.select(empty, ops.zeros_like(value), value))


def state_parameter(name: str, value: float, dtype: ms.Type) -> Parameter:
    """What a step remembers and does not train."""
    return Parameter(Tensor(value, dtype), name=name, requires_grad=False)


class ScaledGradients(nn.Cell):
    """Gradients of the mean loss on images [N, 3, H, W] and labels (int32 [N], or distributions [N, K]).

    Takes beside them how many batches the window holds, int32 (). Returns (loss, finite, correct, held, gradients):
    the batch's mean loss, unscaled, float32; whether the gradients, summed up so far, were finite on every rank; how
    many of the batch's images were classified right, int32; how many batches the window holds now, 0 when it is
    full; and the gradients of all parameters, unscaled, averaged over ranks and batches, and clipped, which mean
    something only when the window is full and all was finite. Then the caller updates; else nothing may change.

    With ``accumulate`` = n a window is n batches. One that is not finite spoils its window, whose number of batches
    is negative from then on: on a card that saturates, the sums themselves would not tell. Each spoilt window counts
    once in ``overflow_count``, and the loss scale changes only between windows.

    Gradients are averaged over all ranks of the world; where there are several, they have to be in touch already.

    Args:
        network: images to logits [N, K].
        loss_fn: (logits, labels) to the mean loss; its result has to be float32.
        parameters: to differentiate by.
        config: loss scale, clipping, batches in an update.
        all_finite: gradients to a boolean Tensor (), True if no element is infinite or NaN; each rank asks its own.
    """

    def __init__(
        self,
        network: nn.Cell,
        loss_fn: Callable[[Tensor, Tensor], Tensor],
        parameters: ParameterTuple,
        config: Update,
        *,
        all_finite: Callable[[tuple[Tensor, ...]], Tensor] = ms.amp.all_finite,
    ):
        super().__init__(auto_prefix=False)
        self.network = network
        self.loss_fn = loss_fn
        self.trained = parameters
        self.all_finite = all_finite
        self.map = ops.HyperMap()

        self.dynamic = config.loss_scale_mode == "dynamic"
        self.scaled = config.loss_scale_mode != "none"
        self.scale_factor = float(config.scale_factor)
        self.scale_window = config.scale_window
        self.overflow_count = state_parameter("overflow_count", 0, ms.int32)
        if self.dynamic:
            self.loss_scale = state_parameter("loss_scale", config.loss_scale, ms.float32)
            self.good_steps = state_parameter("good_steps", 0, ms.int32)
        else:
            self.loss_scale = Tensor(config.loss_scale if self.scaled else 1.0, ms.float32)

        self.grad_clip = config.grad_clip
        self.accumulate = config.accumulate
        if self.accumulate > 1:
            self.sums = parameters.clone(prefix="accumulated", init="zeros")
            for buffer in self.sums:
                buffer.requires_grad = False
        ranks = current_world().size
        self.data_parallel = ranks > 1
        if self.data_parallel:
            self.average_over_devices = nn.DistributedGradReducer(parameters, mean=True, degree=ranks)
            self.sum_over_devices = ops.AllReduce()

    def construct(self, images: Tensor, labels: Tensor, held: Tensor):
        # Made here: kept as an attribute it would close a reference cycle around the cell, and a cell
        # that is collected late makes MindSpore compile a living one of the same input shapes again.
        value_and_grad = ms.value_and_grad(self.forward, None, self.trained, has_aux=True)
        (_, loss, correct), gradients = value_and_grad(images, labels)
        if self.scaled or self.accumulate > 1:
            gradients = self.map(ops.partial(_times, 1.0 / (self.loss_scale * self.accumulate)), gradients)
        if self.data_parallel:
            gradients = self.average_over_devices(gradients)
        batches = held
        if self.accumulate > 1:
            batches = ops.abs(held) + 1
            # Not equal: a run that goes on with a smaller window than it was saved in may hold more.
            batches = ops.select(batches >= self.accumulate, 0, batches)
            gradients = self.add_up(gradients, batches == 0)
        # After all sums: an infinity or NaN of any batch or device is in them.
        finite = ops.logical_and(held >= 0, self.is_finite_everywhere(gradients))
        if self.grad_clip > 0:
            gradients = self.clip(gradients)
        overflow = ops.logical_and(batches == 0, ops.logical_not(finite))
        ops.assign_add(self.overflow_count, overflow.astype(ms.int32))
        if self.dynamic:
            self.adapt_loss_scale(batches == 0, overflow)
        return loss, finite, correct, ops.select(finite, batches, -batches), gradients

    def forward(self, images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The scaled loss to differentiate; beside it the loss and the number of correct predictions."""
        logits = self.network(images)
        loss = self.loss_fn(logits, labels)
        classes = labels if labels.ndim == 1 else labels.argmax(-1)
        correct = (logits.argmax(-1) == classes).astype(ms.int32).sum()
        return loss * self.loss_scale, loss, correct

    def add_up(self, gradients: tuple[Tensor, ...], is_full: Tensor) -> tuple[Tensor, ...]:
        """The sums of the window with these gradients in them; those of a full one are forgotten."""
        sums = self.map(_plus, self.sums, gradients)
        self.map(ops.partial(_store_unless, is_full), self.sums, sums)
        return sums

    def forget(self) -> None:
        """Empties a window that was begun."""
        for total in self.sums:
            total.set_data(ops.zeros_like(total))

    def is_finite_everywhere(self, gradients: tuple[Tensor, ...]) -> Tensor:
        """Whether ``all_finite`` holds on all ranks.

        The averaged gradients are the same on each of them, but a verdict need not follow from them alone: on the
        first Ascend 910, which saturates, ``mindspore.amp.all_finite`` reads a status register of its own card.
        """
        finite = self.all_finite(gradients)
        if self.data_parallel:
            # A float32 sum is the one reduction that every device has.
            complaints = self.sum_over_devices(ops.logical_not(finite).astype(ms.float32).reshape((1,)))
            finite = complaints.sum() < 0.5
        return finite

    def clip(self, gradients: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        """``gradients`` shortened to the global L2 norm grad_clip where they are longer (arXiv 1211.5063)."""
        norm = ops.sqrt(ops.addn(self.map(_sum_of_squares, gradients)))
        return self.map(ops.partial(_times, self.grad_clip / ops.maximum(norm, self.grad_clip)), gradients)

    def adapt_loss_scale(self, last: Tensor, overflow: Tensor) -> None:
        """Shrinks the loss scale on overflow, grows it after scale_window good updates in a row."""
        good_steps = ops.select(overflow, 0, self.good_steps + last.astype(ms.int32))
        grows = good_steps >= self.scale_window
        scale = ops.select(overflow, self.loss_scale / self.scale_factor, self.loss_scale)
        scale = ops.select(grows, scale * self.scale_factor, scale)
        ops.assign(self.loss_scale, ops.clamp(scale, LEAST_LOSS_SCALE, LARGEST_LOSS_SCALE))
        ops.assign(self.good_steps, ops.select(grows, 0, good_steps))
