"""MnasNet-B1 (arXiv 1807.11626): torchvision's network at its four widths, and timm's at 1.4.

ReLU, batch-norm eps 1e-5 (mindcv: 1e-3), dropout 0.2. Convolutions start He-normal (fan-out), biases at zero.
"""

from math import sqrt

from mindspore import nn
from mindspore.common.initializer import HeNormal, Uniform, Zero

from src.data.preprocessing import Preprocessing
from src.models import ModelEntry, Published, one_of, register, share
from src.models.layers import BatchNorm, Bottlenecks, ConvNormAct, Network, bottleneck_stages, initialise

ACT = "relu"
STEM_CHANNELS, HEAD_CHANNELS = 32, 1280
ALPHAS = (0.5, 0.75, 1.0, 1.3, 1.4)

UNITS = (
    # stage, kernel, expand, channels at alpha 1, stride, repeats
    Bottlenecks(0, 3, 1, 16, 1, 1),
    Bottlenecks(1, 3, 3, 24, 2, 3),
    Bottlenecks(2, 5, 3, 40, 2, 3),
    Bottlenecks(3, 5, 6, 80, 2, 3),
    Bottlenecks(4, 3, 6, 96, 1, 2),
    Bottlenecks(5, 5, 6, 192, 2, 4),
    Bottlenecks(6, 3, 6, 320, 1, 1),
)


def scaled(channels: int, alpha: float) -> int:
    """``channels * alpha`` to the nearest multiple of 8 (half up, at least 8), one multiple more
    where that would lose over 10 %."""
    exact = channels * alpha
    rounded = max(8, int(exact + 4) // 8 * 8)
    return rounded if rounded >= 0.9 * exact else rounded + 8


def mnasnet(
    num_classes: int,
    alpha: float = 1.0,
    bn_momentum: float = 0.9,
    dropout: float = 0.2,
    init: str = "fan_in",
    bn_eps: float = 1e-5,
) -> nn.Cell:
    """Builds the network for ``num_classes`` classes.

    Args:
        alpha: width, one of ALPHAS.
        bn_momentum: share of the old moving statistic kept. 0.9 is the Ascend port's; torchvision
            trains with 0.9997 (its "momentum 3e-4"), which needs some 10,000 updates to settle.
        dropout: rate in front of the classifier.
        init: of the classifier's weights: ``fan_in`` (uniform within 1 / sqrt(inputs): the first loss is
            near ln(num_classes), whatever their number) or ``torchvision`` (its own: uniform within
            sqrt(3 / num_classes), made for 1,000 classes; with ten the first loss is near 10).
        bn_eps: added to the variance: 1e-5, or 1e-3 with weights of mindcv's.
    """
    alpha = one_of("alpha", alpha, ALPHAS)
    norm = BatchNorm(eps=one_of("bn_eps", bn_eps, (1e-5, 1e-3)), momentum=share("bn_momentum", bn_momentum))
    rows = [row._replace(channels=scaled(row.channels, alpha)) for row in UNITS]
    stem = scaled(STEM_CHANNELS, alpha)
    features = {
        "stem": ConvNormAct(3, stem, kernel=3, stride=2, norm=norm, act=ACT),
        **bottleneck_stages(rows, stem, norm, ACT),
        "head": ConvNormAct(rows[-1].channels, HEAD_CHANNELS, norm=norm, act=ACT),
    }
    net = Network(features, HEAD_CHANNELS, num_classes, dropout=share("dropout", dropout))
    bounds = {"fan_in": 1.0 / sqrt(HEAD_CHANNELS), "torchvision": sqrt(3.0 / num_classes)}
    initialise(
        net,
        conv=lambda name, cell: HeNormal(mode="fan_out"),
        dense=Uniform(bounds[one_of("init", init, bounds)]),
        bias=Zero(),
    )
    return net


register(
    ModelEntry(
        name="mnasnet",
        build=mnasnet,
        paper="MnasNet: Platform-Aware Neural Architecture Search for Mobile, arXiv 1807.11626",
        preprocessing=Preprocessing(resize_kernel="pil"),
        published=(
            Published("alpha 1.0", 0.73456, 0.91510, "torchvision"),
            Published("alpha 0.5", 0.67734, 0.87490, "torchvision"),
            Published("alpha 0.75", 0.71180, 0.90496, "torchvision"),
            Published("alpha 1.3", 0.76506, 0.93522, "torchvision"),
            Published("alpha 1.0, 8 Ascend 910", 0.73045, None, "Ascend ModelZoo-PyTorch, MnasNet"),
        ),
        variants=({}, {"alpha": 0.5}, {"alpha": 0.75}, {"alpha": 1.3}, {"alpha": 1.4}),
    )
)
