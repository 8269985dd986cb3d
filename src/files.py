"""Files that are whole or absent, also after a kill or a power cut; folders that nobody had before."""

from __future__ import annotations

import contextlib
import csv
import hashlib
import io
import json
import os
import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

WRITING = ".writing-"
MOST_BYTES = 1 << 28  # of a file of JSON; the names of a split ImageNet take 80 MB
_SEAL = ',\n "seal": "'


def write_text(path: Path, text: str, prefix: str = WRITING) -> None:
    """Replaces ``path`` by ``text`` so that a reader sees the old or the new content, also after a crash."""
    with replacing(path, prefix=prefix) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: Path, content: Any) -> None:
    """Replaces ``path`` by ``content`` as JSON for people: indented, names as they are."""
    write_text(path, json.dumps(content, indent=1, ensure_ascii=False) + "\n")


def write_sealed(path: Path, content: Mapping[str, Any]) -> None:
    """As :func:`write_json`, with a last member "seal": the SHA-256 of the text up to it."""
    write_text(path, sealed(json.dumps(content, indent=1, ensure_ascii=False).removesuffix("\n}")))


def sealed(body: str) -> str:
    """A JSON object, given without its closing brace, that ends with the seal of :func:`write_sealed`."""
    return f'{body}{_SEAL}{_digest(body)}"\n}}\n'


def read_sealed(path: Path) -> Any:
    """What :func:`write_sealed` was given; a file without a seal, as earlier versions wrote it, is taken as it is.

    Raises:
        OSError: it cannot be read.
        ValueError: no JSON in UTF-8, or changed since it was written.
    """
    text = _text(path)
    content = parse_json(text)
    body, seal, _ = text.rpartition(_SEAL)
    if seal and not (isinstance(content, dict) and content.pop("seal", None) == _digest(body)):
        raise ValueError("it has changed since it was written")
    return content


def read_json(path: Path) -> Any:
    """The content of a file of JSON.

    Raises:
        OSError: it cannot be read.
        ValueError: no JSON in UTF-8, nested too deeply, or larger than ``MOST_BYTES``.
    """
    return parse_json(_text(path))


def parse_json(text: str | bytes) -> Any:
    """The value of a JSON text. Raises ValueError, where the parser would raise RecursionError too."""
    try:
        return json.loads(text)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


def _text(path: Path) -> str:
    if (size := path.stat().st_size) > MOST_BYTES:
        raise ValueError(f"it has {size:,} bytes, more than the {MOST_BYTES:,} that are read")
    return path.read_text(encoding="utf-8")


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def write_csv(path: Path, columns: Sequence[str], rows: Iterable[Mapping[str, Any]]) -> None:
    """Replaces ``path`` by a table with a head: of each row the ``columns``, an empty field for None."""
    write_text(path, csv_text(columns, ([row[column] for column in columns] for row in rows)))


def csv_text(columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """A table with a head as CSV text, floats with all their digits."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows(rows)
    return text.getvalue()


@contextlib.contextmanager
def replacing(path: Path, is_flushed: bool = True, prefix: str = WRITING) -> Iterator[Path]:
    """A temporary path in the folder of ``path`` which, once written, is flushed and takes its place.

    Args:
        is_flushed: without it a power cut may leave ``path`` empty: for the many small files of a set that can be
            made again, where the disk would be waited for at each.
        prefix: of the temporary name. Who sweeps up after kills has one of his own, not to remove what others write.
    """
    with naming(path):
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=prefix, suffix=path.suffix)
    os.close(handle)
    temporary = Path(name)
    try:
        with naming(path):
            yield temporary
            if is_flushed:
                flush(temporary)
            temporary.chmod(0o666 & ~_umask())
            temporary.replace(path)
            if is_flushed:
                flush(path.parent)
    finally:
        for leftover in path.parent.glob(f"{temporary.stem}*"):  # the framework's own temporary file as well
            leftover.unlink(missing_ok=True)


@contextlib.contextmanager
def naming(path: Path) -> Iterator[None]:
    """An error of the system within the block names ``path``, not nothing or a temporary file beside it."""
    try:
        yield
    except OSError as error:
        named = error.filename2 or error.filename  # of a copy the second is what could not be written
        if error.errno is None or (named and Path(named).parent != path.parent):
            raise
        raise type(error)(error.errno, error.strerror, str(path)) from error


def fresh_folder(parent: Path, name: str) -> Path:
    """Makes ``parent/name-TIME``, with a number behind it if another start took the name first."""
    stamp = f"{name}-{time.strftime('%Y%m%d-%H%M%S')}"
    attempt = 0
    while True:
        path = parent / (f"{stamp}-{attempt}" if attempt else stamp)
        try:
            path.mkdir(parents=True)
        except FileExistsError:
            attempt += 1
        else:
            return path


def flush(path: Path) -> None:
    """Has a file's content, or the names in a folder, written to the disk itself."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sha256(path: Path) -> str:
    """The SHA-256 of a file's content, in hexadecimal digits."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
