"""Splits, class index and file lists."""

from __future__ import annotations

import pytest

from src.data.folders import build_class_index, check_same_classes, find_split, find_val, list_images
from src.errors import UsageError


def grow(root, *files):
    """Empty files (and their folders) below root."""
    for file in files:
        (root / file).parent.mkdir(parents=True, exist_ok=True)
        (root / file).touch()
    return root


@pytest.fixture
def data(tmp_path):
    return grow(tmp_path, "train/cat/1.jpg", "train/dog/1.jpg", "val/cat/2.jpg", "val/dog/2.jpg")


def test_the_parent_and_the_split_lead_to_the_same_folder(data, monkeypatch):
    for split in ("train", "val"):
        assert find_split(data, split) == find_split(data / split, split) == data / split
    monkeypatch.chdir(data / "train")
    assert find_split(".", "train") == data / "train"


def test_a_split_may_have_any_name(tmp_path):
    assert find_split(grow(tmp_path, "cat/1.jpg"), "train") == tmp_path


def test_a_class_may_be_called_train(tmp_path):
    root = grow(tmp_path, "train/train/1.jpg", "train/tram/1.jpg")
    assert find_split(root / "train", "train") == root / "train"
    assert find_split(root, "train") == root / "train"
    assert find_split(grow(root / "train", "train/cat/1.jpg"), "train") == root / "train" / "train"


def test_a_missing_split_is_named(tmp_path):
    with pytest.raises(UsageError, match="nowhere is not a folder"):
        find_split(tmp_path / "nowhere", "train")
    with pytest.raises(UsageError, match="has val/ but no train/"):
        find_split(grow(tmp_path, "val/cat/1.jpg"), "train")
    for name in ("animals", "zoo"):  # before and behind "train"
        with pytest.raises(UsageError, match=f"{name} has val/ but no train/"):
            find_split(grow(tmp_path / name, "val/cat/1.jpg"), "train")


def test_an_empty_split_is_found_so_that_it_can_be_named(tmp_path):
    (tmp_path / "train").mkdir()
    assert find_split(tmp_path, "train") == tmp_path / "train"


def test_val_is_found_below_or_beside_train(data, tmp_path):
    assert find_val(data) == find_val(data / "train") == data / "val"
    assert find_val(grow(tmp_path / "other", "cat/1.jpg")) is None
    assert find_val(grow(tmp_path / "alone", "train/cat/1.jpg")) is None


@pytest.mark.parametrize("name", ["Train", "training", "TRAINING"])
def test_a_train_folder_by_another_name_is_no_class(tmp_path, name):
    grow(tmp_path, f"{name}/cat/1.jpg", f"{name}/dog/1.jpg", "validation/cat/1.jpg")
    with pytest.raises(UsageError, match=f"has {name}/ but no train/: rename it"):
        find_split(tmp_path, "train")
    assert find_split(tmp_path / name, "train") == tmp_path / name
    grow(tmp_path / "classes", "test/1.jpg", "Training/1.jpg")  # classes that happen to have such names
    assert find_split(tmp_path / "classes", "train") == tmp_path / "classes"


@pytest.mark.parametrize("name", ["validation", "Val", "valid", "test"])
def test_a_folder_beside_train_that_will_not_validate_is_named(tmp_path, caplog, name):
    grow(tmp_path, "train/cat/1.jpg", f"{name}/cat/1.jpg")
    assert find_val(tmp_path) is None
    assert f"{tmp_path / name} does not validate: rename it to val" in caplog.text
    caplog.clear()
    grow(tmp_path, "val/cat/1.jpg")
    assert find_val(tmp_path) == tmp_path / "val" and not caplog.records


def test_classes_are_numbered_in_the_order_of_their_names(tmp_path):
    grow(tmp_path, "d2/1.jpg", "d10/1.jpg", "Z/1.jpg", "a/1.jpg")
    assert build_class_index(tmp_path) == {"Z": 0, "a": 1, "d10": 2, "d2": 3}


def test_hidden_folders_are_no_classes_and_this_is_said(tmp_path, caplog):
    grow(tmp_path, ".git/x.jpg", "cat/1.jpg", "stray.jpg")
    assert build_class_index(tmp_path) == {"cat": 0}
    assert caplog.messages == [f"hidden folders in {tmp_path} are not classes: .git"]


@pytest.mark.parametrize("files", [["empty/notes.txt"], ["empty/.1.jpg"], ["empty/deeper/1.jpg"]])
def test_an_empty_class_is_named(tmp_path, files):
    grow(tmp_path, "cat/1.jpg", *files)
    with pytest.raises(UsageError, match="/empty holds no image"):
        build_class_index(tmp_path)


def test_a_flat_folder_is_explained(data, tmp_path):
    flat = grow(tmp_path / "flat" / "val", "1.JPEG", "2.JPEG")
    for find in (build_class_index, lambda folder: check_same_classes(folder, {"cat": 0})):
        with pytest.raises(UsageError, match=r"lie directly in it.*val/<class>/<image>"):
            find(flat)
    (tmp_path / "bare").mkdir()
    with pytest.raises(UsageError, match="no class folders"):
        build_class_index(tmp_path / "bare")


def test_validation_must_have_the_same_classes(data):
    classes = build_class_index(data / "train")
    check_same_classes(data / "val", classes)
    (data / "val" / "emu").mkdir()
    with pytest.raises(UsageError, match=r"training folder has not: emu\. Remove"):
        check_same_classes(data / "val", classes)
    (data / "val" / "emu").rmdir()
    (data / "val" / "dog" / "2.jpg").unlink()
    with pytest.raises(UsageError, match="/dog holds no image"):
        check_same_classes(data / "val", classes)
    (data / "val" / "dog").rmdir()
    with pytest.raises(UsageError, match="lacks classes of the training folder: dog"):
        check_same_classes(data / "val", classes)


def test_many_names_are_cut_short(data):
    classes = build_class_index(data / "train") | {f"c{number}": number + 2 for number in range(20)}
    with pytest.raises(UsageError, match=r"c0, c1, c10, c11, c12 and 15 more"):
        check_same_classes(data / "val", classes)


def test_images_are_listed_in_order_whatever_the_case_of_their_suffix(tmp_path):
    names = ["a.jpg", "b.JPG", "c.Jpeg", "d.PNG", "e.bmp", "f.WebP"]
    grow(tmp_path, *(f"cat/{name}" for name in reversed(names)), "dog/z.jpg")
    grow(tmp_path, "cat/.hidden.jpg", "cat/g.gif", "cat/readme", "cat/h.jpg.txt", "emu/1.jpg")
    (tmp_path / "cat" / "folder.jpg").mkdir()
    listed = list_images(tmp_path, {"dog": 1, "cat": 0})
    assert listed == [(tmp_path / "cat" / name, 0) for name in names] + [(tmp_path / "dog" / "z.jpg", 1)]
