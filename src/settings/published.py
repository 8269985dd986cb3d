"""Which published recipe a network trains by where none is named, and how it serves other cards than its own."""

from __future__ import annotations

import re
from collections.abc import Collection
from typing import Any, NamedTuple

from src.settings import recipes

# Whose recipes serve a platform: the first that has any of the network.
SERVED_BY = {"Ascend": ("ascend", "gpu"), "GPU": ("gpu", "ascend"), "CPU": ("gpu", "ascend", "cpu")}
SUPERNET = "spos_supernet"  # trains the space instead of one path of it
# What a user types, by our names or the originals', to choose the rate himself.
RATE_KEYS = {"lr", "lr_scaling", "lr_max"}


class Cards(NamedTuple):
    """What a run trains on: Ascend, GPU or CPU, and how many of its devices on all machines together."""

    target: str
    number: int = 1

    def __str__(self) -> str:
        return f"{self.number} {self.target}"


def recipe_for(network: str, cards: Cards) -> str:
    """The recipe that ``network`` trains by on ``cards``; ``""`` where nobody has published any.

    A recipe is published for one number of devices. Where there is none for one device it is that for the fewest,
    and the other way round; where there is none for the platform it is another's, see :data:`SERVED_BY`.
    """
    for platform in SERVED_BY[cards.target]:
        files = recipes.RECIPE_FOLDER.glob(f"{network}_{platform}*.yaml")
        named = (re.fullmatch(rf"{re.escape(network)}_{platform}(?:_(\d+)p)?", path.stem) for path in files)
        published = {int(match[1] or 1): match[0] for match in named if match}
        several = sorted(set(published) - {1})
        if published:
            return published[1 if 1 in published and (cards.number == 1 or not several) else several[0]]
    return ""


def fitted(recipe: str, cards: Cards, given: Collection[str]) -> dict[str, Any]:
    """The keys by which a recipe serves ``cards``, whatever it was published for, without those that are ``given``.

    A CPU computes in float32, where nothing vanishes that a loss scale would keep.
    """
    keys: dict[str, Any] = {"device_target": cards.target, "is_distributed": cards.number > 1}
    if cards.target == "CPU":
        keys |= {"amp_level": "O0", "loss_scale_mode": "none"}
    return {key: value for key, value in {**keys, **scaled(recipe, cards.number, given)}.items() if key not in given}


def scaled(recipe: str, number: int, given: Collection[str]) -> dict[str, Any]:
    """The keys by which the learning rate of a recipe for N devices (``..._<N>p``) follows the batch of ``number``.

    The rate is meant for N times the recipe's own batch; train.py multiplies it by the batch there is over that one.
    None where the numbers agree, where the recipe is named after no number, or where ``given`` keys choose the rate.

    Raises:
        UsageError: there is no such recipe.
    """
    published = re.search(r"_(\d+)p(?:\.yaml)?$", recipe)
    if RATE_KEYS & set(given) or not published or int(published[1]) == number:
        return {}
    from src.settings.config import load_config  # takes a moment, which only this case needs

    return {"lr_scaling": "linear", "lr_scaling_base": int(published[1]) * load_config(recipe).batch_size}
