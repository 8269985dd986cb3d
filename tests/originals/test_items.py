"""Each item of the five originals' documents works as it is typed, or is refused in one line that says what to type."""

from __future__ import annotations

import ast
import re
import shlex
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from src.errors import UsageError
from src.launch import calls, jobs, scripts
from src.settings.command_line import parse_arguments, split_command
from src.settings.config import DEFAULTS, Config, choices_of, coerce
from src.settings.published import Cards
from src.settings.recipes import named_network
from src.settings.yaml_text import to_yaml
from src.space.sampler import ChannelSchedule
from src.space.spaces import LAYOUTS
from tests.originals.page import PAGE, page
from tests.originals.table import ROOT, Item, all_items
from tests.originals.typed import as_typed

ITEMS = all_items()
# Folders and files of the documents' authors, which scripts look for before they start anything.
AUTHORS = {
    "~/hccl_8p.json": "table.json",
    "/home/hccl_8p_01234567.json": "table.json",
    "/dataset": "data",
    "/home/DataSet/ImageNet_Original/train": "data/train",
    "/home/DataSet/ImageNet_Original/validation_preprocess": "data",
    "/home/model/shufflenetv1/ckpt/shufflenetv1-250_1251": "shufflenetv1-250_1251",
    "./train_parallel3/ckpt_3/proxylessnas-mobile-rank3-328_1223.ckpt": "net.ckpt",
}
RANKS = ("RANK_SIZE", "OMPI_COMM_WORLD_SIZE", "RANK_TABLE_FILE", "CUDA_VISIBLE_DEVICES", "NETWORK")


@pytest.fixture(autouse=True)
def place(tmp_path, monkeypatch) -> Path:
    """A working folder in which the scripts find all that they are told, and neither cards nor ranks are known."""
    for name in ("data/train", "home/imagenet", "dev", "ckpt_0", "runs/spos_supernet-1/checkpoints"):
        (tmp_path / name).mkdir(parents=True)
    for name in ("mnasnet_ascend_1p-1", "mnasnet_ascend_8p-1"):
        (tmp_path / "runs" / name / "checkpoints").mkdir(parents=True)
        (tmp_path / "runs" / name / "checkpoints" / "a.ckpt").touch()
    for name in ("net.ckpt", "shufflenetv1-250_1251.ckpt", "runs/spos_supernet-1/checkpoints/a.ckpt"):
        (tmp_path / name).touch()
    devices = ", ".join(f'{{"device_id": "{device}", "rank_id": "{device}"}}' for device in range(8))
    (tmp_path / "table.json").write_text(f'{{"server_list": [{{"device": [{devices}]}}]}}')
    (tmp_path / "scripts").symlink_to(ROOT / "scripts")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("PATH", str(tmp_path))
    for name in RANKS:
        monkeypatch.delenv(name, raising=False)
    for module in (calls, jobs):
        monkeypatch.setattr(module, "ROOT", tmp_path)
    return tmp_path


class Start(NamedTuple):
    """What a line asks for: a program, its configuration, on how many devices and by what."""

    program: str
    config: Config
    ranks: int
    launcher: str


def words_of(line: str, item: Item) -> list[str]:
    """The words of a documented line, from the program on, with a reader's own in place of the document's."""
    words = shlex.split(as_typed(line, item.target))
    return words[words.index("python") :] if "python" in words else words


def started(line: str, item: Item, folder: str = "") -> Start:
    """What ``line`` asks for, typed in the folder of scripts ``folder`` if it names a script without one."""
    words = words_of(line, item)
    if words[0] == "python":
        program = words[1].removesuffix(".py")
        ranks = item.details.get("ranks", 1)
        return Start(program, config_of(program, words[2:], ranks), ranks, "")
    name = words[1].removeprefix("./").removeprefix("scripts/")
    path = f"scripts/{folder}/{name}" if folder else name if name.startswith("test/") else f"scripts/{name}"
    arguments = [AUTHORS.get(word, word) for word in words[2:]]
    call = scripts.read(scripts.SCRIPTS[path], path, arguments, {"LAUNCH_DEVICE_FOLDER": "dev"})
    options = call.script.start(call)
    program = Path(options.command[0]).stem
    return Start(program, config_of(program, options.command[1:]), options.ranks, options.launcher)


def config_of(program: str, words: list[str], ranks: int = 1) -> Config:
    """The configuration of a program's words; export.py's own are left out."""
    if program == "search":
        words = split_command(words, "search")[2]
    if program == "export":
        own = ("--file_format", "--file_name", "--batch_size")
        words = [word for before, word in zip(["", *words], words, strict=False) if not {before, word} & {*own}]
    cards_of = (lambda target: Cards("CPU" if target == "auto" else target, ranks)) if program == "train" else None
    return parse_arguments(words, program, cards_of)


def check_starts(item: Item, monkeypatch, capsys) -> None:
    ranks = item.details.get("ranks", 1)
    if "mpirun" in item.words:
        monkeypatch.setenv("OMPI_COMM_WORLD_SIZE", str(ranks))
    line = item.words
    if "add" in item.details:
        assert not started(line, item).config.model, "train.py asks which network"
        line = f"{re.sub(r' *>.*', '', line)} {item.details['add']}"
    is_script = words_of(line, item)[0] != "python"
    start = started(line, item, item.document if is_script else "")
    assert start.program == item.expected and start.ranks == ranks
    assert start.config.device_target == (item.target or "auto")
    assert start.launcher == item.details.get("launcher", start.launcher)
    if recipe := item.details.get("recipe"):
        assert (start.config.recipe, start.config.model) == (recipe, named_network(recipe))
    for key, value in item.details.get("keys", {}).items():
        assert start.config[key] == value, key
    if is_script:
        check_never_another_network(item, start)


def check_never_another_network(item: Item, start: Start) -> None:
    """The same words at scripts/ start the same network, or say which line to type."""
    try:
        there = started(item.words, item)
    except UsageError as refusal:
        assert "--model" in str(refusal) or f"scripts/{item.document}/" in str(refusal)
    else:
        # An evaluation without a network is one of the checkpoint's.
        known = [start.config.model, *([""] if start.program == "eval" else [])]
        assert there.program == start.program and there.config.model in known


@cache
def source_of(file: str) -> str:
    return (ROOT / file).read_text(encoding="utf-8")


def check_here(item: Item, monkeypatch, capsys) -> None:
    path = ROOT / item.expected
    assert path.is_file(), item.expected
    if names := item.details.get("has"):
        tree = ast.parse(source_of(item.expected))
        found = {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.ClassDef)}
        assert set(names) <= found


def check_tested(item: Item, monkeypatch, capsys) -> None:
    file, _, name = item.expected.partition("::")
    text = source_of(f"tests/{file}")
    tests = [node for node in ast.parse(text).body if isinstance(node, ast.FunctionDef) and node.name == name]
    assert len(tests) == 1, item.expected
    first = min([tests[0].lineno, *(mark.lineno for mark in tests[0].decorator_list)])
    body = "\n".join(text.splitlines()[first - 1 : tests[0].end_lineno])
    assert item.details.get("by", "") in body


def check_figure(item: Item, monkeypatch, capsys) -> None:
    text = source_of(item.details["on"])
    assert [figure for figure in item.expected if str(figure) not in text] == []


def typed_flag(item: Item) -> list[str]:
    """The flag as it is typed: ``key: value`` of a document's file is ``--key value``."""
    if "typed" in item.details:
        return shlex.split(item.details["typed"])
    key, _, value = item.words.partition(": ")
    return [f"--{key}", value]


def other_than(key: str, value: Any) -> Any:
    """A value of ``key`` that is not ``value``, so that a flag without effect cannot pass for one."""
    if isinstance(value, bool):
        return not value
    if isinstance(value, dict | list):
        return DEFAULTS[key] if value != DEFAULTS[key] else [1]
    if words := choices_of(key):
        return next(word for word in words if word not in (value, ""))
    if isinstance(value, str):
        return "elsewhere"
    for candidate in (value * 2, value / 2, value + 1):
        try:
            found = coerce(key, type(DEFAULTS[key])(candidate), "test")
        except UsageError:
            continue
        if found != value:
            return found
    raise AssertionError(f"no other value for {key}")


def check_sets(item: Item, monkeypatch, capsys) -> None:
    if "ranks" in item.details:
        monkeypatch.setenv("RANK_SIZE", str(item.details["ranks"]))
    program = item.details.get("program", "train")
    base = {key: other_than(key, value) for key, value in item.expected.items()}
    Path("base.yaml").write_text(to_yaml({"model": item.network, **base}))
    before = parse_arguments(["--config_path", "base.yaml"], program)
    capsys.readouterr()
    after = parse_arguments(["--config_path", "base.yaml", *typed_flag(item)], program)
    changed = {key: value for key, value in after.values().items() if value != before[key]}
    assert changed == item.expected
    said = capsys.readouterr().out
    assert item.details.get("says", "") in said and (not said or "note: " in said)


def check_refuses(item: Item, monkeypatch, capsys) -> None:
    with pytest.raises(UsageError) as caught:
        if item.group == "commands":
            started(item.words, item)
        else:
            parse_arguments(typed_flag(item), item.details.get("program", "train"))
    assert all(words in str(caught.value) for words in item.expected)


def check_draws(item: Item, monkeypatch, capsys) -> None:
    space = LAYOUTS["OneShot"]
    schedule = ChannelSchedule(space, start_epoch=60)
    first, last = item.details["epochs"]
    for epoch in range(first - 1, last):
        low, high = schedule.channel_range(epoch)
        assert list(space.channel_scales[low : high + 1]) == item.expected


CHECKS = {name.removeprefix("check_"): check for name, check in globals().items() if name.startswith("check_")}


@pytest.mark.parametrize("item", ITEMS, ids=[f"{item.document}: {item.words}" for item in ITEMS])
def test_an_item_of_a_document_is_as_the_table_says(item, monkeypatch, capsys):
    CHECKS[item.kind](item, monkeypatch, capsys)


def test_the_page_is_made_of_the_table():
    assert PAGE.read_text(encoding="utf-8") == page(), "run `python -m tests.originals.page`"
