"""The pre-flight check against damaged and odd files, and that what it accepts really trains."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import PIL
import pytest
from PIL import Image

from src.data import check
from src.data.check import check_folder, examine, usable_images
from src.data.folders import build_class_index
from src.errors import UsageError
from tests.images import SIDE, accepted_files, encode, photo, png_bomb, refused_files, write_files, write_unopenable

ROOT = Path(__file__).parents[2]

# What a run does with a folder: check, leave out the bad, evaluate and train. Prints the evaluation's pixels,
# which are the images' own: nothing is resized, nothing normalised.
PIPELINE = """
import sys
import warnings
import numpy as np
from pathlib import Path
from src.data.check import check_folder, usable_images
from src.data.folders import build_class_index
from src.data.dataset import EvalData, TrainData
from src.data.preprocessing import Preprocessing
from src.settings.sections import Augmentation

folder, out = Path(sys.argv[1]), sys.argv[2]
report = check_folder(folder, build_class_index(folder))
images = usable_images(report, skip_bad_images=True)
pixels = {}
for kernel in ("mindspore", "pil"):
    own = Preprocessing(32, 32, "bilinear", kernel, (0.0, 0.0, 0.0), (1 / 255,) * 3)
    data = EvalData(images, own, batch_size=8, workers=2)
    pixels[kernel] = np.concatenate([batch.asnumpy()[:valid] for batch, _, valid in data])
augmented = Augmentation(
    color_jitter=[0.4, 0.4, 0.4, 0.1], cutout=True, cutout_length=8, drop_remainder=False
)
for size in (32, 224):
    train = TrainData(images, augmented, own, batch_size=4, seed=1, workers=2)
    assert sum(len(labels) for _, labels in train.epoch(0)) == len(images)
np.savez(out, names=[path.name for path, _ in images], **pixels)
"""


@pytest.fixture(scope="module")
def odd_folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("odd") / "train"
    write_files(folder / "odd", refused_files() | accepted_files())
    write_unopenable(folder / "odd")
    (folder / "odd" / "readme.txt").write_text("about")
    (folder / "odd" / "._plain.jpg").write_bytes(b"resource fork")
    (folder / "sound").mkdir()
    (folder / "sound" / "photo.jpg").write_bytes(encode(photo(3), "JPEG"))
    return folder


@pytest.fixture(scope="module")
def report(odd_folder):
    return check_folder(odd_folder, build_class_index(odd_folder), workers=2)


def test_there_are_enough_damaged_files():
    assert len(refused_files()) >= 30


@pytest.mark.parametrize("name", refused_files())
def test_each_damaged_file_is_named_with_its_reason(report, odd_folder, name):
    assert refused_files()[name].refusal in dict(report.bad)[odd_folder / "odd" / name]


def test_entries_that_are_no_files_are_named(report, odd_folder, tmp_path):
    reasons = write_unopenable(tmp_path)
    found = dict(report.bad)
    for name, reason in reasons.items():
        assert reason in found[odd_folder / "odd" / name]
    assert len(found) == len(refused_files()) + len(reasons)


def test_exactly_the_sound_files_are_left(report, odd_folder):
    expected = {odd_folder / "odd" / name for name in accepted_files()} | {odd_folder / "sound" / "photo.jpg"}
    images = usable_images(report, skip_bad_images=True)
    assert {path for path, _ in images} == expected
    assert len(images) == len(expected)


def test_notes_name_what_is_odd_but_harmless(report, odd_folder):
    notes = {path.name: note for path, note in report.notes}
    remarks = {name: file.remark for name, file in accepted_files().items() if file.remark}
    assert set(notes) == {*remarks, "readme.txt"}
    for name, remark in remarks.items():
        assert remark in notes[name]


def test_what_is_odd_is_counted_by_kind_in_one_line(report):
    remarks = [file.remark for file in accepted_files().values() if file.remark]
    assert {"EXIF", "transparent", "16 bits", "CMYK"} <= set(remarks)
    summary = report.summary()
    assert "\n" not in summary
    assert "3 transparent, its colours are used as if it were not (odd/alpha.png, odd/gray_alpha.png, " in summary
    assert "2 of 16 bits per channel, the upper 8 are used (odd/gray_16_bit.png, odd/rgb_16_bit.png)" in summary
    assert "1 turned by its EXIF entry, which is not heeded (odd/turned.jpg)" in summary
    assert check_folder(report.split_dir, {"sound": 0}).summary() == ""


def test_a_warning_of_pillow_names_the_file_each_time(tmp_path, monkeypatch, recwarn):
    write_files(tmp_path / "a", {name: accepted_files()["plain.jpg"] for name in ("1.jpg", "2.jpg", "3.jpg")})
    real = check.to_rgb

    def grumbling(image):
        if Path(image.fp.name).name != "2.jpg":
            warnings.warn_explicit("Corrupt EXIF data:  expected 4", UserWarning, PIL.__file__, 1)
        warnings.warn("of another", ResourceWarning, stacklevel=1)  # as the garbage collector may say at any moment
        return real(image)

    monkeypatch.setattr(check, "to_rgb", grumbling)
    for workers in (1, 2):
        assert check_folder(tmp_path, {"a": 0}, workers=workers).notes == [
            (tmp_path / "a" / name, "Corrupt EXIF data, expected 4") for name in ("1.jpg", "3.jpg")
        ]
    assert {str(warning.message) for warning in recwarn.list} == {"of another"}


def test_training_refuses_and_says_what_to_do(report):
    with pytest.raises(UsageError, match=rf"^{len(report.bad)} files .*--skip_bad_images.*src\.data\.check"):
        usable_images(report, skip_bad_images=False)


def test_a_class_left_without_images_is_named(tmp_path):
    write_files(tmp_path / "a", {"x.jpg": refused_files()["half.jpg"]})
    write_files(tmp_path / "b", {"x.jpg": accepted_files()["plain.jpg"]})
    with pytest.raises(UsageError, match="classes a of"):
        usable_images(check_folder(tmp_path, {"a": 0, "b": 1}), skip_bad_images=True)


def test_accepted_files_train_with_the_right_pixels(odd_folder, tmp_path):
    out = tmp_path / "pixels.npz"
    child = subprocess.run(
        [sys.executable, "-c", PIPELINE, str(odd_folder), str(out)],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert child.returncode == 0, child.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["pixels.npz"]  # MindSpore dumped no failed image
    result = np.load(out)
    expected = {name: file.pixels for name, file in accepted_files().items()}
    for kernel in ("mindspore", "pil"):
        compared = 0
        for name, pixels in zip(result["names"], result[kernel], strict=True):
            if str(name) in expected:
                difference = np.abs(pixels.transpose(1, 2, 0) - expected[str(name)]).max()
                assert difference <= (1 if name == "cmyk.jpg" else 0), (kernel, name)
                compared += 1
        assert compared == len(expected)


def test_a_bomb_is_refused_from_its_header(tmp_path, monkeypatch):
    monkeypatch.setattr(Image.Image, "load", lambda self: pytest.fail("decoded"))
    bomb = tmp_path / "bomb.png"
    bomb.write_bytes(png_bomb())
    refusal, _ = examine(bomb)
    assert "20000 x 20000 pixels" in refusal


def test_the_pixel_limit_is_the_callers(tmp_path):
    picture = tmp_path / "x.png"
    picture.write_bytes(encode(photo(), "PNG"))
    assert examine(picture, max_pixels=SIDE * SIDE) == (None, None)
    assert "more than max_image_pixels 1023" in examine(picture, max_pixels=SIDE * SIDE - 1)[0]


def test_no_truncation_of_a_jpeg_passes_undetected(tmp_path):
    whole = encode(photo(height=64, width=64), "JPEG", quality=90)
    cut = tmp_path / "cut.jpg"
    for size in range(0, len(whole) - 60, 7):
        cut.write_bytes(whole[:size])
        assert examine(cut)[0], size


@pytest.fixture
def counted(monkeypatch):
    """The files that were really examined."""
    examined = []
    real = check.examine
    monkeypatch.setattr(check, "examine", lambda path, limit: examined.append(path.name) or real(path, limit))
    return examined


def test_an_unchanged_folder_is_not_decoded_again(tmp_path, counted):
    folder, cache = tmp_path / "train", tmp_path / "cache"
    write_files(folder / "a", {name: refused_files()[name] for name in ("half.jpg", "half.png")} | accepted_files())
    first = check_folder(folder, {"a": 0}, cache=cache)
    assert len(counted) == len(first.good) + len(first.bad)
    counted.clear()
    assert check_folder(folder, {"a": 0}, cache=cache) == first
    assert not counted


def test_any_change_makes_the_kept_result_void(tmp_path, counted):
    folder, cache = tmp_path / "train", tmp_path / "cache"
    write_files(folder / "a", {name: accepted_files()[name] for name in ("plain.jpg", "gray.png")})

    def examined_again(**options) -> bool:
        counted.clear()
        check_folder(folder, {"a": 0}, cache=cache, **options)
        return bool(counted)

    assert examined_again()
    os.utime(folder / "a" / "plain.jpg", ns=(1, 1))
    assert examined_again()
    (folder / "a" / "gray.png").write_bytes(b"")
    assert examined_again()
    (folder / "a" / "gray.png").rename(folder / "a" / "grey.png")
    assert examined_again()
    assert examined_again(max_pixels=5)
    (next(cache.iterdir())).write_text('{"stamp": ')
    assert examined_again(max_pixels=5)
    assert not examined_again(max_pixels=5)


def test_an_unwritable_cache_is_no_obstacle(tmp_path, caplog):
    write_files(tmp_path / "train" / "a", {"plain.jpg": accepted_files()["plain.jpg"]})
    (tmp_path / "file").write_text("")
    report = check_folder(tmp_path / "train", {"a": 0}, cache=tmp_path / "file" / "cache")
    assert len(report.good) == 1
    assert "could not be kept" in caplog.text


def run_command(*arguments, home: Path) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, "-m", "src.data.check", *map(str, arguments)],
        cwd=ROOT,
        env={**os.environ, "XDG_CACHE_HOME": str(home)},
        capture_output=True,
        text=True,
        timeout=60,
    )


def test_the_command_names_all_bad_files_and_ends_with_2(odd_folder, tmp_path):
    ended = run_command(odd_folder, "--workers", 2, home=tmp_path)
    assert ended.returncode == 2
    for name in refused_files():
        assert f"bad   {Path('odd') / name}: " in ended.stdout
    assert ended.stderr.startswith("error: ") and ended.stderr.count("\n") == 1
    kept = json.loads(next((tmp_path / "mobile-nas" / "checks").iterdir()).read_text())
    assert len(kept["findings"]) > 30


def test_the_command_checks_both_splits_of_a_parent(tmp_path):
    for split in ("train", "val"):
        write_files(tmp_path / "data" / split / "a", {"line\nbreak.jpg": accepted_files()["cmyk.jpg"]})
    ended = run_command(tmp_path / "data", "--no_cache", home=tmp_path / "home")
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.count("1 good images in 1 classes, 0 bad, 1 notes") == 2
    assert "note  'a/line\\nbreak.jpg': CMYK" in ended.stdout
    assert not (tmp_path / "home").exists()
