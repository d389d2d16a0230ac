"""Bad input to the command line: files in a folder, and arguments with the words of the one line that is said."""

from __future__ import annotations

import h5py
from bad_input.table import cells, fitted

MODEL = ["--fixed", "~ trt", "--random", "sam", "--transform", "log1p"]
TABLE = ["--table", "out.csv"]
DE = ["de", "in.h5ad", *MODEL]


def folder(path):
    """Files of every kind."""
    adata = cells()
    del adata.obsm["X_pca"]
    adata.write_h5ad(path / "in.h5ad")
    fitted().write_h5ad(path / "fit.h5ad")
    (path / "text.h5ad").write_text("no HDF5")
    (path / "cut.h5ad").write_bytes((path / "in.h5ad").read_bytes()[:3000])
    (path / "folder.h5ad").mkdir()
    (path / "folder.zarr").mkdir()
    (path / "old.csv").write_text("precious")
    h5py.File(path / "other.h5ad", "w").close()


COMMANDS = [
    ([], "arguments are required: COMMAND"), (["dee"], "invalid choice: 'dee'"), (["de"], "the following arguments are required"), (["test"], "the following arguments are required"), (["aggregate"], "the following arguments are required"),
    (["de", "in.h5ad", "--zzz", *TABLE], "error: "), ([*DE, "--zzz", *TABLE], "unrecognized arguments: --zzz"),
    *(([command, name, *rest], words) for command, rest in (("de", [*MODEL, *TABLE]), ("aggregate", ["--by", "sam", "--out", "out.h5ad"]), ("test", TABLE)) for name, words in (("none.h5ad", "There is no file 'none.h5ad'"), ("text.h5ad", "'text.h5ad' is not an h5ad file"), ("other.h5ad", "'other.h5ad' holds no "), ("cut.h5ad", "cut.h5ad"), ("x" * 300, "x"))),
    ([*DE], "--out OUT.h5ad, --table OUT.csv or --plot OUT.png"), ([*DE, "--out", "in.h5ad"], "is an input"), ([*DE, "--out", "out.csv"], "ends in .h5ad"), ([*DE, "--out", "folder.h5ad"], "must be the name of a file"), ([*DE, "--table", "out.doc"], "ends in .csv"), ([*DE, "--table", "nowhere/out.csv"], "no such folder"), ([*DE, "--plot", "out.doc"], "ends in .png"), ([*DE, "--plot-coef", "x", *TABLE], "--plot-coef is for --plot"),
    (["de", "in.h5ad", "--fixed", "~ zzz", "--random", "sam", *TABLE], "'zzz', which is not a column of obs"), (["de", "in.h5ad", "--fixed", "~ trt", "--random", "samm", *TABLE], "Did you mean 'sam'"), (["de", "in.h5ad", "--fixed", "~ [)*", "--random", "sam", *TABLE], "can't be read"), (["de", "in.h5ad", "--fixed", "", "--random", "sam", *TABLE], "is empty"), (["de", "in.h5ad", "--fixed", "~ trt", *TABLE], "--random"),
    *(([*DE, *TABLE, option, value], words) for option, value, words in (
        ("--layer", "zzz", "is not in adata.layers"), ("--mask-var", "zzz", "zzz"), ("--groupby", "zzz", "zzz"), ("--residual-by", "zzz", "zzz"), ("--weights", "trt", "should hold numbers"), ("--size-factors", "zzz", "zzz"), ("--target-sum", "-1", "must be"), ("--target-sum", "many", "invalid float value"), ("--min-cells", "few", "invalid int value"), ("--min-fraction", "2", "must be from 0 to 1"), ("--min-counts", "nan", "must be"), ("--n-jobs", "0", "0"), ("--n-jobs", "9" * 20, "no number of threads"), ("--transform", "log", "invalid choice: 'log'"), ("--method", "reml", "invalid choice"), ("--ddf", "n-p", "invalid choice"), ("--corr-method", "fdr", "invalid choice"), ("--key-added", "a/b", "a/b"), ("--key-added", "", "can't name results"), ("--key-added", "x" * 300, "can't name results"), ("--contrast", "trt[T.B]", "NAME=EXPR"), ("--contrast", "d=zzz", "unknown coefficient 'zzz'"), ("--contrast", "d=(((", "((("), ("--contrast", "d=" + "(" * 2000, "(("), ("--subset", "zzz=1", "zzz"), ("--subset", "trt=Z", "has no 'Z'"), ("--subset", "trt", "trt"), ("--log-base", "1", "must be"))),
    ([*DE, "--use-raw", *TABLE], "raw"), ([*DE, "--key-added", "mine", "--out", "out.h5ad"], "holds something else"),
    (["de", "in.h5ad", "--model", "nb", "--fixed", "~ trt", *TABLE], "--sample"), (["de", "in.h5ad", "--model", "nb", "--fixed", "~ trt", "--sample", "zzz", *TABLE], "zzz"), (["de", "in.h5ad", "--model", "zzz", "--fixed", "~ trt", *TABLE], "invalid choice"), (["de", "in.h5ad", "in.h5ad", *MODEL, *TABLE], "is in the list before"),
    (["test", "fit.h5ad", "--contrast", "d=zzz", *TABLE, "--key", "lmm_de"], "unknown coefficient 'zzz'"), (["test", "fit.h5ad", "--key", "zzz", "--anova", *TABLE], "zzz"), (["test", "fit.h5ad", "--key", "lmm_de", "--contrast", "d=score", "--lfc", "-1", *TABLE], "lfc"), (["test", "fit.h5ad", "--key", "lmm_de", "--contrast", "d=score", "--conf-level", "95", *TABLE], "conf"), (["test", "fit.h5ad", "--key", "lmm_de", "--contrast", "d=score", "--key-added", "two", *TABLE], "is the key of a fit"), (["test", "in.h5ad", "--anova", *TABLE], "holds no result"),
    (["aggregate", "in.h5ad", "--by", "zzz", "--out", "out.h5ad"], "zzz"), (["aggregate", "in.h5ad", "--by", "sam", "--out", "out.csv"], "ends in .h5ad or .zarr"), (["aggregate", "in.h5ad", "--by", "sam", "--out", "in.h5ad"], "is an input"), (["aggregate", "in.h5ad", "--by", "sam", "--by", "sam", "--out", "out.h5ad"], "more than once"), (["aggregate", "folder.zarr", "--by", "sam", "--out", "out.h5ad"], "folder.zarr"),
    (["demo", "--out", "out.csv"], "ends in .h5ad"), (["demo", "--out", "nowhere/out.h5ad"], "no such folder"),
]  # fmt: skip
