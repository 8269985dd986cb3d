"""Which recipes there are, by what names, and of which networks. No schema is read, so a launcher may import this.

A recipe of a network is called ``<network>_<ascend|gpu>_<N>p`` after the platform, and the number of its devices, that
its hyper-parameters were published for.
"""

from __future__ import annotations

import re
from pathlib import Path

from src.errors import UsageError, nearest

ROOT = Path(__file__).resolve().parents[2]
RECIPE_FOLDER = ROOT / "configs"
TO_EDIT = ("transfer_config", "gpu_default_config")  # ShuffleNetV1's, at the top, where its document has them


def network_of(recipe: Path) -> str:
    """The network a recipe file names, or ``""``."""
    found = re.search(r"^model: *([\w.]+)", recipe.read_text(encoding="utf-8", errors="replace"), re.MULTILINE)
    return found[1] if found else ""


def networks() -> list[str]:
    """Every network that somebody has published a recipe of."""
    named = {path: re.fullmatch(r"(.+)_(?:ascend|gpu)_\d+p", path.stem) for path in RECIPE_FOLDER.glob("*.yaml")}
    return sorted({match[1] for path, match in named.items() if match and network_of(path) == match[1]})


def recipes_of(network: str) -> list[str]:
    """Names of the recipes that train ``network``."""
    files = [path.stem for path in RECIPE_FOLDER.glob("*.yaml") if network_of(path) == network]
    return sorted({*files, *(name for name in digits_recipes() if name == f"{network}_cpu")})


def digits_network(name: str) -> str:
    """The network that ``<network>_cpu``, the name of a recipe, trains on the digits; ``""`` for any other name.

    Once each was a file, and they differed in the network alone; MnasNet's differs in more and is one still.
    """
    path = Path(name)
    network = path.name.removesuffix(".yaml").removesuffix("_cpu")
    is_ours = path.parent in (Path(), Path("configs")) or path.parent.resolve() == RECIPE_FOLDER
    return network if is_ours and f"{network}_cpu" in digits_recipes() else ""


def digits_recipes() -> list[str]:
    """``<network>_cpu`` of every network that has a recipe for larger devices."""
    return [f"{network}_cpu" for network in networks()]


def find_recipe(name: str) -> Path:
    """A recipe by path, by that below the top folder, or by its name in ``configs/``, with or without ``.yaml``."""
    places = [Path(name), ROOT / name, RECIPE_FOLDER / name, RECIPE_FOLDER / f"{name}.yaml"]
    if name in TO_EDIT:
        places.append(ROOT / f"{name}.yaml")
    for path in places:
        if path.is_file():
            return path
    if digits_network(name):
        return RECIPE_FOLDER / "digits.yaml"
    recipes = [path.stem for path in sorted(RECIPE_FOLDER.glob("*.yaml"))] + digits_recipes()
    raise UsageError(f"there is no configuration {name!r}{nearest(name, recipes)}; `ls configs` shows the recipes")


def named_network(recipe: str) -> str:
    """The network that a recipe, given by any of its names, trains; ``""`` where it leaves that to the command line."""
    return network_of(find_recipe(recipe)) or digits_network(recipe)
