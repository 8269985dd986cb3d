"""Batch normalisation over the images of all ranks.

Made of sums over the ranks, so that it also runs on the CPU, where the framework's own does not.
"""

from __future__ import annotations

import mindspore as ms
from mindspore import Tensor, nn, ops


class SyncBatchNorm(nn.Cell):
    """Batch normalisation of [N, C, H, W] whose training statistics are those of all ranks together.

    Ranks may hold different numbers of images. The variance is that of the centred values, which costs a
    second sum over the ranks and keeps its digits. Statistics are float32 whatever the input is.

    Args:
        norm: the cell to stand in for; its Parameters are taken over as they are.
        size: number of ranks (1: no communication).
    """

    def __init__(self, norm: nn.BatchNorm2d, size: int):
        super().__init__(auto_prefix=False)
        self.moving_mean, self.moving_variance = norm.moving_mean, norm.moving_variance
        self.gamma, self.beta = norm.gamma, norm.beta
        self.eps = norm.eps
        self.share = norm.momentum  # of the batch in the moving statistics: nn.BatchNorm2d keeps one minus its argument
        self.infer = ops.BatchNorm(is_training=False, epsilon=norm.eps)
        self.over_ranks = ops.AllReduce() if size > 1 else nn.Identity()

    def construct(self, x: Tensor) -> Tensor:
        if not self.training:
            return self.infer(x, self.gamma, self.beta, self.moving_mean, self.moving_variance)[0]
        values = x.astype(ms.float32)
        n, c, h, w = values.shape
        own = ops.concat((values.sum((0, 2, 3)), ops.full((1,), n * h * w, dtype=ms.float32)))
        total = self.over_ranks(own)
        count = total[c]
        mean = total[:c] / count
        centred = values - mean.reshape((1, c, 1, 1))
        variance = self.over_ranks((centred * centred).sum((0, 2, 3))) / count
        self.remember(mean, variance * count / ops.maximum(count - 1.0, 1.0))
        scale = self.gamma * ops.rsqrt(variance + self.eps)
        return (centred * scale.reshape((1, c, 1, 1)) + self.beta.reshape((1, c, 1, 1))).astype(x.dtype)

    def remember(self, mean: Tensor, variance: Tensor) -> None:
        """Moves the moving statistics towards the batch's (the unbiased variance, as nn.BatchNorm2d does)."""
        mean, variance = ops.stop_gradient(mean), ops.stop_gradient(variance)
        ops.assign(self.moving_mean, self.moving_mean + self.share * (mean - self.moving_mean))
        ops.assign(self.moving_variance, self.moving_variance + self.share * (variance - self.moving_variance))


def synchronise_batch_norm(network: nn.Cell, size: int) -> int:
    """Puts a SyncBatchNorm in the place of every nn.BatchNorm2d of ``network``; returns how many.

    Parameters and their names stay, so checkpoints and optimizers do not notice. Call it before the
    network's precision is changed.
    """
    count = 0
    for _, cell in network.cells_and_names():
        for name, child in list(cell.name_cells().items()):
            if isinstance(child, nn.BatchNorm2d):
                names = [(parameter, parameter.name) for parameter in child.get_parameters()]
                if isinstance(cell, nn.SequentialCell):
                    cell[int(name)] = SyncBatchNorm(child, size)
                else:
                    setattr(cell, name, SyncBatchNorm(child, size))
                for parameter, kept in names:
                    parameter.name = kept
                count += 1
    return count
