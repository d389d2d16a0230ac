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


def test_copies_may_overlap_themselves() -> None:
    """Three bytes as they are; six and then 300 copied from three back, the latter with a byte of its own for its length."""
    code = bytes([2, *b"abc", 4 << 5, 2, 7 << 5, 255, 2, 7 << 5, 300 - 264 - 9, 2])
    out = np.zeros(309, np.uint8)
    assert decompress(np.frombuffer(code, np.uint8), out) == 309
    assert out.tobytes() == b"abc" * 103
    assert decompress(np.frombuffer(code[:-1], np.uint8), out) == -1
    assert decompress(np.frombuffer(code[:7], np.uint8), out) == -1
    assert decompress(np.frombuffer(code, np.uint8), out[:308]) == -1
    assert decompress(np.frombuffer(code[:4] + bytes([4 << 5, 3]), np.uint8), out) == -1  # from before the start
