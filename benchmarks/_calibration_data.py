"""The data of `calibration.py`: simulated studies, and real ones whose donors are split at random."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

import anndata as ad
import numpy as np
import pandas as pd
import scanpy as sc
import scipy.sparse as sp

import flashmm_sc as fsc

EXPRESSED = 0.05  # a gene is tested in the cell types in which at least this share of the cells has counts of it
MIN_CELLS = 10  # of a type in a sample, for the sample to count
DE_SHARE = 0.1  # genes with an effect in each cell type of a non-null simulation
LOG_FOLD = (0.25, 1.0)  # natural log, either sign

SIMULATIONS = {  # data → designs
    "donor variance": ("nested", "crossed"),
    "donor and donor × type variance": ("nested", "crossed", "crossed, samples vary"),
}
REAL = {  # data → file, donor, cell type, total counts of a cell
    "OneK1K": ("onek1k_40donors.h5ad", "indiv", "cell_type", "total_umi"),
    "Kang control": ("kang_ctrl_8donors.h5ad", "sample_id", "cluster_id", None),
}


@dataclass(frozen=True)
class Task:
    """One data set to be made and analysed; `split` holds the donors of a real one, the treated ones last."""

    data: str
    design: str
    donors: int
    effect: str
    repeat: int
    split: tuple[str, ...] = ()
    folder: Path = field(default=Path(), repr=False)

    def seed(self) -> list[int]:
        """The same data for the same task, in any order and number of processes."""
        place = [list(SIMULATIONS).index(self.data), SIMULATIONS[self.data].index(self.design)]
        return [20, *place, self.donors, int(self.effect == "null"), self.repeat]


@dataclass(frozen=True)
class Study:
    """Log-normalised cells × genes (layer "counts": counts; obs: sam, cls, trt, depth), and genes × types:

    whether they are tested, whether there is an effect, and the variance in the type relative to that within all types.
    """

    adata: ad.AnnData
    tested: pd.DataFrame
    true: pd.DataFrame
    variance: pd.DataFrame

    @classmethod
    def of(cls, adata: ad.AnnData, true: pd.DataFrame | None = None) -> Study:
        """Normalise counts to the mean depth, take logs, and see which genes are expressed where."""
        depth = adata.obs["depth"].to_numpy(float)
        adata.layers["counts"] = adata.X.copy()
        adata.X = sp.diags_array(depth.mean() / depth) @ sp.csr_array(adata.X)
        adata.X = sp.csr_matrix(adata.X.astype(np.float32))
        sc.pp.log1p(adata)
        types = list(adata.obs["cls"].cat.categories)
        parts = [sp.csr_array(adata.X[(adata.obs["cls"] == t).to_numpy()]) for t in types]
        table = lambda values: pd.DataFrame(np.column_stack(values), adata.var_names, types)
        share = table([np.bincount(x.indices, minlength=adata.n_vars) / x.shape[0] for x in parts])
        variance = table([x.power(2).mean(axis=0) - x.mean(axis=0) ** 2 for x in parts])
        pooled = np.average(variance, axis=1, weights=[x.shape[0] for x in parts])
        if true is None:
            true = pd.DataFrame(False, index=share.index, columns=types)
        return cls(adata, share >= EXPRESSED, true[types], variance.div(pooled, axis=0))


def simulated(donors: list[int], repeats: int) -> Iterator[Task]:
    """All simulations: null ones, and half as many with effects."""
    for repeat in range(repeats):
        for data, designs in SIMULATIONS.items():
            for design in designs:
                for n in donors:
                    for effect in ("null", "effects") if repeat < (repeats + 1) / 2 else ("null",):
                        yield Task(data, design, n, effect, repeat)


def real_splits(folder: Path, sides: list[int], splits: int) -> Iterator[Task]:
    """Distinct random splits of the donors of each data set into two groups of equal size; no data, no tasks."""
    for data, (file, donor, *_) in REAL.items():
        if not (folder / file).exists():
            print(f"{data} is left out: there is no {folder / file}")
            continue
        names = sorted(read(folder / file).obs[donor].astype(str).unique())
        for side in sides:
            if 2 * side > len(names):
                continue
            rng = np.random.default_rng([21, side])
            seen: dict[frozenset, tuple[str, ...]] = {}
            for _ in range(20 * splits):
                drawn = tuple(rng.permutation(names)[: 2 * side].tolist())
                seen.setdefault(frozenset((frozenset(drawn[:side]), frozenset(drawn[side:]))), drawn)
                if len(seen) == splits:
                    break
            for repeat, split in enumerate(seen.values()):
                yield Task(data, "nested", 2 * side, "null", repeat, split, folder)


def make(task: Task, genes: int, cells: int) -> Study | None:
    """The data of a task; None where no cell type of a split has two samples of enough cells on both sides."""
    if task.split:
        return _real(task)
    if task.data == "donor variance":
        return _from_simu_rnaseq(task, genes, cells)
    return _with_types(task, genes, cells)


@cache
def read(path: Path) -> ad.AnnData:
    """A file, read once."""
    return ad.read_h5ad(path)


def _real(task: Task) -> Study | None:
    file, donor, cls, depth = REAL[task.data]
    whole = read(task.folder / file)
    adata = whole[whole.obs[donor].astype(str).isin(task.split)]
    side = dict(zip(task.split, np.repeat(["A", "B"], task.donors // 2), strict=True))
    sam = adata.obs[donor].astype(str)
    obs = pd.DataFrame({"sam": sam, "cls": adata.obs[cls].astype(str), "trt": sam.map(side)}).astype("category")
    obs["depth"] = np.asarray(adata.X.sum(axis=1)).ravel() if depth is None else adata.obs[depth].to_numpy(float)
    cells = obs.groupby(["cls", "trt", "sam"], observed=True).size()
    enough = (cells >= MIN_CELLS).groupby(["cls", "trt"], observed=False).sum().groupby(
        "cls", observed=False
    ).min() >= 2
    keep = obs["cls"].isin(enough.index[enough]).to_numpy()
    if not keep.any():
        return None
    obs = obs[keep].assign(cls=lambda x: x["cls"].cat.remove_unused_categories())
    return Study.of(ad.AnnData(adata.X[keep].copy(), obs=obs, var=pd.DataFrame(index=adata.var_names)))


def _from_simu_rnaseq(task: Task, genes: int, cells: int) -> Study:
    """Every gene equally expressed, with one variance between donors, in all cell types: the joint model with `sam`."""
    rng = np.random.default_rng(task.seed())
    donor = rng.integers(task.donors, size=cells)  # its own labels need not be balanced: 4 donors may be 3 v 1
    trt = donor % 2 if task.design == "nested" else rng.integers(2, size=cells)
    labels = {"sam": _labels("S", donor), "cls": _labels("T", rng.integers(4, size=cells)), "trt": _labels("AB", trt)}
    adata = fsc.datasets.simu_rnaseq(
        n_genes=genes,
        metadata=pd.DataFrame(labels, index=np.arange(cells).astype(str)),
        n_de_genes=0 if task.effect == "null" else int(4 * DE_SHARE * genes),
        min_beta=LOG_FOLD[0],
        max_beta=LOG_FOLD[1],
        seed=rng,
    )
    adata.obs["depth"] = _depth(adata.X, adata.obs["libsize"].to_numpy())
    types = adata.obs["cls"].cat.categories
    return Study.of(adata, pd.DataFrame({t: adata.var["de_cluster"] == t for t in types}, index=adata.var_names))


def _with_types(task: Task, genes: int, cells: int) -> Study:
    """Half of the genes expressed in one cell type; every gene with variances of its own, also donor × type.

    "samples vary": a donor's cells with and without treatment are two samples, which differ (donor × treatment).
    """
    rng = np.random.default_rng(task.seed())
    n_types, donors = 4, task.donors
    donor = rng.choice(donors, cells, p=rng.dirichlet(np.full(donors, 8.0)))
    abundance = rng.dirichlet(20 * np.array([0.35, 0.3, 0.2, 0.15]), donors)
    cls = (rng.random(cells)[:, None] > abundance.cumsum(axis=1)[donor][:, :-1]).sum(axis=1)
    trt = donor % 2 if task.design == "nested" else (rng.random(cells) < rng.uniform(0.35, 0.65, donors)[donor]) * 1

    per_gene = lambda median, spread, *shape: np.exp(rng.normal(np.log(median), spread, (*shape, genes)))
    log_mean = rng.normal(0, 1, genes) + rng.normal(0, 0.3, (n_types, genes))
    home = rng.integers(n_types, size=genes)
    log_mean[(np.arange(n_types)[:, None] != home) & (np.arange(genes) % 2 == 0)] -= 4
    effects = rng.normal(size=(donors, 1, 1, genes)) * per_gene(0.2, 0.5)
    effects = effects + rng.normal(size=(donors, n_types, 1, genes)) * per_gene(0.25, 0.5, n_types, 1)
    effects = np.repeat(effects, 2, axis=2)
    if task.design == "crossed, samples vary":
        effects += rng.normal(size=effects.shape) * per_gene(0.2, 0.5, n_types, 1)
    true = np.zeros((n_types, genes), bool)
    if task.effect != "null":
        true = rng.random((n_types, genes)) < DE_SHARE
        effects[:, :, 1] += true * rng.uniform(*LOG_FOLD, true.shape) * rng.choice([-1, 1], true.shape)
    size = per_gene(2.0, 0.5)
    library = np.exp(rng.normal(0, 0.35, cells))
    mean = library[:, None] * np.exp(log_mean[cls] + effects[donor, cls, trt])
    X = sp.csr_matrix(rng.poisson(mean * rng.gamma(size, 1 / size, mean.shape)).astype(np.float32))

    obs = pd.DataFrame({"sam": _labels("S", donor), "cls": _labels("T", cls), "trt": _labels("AB", trt)})
    obs["depth"] = _depth(X, library)
    obs.index, names = obs.index.astype(str), [f"gene{j}" for j in range(genes)]
    true = pd.DataFrame(true.T, index=names, columns=[f"T{t + 1}" for t in range(n_types)])
    return Study.of(ad.AnnData(X, obs=obs, var=pd.DataFrame(index=names)), true)


def _labels(letters: str, codes: np.ndarray) -> pd.Categorical:
    """S1, S2, ... or A, B."""
    names = [f"{letters}{i + 1}" for i in range(codes.max() + 1)] if len(letters) == 1 else list(letters)
    return pd.Categorical.from_codes(codes, names)


def _depth(X: sp.csr_matrix, library: np.ndarray) -> np.ndarray:
    """True library sizes on the scale of counts: sums of counts would carry the effects of some genes over to others."""
    return library / library.mean() * X.sum() / len(library)
