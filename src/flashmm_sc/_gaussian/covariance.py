"""The covariance of the random effects, as the solver and the tests see it; the folders beside implement it.

With D = diag(γ) (the ratio γ_k = s_k / s_0 on the columns of component k) and a positive semidefinite S, which is Z'RZ, or
Z'Z for ML's determinant, everything the model needs comes from I + S D. To add an implementation is to write these three
classes and to choose it in `projection`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    import numpy as np

    from flashmm_sc._gaussian.vectors import Vectors


class SharedVectors(Protocol):
    """Vectors A L that all genes share, with what an implementation keeps of them."""

    @property
    def vectors(self) -> Vectors:
        """The vectors themselves, 1 × r × q."""


class Forms(Protocol):
    """φ = r'D (I + S D)⁻¹ r of genes at known ratios."""

    def __getitem__(self, index: np.ndarray) -> Forms:
        """Those of some genes."""

    def __call__(self, gamma: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """φ, |v_k|² and v_k'T_kl v_l at the ratios of each gene: m, m × K, m × K × K."""

    def shared(self, gamma: np.ndarray) -> np.ndarray:
        """φ at ratios (G × K) that all genes share: m × G."""

    def dot(self, x: Any, gamma: np.ndarray) -> np.ndarray:
        """x'D (I + S D)⁻¹ r for vectors x that all genes share, given by their forms: m × r."""


class Between(Protocol):
    """Values at any ratios from points that all genes share, so that no gene is factorised."""

    def knows(self, gamma: np.ndarray) -> np.ndarray:
        """At which ratios (m × K) it serves."""

    def determinant(self, gamma: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """log det(I + S D), traces and norms at known ratios: m, m × K, m × K × K."""

    def forms(self, r: Vectors) -> Forms:
        """Of a vector r a gene."""


class Factorisation(Protocol):
    """I + S D at the ratios of m genes. Shared vectors x are those that the same covariance made."""

    @property
    def gamma(self) -> np.ndarray:
        """The ratios, m × K."""

    @property
    def ok(self) -> np.ndarray:
        """Where it is positive definite, m; told by inertia, since two negative eigenvalues have a positive product."""

    @property
    def logdet(self) -> np.ndarray:
        """log det(I + S D), m."""

    def __getitem__(self, index: np.ndarray) -> Factorisation:
        """Those of some genes, for `solve` and `products`."""

    def traces(self) -> tuple[np.ndarray, np.ndarray]:
        """tr T_kk (m × K) and |T_kl|² in Frobenius norm (m × K × K), T = (I + S D)⁻¹ S."""

    def solve(self, r: Vectors) -> tuple[Vectors, np.ndarray]:
        """v = (I + S D)⁻¹ r and r'D v (m, or m × r) for one or several r a gene, or several that all share."""

    def products(self, v: Vectors) -> np.ndarray:
        """v_k' T_kl v_l: m × K × K, or m × r × K × K."""

    def shared_forms(self, r: Vectors) -> np.ndarray:
        """r' D (I + S D)⁻¹ r for one r a gene, at the ratios of every row of the factorisation: genes × rows."""

    def shared_quadratics(self, x: Any) -> tuple[np.ndarray, np.ndarray]:
        """x'D (I + S D)⁻¹ x (m × r) and |component k of (I + S D)⁻¹ x|² (m × r × K) for r shared vectors x."""

    def shared_matrix(self, x: Any) -> np.ndarray:
        """x_i'D (I + S D)⁻¹ x_j for r shared vectors, m × r × r."""


class Covariance(Protocol):
    """S, laid out for the factorisations of many genes."""

    @property
    def cheap_forms(self) -> bool:
        """Whether `shared_forms` are matrix products, so that many ratios cost little; else each is a solve a gene."""

    @property
    def between(self) -> Between | None:
        """Values without factorisations of single genes, if there are any."""

    def split(self, r: np.ndarray) -> Vectors:
        """Columns r (q × m) as vectors, one a gene."""

    def restore(self, v: Vectors) -> np.ndarray:
        """Undo `split`: m × q, in the order of Z's columns."""

    def shared(self, A: np.ndarray, L: np.ndarray) -> SharedVectors:
        """The vectors A L that all genes share, from A (q × p) and L (p × r)."""

    def times(self, v: Vectors) -> Vectors:
        """S v."""

    def factor(self, gamma: np.ndarray) -> Factorisation:
        """Factorise I + S D at the ratios of each gene (m × K)."""

    def moments(self) -> tuple[np.ndarray, np.ndarray]:
        """tr S_kk (K) and |S_kl|² (K × K)."""

    def eigenvalues(self, k: int) -> np.ndarray:
        """Those of S_kk, ascending."""

    def prepared(self, n_genes: int, n_jobs: int | None, *, traces: bool = True) -> Covariance:
        """The same or another of S, with what pays where so many genes are fitted, with or without their traces."""

    def gene_bytes(self, r: int, *, solved: bool = False) -> int:
        """Memory that a gene needs while it is fitted, or r linear combinations of it tested, by `solve` too."""
