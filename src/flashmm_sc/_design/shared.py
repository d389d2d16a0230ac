"""One design for several parts of a study: sites sum over their own cells, and only the sums meet."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pandas as pd

from flashmm_sc._base.errors import listed
from flashmm_sc._base.files import appearing_whole, existing, new, reading
from flashmm_sc._design.cell_design import in_memory, needed_columns
from flashmm_sc._design.columns import as_factor, complete_column
from flashmm_sc._design.file import from_json, to_json
from flashmm_sc._design.fixed import FixedDesign, fixed_design
from flashmm_sc._design.random_terms import RandomTerm, parse_random, spelled
from flashmm_sc._design.slopes import expanded

if TYPE_CHECKING:
    from os import PathLike

    from flashmm_sc._design.random_terms import Random


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
    >>> design = fsc.Design.of(whole.obs, "~ scale(libsize) + cls + trt", "sam + sam:cls")
    >>> counts = {"transform": "log1p", "size_factors": "total", "target_sum": 1e4}
    >>> parts = [fsc.summarize(whole[cells], design, **counts) for cells in (slice(700), slice(700, None))]
    >>> parts[0] + parts[1]
    SummaryStats of 1500 cells × 30 genes: 4 fixed columns, 24 random columns in (8, 16)
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
        TypeError
            For what is no table, formula or random term.
        ValueError
            When the formula or the terms can't be read or evaluated, or cells can't be encoded one by one.
        """
        if not hasattr(obs, "columns"):
            msg = f"obs must be a table of cells, such as adata.obs, not {type(obs).__name__}."
            raise TypeError(msg)
        obs = in_memory(obs, needed_columns(obs, fixed, random, ""))
        design = fixed_design(fixed, obs)
        if across := design.over_cells(obs):
            msg = (
                f"{listed(across)} depends in each cell on the values of other cells, which other parts "
                "don't have; use scale() or center(), or compute a column of obs before."
            )
            raise ValueError(msg)
        return cls(design, tuple(expanded(parse_random(random, obs.columns), obs)))

    @property
    def names(self) -> list[str]:
        """Names of the fixed columns."""
        return self.fixed.names

    def save(self, path: str | PathLike[str]) -> None:
        """Write to a text file (JSON), for another site: levels and states of transforms, nothing of single cells.

        Raises
        ------
        OSError
            When the file can't be written.
        TypeError, ValueError
            For what is no name of a file.
        """
        with appearing_whole(new(path)) as part:
            part.write_text(json.dumps(to_json(self.fixed, self.random), indent=1), encoding="utf-8")

    @classmethod
    def load(cls, path: str | PathLike[str]) -> Design:
        """Read what `save` wrote. The file holds a formula, which is code: read only files that you trust.

        Raises
        ------
        OSError
            When the file can't be read.
        TypeError
            For what is no path.
        ValueError
            When it holds no design, a design in another version of the format, or a damaged one.
        """
        path = existing(path)
        with reading(path):
            text = path.read_text(encoding="utf-8", errors="replace")
        try:
            return cls(*from_json(text))
        except ValueError as error:
            msg = f"{str(path)!r} {error}"
            raise ValueError(msg) from error

    def __repr__(self) -> str:
        terms = ", ".join(spelled(self.random))
        return f"Design of {self.fixed.encoding.text!r} with {len(self.names)} columns, random {terms}"

    def origin(self, values: str) -> str:
        """Words that differ for statistics that can't be added up: of what values, by which design."""
        return f"{values}, design {to_json(self.fixed, self.random)['digest'][:12]}"


def check_levels(design: FixedDesign, obs: pd.DataFrame) -> None:
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
