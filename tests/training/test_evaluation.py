"""Evaluation: every image once, against NumPy."""

from __future__ import annotations

import mindspore as ms
import numpy as np
import pytest
from mindspore import Tensor, nn

from src.data.dataset import EvalData
from src.data.preprocessing import Preprocessing
from src.errors import Interrupted, RunFailed
from src.training import evaluation
from src.training.evaluation import Evaluator
from src.training.loss import LabelSmoothedCrossEntropy
from tests.images import class_folders

CLASSES = 7
RNG = np.random.default_rng(2)
LOGITS = RNG.normal(size=(13, CLASSES)).astype(np.float32) * 3
LABELS = RNG.integers(0, CLASSES, 13).astype(np.int32)


class Batches:
    """The logits themselves as images, in batches of one size, the last filled up with its last image."""

    def __init__(self, batch_size: int, images: np.ndarray = LOGITS, total: int = 13, first: int = 0, last: int = 13):
        self.batch_size, self.images, self.total_all_ranks = batch_size, images, total
        self.first, self.last = first, last

    def __iter__(self):
        for start in range(self.first, self.last, self.batch_size):
            chosen = np.arange(start, start + self.batch_size).clip(max=self.last - 1)
            valid = min(self.batch_size, self.last - start)
            yield Tensor(self.images[chosen]), Tensor(LABELS[chosen]), valid


@pytest.fixture(autouse=True)
def pynative():
    ms.set_context(mode=ms.PYNATIVE_MODE)


@pytest.fixture
def evaluator() -> Evaluator:
    return Evaluator(nn.Identity(), LabelSmoothedCrossEntropy(CLASSES, 0.1))


@pytest.mark.parametrize("batch_size", [1, 4, 8, 13, 20])
def test_thirteen_images_at_any_batch_size(evaluator, batch_size):
    result = evaluator.run(Batches(batch_size), with_confusion=True)
    shifted = LOGITS.astype(np.float64) - LOGITS.max(axis=1, keepdims=True)
    log_probability = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
    target = np.full((13, CLASSES), 0.1 / CLASSES)
    target[np.arange(13), LABELS] += 0.9
    assert result.loss == pytest.approx(-(target * log_probability).sum(axis=1).mean(), rel=1e-5)
    assert result.cross_entropy == pytest.approx(-log_probability[np.arange(13), LABELS].mean(), rel=1e-12)
    order = np.argsort(-LOGITS, axis=1)
    assert result.top1 == (order[:, 0] == LABELS).mean()
    assert result.top5 == (order[:, :5] == LABELS[:, None]).any(axis=1).mean()
    assert (result.images, result.total) == (13, 13)
    assert result.confusion.sum() == 13
    assert np.trace(result.confusion) == round(result.top1 * 13)
    np.testing.assert_array_equal(result.confusion.sum(axis=1), np.bincount(LABELS, minlength=CLASSES))
    assert (result.images_per_second > 0) == (batch_size < 13)


def test_the_result_does_not_depend_on_the_batch_size(evaluator):
    results = [evaluator.run(Batches(size)) for size in (1, 5, 13)]
    assert {(result.top1, result.top5) for result in results} == {(results[0].top1, results[0].top5)}
    assert max(result.loss for result in results) - min(result.loss for result in results) < 1e-6
    assert results[0].confusion is None


def test_images_that_are_lost_are_an_error(evaluator):
    with pytest.raises(RunFailed, match="evaluated 13 of 14 images"):
        evaluator.run(Batches(4, total=14))


def test_logits_that_are_no_numbers_are_counted_all_the_same(evaluator):
    result = evaluator.run(Batches(8, np.full_like(LOGITS, np.nan)))
    assert result.images == 13
    assert not np.isfinite(result.loss)


def test_it_can_be_broken_off_between_batches(evaluator):
    calls = []

    def before_batch():
        calls.append(None)
        if len(calls) == 3:
            raise Interrupted(15)

    with pytest.raises(Interrupted):
        evaluator.run(Batches(4), before_batch=before_batch)
    assert len(calls) == 3


def test_the_network_is_evaluated_in_evaluation_mode():
    network = nn.BatchNorm1d(CLASSES)
    network.set_train()
    before = network.moving_mean.asnumpy().copy()
    Evaluator(network, LabelSmoothedCrossEntropy(CLASSES)).run(Batches(4))
    np.testing.assert_array_equal(network.moving_mean.asnumpy(), before)
    assert not network.training


def test_shares_of_several_ranks_add_up(evaluator, monkeypatch):
    """Each rank's sums are caught on their way and added up, as the collective does."""
    whole = evaluator.run(Batches(4))
    sent: list[list[float]] = []

    def collective(values):
        sent.append(list(values))
        return [sum(column) for column in zip(*sent, strict=True)]

    monkeypatch.setattr(evaluation, "all_reduce_sum", collective)
    with pytest.raises(RunFailed, match="5 of 13"):
        evaluator.run(Batches(4, first=0, last=5))
    result = evaluator.run(Batches(4, first=5))
    assert (result.images, result.top1, result.top5) == (13, whole.top1, whole.top5)
    assert result.loss == pytest.approx(whole.loss, rel=1e-6)


def test_real_images_are_counted_once(tmp_path):
    class_folders(tmp_path, per_class=5, classes=3, height=33, width=36)
    files = sorted((path, int(path.parent.name[-1])) for path in tmp_path.rglob("*.jpg"))[:13]

    class Red(nn.Cell):
        def construct(self, images):
            return images[:, :, 0, 0]

    evaluator = Evaluator(Red(), LabelSmoothedCrossEntropy(3, 0.0))
    result = evaluator.run(EvalData(files, Preprocessing().at_size(32), 8, 1), with_confusion=True)
    assert (result.images, result.total) == (13, 13)
    np.testing.assert_array_equal(result.confusion.sum(axis=1), [5, 5, 3])
