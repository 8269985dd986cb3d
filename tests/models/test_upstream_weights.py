"""Upstream's checkpoints, written from the names upstream gives, against the same values under ours."""

import functools

import mindspore as ms
import numpy as np
import pytest
from mindspore import Tensor

from src.errors import UsageError
from src.models import create_model, list_models
from src.models.layers import weights
from src.models.upstream_weights import assign_weights, form_mismatch, network_of, translate
from tests.golden import plain
from tests.golden.formulas import CLASSES, Formula, images

RANDOM = np.random.default_rng(0)
NORM = ("gamma", "beta", "moving_mean", "moving_variance")


def conv_norm(conv: str, norm: str) -> list[str]:
    return [f"{conv}.weight", *(f"{norm}.{name}" for name in NORM)]


def spnasnet_names(features: str) -> list[str]:
    """Upstream's names in the order in which the image meets them."""
    cells = ["0.conv1", "0.conv2.conv1", "0.conv2.conv2"]
    for stage, units in ((1, 3), (2, 4), (3, 4), (4, 8)):
        cells += [f"{stage}.{unit}.{cell}" for unit in range(units) for cell in ("exp_conv", "conv1", "conv2")]
    cells += ["5.conv1.exp_conv", "5.conv1.conv1", "5.conv1.conv2", "5.conv2"]
    names = [name for cell in cells for name in conv_norm(f"{features}{cell}.conv", f"{features}{cell}.bn")]
    return [*names, "output.weight", "output.bias"]


def proxylessnas_names() -> list[str]:
    cells = ["init_block"]
    for stage, units in ((1, 1), (2, 2), (3, 4), (4, 8), (5, 5)):
        for unit in range(1, units + 1):
            parts = ("dw_conv", "pw_conv") if stage == 1 else ("bc_conv", "dw_conv", "pw_conv")
            cells += [f"stage{stage}.unit{unit}.body.{part}" for part in parts]
    cells.append("final_block")
    names = [name for cell in cells for name in conv_norm(f"features.{cell}.conv", f"features.{cell}.bn")]
    return [*names, "output.weight", "output.bias"]


def shufflenetv1_names() -> list[str]:
    """The weights of groups as `….convs.*.weight`."""
    names = conv_norm("first_conv.0", "first_conv.1")
    for block in range(16):
        start = f"features.{block}.branch_main_"
        names += conv_norm(f"{start}1.0.convs.*", f"{start}1.1")
        names += conv_norm(f"{start}2.0", f"{start}2.1")
        names += conv_norm(f"{start}2.2.convs.*", f"{start}2.3")
    return [*names, "classifier.weight", "classifier.bias"]


NAMES = {
    "spnasnet": lambda: spnasnet_names("features."),
    "spnasnet, bare indices": lambda: spnasnet_names(""),
    "spnasnet, prefix": lambda: [f"huawei{name}" for name in spnasnet_names("features.")],
    "spnasnet, prefix, bare": lambda: [f"huawei{name}" for name in spnasnet_names("")],
    "proxylessnas_mobile": proxylessnas_names,
    "shufflenetv1": shufflenetv1_names,
}


class Recorded(Formula):
    """Keeps what a forward takes of the formula: each convolution's weight, then its batch-norm."""

    def __init__(self, gain: float):
        super().__init__(gain)
        self.arrays: list[np.ndarray] = []

    def conv(self, number, shape):
        self.arrays.append(super().conv(number, shape).astype(np.float32))
        return super().conv(number, shape)

    def norm(self, number, channels):
        self.arrays += [value.astype(np.float32) for value in super().norm(number, channels).values()]
        return super().norm(number, channels)

    def classifier(self, classes, inputs):
        self.arrays += [value.astype(np.float32) for value in super().classifier(classes, inputs)]
        return super().classifier(classes, inputs)


PLAIN = {
    "spnasnet": (plain.spnasnet, 0.65, {}),
    "proxylessnas_mobile": (plain.proxylessnas, 0.75, {}),
    "shufflenetv1": (plain.shufflenetv1, 0.52, {"pooling": "same"}),
}


@functools.cache
def in_plain(name: str) -> tuple[list[np.ndarray], np.ndarray]:
    """The network's weights in the order in which the image meets them, and the logits that they give: without our
    classes, names and orders."""
    forward, gain, form = PLAIN[name]
    formula = Recorded(gain)
    logits = forward(formula, images(), CLASSES, **form)
    return formula.arrays, logits


def random_values(net) -> dict[str, np.ndarray]:
    return {
        name: RANDOM.uniform(0.5, 1.0, value.shape).astype(np.float32)
        if name.endswith(("gamma", "variance"))
        else RANDOM.standard_normal(value.shape).astype(np.float32) / max(1, np.prod(value.shape[1:])) ** 0.5
        for name, value in weights(net).items()
    }


def upstream_file(form: str) -> dict[str, np.ndarray]:
    """The weights of :func:`in_plain` under upstream's names, with the slots of its optimizers around them.

    Upstream's ShuffleNetV1 has a convolution for each of the three groups, and one for the very first 1x1."""
    file = {"learning_rate": np.zeros(9, np.float32), "global_step": np.zeros(1, np.int32)}
    arrays, _ = in_plain(form.partition(",")[0])
    for name, value in zip(NAMES[form](), arrays, strict=True):
        if "*" in name:
            parts = np.split(value, 1 if name.startswith("features.0.branch_main_1") else 3)
            file |= {name.replace("*", str(index)): part for index, part in reversed(list(enumerate(parts)))}
        else:
            file[name] = value
        for slot in ("moments.", "accum.", "stat."):
            file[slot + name.replace("*", "0")] = np.ones_like(value)
    return file


@pytest.mark.parametrize("form", NAMES)
def test_upstream_checkpoints_give_the_logits_of_plain_numpy(form):
    name = form.partition(",")[0]
    net = create_model(name, CLASSES, **PLAIN[name][2]).set_train(False)
    assert form_mismatch(name, net) == ""
    file = upstream_file(form)
    own = [key for key in file if not key.startswith(("moments", "accum", "stat", "learning", "global"))]
    assert network_of(file) == name and network_of([*file, "stranger.weight"]) == ""
    assert len(own) == {"spnasnet": 322, "proxylessnas_mobile": 307, "shufflenetv1": 309}[name]
    assign_weights(net, translate(name, file))
    golden = in_plain(name)[1]
    found = net(Tensor(images().astype(np.float32))).asnumpy()
    np.testing.assert_allclose(found, golden, rtol=0, atol=3e-5 * np.abs(golden).max())


@pytest.mark.parametrize("name", list_models())
def test_our_own_names_are_not_taken_for_upstreams(name):
    values = {key: value.asnumpy() for key, value in weights(create_model(name, 2)).items()}
    assert translate(name, values) is None and network_of(values) == ""


def test_other_networks_have_no_upstream_form():
    assert translate("mnasnet", {"features.0.conv.weight": np.zeros(1)}) is None
    assert translate("", {}) is None and network_of([]) == network_of(["classifier.weight"]) == ""


@pytest.fixture
def net():
    return create_model("spnasnet", CLASSES)


def snapshot(net) -> dict[str, np.ndarray]:
    return {name: value.asnumpy().copy() for name, value in net.parameters_dict().items()}


def test_junk_in_an_upstream_checkpoint_is_refused(net):
    file = upstream_file("spnasnet, prefix")
    file["huaweifeatures.9.0.conv1.conv.weight"] = np.zeros((1, 1), np.float32)
    del file["huaweioutput.bias"]
    with pytest.raises(UsageError, match=r"missing: classifier.bias; surplus: huaweifeatures.9.0.conv1.conv.weight"):
        assign_weights(net, translate("spnasnet", file))


def test_two_tensors_for_one_weight_are_refused():
    file = upstream_file("spnasnet")
    file["0.conv1.conv.weight"] = file["features.0.conv1.conv.weight"]
    with pytest.raises(UsageError, match=r"two tensors stand for features\.stem\.conv\.weight"):
        translate("spnasnet", file)


def test_a_lost_group_is_refused():
    net = create_model("shufflenetv1", CLASSES)
    file = upstream_file("shufflenetv1")
    del file["features.3.branch_main_2.2.convs.1.weight"]
    with pytest.raises(
        UsageError, match=r"wrong shape: features.stage1.3.project.conv.weight \[320, 40, 1, 1\] instead"
    ):
        assign_weights(net, translate("shufflenetv1", file))
    file["features.3.branch_main_2.2.convs.1.weight"] = np.zeros((160, 39, 1, 1), np.float32)
    with pytest.raises(UsageError, match=r"groups of features.stage1.3.project.conv.weight have shapes"):
        translate("shufflenetv1", file)


def test_upstream_weights_in_another_form_are_told():
    symmetric = create_model("shufflenetv1", 2, size="0.5x")
    assert form_mismatch("shufflenetv1", symmetric).endswith("give --model_options.pooling same")
    megvii = create_model("shufflenetv1", 2, size="0.5x", pooling="same", shuffle="after")
    assert form_mismatch("shufflenetv1", megvii).endswith("give --model_options.shuffle before")
    assert form_mismatch("mnasnet", create_model("mnasnet", 2)) == ""


def test_assignment_names_everything_that_does_not_fit_and_changes_nothing(net):
    before, values = snapshot(net), random_values(net)
    values["classifier.weight"] = np.zeros((1000, 1280), np.float32)
    values["classifier.bias"] = values["classifier.bias"].astype(np.float16)
    values["extra"] = np.zeros(1, np.float32)
    del values["features.stem.norm.gamma"]
    with pytest.raises(UsageError) as caught:
        assign_weights(net, values)
    assert str(caught.value) == (
        "missing: features.stem.norm.gamma; surplus: extra; "
        "wrong shape: classifier.weight [1000, 1280] instead of [10, 1280]; "
        "wrong type: classifier.bias float16 instead of float32"
    )
    after = snapshot(net)
    assert all(np.array_equal(before[name], after[name]) for name in before)


def test_a_long_list_ends_in_a_number(net):
    with pytest.raises(UsageError, match=r"features\.stage1\.0\.expand\.norm\.beta and 302 more$"):
        assign_weights(net, {})


def test_assigned_values_are_copies(net):
    values = random_values(net)
    assign_weights(net, values)
    values["classifier.bias"][:] = 7
    assert not np.any(net.classifier.bias.asnumpy() == 7)


def test_dropout_counter_is_not_a_weight():
    net = create_model("mnasnet", 2)
    net.dropout.steps.set_data(Tensor(5, ms.int32))
    assign_weights(net, random_values(net))
    assert int(net.dropout.steps.asnumpy()) == 5
