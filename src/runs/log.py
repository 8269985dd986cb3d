"""What a run says: lines on the console and in log.txt, the same as records in log.jsonl, a progress bar."""

from __future__ import annotations

import contextlib
import json
import logging
import sys
import time
from pathlib import Path
from types import TracebackType
from typing import Any, TextIO

from tqdm import tqdm


class Log:
    """The console of one process and, for the process that writes the run folder, its log files.

    Args:
        folder: where log.txt and log.jsonl are appended to (None: console only).
        is_quiet: say nothing on the console (the ranks beside rank 0).
    """

    def __init__(self, folder: Path | None = None, is_quiet: bool = False):
        self._text: TextIO | None = (folder / "log.txt").open("a", encoding="utf-8") if folder else None
        self._records: TextIO | None = (folder / "log.jsonl").open("a", encoding="utf-8") if folder else None
        self._is_quiet = is_quiet
        self._notes = _Notes(self)
        logging.getLogger("src").addHandler(self._notes)

    def line(self, text: str = "") -> None:
        """A line for a person; it does not disturb a progress bar."""
        if not self._is_quiet:
            tqdm.write(text, file=sys.stdout)
            sys.stdout.flush()
        self._append(self._text, text)

    def record(self, event: str, **fields: Any) -> None:
        """A record for a program: one JSON object with ``event``, ``time`` (seconds since 1970) and ``fields``."""
        self._append(self._records, json.dumps({"event": event, "time": round(time.time(), 3), **fields}))

    def _append(self, file: TextIO | None, line: str) -> None:
        if file:
            with contextlib.suppress(OSError):  # a full disk; the checkpoint that meets it ends the run and says so
                file.write(line + "\n")
                file.flush()

    def close(self) -> None:
        """Closes the files."""
        logging.getLogger("src").removeHandler(self._notes)
        for file in (self._text, self._records):
            if file:
                with contextlib.suppress(OSError):
                    file.close()

    def __enter__(self) -> Log:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is not None and kind is not None:
            self.record("stopped", reason=kind.__name__, message=str(error))
        self.close()

    def progress(self, total: int, done: int, title: str) -> tqdm:
        """A bar with the time left on a terminal; nothing where the output is a file."""
        is_shown = sys.stderr.isatty() and not self._is_quiet
        return tqdm(total=total, initial=done, desc=title, unit="step", leave=False, disable=not is_shown)


class _Notes(logging.Handler):
    """Passes on what the modules below say through the standard library's logging."""

    def __init__(self, log: Log):
        super().__init__(logging.WARNING)
        self._log = log

    def emit(self, record: logging.LogRecord) -> None:
        self._log.line(f"note: {record.getMessage()}")
