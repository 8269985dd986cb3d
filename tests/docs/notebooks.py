"""The notebooks: python -m tests.docs.notebooks executes the first and writes its outputs into both.

It needs nbclient and ipykernel, which are no requirement of the project's.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from tests.docs.pages import ROOT

NOTEBOOKS = ("notebooks/quick_start.ipynb", "notebooks/quick_start_CN.ipynb")  # of the same code


def read(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text(encoding="utf-8"))


def code_cells(notebook: dict[str, Any]) -> list[dict[str, Any]]:
    return [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]


def execute(path: Path) -> dict[str, Any]:
    """The notebook with what its cells put out, executed in its folder by this interpreter.

    Raises:
        nbclient.exceptions.CellExecutionError: a cell failed.
    """
    import nbformat
    from jupyter_client import AsyncKernelManager
    from jupyter_client.kernelspec import KernelSpec
    from nbclient import NotebookClient

    class Here(AsyncKernelManager):
        kernel_spec = KernelSpec(argv=[sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}"])

    notebook = nbformat.read(path, as_version=4)
    folder = {"metadata": {"path": str(path.parent)}}
    client = NotebookClient(notebook, kernel_manager_class=Here, timeout=600, resources=folder, coalesce_streams=True)
    client.execute()
    return notebook


def main() -> None:
    import nbformat

    executed = code_cells(execute(ROOT / NOTEBOOKS[0]))
    for name in NOTEBOOKS:
        notebook = nbformat.read(ROOT / name, as_version=4)
        for cell, done in zip(code_cells(notebook), executed, strict=True):
            cell["outputs"], cell["execution_count"] = done["outputs"], done["execution_count"]
        nbformat.write(notebook, ROOT / name)


if __name__ == "__main__":
    main()
