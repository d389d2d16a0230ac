"""A result in an AnnData: plain arrays in varm, the names of their columns and everything else in uns.

Names live in uns because a level such as `CD4/CD8` as a DataFrame column can be written neither to h5ad nor to zarr.
Groups of cells lie side by side: column `B cells|trt[T.stim]` is coefficient `trt[T.stim]` of the group `B cells`.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from anndata import AnnData

from flashmm_sc._base.errors import did_you_mean, listed
from flashmm_sc._results.packed import unpacked
from flashmm_sc._results.whole import Params, check_whole, damaged
from flashmm_sc._stats.correlated import from_numbers
from flashmm_sc._stream.blocks import is_lazy

if TYPE_CHECKING:
    from collections.abc import Iterable, MutableMapping, Sequence

MODERATED = ("theta_shrunk", "projected")
_TESTS = {
    "coef": "coefficients",
    "se": "standard errors",
    "t": "t statistics",
    "df": "degrees of freedom",
    "ci_low": "lower bounds of confidence intervals",
    "ci_high": "upper bounds of confidence intervals",
    "pval": "p-values",
    "pval_adj": "adjusted p-values",
    "F": "F statistics",
    "df_num": "numerator degrees of freedom",
    "stat": "test statistics",
    "sd": "posterior standard deviations",
    "lfsr": "local false sign rates",
    "svalue": "s-values",
    "log2_ratio": "log2 ratios of fitted means",
    "status": "statuses",
}
_KINDS = {"lfsr": "shrinkage", "stat": "variance tests", "F": "F tests", "theta": "fit"}
"""What a result is that has an array of this name; otherwise t tests."""
_FITS = {
    "theta": "variance components",
    "theta_se": "standard errors of variance components",
    "theta_cov": "covariances of variance components",
    "loglik": "log-likelihoods",
    "n_iter": "iterations",
    "ranef": "random effects",
    "mean_coef": "coefficients of means of counts",
    "sums": "sums of counts",
    "theta_shrunk": "posterior means of variance components",
    "projected": "projected data",
}
WORDS = _TESTS | _FITS
"""The arrays that a result may have, in words."""
_ENTRY = ("params", "coef_names", "column_names", "column_groups", "groups", "status_names")
"""What every entry has, that of earlier versions too."""
EARLIER = ("ols", "zry", "yry", "mean")
"""What earlier versions stored for `MODERATED`; removed with the rest."""
_LONGEST = 200
"""Bytes of a key: names of folders have up to 255."""
_MAY_BE_NONE = (
    "layer",
    "transform",
    "groupby",
    "mask_obs",
    "mask_var",
    "size_factors",
    "target_sum",
    "weights",
    "residual_by",
)
"""Parameters that files of older anndata lack where they were None."""


@dataclass(frozen=True, eq=False)
class Result:
    """What a call stores under a key.

    Attributes
    ----------
    key
        The key.
    arrays
        Arrays of genes × columns by name; ``pval`` lies in ``varm["KEY_pval"]``.
    entry
        What lies in ``uns["KEY"]``.
    """

    key: str
    arrays: dict[str, np.ndarray]
    entry: dict[str, Any]

    @classmethod
    def read(cls, adata: AnnData, key: str) -> Result:
        """The result under a key.

        Raises
        ------
        KeyError
            Where there is none, with the names of the results there are, or a part of it is missing.
        ValueError
            Where its parts don't fit together.
        TypeError
            For something else than an AnnData.
        """
        uns = uns_of(adata)
        found: Any = uns.get(key) if isinstance(key, str) else None
        if not _is_result(found):
            keys = cls.keys(adata)
            hint = did_you_mean(key, keys) if keys else "Run fsc.tl.lmm_de first."
            msg = f"adata.uns[{key!r}] holds no result of fsc.tl.lmm_de or fsc.tl.lmm_test. {hint}"
            raise KeyError(msg)
        if not set(_ENTRY) <= found.keys():
            raise KeyError(earlier(key))
        found = _in_memory(found)
        places, varm = {name: f"{key}_{name}" for name in WORDS}, adata.varm  # anndata checks all of it
        arrays = {name: np.asarray(varm[place]) for name, place in places.items() if place in varm}
        _check_columns(key, arrays, np.size(found["column_names"]))
        check_whole(key, found, arrays)
        params = Params(key, dict.fromkeys(_MAY_BE_NONE) | found["params"])
        return cls(key, arrays, {**found, "params": params})

    @classmethod
    def keys(cls, adata: AnnData) -> list[str]:
        """Keys of all results, whole or not, in the order in which they lie in uns."""
        return [key for key, value in uns_of(adata).items() if _is_result(value)]

    @classmethod
    def all(cls, adata: AnnData, *, whole: bool = False) -> list[Result]:
        """All results, in the order in which they lie in uns; or those that are whole, while others are refused."""
        found = []
        for key in cls.keys(adata):
            with suppress(*(KeyError, ValueError) * whole):
                found.append(cls.read(adata, key))
        return found

    @classmethod
    def read_fit(cls, adata: AnnData, key: str) -> Result:
        """The result under a key, which is to be a fit."""
        found = cls.read(adata, key)
        if "models" not in found.entry:
            msg = f"adata.uns[{key!r}] holds tests, not a fit; give the key of a result of fsc.tl.lmm_de."
            raise KeyError(msg)
        return found

    def of_genes(self, positions: np.ndarray) -> Result:
        """The same of some genes."""
        return Result(self.key, {name: array[positions] for name, array in self.arrays.items()}, self.entry)

    def __getitem__(self, name: str) -> np.ndarray:
        """An array."""
        if name not in self.arrays:
            msg = f"adata.varm[{f'{self.key}_{name}'!r}], part of the result {self.key!r}, is missing; run its call again."
            raise KeyError(msg)
        return self.arrays[name]

    def names(self, name: str) -> list[str]:
        """Names in the entry."""
        if name not in self.entry:
            raise ValueError(damaged(self.key, f"it lacks {name!r}"))
        return strings(self.entry[name])

    @property
    def params(self) -> dict[str, Any]:
        """The arguments of the call."""
        params: dict[str, Any] = self.entry["params"]
        return params

    @property
    def what(self) -> str:
        """What it is: "fit", "t tests", "F tests", "variance tests" or "shrinkage"."""
        return next((what for name, what in _KINDS.items() if name in self.arrays), "t tests")

    @property
    def of_counts(self) -> bool:
        """Whether it is a fit by `flashmm_sc.tl.nbmm_de`."""
        return "sums" in self.arrays

    @property
    def of(self) -> list[str]:
        """Keys of the results it was made from."""
        return [str(self.params[name]) for name in ("key", "null") if name in self.params]

    @property
    def formula(self) -> str:
        """Fixed and random effects of a fit, else what was tested."""
        if self.what != "fit":
            return listed(dict.fromkeys(self.names("column_names")), 3)
        return f"{self.params['fixed']}, random: {listed(strings(self.params['random']))}"

    @property
    def findings(self) -> np.ndarray:
        """Which columns are findings, as against intercepts and means of levels: see `FittedModel.findings`."""
        return np.asarray(self._stored("findings"), dtype=bool)

    @property
    def groups(self) -> list[str]:
        """Groups of cells; one without a name where there is no grouping, and for each contrast across groups."""
        return self.names("groups")

    @property
    def n_groups(self) -> int:
        """Number of groups that have a name, 0 without grouping."""
        return sum(map(bool, self.groups))

    @property
    def status_columns(self) -> list[int]:
        """Of each column the one of ``status``: its group's, or, of a contrast across groups (group ""), its own."""
        return [int(place) for place in self._stored("status_columns")]

    @cached_property
    def models(self) -> list[dict[str, Any]]:
        """What describes the model of each group."""
        if "text" not in self.entry["models"]:
            raise KeyError(earlier(self.key))
        try:
            models = unpacked(self.entry["models"])
            return [dict(models[str(i)]) for i in range(len(self.groups))]
        except Exception as error:  # whatever takes the place of text and numbers
            raise ValueError(damaged(self.key, f"what describes its models can't be read ({error})")) from error

    def _stored(self, name: str) -> np.ndarray:
        if name not in self.entry:
            raise KeyError(earlier(self.key))
        return np.asarray(self.entry[name])


def _in_memory(value: Any) -> Any:
    """What lies in uns, of which `anndata.experimental.read_lazy` leaves the arrays in the file."""
    if isinstance(value, dict):
        return {name: _in_memory(part) for name, part in value.items()}
    return np.asarray(value) if is_lazy(value) else value


def _check_columns(key: str, arrays: dict[str, np.ndarray], n: int) -> None:
    """Refuse arrays that have not one column a coefficient."""
    for name in _TESTS:
        if name in arrays and name != "status" and arrays[name].shape[1:] != (n,):
            msg = (
                f"adata.varm[{f'{key}_{name}'!r}], part of the result {key!r}, has shape {arrays[name].shape}, but adata.uns"
                f"[{key!r}] names {n} columns; run its call again."
            )
            raise ValueError(msg)


def uns_of(adata: AnnData) -> MutableMapping[str, Any]:
    """What lies in `adata.uns`, where results are entered; refuses something else than an AnnData."""
    if not isinstance(adata, AnnData):
        msg = f"adata must be an AnnData, not {type(adata).__name__}.{hint_instead_of(adata)}"
        raise TypeError(msg)
    return adata.uns


def uns_to_write(adata: AnnData) -> MutableMapping[str, Any]:
    """The same, of what results can be written to."""
    uns = uns_of(adata)
    if adata.isbacked and adata.is_view:
        msg = (
            "adata is a view of backed data, which results can't be written to; give the whole, or call .to_memory() on the view "
            "first."
        )
        raise ValueError(msg)
    return uns


def hint_instead_of(adata: Any) -> str:
    """What to give instead of something that is no AnnData, if that can be told."""
    if adata is None:
        return " Functions of fsc.tl return None: they write into the AnnData that they are given."
    if type(adata).__name__ == "MuData":  # without importing it
        first = next(iter(adata.mod), "rna")
        return (
            f" Give one of its modalities, mdata[{first!r}]. Columns of mdata.obs get there by "
            f'mdata.push_obs(["donor", ...], mods=[{first!r}]).'
        )
    return ""


def check_name(key: str) -> None:
    """Refuse a key that anndata can't write."""
    if not isinstance(key, str) or key in ("", ".", "..") or "/" in key or "\0" in key or _too_long(key):
        msg = f"key_added={key!r:.{_LONGEST}} can't name results in a file; give a short text without '/'."
        raise ValueError(msg)


def _too_long(key: str) -> bool:
    """Whether zarr would find no room for `KEY_theta_shrunk` in the name of a folder, or a text can't be written at all."""
    try:
        return len(key.encode()) > _LONGEST
    except UnicodeEncodeError:
        return True


def check_key(adata: AnnData, key: str, *, tests: bool = False) -> None:
    """Refuse a key that anndata can't write, that is not ours to overwrite, or, for tests, under which a fit lies."""
    uns = uns_to_write(adata)
    check_name(key)
    found = uns.get(key)
    if found is not None and not _is_result(found):
        msg = f"adata.uns[{key!r}] holds something else, which key_added={key!r} would overwrite; give another key."
        raise ValueError(msg)
    if tests and found is not None and "models" in found:
        msg = f"key_added={key!r} is the key of a fit, which the tests would overwrite; give another."
        raise ValueError(msg)


def earlier(key: str) -> str:
    """Words for a result that lacks what is stored today."""
    return f"The result {key!r} was stored by an earlier version of flashmm-sc; run its call again."


def strings(values: Any) -> list[str]:
    """An array of text, as read from memory, h5ad or zarr, as a list."""
    return [str(value) for value in np.asarray(values).reshape(-1)]


def correlated_in(described: dict[str, Any]) -> list[list[int]]:
    """Positions of the components of each correlated term, in what is stored of a model; earlier versions had none."""
    return from_numbers(described["correlated"]) if "correlated" in described else []


def residuals_in(described: dict[str, Any]) -> list[str]:
    """Groups of cells with residual variances of their own, in what is stored of a model; none where all have the same."""
    return strings(described["residual_levels"]) if "residual_levels" in described else []


def texts(parts: Iterable[Iterable[str]]) -> np.ndarray:
    """Names of several groups in an array that any file can hold."""
    return np.array([name for part in parts for name in part], dtype=object)


def joined(group: str, names: Sequence[str]) -> list[str]:
    """Names of columns of a group among those of others."""
    return [f"{group}|{name}" for name in names] if group else list(names)


def _is_result(value: Any) -> bool:
    return isinstance(value, dict) and "column_groups" in value
