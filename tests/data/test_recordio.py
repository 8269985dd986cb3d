"""MXNet RecordIO: packed images are those of the class folders, and a damaged file is refused by name."""

from __future__ import annotations

import shutil
import struct

import numpy as np
import pytest

from src.data.check import check_folder, main, usable_images
from src.data.dataset import EvalData, TrainData
from src.data.folders import build_class_index, check_same_classes, find_split, find_val, list_images
from src.data.preprocessing import Preprocessing
from src.data.recordio import RecordIO
from src.data.split import Split
from src.errors import UsageError
from src.export.parity import some_images
from src.settings.sections import Augmentation, Data
from src.training.parts import eval_folder, eval_images, train_images
from tests.data.records import MAGIC, chunk, image_record, pack_folder, record, write_rec
from tests.images import class_folders, encode, photo

NAMES = ["class0", "class1", "class2"]


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """The same images twice: in class folders, and packed."""
    root = tmp_path_factory.mktemp("data")
    for split, count in (("train", 9), ("val", 3)):
        class_folders(root / "folders" / split, per_class=count, classes=3)
        (root / "rec").mkdir(exist_ok=True)
        pack_folder(root / "folders" / split, root / "rec" / f"{split}.rec", seed=count)
    return root


@pytest.fixture
def copy(data, tmp_path):
    """Files that may be damaged."""
    return shutil.copytree(data / "rec", tmp_path / "rec")


def contents(images):
    return [(image.parent.name, image.read_bytes(), label) for image, label in images]


@pytest.mark.parametrize("split", ["train", "val"])
def test_packed_images_are_those_of_the_class_folders(data, split):
    folder, pack = data / "folders" / split, data / "rec" / f"{split}.rec"
    classes = build_class_index(pack)
    assert classes == build_class_index(folder) == {name: label for label, name in enumerate(NAMES)}
    assert contents(list_images(pack, classes)) == contents(list_images(folder, classes))
    assert [path.stat().st_size for path, _ in list_images(pack, classes)] == [
        path.stat().st_size for path, _ in list_images(folder, classes)
    ]


def batches(data):
    return [[np.array(array.asnumpy()) for array in batch[:2]] for batch in data]


def test_training_and_evaluation_see_the_same_to_the_bit(data):
    seen = {}
    for form in ("folders", "rec"):
        config = Data(data_path=str(data / form), workers=2)
        classes, files = train_images(config)
        validation = eval_images(eval_folder(config), classes, config)
        own = Preprocessing(32, 32)
        training = TrainData(files, Augmentation(color_jitter=[0.4, 0.4, 0.4, 0.1]), own, 4, seed=3, workers=2)
        seen[form] = [*batches(training.epoch(1)), *batches(EvalData(validation, own, 4, 2))]
        assert (len(files), len(validation)) == (27, 9)
    assert len(seen["rec"]) == 6 + 3
    for packed, loose in zip(seen["rec"], seen["folders"], strict=True):
        assert all(map(np.array_equal, packed, loose))


def test_the_split_is_found_as_a_folders_is(data, tmp_path):
    rec = data / "rec"
    assert find_split(rec, "train") == find_split(rec / "train.rec", "train") == rec / "train.rec"
    assert find_split(rec, "val") == rec / "val.rec"
    assert find_val(rec) == find_val(rec / "train.rec") == rec / "val.rec"
    with pytest.raises(UsageError, match=r"^there is no file .*absent\.rec$"):
        find_split(rec / "absent.rec", "train")
    with pytest.raises(UsageError, match=r"train\.idx is not a folder"):
        find_split(rec / "train.idx", "train")
    shutil.copy(rec / "val.rec", tmp_path / "val.rec")
    with pytest.raises(UsageError, match=r"has val\.rec but no train\.rec"):
        find_split(tmp_path, "train")
    shutil.copy(rec / "train.rec", tmp_path / "images.rec")
    assert find_val(tmp_path / "images.rec") is None
    (tmp_path / "train").mkdir()
    shutil.copytree(data / "folders" / "train" / "class0", tmp_path / "train" / "class0")
    assert find_split(tmp_path, "train") == tmp_path / "train"


def test_classes_without_names_go_by_their_numbers(copy, caplog):
    (copy / "train.lst").unlink()
    assert build_class_index(copy / "train.rec") == {"0": 0, "1": 1, "2": 2}
    assert "have no names" in caplog.text
    check_same_classes(copy / "val.rec", {"0": 0, "1": 1, "2": 2})  # its names are not asked for
    (copy / "synset.txt").write_text("n01440764 tench, Tinca tinca\nn01443537 goldfish\nn01484850 white shark\n")
    shutil.copy(copy / "train.rec", copy / "again.rec")
    assert list(build_class_index(copy / "again.rec")) == ["n01440764", "n01443537", "n01484850"]


def test_labels_and_parts_in_every_form(tmp_path):
    """A magic number inside an image cuts its record, at the image's start and end too; a label may be in a list."""
    images = [MAGIC + b"ab" + MAGIC, b"abcd" + MAGIC, MAGIC * 3, b"x" * 5]
    records = [image_record(content, 7.0, 9 - number, labels=[1.0]) for number, content in enumerate(images)]
    records.append(image_record(b"zero", 0.0, 3))
    assert records[0].count(MAGIC) == 3 and records[2].count(MAGIC) == 4 and records[3].count(MAGIC) == 1
    pack = RecordIO(write_rec(tmp_path / "a.rec", records))
    assert pack.labels() == [0, 1, 1, 1, 1]
    read = [pack.read(position) for position in range(5)]
    assert read == [b"zero", *images[::-1]]  # within a class by their ids
    assert [pack.size(position) for position in range(5)] == list(map(len, read))


def test_packed_images_are_checked_split_and_exported_like_files(copy, capsys, tmp_path):
    bad = image_record(encode(photo(), "JPEG")[:400], 0.0, 99)
    (copy / "train.rec").write_bytes((copy / "train.rec").read_bytes() + bad + image_record(b"", 1.0, 99))
    (copy / "train.idx").unlink()
    for _ in range(2):  # decoded, then from the cache
        report = check_folder(
            copy / "train.rec", build_class_index(copy / "train.rec"), workers=1, cache=tmp_path / "kept"
        )
        assert [line.partition(":")[0] for line in report.lines(report.bad)] == ["class0/9", "class1/19"]
        assert "truncated" in report.bad[0][1] and report.bad[1][1] == "empty file"
    assert len(report.good) == len(usable_images(report, skip_bad_images=True)) == 27
    with pytest.raises(UsageError, match=r"2 files in .* cannot be used"):
        usable_images(report, skip_bad_images=False)
    with pytest.raises(UsageError, match="2 files of"):
        main([str(copy), "--no_cache"])
    assert "val.rec: 9 good images in 3 classes, 0 bad" in capsys.readouterr().out
    (copy / "train.rec").write_bytes((copy / "train.rec").read_bytes()[: -len(image_record(b"", 1.0))])
    (again,) = check_folder(copy / "train.rec", build_class_index(copy / "train.rec"), cache=tmp_path / "kept").bad
    assert again == report.bad[0]  # looked at again, as it had changed
    split = Split.drawn(report.good, 0.2, seed=1)
    training, validating = split.parts(report.good)
    assert (len(training), len(validating)) == (21, 6) and split.is_of(report.good)
    assert len(some_images(copy / "val.rec", 4)) == 4


def cut(content: bytes) -> bytes:
    return content[:-3]


def without_magic(content: bytes) -> bytes:
    return b"\0" * 4 + content[4:]


def too_long(content: bytes) -> bytes:
    return content[:4] + struct.pack("<I", (1 << 29) - 1) + content[8:]


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (cut, "it is cut off, [123] bytes are missing"),
        (lambda content: content + b"\xce\xd7", "it is cut off"),
        (without_magic, "at byte 0: no record begins there"),
        (too_long, "at byte 0: it is cut off, 5368"),
        (lambda content: b"", "holds no images"),
        (lambda content: content + chunk(0, b"short"), "too short for an image's header"),
        (lambda content: content + chunk(2, b"x" * 40), "the first part of a record is missing"),
        (lambda content: content + chunk(1, b"\0" * 40), "it is cut off"),
        (lambda content: content + chunk(1, b"\0" * 40) + chunk(0, b"x"), "the last part of a record is missing"),
        (lambda content: content + chunk(5, b"\0" * 40), "there is no part 5 of a record"),
        (lambda content: content + image_record(b"x", 0.5), "the label 0.5 is no class number"),
        (lambda content: content + image_record(b"x", float("nan")), "the label nan is no class number"),
        (lambda content: content + image_record(b"x", -1.0), "the label -1 is no class number"),
        (
            lambda content: content + image_record(b"x", 0.0, labels=[1.0, 2.0]),
            "an image with 2 labels is of no one class",
        ),
        (lambda content: content + record(struct.pack("<IfQQ", 1, 0, 0, 0)), "an image with 1 labels is of no one"),
        (lambda content: content + image_record(b"x", 5.0), "no image of the classes 3, 4, though of 5"),
    ],
)
def test_a_damaged_file_is_refused_by_name(copy, damage, said):
    (copy / "train.idx").unlink()
    (copy / "train.lst").unlink()
    (copy / "train.rec").write_bytes(damage((copy / "train.rec").read_bytes()))
    with pytest.raises(UsageError, match=said) as refusal:
        build_class_index(copy / "train.rec")
    assert str(copy / "train.rec") in str(refusal.value)


@pytest.mark.parametrize(
    ("file", "text", "said"),
    [
        ("train.idx", "0\t0\n", "has 1 records, train.rec 27"),
        ("train.idx", "nothing\n", "line 1: 'nothing' is no key and place"),
        ("train.lst", "0\t0\n", "line 1: '0.t0' is no key, label and path"),
        ("train.lst", "0\t0\tcat/1.jpg\n1\t0\tdog/1.jpg\n", "class 0 is cat and dog"),
        ("train.lst", "0\t0\tcat/1.jpg\n1\t2\tdog/1.jpg\n", "has no name for class 1 of train.rec"),
        ("train.lst", "0\t0\tcat/1.jpg\n1\t1\tcat/1.jpg\n2\t2\tdog/1.jpg\n", "has one name for two classes"),
    ],
)
def test_a_file_beside_it_that_contradicts_it_is_refused(copy, file, text, said):
    (copy / file).write_text(text)
    with pytest.raises(UsageError, match=said):
        build_class_index(copy / "train.rec")


@pytest.mark.parametrize(
    ("classes", "said"),
    [
        (["class0", "class1"], "has the class number 2, but there are 2 classes"),
        ([*NAMES, "class3"], "lacks classes of the training images: class3"),
        (["class0", "cat", "class2"], "calls class 1 class1, the training images cat"),
    ],
)
def test_other_classes_than_those_of_training_are_refused(data, classes, said):
    with pytest.raises(UsageError, match=said):
        check_same_classes(data / "rec" / "val.rec", {name: label for label, name in enumerate(classes)})


def test_a_file_that_shrinks_meanwhile_is_noticed(copy):
    image = list_images(copy / "val.rec", build_class_index(copy / "val.rec"))[-1][0]
    (copy / "val.rec").write_bytes(b"")
    with pytest.raises(UsageError, match="it is cut off"):
        image.read_bytes()
