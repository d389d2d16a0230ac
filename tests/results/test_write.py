"""A result is written whole or not at all, wherever it fails."""

from __future__ import annotations

import anndata as ad
import pytest
from anndata._core.aligned_mapping import AxisArrays
from containers import assert_unchanged

import flashmm_sc as fsc

FIT = {"fixed": "~ 0 + cls + cls:trt", "random": "sam", "transform": "log1p", "n_jobs": 1}
CONTRASTS = {"B": "cls[B]:trt[T.B]", "NK": "cls[NK]:trt[T.B]"}
CALLS = {
    "lmm_de": lambda adata: fsc.tl.lmm_de(adata, **FIT, contrasts=CONTRASTS, ranef=True, method="ML"),
    "lmm_test": lambda adata: fsc.tl.lmm_test(adata, CONTRASTS, conf_level=0.9),
    "lmm_anova": fsc.tl.lmm_anova,
    "lmm_variance_test": fsc.tl.lmm_variance_test,
}


@pytest.fixture
def earlier(adata):
    """With an earlier result under each key."""
    fsc.tl.lmm_de(adata, **FIT, contrasts=CONTRASTS, ranef=True)
    fsc.tl.lmm_test(adata, "cls[B]")
    fsc.tl.lmm_anova(adata)
    fsc.tl.lmm_variance_test(adata)
    adata.varm["PCs"], adata.uns["mine"] = adata.varm["lmm_de_se"].copy(), {"a": 1}
    return adata


class Stop:
    """Counts what is assigned to varm and uns, and fails at a given count, once."""

    def __init__(self, monkeypatch, adata, error):
        self.count, self.at, self.error = 0, None, error
        for kind in (AxisArrays, type(adata.uns)):
            monkeypatch.setattr(kind, "__setitem__", self.wrapped(kind.__setitem__))
            monkeypatch.setattr(kind, "__delitem__", self.wrapped(kind.__delitem__))

    def wrapped(self, original):
        def change(mapping, *arguments):
            self.count += 1
            if self.count == self.at:
                raise self.error
            return original(mapping, *arguments)

        return change


@pytest.mark.parametrize("error", [KeyboardInterrupt(), MemoryError()], ids=repr)
@pytest.mark.parametrize("call", CALLS)
def test_adata_is_as_it_was_wherever_writing_fails(earlier, call, error):
    before = earlier.copy()
    with pytest.MonkeyPatch.context() as patch:
        stop = Stop(patch, Uns.of(earlier), error)
        CALLS[call](earlier)
        changes = stop.count
    earlier = before.copy()
    assert changes >= 5
    for at in range(1, changes + 1):
        with pytest.MonkeyPatch.context() as patch:
            stop = Stop(patch, Uns.of(earlier), error)
            stop.at = at
            with pytest.raises(type(error)):
                CALLS[call](earlier)
        assert_unchanged(ordered(earlier), ordered(before))


def ordered(adata):
    """The same with names in order, which results removed and put back may have lost."""
    parts = {name: dict(sorted(getattr(adata, name).items())) for name in ("varm", "uns")}
    return ad.AnnData(adata.X, adata.obs, adata.var, **parts)


class Uns(dict):
    """uns as a dictionary whose methods can be changed."""

    def pop(self, key, *default):
        if key not in self:
            return super().pop(key, *default)
        value = self[key]
        del self[key]
        return value

    @classmethod
    def of(cls, adata):
        adata._uns = cls(adata._uns)
        return adata


@pytest.mark.parametrize("what", ["ranef", "contrasts"])
def test_what_can_fail_is_computed_before_anything_is_written(earlier, monkeypatch, what):
    def fail(*_, **__):
        raise MemoryError

    home = {"ranef": "flashmm_sc._arrays.lmm.LMMFit.ranef", "contrasts": "flashmm_sc._results.stored.contrasts_of_fit"}
    monkeypatch.setattr(home[what], fail)
    before = earlier.copy()
    with pytest.raises(MemoryError):
        CALLS["lmm_de"](earlier)
    assert_unchanged(earlier, before)


def test_what_is_no_longer_there_is_removed(earlier):
    fsc.tl.lmm_de(earlier, **FIT)
    assert "lmm_de_ranef" not in earlier.varm
    assert not [name for name in (*earlier.varm, *earlier.uns) if name.startswith("lmm_de_contrasts")]
    assert {"PCs", "lmm_test_t", "lmm_anova_F"} <= set(earlier.varm)


@pytest.mark.parametrize("kind", ["h5ad", "zarr"])
def test_files_of_older_anndata_lack_what_was_none(adata, tmp_path, kind):
    """anndata before 0.12 left out entries of None."""
    fsc.tl.lmm_de(adata, **FIT | {"random": ["sam", "batch"]})
    fsc.tl.lmm_de(adata, **FIT, key_added="null")
    expected = fsc.tl.lmm_variance_test(adata, null="null") or adata.varm["lmm_variance_test_pval"]
    for key in ("lmm_de", "null"):
        params = adata.uns[key]["params"]
        assert params["layer"] is None
        adata.uns[key]["params"] = {name: value for name, value in params.items() if value is not None}
    path = tmp_path / f"adata.{kind}"
    getattr(adata, f"write_{kind}")(path)
    back = getattr(ad, f"read_{kind}")(path)
    fsc.tl.lmm_variance_test(back, null="null")
    assert (back.varm["lmm_variance_test_pval"] == expected).all()
    fsc.tl.lmm_test(back, "cls[B]")
    assert fsc.get.lmm_de_df(back)["p_value"].notna().any()
