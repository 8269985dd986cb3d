"""What is exported: the trained network with fixed names and shapes, its input normalised outside or inside."""

from __future__ import annotations

import dataclasses

import mindspore as ms
import numpy as np
from mindspore import Tensor, nn, ops

from src.data.preprocessing import Preprocessing

INPUT_NAME, OUTPUT_NAME = "images", "logits"


class NormalisedInside(nn.Cell):
    """uint8 images [N, H, W, 3], as decoders give them, to logits: the normalisation is part of the graph."""

    def __init__(self, network: nn.Cell, preprocessing: Preprocessing):
        super().__init__(auto_prefix=False)
        self.network = network
        mean, std = (np.array(values, np.float64) * 255 for values in (preprocessing.mean, preprocessing.std))
        self.mean = Tensor(mean.reshape(1, 3, 1, 1).astype(np.float32))
        self.inverse_std = Tensor((1 / std).reshape(1, 3, 1, 1).astype(np.float32))

    def construct(self, images: Tensor) -> Tensor:
        x = ops.transpose(ops.cast(images, ms.float32), (0, 3, 1, 2))
        return self.network((x - self.mean) * self.inverse_std)


@dataclasses.dataclass(frozen=True)
class Graph:
    """A network to export.

    Attributes:
        cell: in evaluation mode.
        image_size: side of its input, pixels.
        batch: images at once; None leaves it open.
        is_normalising: takes uint8 [N, H, W, 3] instead of float32 [N, 3, H, W].
    """

    cell: nn.Cell
    image_size: int
    batch: int | None
    is_normalising: bool

    @property
    def input_shape(self) -> tuple[int | None, ...]:
        size = self.image_size
        return (self.batch, size, size, 3) if self.is_normalising else (self.batch, 3, size, size)

    @property
    def input_dtype(self) -> str:
        return "uint8" if self.is_normalising else "float32"

    def placeholder(self) -> Tensor:
        """The argument that tells MindSpore's exporters shape and type."""
        dtype = ms.uint8 if self.is_normalising else ms.float32
        if self.batch is None:
            return Tensor(shape=self.input_shape, dtype=dtype)
        return Tensor(np.zeros(self.input_shape), dtype)


def graph_of(network: nn.Cell, preprocessing: Preprocessing, batch: int | None, is_normalising: bool) -> Graph:
    """The graph of ``network`` for images of ``preprocessing.image_size``."""
    cell = NormalisedInside(network, preprocessing) if is_normalising else network
    cell.set_train(False)  # else MindIR would normalise by the batch's own statistics, without a warning
    return Graph(cell, preprocessing.image_size, batch, is_normalising)
