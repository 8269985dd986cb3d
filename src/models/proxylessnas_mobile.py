"""ProxylessNAS-Mobile (arXiv 1812.00332).

ReLU6, batch-norm eps 1e-3 and momentum 0.9, no dropout. Stage 2 was declared with four units of
which the search removed two; they hold nothing and are left out.
"""

from math import sqrt

from mindspore import nn
from mindspore.common.initializer import HeNormal, HeUniform, Normal, Zero

from src.models import ModelEntry, Published, one_of, register
from src.models.layers import BatchNorm, Bottlenecks, ConvNormAct, Network, bottleneck_stages, initialise

NORM, ACT = BatchNorm(eps=1e-3), "relu6"
STEM_CHANNELS, HEAD_CHANNELS = 32, 1280

UNITS = (
    # stage, kernel, expand, channels, stride, repeats
    Bottlenecks(1, 3, 1, 16, 1, 1),
    Bottlenecks(2, 5, 3, 32, 2, 1),
    Bottlenecks(2, 3, 3, 32, 1, 1),
    Bottlenecks(3, 7, 3, 40, 2, 1),
    Bottlenecks(3, 3, 3, 40, 1, 1),
    Bottlenecks(3, 5, 3, 40, 1, 2),
    Bottlenecks(4, 7, 6, 80, 2, 1),
    Bottlenecks(4, 5, 3, 80, 1, 3),
    Bottlenecks(4, 5, 6, 96, 1, 1),
    Bottlenecks(4, 5, 3, 96, 1, 3),
    Bottlenecks(5, 7, 6, 192, 2, 2),
    Bottlenecks(5, 7, 3, 192, 1, 2),
    Bottlenecks(5, 7, 6, 320, 1, 1),
)


def proxylessnas_mobile(num_classes: int, init: str = "official") -> nn.Cell:
    """Builds the network for ``num_classes`` classes.

    Args:
        init: ``official`` (the authors': convolutions He-normal by fan-out, classifier N(0, 1/inputs)
            with zero bias) or ``mindspore`` (upstream's: the framework's default, which in MindSpore 2
            is uniform within 1 / sqrt(fan-in) for all).
    """
    features = {
        "stem": ConvNormAct(3, STEM_CHANNELS, kernel=3, stride=2, norm=NORM, act=ACT),
        **bottleneck_stages(UNITS, STEM_CHANNELS, NORM, ACT),
        "head": ConvNormAct(UNITS[-1].channels, HEAD_CHANNELS, norm=NORM, act=ACT),
    }
    net = Network(features, HEAD_CHANNELS, num_classes)
    if one_of("init", init, ("official", "mindspore")) == "official":
        initialise(
            net,
            conv=lambda name, cell: HeNormal(mode="fan_out"),
            dense=Normal(1.0 / sqrt(HEAD_CHANNELS)),
            bias=Zero(),
        )
    else:
        initialise(net, conv=lambda name, cell: HeUniform(sqrt(5.0)))
    return net


register(
    ModelEntry(
        name="proxylessnas_mobile",
        build=proxylessnas_mobile,
        paper="ProxylessNAS: Direct Neural Architecture Search on Target Task and Hardware, arXiv 1812.00332",
        published=(
            Published("8 Ascend 910", 0.7504, None, "MindSpore model zoo, proxylessnas"),
            Published("Ascend 310", 0.75088, 0.92174, "MindSpore model zoo, proxylessnas"),
            Published("official release", 0.7459, 0.9220, "mit-han-lab/proxylessnas"),
        ),
    )
)
