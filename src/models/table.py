"""Tables of the networks in Markdown: from the registry and the recipe folder the README's and the whole one, and the
MicroNet challenge's account of the network that took part."""

from __future__ import annotations

import re
from functools import cache

from src.models import ModelEntry, Published, create_model, get_entry, list_models, micronet, tracing
from src.settings.recipes import recipes_of

END = "<!-- end of the table -->"


def overview() -> str:
    """One row per network in its default form: paper, size, cost at its own input size, first published accuracy."""
    lines = [
        _begin("networks"),
        "| network | paper | parameters | MACs | published ImageNet top-1 (by whom) |",
        "|---|---|--:|--:|---|",
    ]
    for name in list_models():
        entry = get_entry(name)
        counted = _cost(name, 0)
        # An entry's first accuracy is its default variant's.
        published = next((f"{item.top1:.2%} ({_whose(item)})" for item in entry.published), "–")
        lines.append(f"| `{name}` | {_paper(entry)} | {counted.params:,} | {counted.macs:,} | {published} |")
    return "\n".join([*lines, END])


def variants() -> str:
    """One row per network and variant: size, cost at its own input size, accuracies others published, recipes."""
    lines = [
        _begin("variants"),
        "| network | variant | parameters | MACs | published top-1 / top-5 (by whom) | recipes |",
        "|---|---|--:|--:|---|---|",
    ]
    for name in list_models():
        entry = get_entry(name)
        for number, options in enumerate(entry.variants):
            counted = _cost(name, number)
            variant = ", ".join(f"{key} {value}" for key, value in options.items()) or "default"
            # Accuracies and recipes belong to the network as a whole and stand in its first row.
            published = "<br>".join(_accuracy(item) for item in entry.published) if number == 0 else ""
            recipes = _recipes(entry) if number == 0 else ""
            first = f"`{name}`" if number == 0 else ""
            lines.append(f"| {first} | {variant} | {counted.params:,} | {counted.macs:,} | {published} | {recipes} |")
    return "\n".join([*lines, END])


def challenge() -> str:
    """The operations of OneShot-S+ on one image, in the order of execution, with their sums, and the scores."""
    operations = micronet.profile(create_model("spos_oneshot_s_plus"))
    lines = [_begin("micronet"), f"| {' | '.join(micronet.COLUMNS)} |", "|---|---|--:|--:|--:|--:|--:|--:|--:|--:|"]
    for name, quantizable, *numbers in micronet.table(operations):
        kind = {True: "yes", False: "no"}.get(quantizable, "")
        lines.append(f"| `{name}` | {kind} | {' | '.join(map(str, numbers))} |")
    lines += ["", "| precision | challenge score |", "|---|--:|"]
    for precision in micronet.PRECISIONS:
        lines.append(f"| {precision} | {micronet.challenge_score(operations, precision):.4f} |")
    return "\n".join([*lines, END])


@cache
def _cost(name: str, variant: int) -> tracing.Cost:
    entry = get_entry(name)
    return tracing.count(create_model(name, **entry.variants[variant]), entry.preprocessing.image_size)


# What `summary.py --markdown` takes.
TABLES = {"networks": overview, "variants": variants, "micronet": challenge}


def _begin(table: str) -> str:
    return f"<!-- made by `python summary.py --markdown {table}` -->"


def _paper(entry: ModelEntry) -> str:
    found = re.search(r"arXiv (\d{4}\.\d{5})", entry.paper)
    return f"[arXiv {found[1]}](https://arxiv.org/abs/{found[1]})" if found else entry.paper


def _whose(published: Published) -> str:
    return ", ".join(filter(None, (published.variant, published.source)))


def _accuracy(published: Published) -> str:
    top5 = "–" if published.top5 is None else f"{published.top5:.2%}"
    return f"{published.top1:.2%} / {top5} {published.variant or 'default'} ({published.source})"


def _recipes(entry: ModelEntry) -> str:
    return " ".join(f"`{name.removeprefix(entry.name + '_')}`" for name in recipes_of(entry.name))
