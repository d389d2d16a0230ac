"""Whatever bytes LZF is given, it writes within bounds."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from flashmm_sc._stream.lzf import decompress


@given(st.binary(max_size=200), st.integers(0, 300))
def test_lzf_stays_within_bounds(code: bytes, size: int) -> None:
    guarded = np.full(size + 2 * 300, 7, np.uint8)
    written = decompress(np.frombuffer(code, np.uint8), guarded[300 : 300 + size])
    assert -1 <= written <= size
    assert (guarded[:300] == 7).all()
    assert (guarded[300 + size :] == 7).all()
