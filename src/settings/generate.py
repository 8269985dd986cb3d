"""``python -m src.settings.generate``: default_config.yaml and configs/schema.json anew from the schema."""

from __future__ import annotations

import json
import textwrap
from typing import Any

from src.errors import UsageError, run
from src.files import write_text
from src.settings.config import DEFAULTS, Config, choices_of, limits_of
from src.settings.recipes import RECIPE_FOLDER, ROOT
from src.settings.sections import PROGRAMS, SECTIONS
from src.settings.yaml_text import to_yaml

DEFAULT_CONFIG = ROOT / "default_config.yaml"
RECIPE_SCHEMA = RECIPE_FOLDER / "schema.json"
HEAD = """\
# Every key of a run with its default and meaning. Written by `python -m src.settings.generate` from
# src/settings/sections.py, the schema; a program lists its own keys under --help.
# A recipe (configs/*.yaml) holds only what differs; the command line (--key value) wins over the recipe.
# "" means "not given"; 0 in a size or count marked (0: ...) means what the parenthesis says.
"""


def default_config() -> str:
    """The text of default_config.yaml."""
    values = dict(zip(DEFAULTS, to_yaml(DEFAULTS).splitlines(), strict=True))
    lines = HEAD.splitlines()
    for section in SECTIONS:
        programs = ", ".join(f"{name}.py" for name, sections in PROGRAMS.items() if section in sections)
        lines += ["", f"# --- {section.__doc__} ({programs}) ".ljust(100, "-")]
        for key, field in section.model_fields.items():
            facts = " | ".join(word for word in choices_of(key) if word), field.description, limits_of(key)
            meaning = textwrap.wrap("; ".join(filter(None, facts)), 88, break_long_words=False, break_on_hyphens=False)
            lines.append(f"{values[key].ljust(28)} # {meaning[0]}")
            lines += [" " * 29 + f"#   {more}" for more in meaning[1:]]
    return "\n".join(lines) + "\n"


def recipe_schema() -> dict[str, Any]:
    """The JSON Schema of a recipe: the keys of the schema, its description and its reference figures."""
    schema = Config.model_json_schema()
    notes = {
        "description": {"type": "string", "description": "what the recipe is"},
        "reference": {"type": "object", "description": "figures published by others, with their source"},
    }
    properties = {**notes, **{key: schema["properties"][key] for key in DEFAULTS}}
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "A recipe: what differs from default_config.yaml",
        "type": "object",
        "additionalProperties": False,
        "properties": properties,
    }


def main(argv: list[str]) -> None:
    """Writes both files."""
    if argv:
        raise UsageError("python -m src.settings.generate takes no arguments")
    write_text(DEFAULT_CONFIG, default_config())
    write_text(RECIPE_SCHEMA, json.dumps(recipe_schema(), indent=1) + "\n")


if __name__ == "__main__":
    run(main)
