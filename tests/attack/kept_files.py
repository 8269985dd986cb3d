"""Every kind of file that a program reads back: how a good one is made, and how it is read to the end.

A reader gives what its program goes on with, or refuses by UsageError; nothing else may come of a damaged file.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import safetensors.numpy

from src.cpu import build
from src.data import folders
from src.data.check import check_folder, examine
from src.data.folders import build_class_index, list_images
from src.data.labels import labels_of, read_class_map
from src.data.preprocessing import Preprocessing
from src.data.split import Split
from src.errors import UsageError
from src.export.described import read_manifest
from src.export.scoring import read_labels, score
from src.files import sha256, write_json, write_sealed
from src.launch.launcher import ranks_of_table
from src.launch.rank_tables import merge, rank_table, read_table
from src.runs import checkpoint as checkpoint_module
from src.runs.checkpoint import LAST, CheckpointFolder, read_checkpoint
from src.runs.trained import Trained
from src.settings.config import load_config
from src.space.cost import cost_tables
from src.space.journal import Journal
from src.space.spaces import LAYOUTS, Domain
from src.supernet.latency import _described, read_latency_table
from src.training.going_on import Pace, pace_of, position_of
from src.weights import containers
from tests.data.records import pack_folder
from tests.images import class_folders

SPACE = LAYOUTS["digits"]
CLASSES = {"cat": 0, "dog": 1, "owl": 2}
HEADER = {"seed": 1, "space": "digits"}
GENES = Domain.of(SPACE).sample(np.random.default_rng(0), 4)
NOW = Pace(24, 1, 4, 6, 1)
IS_SEALED = True


class Kept(NamedTuple):
    """A kind of file.

    Attributes:
        make: writes a good one, and what belongs to it, into an empty folder; gives its path.
        read: what a program makes of it.
        is_sealed: no change of its content may go unnoticed: what is read is as it was, or refused.
    """

    make: Callable[[Path], Path]
    read: Callable[[Path], Any]
    is_sealed: bool = False


def _written(name: str, content: Any) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        path = folder / name
        if isinstance(content, str):
            path.write_text(content, encoding="utf-8")
        else:
            write_json(path, content)
        return path

    return make


def _sealed(name: str, content: dict) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        write_sealed(folder / name, content)
        return folder / name

    return make


def _config() -> str:
    return load_config("", {"model": "mnasnet", "lr": 0.3, "freeze": "{classifier: 2}"}).to_yaml()


# -- data -----------------------------------------------------------------------------------------


def _packed(beside: str = ".rec") -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        class_folders(folder / "images", per_class=2, classes=3, height=8, width=8)
        return pack_folder(folder / "images", folder / "train.rec").with_suffix(beside)

    return make


def _images_of_pack(path: Path) -> list:
    folders._opened.cache_clear()  # a process reads it once
    pack_file = path.with_suffix(".rec")
    images = list_images(pack_file, build_class_index(pack_file))
    return [(path.parent.name, label, path.read_bytes()) for path, label in images]


def _image(folder: Path) -> Path:
    class_folders(folder, per_class=1, classes=1, height=16, width=16)
    return next(folder.rglob("*.jpg"))


def _class_map(folder: Path) -> Path:
    for name in CLASSES:
        (folder / "images" / name).mkdir(parents=True)
        (folder / "images" / name / "1.jpg").touch()
    return _written("classes.json", CLASSES)(folder)


def _labels(path: Path) -> Any:
    return labels_of(path.parent / "images", read_class_map(path))


def _split_of(folder: Path) -> Path:
    files = [(folder / name / f"{i}.jpg", label) for name, label in CLASSES.items() for i in range(3)]
    for path, _ in files:
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"image")
    Split.drawn(files, 0.3, 1).write(folder / "split.json")
    return folder / "split.json"


def _parts_of(path: Path) -> Any:
    files = [(image, CLASSES[image.parent.name]) for image in sorted(path.parent.glob("*/*.jpg"))]
    return Split.read(path).parts(files)


def _checked(folder: Path) -> Path:
    (folder / "train" / "cat").mkdir(parents=True)
    (folder / "train" / "cat" / "bad.jpg").touch()
    (folder / "train" / "cat" / "notes.txt").touch()
    _check(folder / "kept.json")
    return next(folder.glob("*.json"))


def _check(path: Path) -> Any:
    report = check_folder(path.parent / "train", {"cat": 0}, cache=path.parent)
    return report.lines(report.bad), report.lines(report.notes)


# -- results and exports --------------------------------------------------------------------------


def _results(folder: Path) -> Path:
    lines = []
    for number in range(3):
        (folder / f"{number}_0.bin").write_bytes(np.eye(3, dtype="<f4")[number].tobytes())
        lines.append(json.dumps({"image": f"{number}.jpg", "result": f"{number}"}))
    (folder / "index.jsonl").write_text("\n".join(lines) + "\n")
    return folder / "index.jsonl"


def _score(path: Path) -> Any:
    found = score(path.parent, {f"{number}.jpg": number for number in range(3)})
    return found.total, found.top1, found.top5, found.per_class.tolist()


def _manifest(folder: Path) -> Path:
    (folder / "net.onnx").write_bytes(b"network" * 40)
    entry = {
        "file": "net.onnx",
        "sha256": sha256(folder / "net.onnx"),
        "input": {"shape": [1, 3, 32, 32], "is_normalised": False},
    }
    content = {"classes": list(CLASSES), "preprocessing": Preprocessing().to_dict(), "files": [entry]}
    write_sealed(folder / "net.manifest.json", content)
    return folder / "net.manifest.json"


def _library(folder: Path) -> Path:
    content = b"\x7fELF" + bytes(range(256))
    path = folder / f"operators-key-{hashlib.sha256(content).hexdigest()[: build.CHECKSUM]}.so"
    path.write_bytes(content)
    return path


def _kept_library(path: Path) -> bytes:
    """What would be loaded. A damaged one is gone then, which has it built anew."""
    if build._kept(path.parent, "key") is None:
        raise UsageError(f"{path} is damaged and is built anew")
    return path.read_bytes()


def _described_file(path: Path) -> Any:
    return read_manifest(path.with_name("net.onnx"))


# -- ranks, searches ------------------------------------------------------------------------------

_TABLE = rank_table((0, 1), ("10.0.0.1", "10.0.0.2"), "10.0.0.9")


def _journal(folder: Path) -> Path:
    with Journal(folder / "journal.jsonl", HEADER) as journal:
        for index in range(3):
            journal.append({"index": index, "blocks": [0, 1], "channels": [2, 3], "accuracy": index / 7})
    return folder / "journal.jsonl"


def _latency(folder: Path) -> Path:
    choices = cost_tables(SPACE)["macs"].choices.tolist()
    content = {"header": {"space": _described(SPACE)}, "fixed": 0.5, "choices": choices}
    return _sealed("latency.json", content)(folder)


# -- checkpoints ----------------------------------------------------------------------------------


@functools.cache
def meta() -> dict[str, Any]:
    config = load_config("", {"model": "mnasnet"})
    trained = Trained(
        "mnasnet", {}, 3, list(CLASSES), Preprocessing(), config, {"mindspore": "2.10.0"}, "CPU"
    ).to_meta()  # fmt: skip
    position = {"epoch": 1, "step": 2, "loss_sum": 3.5, "loss_count": 2, "history": [], "best_top1": 0.5}
    return json.loads(json.dumps({**trained, "position": position, "pace": NOW._asdict()}))


def _checkpoint(folder: Path, count: int = 1) -> Path:
    for number in range(1, count + 1):
        arrays = {"weight": np.arange(6, dtype=np.float32) + number}
        CheckpointFolder(folder).save("net", number, 6, arrays, {"global_step": np.array([6 * number])}, meta())
    return folder / f"net-{count}_6.ckpt"


def _content(path: Path) -> Any:
    checkpoint = read_checkpoint(path)
    arrays = {**checkpoint.weights, **checkpoint.state}
    facts = checkpoint.trained
    return {name: array.tolist() for name, array in arrays.items()}, facts and facts.to_meta(), _place(checkpoint)


def _place(checkpoint: Any) -> Any:
    return checkpoint.meta and (dataclasses.astuple(position_of(checkpoint, NOW, 1)), pace_of(checkpoint, NOW))


class _WithMeta(NamedTuple):
    """A checkpoint as far as its meta goes."""

    path: Path
    meta: dict[str, Any]
    state: dict[str, np.ndarray]
    trained: Trained | None


def _read_meta(path: Path) -> Any:
    content = checkpoint_module._parsed(path.read_text(encoding="utf-8", errors="replace"), path)
    checkpoint = _WithMeta(path, content, {"global_step": np.array([8])}, content and Trained.from_meta(content, path))
    return checkpoint.trained and checkpoint.trained.to_meta(), _place(checkpoint)


def _pointer(folder: Path) -> Path:
    _checkpoint(folder, 2)
    return folder / LAST


def _pointed(path: Path) -> Any:
    folder = CheckpointFolder(path.parent)
    found = folder.pointed(LAST)
    assert found is None or found.parent == path.parent
    return folder.newest_valid()[0].name


# -- weights of others -----------------------------------------------------------------------------

_FOREIGN = Path(__file__).parents[1] / "weights" / "files"


def _copied(name: str) -> Callable[[Path], Path]:
    return lambda folder: Path(shutil.copy(_FOREIGN / name, folder))


def _safetensors(folder: Path) -> Path:
    safetensors.numpy.save_file({"a": np.ones((2, 3), np.float32), "b": np.arange(4)}, folder / "net.safetensors")
    return folder / "net.safetensors"


def _npz(folder: Path) -> Path:
    np.savez(folder / "net.npz", a=np.ones((2, 3), np.float32), b=np.arange(4))
    return folder / "net.npz"


def _arrays(path: Path) -> Any:
    return {name: array.tobytes() for name, array in containers.read(path).arrays.items()}


KINDS: dict[str, Kept] = {
    "PyTorch's zip": Kept(_copied("zip.pth"), _arrays),
    "PyTorch's older form": Kept(_copied("legacy.pth"), _arrays),
    "MXNet's parameters": Kept(_copied("v2.params"), _arrays),
    "safetensors": Kept(_safetensors, _arrays),
    "npz": Kept(_npz, _arrays),
    "config.yaml": Kept(lambda folder: _written("config.yaml", _config())(folder), lambda path: load_config(path)),
    "classes.json": Kept(_class_map, _labels, IS_SEALED),
    "split.json": Kept(_split_of, _parts_of, IS_SEALED),
    "labels in JSON": Kept(_written("labels.json", {"a.jpg": 0, "b.jpg": 1}), read_labels),
    "labels in lines": Kept(_written("labels.txt", "a:0\nb:1\n"), read_labels),
    "index of results": Kept(_results, _score, IS_SEALED),
    "rank table": Kept(_written("hccl.json", _TABLE), lambda path: merge([read_table(path)])),
    "rank table of a launcher": Kept(_written("hccl.json", _TABLE), lambda path: ranks_of_table(path, 0)),
    "journal": Kept(_journal, lambda path: Journal(path, HEADER).records, IS_SEALED),
    "latency table": Kept(_latency, lambda path: read_latency_table(path, SPACE).totals(GENES).tolist(), IS_SEALED),
    "manifest": Kept(_manifest, _described_file, IS_SEALED),
    "exported file": Kept(lambda folder: _manifest(folder).with_name("net.onnx"), _described_file, IS_SEALED),
    "library of operators": Kept(_library, _kept_library, IS_SEALED),
    "packed images": Kept(_packed(), _images_of_pack),
    "index of packed images": Kept(_packed(".idx"), _images_of_pack, IS_SEALED),
    "list of packed images": Kept(_packed(".lst"), _images_of_pack),
    "image": Kept(_image, examine),
    "kept check": Kept(_checked, _check, IS_SEALED),
    "meta of a checkpoint": Kept(lambda folder: _written("meta.json", meta())(folder), _read_meta),
    "checkpoint": Kept(_checkpoint, _content, IS_SEALED),
    "checksum of a checkpoint": Kept(
        lambda folder: Path(f"{_checkpoint(folder)}.json"), lambda path: _content(path.with_suffix("")), IS_SEALED
    ),
    "pointer to a checkpoint": Kept(_pointer, _pointed, IS_SEALED),
}
