"""Files of other people's form, weights by rule in them: the logits of their own code, for every source and variant."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from mindspore import Tensor, nn

from src.models import create_model, options_of
from src.models.layers import weights
from src.weights import mapping
from src.weights.assignment import assign_weights
from src.weights.containers import Content
from src.weights.loading import imported
from src.weights.sources import SOURCES, Identity, Source
from tests.weights import rules

ROWS = json.loads(Path(__file__).with_name("parity.json").read_text(encoding="utf-8"))
# Measured: at most 2e-5 of the largest logit, in float32.
TOLERANCE = 1e-4
# One of each kind of name and form; the whole table takes minutes.
FIRST = {"torchvision mnasnet", "timm mnasnet", "proxylessnas proxylessnas_mobile", "megvii shufflenetv1"}


def described(row: dict) -> str:
    return " ".join([row["source"], row["model"], *(str(value) for value in row["options"].values())])


def source_of(row: dict) -> Source:
    return next(source for source in SOURCES if source.name == row["source"] and row["model"] in source.models)


def file_of(row: dict, network: nn.Cell) -> Content:
    """A file as the source's own code would write it, with the weights by rule."""
    zeros = {name: np.zeros(value.shape, np.float32) for name, value in weights(network).items()}
    theirs = mapping.in_their_names(source_of(row), Identity(row["model"], row["options"]), zeros)
    shapes = {name: array.shape for name, array in theirs.items()}
    assert (len(shapes), rules.digest(shapes)) == (row["tensors"], row["digest"])
    return Content(Path("file"), "test", rules.tensors(shapes, row["model"]))


def plain_options(model: str, options: dict) -> dict[str, str]:
    """Every option as text, lists of numbers as on the command line."""
    return {key: str(value).strip("()").replace(" ", "") for key, value in options_of(model, options).items()}


def distance(row: dict) -> float:
    """Between our logits and those of the source's own code, as a part of the largest."""
    network = create_model(row["model"], rules.CLASSES, **row["options"]).set_train(False)
    found = imported(file_of(row, network))
    assert found.identity.model == row["model"]
    assert plain_options(*found.identity) == plain_options(row["model"], row["options"])
    assign_weights(network, found.weights(network))
    preprocessing = found.trained.preprocessing
    images = rules.normalised(preprocessing.mean, preprocessing.std)
    golden = np.array(row["logits"])
    return np.abs(network(Tensor(images)).asnumpy() - golden).max() / np.abs(golden).max()


@pytest.mark.slow
@pytest.mark.parametrize("row", ROWS, ids=described)
def test_logits_are_those_of_the_sources_own_code(row):
    assert distance(row) < TOLERANCE
