"""Single-Path NAS (arXiv 1904.02877): the network found for the Pixel 1, in its MindSpore upstream form.

ReLU, batch-norm eps 1e-5 and momentum 0.9. Convolutions start He-normal (fan-in), the classifier
He-uniform with the framework's bias. The authors' TensorFlow release differs (eps 1e-3, momentum
0.99, dropout 0.2, TensorFlow's asymmetric padding) and is not offered.
"""

from mindspore import nn
from mindspore.common.initializer import HeNormal, HeUniform

from src.models import ModelEntry, Published, register
from src.models.layers import BatchNorm, Bottlenecks, ConvNormAct, Network, bottleneck_stages, initialise

NORM, ACT = BatchNorm(), "relu"
STEM_CHANNELS, HEAD_CHANNELS = 32, 1280

UNITS = (
    # stage, kernel, expand, channels, stride, repeats
    Bottlenecks(0, 3, 1, 16, 1, 1),
    Bottlenecks(1, 3, 3, 24, 2, 3),
    Bottlenecks(2, 5, 6, 40, 2, 1),
    Bottlenecks(2, 3, 3, 40, 1, 3),
    Bottlenecks(3, 5, 6, 80, 2, 1),
    Bottlenecks(3, 3, 3, 80, 1, 3),
    Bottlenecks(4, 5, 6, 96, 1, 1),
    Bottlenecks(4, 5, 3, 96, 1, 3),
    Bottlenecks(4, 5, 6, 192, 2, 4),
    Bottlenecks(5, 3, 6, 320, 1, 1),
)


def spnasnet(num_classes: int) -> nn.Cell:
    features = {
        "stem": ConvNormAct(3, STEM_CHANNELS, kernel=3, stride=2, norm=NORM, act=ACT),
        **bottleneck_stages(UNITS, STEM_CHANNELS, NORM, ACT),
        "head": ConvNormAct(UNITS[-1].channels, HEAD_CHANNELS, norm=NORM, act=ACT),
    }
    net = Network(features, HEAD_CHANNELS, num_classes)
    initialise(net, conv=lambda name, cell: HeNormal(), dense=HeUniform())
    return net


register(
    ModelEntry(
        name="spnasnet",
        build=spnasnet,
        paper="Single-Path NAS: Designing Hardware-Efficient ConvNets in less than 4 Hours, arXiv 1904.02877",
        published=(
            Published("8 Ascend 910", 0.7421, 0.91712, "MindSpore model zoo, single_path_nas"),
            Published("8 V100", 0.7401, 0.9166, "MindSpore model zoo, single_path_nas"),
            Published("spnasnet_100", 0.74086, 0.91826, "timm"),
            Published("TensorFlow release", 0.7496, None, "the paper"),
        ),
    )
)
