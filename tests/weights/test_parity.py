"""Files of other people's form, weights by rule in them: the logits of their own code, for every source and variant."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from mindspore import Tensor, nn

from src.models import create_model, options_of
from src.models.layers import weights
from src.models.spos import create_subnet
from src.settings.config import load_config
from src.space.spaces import Architecture, to_genes
from src.supernet.network import subnet_weights
from src.supernet.path_parts import space_of, supernet_of
from src.weights import mapping
from src.weights.assignment import assign_weights
from src.weights.containers import Content
from src.weights.loading import imported
from src.weights.sources import SOURCES, Identity, Source
from tests.weights import rules

ALL = json.loads(Path(__file__).with_name("parity.json").read_text(encoding="utf-8"))
ROWS = [row for row in ALL if "path" not in row]
SUPERNETS = [row for row in ALL if "path" in row]
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
    its = (source for source in SOURCES if source.name == row["source"] and row["model"] in source.models)
    return next(source for source in its if bool(source.supernet) == ("path" in row))


def file_of(row: dict, network: nn.Cell) -> Content:
    """A file as the source's own code would write it, with the weights by rule."""
    zeros = {name: np.zeros(value.shape, np.float32) for name, value in weights(network).items()}
    if not source_of(row).has_affine:
        zeros |= {name: zeros[name] + 1 for name in zeros if name.endswith(".gamma")}
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


def supernet_distances(row: dict) -> tuple[float, float]:
    """Of the logits of a path in the supernet and alone, for weights in the source's own form."""
    path = Architecture(*map(tuple, row["path"]))
    config = load_config("", {"model": row["model"], "model_options": row["options"], **source_of(row).supernet})
    network = supernet_of(config, rules.CLASSES).set_train(False)
    found = imported(file_of(row, network))
    assert found.trained.is_supernet and found.trained.config.supernet_affine == config.supernet_affine
    assert space_of(found.trained.config, rules.CLASSES) == network.space
    assign_weights(network, found.weights(network))
    network.set_path(to_genes([path])[0])
    alone = create_subnet(network.space, path, rules.CLASSES).set_train(False)
    arrays = {name: value.asnumpy() for name, value in weights(network).items()}
    assign_weights(alone, subnet_weights(arrays, network.space, path))
    preprocessing = found.trained.preprocessing
    images, golden = Tensor(rules.normalised(preprocessing.mean, preprocessing.std)), np.array(row["logits"])
    return tuple(np.abs(cell(images).asnumpy() - golden).max() / np.abs(golden).max() for cell in (network, alone))


def test_a_path_of_the_authors_supernet_computes_what_it_does_there_in_ours_and_alone():
    (row,) = (row for row in SUPERNETS if row["source"] == "megvii")
    assert max(supernet_distances(row)) < TOLERANCE


@pytest.mark.slow
@pytest.mark.parametrize("row", [row for row in SUPERNETS if row["source"] == "mxnet"], ids=described)
def test_so_does_one_of_the_other_supernet_where_masked_channels_leak_into_it(row):
    inside, alone = supernet_distances(row)
    assert inside < TOLERANCE
    assert alone > 10 * TOLERANCE


def test_every_source_is_compared():
    compared = {(row["source"], row["model"], "path" in row) for row in ALL}
    # Upstream's MindSpore networks are compared with plain NumPy in test_loading.py.
    for source in SOURCES:
        is_its = [(source.name, model, bool(source.supernet)) in compared for model in source.models]
        assert source.name == "mindspore" or any(is_its)


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
