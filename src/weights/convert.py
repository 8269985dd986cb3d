"""``python -m src.weights.convert IN OUT``: weights of one form as those of another.

IN is any file of weights that :mod:`src.weights.sources` knows, or a checkpoint of ours. What OUT is, its ending says:

=================  ==============================================================================================
``.safetensors``   tensors by name, and what is known of the network beside them; needs nothing to be read
``.npz``           the same without what is known
``.pth``           PyTorch's state dict; PyTorch must be installed
``.ckpt``          ``--to ours``: a checkpoint of ours, complete; else MindSpore's with the names of ``--to``
=================  ==============================================================================================

``--to`` says whose names the tensors get: those of a source, or ours. Nothing is written unless every tensor of IN has
its place; what was read, written, left out and converted is said.
"""

from __future__ import annotations

import argparse
import dataclasses
import gc
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from src.data.imagenet import synsets
from src.data.labels import read_class_map
from src.errors import RunFailed, UsageError, run
from src.files import replacing
from src.machine.device import quiet_framework, versions
from src.models import Published, create_model, get_entry, options_of
from src.runs.checkpoint import SUFFIX, verify, write_checkpoint
from src.runs.trained import Trained
from src.settings.config import load_config
from src.settings.yaml_text import flow
from src.weights.assignment import check_fit
from src.weights.containers import META, Content, read
from src.weights.loading import Imported, imported
from src.weights.mapping import Recognised, in_their_names, recognise
from src.weights.sources import NAMES, Identity, Source, target

IMAGENET = 1000


def main(argv: list[str]) -> None:
    options = _parse(argv)
    write = _writer(options.output, options.to)
    found = read_in(options)
    weights = _checked(found)
    _report(found, weights)
    if options.to == "ours":
        tensors: Mapping[str, np.ndarray] = weights
    else:
        tensors = in_their_names(target(options.to, found.identity.model), found.identity, weights)
    try:
        write(options.output, tensors, found.trained.to_meta())
    except OSError as error:
        raise RunFailed(f"{options.output} could not be written: {error}") from error
    print(f"{options.output}: {len(tensors)} tensors with the names of {options.to}")


def _parse(argv: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m src.weights.convert", description=__doc__.split("\n")[0])
    parser.add_argument("input", type=Path, metavar="IN", help="file of weights, of whatever container")
    parser.add_argument("output", type=Path, metavar="OUT", help=f"new file: {', '.join(WRITERS)}")
    parser.add_argument("--to", choices=(*NAMES, "ours"), default="ours", help="whose names it gets (ours)")
    parser.add_argument("--source", default="", help="whose form IN has (told by its tensors): " + ", ".join(NAMES))
    parser.add_argument("--model", default="", help="network (told by the tensors)")
    parser.add_argument(
        "--model_options", default="{}", help="of its options those that no tensor tells: {bn_momentum: 0.99}"
    )
    parser.add_argument("--num_classes", type=int, default=0, help="that IN has, where it is not ImageNet's thousand")
    parser.add_argument("--classes", type=Path, help="their names: a JSON list, a run's classes.json or a manifest")
    return parser.parse_args(argv)


def read_in(options: argparse.Namespace) -> Imported:
    """The file that is asked for, and what is known of it.

    Raises:
        UsageError: not of the network or class count asked for, or it does not tell its network.
    """
    verify(options.input)
    content = read(options.input)
    if content.container == "MindSpore" and "model" in content.meta:
        found = _own(content, options.model)
    else:
        found = imported(content, options.model, flow(options.model_options), options.source)
        if found is None:
            found = _as_told(content, options)
    if found.trained.is_supernet:
        raise UsageError(
            f"{options.input} is of a supernet, which is many networks: search it as it is with "
            f"python search.py --supernet {options.input}"
        )
    classes = found.trained.num_classes
    if classes != (options.num_classes or (classes if content.meta else IMAGENET)):
        raise UsageError(f"{options.input} has {classes} classes; say --num_classes {classes} if it should")
    return _with_class_names(found, options.classes)


def _own(content: Content, model: str) -> Imported:
    trained = Trained.from_meta(content.meta, content.path)
    if model not in ("", trained.model):
        raise UsageError(f"{content.path} is a checkpoint of {trained.model}, not of {model}")
    identity = Identity(trained.model, trained.model_options)
    return Imported(content, Recognised(None, content.arrays, ()), identity, trained)


def _as_told(content: Content, options: argparse.Namespace) -> Imported:
    """A file with our names which does not say its network: the command line does."""
    if not options.model:
        raise UsageError(f"{content.path} does not say which network it is; give --model NAME")
    recognised = recognise(content, "ours")
    identity = Identity(options.model, flow(options.model_options))
    config = load_config("", {"model": identity.model, "model_options": identity.options})
    classes = list(synsets()) if recognised.num_classes == IMAGENET else []
    own = get_entry(identity.model).preprocessing
    trained = Trained(*identity, recognised.num_classes, classes, own, config, versions={}, device="", source="told")
    return Imported(content, recognised, identity, trained)


def _with_class_names(found: Imported, path: Path | None) -> Imported:
    if path is None:
        return found
    names = sorted(index := read_class_map(path), key=index.get)
    if len(names) > found.trained.num_classes:
        raise UsageError(f"{path} names {len(names)} classes, the network has {found.trained.num_classes}")
    return dataclasses.replace(found, trained=dataclasses.replace(found.trained, classes=names))


def _checked(found: Imported) -> dict[str, np.ndarray]:
    """The weights under our names, which fit the network."""
    network = create_model(found.trained.model, found.trained.num_classes, **found.trained.model_options)
    try:
        weights = found.weights(network)
        check_fit(network, weights)
    except UsageError as error:
        raise UsageError(f"{found.content.path} does not fit {found.identity.model}: {error}") from error
    del network
    gc.collect()  # its cells refer to each other; what is written next takes as much memory again
    return weights


def _report(found: Imported, weights: Mapping[str, np.ndarray]) -> None:
    content, source = found.content, found.recognised.source
    options = ", ".join(f"{key} {value}" for key, value in found.identity.options.items())
    whose = f"{source.name}'s names ({source.licence})" if source else "our names"
    print(f"{content.path}: {content.container}, {whose}, {found.identity.model}{f' ({options})' if options else ''}")
    for note in found.recognised.notes:
        print(f"  {note}")
    read_in = len(found.recognised.arrays)
    print(f"  {len(content.arrays)} tensors in the file, {read_in} read for {len(weights)} weights, none left over")
    print(f"  {found.trained.num_classes} classes, preprocessing: {found.trained.preprocessing}")
    if published := published_of(source, found.identity):
        print(f"  published: top-1 {published.top1:.2%} ({published.source})")


def published_of(source: Source | None, identity: Identity) -> Published | None:
    """The accuracy that a source states for its weights of a network."""
    if source is None:
        return None
    if "block_choices" in identity.options or "channel_choices" in identity.options:
        return None
    options = options_of(*identity)
    words = {"alpha": "alpha {}", "groups": "groups {}", "size": "{}"}
    variant = ", ".join(text.format(options[key]) for key, text in words.items() if key in options)
    stated = (item for item in get_entry(identity.model).published if item.source.startswith(source.publisher))
    return next((item for item in stated if item.variant.startswith(variant)), None)


def _writer(path: Path, to: str) -> Callable[[Path, Mapping[str, np.ndarray], Mapping[str, Any]], None]:
    """What writes OUT. Raises UsageError where it could not: an ending without meaning, a file that is there."""
    if path.suffix not in WRITERS:
        raise UsageError(f"{path}: the ending of OUT says what it is: {', '.join(WRITERS)}")
    if path.exists():
        raise UsageError(f"{path} exists; nothing is written over")
    if not path.parent.is_dir():
        raise UsageError(f"there is no folder {path.parent}")
    if path.suffix == ".pth":
        _torch()
    if path.suffix == SUFFIX and to == "ours":
        return lambda target, tensors, meta: write_checkpoint(target, tensors, {}, {**meta, "versions": versions()})
    return WRITERS[path.suffix]


def _torch() -> Any:
    try:
        import torch
    except ImportError as error:
        raise UsageError("a .pth is written by PyTorch, which is not installed; give OUT.safetensors") from error
    return torch


def _write_safetensors(path: Path, tensors: Mapping[str, np.ndarray], meta: Mapping[str, Any]) -> None:
    from safetensors.numpy import save_file

    with replacing(path) as temporary:
        save_file(dict(tensors), temporary, {"format": "pt", META: json.dumps(meta)})


def _write_npz(path: Path, tensors: Mapping[str, np.ndarray], meta: Mapping[str, Any]) -> None:
    with replacing(path) as temporary, temporary.open("wb") as file:
        np.savez(file, **tensors)


def _write_pth(path: Path, tensors: Mapping[str, np.ndarray], meta: Mapping[str, Any]) -> None:
    """As torch.save writes a state dict; torchvision's MnasNet asks for the version of its form beside the tensors."""
    from collections import OrderedDict

    torch = _torch()
    state = OrderedDict((name, torch.from_numpy(np.array(array))) for name, array in tensors.items())
    state._metadata = OrderedDict({"": {"version": 2}})
    with replacing(path) as temporary:
        torch.save(state, temporary)


def _write_ckpt(path: Path, tensors: Mapping[str, np.ndarray], meta: Mapping[str, Any]) -> None:
    import mindspore as ms

    with replacing(path) as temporary, quiet_framework():
        entries = [{"name": name, "data": ms.Tensor(array)} for name, array in tensors.items()]
        ms.save_checkpoint(entries, str(temporary))


WRITERS = {".safetensors": _write_safetensors, ".npz": _write_npz, ".pth": _write_pth, SUFFIX: _write_ckpt}


if __name__ == "__main__":
    run(main)
