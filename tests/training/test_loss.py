"""Label-smoothed cross entropy against a float64 NumPy reference: values, gradients, forms, odd labels."""

import mindspore as ms
import numpy as np
import pytest
from mindspore import Tensor

from src.errors import UsageError
from src.training.loss import LabelSmoothedCrossEntropy, smoothed_targets

SAMPLES, CLASSES = 6, 11
RNG = np.random.default_rng(5)
LOGITS = (RNG.standard_normal((SAMPLES, CLASSES)) * 4).astype(np.float32)
LABELS = RNG.integers(0, CLASSES, SAMPLES).astype(np.int32)
SOFT = RNG.dirichlet(np.ones(CLASSES), SAMPLES).astype(np.float32)


@pytest.fixture(params=["graph", "pynative"], autouse=True)
def mode(request):
    ms.set_context(mode=ms.GRAPH_MODE if request.param == "graph" else ms.PYNATIVE_MODE)
    yield request.param
    ms.set_context(mode=ms.PYNATIVE_MODE)


def reference(logits, labels, smoothing, form):
    """Loss per sample and the gradient of the mean, in float64."""
    logits = logits.astype(np.float64)
    distribution = np.eye(CLASSES)[labels] if labels.ndim == 1 else labels.astype(np.float64)
    if form == "uniform":
        target = distribution * (1 - smoothing) + smoothing / CLASSES
    else:
        target = distribution * (1 - smoothing) + (1 - distribution) * smoothing / (CLASSES - 1)
    shifted = logits - logits.max(1, keepdims=True)
    log_probability = shifted - np.log(np.exp(shifted).sum(1, keepdims=True))
    return -(target * log_probability).sum(1), (np.exp(log_probability) - target) / len(logits)


@pytest.mark.parametrize("form", ["uniform", "others"])
@pytest.mark.parametrize(
    ("smoothing", "labels"), [(0.0, LABELS), (0.1, LABELS), (0.1, SOFT)], ids=["hard", "smooth", "soft"]
)
def test_equals_numpy_with_gradient(smoothing, labels, form):
    loss_fn = LabelSmoothedCrossEntropy(CLASSES, smoothing, form)
    loss, gradient = ms.value_and_grad(loss_fn)(Tensor(LOGITS), Tensor(labels))
    expected, expected_gradient = reference(LOGITS, labels, smoothing, form)
    assert loss.shape == ()
    np.testing.assert_allclose(float(loss.asnumpy()), expected.mean(), rtol=1e-6)
    np.testing.assert_allclose(gradient.asnumpy(), expected_gradient, rtol=2e-5, atol=2e-8)


def test_per_sample_values_average_to_the_loss():
    loss_fn = LabelSmoothedCrossEntropy(CLASSES, 0.1, "uniform")
    each = loss_fn.per_sample(Tensor(LOGITS), Tensor(LABELS)).asnumpy()
    # The CPU's log-softmax is itself good to about 2e-6.
    np.testing.assert_allclose(each, reference(LOGITS, LABELS, 0.1, "uniform")[0], rtol=5e-6)
    mean = loss_fn(Tensor(LOGITS), Tensor(LABELS)).asnumpy()
    np.testing.assert_allclose(mean, each.mean(), rtol=1e-6)


def test_half_precision_logits_are_computed_in_float32():
    half = LOGITS.astype(np.float16)
    loss = LabelSmoothedCrossEntropy(CLASSES, 0.1, "others")(Tensor(half), Tensor(LABELS))
    assert loss.dtype == ms.float32
    np.testing.assert_allclose(float(loss.asnumpy()), reference(half, LABELS, 0.1, "others")[0].mean(), rtol=1e-6)


def test_huge_logits_stay_finite():
    loss_fn = LabelSmoothedCrossEntropy(CLASSES, 0.1, "uniform")
    loss, gradient = ms.value_and_grad(loss_fn)(Tensor(LOGITS * 1e4), Tensor(LABELS))
    np.testing.assert_allclose(
        float(loss.asnumpy()), reference(LOGITS * np.float32(1e4), LABELS, 0.1, "uniform")[0].mean(), rtol=1e-6
    )
    assert np.isfinite(gradient.asnumpy()).all()


@pytest.mark.parametrize("wrong", [-1, CLASSES])
def test_a_class_number_out_of_range_is_nan_and_never_another_class(wrong):
    labels = LABELS.copy()
    labels[2] = wrong
    loss_fn = LabelSmoothedCrossEntropy(CLASSES, 0.1, "uniform")
    loss, gradient = ms.value_and_grad(loss_fn)(Tensor(LOGITS), Tensor(labels))
    assert np.isnan(loss.asnumpy())
    assert np.isnan(gradient.asnumpy()[2]).all()


def test_targets_of_the_two_forms():
    assert smoothed_targets(1000, 0.1, "uniform") == pytest.approx((0.9001, 0.0001), rel=1e-12)
    assert smoothed_targets(1000, 0.1, "others") == pytest.approx((0.9, 0.1 / 999), rel=1e-12)


def test_a_single_class_has_no_others_to_smooth_over():
    with pytest.raises(UsageError, match="two classes"):
        smoothed_targets(1, 0.1, "others")
    assert smoothed_targets(1, 0.0, "others") == (1.0, 0.0)
