"""ImageNet's thousand classes in the order of every network trained on them: that of their WordNet ids.

``imagenet_classes.txt`` has one a line, the id (which is the name of the class's folder) and the words of the synset.
"""

from __future__ import annotations

import functools
from pathlib import Path

TABLE = Path(__file__).with_name("imagenet_classes.txt")


@functools.cache
def _classes() -> dict[str, str]:
    return dict(line.split(" ", 1) for line in TABLE.read_text(encoding="utf-8").splitlines())


def synsets() -> tuple[str, ...]:
    """WordNet ids, ``n01440764`` first."""
    return tuple(_classes())


def described(name: str) -> str:
    """A class name for people: the words behind a WordNet id, any other name as it is."""
    return _classes().get(name, name)
