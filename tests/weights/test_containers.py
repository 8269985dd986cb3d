"""Containers as their own programs wrote them, and ten damaged files of each, all refused in one line by their name.

``files/`` was written by torch 2.14.1 (``torch.save`` of a training checkpoint, both forms) and mxnet 1.9.1
(``mx.nd.save``, with and without ``np_shape``); the values are tests/golden/formulas.py's.
"""

from __future__ import annotations

import io
import json
import pickle
import re
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
import safetensors.numpy
from onnx import helper, numpy_helper

from src.errors import UsageError
from src.weights import containers
from src.weights.containers import read
from tests.golden.formulas import sines

FILES = Path(__file__).with_name("files")
GOOD = {"a": sines(0, (2, 3)).astype(np.float32), "half": sines(1, (5,)).astype(np.float16)}


def bfloat16(values: np.ndarray) -> np.ndarray:
    """Rounded to its eight bits of mantissa, ties to even."""
    bits = values.astype(np.float32).view(np.uint32).astype(np.uint64)
    return ((bits + 0x7FFF + (bits >> 16 & 1)) >> 16 << 16).astype(np.uint32).view(np.float32)


@pytest.mark.parametrize("form", ["zip", "legacy"])
def test_files_of_pytorch_are_read_without_it(form):
    found = read(FILES / f"{form}.pth")
    whole = sines(2, (6, 4)).astype(np.float32)
    expected = {
        **GOOD,
        "brain": bfloat16(sines(1, (5,))),
        "transposed": whole.T,
        "part": whole[2:5, 1:3],  # views of one storage
        "parameter": sines(3, (2,)).astype(np.float32),
        "count": np.array(7),
    }
    assert found.arrays.keys() == expected.keys() and found.container == "PyTorch"
    for name, array in expected.items():
        assert found.arrays[name].dtype == array.dtype, name
        np.testing.assert_array_equal(found.arrays[name], array, err_msg=name)
    assert found.notes == (
        "of a training checkpoint: state_dict read, epoch, arch, best_acc1, optimizer skipped",
        "bfloat16 read as float32",
    )


@pytest.mark.parametrize("form", ["v2", "v3"])
def test_files_of_mxnet_are_read_without_it(form):
    found = read(FILES / f"{form}.params")
    assert found.arrays.keys() == GOOD.keys() and found.container == "MXNet"
    for name, array in GOOD.items():
        np.testing.assert_array_equal(found.arrays[name], array)
        assert found.arrays[name].dtype == array.dtype


def mxnet_list(*heads: bytes) -> bytes:
    """A list of arrays of one value each, called 0, 1, …"""
    values = struct.pack("<f", 1.5)
    names = b"".join(struct.pack("<Q", 1) + str(number).encode() for number in range(len(heads)))
    count = struct.pack("<Q", len(heads))
    return struct.pack("<QQ", 0x112, 0) + count + b"".join(head + values for head in heads) + count + names


V1_HEAD = struct.pack("<IIqiii", 0xF993FAC8, 1, 1, 1, 0, 0)
FIRST_HEAD = struct.pack("<IIiii", 1, 1, 1, 0, 0)


def test_both_earlier_heads_of_mxnet_are_read(tmp_path):
    (tmp_path / "old.params").write_bytes(mxnet_list(V1_HEAD, FIRST_HEAD))
    found = read(tmp_path / "old.params").arrays
    assert {name: array.tolist() for name, array in found.items()} == {"0": [1.5], "1": [1.5]}


def test_safetensors_and_npz_are_read_as_stored(tmp_path):
    safetensors.numpy.save_file(GOOD, tmp_path / "net.safetensors", {"trained": json.dumps({"model": "net"})})
    np.savez_compressed(tmp_path / "net.npz", fortran=np.asfortranarray(GOOD["a"]), **GOOD)
    header = json.dumps({"b": {"dtype": "BF16", "shape": [2], "data_offsets": [0, 4]}}).encode()
    brain = struct.pack("<Q", len(header)) + header + struct.pack("<HH", 0x3F80, 0xC000)
    (tmp_path / "brain.safetensors").write_bytes(brain)
    for name, more in (("net.safetensors", {}), ("net.npz", {"fortran": GOOD["a"]})):
        found = read(tmp_path / name)
        assert found.arrays.keys() == {**GOOD, **more}.keys()
        for key, array in {**GOOD, **more}.items():
            np.testing.assert_array_equal(found.arrays[key], array)
            assert found.arrays[key].dtype == array.dtype
        assert found.meta == ({"model": "net"} if name.endswith("safetensors") else {})
    found = read(tmp_path / "brain.safetensors")
    assert found.arrays["b"].tolist() == [1.0, -2.0] and found.notes == ("bfloat16 read as float32",)


def onnx_model(*tensors: onnx.TensorProto) -> bytes:
    return helper.make_model(helper.make_graph([], "net", [], [], list(tensors))).SerializeToString()


def test_an_exported_file_is_what_its_manifest_says(tmp_path):
    (tmp_path / "net.onnx").write_bytes(onnx_model(numpy_helper.from_array(GOOD["a"], "a")))
    np.testing.assert_array_equal(read(tmp_path / "net.onnx").arrays["a"], GOOD["a"])
    assert read(tmp_path / "net.onnx").meta == {}
    (tmp_path / "net.manifest.json").write_text(json.dumps({"model": "mnasnet", "num_classes": 3, "files": []}))
    assert read(tmp_path / "net.onnx").meta == {"model": "mnasnet", "num_classes": 3, "config": {}}


# -- damaged ---------------------------------------------------------------------------------------------------------

STORAGE = b"(X\x07\x00\x00\x00storagectorch\nFloatStorage\nX\x01\x00\x00\x000X\x03\x00\x00\x00cpuK\x06tQ"
TENSOR = b"ctorch._utils\n_rebuild_tensor_v2\n(" + STORAGE + b"%b\x89ccollections\nOrderedDict\n)RtR"


def torch_zip(pickled: bytes, values: bytes = bytes(24), **members: bytes) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr("net/data.pkl", pickled)
        archive.writestr("net/data/0", values)
        for name, content in members.items():
            archive.writestr(f"net/{name}", content)
    return stream.getvalue()


def of_tensor(view: bytes) -> bytes:
    """A dictionary of one tensor: offset, shape and strides are ``view``."""
    return b"\x80\x02}X\x01\x00\x00\x00a" + TENSOR % view + b"s."


class Runs:
    """Unpickled, it makes a file."""

    def __reduce__(self) -> tuple:
        import os

        return os.system, ("touch it-ran",)


FITTING = b"K\x00K\x02K\x03\x86K\x03K\x01\x86"
legacy = (FILES / "legacy.pth").read_bytes()
whole_zip = (FILES / "zip.pth").read_bytes()
PTH = {
    "cut in its middle": (whole_zip[:1500], "cannot be read as"),
    "cut, legacy": (legacy[:-9], "ends early"),
    "cut, legacy, in its pickle": (legacy[:200], "ends early or is damaged"),
    "runs a command": (torch_zip(pickle.dumps({"a": Runs()}, 2)), r"imports (posix|nt)\.system, which could run code"),
    "runs a command, protocol 4": (torch_zip(pickle.dumps({"a": Runs()}, 4)), r"imports (posix|nt)\.system"),
    "needs another class": (torch_zip(b"\x80\x02cargparse\nNamespace\n)R."), "imports argparse.Namespace"),
    "makes an object": (torch_zip(b"\x80\x02ctorch\nSize\n)\x81."), "the instruction NEWOBJ"),
    "sets something in an import": (
        torch_zip(b"\x80\x02ctorch\nSize\n}X\x01\x00\x00\x00aK\x01sb."),
        "sets something in what it imports",
    ),
    "reaches beyond": (torch_zip(of_tensor(b"K\x01K\x02K\x03\x86K\x03K\x01\x86")), "reaches beyond its values"),
    "of negative strides": (torch_zip(of_tensor(b"K\x00K\x02\x85J\xff\xff\xff\xff\x85")), "no view of values"),
    "fewer values": (torch_zip(of_tensor(FITTING), bytes(20)), "are 5, not 6"),
    "a TorchScript module": (torch_zip(of_tensor(FITTING), **{"constants.pkl": b""}), "TorchScript module"),
    "big-endian": (torch_zip(of_tensor(FITTING), byteorder=b"big"), "big-endian"),
    "no tensors": (torch_zip(b"\x80\x02}."), "holds no tensors by name"),
    "a number": (torch_zip(b"\x80\x02K\x01."), "holds a int, not tensors by name"),
    "a memory of 4 billion": (torch_zip(b"\x80\x02}r\xff\xff\xff\xff."), "remembers something as number"),
    "a pickle that ends early": (torch_zip(of_tensor(FITTING)[:-3]), "ends early or is damaged"),
}


def st(header: object, data: bytes = b"", length: int | None = None) -> bytes:
    text = json.dumps(header).encode() if not isinstance(header, bytes) else header
    return struct.pack("<Q", len(text) if length is None else length) + text + data


def entry(**changes: object) -> dict:
    return {"a": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8], **changes}}


SAFETENSORS = {
    "empty": (b"", "cannot be read as safetensors"),
    "a head only": (struct.pack("<Q", 100), "cannot be read as safetensors"),
    "a head longer than the file": (st(entry(), bytes(8), 2**40), "cannot be read as safetensors"),
    "a head that is no JSON": (st(b"{nonsense", bytes(8)), "cannot be read as safetensors"),
    "a list for a head": (st([1], bytes(8)), "cannot be read as safetensors"),
    "cut": (st(entry(), bytes(7)), "cannot be read as safetensors"),
    "bytes behind its end": (st(entry(), bytes(9)), "cannot be read as safetensors"),
    "places beyond the file": (st(entry(data_offsets=[8, 16]), bytes(8)), "cannot be read as safetensors"),
    "another shape than its bytes": (st(entry(shape=[3]), bytes(8)), "cannot be read as safetensors"),
    "a type of nobody": (st(entry(dtype="F99"), bytes(8)), "cannot be read as safetensors"),
    "a type of eight bits": (st(entry(dtype="F8_E4M3", shape=[8]), bytes(8)), "is of type F8_E4M3"),
    "a description that is no JSON": (
        st({**entry(), "__metadata__": {"trained": "{"}}, bytes(8)),
        "trained is no JSON",
    ),
}


def npz(**members: bytes) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        for name, content in members.items():
            archive.writestr(f"{name}.npy", content)
    return stream.getvalue()


def npy(array: np.ndarray, **changes: object) -> bytes:
    """An array in NumPy's format with something else in its head."""
    stream = io.BytesIO()
    np.lib.format.write_array(stream, array)
    data = stream.getvalue()
    end = 10 + struct.unpack("<H", data[8:10])[0]
    head = eval(data[10:end])  # our own text of three lines above
    text = repr({**head, **changes}).encode().ljust(end - 11) + b"\n"
    return data[:8] + struct.pack("<H", len(text)) + text + data[end:]


ARRAY = np.ones((2, 3), np.float32)
NPZ = {
    "cut": (npz(a=npy(ARRAY))[:60], "cannot be read as"),
    "a member that is cut": (npz(a=npy(ARRAY)[:-1]), "has 23 bytes, not those of"),
    "a head that states more": (npz(a=npy(ARRAY, shape=(2**40, 2**40))), "not those of"),
    "a head that states less": (npz(a=npy(ARRAY, shape=(1, 3))), "not those of"),
    "Python objects": (npz(a=npy(ARRAY, descr="|O")), "holds Python objects"),
    "records": (npz(a=npy(ARRAY, descr=[("x", "<f4")])), "holds Python objects"),
    "no magic": (npz(a=b"nonsense and more"), "a.npy: "),
    "a version of the future": (npz(a=b"\x93NUMPY\x09\x00" + npy(ARRAY)[8:]), "a.npy: "),
    "a head that is no dictionary": (npz(a=b"\x93NUMPY\x01\x00\x04\x00(1)\n"), "a.npy: "),
    "an empty member": (npz(a=b""), "a.npy: "),
    "a changed byte": (npz(a=npy(ARRAY)).replace(npy(ARRAY)[-4:], b"xxxx", 1), "Bad CRC-32"),
}

good_params = (FILES / "v2.params").read_bytes()


def spoiled(place: int, content: bytes) -> bytes:
    return good_params[:place] + content + good_params[place + len(content) :]


PARAMS = {
    "another beginning": (spoiled(0, b"\x13"), "does not begin as one"),
    "cut in its values": (good_params[:70], "ends early"),
    "cut in its names": (good_params[:-3], "ends early"),
    "bytes behind its end": (good_params + b"x", "1 bytes lie behind its end"),
    "more arrays than bytes": (spoiled(16, struct.pack("<Q", 2**50)), "states 1125899906842624 arrays"),
    "one array less": (spoiled(16, struct.pack("<Q", 1)), "more than its bytes can hold|arrays and"),
    "sparse": (spoiled(28, struct.pack("<i", 1)), "an array is sparse"),
    "a thousand dimensions": (spoiled(32, struct.pack("<I", 1000)), "has 1000 dimensions"),
    "a negative side": (spoiled(36, struct.pack("<q", -2)), r"has shape \[-2, 3\]"),
    "a side of 2^60": (spoiled(36, struct.pack("<q", 2**60)), "ends early"),
    "a type of nobody": (spoiled(60, struct.pack("<i", 99)), "is of type 99"),
    "a name that is no text": (good_params[:-1] + b"\xff", "a name is no text"),
    "one name twice": (mxnet_list(V1_HEAD, V1_HEAD).replace(b"\x001", b"\x000"), "two of its arrays have one name"),
}

outside = numpy_helper.from_array(GOOD["a"], "a")
outside.data_location = onnx.TensorProto.EXTERNAL
outside.external_data.add(key="location", value="../../etc/passwd")
short = numpy_helper.from_array(GOOD["a"], "a")
short.raw_data = short.raw_data[:-4]
odd = onnx.TensorProto(name="a", data_type=99, dims=[1], raw_data=bytes(4))
whole_onnx = onnx_model(numpy_helper.from_array(GOOD["a"], "a"))
ONNX = {
    "empty": (b"", "holds no weights"),
    "text": (b"no model at all", "is no ONNX model, or ends early"),
    "cut": (whole_onnx[:-5], "is no ONNX model, or ends early"),
    "without weights": (onnx_model(), "holds no weights"),
    "weights in another file": (onnx_model(outside), "a lies in another file"),
    "fewer values than its shape": (onnx_model(short), "a: "),
    "a type of nobody": (onnx_model(odd), "a: "),
    "a manifest that is no JSON": (whole_onnx, "is no JSON"),
    "cut in its first field": (whole_onnx[:1], "is no ONNX model, or ends early"),
    "a picture": (b"\x89PNG\r\n\x1a\n" + bytes(40), "is no ONNX model, or ends early"),
}
DAMAGED = {".pth": PTH, ".safetensors": SAFETENSORS, ".npz": NPZ, ".params": PARAMS, ".onnx": ONNX}
CASES = [(suffix, name) for suffix, cases in DAMAGED.items() for name in cases]


@pytest.mark.parametrize(("suffix", "name"), CASES, ids=[f"{suffix[1:]}, {name}" for suffix, name in CASES])
def test_a_damaged_file_is_refused_in_one_line(tmp_path, monkeypatch, suffix, name):
    monkeypatch.chdir(tmp_path)
    content, cause = DAMAGED[suffix][name]
    path = tmp_path / f"weights{suffix}"
    path.write_bytes(content)
    if "manifest" in name:
        (tmp_path / "weights.manifest.json").write_text("{")
    with pytest.raises(UsageError) as caught:
        read(path)
    message = str(caught.value)
    assert str(path) in message and re.search(cause, message) and "\n" not in message.strip()
    assert not (tmp_path / "it-ran").exists()


def test_there_are_ten_damaged_files_a_container():
    assert all(len(cases) >= 10 for cases in DAMAGED.values())


@pytest.mark.parametrize("make", [lambda path: None, lambda path: path.mkdir(), lambda path: path.write_bytes(b"text")])
def test_what_is_no_file_of_weights_is_said(tmp_path, make: Callable[[Path], None]):
    make(tmp_path / "weights.txt")
    with pytest.raises(UsageError, match=r"weights\.txt( is no file of weights)?"):
        read(tmp_path / "weights.txt")


def test_files_of_more_bytes_than_any_network_has_are_not_opened(tmp_path, monkeypatch):
    monkeypatch.setattr(containers, "MAX_BYTES", 100)
    with pytest.raises(UsageError, match="has 3,237 bytes; no file of weights of these networks has over 100"):
        read(FILES / "zip.pth")
    (tmp_path / "bomb.npz").write_bytes(npz(a=b"x"))
    stream = io.BytesIO()
    np.savez_compressed(stream, a=np.zeros(10_000, np.float32))
    monkeypatch.setattr(containers, "MAX_BYTES", 10_000)
    (tmp_path / "bomb.npz").write_bytes(stream.getvalue())
    with pytest.raises(UsageError, match="unpacked it has over 10,000 bytes"):
        read(tmp_path / "bomb.npz")
