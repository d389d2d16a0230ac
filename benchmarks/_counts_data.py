"""The data sets of `counts.py`, and the folder of each: its counts, what peers.R reads, and the methods' p-values."""

from __future__ import annotations

import json
from collections.abc import Iterator
from itertools import chain
from pathlib import Path

import numpy as np
import pandas as pd
import scipy.sparse as sp
from _calibration_data import DE_SHARE, EXPRESSED, LOG_FOLD, MIN_CELLS, Task
from _moderation_data import DRAWN, NULL, THINNED, DataSet, data_sets, real, replaced, testable
from _moderation_methods import MODERATED, moderated, statistics, write_for_r, write_sums

PAIRED, UNEQUAL, SIMULATED = "paired simulation", ", unequal", "simulation, unequal"
UNEQUAL_SIDES = (3, 4, 6, 10)  # of real donors whose cells are subsampled
PAIRED_DONORS, SIMULATED_DONORS = (4, 8, 12), (6, 8, 12, 20)
FEWEST, MOST = 5, 500  # cells of a donor of unequal data
GENES = 1000


def data_sets_of(repeat: int, sides: list[int], splits: int, folder: Path) -> Iterator[DataSet]:
    """One repeat of everything: real splits, the same with unequal numbers of cells, and simulations."""
    for data in chain(_real(repeat, sides, splits, folder), _simulated(repeat)):
        if testable(data.obs):
            yield data


def _real(repeat: int, sides: list[int], splits: int, folder: Path) -> Iterator[DataSet]:
    for task in real(folder, sides, splits):
        if task.repeat != repeat:
            continue
        for data in data_sets(task):
            for part in (data, unequal(data)) if task.donors // 2 in UNEQUAL_SIDES else (data,):
                yield from (part.with_effect(kind) for kind in (NULL, THINNED))


def _simulated(repeat: int) -> Iterator[DataSet]:
    for effect in (NULL, DRAWN):
        name = "null" if effect == NULL else "effects"
        for n in PAIRED_DONORS:
            task = Task("donor and donor × type variance", "crossed, samples vary", n, name, repeat)
            yield from map(paired, data_sets(task, GENES))
        yield from (simulated(n, effect, repeat) for n in SIMULATED_DONORS)


def paired(data: DataSet) -> DataSet:
    """Samples are a donor's cells with a treatment; donors are blocked."""
    donor = data.obs["sam"]
    sam = donor + np.where(data.obs["trt"], ":B", ":A")
    return replaced(data, data=PAIRED, obs=data.obs.assign(sam=sam, donor=donor))


def unequal(data: DataSet) -> DataSet:
    """Of each donor a number of cells drawn evenly in log between the fewest and all it has."""
    out = replaced(data, data=data.data + UNEQUAL)
    rng, kept = out.rng(), []
    for cells in data.obs.groupby("sam").indices.values():
        n = round(np.exp(rng.uniform(np.log(min(FEWEST, cells.size)), np.log(cells.size))))
        kept.append(rng.permutation(cells)[:n])
    rows = np.sort(np.concatenate(kept))
    genes = (data.counts[rows] > 0).mean(axis=0) >= EXPRESSED
    here = np.ix_(rows, genes)
    return replaced(out, Y=data.Y[here], counts=data.counts[here], obs=data.obs.iloc[rows], true=data.true[genes])


def simulated(donors: int, effect: str, repeat: int) -> DataSet:
    """Negative binomial cells of donors of 5 to 500; means and dispersions spread as in cell types of real data.

    (Moments of the types of OneK1K and Kang et al.: dispersions of cells .1 to 3, between donors 0 to .3.) Donors'
    effects are log-normal, their depths and their cells' depths too.
    """
    rng = np.random.default_rng([31, donors, effect == NULL, repeat])
    spread = lambda median, sd, *shape: median * np.exp(rng.normal(0, sd, shape))
    n = np.exp(rng.uniform(np.log(FEWEST), np.log(MOST), donors)).round().astype(int)
    donor = np.repeat(np.arange(donors), n)
    treated = rng.permutation(donors) % 2 == 1
    mean, phi, tau = spread(0.25, 1.0, GENES), spread(0.4, 1.0, GENES), np.sqrt(spread(0.03, 1.2, GENES))
    true = rng.permutation(GENES) < (effect != NULL) * round(DE_SHARE * GENES)
    step = true * rng.uniform(*LOG_FOLD, GENES) * rng.choice([-1, 1], GENES)
    rate = mean * np.exp(tau * rng.normal(size=(donors, GENES)) - tau**2 / 2 + treated[:, None] * step)
    depth = spread(1.0, 0.2, donors)[donor] * spread(1.0, 0.5, donor.size)
    counts = rng.poisson(depth[:, None] * rate[donor] * rng.gamma(1 / phi, phi, (donor.size, GENES)))
    genes = (counts > 0).mean(axis=0) >= EXPRESSED
    counts, true = counts[:, genes].astype(np.float32), true[genes]
    depth *= counts.sum() / depth.sum()  # on the scale of counts
    obs = pd.DataFrame({"sam": [f"S{i}" for i in donor], "trt": treated[donor], "depth": depth})
    Y = np.log1p(counts / depth[:, None] * depth.mean()).astype(np.float32)
    return DataSet(SIMULATED, donors, effect, repeat, "T", Y, counts, obs, true)


def folder_of(data: DataSet, work: Path) -> Path:
    """A folder a repeat, and in it one a data set: what is done so far has all sizes."""
    return work / f"{data.repeat:02d}" / data.name


def write(data: DataSet, work: Path) -> None:
    """All that a method needs, and the moderated mixed model's p-values; info.json last."""
    folder = folder_of(data, work)
    if (folder / "info.json").exists():
        return
    folder.mkdir(parents=True, exist_ok=True)
    sp.save_npz(folder / "counts.npz", sp.csr_matrix(data.counts.astype(np.float32)))
    data.obs.assign(trt=data.obs["trt"].astype(int)).to_csv(folder / "cells.csv", index=False)
    np.save(folder / "true.npy", data.true)
    write_for_r(data, folder)
    write_all_samples(data, folder)
    pd.DataFrame({MODERATED: np.asarray(moderated(statistics(data)))}).to_csv(folder / "p.csv", index=False)
    info = {name: getattr(data, name) for name in ("data", "donors", "effect", "repeat", "cls")}
    (folder / "info.json").write_text(json.dumps(info))


def write_all_samples(data: DataSet, folder: Path) -> None:
    """Sums of all samples, also of those with few cells, where there are such."""
    counts, _, obs = data.samples(1)
    if (obs["cells"] < MIN_CELLS).any():
        write_sums(counts, obs, folder, "all_")
