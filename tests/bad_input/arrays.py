"""Bad input to FLASHMM's functions, to statistics, designs and their files, and to simulations."""

from __future__ import annotations

from functools import cache

import anndata as ad
import numpy as np
import pandas as pd
import scipy.sparse as sp
from bad_input.table import ANY, FLAGS, JOBS, NUMBERS, WHOLE, cells, options, rows

import flashmm_sc as fsc

sample = np.arange(60) % 6
X, Z = np.column_stack([np.ones(60), sample % 2]), np.eye(6)[sample]
Y = np.random.default_rng(0).normal(size=(60, 4))
nothing = lambda: None
stats = cache(lambda: fsc.sslmm(X, Y, Z))
fit = cache(lambda: fsc.lmm(stats()))


def sslmm(_, **given):
    return fsc.sslmm(**{"X": X, "Y": Y, "Z": Z} | given)


def lmmfit(_, **given):
    return fsc.lmmfit(**{"X": X, "Y": Y, "Z": Z} | given)


def summary_stats(_, **given):
    names = ("XX", "XY", "ZX", "ZY", "ZZ", "yy", "n", "d")
    return fsc.SummaryStats(**{name: getattr(stats(), name) for name in names} | given)


def simu(_, **given):
    return fsc.datasets.simu_rnaseq(
        **{"n_genes": 20, "n_cells": 100, "n_samples": 6, "n_clusters": 2, "seed": 1} | given
    )


NO_MATRIX = [None, 3, "x", b"x", {}, np.array(1.0), cells(), np.zeros((60, 2), complex), Y.astype(str), pd.DataFrame(Y).astype(str), [[1], [1, 2]], np.zeros((2, 60, 2)), np.zeros((60, 0)), np.full((60, 2), np.nan), np.full((60, 2), np.inf), np.ma.masked_array(Y, Y > 0), Z[:5], np.full((60, 2), None)]  # fmt: skip
NO_SUMS = [None, 3, "x", {}, np.zeros(4), np.zeros((9, 9)), np.full((2, 4), np.nan), np.zeros((2, 4), complex), [["a"]], [[1], [1, 2]]]  # fmt: skip
NO_NAMES = [None, 3, "ab", [None] * 6, {"a"}, [1.5] * 6, np.array(3), ["a"]]
NO_PATH = [None, 3, b"x", "", "a\0b", "x" * 300, "\ud800", [], ".", "nowhere/x.h5ad"]
PER_CLUSTER = [3, "a", [1], [1, None], [1, -1], [1, np.nan], {"zzz": 1}, ["a", "b"], [1j, 1], [[1, 2]]]
METADATA = pd.DataFrame({"sam": ["a", "b"] * 50, "cls": "x", "trt": ["A", "B"] * 50})

ROWS = [
    *options("sslmm", sslmm, {
        "X": (ANY, NO_MATRIX), "Y": (ANY, NO_MATRIX[:12]), "Z": (ANY, NO_MATRIX),
        "d": (ANY, [np.nan, "6", [None], {}, [5], [3, 2], 2.5, [6.5], [[6]], [-1, 7], 1j]),
        "correlated": (ANY, [3, "a", [[0, 1]], [(0, 0)], [(0.5, 1)], [None], [np.inf]]),
        "n_jobs": (ANY, [0, "3"])}, nothing),
    *options("lmmfit", lmmfit, {name: (ANY, [None, "x", np.zeros((0, 2)), np.zeros((60, 2), complex)]) for name in "XYZ"} | {"d": (ANY, [[5], "6"]), "method": (ANY, ["reml"]), "n_jobs": (ANY, [0])}, nothing),
    *options("sslmm", sslmm, {"weights": (ANY, [3, "a", np.ones(5), np.zeros(60), np.full(60, np.nan), np.full(60, 1e200), [True] * 60, [1j] * 60, ["a"] * 60])}, nothing),
    *rows("sslmm", [(lambda _: fsc.sslmm(X, Y.T, Z), ValueError, "one row a cell", "Y is cells × genes here")], nothing),
    *options("lmm", lambda _, **given: fsc.lmm(**{"stats": stats()} | given), {
        "stats": (TypeError, [None, 3, "fit", pd.DataFrame(), {}]), "method": (ANY, ["reml", None]), "ddf": (ANY, ["n-p", None]),
        "theta0": (ANY, ["a", [1.0], [1.0, -1.0], [np.nan, 1.0], {"a": 1}, 3, [1j, 1], np.ma.masked_array([1.0, 2.0], [1, 0]), ["1", "2"]]),
        "max_iter": (ANY, [*WHOLE, 0]), "tol": (ANY, [*NUMBERS, 2, 1e30]), "nonnegative": (ANY, FLAGS), "moderate": (ANY, FLAGS), "n_jobs": (ANY, JOBS)}, nothing),
    *options("lmmtest", lambda _, **given: fsc.lmmtest(**{"fit": fit()} | given), {
        "fit": (TypeError, [None, 3, "fit", {}]), "alternative": (ANY, ["two.sided", None]), "min_effect": (ANY, NUMBERS), "ddf": (ANY, ["n-p", 3]), "joint": (ANY, FLAGS),
        "index": (ANY, [2.5, "x9", [0.5], 99, [], np.array(0), [True], {}, [0, 0]])}, nothing),
    *rows("arrays", [
        *((lambda _, value=value: fsc.lrt(value), TypeError, "fit must be LMMFit") for value in (None, 3, "fit")),
        *((lambda _, value=value: fsc.lrt(fit(), value), TypeError, "null must be LMMFit") for value in (3, "fit")),
        (lambda _: fsc.lmmtest(fit(), "x1", "x2"), ValueError, "index chooses coefficients and contrast"),
        *((lambda _, value=value: fsc.variance_explained(value), TypeError, "fit must be LMMFit") for value in (None, 3)),
        *((lambda _, value=value: fsc.variance_explained(fit(), value), ANY, "terms") for value in (3, "x2", ["x2"], True, {"a": "zzz"}, {"a": 99}, {"a": "x2", "b": "x2"}, np.zeros(2), pd.NA)),
        *((lambda _, value=value: fsc.contrast_matrix("a", value), ANY, words) for value, words in ((None, "names="), (3, "names="), ("a", "names="), ([], "no coefficients"), (["a", "a"], "Duplicate coefficient names"), (pd.NA, "names="))),
        *((lambda _, chosen=chosen: stats().select(**chosen), ANY, words) for chosen, words in (({"coefs": "x9"}, "Did you mean"), ({"coefs": []}, "No coefficient is left"), ({"components": 7}, "no position 7"), ({"genes": 1.5}, "genes:"), ({"genes": np.array(1)}, "genes:"), ({"genes": [0, 0]}, "chosen more than once"), ({"genes": [True]}, "the mask has 1 entries"))),
        *((lambda _, dropped=dropped: fit().refit(**dropped), ANY, words) for dropped, words in (({"drop_coefs": "zzz"}, "drop_coefs"), ({"drop_components": [0]}, "No component is left"), ({"drop_coefs": np.array(0)}, "drop_coefs"), ({"method": "x"}, "method="))),
        (lambda _: stats() + stats().select(coefs="x1"), ValueError, "their coef_names differ"),
        (lambda _: summary_stats(None, n=0), ValueError, "n=0 is no number of cells"),
    ], nothing),
    *options("SummaryStats", summary_stats, {
        **dict.fromkeys(("XX", "XY", "ZX", "ZY", "ZZ"), (ANY, NO_SUMS)), "yy": (ANY, [None, "x", {}, np.zeros(3), np.full(4, np.nan), np.full(4, -1.0), ["a"] * 4, np.ones(4) * 1j]),
        "n": (ANY, [None, "60", 0, -1, 2.5, np.nan, np.inf, True, [60], 10**400]), "d": (ANY, [None, "6", [5], 2.5, {}, [np.nan]]),
        "coef_names": (ANY, NO_NAMES), "gene_names": (ANY, NO_NAMES), "component_names": (ANY, [name for name in NO_NAMES if name != ["a"]]), "ranef_names": (ANY, NO_NAMES),
        "slopes": (ANY, [3, "a", [None], [1], [True, False], np.array(True)]), "correlated": (ANY, [3, "a", [[0, 1]]]), "basis": (ANY, [np.ones((3, 3)), np.zeros((2, 2)), np.diag([1.0, 2.0])]), "origin": (ANY, [3, [], b"a"]), "named_levels": (ANY, FLAGS),
        "weight_sum": (ANY, ["a", 0, -1, np.nan, True, [60]]), "log_weight_sum": (ANY, ["a", None, np.nan, 1e9, True])}, nothing),
    *rows("SummaryStats", [(lambda _: summary_stats(_, XX=np.array([[1.0, 2], [3, 4]])), ValueError, "XX must be symmetric"), (lambda _: summary_stats(_, component_names=["residual"]), ValueError, "'residual'")], nothing),
    *(row for cls in (fsc.SummaryStats, fsc.Design) for row in rows(cls.__name__, [
        *((lambda _, cls=cls, path=path: cls.load(path), (TypeError, ValueError, OSError), str(path)[:50].strip("\ud800\0") if isinstance(path, str) and "\0" not in path else "path=") for path in NO_PATH),
        (lambda _, cls=cls: cls.load(__file__), (OSError, ValueError), __file__.rpartition("/")[2])], nothing)),
    *rows("save", [(lambda _, path=path: stats().save(path), (TypeError, ValueError, OSError), "path=" if path not in (".", "nowhere/x.h5ad") else path) for path in NO_PATH], nothing),
    *rows("Design", [
        *((lambda a, path=path: fsc.Design.of(a.obs, "~ trt", "sam").save(path), (TypeError, ValueError, OSError), words) for path, words in ((None, "path="), ("", "path="), ("nowhere/x.json", "no such folder"), (".", "is a folder"), ("a\0", "path="))),
        *((lambda _, value=value: fsc.Design.of(value, "~ trt", "sam"), TypeError, "obs must be a table of cells") for value in (None, 3, "obs", [1])),
        (lambda a: fsc.Design.of(a.obs, "~ zzz", "sam"), KeyError, "'zzz', which is not a column"), (lambda a: fsc.Design.of(a.obs, "~ trt", "zzz"), KeyError, "'zzz'"), (lambda a: fsc.Design.of(a.obs, 3, "sam"), TypeError, "fixed must be a formula"), (lambda a: fsc.Design.of(a.obs, "~ trt", 3), TypeError, "random=3"),
    ]),
    *options("simu", simu, {
        **{name: (ANY, [0, -1, 2.5, "3", True, 10**30, [3], np.nan]) for name in ("n_genes", "n_cells", "n_samples", "n_clusters", "n_treatments")},
        "reference": (ANY, [3, "x", pd.DataFrame(), np.ones((3, 3))]), "metadata": (ANY, [3, "x", {}, METADATA.drop(columns="trt"), METADATA.assign(cls=[None] * 100), METADATA[:50]]), "treatment": (ANY, ["Z", 3, []]),
        **dict.fromkeys(("samples_nested", "adjust_library_size"), (ANY, FLAGS)), "show_progress": (ANY, ["no", 1, []]), "direction": (ANY, ["sideways", None, 1, []]),
        "n_de_genes": (ANY, [-1, 2.5, "3", True, 10**30]), "n_de_genes_per_cluster": (ANY, PER_CLUSTER), "p_de_genes_per_cluster": (ANY, PER_CLUSTER),
        "min_beta": (ANY, ["1", None, np.nan, 5, -1, 1j, [1]]), "max_beta": (ANY, ["1", None, np.inf, 1e30, 0.1, 1j]), "var_random_effects": (ANY, ["1", None, -1, np.nan, 1e30, 10**30]),
        "seed": (ANY, [-1, 2.5, "a", True, {}, [None], np.nan]), "filename": (ANY, [3, b"x.h5ad", "x.zarr", "nowhere/x.h5ad", "", "a\0.h5ad", []])}, nothing),
    *rows("simu", [(lambda _, X=X: simu(_, reference=ad.AnnData(X)), ValueError, words) for X, words in ((np.ones((5, 3)) + 1j, "real numbers"), (np.ones((5, 3)) / 2, "not counts"), (-np.ones((5, 3)), "not counts"), (np.ones((5, 3)), "variance above its mean"), (np.ones((1, 3)), "at least 2 cells"), (sp.csr_matrix((5, 3)), "variance above its mean"))], nothing),
]  # fmt: skip
