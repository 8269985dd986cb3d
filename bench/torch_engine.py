"""A workload in PyTorch: python -m bench.torch_engine LAYOUT COMPILE TASK DESCRIPTION BATCH SIZE THREADS.

LAYOUT is contiguous_format or channels_last, COMPILE eager or compiled. Knows nothing of MindSpore: it runs in an
environment of its own, and builds the network from the description that `bench.describe` wrote.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import torch
from torch import nn

from bench.serve import serve

ACTIVATIONS = {"Identity": nn.Identity, "ReLU": nn.ReLU, "ReLU6": nn.ReLU6, "HardSwish": nn.Hardswish}
ACTIVATIONS["HardSigmoid"] = nn.Hardsigmoid


class Composed(nn.Module):
    """The children of a described cell by name, and its forward by type."""

    def __init__(self, node: dict):
        super().__init__()
        self.node, self.type = node, node["type"]
        for name, child in node["children"].items():
            self.add_module(name, build(child))

    def forward(self, x, other=None):
        return FORWARD[self.type](self, x) if other is None else FORWARD[self.type](self, x, other)


def chain(*names):
    def forward(self, x):
        for name in names:
            x = getattr(self, name)(x)
        return x

    return forward


def sequence(self, x):
    for child in self.children():
        x = child(x)
    return x


def bottleneck(self, x):
    y = self.project(self.depthwise(self.expand(x)))
    return x + y if self.node["residual"] else y


def shuffle_unit(self, x):
    y = self.depthwise(self.shuffle_before(self.expand(x)))
    return self.join(self.shortcut(x), self.project(self.shuffle_after(y)))


def choice_block(self, x):
    passing, entering = self.divide(x)
    return self.join(self.shortcut(passing), self.se(self.body(entering)))


def shuffle(self, x):
    n, c, h, w = x.shape
    rows = self.node["rows"]
    return x.view(n, rows, c // rows, h, w).transpose(1, 2).reshape(n, c, h, w)


def network(self, x):
    x = self.hidden(self.pool(self.features(x)))
    return self.classifier(self.dropout(x.flatten(1)))


FORWARD = {
    "SequentialCell": sequence,
    "InvertedBottleneck": bottleneck,
    "ShuffleUnit": shuffle_unit,
    "ChoiceBlock": choice_block,
    "Both": lambda self, x: (x, x),
    "Split": lambda self, x: x.chunk(2, 1),
    "ChannelShuffle": shuffle,
    "ShuffledHalves": chain("shuffle", "split"),
    "Concat": lambda self, a, b: self.act(torch.cat((a, b), 1)),
    "Add": lambda self, a, b: self.act(a + b),
    "SqueezeExcite": lambda self, x: x * self.expand(self.reduce(self.pool(x))),
    "GlobalAvgPool": lambda self, x: x.mean((2, 3), keepdim=True),
    "Network": network,
}


def build(node: dict) -> nn.Module:
    kind = node["type"]
    if kind in ACTIVATIONS:
        return ACTIVATIONS[kind]()
    if kind == "ConvNormAct":
        inputs, outputs, kernel, stride, groups = node["shape"]
        has_norm = node["norm"] is not None
        layers = [nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=not has_norm)]
        if has_norm:
            layers.append(nn.BatchNorm2d(outputs, eps=node["norm"][0], momentum=1 - node["norm"][1]))
        return nn.Sequential(*layers, ACTIVATIONS[node["act"]]())
    if kind == "Dense":
        return nn.Linear(*node["shape"])
    if kind == "Dropout":
        return nn.Dropout(node["rate"])
    if kind in ("MaxPool", "AvgPool"):
        pool = nn.MaxPool2d if kind == "MaxPool" else nn.AvgPool2d
        return pool(3, 2, ceil_mode=True) if node["pad_mode"].lower() == "same" else pool(3, 2, 1)
    return Composed(node)


def main(layout: str, compiling: str, task: str, description: str, batch: str, size: str, threads: str) -> None:
    torch.set_num_threads(int(threads))
    memory_format = getattr(torch, layout)
    net = build(json.loads(Path(description).read_text())).to(memory_format=memory_format)
    net.train(task == "train")
    images = torch.randn(int(batch), 3, int(size), int(size)).contiguous(memory_format=memory_format)
    labels = torch.arange(int(batch)) % 1000
    run = torch.compile(net) if compiling == "compiled" else net
    if task == "eval":

        def evaluate() -> None:
            with torch.inference_mode():
                run(images)

        serve(evaluate)
        return
    loss, optimizer = nn.CrossEntropyLoss(), torch.optim.SGD(net.parameters(), 1e-3, 0.9)

    def step() -> None:
        optimizer.zero_grad()
        loss(run(images), labels).backward()
        optimizer.step()

    serve(step)


if __name__ == "__main__":
    main(*sys.argv[1:])
