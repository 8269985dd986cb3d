"""What a manifest says of an exported file. Needs neither the framework nor ONNX."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from src.data.preprocessing import Preprocessing
from src.errors import UsageError
from src.files import read_sealed, sha256

SUFFIX = ".manifest.json"


def manifest_path(file: Path) -> Path:
    """``out/net.onnx`` -> ``out/net.manifest.json``."""
    return file.with_name(file.stem + SUFFIX)


def read_manifest(file: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """The manifest beside an exported file and its entry for that file, whose checksum must be right.

    Raises:
        UsageError: none there, damaged, of another file, or the file was changed since.
    """
    path = manifest_path(file)
    try:
        content: Mapping[str, Any] = read_sealed(path)
        entry = next(entry for entry in content["files"] if entry["file"] == file.name)
        _check(content, entry)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UsageError(f"{path} cannot be read: export {file.name} again with export.py") from error
    except StopIteration:
        raise UsageError(f"{path} does not describe {file.name}: export it again with export.py") from None
    if not file.is_file():
        raise UsageError(f"there is no file {file}")
    if sha256(file) != entry["sha256"]:
        raise UsageError(f"{file} is not the file that {path.name} describes: export it again")
    return dict(content), entry


def _check(content: Mapping[str, Any], entry: Mapping[str, Any]) -> None:
    """Raises ValueError, KeyError or TypeError unless a program can go by what they say."""
    Preprocessing.from_dict(content["preprocessing"])
    shape, classes = entry["input"]["shape"], content["classes"]
    if len(shape) != 4 or not all(side is None or (type(side) is int and side >= 0) for side in shape):
        raise ValueError(f"an input of shape {shape}")
    if not all(isinstance(name, str) for name in classes) or len(set(classes)) < len(classes):
        raise ValueError("classes that are no names, or one twice")
    if not isinstance(entry["input"]["is_normalised"], bool):
        raise ValueError("is_normalised is neither true nor false")
