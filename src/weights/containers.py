"""Files of weights, whoever wrote them, as arrays by name: read without running anything that stands in them.

Which container a file is, its first bytes tell; its name only where they do not. Every size that a file states is
compared with the bytes that are there before anything is made of it.
"""

from __future__ import annotations

import dataclasses
import io
import json
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from src.errors import UsageError
from src.weights import mxnet_params, torch_pickle
from src.weights.raw import UNZIPPING, Damaged, of_bfloat16

META = "trained"  # under which our safetensors say what a checkpoint's meta says
MAX_BYTES = 2**31  # the largest of these networks takes 26 MB; a training checkpoint of it three times that


@dataclasses.dataclass(frozen=True)
class Content:
    """What a file holds.

    Attributes:
        path: of the file.
        container: what kind of file it is.
        arrays: tensors by name, as they are stored (bfloat16 as float32).
        notes: what was read otherwise than it is stored, for people.
        meta: what the file says of itself, where its container has a place for that.
    """

    path: Path
    container: str
    arrays: dict[str, np.ndarray]
    notes: tuple[str, ...] = ()
    meta: Mapping[str, Any] = dataclasses.field(default_factory=dict)


def read(path: Path) -> Content:
    """Reads a file of weights.

    Raises:
        UsageError: there is none, none of the containers, damaged, or it would have to run code.
    """
    path = Path(path)
    if not path.is_file():
        raise UsageError(f"there is no file {path}")
    size = path.stat().st_size
    if size > MAX_BYTES:
        raise UsageError(f"{path} has {size:,} bytes; no file of weights of these networks has over {MAX_BYTES:,}")
    name, reader = _reader_of(path)
    try:
        return reader(path)
    except Damaged as error:
        raise UsageError(f"{path} cannot be read as {name}: {error}") from error


def _reader_of(path: Path) -> tuple[str, Callable[[Path], Content]]:
    with path.open("rb") as file:
        head = file.read(16)
    if head.startswith(b"PK"):
        return ("npz", _npz) if _is_npz(path) else ("a PyTorch file", _torch)
    if head.startswith(torch_pickle.LEGACY_HEAD) or (head[:1] == b"\x80" and path.suffix in (".pth", ".pt", ".tar")):
        return "a PyTorch file", _torch
    if head.startswith(mxnet_params.HEAD):
        return "MXNet parameters", _mxnet
    if head[8:9] == b"{":
        return "safetensors", _safetensors
    by_suffix = {
        ".safetensors": ("safetensors", _safetensors),
        ".npz": ("npz", _npz),
        ".params": ("MXNet parameters", _mxnet),
        ".onnx": ("ONNX", _onnx),
        ".ckpt": ("a MindSpore checkpoint", _mindspore),
        **dict.fromkeys((".pth", ".pt", ".tar"), ("a PyTorch file", _torch)),
    }
    if path.suffix not in by_suffix:
        raise UsageError(
            f"{path} is no file of weights: it can be {', '.join(by_suffix)}, which its first bytes and its name deny"
        )
    return by_suffix[path.suffix]


def _safetensors(path: Path) -> Content:
    import safetensors

    data = path.read_bytes()
    try:
        entries = safetensors.deserialize(data)
        header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
    except (safetensors.SafetensorError, ValueError) as error:
        raise Damaged(str(error)) from error
    del data
    arrays, notes = {}, []
    for name, entry in entries:
        kind = entry["dtype"]
        if kind == "BF16":
            arrays[name] = of_bfloat16(entry["data"]).reshape(entry["shape"])
        elif kind in _SAFETENSORS:
            arrays[name] = np.frombuffer(entry["data"], _SAFETENSORS[kind]).reshape(entry["shape"])
        else:
            raise Damaged(f"{name} is of type {kind}, which no weights of these networks are")
    if any(entry["dtype"] == "BF16" for _, entry in entries):
        notes.append("bfloat16 read as float32")
    return Content(path, "safetensors", arrays, tuple(notes), _meta(header.get("__metadata__", {}).get(META, "{}")))


def _meta(text: str) -> dict[str, Any]:
    """What a file says of itself as JSON."""
    try:
        meta = json.loads(text)
    except ValueError as error:
        raise Damaged(f"its {META} is no JSON") from error
    if not isinstance(meta, dict):
        raise Damaged(f"its {META} is no JSON object")
    return meta


_SAFETENSORS = {
    "F64": "<f8",
    "F32": "<f4",
    "F16": "<f2",
    "I64": "<i8",
    "I32": "<i4",
    "I16": "<i2",
    "I8": "i1",
    "U8": "u1",
    "BOOL": "?",
}


def _is_npz(path: Path) -> bool:
    try:
        with zipfile.ZipFile(path) as archive:
            return all(name.endswith(".npy") for name in archive.namelist())
    except UNZIPPING:
        return path.suffix == ".npz"


def _npz(path: Path) -> Content:
    arrays = {}
    try:
        with zipfile.ZipFile(path) as archive:
            if sum(member.file_size for member in archive.infolist()) > MAX_BYTES:
                raise Damaged(f"unpacked it has over {MAX_BYTES:,} bytes")
            for member in archive.infolist():
                arrays[member.filename.removesuffix(".npy")] = _npy(member.filename, archive.read(member))
    except UNZIPPING as error:
        raise Damaged(str(error)) from error
    return Content(path, "npz", arrays)


def _npy(name: str, data: bytes) -> np.ndarray:
    """An array in NumPy's format, whose header must fit its bytes."""
    stream = io.BytesIO(data)
    try:
        version = np.lib.format.read_magic(stream)
        read_header = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, is_fortran, dtype = read_header(stream)
    except ValueError as error:
        raise Damaged(f"{name}: {error}") from error
    if dtype.hasobject or dtype.names:
        raise Damaged(f"{name} holds Python objects, which would be run, not read")
    count, rest = int(np.prod(shape, dtype=object)), len(data) - stream.tell()
    if count * dtype.itemsize != rest:
        raise Damaged(f"{name} has {rest} bytes, not those of {list(shape)} {dtype}")
    return np.frombuffer(data, dtype, count, stream.tell()).reshape(shape, order="F" if is_fortran else "C")


def _torch(path: Path) -> Content:
    arrays, notes = torch_pickle.read(path, MAX_BYTES)
    return Content(path, "PyTorch", arrays, tuple(notes))


def _mxnet(path: Path) -> Content:
    return Content(path, "MXNet", mxnet_params.read(path.read_bytes()))


def _onnx(path: Path) -> Content:
    import onnx
    from google.protobuf.message import DecodeError
    from onnx import numpy_helper

    try:
        graph = onnx.load(str(path), load_external_data=False).graph
    except DecodeError as error:
        raise Damaged("it is no ONNX model, or ends early") from error
    arrays = {}
    for tensor in graph.initializer:
        if tensor.external_data:
            raise Damaged(f"{tensor.name} lies in another file")
        try:
            arrays[tensor.name] = numpy_helper.to_array(tensor)
        except (ValueError, TypeError, KeyError) as error:
            raise Damaged(f"{tensor.name}: {error}") from error
    if not arrays:
        raise Damaged("it holds no weights")
    return Content(path, "ONNX", arrays, (), _manifest(path))


def _manifest(path: Path) -> dict[str, Any]:
    """What the manifest beside an exported file says of its network."""
    manifest = path.with_name(path.stem + ".manifest.json")
    if not manifest.is_file():
        return {}
    meta = _meta(manifest.read_text(encoding="utf-8"))
    keys = ("model", "model_options", "num_classes", "classes", "preprocessing")
    return {**{key: meta[key] for key in keys if key in meta}, "config": {}}


def _mindspore(path: Path) -> Content:
    from src.runs.checkpoint import read_checkpoint

    checkpoint = read_checkpoint(path)
    return Content(path, "MindSpore", checkpoint.weights, (), checkpoint.meta)
