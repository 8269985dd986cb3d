"""A workload in MindSpore's graph mode: python -m bench.mindspore_engine MODE TASK MODEL BATCH SIZE."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable

import mindspore as ms
import numpy as np
from mindspore import Tensor, nn

from bench.serve import serve
from src.cpu import inference, use_operators
from src.models import create_model
from src.settings.sections import Optimizer, Update
from src.training.one_pass import optimizer_for
from src.training.step import TrainStep


def workload(mode: str, task: str, model: str, batch: int, size: int) -> Callable[[], np.ndarray]:
    """A step or an evaluation, with the cells of train.py and eval.py.

    Not with ``ms.jit``: in MindSpore 2.10 its caller waits for results in a busy loop, which takes a core away.
    """
    ms.set_context(mode=ms.GRAPH_MODE)
    logging.basicConfig(level=logging.INFO, format="%(message)s")  # to stderr: stdout is the answer
    net = create_model(model)
    if (active := use_operators(net, mode)) != mode:
        sys.exit(f"{mode} is not to be had here, only {active}")
    net.set_train(task == "train")
    images = Tensor(np.random.default_rng(0).normal(size=(batch, 3, size, size)).astype(np.float32))
    labels = Tensor(np.arange(batch) % 1000, ms.int32)
    if task == "eval":
        evaluated = inference(net)
        return lambda: evaluated(images).asnumpy()
    optimizer, all_finite = optimizer_for(net, net.trainable_params(), Optimizer(weight_decay=0), 1e-3)
    step = TrainStep(net, nn.CrossEntropyLoss(), optimizer, Update(), all_finite=all_finite)
    return lambda: step(images, labels)[0].asnumpy()


if __name__ == "__main__":
    serve(workload(*sys.argv[1:4], int(sys.argv[4]), int(sys.argv[5])))
