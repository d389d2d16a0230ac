"""The data sets of `moderation.py`: one cell type of a study each, without effects, shifted, thinned, or simulated."""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import scipy.sparse as sp
from _calibration_data import MIN_CELLS, REAL, Study, Task, make, real_splits

DE_SHARE = 0.1
SHIFT = 0.35  # standard deviations of a gene's normalised values over the cells of the type
KEPT = (0.3, 0.6)  # share of the counts that thinning leaves
SIMULATED = "simulated"
NULL, SHIFTED, THINNED, DRAWN = "null", "shift", "thinning", "simulation"


@dataclass(frozen=True)
class DataSet:
    """The genes of one cell type that are expressed in it.

    Attributes
    ----------
    data, donors, effect, repeat, cls
        What it is.
    Y
        Log-normalised values, cells × genes.
    counts
        Their counts; None where the effects were put into Y.
    obs
        Of the cells: sam, trt (bool, treated), depth, and donor where a donor has both treatments.
    true
        Which genes have an effect.
    """

    data: str
    donors: int
    effect: str
    repeat: int
    cls: str
    Y: np.ndarray
    counts: np.ndarray | None
    obs: pd.DataFrame
    true: np.ndarray

    @property
    def name(self) -> str:
        """Name of its folder."""
        text = f"{self.data} {self.donors} {self.effect} {self.repeat} {self.cls}"
        return "".join(c if c.isalnum() else "_" for c in text)

    def rng(self, salt: int = 0) -> np.random.Generator:
        """Random numbers of this data set's own."""
        return np.random.default_rng([salt, zlib.crc32(self.name.encode())])

    def with_effect(self, effect: str, share: float = DE_SHARE) -> DataSet:
        """The same data with effects put into a share of the genes."""
        if effect == NULL:
            return self
        out = replaced(self, effect=effect)
        rng, m = out.rng(), len(self.true)
        true = np.zeros(m, bool)
        true[rng.permutation(m)[: round(share * m)]] = True
        treated = self.obs["trt"].to_numpy()
        if effect == SHIFTED:
            step = SHIFT * self.Y.std(axis=0) * true * rng.choice([-1, 1], m)
            return replaced(out, Y=self.Y + treated[:, None] * step, counts=None, true=true)
        kept, up = rng.uniform(*KEPT, m), rng.random(m) < 0.5  # "up": the other group loses counts
        share_left = np.where(true & (up != treated[:, None]), kept, 1.0)
        counts = rng.binomial(self.counts.astype(int), share_left).astype(np.float32)
        depth = self.obs["depth"].to_numpy()[:, None]
        some = self.counts > 0
        scale = np.median(np.expm1(self.Y[some]) * (depth / np.where(some, self.counts, 1))[some])
        return replaced(out, Y=np.log1p(counts / depth * scale), counts=counts, true=true)

    def samples(self, min_cells: int = MIN_CELLS) -> tuple[np.ndarray | None, np.ndarray, pd.DataFrame]:
        """Sums of counts and means of values (samples × genes) of samples with enough cells, and the samples' obs."""
        codes, names = pd.factorize(self.obs["sam"], sort=True)
        indicator = sp.csr_array((np.ones(codes.size), (codes, np.arange(codes.size))))
        cells = indicator.sum(axis=1)
        how = {name: "sum" if name == "depth" else "first" for name in self.obs.columns.drop("sam")}
        obs = self.obs.groupby("sam", observed=True).agg(how).loc[names].assign(cells=cells)
        enough = cells >= min_cells
        counts = None if self.counts is None else (indicator @ self.counts)[enough]
        return counts, (indicator @ self.Y / cells[:, None])[enough], obs[enough]


def replaced(data: DataSet, /, **values: object) -> DataSet:
    """The data set with other values."""
    return DataSet(**(vars(data) | values))


def real(folder: Path, sides: list[int], splits: int) -> Iterator[Task]:
    """Random splits of the donors of the real data sets."""
    return real_splits(folder, sides, splits)


def simulations(donors: list[int], repeats: int) -> list[Task]:
    """Studies with variances of every gene and type's own, and effects in a tenth of the genes of each type."""
    kind = "donor and donor × type variance"
    return [Task(kind, "nested", n, "effects", repeat) for repeat in range(repeats) for n in donors]


def data_sets(task: Task, genes: int = 1000, cells: int = 5000) -> Iterator[DataSet]:
    """The cell types of a task, as they are."""
    study: Study = make(task, genes, cells)
    data = task.data if task.data in REAL else SIMULATED
    effect = NULL if task.effect == "null" else DRAWN
    for t in study.tested.columns:
        here, use = (study.adata.obs["cls"] == t).to_numpy(), study.tested[t].to_numpy()
        part = study.adata[here, use]
        if not use.any() or (not task.split and not testable(part.obs)):
            continue
        obs = pd.DataFrame({"sam": part.obs["sam"].astype(str), "trt": part.obs["trt"] == "B"}).assign(
            depth=part.obs["depth"].astype(float)
        )
        Y, counts = part.X.toarray(), part.layers["counts"].toarray()
        true = study.true.loc[use, t].to_numpy()
        yield DataSet(data, task.donors, effect, task.repeat, t, Y, counts, obs, true)


def testable(obs: pd.DataFrame) -> bool:
    """Whether both sides have two samples of enough cells."""
    cells = obs.groupby(["trt", "sam"], observed=True).size()
    return (cells >= MIN_CELLS).groupby("trt", observed=False).sum().min() >= 2
