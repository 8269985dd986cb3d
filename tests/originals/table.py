"""The table of what the documents of the five originals promise, one YAML file a document.

A document's items stand in groups (files, commands, keys, settings, outputs, features), each under the words by which
the document has it; commands and keys stand as they are typed. What an item holds says how it is checked:

    here: PATH          the file that does its work; ``has``: names or texts in it
    starts: PROGRAM     the line asks for this program, by ``recipe``, on ``ranks`` devices, with ``keys``; ``add``:
                        what a line that names no network is told to add
    sets: {key: value}  the flag sets these keys and no others; ``{}``: it says why it changes nothing
    tested: FILE::TEST  a test elsewhere holds it; ``by``: a text that stands in that test
    figure: [TEXT]      texts that stand in the file ``on``
    refuses: [TEXT]     the line or flag ends with these words, exit status 2
    draws: [scales]     channel scales of an SPOS supernet in these ``epochs``, the first one being 1

``note`` is what a reader is told besides; ``reason`` is why something is refused by design.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from src.settings.yaml_text import read_yaml

ROOT = Path(__file__).resolve().parents[2]
HERE = Path(__file__).resolve().parent
DOCUMENTS = ("spnasnet", "proxylessnas_mobile", "shufflenetv1", "spos", "mnasnet")
GROUPS = ("files", "commands", "keys", "settings", "outputs", "features")
# What each kind of check may be given besides.
KINDS = {
    "here": {"has"},
    "starts": {"recipe", "ranks", "keys", "add", "target", "launcher"},
    "sets": {"program", "typed", "ranks", "says"},
    "tested": {"by"},
    "figure": {"on"},
    "refuses": {"program", "typed"},
    "draws": {"epochs"},
}
FOR_READERS = {"note", "reason", "needs"}


@dataclass(frozen=True)
class Item:
    """One promise of a document.

    Attributes:
        document, group, words: where it stands and how the document has it.
        network: the document's.
        kind: one of :data:`KINDS`.
        details: all that its entry holds.
    """

    document: str
    group: str
    words: str
    network: str
    kind: str
    details: dict[str, Any]

    @property
    def expected(self) -> Any:
        return self.details[self.kind]

    @property
    def state(self) -> str:
        """``yes``, ``device``: yes, up to the point where one is asked for, or ``refused`` by design."""
        if "reason" in self.details:
            return "refused"
        return "device" if self.details.get("needs") or self.target in ("Ascend", "GPU") else "yes"

    @property
    def target(self) -> str:
        return self.details.get("target", "")


@dataclass(frozen=True)
class Document:
    """One original's document: what it is called, whose it is, and its items."""

    name: str
    title: str
    source: str
    items: tuple[Item, ...]


@cache
def document(name: str) -> Document:
    """A document of the table. Raises ValueError where an entry is none of the forms above."""
    written = read_yaml(HERE / f"{name}.yaml")
    network = written["network"]
    entries = [(group, words, entry) for group in GROUPS for words, entry in written.get(group, {}).items()]
    items = [_item(name, group, words, network, entry) for group, words, entry in entries]
    if unknown := written.keys() - {"title", "source", "network", *GROUPS}:
        raise ValueError(f"{name}: {sorted(unknown)}")
    return Document(name, written["title"], written["source"], tuple(items))


def _item(name: str, group: str, words: str, network: str, entry: dict[str, Any]) -> Item:
    kinds = [kind for kind in KINDS if kind in entry]
    if len(kinds) != 1 or entry.keys() - KINDS[kinds[0]] - FOR_READERS - {kinds[0]}:
        raise ValueError(f"{name}: {words!r} holds {sorted(entry)}")
    return Item(name, group, str(words), network, kinds[0], entry)


def all_items() -> list[Item]:
    return [item for name in DOCUMENTS for item in document(name).items]
