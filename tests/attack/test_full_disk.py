"""A file system that fills up at some moment: one line, what was whole stays whole, and with space it goes on."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

import export
import search
import train
from src.errors import run
from src.runs.checkpoint import CheckpointFolder, list_checkpoints, read_checkpoint
from src.settings.config import load_config
from src.settings.run_folders import JOURNAL
from tests.attack import stand_in
from tests.exported import checkpoint

MOMENTS = 20
RUN = "--model tiny --batch_size 4 --lr 0.05 --workers 1 --epochs 2 --save_checkpoint_steps 2 --eval_batch_size 4"


class Disk:
    """A file system of its own that is full from the ``moment``-th opening of a file for writing on.

    Attributes:
        opened: how often that happened.
    """

    def __init__(self, path: Path):
        self.path, self.opened, self._moment = path, 0, None
        self._is_filling = False
        sys.addaudithook(self._hear)

    def _hear(self, event: str, arguments: tuple) -> None:
        if event != "open" or self._moment is None or self._is_filling or not isinstance(arguments[0], (str, bytes)):
            return
        path, _, flags = arguments
        if not flags & (os.O_WRONLY | os.O_RDWR) or not os.fsdecode(path).startswith(str(self.path)):
            return
        self.opened += 1
        if self.opened == self._moment:
            self._is_filling = True
            with (self.path / "ballast").open("wb", buffering=0) as ballast, contextlib.suppress(OSError):
                for size in (1 << 16, 1 << 12, 1):
                    with contextlib.suppress(OSError):
                        while ballast.write(b"\0" * size) == size:
                            pass
            self._is_filling = False

    @contextlib.contextmanager
    def full_from(self, moment: int) -> Iterator[None]:
        self.opened, self._moment = 0, moment
        try:
            yield
        finally:
            self._moment = None
            (self.path / "ballast").unlink(missing_ok=True)


@pytest.fixture(scope="module")
def disk(tmp_path_factory) -> Iterator[Disk]:
    path = tmp_path_factory.mktemp("disk")
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=3m", "tmpfs", str(path)], capture_output=True)
    if done.returncode:
        pytest.skip("no file system of a size of its own can be mounted here")
    yield Disk(path)
    subprocess.run(["umount", "--lazy", str(path)], check=True)


def outcome(program, words: str, capfd) -> tuple[int, str]:
    """Exit status and what was said on stderr."""
    status = 0
    try:
        run(program, words.split())
    except SystemExit as ending:
        status = ending.code
    return status, capfd.readouterr().err


def assert_one_line(status: int, error: str, folder: Path) -> None:
    """Either it was no matter, or the program failed and said where, in one line."""
    if status:
        assert status == 1, error
        assert error.count("\n") == 1 and error.startswith("failed: "), error
        assert str(folder) in error, error


def assert_whole(folder: Path) -> None:
    """Nothing in a run's folder is half written."""
    for path in list_checkpoints(folder / "checkpoints"):
        read_checkpoint(path)
    if (folder / "config.yaml").exists():
        load_config(folder / "config.yaml")
    assert not [path for path in folder.rglob(".*") if path.name != ".lock"]


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory, photos, tiny_model) -> Path:
    folder = tmp_path_factory.mktemp("undisturbed") / "run"
    train.main([*RUN.split(), "--data_path", str(photos), "--run_dir", str(folder)])
    return folder


def trained(disk: Disk, photos: Path, moment: int, capfd) -> tuple[int, Path]:
    """The status of a run on the disk that is full from a moment on, and its folder."""
    folder = disk.path / f"run{moment}"
    with disk.full_from(moment):
        status, error = outcome(train.main, f"{RUN} --data_path {photos} --run_dir {folder}", capfd)
        assert_one_line(status, error, folder)
        if folder.exists():
            assert_whole(folder)
    return status, folder


def newest(folder: Path):
    return read_checkpoint(CheckpointFolder(folder / "checkpoints").newest_valid()[0])


@pytest.mark.slow
@pytest.mark.parametrize("moment", range(1, 3 * MOMENTS, 3))
def test_training_ends_in_a_line_and_goes_on_with_space(disk, photos, undisturbed, moment, capfd):
    status, folder = trained(disk, photos, moment, capfd)
    if status:
        again, _ = outcome(train.main, f"{RUN} --data_path {photos} --run_dir {folder} --resume auto", capfd)
        assert again == 0
    one, other = newest(folder), newest(undisturbed)
    for name, array in {**other.weights, **other.state}.items():
        np.testing.assert_array_equal({**one.weights, **one.state}[name], array, err_msg=name, strict=True)
    subprocess.run(["rm", "-r", str(folder)], check=True)


@pytest.mark.parametrize(
    "moment", [6, *(pytest.param(m, marks=pytest.mark.slow) for m in range(1, MOMENTS + 1) if m != 6)]
)
def test_a_search_ends_in_a_line_and_goes_on_with_space(disk, tmp_path, moment, capfd, monkeypatch):
    stand_in.replace_scoring(monkeypatch.setattr, tmp_path)
    words = f"{stand_in.SEARCH} --run_dir"
    run(search.main, f"{words} {tmp_path / 'whole'}".split())
    folder = disk.path / f"search{moment}"
    with disk.full_from(moment):
        status, error = outcome(search.main, f"{words} {folder}", capfd)
        assert_one_line(status, error, folder)
    assert outcome(search.main, f"{words} {folder}", capfd)[0] == 0
    for name in (JOURNAL, "candidates.csv", "best.yaml"):
        assert (folder / name).read_bytes().replace(bytes(folder), b"") == (
            tmp_path / "whole" / name
        ).read_bytes().replace(bytes(tmp_path / "whole"), b"")
    assert not [path for path in folder.rglob(".*") if path.name != ".lock"]
    subprocess.run(["rm", "-r", str(folder)], check=True)


@pytest.mark.slow
@pytest.mark.parametrize("moment", range(1, 7))
def test_an_export_ends_in_a_line_and_leaves_what_was_there(disk, tmp_path, tiny_model, moment, capfd):
    words = f"--checkpoint_path {checkpoint(tmp_path, tiny_model, ['a', 'b'])} --file_format ONNX MINDIR --file_name"
    folder = disk.path / f"export{moment}"
    folder.mkdir()
    (folder / "net.onnx").write_bytes(b"earlier")
    with disk.full_from(moment):
        status, error = outcome(export.main, f"{words} {folder / 'net'}", capfd)
        assert_one_line(status, error, folder)
        assert not list(folder.glob(".*"))
        assert (folder / "net.onnx").read_bytes() == b"earlier" or (folder / "net.onnx").stat().st_size > 1000
    assert outcome(export.main, f"{words} {folder / 'net'}", capfd)[0] == 0
