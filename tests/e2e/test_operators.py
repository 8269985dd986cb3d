"""Training gives the same losses with each kind of CPU operators."""

from __future__ import annotations

import numpy as np
import pytest

import train
from tests.watched import watch_training


@pytest.fixture(scope="module")
def losses_with(photos, tiny_model, tmp_path_factory):
    """The losses of one epoch of six steps with the operators asked for."""
    known: dict[str, list[float]] = {}

    def losses(operators: str) -> list[float]:
        if operators not in known:
            seen: list[float] = []
            run = tmp_path_factory.mktemp(operators) / "run"
            words = f"--model tiny --data_path {photos / 'alone'} --batch_size 4 --workers 1 --check_data False"
            with pytest.MonkeyPatch.context() as patch:
                watch_training(patch, seen.append)
                train.main(f"{words} --run_dir {run} --cpu_operators {operators}".split())
            known[operators] = seen
        return known[operators]

    return losses


def test_six_steps(losses_with, capsys):
    expected, losses = losses_with("standard"), losses_with("fused")
    assert "CPU operators: fused\n" in capsys.readouterr().out, "no stand-in"
    assert len(losses) == 6
    np.testing.assert_allclose(losses, expected, rtol=1e-4)
