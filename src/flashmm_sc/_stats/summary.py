"""Summary statistics: all that the fit needs to know of the cells."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import scipy.sparse as sp

from flashmm_sc._base.files import existing, new
from flashmm_sc._base.options import check_flags, check_optional_texts, real_array
from flashmm_sc._base.render import table
from flashmm_sc._base.selection import Selection, component_slices, positions
from flashmm_sc._stats import checks
from flashmm_sc._stats.correlated import correlated_groups, covariance_names, kept_groups
from flashmm_sc._stats.cross import CrossProducts
from flashmm_sc._stats.file import load, save
from flashmm_sc._stats.refined import Refined, added
from flashmm_sc._stats.unite import united

if TYPE_CHECKING:
    from collections.abc import Sequence
    from os import PathLike


_LABELS = (
    "coef_names",
    "gene_names",
    "component_names",
    "ranef_names",
    "slopes",
    "correlated",
    "origin",
    "named_levels",
)


@dataclass(frozen=True, kw_only=True, eq=False)
class SummaryStats:
    """Sums over cells of a linear mixed model y = X β + Σ_k Z_k b_k + e, for m genes at once.

    n cells, p fixed columns, q = q_1 + ... + q_K random columns, m genes. The symbols are those of FLASHMM.
    The sums of two sets of cells add up, and they split over genes. With weights w of the cells, Var(e_i) = s_0 / w_i, all
    sums are weighted: X'diag(w)X for X'X, and so on.

    Parameters
    ----------
    XX
        X'X, p × p. Row names of a DataFrame become the coefficient names.
    XY
        X'Y, p × m. Column names of a DataFrame become the gene names.
    ZX
        Z'X, q × p.
    ZY
        Z'Y, q × m. Row names of a DataFrame become the names of the random effects.
    ZZ
        Z'Z, q × q; kept sparse.
    yy
        Sum of squares of each gene, m. FLASHMM calls it Ynorm.
    n
        Number of cells, whatever their weights.
    d
        Columns of each random component, (q_1, ..., q_K); by default one component.
    coef_names, gene_names, component_names, ranef_names
        Names on the axes; by default taken from DataFrames, else made up.
    slopes
        Whether each random component is a slope (its columns hold values of a variable, not indicators), as designs know;
        None where it isn't known, as for bare arrays.
    correlated
        Positions of the components of each correlated term, as ``[(0, 1)]`` for lme4's ``(1 + x | g)``: their columns are
        those of the same levels in the same order. By default all are independent.
    origin
        What the columns and values are, e.g. a transform and a shared design; only statistics of one origin add up.
    named_levels
        Whether `ranef_names` say which level is which. They don't if they are made up, or rows merely numbered; False
        says so of names that are given.
    weight_sum, log_weight_sum
        Sums over the cells of their weights and of the natural logarithms of these; by default n and 0, of cells without
        weights.
    basis
        T where the sums are those of X T in the place of X, p × p, of determinant 1; by default of X itself. Names and
        coefficients are those of X all the same.
    untangled
        The same statistics, of such X T, where columns of X are nearly combinations of others, of whose sums too few digits
        are right; `sslmm` makes them, and fits use them.
    refined
        Sums of residuals of genes whose values are far from zero, as `sslmm` and `summarize` make them: of their variation
        the sums above keep few digits.

    Raises
    ------
    TypeError
        For what are no arrays, numbers or names.
    ValueError
        When shapes disagree, a sum is not finite, or names are repeated.
    """

    XX: np.ndarray
    XY: np.ndarray
    ZX: np.ndarray
    ZY: np.ndarray
    ZZ: sp.csr_array
    yy: np.ndarray
    n: int
    d: tuple[int, ...] = ()
    coef_names: Sequence[str] = ()
    gene_names: Sequence[str] = ()
    component_names: Sequence[str] = ()
    ranef_names: Sequence[str] = ()
    slopes: Sequence[bool] | None = None
    correlated: Sequence[Sequence[int]] = ()
    origin: str = ""
    named_levels: bool = True
    weight_sum: float | None = None
    log_weight_sum: float = 0.0
    basis: np.ndarray | None = None
    untangled: SummaryStats | None = None
    refined: Refined | None = None

    def __post_init__(self) -> None:
        set_ = lambda name, value: object.__setattr__(self, name, value)
        p_names, z_names = checks.labels_of(self.XX, "index"), checks.labels_of(self.ZY, "index")
        gene_names = checks.labels_of(self.XY, "columns")
        for name in ("XX", "XY", "ZX", "ZY"):
            set_(name, checks.dense(name, getattr(self, name)))
        ZZ: Any = self.ZZ if sp.issparse(self.ZZ) else checks.dense("ZZ", self.ZZ)
        set_("ZZ", sp.csr_array(ZZ, dtype=np.float64))
        set_("yy", real_array("yy", self.yy).reshape(-1))
        set_("n", checks.cells(self.n))
        p, m, q = len(self.XX), self.XY.shape[1], len(self.ZX)
        d = checks.sizes(self.d, q)
        set_("d", d)
        set_("coef_names", checks.names("coef_names", self.coef_names, p_names, "x", p))
        set_("gene_names", checks.names("gene_names", self.gene_names, gene_names, "gene", m))
        check_flags(named_levels=self.named_levels)
        check_optional_texts(origin=self.origin)
        ranefs = checks.names("ranef_names", self.ranef_names, z_names, "z", q, unique=False)
        given = len(self.ranef_names) > 0 or not (z_names is None or isinstance(z_names, pd.RangeIndex))
        set_("named_levels", bool(self.named_levels) and given)
        set_("ranef_names", ranefs)
        set_("component_names", checks.names("component_names", self.component_names, None, "var", len(d)))
        shapes = {"XX": (p, p), "XY": (p, m), "ZX": (q, p), "ZY": (q, m), "ZZ": (q, q), "yy": (m,)}
        for name, shape in shapes.items():
            checks.check_array(name, getattr(self, name), shape)
        checks.check_basis(self.basis, p)
        checks.check_symmetric("XX", self.XX)
        checks.check_symmetric("ZZ", self.ZZ)
        weight_sum, log_weight_sum = checks.weights(self.n, self.weight_sum, self.log_weight_sum)
        set_("weight_sum", weight_sum)
        set_("log_weight_sum", log_weight_sum)
        if self.slopes is not None:
            set_("slopes", checks.slopes_of(self.slopes, len(d)))
        set_("correlated", correlated_groups(self.correlated, d))
        if self.untangled is not None:
            set_("untangled", replace(self.untangled, **{name: getattr(self, name) for name in _LABELS}))
        if "residual" in self.component_names:
            msg = "A random component is called 'residual', as the residual variance is; give it another name."
            raise ValueError(msg)
        least = (self.XY**2 / np.maximum(self.XX.diagonal(), 1e-300)[:, None]).max(axis=0, initial=0.0)
        if (self.yy + 1e-300 < least * (1 - 1e-9)).any():  # squares of tiny values underflow
            msg = "yy is smaller than XY and XX allow (Cauchy and Schwarz); are they sums over the same cells?"
            raise ValueError(msg)

    @classmethod
    def of(cls, cross: CrossProducts, WY: np.ndarray, yy: np.ndarray, n: int, **labels: Any) -> SummaryStats:
        """The statistics of n cells from those of their designs and W'Y of rows W = [X Z]; names as in the class."""
        p = len(cross.XX)
        own: dict[str, Any] = {"XX": cross.XX, "ZX": cross.ZX, "ZZ": cross.ZZ, "basis": cross.basis}
        return cls(**own, XY=WY[:p], ZY=WY[p:], yy=yy, n=n, **labels)

    @property
    def theta_names(self) -> list[str]:
        """Names of the variance components, the covariances of correlated ones, and the residual variance."""
        return [*self.component_names, *covariance_names(self.component_names, self.correlated), "residual"]

    @property
    def cross(self) -> CrossProducts:
        """What the designs alone give."""
        return CrossProducts(self.XX, self.ZX, self.ZZ, self.basis)

    @property
    def plain(self) -> SummaryStats:
        """Those of X itself."""
        if self.basis is None:
            return self
        cross, back = self.cross.plain, np.linalg.inv(self.basis)
        return replace(self, basis=None, XX=cross.XX, XY=back.T @ self.XY, ZX=cross.ZX, refined=None)

    @property
    def n_genes(self) -> int:
        """Number of genes, m."""
        return self.XY.shape[1]

    def select(
        self,
        *,
        coefs: Selection | None = None,
        components: Selection | None = None,
        genes: Selection | None = None,
    ) -> SummaryStats:
        """Take the statistics of a sub-model, or of some genes, without reading the cells again.

        Parameters
        ----------
        coefs, components, genes
            Fixed columns, random components and genes to keep, by name, position or mask, in this order; by default
            all.

        Returns
        -------
        The statistics of these. What is not selected is shared with the original where that can be, not copied.

        Raises
        ------
        ValueError
            For what there isn't, what is chosen twice, and when nothing is left of one of the three.

        Examples
        --------
        >>> import numpy as np, flashmm_sc as fsc
        >>> sample = np.arange(60) % 6
        >>> X = np.column_stack([np.ones(60), sample % 2])
        >>> stats = fsc.sslmm(X, np.random.default_rng(0).normal(size=(60, 4)), np.eye(6)[sample])
        >>> stats.select(coefs=["x1"], genes=["gene3", "gene1"])
        SummaryStats of 60 cells × 2 genes: 1 fixed columns, 6 random columns in (6,)
        """
        j = positions("coefs", coefs, self.coef_names)
        k = positions("components", components, self.component_names)
        g = positions("genes", genes, self.gene_names)
        for name, kept in {"coefficient": j, "component": k, "gene": g}.items():
            if not kept.size:
                msg = f"No {name} is left; select at least one."
                raise ValueError(msg)
        parts = component_slices(self.d)
        z = np.concatenate([np.arange(parts[i].start, parts[i].stop) for i in k])
        basis, whole = self.basis, self
        if basis is not None and np.delete(basis, j, axis=0)[:, j].any():  # columns left out are subtracted from others
            basis, whole = None, self.plain
        pick = lambda names, kept: [names[i] for i in kept]
        return SummaryStats(
            XX=_taken(whole.XX, j, j),
            XY=_taken(whole.XY, j, g),
            ZX=_taken(whole.ZX, z, j),
            ZY=_taken(self.ZY, z, g),
            ZZ=_taken(self.ZZ, z, z),
            yy=self.yy[g],
            n=self.n,
            d=tuple(pick(self.d, k)),
            coef_names=pick(self.coef_names, j),
            gene_names=pick(self.gene_names, g),
            component_names=pick(self.component_names, k),
            ranef_names=pick(self.ranef_names, z),
            slopes=None if self.slopes is None else pick(self.slopes, k),
            correlated=kept_groups(self.correlated, k),
            origin=self.origin,
            named_levels=self.named_levels,
            weight_sum=self.weight_sum,
            log_weight_sum=self.log_weight_sum,
            basis=None if basis is None else basis[np.ix_(j, j)],
            untangled=self.untangled and self.untangled.select(coefs=j, components=k, genes=g),
            refined=whole.refined and whole.refined.select(j, k, g),
        )

    def __add__(self, other: SummaryStats) -> SummaryStats:
        """Sums over the cells of both: of other files, batches or sites, with the same columns and genes.

        Levels of random effects are united by name: a donor that is in both is one donor. So they need names, which
        `summarize` gives them, as do the rows of DataFrames and `ranef_names`. Genes may be in another order.

        Raises
        ------
        ValueError
            When coefficients, components, genes or origin differ, or levels of random effects have no names.
        """
        if not isinstance(other, SummaryStats):
            return NotImplemented
        a, b = self.plain, other.plain
        total = SummaryStats(**united(vars(a), vars(b)))
        return total if (refined := added(a, b, total)) is None else replace(total, refined=refined)

    def __radd__(self, other: object) -> SummaryStats:
        """So that `sum` adds up a list of parts: it begins with 0."""
        return self if isinstance(other, int) and other == 0 else NotImplemented

    def save(self, path: str | PathLike[str]) -> None:
        """Write to an AnnData file (h5ad), genes in var; it appears whole or not at all.

        Raises
        ------
        OSError
            When the file can't be written.
        TypeError, ValueError
            For what is no name of a file.
        """
        save(vars(self.untangled or self), new(path))

    @classmethod
    def load(cls, path: str | PathLike[str]) -> SummaryStats:
        """Read what `save` wrote.

        Raises
        ------
        OSError, ValueError
            When the file can't be read, or holds something else.
        TypeError
            For what is no path.
        """
        fields, refined = load(existing(path))
        stats = cls(**fields)
        if refined is not None:
            stats = replace(stats, refined=Refined.of(stats, *refined))
        return stats if stats.basis is None else replace(stats.plain, untangled=stats)

    def __repr__(self) -> str:
        p, q = len(self.XX), len(self.ZX)
        return (
            f"SummaryStats of {self.n} cells × {self.n_genes} genes: {p} fixed columns, {q} random columns in {self.d}"
        )

    def _repr_html_(self) -> str:
        sizes = zip(self.component_names, self.d, strict=True)
        rows = {
            "fixed columns": self.coef_names,
            "random components": [f"{name} ({size:,})" for name, size in sizes],
            "values": self.origin,
            "sum of weights": f"{self.weight_sum:.6g}" if self.weight_sum != self.n else "",
        }
        title = f"SummaryStats of {self.n:,} cells × {self.n_genes:,} genes"
        return table(title, {label: value for label, value in rows.items() if value})


def _taken(array: Any, rows: np.ndarray, columns: np.ndarray) -> Any:
    """These rows and columns of a matrix, which is not copied along an axis that is kept whole."""
    whole = [np.array_equal(kept, np.arange(size)) for kept, size in zip((rows, columns), array.shape, strict=True)]
    array = array if whole[0] else array[rows]
    return array if whole[1] else array[:, columns]
