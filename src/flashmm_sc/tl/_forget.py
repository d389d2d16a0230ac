"""Removing results."""

from __future__ import annotations

from typing import TYPE_CHECKING

from flashmm_sc._base.errors import listed
from flashmm_sc._base.log import info, told
from flashmm_sc._results.result import Result, uns_to_write
from flashmm_sc._results.write import write

if TYPE_CHECKING:
    from anndata import AnnData


@told("removing results")
def forget(adata: AnnData, key: str) -> None:
    """Remove a result, and all that was made from it.

    With a fit go the tests of it, wherever they lie, and with tests their shrinkage; a message at info level names them.

    Parameters
    ----------
    adata
        With results of `flashmm_sc.tl`.
    key
        Key of the result; `flashmm_sc.get.results` lists them.

    Returns
    -------
    None. Removes ``adata.uns[key]``, all its arrays in ``adata.varm``, and the same of results made from it.

    Raises
    ------
    KeyError
        When there is no result under `key`.

    Examples
    --------
    >>> import flashmm_sc as fsc
    >>> adata = fsc.datasets.simu_rnaseq(n_genes=50, n_cells=2000, n_samples=8, n_clusters=2, seed=1)
    >>> fsc.tl.lmm_de(adata, "~ trt", "sam", groupby="cls", transform="log1p", size_factors="total")
    >>> fsc.tl.lmm_test(adata, {"down": "-1 * trt[T.B]"})
    >>> fsc.tl.forget(adata, "lmm_de")
    >>> len(adata.varm)
    0
    """
    uns_to_write(adata)
    if key not in Result.keys(adata):
        Result.read(adata, key)  # which says what there is
    gone, made_from = [key], {result.key: result.of for result in Result.all(adata, whole=True)}
    for one in gone:  # which grows
        gone += [other for other, sources in made_from.items() if one in sources and other not in gone]
    write(adata, [], gone)
    if len(gone) > 1:
        info(f"    {key}: removed, and with it what was made from it: {listed(gone[1:])}")
