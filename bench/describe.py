"""A network of `src.models` as plain data, from which another framework builds the same one; and as an ONNX file.

python -m bench.describe MODEL BATCH SIZE FOLDER writes FOLDER/network.json and FOLDER/network.onnx.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import mindspore as ms
import numpy as np
from mindspore import Tensor, nn

from src.models import create_model, layers


def describe(cell: nn.Cell) -> dict:
    """{"type", "children" by name in order, and the numbers its type needs}."""
    node = {"type": type(cell).__name__}
    if isinstance(cell, layers.ConvNormAct):
        conv = cell.conv
        node |= {
            "shape": [conv.in_channels, conv.out_channels, conv.kernel_size[0], conv.stride[0], conv.group],
            "norm": [cell.norm.eps, 1 - cell.norm.momentum] if isinstance(cell.norm, nn.BatchNorm2d) else None,
            "act": type(cell.act).__name__,
        }
        return node
    if isinstance(cell, nn.Dense):
        node["shape"] = [cell.in_channels, cell.out_channels]
    if isinstance(cell, layers.ChannelShuffle):
        node["rows"] = cell.rows
    if isinstance(cell, layers.Dropout):
        node["rate"] = cell.rate
    if isinstance(cell, layers.InvertedBottleneck):
        node["residual"] = cell.residual
    if isinstance(cell, (layers.MaxPool, layers.AvgPool)):
        node["pad_mode"] = cell.pool.pad_mode
        return node
    return node | {"children": {name: describe(child) for name, child in cell.name_cells().items()}}


def main(model: str, batch: str, size: str, folder: str) -> None:
    net = create_model(model)
    net.set_train(False)
    (Path(folder) / "network.json").write_text(json.dumps(describe(net)))
    images = Tensor(np.zeros((int(batch), 3, int(size), int(size)), np.float32))
    ms.export(net, images, file_name=str(Path(folder) / "network.onnx"), file_format="ONNX")


if __name__ == "__main__":
    main(*sys.argv[1:])
