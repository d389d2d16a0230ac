"""Importing the package and asking the command line for help are light; names are imported at first use."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import flashmm_sc as fsc

HEAVY = {
    "adjustText",
    "anndata",
    "dask",
    "formulaic",
    "h5py",
    "matplotlib",
    "numba",
    "numpy",
    "pandas",
    "scanpy",
    "scipy",
}


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    """A fresh Python."""
    done = subprocess.run([sys.executable, *arguments], capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    return done


def loaded_after(code: str) -> set[str]:
    """Modules a fresh Python has loaded after some code."""
    return set(run("-c", f"{code}\nimport sys; print(*sys.modules)").stdout.split())


def test_import_is_light() -> None:
    assert not loaded_after("import flashmm_sc; dir(flashmm_sc); flashmm_sc.__version__") & HEAVY


def test_submodules_load_no_plotting() -> None:
    loaded = loaded_after("import flashmm_sc as fsc; fsc.pl; fsc.get; fsc.datasets")
    assert {"flashmm_sc.pl", "flashmm_sc.get", "flashmm_sc.datasets"} <= loaded
    assert not loaded & {"adjustText", "matplotlib", "scanpy"}


@pytest.mark.parametrize("option", ["--help", "--version"])
def test_command_line_help_is_light(option: str) -> None:
    done = run("-X", "importtime", "-m", "flashmm_sc.cli._main", option)
    assert "flashmm-sc" in done.stdout
    loaded = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines() if line.startswith("import time:")}
    assert "argparse" in loaded
    assert not loaded & HEAVY


def test_all_names() -> None:
    star: dict[str, object] = {}
    exec("from flashmm_sc import *", star)
    assert set(fsc.__all__) <= set(star)
    assert {*fsc.__all__, "__version__"} <= set(dir(fsc))
    assert callable(fsc.pl.volcano)
    assert callable(fsc.tl.lmm_de)
    assert issubclass(fsc.FlashmmWarning, UserWarning)


def test_type_checkers_read_the_same_names() -> None:
    tree = ast.parse(Path(fsc.__file__).read_text(encoding="utf-8"))
    guarded = next(node for node in tree.body if isinstance(node, ast.If))
    read = {
        (alias.name, node.module) for node in guarded.body if isinstance(node, ast.ImportFrom) for alias in node.names
    }
    homes = {name: f"flashmm_sc.{home}" for name, home in fsc._MODULES.items()}
    assert read == {(name, homes.get(name, "flashmm_sc")) for name in fsc.__all__}


def test_unknown_attribute() -> None:
    with pytest.raises(AttributeError, match="module 'flashmm_sc' has no attribute 'lmm_de'"):
        fsc.lmm_de  # noqa: B018
    with pytest.raises(ImportError, match="cannot import name 'lmm_de'"):
        exec("from flashmm_sc import lmm_de")
