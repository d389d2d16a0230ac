"""Results in an adata that was changed after the fit: cut, put together with others, relabelled, or its file gone."""

from __future__ import annotations

import os
import tempfile
import warnings
from functools import cache
from pathlib import Path

import anndata as ad
from bad_input.faces import PLOTS
from bad_input.table import cells, fitted, rows
from bad_input.tl import lmm, nb, test

import flashmm_sc as fsc

CUT = slice(1, 5)
FOLDER = tempfile.TemporaryDirectory()
"""Where files are, until Python ends."""


def fewer_genes():
    return fitted()[:, CUT].copy()


def concatenated(**how):
    """Two halves of the genes, of which one has all, and other cells."""

    def make():
        others = cells()
        others.obs_names = [f"d{i}" for i in range(others.n_obs)]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return ad.concat([fewer_genes(), others], **how)

    return make


def relabelled():
    adata = fitted()
    adata.var["symbol"] = [f"S{j}" for j in range(adata.n_vars)]
    adata.var_names = ["g1"] * 3 + list(adata.var_names[3:])
    return adata


def of_raw():
    adata = cells()
    adata.raw = adata.copy()
    fsc.tl.lmm_de(adata, "~ trt", "sam", use_raw=True, transform="log1p", n_jobs=1)
    adata.raw = adata[:, 3:].copy()
    return adata


def without_layer():
    adata = cells()
    fsc.tl.lmm_de(adata, "~ trt", "sam", layer="counts", transform="log1p", n_jobs=1)
    del adata.layers["counts"]
    return adata


@cache
def _file():
    path = Path(FOLDER.name, "fitted.h5ad")
    fitted().write_h5ad(path)
    return path.read_bytes()


def backed(change=lambda adata, path: None, see=lambda adata: adata):
    """An AnnData backed by a file, which is then changed."""

    def make():
        path = Path(tempfile.mkdtemp(dir=FOLDER.name)) / "x.h5ad"
        path.write_bytes(_file())
        adata = ad.read_h5ad(path, backed="r")
        change(adata, path)
        return see(adata)

    return make


def closed(then):
    def change(adata, path):
        adata.file.close()
        then(path)

    return change


samples = PLOTS["samples"]
OF_FILES = {
    "lmm_de": lmm,
    "nbmm_de": nb,
    "aggregate": lambda a: fsc.pp.aggregate(a, ["sam"], n_jobs=1),
    "samples": samples,
}
WRITING = {
    "lmm_test": test,
    "lmm_anova": lambda a: fsc.tl.lmm_anova(a, key="lmm_de", n_jobs=1),
    "shrink": lambda a: fsc.tl.shrink(a, key="lmm_de"),
    "lmm_variance_test": fsc.tl.lmm_variance_test,
    "rank_genes_groups": lambda a: fsc.tl.rank_genes_groups(a, "trt[T.B]", key="grp"),
    "forget": lambda a: fsc.tl.forget(a, "grp"),
}
READING = {"lmm_test": test, "lmm_de_df": lambda a: fsc.get.lmm_de_df(a, key="lmm_de"), "samples": samples}
smaller = closed(lambda path: cells()[:10, :3].copy().write_h5ad(path))
ROWS = [
    *rows("cut", [(samples, ValueError, "over their totals", "of 12 genes, and adata has 4", "size_factors=")], fewer_genes),
    *rows("no cells", [(samples, ValueError, "adata holds no cells")], lambda: fitted()[:0].copy()),
    *(row for call in READING.values() for row in [
        *rows("concat", [(call, KeyError, "adata.uns['lmm_de'] holds no result")], concatenated(merge="first")),
        *rows("concat uns", [(call, KeyError, "part of the result 'lmm_de', is missing", "run its call again")], concatenated(uns_merge="first")),
        *rows("concat outer", [(call, ValueError, "nothing of 8 genes", "ad.concat(join='outer')", "Run its call again")], concatenated(merge="first", uns_merge="first", join="outer")),
    ]),
    *rows("names twice", [
        *((PLOTS[name], ValueError, "'g1' names 3 genes", "var_names") for name in ("curve", "dotplot", "effects", "ranef", "samples")),
        (lmm, ValueError, "var_names are not unique: 'g1'", "var_names_make_unique()"),
    ], relabelled),
    *rows("raw", [(lambda a: samples(a, gene="g1"), ValueError, "adata.raw lacks genes of adata: 'g1'")], of_raw),
    *rows("layer", [(samples, ValueError, "in adata.layers['counts'], which is not there")], without_layer),
    *(row for call in OF_FILES.values() for row in [
        *rows("file replaced", [(call, ValueError, "adata.X is of 10 cells and 3 genes, obs and var of 60 and 12", "was replaced: open it again")], backed(smaller)),
        *rows("file deleted", [(call, OSError, "x.h5ad' can't be read")], backed(closed(Path.unlink))),
        *rows("file truncated", [(call, OSError, "x.h5ad' can't be read", "truncated")], backed(closed(lambda path: os.truncate(path, 20_000)))),
        *rows("view of a file", [(call, ValueError, "view of backed data", "to_memory()")], backed(see=lambda adata: adata[::2])),
    ]),
    *(row for call in WRITING.values() for row in rows("tests in a view of a file", [(call, ValueError, "view of backed data, which results can't be written to", "to_memory()")], backed(see=lambda adata: adata[::2]))),
    *rows("copy of a file", [(lambda a, call=call: call(a, copy=True), ValueError, "copy=True would copy a backed AnnData") for call in (lmm, nb)], backed()),
]  # fmt: skip
