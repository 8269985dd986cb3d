"""What a run says: lines on the console and in log.txt, records in log.jsonl, a progress bar.

Modules talk through ``logging.getLogger(__name__)``: ``info`` is a line for a person, ``warning`` one that begins with
"note:", ``debug`` one for the file alone. Programs read along in what :func:`record` writes.
"""

from __future__ import annotations

import contextlib
import json
import logging
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tqdm import tqdm

_lines = logging.getLogger("src")
_records = logging.getLogger("src.records")
_records.propagate = False


def record(event: str, **fields: Any) -> None:
    """A line of log.jsonl: one JSON object with ``event``, ``time`` (seconds since 1970) and ``fields``."""
    _records.info(event, extra={"fields": fields})


@contextlib.contextmanager
def logged(folder: Path | None = None, is_quiet: bool = False) -> Iterator[None]:
    """Within the block, all that is said goes to the console and to the files of ``folder``.

    An exception that ends the block is recorded as the event ``stopped``.

    Args:
        folder: where log.txt and log.jsonl are appended to (None: console only).
        is_quiet: say nothing on the console (the ranks beside rank 0).
    """
    lines: list[logging.Handler] = [logging.NullHandler() if is_quiet else _Console()]
    records: list[logging.Handler] = [logging.NullHandler()]
    if folder:
        lines.append(_File(folder / "log.txt", _Line()))
        records.append(_File(folder / "log.jsonl", _Json()))
    with _attached(_lines, lines), _attached(_records, records):
        try:
            yield
        except BaseException as error:
            record("stopped", reason=type(error).__name__, message=str(error))
            raise


def progress(total: int, done: int, title: str) -> tqdm:
    """A bar with the time left on a terminal; nothing where the output is a file, or nothing is said."""
    is_shown = sys.stderr.isatty() and any(isinstance(handler, _Console) for handler in _lines.handlers)
    return tqdm(total=total, initial=done, desc=title, unit="step", leave=False, disable=not is_shown)


@contextlib.contextmanager
def _attached(logger: logging.Logger, handlers: list[logging.Handler]) -> Iterator[None]:
    level = logger.level
    logger.setLevel(logging.DEBUG)
    for handler in handlers:
        logger.addHandler(handler)
    try:
        yield
    finally:
        logger.setLevel(level)
        for handler in handlers:
            logger.removeHandler(handler)
            handler.close()


class _Line(logging.Formatter):
    """The message alone."""

    def format(self, record: logging.LogRecord) -> str:
        return f"{'note: ' if record.levelno >= logging.WARNING else ''}{record.getMessage()}"


class _Json(logging.Formatter):
    """A record as JSON."""

    def format(self, record: logging.LogRecord) -> str:
        return json.dumps({"event": record.getMessage(), "time": round(record.created, 3), **record.fields})


class _Console(logging.Handler):
    """Standard output, around a progress bar."""

    def __init__(self) -> None:
        super().__init__(logging.INFO)
        self.setFormatter(_Line())

    def emit(self, record: logging.LogRecord) -> None:
        tqdm.write(self.format(record), file=sys.stdout)
        sys.stdout.flush()


class _File(logging.FileHandler):
    """A file that is appended to. A full disk is not its concern: the checkpoint that meets it ends the run."""

    def __init__(self, path: Path, formatter: logging.Formatter):
        super().__init__(path, encoding="utf-8")
        self.setFormatter(formatter)

    def handleError(self, record: logging.LogRecord) -> None:
        if not isinstance(sys.exc_info()[1], OSError):
            raise

    def close(self) -> None:
        with contextlib.suppress(OSError):
            super().close()
