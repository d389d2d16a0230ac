"""Decoded values are those of the definition, whichever columns take part and whatever is divided; bad ones are found."""

from __future__ import annotations

import numpy as np
import pytest

from flashmm_sc._stream.decode import MEMO, over_size, over_sizes, plain, take, taken
from flashmm_sc._stream.kernel import kind_and_table

COLUMNS = 300
TRANSFORMS = [None, "log1p", "log2p1"]
VALUES = {
    "counts": [3, 1, 0, 2, 1, 1, 60, 4],
    "large counts": [3, 4095, 4096, 70_000, 2**33, 1],
    "fractions": [0.5, 1, 1e-9, 2.25, 4095.5, -0.0],
    "none": [],
}


def decoded(values, place, transform, size=None, row=0, dtype=np.float32):
    """Positions, values as read and transformed; the index of a bad value alone."""
    n = len(values)
    indices = np.sort(np.random.default_rng(0).choice(COLUMNS, n, replace=False)).astype(np.int32)
    whole = bool((place == np.arange(COLUMNS)).all())
    size = np.empty(0) if size is None else size
    at, read, count, value = np.empty(n, np.uint32), np.empty(n), np.empty(n, np.int32), np.empty(n)
    data = np.array(values, dtype)
    found = take(indices, data, place, whole, at, read)
    at, read, value = at[:found], read[:found], value[:found]
    kind, table = kind_and_table(transform)
    if not size.size:
        bad = plain(read, kind, table, count, value)
    elif row < 0:
        bad = over_sizes(read, kind, size, at, value)
    else:
        bad = over_size(read, kind, size[row], np.empty(MEMO), value)
    return (indices, taken(indices, place, whole, bad)) if bad >= 0 else (indices, at, read, value)


def some(order: int = 1) -> np.ndarray:
    place = np.arange(COLUMNS)[::order].copy()
    place[::3] = -1
    return place


@pytest.mark.parametrize("transform", TRANSFORMS)
@pytest.mark.parametrize("sizes", ["none", "of the row", "of each index"])
@pytest.mark.parametrize("place", [np.arange(COLUMNS), some(), some(-1)], ids=["all", "some", "reversed"])
@pytest.mark.parametrize("values", VALUES.values(), ids=list(VALUES))
def test_values(values, place, sizes, transform):
    size = None if sizes == "none" else np.linspace(0.5, 2, COLUMNS)
    row = -1 if sizes == "of each index" else 7
    if row < 0:  # indices are cells then, which have no other place
        place = np.where(place < 0, -1, np.arange(COLUMNS))
    indices, at, read, value = decoded(values, place, transform, size, row)
    kept = place[indices] >= 0
    expected = np.array(values, np.float32).astype(np.float64)[kept]
    np.testing.assert_array_equal(at, place[indices][kept])
    np.testing.assert_array_equal(read, expected)
    over = 1.0 if size is None else size[row] if row >= 0 else size[indices[kept]]
    scale = {None: expected / over, "log1p": np.log1p(expected / over), "log2p1": np.log1p(expected / over) / np.log(2)}
    np.testing.assert_allclose(value, scale[transform], rtol=1e-15)


@pytest.mark.parametrize("transform", TRANSFORMS)
@pytest.mark.parametrize("sizes", [None, np.ones(COLUMNS)])
@pytest.mark.parametrize("row", [0, -1])
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, -1.0])
@pytest.mark.parametrize("place", [np.arange(COLUMNS), some()], ids=["all", "some"])
def test_the_first_bad_value_is_found(bad, place, row, sizes, transform):
    values = np.full(120, 2.0)
    values[[50, 51, 52, 90]] = bad
    indices, *found = decoded(values, place, transform, sizes, row)
    kept = [k for k in (50, 51, 52, 90) if place[indices[k]] >= 0]
    if bad == -1 and transform is None:
        assert len(found) == 3
    else:
        assert found == [indices[kept[0]]]
