"""The tutorials run, and are committed as they ran."""

from __future__ import annotations

import re
from importlib.util import find_spec
from pathlib import Path

import nbformat
import pytest
from jupyter_client.kernelspec import KernelSpecManager
from jupyter_client.manager import AsyncKernelManager
from nbclient import NotebookClient

TUTORIALS = sorted((Path(__file__).parents[1] / "tutorials").glob("*.ipynb"))

DATA = Path(__file__).parents[1].parent / "shared" / "data"
"""Real data, which some tutorials read from the folder that FLASHMM_DATA names."""
KBYTES = 400

each_tutorial = pytest.mark.parametrize("path", TUTORIALS, ids=lambda path: path.stem)


def test_there_are_tutorials() -> None:
    assert TUTORIALS


def read(path: Path) -> nbformat.NotebookNode:
    return nbformat.read(path, as_version=4)


def needed(notebook: nbformat.NotebookNode) -> list[Path]:
    """Files of real data that a tutorial reads."""
    sources = "\n".join(cell.source for cell in notebook.cells if cell.cell_type == "code")
    return [DATA / name for name in re.findall(r'/ "(\w+\.h5ad)"', sources)] if "FLASHMM_DATA" in sources else []


def can_run(cell: nbformat.NotebookNode) -> bool:
    """Whether the optional packages that a cell is tagged with are installed."""
    return all(find_spec(package) for package in cell.metadata.get("tags", []))


def numbers(cell: nbformat.NotebookNode) -> list[float]:
    """All numbers of a cell's tables."""
    shown = [output["data"] for output in cell.get("outputs", []) if "data" in output]
    texts = [data["text/plain"] for data in shown if "text/html" in data]
    return [float(number) for number in re.findall(r"-?\b\d+(?:\.\d+)?(?:e[-+]\d+)?\b", " ".join(texts))]


@each_tutorial
def test_runs(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    notebook = read(path)
    if missing := [file for file in needed(notebook) if not file.is_file()]:
        pytest.skip(f"there is no {missing[0]}")
    monkeypatch.setenv("FLASHMM_DATA", str(DATA))
    notebook.cells = [cell for cell in notebook.cells if can_run(cell)]
    committed = [numbers(cell) for cell in notebook.cells]
    # without directories to look in there is one kernel, that of this interpreter
    kernels = KernelSpecManager(kernel_dirs=[])
    manager = AsyncKernelManager(kernel_name="python3", kernel_spec_manager=kernels)
    in_tmp = {"metadata": {"path": str(tmp_path)}}
    client = NotebookClient(notebook, km=manager, timeout=300, resources=in_tmp)
    client.execute(cleanup_kc=True)
    if needed(notebook):  # others may show how long they take
        assert sum(map(len, committed)) > 50
        for cell, before in zip(notebook.cells, committed, strict=True):
            assert numbers(cell) == pytest.approx(before, rel=0.01), cell.id


@each_tutorial
def test_committed_outputs(path: Path) -> None:
    notebook = read(path)
    assert notebook.metadata.kernelspec.name == "python3"
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in code] == list(range(1, len(code) + 1))
    outputs = [output for cell in code for output in cell.outputs]
    assert any("image/png" in output.get("data", {}) for output in outputs)
    assert not [output for output in outputs if output.output_type == "error" or output.get("name") == "stderr"]
    assert not re.search(r"/(home|root|tmp|work|Users)/", "".join(str(output) for output in outputs))
    assert path.stat().st_size < 1000 * KBYTES


@each_tutorial
def test_ends_with_a_methods_paragraph(path: Path) -> None:
    _, methods = read(path).cells[-1].source.split("## For your methods section\n")
    assert "\n> " in methods
