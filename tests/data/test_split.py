"""Splitting class folders into training and validation images."""

from pathlib import Path

import pytest

from src.data.check import check_folder
from src.data.folders import build_class_index, list_images
from src.data.split import SPLIT_FILE, Split, divide, main
from src.errors import UsageError
from tests.images import class_folders


def files(counts: dict[str, int]) -> list[tuple[Path, int]]:
    return [
        (Path(name) / f"{number}.jpg", label)
        for label, (name, count) in enumerate(counts.items())
        for number in range(count)
    ]


def test_every_class_gives_its_share_and_every_image_is_on_one_side():
    images = files({"daisy": 10, "roses": 25, "tulips": 2})
    rest, drawn = divide(images, 0.3, 1)
    assert [sum(label == wanted for _, label in drawn) for wanted in range(3)] == [3, 8, 1]
    assert sorted(rest + drawn) == sorted(images)
    assert rest == sorted(rest, key=images.index) and drawn == sorted(drawn, key=images.index)


def test_the_draw_is_that_of_the_seed():
    images = files({"daisy": 40, "roses": 40})
    assert divide(images, 0.5, 7) == divide(images, 0.5, 7)
    assert divide(images, 0.5, 7) != divide(images, 0.5, 8)
    drawn = [int(path.stem) for path, label in divide(images, 0.5, 7)[1] if label == 0]
    assert drawn != list(range(20)) and drawn != list(range(20, 40))


@pytest.mark.parametrize("share", [0.0, 1.0, -1.0, 1.5])
def test_a_side_without_images_is_refused(share):
    with pytest.raises(UsageError, match="leaves one side empty"):
        divide(files({"daisy": 10}), share, 1)


@pytest.mark.parametrize(("count", "share", "drawn"), [(10, 0.04, 1), (10, 0.99, 9), (2, 0.01, 1), (3, 0.9, 2)])
def test_a_small_class_is_on_both_sides(count, share, drawn):
    rest, given = divide(files({"daisy": count, "roses": 100}), share, 1)
    assert sum(label == 0 for _, label in given) == drawn and sum(label == 0 for _, label in rest) == count - drawn


def test_a_class_of_one_image_cannot_be_split():
    with pytest.raises(UsageError, match="class roses has a single image, and a split needs two"):
        divide(files({"daisy": 10, "roses": 1}), 0.2, 1)


def test_a_stored_split_survives_a_move_and_what_was_added_since(tmp_path):
    folder = class_folders(tmp_path / "flowers", per_class=5)
    images = list_images(folder, build_class_index(folder))
    split = Split.drawn(images, 0.2, 1)
    assert split.parts(images) == divide(images, 0.2, 1)
    split.write(tmp_path / SPLIT_FILE)
    moved = folder.rename(tmp_path / "blossoms")
    (moved / "class1" / "new.jpg").write_bytes(b"later")
    found = list_images(moved, build_class_index(moved))
    train, val = Split.read(tmp_path / SPLIT_FILE).parts(found)
    wanted = [[(moved / path.relative_to(folder), label) for path, label in part] for part in divide(images, 0.2, 1)]
    assert [train, val] == wanted


def test_a_folder_that_was_not_split_is_told_by_a_missing_image_or_another_size(tmp_path):
    folder = class_folders(tmp_path / "flowers", per_class=3)
    images = list_images(folder, build_class_index(folder))
    split = Split.drawn(images, 0.4, 1)
    assert split.is_of(images) and not split.is_of(images[1:])
    with pytest.raises(UsageError, match=r"1 of the 9 images .* gone or changed: class0/0\.jpg\. Give their folder"):
        split.parts(images[1:])
    images[4][0].write_bytes(images[4][0].read_bytes() + b"\0")
    assert not split.is_of(images)
    with pytest.raises(UsageError, match=r"changed: class1/1\.jpg\."):
        split.parts(list(images))  # another look at the folder


@pytest.mark.parametrize("text", ["", "[]", '{"train": {}}', '{"train": 3, "val": 4}'])
def test_a_damaged_split_is_refused(tmp_path, text):
    (tmp_path / SPLIT_FILE).write_text(text)
    with pytest.raises(UsageError, match=r"split\.json is damaged"):
        Split.read(tmp_path / SPLIT_FILE)


def test_links_that_training_can_use(tmp_path, capsys):
    source = class_folders(tmp_path / "my flowers;", per_class=5)
    before = sorted(source.rglob("*"))
    main([str(source), str(tmp_path / "new" / "split"), "--val_share", "0.4"])
    assert capsys.readouterr().out.endswith("split: 9 images in train/, 6 in val/\n")
    assert sorted(source.rglob("*")) == before
    names = set()
    for part, count in (("train", 9), ("val", 6)):
        folder = tmp_path / "new" / "split" / part
        classes = build_class_index(folder)
        assert list(classes) == ["class0", "class1", "class2"]
        report = check_folder(folder, classes, 10_000, 1)
        assert (len(report.good), report.bad) == (count, [])
        names |= {path.relative_to(folder) for path, _ in list_images(folder, classes)}
    assert len(names) == 15
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["split"]


def test_a_split_without_flags_is_a_fifth_drawn_from_seed_1(tmp_path):
    source = class_folders(tmp_path / "flowers", per_class=20)
    main([str(source), str(tmp_path / "a" / "b" / "split")])
    main([str(source), str(tmp_path / "a" / "b" / "other")])  # its folder is there already
    images = list_images(source, build_class_index(source))
    for name, part in zip(("train", "val"), divide(images, 0.2, 1), strict=True):
        links = sorted((tmp_path / "a" / "b" / "split" / name).rglob("*.jpg"))
        assert [link.resolve() for link in links] == sorted(path.resolve() for path, _ in part)
    assert (tmp_path / "a" / "b" / "split").stat().st_mode & 0o777 == 0o755


def test_an_existing_folder_is_left_alone(tmp_path):
    source = class_folders(tmp_path / "flowers", per_class=5)
    (tmp_path / "kept").mkdir()
    with pytest.raises(UsageError, match="kept exists already"):
        main([str(source), str(tmp_path / "kept")])
    assert list((tmp_path / "kept").iterdir()) == []
    with pytest.raises(UsageError, match=r"cannot make .*: "):
        main([str(source), str(next(source.rglob("*.jpg")) / "below a file")])
    with pytest.raises(UsageError, match="nothing is not a folder"):
        main([str(tmp_path / "nothing"), str(tmp_path / "new")])
