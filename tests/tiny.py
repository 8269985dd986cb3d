"""A network small enough to train in a blink, for tests of everything around a network.

It has what makes a resume hard: batch norm, dropout and a depthwise convolution. Tests in the process take the
fixture ``tiny_model``; those that need a process of their own run ``python -m tests.tiny train --model tiny …``.
"""

from __future__ import annotations

import sys

from mindspore import nn

from src.data.preprocessing import Preprocessing
from src.models import ModelEntry
from src.models.layers import BatchNorm, ConvNormAct, Network


def tiny(num_classes: int, channels: int = 8, dropout: float = 0.3, init: str = "mindspore") -> nn.Cell:
    """Args:
    channels: after the first convolution.
    dropout: rate in front of the classifier.
    init: a name of first weights, as other networks have several; here it changes nothing.
    """
    norm = BatchNorm()
    features = {
        "stem": ConvNormAct(3, channels, kernel=3, stride=2, norm=norm, act="relu"),
        "depthwise": ConvNormAct(channels, channels, kernel=3, stride=2, groups=channels, norm=norm, act="relu"),
    }
    return Network(features, channels, num_classes, dropout=dropout)


ENTRY = ModelEntry(name="tiny", build=tiny, paper="none", preprocessing=Preprocessing().at_size(32))


if __name__ == "__main__":
    import eval as evaluation_program
    import train as training_program
    from src.errors import run
    from src.models import register

    register(ENTRY)
    program = {"train": training_program, "eval": evaluation_program}[sys.argv[1]]
    run(program.main, sys.argv[2:])
