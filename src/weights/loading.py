"""From any file of weights to a network: our checkpoints, and what :mod:`src.weights.sources` knows."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from mindspore import Parameter, nn

from src.data.imagenet import synsets
from src.errors import UsageError
from src.models import options_of
from src.models.layers import weights
from src.runs.checkpoint import SUFFIX, Checkpoint, read_meta, verify
from src.runs.trained import Trained
from src.settings.config import load_config
from src.weights.assignment import assign_weights
from src.weights.containers import Content, read
from src.weights.mapping import Recognised, in_our_names, recognise
from src.weights.sources import SPOS, Identity

_log = logging.getLogger(__name__)
# Options that no weight depends on.
FREE_OPTIONS = ("bn_momentum", "bn_variance", "dropout", "init")
CLASSIFIER = ("classifier.weight", "classifier.bias")


@dataclasses.dataclass(frozen=True)
class Imported:
    """A file of weights that is no checkpoint of ours, but one of a network of ours.

    Attributes:
        content: as it stands in the file.
        recognised: its tensors, and whose they are.
        identity: the network.
        trained: what is known of it.
    """

    content: Content
    recognised: Recognised
    identity: Identity
    trained: Trained

    def weights(self, network: nn.Cell, may_lack: tuple[str, ...] = ()) -> dict[str, np.ndarray]:
        """Under the names of ``network``. Raises UsageError for tensors missing or left over."""
        return in_our_names(self.recognised, self.identity, weights(network), may_lack)


def imported(
    content: Content, model: str = "", options: Mapping[str, Any] | None = None, source: str = ""
) -> Imported | None:
    """What a file that is no checkpoint of ours holds; None where it does not tell its network, nor does ``model``.

    Args:
        model, options: the network asked for ("": whatever the file holds), and what is asked of its options.
        source: whose form it has ("": whatever it looks like).

    Raises:
        UsageError: of another source, network or form than asked for.
    """
    try:
        recognised = recognise(content, source)
        found = recognised.identity()
    except UsageError as error:
        raise UsageError(error if str(content.path) in str(error) else f"{content.path}: {error}") from error
    if found is None:
        if "model" not in content.meta:
            return None
        trained = Trained.from_meta(content.meta, content.path)
        return Imported(content, recognised, Identity(trained.model, trained.model_options), trained)
    identity = _as_asked(content.path, found, model, options or {})
    if "model" in content.meta:
        said = Trained.from_meta(content.meta, content.path)
        trained = dataclasses.replace(said, model=identity.model, model_options=identity.options)
    else:
        trained = _trained(recognised, identity)
    return Imported(content, recognised, identity, trained)


def _as_asked(path: Path, found: Identity, model: str, given: Mapping[str, Any]) -> Identity:
    """The network of a file under the name that it is asked for by, with the options that are free."""
    if model not in ("", found.model) and not {model, found.model} <= set(SPOS):
        raise UsageError(f"{path} holds weights of {found.model}, not of {model}")
    model = model or found.model
    holds = {key: value for key, value in options_of(*found).items() if key not in FREE_OPTIONS}
    own = options_of(model, {})
    options = {key: value for key, value in holds.items() if _plain(value) != _plain(own[key])}
    wrong = [key for key, value in given.items() if key in holds and _plain(value) != _plain(holds[key])]
    if wrong:
        raise UsageError(f"{path} holds another {model}: give {_flags(holds, wrong)}")
    return Identity(model, {**options, **given})


def _plain(value: Any) -> Any:
    """An option's value, lists of numbers however written as text."""
    return ",".join(map(str, value)) if isinstance(value, (list, tuple)) else str(value).replace(" ", "")


def _flags(options: Mapping[str, Any], keys: list[str]) -> str:
    return " ".join(f"--model_options.{key} {_plain(options[key])}" for key in keys)


def _trained(recognised: Recognised, identity: Identity) -> Trained:
    classes = list(synsets()) if recognised.num_classes == len(synsets()) else []
    preprocessing = recognised.source.preprocessing_of(identity)
    keys = {"model": identity.model, "model_options": identity.options, **recognised.source.supernet}
    config = load_config("", keys)
    known = (recognised.num_classes, classes, preprocessing, config)
    return Trained(*identity, *known, versions={}, device="", source=recognised.source.name)


def _is_ours(content: Content) -> bool:
    return content.container == "MindSpore" and "model" in content.meta


def trained_of(
    path: Path, model: str = "", num_classes: int = 0, options: Mapping[str, Any] | None = None
) -> Trained | None:
    """What a file says of itself; None for weights under our names that no one describes.

    Args:
        model, num_classes, options: the network, class count and options asked for ("", 0 and None: what it holds).

    Raises:
        UsageError: damaged; of another network or class count; it does not say which network it is, nor does ``model``.
    """
    meta = read_meta(path) if path.suffix == SUFFIX else {}
    if "model" in meta:
        trained = Trained.from_meta(meta, path)
        if model not in ("", trained.model):
            raise UsageError(f"{path} is a checkpoint of {trained.model}, not of {model}")
    else:
        verify(path)
        content = read(path)
        found = imported(content, model, options)
        if found is None:
            if not model:
                raise UsageError(
                    f"{path} does not say which network it is, nor do its tensors' names "
                    f"({', '.join(list(content.arrays)[:3])}, …); give --model NAME or --config_path RECIPE"
                )
            return None
        trained = found.trained
        for note in found.recognised.notes:
            _log.info(f"{path}: {note}")
    if num_classes not in (0, trained.num_classes):
        raise UsageError(f"{path} has {trained.num_classes} classes, not {num_classes}")
    return trained


def load_checkpoint(path: str | Path, network: nn.Cell, model: str = "") -> Checkpoint:
    """Loads the weights of a file into ``network``: all of them, or none.

    Args:
        path: a checkpoint of ours, or a file of any source.
        network: as built by ``create_model``.
        model: name in the registry ("": what the file says).

    Returns:
        A checkpoint, its weights under our names.

    Raises:
        UsageError: damaged, of another network, form or class count; each missing, surplus or wrongly shaped
            tensor is named, and the network is left as it was.
    """
    checkpoint = _checkpoint(Path(path), network, model)
    _assign(checkpoint, checkpoint.weights, network, model)
    return checkpoint


def load_pretrained(path: str | Path, network: nn.Cell, model: str = "") -> list[str]:
    """Loads the weights of a file into ``network`` to train from them, all of them or none.

    A classifier for another number of classes is left out, or may be missing: the network's own keeps its first values.

    Args:
        path, network, model: as for :func:`load_checkpoint`.

    Returns:
        Names of what was left out.

    Raises:
        UsageError: as :func:`load_checkpoint`, for anything but the classifier's number of classes.
    """
    checkpoint = _checkpoint(Path(path), network, model, CLASSIFIER)
    own = {name: value for name, value in network.parameters_and_names() if name.startswith("classifier.")}
    left_out = [name for name, value in own.items() if _is_for_other_classes(checkpoint.weights.get(name), value)]
    kept = {name: own[name].asnumpy() for name in left_out}
    _assign(checkpoint, {**checkpoint.weights, **kept}, network, model)
    return left_out


def _is_for_other_classes(array: np.ndarray | None, own: Parameter) -> bool:
    return array is None or (array.shape[:1] != own.shape[:1] and array.shape[1:] == own.shape[1:])


def _checkpoint(path: Path, network: nn.Cell, model: str, may_lack: tuple[str, ...] = ()) -> Checkpoint:
    """A file as a checkpoint of ``model`` (UsageError if it is none), its weights under our names."""
    verify(path)
    content = read(path)
    if _is_ours(content):
        recorded = content.meta.get("model", "")
        if model and recorded and model != recorded:
            raise UsageError(f"{path} is a checkpoint of {recorded}, not of {model}")
        return Checkpoint(path, content.arrays, {}, dict(content.meta))
    options = {key: value for key, value in getattr(network, "options", {}).items() if key not in FREE_OPTIONS}
    found = imported(content, model, options)
    if found is None:
        return Checkpoint(path, content.arrays, {}, {})
    try:
        arrays = found.weights(network, may_lack)
    except UsageError as error:
        raise UsageError(f"{path} does not fit {found.identity.model}: {error}") from error
    return Checkpoint(path, arrays, {}, found.trained.to_meta())


def _assign(checkpoint: Checkpoint, arrays: Mapping[str, np.ndarray], network: nn.Cell, model: str) -> None:
    try:
        assign_weights(network, arrays)
    except UsageError as error:
        of = model or checkpoint.meta.get("model") or "the network"
        raise UsageError(f"{checkpoint.path} does not fit {of}: {error}") from error
