"""Adding statistics: commutative and associative up to the order of levels and genes, whatever made them."""

from __future__ import annotations

from functools import reduce
from operator import add

import numpy as np
import pandas as pd
import pytest
from example_stats import DONORS, stats

import flashmm_sc as fsc


def assert_same(a, b):
    """Equal up to the order of levels within components, and of genes."""
    assert (a.n, a.d, list(a.component_names), a.origin) == (b.n, b.d, list(b.component_names), b.origin)
    z = [list(a.ranef_names).index(name) for name in b.ranef_names]
    g = [list(a.gene_names).index(name) for name in b.gene_names]
    pairs = [(a.XX, b.XX), (a.XY[:, g], b.XY), (a.ZX[z], b.ZX), (a.ZY[z][:, g], b.ZY), (a.yy[g], b.yy)]
    for ours, theirs in [*pairs, (a.ZZ.toarray()[np.ix_(z, z)], b.ZZ.toarray())]:
        np.testing.assert_allclose(ours, theirs, rtol=1e-12, atol=1e-12)


@pytest.fixture
def parts():
    """Donors and batches in other orders, partly shared, and genes in another order."""
    return [
        stats(0, DONORS[:2], ["x"]),
        stats(1, DONORS[:0:-1], ["z", "x"], genes=("g3", "g/1", "g2")),
        stats(2, DONORS, ["y", "z", "x"], genes=("g2", "g3", "g/1")),
    ]


def test_sums_by_name(parts):
    a, b, _ = parts
    both = a + b
    assert both.d == (5, 2)
    assert list(both.ranef_names) == [f"donor[{name}]" for name in (*DONORS[:2], *DONORS[:1:-1])] + [
        "batch[x]",
        "batch[z]",
    ]
    assert list(both.gene_names) == list(a.gene_names)
    at = list(both.ranef_names).index
    np.testing.assert_array_equal(both.ZY[at("donor[d:2]")], a.ZY[1] + b.ZY[3][[1, 2, 0]])  # in both
    np.testing.assert_array_equal(both.ZY[at("donor[d/1]")], a.ZY[0])  # in one
    np.testing.assert_array_equal(both.ZY[at("donor[é]")], b.ZY[0][[1, 2, 0]])
    assert both.ZZ[at("donor[d:2]"), at("batch[x]")] == a.ZZ[1, 2] + b.ZZ[3, 5]
    assert both.n == 120


def test_commutative_and_associative(parts):
    a, b, c = parts
    assert_same(a + b, b + a)
    assert_same((a + b) + c, a + (b + c))
    assert_same(reduce(add, parts), reduce(add, parts[::-1]))


def test_the_parts_are_left_as_they_are(parts):
    a, b, _ = parts
    before = [(s.XY.copy(), s.ZY.copy(), s.ZZ.toarray(), list(s.ranef_names)) for s in (a, b)]
    a + b
    for s, (XY, ZY, ZZ, names) in zip((a, b), before, strict=True):
        np.testing.assert_array_equal(s.XY, XY)
        np.testing.assert_array_equal(s.ZY, ZY)
        np.testing.assert_array_equal(s.ZZ.toarray(), ZZ)
        assert s.ranef_names == names


def test_twice_the_cells_is_twice_the_sums():
    one = stats(0)
    two = one + one
    assert (two.n, two.d, two.ranef_names) == (120, one.d, one.ranef_names)
    np.testing.assert_array_equal(two.ZZ.toarray(), 2 * one.ZZ.toarray())
    np.testing.assert_array_equal(two.yy, 2 * one.yy)


def test_levels_of_one_name_in_two_components_are_two_levels():
    """Names are looked for within their component only."""
    names = ["same", "other", "same", "third"]
    parts = [
        stats(k, ["a", "b"], ["c", "d"], ranef_names=[names[i] for i in order])
        for k, order in enumerate([[0, 1, 2, 3], [1, 0, 3, 2]])
    ]
    both = parts[0] + parts[1]
    assert list(both.ranef_names) == names
    np.testing.assert_array_equal(both.ZY, parts[0].ZY + parts[1].ZY[[1, 0, 3, 2]])


def test_a_sub_model_of_the_sum_is_the_sum_of_sub_models(parts):
    a, b, _ = parts
    chosen = {"coefs": ["age"], "components": ["batch"], "genes": ["g3", "g/1"]}
    assert_same((a + b).select(**chosen), a.select(**chosen) + b.select(**chosen))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"coef_names": ["Intercept", "sex"]}, r"coef_names differ, .*'age'.*'sex'"),
        ({"component_names": ["donor", "lab"]}, "component_names differ"),
        ({"origin": "another"}, "origin differ, 'the same' and 'another'"),
        ({"gene_names": ["g/1", "g2", "g4"]}, r"only one of them has 'g3', 'g4'.*select\(genes="),
        ({"ranef_names": ["z"] * 8}, "random effects have no unique names"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_what_does_not_add_up(changes, words):
    one, other = stats(0), stats(1, **changes)
    for a, b in ((one, other), (other, one)):
        with pytest.raises(ValueError, match=r"These statistics don't add up: "):
            a + b
    with pytest.raises(ValueError, match=words):
        one + other


MADE_UP = {
    "arrays": lambda: stats(0, ranef_names=()),
    "numbered rows": lambda: stats(0, ranef_names=(), ZY=pd.DataFrame(stats(0).ZY)),
    "some components": lambda: stats(0, ranef_names=()).select(components=["donor", "batch"]),
    "names that say nothing": lambda: stats(0, named_levels=False),
    "sslmm": lambda: fsc.sslmm(np.ones((6, 1)), np.eye(6), np.eye(2)[np.arange(6) % 2]),
    "numbered columns": lambda: fsc.sslmm(np.ones((6, 1)), np.eye(6), pd.DataFrame(np.eye(2)[np.arange(6) % 2])),
}


@pytest.mark.parametrize("case", MADE_UP)
def test_levels_without_names_are_not_united(case, tmp_path):
    """z1 of one site is not z1 of another; neither selection nor a file gives them names."""
    made_up = MADE_UP[case]()
    made_up.save(tmp_path / "stats.h5ad")
    for one in (made_up, made_up.select(genes=[0]), fsc.SummaryStats.load(tmp_path / "stats.h5ad")):
        with pytest.raises(ValueError, match=r"names of random effects are made up, .*ranef_names="):
            one + one


@pytest.mark.parametrize("made_up_first", [True, False])
def test_levels_with_names_are_not_united_with_those_without(made_up_first):
    a, b = stats(0), stats(1, ranef_names=())
    with pytest.raises(ValueError, match="made up"):
        b + a if made_up_first else a + b


def test_rows_of_a_data_frame_are_names():
    names = [f"donor[{name}]" for name in DONORS] + ["batch[x]", "batch[y]", "batch[z]"]
    one = stats(0, ranef_names=(), ZY=pd.DataFrame(stats(0).ZY, index=names))
    assert_same(one + stats(1), stats(0) + stats(1))
    Z = pd.DataFrame(np.eye(2)[np.arange(6) % 2], columns=["a", "b"])
    two = fsc.sslmm(np.ones((6, 1)), np.eye(6), Z)
    assert (two + two).ranef_names == ["a", "b"]


@pytest.mark.parametrize("other", [0, None, "stats", np.zeros(3)])
def test_other_things_are_not_added(other):
    with pytest.raises(TypeError, match="unsupported operand"):
        stats(0) + other


def test_sum_adds_up_parts(parts):
    a, b, c = parts
    assert_same(sum(parts), a + b + c)
