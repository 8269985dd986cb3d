"""What is said on the console is what stands in the log."""

import io
import json
import logging
import sys

import pytest

from src.runs.log import logged, progress, record

log = logging.getLogger("src.somewhere")


def test_lines_on_the_console_and_in_the_file_are_the_same(tmp_path, capsys):
    with logged(tmp_path):
        log.info("one: ä")
        log.info("")
        log.info("two\nthree 100%")
        log.warning("workers: %d", 2)
    with logged(tmp_path):
        log.info("after a restart")
    log.info("nobody listens")
    printed = capsys.readouterr()
    assert printed.out == "one: ä\n\ntwo\nthree 100%\nnote: workers: 2\nafter a restart\n"
    assert printed.err == ""
    assert (tmp_path / "log.txt").read_text(encoding="utf-8") == printed.out


def test_details_are_for_the_file_alone(tmp_path, capsys):
    with logged(tmp_path):
        log.debug("every key")
    assert capsys.readouterr().out == ""
    assert (tmp_path / "log.txt").read_text() == "every key\n"


def test_records_are_json_one_a_line_and_nothing_else_is(tmp_path, capsys):
    with logged(tmp_path):
        record("epoch", top1=0.5, name="line\nbreak")
        log.info("a line")
        record("result", values=[1, None])
    records = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert [record.pop("event") for record in records] == ["epoch", "result"]
    assert all(record.pop("time") > 1.7e9 for record in records)
    assert records == [{"top1": 0.5, "name": "line\nbreak"}, {"values": [1, None]}]
    assert capsys.readouterr().out == "a line\n"


def test_an_exception_is_recorded_and_passed_on(tmp_path):
    with pytest.raises(ValueError, match="why"), logged(tmp_path):
        raise ValueError("why")
    stopped = json.loads((tmp_path / "log.jsonl").read_text())
    assert (stopped["event"], stopped["reason"], stopped["message"]) == ("stopped", "ValueError", "why")


def test_quiet_ranks_say_nothing_and_write_nothing(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with logged(None, is_quiet=True):
        log.info("text")
        log.warning("note")
        record("event")
    assert capsys.readouterr() == ("", "")
    assert not list(tmp_path.iterdir())


def test_nothing_is_left_behind(tmp_path, monkeypatch):
    loggers = [logging.getLogger(name) for name in ("src", "src.records")]
    for logger in loggers:
        monkeypatch.setattr(logger, "level", logging.ERROR)
    before = [(logger.level, list(logger.handlers)) for logger in loggers]
    with logged(tmp_path):
        assert [(logger.level, list(logger.handlers)) for logger in loggers] != before
    assert [(logger.level, list(logger.handlers)) for logger in loggers] == before


def test_a_bar_is_drawn_on_a_terminal_only(tmp_path, monkeypatch, capsys):
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    def talk(is_quiet: bool = False) -> None:
        with logged(tmp_path, is_quiet), progress(4, 1, "epoch 1/2") as bar:
            bar.update(3)
            bar.refresh()
            log.info("a line")

    talk()
    assert capsys.readouterr() == ("a line\n", "")
    monkeypatch.setattr(sys, "stderr", terminal := Terminal())
    talk(is_quiet=True)
    assert terminal.getvalue() == ""
    talk()
    assert "epoch 1/2: 100%" in terminal.getvalue()
    assert "4/4" in terminal.getvalue()
    assert (tmp_path / "log.txt").read_text() == "a line\n" * 3


def test_a_full_disk_does_not_end_the_run_in_its_log(tmp_path, monkeypatch, capsys):
    class Full(io.StringIO):
        def write(self, text: str) -> int:
            raise OSError(28, "No space left on device")

    with logged(tmp_path):
        for name in ("src", "src.records"):
            for handler in logging.getLogger(name).handlers:
                if isinstance(handler, logging.FileHandler):
                    monkeypatch.setattr(handler, "stream", Full())
        log.info("still said")
        record("event")
    assert capsys.readouterr() == ("still said\n", "")
    assert (tmp_path / "log.txt").read_text() == ""


def test_what_cannot_be_recorded_is_a_fault_of_the_program(tmp_path):
    with pytest.raises(TypeError, match="not JSON serializable"), logged(tmp_path):
        record("event", value=object())
