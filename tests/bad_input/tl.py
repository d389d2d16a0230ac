"""Bad input to `fsc.tl`, `fsc.pp` and `fsc.summarize`."""

from __future__ import annotations

import anndata as ad
import numpy as np
import pandas as pd
import scipy.sparse as sp
from bad_input.table import ANY, FLAGS, JOBS, KEYS, NUMBERS, WHOLE, M, N, cells, fitted, options, rows

import flashmm_sc as fsc


def lmm(adata, fixed="~ trt", random="sam", **given):
    return fsc.tl.lmm_de(adata, fixed, random, **{"transform": "log1p", "n_jobs": 1} | given)


def nb(adata, fixed="~ trt", sample="sam", **given):
    return fsc.tl.nbmm_de(adata, fixed, sample, **{"n_jobs": 1} | given)


def aggregate(adata, by=("sam", "cls"), **given):
    return fsc.pp.aggregate(adata, by, **{"n_jobs": 1} | given)


def summarize(adata, **given):
    return fsc.summarize(adata, **{"design": fsc.Design.of(adata.obs, "~ trt", "sam"), "n_jobs": 1} | given)


def of_lmm_de(call):
    """A call on the fit under `lmm_de`."""
    return lambda adata, **given: call(adata, **{"key": "lmm_de"} | given)


test = lambda adata, **given: fsc.tl.lmm_test(adata, **{"contrasts": "trt[T.B]", "key": "lmm_de", "n_jobs": 1} | given)
anova, shrink = of_lmm_de(fsc.tl.lmm_anova), of_lmm_de(fsc.tl.shrink)
rank, variance_test = of_lmm_de(fsc.tl.rank_genes_groups), of_lmm_de(fsc.tl.lmm_variance_test)


def column(values, name="v"):
    """Cells with one more column of obs."""

    def make():
        adata = cells()
        adata.obs[name] = values
        return adata

    return make


def matrix(X):
    """Cells with another matrix."""

    def make():
        adata = cells()
        return ad.AnnData(X(adata.X.toarray()), adata.obs, adata.var)

    return make


def changed(change):
    """Cells that were changed."""

    def make():
        adata = cells()
        found = change(adata)
        return adata if found is None else found

    return make


def with_two(adata):
    for level in "AB":
        adata.obs.insert(0, "v", level, allow_duplicates=True)


sample = np.arange(N) % 6
text = np.where(sample % 2 == 0, "A", "B").astype(object)
with_missing = lambda values, missing=None: pd.Series(
    [missing if i == 3 else x for i, x in enumerate(values)], dtype=object
).to_numpy()

OPTIONS = [
    *options(
        "lmm_de",
        lmm,
        {
            "fixed": (ANY, [None, 3, "", "  ", ["~ trt"], b"~ trt", {}, np.array("~ trt"), pd.NA, 1j, np.nan]),
            "random": (ANY, [None, 3, [3], "", "  ", [], {}, b"sam", {"a": None}, ["sam", "sam"], np.nan]),
            "layer": (KeyError, [3, "count", [], {}, np.array(["counts"]), "", b"counts", pd.NA, np.nan, 10**30]),
            "use_raw": (ANY, [*FLAGS, True]),
            "mask_var": ((KeyError, *ANY), ["used", 3, [1] * M, [True] * 5, [False] * M, {}, [None] * M, np.ones((M, M), bool)]),
            "mask_obs": ((KeyError, *ANY), ["okay", 3, [1] * N, [True] * 5, [False] * N, "trt", {}, [None] * N, np.ones((N, 2), bool)]),
            "transform": (ANY, ["log", 1, True, [], "LOG1P", b"log1p", {}, np.nan]),
            "target_sum": (ANY, [1e4, 0, "3", np.nan]),
            "log_base": (ANY, [1, 0, -2, "e", np.nan, np.inf, 10, [2]]),
            "weights": ((KeyError, *ANY), ["scor", "score", "trt", 3, [1.0] * 5, np.ones((N, 2)), np.zeros(N), np.full(N, np.inf), [1j] * N, {}, np.full(N, 1e200)]),
            "min_cells": (ANY, [*WHOLE, -1]),
            "min_fraction": (ANY, [*NUMBERS, 1.5]),
            "min_counts": (ANY, NUMBERS),
            "method": (ANY, ["reml", None, 1, ["REML"], {}]),
            "ddf": (ANY, ["n-p", None, 3, "Satterthwaite"]),
            "nonnegative": (ANY, FLAGS),
            "moderate": (ANY, FLAGS),
            "groupby": ((KeyError, *ANY), ["clss", 3, ["cls"], "", np.array(["cls"]), pd.Series(["cls"]), pd.NA, {}, b"cls", "sam"]),
            "residual_by": ((KeyError, *ANY), ["clss", 3, ["cls"], "", np.array(["cls"]), pd.NA, {}, b"cls"]),
            "ranef": (ANY, FLAGS),
            "copy": (ANY, FLAGS),
            "corr_method": (ANY, ["fdr", None, 3, []]),
            "corr_scope": (ANY, ["columns", None, True]),
            "key_added": (ANY, [*KEYS, "mine"]),
            "max_iter": (ANY, [*WHOLE, 0, -1]),
            "n_jobs": (ANY, JOBS),
            "show_progress": (ANY, ["no", 1, 0, [], 2.5]),
        },
    ),
    *options(
        "nbmm_de",
        nb,
        {
            "fixed": (ANY, [None, 3, "", ["~ trt"], {}]),
            "sample": ((KeyError, *ANY), [None, 3, [], "samm", {}, [3], ""]),
            "layer": (KeyError, [3, "count", [], {}]),
            "size_factors": ((KeyError, *ANY), ["sizes", "score", "trt", 3, np.zeros(N), np.ones(5), {}]),
            "normalize": (ANY, ["tmm", True, 1, []]),
            "min_cells": (ANY, [2.5, -1]),
            "min_counts": (ANY, ["0.1", np.nan, -1]),
            "groupby": ((KeyError, *ANY), ["clss", 3, ["cls"], np.array(["cls"])]),
            "key_added": (ANY, ["a/b", None, "x" * 300]),
            "copy": (ANY, ["False", 0]),
            "n_jobs": (ANY, [0, "3"]),
        },
    ),
    *options(
        "aggregate",
        aggregate,
        {
            "by": ((KeyError, *ANY), [None, 3, [], "samm", ["sam", "sam"], "", 1.5, np.array(3), "okk", [None]]),
            "layer": (KeyError, [3, "count", [], {}]),
            "transform": (ANY, ["log", 1, True]),
            "out": (ANY, [3, "sums.csv", "", "a\0.h5ad", b"x.h5ad", [], True, "\ud800.h5ad"]),
            "n_jobs": (ANY, [0, "3"]),
            "show_progress": (ANY, ["no", 1]),
        },
    ),
    *options(
        "summarize",
        summarize,
        {
            "design": (TypeError, [None, "~ trt", 3, {}, []]),
            "layer": (KeyError, [3, "count", []]),
            "transform": (ANY, ["log", 1]),
            "n_jobs": (ANY, [0, "3"]),
        },
    ),
    *options(
        "lmm_test",
        test,
        {
            "key_added": (ANY, ["a/b", None, "lmm_de", "mine"]),
            "ddf": (ANY, ["n-p", 3, []]),
            "alternative": (ANY, ["two.sided", None, 1, "Greater"]),
            "lfc": (ANY, ["0.1", np.nan, -1]),
            "joint": (ANY, ["False", 0]),
            "conf_level": (ANY, ["0.9", 95, -0.1, np.nan, [0.9], 0, 1, True, {}]),
            "corr_method": (ANY, ["fdr", None]),
            "corr_scope": (ANY, ["columns", None]),
            "n_jobs": (ANY, [0, "3"]),
        },
        fitted,
    ),
    *options("lmm_anova", anova, {"key_added": (ANY, ["a/b", None, "two"]), "ddf": (ANY, ["n-p", 3]), "n_jobs": (ANY, [0, "3"])}, fitted),
    *options("shrink", shrink, {"coefs": ((KeyError, *ANY), ["trt", 3, ["zzz"], {"a": 1}]), "key_added": (ANY, ["a/b", None, "two"])}, fitted),
    *options("rank_genes_groups", rank, {"coefs": ((KeyError, *ANY), ["trt", 3, ["zzz"], {"x": "zzz"}]), "groupby": ((KeyError, *ANY), [3, "zzz"]), "rankby_abs": (ANY, ["False", 0]), "key_added": (ANY, ["a/b", None, "lmm_de"])}, fitted),
    *options("lmm_variance_test", variance_test, {"key_added": (ANY, ["a/b", None, "two"]), "corr_method": (ANY, ["fdr", None])}, fitted),
]  # fmt: skip

UNHASHABLE = [[[int(k)] for k in sample], [{int(k)} for k in sample], [{"a": int(k)} for k in sample]]
COLUMNS = [
    *(row for values in UNHASHABLE for make in [column(values)] for row in [
        *rows("obs", [(lambda a: lmm(a, random="v"), ValueError, "obs['v']", "can't be levels", ".astype(str)")], make),
        *rows("obs", [(lambda a: lmm(a, groupby="v"), ValueError, "obs['v']", "can't be levels")], make),
        *rows("obs", [(lambda a: nb(a, sample="v"), ValueError, "obs['v']", "can't be levels")], make),
        *rows("obs", [(lambda a: aggregate(a, "v"), ValueError, "obs['v']", "can't be levels")], make),
        *rows("obs", [(lambda a: lmm(a, "~ v"), ValueError, "v")], make),
    ]),
    *(row for kind in (with_missing(text), with_missing(text, np.nan), pd.array(with_missing(text), dtype="string"), pd.Categorical(with_missing(text)), pd.array(with_missing(sample), dtype="Int64"), pd.array(with_missing(sample % 2 == 0), dtype="boolean"), pd.to_datetime(pd.Series(with_missing(["2020-01-01"] * N))).to_numpy()) for row in rows("missing", [
        (lambda a: lmm(a, "~ v"), ValueError, "obs['v']", "NaN in 1 of 60 cells", "notna()"),
        (lambda a: lmm(a, random="v"), ValueError, "obs['v']", "random term 'v'", "NaN in 1 of 60 cells"),
        (lambda a: lmm(a, groupby="v"), ValueError, "obs['v']", "NaN in 1 of 60 cells"),
        (lambda a: aggregate(a, "v"), ValueError, "obs['v']", "NaN in 1 of 60 cells"),
    ], column(kind))),
    *(row for kind in ((sample % 2) * 1j, (sample % 2) + 0j) for row in rows("complex", [
        (lambda a: lmm(a, "~ v"), ValueError, "obs['v']", "complex numbers", ".real"),
        (lambda a: lmm(a, random="v"), ValueError, "obs['v']", "complex numbers"),
        (lambda a: lmm(a, random="(0 + v | sam)"), ValueError, "obs['v']", "complex numbers"),
        (lambda a: lmm(a, groupby="v"), ValueError, "obs['v']", "complex numbers"),
        (lambda a: nb(a, "~ v"), ValueError, "obs['v']", "complex numbers"),
        (lambda a: fsc.Design.of(a.obs, "~ v", "sam"), ValueError, "obs['v']", "complex numbers"),
    ], column(kind))),
    *rows("huge", [
        (lambda a: lmm(a, "~ v"), ValueError, "'v'", "beyond 1e+140"),
        (lambda a: nb(a, "~ v"), ValueError, "'v'", "beyond 1e+140"),
        (lambda a: lmm(a, random="(0 + v | cls)"), ValueError, "obs['v']", "beyond 1e+140 in 60 cells"),
    ], column(np.where(sample % 2 == 0, 1e300, -1e300))),
    *rows("infinite", [
        (lambda a: lmm(a, "~ v"), ValueError, "'v'", "NaN or infinite in 30 of 60 cells"),
        (lambda a: lmm(a, random="(0 + v | cls)"), ValueError, "obs['v']", "is infinite in 30 cells"),
        (lambda a: lmm(a, size_factors="v"), ValueError, "size_factors='v' must be positive and finite"),
        (lambda a: nb(a, "~ v"), ValueError, "'v'", "NaN or infinite"),
    ], column(np.where(sample % 2 == 0, 0, np.inf))),
    *(row for kind in (pd.to_datetime(["2020-01-01", "2020-01-02"] * 30), pd.to_timedelta(sample % 2, unit="D")) for row in rows("dates", [
        (lambda a: lmm(a, "~ v"), ValueError, "v"),
        (lambda a: lmm(a, random="(0 + v | cls)"), ValueError, "obs['v']", "is of dates"),
        (lambda a: lmm(a, weights="v"), ValueError, "weights='v' should hold numbers"),
    ], column(kind))),
    *rows("one level", [
        (lambda a: lmm(a, "~ v"), ValueError, "'v' has a single level"),
        (lambda a: lmm(a, random="v"), ValueError, "one level only"),
        (lambda a: lmm(a, random="(0 + v | sam)"), ValueError, "obs['v']", "one level only"),
        (lambda a: lmm(a, residual_by="v"), ValueError, "residual_by='v'"),
        (lambda a: nb(a, "~ v"), ValueError, "'v' has a single level"),
        (lambda a: nb(a, sample="v"), ValueError, "varies within samples"),
    ], column(pd.Categorical(["A"] * N, ["A", "Z"]))),
    *rows("alike", [
        (lambda a: lmm(a, random="v"), ValueError, "read the same: '1'"),
        (lambda a: lmm(a, groupby="v"), ValueError, "read the same: '1'"),
        (lambda a: aggregate(a, "v"), ValueError, "read the same: '1'"),
    ], column(np.array([1 if k % 2 else "1" for k in sample], dtype=object))),
    *rows("own level", [
        (lambda a: lmm(a, random="v"), ValueError, "a level of its own for every cell"),
        (lambda a: lmm(a, groupby="v"), ValueError, "in no group of groupby='v'"),
        (lambda a: lmm(a, random="score"), ValueError, "obs['score']", "(0 + score|sam)"),
    ], column([f"v{i}" for i in range(N)])),
    *rows("twice", [
        (lambda a: lmm(a, "~ v"), ValueError, "2 columns named 'v'"),
        (lambda a: lmm(a, random="v"), ValueError, "2 columns named 'v'"),
        (lambda a: lmm(a, random="(0 + v | sam)"), ValueError, "2 columns named 'v'"),
        (lambda a: lmm(a, groupby="v"), ValueError, "2 columns named 'v'"),
        (lambda a: aggregate(a, "v"), ValueError, "2 columns named 'v'"),
    ], changed(with_two)),
]  # fmt: skip

MATRICES = [
    *(row for kind in (lambda X: X + 1j, lambda X: sp.csr_matrix(X + 0j), lambda X: X.astype(str), lambda X: X.astype("datetime64[D]")) for row in rows("not real", [
        (lmm, ValueError, "adata.X must hold real numbers"),
        (nb, ValueError, "adata.X must hold real numbers"),
        (aggregate, ValueError, "adata.X must hold real numbers"),
        (summarize, ValueError, "adata.X must hold real numbers"),
    ], matrix(kind))),
    *(row for kind in (np.asarray, sp.csr_matrix, sp.csc_matrix) for bad, word in ((np.nan, "nan"), (np.inf, "inf")) for row in rows(f"{word} in {kind.__name__}", [
        (lmm, ValueError, f"holds {word} at", "cell 'c7', gene 'g5'"),
        (aggregate, ValueError, f"holds {word} at", "cell 'c7', gene 'g5'"),
        (nb, ValueError, "cell 'c7'"),
    ], matrix(lambda X, kind=kind, bad=bad: kind(np.where(np.arange(N * M).reshape(N, M) == 7 * M + 5, bad, X))))),
    *rows("negative", [(lmm, ValueError, "negative value"), (nb, ValueError, "layer")], matrix(lambda X: X - 2.5)),
    *rows("fractions", [(nb, ValueError, "layer")], matrix(lambda X: X / 3)),
    *rows("empty", [(lambda a: lmm(a, size_factors="total"), ValueError, "total")], matrix(lambda X: X * 0)),
    *rows("objects", [(lmm, (TypeError, ValueError), "adata.X"), (nb, (TypeError, ValueError), "adata.X")], matrix(lambda X: X.astype(object))),
    *(row for n, m, call, words in [(0, M, lmm, "0 cells and 12 genes"), (N, 0, lmm, "60 cells and 0 genes"), (0, 0, nb, "0 cells and 0 genes"), (0, M, aggregate, "0 cells"), (N, 0, summarize, "0 genes"), (1, M, lmm, "'trt' has a single level"), (2, M, lmm, "no residual degrees of freedom"), (3, M, nb, "too few for '~ trt'"), (3, M, lmm, "a level of its own for every cell")]
      for row in rows(f"{n} × {m}", [(call, ValueError, words)], changed(lambda a, n=n, m=m: a[:n, :m].copy()))),
    *rows("X", [(call, ValueError, "adata.X is None", "layer=") for call in (lmm, nb, aggregate, summarize)], changed(lambda a: setattr(a, "X", None))),
    *rows("var_names", [(call, ValueError, "var_names are not unique: 'g1'", "var_names_make_unique()") for call in (lmm, nb, aggregate, summarize)],
          changed(lambda a: setattr(a, "var_names", ["g1", "g1", *a.var_names[2:]]))),
]  # fmt: skip

NO_ADATA = [
    (call, value, TypeError, words)
    for call in (lmm, nb, aggregate)
    for value, words in ((None, "None"), (3, "int"), ("x.h5ad", "str"), (pd.DataFrame(), "DataFrame"), (np.ones((3, 3)), "ndarray"), ({}, "dict"), ([None], "adata[0]"), ([3], "adata[0]"))
]  # fmt: skip
LISTS = rows(
    "list",
    [
        *((lambda _, call=call, value=value: call(value), error, words) for call, value, error, words in NO_ADATA),
        *((lambda _, call=call, value=value: call(value), ValueError, words) for call in (lmm, nb, aggregate) for value, words in (([], "empty list"), ([""], "adata[0]=''"), (["a\0b"], "adata[0]="), (["x" * 300], "adata[0]="))),
        (lambda _: lmm(["nowhere.h5ad"]), FileNotFoundError, "There is no file 'nowhere.h5ad'"),
        (lambda _: lmm([__file__]), ValueError, "is not an h5ad file"),
        (lambda _: lmm(["."]), ValueError, "'.' is a folder that can't be read as a zarr store"),
        (lambda a: lmm([a, a]), ValueError, "adata[1] is in the list before"),
        (lambda a: lmm([a], copy=True), ValueError, "copy=True is for one AnnData"),
        *((lambda _, call=call: call(None), TypeError, "adata must be an AnnData, not NoneType. Functions of fsc.tl return None") for call in (test, anova, shrink, rank, variance_test)),
        *((lambda _, call=call: call("x"), TypeError, "adata must be an AnnData, not str") for call in (test, anova, shrink, rank, variance_test)),
        (lambda _: fsc.tl.forget(None, "lmm_de"), TypeError, "adata must be an AnnData"),
        *((lambda a, call=call, key=key: call(a, key=key), KeyError, f"adata.uns[{key!r}] holds ") for call in (test, anova, shrink, rank, variance_test) for key in ("lmm", "", 3, "mine", b"lmm_de")),
        *((lambda a, null=null: variance_test(a, null=null), (KeyError, ValueError), words) for null, words in (("zzz", "uns['zzz']"), ("lmm_test", "holds tests"), ("nb", "of counts"))),
        *((lambda a, call=call: call(a, key="lmm_test"), KeyError, "holds tests, not a fit") for call in (test, anova, variance_test)),
        *((lambda a, key=key: fsc.tl.forget(a, key), KeyError, f"uns[{key!r}] holds no result", "lmm_de") for key in ("lmm", 3, None, "mine", "")),
    ],
    fitted,
)  # fmt: skip
ROWS = [*OPTIONS, *COLUMNS, *MATRICES, *LISTS]
