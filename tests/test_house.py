"""The house: data flow one way, and the folders show it. Imports tell, those in functions and for types included."""

from __future__ import annotations

import ast
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

import flashmm_sc as fsc

HOME = Path(fsc.__file__).parent
ROOMS = ["_base", "_design", "_stream", "_stats", "_gaussian", "_counts", "_inference", "_arrays", "_results"]
FACES = ["contrasts", "pp", "tl", "get", "pl", "pertpy", "datasets", "cli"]
"""Faces know each other only from left to right."""
MODULES = {".".join(path.relative_to(HOME).with_suffix("").parts): path for path in HOME.rglob("*.py")}
ANNDATA = {"_stream.blocks", "_stats.file"}
"""Below `_results` only they know anndata: what its backed matrices are, and the file format of statistics."""
OUTSIDE = {"anndata", "formulaic", "h5py", "matplotlib", "numba", "pandas", "scanpy", "zarr"}


def imported(module: str) -> set[str]:
    """Modules of ours, and packages of others, that a module imports anywhere."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(MODULES[module].read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module}: imports say where they lead, from flashmm_sc"
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    found = set()
    for name in names:
        package, _, inner = name.partition(".")
        if package != "flashmm_sc":
            found.add(package)
            continue
        parts = inner.split(".")
        known = [".".join(parts[:k]) for k in range(len(parts), 0, -1)]
        known += [f"{name}.__init__" for name in known]
        found.add(next((name for name in known if name in MODULES), "__init__"))
    return found


def room(module: str) -> str:
    return module.partition(".")[0]


@pytest.mark.parametrize("module", sorted(MODULES))
def test_no_import_runs_up(module):
    order = [*ROOMS, *FACES, "__init__"]
    own = order.index(room(module))
    for other in imported(module) & MODULES.keys():
        assert order.index(room(other)) <= own, f"{module} imports {other}, which comes after it"


def test_no_circle_of_imports():
    TopologicalSorter({module: imported(module) & MODULES.keys() - {module} for module in MODULES}).prepare()


def test_covariances_do_not_know_each_other():
    """But for the crossed one, which leaves dense ones at its points."""
    for module in MODULES:
        for one, other in (
            ("dense", "sparse"),
            ("sparse", "dense"),
            ("dense", "crossed"),
            ("sparse", "crossed"),
            ("crossed", "sparse"),
        ):
            if module.startswith(f"_gaussian.{one}."):
                assert not any(name.startswith(f"_gaussian.{other}.") for name in imported(module)), module


@pytest.mark.parametrize("module", sorted(name for name in MODULES if room(name) in ROOMS[:-1]))
def test_rooms_below_results_know_nothing_of_anndata(module):
    found = imported(module)
    assert "scanpy" not in found
    assert "anndata" not in found or module in ANNDATA


@pytest.mark.parametrize(
    ("rooms", "packages"),
    [
        (["_base"], set()),
        (["_design"], {"formulaic", "pandas"}),
        (["_stream"], {"anndata", "h5py", "numba", "zarr"}),
        (["_gaussian", "_inference"], {"numba", "pandas"}),
        (["_counts"], {"numba"}),
    ],
)
def test_what_a_room_needs(rooms, packages):
    for module in MODULES:
        if room(module) in rooms:
            assert imported(module) & OUTSIDE <= packages, module


def test_formulaic_is_known_in_the_design_only():
    assert {room(module) for module in MODULES if "formulaic" in imported(module)} == {"_design"}


UNTESTED = {
    "_stats.checks": "what statistics can't be: bad_input/arrays.py",
    "_results.whole": "damaged results: bad_input/damaged.py",
    "_stats.correlated": "groups that are refused or selected: tests/gaussian/test_correlated.py",
    "_gaussian.blocks.factorisation": "all of it: blocks/test_covariance.py",
    "_gaussian.blocks.kernel": "the levels of a factorisation: blocks/test_covariance.py",
    "_gaussian.blocks.layout": "vectors over correlated components: blocks/test_covariance.py",
    "_gaussian.blocks.terms": "the parts of a design: blocks/test_covariance.py",
    "_counts.algebra": "Cholesky factors: test_regression.py",
    "_results.joint_obs": "columns of several files: test_study.py",
    "_results.stored": "fits with their contrasts: tests/tl/test_lmm_de.py, tests/tl/test_nbmm_de.py",
    "_results.summed": "statistics of the genes that pass: test_filters.py; means of counts: test_sizes.py",
    "get._summary": "tests/results/test_summary.py",
    "_results.per_cell": "numbers of cells: test_sizes.py, test_weights.py",
    "_stats.weights": "sums of weights: tests/results/test_weights.py",
    "_results.call": "how columns vary among levels, for advice: test_advice.py",
    "_results.values": "options of values: test_scale.py, test_sizes.py",
    "_base.linalg": "a choice of threads; its eigenvalues are those of every test of the dense covariance",
    "_base.threads": "threads and blocks make no difference: tests/arrays/test_lmm.py",
    "_design.across": "factors over other cells: test_encoding.py",
    "_design.cell_design": "two designs side by side: test_rows.py",
    "_design.columns": "columns that are missing, incomplete or twice there: test_fixed.py, test_random.py",
    "_design.file": "designs saved, loaded, damaged and of other versions: test_shared.py",
    "_design.formula": "reading formulas: test_fixed.py, test_names.py",
    "_design.formula_hints": "what R has: test_fixed.py",
    "_stream.pieces": "blocks of all containers, damaged ones among them: test_blocks.py",
    "_stream.kernel": "all sums: test_accumulate.py",
    "_stream.sums": "all sums: test_accumulate.py",
    "_results.aggregated": "what strata say of themselves, and lack: test_strata_study.py, tests/pp/test_aggregate.py",
    "_stats.strata": "sums of strata: tests/results/test_strata.py",
    "_arrays.refined": "which genes, and their sums: tests/stats/test_refined.py",
    "_stats.cross": "sums are those of the definitions: test_summary.py",
    "_stats.totals": "sums that centre designs: tests/arrays/test_varexp.py",
    "_counts.kernel": "fits, roots and ratios: test_regression.py",
    "_gaussian.chebyshev": "tables that interpolate: crossed/test_table.py, sparse/test_covariance.py",
    "_gaussian.covariance": "a protocol; all implementations are tested",
    "_gaussian.crossed.kernel": "crossed/test_covariance.py",
    "_gaussian.dense.elimination": "inverses, determinants and inertia: dense/test_covariance.py",
    "_gaussian.dense.kernel": "sums over points: dense/test_between.py",
    "_gaussian.dense.axis": "points: dense/test_between.py and test_nested.py",
    "_gaussian.dense.fold": "dense/test_between.py",
    "_gaussian.dense.shared": "vectors that genes share: dense/test_covariance.py",
    "_gaussian.crossed.shared": "crossed/test_covariance.py and test_between.py",
    "_gaussian.estimate": "fits: tests/arrays/test_lmm.py",
    "_gaussian.genes": "projected data: test_projection.py",
    "_gaussian.grouped.kernel": "traces, norms and gradients: grouped/test_covariance.py, grouped/test_objective.py",
    "_gaussian.gram": "moments, eigenvalues and products with S: crossed/test_covariance.py",
    "_gaussian.information": "tests/arrays/test_lmm.py, tests/inference/test_df.py",
    "_gaussian.point": "points of f: test_solver.py",
    "_gaussian.profile": "f and its derivatives: test_solver.py; several minima: test_optima.py",
    "_gaussian.shares": "shares of variance: tests/arrays/test_varexp.py, tests/get/test_variance_explained.py",
    "_gaussian.sparse.kernel": "sparse/test_covariance.py",
    "_gaussian.sparse.pattern": "sparse/test_covariance.py",
    "_gaussian.sparse.table": "sparse/test_covariance.py",
    "_inference.inference": "chooses between tests; tests/arrays/test_lmmtest.py, tests/tl/test_lmm_test.py",
    "_inference.moderated_t": "test_moderated.py",
    "_arrays.shown": "tests/base/test_render.py",
    "_arrays.sslmm": "tests/stats/test_summary.py",
    "_results.count_fits": "tests/tl/test_nbmm_de.py",
    "_results.count_models": "tests/tl/test_nbmm_de.py, tests/tl/test_nbmm_de_bad_input.py",
    "_results.count_values": "tests/tl/test_nbmm_de_bad_input.py",
    "_results.fitted": "tests/get/test_fitted.py, tests/tl/test_nbmm_de.py",
    "_results.groups": "tests/results/test_models.py",
    "_results.across": "tests/inference/test_across.py",
    "_results.contrasts": "tests/tl/test_lmm_test.py",
    "_results.deviates": "tests/get/test_tables.py",
    "_results.quantities": "tests/get/test_tables.py, tests/get/test_matrix.py",
    "_results.fits": "test_result.py, test_write.py",
    "_results.group_tests": "test_result.py",
    "_results.summarize": "tests/design/test_shared.py",
    "cli._options": "test_main.py",
    "cli._report": "test_main.py",
    **dict.fromkeys(
        ["contrasts._each", "contrasts._means", "contrasts._pairwise", "contrasts._slope"],
        "what they make: design/test_questions.py, results/test_questions.py",
    ),
    "datasets._simu_checks": "test_simu_rnaseq.py",
    "datasets._simu_counts": "test_simu_rnaseq.py",
    "datasets._simu_design": "test_simu_rnaseq.py",
    "datasets._simu_reference": "test_simu_rnaseq.py",
    "pertpy": "where pertpy is installed: tests/bridges/test_pertpy.py",
    "_gaussian.prediction": "prediction intervals: tests/pl/test_ranef.py",
    "pl._levels": "levels, colours and what is no factor: test_samples.py, test_curve.py",
    "_results.sample_means": "samples' means: tests/pl/test_samples.py, tests/pl/test_curve.py",
    "pl._figure": "tests/base/test_options.py",
    "pl._grid": "panels, titles and legends: test_volcano.py, test_qq.py",
    "pl._tables": "results, coefficients, groups and genes: test_volcano.py, test_effects.py, test_hits.py",
    "pl._rows": "labels and blocks: test_effects.py, test_hits.py",
}
"""Modules without a namesake among the tests: where they are tested instead."""


@pytest.mark.parametrize("module", sorted(name for name in MODULES if not name.endswith("__init__")))
def test_each_module_has_its_namesake_among_the_tests(module):
    *rooms, name = [part.lstrip("_") for part in module.split(".")]
    path = Path(__file__).parent.joinpath(*rooms, f"test_{name}.py")
    assert path.exists() != (module in UNTESTED), path


def test_no_reason_is_stale():
    assert set(UNTESTED) <= set(MODULES)


@pytest.mark.parametrize("module", sorted(MODULES))
def test_files_and_functions_stay_small(module):
    text = MODULES[module].read_text(encoding="utf-8")
    assert text.count("\n") <= 350
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef):
            first = node.body[1 if ast.get_docstring(node) and len(node.body) > 1 else 0]
            assert node.end_lineno - first.lineno < 60, node.name
