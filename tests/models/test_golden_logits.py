"""The logits of every network and form against those of code that is not ours: tests/golden/make_references.py."""

import functools
import json
from pathlib import Path

import numpy as np
import pytest
from mindspore import Tensor, nn

from src.cpu import inference, use_operators
from src.models import create_model, get_entry, options_of
from src.models.layers import weights
from src.space.spaces import create_space
from src.supernet.network import Supernet
from src.weights.assignment import assign_weights
from tests.golden.formulas import CLASSES, Formula, images

FORMS = json.loads((Path(__file__).parents[1] / "golden" / "logits.json").read_text(encoding="utf-8"))
NETWORKS = dict.fromkeys(form["network"] for form in FORMS)
# Measured: at most 1e-5 of the largest logit, in float32.
TOLERANCE = 3e-5
WIDTHS = {"alpha", "groups", "size"}


def described(form: dict) -> str:
    options = [f"{key}={value}" for key, value in form["options"].items() if not isinstance(value, list)]
    return " ".join([form["network"], *options])


def kind(form: dict) -> str:
    """Forms of one kind are made of the same cells: they differ in their widths, or are two paths."""
    name = form["network"].replace("_s_plus", "_plus")
    return str((name, {key: value for key, value in form["options"].items() if key not in WIDTHS}))


FIRST_OF_A_KIND = {kind(form): form for form in reversed(FORMS)}.values()
DIGITS = [form for form in FORMS if form["options"].get("layout") == "digits"]


def network_of(form: dict) -> nn.Cell:
    net = create_model(form["network"], CLASSES, **form["options"]).set_train(False)
    shapes = {name: value.shape for name, value in weights(net).items()}
    values = Formula(form["gain"]).by_name(shapes)
    assign_weights(net, {name: value.astype(np.float32) for name, value in values.items()})
    return net


@functools.cache
def batch() -> Tensor:
    return Tensor(images().astype(np.float32))


def assert_golden(logits: Tensor, form: dict) -> None:
    golden = np.array(form["logits"])
    np.testing.assert_allclose(logits.asnumpy(), golden, rtol=0, atol=TOLERANCE * np.abs(golden).max())


@pytest.mark.parametrize("form", FIRST_OF_A_KIND, ids=described)
def test_the_cells_compute_what_others_compute(form):
    assert_golden(network_of(form)(batch()), form)


# Networks of SPOS compute with the same cells in the supernet, below.
@pytest.mark.parametrize("network", ["mnasnet", "proxylessnas_mobile", "shufflenetv1"])
def test_the_fused_cells_compute_what_others_compute(network):
    form = next(form for form in FORMS if form["network"] == network)
    net = network_of(form)
    assert use_operators(net, "fused") == "fused"
    assert_golden(net(batch()), form)


@pytest.mark.parametrize("form", FORMS, ids=described)
def test_the_one_operator_of_evaluation_computes_what_others_compute(form):
    net = network_of(form)
    assert use_operators(net, "fused") == "fused"
    whole = inference(net)
    if "se" in dict(net.hidden.cells_and_names()):
        assert whole is net  # there is no program for squeeze-excite behind the pooling
    else:
        assert whole is not net
        assert_golden(whole(batch()), form)


@pytest.mark.parametrize("operators", ["standard", "fused"])
@pytest.mark.parametrize("network", ["spos_oneshot", "spos_oneshot_plus"])
def test_a_path_of_the_supernet_computes_what_others_compute(network, operators):
    """The path's weights lie in the first channels of its blocks; everything else in the supernet is noise."""
    form = next(form for form in DIGITS if form["network"] == network)
    has_tail = network == "spos_oneshot_plus"
    net = Supernet(create_space("digits", use_se=has_tail, last_conv_after_pooling=has_tail), CLASSES).set_train(False)
    golden = {name: value.asnumpy() for name, value in weights(network_of(form)).items()}
    blocks, channels = form["options"]["block_choices"], form["options"]["channel_choices"]
    rng, placed = np.random.default_rng(0), set()
    for name, parameter in weights(net).items():
        words = name.split(".")
        if name == "path":
            continue
        if "choices" in words:  # features.stage<from 1>.<block of two>.choices.<kind>.<name in the block>
            position = 2 * (int(words[1].removeprefix("stage")) - 1) + int(words[2])
            name = ".".join(words[:3] + words[5:]) if int(words[4]) == blocks[position] else ""
        value = rng.uniform(0.5, 1.5, parameter.shape).astype(np.float32)
        if name:
            value[tuple(map(slice, golden[name].shape))] = golden[name]
            placed.add(name)
        parameter.set_data(Tensor(value))
    assert placed == golden.keys()
    assert use_operators(net, operators) == operators
    net.set_path(np.array([*blocks, *channels]))
    assert_golden(net(batch()), form)


def test_every_variant_of_these_networks_has_its_golden_logits():
    for network in NETWORKS:
        has = [options_of(network, form["options"]) for form in FORMS if form["network"] == network]
        assert all(options_of(network, variant) in has for variant in get_entry(network).variants)
