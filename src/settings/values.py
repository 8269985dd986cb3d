"""How a value is read, wherever it comes from: a recipe, a command line, an original's flag.

One reading for all, so that a word means the same everywhere: ``off`` is false, ``1e-5`` a number, and what could be
taken for its opposite is refused.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import BeforeValidator

from src.settings.yaml_text import flow

BOOLEANS = {"true": True, "yes": True, "on": True, "1": True, "false": False, "no": False, "off": False, "0": False}
# What a reader could take for a boolean, though it is none here.
NEARLY_BOOLEAN = {"y", "n", "t", "f", "none", "null", "~", "enable", "disable", "enabled", "disabled"}
BOOLEAN_WORDS = "true or false (yes, no, on, off, 1, 0 too)"


def as_boolean(value: Any) -> bool:
    """A boolean, or a word for one in any case. Raises ValueError for anything else."""
    if isinstance(value, bool):
        return value
    word = str(value).strip().lower()
    if isinstance(value, (str, int)) and word in BOOLEANS:
        return BOOLEANS[word]
    raise ValueError(f"must be {BOOLEAN_WORDS}, not {value!r}")


def as_whole_number(value: Any) -> int:
    """An integer, a float without a fraction, or text in decimal digits. Raises ValueError for anything else."""
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, str) and re.fullmatch(r"[+-]?[0-9]{1,18}", value.strip()):
        return int(value)
    raise ValueError(f"must be a whole number, not {value!r}")


def as_number(value: Any) -> float:
    """A finite number or text for one. Raises ValueError for anything else."""
    if isinstance(value, (int, float, str)) and not isinstance(value, bool):
        try:
            number = float(value)
        except (ValueError, OverflowError):
            number = float("nan")
        if abs(number) < float("inf"):
            return number
    raise ValueError(f"must be a number, not {value!r}")


def as_text(value: Any) -> str:
    """Text, or a scalar as text; nothing is the empty text. Raises ValueError for a list or a mapping."""
    if isinstance(value, (dict, list, tuple)):
        raise ValueError(f"must be text, not {value!r}")
    return "" if value is None else str(value)


def as_list(value: Any) -> list:
    """A list, or text with commas between its items, in brackets or not. Raises ValueError for anything else."""
    if isinstance(value, str):
        value = flow(value if value.lstrip().startswith("[") else f"[{value}]")
    if not isinstance(value, (list, tuple)):
        raise ValueError(f"must be a list such as [1, 2], not {value!r}")
    return list(value)


def as_mapping(value: Any) -> dict:
    """A copy of a mapping, or of text for one. Raises ValueError for anything else."""
    if isinstance(value, str):
        value = flow(value)
    if not isinstance(value, Mapping):
        raise ValueError(f"must be a mapping such as {{alpha: 0.5}}, not {value!r}")
    return copy.deepcopy(dict(value))


Switch = Annotated[bool, BeforeValidator(as_boolean)]
Whole = Annotated[int, BeforeValidator(as_whole_number)]
Number = Annotated[float, BeforeValidator(as_number)]
Text = Annotated[str, BeforeValidator(as_text)]
Numbers = Annotated[list[Number], BeforeValidator(as_list)]
WholeNumbers = Annotated[list[Whole], BeforeValidator(as_list)]
Words = Annotated[list[Text], BeforeValidator(as_list)]
Options = Annotated[dict[str, Any], BeforeValidator(as_mapping)]
