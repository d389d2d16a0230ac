"""The designs of fixed and random effects together: what they need of obs, and the rows [X Z] that they make."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pandas as pd
import scipy.sparse as sp

from flashmm_sc._design.columns import check_columns
from flashmm_sc._design.formula import parse_formula, used_columns
from flashmm_sc._design.random_terms import Random, parse_random
from flashmm_sc._design.rows import Rows

if TYPE_CHECKING:
    from flashmm_sc._design.fixed import FixedDesign
    from flashmm_sc._design.random import RandomDesign


def needed_columns(obs: Any, fixed: str, random: Random, where: str, **others: str | None) -> list[str]:
    """Columns of obs that a model uses, and other arguments name; `where` says in messages whose obs it is.

    Raises
    ------
    KeyError, ValueError
        When a column is not there, or the formula or the terms can't be read.
    """
    columns = [str(name) for name in obs.columns]
    formula = f"fixed={fixed!r}{where}"
    used = used_columns(parse_formula(fixed, formula), columns, formula)
    used += [name for term in parse_random(random, columns) for name in (*term.groups, term.slope) if name]
    for argument, name in others.items():
        if name is not None:
            check_columns([name], columns, f"{argument}={name!r}{where}")
            used.append(name)
    return list(dict.fromkeys(used))


def in_memory(table: Any, columns: list[str]) -> pd.DataFrame:
    """Columns of a table that may be lazy."""
    part = table[columns]
    return part if isinstance(part, pd.DataFrame) else part.to_memory()


@dataclass(frozen=True, eq=False)
class CellDesign:
    """The designs of fixed and random effects together."""

    fixed: FixedDesign
    random: RandomDesign

    @property
    def width(self) -> int:
        """Columns, p + q."""
        return len(self.fixed.names) + sum(self.random.d)

    @property
    def labels(self) -> dict[str, Any]:
        """What the columns are, in the words of `SummaryStats`."""
        return {
            "d": self.random.d,
            "coef_names": self.fixed.names,
            "component_names": self.random.names,
            "ranef_names": self.random.ranef_names,
            "slopes": self.random.slopes,
            "correlated": self.random.correlated,
        }

    def table(self, obs: pd.DataFrame) -> pd.DataFrame:
        """What `rows` needs of all cells."""
        table = self.fixed.table(obs)
        others = {name: obs[name].array for name in self.random.columns if name not in table}
        return table.assign(**others)

    def all_rows(self, table: pd.DataFrame) -> Rows:
        """Rows of cells that are all of one model, from their table."""
        return Rows.of_table(self.rows, self.width, table)

    def rows(self, table: pd.DataFrame) -> sp.csr_array:
        """Design rows [X Z] of some cells of the table."""
        return sp.csr_array(sp.hstack([self.fixed.rows(table), self.random.rows(table)], format="csr"))
