"""What follows the gradients, with one operator for all parameters: the check that they are finite, and the update.

The optimizers are those of `src.training.optimizer`: state, its names and the learning rates are the base classes'
own, so a checkpoint serves either. Sums are rounded once where the framework's operators round twice (fused
multiply-add): the last bit may differ.
"""

from __future__ import annotations

from collections.abc import Callable

import mindspore as ms
import numpy as np
from mindspore import Tensor, nn

from src.cpu import operators_in
from src.cpu.operators import Operators, constant
from src.training.optimizer import TensorFlowRMSProp


class AllFinite(nn.Cell):
    """Gradients to a boolean Tensor (): what ``mindspore.amp.all_finite`` does with four operators for each of them."""

    def __init__(self, operators: Operators):
        super().__init__()
        self.all_finite = operators.all_finite

    def construct(self, gradients):
        return self.all_finite(*gradients)[0] > 0


class OnePass(nn.Optimizer):
    """What the three share: a step without the framework's decay, scale and one operator for each parameter."""

    def prepare(self, operators: Operators) -> None:
        self.update = operators.update(self.rule)
        self.factor, self.settings = constant(1.0 / self.loss_scale), constant(*self.numbers())
        self.shares = Tensor(np.array(self.group_weight_decay, np.float32))
        self.every = Tensor(np.ones(len(self.group_weight_decay), np.float32))

    def construct(self, gradients):
        rate = self.get_lr()
        self.assignadd(self.global_step, self.global_step_increase_tensor)
        lists = (*self.parameters, *self.states(), *gradients)
        return self.update(rate, self.factor, self.settings, self.shares, self.every, *lists)


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


def update_in_one_pass(optimizer: nn.Optimizer, operators: Operators) -> None:
    """Gives an optimizer of `src.training.optimizer.create_optimizer` the one-pass update, before its first step."""
    object.__setattr__(optimizer, "__class__", FUSED_OPTIMIZERS[type(optimizer)])
    optimizer.prepare(operators)


def after_gradients(network: nn.Cell, optimizer: nn.Optimizer) -> Callable[[tuple[Tensor, ...]], Tensor]:
    """Gives ``optimizer`` the one-pass update if ``network`` computes with the fused operators.

    Returns:
        The check for infinities that goes with it: gradients to a boolean Tensor ().
    """
    operators = operators_in(network)
    if operators is None:
        return ms.amp.all_finite
    update_in_one_pass(optimizer, operators)
    return AllFinite(operators)
