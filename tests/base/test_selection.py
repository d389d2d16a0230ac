from __future__ import annotations

import numpy as np
import pytest

from flashmm_sc._base.selection import positions

NAMES = ["cls[B]", "cls[NK]", "trt", "0"]


@pytest.mark.parametrize(
    ("chosen", "found"),
    [
        (None, [0, 1, 2, 3]),
        ("trt", [2]),
        (1, [1]),
        (-1, [3]),
        ("0", [3]),
        (["trt", 0, "cls[NK]"], [2, 0, 1]),
        (range(2), [0, 1]),
        (np.array(["trt", "cls[B]"]), [2, 0]),
        (np.array([2, 0]), [2, 0]),
        (np.array([False, True, False, True]), [1, 3]),
        ([True, False, False, False], [0]),
        ([], []),
    ],
)
def test_names_positions_and_masks(chosen, found):
    assert positions("coefs", chosen, NAMES).tolist() == found


@pytest.mark.parametrize(
    ("chosen", "message"),
    [
        ("trd", r"coefs: there is no 'trd'\. Did you mean 'trt'"),
        (["trt", "nothing like it"], "There are: "),
        (4, "no position 4; there are 4"),
        (-5, "no position -5"),
        (["trt", 2], "'trt' chosen more than once"),
        ([True, False], "mask has 2 entries for 4"),
    ],
)
def test_what_there_is_not(chosen, message):
    with pytest.raises(ValueError, match=message):
        positions("coefs", chosen, NAMES)
