"""The synchronised batch norm of one rank against the framework's own; two ranks: tests/scripts/test_two_ranks.py."""

import mindspore as ms
import numpy as np
from mindspore import Tensor, nn

from src.training.sync_batch_norm import SyncBatchNorm, synchronise_batch_norm


def network() -> nn.Cell:
    ms.set_seed(3)
    return nn.SequentialCell(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4, eps=1e-3, momentum=0.8), nn.ReLU(), Nested())


class Nested(nn.Cell):
    def __init__(self):
        super().__init__()
        self.norm = nn.BatchNorm2d(4)

    def construct(self, x):
        return self.norm(x)


def gradients(net: nn.Cell, images: Tensor) -> list[np.ndarray]:
    target = Tensor(np.random.default_rng(1).normal(size=(5, 4, 6, 6)).astype(np.float32))

    def loss(x):
        return (net(x) * target).sum()

    net.set_train(True)
    return [grad.asnumpy() for grad in ms.grad(loss, None, net.trainable_params())(images)]


def test_names_and_order_of_parameters_stay():
    net = network()
    before = [(parameter.name, id(parameter)) for parameter in net.get_parameters()]
    assert synchronise_batch_norm(net, 1) == 2
    assert [(parameter.name, id(parameter)) for parameter in net.get_parameters()] == before
    assert not any(isinstance(cell, nn.BatchNorm2d) for _, cell in net.cells_and_names())
    assert isinstance(net[3].norm, SyncBatchNorm)


def test_one_rank_equals_the_frameworks_batch_norm():
    images = Tensor((np.random.default_rng(0).normal(size=(5, 3, 6, 6)) + 2.0).astype(np.float32))
    own, stock = network(), network()
    synchronise_batch_norm(own, 1)
    found, expected = gradients(own, images), gradients(stock, images)
    largest = max(np.abs(gradient).max() for gradient in expected)
    for ours, theirs in zip(found, expected, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-6 * largest)
    for ours, theirs in zip(own.get_parameters(), stock.get_parameters(), strict=True):
        np.testing.assert_allclose(ours.asnumpy(), theirs.asnumpy(), rtol=2e-5, atol=1e-5)
    assert not np.allclose(own[1].moving_mean.asnumpy(), 0.0)
    own.set_train(False)
    stock.set_train(False)
    np.testing.assert_allclose(own(images).asnumpy(), stock(images).asnumpy(), rtol=1e-4, atol=1e-4)
