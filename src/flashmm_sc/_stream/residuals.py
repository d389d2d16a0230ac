"""Sums of what is left of values once the fitted values of coefficients are subtracted.

Of values far from zero, relative to how they vary, sums of squares keep few digits of the variation. Those of y - W b keep
all. They have no zeros to skip, so blocks are made dense, a piece at a time.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import scipy.sparse as sp

from flashmm_sc._stream.kernel import transformed

if TYPE_CHECKING:
    from collections.abc import Iterator

    from flashmm_sc._stream.kernel import Transform

_BYTES = 2**25


def add_residuals(
    values: sp.csr_array | sp.csc_array,
    design: tuple[sp.csr_array, np.ndarray],
    gene: np.ndarray,
    transform: Transform,
    coef: np.ndarray,
    each: tuple[np.ndarray, np.ndarray],
    sums: tuple[np.ndarray, np.ndarray],
) -> None:
    """Add W'(y - W b) and the sums of squares of y - W b of a block, whose values are known to be usable.

    Parameters
    ----------
    design
        Design rows of the cells of the block, and the numbers of their models, -1 for those of none.
    gene
        Position of each column of the block in the sums, or -1.
    coef
        b of each gene of the sums, columns of W × genes.
    each
        Size factors and precisions of the cells of the block; empty where they have none.
    sums
        W'Y, and y'y of each model.
    """
    (W, number), (size, precision), (WY, yy) = design, each, sums
    for cells, columns in _pieces(values, gene):
        own, at = cells[number[cells] >= 0], gene[columns]
        rows = W[own]
        read = _dense(values, own, columns)
        y = transformed(read / size[own, None] if size.size else read, transform) - rows @ coef[:, at]
        weighted = precision[own, None] * y if precision.size else y
        models = sp.csr_array((np.ones(len(own)), (np.arange(len(own)), number[own])), shape=(len(own), len(yy)))
        WY[:, at] += rows.T @ weighted
        yy[:, at] += models.T @ (weighted * y)


def _pieces(values: sp.csr_array | sp.csc_array, gene: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Cells and columns of pieces that are not too large, cut where the container is cut easily."""
    cells, columns = np.arange(values.shape[0]), np.flatnonzero(gene >= 0)
    across, along = (columns, cells) if values.format == "csr" else (cells, columns)
    step = max(1, _BYTES // (8 * max(len(across), 1)))
    for start in range(0, len(along), step):
        piece = along[start : start + step]
        yield (piece, columns) if values.format == "csr" else (cells, piece)


def _dense(values: sp.csr_array | sp.csc_array, cells: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """These cells and columns in double precision."""
    some = values[cells][:, columns] if values.format == "csr" else values[:, columns][cells]
    return some.toarray().astype(np.float64)
