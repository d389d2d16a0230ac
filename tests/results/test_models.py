"""Models of groups of cells: each as if its cells were alone, those that can't be fitted left out with a warning."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from flashmm_sc import FlashmmWarning
from flashmm_sc._design.rows import Rows
from flashmm_sc._results.models import build_models
from flashmm_sc._stream.accumulate import accumulate
from flashmm_sc._stream.sums import CellMatrix

FIXED, RANDOM = "~ trt + score", "sam + batch"


@pytest.fixture
def obs(cells):
    """Groups whose order is not that of the cells, one of them without cells."""
    obs = cells.copy()
    obs["type"] = pd.Categorical(np.where(obs["cls"] == "NK", "NK", "T/NK"), categories=["unused", "T/NK", "NK"])
    obs.loc[obs.index[[0, 2, 4, 6, 8]], "type"] = "NK"
    return obs


def expected_designs(cells):
    """X and Z of some cells by their definition."""
    X = np.column_stack([np.ones(len(cells)), cells["trt"] == "B", cells["score"]]).astype(float)
    return X, np.hstack([pd.get_dummies(cells[name]).to_numpy(float) for name in ("sam", "batch")])


@pytest.mark.parametrize("groupby", [None, "type"])
def test_each_model_has_the_designs_of_its_cells(obs, groupby):
    models, rows = build_models(obs, FIXED, RANDOM, groupby)
    assert [model.group for model in models] == ([""] if groupby is None else ["T/NK", "NK"])
    for model, (cells, _) in zip(models, rows.parts, strict=True):
        inside = obs if groupby is None else obs[obs["type"] == model.group]
        assert obs.index[cells].tolist() == inside.index.tolist()
        assert model.n == len(inside)
        X, Z = expected_designs(inside)
        for found, expected in [
            (model.cross.XX, X.T @ X),
            (model.cross.ZX, Z.T @ X),
            (model.cross.ZZ.toarray(), Z.T @ Z),
        ]:
            np.testing.assert_allclose(found, expected, rtol=1e-13)
        assert model.design.fixed.names == ["Intercept", "trt[T.B]", "score"]
        assert model.design.random.ranef_names[:2] == ["sam[s0]", "sam[s1]"]
        assert model.design.random.ranef_names[-3:] == ["batch[x]", "batch[y]", "batch[z]"]
        assert model.cross.width == 3 + 8 + 3


def test_rows_lie_side_by_side_and_sums_are_taken_apart_again(obs, counts):
    models, rows = build_models(obs, FIXED, RANDOM, "type")
    W, group = rows.cut(0, len(obs))
    names = np.array([models[index].group for index in group])
    np.testing.assert_array_equal(names, obs["type"])
    sums = accumulate([CellMatrix.of(counts)], rows)
    for index, (model, start) in enumerate(zip(models, [0, 14], strict=True)):
        inside = (obs["type"] == model.group).to_numpy()
        X, Z = expected_designs(obs[inside])
        np.testing.assert_array_equal(W[inside].toarray()[:, start : start + 14], np.hstack([X, Z]))
        assert W[inside].sum() == W[inside][:, start : start + 14].sum()
        stats = model.stats(sums, start, index, np.arange(12), list("abcdefghijkl"))
        Y = counts[inside]
        for found, expected in [(stats.XY, X.T @ Y), (stats.ZY, Z.T @ Y), (stats.yy, (Y**2).sum(axis=0))]:
            np.testing.assert_allclose(found, expected, rtol=1e-12, atol=1e-12)
        assert (stats.n, stats.d) == (len(Y), (8, 3))
        assert stats.component_names == ["sam", "batch"]
        assert stats.gene_names == list("abcdefghijkl")


def test_one_model_of_all_cells_has_the_rows_as_they_are(obs):
    _, rows = build_models(obs, FIXED, RANDOM, None)
    W, group = rows.cut(0, len(obs))
    np.testing.assert_array_equal(W.toarray(), np.hstack(expected_designs(obs)))
    assert group.tolist() == [0] * len(obs)


def test_groups_that_cannot_be_fitted_are_left_out(obs):
    obs["type"] = obs["cls"].where(obs["trt"] == "B", obs["cls"].replace("B", "control/B"))
    obs.loc[obs.index[:2], "type"] = "two cells"
    with pytest.warns(FlashmmWarning, match="3 of 4 groups of groupby='type' are left out:") as caught:
        models, rows = build_models(obs, FIXED, RANDOM, "type")
    assert len(caught) == 1
    message = str(caught[0].message)
    for groups, reason in {
        "'B', 'control/B'": "'trt' has a single level",
        "'two cells'": "2 cells leave no residual degrees of freedom for the 3 columns",
    }.items():
        assert f"\n{groups}: " in message
        assert reason in message.split(f"{groups}: ")[1].split("\n")[0]
    assert [model.group for model in models] == ["NK"]
    W, group = rows.cut(0, len(obs))
    inside = (obs["type"] == "NK").to_numpy()
    assert group.tolist() == np.where(inside, 0, -1).tolist()
    assert W[~inside].nnz == 0
    np.testing.assert_array_equal(W[inside].toarray(), np.hstack(expected_designs(obs[inside])))


def test_no_group_can_be_fitted(obs):
    with pytest.raises(ValueError, match=r"in no group of groupby='sam'\.\n.*: .*'trt' has a single level") as caught:
        build_models(obs, FIXED, RANDOM, "sam")
    _, *reasons = str(caught.value).splitlines()
    assert [name for line in reasons for name in line.split(": ")[0].split(", ")] == [f"'s{k}'" for k in range(8)]
    assert len(reasons) == 1


def test_groups_that_read_the_same_are_refused(obs):
    obs["type"] = pd.Series([1 if cls == "B" else "1" for cls in obs["cls"]], obs.index, dtype=object)
    with pytest.raises(ValueError, match="'1'"):
        build_models(obs, FIXED, RANDOM, "type")


def test_message_for_a_number_as_groups_is_short(obs):
    with pytest.raises(ValueError, match="groupby='score'") as caught:
        build_models(obs, FIXED, RANDOM, "score")
    assert len(str(caught.value).splitlines()) < 20


def test_whole_numbers_are_groups_too(obs):
    obs["leiden"] = np.where(obs["cls"] == "B", 1.0, 0.0)
    assert [model.group for model in build_models(obs, FIXED, RANDOM, "leiden")[0]] == ["0", "1"]


def test_a_component_cannot_be_called_residual(obs):
    with pytest.raises(ValueError, match="called 'residual', as the residual variance is"):
        build_models(obs, FIXED, {"residual": "sam"}, None)


def test_sums_of_other_groups_play_no_part(obs, counts):
    """The statistics of a group from the sums over its own rows only."""
    models, rows = build_models(obs, FIXED, RANDOM, "type")
    other, own = rows.parts
    both = accumulate([CellMatrix.of(counts)], rows)
    only = accumulate([CellMatrix.of(counts)], Rows(rows.n, rows.encoder, [(other[0][:0], other[1][:0]), own]))
    stats = [models[1].stats(sums, 14, 1, np.arange(12), list("abcdefghijkl")) for sums in (both, only)]
    for name in ("XY", "ZY", "yy"):
        np.testing.assert_array_equal(getattr(stats[0], name), getattr(stats[1], name))
