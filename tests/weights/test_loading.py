"""Weights into networks: ours, and upstream's MindSpore checkpoints written from the names that upstream gives."""

from __future__ import annotations

import dataclasses
import functools
from pathlib import Path

import mindspore as ms
import numpy as np
import pytest
from mindspore import Tensor, nn

import search
from src.data.imagenet import synsets
from src.errors import UsageError
from src.models import create_model, get_entry
from src.models.layers import weights
from src.runs.checkpoint import write_checkpoint
from src.runs.trained import Trained
from src.settings.config import load_config
from src.training.parts import eval_classes, normalised_as_pretrained
from src.weights import convert
from src.weights.assignment import assign_weights
from src.weights.containers import Content
from src.weights.loading import imported, load_checkpoint, load_pretrained
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


def of_upstream(file: dict[str, np.ndarray], **asked):
    return imported(Content(Path("up.ckpt"), "MindSpore", file), **asked)


@pytest.mark.parametrize("form", NAMES)
def test_upstream_checkpoints_give_the_logits_of_plain_numpy(form):
    """The file tells its network and the form of it."""
    name = form.partition(",")[0]
    file = upstream_file(form)
    own = [key for key in file if not key.startswith(("moments", "accum", "stat", "learning", "global"))]
    assert len(own) == {"spnasnet": 322, "proxylessnas_mobile": 307, "shufflenetv1": 309}[name]
    found = of_upstream(file)
    assert found.recognised.source.name == "mindspore" and found.identity == (name, PLAIN[name][2])
    assert (found.trained.num_classes, found.trained.classes) == (CLASSES, [])
    net = create_model(name, CLASSES, **found.identity.options).set_train(False)
    assign_weights(net, found.weights(net))
    golden = in_plain(name)[1]
    logits = net(Tensor(images().astype(np.float32))).asnumpy()
    np.testing.assert_allclose(logits, golden, rtol=0, atol=3e-5 * np.abs(golden).max())


def test_junk_and_what_is_missing_are_named():
    net, file = create_model("spnasnet", CLASSES), upstream_file("spnasnet, prefix")
    file["huaweifeatures.9.0.conv1.conv.weight"] = np.zeros((1, 1), np.float32)
    del file["huaweioutput.bias"]
    with pytest.raises(UsageError, match=r"^missing: output.bias; left over: 9.0.conv1.conv.weight$"):
        of_upstream(file).weights(net)


def test_two_tensors_of_one_name_are_refused():
    file = upstream_file("spnasnet")
    file["5.conv2.conv.weight"] = file["features.5.conv2.conv.weight"]
    with pytest.raises(UsageError, match=r"two tensors are called 5.conv2.conv.weight, one of them 5.conv2"):
        of_upstream(file)


def test_a_lost_group_and_groups_that_do_not_fit_are_refused():
    net = create_model("shufflenetv1", CLASSES, pooling="same")
    file = upstream_file("shufflenetv1")
    file["features.3.branch_main_2.2.convs.1.weight"] = np.zeros((160, 39, 1, 1), np.float32)
    with pytest.raises(UsageError, match=r"groups of features.stage1.3.project.conv.weight have shapes"):
        of_upstream(file).weights(net)
    del file["features.3.branch_main_2.2.convs.1.weight"]
    with pytest.raises(UsageError, match=r"missing: features.3.branch_main_2.2.convs.1.weight"):
        of_upstream(file).weights(net)


def test_another_form_or_network_than_asked_for_is_told():
    file = upstream_file("shufflenetv1")
    with pytest.raises(UsageError, match=r"up.ckpt holds another shufflenetv1: give --model_options.pooling same$"):
        of_upstream(file, model="shufflenetv1", options={"pooling": "symmetric", "groups": 3})
    with pytest.raises(UsageError, match=r"up.ckpt holds weights of shufflenetv1, not of mnasnet$"):
        of_upstream(file, model="mnasnet")


@pytest.fixture
def net():
    return create_model("spnasnet", CLASSES)


def snapshot(net) -> dict[str, np.ndarray]:
    return {name: value.asnumpy().copy() for name, value in net.parameters_dict().items()}


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


def test_loading_is_strict_and_leaves_the_network_alone_when_it_fails(tmp_path):
    network = nn.SequentialCell(nn.Dense(2, 3), nn.BatchNorm1d(3))
    good = {name: np.full(value.shape, 0.5, np.float32) for name, value in network.parameters_and_names()}
    write_checkpoint(tmp_path / "good.ckpt", good, {}, {"model": "net"})
    assert load_checkpoint(tmp_path / "good.ckpt", network).meta["model"] == "net"
    cases = {
        "missing: 0.bias": {name: array for name, array in good.items() if name != "0.bias"},
        "surplus: 0.extra": {**good, "0.extra": np.ones(1, np.float32)},
        "wrong shape: 0.weight": {**good, "0.weight": np.ones((3, 5), np.float32)},
        "wrong type: 0.bias": {**good, "0.bias": np.ones(3, np.float16)},
    }
    for number, (message, wrong) in enumerate(cases.items()):
        path = tmp_path / f"wrong{number}.ckpt"
        write_checkpoint(path, {name: array * 0 for name, array in wrong.items()}, {}, {"model": "net"})
        with pytest.raises(UsageError, match=message):
            load_checkpoint(path, network)
        assert all((value.asnumpy() == 0.5).all() for _, value in network.parameters_and_names())
    with pytest.raises(UsageError, match="a checkpoint of net, not of other"):
        load_checkpoint(tmp_path / "good.ckpt", network, "other")


class _Classifier(nn.Cell):
    def __init__(self, classes: int):
        super().__init__()
        self.features = nn.Dense(4, 2)
        self.classifier = nn.Dense(2, classes)


def _arrays(network: nn.Cell) -> dict[str, np.ndarray]:
    return {name: value.asnumpy().copy() for name, value in network.parameters_and_names()}


@pytest.mark.parametrize("has_classifier", [True, False])
def test_a_classifier_for_other_classes_starts_afresh(tmp_path, has_classifier):
    arrays = _arrays(_Classifier(5))
    if not has_classifier:
        arrays = {name: array for name, array in arrays.items() if name.startswith("features.")}
    write_checkpoint(tmp_path / "five.ckpt", arrays, {}, {"model": "net"})
    network = _Classifier(3)
    fresh = _arrays(network)
    assert load_pretrained(tmp_path / "five.ckpt", network) == ["classifier.weight", "classifier.bias"]
    for name, array in _arrays(network).items():
        expected = fresh[name] if name.startswith("classifier.") else arrays[name]
        np.testing.assert_array_equal(array, expected, err_msg=name)


def test_a_classifier_for_as_many_classes_is_taken_over(tmp_path):
    arrays = _arrays(_Classifier(3))
    write_checkpoint(tmp_path / "three.ckpt", arrays, {}, {"model": "net"})
    network = _Classifier(3)
    assert load_pretrained(tmp_path / "three.ckpt", network) == []
    for name, array in _arrays(network).items():
        np.testing.assert_array_equal(array, arrays[name], err_msg=name)


def test_all_else_of_pretrained_weights_is_strict(tmp_path):
    good = _arrays(_Classifier(5))
    cases = {
        "missing: features.bias": {name: array for name, array in good.items() if name != "features.bias"},
        "surplus: head.weight": {**good, "head.weight": np.ones(1, np.float32)},
        "wrong shape: features.weight": {**good, "features.weight": np.ones((3, 4), np.float32)},
        "wrong shape: classifier.weight": {**good, "classifier.weight": np.ones((5, 7), np.float32)},
    }
    network = _Classifier(3)
    fresh = _arrays(network)
    for number, (message, wrong) in enumerate(cases.items()):
        path = tmp_path / f"wrong{number}.ckpt"
        write_checkpoint(path, wrong, {}, {"model": "net"})
        with pytest.raises(UsageError, match=message):
            load_pretrained(path, network)
        for name, array in _arrays(network).items():
            np.testing.assert_array_equal(array, fresh[name], err_msg=name)
    with pytest.raises(UsageError, match="is a checkpoint of net, not of other"):
        load_pretrained(path, network, "other")


def test_a_supernet_of_others_is_taken_by_search_and_by_its_own_training_alone(tmp_path):
    shapes = {
        "first_conv.0.weight": (16, 3, 3, 3),
        "features.0.0.branch_main.0.weight": (32, 16, 1, 1),
        "conv_last.0.weight": (1024, 640, 1, 1),
        "classifier.0.weight": (10, 1024),
    }
    file = tmp_path / "supernet.npz"
    np.savez(file, **{name: np.zeros(shape, np.float32) for name, shape in shapes.items()})
    found = search.supernet_of_run(str(file))
    assert (found.space.channel_scales, found.space.shuffle, found.space.length) == ((1.0,), "megvii", 20)
    assert not found.facts.config.supernet_affine
    config = load_config("", {"model": "spos_oneshot", "pretrained": str(file)})
    with pytest.raises(UsageError, match="is of a supernet: search it"):
        normalised_as_pretrained(config)
    assert normalised_as_pretrained(config.replace(train_supernet=True)).mean == [0.0, 0.0, 0.0]
    with pytest.raises(UsageError, match=r"is of a supernet, .*search\.py --supernet"):
        convert.main([str(file), str(tmp_path / "out.ckpt"), "--num_classes", "10"])


def test_a_folder_of_foreign_weights_is_labelled_by_name_or_by_order_or_refused(tmp_path, caplog):
    """With ImageNet's thousand by their ids; an upstream head that has as many classes by accident says so."""
    own = get_entry("mnasnet").preprocessing
    config = load_config("", {"model": "mnasnet"})
    imagenet = Trained("mnasnet", {}, 1000, list(synsets()), own, config, {}, "", "timm")
    upstream = dataclasses.replace(imagenet, num_classes=2, classes=[], source="mindspore")
    pets = {"n01443537": "cat", "n01440764": "dog"}
    for name in pets:
        for folder in (tmp_path / "ids" / name, tmp_path / "pets" / pets[name]):
            folder.mkdir(parents=True)
            (folder / "0.png").touch()
    assert eval_classes(tmp_path / "ids", imagenet) == {"n01440764": 0, "n01443537": 1}
    assert not caplog.records
    assert eval_classes(tmp_path / "pets", upstream) == {"cat": 0, "dog": 1}
    assert "in the order of the sorted names" in caplog.text
    for trained in (imagenet, dataclasses.replace(upstream, num_classes=5)):
        with pytest.raises(UsageError, match=r"has 2 classes, of \d+ of the network.*--classes LIST\.json"):
            eval_classes(tmp_path / "pets", trained)
