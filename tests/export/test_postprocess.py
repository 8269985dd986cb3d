"""Scoring of result folders."""

import json

import numpy as np
import pytest

import postprocess
from src.errors import UsageError
from src.export.scoring import read_labels, score

# Top-1 right for a and c; the class of b is second, that of d sixth.
LOGITS = {"a": [9, 1, 2, 3, 4, 5], "b": [9, 8, 1, 2, 3, 4], "c": [1, 2, 3, 4, 5, 9], "d": [9, 8, 7, 6, 5, 1]}
LABELS = {"a.JPEG": 0, "b.png": 1, "c.jpg": 5, "d.jpeg": 5}


@pytest.fixture
def folder(tmp_path):
    """A folder of results without an index, as upstream's programs write it, and labels in both forms."""
    results = tmp_path / "results"
    results.mkdir()
    for stem, row in LOGITS.items():
        np.array(row, "<f4").tofile(results / f"{stem}_0.bin")
    (tmp_path / "labels.json").write_text(json.dumps(LABELS))
    (tmp_path / "labels.txt").write_text("".join(f"{name.split('.')[0]}:{label}\n" for name, label in LABELS.items()))
    return tmp_path


def add_index(folder, *lines):
    (folder / "results" / "index.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))


def test_each_form_prints_its_own_words(folder, capsys, monkeypatch):
    results = str(folder / "results")
    postprocess.main(["--result_path", results, "--label_path", str(folder / "labels.json")])
    assert capsys.readouterr().out == "Total data: 4, top1 accuracy: 0.5, top5 accuracy: 0.75.\n"
    postprocess.main(["--result_path", results, "--label_file", str(folder / "labels.txt")])
    assert capsys.readouterr().out == "Top_1_Acc=50.0000%, Top_5_Acc=75.0000%\n"
    (folder / "preprocess_Result").mkdir()
    (folder / "labels.json").rename(folder / "preprocess_Result" / "imagenet_label.json")
    monkeypatch.chdir(folder)
    postprocess.main(["--result_dir", "results", "--dataset_name", "imagenet2012"])
    assert capsys.readouterr().out == "Top1 acc:  0.5\nTop5 acc:  0.75\n"


def test_per_class_table(folder):
    table = folder / "per_class.csv"
    arguments = ["--result_path", str(folder / "results"), "--label_path", str(folder / "labels.json")]
    postprocess.main([*arguments, "--per_class", str(table)])
    assert table.read_text().splitlines()[:3] == ["class,images,top1", "0,1,1.0", "1,1,0.0"]


def test_the_index_tells_images_of_one_name_apart(folder):
    labels = {"cat/1.jpg": 0, "dog/1.jpg": 1}
    (folder / "results" / "a_0.bin").rename(folder / "results" / "1_0.bin")
    (folder / "results" / "b_0.bin").rename(folder / "results" / "1~2_0.bin")
    add_index(folder, {"image": "cat/1.jpg", "result": "1"}, {"image": "dog/1.jpg", "result": "1~2"})
    result = score(folder / "results", labels)
    assert (result.total, result.top1, result.top5) == (2, 1, 2)
    (folder / "results" / "index.jsonl").unlink()
    for stem in "cd":
        (folder / "results" / f"{stem}_0.bin").unlink()
    with pytest.raises(UsageError, match=r"more than one image|no result of"):
        score(folder / "results", labels)


def test_names_outside_utf8_come_through_the_index(folder):
    label_file = folder / "labels.json"
    label_file.write_text(json.dumps({"x\udcff.jpg": 0}))
    add_index(folder, {"image": "k/x\udcff.jpg", "result": "a"})
    assert score(folder / "results", read_labels(label_file)).top1 == 1


def test_partial_and_foreign_sets_are_refused(folder):
    labels = read_labels(folder / "labels.json")
    with pytest.raises(UsageError, match=r"1 of 5 images have no result .*: e\.jpg"):
        score(folder / "results", {**labels, "e.jpg": 0})
    np.zeros(6, "<f4").tofile(folder / "results" / "stranger_0.bin")
    with pytest.raises(UsageError, match=r"stranger_0\.bin"):
        score(folder / "results", labels)


def test_unreadable_images_are_refused_unless_told_otherwise(folder):
    labels = {**LABELS, "e.jpg": 0}
    lines = [{"image": name, "result": name.split(".")[0]} for name in LABELS]
    add_index(folder, *lines, {"image": "e.jpg", "error": "it is empty"})
    with pytest.raises(UsageError, match="1 images could not be read"):
        score(folder / "results", labels)
    assert score(folder / "results", labels, skip_bad_images=True).total == 4


@pytest.mark.parametrize("content", [b"", b"abc", np.zeros(5, "<f4").tobytes(), np.full(6, np.nan, "<f4").tobytes()])
def test_damaged_results_are_refused(folder, content):
    (folder / "results" / "c_0.bin").write_bytes(content)
    with pytest.raises(UsageError, match=r"c_0\.bin is not a result"):
        score(folder / "results", LABELS)


def test_labels_beyond_the_results_classes_are_refused(folder):
    with pytest.raises(UsageError, match="a class 6"):
        score(folder / "results", {**LABELS, "a.JPEG": 6})


@pytest.mark.parametrize("content", ["", "{}", "a", "a:b", '{"a": "b"}', '{"a": -1}', "a:1\na:2\n"])
def test_what_is_no_label_file_is_refused(tmp_path, content):
    (tmp_path / "labels").write_text(content)
    with pytest.raises(UsageError, match=r"labels|twice"):
        read_labels(tmp_path / "labels")
