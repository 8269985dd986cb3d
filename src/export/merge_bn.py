"""Folds batch normalisation into the convolutions in front of it (inference only)."""

from __future__ import annotations

import mindspore as ms
import numpy as np
from mindspore import Tensor, nn

from src.models.layers import ConvNormAct


def merge_batch_norm(network: nn.Cell) -> int:
    """Gives every convolution the scale and shift of its batch normalisation, which goes away; returns how many.

    With y = gamma (w x - mean) / sqrt(variance + eps) + beta, per output channel, the new weight is
    w gamma / sqrt(variance + eps) and the new bias beta - mean gamma / sqrt(variance + eps). Computed in float64,
    stored in float32. ``network`` is changed in place.
    """
    merged = 0
    for _, cell in network.cells_and_names():
        if isinstance(cell, ConvNormAct) and isinstance(cell.norm, nn.BatchNorm2d):
            _merge(cell)
            merged += 1
    for name, parameter in network.parameters_and_names():  # the exporters need a name of its own for each
        parameter.name = name
    return merged


def _merge(cell: ConvNormAct) -> None:
    norm = cell.norm
    gamma, beta, mean, variance = (
        parameter.asnumpy().astype(np.float64)
        for parameter in (norm.gamma, norm.beta, norm.moving_mean, norm.moving_variance)
    )
    scale = gamma / np.sqrt(variance + norm.eps)
    weight = cell.conv.weight.asnumpy().astype(np.float64) * scale.reshape(-1, 1, 1, 1)
    conv = cell.conv
    folded = nn.Conv2d(
        conv.in_channels,
        conv.out_channels,
        conv.kernel_size,
        conv.stride,
        pad_mode=conv.pad_mode,
        padding=conv.padding,
        dilation=conv.dilation,
        group=conv.group,
        has_bias=True,
    )
    folded.weight.set_data(Tensor(weight.astype(np.float32), ms.float32))
    folded.bias.set_data(Tensor((beta - mean * scale).astype(np.float32), ms.float32))
    cell.conv, cell.norm = folded, nn.Identity()
