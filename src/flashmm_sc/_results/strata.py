"""One pass over the cells of a study sums them up by stratum."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from flashmm_sc._design.rows import StratumRows
from flashmm_sc._results.sizes import with_sizes
from flashmm_sc._stats.strata import Strata
from flashmm_sc._stream.sums import Tally

if TYPE_CHECKING:
    from flashmm_sc._results.study import Study
    from flashmm_sc._results.values import Values


def strata_of(
    study: Study,
    codes: np.ndarray,
    n_strata: int,
    values: Values,
    *,
    n_jobs: int | None = None,
    show_progress: bool | None = None,
) -> Strata:
    """Sums of each stratum of cells, over the genes of the study, in one pass.

    Size factors take part as `values` say: with `weigh` they are totals, or what is given, as they are, of which no mean
    or median is taken. Totals take a pass of their own where a matrix gives genes, not cells, at a time.

    Parameters
    ----------
    codes
        Number of the stratum of each cell of the study; the values of those with -1 play no part.
    n_strata
        How many strata there are.

    Raises
    ------
    OSError, RuntimeError, ValueError
        As `Study.sums` and `with_sizes`.
    """
    rows = StratumRows(np.asarray(codes, dtype=np.int32), n_strata)
    study = with_sizes(study, values, rows, n_jobs)
    tally = Tally(True, strata=True, weigh=values.weigh)
    sums = study.sums(rows, transform=values.transform, tally=tally, n_jobs=n_jobs, show_progress=show_progress)
    n = np.bincount(rows.codes[rows.cells], minlength=n_strata)
    return Strata.of(n, sums, transformed=values.transform is not None, weigh=values.weigh)
