"""What a run's network says of its validation images: which classes it confuses, and where it is surest and wrong."""

from __future__ import annotations

import dataclasses
import heapq
from pathlib import Path

import mindspore as ms
import numpy as np
from mindspore import nn

from src.cpu import inference, use_operators
from src.data.check import check_folder, default_cache, usable_images
from src.data.dataset import EvalData
from src.data.folders import Images, check_same_classes, find_split, find_val
from src.data.preprocessing import Preprocessing
from src.errors import UsageError
from src.models import create_model
from src.models.layers import weights
from src.runs.checkpoint import Checkpoint
from src.runs.folder import stored_split
from src.runs.log import progress
from src.settings.config import Config

SHOWN = 12  # mistakes


@dataclasses.dataclass(frozen=True)
class Mistake:
    """An image that is taken for another class.

    Attributes:
        path: of the image.
        label, taken_for: its class, and the one put first.
        probability: of the latter.
        pixels: uint8 [side, side, 3], as the network sees them but for the normalisation.
    """

    path: Path
    label: int
    taken_for: int
    probability: float
    pixels: np.ndarray


@dataclasses.dataclass(frozen=True)
class Verdicts:
    """On all validation images of a run.

    Attributes:
        classes: names of all logits; those beyond the data's classes by their number.
        confusion: int64 [K, K] images, rows the true class, columns the one put first.
        mistakes: the ``SHOWN`` with the highest probabilities, the highest first.
    """

    classes: list[str]
    confusion: np.ndarray
    mistakes: list[Mistake]


def verdicts_on(checkpoint: Checkpoint, config: Config) -> Verdicts:
    """Has the network of a run's checkpoint judge the validation images that the run's configuration names.

    Raises:
        UsageError: it is a supernet, its images are gone or none, or the checkpoint does not fit.
    """
    trained = checkpoint.trained
    assert trained is not None, "a run's checkpoints say what was trained"
    if trained.is_supernet:
        raise UsageError("it is a supernet, of which each path judges otherwise; search.py scores them")
    images = _validation_images(checkpoint, config, {name: label for label, name in enumerate(trained.classes)})
    network = create_model(trained.model, trained.num_classes, **trained.model_options)
    own = weights(network)
    if {name: value.shape for name, value in own.items()} != {
        name: array.shape for name, array in checkpoint.weights.items()
    }:
        raise UsageError(f"{checkpoint.path} does not fit {trained.model} as it is built today")
    for name, value in own.items():
        value.set_data(ms.Tensor(checkpoint.weights[name]))
    use_operators(network)
    classes = [*trained.classes, *(f"class {label}" for label in range(len(trained.classes), trained.num_classes))]
    batch = min(config.eval_batch_size or config.batch_size, len(images))
    data = EvalData(images, trained.preprocessing, batch, config.workers)
    return Verdicts(classes, *judged(inference(network), data, len(classes)))


def _validation_images(checkpoint: Checkpoint, config: Config, classes: dict[str, int]) -> Images:
    """Those that eval.py takes, unreadable ones left out."""
    for key in ("val_data_path", "data_path"):
        if config[key] and not Path(config[key]).exists():
            raise UsageError(f"{config[key]} is gone; say where its images are now with --{key}")
    split = stored_split(checkpoint.path)
    folder = find_split(config.val_data_path, "val") if config.val_data_path else None
    if folder is None and config.data_path:
        folder = find_val(config.data_path)
    if folder is None and not (split and config.data_path):
        raise UsageError("it has no validation images")
    is_split = split is not None and folder is None
    folder = folder or find_split(config.data_path, "train")
    check_same_classes(folder, classes)
    report = check_folder(folder, classes, config.max_image_pixels, config.workers, default_cache())
    images = usable_images(report, skip_bad_images=True)
    return split.parts(images)[1] if split and (is_split or split.is_of(images)) else images


def judged(network: nn.Cell, data: EvalData, num_classes: int) -> tuple[np.ndarray, list[Mistake]]:
    """The confusion matrix and the mistakes of all ``data``; of equal logits that of the lower class comes first."""
    network.set_train(False)
    confusion = np.zeros((num_classes, num_classes), np.int64)
    kept: list[tuple[float, int, Mistake]] = []  # a heap, the least sure first
    seen = 0
    with progress(data.steps, 0, "validation images") as bar:
        for images, labels, valid in data:
            logits = network(images).asnumpy()[:valid].astype(np.float64)
            truth, first = labels.asnumpy()[:valid], logits.argmax(axis=1)
            np.add.at(confusion, (truth, first), 1)
            shares = np.exp(logits - logits.max(axis=1, keepdims=True))
            sure = shares.max(axis=1) / shares.sum(axis=1)
            for row in np.nonzero(first != truth)[0]:
                if len(kept) == SHOWN and sure[row] <= kept[0][0]:
                    continue
                pixels = _pixels(images[int(row)].asnumpy(), data.preprocessing)
                mistake = Mistake(data.files[seen + row][0], int(truth[row]), int(first[row]), float(sure[row]), pixels)
                (heapq.heappushpop if len(kept) == SHOWN else heapq.heappush)(kept, (sure[row], -seen - row, mistake))
            seen += valid
            bar.update()
    return confusion, [mistake for *_, mistake in sorted(kept, key=lambda entry: entry[:2], reverse=True)]


def _pixels(image: np.ndarray, preprocessing: Preprocessing) -> np.ndarray:
    """A normalised image [3, side, side] as the bytes [side, side, 3] it was."""
    mean, std = np.array(preprocessing.mean), np.array(preprocessing.std)
    return np.clip(np.rint(255 * (image.transpose(1, 2, 0) * std + mean)), 0, 255).astype(np.uint8)
