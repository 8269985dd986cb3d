"""YAML as one expects it, read safely and written so that it reads back the same."""

from __future__ import annotations

import io
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from src.errors import UsageError

MAX_FILE_BYTES = 1 << 17
MAX_DEPTH = 20


class _Loader(yaml.SafeLoader):
    """Safe YAML with the scalars one expects: true and false, decimal numbers, null; all else is text.

    A key written twice is an error instead of the last one winning. Anchors are refused: a
    configuration needs none, and nested ones grow without bound.
    """

    yaml_implicit_resolvers: dict = {}
    depth = 0

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node:
        if self.check_event(yaml.AliasEvent):
            raise yaml.composer.ComposerError(
                None, None, "references (*name) are not allowed", self.peek_event().start_mark
            )
        self.depth += 1
        if self.depth > MAX_DEPTH:
            raise yaml.composer.ComposerError(None, None, "nested too deeply", self.peek_event().start_mark)
        node = super().compose_node(parent, index)
        self.depth -= 1
        return node

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict:
        seen = set()
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode):
                raise yaml.constructor.ConstructorError(None, None, "a key must be one word", key.start_mark)
            if key.value in seen:
                twice = f"key {key.value!r} is written twice"
                raise yaml.constructor.ConstructorError(None, None, twice, key.start_mark)
            seen.add(key.value)
        return super().construct_mapping(node, deep)


class _Dumper(yaml.SafeDumper):
    """Quotes every text that `_Loader`, or a YAML 1.1 reader, would take for something else; writes no anchors."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


_NUMBER = r"[-+]?(0|[1-9][0-9]*)"
_SCALARS = {
    "null": (r"null|~|", ["n", "~", ""]),
    "bool": (r"true|True|false|False", list("tTfF")),
    "int": (_NUMBER, list("-+0123456789")),
    "float": (rf"({_NUMBER}(\.[0-9]*)?|[-+]?\.[0-9]+)([eE][-+]?[0-9]+)?", list("-+.0123456789")),
}
for _tag, (_pattern, _first) in _SCALARS.items():
    for _class in (_Loader, _Dumper):
        _class.add_implicit_resolver(f"tag:yaml.org,2002:{_tag}", re.compile(rf"(?:{_pattern})$"), _first)


def read_yaml(path: Path) -> dict:
    """A mapping from a YAML file of at most 128 KiB. Raises UsageError naming the file and the line."""
    try:
        if path.stat().st_size > MAX_FILE_BYTES:
            raise UsageError(f"{path} is larger than {MAX_FILE_BYTES} bytes: not a configuration")
        text = path.read_text(encoding="utf-8")
        content = yaml.load(text, Loader=_Loader)
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise UsageError(f"{path} is not UTF-8 text") from error
    except (yaml.YAMLError, ValueError) as error:
        raise UsageError(f"{path} is not valid YAML: {error}") from error
    if content is None:
        return {}
    if not isinstance(content, dict):
        raise UsageError(f"{path} must hold `key: value` lines")
    return content


def flow(text: str) -> Any:
    """A value typed on a command line, read as YAML. Raises ValueError where it is none."""
    try:
        return yaml.load(text, Loader=_Loader)
    except (yaml.YAMLError, ValueError) as error:
        raise ValueError(f"cannot be read from {text!r}") from error


def to_yaml(values: Mapping[str, Any]) -> str:
    """``key: value`` lines in the order of ``values``; lists and mappings inside them stand on one line."""
    text = io.StringIO()
    dumper = _Dumper(text, sort_keys=False, allow_unicode=True, default_flow_style=None)
    dumper.open()
    node = dumper.represent_data(dict(values))
    node.flow_style = False  # by itself a mapping of scalars alone would stand in braces
    dumper.serialize(node)
    dumper.close()
    return text.getvalue()
