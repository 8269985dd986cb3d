"""The registry of networks. Every module of this folder that registers a network is found by itself."""

from __future__ import annotations

import dataclasses
import fnmatch
import importlib
import pkgutil
from collections.abc import Callable

from mindspore import nn

from src.errors import UsageError
from src.nearest import nearest
from src.preprocessing import Preprocessing


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
        build: ``build(num_classes, **options)`` returns the cell.
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


def create_model(name: str, num_classes: int = 1000, **options) -> nn.Cell:
    """Builds network ``name``: a cell from images [N, 3, H, W] to logits [N, num_classes].

    Raises:
        UsageError: no such network, option or option value; the message lists what exists.
    """
    entry = get_entry(name)
    if num_classes < 1:
        raise UsageError(f"num_classes must be at least 1, not {num_classes}")
    return entry.build(num_classes, **options)


for _module in pkgutil.iter_modules(__path__):
    importlib.import_module(f"{__name__}.{_module.name}")
