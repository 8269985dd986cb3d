"""The picture of a run: loss, accuracy and learning rate over the epochs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from src.files import replacing
from src.runs.canvas import plt


def draw_curves(history: Sequence[Mapping[str, Any]], path: Path, title: str) -> None:
    """Draws the rows of metrics.csv to ``path`` (PNG): three panels over the epoch number."""
    epochs = [row["epoch"] for row in history]
    figure, (loss, accuracy, rate) = plt.subplots(1, 3, figsize=(12, 3.6), layout="constrained")
    marker = "o" if len(epochs) < 30 else ""

    def curve(axes: plt.Axes, key: str, label: str, color: str) -> None:
        points = [(row["epoch"], row[key]) for row in history if row[key] is not None]
        if points:
            axes.plot(*zip(*points, strict=True), label=label, color=color, marker=marker, markersize=3)

    curve(loss, "train_loss", "training", "tab:blue")
    curve(loss, "val_loss", "validation", "tab:orange")
    curve(accuracy, "top1", "top-1", "tab:orange")
    curve(accuracy, "top5", "top-5", "tab:green")
    curve(rate, "lr", "learning rate", "tab:gray")
    for axes, name in ((loss, "loss"), (accuracy, "validation accuracy"), (rate, "learning rate")):
        axes.set(xlabel="epoch", title=name, xlim=(0.5, max(epochs) + 0.5))
        axes.grid(alpha=0.3)
    accuracy.set_ylim(0, 1.02)
    rate.set_ylim(bottom=0)
    shown = [row[key] for row in history for key in ("train_loss", "val_loss") if row[key]]
    if shown and max(shown) > 50 * min(shown):
        loss.set_yscale("log")
    for axes, place in ((loss, "best"), (accuracy, "lower right")):
        if axes.lines:
            axes.legend(loc=place)
    figure.suptitle(title, parse_math=False)
    save_picture(figure, path)


def draw_confusion(confusion: np.ndarray, classes: Sequence[str], path: Path) -> None:
    """Draws a confusion matrix [K, K] (rows true, columns predicted) to ``path`` (PNG), rows scaled to one."""
    share = confusion / np.maximum(confusion.sum(axis=1, keepdims=True), 1)
    side = min(4 + 0.3 * len(classes), 16)
    figure, axes = plt.subplots(figsize=(side, side), layout="constrained")
    picture = axes.imshow(share, cmap="Blues", vmin=0, vmax=1)
    axes.set(xlabel="predicted class", ylabel="true class", title="share of each true class")
    if len(classes) <= 50:
        axes.set_xticks(range(len(classes)), classes, rotation=90, parse_math=False)
        axes.set_yticks(range(len(classes)), classes, parse_math=False)
    if len(classes) <= 20:
        for (row, column), count in np.ndenumerate(confusion):
            if count:
                shade = "white" if share[row, column] > 0.5 else "black"
                axes.text(column, row, str(count), ha="center", va="center", color=shade, fontsize=8)
    figure.colorbar(picture, shrink=0.8)
    save_picture(figure, path)


def save_picture(figure: plt.Figure, path: Path) -> None:
    """Writes ``figure`` to ``path`` (PNG), whole or not at all, and lets go of it."""
    with replacing(path) as temporary:
        figure.savefig(temporary, dpi=100)
    plt.close(figure)
