"""The networks by name, as MindSpore Hub asks for them."""

from __future__ import annotations

from typing import Any

from mindspore import nn

from src.errors import UsageError
from src.models import create_model
from src.runs.folder import checkpoints_of
from src.weights.loading import load_pretrained, trained_of

# Names and arguments of the originals.
NAMES = {"single_path_nas": "spnasnet", "proxylessnas": "proxylessnas_mobile", "spos": "spos_oneshot"}
ARGUMENTS = {"n_class": "num_classes", "model_size": "size", "group": "groups"}


def create_network(name: str, *args: Any, pretrained: str = "", **kwargs: Any) -> nn.Cell:
    """A network of the registry, from images [N, 3, H, W] to logits [N, num_classes].

    Args:
        name: as `python summary.py` lists them, or the original's.
        args: the number of classes may stand here.
        pretrained: a checkpoint, or a run for its best. One of ours brings its classes and options; another number of
            classes gets a classifier that starts afresh.
        kwargs: ``num_classes`` (1000) and the network's options; the originals' names for these, too.

    Raises:
        UsageError: no such network, option or checkpoint, or weights that do not fit; the message says what exists.
    """
    plain = name.replace("-", "_")
    model = NAMES.get(plain, plain)
    given = {ARGUMENTS.get(key, key): value for key, value in kwargs.items()}
    if len(args) > 1 or (args and "num_classes" in given):
        raise UsageError(f"{name} takes one number of classes, then options by name; not {args}")
    if args:
        given["num_classes"] = args[0]
    if not pretrained:
        return create_model(model, **given)
    path, *more = checkpoints_of(pretrained, "pretrained")
    if more:
        raise UsageError(f"{pretrained} holds {len(more) + 1} checkpoints: name one of them, or a run folder")
    if trained := trained_of(path, model):
        given = {"num_classes": trained.num_classes, **trained.model_options, **given}
    network = create_model(model, **given)
    load_pretrained(path, network, model)
    return network
