"""Results that are missing, of another kind, or damaged: every part is taken away, and replaced by what it can't be."""

from __future__ import annotations

import copy

import numpy as np
import pandas as pd
from bad_input.faces import PLOTS, TABLES
from bad_input.table import M, fitted, rows
from bad_input.tl import shrink, test, variance_test

import flashmm_sc as fsc

OTHER_KINDS = rows("kind", [
    (lambda a: variance_test(a, key="nb"), (KeyError, ValueError), "nb"),
    (lambda a: fsc.get.ranef_df(a, key="nb"), (KeyError, ValueError), "nb"),
    (lambda a: fsc.get.ranef_df(a, key="two"), (KeyError, ValueError), "ranef=True"),
    (lambda a: fsc.get.ranef_df(a, key="lmm_test"), KeyError, "holds tests, not a fit"),
    (lambda a: fsc.get.variance_df(a, key="lmm_anova"), KeyError, "holds tests, not a fit"),
    (lambda a: fsc.get.variance_explained_df(a, key="nb"), (KeyError, ValueError), "nb"),
    (lambda a: shrink(a, key="lmm_anova"), (KeyError, ValueError), "lmm_anova"),
    (lambda a: test(a, key="nb", ddf="residual"), ValueError, "ddf"),
    (lambda a: fsc.pl.variance_prior(a, key="lmm_de", show=False), (KeyError, ValueError), "lmm_de"),
    (lambda a: fsc.pl.volcano(a, "trt", key="lmm_anova", show=False), (KeyError, ValueError), "lmm_anova"),
    (lambda a: fsc.pl.ranef(a, "g1", key="two", show=False), (KeyError, ValueError), "two"),
], fitted)  # fmt: skip

CALLS = {
    "lmm_test": lambda a: fsc.tl.lmm_test(a, fsc.contrasts.each("trt"), key="lmm_de", key_added="x", n_jobs=1),
    "lmm_de_df": TABLES["lmm_de_df"],
    "variance_df": TABLES["variance_df"],
    "summary": TABLES["summary"],
    "samples": PLOTS["samples"],
}


def of_array(name, change):
    def make():
        adata = fitted()
        adata.varm[f"lmm_de_{name}"] = change(adata.varm[f"lmm_de_{name}"])
        return adata

    return make


def of_entry(path, value, key="lmm_de"):
    def make():
        adata = fitted()
        *above, last = path
        place = adata.uns[key]
        for name in above:
            place = place[name]
        if value is None:
            del place[last]
        else:
            place[last] = copy.copy(value)
        return adata

    return make


ARRAYS = ("coef", "se", "t", "df", "pval", "pval_adj", "theta", "theta_cov")
BROKEN = {
    "texts": lambda array: np.full(array.shape, "a", dtype=object),
    "one column": lambda array: array[:, :1],
    "DataFrame": lambda array: pd.DataFrame({"a": ["x"] * M}, index=[f"g{j}" for j in range(M)]),
}
NAMES = ("coef_names", "column_names", "column_groups", "groups", "status_names", "status_columns", "theta_names")
_code_without_name = lambda status: np.full_like(status, len(fitted().uns["lmm_de"]["status_names"]))
WORK = {("status_columns", "None"), ("column_groups", "None"), ("groups", "[None]"), ("status_names", "[None]")}
"""What is not read, what marks results, and what may be so."""
PARAMS = ("fixed", "method", "ddf", "nonnegative", "moderate")
DAMAGE = [
    *(row for name in ARRAYS for change in BROKEN.values() for row in rows(f"varm {name}", [
        (CALLS[call], (KeyError, ValueError), "lmm_de", "un its call again") for call in ("lmm_test", "lmm_de_df")], of_array(name, change))),
    *(row for change in (lambda a: a + 99, lambda a: a - 99, lambda a: a.astype(float), _code_without_name) for row in rows("varm status", [
        (CALLS["lmm_de_df"], ValueError, "is damaged", "status")], of_array("status", change))),
    *(row for name in NAMES for value in (None, "zzz", 7, np.array([None])) if (name, str(value)) not in WORK for row in rows(f"uns {name}", [
        (CALLS["lmm_test"], (KeyError, ValueError), "lmm_de", "un its call again")], of_entry([name], value))),
    *(row for name in PARAMS for value in (None, 7, np.array([None])) if (name, value is None) != ("fixed", True) for row in rows(f"params {name}", [
        (CALLS["lmm_test" if name != "fixed" else "samples"], (KeyError, ValueError), "'lmm_de' is damaged", name)], of_entry(["params", name], value))),
    *(row for path, value in ((["models"], "zzz"), (["models"], {"text": "zzz", "numbers": np.zeros(3)}), (["models", "numbers"], None), (["models", "numbers"], np.zeros(2)), (["models", "text"], "{}"), (["params"], 3)) for row in rows("models", [
        (CALLS["lmm_test"], (KeyError, ValueError), "lmm_de", "un its call again")], of_entry(path, value))),
    *(row for name, value in (("coef_names", np.full((3, 1), "a")), ("groups", np.full((1, 1), "")), ("status_columns", np.full(3, -1))) for row in rows(f"uns {name}", [
        (CALLS["lmm_test"], ValueError, "'lmm_de' is damaged", f"'{name}'")], of_entry([name], value))),
    *rows("uns notes", [(lambda a: fsc.get.lmm_de_df(a, key="two"), ValueError, "'two' is damaged", "'notes'")], of_entry(["notes"], 7, "two")),
]  # fmt: skip
MISSING = [
    *(row for name in ARRAYS for row in rows(f"varm lacks {name}", [
        (lambda a, name=name: (fsc.get.lmm_de_df(a, key="lmm_de"), fsc.get.variance_df(a, key="lmm_de"), CALLS["lmm_test"](a)), KeyError, f"lmm_de_{name}", "run its call again")],
        lambda name=name: _without(name)) if name not in ("se", "t", "df", "pval", "pval_adj")),
]  # fmt: skip


def _without(name):
    adata = fitted()
    del adata.varm[f"lmm_de_{name}"]
    return adata


ROWS = [*OTHER_KINDS, *DAMAGE, *MISSING]
