"""What an option may be, in words that name it. What every public function refuses: tests/bad_input."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pandas as pd
import pytest

from flashmm_sc._base.options import check_number, check_real, real_array


@pytest.mark.parametrize("value", [0, 1, 0.5, np.float32(0.5), np.int8(1)])
def test_numbers_of_any_kind(value):
    check_number("share", value, 0.0, 1.0)


@pytest.mark.parametrize(
    ("value", "error", "words"),
    [
        (True, TypeError, "share=True must be a number. As 0.5."),
        (Fraction(1, 2), TypeError, "must be a number"),
        ("0.5", TypeError, "must be a number"),
        (1.5, ValueError, "share=1.5 must be from 0 to 1, but not 0. As 0.5."),
        (0, ValueError, "but not 0"),
        (np.nan, ValueError, "share=nan must be from 0 to 1"),
        (10**400, ValueError, "must be from 0 to 1"),
    ],
)
def test_what_is_no_number_within_bounds(value, error, words):
    with pytest.raises(error) as caught:
        check_number("share", value, 0.0, 1.0, "As 0.5.", without=(0.0,))
    assert words in str(caught.value)


@pytest.mark.parametrize(
    "values", [[1, 2.5], [[True, False]], np.ones(3, np.float16), pd.Series([1, 2], dtype="Int64"), [np.int8(1), 2.5]]
)
def test_real_numbers(values):
    assert real_array("values", values).dtype == np.float64


@pytest.mark.parametrize(
    "values",
    [["1"], [1, "2"], [1j], [None], [[1], [1, 2]], {"a": 1}, None, 3, np.array(["1"], object), np.array([10**400])],
)
def test_what_are_no_real_numbers(values):
    with pytest.raises((TypeError, ValueError), match=r"^values must"):
        real_array("values", values)


def test_masked_values_are_refused():
    check_real("values", np.ma.masked_array([1.0, 2.0], [False, False]))
    with pytest.raises(ValueError, match="values has masked values"):
        check_real("values", np.ma.masked_array([1.0, 2.0], [False, True]))
