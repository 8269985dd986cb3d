"""Tensors under others' names and forms as our networks' weights, and back, with no bit lost or changed."""

from __future__ import annotations

import dataclasses
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import numpy as np

from src.errors import UsageError, nearest
from src.models import options_of
from src.weights import names
from src.weights.assignment import listed
from src.weights.containers import Content
from src.weights.sources import NAMES, OURS_NORM, SOURCES, TORCH_NORM, Arrays, Identity, Source

# What files of training hold besides the weights, and averages of weights beside these.
_STATE = re.compile(
    r"(.*\.)?num_batches_tracked|(moments?[12]?|accum|stat|mean_square|mean_gradient|optimizer|lr_scheduler)\..*"
    r"|learning_rate|global_step|momentum|weight_decay|scale_sense|current_iterator_step"
    r"|last_overflow_iterator_step|epoch_num|step_num"
)
_AVERAGE = re.compile(r"(.*\.)?(model_|state_dict_|module_)?ema(_model|_state_dict)?\..*")


@dataclasses.dataclass(frozen=True)
class Recognised:
    """The tensors of a file, and whose form they have.

    Attributes:
        source: None for our own names, and for those of nobody known here.
        arrays: float32 by name, without what stands before all names.
        notes: what was left out or converted, for people.
    """

    source: Source | None
    arrays: dict[str, np.ndarray]
    notes: tuple[str, ...]

    def identity(self) -> Identity | None:
        """Which network of ours it is; None where names and shapes do not tell. Raises UsageError for none of ours."""
        return self.source.identify(self.arrays) if self.source else None

    @property
    def num_classes(self) -> int:
        """As many as its classifier has; 0 where it has none."""
        classifier = self.source.cell("classifier", frozenset()) if self.source else "classifier"
        array = self.arrays.get(f"{classifier}.weight")
        return 0 if array is None or not array.ndim else len(array)


class Piece(NamedTuple):
    """Where a weight of ours stands in a file.

    Attributes:
        names: of the tensors it is made of; of none where it is zero there.
        form: ``same``, ``groups`` (one after the other along the outputs), ``bgr`` (its input channels in the other
            order), ``pixel`` (a dense weight as one of a 1x1 convolution), ``zero``, or as long as the tensor and all
            ``ones`` or ``zeros``; ``path`` is no weight, but where a supernet of ours notes its path.
    """

    names: tuple[str, ...]
    form: str = "same"


def recognise(content: Content, source: str = "") -> Recognised:
    """Whose the tensors of a file are.

    Args:
        source: a name of SOURCES or ``ours`` ("": whatever they look like).

    Raises:
        UsageError: not of ``source``; values that are no numbers.
    """
    if source and source not in (*NAMES, "ours"):
        raise UsageError(f"there is no source {source!r}{nearest(source, NAMES)}; there are {', '.join(NAMES)}, ours")
    arrays, notes = _weights_of(content)
    for candidate in SOURCES:
        if source in ("", candidate.name):
            bare = _of_export(_bare(arrays, candidate.anchors[0], candidate.cell("classifier", frozenset())))
            if candidate.is_of(bare):
                return Recognised(candidate, bare, notes)
    if source not in ("", "ours"):
        raise UsageError(f"{content.path} is not of {source}: it begins with {', '.join(list(arrays)[:3])}")
    return Recognised(None, _bare(arrays, "features.stem.conv.weight", "classifier"), notes)


def _weights_of(content: Content) -> tuple[dict[str, np.ndarray], tuple[str, ...]]:
    """The tensors that are weights, float32."""
    notes, arrays, skipped, converted = list(content.notes), {}, Counter(), Counter()
    for name, array in content.arrays.items():
        if match := _STATE.fullmatch(name):
            skipped[(match[2] or name).rpartition(".")[2]] += 1
        elif _AVERAGE.fullmatch(name):
            skipped["moving averages"] += 1
        elif array.dtype.kind == "f":
            if not np.isfinite(array).all():
                raise UsageError(f"{content.path}: {name} holds values that are no numbers (NaN or infinite)")
            if array.dtype != np.float32:
                converted[array.dtype.name] += 1
            arrays[name] = np.asarray(array, np.float32)
        else:
            arrays[name] = array
    if skipped:
        notes.append("skipped, as no weights: " + ", ".join(f"{number} {name}" for name, number in skipped.items()))
    notes += [f"{number} tensors of {kind} read as float32" for kind, number in converted.items()]
    return arrays, tuple(notes)


def _bare(arrays: Arrays, anchor: str, classifier: str) -> dict[str, np.ndarray]:
    """``arrays`` without what stands before ``anchor`` in the shortest name that ends with it (``module.``,
    ``backbone.``, the prefix of a training script), and before the classifier."""
    prefixes = {_prefix(arrays, anchor), _prefix(arrays, f"{classifier}.weight")}
    found: dict[str, np.ndarray] = {}
    for name, array in arrays.items():
        prefix = max((prefix for prefix in prefixes if name.startswith(prefix)), key=len, default="")
        bare = name.removeprefix(prefix)
        if bare in found:
            raise UsageError(f"two tensors are called {bare}, one of them {name}")
        found[bare] = array
    return found


def _prefix(held: Iterable[str], anchor: str) -> str:
    ending = [name for name in held if name.endswith(anchor)]
    return min(ending, key=len).removesuffix(anchor) if ending else ""


def _of_export(arrays: Arrays) -> dict[str, np.ndarray]:
    """MXNet's exported names, where there are some, as those of ``save_parameters``."""
    named = {names.of_mxnet_export(name): array for name, array in arrays.items()}
    first = {name: array for name, array in named.items() if name.endswith("_conv0.weight")}
    is_xception = {name.split("_")[0]: array.shape[-1] > 1 for name, array in first.items()}
    resolved = {names.exported_block(name, is_xception.get(name.split("_")[0], False)): a for name, a in named.items()}
    tail = names.mxnet_tail("features.23.weight" in resolved)
    return {re.sub(r"^conv_fc\b", tail, name): array for name, array in resolved.items()}


def pieces_of(source: Source, ours: Iterable[str], identity: Identity) -> dict[str, Piece]:
    """Where each weight of ours stands in a file of ``source``.

    Args:
        ours: names of all weights of the network.
    """
    held = set(ours)
    xception = frozenset(name.partition(".body.mix.conv")[0] for name in held if ".body.mix.conv" in name)
    groups = options_of(identity.model, identity.options).get("groups", 1)
    tail = names.mxnet_tail("features.head.conv.weight" in held)
    found = {}
    for name in ours:
        cell, _, part = name.rpartition(".")
        theirs = re.sub(r"^conv_fc$", tail, source.cell(cell, xception))
        if part in OURS_NORM:
            part = source.norm[OURS_NORM.index(part)]
        piece = Piece((f"{theirs}.{part}",))
        if name == "path":
            piece = Piece((), "path")
        elif not source.has_affine and name.endswith((".gamma", ".beta")):
            piece = Piece((f"{theirs}.{source.norm[2]}",), "ones" if name.endswith(".gamma") else "zeros")
        elif name == "classifier.bias" and not source.has_bias:
            piece = Piece((), "zero")
        elif name == "classifier.weight" and source.has_pixel_classifier:
            piece = piece._replace(form="pixel")
        elif name == "features.stem.conv.weight" and source.is_bgr:
            piece = piece._replace(form="bgr")
        elif source.has_separate_groups and re.search(r"\.(expand|project)\.conv\.weight$", name):
            count = 1 if name == "features.stage1.0.expand.conv.weight" else groups
            piece = Piece(tuple(f"{theirs}.convs.{index}.weight" for index in range(count)), "groups")
        found[name] = piece
    return found


def in_our_names(
    recognised: Recognised, identity: Identity, ours: Iterable[str], may_lack: Iterable[str] = ()
) -> dict[str, np.ndarray]:
    """The weights under our names.

    Args:
        ours: names of all weights of the network.
        may_lack: those of ours that need not be there.

    Raises:
        UsageError: tensors are missing or left over, each named.
    """
    arrays, source = recognised.arrays, recognised.source
    if source is None:
        return dict(arrays)
    pieces = pieces_of(source, ours, identity)
    if lacking := [name for name in may_lack if not set(pieces[name].names) <= arrays.keys()]:
        pieces = {name: piece for name, piece in pieces.items() if name not in (*lacking, "classifier.bias")}
    missing = [name for piece in pieces.values() for name in piece.names if name not in arrays]
    left_over = sorted(set(arrays) - {name for piece in pieces.values() for name in piece.names})
    if missing or left_over:
        kinds = {"missing": missing, "left over": left_over}
        raise UsageError("; ".join(f"{kind}: {listed(some)}" for kind, some in kinds.items() if some))
    return {name: _read(name, piece, recognised) for name, piece in pieces.items()}


def _read(name: str, piece: Piece, recognised: Recognised) -> np.ndarray:
    if piece.form == "zero":
        return np.zeros(recognised.num_classes, np.float32)
    if piece.form == "path":
        return np.zeros(2 * sum(names.SPOS_BLOCKS), np.int32)
    arrays = [recognised.arrays[theirs] for theirs in piece.names]
    if piece.form == "groups":
        if len({array.shape[1:] for array in arrays}) > 1 or not arrays[0].ndim:
            raise UsageError(f"the groups of {name} have shapes that do not fit together")
        return np.concatenate(arrays)
    (array,) = arrays
    if piece.form in ("ones", "zeros"):
        return np.full(array.shape, piece.form == "ones", np.float32)
    if piece.form == "bgr" and array.ndim == 4:
        return np.ascontiguousarray(array[:, ::-1])
    if piece.form == "pixel" and array.shape[2:] == (1, 1):
        return array[:, :, 0, 0]
    return array


def in_their_names(source: Source, identity: Identity, weights: Arrays) -> dict[str, np.ndarray]:
    """Our weights as tensors of ``source``, those that PyTorch counts batches in among them (zero).

    Raises:
        UsageError: theirs computes otherwise than our network with these options, or has no classifier bias.
    """
    if mismatch := form_mismatch(source, identity.model, identity.options):
        raise UsageError(mismatch)
    found: dict[str, np.ndarray] = {}
    for name, piece in pieces_of(source, weights, identity).items():
        array = weights[name]
        if piece.form in ("zero", "zeros", "ones"):
            constant = int(piece.form == "ones")
            if np.any(array != constant):
                is_not = "one" if constant else "zero"
                raise UsageError(f"{source.name}'s {identity.model} has no {name}, and this one is not {is_not}")
        elif piece.form == "path":
            continue
        elif piece.form == "groups":
            found |= dict(zip(piece.names, np.split(array, len(piece.names)), strict=True))
        elif piece.form == "bgr":
            found[piece.names[0]] = np.ascontiguousarray(array[:, ::-1])
        else:
            found[piece.names[0]] = array[:, :, None, None] if piece.form == "pixel" else array
        if source.norm == TORCH_NORM and name.endswith(".moving_variance"):
            found[piece.names[0].replace(".running_var", ".num_batches_tracked")] = np.zeros((), np.int64)
    return found


def form_mismatch(source: Source, model: str, options: Mapping[str, Any]) -> str:
    """Why a network with these options does not compute what that of ``source`` does from the same weights, and what
    to do about it; empty if it does."""
    has = options_of(model, options)
    wanted = {key: value for key, value in source.form.items() if has.get(key) != value}
    if not wanted:
        return ""
    flags = " ".join(f"--model_options.{key} {value}" for key, value in wanted.items())
    return f"weights of {source.name}'s {model} belong to another form of the network: give {flags}"
