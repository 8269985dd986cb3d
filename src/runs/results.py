"""What an evaluation leaves behind: results as JSON and CSV, the per-class table and its picture."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from src import files
from src.data.preprocessing import Preprocessing
from src.runs.curves import draw_confusion
from src.runs.wording import filled, wording_of

_log = logging.getLogger(__name__)
COLUMNS = (
    *("model", "checkpoint", "loss", "cross_entropy", "label_smoothing", "top1", "top5", "images", "total"),
    *("images_per_second", "preprocessing"),
)


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


def say_in_their_words(result: Mapping[str, Any], milliseconds: float, is_writing: bool) -> None:
    """One result in the words of the network's document, also in the file that this names.

    Args:
        milliseconds: that the evaluation took.
        is_writing: whether this rank is the one that writes.
    """
    words = wording_of(result["model"])
    if not words.result:
        return
    figures = {key: result[key] for key in ("loss", "top1", "top5", "checkpoint")}
    line = filled(words.result, milliseconds=milliseconds, **figures)
    _log.info(line)
    if words.result_file and is_writing:
        try:
            with Path(words.result_file).open("a", encoding="utf-8") as file:
                file.write(f"{line}\n")
        except OSError as error:
            _log.warning(f"{words.result_file} cannot be written here: {error.strerror}")


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
