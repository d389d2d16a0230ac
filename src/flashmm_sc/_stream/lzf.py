"""LZF, the fast compression that h5py brings: undone in compiled code, outside of HDF5's lock."""

from __future__ import annotations

import numba
import numpy as np


@numba.njit(nogil=True, cache=True)
def decompress(code, out):
    """Decompress LZF, runs of literal bytes and copies of earlier ones; return the bytes written, or -1 if invalid.

    Indices are unsigned where it matters, since numba lets signed ones count from the end: a third of the time.
    """
    i, o = 0, 0
    while i < code.size:
        length = np.int64(code[i])
        i += 1
        if length < 32:  # that many more bytes follow
            length += 1
            if i + length > code.size or o + length > out.size:
                return -1
            for k in range(length):
                out[np.uintp(o + k)] = code[np.uintp(i + k)]
            i += length
        else:
            back = ((length & 31) << 8) + 1
            length >>= 5
            if length == 7:
                if i >= code.size:
                    return -1
                length += code[i]
                i += 1
            if i >= code.size:
                return -1
            back += code[i]
            i += 1
            length += 2
            if back > o or o + length > out.size:
                return -1
            for k in range(length):  # byte by byte: the copy may overlap itself
                out[np.uintp(o + k)] = out[np.uintp(o + k - back)]
        o += length
    return o
