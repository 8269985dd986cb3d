"""A workload in MindSpore's graph mode: python -m bench.mindspore_engine MODE TASK MODEL BATCH SIZE."""

from __future__ import annotations

import sys

import mindspore as ms
import numpy as np
from mindspore import Tensor, nn, ops

from bench.serve import serve
from src.cpu import inference, operators_in, use_operators
from src.cpu.optimizers import update_in_one_pass
from src.models import create_model
from src.optim import create_optimizer


def main(mode: str, task: str, model: str, batch: str, size: str) -> None:
    ms.set_context(mode=ms.GRAPH_MODE)
    net = create_model(model)
    if (active := use_operators(net, mode, say=lambda line: print(line, file=sys.stderr))) != mode:
        sys.exit(f"{mode} is not to be had here, only {active}")
    net.set_train(task == "train")
    shape = (int(batch), 3, int(size), int(size))
    images = Tensor(np.random.default_rng(0).normal(size=shape).astype(np.float32))
    labels = Tensor(np.arange(int(batch)) % 1000, ms.int32)
    if task == "eval":
        evaluated = inference(net)  # as eval.py does
        serve(lambda: evaluated(images).asnumpy())
        return
    loss, optimizer = nn.CrossEntropyLoss(), create_optimizer(net.trainable_params(), name="momentum", lr=1e-3)
    if operators := operators_in(net):
        update_in_one_pass(optimizer, operators)  # as train.py does

    def forward(images, labels):
        return loss(net(images), labels)

    gradient = ops.value_and_grad(forward, None, optimizer.parameters)

    @ms.jit
    def step(images, labels):
        value, gradients = gradient(images, labels)
        optimizer(gradients)
        return value

    serve(lambda: step(images, labels).asnumpy())


if __name__ == "__main__":
    main(*sys.argv[1:])
