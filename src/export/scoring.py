"""Scores a folder of result files, one per image, against labels: what postprocess.py does.

The files are ``<image>_0.bin``, float32 logits. With the ``index.jsonl`` that ascend310_infer writes last, every
file is known by its image's path; without it (upstream's programs), by the name before ``_0.bin``.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from src.data.folders import some
from src.errors import UsageError
from src.files import parse_json
from src.training.metrics import HitCounter

INDEX = "index.jsonl"
_END = "_0.bin"


@dataclasses.dataclass(frozen=True)
class Score:
    """Counts over all images.

    Attributes:
        total: images scored.
        top1, top5: how many have their class first, or among the first five.
        per_class: [K, 2] images and first-place hits of each class.
    """

    total: int
    top1: int
    top5: int
    per_class: np.ndarray


def read_labels(path: Path) -> dict[str, int]:
    """Labels from ``{name: class}`` in JSON or lines ``name:class``. Raises UsageError for anything else."""
    try:
        text = path.read_text(encoding="utf-8", errors="surrogateescape")
    except OSError as error:
        raise UsageError(f"cannot read the labels {path}: {error.strerror}") from error
    try:
        if text.lstrip().startswith("{"):
            labels = parse_json(text)
        else:
            pairs = [line.rsplit(":", 1) for line in text.splitlines() if line.strip()]
            labels = {name: int(label) for name, label in pairs}
            if len(labels) != len(pairs):
                raise UsageError(f"{path} has a name twice: make it again with python -m src.data.labels --img_path")
    except ValueError as error:
        raise UsageError(f"{path} holds no labels: expected {{name: class}} in JSON, or lines name:class") from error
    if not labels or not all(type(label) is int and label >= 0 for label in labels.values()):
        raise UsageError(f"{path} holds no labels: the classes must be numbers from 0")
    return labels


def score(folder: Path, labels: Mapping[str, int], skip_bad_images: bool = False) -> Score:
    """Scores every image of the labels.

    Raises:
        UsageError: results are missing, surplus or of another kind; the first few are named. With
            ``skip_bad_images``, what the index gives as unreadable images may be missing.
    """
    if not folder.is_dir():
        raise UsageError(f"{folder} is not a folder of results")
    results, unreadable = _results(folder, labels)
    if unreadable and not skip_bad_images:
        raise UsageError(
            f"{len(unreadable)} images could not be read ({some(unreadable)}): mend them, or add --skip_bad_images"
        )
    missing = sorted(set(labels) - set(results) - set(unreadable))
    if missing:
        raise UsageError(f"{len(missing)} of {len(labels)} images have no result in {folder}: {some(missing)}")
    if not results:
        raise UsageError(f"there is no result in {folder}")
    logits = _read(results)
    classes = np.array([labels[name] for name in results])
    if classes.max() >= logits.shape[1]:
        raise UsageError(f"the labels have a class {classes.max()}, the results only {logits.shape[1]} classes")
    counter = HitCounter(logits.shape[1])
    counter.add(logits, classes)
    return Score(counter.images, counter.top1, counter.top5, counter.per_class)


def _results(folder: Path, labels: Mapping[str, int]) -> tuple[dict[str, Path], list[str]]:
    """Key in ``labels`` to result file, and the keys of unreadable images."""
    index = folder / INDEX
    if not index.is_file():
        return _results_by_name(folder, labels), []
    files, unreadable, strangers = {}, [], []
    for entry in _entries(index):
        key = _key(entry["image"], labels)
        if key is None:
            strangers.append(entry["image"])
        elif "error" in entry:
            unreadable.append(key)
        else:
            files[key] = folder / (entry["result"] + _END)
    if strangers:
        raise UsageError(f"{folder} has results of images the labels do not know: {some(strangers)}")
    return files, unreadable


def _entries(index: Path) -> list[dict[str, str]]:
    """The lines of an index. Raises UsageError where one is none, or leads out of the folder."""
    entries: list[dict[str, str]] = []
    known: set[str] = set()
    try:
        for line in index.read_text(encoding="utf-8").splitlines():
            entry = parse_json(line)
            names = [entry["image"], *([] if "error" in entry else [entry["result"]])]
            if not all(isinstance(name, str) for name in names):
                raise ValueError("no names")
            if names[-1] in known:
                raise ValueError("a result that is another image's")
            if Path(names[-1]).is_absolute() or ".." in Path(names[-1]).parts or "\0" in names[-1]:
                raise ValueError("a result outside of the folder")
            entries.append(entry)
            known |= {names[-1]} if "error" not in entry else set()
    except (OSError, ValueError, KeyError, TypeError) as error:
        where = f"in line {len(entries) + 1}"
        raise UsageError(f"{index} is damaged {where}: make the results again with ascend310_infer") from error
    return entries


def _key(image: str, labels: Mapping[str, int]) -> str | None:
    """How the labels name an image: by path, file name, or either without suffix."""
    name = image.rsplit("/", 1)[-1]
    for candidate in (image, name, image.rsplit(".", 1)[0], name.rsplit(".", 1)[0]):
        if candidate in labels:
            return candidate
    return None


def _results_by_name(folder: Path, labels: Mapping[str, int]) -> dict[str, Path]:
    """The files of a program that writes no index: ``<name up to its first or last dot>_0.bin``."""
    of_stem: dict[str, str] = {}
    twice = set()
    for key in labels:
        name = key.rsplit("/", 1)[-1]
        for stem in {name, name.rsplit(".", 1)[0], name.split(".", 1)[0]}:
            if stem in of_stem:
                twice.add(stem)
            of_stem[stem] = key
    files, strangers = {}, []
    for path in sorted(folder.iterdir()):
        stem = path.name.removesuffix(_END)
        if stem == path.name or stem not in of_stem:
            strangers.append(path.name)
        elif stem in twice:
            raise UsageError(
                f"{path.name} belongs to more than one image, and {folder} has no {INDEX} to tell them apart"
            )
        else:
            files[of_stem[stem]] = path
    if strangers:
        raise UsageError(f"{folder} holds files that are no result of a labelled image: {some(strangers)}")
    return files


def _read(results: Mapping[str, Path]) -> np.ndarray:
    """Logits [N, K]. Raises UsageError for a file that is missing, of another length, or not finite."""
    rows = []
    for path in results.values():
        try:
            row = np.frombuffer(path.read_bytes(), "<f4")
        except (OSError, ValueError) as error:
            raise UsageError(f"{path} is not a result: {error}") from error
        if not len(row) or (rows and len(row) != len(rows[0])) or not np.isfinite(row).all():
            raise UsageError(
                f"{path} is not a result: {len(row)} values, expected {len(rows[0]) if rows else 'some'} finite ones"
            )
        rows.append(row)
    return np.stack(rows)
