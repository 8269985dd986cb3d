"""Whatever stands in a file or on a command line, a program reads it or says in one line what is wrong with it."""

from __future__ import annotations

import contextlib
import errno
import json
import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from src.errors import UsageError
from src.settings.command_line import parse_arguments, split_command
from src.settings.config import DEFAULTS
from src.settings.sections import PROGRAMS
from tests.attack.kept_files import _FOREIGN, KINDS

MANY = 10_000
FEW = {"image": 30, "checkpoint": 30, "pointer to a checkpoint": 20, "config.yaml": 40}
# What readers stumble over: numbers beyond any, other kinds, halves of characters, depth, ways out of a folder.
PIECES = (
    "null", "true", "-1", "1e999", "NaN", "-Infinity", "1" * 400, "0.5", '""', "[]", "{}", "[" * 4000, '{"a":' * 4000,
    '"\\ud800"', "\0", "\ufeff", "../../etc/passwd", "/etc/passwd", "\n", "\r\n", ":", ": ", "- ", "&a *a",
    "!!python/object:os.system",
    "seed", '"seal": ', '"crc32": ', "2147483648", "18446744073709551616", "0x10", "1_000", "01", "é", "\u2028",
)  # fmt: skip
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | st.sampled_from(["..", "/", "\0"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=4,
)


def _places(value: Any, path: tuple = ()) -> list[tuple]:
    below = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [path, *(place for key, item in below for place in _places(item, (*path, key)))]


@st.composite
def changed_json(draw: st.DrawFn, text: str) -> bytes:
    """A JSON text in which one value is another, or gone. It bears no seal: those of earlier versions did not."""
    content = json.loads(text)
    if isinstance(content, dict):
        content.pop("seal", None)
    place = draw(st.sampled_from(_places(content)))
    if not place:
        return json.dumps(draw(VALUES)).encode()
    holder = content
    for key in place[:-1]:
        holder = holder[key]
    if draw(st.booleans()) and draw(st.booleans()):
        del holder[place[-1]]
    else:
        holder[place[-1]] = draw(VALUES)
    return json.dumps(content).encode()


@st.composite
def changed(draw: st.DrawFn, content: bytes) -> bytes:
    """A good file with bits flipped, cut off, with a piece put in, or one value changed; or any bytes at all."""
    how = draw(st.sampled_from(("flip", "cut", "piece", "bytes", "json", "json")))
    place = draw(st.integers(0, max(len(content) - 1, 0)))
    if how == "flip":
        return content[:place] + bytes([content[place] ^ 1 << draw(st.integers(0, 7))]) + content[place + 1 :]
    if how == "cut":
        return content[:place]
    if how == "bytes":
        return draw(st.binary(max_size=64))
    if how == "json":
        with contextlib.suppress(ValueError):
            return draw(changed_json(content.decode()))
        lines = content.splitlines(keepends=True)
        with contextlib.suppress(ValueError, IndexError):
            number = draw(st.integers(0, len(lines) - 1))
            lines[number] = draw(changed_json(lines[number].decode())) + b"\n"
            return b"".join(lines)
    return content[:place] + draw(st.sampled_from(PIECES)).encode() + content[place + draw(st.integers(0, 8)) :]


def fuzzed(examples: int) -> settings:
    return settings(
        max_examples=examples,
        deadline=None,
        derandomize=True,
        database=None,
        phases=(Phase.explicit, Phase.generate),
        suppress_health_check=list(HealthCheck),
    )


def _read_or_refuse(kind: str, path: Path, content: bytes) -> bool:
    """Whether the file was read; a refusal is one line that names a file of its folder."""
    path.write_bytes(content)
    try:
        KINDS[kind].read(path)
    except UsageError as error:
        assert str(path.parent) in str(error) or path.name in str(error) or "that the run has split" in str(error)
        return False
    return True


def _fuzz_files(kind: str, folder: Path, examples: int) -> None:
    path = KINDS[kind].make(folder)
    good = path.read_bytes()
    assert _read_or_refuse(kind, path, good), "the good file is not read"
    refused = []

    @fuzzed(examples)
    @given(changed(good))
    def run(content: bytes) -> None:
        refused.append(not _read_or_refuse(kind, path, content))

    run()
    assert len(refused) >= examples


@pytest.mark.parametrize("kind", KINDS)
def test_a_file_is_read_or_refused_by_name(tmp_path, kind):
    _fuzz_files(kind, tmp_path, FEW.get(kind, 60))


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_ten_thousand_files_are_read_or_refused_by_name(tmp_path, kind):
    _fuzz_files(kind, tmp_path, MANY)


# What was found, by hand or by the tests above: each ended in a traceback, or was taken for something it is not.
_ZIP = (_FOREIGN / "zip.pth").read_bytes()
_PLACE = _ZIP.index(b"PK\x01\x02")
FOUND = (
    ("PyTorch's zip", _ZIP[: _PLACE + 46] + b"\xe9p" + _ZIP[_PLACE + 48 :]),  # a name that is no text
    ("npz", _ZIP[: _PLACE + 6] + b"\x6d" + _ZIP[_PLACE + 7 :]),  # of a version of zip that there is not
    ("classes.json", b'[["cat"], {}]'),
    ("classes.json", b'["cat", "cat", "dog"]'),
    ("classes.json", b'{"cat": 0, "dog": 0, "owl": 1}'),
    ("classes.json", b"[" * 4000),
    ("journal", b"[" * 4000 + b"\n"),
    ("journal", b'[{"index": 0, "crc32": 1}]\n'),
    ("split.json", b'{"train": {"cat/0.jpg": {}}, "val": {}}'),
    ("labels in JSON", b'{"a.jpg": true}'),
    ("labels in JSON", b'{"a.jpg":' * 4000),
    ("index of results", b'{"image": "0.jpg", "result": "../../secret"}'),
    ("index of results", b'{"image": "0.jpg", "result": "0"}\n{"image": "1.jpg", "result": "0"}'),
    ("index of results", b'{"picture": "0.jpg"}'),
    ("rank table", b'{"server_list": [{"server_id": [1], "device": []}]}'),
    ("rank table of a launcher", b'{"server_list": [{"device": [{"rank_id": 1e999, "device_id": 0}]}]}'),
    ("latency table", b'{"header": {"space": {}}, "fixed": 1e999, "choices": []}'),
    ("manifest", b'{"files": [{"file": "net.onnx"}]}'),
    ("list of packed images", b"0\t0\tclass0/0.jpg\n1\t0\tclass0/1.jpg\n2\t1\tclass1o0.jpg\n"),
    ("meta of a checkpoint", b"[1]"),
    ("meta of a checkpoint", b'{"a":' * 4000),
    ("checksum of a checkpoint", b'{"sha256": [], "number": 1e999}'),
)


@pytest.mark.parametrize(("kind", "content"), FOUND, ids=range(len(FOUND)))
def test_what_was_found_is_refused_by_name(tmp_path, kind, content):
    assert not _read_or_refuse(kind, KINDS[kind].make(tmp_path), content)


def test_a_pointer_and_a_kept_check_that_are_no_such_are_made_again(tmp_path):
    for kind, content in (
        ("pointer to a checkpoint", b"\xff\xfe"),
        ("kept check", b'{"stamp": "STAMP", "findings": [[{}, null, "odd"]]}'),
    ):
        (tmp_path / kind).mkdir()
        path = KINDS[kind].make(tmp_path / kind)
        stamp = json.loads(path.read_text())["stamp"].encode() if path.suffix else b""
        good = KINDS[kind].read(path)
        path.write_bytes(content.replace(b"STAMP", stamp))
        assert KINDS[kind].read(path) == good


# -- command lines --------------------------------------------------------------------------------

_WORDS = st.one_of(
    st.sampled_from([f"--{key}" for key in DEFAULTS]),
    st.sampled_from(["--config_path", "--model_options.alpha", "--", "-", "--resume=auto", "--model", "mnasnet", "-h"]),
    st.sampled_from(["digits", "True", "0", "1e999", "nan", "-1", "[1, 2", "{a: 1}", "../..", "\0", "é" * 300]),
    st.sampled_from(PIECES),
    st.text(max_size=6),
    st.tuples(st.sampled_from(sorted(DEFAULTS)), st.text(max_size=6)).map(lambda pair: f"--{pair[0]}={pair[1]}"),
)


def _fuzz_command_lines(program: str, examples: int) -> None:
    @fuzzed(examples)
    @given(st.lists(_WORDS, max_size=5))
    def run(words: list[str]) -> None:
        try:
            if program == "search":
                words = split_command(words, program)[2]
            parse_arguments(words, program)
        except UsageError:
            pass
        except OSError as error:  # src.errors.run says it in one line
            assert error.errno == errno.ENAMETOOLONG
        except SystemExit as ending:
            assert ending.code == 0 and {"-h", "--help"} & set(words)

    with open(os.devnull, "w") as nowhere, contextlib.redirect_stdout(nowhere):  # noqa: PTH123  it says what it chose
        run()


@pytest.mark.parametrize("program", PROGRAMS)
def test_a_command_line_is_understood_or_refused(program):
    _fuzz_command_lines(program, 30)


@pytest.mark.slow
@pytest.mark.parametrize("program", PROGRAMS)
def test_ten_thousand_command_lines_are_understood_or_refused(program):
    _fuzz_command_lines(program, MANY)
