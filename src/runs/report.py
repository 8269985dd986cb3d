"""What an evaluation leaves behind: results as JSON and CSV, the per-class table and its picture."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from src import files
from src.data.preprocessing import Preprocessing
from src.runs.curves import draw_confusion

COLUMNS = ("model", "checkpoint", "loss", "top1", "top5", "images", "total", "images_per_second", "preprocessing")


def write_json(results: Sequence[Mapping[str, Any]], best: Mapping[str, Any], path: Path) -> None:
    """The best result; where several checkpoints were evaluated, all of them under ``all``."""
    content = dict(best) if len(results) == 1 else {**best, "all": list(results)}
    path.parent.mkdir(parents=True, exist_ok=True)
    files.write_json(path, content)


def write_csv(results: Sequence[Mapping[str, Any]], path: Path) -> None:
    """One row per checkpoint."""
    rows = [{**row, "preprocessing": str(Preprocessing.from_dict(row["preprocessing"]))} for row in results]
    path.parent.mkdir(parents=True, exist_ok=True)
    files.write_csv(path, COLUMNS, rows)


def write_per_class(confusion: np.ndarray, classes: Sequence[str], folder: Path) -> list[Path]:
    """per_class.csv (class, images, top1) and confusion.png from a confusion matrix [K, K]."""
    counts = confusion.sum(axis=1)
    rows = [
        {"class": name, "images": int(counts[label]), "top1": float(confusion[label, label] / max(counts[label], 1))}
        for label, name in enumerate(classes)
    ]
    table, picture = folder / "per_class.csv", folder / "confusion.png"
    folder.mkdir(parents=True, exist_ok=True)
    files.write_csv(table, ("class", "images", "top1"), rows)
    draw_confusion(confusion[: len(classes), : len(classes)], classes, picture)
    return [table, picture]
