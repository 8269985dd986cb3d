"""Rank tables for Ascend.

    python -m src.launch.rank_tables [--device_num "[0,8)"]    writes one
    python -m src.launch.rank_tables merge A B                 joins those of several servers

A rank table tells the devices' collectives (HCCL) which cards take part, on which servers, under which
rank. It is not needed where msrun starts the ranks.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import re
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from src.errors import UsageError, run
from src.files import read_json, write_text

CARDS = 8
CARD_KEYS = ("device_id", "device_ip", "rank_id")
HALF = 4  # cards 0 to 3 and 4 to 7 are two rings; a job on part of the cards must stay inside one
HCCN_TOOL = "/usr/local/Ascend/driver/tools/hccn_tool"
HCCN_CONF = Path("/etc/hccn.conf")


def parse_range(text: str) -> range:
    """Cards from ``[a,b)``, or from a number n, which means [0,n).

    Raises:
        UsageError: not such a text, outside the 8 cards, or across the middle without taking all.
    """
    match = re.fullmatch(r"\s*\[\s*(\d+)\s*,\s*(\d+)\s*\)\s*|\s*(\d+)\s*", text)
    if not match:
        raise UsageError(f'--device_num must look like "[0,8)" or 8, not {text!r}')
    first, last = (0, int(match[3])) if match[3] else (int(match[1]), int(match[2]))
    if not 0 <= first < last <= CARDS:
        raise UsageError(f"--device_num {text}: at least one card, between 0 and {CARDS}")
    if first < HALF < last and (first, last) != (0, CARDS):
        raise UsageError(f"--device_num {text}: part of the cards must lie in [0,4) or in [4,8), or take [0,8)")
    return range(first, last)


def parse_visible(text: str) -> list[int]:
    """Physical cards by logical number, from ``0,1,2``."""
    cards = text.split(",")
    if not all(card.strip().isdecimal() for card in cards) or len({int(card) for card in cards}) != len(cards):
        raise UsageError(f"--visible_devices must be different numbers such as 0,1,2,3, not {text!r}")
    return [int(card) for card in cards]


def ask_card(card: int) -> str:
    """The network address of physical card ``card`` from the driver's tool, or an empty text."""
    tool = shutil.which("hccn_tool") or HCCN_TOOL
    try:
        answer = subprocess.run([tool, "-i", str(card), "-ip", "-g"], capture_output=True, text=True, timeout=30)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return answer.stdout.partition(":")[2].partition("\n")[0].strip() if answer.returncode == 0 else ""


def read_conf(text: str) -> dict[int, str]:
    """{physical card: address} from the ``address_N=IP`` lines of /etc/hccn.conf."""
    found = re.findall(r"^\s*address_(\d+)\s*=\s*(\S+)\s*$", text, flags=re.MULTILINE)
    return {int(card): address for card, address in found}


def addresses(cards: Sequence[int], ask: Callable[[int], str] = ask_card, conf: Path = HCCN_CONF) -> dict[int, str]:
    """{physical card: address} from the driver's tool, and from /etc/hccn.conf what the tool does not know.

    Raises:
        UsageError: naming the cards whose address neither knows.
    """
    found = {card: address for card in cards if (address := ask(card))}
    if len(found) < len(cards):
        with contextlib.suppress(OSError):
            found = {**read_conf(conf.read_text(encoding="utf-8", errors="replace")), **found}
    unknown = [str(card) for card in cards if card not in found]
    if unknown:
        raise UsageError(
            f"no network address of card {', '.join(unknown)}: hccn_tool gives none and {conf} has no address_N line; "
            "set one with hccn_tool -i N -ip -s, or train without a rank table (msrun)"
        )
    return {card: found[card] for card in cards}


def host_address() -> str:
    """This machine's address as its name resolves."""
    try:
        return socket.gethostbyname(socket.gethostname())
    except OSError as error:
        raise UsageError("this machine's name has no address; give --server_ip") from error


def physical_cards(devices: range, visible: Sequence[int]) -> list[int]:
    """The physical card behind each logical one of ``devices``. Raises UsageError if there is none."""
    if devices.stop > len(visible):
        raise UsageError(f"card {devices.stop - 1} is asked for, but --visible_devices names only {len(visible)}")
    return [visible[device] for device in devices]


def rank_table(devices: Sequence[int], device_ips: Sequence[str], server: str) -> dict[str, Any]:
    """The table of one server: its logical cards and their network addresses, in the order of the ranks."""
    cards = [
        {"device_id": str(device), "device_ip": address, "rank_id": str(rank)}
        for rank, (device, address) in enumerate(zip(devices, device_ips, strict=True))
    ]
    server_entry = {"server_id": server, "device": cards, "host_nic_ip": "reserve"}
    return {"version": "1.0", "server_count": "1", "server_list": [server_entry], "status": "completed"}


def merge(tables: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """One table of all servers of ``tables``, ranks counted anew in their order.

    Raises:
        UsageError: a server appears twice.
    """
    servers = [server for table in tables for server in table["server_list"]]
    names = [server["server_id"] for server in servers]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise UsageError(f"server {twice[0]} is in two of the tables")
    merged, rank = [], 0
    for server in servers:
        cards = [{**card, "rank_id": str(rank + index)} for index, card in enumerate(server["device"])]
        merged.append({**server, "device": cards})
        rank += len(cards)
    return {"version": "1.0", "server_count": str(len(merged)), "server_list": merged, "status": "completed"}


def read_table(path: Path) -> dict[str, Any]:
    """A rank table from a file. Raises UsageError if it is none."""
    try:
        table = read_json(path)
        for server in table["server_list"]:
            cards = list(server["device"])
            texts = [server["server_id"], *(card[key] for card in cards for key in CARD_KEYS)]
            if not all(isinstance(text, str) and text for text in texts):
                raise KeyError("server_id, device_id, device_ip or rank_id")
            if any(len({card[key] for card in cards}) < len(cards) for key in CARD_KEYS):
                raise ValueError("two cards of a server have one device_id, device_ip or rank_id")
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror}") from error
    except (ValueError, KeyError, TypeError) as error:
        raise UsageError(f"{path} is not a rank table: {error}") from error
    return table


def write_table(table: dict[str, Any], path: Path) -> None:
    """Writes ``table`` so that ``path`` is whole or absent."""
    try:
        write_text(path, json.dumps(table, indent=4) + "\n")
    except OSError as error:
        raise UsageError(f"cannot write {path}: {error.strerror}") from error
    print(f"rank table written to {path.resolve()}")


def main(argv: list[str]) -> None:
    if argv[:1] == ["merge"]:
        parser = argparse.ArgumentParser(
            "python -m src.launch.rank_tables merge", description="Joins the rank tables of servers."
        )
        parser.add_argument("tables", nargs="+", type=Path, metavar="FILE", help="in the order of the ranks")
        table = merge([read_table(path) for path in parser.parse_args(argv[1:]).tables])
        ranks = sum(len(server["device"]) for server in table["server_list"])
        write_table(table, Path(f"hccl_{table['server_count']}s_{ranks}p.json"))
        return
    parser = argparse.ArgumentParser("python -m src.launch.rank_tables", description=__doc__.splitlines()[0])
    parser.add_argument("--device_num", default="[0,8)", help='cards, as "[first,last)" or their number')
    parser.add_argument("--visible_devices", default="0,1,2,3,4,5,6,7", help="physical card of each logical one")
    parser.add_argument("--server_ip", default="", help="address of this machine (default: its name's)")
    given = parser.parse_args(argv)
    devices = parse_range(given.device_num)
    known = addresses(physical_cards(devices, parse_visible(given.visible_devices)))
    server = given.server_ip or host_address()
    table = rank_table(devices, list(known.values()), server)
    digits = "".join(str(device) for device in devices)
    write_table(table, Path(f"hccl_{len(devices)}p_{digits}_{server}.json"))


if __name__ == "__main__":
    run(main, sys.argv[1:])
