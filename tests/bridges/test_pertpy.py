"""A mixed model in pertpy's interface: as pertpy's own models are used, with the numbers of `lmm_de`."""

from __future__ import annotations

import doctest

import anndata as ad
import matplotlib.pyplot as plt
import numpy as np
import pytest
from containers import assert_unchanged

import flashmm_sc as fsc

pt = pytest.importorskip("pertpy", reason="pertpy is not installed")
pertpy = pytest.importorskip("flashmm_sc.pertpy")
LMM = pertpy.LMM

pytestmark = pytest.mark.filterwarnings(
    "ignore::DeprecationWarning", "ignore::PendingDeprecationWarning", "ignore::FutureWarning"
)


@pytest.fixture
def model(adata):
    adata.obs["cls"] = adata.obs["cls"].astype("category")
    found = LMM(adata, "~ cls * trt + score", "sam")
    found.fit(transform="log1p")
    return found


def test_it_is_one_of_pertpys(model):
    from pertpy.tools._differential_gene_expression import LinearModelBase

    assert isinstance(model, LinearModelBase)
    assert model.variables == {"cls", "trt", "score"}


def test_contrasts_are_those_of_lmm_test(model):
    effect = model.contrast("trt", "A", "B")
    in_nk = model.cond(cls="NK", trt="B") - model.cond(cls="NK", trt="A")
    assert effect.to_dict() == {
        "Intercept": 0, "cls[T.NK]": 0, "trt[T.B]": 1, "score": 0, "cls[T.NK]:trt[T.B]": 0,
    }  # fmt: skip
    table = model.test_contrasts({"effect": effect, "in NK": in_nk})
    adata = model.adata.copy()
    fsc.tl.lmm_de(adata, "~ cls * trt + score", "sam", transform="log1p")
    fsc.tl.lmm_test(adata, {"effect": "trt[T.B]", "in NK": "trt[T.B] + cls[T.NK]:trt[T.B]"})
    expected = fsc.get.lmm_de_df(adata, key="lmm_test").set_index(["contrast", "variable"])
    assert {"variable", "p_value", "log_fc", "adj_p_value", "contrast"} <= set(table)
    assert len(table) == 24
    for name, part in table.groupby("contrast"):
        assert part["p_value"].is_monotonic_increasing
        for column in ("p_value", "log_fc", "adj_p_value", "coef", "t_value"):
            np.testing.assert_allclose(part[column], expected.loc[name].loc[part["variable"], column], rtol=1e-8)


def test_one_contrast_and_options_of_the_test(model):
    contrast = model.contrast("trt", "A", "B")
    alone, vector = model.test_contrasts(contrast), model.test_contrasts(contrast.to_numpy())
    np.testing.assert_array_equal(alone["p_value"], vector["p_value"])
    assert alone["contrast"].isna().all()
    greater = model.test_contrasts(contrast, alternative="greater").set_index("variable")["p_value"]
    up = alone.set_index("variable")["coef"] > 0
    np.testing.assert_allclose(greater[up], alone.set_index("variable")["p_value"][up] / 2, rtol=1e-9)
    with pytest.raises(ValueError, match="all zeros"):
        model.test_contrasts(0 * contrast)


def test_conditions_are_at_references_and_means(model):
    score = model.adata.obs["score"].mean()
    assert model.cond().to_dict() == pytest.approx(
        {"Intercept": 1, "cls[T.NK]": 0, "trt[T.B]": 0, "score": score, "cls[T.NK]:trt[T.B]": 0}
    )
    assert model.cond(score=0.5)["score"] == 0.5
    with pytest.raises(ValueError, match="'trt' has no level 'C'"):
        model.cond(trt="C")
    with pytest.raises(ValueError, match="names 'tr', which is not in the model"):
        model.cond(tr="A")


def test_a_formula_of_effects_within_levels(adata):
    """Of which formulaic-contrasts makes a contrast of zeros."""
    model = LMM(adata, "~ 0 + cls + cls:trt", "sam")
    model.fit(transform="log1p")
    assert model.contrast("trt", "A", "B").tolist() == [0, 0, 1, 0]


def test_comparing_groups(adata):
    found = LMM.compare_groups(adata, "batch", "x", ["y", "z"], paired_by="sam", fit_kwargs={"transform": "log1p"})
    fsc.tl.lmm_de(adata, "~ batch", "sam", transform="log1p")
    for level in ("y", "z"):
        expected = fsc.get.lmm_de_df(adata, f"batch[T.{level}]").set_index("variable")
        part = found[found["contrast"] == level]
        np.testing.assert_allclose(part["p_value"], expected.loc[part["variable"], "p_value"], rtol=1e-8)
    with pytest.raises(ValueError, match="paired_by: name the column"):
        LMM.compare_groups(adata, "batch", "x", "y")


def test_layers_masks_and_genes_without_a_result(adata):
    adata.layers["counts"] = adata.X.copy()
    values = adata.X.toarray()
    values[:, 4] = 0
    adata.layers["counts"] = values
    adata.X = None
    before = adata.copy()
    model = LMM(adata, "~ trt", "sam", mask="use", layer="counts")
    model.fit(transform="log1p")
    assert_unchanged(adata, before)
    table = model.test_contrasts(model.contrast("trt", "A", "B"))
    assert sorted(table["variable"]) == sorted(adata.var_names[adata.var["use"]])
    assert table["variable"].iloc[-1] == "gene4"
    assert table["p_value"].isna().tolist() == [False] * 7 + [True]


def test_backed(adata, tmp_path):
    adata.write_h5ad(tmp_path / "cells.h5ad")
    backed = ad.read_h5ad(tmp_path / "cells.h5ad", backed="r")
    tables = []
    for its in (adata, backed):
        model = LMM(its, "~ trt", "sam")
        model.fit(transform="log1p")
        tables.append(model.test_contrasts(model.contrast("trt", "A", "B")))
    np.testing.assert_allclose(*(table["p_value"] for table in tables), rtol=1e-9)
    backed.file.close()


def test_what_it_says_of_itself(model):
    words = repr(model)
    for part in ("LMM", "160 obs × 12 vars", "~ cls * trt + score", "sam", "cls[T.NK]:trt[T.B]", "yes"):
        assert part in words
    assert "Linear" in type(model).__doc__ or "linear" in type(model).__doc__
    assert "160 obs" in model._repr_html_()


def test_before_it_is_fitted(adata):
    model = LMM(adata, "~ trt", "sam")
    assert "Fitted" in repr(model)
    for call in (lambda: model.cond(trt="B"), lambda: model.test_contrasts(np.array([0, 1])), lambda: model.variables):
        with pytest.raises(RuntimeError, match="call fit"):
            call()
    with pytest.raises(ValueError, match="groupby= makes a model for each group"):
        model.fit(groupby="cls")


def test_its_example_runs():
    found = doctest.DocTestFinder().find(LMM, "LMM", module=pertpy)
    report = []
    for test in found:
        if not test.name.startswith("LMM._"):
            doctest.DocTestRunner().run(test, out=report.append)
    assert not report, "".join(report)


# Our tables in pertpy's plots


@pytest.fixture
def close_figures():
    yield
    plt.close("all")


@pytest.mark.usefixtures("close_figures")
class TestPlots:
    """Unchanged, with pertpy's own names of columns."""

    def test_volcano(self, model):
        table = fsc.get.lmm_de_df(model.results, "trt[T.B]")
        figure = model.plot_volcano(table, log2fc_threshold=0.1, to_label=3, return_fig=True)
        assert sum(len(points.get_offsets()) for points in figure.axes[0].collections) >= 12
        assert figure.axes[0].get_xlabel() == "log_fc"

    def test_contrasts_side_by_side(self, model):
        table = model.test_contrasts({"B": model.contrast("trt", "A", "B"), "NK": model.cond(cls="NK") - model.cond()})
        figure = model.plot_multicomparison_fc(table, n_top_vars=3, return_fig=True)
        assert {label.get_text() for label in figure.axes[0].get_yticklabels()} == {"B", "NK"}

    def test_groups_side_by_side(self, model):
        fsc.tl.lmm_de(model.adata, "~ trt", "sam", groupby="cls", transform="log1p")
        table = fsc.get.lmm_de_df(model.adata, "trt[T.B]")
        figure = model.plot_multicomparison_fc(table, contrast_col="group", n_top_vars=3, return_fig=True)
        assert {label.get_text() for label in figure.axes[0].get_yticklabels()} == {"B", "NK"}
