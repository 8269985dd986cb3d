"""From the weights of one data set to the classes of another: split, train, evaluate."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

import eval as evaluation
import train
from src.data import split
from src.errors import UsageError
from src.runs.checkpoint import read_checkpoint, write_checkpoint
from src.runs.folder import checkpoints_of
from tests.images import class_folders
from transfer_dataset_process import create_flower_dataset

SMALL = ["--batch_size", "8", "--epochs", "1", "--workers", "1", "--check_data", "False", "--mode", "pynative"]


@pytest.fixture(scope="module")
def taught(photos, tiny_model, tmp_path_factory) -> Path:
    """A run on three classes."""
    folder = tmp_path_factory.mktemp("taught") / "run"
    train.main(["--model", "tiny", "--data_path", str(photos), "--run_dir", str(folder), *SMALL])
    return folder


def test_weights_alone_to_resume_from_are_where_a_new_run_starts(taught, photos, tmp_path, capsys):
    """As upstream's files are: ShuffleNetV1's document gives them as `resume`."""
    (checkpoint,) = checkpoints_of(str(taught))
    alone = tmp_path / "weights" / "alone.ckpt"
    write_checkpoint(alone, read_checkpoint(checkpoint).weights, {}, {})
    ends = {}
    for flag, start in (("--resume", alone), ("--pretrained", alone)):
        words = ["--model", "tiny", "--data_path", photos, flag, start, "--run_dir", tmp_path / flag[2:], *SMALL]
        train.main([str(word) for word in [*words, "--max_steps", "2"]])
        noted = (
            f"note: --resume {alone}: holds weights alone; a new run starts from them, at epoch 0"
            in capsys.readouterr().out
        )
        assert noted == (flag == "--resume")
        ends[flag] = read_checkpoint(checkpoints_of(str(tmp_path / flag[2:]), pointers=("last",))[0])
    assert ends["--resume"].meta["position"] == ends["--pretrained"].meta["position"]
    for name, weight in ends["--resume"].weights.items():
        assert np.array_equal(weight, ends["--pretrained"].weights[name])
    with pytest.raises(UsageError, match="leave one of them out"):
        train.main(
            ["--model", "tiny", "--data_path", str(photos), "--resume", str(alone), "--pretrained", str(checkpoint)]
        )


def test_pretrained_weights_learn_other_classes(taught, tmp_path, capsys):
    flowers = class_folders(tmp_path / "flowers", per_class=6, classes=5, height=32, width=32)
    split.main([str(flowers), str(tmp_path / "split")])
    (checkpoint,) = checkpoints_of(str(taught))
    run = tmp_path / "run"
    words = ["--model", "tiny", "--data_path", tmp_path / "split", "--pretrained", checkpoint, "--run_dir", run, *SMALL]
    train.main([str(word) for word in words])
    said = f"starting from the weights of {checkpoint} without its classifier.weight and classifier.bias"
    assert f"{said}, which start afresh for 5 classes" in capsys.readouterr().out
    evaluation.main(["--checkpoint_path", str(run), "--json", str(tmp_path / "e.json"), "--mode", "pynative"])
    assert json.loads((tmp_path / "e.json").read_text())["images"] == 5


def test_as_many_classes_keep_the_classifier(taught, photos, tmp_path, capsys):
    shutil.copytree(photos / "train", tmp_path / "others" / "train")
    (checkpoint,) = checkpoints_of(str(taught))
    words = ["--model", "tiny", "--data_path", tmp_path / "others", "--pretrained", checkpoint, "--run_dir", tmp_path]
    train.main([str(word) for word in [*words, *SMALL]])
    assert f"starting from the weights of {checkpoint}\n" in capsys.readouterr().out


@pytest.fixture(scope="module")
def flowers(tmp_path_factory) -> Path:
    """Class folders as they were downloaded: no train/, no val/."""
    return class_folders(tmp_path_factory.mktemp("download") / "flowers", per_class=6, classes=5, height=32, width=32)


def test_a_folder_of_classes_is_split_and_its_run_keeps_to_that(tiny_model, flowers, tmp_path, capsys):
    run, moved = tmp_path / "run", tmp_path / "moved"
    words = ["--model", "tiny", "--data_path", flowers, "--val_share", "0.2", "--run_dir", run]
    train.main([str(word) for word in [*words, *SMALL, "--epochs", "2", "--max_steps", "4"]])
    said = capsys.readouterr().out
    assert (
        "25 training images of 5 classes" in said and "5 validation images" in said and "next: python eval.py" in said
    )
    stored = split.Split.read(run / split.SPLIT_FILE)
    assert not stored.train.keys() & stored.val.keys() and len(stored.train) == 25
    # The images move, and one is added: the split stays what it was.
    shutil.copytree(flowers, moved)
    shutil.copy(moved / "class0" / "0.jpg", moved / "class0" / "later.jpg")
    train.main(["--resume", str(run), "--data_path", str(moved), "--max_steps", "0"])
    assert "25 training images of 5 classes" in capsys.readouterr().out
    assert split.Split.read(run / split.SPLIT_FILE) == stored
    for words in ([], ["--val_data_path", moved], ["--data_path", flowers]):
        evaluation.main([str(word) for word in ["--checkpoint_path", run, "--mode", "pynative", *words]])
        said = capsys.readouterr().out
        assert "5 of 5 images" in said and "the run was trained on the other images" in said, words
    (moved / "class0" / "1.jpg").unlink()
    with pytest.raises(UsageError, match=r"1 of the 30 images .* class0/1\.jpg"):
        evaluation.main(["--checkpoint_path", str(run), "--mode", "pynative"])


@pytest.mark.parametrize(
    ("classes", "per_class", "complaint"),
    [(1, 5, "has one class, class0: there is nothing"), (2, 1, "class class0 has a single image")],
)
def test_what_cannot_be_split_is_refused_before_the_run(tiny_model, tmp_path, classes, per_class, complaint):
    folder = class_folders(tmp_path / "few", per_class, classes, 32, 32)
    words = ["--model", "tiny", "--data_path", folder, "--val_share", "0.2", "--run_dir", tmp_path / "run", *SMALL]
    with pytest.raises(UsageError, match=complaint):
        train.main([str(word) for word in words])
    assert not (tmp_path / "run").exists()


def test_a_run_gives_its_best_weights_and_its_network(taught, flowers, tmp_path, capsys):
    words = ["--config_path", "transfer", "--pretrained", taught, "--data_path", flowers, "--run_dir", tmp_path / "run"]
    train.main([str(word) for word in [*words, "--image_size", "32", *SMALL]])
    said = capsys.readouterr().out
    (checkpoint,) = checkpoints_of(str(taught))
    assert f"starting from the weights of {checkpoint} without its classifier.weight" in said
    assert "tiny on CPU" in said and "25 training images of 5 classes" in said
    assert "freeze lasts to the end of the run" in said
    with pytest.raises(UsageError, match="holds 2 checkpoints: name one of them, or a run folder"):
        (tmp_path / "two").mkdir()
        for name in ("1.ckpt", "2.ckpt"):
            shutil.copy(checkpoint, tmp_path / "two" / name)
        train.main(["--model", "tiny", "--pretrained", str(tmp_path / "two"), "--data_path", str(flowers)])


def test_the_documents_data_set_is_split_preprocessed_and_seeded(flowers, tmp_path):
    config = tmp_path / "transfer_config.yaml"
    config.write_text(
        f"{{model: shufflenetv1, dataset_path: {flowers}, val_share: 0.2, batch_size: 4, image_size: 32}}"
    )
    split_anew = [create_flower_dataset(config_path=str(config)) for _ in range(2)]
    read = [[list(part.create_tuple_iterator(output_numpy=True)) for part in parts] for parts in split_anew]
    for batches, again in zip(*read, strict=True):
        for batch, same in zip(batches, again, strict=True):
            assert batch[0].dtype == np.float32 and batch[0].shape[1:] == (3, 32, 32)
            np.testing.assert_array_equal(batch[0], same[0])
    train_labels, eval_labels = ([int(label) for batch in part for label in batch[1]] for part in read[0])
    assert sorted(eval_labels) == [0, 1, 2, 3, 4] and len(train_labels) == 24 and train_labels != sorted(train_labels)
    halves = [create_flower_dataset(2, rank, str(flowers), str(config))[0].get_dataset_size() for rank in (0, 1)]
    assert halves == [3, 3]
    with pytest.raises(UsageError, match="which images"):
        create_flower_dataset()
