"""Rank tables: their form, where addresses come from, and what is refused."""

import json
from pathlib import Path

import pytest

from src.errors import UsageError, run
from src.launch import rank_tables
from src.launch.rank_tables import (
    addresses,
    main,
    merge,
    parse_range,
    parse_visible,
    physical_cards,
    rank_table,
    read_conf,
    read_table,
    write_table,
)

CONF = "address_0=192.168.100.100\nnetmask_0=255.255.255.0\n address_3 = 192.168.100.103\n"


@pytest.mark.parametrize(
    ("text", "cards"),
    [("[0,8)", range(8)), ("[4,8)", range(4, 8)), (" [1, 3) ", range(1, 3)), ("8", range(8)), ("1", range(1))],
)
def test_ranges_of_cards(text, cards):
    assert parse_range(text) == cards


@pytest.mark.parametrize("text", ["[3,5)", "[0,6)", "[0,9)", "[4,4)", "[5,2)", "0-8", "", "[0,8]"])
def test_ranges_that_are_refused(text):
    with pytest.raises(UsageError, match="--device_num"):
        parse_range(text)


@pytest.mark.parametrize("text", ["0,0", "0,x", "", "1,,2"])
def test_visible_devices_that_are_refused(text):
    with pytest.raises(UsageError, match="--visible_devices"):
        parse_visible(text)


def test_table_of_one_server():
    table = rank_table(range(4, 6), ["192.168.0.4", "192.168.0.5"], "10.1.2.3")
    assert table == {
        "version": "1.0",
        "server_count": "1",
        "server_list": [
            {
                "server_id": "10.1.2.3",
                "device": [
                    {"device_id": "4", "device_ip": "192.168.0.4", "rank_id": "0"},
                    {"device_id": "5", "device_ip": "192.168.0.5", "rank_id": "1"},
                ],
                "host_nic_ip": "reserve",
            }
        ],
        "status": "completed",
    }


def test_what_cannot_be_written_is_said(tmp_path):
    with pytest.raises(UsageError, match=r"cannot write .*hccl\.json: No such file"):
        write_table({}, tmp_path / "absent" / "hccl.json")
    with pytest.raises(ValueError, match="shorter"):
        rank_table(range(2), ["192.168.0.4"], "10.1.2.3")


def test_logical_and_physical_cards_may_differ():
    assert physical_cards(range(1, 3), [6, 3, 0]) == [3, 0]
    with pytest.raises(UsageError, match="names only 2"):
        physical_cards(range(3), [6, 3])


def test_addresses_come_from_the_tool_then_from_the_file(tmp_path):
    conf = tmp_path / "hccn.conf"
    conf.write_text(CONF)
    assert read_conf(CONF) == {0: "192.168.100.100", 3: "192.168.100.103"}
    assert addresses([0, 3], {0: "1.1.1.1", 3: ""}.get, conf) == {0: "1.1.1.1", 3: "192.168.100.103"}
    assert addresses([3], lambda card: "", conf) == {3: "192.168.100.103"}
    with pytest.raises(UsageError, match="card 1, 2:"):
        addresses([0, 1, 2], lambda card: "", conf)
    with pytest.raises(UsageError, match="card 0:"):
        addresses([0], lambda card: "", tmp_path / "absent")


def test_merging_counts_ranks_anew():
    tables = [rank_table(range(2), ["a", "b"], f"10.0.0.{n}") for n in (2, 1)]
    merged = merge(tables)
    assert merged["server_count"] == "2"
    assert [server["server_id"] for server in merged["server_list"]] == ["10.0.0.2", "10.0.0.1"]
    assert [card["rank_id"] for server in merged["server_list"] for card in server["device"]] == ["0", "1", "2", "3"]
    assert [card["rank_id"] for card in tables[1]["server_list"][0]["device"]] == ["0", "1"]
    with pytest.raises(UsageError, match=r"10\.0\.0\.2 is in two"):
        merge([tables[0], tables[0]])


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"server_list": [{"server_id": "a", "device": [{}]}]}'])
def test_other_files_are_not_tables(tmp_path, text):
    path = tmp_path / "t.json"
    path.write_text(text)
    with pytest.raises(UsageError, match="is not a rank table"):
        read_table(path)


@pytest.fixture
def command(tmp_path, monkeypatch, capsys):
    """Runs the command beside a driver's tool that does ``tool``; returns its status, output and error."""
    (tmp_path / "tools").mkdir()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", f"{tmp_path / 'tools'}:/usr/bin:/bin")

    def call(*arguments: str, tool: str = "") -> tuple[int, str, str]:
        if tool:
            Path("tools/hccn_tool").write_text(f"#!/bin/sh\n{tool}\n")
            Path("tools/hccn_tool").chmod(0o755)
        status = 0
        try:
            run(main, list(arguments))
        except SystemExit as end:
            status = end.code
        return status, *capsys.readouterr()

    return call


def test_command_writes_and_merges(command):
    for server in ("10.0.0.1", "10.0.0.2"):
        made = command("--server_ip", server, "--device_num", "[0,8)", tool='echo "ipaddr:192.168.1.$2"')
        assert (made[0], made[2]) == (0, "")
    names = [f"hccl_8p_01234567_10.0.0.{n}.json" for n in (1, 2)]
    table = json.loads(Path(names[0]).read_text())
    assert [card["device_ip"] for card in table["server_list"][0]["device"]] == [f"192.168.1.{n}" for n in range(8)]
    assert Path(names[0]).read_text().startswith('{\n    "version"')
    status, printed, _ = command("merge", *names)
    assert status == 0 and "hccl_2s_16p.json" in printed
    assert len(json.loads(Path("hccl_2s_16p.json").read_text())["server_list"]) == 2


def test_command_asks_the_physical_cards(command):
    words = ("--server_ip", "s", "--device_num", "2", "--visible_devices", "6,3")
    assert command(*words, tool='echo "ipaddr:192.168.1.$2"')[0] == 0
    table = json.loads(Path("hccl_2p_01_s.json").read_text())
    cards = [(card["device_id"], card["device_ip"]) for card in table["server_list"][0]["device"]]
    assert cards == [("0", "192.168.1.6"), ("1", "192.168.1.3")]


@pytest.mark.parametrize("tool", ["", "echo ipaddr:1.2.3.4; exit 1"], ids=["absent", "failing"])
def test_command_without_a_driver_says_what_to_do(command, monkeypatch, tool):
    monkeypatch.setattr(rank_tables, "HCCN_TOOL", "/nowhere/hccn_tool")
    status, _, error = command("--server_ip", "10.0.0.1", tool=tool)
    assert status == 2
    assert error.startswith("error: no network address of card 0, 1") and "msrun" in error
    assert not list(Path().glob("*.json"))
