"""Text, JSON and tables reach the disk whole, or not at all."""

import hashlib
import json
import os
from collections.abc import Iterator

import numpy as np
import pytest

from src import files
from src.files import (
    csv_text,
    fresh_folder,
    read_sealed,
    replacing,
    sha256,
    write_csv,
    write_json,
    write_sealed,
    write_text,
)
from tests.durability import Flush, assert_survives, names_given, recorded


def test_text_json_and_tables_replace_what_was_there(tmp_path):
    for text in ("one", "zwölf"):
        write_text(tmp_path / "a.txt", text)
    write_json(tmp_path / "a.json", {"ä": [0.1 + 0.2, None]})
    write_csv(tmp_path / "a.csv", ("name", "value"), [{"value": 0.1 + 0.2, "name": 'a, "b"', "other": 1}])
    assert (tmp_path / "a.txt").read_bytes() == "zwölf".encode()
    assert (tmp_path / "a.json").read_bytes() == '{\n "ä": [\n  0.30000000000000004,\n  null\n ]\n}\n'.encode()
    assert (tmp_path / "a.csv").read_bytes() == b'name,value\n"a, ""b""",0.30000000000000004\n'
    assert csv_text(("a", "b"), [(None, 2)]) == "a,b\n,2\n"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.csv", "a.json", "a.txt"]
    with pytest.raises(KeyError):
        write_csv(tmp_path / "a.csv", ("name", "missing"), [{"name": 1}])


def flips(content: bytes, rng: np.random.Generator, count: int) -> Iterator[bytes]:
    """``content`` with one bit turned, in ``count`` places."""
    for place in rng.choice(8 * len(content), count, replace=False):
        damaged = bytearray(content)
        damaged[place // 8] ^= 1 << place % 8
        yield bytes(damaged)


def test_a_sealed_file_gives_what_was_written_or_is_refused(tmp_path):
    path, content = tmp_path / "a.json", {"a": [0.1, 1e-9, "ä"], "b": {"c": None}, "d": "seal"}
    write_sealed(path, content)
    assert read_sealed(path) == content
    assert json.loads(path.read_text(encoding="utf-8"))["a"] == content["a"]  # JSON for any other program
    whole = path.read_bytes()
    damaged = [*flips(whole, np.random.default_rng(0), 200), *(whole[:length] for length in range(len(whole) - 2))]
    refused = 0
    for text in damaged:
        path.write_bytes(text)
        try:
            read = read_sealed(path)
            read.pop("seal", None), read.pop("real", None)
        except ValueError:
            refused += 1
        else:  # a bit of the blanks around the seal, or of its name
            assert {name: read[name] for name in content} == content
    assert refused > 0.95 * len(damaged)
    write_json(path, content)
    assert read_sealed(path) == content


@pytest.mark.parametrize("mask", [0o022, 0o027])
def test_a_file_is_flushed_and_has_the_permissions_of_any_new_file(tmp_path, mask):
    before = os.umask(mask)
    try:
        with recorded() as events:
            write_text(tmp_path / "a.txt", "one")
        assert os.umask(mask) == mask
    finally:
        os.umask(before)
    assert_survives(tmp_path / "a.txt", events)
    assert (tmp_path / "a.txt").stat().st_mode & 0o7777 == 0o666 & ~mask


def test_starts_of_one_second_get_a_folder_each(tmp_path, monkeypatch):
    monkeypatch.setattr(files.time, "strftime", lambda form: f"{form}: noon".replace("%", ""))
    found = [fresh_folder(tmp_path / "runs", "net") for _ in range(3)]
    assert [folder.name for folder in found] == [f"net-Ymd-HMS: noon{number}" for number in ("", "-1", "-2")]
    assert all(folder.parent == tmp_path / "runs" and folder.is_dir() for folder in found)


def test_the_checksum_is_that_of_the_whole_content(tmp_path):
    content = np.random.default_rng(1).bytes((1 << 21) + 3)
    (tmp_path / "file").write_bytes(content)
    assert sha256(tmp_path / "file") == hashlib.sha256(content).hexdigest()


@pytest.mark.parametrize("is_flushed", [True, False])
def test_a_write_that_fails_leaves_the_old_file_and_nothing_else(tmp_path, is_flushed):
    (tmp_path / "a.txt").write_text("old")
    with pytest.raises(OSError, match="full"), recorded() as events, replacing(tmp_path / "a.txt", is_flushed) as file:
        file.write_text("half")
        raise OSError("full")
    assert events == []
    assert [path.name for path in tmp_path.iterdir()] == ["a.txt"]
    assert (tmp_path / "a.txt").read_text() == "old"


def test_an_error_of_the_system_names_the_file_that_was_wanted(tmp_path):
    """A full disk names no file, and a temporary name tells a user nothing."""
    wanted = tmp_path / "a.txt"
    for error, named in [
        (OSError(28, "full"), wanted),
        (PermissionError(13, "no", str(tmp_path / ".writing-x.txt")), wanted),
        (FileNotFoundError(2, "none", "/elsewhere/b"), "/elsewhere/b"),
    ]:
        with pytest.raises(type(error)) as raised, replacing(wanted):
            raise error
        assert (raised.value.errno, raised.value.filename) == (error.errno, str(named))
    with pytest.raises(OSError) as raised:
        write_text(tmp_path / "missing" / "a.txt", "text")
    assert raised.value.filename == str(tmp_path / "missing" / "a.txt")


def test_what_can_be_made_again_waits_for_no_disk(tmp_path):
    with recorded() as events, replacing(tmp_path / "a.txt", is_flushed=False) as file:
        file.write_text("new")
    assert [event for event in events if isinstance(event, Flush)] == []
    assert names_given(events) == ["a.txt"]
