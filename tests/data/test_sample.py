"""The embedded sample data set."""

from __future__ import annotations

import collections
import hashlib

import numpy as np
import pytest
from PIL import Image

from src.data.folders import build_class_index, check_same_classes, list_images
from src.data.sample import main, sample_images, write_sample
from src.errors import UsageError


@pytest.fixture(scope="module")
def sample(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data") / "digits"
    write_sample(folder)
    return folder


def test_it_is_a_data_set_of_1437_and_360_images(sample):
    classes = build_class_index(sample / "train")
    check_same_classes(sample / "val", classes)
    assert list(classes) == [str(digit) for digit in range(10)]
    assert len(list_images(sample / "train", classes)) == 1437
    assert len(list_images(sample / "val", classes)) == 360


def test_each_digit_is_split_in_the_same_proportion(sample):
    counts = collections.Counter(name.rsplit("/", 1)[0] for name in sample_images())
    for digit in range(10):
        val, train = counts[f"val/{digit}"], counts[f"train/{digit}"]
        assert abs(val - 360 / 1797 * (val + train)) < 1


def test_no_scan_is_in_both_splits(sample):
    numbers = [name.rsplit("/", 1)[1] for name in sample_images()]
    assert len(set(numbers)) == 1797
    train, val = (
        {image.tobytes() for name, image in sample_images().items() if name.startswith(split)}
        for split in ("train", "val")
    )
    assert not train & val


def test_the_same_images_every_time():
    digest = hashlib.sha256()
    for name, image in sorted(sample_images().items()):
        digest.update(name.encode() + image.tobytes())
    assert digest.hexdigest() == "9ef92d248f499fe841790b2fe7bd50ce35bae495a8a2a0437776c857027ae05d"


def test_files_hold_the_scans_enlarged(sample):
    for name, pixels in list(sample_images().items())[::100]:
        with Image.open(sample / name) as image:
            assert image.mode == "L"
            assert np.array_equal(np.asarray(image), pixels)
        assert pixels.shape == (32, 32)
        assert pixels.max() > 200 and pixels.min() < 30


def test_writing_again_changes_nothing_and_completes_what_lacks(sample, capsys):
    names = sorted(sample_images())
    (sample / names[0]).unlink()
    before = {path: path.stat().st_mtime_ns for path in sample.rglob("*.png")}
    main([str(sample)])
    after = {path: path.stat().st_mtime_ns for path in sample.rglob("*.png")}
    assert len(after) == 1797
    assert all(after[path] == time for path, time in before.items())
    assert "1437 training and 360 validation" in capsys.readouterr().out


@pytest.mark.parametrize("name", ["mine.txt", "train/0/mine.png", "train/0/{first}"])
def test_other_content_is_never_touched(tmp_path, name):
    first = min(file.rsplit("/", 1)[1] for file in sample_images() if file.startswith("train/0/"))
    mine = tmp_path / name.format(first=first)
    mine.parent.mkdir(parents=True, exist_ok=True)
    mine.write_bytes(b"precious")
    with pytest.raises(UsageError, match="not of the sample"):
        write_sample(tmp_path)
    assert mine.read_bytes() == b"precious"
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == [mine]


def test_some_digits_stand_where_they_stand_in_the_whole(tmp_path, capsys):
    main([str(tmp_path / "some"), "--classes", "8-9,1"])
    assert "some: 429 training and 107 validation images of the digits 1 8 9, 32" in capsys.readouterr().out
    written = {path.relative_to(tmp_path / "some").as_posix() for path in (tmp_path / "some").rglob("*.png")}
    assert written == {name for name in sample_images() if name.split("/")[1] in "189"}


@pytest.mark.parametrize("text", ["", "x", "3", "4-2", "0-10", "1,,2", "0-4;6"])
def test_what_names_no_digits_is_refused(tmp_path, text, capsys):
    with pytest.raises(SystemExit, match="2"):
        main([str(tmp_path / "some"), f"--classes={text}"])
    assert "names no two digits or more" in capsys.readouterr().err
    assert not (tmp_path / "some").exists()
