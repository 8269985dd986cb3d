"""What is said on the console is what stands in the log."""

import io
import json
import logging
import sys

from src.runs.log import Log


def test_lines_on_the_console_and_in_the_file_are_the_same(tmp_path, capsys):
    with Log(tmp_path) as log:
        log.line("one: ä")
        log.line()
        log.line("two\nthree")
    with Log(tmp_path) as log:
        log.line("after a restart")
    printed = capsys.readouterr()
    assert printed.out == "one: ä\n\ntwo\nthree\nafter a restart\n"
    assert printed.err == ""
    assert (tmp_path / "log.txt").read_text(encoding="utf-8") == printed.out


def test_records_are_json_one_a_line(tmp_path):
    with Log(tmp_path) as log:
        log.record("epoch", top1=0.5, name="line\nbreak")
        log.record("result", values=[1, None])
    records = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert [record.pop("event") for record in records] == ["epoch", "result"]
    assert all(record.pop("time") > 1.7e9 for record in records)
    assert records == [{"top1": 0.5, "name": "line\nbreak"}, {"values": [1, None]}]


def test_an_exception_is_recorded_and_passed_on(tmp_path):
    try:
        with Log(tmp_path):
            raise ValueError("why")
    except ValueError:
        pass
    record = json.loads((tmp_path / "log.jsonl").read_text())
    assert (record["event"], record["reason"], record["message"]) == ("stopped", "ValueError", "why")


def test_quiet_ranks_say_nothing_and_write_nothing(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with Log(None, is_quiet=True) as log:
        log.line("text")
        log.record("event")
        logging.getLogger("src.x").warning("note")
    assert capsys.readouterr() == ("", "")
    assert not list(tmp_path.iterdir())


def test_notes_of_the_modules_are_passed_on_while_the_log_is_open(tmp_path, capsys):
    logger = logging.getLogger("src.data.dataset")
    with Log(tmp_path):
        logger.warning("workers: %d", 2)
    with Log():
        pass
    handlers = logging.getLogger("src").handlers
    assert capsys.readouterr().out == "note: workers: 2\n"
    assert not [handler for handler in handlers if type(handler).__name__ == "_Notes"]


def test_a_bar_is_drawn_on_a_terminal_only(tmp_path, monkeypatch, capsys):
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    with Log(tmp_path) as log, log.progress(4, 1, "epoch 1/2") as bar:
        bar.update()
        log.line("a line")
    assert capsys.readouterr() == ("a line\n", "")
    monkeypatch.setattr(sys, "stderr", terminal := Terminal())
    with Log(tmp_path) as log, log.progress(4, 1, "epoch 1/2") as bar:
        bar.update(3)
        bar.refresh()
        log.line("a line")
    assert "epoch 1/2: 100%" in terminal.getvalue()
    assert "4/4" in terminal.getvalue()
    assert (tmp_path / "log.txt").read_text() == "a line\na line\n"


def test_a_full_disk_does_not_end_the_run_in_its_log(tmp_path, monkeypatch, capsys):
    class Full(io.StringIO):
        def write(self, text: str) -> int:
            raise OSError(28, "No space left on device")

    log = Log(tmp_path)
    monkeypatch.setattr(log, "_text", Full())
    monkeypatch.setattr(log, "_records", Full())
    log.line("still said")
    log.record("event")
    log.close()
    assert capsys.readouterr().out == "still said\n"
