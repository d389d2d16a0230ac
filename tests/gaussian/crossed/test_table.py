"""Traces and norms of the table against those of the dense room."""

from __future__ import annotations

import dense_reference as dense
import numpy as np
import pytest

from flashmm_sc._arrays.sslmm import sslmm
from flashmm_sc._gaussian.crossed.covariance import CrossedCovariance
from flashmm_sc._gaussian.gram import Gram
from flashmm_sc._gaussian.projection import Projection


@pytest.mark.parametrize("name", ["crossed", "nested", "slope", "three"])
@pytest.mark.parametrize("method", ["REML", "ML"])
def test_traces_are_those_of_the_dense_room(name, method):
    """Whatever the ratios: panels are filled in where they lie."""
    X, Z, d, Y = dense.example(name)
    stats = sslmm(X, Y, Z, d)
    projection = Projection.of(stats.cross, stats.n, stats.d, stats.coef_names, stats.component_names)
    rank = projection.ranks if method == "REML" else [component.levels for component in projection.within]
    cross = stats.cross if method == "REML" else stats.cross.without_fixed()
    S = CrossedCovariance.of(Gram.of(cross, d), rank).prepared(1, 1)
    assert list(S.table.panels) == [0]
    gamma = np.exp(np.random.default_rng(0).uniform(np.log(1e-4), np.log(1e3), (60, len(d))))
    gamma[0], gamma[1, 0], gamma[2, -1], gamma[3] = 0, 0, 0, 1e-9
    ours = S.factor(gamma).traces()
    assert set(S.table.panels) == {0, 1}
    theirs = (projection.S if method == "REML" else projection.Z).factor(gamma).traces()
    np.testing.assert_allclose(ours[0], theirs[0], rtol=1e-8)
    size = np.sqrt(np.einsum("ijj->ij", theirs[1]))
    size = size[:, :, None] * size[:, None]
    np.testing.assert_allclose(ours[1] / size, theirs[1] / size, atol=1e-6)
