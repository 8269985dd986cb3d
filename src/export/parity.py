"""Whether an exported file computes what the network computes, on real images."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from mindspore import Tensor, nn

from src.data.dataset import EvalData
from src.data.folders import is_pack
from src.data.images import is_image_name
from src.data.labels import labelled_images
from src.data.preprocessing import Preprocessing
from src.errors import RunFailed, UsageError
from src.export.formats import Run
from src.export.graph import Graph

TOLERANCE = 1e-4
_OPEN_BATCH = 8  # images at once when the exported batch is open
_WORKERS = 2


@dataclasses.dataclass(frozen=True)
class Parity:
    """Exported file against network.

    Attributes:
        images: compared.
        largest_difference: between two logits.
        largest_logit: of the network, by magnitude.
        top1_agreement: share of images for which both name the same class.
    """

    images: int
    largest_difference: float
    largest_logit: float
    top1_agreement: float

    def require(self, tolerance: float, what: str) -> None:
        """Raises RunFailed when logits differ by more than ``tolerance``, relative where they exceed 1."""
        allowed = tolerance * max(1.0, self.largest_logit)
        if not self.largest_difference <= allowed:  # also when it is not a number
            raise RunFailed(
                f"{what} differs from the network by {self.largest_difference:.2e}, more than {allowed:.2e}"
            )

    def __str__(self) -> str:
        return (
            f"largest difference {self.largest_difference:.2e} (logits up to {self.largest_logit:.3g}), "
            f"same top-1 for {self.top1_agreement:.1%} of {self.images} images"
        )


def compare(expected: np.ndarray, actual: np.ndarray) -> Parity:
    """Logits [N, K] of the network and of the file. Raises RunFailed for another shape."""
    if expected.shape != actual.shape:
        raise RunFailed(f"the exported file gives logits {list(actual.shape)}, the network {list(expected.shape)}")
    return Parity(
        images=len(expected),
        largest_difference=float(np.abs(expected - actual).max()),
        largest_logit=float(np.abs(expected).max()),
        top1_agreement=float(np.mean(expected.argmax(1) == actual.argmax(1))),
    )


def some_images(folder: str | Path, count: int) -> list[Path]:
    """``count`` images spread over a folder, or, for ``""``, the two photographs that come with scikit-learn.

    Raises:
        UsageError: no image in it.
    """
    if not folder:
        from sklearn import datasets

        photographs = Path(datasets.__file__).parent / "images"
        return [photographs / "china.jpg", photographs / "flower.jpg"]
    if is_pack(Path(folder)):
        found = [path for path, _ in labelled_images(Path(folder))]
    else:
        found = sorted(path for path in Path(folder).rglob("*") if is_image_name(path.name) and path.is_file())
    if not found:
        raise UsageError(f"there is no image in {folder}")
    return [found[position] for position in np.linspace(0, len(found) - 1, min(count, len(found))).astype(int)]


def batches(
    images: list[Path], preprocessing: Preprocessing, batch: int | None, is_normalising: bool
) -> Iterator[tuple[np.ndarray, int]]:
    """The images as a graph takes them, the last batch filled up, and how many of each batch count."""
    if not is_normalising:
        yield from _normalised(images, preprocessing, batch)
        return
    bytes_only = dataclasses.replace(preprocessing, mean=(0.0, 0.0, 0.0), std=(1 / 255, 1 / 255, 1 / 255))
    for values, valid in _normalised(images, bytes_only, batch):
        yield np.rint(values).astype(np.uint8).transpose(0, 2, 3, 1), valid


def _normalised(
    images: list[Path], preprocessing: Preprocessing, batch: int | None
) -> Iterator[tuple[np.ndarray, int]]:
    size = min(_OPEN_BATCH, len(images)) if batch is None else batch
    for values, _, valid in EvalData([(path, 0) for path in images], preprocessing, size, _WORKERS):
        yield values.asnumpy().copy(), valid  # the pipeline reuses its memory


def logits_of_network(
    network: nn.Cell, images: list[Path], preprocessing: Preprocessing, batch: int | None
) -> np.ndarray:
    """What the network itself answers, [N, K], in evaluation mode."""
    network.set_train(False)
    parts = [network(Tensor(values)).asnumpy()[:valid] for values, valid in _normalised(images, preprocessing, batch)]
    return np.concatenate(parts)


def logits_of_file(run: Run, images: list[Path], preprocessing: Preprocessing, graph: Graph) -> np.ndarray:
    """What the file of ``graph`` answers, [N, K]."""
    inputs = list(batches(images, preprocessing, graph.batch, graph.is_normalising))
    logits = np.concatenate([run(values)[:valid] for values, valid in inputs])
    if graph.batch is None:  # an open batch must also do for a single image
        logits[:1] = run(inputs[0][0][:1])
    return logits
