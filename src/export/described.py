"""What a manifest says of an exported file. Needs neither the framework nor ONNX."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

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
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UsageError(f"{path} cannot be read: export {file.name} again with export.py") from error
    except StopIteration:
        raise UsageError(f"{path} does not describe {file.name}: export it again with export.py") from None
    if sha256(file) != entry["sha256"]:
        raise UsageError(f"{file} is not the file that {path.name} describes: export it again")
    return dict(content), entry
