"""Weights by name: those of the upstream MindSpore repositories under ours, and strict loading.

Three upstream networks have a form of their own: Single-Path-NAS (every name may carry the prefix
that its training script adds, ``huawei`` unless told otherwise), ProxylessNAS, and ShuffleNetV1
(where each group of a convolution is a convolution of its own).
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping

import mindspore as ms
import numpy as np
from mindspore import nn

from src.errors import UsageError
from src.models.layers import weights

MAX_NAMED = 20

# What a training checkpoint holds besides the weights.
_SLOTS = re.compile(
    r"(moments?[12]?|accum|stat|mean_square|mean_gradient)\..*|learning_rate|global_step|momentum|weight_decay"
    r"|scale_sense|current_iterator_step|last_overflow_iterator_step|epoch_num|step_num"
)
# The options of our network under which it computes what upstream's does.
_FORMS = {"shufflenetv1": {"pooling": "same", "shuffle": "before"}}


def _spnasnet() -> Iterator[tuple[str, str]]:
    yield "0.conv1.", "features.stem."
    yield "0.conv2.conv1.", "features.stage0.0.depthwise."
    yield "0.conv2.conv2.", "features.stage0.0.project."
    units = [(f"{stage}.{unit}", f"stage{stage}.{unit}") for stage in range(1, 5) for unit in range(8)]
    for theirs, ours in [*units, ("5.conv1", "stage5.0")]:
        yield f"{theirs}.exp_conv.", f"features.{ours}.expand."
        yield f"{theirs}.conv1.", f"features.{ours}.depthwise."
        yield f"{theirs}.conv2.", f"features.{ours}.project."
    yield "5.conv2.", "features.head."


def _proxylessnas() -> Iterator[tuple[str, str]]:
    yield "init_block.", "features.stem."
    for stage in range(1, 6):
        for unit in range(8):
            for theirs, ours in (("bc_conv", "expand"), ("dw_conv", "depthwise"), ("pw_conv", "project")):
                yield f"stage{stage}.unit{unit + 1}.body.{theirs}.", f"features.stage{stage}.{unit}.{ours}."
    yield "final_block.", "features.head."


def _shufflenetv1() -> Iterator[tuple[str, str]]:
    yield "first_conv.0.", "features.stem.conv."
    yield "first_conv.1.", "features.stem.norm."
    units = [f"stage{stage}.{unit}" for stage, repeats in ((1, 4), (2, 8), (3, 4)) for unit in range(repeats)]
    cells = ("1.0", "expand.conv"), ("1.1", "expand.norm"), ("2.0", "depthwise.conv"), ("2.1", "depthwise.norm")
    for number, unit in enumerate(units):
        for theirs, ours in (*cells, ("2.2", "project.conv"), ("2.3", "project.norm")):
            yield f"{number}.branch_main_{theirs}.", f"features.{unit}.{ours}."


# Network: name of the classifier upstream, and upstream's beginnings of names against ours.
_UPSTREAM = {
    "spnasnet": ("output", dict(_spnasnet())),
    "proxylessnas_mobile": ("output", dict(_proxylessnas())),
    "shufflenetv1": ("classifier", dict(_shufflenetv1())),
}


def translate(model_name: str, arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray] | None:
    """The weights of an upstream checkpoint under our names, without its optimizer's slots.

    A name that upstream's network does not have is kept as it is, for :func:`assign_weights` to refuse.

    Args:
        model_name: name in the registry.
        arrays: content of the file by name.

    Returns:
        None if ``arrays`` is not in upstream's form, or there is none of that network.

    Raises:
        UsageError: two tensors of the file stand for the same weight, or groups do not fit together.
    """
    if model_name not in _UPSTREAM:
        return None
    classifier, beginnings = _UPSTREAM[model_name]
    prefix = _prefix(arrays, f"{classifier}.weight")
    parts: dict[str, dict[int, np.ndarray]] = defaultdict(dict)
    recognised = False
    for name, array in arrays.items():
        bare = name.removeprefix(prefix)
        if _SLOTS.fullmatch(bare) or _SLOTS.fullmatch(name):
            continue
        group = re.search(r"\.convs\.(\d+)\.weight$", bare)
        ours = _renamed(bare.replace(group[0], ".weight") if group else bare, classifier, beginnings)
        recognised |= ours is not None and not ours.startswith("classifier.")
        ours, index = ours or name, int(group[1]) if group else 0
        if index in parts[ours]:
            raise UsageError(f"two tensors stand for {ours}, one of them is {name}")
        parts[ours][index] = array
    return {name: _merged(name, groups) for name, groups in parts.items()} if recognised else None


def network_of(names: Iterable[str]) -> str:
    """The network whose upstream weights bear ``names``, and no others; ``""`` if there is none."""
    listed = list(names)
    for network, (classifier, beginnings) in _UPSTREAM.items():
        prefix = _prefix(listed, f"{classifier}.weight")
        learned = [name.removeprefix(prefix) for name in listed if not _SLOTS.fullmatch(name)]
        learned = [name for name in learned if not _SLOTS.fullmatch(name)]
        ours = [_renamed(re.sub(r"\.convs\.\d+\.weight$", ".weight", name), classifier, beginnings) for name in learned]
        if None not in ours and any(not name.startswith("classifier.") for name in ours):
            return network
    return ""


def form_of(network: str) -> dict[str, str]:
    """The options of our network under which it computes what upstream's does."""
    return dict(_FORMS.get(network, {}))


def _prefix(names: Iterable[str], anchor: str) -> str:
    """What stands before ``anchor`` in the shortest name that ends with it: before every name, then."""
    ending = [name for name in names if name.endswith(anchor)]
    return min(ending, key=len).removesuffix(anchor) if ending else ""


def _renamed(name: str, classifier: str, beginnings: Mapping[str, str]) -> str | None:
    if name.startswith(f"{classifier}."):
        return f"classifier.{name.removeprefix(f'{classifier}.')}"
    name = name.removeprefix("features.")
    for theirs, ours in beginnings.items():
        if name.startswith(theirs):
            return ours + re.sub(r"^bn\.", "norm.", name.removeprefix(theirs))
    return None


def _merged(name: str, groups: Mapping[int, np.ndarray]) -> np.ndarray:
    """A grouped convolution's weight from its groups' own, in order, along the output channels."""
    if len(groups) == 1:
        return next(iter(groups.values()))
    arrays = [groups[index] for index in sorted(groups)]
    if len({array.shape[1:] for array in arrays}) > 1 or arrays[0].ndim == 0:
        raise UsageError(f"the groups of {name} have shapes that do not fit together")
    return np.concatenate(arrays)


def form_mismatch(model_name: str, net: nn.Cell) -> str:
    """Why ``net`` does not compute what upstream's network would from the same weights, and what to
    do about it; empty if it does. ShuffleNetV1 upstream pools with ``pooling: same``."""
    options = getattr(net, "options", {})
    wanted = {key: value for key, value in _FORMS.get(model_name, {}).items() if options.get(key) != value}
    if not wanted:
        return ""
    flags = " ".join(f"--model_options.{key} {value}" for key, value in wanted.items())
    return f"upstream's {model_name} weights belong to another form of the network: give {flags}"


def assign_weights(net: nn.Cell, arrays: Mapping[str, np.ndarray]) -> None:
    """Sets every weight and batch-norm statistic of ``net``, or nothing.

    Raises:
        UsageError: names each missing, surplus, wrongly shaped or wrongly typed tensor (at most
            MAX_NAMED of a kind, then their number); ``net`` is then as it was.
    """
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
        raise UsageError("; ".join(f"{kind}: {_listed(names)}" for kind, names in kinds.items() if names))
    for name, parameter in expected.items():
        parameter.set_data(ms.Tensor(arrays[name]))


def _listed(names: list[str]) -> str:
    more = f" and {len(names) - MAX_NAMED} more" if len(names) > MAX_NAMED else ""
    return ", ".join(names[:MAX_NAMED]) + more
