"""Bad input to `fsc.get`, `fsc.pl` and `fsc.contrasts`, and contrasts and formulas of all kinds."""

from __future__ import annotations

import numpy as np
import pandas as pd
from bad_input.table import ANY, NUMBERS, fitted, options, rows
from bad_input.tl import lmm, nb, test

import flashmm_sc as fsc

get, pl = fsc.get, fsc.pl
NAMES = ((KeyError, *ANY), ["zzz", 3, ["zzz"], [None], np.array(3), {"a": 1}])


def on(call, *fixed, **usual):
    """A call on the fit under `lmm_de`; plots are not shown."""
    return lambda adata, **given: call(adata, *fixed, **{"key": "lmm_de"} | usual | given)


TABLES = {name: on(getattr(get, name)) for name in ("lmm_de_df", "matrix", "ranef_df", "variance_df", "variance_explained_df", "summary")}  # fmt: skip
PLOTS = {
    "curve": on(lambda a, genes="g1", x="score", **given: pl.curve(a, genes, x, **given), show=False),
    "dotplot": on(lambda a, genes="g1", **given: pl.dotplot(a, genes, **given), show=False),
    "effects": on(lambda a, gene="g1", **given: pl.effects(a, gene, **given), show=False),
    "fit_diagnostics": on(pl.fit_diagnostics, show=False),
    "hits": on(pl.hits, show=False),
    "ma": on(pl.ma, coef="trt[T.B]", show=False),
    "pval_hist": on(pl.pval_hist, coef="trt[T.B]", show=False),
    "qq": on(pl.qq, coef="trt[T.B]", show=False),
    "ranef": on(lambda a, gene="g1", **given: pl.ranef(a, gene, **given), show=False),
    "samples": on(lambda a, gene="g1", by="trt", **given: pl.samples(a, gene, by, **given), show=False),
    "variance": on(pl.variance, show=False),
    "variance_prior": on(pl.variance_prior, show=False),
    "volcano": on(pl.volcano, coef="trt[T.B]", show=False),
}
ONE_GENE = ("effects", "ranef", "samples")
WITH_GROUPS = ("dotplot", "effects", "hits", "ma", "pval_hist", "qq", "volcano")
WITH_ALPHA = ("dotplot", "effects", "hits", "ma", "volcano")

GET = [
    *(row for name, call in TABLES.items() for row in rows(f"get.{name}", [
        *((lambda a, call=call, key=key: call(a, key=key), KeyError, f"adata.uns[{key!r}] holds ") for key in ("lmm", "mine", 3)),
        (lambda _, call=call: call(None), TypeError, "adata must be an AnnData, not NoneType"),
        (lambda _, call=call: call("x.h5ad"), TypeError, "adata must be an AnnData, not str"),
    ], fitted)),
    *(row for name in ("lmm_de_df", "matrix", "ranef_df", "variance_df", "variance_explained_df") for row in options(f"get.{name}", TABLES[name], {"groups": NAMES}, fitted)),
    *options("get.matrix", TABLES["matrix"], {"coefs": NAMES, "value": (ANY, [3, [], True]), "fill_value": (ANY, ["0", [0], {}, np.inf, True, np.ones(2), pd.NA, 1j])}, fitted),
    *options("get.lmm_de_df", TABLES["lmm_de_df"], {"coefs": NAMES}, fitted),
    *options("get.ranef_df", TABLES["ranef_df"], {"components": NAMES}, fitted),
    *options("get.summary", TABLES["summary"], {"alpha": (ANY, [*NUMBERS, 1.5])}, fitted),
    *options("get.fitted", on(lambda a, genes="g1", grid=None, **given: get.fitted(a, genes, {"trt": ["A"]} if grid is None else grid, **given)), {
        "genes": NAMES, "conf_level": (ANY, ["0.9", 95, 0, 1, np.nan, True, [0.9]]), "groups": NAMES}, fitted),
    *rows("get.fitted", [
        *((lambda a, grid=grid: get.fitted(a, "g1", grid, key="lmm_de"), ANY, words) for grid, words in (
            ({"zzz": 1}, "'zzz'"), ({"trt": "Z"}, "no level 'Z'"), ({"score": 99}, "outside of what 'score' is"), ({"score": "a"}, "'a'"), ({"score": None}, "nan"), ({"score": np.nan}, "nan"), ({"trt": []}, "no values"), ({"trt": pd.NA}, "'trt'"), (3, "grid"), ("trt", "grid")))], fitted),
    *rows("get.variance_test_df", [(lambda a, key=key: get.variance_test_df(a, key=key), (KeyError, ValueError), words) for key, words in (("zzz", "uns['zzz']"), ("lmm_de", "lmm_de"), (3, "uns[3]"))], fitted),
]  # fmt: skip

PL = [
    *(row for name, call in PLOTS.items() for row in rows(f"pl.{name}", [
        *((lambda a, call=call, key=key: call(a, key=key), KeyError, f"adata.uns[{key!r}] holds ") for key in ("lmm", 3)),
        (lambda _, call=call: call(None), TypeError, "adata must be an AnnData, not NoneType"),
    ], fitted)),
    *(row for name, call in PLOTS.items() for row in options(f"pl.{name}", call, {"show": (ANY, ["no"]), "save": (ANY, [3, "x.doc", "nowhere/x.png"])}, fitted)),
    *(row for name, call in PLOTS.items() if name != "fit_diagnostics" for row in options(f"pl.{name}", call, {"ax": (ANY, ["axes"])}, fitted)),
    *(row for name in WITH_GROUPS for row in options(f"pl.{name}", PLOTS[name], {"groups": ((KeyError, *ANY), ["zzz", 3, ["zzz"], [None], np.array(["zzz"]), pd.NA, []])}, fitted)),
    *(row for name in WITH_ALPHA for row in options(f"pl.{name}", PLOTS[name], {"alpha": (ANY, ["0.1", np.nan, 0, 1.5])}, fitted)),
    *(row for name in ("hits", "ma", "volcano") for row in options(f"pl.{name}", PLOTS[name], {"min_effect": (ANY, [None, np.inf, -1])}, fitted)),
    *(row for name in (*ONE_GENE, "curve") for row in options(f"pl.{name}", PLOTS[name], {"conf_level": (ANY, ["0.9", 95, np.nan])}, fitted)),
    *(row for name in ONE_GENE for row in options(f"pl.{name}", PLOTS[name], {"gene": ((KeyError, *ANY), ["zzz", 3, None, [], ["g1"], ""])}, fitted)),
    *(row for name in (*ONE_GENE, "dotplot", "volcano") for row in options(f"pl.{name}", PLOTS[name], {"gene_symbols": ((KeyError, *ANY), ["zzz", 3, []])}, fitted)),
    *(row for name in ("ma", "pval_hist", "qq", "volcano") for row in options(f"pl.{name}", PLOTS[name], {"coef": ((KeyError, *ANY), ["zzz", 3, ["trt[T.B]"], ""])}, fitted)),
    *options("pl.curve", PLOTS["curve"], {"genes": ((KeyError, *ANY), [None, 3, [], np.array(3)]), "x": (ANY, ["trt", "zzz", None, 3, [], np.array(["score"]), pd.NA]), "hue": (ANY, ["score", "zzz", 3, []])}, fitted),
    *options("pl.samples", PLOTS["samples"], {"by": (ANY, ["score", "zzz", 3, [], None])}, fitted),
    *options("pl.pval_hist", PLOTS["pval_hist"], {"bins": (ANY, [0, -1, 2.5, "10", None, True])}, fitted),
    *options("pl.volcano", PLOTS["volcano"], {"show": (ANY, [1, [], 0]), "save": (ANY, ["x", "", b"x.png", True, [], "a\0.png"]), "ax": (ANY, [1, []]), "alpha": (ANY, NUMBERS), "labels": (ANY, [2.5, -1, None]), "title": (ANY, [3, [], b"a"])}, fitted),
]  # fmt: skip

c = fsc.contrasts
ask = lambda question, *words, error=ANY: (lambda a: test(a, contrasts=question(c)), error, *words)
CONTRASTS = rows("contrasts", [
    *(ask(lambda c, ask=name: getattr(c, ask)("zzz"), "zzz", "is not in the model") for name in ("each", "means", "pairwise", "slope")),
    *(ask(lambda c, ask=name, of=of: getattr(c, ask)(of), repr(of)) for name in ("each", "means", "pairwise", "slope") for of in (3, None, ["trt"])),
    *(ask(lambda c, ask=name, by=by: getattr(c, ask)("trt", by=by), "by=") for name in ("each", "means", "pairwise") for by in (3, np.array(3), 2.5)),
    *(ask(lambda c, ask=name, at=at: getattr(c, ask)("trt", at=at), "at=") for name in ("each", "means", "pairwise") for at in (3, "score", [1])),
    *(ask(lambda c, ask=name: getattr(c, ask)("score"), "is a covariate, without levels") for name in ("each", "means", "pairwise")),
    ask(lambda c: c.slope("trt"), "'trt' is a factor"), ask(lambda c: c.means("trt", by="trt"), "more than once"), ask(lambda c: c.means("trt", by="score"), "'score' is a covariate"),
    *(ask(lambda c, per=per: c.slope("score", per=per), "per=") for per in (0, -1, "1", None, np.nan, np.inf, True)),
    *(ask(lambda c, ref=ref: c.each("trt", ref=ref), *words) for ref, *words in (("Z", "no level 'Z'"), (7, "no level '7'"), (["A"], "ref= is one level"), (pd.NA, "no level"))),
    *(ask(lambda c, at=at: c.means("trt", at=at), *words) for at, *words in (({"score": 99}, "outside of what 'score' is"), ({"score": []}, "gives no value"), ({"score": "a"}, "'a'"), ({"zzz": 1}, "'zzz'"), ({"trt": "A"}, "at= can't hold 'trt'"), ({"score": np.nan}, "nan"), ({"score": {}}, "{}"), ({3: 1}, "3"))),
    ask(lambda c: c.means("sam"), "'sam', which is not in the model"),
], fitted)  # fmt: skip

EXPRESSIONS = {
    "": "", "0": "0", "1": "1", "trt[T.B] + 1": "constant", "trt[T.B]*0": "zero", "trt[T.B]*trt[T.B]": "trt[T.B]*trt[T.B]", "trt[T.B]/0": "zero", "1/trt[T.B]": "trt[T.B]", "trt[T.B]**2": "trt[T.B]**2",
    "trt": "unknown coefficient 'trt'", "trt[T.C]": "Did you mean 'trt[T.B]'", "score - score": "is zero for every coefficient", "1e99*score": "rescale it", "score/1e99": "rescale it", "9" * 5000 + "*score": "9", "(" * 900 + "score" + ")" * 900: "((", "(score": "(score",
    "score)": "score)", "()": "()", "score score": "score score", "score,trt[T.B]": ",", "`": "`", "score == 0": "==", "nan*score": "nan", "inf*score": "inf", "1j*score": "1j", "0x10*score": "0x10", "\ue000": "unknown coefficient", "score\x00": "score", "🧬*score": "🧬",
    "__import__('os').system('x')": "__import__", "lambda: score": "lambda", "score.__class__": "score.__class__", "[score]": "[score]", "score()": "score()", "½*score": "½", "score−score": "−", "x" * 10_000: "xxx", "-" * 3000 + "zzz": "zzz",
}  # fmt: skip
VECTORS = [
    (3, "Contrasts are"), (None, "Contrasts are"), ([], "There are no contrasts"), ({}, "There are no contrasts"), ([1, 2], "ontrasts"), ([["score"], ["a", "b"]], "ontrasts"), (["score", "score"], "Duplicate contrast names"), ([None], "ontrasts"), (np.ones((3, 0)), "There are no contrasts"),
    (np.ones((4, 1)), "there are 3 coefficients"), (np.ones((3, 1, 1)), "ontrasts"), (np.array([["a"], ["b"], ["c"]]), "real numbers"), (np.ones((3, 1)) * 1j, "real numbers"), (np.zeros((3, 1)), "is zero"), (b"score", "ontrasts"), (pd.DataFrame(), "There are no contrasts"), (pd.DataFrame({"a": [1.0, 0, 0]}, index=["x", "y", "z"]), "unknown or missing"),
    *(({"d": vector}, "'d'", *words) for vector, *words in (([1, 0], "there are 3 coefficients"), ([0, 0, 0], "is zero"), ([np.nan, 0, 1], "NaN or infinite"), ([1, 2, 3j], "real numbers"), (["1", "0", "0"], "real numbers"), (None, "numbers"), ({"score": 1}, "numbers"), (pd.Series([1.0, 0, 0], ["Intercept", "score", "zzz"]), "unknown or missing"), (np.ma.masked_array([1.0, 0, 0], [1, 0, 0]), "masked"), ([1e200, 0, 0], "rescale"))),
]  # fmt: skip
CONTRAST_ROWS = [
    *rows("expression", [(lambda a, text=text: test(a, contrasts=text), ValueError, words) for text, words in EXPRESSIONS.items()], fitted),
    *rows("vector", [(lambda a, given=given: test(a, contrasts=given), ANY, *words) for given, *words in VECTORS], fitted),
]  # fmt: skip

FORMULAS = {
    "~ 0": "fixed='~ 0'", "~ trt +* cls": "can't be read", "~ [)*": "can't be read", "~ trt ~ cls": "fixed=", "trt ~ cls": "left-hand side", "~ (trt": "can't be read", "~ trt)": "can't be read", "~ `trt": "backtick without another", "~ C(trt": "can't be read", "~ trt | cls": "Random terms go to random=", "~ trt + (1|sam)": "random='(1|sam)'",
    "~ zzz": "'zzz', which is not a column of obs", "~ tr": "Did you mean 'trt'", "~ zzz(trt)": "zzz", "~ log(trt)": "can't be evaluated", "~ log(score)": "NaN", "~ score/0": "fixed=", "~ {1/0}": "can't be evaluated", "~ bs(score, df=-1)": "fixed=", "~ C(trt, levels=3)": "can't be evaluated", "~ C()": "can't be evaluated", "~ open('nowhere')": "can't be evaluated", "~ {exec('1')}": "has no values",
    "~ .": "fixed=", "~ class": "class", "~ trt if cls else score": "fixed=", "~ lambda x: x": "fixed=", "~ s(score)": "fixed=", "~ offset(score)": "fixed=", "~ factor(trt)": "fixed=", "~ trt$cls": "fixed=", "~ trt,cls": "fixed=", "~ \x00": "fixed=", "~ \ud800": "fixed=", "~ \ue000": "fixed=", "~ 🧬": "fixed=", "~ '": "fixed=", "~ trt**x": "fixed=", "~ trt**1.5": "fixed=", "~ (trt+cls+score)**-1": "fixed=",
    "~ " + "(" * 2000 + "trt": "fixed=", "~ score + score**2 ; import os": "fixed=", "~ 1e400": "fixed=", "~ sam": "lies within the fixed columns", "~ score.mean()": "score.mean", "~ hashed(trt)": "fixed=",
}  # fmt: skip
RANDOM = {
    "": "random=", "()": "random=", "(1|)": "random=", "(|sam)": "random=", "(1|sam": "random=", "(1|sam|cls)": "random=", "(1|sam/)": "random=", "(1|:sam)": "random=", "(0|sam)": "random=", "sam +": "random=", "+ sam": "random=", "sam*cls": "random=", "sam - cls": "random=", "I(sam)": "random=", "(log(score)|sam)": "random=", "(1|log(score))": "random=", "`": "random=", "`sam": "random=", "1": "random=",
    "\ue000": "random=", "\x00": "random=", "samm": "Did you mean 'sam'", "sam cls": "random=", "(1|sam) (1|cls)": "random=", "sam; import os": "random=", "(" * 3000: "random=", "x" * 10_000: "xxx", "(2|sam)": "random=", "(trt|sam)": "same in all cells of each level of 'sam'", "sam + sam": "several components named 'sam'", "__import__('os')": "random=", "sam~cls": "random=",
}  # fmt: skip
FORMULA_ROWS = [
    *rows("fixed", [(lambda a, text=text: lmm(a, text), (KeyError, ValueError), words) for text, words in FORMULAS.items()]),
    *rows("random", [(lambda a, text=text: lmm(a, random=text), (KeyError, ValueError), words.replace("random=", "andom")) for text, words in RANDOM.items()]),
    *rows("nb fixed", [(lambda a, text=text: nb(a, text), (KeyError, ValueError), words) for text, words in (("~ zzz", "'zzz', which is not a column"), ("~ score", "varies within samples"), ("~ [)*", "can't be read"), ("~ trt + (1|sam)", "sample='sam'"))]),
]  # fmt: skip
ROWS = [*GET, *PL, *CONTRASTS, *CONTRAST_ROWS, *FORMULA_ROWS]
