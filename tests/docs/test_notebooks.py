"""The notebooks hold what their code puts out, the same code in both languages, and run from a fresh clone."""

from __future__ import annotations

import ast
import json
import subprocess
from collections.abc import Iterator

import pytest

from src.cpu.build import cache_folder
from tests.docs.notebooks import NOTEBOOKS, code_cells, execute, read
from tests.docs.pages import ROOT
from tests.docs.test_commands import refused

MOST_BYTES = 200_000


def text_of(cell: dict) -> str:
    return "".join(cell["source"])


def commands(code: str) -> Iterator[str]:
    """What each ``run(...)`` of a cell starts, with the name of a variable where its value would stand."""
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "run":
            (line,) = node.args
            parts = line.values if isinstance(line, ast.JoinedStr) else [line]
            yield "".join(part.value if isinstance(part, ast.Constant) else ast.unparse(part.value) for part in parts)


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_a_notebook_holds_what_its_cells_put_out_in_order(name):
    notebook = read(ROOT / name)
    assert notebook["nbformat"] == 4 and (ROOT / name).stat().st_size < MOST_BYTES
    cells = code_cells(notebook)
    assert [cell["execution_count"] for cell in cells] == list(range(1, len(cells) + 1))
    said = json.dumps([cell["outputs"] for cell in cells])
    kinds = [output["output_type"] for cell in cells for output in cell["outputs"]]
    assert set(kinds) == {"stream", "display_data"} and said.count("image/png") >= 5
    for unwanted in ("/tmp", "/work", "/root", "/home", "Warning", "WARNING", "stderr"):
        assert unwanted not in said


def test_both_languages_have_the_same_code_and_outputs():
    ours, theirs = (code_cells(read(ROOT / name)) for name in NOTEBOOKS)
    assert ours == theirs
    kinds = [[cell["cell_type"] for cell in read(ROOT / name)["cells"]] for name in NOTEBOOKS]
    assert kinds[0] == kinds[1]


def test_every_command_of_the_notebook_is_one():
    started = [line for cell in code_cells(read(ROOT / NOTEBOOKS[0])) for line in commands(text_of(cell))]
    programs = {line.split()[1] for line in started}
    assert {"train.py", "eval.py", "predict.py", "export.py", "infer_onnx.py"} < programs
    for line in started:
        assert not refused(line), line


@pytest.mark.slow
def test_the_notebook_runs_in_a_fresh_clone(tmp_path, monkeypatch):
    pytest.importorskip("nbclient", reason="executing a notebook needs nbclient")
    pytest.importorskip("ipykernel", reason="executing a notebook needs ipykernel")
    clone = tmp_path / "mobile-nas"
    subprocess.run(["git", "clone", "--quiet", str(ROOT), str(clone)], check=True)
    monkeypatch.setenv("NAS_CPU_CACHE", str(cache_folder()))
    cells = code_cells(execute(clone / NOTEBOOKS[0]))
    said = json.dumps([cell["outputs"] for cell in cells])
    assert said.count("180 of 180 images") == 8 + 7 + 7 + 1  # an epoch of each of three runs, and the evaluation
    assert "same top-1 for 100.0%" in said and "images = 180" in said
