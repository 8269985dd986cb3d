"""A path of a trained supernet as a network of its own: with the weights it has there, to evaluate or to fine-tune."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import NamedTuple

import numpy as np

from src.errors import UsageError
from src.models import create_model, options_of
from src.models.layers import weights
from src.models.spos import architecture_of
from src.runs.checkpoint import write_checkpoint
from src.runs.trained import Trained
from src.settings.config import Config
from src.space.spaces import Architecture, Space, to_genes
from src.supernet.network import subnet_weights
from src.supernet.path_parts import space_of
from src.supernet.recalibration import Forward, PathAccuracy
from src.training.metrics import HitCounter
from src.weights.assignment import assign_weights


class Subnet(NamedTuple):
    """A path that was cut out.

    Attributes:
        weights: by the names of the registered network, with the path's own batch-norm statistics.
        hits: of the held-out images, in the supernet and alone.
        difference: largest one between the logits in the supernet and alone.
        calibration_images: images that the statistics come from.
    """

    weights: dict[str, np.ndarray]
    hits: tuple[int, int]
    difference: float
    calibration_images: int


def path_of(recipe: Config, space: Space) -> Architecture:
    """The path that ``recipe`` trains, which must be one of ``space``.

    Raises:
        UsageError: a network or layout that the supernet does not hold.
    """
    if space_of(recipe, space.num_classes, space.input_size) != space:
        raise UsageError(f"the path of {recipe.recipe} is of another space than the supernet")
    options = options_of(recipe.model, recipe.model_options)
    return architecture_of(space, options["block_choices"], options["channel_choices"])


def cut_out(scores: PathAccuracy, path: Architecture, recipe: Config) -> Subnet:
    """The weights of ``path``, and how the network that holds them alone compares with the path in the supernet."""
    supernet = scores.recalibration.network
    alone = create_model(recipe.model, supernet.space.num_classes, **recipe.model_options)
    counters, difference = [HitCounter(supernet.space.num_classes) for _ in range(2)], 0.0
    with scores.recalibration.of_path(to_genes([path])[0]) as images:
        arrays = {name: value.asnumpy() for name, value in weights(supernet).items()}
        cut = subnet_weights(arrays, supernet.space, path)
        assign_weights(alone, cut)
        cells = [Forward(network).set_train(False) for network in (supernet, alone)]
        for batch, labels, count in scores.held_out:
            logits = [cell(batch).asnumpy()[:count] for cell in cells]
            for counter, values in zip(counters, logits, strict=True):
                counter.add(values, labels.asnumpy()[:count])
            difference = max(difference, float(np.abs(logits[0] - logits[1]).max()))
    return Subnet(cut, (counters[0].top1, counters[1].top1), difference, images)


def write_subnet(path: Path, subnet: Subnet, recipe: Config, supernet: Trained) -> None:
    """Writes a checkpoint that eval.py, export.py and ``train.py --pretrained`` take.

    Args:
        supernet: what it was cut out of; classes and preprocessing are taken over.
    """
    own = dataclasses.replace(supernet, model=recipe.model, model_options=recipe.model_options, config=recipe.kept())
    write_checkpoint(path, subnet.weights, {}, own.to_meta())
