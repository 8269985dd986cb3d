"""Gradients of one training step in float64: python -m bench.torch_gradients FOLDER, with FOLDER's network.json and
inputs.npz; writes FOLDER/gradients.npz. Runs in PyTorch's environment, like `bench.torch_engine`."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import torch
from torch import nn

from bench.torch_engine import build


def main(folder: str) -> None:
    given = np.load(Path(folder) / "inputs.npz")
    net = build(json.loads((Path(folder) / "network.json").read_text())).double().train()
    parameters = list(net.parameters())
    with torch.no_grad():
        for index, parameter in enumerate(parameters):
            parameter.copy_(torch.from_numpy(given[f"weight{index}"]))
    for module in net.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
    logits = net(torch.from_numpy(given["images"]).double())
    nn.functional.cross_entropy(logits, torch.from_numpy(given["labels"]).long()).backward()
    np.savez(Path(folder) / "gradients.npz", *[parameter.grad.numpy() for parameter in parameters])


if __name__ == "__main__":
    main(*sys.argv[1:])
