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
# One of each form of names and of each difference in what is computed; the whole table takes a minute.
FIRST = (
    "torchvision mnasnet 0.5",
    "timm mnasnet 0.5",
    "timm spnasnet",
    "proxylessnas proxylessnas_mobile",
    "megvii shufflenetv1 3 0.5x after",
    "megvii spos_oneshot 0",
    "mxnet spos_oneshot_s_plus",
    "mxnet spos_oneshot True",
    "mindcv mnasnet 0.5",
    "mindcv shufflenetv1 8 0.5x",
)


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


ROW_OF = {start: next(row for row in ROWS if described(row).startswith(start)) for start in FIRST}


@pytest.mark.parametrize("start", FIRST)
def test_logits_are_those_of_the_sources_own_code(start):
    assert distance(ROW_OF[start]) < TOLERANCE


@pytest.mark.slow
@pytest.mark.parametrize("row", [row for row in ROWS if row not in ROW_OF.values()], ids=described)
def test_so_are_those_of_every_other_variant(row):
    assert distance(row) < TOLERANCE


def test_every_source_is_compared():
    compared = {(row["source"], row["model"]) for row in ROWS}
    # Upstream's MindSpore networks are compared with plain NumPy in test_loading.py.
    for source in SOURCES:
        assert source.name == "mindspore" or any((source.name, model) in compared for model in source.models)


def test_names_of_an_exported_mxnet_network_are_understood():
    """Those of HybridBlock.export, as the digests of the real ones say, as those of save_parameters."""
    row = ROW_OF["mxnet spos_oneshot_s_plus"]
    network = create_model(row["model"], rules.CLASSES)
    content = file_of(row, network)
    exported = exported_names(content.arrays)
    assert rules.digest({name: array.shape for name, array in exported.items()}) == row["exported"]
    recognised = mapping.recognise(Content(Path("file"), "test", exported))
    assert recognised.arrays.keys() == content.arrays.keys()
    assert all(recognised.arrays[name] is exported[theirs] for name, theirs in renamed(content.arrays).items())


def exported_names(arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    return {theirs: arrays[name] for name, theirs in renamed(arrays).items()}


def renamed(arrays: dict[str, np.ndarray]) -> dict[str, str]:
    """Names of save_parameters, and those of export: cells of a kind are counted in each block, its body's first."""
    ends = {"features.0": "first_conv", "features.1": "batchnorm0", "features.24": "conv_fc"}
    start, found = "shufflenasoneshotfix0_", {}
    count: dict[tuple[str, str], dict[str, int]] = {}
    for name in sorted(
        arrays, key=lambda name: ("proj_branch" in name, [int(w) for w in name.split(".") if w.isdigit()])
    ):
        cell, _, part = name.rpartition(".")
        words = cell.split(".")
        if words[0] == "output":
            found[name] = f"{start}output_conv0_{part}"
        elif cell in ends:
            found[name] = f"{start}hybridsequential0_{ends[cell]}_{part}"
        else:
            block = f"{start}hybridsequential0_shufflenetblock{int(words[1]) - 3}"
            if "channel_attention" in words:
                found[name] = f"{block}_se0_conv_{'squeeze' if words[-1] == '1' else 'excitation'}_{part}"
                continue
            kind = "conv" if part == "weight" else "batchnorm"
            numbers = count.setdefault((block, kind), {})
            found[name] = f"{block}_{kind}{numbers.setdefault(cell, len(numbers))}_{part}"
    return found
