"""Levels that no cell shares."""

from __future__ import annotations

import dense_reference as dense
import numpy as np
import pytest
from grouped_stats import grouped_stats, projected

from flashmm_sc._gaussian.grouped import units


@pytest.mark.parametrize(("name", "levels"), [("own variances", 7), ("nested", 7), ("crossed", 1), ("samples", 7)])
def test_levels(name, levels):
    X, Z, d, groups, Y = dense.grouped_example(name)
    u = projected(grouped_stats(X, Z, d, groups, Y)).S.units
    used = np.diff(u.unit) > 0
    assert used.sum() == levels
    assert (np.diff(u.first)[~used] == 1).all()  # a type that a donor lacks is a column of zeros
    np.testing.assert_array_equal(np.sort(u.order), np.arange(sum(d)))
    assert (
        len(u.group)
        == len(np.unique(np.column_stack([(Z[:, u.order[u.first[:-1]]] != 0).argmax(axis=1), groups]), axis=0))
        or levels == 1
    )


def test_terms_that_cross_too_many_levels_are_refused(monkeypatch):
    monkeypatch.setattr(units, "MOST", 20)
    example = dense.grouped_example("crossed")
    with pytest.raises(
        ValueError, match=r"these overlap, so that 23 effects \(of 25\) depend on each other, more than 20"
    ):
        projected(grouped_stats(*example))
