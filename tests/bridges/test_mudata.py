"""A modality of MuData, with columns of obs that are the whole's."""

from __future__ import annotations

import anndata as ad
import numpy as np
import pytest

import flashmm_sc as fsc

mudata = pytest.importorskip("mudata", reason="mudata is not installed")

pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::UserWarning", "ignore::DeprecationWarning")


@pytest.fixture
def whole(adata):
    """Cells of which the last ones lack proteins and the first ones RNA; what is known of cells lies in obs of the whole."""
    proteins = ad.AnnData(np.ones((150, 3)), adata.obs.iloc[:150][[]].copy())
    proteins.var_names = ["p1", "p2", "p3"]
    rna = ad.AnnData(adata.X[10:], adata.obs.iloc[10:][[]].copy(), adata.var.copy())
    found = mudata.MuData({"rna": rna, "proteins": proteins})
    found.obs = found.obs.join(adata.obs)
    return found


def test_columns_of_the_whole(whole, adata, tmp_path):
    whole.push_obs(["sam", "trt", "cls"], mods=["rna"])
    fsc.tl.lmm_de(whole["rna"], "~ trt", "sam", groupby="cls", transform="log1p")
    alone = adata[10:].copy()
    fsc.tl.lmm_de(alone, "~ trt", "sam", groupby="cls", transform="log1p")
    np.testing.assert_array_equal(fsc.get.matrix(whole["rna"]), fsc.get.matrix(alone))
    whole.write(tmp_path / "whole.h5mu")
    again = mudata.read(tmp_path / "whole.h5mu")
    np.testing.assert_array_equal(fsc.get.matrix(again["rna"]), fsc.get.matrix(alone))


def test_backed(whole, tmp_path):
    whole.push_obs(["sam", "trt"], mods=["rna"])
    whole.write(tmp_path / "whole.h5mu")
    fsc.tl.lmm_de(whole["rna"], "~ trt", "sam", transform="log1p")
    backed = mudata.read_h5mu(tmp_path / "whole.h5mu", backed="r")["rna"]
    assert backed.isbacked
    fsc.tl.lmm_de(backed, "~ trt", "sam", transform="log1p")
    np.testing.assert_allclose(backed.varm["lmm_de_t"], whole["rna"].varm["lmm_de_t"], rtol=1e-9)
    backed.file.close()


@pytest.mark.parametrize(
    "call",
    [
        lambda mdata: fsc.tl.lmm_de(mdata, "~ trt", "sam"),
        lambda mdata: fsc.tl.lmm_de([mdata], "~ trt", "sam"),
        lambda mdata: fsc.tl.nbmm_de(mdata, "~ trt", "sam"),
        lambda mdata: fsc.pp.aggregate(mdata, ["sam"]),
        lambda mdata: fsc.tl.rank_genes_groups(mdata),
        fsc.get.lmm_de_df,
        fsc.get.matrix,
        fsc.pl.volcano,
    ],
)
def test_the_whole_is_refused_with_a_remedy(whole, call):
    with pytest.raises(TypeError, match=r"not MuData.* Give one of its modalities, mdata\['rna'\].*push_obs"):
        call(whole)


def test_a_column_of_the_whole_alone(whole):
    with pytest.raises(KeyError, match="'trt', which is not a column of obs"):
        fsc.tl.lmm_de(whole["rna"], "~ trt", "sam")
