"""One design for several parts of a study: sites sum over their own cells, and only the sums meet."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd
import scipy.sparse as sp

from flashmm_sc._accumulate import accumulate
from flashmm_sc._design import FixedDesign, fixed_design
from flashmm_sc._design_file import from_json, to_json
from flashmm_sc._errors import listed, one_of
from flashmm_sc._h5ad import appearing_whole
from flashmm_sc._kernel import TRANSFORMS
from flashmm_sc._model import CellDesign
from flashmm_sc._obs import as_factor, complete_column
from flashmm_sc._random import Component, RandomDesign
from flashmm_sc._random_terms import RandomTerm, parse_random
from flashmm_sc._study import Source, in_memory, needed_columns, study_of
from flashmm_sc._summary import SummaryStats

if TYPE_CHECKING:
    from anndata import AnnData

    from flashmm_sc._random_terms import Random


@dataclass(frozen=True, eq=False)
class Design:
    """The design of a model, learned once and applied to any cells: levels, means in `scale`, knots of splines.

    The levels of random effects are not part of it: each part of a study has its own donors.

    Attributes
    ----------
    fixed
        Design of the fixed effects.
    random
        Random terms.

    See Also
    --------
    summarize : sums over the cells of a part, with a design.

    Examples
    --------
    >>> import flashmm_sc as fsc
    >>> whole = fsc.datasets.simu_rnaseq(n_genes=30, n_cells=1500, n_samples=8, n_clusters=2, seed=1)
    >>> design = fsc.Design.of(whole.obs, "~ 0 + scale(libsize) + cls + cls:trt", "sam")
    >>> parts = [fsc.summarize(whole[cells], design, transform="log1p") for cells in (slice(700), slice(700, None))]
    >>> parts[0] + parts[1]
    SummaryStats of 1500 cells × 30 genes: 5 fixed columns, 8 random columns in (8,)
    """

    fixed: FixedDesign
    random: tuple[RandomTerm, ...]

    @classmethod
    def of(cls, obs: pd.DataFrame, fixed: str, random: Random) -> Design:
        """Learn a design from a table of cells: of all parts, or of one part that has all levels.

        Parameters
        ----------
        obs
            One row per cell.
        fixed, random
            Fixed and random effects as in `flashmm_sc.tl.lmm_de`.

        Raises
        ------
        KeyError
            For a column that obs lacks.
        ValueError
            When the formula or the terms can't be read or evaluated, or cells can't be encoded one by one.
        """
        obs = in_memory(obs, needed_columns(obs, fixed, random, None, ""))
        design = fixed_design(fixed, obs)
        if across := design.over_cells(obs):
            msg = (
                f"{listed(across)} depends in each cell on the values of other cells, which other parts "
                "don't have; use scale() or center(), or compute a column of obs before."
            )
            raise ValueError(msg)
        return cls(design, tuple(parse_random(random, obs.columns)))

    @property
    def names(self) -> list[str]:
        """Names of the fixed columns."""
        return self.fixed.names

    def save(self, path: str | PathLike[str]) -> None:
        """Write to a text file (JSON), for another site: levels and states of transforms, nothing of single cells."""
        with appearing_whole(Path(path)) as part:
            part.write_text(json.dumps(to_json(self.fixed, self.random), indent=1), encoding="utf-8")

    @classmethod
    def load(cls, path: str | PathLike[str]) -> Design:
        """Read what `save` wrote. The file holds a formula, which is code: read only files that you trust.

        Raises
        ------
        OSError
            When the file can't be read.
        ValueError
            When it holds no design, a design in another version of the format, or a damaged one.
        """
        try:
            return cls(*from_json(Path(path).read_text(encoding="utf-8", errors="replace")))
        except ValueError as error:
            msg = f"{str(path)!r} {error}"
            raise ValueError(msg) from error

    def __repr__(self) -> str:
        terms = ", ".join(term.name for term in self.random)
        return f"Design of {self.fixed.encoding.text!r} with {len(self.names)} columns, random {terms}"

    def origin(self, transform: str | None) -> str:
        """Words that differ for statistics that can't be added up."""
        return f"{transform or 'values as they are'}, design {to_json(self.fixed, self.random)['digest'][:12]}"


def summarize(
    adata: AnnData | Sequence[Source],
    design: Design,
    *,
    layer: str | None = None,
    use_raw: bool = False,
    mask_var: Any = None,
    transform: str | None = None,
    n_jobs: int | None = None,
    show_progress: bool | None = None,
) -> SummaryStats:
    """Sum over the cells of a part of a study, with a design that all parts share.

    The statistics of parts add up (``a + b``), can be saved and loaded, and `flashmm_sc.lmm` fits them.

    Parameters
    ----------
    adata
        Cells × genes, or a list of AnnData and files, as in `flashmm_sc.tl.lmm_de`.
    design
        The design.
    layer, use_raw, mask_var, transform, n_jobs, show_progress
        As in `flashmm_sc.tl.lmm_de`.

    Returns
    -------
    The statistics of these cells. They are sums over cells, but sums over few cells reveal these cells: of a donor with
    one cell, Z'Y is that cell's expression.

    Raises
    ------
    KeyError
        For a column, layer or mask that `adata` lacks.
    OSError, RuntimeError, TypeError
        As `flashmm_sc.tl.lmm_de`.
    ValueError
        For missing values, levels that the design doesn't know, and values that the transform can't take.

    Examples
    --------
    See `Design`.
    """
    if not isinstance(design, Design):
        msg = f"design must be a Design, of Design.of or Design.load, not {type(design).__name__}."
        raise TypeError(msg)
    one_of("transform", transform, TRANSFORMS)
    needed = lambda obs, where: needed_columns(obs, design.fixed.encoding.text, design.random, None, where)
    with study_of(adata, needed, layer, use_raw, mask_var, copy=False) as study:
        _check_levels(design.fixed, study.obs)
        random = RandomDesign([Component.of(term, study.obs) for term in design.random])
        rows = CellDesign(design.fixed, random).all_rows(study.obs)
        gram, p = rows.gram(), len(design.names)
        study.log_base(transform)  # warns of raw counts
        sums = accumulate(
            study.parts,
            rows,
            transform=transform,
            n_jobs=n_jobs,
            show_progress=sys.stderr.isatty() if show_progress is None else show_progress,
            describe=study.describe,
        )
    return SummaryStats(
        XX=gram[:p, :p].toarray(),
        XY=sums.WY[:p],
        ZX=gram[p:, :p].toarray(),
        ZY=sums.WY[p:],
        ZZ=sp.csr_array(gram[p:, p:]),
        yy=sums.yy[0],
        n=rows.n,
        d=random.d,
        coef_names=design.names,
        gene_names=list(study.target.var_names[study.kept]),
        component_names=random.names,
        ranef_names=random.ranef_names,
        origin=design.origin(transform),
    )


def _check_levels(design: FixedDesign, obs: pd.DataFrame) -> None:
    """Refuse levels that the design was not learned from; without a column, they would count as the reference."""
    for factor, levels in design.levels.items():
        if factor in design.columns:
            values = complete_column(obs, factor, design.encoding.where)
            if pd.api.types.is_numeric_dtype(values.dtype):
                msg = f"obs[{factor!r}] holds numbers, of which the design has levels; use .astype('category')."
                raise ValueError(msg)
            unknown = sorted(set(map(str, as_factor(values).categories)) - set(levels))
            if unknown:
                msg = (
                    f"obs[{factor!r}] has levels that the design doesn't know: {listed(unknown)}. Make the design from "
                    "cells with all levels, or leave these cells out."
                )
                raise ValueError(msg)
