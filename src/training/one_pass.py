"""What follows the gradients, with one operator for all parameters: the check that they are finite, and the update.

The optimizers are those of `src.training.optimizer`: state, its names and the learning rates are the base classes'
own, so a checkpoint serves either. Sums are rounded once where the framework's operators round twice (fused
multiply-add): the last bit may differ.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import mindspore as ms
import numpy as np
from mindspore import Parameter, Tensor, nn

from src.cpu import operators_in
from src.cpu.operators import Operators, constant
from src.settings.sections import Optimizer
from src.training.optimizer import TensorFlowRMSProp, create_optimizer


class AllFinite(nn.Cell):
    """Gradients to a boolean Tensor (): what ``mindspore.amp.all_finite`` does with four operators for each of them."""

    def __init__(self, operators: Operators):
        super().__init__()
        self.all_finite = operators.all_finite

    def construct(self, gradients):
        return self.all_finite(*gradients)[0] > 0


class OnePass(nn.Optimizer):
    """What the three share: a step without the framework's decay, scale and one operator for each parameter."""

    def prepare(self, operators: Operators, shares: Sequence[float]) -> None:
        self.update = operators.update(self.rule)
        self.factor, self.settings = constant(1.0 / self.loss_scale), constant(*self.numbers())
        self.decays = Tensor(np.array(self.group_weight_decay, np.float32))
        self.shares = Tensor(np.array(shares or [1.0] * len(self.group_weight_decay), np.float32))

    def construct(self, gradients):
        rate = self.get_lr()
        self.assignadd(self.global_step, self.global_step_increase_tensor)
        lists = (*self.parameters, *self.states(), *gradients)
        return self.update(rate, self.factor, self.settings, self.decays, self.shares, *lists)


class FusedMomentum(OnePass, nn.Momentum):
    rule = "momentum"

    def numbers(self) -> tuple[float, ...]:
        return float(self.momentum.asnumpy()), 0.0

    def states(self):
        return self.moments


class FusedSGD(OnePass, nn.SGD):
    rule = "marked_momentum"

    def numbers(self) -> tuple[float, ...]:
        return float(self.momentum.asnumpy()), float(self.nesterov)

    def states(self):
        return (*self.accum, *self.stat)


class FusedRMSProp(OnePass, TensorFlowRMSProp):
    rule = "rmsprop"

    def numbers(self) -> tuple[float, ...]:
        return tuple(float(value.asnumpy()) for value in (self.decay, self.momentum, self.epsilon))

    def states(self):
        return (*self.mean_square, *self.moment)


FUSED_OPTIMIZERS = {nn.Momentum: FusedMomentum, nn.SGD: FusedSGD, TensorFlowRMSProp: FusedRMSProp}


def update_in_one_pass(optimizer: nn.Optimizer, operators: Operators, shares: Sequence[float] = ()) -> None:
    """Gives an optimizer of `src.training.optimizer.create_optimizer` the one-pass update, before its first step.

    Args:
        optimizer: made without shares of the rate.
        shares: of the rate, for each parameter (all of it, if not given).
    """
    object.__setattr__(optimizer, "__class__", FUSED_OPTIMIZERS[type(optimizer)])
    optimizer.prepare(operators, shares)


def optimizer_for(
    network: nn.Cell,
    params: Sequence[Parameter],
    config: Optimizer,
    rates: float | np.ndarray,
    shares: Sequence[float] = (),
) -> tuple[nn.Optimizer, Callable[[tuple[Tensor, ...]], Tensor]]:
    """The optimizer over ``params``, with the one-pass update if ``network`` computes with the fused operators, and the
    check for infinities that goes with it: gradients to a boolean Tensor ().

    Args:
        params, config, rates, shares: of :func:`src.training.optimizer.create_optimizer`.
    """
    operators = operators_in(network)
    if operators is None:
        return create_optimizer(params, config, rates, shares=shares), ms.amp.all_finite
    optimizer = create_optimizer(params, config, rates)
    update_in_one_pass(optimizer, operators, shares)
    return optimizer, AllFinite(operators)
