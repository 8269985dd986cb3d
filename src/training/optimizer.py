"""Optimizers: which parameters decay, and the four update rules."""

from __future__ import annotations

from collections.abc import Sequence

import mindspore as ms
import numpy as np
from mindspore import Parameter, Tensor, nn, ops

from src.errors import UsageError
from src.settings.sections import Optimizer


def decays(name: str, ndim: int, weight_decay_on: str) -> bool:
    """Whether the parameter ``name`` with ``ndim`` axes is subject to weight decay.

    Args:
        weight_decay_on: ``weights`` (kernels of convolutions and dense layers only),
            ``weights_and_biases`` (all but batch norm's gamma and beta: what MindSpore does when it is
            given no groups) or ``all``.
    """
    if weight_decay_on == "weights":
        return ndim >= 2
    if weight_decay_on == "weights_and_biases":
        return name.rpartition(".")[2] not in ("gamma", "beta")
    return True


def decay_groups(params: Sequence[Parameter], weight_decay: float, weight_decay_on: str) -> list[dict]:
    """``params`` as MindSpore parameter groups, the original order kept.

    Each group states its weight decay, 0.0 too: a group that states none gets the optimizer's own.
    """
    groups = {weight_decay: [], 0.0: []}
    for param in params:
        decayed = decays(param.name, param.ndim, weight_decay_on)
        groups[weight_decay if decayed else 0.0].append(param)
    stated = [{"params": members, "weight_decay": decay} for decay, members in groups.items() if members]
    return [*stated, {"order_params": list(params)}]


_rmsprop_update = ops.MultitypeFuncGraph("rmsprop_update")


@_rmsprop_update.register("Tensor", "Tensor", "Tensor", "Tensor", "Tensor", "Tensor", "Tensor", "Tensor")
def _rmsprop_update_one(decay, momentum, epsilon, rate, param, mean_square, moment, gradient):
    new_mean_square = decay * mean_square + (1 - decay) * gradient * gradient
    new_moment = momentum * moment + rate * gradient * ops.rsqrt(new_mean_square + epsilon)
    ops.assign(mean_square, new_mean_square)
    ops.assign(moment, new_moment)
    return ops.assign(param, param - new_moment)


class TensorFlowRMSProp(nn.Optimizer):
    """RMSProp as TensorFlow 1 computes it, and so as MnasNet was trained.

    ``s = decay * s + (1 - decay) * g^2; m = momentum * m + rate * g / sqrt(s + epsilon); w = w - m``
    with s starting at ones. Epsilon is under the root. nn.RMSProp is not used because its CPU kernel
    takes epsilon outside the root for all but the last few elements of a tensor, and is not repeatable.
    """

    def __init__(
        self,
        params: list,
        learning_rate: float | Tensor,
        decay: float,
        momentum: float,
        epsilon: float,
        loss_scale: float = 1.0,
    ):
        super().__init__(learning_rate, params, weight_decay=0.0, loss_scale=loss_scale)
        self.decay = Tensor(decay, ms.float32)
        self.momentum = Tensor(momentum, ms.float32)
        self.epsilon = Tensor(epsilon, ms.float32)
        self.mean_square = self._parameters.clone(prefix="mean_square", init="ones")
        self.moment = self._parameters.clone(prefix="moment", init="zeros")

    def construct(self, gradients):
        gradients = self.scale_grad(self.decay_weight(gradients))
        rate = self.get_lr()
        self.assignadd(self.global_step, self.global_step_increase_tensor)
        update = ops.partial(_rmsprop_update, self.decay, self.momentum, self.epsilon, rate)
        return self.hyper_map(update, self._parameters, self.mean_square, self.moment, gradients)


def create_optimizer(
    params: Sequence[Parameter], config: Optimizer, rates: float | np.ndarray, loss_scale: float = 1.0
) -> nn.Optimizer:
    """The optimizer of the configuration over the trainable ``params``.

    ``momentum`` and ``sgd`` are one rule, ``v = momentum * v + g; w = w - lr * v``, through two MindSpore cells;
    ``nesterov`` is ``w = w - lr * (g + momentum * v)``, ``rmsprop`` :class:`TensorFlowRMSProp`. ``weight_decay * w``
    is added to the gradient of what decays (:func:`decays`).

    Args:
        rates: one rate, or float32 [updates]: the rate of each update, indexed by ``global_step``.
        loss_scale: gradients are divided by it (1.0 where the training step has done so).

    Raises:
        UsageError: nesterov without momentum.
    """
    if config.optimizer == "nesterov" and config.momentum == 0:
        raise UsageError("optimizer nesterov needs a momentum above 0; take sgd for none")
    groups = decay_groups(params, config.weight_decay, config.weight_decay_on)
    rate = float(rates) if np.ndim(rates) == 0 else Tensor(np.asarray(rates, np.float32))
    if config.optimizer == "momentum":
        return nn.Momentum(groups, rate, config.momentum, loss_scale=loss_scale)
    if config.optimizer == "rmsprop":
        return TensorFlowRMSProp(groups, rate, config.rms_decay, config.momentum, config.rms_epsilon, loss_scale)
    # nn.Momentum(use_nesterov=True) is plain momentum on the CPU; nn.SGD is right everywhere.
    return nn.SGD(groups, rate, config.momentum, nesterov=config.optimizer == "nesterov", loss_scale=loss_scale)
