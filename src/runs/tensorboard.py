"""Scalars for TensorBoard, where a run asks for them."""

from __future__ import annotations

from pathlib import Path


class Summaries:
    """Writes event files into ``folder``; does nothing when it is None."""

    def __init__(self, folder: Path | None):
        self._writer = None
        if folder is not None:
            from tensorboardX import SummaryWriter  # only runs that ask for it pay for the import

            self._writer = SummaryWriter(str(folder / "tensorboard"))

    def add(self, step: int, **scalars: float) -> None:
        """One point per scalar at update ``step``."""
        if self._writer:
            for name, value in scalars.items():
                self._writer.add_scalar(name, value, step)

    def close(self) -> None:
        """Flushes and closes the files."""
        if self._writer:
            self._writer.close()
