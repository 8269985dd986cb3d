"""Bits that flipped and files that were cut off: refused or made again, by name, or without any effect."""

from __future__ import annotations

import dataclasses
import random
from pathlib import Path

import numpy as np
import pytest

from src.errors import UsageError
from src.runs.checkpoint import BEST, CheckpointFolder, list_checkpoints
from src.runs.folder import checkpoints_of
from src.runs.trained import Trained
from src.settings.config import DEFAULTS, load_config
from src.training.going_on import differences
from tests.attack.kept_files import KINDS, NOW, meta

DAMAGES = 200
FEW = 10
# What is made again without a word, or is another image, or text, as well.
RECOVERED = ("kept check", "pointer to a checkpoint", "image", "labels in lines")
CUT = ("journal",)  # a line that is not whole was being written: its path is scored again


def damaged(content: bytes, number: int, rng: random.Random) -> bytes:
    """Every second time a bit is flipped, otherwise the file is cut off."""
    place = rng.randrange(len(content))
    if number % 2:
        return content[:place]
    return content[:place] + bytes([content[place] ^ 1 << rng.randrange(8)]) + content[place + 1 :]


def _read(kind: str, path: Path) -> object:
    """What a program goes on with; the refusal, which names a file of that folder, in its place."""
    try:
        return KINDS[kind].read(path)
    except UsageError as error:
        assert path.name in str(error) or str(path.parent) in str(error) or "that the run has split" in str(error)
        return error


def _damage(kind: str, folder: Path, count: int) -> None:
    path = KINDS[kind].make(folder)
    good, whole = path.read_bytes(), _read(kind, path)
    rng = random.Random(kind)
    refused = 0
    for number in range(2 * count):
        path.write_bytes(content := damaged(good, number, rng))
        found = _read(kind, path)
        refused += isinstance(found, UsageError)
        if KINDS[kind].is_sealed and not isinstance(found, UsageError):
            is_shorter = kind in CUT and found == whole[: len(found)]
            assert found == whole or is_shorter, f"read otherwise, and nothing said: {content!r}"
    path.write_bytes(good)
    assert _read(kind, path) == whole
    assert refused > count / 2 or kind in RECOVERED


@pytest.mark.parametrize("kind", KINDS)
def test_damage_is_refused_or_has_no_effect(tmp_path, kind):
    _damage(kind, tmp_path, FEW)


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_four_hundred_damages_are_refused_or_have_no_effect(tmp_path, kind):
    _damage(kind, tmp_path, DAMAGES)


def test_a_damaged_configuration_is_refused_or_its_differences_are_said(tmp_path):
    """A person may change it, so no checksum: what differs from the checkpoint's is listed when the run goes on."""
    path = KINDS["config.yaml"].make(tmp_path)
    good, rng = path.read_bytes(), random.Random(7)
    before = Trained.from_meta(meta(), path)
    earlier = dataclasses.replace(before, config=load_config(path))
    told = 0
    for number in range(0, 60, 2):
        path.write_bytes(damaged(good, number, rng))
        try:
            config = load_config(path)
        except UsageError:
            continue
        changed = {key for key in DEFAULTS if config.kept()[key] != earlier.config.kept()[key]}
        lines = differences(earlier, dataclasses.replace(before, config=config), NOW, NOW)
        assert {line.split()[0] for line in lines} == changed
        told += len(changed)
    assert told


def test_a_run_with_a_damaged_pointer_is_refused_by_its_name(tmp_path):
    run = tmp_path / "run"
    (run / "checkpoints").mkdir(parents=True)
    (run / "config.yaml").touch()
    pointer = KINDS["pointer to a checkpoint"].make(run / "checkpoints").with_name(BEST)
    CheckpointFolder(run / "checkpoints").point(BEST, run / "checkpoints" / "net-1_6.ckpt")
    assert checkpoints_of(str(run)) == [run / "checkpoints" / "net-1_6.ckpt"]
    pointer.write_bytes(pointer.read_bytes().replace(b"net-1", b"net-2"))
    with pytest.raises(UsageError, match="best is damaged"):
        checkpoints_of(str(run))


def test_nothing_is_removed_while_nobody_knows_which_checkpoint_is_the_best(tmp_path):
    folder = CheckpointFolder(tmp_path, keep=1)
    for epoch in (1, 2, 3):
        if epoch == 2:
            (tmp_path / BEST).write_bytes(b"\xff")
        folder.save("net", epoch, 6, {"weight": np.ones(2, np.float32)}, {}, meta(), is_best=epoch == 1)
    assert len(list_checkpoints(tmp_path)) == 3
