"""Fast convolutional networks on the CPU: the cells of `src.models.layers` with operators of our own inside.

MindSpore's convolutions are slow on the CPU: it tells oneDNN the layout of the weights, which leaves reference loops
(AVX-512) or matrix products (AVX2) for every kernel but ungrouped 1x1. Parameters, their names and checkpoints are the
same either way; export needs the standard cells (a custom operator is no part of ONNX or MindIR), so a network is
switched for a run by :func:`use_operators` and back by ``use_operators(net, "standard")``.
"""

from __future__ import annotations

import logging

import mindspore as ms
from mindspore import nn

from src.cpu.build import BuildError, library
from src.cpu.cells import FUSED, FusedConvNormAct, conv_kind
from src.cpu.inference import Inference, NoProgram
from src.cpu.operators import Operators
from src.errors import UsageError
from src.models import layers

_log = logging.getLogger(__name__)
MODES = ("auto", "fused", "standard")


def use_operators(net: nn.Cell, mode: str = "auto") -> str:
    """Switches the cells of ``net`` to the operators of ``mode``; before its first call, or its export.

    Args:
        net: built of cells of `src.models.layers`; with any other cell between them only ``standard`` applies.
        mode: ``fused``, C++ built on first use; ``standard``, MindSpore's own; ``auto``, ``fused`` on the CPU. Where
            ``fused`` cannot be had, ``standard`` stands in, and a line says so.

    Returns:
        The mode that is in use.

    Raises:
        UsageError: unknown mode.
    """
    if mode not in MODES:
        raise UsageError(f"cpu_operators is {mode!r}; it must be one of {', '.join(MODES)}")
    _swap(net, {})
    if mode == "standard" or ms.get_context("device_target") != "CPU":
        return "standard"
    try:
        _check_cells(net)
        operators = Operators(library())
    except BuildError as error:
        _log.info(f"CPU operators: {error}; MindSpore's own are used instead")
        return "standard"
    _swap(net, FUSED, operators)
    return "fused"


def inference(net: nn.Cell) -> nn.Cell:
    """A cell that computes what ``net`` computes in evaluation, as one operator and without gradients.

    Parameters that change later are seen. ``net`` itself where there is nothing faster: operators other than
    ``fused``, or a network that is no `layers.Network` of the cells there.
    """
    operators = operators_in(net)
    if operators is None or not isinstance(net, layers.Network):
        return net
    try:
        return Inference(net, operators)
    except NoProgram:
        return net


def operators_in(net: nn.Cell) -> Operators | None:
    """The fused operators if ``net`` computes with them."""
    is_fused = any(isinstance(cell, FusedConvNormAct) for _, cell in net.cells_and_names())
    return Operators(library()) if is_fused else None


def _check_cells(net: nn.Cell) -> None:
    for name, cell in net.cells_and_names():
        if isinstance(cell, layers.ConvNormAct) and not isinstance(cell.norm, nn.Identity):
            if type(cell.norm) is not nn.BatchNorm2d:
                raise BuildError(f"they have no {type(cell.norm).__name__} ({name})")
            if conv_kind(cell) is None:
                raise BuildError(f"they have no convolution like {name}")


def _swap(net: nn.Cell, classes: dict[type[nn.Cell], type[nn.Cell]], *prepared_with: Operators) -> None:
    for _, cell in net.cells_and_names():
        standard = next((kind for kind in FUSED if isinstance(cell, kind)), None)
        if standard is None:
            continue
        if standard is layers.ConvNormAct and isinstance(cell.norm, nn.Identity):
            kind = standard
        else:
            kind = classes.get(standard, standard)
        # The class and nothing else: children, parameters and their names are the cell's own.
        object.__setattr__(cell, "__class__", kind)
        if kind is not standard:
            cell.prepare(*prepared_with)
