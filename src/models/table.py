"""The README's table of networks, made from the registry and the recipe folder."""

from __future__ import annotations

from src.models import ModelEntry, Published, create_model, get_entry, list_models, tracing
from src.settings.config import RECIPE_FOLDER, digits_recipes

BEGIN, END = "<!-- networks: made by `python summary.py --markdown` -->", "<!-- end of networks -->"


def markdown() -> str:
    """One row per network and variant: size, cost at its own input size, accuracies others published, recipes."""
    lines = [
        BEGIN,
        "| network | variant | parameters | MACs | published top-1 / top-5 (by whom) | recipes |",
        "|---|---|--:|--:|---|---|",
    ]
    for name in list_models():
        entry = get_entry(name)
        for number, options in enumerate(entry.variants):
            counted = tracing.count(create_model(name, **options), entry.preprocessing.image_size)
            variant = ", ".join(f"{key} {value}" for key, value in options.items()) or "default"
            # Accuracies and recipes belong to the network as a whole and stand in its first row.
            published = "<br>".join(_accuracy(item) for item in entry.published) if number == 0 else ""
            recipes = _recipes(entry) if number == 0 else ""
            first = f"`{name}`" if number == 0 else ""
            lines.append(f"| {first} | {variant} | {counted.params:,} | {counted.macs:,} | {published} | {recipes} |")
    return "\n".join([*lines, END])


def _accuracy(published: Published) -> str:
    top5 = "–" if published.top5 is None else f"{published.top5:.2%}"
    return f"{published.top1:.2%} / {top5} {published.variant or 'default'} ({published.source})"


def _recipes(entry: ModelEntry) -> str:
    files = [path.stem for path in RECIPE_FOLDER.glob("*.yaml")]
    names = sorted(name for name in {*files, *digits_recipes()} if name.startswith(f"{entry.name}_"))
    longer = [name for name in list_models() if name.startswith(f"{entry.name}_")]
    own = [name for name in names if not any(name.startswith(f"{other}_") for other in longer)]
    return " ".join(f"`{name.removeprefix(entry.name + '_')}`" for name in own)
