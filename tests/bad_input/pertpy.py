"""Bad input to `flashmm_sc.pertpy.LMM`; no rows where pertpy is not installed."""

from __future__ import annotations

from importlib.util import find_spec

from bad_input.table import rows


def model(adata, design="~ trt", random="sam", **given):
    from flashmm_sc.pertpy import LMM

    return LMM(adata, design, random, **given)


def compared(adata, *given, **options):
    from flashmm_sc.pertpy import LMM

    return LMM.compare_groups(adata, *given, **options)


ROWS = [] if find_spec("pertpy") is None else rows("pertpy", [
    (lambda a: model(a, "~ zzz").fit(transform="log1p"), KeyError, "'zzz', which is not a column of obs"),
    (lambda a: model(a, 3).fit(transform="log1p"), TypeError, "fixed must be a formula"),
    (lambda a: model(a, random="zzz").fit(transform="log1p"), KeyError, "'zzz'"),
    (lambda a: model(a, layer="zzz").fit(transform="log1p"), KeyError, "layer='zzz'"),
    (lambda a: model(a, mask="zzz").fit(transform="log1p"), KeyError, "mask_var='zzz'"),
    (lambda a: model(a).fit(groupby="cls"), ValueError, "groupby= makes a model for each group"),
    (lambda a: model(a).fit(transform="zzz"), ValueError, "transform='zzz' is unknown"),
    (lambda _: model(None).fit(), TypeError, "adata[0]"),
    (lambda a: model(a).cond(trt="A"), RuntimeError, "not fitted yet"),
    (lambda a: compared(a, "trt", "A", "B"), ValueError, "paired_by"),
    (lambda a: compared(a, "zzz", "A", "B", paired_by="sam"), KeyError, "'zzz'"),
])  # fmt: skip
