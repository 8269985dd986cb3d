"""The picture of a run and that of a confusion matrix."""

import numpy as np
import pytest
from PIL import Image

from src.runs.curves import draw_confusion, draw_curves


def history(epochs: int, **changes) -> list[dict]:
    row = {"lr": 0.1, "train_loss": 1.0, "val_loss": 1.2, "top1": 0.5, "top5": 0.9}
    return [{"epoch": epoch, **row, "train_loss": 2.0 / epoch, **changes} for epoch in range(1, epochs + 1)]


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize(
    "rows",
    [
        history(1),
        history(40),
        history(2, val_loss=None, top1=None, top5=None),
        history(2, train_loss=None, val_loss=None),
        history(3, val_loss=1e6),
        history(2, train_loss=0.0, lr=0.0),
    ],
    ids=["one epoch", "many", "no evaluation", "no loss", "wide range", "zeros"],
)
def test_curves_are_a_picture_whatever_was_measured(tmp_path, rows):
    draw_curves(rows, tmp_path / "curves.png", "net: $\\frac{1$ <run>")
    with Image.open(tmp_path / "curves.png") as picture:
        pixels = np.asarray(picture.convert("RGB"))
    assert pixels.shape == (360, 1200, 3)
    assert pixels.std() > 5


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("classes", [1, 3, 30, 120])
def test_a_confusion_matrix_is_a_picture_at_any_number_of_classes(tmp_path, classes):
    confusion = np.random.default_rng(1).integers(0, 9, (classes, classes))
    confusion[0] = 0  # a class without images
    draw_confusion(confusion, [f"$class_{number}$ {{" for number in range(classes)], tmp_path / "confusion.png")
    with Image.open(tmp_path / "confusion.png") as picture:
        picture.verify()
