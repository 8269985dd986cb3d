"""The training step: gradients, then the update, in one graph; what a step remembers; its precision."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import mindspore as ms
from mindspore import Parameter, Tensor, nn, ops

from src.settings.sections import Update
from src.training.scaled_gradients import ScaledGradients, state_parameter

# Set anew by the recipe in every process, never carried over from a checkpoint.
_HYPERPARAMETERS = ("learning_rate", "momentum")


class TrainStep(nn.Cell):
    """One training step on images [N, 3, H, W] and labels (int32 [N], or distributions [N, K]).

    Returns (loss, finite, correct): the batch's mean loss, unscaled, float32; whether the gradients,
    summed up so far, were finite; how many of the batch's images were classified right, int32.
    Gradients that are not finite skip the update: weights, moments and ``global_step`` stay what they
    were, bit for bit, and ``overflow_count`` goes up. That holds without a loss scale too, so that a
    NaN never gets into the weights. Batch norm's moving statistics belong to the forward pass and are
    not protected.

    With ``accumulate`` = n the gradients of n batches are averaged, then there is one update; an
    overflow in any of them skips the whole update.

    Args:
        network: images to logits [N, K].
        loss_fn: (logits, labels) to the mean loss; its result has to be float32.
        optimizer: over the parameters to train; takes unscaled gradients (its own loss_scale is 1).
        still: batch norms of ``network`` that compute as in evaluation while it trains.
        config, options: of :class:`src.training.scaled_gradients.ScaledGradients`.
    """

    def __init__(
        self,
        network: nn.Cell,
        loss_fn: Callable[[Tensor, Tensor], Tensor],
        optimizer: nn.Optimizer,
        config: Update,
        still: Sequence[nn.Cell] = (),
        **options,
    ):
        super().__init__(auto_prefix=False)
        self.network, self.optimizer, self.still = network, optimizer, tuple(still)
        self.gradients = ScaledGradients(network, loss_fn, optimizer.parameters, config, **options)
        self.is_accumulating = self.gradients.accumulate > 1
        if self.is_accumulating:
            self.accumulated_batches = state_parameter("accumulated_batches", 0, ms.int32)

    def set_train(self, mode: bool = True) -> TrainStep:
        super().set_train(mode)
        for norm in self.still:
            norm.set_train(False)
        return self

    def construct(self, images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        held = Tensor(0, ms.int32)
        if self.is_accumulating:
            held = self.accumulated_batches.value()
        loss, finite, correct, held, gradients = self.gradients(images, labels, held)
        if self.is_accumulating:
            ops.assign(self.accumulated_batches, held)
        # The only branch. Nested in a second one (`if full: if finite:`) the graph compiler of MindSpore
        # 2.10 loses the update without a word.
        if ops.logical_and(held == 0, finite):
            self.optimizer(gradients)
        return loss, finite, correct

    def begin_at(self, epoch: int, step: int) -> None:
        """Goes on in a world that counts otherwise: a window of accumulated batches that was begun is begun again."""
        if self.is_accumulating:
            self.accumulated_batches.set_data(Tensor(0, ms.int32))
            self.gradients.forget()


def state(step: nn.Cell) -> dict[str, Parameter]:
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
            None computes in bfloat16, which most CPU operators lack.
    """
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
