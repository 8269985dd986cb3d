"""Strict loading: every weight of a network, or none."""

from __future__ import annotations

from collections.abc import Mapping

import mindspore as ms
import numpy as np
from mindspore import nn

from src.errors import UsageError
from src.models.layers import weights

MAX_NAMED = 20


def assign_weights(net: nn.Cell, arrays: Mapping[str, np.ndarray]) -> None:
    """Sets every weight and batch-norm statistic of ``net``, or nothing.

    Raises:
        UsageError: names each missing, surplus, wrongly shaped or wrongly typed tensor (at most
            MAX_NAMED of a kind, then their number); ``net`` is then as it was.
    """
    check_fit(net, arrays)
    for name, parameter in weights(net).items():
        parameter.set_data(ms.Tensor(arrays[name]))


def check_fit(net: nn.Cell, arrays: Mapping[str, np.ndarray]) -> None:
    """Raises as :func:`assign_weights` does, which sets nothing then."""
    expected = weights(net)
    missing = [name for name in expected if name not in arrays]
    surplus = [name for name in arrays if name not in expected]
    misshapen, mistyped = [], []
    for name, parameter in expected.items():
        if name not in arrays:
            continue
        array, dtype = arrays[name], str(parameter.dtype).lower()
        if array.shape != parameter.shape:
            misshapen.append(f"{name} {list(array.shape)} instead of {list(parameter.shape)}")
        elif array.dtype.name != dtype:
            mistyped.append(f"{name} {array.dtype} instead of {dtype}")
    kinds = {"missing": missing, "surplus": surplus, "wrong shape": misshapen, "wrong type": mistyped}
    if any(kinds.values()):
        raise UsageError("; ".join(f"{kind}: {listed(names)}" for kind, names in kinds.items() if names))


def listed(names: list[str]) -> str:
    """The first names of a list, and how many more there are."""
    more = f" and {len(names) - MAX_NAMED} more" if len(names) > MAX_NAMED else ""
    return ", ".join(names[:MAX_NAMED]) + more
