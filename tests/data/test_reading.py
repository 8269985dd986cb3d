"""An image that goes, or is written over, after the check has passed it."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from src.data.dataset import EvalData, TrainData
from src.data.preprocessing import Preprocessing
from src.data.reading import ImageLost, Reader
from src.settings.sections import Augmentation
from tests.images import encode, photo

SMALL = Preprocessing(16, 16)
DAMAGES: dict[str, Callable[[Path], object]] = {
    "No such file": Path.unlink,
    "cannot identify": lambda path: path.write_bytes(b""),
    "Truncated": lambda path: path.write_bytes(path.read_bytes()[:300]),  # MindSpore's decoder would end the process
    "truncated": lambda path: path.write_bytes(path.read_bytes()[:-40]),
}


@pytest.fixture
def files(tmp_path) -> list[tuple[Path, int]]:
    images = [(tmp_path / f"{number}.jpg", number) for number in range(12)]
    for path, number in images:
        path.write_bytes(encode(photo(number, 24, 24), "JPEG"))
    return images


@pytest.mark.parametrize("what", DAMAGES)
def test_the_rows_end_at_an_image_that_is_lost(files, what):
    DAMAGES[what](files[9][0])
    reader = Reader(files, threads=2)
    assert [int(label) for _, label in reader.rows()] == list(range(9))
    with pytest.raises(ImageLost, match=rf"9\.jpg cannot be read any more \(.*{what}"):
        reader.require_all()


@pytest.mark.parametrize(("lost", "served"), [([0, 1], [2, 2, 2, 3]), ([2], [0, 1, 1, 3]), ([3], [0, 1, 2, 2])])
def test_others_take_the_place_of_what_is_lost_and_a_line_says_so(files, lost, served, caplog):
    for number in lost:
        files[number][0].unlink()
    reader = Reader(files[:4], threads=2, is_replacing=True)
    with caplog.at_level(logging.WARNING):
        assert [int(label) for _, label in reader.rows()] == served
    reader.require_all()
    assert f"{len(lost)} images cannot be read any more" in caplog.text and f"{lost[0]}.jpg" in caplog.text


def test_nothing_takes_the_place_of_everything(files):
    for path, _ in files:
        path.unlink()
    reader = Reader(files, threads=2, is_replacing=True)
    assert list(reader.rows()) == []
    with pytest.raises(ImageLost):
        reader.require_all()


def test_batches_before_a_lost_image_are_whole_and_none_comes_after(files):
    data = TrainData(files, Augmentation(), SMALL, batch_size=4, seed=1, workers=2)
    whole = [labels.asnumpy() for _, labels in data.epoch(0)]
    files[int(whole[1][2])][0].unlink()
    found = []
    with pytest.raises(ImageLost):
        for _, labels in data.epoch(0):
            found.append(labels.asnumpy())
    np.testing.assert_array_equal(found, whole[:1])


def test_an_evaluation_names_what_it_cannot_count(files):
    files[-1][0].unlink()
    counts = []
    with pytest.raises(ImageLost, match=r"11\.jpg"):
        for _, _, count in EvalData(files, SMALL, 5, workers=1):
            counts.append(count)
    assert counts == [5, 5]
