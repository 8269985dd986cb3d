"""Label files in upstream's forms."""

import json
import runpy

import pytest

from src.data.labels import by_file_name, labels_of, main, read_class_map
from src.errors import UsageError


def test_json_form_has_file_names_and_sorted_folders(photos, tmp_path, capsys):
    main(["--img_path", str(photos / "train"), "--output_name", str(tmp_path / "labels.json")])
    labels = json.loads((tmp_path / "labels.json").read_text())
    assert len(labels) == 24
    assert labels["class2/0.jpg"] == 2  # each folder has a 0.jpg, so the folder stays in the key
    assert "Total 24 data" in capsys.readouterr().out


def test_json_form_is_upstreams_to_the_byte(tmp_path):
    (tmp_path / "images" / "cat").mkdir(parents=True)
    for name in ("ä.jpg", "b.jpg"):
        (tmp_path / "images" / "cat" / name).touch()
    main(["--img_path", str(tmp_path / "images"), "--output_name", str(tmp_path / "labels.json")])
    assert (tmp_path / "labels.json").read_bytes() == b'{\n"b.jpg": 0,\n"\\u00e4.jpg": 0\n}\n'


def test_line_form_has_stems(photos, tmp_path):
    main(["--dataset_path", str(photos / "train"), "--output_name", str(tmp_path / "labels.txt")])
    lines = (tmp_path / "labels.txt").read_text().splitlines()
    assert "class1/3:1" in lines
    assert len(lines) == 24


def test_unique_names_lose_their_folder():
    assert by_file_name({"a/x.jpg": 0, "b/y.jpg": 1, "b/x.jpg": 1}) == {"a/x.jpg": 0, "y.jpg": 1, "b/x.jpg": 1}


def test_the_class_map_of_a_run_decides_the_numbers(photos, tmp_path):
    path = tmp_path / "classes.json"
    path.write_text(json.dumps({"class2": 0, "class1": 1, "class0": 2}))
    assert labels_of(photos / "val", read_class_map(path))["class0/0.jpg"] == 2
    path.write_text(json.dumps({"classes": ["class0", "class1", "class2", "unused 3"], "files": []}))
    assert labels_of(photos / "val", read_class_map(path))["class2/0.jpg"] == 2
    path.write_text(json.dumps(["class0", "class1"]))
    with pytest.raises(UsageError, match="class2"):
        labels_of(photos / "val", read_class_map(path))


@pytest.mark.parametrize("content", ["", "{}", "[]", '{"a": "b"}', '{"a": true}', "7"])
def test_what_is_no_class_map_is_refused(tmp_path, content):
    path = tmp_path / "map.json"
    path.write_text(content)
    with pytest.raises(UsageError, match="class map"):
        read_class_map(path)


def test_a_missing_folder_is_a_usage_error(tmp_path, capsys):
    with pytest.raises(SystemExit):
        main(["--output_name", str(tmp_path / "labels.txt")])
    assert "--img_path --dataset_path is required" in capsys.readouterr().err
    with pytest.raises(UsageError, match="not a folder"):
        main(["--img_path", str(tmp_path / "none")])


def test_single_path_nas_has_a_name_of_its_own_for_it(root, photos, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.argv", ["create_imagenet2012_label.py", "--img_path", str(photos / "train")])
    runpy.run_path(str(root / "create_imagenet2012_label.py"), run_name="__main__")
    assert len(json.loads((tmp_path / "imagenet_label.json").read_text())) == 24
    assert "Total 24 data" in capsys.readouterr().out
