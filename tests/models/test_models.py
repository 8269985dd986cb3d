"""Every registered network, whatever it is, and the particulars of those that are here."""

import dataclasses
import functools

import mindspore as ms
import numpy as np
import pytest
from mindspore import Tensor, nn

from src.errors import UsageError
from src.models import ModelEntry, create_model, get_entry, list_models, one_of, register, share
from src.models.layers import Dropout, HardSwish, weights
from src.models.mnasnet import scaled

ALL = list_models()
# Name: batch-norm eps, momentum (share of the old), first shift; activations; dropout in training.
PARTICULARS = {
    "spnasnet": (1e-5, 0.9, 0.0, {nn.ReLU}, 0.0),
    "proxylessnas_mobile": (1e-3, 0.9, 0.0, {nn.ReLU6}, 0.0),
    "shufflenetv1": (1e-5, 0.9, 0.0, {nn.ReLU}, 0.0),
    "mnasnet": (1e-5, 0.9, 0.0, {nn.ReLU}, 0.2),
    "spos_oneshot": (1e-5, 0.9, 1e-4, {nn.ReLU}, 0.1),
    "spos_oneshot_plus": (1e-5, 0.9, 1e-4, {nn.ReLU, HardSwish}, 0.2),
    "spos_oneshot_s_plus": (1e-5, 0.9, 1e-4, {nn.ReLU, HardSwish}, 0.2),
}
# Name: input size, short side, interpolation, kernel of the resize, mean and std of red, green and blue.
IMAGENET = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
SPOS = (123.68 / 255, 116.779 / 255, 103.939 / 255), (58.393 / 255, 57.12 / 255, 57.375 / 255)
PREPROCESSING = {
    "spnasnet": (224, 256, "bilinear", "mindspore", *IMAGENET),
    "proxylessnas_mobile": (224, 256, "bilinear", "mindspore", *IMAGENET),
    "shufflenetv1": (224, 239, "bilinear", "mindspore", *IMAGENET),
    "mnasnet": (224, 256, "bilinear", "pil", *IMAGENET),
    "spos_oneshot": (224, 256, "bilinear", "pil", *SPOS),
    "spos_oneshot_plus": (224, 256, "bilinear", "pil", *SPOS),
    "spos_oneshot_s_plus": (224, 256, "bilinear", "pil", *SPOS),
}


@functools.cache
def network(name: str, num_classes: int = 10) -> nn.Cell:
    ms.set_seed(1)
    return create_model(name, num_classes).set_train(False)


def images(size: int = 32, batch: int = 2) -> Tensor:
    return Tensor(np.random.default_rng(0).standard_normal((batch, 3, size, size)).astype(np.float32))


def cells(net: nn.Cell, kind: type) -> list:
    return [cell for _, cell in net.cells_and_names() if isinstance(cell, kind)]


@pytest.mark.parametrize("name", ALL)
def test_logits_are_finite_at_an_odd_size_and_every_weight_gets_a_gradient(name):
    net = network(name).set_train()

    def loss(x, labels):
        logits = net(x)
        return nn.CrossEntropyLoss()(logits, labels), logits

    gradient = ms.value_and_grad(loss, None, net.trainable_params(), has_aux=True)
    (_, logits), gradients = gradient(images(45, batch=4), Tensor([1, 2, 3, 4], ms.int32))
    net.set_train(False)
    assert logits.shape == (4, 10)
    assert np.isfinite(logits.asnumpy()).all()
    dead = [p.name for p, g in zip(net.trainable_params(), gradients, strict=True) if not np.abs(g.asnumpy()).max() > 0]
    assert not dead


@pytest.mark.slow
def test_graph_mode_agrees():
    name = "spos_oneshot_plus"  # shuffle, split, concat, squeeze-excite, hard-swish
    eager = network(name)(images()).asnumpy()
    ms.set_context(mode=ms.GRAPH_MODE)
    try:
        compiled = network(name)(images()).asnumpy()
    finally:
        ms.set_context(mode=ms.PYNATIVE_MODE)
    np.testing.assert_allclose(compiled, eager, rtol=1e-4, atol=1e-6 * np.abs(eager).max())


@pytest.mark.parametrize("name", ALL)
def test_first_weights_follow_the_seed_and_only_the_head_the_classes(name):
    first = weights(network(name))
    ms.set_seed(1)
    again = weights(create_model(name, 10))
    ms.set_seed(2)
    other = weights(create_model(name, 2))

    trained = {parameter.name for parameter in network(name).trainable_params()}  # statistics may have moved
    assert all(np.array_equal(first[key].asnumpy(), again[key].asnumpy()) for key in trained)
    assert not np.array_equal(
        first["features.stem.conv.weight"].asnumpy(), other["features.stem.conv.weight"].asnumpy()
    )
    assert first.keys() == other.keys()
    different = {key for key in first if first[key].shape != other[key].shape}
    assert different == {"classifier.weight", "classifier.bias"}


@functools.cache
def pooled(name: str) -> np.ndarray:
    """What the classifier of the network sees in its first training forward, [N, C], dropout left out."""
    net = network(name).set_train()
    features = net.hidden(net.pool(net.features(images(48, batch=8)))).asnumpy()[:, :, 0, 0]
    net.set_train(False)
    return features


def first_loss(net: nn.Cell, features: np.ndarray) -> float:
    """The cross-entropy that the classifier of ``net`` starts with, in the mean over all labels."""
    logits = features @ net.classifier.weight.asnumpy().T + net.classifier.bias.asnumpy()
    return float((np.log(np.exp(logits).sum(1)) - logits.mean(1)).mean())


@pytest.mark.parametrize("name", ALL)
def test_the_first_loss_is_that_of_a_guess_whatever_the_number_of_classes(name):
    for classes in (10, 1000):
        assert abs(first_loss(network(name, classes), pooled(name)) - np.log(classes)) < 0.5, classes


def test_torchvisions_classifier_of_mnasnet_starts_well_with_a_thousand_classes_only():
    for classes, expected in ((10, 10**-0.5), (1000, 1000**-0.5)):
        net = create_model("mnasnet", classes, init="torchvision")
        assert spread(net, "classifier.weight") == pytest.approx(expected, rel=0.02)
        assert (first_loss(net, pooled("mnasnet")) - np.log(classes) > 3) == (classes == 10)


@pytest.mark.parametrize("name", ALL)
def test_parameters_are_named_as_their_cells(name):
    net = network(name)
    assert [parameter.name for parameter in net.get_parameters()] == [key for key, _ in net.parameters_and_names()]


@pytest.mark.parametrize("name", ALL)
def test_wrong_options_are_refused_with_what_exists(name):
    with pytest.raises(UsageError, match="no option 'widht'"):
        create_model(name, widht=1)
    for option, default in network(name).options.items():
        with pytest.raises(UsageError, match=option):
            create_model(name, **{option: "nonsense"})
        if isinstance(default, (int, float)):
            with pytest.raises(UsageError, match=option):
                create_model(name, **{option: 12345})
    with pytest.raises(UsageError, match="num_classes"):
        create_model(name, 0)


@pytest.mark.parametrize("name", ALL)
def test_entry_says_what_and_how_good_a_network_is(name):
    entry = get_entry(name)
    assert entry.variants[0] == {}
    assert "arXiv" in entry.paper
    assert entry.published
    for published in entry.published:
        assert 0.5 < published.top1 < (published.top5 or 1.0) <= 1.0
        assert published.source


@pytest.mark.parametrize("name", PARTICULARS)
def test_normalisation_activation_and_dropout(name):
    eps, momentum, beta, activations, dropout = PARTICULARS[name]
    net = network(name)
    for norm in cells(net, nn.BatchNorm2d):
        assert norm.eps == eps
        assert 1 - norm.momentum == pytest.approx(momentum)  # the cell holds the new batch's share
        np.testing.assert_allclose(norm.beta.asnumpy(), beta, rtol=1e-6)
        np.testing.assert_array_equal(norm.gamma.asnumpy(), 1)
    found = {type(cell) for kind in (nn.ReLU, nn.ReLU6, HardSwish) for cell in cells(net, kind)}
    assert found == activations
    assert [cell.rate for cell in cells(net, Dropout)] == ([dropout] if dropout else [])


@pytest.mark.parametrize("name", PREPROCESSING)
def test_preprocessing_is_the_published_one(name):
    assert dataclasses.astuple(get_entry(name).preprocessing) == PREPROCESSING[name]


def spread(net: nn.Cell, name: str) -> float:
    return float(dict(net.parameters_and_names())[name].asnumpy().std())


def test_first_weights_have_the_spread_of_their_recipe():
    # Names of weights with enough elements, against the standard deviation of their distribution.
    expected = {
        "spnasnet": {
            "features.stage4.5.expand.conv.weight": (2 / 192) ** 0.5,
            "features.stage4.5.depthwise.conv.weight": (2 / 25) ** 0.5,
        },
        "proxylessnas_mobile": {
            "features.stage5.1.expand.conv.weight": (2 / 1152) ** 0.5,
            "features.stage5.1.depthwise.conv.weight": (2 / (49 * 1152)) ** 0.5,
            "classifier.weight": 1280**-0.5,
        },
        "shufflenetv1": {  # uniform within b has deviation b / sqrt(3); groups count on their own
            "features.stage3.1.expand.conv.weight": (2 / (1920 / 3 + 480 / 3)) ** 0.5,
            "features.stage3.1.depthwise.conv.weight": (2 / (9 + 9 * 480)) ** 0.5,
        },
        "mnasnet": {
            "features.stage5.1.expand.conv.weight": (2 / 1152) ** 0.5,
            "features.stage5.1.depthwise.conv.weight": (2 / (25 * 1152)) ** 0.5,
            "classifier.weight": (3 * 1280) ** -0.5,
        },
        "spos_oneshot_plus": {
            "features.stage3.1.body.expand.conv.weight": 1 / 160,
            "features.stage4.1.body.depthwise.conv.weight": 1.0,
            "features.stage3.0.se.reduce.conv.weight": 0.01,
            "hidden.conv.conv.weight": 0.01,
            "classifier.weight": 0.01,
        },
    }
    for name, weights_of in expected.items():
        for parameter, deviation in weights_of.items():
            assert spread(network(name), parameter) == pytest.approx(deviation, rel=0.06), (name, parameter)
    mindspore_form = create_model("proxylessnas_mobile", 10, init="mindspore")
    bound = 192**-0.5  # uniform within 1 / sqrt(fan-in)
    assert spread(mindspore_form, "features.stage5.1.expand.conv.weight") == pytest.approx(bound / 3**0.5, rel=0.03)


@pytest.mark.parametrize(("name", "momentum"), [("mnasnet", 0.9997), ("spos_oneshot", 0.1)])
def test_batch_norm_momentum_is_an_option(name, momentum):
    norms = cells(create_model(name, 10, bn_momentum=momentum), nn.BatchNorm2d)
    assert {round(1 - norm.momentum, 6) for norm in norms} == {momentum}


def test_spos_moving_variance_may_start_at_zero():
    for norm in cells(create_model("spos_oneshot", 10, bn_variance=0), nn.BatchNorm2d):
        np.testing.assert_array_equal(norm.moving_variance.asnumpy(), 0)


def test_mnasnet_widths():
    base = (32, 16, 24, 40, 80, 96, 192, 320)
    expected = {
        0.5: (16, 8, 16, 24, 40, 48, 96, 160),
        0.75: (24, 16, 24, 32, 64, 72, 144, 240),
        1.0: base,
        1.3: (40, 24, 32, 56, 104, 128, 248, 416),
        1.4: (48, 24, 32, 56, 112, 136, 272, 448),
    }
    for alpha, widths in expected.items():
        assert tuple(scaled(channels, alpha) for channels in base) == widths


@pytest.mark.parametrize(
    "choices", ["0,1,2", [0] * 19, [0] * 19 + [4], [-1] * 20, [0.5] * 20, "a" * 20, 7, None, [True] * 20]
)
def test_spos_choices_must_be_twenty_indices(choices):
    with pytest.raises(UsageError, match="block_choices must be 20 whole numbers from 0 to 3"):
        create_model("spos_oneshot", block_choices=choices)


def test_spos_choices_may_be_a_list_in_one_string():
    text = "0,0,3,1,1,1,0,0,2,0,2,1,1,0,2,0,2,1,3,2"
    from_text, named = (weights(create_model("spos_oneshot", 2, **o)) for o in ({"block_choices": text}, {}))
    assert {key: value.shape for key, value in from_text.items()} == {key: value.shape for key, value in named.items()}


def test_registry():
    assert list_models("spos_*") == ["spos_oneshot", "spos_oneshot_plus", "spos_oneshot_s_plus"]
    with pytest.raises(UsageError, match=r"did you mean 'mnasnet'.*spnasnet"):
        create_model("mnasnett")
    with pytest.raises(ValueError, match="two networks are named mnasnet"):
        register(ModelEntry("mnasnet", nn.Identity, "arXiv"))


def test_one_of_and_share():
    assert one_of("alpha", 1, (0.5, 1.0)) == 1.0
    for value in (True, "1.0", None, [1.0]):
        with pytest.raises(UsageError, match=r"alpha .* does not exist; there are 0.5, 1.0"):
            one_of("alpha", value, (0.5, 1.0))
    assert share("rate", 0) == 0.0
    for value in (1, -0.1, True, "0.5", None, float("nan")):
        with pytest.raises(UsageError, match="rate must be a number from 0"):
            share("rate", value)
