"""The tutorials run, and are committed as they ran."""

from __future__ import annotations

from pathlib import Path

import nbformat
import pytest
from jupyter_client.kernelspec import KernelSpecManager
from jupyter_client.manager import AsyncKernelManager
from nbclient import NotebookClient

TUTORIALS = sorted((Path(__file__).parents[1] / "tutorials").glob("*.ipynb"))

each_tutorial = pytest.mark.parametrize("path", TUTORIALS, ids=lambda path: path.stem)


def test_there_are_tutorials() -> None:
    assert TUTORIALS


@each_tutorial
def test_runs(path: Path, tmp_path: Path) -> None:
    # without directories to look in there is one kernel, that of this interpreter
    kernels = KernelSpecManager(kernel_dirs=[])
    manager = AsyncKernelManager(kernel_name="python3", kernel_spec_manager=kernels)
    notebook = nbformat.read(path, as_version=4)
    in_tmp = {"metadata": {"path": str(tmp_path)}}
    client = NotebookClient(notebook, km=manager, timeout=300, resources=in_tmp)
    client.execute(cleanup_kc=True)


@each_tutorial
def test_committed_outputs(path: Path) -> None:
    notebook = nbformat.read(path, as_version=4)
    assert notebook.metadata.kernelspec.name == "python3"
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in code] == list(range(1, len(code) + 1))
    outputs = [output for cell in code for output in cell.outputs]
    assert any("image/png" in output.get("data", {}) for output in outputs)
    assert not [output for output in outputs if output.output_type == "error" or output.get("name") == "stderr"]
