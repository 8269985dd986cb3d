"""Stochastic gradient descent that leaves everything off the path as it is.

A gradient of zero is not enough for that: momentum and weight decay would go on moving the weights. So
only the parameters of the path are updated, outside the graph; that also spares a graph with a select
for each of the supernet's tensors, which took as long to compile as the gradients.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

import mindspore as ms
import numpy as np
from mindspore import Parameter, ParameterTuple, Tensor, nn, ops

from src.cpu.operators import Operators, constant
from src.training.optimizer import decays


class PathSGD(nn.Cell):
    """``v = momentum v + g + decay w; w = w - rate v``, or Nesterov's ``w = w - rate (g + decay w + momentum v)``,
    for chosen parameters; all others and their velocities stay equal to the bit.

    Args:
        parameters: all that are trained.
        weight_decay, weight_decay_on: as in :mod:`src.training.optimizer`.
        operators: of the CPU, of which one updates all parameters at once; None: the framework's, one by one.
    """

    def __init__(
        self,
        parameters: Sequence[Parameter],
        momentum: float,
        is_nesterov: bool,
        weight_decay: float,
        weight_decay_on: str,
        operators: Operators | None = None,
    ):
        super().__init__(auto_prefix=False)
        self.parameters = ParameterTuple(parameters)
        self.velocities = self.parameters.clone(prefix="velocity", init="zeros")
        for velocity in self.velocities:
            velocity.requires_grad = False
        decayed = [decays(p.name, p.ndim, weight_decay_on) for p in parameters]
        self.operators = operators
        if operators:
            self.one_pass = operators.update("momentum")
            self.factor, self.settings = constant(1.0), constant(momentum, is_nesterov)
            self.shares = constant(*[weight_decay * is_decayed for is_decayed in decayed])
        else:
            self.momentum = Tensor(momentum, ms.float32)
            rules = {is_decayed: ops.SGD(0.0, weight_decay * is_decayed, is_nesterov) for is_decayed in (False, True)}
            self.rules = [rules[is_decayed] for is_decayed in decayed]
            # The operator's mark of a first update, which it need not know: the velocities start at zero.
            marks = {p.shape: ops.zeros(p.shape, ms.float32) for p in parameters}
            self.marks = [marks[p.shape] for p in parameters]

    def update(self, chosen: Collection[int], gradients: Sequence[Tensor], rate: float) -> None:
        """One update of the parameters whose index is ``chosen``.

        Args:
            gradients: of all parameters; only those of the chosen are read.
        """
        if self.operators:
            marks = np.zeros(len(self.parameters), np.float32)
            marks[list(chosen)] = 1
            numbers = constant(rate), self.factor, self.settings, self.shares, Tensor(marks)
            self.one_pass(*numbers, *self.parameters, *self.velocities, *gradients)
            return
        rate_tensor = Tensor(rate, ms.float32)
        for index in chosen:
            parameter, velocity = self.parameters[index], self.velocities[index]
            self.rules[index](parameter, gradients[index], rate_tensor, velocity, self.momentum, self.marks[index])
