"""From folders to classes: the splits of a data set, its class index, its list of images.

The layout is ``train/<class>/<image>`` and ``val/<class>/<image>``. The class index is built once, from the
training folders, and everything else (validation, saved runs, predictions) uses that one.
"""

from __future__ import annotations

import logging
import os
from pathlib import Path

from src.data.images import SUFFIXES, is_image_name
from src.errors import UsageError

_log = logging.getLogger(__name__)
_NAMED = 5  # names given in a message before "and N more"

Images = list[tuple[Path, int]]


def some(names: list[str]) -> str:
    """The first few names of a list, and how many more there are."""
    more = len(names) - _NAMED
    return ", ".join(names[:_NAMED]) + (f" and {more} more" if more > 0 else "")


def find_split(path: str | os.PathLike, split: str) -> Path:
    """The folder of a split, given that folder itself or its parent.

    Args:
        path: the parent of ``train/`` and ``val/``, or the folder that holds the class folders.
        split: ``train`` or ``val``.

    Raises:
        UsageError: there is no such folder, or it has no ``split`` folder although it has another split.
    """
    folder = Path(path).absolute()
    if not folder.is_dir():
        raise UsageError(f"{path} is not a folder: give the parent of {split}/ or the {split} folder itself")
    below = folder / split
    # A split may have a class of its own name (train/train/): that one holds images, not folders.
    if below.is_dir() and (folder.name != split or _folders(below)):
        return below
    if folder.name != split:
        other = "val" if split == "train" else "train"
        if (folder / other).is_dir() and _folders(folder / other):
            raise UsageError(f"{folder} has {other}/ but no {split}/: add it, or give the {split} folder itself")
    return folder


def find_val(data_path: str | os.PathLike) -> Path | None:
    """The ``val`` folder that belongs to a training path (below it, or beside the train folder), or None."""
    train = find_split(data_path, "train")
    val = train.parent / "val"
    return val if train.name == "train" and val.is_dir() else None


def build_class_index(train_dir: Path) -> dict[str, int]:
    """The classes of a training folder: name to label, in the order of the sorted names.

    Hidden folders are left out and said so in the log.

    Raises:
        UsageError: no class folder, images that lie outside class folders only, or a class without images.
    """
    _warn_of_hidden(train_dir)
    names = _class_folders(train_dir)
    _require_images(train_dir, names)
    return {name: label for label, name in enumerate(names)}


def check_same_classes(val_dir: Path, class_index: dict[str, int]) -> None:
    """Raises UsageError unless the class folders of ``val_dir`` are those of the index, each with images."""
    names = _class_folders(val_dir)
    surplus = sorted(set(names) - set(class_index))
    missing = sorted(set(class_index) - set(names))
    if surplus:
        raise UsageError(f"{val_dir} has classes the training folder has not: {some(surplus)}. Remove or rename them")
    if missing:
        raise UsageError(f"{val_dir} lacks classes of the training folder: {some(missing)}. Add them")
    _require_images(val_dir, names)


def list_images(split_dir: Path, class_index: dict[str, int]) -> Images:
    """Every image of a split with its label, ordered by class name, then by file name.

    Images are regular files with a suffix of ``images.SUFFIXES``; hidden files (``._photo.jpg``) are not.
    """
    images: Images = []
    for name, label in sorted(class_index.items()):
        with os.scandir(split_dir / name) as entries:
            files = sorted(entry.name for entry in entries if is_image_name(entry.name) and entry.is_file())
        images += [(split_dir / name / file, label) for file in files]
    return images


def _folders(folder: Path) -> list[str]:
    with os.scandir(folder) as entries:
        return sorted(entry.name for entry in entries if entry.is_dir() and not entry.name.startswith("."))


def _class_folders(split_dir: Path) -> list[str]:
    names = _folders(split_dir)
    if names:
        return names
    with os.scandir(split_dir) as entries:
        flat = any(is_image_name(entry.name) for entry in entries)
    if flat:
        raise UsageError(
            f"the images of {split_dir} lie directly in it: move each into a folder named after its class "
            f"({split_dir.name}/<class>/<image>)"
        )
    raise UsageError(f"{split_dir} has no class folders: expected {split_dir.name}/<class>/<image>")


def _require_images(split_dir: Path, names: list[str]) -> None:
    for name in names:
        with os.scandir(split_dir / name) as entries:
            if not any(is_image_name(entry.name) for entry in entries):
                raise UsageError(
                    f"class folder {split_dir / name} holds no image ({' '.join(SUFFIXES)}): fill or remove it"
                )


def _warn_of_hidden(split_dir: Path) -> None:
    with os.scandir(split_dir) as entries:
        hidden = sorted(entry.name for entry in entries if entry.is_dir() and entry.name.startswith("."))
    if hidden:
        _log.warning("hidden folders in %s are not classes: %s", split_dir, some(hidden))
