"""MXNet RecordIO: the images of a split in one ``.rec`` file, as im2rec packs ImageNet.

A file is a row of records, each at a multiple of 4 bytes, all numbers little-endian (dmlc-core, recordio.h):

    magic     uint32, 0xced7230a
    length    uint32: the lower 29 bits are the bytes that follow; the upper 3 say which part of a record this is:
              0 the whole, 1 the first, 2 a middle one, 3 the last
    data      padded to a multiple of 4

Data that holds the magic number at a multiple of 4 is cut there, without the number, into parts. An image's data begin
with a header (MXNet, IRHeader): flag uint32, label float32, id uint64, id2 uint64; a flag above 0 is the number of
float32 labels that follow in place of that one. Then comes the image file as it was.

The records' places come from one pass over the ``.rec``; an ``.idx`` beside it, lines of ``key<TAB>place``, must agree.
Names of classes stand in ``<name>.lst`` (key, label, ``<class>/<file>`` a line) or in ``synset.txt``, a class a line.
"""

from __future__ import annotations

import os
import struct
from array import array
from pathlib import Path
from typing import NamedTuple

from src.errors import UsageError

MAGIC = 0xCED7230A
_MAGIC_BYTES = struct.pack("<I", MAGIC)
_HEAD = struct.Struct("<II")
_IMAGE = struct.Struct("<IfQQ")
_START = _HEAD.size + _IMAGE.size
_LENGTH_BITS = 29
_WHOLE, _FIRST, _MIDDLE, _LAST = range(4)


class _Part(NamedTuple):
    """Data of one part of a record, and where the next one begins."""

    kind: int
    start: int
    length: int
    next: int


class RecordIO:
    """The images of a ``.rec`` file, in the order of their labels and ids, which is that of class folders.

    Raises:
        UsageError: a damaged file, one that its index contradicts, or labels that are no classes.
    """

    def __init__(self, path: Path):
        self.path = path
        try:
            self._file = path.open("rb")
        except OSError as error:
            raise UsageError(f"{path} cannot be read: {error.strerror}") from error
        self._bytes = os.fstat(self._file.fileno()).st_size
        starts, sizes, labels, ids = self._scan()
        _check_index(path.with_suffix(".idx"), starts)
        order = sorted(range(len(starts)), key=lambda record: (labels[record], ids[record], record))
        self._starts = array("Q", (starts[record] for record in order))
        self._sizes = array("Q", (sizes[record] for record in order))
        self._labels = array("I", (labels[record] for record in order))
        self.names = _names(path, max(labels))
        self.stamp = "".join(_state(beside) for beside in _belonging(path))

    def labels(self) -> list[int]:
        return self._labels.tolist()

    def size(self, position: int) -> int:
        return self._sizes[position]

    def read(self, position: int) -> bytes:
        """The image file. Raises UsageError if the ``.rec`` was changed meanwhile."""
        data = self._record(self._starts[position])
        flag = _IMAGE.unpack_from(data)[0]
        return data[_IMAGE.size + 4 * flag :]

    def _scan(self) -> tuple[array, array, list[int], array]:
        """Of every record: where it begins, the bytes of its image, its label and its id."""
        starts, sizes, ids = array("Q"), array("Q"), array("Q")
        labels: list[int] = []
        place = 0
        while place < self._bytes:
            head = os.pread(self._file.fileno(), _START + 4, place)
            part = self._part(place, head)
            if part.kind not in (_WHOLE, _FIRST):
                raise self._damage(place, "the first part of a record is missing")
            length = part.length
            if length < _IMAGE.size:
                raise self._damage(place, "the record is too short for an image's header")
            flag, label, number, _ = _IMAGE.unpack_from(head, _HEAD.size)
            if flag:
                label = self._only_label(place, flag, part, head)
            while part.kind in (_FIRST, _MIDDLE):
                part = self._following(part)
                length += len(_MAGIC_BYTES) + part.length
            starts.append(place)
            sizes.append(length - _IMAGE.size - 4 * flag)
            labels.append(self._class(place, label))
            ids.append(number)
            place = part.next
        if not starts:
            raise UsageError(f"{self.path} holds no images")
        return starts, sizes, labels, ids

    def _part(self, place: int, head: bytes = b"") -> _Part:
        head = head or os.pread(self._file.fileno(), _HEAD.size, place)
        if len(head) < _HEAD.size:
            raise self._damage(place, "it is cut off")
        magic, length = _HEAD.unpack_from(head)
        if magic != MAGIC:
            raise self._damage(place, "no record begins there")
        kind, length = length >> _LENGTH_BITS, length & (1 << _LENGTH_BITS) - 1
        start = place + _HEAD.size
        if kind > _LAST:
            raise self._damage(place, f"there is no part {kind} of a record")
        if start + length > self._bytes:
            raise self._damage(place, f"it is cut off, {start + length - self._bytes} bytes are missing")
        return _Part(kind, start, length, start + (length + 3) // 4 * 4)

    def _following(self, part: _Part) -> _Part:
        following = self._part(part.next)
        if following.kind not in (_MIDDLE, _LAST):
            raise self._damage(part.next, "the last part of a record is missing")
        return following

    def _record(self, place: int) -> bytes:
        """The data of the record at ``place``, its parts joined."""
        part = self._part(place)
        data = self._data(part)
        while part.kind in (_FIRST, _MIDDLE):
            part = self._following(part)
            data += _MAGIC_BYTES + self._data(part)
        return data

    def _data(self, part: _Part) -> bytes:
        data = os.pread(self._file.fileno(), part.length, part.start)
        if len(data) < part.length:
            raise self._damage(part.start, "it is cut off")
        return data

    def _only_label(self, place: int, flag: int, part: _Part, head: bytes) -> float:
        if flag != 1 or part.length < _IMAGE.size + 4:
            raise self._damage(place, f"an image with {flag} labels is of no one class")
        return struct.unpack_from("<f", head, _START)[0]

    def _class(self, place: int, label: float) -> int:
        if not (label >= 0 and label < 1 << 24 and label == int(label)):
            raise self._damage(place, f"the label {label:g} is no class number")
        return int(label)

    def _damage(self, place: int, what: str) -> UsageError:
        return UsageError(f"{self.path} is damaged at byte {place}: {what}. Pack it anew, or copy it again")


def _belonging(path: Path) -> list[Path]:
    """The file and those beside it that are read with it."""
    beside = (path.with_suffix(".idx"), path.with_suffix(".lst"), path.with_name("synset.txt"))
    return [path, *(file for file in beside if file.is_file())]


def _state(path: Path) -> str:
    facts = path.stat()
    return f"{path.name} {facts.st_size} {facts.st_mtime_ns} {facts.st_ctime_ns}\n"


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{path} cannot be read: {error}") from error


def _check_index(index: Path, starts: array) -> None:
    """Raises UsageError unless the index, if there is one, has the places of the records."""
    if not index.is_file():
        return
    places = set()
    for number, line in enumerate(_lines(index), start=1):
        key, _, place = line.partition("\t")
        if not (key.strip().isdecimal() and place.strip().isdecimal()):
            raise UsageError(f"{index}, line {number}: {line!r} is no key and place; remove the file to go without it")
        places.add(int(place))
    if places != set(starts):
        raise UsageError(
            f"{index} has {len(places)} records, {index.with_suffix('.rec').name} {len(starts)}, or at other places: "
            "they do not belong together; remove the index to go without it"
        )


def _names(path: Path, highest: int) -> list[str]:
    """Names of the classes 0 to ``highest``, or none.

    Raises:
        UsageError: a list that names one class twice or not at all.
    """
    listing, synset = path.with_suffix(".lst"), path.with_name("synset.txt")
    if listing.is_file():
        known = _names_of_list(listing)
    elif synset.is_file():
        known = dict(enumerate(line.split()[0] for line in _lines(synset) if line.strip()))
    else:
        return []
    if not known:
        return []
    source = listing if listing.is_file() else synset
    missing = [label for label in range(highest + 1) if label not in known]
    if missing:
        raise UsageError(f"{source} has no name for class {missing[0]} of {path.name}")
    names = [known[label] for label in range(highest + 1)]
    if len(set(names)) < len(names):
        raise UsageError(f"{source} has one name for two classes; remove it to go by numbers")
    return names


def _names_of_list(listing: Path) -> dict[int, str]:
    """Label to the folder that its images lay in; nothing where they lay in none."""
    known: dict[int, str] = {}
    bare = 0
    for number, line in enumerate(_lines(listing), start=1):
        fields = line.split("\t")
        try:
            label, folder = int(float(fields[1])), Path(fields[2]).parent.name
        except (IndexError, ValueError, OverflowError) as error:
            raise UsageError(f"{listing}, line {number}: {line!r} is no key, label and path") from error
        if not folder:
            bare = number
        elif known.setdefault(label, folder) != folder:
            raise UsageError(f"{listing}: class {label} is {known[label]} and {folder}; remove it to go by numbers")
    if bare and known:
        raise UsageError(f"{listing}, line {bare}, names no class, as others do; remove the file to go by numbers")
    return known
