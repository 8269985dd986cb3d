"""The journal of a search survives kills, and refuses what is not its own."""

import json
import zlib

import pytest

from src.errors import UsageError
from src.space.journal import Journal
from tests.durability import Flush, recorded

HEADER = {"seed": 1, "method": "genetic"}
RECORDS = [{"index": i, "accuracy": 0.1 + i / 3} for i in range(4)]


def write(path, records=RECORDS):
    with Journal(path, HEADER) as journal:
        for record in records:
            journal.append(record)


def test_records_come_back_exactly(tmp_path):
    write(tmp_path / "journal.jsonl")
    with Journal(tmp_path / "journal.jsonl", HEADER) as journal:
        assert journal.records == RECORDS
        journal.append({"index": 4})
        assert len(journal.records) == 5
    last = json.loads((tmp_path / "journal.jsonl").read_text().splitlines()[-1])
    assert last == {"index": 4, "crc32": zlib.crc32(b'{"index": 4')}


def test_a_path_is_in_the_journal_on_the_disk_before_the_next_is_evaluated(tmp_path):
    """Header and name first; then each record with all of its bytes, and nothing unflushed behind it."""
    path, records = tmp_path / "journal.jsonl", [{"index": index} for index in range(3)]
    bodies = [json.dumps(line)[:-1] for line in ({"search": {"seed": 1}}, *records)]
    lines = [f'{body}, "crc32": {zlib.crc32(body.encode())}}}' for body in bodies]
    for first in (0, 2):  # a new journal, then one gone on with
        with recorded() as events, Journal(path, {"seed": 1}) as journal:
            assert events == []
            for number, record in enumerate(records[first : first + 2], start=first + 1):
                events.clear()
                journal.append(record)
                content = "".join(f"{line}\n" for line in lines[: number + 1]).encode()
                made = [Flush(path, f"{lines[0]}\n".encode())] if number == 1 else []
                named = [Flush(tmp_path, None)] if number == first + 1 else []
                assert events == [*made, *named, Flush(path, content)]
            events.clear()
        assert events == []


def test_no_damage_is_taken_for_an_accuracy(tmp_path):
    """Of every bit that could turn; in the name of the first checksum it may do no harm."""
    path = tmp_path / "journal.jsonl"
    write(path, RECORDS[:2])
    whole = path.read_bytes()
    for place in range(8 * (len(whole) - 1)):
        damaged = bytearray(whole)
        damaged[place // 8] ^= 1 << place % 8
        path.write_bytes(damaged)
        try:
            read = Journal(path, HEADER).records
        except UsageError as error:
            assert "damaged in line" in str(error) or "other settings" in str(error)
        else:
            assert place // 8 in range(whole.index(b"crc32"), whole.index(b"crc32") + 5)
            assert read == RECORDS[:2]
    path.write_bytes(whole[:-1] + b"\x0b")  # a line without its end was being written
    assert Journal(path, HEADER).records == RECORDS[:1]


def test_a_journal_of_an_earlier_version_has_no_checksums(tmp_path):
    path = tmp_path / "journal.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in ({"search": HEADER}, *RECORDS)))
    assert Journal(path, HEADER).records == RECORDS


def test_a_rank_that_only_reads_keeps_in_memory_what_is_appended(tmp_path):
    path = tmp_path / "journal.jsonl"
    write(path)
    content = path.read_bytes()
    with Journal(path, HEADER, is_writing=False) as journal:
        journal.append({"index": 4})
        assert journal.records == [*RECORDS, {"index": 4}]
    assert path.read_bytes() == content


def test_a_search_that_scores_no_path_leaves_the_journal_as_it_was(tmp_path):
    """Above all none where there was none, which would refuse the next search with other settings."""
    path, called = tmp_path / "journal.jsonl", []
    with Journal(path, {"seed": 1}, before_writing=lambda: called.append(path.exists())):
        pass
    assert (called, list(tmp_path.iterdir())) == ([], [])
    with Journal(path, {"seed": 2}, before_writing=lambda: called.append(path.exists())) as journal:
        journal.append({"index": 0})
        journal.append({"index": 1})
    assert called == [False]
    path.write_bytes(path.read_bytes()[:-3])
    torn = path.read_bytes()
    with Journal(path, {"seed": 2}):
        assert path.read_bytes() == torn


def test_cut_at_every_byte_only_whole_records_remain(tmp_path):
    path = tmp_path / "journal.jsonl"
    write(path)
    content = path.read_bytes()
    ends = [index + 1 for index, byte in enumerate(content) if byte == ord("\n")]
    for cut in range(len(content) + 1):
        path.write_bytes(content[:cut])
        with Journal(path, HEADER) as journal:
            whole = max(0, sum(end <= cut for end in ends) - 1)
            assert journal.records == RECORDS[:whole]
            journal.append({"next": True})
        lines = [json.loads(line) for line in path.read_text().splitlines()]
        assert all(line.pop("crc32") for line in lines)
        assert lines == [{"search": HEADER}, *RECORDS[:whole], {"next": True}]


def test_other_settings_are_refused_by_name(tmp_path):
    write(tmp_path / "journal.jsonl")
    with pytest.raises(UsageError, match=r"other settings \(seed\)"):
        Journal(tmp_path / "journal.jsonl", {**HEADER, "seed": 2})


def test_damage_before_the_last_line_is_refused(tmp_path):
    path = tmp_path / "journal.jsonl"
    write(path)
    lines = path.read_bytes().splitlines(keepends=True)
    lines[2] = b'{"index": 1, "accu\n'
    path.write_bytes(b"".join(lines))
    with pytest.raises(UsageError, match="damaged in line 3"):
        Journal(path, HEADER)


def test_a_file_that_is_no_journal_is_refused_and_kept(tmp_path):
    path = tmp_path / "journal.jsonl"
    for content in ('{"a": 1}\n', "[1, 2]\n"):
        path.write_text(content)
        with pytest.raises(UsageError):
            Journal(path, HEADER)
        assert path.read_text() == content
