"""What the folder of a run says of it, wherever it lies and however it ended."""

from __future__ import annotations

import contextlib
import csv
import dataclasses
import json
from pathlib import Path
from typing import Any

from src.errors import UsageError
from src.runs.checkpoint import BEST, LAST, Checkpoint, read_checkpoint
from src.runs.folder import METRICS, checkpoints_of
from src.runs.lock import is_in_use
from src.settings.config import Config, load_config
from src.settings.run_folders import CHECKPOINTS, CONFIG_FILE, JOURNAL, run_of


@dataclasses.dataclass(frozen=True)
class Account:
    """A run as its files tell it.

    Attributes:
        path: its folder.
        config: what was asked.
        status: how it ended, or that it goes on.
        history: rows of metrics.csv as numbers, None for what was not measured.
        device: it ran on; "" where it has not ended yet.
        checkpoint: the best one, or the newest; None where there is none.
        complaint: why there is none, or "".
    """

    path: Path
    config: Config
    status: str
    history: list[dict[str, float | None]]
    device: str
    checkpoint: Checkpoint | None
    complaint: str

    @property
    def best(self) -> dict[str, float | None] | None:
        """The row with the highest top-1, the earliest of equals; None where none was measured."""
        return max((row for row in self.history if row["top1"] is not None), key=lambda row: row["top1"], default=None)

    @property
    def parameters(self) -> int | None:
        """Numbers that the network has learned, batch-norm statistics aside."""
        if self.checkpoint is None:
            return None
        statistics = ("moving_mean", "moving_variance")
        return sum(array.size for name, array in self.checkpoint.weights.items() if not name.endswith(statistics))


def account_of(text: str) -> Account:
    """The account of the run that ``text`` names: its folder, its checkpoints or one of them.

    Raises:
        UsageError: no run of training is there, or its configuration or metrics are damaged.
    """
    path = run_of(Path(text))
    if path is None:
        there = "it has no config.yaml" if Path(text).is_dir() else "there is no such folder"
        raise UsageError(f"{text} is not the folder of a run: {there}")
    if (path / JOURNAL).exists() or not (path / CHECKPOINTS).is_dir():
        page = f"; its own page is {path / 'index.html'}" if (path / "index.html").is_file() else ""
        raise UsageError(f"{path} is not a run of train.py: it has no {CHECKPOINTS}{page}")
    checkpoint, complaint = None, ""
    try:
        checkpoint = read_checkpoint(checkpoints_of(str(path), pointers=(BEST, LAST))[0])
    except UsageError as error:
        complaint = str(error)
    result = _result(path)
    device = checkpoint.meta.get("device", "") if checkpoint else ""
    return Account(
        path, load_config(path / CONFIG_FILE), _status(path, result), _history(path), device, checkpoint, complaint
    )


def _history(path: Path) -> list[dict[str, float | None]]:
    file = path / "metrics.csv"
    try:
        with file.open(encoding="utf-8", newline="") as lines:
            rows = list(csv.DictReader(lines))
        return [{key: float(row[key]) if row.get(key) else None for key in METRICS} for row in rows if row["epoch"]]
    except FileNotFoundError:
        return []
    except (OSError, ValueError, KeyError, TypeError, csv.Error) as error:
        raise UsageError(f"{file} is damaged: it is no table of the run's epochs") from error


def _result(path: Path) -> dict[str, Any]:
    """result.json; empty where there is none, or none that can be read."""
    with contextlib.suppress(OSError, ValueError):
        content = json.loads((path / "result.json").read_text(encoding="utf-8"))
        return content if isinstance(content, dict) else {}
    return {}


def _status(path: Path, result: dict[str, Any]) -> str:
    if is_in_use(path):
        return "running"
    last: dict[str, Any] = {}
    with contextlib.suppress(OSError):
        for line in (path / "log.jsonl").read_text(encoding="utf-8", errors="replace").splitlines():
            with contextlib.suppress(ValueError):  # a kill cuts the last line short
                last = json.loads(line)
    if last.get("event") == "stopped":
        return f"stopped: {last.get('message') or last.get('reason')}"
    if last.get("event") in ("result", None) and "status" in result:
        return str(result["status"])
    return "ended without a word"
