"""docs/originals.md, made of the table: python -m tests.originals.page writes it anew."""

from __future__ import annotations

from collections import Counter

from tests.originals.table import DOCUMENTS, GROUPS, ROOT, Item, document

PAGE = ROOT / "docs" / "originals.md"
BEGIN = """\
<!-- made by `python -m tests.originals.page` of the tables in tests/originals -->
# The originals' documents, item by item

Whatever the README of one of the five originals names, a file, a command as it is typed, a configuration key, an
output, a feature, stands here with what becomes of it. Each line is a test (`tests/originals`).

- **yes**: works as typed, or under the name given beside it.
- **to the device**: the line starts the program, recipe and network it should, up to the point where an Ascend or a GPU
  is asked for; none was ever there.
- **refused**: by design, in one line that says why and, where something does, what to type.

A script's line works as its document has it in the folder of its network, `scripts/<network>/`; under the same name in
`scripts/` it starts that network or says which line does. `python train.py` and its like serve all networks here: where
no file or flag tells the network, they ask for `--model`.
"""
STATES = {"yes": "yes", "device": "to the device", "refused": "refused"}
HEADINGS = {
    "files": "Files",
    "commands": "Commands",
    "keys": "Keys and flags",
    "settings": "Steps and settings",
    "outputs": "Outputs",
    "features": "Features and figures",
}


def page() -> str:
    """The text of the page."""
    documents = [document(name) for name in DOCUMENTS]
    rows = [[found.title, *_counts(found.items)] for found in documents]
    rows.append(["all", *_counts([item for found in documents for item in found.items])])
    parts = [BEGIN, _table(["original", "items", *STATES.values()], rows, "|---|--:|--:|--:|--:|")]
    for found in documents:
        parts += [f"## {found.title}\n", f"{found.source}.\n"]
        for group in GROUPS:
            rows = [[_shown(item), STATES[item.state], _here(item)] for item in found.items if item.group == group]
            if rows:
                parts += [
                    f"### {HEADINGS[group]}\n",
                    _table(["the document has", "state", "here"], rows, "|---|---|---|"),
                ]
    return "\n".join(parts)


def _counts(items: list[Item] | tuple[Item, ...]) -> list[str]:
    states = Counter(item.state for item in items)
    return [str(len(items)), *(str(states[state]) for state in STATES)]


def _table(head: list[str], rows: list[list[str]], rule: str) -> str:
    lines = [f"| {' | '.join(head)} |", rule, *(f"| {' | '.join(row)} |" for row in rows)]
    return "\n".join(lines) + "\n"


def _shown(item: Item) -> str:
    """The words of the document as code, or a sentence of ours about it."""
    words = item.words.replace("|", "\\|")
    return f"`{words}`" if item.group in ("files", "commands", "keys") else words


def _here(item: Item) -> str:
    """What there is in its place, and what a reader should know."""
    said = {"here": _file, "starts": _start, "sets": _keys}.get(item.kind, lambda _: "")(item)
    return "; ".join(filter(None, [said, item.details.get("note", ""), item.details.get("reason", "")]))


def _file(item: Item) -> str:
    if item.expected == item.words:
        return ""
    names = ", ".join(f"`{name}`" for name in item.details.get("has", ()))
    return f"`{item.expected}`" + (f" ({names})" if names else "")


def _start(item: Item) -> str:
    recipe, added = item.details.get("recipe"), item.details.get("add")
    return ", ".join([*([f"recipe `{recipe}`"] if recipe else []), *([f"with `{added}`"] if added else [])])


def _keys(item: Item) -> str:
    if not item.expected:
        return "changes nothing, and a note says why" if "says" in item.details else ""
    typed = item.words.partition(":")[0].split()[0].lstrip("-").replace("-", "_")
    return ", ".join(f"`{key}`" for key in item.expected if key != typed)


def main() -> None:
    PAGE.write_text(page(), encoding="utf-8")


if __name__ == "__main__":
    main()
