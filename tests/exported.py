"""Checkpoints to export: real networks whose batch norms have statistics worth folding."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from mindspore import Tensor, nn

from src.models import create_model, get_entry
from src.models.layers import weights
from src.runs.checkpoint import write_checkpoint

IMAGE_SIZE = 32


def lively(network: nn.Cell, seed: int = 0) -> nn.Cell:
    """Gives batch norms statistics as if trained, and the classifier weights that make logits of order 1."""
    rng = np.random.default_rng(seed)
    for name, parameter in network.parameters_and_names():
        kind = name.rpartition(".")[2]
        if kind in ("beta", "moving_mean"):
            values = rng.normal(0, 0.2, parameter.shape)
        elif kind in ("gamma", "moving_variance"):
            values = rng.uniform(0.6, 1.6, parameter.shape)
        elif name == "classifier.weight":
            values = rng.normal(0, 1, parameter.shape)
        else:
            continue
        parameter.set_data(Tensor(values.astype(np.float32)))
    network.set_train(False)
    return network


def checkpoint(folder: Path, model: str, classes: list[str], **options) -> Path:
    """A checkpoint of a lively network for images of 32 pixels."""
    network = lively(create_model(model, len(classes), **options))
    meta = {
        "model": model,
        "model_options": options,
        "num_classes": len(classes),
        "classes": classes,
        "preprocessing": get_entry(model).preprocessing.at_size(IMAGE_SIZE).to_dict(),
        "config": {"label_smoothing": 0.1, "label_smoothing_form": "uniform", "data_path": "", "val_data_path": ""},
    }
    path = folder / f"{model}-1_1.ckpt"
    arrays = {name: value.asnumpy() for name, value in weights(network).items()}
    write_checkpoint(path, arrays, {}, meta)
    return path
