"""PyTorch's files (``.pth``), both the zip and the older form, read without PyTorch and without running code.

Such a file is a pickle, which may import and call whatever it likes. This reader looks at every instruction first and
takes those alone that make numbers, texts, lists and dictionaries, and imports of what a tensor is rebuilt with, for
which it has its own. Anything else is refused by its name.
"""

from __future__ import annotations

import io
import pickle
import pickletools
import zipfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from src.weights.raw import UNZIPPING, Damaged, of_bfloat16

LEGACY_HEAD = pickle.dumps(0x1950A86A20F9469CFC6C, protocol=2)
TO_SAFETENSORS = (
    "if you trust the file, load it where PyTorch is installed, and save the network's tensors alone: "
    "safetensors.torch.save_file(NETWORK.state_dict(), 'weights.safetensors')"
)
MOST_PICKLE = 64 * 2**20  # bytes of instructions; a network of 500 tensors has 0.1 MB
BFLOAT16 = "bfloat16"
STORAGES = {
    "FloatStorage": "<f4",
    "DoubleStorage": "<f8",
    "HalfStorage": "<f2",
    "BFloat16Storage": BFLOAT16,
    "LongStorage": "<i8",
    "IntStorage": "<i4",
    "ShortStorage": "<i2",
    "CharStorage": "i1",
    "ByteStorage": "u1",
    "BoolStorage": "?",
}
# Instructions that make plain values, and those that call what was imported.
_INSTRUCTIONS = """
    PROTO FRAME MARK STOP POP POP_MARK DUP NONE NEWTRUE NEWFALSE INT BININT BININT1 BININT2 LONG LONG1 LONG4 FLOAT
    BINFLOAT STRING BINSTRING SHORT_BINSTRING BINBYTES SHORT_BINBYTES UNICODE BINUNICODE SHORT_BINUNICODE EMPTY_LIST
    LIST APPEND APPENDS EMPTY_TUPLE TUPLE TUPLE1 TUPLE2 TUPLE3 EMPTY_DICT DICT SETITEM SETITEMS EMPTY_SET ADDITEMS
    PUT BINPUT LONG_BINPUT MEMOIZE GET BINGET LONG_BINGET GLOBAL STACK_GLOBAL REDUCE BUILD BINPERSID
"""


class Storage(NamedTuple):
    """Values of which tensors are views: of a type of STORAGES, found under a key."""

    kind: str
    key: str
    count: int


class Tensor(NamedTuple):
    """A view of a storage, counted in its values."""

    storage: Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


class _Dict(dict):
    """An OrderedDict; what torch hangs on it besides its items is dropped."""

    def __setstate__(self, state: Any) -> None:
        pass


def read(path: Path, most_bytes: int) -> tuple[dict[str, np.ndarray], list[str]]:
    """The tensors of a file by name, and notes on what was left out or read otherwise than stored.

    Raises:
        Damaged: not such a file, it ends early, or it imports what no tensor needs.
    """
    read_form = _read_zip if zipfile.is_zipfile(path) else _read_legacy
    root, values_of = read_form(path, most_bytes)
    tensors, notes = _weights_of(root)
    if any(tensor.storage.kind == BFLOAT16 for tensor in tensors.values()):
        notes.append("bfloat16 read as float32")
    arrays: dict[Storage, np.ndarray] = {}
    found = {}
    for name, tensor in tensors.items():
        if tensor.storage not in arrays:
            arrays[tensor.storage] = values_of(tensor.storage)
        found[name] = _viewed(name, tensor, arrays[tensor.storage])
    return found, notes


def _read_zip(path: Path, most_bytes: int) -> tuple[Any, Callable[[Storage], np.ndarray]]:
    try:
        with zipfile.ZipFile(path) as archive:
            members = {member.filename: member for member in archive.infolist()}
            if sum(member.file_size for member in members.values()) > most_bytes:
                raise Damaged(f"unpacked it has over {most_bytes:,} bytes")
            pickles = [name for name in members if name.rpartition("/")[2] == "data.pkl"]
            if len(pickles) != 1:
                raise Damaged("it has no data.pkl: a TorchScript module, or no PyTorch file at all")
            folder = pickles[0].removesuffix("data.pkl")
            if folder + "constants.pkl" in members:
                raise Damaged(f"it is a TorchScript module, which is code; {TO_SAFETENSORS}")
            if archive.read(folder + "byteorder").strip() != b"little" if folder + "byteorder" in members else False:
                raise Damaged("its numbers are big-endian")
            root = _load(archive.read(pickles[0]))
            content = {name: archive.read(member) for name, member in members.items() if f"{folder}data/" in name}
    except UNZIPPING as error:
        raise Damaged(str(error)) from error

    def values_of(storage: Storage) -> np.ndarray:
        name = f"{folder}data/{storage.key}"
        if name not in content:
            raise Damaged(f"the values {name} are missing")
        return _values(storage, content[name])

    return root, values_of


def _read_legacy(path: Path, most_bytes: int) -> tuple[Any, Callable[[Storage], np.ndarray]]:
    """Five pickles (a magic number, a version, the machine, the object, the storages' keys), then each storage's
    values behind their number."""
    stream = io.BytesIO(path.read_bytes())
    magic, version, machine, root, keys = (_load_from(stream) for _ in range(5))
    if magic != 0x1950A86A20F9469CFC6C or version != 1001 or not isinstance(keys, list):
        raise Damaged("it is a pickle, but not of torch.save")
    if isinstance(machine, Mapping) and machine.get("little_endian") is False:
        raise Damaged("its numbers are big-endian")
    kinds = {tensor.storage.key: tensor.storage for tensor in _all_tensors(root)}
    content: dict[str, np.ndarray] = {}
    for key in keys:
        if key not in kinds:
            raise Damaged(f"the values {key!r} are no tensor's")
        count = int.from_bytes(stream.read(8), "little", signed=True)
        width = 2 if kinds[key].kind == BFLOAT16 else np.dtype(kinds[key].kind).itemsize
        left = len(stream.getbuffer()) - stream.tell()
        if count != kinds[key].count or count * width > left:
            raise Damaged(f"it ends early: {kinds[key].count} values are due where {left} bytes are left")
        content[key] = _values(kinds[key], stream.read(count * width))

    def values_of(storage: Storage) -> np.ndarray:
        if storage.key not in content:
            raise Damaged(f"the values {storage.key!r} are missing")
        return content[storage.key]

    return root, values_of


def _values(storage: Storage, data: bytes) -> np.ndarray:
    if storage.kind == BFLOAT16:
        values = of_bfloat16(data)
    else:
        if len(data) % np.dtype(storage.kind).itemsize:
            raise Damaged(f"the values {storage.key} end early")
        values = np.frombuffer(data, storage.kind)
    if len(values) != storage.count:
        raise Damaged(f"the values {storage.key} are {len(values)}, not {storage.count}")
    return values


def _viewed(name: str, tensor: Tensor, values: np.ndarray) -> np.ndarray:
    """The view of a tensor, which must lie within its storage."""
    last = tensor.offset + sum((side - 1) * stride for side, stride in zip(tensor.shape, tensor.strides, strict=True))
    is_empty = 0 in tensor.shape
    if not is_empty and not (tensor.offset >= 0 and last < len(values)):
        raise Damaged(f"{name} reaches beyond its values")
    width = values.itemsize
    start = 0 if is_empty else tensor.offset
    strides = [stride * width for stride in tensor.strides]
    return np.ascontiguousarray(np.lib.stride_tricks.as_strided(values[start:], tensor.shape, strides, writeable=False))


def _load(data: bytes) -> Any:
    stream = io.BytesIO(data)
    root = _load_from(stream)
    if stream.read(1):
        raise Damaged("something lies behind its pickle")
    return root


def _load_from(stream: io.BytesIO) -> Any:
    start = stream.tell()
    _check(stream)
    end = stream.tell()
    stream.seek(start)
    try:
        return _Unpickler(io.BytesIO(stream.read(end - start))).load()
    except Damaged:
        raise
    except Exception as error:  # a pickle can go wrong in any way
        raise Damaged(f"its pickle is damaged ({type(error).__name__}: {error})") from error


def _check(stream: io.BytesIO) -> None:
    """Reads the instructions of a pickle up to its end and refuses those that do more than hold values."""
    start, texts, count, instructions = stream.tell(), [], 0, set(_INSTRUCTIONS.split())
    memo: dict[int, Any] = {}
    try:
        for instruction, argument, position in pickletools.genops(stream):
            count += 1
            name = instruction.name
            if name not in instructions:
                raise Damaged(f"its pickle has the instruction {name}, which weights do not need; {TO_SAFETENSORS}")
            if position - start > MOST_PICKLE:
                raise Damaged(f"its pickle has over {MOST_PICKLE:,} bytes of instructions")
            if name in ("PUT", "BINPUT", "LONG_BINPUT"):
                if argument > 2 * count:
                    raise Damaged(f"its pickle remembers something as number {argument}, far beyond what it has")
                memo[argument] = texts[-1] if texts else None
            elif name == "MEMOIZE":
                memo[len(memo)] = texts[-1] if texts else None
            elif name in ("GET", "BINGET", "LONG_BINGET"):
                texts.append(memo.get(int(argument)))
            elif name == "GLOBAL":
                _allowed(*argument.split(" ", 1))
            elif name == "STACK_GLOBAL":
                _allowed(str(texts[-2]), str(texts[-1]))
            elif "UNICODE" in name or "STRING" in name:
                texts.append(argument)
    except (ValueError, IndexError, EOFError, UnicodeDecodeError) as error:
        raise Damaged(f"its pickle ends early or is damaged ({error})") from error


def _allowed(module: str, name: str) -> Any:
    """Our own of what a tensor is rebuilt with. Raises Damaged for any other import, which may be code."""
    if (module, name) not in _OURS:
        raise Damaged(f"it imports {module}.{name}, which could run code, and is not read; {TO_SAFETENSORS}")
    return _OURS[module, name]


def _rebuilt(storage: Any, offset: Any, shape: Any, strides: Any, *_: Any) -> Tensor:
    numbers = (offset, *shape, *strides)
    if not isinstance(storage, Storage) or not all(type(number) is int and number >= 0 for number in numbers):
        raise Damaged("a tensor is no view of values")
    if len(shape) != len(strides) or len(shape) > 8:
        raise Damaged(f"a tensor has shape {list(shape)} and strides {list(strides)}")
    return Tensor(storage, offset, tuple(shape), tuple(strides))


class _Import:
    """Ours in place of an import: it can be called, and nothing in it can be set."""

    __slots__ = ("_call",)

    def __init__(self, call: Callable[..., Any]):
        self._call = call

    def __call__(self, *arguments: Any) -> Any:
        return self._call(*arguments)

    def __setstate__(self, state: Any) -> None:
        raise Damaged("its pickle sets something in what it imports")


_OURS: dict[tuple[str, str], Any] = {
    ("collections", "OrderedDict"): _Import(_Dict),
    ("torch", "Size"): _Import(tuple),
    ("torch._utils", "_rebuild_tensor"): _Import(_rebuilt),
    ("torch._utils", "_rebuild_tensor_v2"): _Import(_rebuilt),
    ("torch._utils", "_rebuild_parameter"): _Import(lambda tensor, *_: tensor),
    **{("torch", name): kind for name, kind in STORAGES.items()},
}


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        return _allowed(module, name)

    def persistent_load(self, reference: Any) -> Storage:
        if not isinstance(reference, tuple) or len(reference) < 5 or reference[0] != "storage":
            raise Damaged("it refers to something that is no storage")
        kind, key, count = reference[1], reference[2], reference[4]
        if kind not in STORAGES.values() or not isinstance(key, str) or type(count) is not int or count < 0:
            raise Damaged("it refers to a storage that cannot be")
        if len(reference) > 5 and reference[5] is not None:
            raise Damaged("it has views of storages, as files before PyTorch 0.4 do; save it again with a newer one")
        return Storage(kind, key, count)


def _all_tensors(root: Any) -> Iterator[Tensor]:
    waiting, seen = [root], set()
    while waiting:
        value = waiting.pop()
        if isinstance(value, Tensor):
            yield value
        elif isinstance(value, (Mapping, list, tuple)) and id(value) not in seen:
            seen.add(id(value))
            waiting += value.values() if isinstance(value, Mapping) else value


# Under which a training checkpoint keeps the weights, the first of these that there is.
_WEIGHTS = ("state_dict", "model", "model_state_dict", "net", "network")


def _weights_of(root: Any) -> tuple[dict[str, Tensor], list[str]]:
    """The tensors by name: of the file itself, or of the part of a training checkpoint that holds the weights."""
    notes: list[str] = []
    if not isinstance(root, Mapping):
        raise Damaged(f"it holds a {type(root).__name__}, not tensors by name; {TO_SAFETENSORS}")
    for key in _WEIGHTS:
        if isinstance(root.get(key), Mapping):
            left_out = [str(other) for other in root if other != key]
            if left_out:
                notes.append(f"of a training checkpoint: {key} read, {', '.join(left_out)} skipped")
            root = root[key]
            break
    tensors = {str(name): value for name, value in root.items() if isinstance(value, Tensor)}
    if not tensors:
        raise Damaged("it holds no tensors by name")
    if others := [str(name) for name, value in root.items() if not isinstance(value, Tensor)]:
        notes.append(f"skipped, as no tensors: {', '.join(others[:5])}{' …' if len(others) > 5 else ''}")
    return tensors, notes
