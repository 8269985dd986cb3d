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


def parameter_groups(
    params: Sequence[Parameter], config: Optimizer, rates: np.ndarray | float, shares: Sequence[float]
) -> list[dict]:
    """``params`` as MindSpore parameter groups, the original order kept.

    Each group states its weight decay, 0.0 too: a group that states none gets the optimizer's own. Where the ``shares``
    of the learning rate differ, each states its rates as well.
    """
    groups: dict[tuple[float, float], list[Parameter]] = {}
    for param, share in zip(params, shares, strict=True):
        decayed = decays(param.name, param.ndim, config.weight_decay_on)
        groups.setdefault((config.weight_decay if decayed else 0.0, share), []).append(param)
    stated: list[dict] = [{"params": members, "weight_decay": decay} for (decay, _), members in groups.items()]
    if set(shares) != {1.0}:
        for group, (_, share) in zip(stated, groups, strict=True):
            group["lr"] = _as_rate(rates * np.float32(share))
    return [*stated, {"order_params": list(params)}]


def _as_rate(rates: np.ndarray | float) -> Tensor | float:
    return float(rates) if np.ndim(rates) == 0 else Tensor(np.asarray(rates, np.float32))


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
        lists = self._parameters, self.mean_square, self.moment, gradients
        if self.is_group_lr:
            update = ops.partial(_rmsprop_update, self.decay, self.momentum, self.epsilon)
            return self.hyper_map(update, rate, *lists)
        update = ops.partial(_rmsprop_update, self.decay, self.momentum, self.epsilon, rate)
        return self.hyper_map(update, *lists)


def create_optimizer(
    params: Sequence[Parameter],
    config: Optimizer,
    rates: float | np.ndarray,
    loss_scale: float = 1.0,
    shares: Sequence[float] = (),
) -> nn.Optimizer:
    """The optimizer of the configuration over the trainable ``params``.

    ``momentum`` and ``sgd`` are one rule, ``v = momentum * v + g; w = w - lr * v``, through two MindSpore cells;
    ``nesterov`` is ``w = w - lr * (g + momentum * v)``, ``rmsprop`` :class:`TensorFlowRMSProp`. ``weight_decay * w``
    is added to the gradient of what decays (:func:`decays`).

    Args:
        rates: one rate, or float32 [updates]: the rate of each update, indexed by ``global_step``.
        loss_scale: gradients are divided by it (1.0 where the training step has done so).
        shares: of the rate, for each of ``params`` (all of it, if not given).

    Raises:
        UsageError: nesterov without momentum.
    """
    if config.optimizer == "nesterov" and config.momentum == 0:
        raise UsageError("optimizer nesterov needs a momentum above 0; take sgd for none")
    groups = parameter_groups(params, config, rates, shares or [1.0] * len(params))
    rate = _as_rate(rates)
    if config.optimizer == "momentum":
        return nn.Momentum(groups, rate, config.momentum, loss_scale=loss_scale)
    if config.optimizer == "rmsprop":
        return TensorFlowRMSProp(groups, rate, config.rms_decay, config.momentum, config.rms_epsilon, loss_scale)
    # nn.Momentum(use_nesterov=True) is plain momentum on the CPU; nn.SGD is right everywhere.
    return nn.SGD(groups, rate, config.momentum, nesterov=config.optimizer == "nesterov", loss_scale=loss_scale)
