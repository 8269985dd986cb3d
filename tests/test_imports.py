"""The order of the wings: imports go one way, without a circle, and no two modules share a name."""

from __future__ import annotations

import ast
import re
from collections import Counter
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

# Each wing imports from its own row and those above it, never from one below.
WINGS = (
    {"errors", "files"},
    {"settings"},
    {"machine"},
    {"space"},
    {"data"},
    {"models"},
    {"cpu"},
    {"runs"},
    {"weights"},
    {"training"},
    {"supernet", "export"},
    {"launch"},
)
LEVELS = {wing: level for level, wings in enumerate(WINGS) for wing in wings}


def imports_of(path: Path, root: Path) -> set[str]:
    """Names of the modules of src that a file imports anywhere in it, functions included."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            for alias in node.names:
                inside = f"{node.module}.{alias.name}"
                is_module = any((root / (inside.replace(".", "/") + end)).exists() for end in (".py", "/__init__.py"))
                found.add(inside if is_module else node.module)
    return {name for name in found if name.startswith("src.")}


@pytest.fixture(scope="module")
def graph(root: Path) -> dict[str, set[str]]:
    """Every module of src with the modules of src it imports."""
    modules = {}
    for path in sorted((root / "src").rglob("*.py")):
        name = ".".join(path.relative_to(root).with_suffix("").parts).removesuffix(".__init__")
        modules[name] = imports_of(path, root)
    return modules


def test_every_wing_has_its_place_and_imports_only_from_above(graph):
    wings = {name.split(".")[1] for name in graph if name != "src"}
    assert wings == set(LEVELS)
    upward = [
        f"{name} imports {other}"
        for name, imported in graph.items()
        for other in imported
        if LEVELS[other.split(".")[1]] > LEVELS[name.split(".")[1]]
    ]
    assert not upward
    across = [
        f"{name} imports {other}"
        for name, imported in graph.items()
        for other in imported
        if {name.split(".")[1], other.split(".")[1]} == {"supernet", "export"}
    ]
    assert not across


def test_no_module_imports_itself_through_others(graph):
    list(TopologicalSorter(graph).static_order())  # raises CycleError with the circle


def test_the_hall_is_nearly_empty(root):
    assert sorted(path.name for path in (root / "src").glob("*.py")) == ["__init__.py", "errors.py", "files.py"]


def test_no_two_modules_share_a_name(root):
    front_doors = [path.stem for path in root.glob("*.py")]
    names = Counter(front_doors + [path.stem for path in (root / "src").rglob("*.py") if path.stem != "__init__"])
    assert [name for name, times in names.items() if times > 1] == []


def test_what_make_mutants_changes_and_runs_is_there(root):
    text = (root / "tests" / "mutants.py").read_text()
    modules = re.findall(r'"(src/\S+\.py)"', text)
    tests = [f"tests/{name}" for name in re.findall(r'"(\S*test_\w+\.py)"', text)]
    assert len(modules) > 20 and len(tests) > 20
    assert [path for path in modules + tests if not (root / path).is_file()] == []
