"""Which recipe a number of devices trains by, and how its learning rate follows another number of them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from src.errors import UsageError

RECIPES = Path(__file__).resolve().parents[2] / "configs"
# What a user types to choose the rate himself, by our names or the originals'.
RATE_FLAGS = {"lr", "lr_scaling", "lr_max"}


def recipe_for(network: str, platform: str, count: int) -> str:
    """The recipe of ``network`` on ``platform`` (ascend, gpu, cpu): for one device, or for several.

    A recipe is published for one number of devices. Where there is none for one device it is that for the fewest,
    and the other way round.

    Raises:
        UsageError: nobody has published any.
    """
    if platform == "cpu":
        return f"{network}_cpu"
    named = (re.fullmatch(rf"{re.escape(network)}_{platform}_(\d+)p", path.stem) for path in RECIPES.glob("*.yaml"))
    published = {int(match[1]): match[0] for match in named if match}
    if not published:
        raise UsageError(
            f"there is no recipe of {network} for {platform}; give one as CONFIG_PATH: `ls configs` shows them"
        )
    several = sorted(set(published) - {1})
    return published[1 if 1 in published and (count == 1 or not several) else several[0]]


def rate_flags(recipe: str, ranks: int, typed: Sequence[str]) -> list[str]:
    """Flags by which the learning rate of a recipe for N devices (``..._<N>p``) follows the batch of ``ranks``.

    The rate is meant for N times the recipe's own batch; train.py multiplies it by the batch there is over that one.
    None where the numbers agree, where the recipe is named after no number, or where ``typed`` chooses the rate.

    Raises:
        UsageError: there is no such recipe.
    """
    flags = {word[2:].partition("=")[0].replace("-", "_") for word in typed if word.startswith("--")}
    published = re.search(r"_(\d+)p(?:\.yaml)?$", recipe)
    if flags & RATE_FLAGS or not published or int(published[1]) == ranks:
        return []
    from src.settings.config import load_config  # takes a moment, which only this case needs

    return ["--lr_scaling", "linear", "--lr_scaling_base", str(int(published[1]) * load_config(recipe).batch_size)]
