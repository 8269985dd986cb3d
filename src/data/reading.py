"""Reading images ahead of the pipeline, in order, and what happens to one that can no longer be read.

The check before a run has seen every image; one may go, or be written over, while the run is under way. It is named
then. An error inside MindSpore's pipeline would be a page long, and a JPEG cut off in its tables end the process.
"""

from __future__ import annotations

import collections
import itertools
import logging
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from src.data.folders import Images, some
from src.data.images import read_encoded
from src.errors import RunFailed

_log = logging.getLogger(__name__)
_READ_TOGETHER = 8  # files a reading thread takes at once: the hand-over costs as much as a small read

Row = tuple[np.ndarray, np.int32]


class ImageLost(RunFailed):
    """An image that the check had passed cannot be read any more."""


class Reader:
    """Encoded images with their labels, in the order of ``files``.

    Args:
        threads: that read.
        is_replacing: an image that cannot be read has another's place taken by the one before it, and a line says so
            at the end. Otherwise the rows end there, and :meth:`require_all` raises.
    """

    def __init__(self, files: Images, threads: int, is_replacing: bool = False):
        self._files, self._threads, self._is_replacing = files, threads, is_replacing
        self._lost: list[tuple[Path, str]] = []

    def rows(self) -> Iterator[Row]:
        """For a pipeline, which may call it in a thread of its own."""
        stand_in, owed = None, 0
        for row in self._read():
            if row is None and not self._is_replacing:
                return
            stand_in = row or stand_in
            owed += 1
            if stand_in:
                yield from itertools.repeat(stand_in, owed)
                owed = 0
        if self._lost and stand_in:
            named = some([f"{path}: {reason}" for path, reason in self._lost])
            _log.warning(f"{len(self._lost)} images cannot be read any more, others took their places: {named}")

    def require_all(self) -> None:
        """Raises ImageLost if the rows ended, or are about to end, at an image that cannot be read."""
        if self._lost and not (self._is_replacing and len(self._lost) < len(self._files)):
            path, reason = self._lost[0]
            raise ImageLost(
                f"{path} cannot be read any more ({reason}). Put it back, or start again with --skip_bad_images"
            )

    def _read(self) -> Iterator[Row | None]:
        remaining = iter(self._files)
        chunks = iter(lambda: list(itertools.islice(remaining, _READ_TOGETHER)), [])
        with ThreadPoolExecutor(self._threads, thread_name_prefix="read") as pool:
            ahead = collections.deque(
                pool.submit(_rows_of, chunk) for chunk in itertools.islice(chunks, self._threads + 1)
            )
            while ahead:
                done = ahead.popleft().result()
                ahead.extend(pool.submit(_rows_of, chunk) for chunk in itertools.islice(chunks, 1))
                for path, row, reason in done:
                    if row is None:
                        self._lost.append((path, reason))
                    yield row


def _rows_of(chunk: Images) -> list[tuple[Path, Row | None, str]]:
    rows: list[tuple[Path, Row | None, str]] = []
    for path, label in chunk:
        try:
            rows.append((path, (read_encoded(path), np.int32(label)), ""))
        except Exception as error:  # the system's, or whatever Pillow's parsers stumble over
            reason = getattr(error, "strerror", None) or " ".join(str(error).split()) or type(error).__name__
            rows.append((path, None, reason))
    return rows
