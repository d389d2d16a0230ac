"""What the choices within moderation change: bins, shrinkage, grid, few genes, many effects, within-sample effects, terms."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from unittest import mock

import numpy as np
import pandas as pd
from _calibration_data import Task, make
from _moderation_data import DE_SHARE, NULL, SHIFTED, DataSet, data_sets, real
from _moderation_methods import statistics
from scipy.stats import false_discovery_control

import flashmm_sc as fsc
from flashmm_sc._gaussian.genes import Genes
from flashmm_sc._gaussian.projection import Projection
from flashmm_sc._inference import prior
from flashmm_sc._inference.moderated import Moderated, mean_expression
from flashmm_sc._inference.moderated_t import moderated_tests

SIZES = {"OneK1K": {8: 4, 20: 4}, "Kang control": {8: 2}}  # splits of each number of donors
TREATMENT = np.array([[0.0], [1.0]])
DEFAULT = {"N_BINS": 6, "SHRINKAGE": 50.0, "points": 41, "covariate": "mean expression"}
CHOICES = {
    "covariate": ("mean expression", "share of zeros"),
    "N_BINS": (1, 4, 6, 8),
    "SHRINKAGE": (10.0, 50.0, 200.0),
    "points": (21, 41, 81),
}
Row = dict[str, object]


@dataclass(frozen=True)
class Case:
    """A data set, ready for any prior."""

    data: DataSet
    projection: Projection
    genes: Genes
    covariates: dict[str, np.ndarray]

    @classmethod
    def of(cls, data: DataSet, effect: str = NULL, share: float = DE_SHARE) -> Case:
        """Put effects in, project the fixed effects out."""
        zeros = (data.Y == 0).mean(axis=0)  # shifted values are no longer zero
        data = data.with_effect(effect, share)
        s = statistics(data)
        projection = Projection.of(s.cross, s.n, s.d, s.coef_names, s.component_names)
        covariates = {"mean expression": mean_expression(s), "share of zeros": zeros}
        return cls(data, projection, Genes.of(projection, s), covariates)

    def p(self, use: np.ndarray | None = None, **choice: object) -> np.ndarray:
        """Moderated p-values of some genes with some choices."""
        choice = DEFAULT | choice
        use = np.arange(len(self.genes.yRy)) if use is None else use
        with ExitStack() as stack:
            stack.enter_context(mock.patch.object(prior, "N_BINS", choice["N_BINS"]))
            stack.enter_context(mock.patch.object(prior, "SHRINKAGE", choice["SHRINKAGE"]))
            stack.enter_context(mock.patch.dict(prior._POINTS, {1: choice["points"]}))
            covariate = self.covariates[choice["covariate"]][use]
            moderated = Moderated.of(self.projection, self.genes[use], np.arange(use.size), covariate)
        return moderated_tests(self.projection, moderated, TREATMENT, n_jobs=1).p[:, 0]


def read(path: Path) -> pd.DataFrame:
    """Read a table in which "null" is a word."""
    return pd.read_csv(path, keep_default_na=False, na_values=[""])


def probe(folder: Path, names: list[str], out: Path) -> None:
    """Run the probes named, or all, and write moderation_probe.csv."""
    path = out / "moderation_probe.csv"
    for name, run in PROBES.items():
        if names and name not in names:
            continue
        rows = pd.DataFrame(run(folder))
        table = _summed(rows.assign(probe=name))
        print(table.to_string(index=False), flush=True)
        if path.exists():
            before = read(path)
            table = pd.concat([before[before["probe"] != name], table])
        table.to_csv(path, index=False, float_format="%.4g")


def _scored(data: DataSet, setting: object, p: np.ndarray, true: np.ndarray | None = None) -> Row:
    true = data.true if true is None else true
    tested = np.isfinite(p)
    p, true = p[tested], true[tested]
    found = (false_discovery_control(p) if p.size else p) < 0.05
    row = {"setting": str(setting), "data": data.data, "donors": data.donors, "effect": data.effect, "n": (~true).sum()}
    row |= {"repeat": data.repeat, "fdp": (found & ~true).sum() / max(found.sum(), 1)}
    row |= {f"p<{level}": (p[~true] < level).sum() for level in (0.05, 0.01, 0.001)}
    return row | {"power": found[true].mean() if true.any() else np.nan}


def _summed(rows: pd.DataFrame) -> pd.DataFrame:
    out = []
    for key, part in rows.groupby(["probe", "setting", "data", "donors", "effect"], sort=False):
        row = dict(zip(["probe", "setting", "data", "donors", "effect"], key, strict=True)) | {
            "p_values": part["n"].sum()
        }
        sets = part.groupby("repeat")
        for name in ("p<0.05", "p<0.01", "p<0.001"):
            shares = sets[name].sum() / sets["n"].sum()
            row |= {name: part[name].sum() / part["n"].sum(), f"se {name}": shares.std() / np.sqrt(len(shares))}
        out.append(row | {"power": part["power"].mean(), "fdp": part["fdp"].mean()})
    return pd.DataFrame(out)


@cache
def _sets(folder: Path) -> list[DataSet]:
    tasks = [
        task
        for task in real(folder, sorted({n // 2 for sizes in SIZES.values() for n in sizes}), 4)
        if task.repeat < SIZES[task.data].get(task.donors, 0)
    ]
    return [data for task in tasks for data in data_sets(task)]


@cache
def _cases(folder: Path) -> list[Case]:
    return [Case.of(data, effect) for data in _sets(folder) for effect in (NULL, SHIFTED)]


def _choices(folder: Path) -> Iterator[Row]:
    for case in _cases(folder):
        yield _scored(case.data, "default", case.p())
        for name, values in CHOICES.items():
            for value in values:
                if value != DEFAULT[name]:
                    yield _scored(case.data, f"{name}={value}", case.p(**{name: value}))


def _few_genes(folder: Path) -> Iterator[Row]:
    for case in _cases(folder):
        m = len(case.data.true)
        for size in (100, 300, m):
            parts = np.array_split(case.data.rng(1).permutation(m), max(m // size, 1))[:3]  # each gene in one part
            for part in parts:
                p = case.p(part)
                yield _scored(case.data, "all" if size == m else f"{size} genes", p, case.data.true[part])


def _many_effects(folder: Path) -> Iterator[Row]:
    for data in _sets(folder):
        for share in (0.1, 0.3, 0.6):
            case = Case.of(data, SHIFTED, share)
            yield _scored(case.data, f"{share:.0%} of genes", case.p())


def _fits(data: DataSet, setting: str, Z: list[np.ndarray]) -> Iterator[Row]:
    """Moderated and Satterthwaite's tests of `~ trt` with these random components."""
    X = pd.DataFrame({"one": 1.0, "trt": data.obs["trt"].astype(float)})
    sums = fsc.sslmm(X, data.Y, np.hstack(Z), [z.shape[1] for z in Z], n_jobs=1)
    for name, options in {"moderated": {"moderate": True}, "satterthwaite": {"ddf": "satterthwaite"}}.items():
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", fsc.FlashmmWarning)
            fit = fsc.lmm(sums, nonnegative=True, n_jobs=1, **options)
        yield _scored(data, f"{setting}, {name}", fit.p["trt"].to_numpy())


def _dummies(*labels: pd.Series) -> np.ndarray:
    codes, names = pd.factorize(pd.MultiIndex.from_arrays([np.asarray(x).astype(str) for x in labels]))
    return np.eye(len(names))[codes]


def _within(folder: Path) -> Iterator[Row]:
    """Treatment crossed with donors: half of the cells of each; real cells, then samples that differ (simulated)."""
    for data in _sets(folder):
        if data.repeat < 2:
            obs = data.obs.assign(trt=data.rng(2).random(len(data.obs)) < 0.5)
            crossed = DataSet(**(vars(data) | {"obs": obs}))
            for one in (crossed, crossed.with_effect(SHIFTED)):
                yield from _fits(one, "sam", [_dummies(obs["sam"])])
    for donors in (6, 12):
        for repeat in range(2):
            task = Task("donor and donor × type variance", "crossed, samples vary", donors, "null", repeat)
            for data in data_sets(task):
                sam, both = _dummies(data.obs["sam"]), _dummies(data.obs["sam"], data.obs["trt"])
                yield from _fits(data, "samples vary, sam", [sam])
                yield from _fits(data, "samples vary, sam + sam:trt", [sam, both])


def _components(folder: Path) -> Iterator[Row]:
    """`sam + batch`, without and with variance between 4 batches that cross the donors."""
    for data in _sets(folder):
        if data.repeat >= 2 or data.data != "OneK1K":
            continue
        rng = data.rng(3)
        batch = _dummies(rng.integers(4, size=len(data.obs)))
        step = rng.normal(size=(4, len(data.true))) * rng.gamma(1, 0.2, len(data.true)) * data.Y.std(axis=0)
        varied = DataSet(**(vars(data) | {"Y": data.Y + batch @ step}))
        for name, one in {"no batch variance": data, "batches vary": varied}.items():
            for kind in (NULL, SHIFTED):
                yield from _fits(one.with_effect(kind), f"sam + batch, {name}", [_dummies(data.obs["sam"]), batch])


def _joint(folder: Path) -> Iterator[Row]:
    """`~ 0 + cls + cls:trt` with `sam + sam:cls`, all cell types at once, on null splits."""
    for task in real(folder, [4, 10], 2):
        if task.data != "OneK1K":
            continue
        study = make(task, 0, 0)
        adata = study.adata[:, study.tested.any(axis=1).to_numpy()].copy()
        for moderate in (True, False):
            fsc.tl.lmm_de(
                adata, "~ 0 + cls + cls:trt", ["sam", "sam:cls"], moderate=moderate, n_jobs=1, show_progress=False
            )
            names = list(adata.uns["lmm_de"]["coef_names"])
            for t in study.tested.columns:
                p = adata.varm["lmm_de_pval"][:, names.index(f"cls[{t}]:trt[T.B]")]
                p = np.where(study.tested.loc[adata.var_names, t], p, np.nan)
                data = DataSet(task.data, task.donors, NULL, task.repeat, t, None, None, None, np.zeros(p.size, bool))
                yield _scored(data, f"sam + sam:cls, {'moderated' if moderate else 'satterthwaite'}", p)


PROBES: dict[str, Callable[[Path], Iterator[Row]]] = {
    "choices": _choices,
    "genes": _few_genes,
    "effects": _many_effects,
    "within": _within,
    "batch": _components,
    "joint": _joint,
}
