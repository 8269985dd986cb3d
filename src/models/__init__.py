"""The registry of networks. Every module of this folder that registers a network is found by itself."""

from __future__ import annotations

import dataclasses
import fnmatch
import importlib
import inspect
import pkgutil
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from mindspore import nn

from src.data.preprocessing import Preprocessing
from src.errors import UsageError, nearest


@dataclasses.dataclass(frozen=True)
class Published:
    """An accuracy somebody else reports; never one measured here.

    Attributes:
        variant: the options it belongs to, in words.
        top1, top5: fractions (None: not reported).
        source: who reports it, and where.
    """

    variant: str
    top1: float
    top5: float | None
    source: str


@dataclasses.dataclass(frozen=True)
class ModelEntry:
    """A network of the zoo and what belongs to it.

    Attributes:
        name: as given to :func:`create_model`.
        build: ``build(num_classes, **options)`` returns the cell; its keyword arguments are the
            network's options.
        paper: title and arXiv number.
        preprocessing: evaluation preprocessing at the network's own input size.
        published: accuracies reported by others.
        variants: option sets that exist and are worth listing; the first is the default.
    """

    name: str
    build: Callable[..., nn.Cell]
    paper: str
    preprocessing: Preprocessing = dataclasses.field(default_factory=Preprocessing)
    published: tuple[Published, ...] = ()
    variants: tuple[dict, ...] = ({},)


_ENTRIES: dict[str, ModelEntry] = {}


def register(entry: ModelEntry) -> ModelEntry:
    """Adds ``entry``; a second network of the same name is an error."""
    if entry.name in _ENTRIES:
        raise ValueError(f"two networks are named {entry.name}")
    _ENTRIES[entry.name] = entry
    return entry


def list_models(pattern: str = "*") -> list[str]:
    """Names of the registered networks that match the wildcard ``pattern``, sorted."""
    return sorted(fnmatch.filter(_ENTRIES, pattern))


def get_entry(name: str) -> ModelEntry:
    """The entry of network ``name``. Raises UsageError naming what exists."""
    if name not in _ENTRIES:
        raise UsageError(f"there is no network {name!r}{nearest(name, _ENTRIES)}; there are {', '.join(list_models())}")
    return _ENTRIES[name]


def options_of(name: str, given: Mapping[str, Any]) -> dict[str, Any]:
    """All options of network ``name``: those ``given``, and the others at their defaults.

    Raises:
        UsageError: no such network or option; the message lists what exists.
    """
    _, *known = inspect.signature(get_entry(name).build).parameters.values()
    defaults = {parameter.name: parameter.default for parameter in known}
    for option in given:
        if option not in defaults:
            there_are = f"there are {', '.join(defaults)}" if defaults else "it has none"
            raise UsageError(f"{name} has no option {option!r}{nearest(option, defaults)}; {there_are}")
    return {**defaults, **given}


def create_model(name: str, num_classes: int = 1000, **options) -> nn.Cell:
    """Builds network ``name``: a cell from images [N, 3, H, W] to logits [N, num_classes], whose
    attribute ``options`` holds what it was built with, defaults included.

    Raises:
        UsageError: no such network, option or option value; the message lists what exists.
    """
    options = options_of(name, options)
    if num_classes < 1:
        raise UsageError(f"num_classes must be at least 1, not {num_classes}")
    network = get_entry(name).build(num_classes, **options)
    network.options = options
    return network


def one_of(option: str, value: Any, known: Iterable) -> Any:
    """The member of ``known`` equal to ``value``. Raises UsageError listing them if there is none."""
    known = list(known)
    for member in known:
        if member == value and isinstance(member, bool) == isinstance(value, bool):
            return member
    raise UsageError(f"{option} {value!r} does not exist; there are {', '.join(map(repr, known))}")


def share(option: str, value: Any) -> float:
    """``value`` as a float if it is a number with 0 <= value < 1. Raises UsageError otherwise."""
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0.0 <= value < 1.0:
        raise UsageError(f"{option} must be a number from 0 up to, not including, 1; not {value!r}")
    return float(value)


for _module in pkgutil.iter_modules(__path__):
    importlib.import_module(f"{__name__}.{_module.name}")
