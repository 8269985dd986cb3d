"""The files of an evaluation."""

import csv
import json

import numpy as np
import pytest
from PIL import Image

from src.data.preprocessing import Preprocessing
from src.runs.results import write_csv, write_json, write_per_class


def result(checkpoint: str, top1: float) -> dict:
    return {
        "model": "net",
        "checkpoint": checkpoint,
        "loss": 0.1 + 0.2,
        "cross_entropy": 0.25,
        "label_smoothing": 0.1,
        "top1": top1,
        "top5": 1.0,
        "images": 13,
        "total": 13,
        "images_per_second": 5.0,
        "preprocessing": Preprocessing().to_dict(),
        "device": "CPU",
    }


def test_json_of_one_checkpoint(tmp_path):
    write_json([result("a", 0.5)], result("a", 0.5), tmp_path / "new" / "out.json")
    assert json.loads((tmp_path / "new" / "out.json").read_text()) == result("a", 0.5)


def test_json_of_several_names_the_best_and_lists_all(tmp_path):
    results = [result("a", 0.5), result("b", 0.75), result("c", 0.25)]
    write_json(results, results[1], tmp_path / "out.json")
    assert json.loads((tmp_path / "out.json").read_text()) == {**results[1], "all": results}


def test_csv_has_a_row_for_each_checkpoint(tmp_path):
    write_csv([result("a, b", 0.5), result("c", 1 / 3)], tmp_path / "out.csv")
    with (tmp_path / "out.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["checkpoint"] for row in rows] == ["a, b", "c"]
    assert [float(row["top1"]) for row in rows] == [0.5, 1 / 3]
    assert rows[0]["preprocessing"].startswith("resize 256 (bilinear, mindspore kernel), centre crop 224")


def test_per_class_table_and_picture(tmp_path):
    confusion = np.array([[3, 1, 0, 0], [0, 0, 0, 0], [0, 2, 6, 0], [0, 0, 0, 0]])
    table, picture = write_per_class(confusion, ["a", "b", "c"], tmp_path)
    with table.open(newline="") as file:
        rows = [(row["class"], int(row["images"]), float(row["top1"])) for row in csv.DictReader(file)]
    assert rows == [("a", 4, 0.75), ("b", 0, pytest.approx(0)), ("c", 8, 0.75)]
    with Image.open(picture) as image:
        image.verify()
