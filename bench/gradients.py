"""How far whole networks' gradients are from float64: python -m bench.gradients.

The same weights, images and labels go through MindSpore's own operators, through the fused ones, and through PyTorch
in float64. Printed are the distances of all gradients together from the last, relative to its length (L2).

Of a million activations some lie so near a bend of ReLU that rounding decides on which side, in any implementation;
one of them moves a gradient more than all other rounding together (1e-3 to 1e-2 against 3e-5). So beside the median
over seeds stand the least distance, of a seed where that did not happen, and at how many seeds it did.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import tempfile
from pathlib import Path

import mindspore as ms
import numpy as np
from mindspore import Tensor, nn

from bench.describe import describe
from bench.engines import BENCH_PYTHON
from src.cpu import use_operators
from src.models import create_model, list_models
from src.models.layers import Dropout

MODES = ("standard", "fused")


def gradients(net: nn.Cell, images: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """All gradients of one step in one row."""
    loss, parameters = nn.CrossEntropyLoss(), net.trainable_params()

    def forward(x: Tensor) -> Tensor:
        return loss(net(x), Tensor(labels))

    found = ms.grad(forward, None, parameters)(Tensor(images))
    return np.concatenate([gradient.asnumpy().ravel() for gradient in found])


def distances(model: str, batch: int, size: int, seed: int, bench_python: str) -> list[float]:
    """Of each of MODES."""
    ms.set_seed(seed)
    net = create_model(model)
    net.set_train(True)
    for _, cell in net.cells_and_names():
        if isinstance(cell, Dropout):
            cell.set_train(False)
    rng = np.random.default_rng(seed)
    images = rng.normal(size=(batch, 3, size, size)).astype(np.float32)
    labels = rng.integers(0, 1000, batch).astype(np.int32)
    weights = {f"weight{i}": value.asnumpy() for i, value in enumerate(net.trainable_params())}
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "network.json").write_text(json.dumps(describe(net)))
        np.savez(Path(folder) / "inputs.npz", images=images, labels=labels, **weights)
        subprocess.run([bench_python, "-m", "bench.torch_gradients", folder], check=True)
        with np.load(Path(folder) / "gradients.npz") as exact:
            reference = np.concatenate([exact[name].ravel() for name in exact.files])
    found = []
    for mode in MODES:
        if use_operators(net, mode) != mode:
            raise SystemExit(f"{mode} is not to be had here")
        found.append(float(np.linalg.norm(gradients(net, images, labels) - reference) / np.linalg.norm(reference)))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.gradients", description=__doc__.splitlines()[0])
    parser.add_argument("--models", nargs="+", default=list_models(), choices=list_models(), metavar="NAME")
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--size", type=int, default=64, help="pixels")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--bench_python", default=str(BENCH_PYTHON), help="interpreter that has PyTorch")
    args = parser.parse_args()
    print(f"batch {args.batch}, {args.size} pixels, {args.seeds} seeds\n")
    print("| network | operators | least | median | seeds beyond 1e-3 |\n|--|--|--|--|--|")
    for model in args.models:
        found = [distances(model, args.batch, args.size, seed, args.bench_python) for seed in range(args.seeds)]
        for mode, values in zip(MODES, np.transpose(found), strict=True):
            bent = int((values > 1e-3).sum())
            print(f"| {model} | {mode} | {values.min():.2e} | {np.median(values):.2e} | {bent} |", flush=True)


if __name__ == "__main__":
    main()
