"""How training is told: lines, a progress bar, metrics.csv, curves and TensorBoard's files."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Mapping, Sequence
from typing import Any

from tqdm import tqdm

from src.runs.curves import draw_curves
from src.runs.folder import RunFolder
from src.runs.log import progress, record
from src.runs.tensorboard import Summaries
from src.runs.wording import filled, wording_of
from src.settings.config import Config
from src.training.evaluation import Evaluation

_log = logging.getLogger(__name__)


class Reporter:
    """Tells what a trainer does; nothing that is computed depends on it.

    Args:
        config: of the run.
        folder: of the run.
        is_writing: whether this rank is the one that writes.
    """

    def __init__(self, config: Config, folder: RunFolder, is_writing: bool):
        self._config, self._folder, self._is_writing = config, folder, is_writing
        self._summaries = Summaries(folder.path if config.tensorboard and is_writing else None)

    def bar(self, epoch: int, steps: int, done: int) -> tqdm:
        """The progress bar of an epoch (counted from 1) of which ``done`` steps are done."""
        return progress(steps, done, f"epoch {epoch}/{self._config.epochs}")

    def step(self, bar: tqdm, epoch: int, step: int, loss: float, updates: int) -> None:
        """The loss of one step, both counted from 1."""
        bar.set_postfix(loss=f"{loss:.3f}")
        _log.info(f"epoch: {epoch} step: {step}, loss is {loss:.6g}")
        self._summaries.add(updates, train_loss_step=loss)

    def epoch(
        self,
        history: Sequence[Mapping[str, Any]],
        evaluation: Evaluation | None,
        steps: int,
        overflows: int,
        is_best: bool,
    ) -> None:
        """The newest row of ``history``, and in the words of the network's document.

        Args:
            evaluation: after the epoch, if it was due.
            steps: that this process did of the epoch.
            overflows: updates skipped since the run began.
        """
        row = history[-1]
        self._say_in_their_words(row, evaluation, steps)
        text = (
            f"epoch {row['epoch']}/{self._config.epochs}: loss {_shown(row['train_loss'])}, lr {row['lr']:.4g}, "
            f"{row['images_per_second']:.0f} images/s"
        )
        if evaluation is not None:
            text += f" | validation: {evaluation}{' (best)' if is_best else ''}"
        if overflows:
            text += f" | {overflows} updates skipped for overflow"
        _log.info(text)
        record("epoch", **row, overflows=overflows)
        scalars = {key: value for key, value in row.items() if key not in ("epoch", "step") and value is not None}
        self._summaries.add(row["step"], **scalars)
        if self._is_writing:
            self._folder.write_metrics(history)

    def _say_in_their_words(self, row: Mapping[str, Any], evaluation: Evaluation | None, steps: int) -> None:
        words, epoch, milliseconds = wording_of(self._config.model), row["epoch"] - 1, 1000 * row["seconds"]
        figures = {
            "seconds": row["seconds"],
            "milliseconds": milliseconds,
            "step_milliseconds": milliseconds / max(steps, 1),
            "loss": float("nan") if row["train_loss"] is None else row["train_loss"],
            "images_per_second": row["images_per_second"],
        }
        _log.info(filled(words.epoch, epoch=epoch, **figures))
        if evaluation is not None and words.validation:
            figures = {"loss": evaluation.loss, "top1": evaluation.top1, "top5": evaluation.top5}
            _log.info(filled(words.validation, epoch=epoch, **figures))

    def close(self, history: Sequence[Mapping[str, Any]]) -> None:
        """Writes metrics.csv and the curves, and closes all files."""
        self._summaries.close()
        if self._is_writing and history:
            with contextlib.suppress(OSError):  # a full disk has been reported by the checkpoint that met it
                self._folder.write_metrics(history)
                title = f"{self._config.model}: {self._folder.path.name}"
                draw_curves(history, self._folder.path / "curves.png", title)


def _shown(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}"
