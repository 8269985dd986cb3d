"""Label-smoothed cross entropy (Szegedy et al., arXiv 1512.00567) in the two forms in use."""

from __future__ import annotations

import mindspore as ms
from mindspore import Tensor, nn, ops

from src.errors import UsageError


def smoothed_targets(num_classes: int, smoothing: float, form: str) -> tuple[float, float]:
    """The target of the true class and of every other class.

    ``uniform`` spreads ``smoothing`` over all classes (0.9001 and 0.0001 for 0.1 and 1000 classes:
    SPOS, MnasNet, PyTorch); ``others`` over the wrong ones (0.9 and 0.1/999: MindSpore upstream).

    Raises:
        UsageError: ``others`` and no wrong class to smooth over.
    """
    if form == "uniform":
        off = smoothing / num_classes
        return 1 - smoothing + off, off
    if num_classes < 2 and smoothing > 0:
        raise UsageError("label_smoothing_form others needs two classes or more")
    return 1 - smoothing, smoothing / max(num_classes - 1, 1)


class LabelSmoothedCrossEntropy(nn.Cell):
    """Mean cross entropy of logits [N, K] (any float type, computed in float32) against smoothed labels.

    Labels are class numbers, int32 [N], or already distributions, float [N, K], which are smoothed alike.
    A class number outside 0 to K-1 makes the loss and its gradient NaN instead of passing for some class.

    Args:
        num_classes: K.
        smoothing: epsilon; 0 is plain cross entropy.
        form: ``uniform`` or ``others``, see :func:`smoothed_targets`.
    """

    def __init__(self, num_classes: int, smoothing: float = 0.0, form: str = "uniform"):
        super().__init__()
        self.num_classes = num_classes
        self.on, self.off = smoothed_targets(num_classes, smoothing, form)

    def per_sample(self, logits: Tensor, labels: Tensor) -> Tensor:
        """The loss of each sample: float32 [N]."""
        if labels.ndim == 1:
            known = ops.logical_and(labels >= 0, labels < self.num_classes).expand_dims(1)
            target = ops.one_hot(labels, self.num_classes, 1.0, 0.0)
            target = ops.select(known.broadcast_to(target.shape), target, ops.full_like(target, float("nan")))
        else:
            target = labels.astype(ms.float32)
        target = target * (self.on - self.off) + self.off
        return -(target * ops.log_softmax(logits.astype(ms.float32), -1)).sum(-1)

    def construct(self, logits: Tensor, labels: Tensor) -> Tensor:
        """The mean over the samples: float32 scalar."""
        return self.per_sample(logits, labels).mean()
