"""The training step: forward, backward, precision, loss scale, accumulation, clipping, update.

One cell and one code path for CPU, GPU and Ascend, graph and PyNative mode. Its order is: scaled loss,
gradients, unscale, average over devices, average over batches, finite?, clip, update. Everything it
remembers is a Parameter, so that a checkpoint can hold all of it (:func:`state`).
"""

from __future__ import annotations

from collections.abc import Callable

import mindspore as ms
from mindspore import Parameter, Tensor, nn, ops

from src.errors import UsageError, nearest

AMP_LEVELS = ("O0", "O1", "O2", "O3")
LOSS_SCALE_MODES = ("none", "fixed", "dynamic")
# A dynamic scale stays between these: without a ceiling, gradients that are all zero would let it grow to infinity.
LEAST_LOSS_SCALE, LARGEST_LOSS_SCALE = 1.0, 2.0**64

# Set anew by the recipe in every process, never carried over from a checkpoint.
_HYPERPARAMETERS = ("learning_rate", "momentum")

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


def _state_parameter(name: str, value: float, dtype: ms.Type) -> Parameter:
    return Parameter(Tensor(value, dtype), name=name, requires_grad=False)


class TrainStep(nn.Cell):
    """One training step on images [N, 3, H, W] and labels (int32 [N], or distributions [N, K]).

    Returns (loss, finite, correct): the batch's mean loss, unscaled, float32; whether the gradients,
    summed up so far, were finite; how many of the batch's images were classified right, int32.
    Gradients that are not finite skip the update: weights, moments and ``global_step`` stay what they
    were, bit for bit, and ``overflow_count`` goes up. That holds without a loss scale too, so that a
    NaN never gets into the weights. Batch norm's moving statistics belong to the forward pass and are
    not protected.

    With ``accumulate`` = n the gradients of n batches are averaged, then there is one update; an
    overflow in any of them skips the whole update, and the loss scale changes only between windows.

    Args:
        network: images to logits [N, K].
        loss_fn: (logits, labels) to the mean loss; its result has to be float32.
        optimizer: over the parameters to train; takes unscaled gradients (its own loss_scale is 1).
        loss_scale_mode: ``none``, ``fixed`` or ``dynamic``.
        loss_scale: the factor, or the first one when dynamic.
        scale_factor, scale_window: dynamic: divide by scale_factor on overflow, multiply by it after
            scale_window good updates in a row.
        grad_clip: largest global L2 norm of the unscaled, averaged gradients (0: off).
        accumulate: batches in an update.
        all_finite: gradients to a boolean Tensor (), True if no element is infinite or NaN.
        world_size: devices whose gradients are averaged; above 1 communication has to be initialised.

    Raises:
        UsageError: a mode that does not exist or a number out of its range.
    """

    def __init__(
        self,
        network: nn.Cell,
        loss_fn: Callable[[Tensor, Tensor], Tensor],
        optimizer: nn.Optimizer,
        *,
        loss_scale_mode: str = "none",
        loss_scale: float = 1024.0,
        scale_factor: float = 2,
        scale_window: int = 2000,
        grad_clip: float = 0.0,
        accumulate: int = 1,
        all_finite: Callable[[tuple[Tensor, ...]], Tensor] = ms.amp.all_finite,
        world_size: int = 1,
    ):
        super().__init__(auto_prefix=False)
        if loss_scale_mode not in LOSS_SCALE_MODES:
            raise UsageError(
                f"there is no loss_scale_mode {loss_scale_mode!r}{nearest(loss_scale_mode, LOSS_SCALE_MODES)}; "
                f"there are {', '.join(LOSS_SCALE_MODES)}"
            )
        if not LEAST_LOSS_SCALE <= loss_scale <= LARGEST_LOSS_SCALE:
            raise UsageError(f"loss_scale must be {LEAST_LOSS_SCALE:g} to {LARGEST_LOSS_SCALE:g}, not {loss_scale}")
        if not scale_factor > 1:
            raise UsageError(f"scale_factor must be above 1, not {scale_factor}")
        for key, value, least in (("scale_window", scale_window, 1), ("accumulate", accumulate, 1)):
            if value < least:
                raise UsageError(f"{key} must be at least {least}, not {value}")
        if not grad_clip >= 0:
            raise UsageError(f"grad_clip must be at least 0, not {grad_clip}")

        self.network = network
        self.loss_fn = loss_fn
        self.optimizer = optimizer
        self.trained = optimizer.parameters
        self.all_finite = all_finite
        self.map = ops.HyperMap()

        self.dynamic = loss_scale_mode == "dynamic"
        self.scaled = loss_scale_mode != "none"
        self.scale_factor = float(scale_factor)
        self.scale_window = int(scale_window)
        self.overflow_count = _state_parameter("overflow_count", 0, ms.int32)
        if self.dynamic:
            self.loss_scale = _state_parameter("loss_scale", loss_scale, ms.float32)
            self.good_steps = _state_parameter("good_steps", 0, ms.int32)
        else:
            self.loss_scale = Tensor(loss_scale if self.scaled else 1.0, ms.float32)

        self.grad_clip = float(grad_clip)
        self.accumulate = int(accumulate)
        if self.accumulate > 1:
            self.accumulated_gradients = optimizer.parameters.clone(prefix="accumulated", init="zeros")
            for buffer in self.accumulated_gradients:
                buffer.requires_grad = False
            self.accumulated_batches = _state_parameter("accumulated_batches", 0, ms.int32)
        self.data_parallel = world_size > 1
        if self.data_parallel:
            self.average_over_devices = nn.DistributedGradReducer(optimizer.parameters, mean=True, degree=world_size)

    def construct(self, images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        # Made here: kept as an attribute it would close a reference cycle around the cell, and a cell
        # that is collected late makes MindSpore compile a living one of the same input shapes again.
        value_and_grad = ms.value_and_grad(self.forward, None, self.trained, has_aux=True)
        (_, loss, correct), gradients = value_and_grad(images, labels)
        if self.scaled or self.accumulate > 1:
            gradients = self.map(ops.partial(_times, 1.0 / (self.loss_scale * self.accumulate)), gradients)
        if self.data_parallel:
            gradients = self.average_over_devices(gradients)
        last = Tensor(True)
        if self.accumulate > 1:
            gradients, last = self.add_up(gradients)
        # After all sums: an infinity or NaN of any batch or device is in them, so one check serves all
        # and every device decides alike.
        finite = self.all_finite(gradients)
        if self.grad_clip > 0:
            gradients = self.clip(gradients)
        # The only branch. Nested in a second one (`if last: if finite:`) the graph compiler of MindSpore
        # 2.10 loses the update without a word.
        if ops.logical_and(last, finite):
            self.optimizer(gradients)
        overflow = ops.logical_and(last, ops.logical_not(finite))
        ops.assign_add(self.overflow_count, overflow.astype(ms.int32))
        if self.dynamic:
            self.adapt_loss_scale(last, overflow)
        return loss, finite, correct

    def forward(self, images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The scaled loss to differentiate; beside it the loss and the number of correct predictions."""
        logits = self.network(images)
        loss = self.loss_fn(logits, labels)
        classes = labels if labels.ndim == 1 else labels.argmax(-1)
        correct = (logits.argmax(-1) == classes).astype(ms.int32).sum()
        return loss * self.loss_scale, loss, correct

    def add_up(self, gradients: tuple[Tensor, ...]) -> tuple[tuple[Tensor, ...], Tensor]:
        """The sums of the window with these gradients in them, and whether it is full; a full one starts anew."""
        batches = self.accumulated_batches + 1
        last = batches == self.accumulate
        sums = self.map(_plus, self.accumulated_gradients, gradients)
        self.map(ops.partial(_store_unless, last), self.accumulated_gradients, sums)
        ops.assign(self.accumulated_batches, ops.select(last, 0, batches))
        return sums, last

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


def state(step: TrainStep) -> dict[str, Parameter]:
    """What ``step`` remembers beyond the network's own parameters, by name.

    Optimizer slots and ``global_step``, ``overflow_count``, the dynamic loss scale with ``good_steps``,
    accumulated gradients with ``accumulated_batches``. With the network's parameters this is all a
    training run needs to go on bit for bit.
    """
    own = {id(param) for param in step.network.get_parameters()}
    return {
        param.name: param
        for param in step.get_parameters()
        if id(param) not in own and param.name not in _HYPERPARAMETERS
    }


def apply_precision(network: nn.Cell, amp_level: str) -> nn.Cell:
    """Makes ``network`` compute in float16 as far as ``amp_level`` says, and returns it.

    Parameters stay float32 and keep their names; each cell casts what it is given. The logits may be
    float16: the loss casts them back.

    Args:
        amp_level: ``O0`` float32; ``O1`` float16 for convolutions and dense layers (MindSpore's white
            list of cells); ``O2`` float16 for all but batch norm (its black list); ``O3`` for all.

    Raises:
        UsageError: no such level.
    """
    if amp_level not in AMP_LEVELS:
        raise UsageError(
            f"there is no amp_level {amp_level!r}{nearest(amp_level, AMP_LEVELS)}; there are {', '.join(AMP_LEVELS)} "
            f"(float16; bfloat16 is not offered, most CPU operators lack it)"
        )
    if amp_level == "O0":
        return network
    # Not ms.amp.auto_mixed_precision: its O1 rewrites the network's source code into a folder of the
    # working directory, which took 20 s for MnasNet.
    if amp_level == "O1":
        usual, exceptional = ms.float32, ms.float16
        exceptions = tuple(cell for cell in ms.amp.get_white_list() if issubclass(cell, nn.Cell))
    else:
        usual, exceptional = ms.float16, ms.float32
        exceptions = tuple(ms.amp.get_black_list()) if amp_level == "O2" else ()
    network.to_float(usual)
    for _, cell in network.cells_and_names():
        if isinstance(cell, exceptions):
            cell.to_float(exceptional)
    return network


def precision_note(amp_level: str, device_target: str) -> str:
    """What the user should know about ``amp_level`` on this device; an empty string for nothing."""
    if amp_level != "O0" and device_target == "CPU":
        return f"{amp_level}: the CPU only imitates float16; results are those of float16, but nothing gets faster"
    return ""
