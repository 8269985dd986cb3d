"""From folders to classes: the splits of a data set, its class index, its list of images.

The layout is ``train/<class>/<image>`` and ``val/<class>/<image>``; in place of a split's folder there may be a file
that packs its images (``train.rec``), whose path then stands for the split. The class index is built once, from the
training folders, and everything else (validation, saved runs, predictions) uses that one.
"""

from __future__ import annotations

import functools
import logging
import os
from collections.abc import Sequence
from pathlib import Path

from src.data.images import SUFFIXES, is_image_name
from src.data.packed import Pack, PackedImage
from src.data.recordio import RecordIO
from src.errors import UsageError

_log = logging.getLogger(__name__)
_NAMED = 5  # names given in a message before "and N more"
# Files that hold all images of a split, and what reads them.
PACKS: dict[str, type[Pack]] = {".rec": RecordIO}

# What others call the splits.
_OTHER_NAMES = {
    "train": ("train", "training", "train_set"),
    "val": ("val", "valid", "validation", "val_set", "test", "testing", "test_set"),
}

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
    folder = Path(path).expanduser().absolute()
    if is_pack(folder):
        return folder
    if not folder.is_dir():
        if folder.suffix in PACKS:
            raise UsageError(f"there is no file {path}")
        raise UsageError(f"{path} is not a folder: give the parent of {split}/ or the {split} folder itself")
    below = folder / split
    # A split may have a class of its own name (train/train/): that one holds images, not folders.
    if below.is_dir() and (folder.name != split or _folders(below)):
        return below
    if packed := _pack_in(folder, split):
        return packed
    if folder.name != split:
        other = "val" if split == "train" else "train"
        if found := _pack_in(folder, other):
            raise UsageError(
                f"{folder} has {found.name} but no {split}{found.suffix}: add it, or give the {split} folder"
            )
        if (folder / other).is_dir() and _folders(folder / other):
            raise UsageError(f"{folder} has {other}/ but no {split}/: add it, or give the {split} folder itself")
        if (meant := _named_otherwise(folder, split)) and _folders(meant):
            raise UsageError(f"{folder} has {meant.name}/ but no {split}/: rename it to {split}, or give it itself")
    return folder


def _named_otherwise(folder: Path, split: str) -> Path | None:
    """A folder that is meant as ``split`` by all looks, though it is called otherwise."""
    return next((folder / name for name in _folders(folder) if name.lower() in _OTHER_NAMES[split]), None)


def find_val(data_path: str | os.PathLike) -> Path | None:
    """The ``val`` folder that belongs to a training path (below it, or beside the train folder), or None."""
    train = find_split(data_path, "train")
    if is_pack(train):
        return _pack_in(train.parent, "val") if train.stem == "train" else None
    val = train.parent / "val"
    if train.name != "train" or val.is_dir():
        return val if train.name == "train" else None
    if other := _named_otherwise(train.parent, "val"):
        _log.warning("%s does not validate: rename it to val, or give --val_data_path %s", other, other)
    return None


def is_pack(path: Path) -> bool:
    """Whether a path is of a file that packs images."""
    return path.suffix in PACKS and path.is_file()


def _pack_in(folder: Path, split: str) -> Path | None:
    return next((path for suffix in PACKS if is_pack(path := folder / f"{split}{suffix}")), None)


@functools.lru_cache(maxsize=4)
def _opened(path: Path, _state: tuple[int, ...]) -> Pack:
    """Read through once, for its classes, its check and its images."""
    return PACKS[path.suffix](path)


def pack_of(path: Path) -> Pack:
    """The opened file of a split. Raises UsageError as its reader does."""
    facts = path.stat()
    return _opened(path, (facts.st_size, facts.st_mtime_ns, facts.st_ctime_ns))


def _classes_of_pack(path: Path) -> dict[str, int]:
    pack = pack_of(path)
    labels = set(pack.labels())
    if missing := sorted(set(range(max(labels))) - labels):
        names = some([str(label) for label in missing])
        raise UsageError(f"{path} has no image of the classes {names}, though of {max(labels)}: labels count from 0")
    if not pack.names:
        _log.warning("the classes of %s have no names, only numbers", path)
    return {name: label for label, name in enumerate(pack.names or map(str, range(len(labels))))}


def _check_classes_of_pack(path: Path, class_index: dict[str, int]) -> None:
    pack = pack_of(path)
    names = [name for name, _ in sorted(class_index.items(), key=lambda item: item[1])]
    labels = set(pack.labels())
    if surplus := sorted(labels - set(range(len(names)))):
        raise UsageError(f"{path} has the class number {surplus[0]}, but there are {len(names)} classes, from 0 on")
    if missing := sorted(set(range(len(names))) - labels):
        raise UsageError(f"{path} lacks classes of the training images: {some([names[label] for label in missing])}")
    known = all(not name.isdecimal() for name in names)
    for label, name in enumerate(pack.names if known else []):
        if name != names[label]:
            raise UsageError(f"{path} calls class {label} {name}, the training images {names[label]}")


def build_class_index(train_dir: Path) -> dict[str, int]:
    """The classes of a training folder: name to label, in the order of the sorted names; of a packed file, by number.

    Hidden folders are left out and said so in the log.

    Raises:
        UsageError: no class folder, images that lie outside class folders only, or a class without images.
    """
    if is_pack(train_dir):
        return _classes_of_pack(train_dir)
    _warn_of_hidden(train_dir)
    names = _class_folders(train_dir)
    _require_images(train_dir, names)
    return {name: label for label, name in enumerate(names)}


def check_same_classes(val_dir: Path, class_index: dict[str, int]) -> None:
    """Raises UsageError unless the class folders of ``val_dir`` are those of the index, each with images. A packed file
    must have the same numbers, and the same names where it has any."""
    if is_pack(val_dir):
        _check_classes_of_pack(val_dir, class_index)
        return
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
    if is_pack(split_dir):
        pack, names = pack_of(split_dir), {label: name for name, label in class_index.items()}
        return [
            (PackedImage.inside(pack, names[label], position), label) for position, label in enumerate(pack.labels())
        ]
    images: Images = []
    for name, label in sorted(class_index.items()):
        with os.scandir(split_dir / name) as entries:
            files = sorted(entry.name for entry in entries if is_image_name(entry.name) and entry.is_file())
        images += [(split_dir / name / file, label) for file in files]
    return images


def find_images(words: Sequence[str]) -> list[Path]:
    """The files that names of images, folders and patterns (``*``, ``**``) stand for, each once, in that order; of a
    folder all images in it and below, sorted.

    Raises:
        UsageError: none are given, or one stands for nothing.
    """
    if not words:
        raise UsageError("which images? Name files, folders, or patterns such as 'photos/*.jpg'")
    found: dict[Path, None] = {}
    for word in words:
        path = Path(word).expanduser()
        at = Path(path.anchor)
        matches = [path] if path.exists() else sorted(at.glob(str(path.relative_to(at))))
        if not matches:
            raise UsageError(f"{word}: there is no such image, folder or pattern")
        images = [file for match in matches for file in (_images_below(match) if match.is_dir() else [match])]
        if not images:
            raise UsageError(f"{word} holds no image ({' '.join(SUFFIXES)})")
        found |= dict.fromkeys(images)
    return list(found)


def _images_below(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("[!.]*") if is_image_name(path.name) and not path.is_dir())


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
