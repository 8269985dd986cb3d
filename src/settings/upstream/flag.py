"""A flag of an original repository, and the few kinds there are."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from src.errors import UsageError

Keys = dict[str, Any]
# Texts of all upstream flags on the command line, by name.
Given = Mapping[str, str]


class Flag(NamedTuple):
    """A flag of an original repository.

    Attributes:
        meaning: gives the schema keys the flag sets, from its text (from a bool for a switch) and from the other
            flags given.
        is_switch: can stand without a value, which then is True.
        note: printed when the flag is used.
        spells: the key it is another name for: given under two names with two values, it is refused.
        expects: a key that must have the flag's value in the end, for there is no key of the flag's own.
    """

    meaning: Callable[[Any, Given], Keys]
    is_switch: bool = False
    note: str = ""
    spells: str = ""
    expects: str = ""


Table = dict[str, Flag]


def sets(key: str, note: str = "") -> Flag:
    return Flag(lambda text, _: {key: text}, note=note, spells=key)


def path(key: str) -> Flag:
    """An empty path meant "not given"; ``~`` is the user's folder, also behind an equals sign."""

    def meaning(text: str, _: Given) -> Keys:
        return {key: str(Path(text).expanduser()) if text[0] == "~" else text} if text else {}

    return Flag(meaning, spells=key)


def word(key: str, words: Mapping[str, str], note: str = "") -> Flag:
    """Other words for the values of ``key``; a word that is not listed stays as it is."""
    return Flag(lambda text, _: {key: words.get(text, text)}, note=note, spells=key)


def option(name: str) -> Flag:
    """An option of the network."""
    return Flag(lambda text, _: {"model_options": {name: text}})


def switch(on: Keys, off: Keys | None = None, note: str = "") -> Flag:
    return Flag(lambda is_on, _: dict(on if is_on else off or {}), is_switch=True, note=note)


def option_switch(name: str) -> Flag:
    """An option of the network that is true or false."""
    return Flag(lambda is_on, _: {"model_options": {name: is_on}}, is_switch=True)


def refused_when_on(reason: str) -> Flag:
    def meaning(is_on: bool, _: Given) -> Keys:
        if is_on:
            raise UsageError(reason)
        return {}

    return Flag(meaning, is_switch=True)


def refused(reason: str, unless: tuple[str, ...] = ("",)) -> Flag:
    """A flag that can have no value here but those of ``unless``, which change nothing."""

    def meaning(text: str, _: Given) -> Keys:
        if text not in unless:
            raise UsageError(reason)
        return {}

    return Flag(meaning)


def no_effect(why: str, is_switch: bool = False) -> Flag:
    return Flag(lambda *_: {}, is_switch, f"has no effect: {why}")


def devices() -> str:
    """How many the launcher has started on."""
    return os.environ.get("OMPI_COMM_WORLD_SIZE") or os.environ.get("RANK_SIZE", "1")


def require_devices(flag: str, count: int) -> None:
    """Raises UsageError if a launcher has started another number of processes than ``flag`` names cards."""
    if devices() not in ("1", str(count)):
        raise UsageError(f"{flag} names {count} cards, but {devices()} processes were started; make both alike")


LAUNCHER = "the launcher's environment says which process this is"
CHECKPOINT_KNOWS = "a checkpoint knows its own epoch"
EVALUATED_BY = "eval.py reads it; training starts from --pretrained or goes on from --resume"
