"""What misleads without being wrong is said, once, with the better call; which then says nothing."""

from __future__ import annotations

import warnings

import anndata as ad
import numpy as np
import pandas as pd
import pytest
import scanpy as sc

import flashmm_sc as fsc

LOGGED = {"transform": "log1p", "size_factors": "total"}


def said(adata, fixed, random, **options):
    """Advice of a call, which must be what is stored; and each said once."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        fsc.tl.lmm_de(adata, fixed, random, **options)
    found = [str(warning.message) for warning in caught if warning.category is fsc.AdviceWarning]
    assert len(set(found)) == len(found)
    assert adata.uns["lmm_de"]["notes"].tolist() == found
    assert all(warning.filename == __file__ for warning in caught if warning.category is fsc.AdviceWarning)
    return found


@pytest.fixture(scope="module")
def paired():
    """Drug and control of the same five patients, whose samples vary; no effect."""
    rng = np.random.default_rng(5)
    patient, drug = (part.ravel() for part in np.indices((5, 2)))
    cell = np.repeat(np.arange(10), 60)
    log_mean = rng.normal(1, 0.5, 120) + rng.normal(0, 0.4, (10, 120)) + rng.normal(0, 0.3, (5, 120))[patient]
    counts = rng.poisson(np.exp(log_mean[cell])).astype(np.float32)
    columns = {
        "patient_id": [f"p{i}" for i in patient[cell]],
        "condition": np.array(["ctrl", "drug"])[drug[cell]],
        "sample": [f"s{i}" for i in cell],
        "day": drug[cell] * 7.0,
        "depth": rng.lognormal(size=600),
    }
    return ad.AnnData(counts, pd.DataFrame(columns, index=[f"c{i}" for i in range(600)]))


def test_a_treatment_within_donors_needs_a_term_for_samples(paired):
    [note] = said(paired, "~ condition", "patient_id", **LOGGED, moderate=True)
    assert note.startswith("'condition' varies within the levels of 'patient_id'")
    assert note.endswith("Use random=['patient_id', 'patient_id:condition'].")
    wrong = (fsc.get.lmm_de_df(paired, "condition[T.drug]")["p_value"] < 0.05).mean()
    assert not said(paired, "~ condition", ["patient_id", "patient_id:condition"], **LOGGED, moderate=True)
    right = (fsc.get.lmm_de_df(paired, "condition[T.drug]")["p_value"] < 0.05).mean()
    assert wrong > 0.4
    assert right < 0.12


def test_several_vary(paired):
    data = paired.copy()
    data.obs["phase"] = np.resize(["G1", "S", "G2"], data.n_obs)
    note = said(data, "~ condition + phase", "patient_id", **LOGGED, moderate=True)[0]
    assert note.startswith("'condition', 'phase' vary within the levels of 'patient_id'")


@pytest.mark.parametrize(
    ("fixed", "random"),
    [
        ("~ condition", ["patient_id", "sample"]),  # a finer factor that holds it constant
        ("~ condition", "sample"),
        ("~ patient_id + condition", "sample"),
        ("~ day", ["patient_id", "(0 + day|patient_id)"]),
        ("~ depth", "patient_id"),  # of single cells
    ],
)
def test_models_that_say_how_samples_vary(paired, fixed, random):
    assert not said(paired, fixed, random, **LOGGED, moderate=True)


@pytest.mark.parametrize(
    ("fixed", "random", "better"),
    [
        ("~ day", "patient_id", "['patient_id', 'patient_id:day']"),
        ("~ C(condition) + log(depth)", "(1|patient_id)", "['patient_id', 'patient_id:condition']"),
        ("~ condition", {"donor": "patient_id"}, "['patient_id', 'patient_id:condition']"),
        ("~ condition", "(1|patient_id) + (0 + depth|patient_id)", "(0 + depth|patient_id)', 'patient_id:condition']"),
    ],
)
def test_the_better_random_terms_are_written_out(paired, fixed, random, better):
    [note] = said(paired, fixed, random, **LOGGED, moderate=True)
    assert better in note
    random = eval(note.partition("random=")[2].rstrip("."))
    assert not said(paired, fixed, random, **LOGGED, moderate=len(random) < 3)  # which takes two at most


@pytest.mark.parametrize("groupby", [None, "condition"])
def test_independent_slopes_far_from_zero(paired, groupby):
    """Once, whatever the groups."""
    adata = paired.copy()
    adata.obs["year"] = 2020 + np.arange(adata.n_obs) % 3
    call = "~ year", "(1 + year || patient_id)"
    [note] = said(adata, *call, **LOGGED, groupby=groupby, moderate=True)
    assert note.startswith("obs['year'] is far from zero in all cells (mean 2021, standard deviation 0.816)")
    exec(note.partition("Centre it: ")[2].rstrip("."))
    assert not said(adata, *call, **LOGGED, groupby=groupby, moderate=True)
    assert not said(paired, "~ depth", "(1 + depth || patient_id)", **LOGGED, moderate=True)


def test_names_that_need_quotes(paired):
    odd = paired.copy()
    odd.obs = odd.obs.rename(columns={"patient_id": "patient id", "condition": "the drug"})
    [note] = said(odd, "~ `the drug`", "patient id", **LOGGED, moderate=True)
    random = eval(note.partition("random=")[2].rstrip("."))
    assert not said(odd, "~ `the drug`", random, **LOGGED, moderate=True)


def said_of_counts(adata, fixed, sample, **options):
    """As `said`, of a call of `nbmm_de`."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        done = fsc.tl.nbmm_de(adata, fixed, sample, copy=True, **options)
    found = [str(warning.message) for warning in caught if warning.category is fsc.AdviceWarning]
    assert done.uns["nbmm_de"]["notes"].tolist() == found
    assert all(warning.filename == __file__ for warning in caught if warning.category is fsc.AdviceWarning)
    return found


@pytest.fixture(scope="module")
def parted(paired):
    """Some patients have a disease; two cell types; wells in which each sample was split; patients as numbers."""
    data = paired.copy()
    patient = data.obs["patient_id"].str[1:].astype(int)
    data.obs["disease"] = np.where(patient < 2, "yes", "no")
    data.obs["number"], data.obs["the type"] = patient, np.resize(["B", "T"], 600)
    data.obs["well"] = np.resize(["w1", "w1", "w2", "w2"], 600)
    return data


@pytest.mark.parametrize(
    ("fixed", "sample", "better"),
    [
        ("~ condition", "patient_id:condition", "~ condition + patient_id"),
        ("~ condition", ["patient_id", "sample"], "~ condition + patient_id"),
        ("~ 0 + C(condition)", ["condition", "patient_id"], "~ 0 + C(condition) + patient_id"),
        ("~ day", "number:day", "~ day + C(number)"),
    ],
)
def test_samples_of_a_donor_are_blocked(parted, fixed, sample, better):
    [note] = said_of_counts(parted, fixed, sample)
    assert note.startswith("Several samples have the same '")
    assert note.endswith(f"get lost in how it varies. Make it a block, fixed={better!r}.")
    assert not said_of_counts(parted, better, sample)


@pytest.mark.parametrize(
    ("fixed", "sample", "better"),
    [
        ("~ disease", "patient_id:condition", "patient_id"),
        ("~ disease", ["condition", "patient_id"], "patient_id"),
        ("~ disease", ["the type", "patient_id"], "patient_id"),
        ("~ patient_id + condition", ["patient_id", "condition", "well"], "patient_id:condition"),
    ],
)
def test_parts_of_what_was_sampled_are_summed(parted, fixed, sample, better):
    [note] = said_of_counts(parted, fixed, sample)
    assert note.endswith(f"p-values come out too small. Sum over what was sampled as a whole, sample={better!r}.")
    assert not said_of_counts(parted, fixed, better)


@pytest.mark.parametrize(
    ("fixed", "patients"), [("~ disease * condition", 5), ("~ condition", 2), ("~ age + condition", 5)]
)
def test_two_levels_of_samples_are_for_cells(parted, fixed, patients):
    """A block of donors would take up what varies between them, such as their ages, or would leave too few samples."""
    some = parted[parted.obs["number"] < patients].copy()
    some.obs["age"] = 40 + some.obs["number"] % 3 + some.obs["number"] ** 2
    [note] = said_of_counts(some, fixed, "patient_id:condition")
    assert "effects of 'condition' get lost" in note
    random = eval(note.partition("random=")[2].rstrip("."))
    assert random == ["patient_id", "patient_id:condition"]
    assert not said(some, fixed, random, **LOGGED, moderate=True)


@pytest.mark.parametrize(
    ("fixed", "sample", "groupby"),
    [
        ("~ condition", "sample", None),
        ("~ patient_id + condition", "patient_id:condition", None),
        ("~ C(number) + day", "number:condition", None),
        ("~ disease", "patient_id", None),
        ("~ disease", ["patient_id", "the type"], "the type"),
    ],
)
def test_samples_that_have_nothing_in_common(parted, fixed, sample, groupby):
    assert not said_of_counts(parted, fixed, sample, groupby=groupby)


@pytest.fixture(scope="module")
def study():
    return fsc.datasets.simu_rnaseq(n_genes=120, n_cells=1500, n_samples=8, n_clusters=2, seed=1)


@pytest.mark.parametrize(
    ("fixed", "better"),
    [
        ("~ 0 + cls + cls:trt", "fixed='~ trt', groupby='cls', moderate=True"),
        ("~ 0 + log(libsize) + cls + cls:trt", "fixed='~ log(libsize) + trt', groupby='cls', moderate=True"),
        ("~ cls/trt", "fixed='~ trt', groupby='cls', moderate=True"),
    ],
)
def test_one_model_for_all_cell_types(study, fixed, better):
    [note] = said(study, fixed, "sam", **LOGGED)
    assert "pools one variance over the levels of 'cls'" in note
    assert better in note
    assert "much too small" not in note
    [note] = said(study, fixed, "sam", **LOGGED, moderate=True)
    assert "Moderated p-values come out much too small" in note
    assert not said(study, better[7:].partition("'")[0], "sam", groupby="cls", moderate=True, **LOGGED)


def test_variances_by_level_within_donors(study):
    [note] = said(study, "~ 0 + cls + cls:trt", ["sam", "sam:cls"], **LOGGED)
    assert note.endswith("keep one model: random=['sam', '(0 + cls||sam)'], residual_by='cls'.")
    assert not said(study, "~ 0 + cls + cls:trt", ["sam", "(0 + cls||sam)"], residual_by="cls", **LOGGED)
    for half in ({"random": "sam", "residual_by": "cls"}, {"random": ["sam", "(0 + cls||sam)"]}):
        assert "pools one variance" in said(study, "~ 0 + cls + cls:trt", **half, **LOGGED)[0]


def test_samples_of_a_donor_with_variances_by_level(study):
    crossed = study.copy()
    crossed.obs["trt"] = np.tile(["A", "B"], crossed.n_obs // 2)
    [note] = said(crossed, "~ 0 + cls + cls:trt", ["sam", "(0 + cls||sam)"], residual_by="cls", **LOGGED)
    random = ["sam", "(0 + cls||sam)", "(0 + cls||sam:trt)"]
    assert note.endswith(f"Use random={random!r}.")
    assert not said(crossed, "~ 0 + cls + cls:trt", random, residual_by="cls", **LOGGED)


def test_computed_factors_and_names_that_need_quotes(study):
    odd = study.copy()
    odd.obs = odd.obs.rename(columns={"cls": "cell type", "trt": "the drug"})
    [note] = said(odd, "~ 0 + C(`cell type`) + C(`cell type`):`the drug`", "sam", **LOGGED)
    assert "fixed='~ `the drug`', groupby='cell type', moderate=True" in note
    assert not said(odd, "~ `the drug`", "sam", groupby="cell type", moderate=True, **LOGGED)


@pytest.mark.parametrize(
    ("fixed", "random", "groupby"),
    [
        ("~ trt", "sam", None),
        ("~ trt + cls", ["sam", "sam:cls"], None),
        ("~ trt", "sam", "cls"),
        ("~ trt * log(libsize)", "sam", None),  # arms are what is compared
    ],
)
def test_nothing_to_say_of_good_models(study, fixed, random, groupby):
    assert not said(study, fixed, random, groupby=groupby, moderate=True, **LOGGED)


def test_what_varies_between_groups_or_in_those_left_out_is_no_matter(study):
    """Each donor's cells of a type are of one batch; nothing is asked of the cells of a group without a model."""
    study = study.copy()
    donor = pd.factorize(study.obs["sam"])[0]
    study.obs["batch"] = np.where((donor + (study.obs["cls"] == "1")) % 2 == 0, "p", "q")
    assert not said(study, "~ batch", "sam", groupby="cls", moderate=True, **LOGGED)
    study.obs["arm"] = study.obs["trt"].astype(object).where(study.obs["cls"] == "1", "A")
    assert not said(study, "~ arm", "sam", groupby="cls", moderate=True, **LOGGED)
    for name in ("arm", "sam"):
        gaps = study.copy()
        gaps.obs[name] = gaps.obs[name].astype(object).where((gaps.obs["cls"] == "1") | (donor > 0))
        assert not said(gaps, "~ arm", "sam", groupby="cls", moderate=True, **LOGGED)
        assert gaps.uns["lmm_de"]["groups"].tolist() == ["1"]


def test_few_donors(study):
    [note] = said(study, "~ trt", "sam", groupby="cls", **LOGGED)
    assert "There are 8 levels of a random term: with fewer than 12" in note
    assert "moderate=True" in note
    some = study[:, :99].copy()  # too few to learn from
    assert not said(some, "~ trt", "sam", groupby="cls", **LOGGED)
    many = fsc.datasets.simu_rnaseq(n_genes=120, n_cells=1500, n_samples=12, n_clusters=2, seed=1)
    assert not said(many, "~ trt", "sam", groupby="cls", **LOGGED)


@pytest.mark.parametrize("random", ["sam", "batch + (1|sam)", "sam:cls"])
def test_cells_counted_as_samples(adata, random):
    note = said(adata, "~ trt", random, ddf="residual", **LOGGED)[-1]
    assert note.startswith("'trt' varies between the levels of 'sam")
    assert "Use ddf='satterthwaite'" in note
    assert not said(adata, "~ score", "sam", ddf="residual", **LOGGED)


def test_counts(adata):
    [note] = said(adata, "~ trt", "sam")
    assert note.startswith("adata.X seems to hold raw counts, which are fitted as they are")
    [note] = said(adata, "~ trt", "sam", transform="log1p")
    assert note.endswith("Divide it out with size_factors='total'.")
    adata.obs["n_counts"] = np.asarray(adata.X.sum(axis=1)).ravel()
    assert not said(adata, "~ trt + log(n_counts)", "sam", transform="log1p")
    assert not said(adata, "~ trt", "sam", **LOGGED)


def test_logarithms_of_logarithms(adata):
    adata.layers["counts"] = adata.X.copy()
    sc.pp.normalize_total(adata)
    sc.pp.log1p(adata)
    assert not said(adata, "~ trt", "sam")
    [note] = said(adata, "~ trt", "sam", transform="log1p")
    assert "adata.X seems to hold logarithms already" in note
    assert "layer='counts'" in note
    assert not said(adata, "~ trt", "sam", **LOGGED, layer="counts")
    del adata.uns["log1p"]
    [note] = said(adata, "~ trt", "sam", transform="log1p")
    assert "logarithms already" in note


def test_scaled_values(adata):
    adata.X = adata.X.toarray()
    adata.layers["logged"] = np.log1p(adata.X)
    sc.pp.log1p(adata)
    sc.pp.scale(adata)
    [note] = said(adata, "~ trt", "sam")
    assert "adata.X holds negative values, as after sc.pp.scale" in note
    assert not said(adata, "~ trt", "sam", layer="logged")


def test_genes_that_hardly_any_cell_expresses():
    adata = fsc.datasets.simu_rnaseq(n_genes=300, n_cells=1500, n_samples=8, n_clusters=2, seed=1)
    rng = np.random.default_rng(0)
    X = adata.X.toarray()
    X[:, :200] *= rng.random((1500, 200)) < 0.03
    adata.X = X
    [note] = said(adata, "~ trt", "sam", groupby="cls", moderate=True, **LOGGED)
    assert "of the genes are expressed in fewer than 5% of the cells of '" in note
    assert "min_fraction=0.05" in note
    assert not said(adata, "~ trt", "sam", groupby="cls", moderate=True, min_fraction=0.05, **LOGGED)


def test_groups_too_small_for_their_model(paired):
    rng = np.random.default_rng(1)
    small = paired[rng.choice(600, 26, replace=False)].copy()
    small.obs["type"] = np.where(np.arange(26) < 13, "a", "b")
    random = ["patient_id", "patient_id:condition"]
    small.X = small.X * (rng.random(small.shape) < 0.2)
    note = said(small, "~ condition", random, groupby="type", **LOGGED)[-1]
    lost = (fsc.get.lmm_de_df(small)["status"] == "no residual").groupby(fsc.get.lmm_de_df(small)["group"]).mean()
    assert note.startswith(f"{lost.max():.0%} of the genes have no result in the 13 cells of '{lost.idxmax()}'")
    assert "min_cells=14" in note
    assert not any("no result" in note for note in said(paired, "~ condition", random, **LOGGED))


def test_notes_survive_files(study, tmp_path):
    study = study.copy()
    for name, options in {"notes": {}, "none": {"moderate": True}}.items():
        notes = said(study, "~ trt", "sam", **LOGGED, **options)
        study.write_h5ad(tmp_path / f"{name}.h5ad")
        assert ad.read_h5ad(tmp_path / f"{name}.h5ad").uns["lmm_de"]["notes"].tolist() == notes


def test_advice_can_be_silenced_by_class(adata):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.simplefilter("ignore", fsc.AdviceWarning)
        fsc.tl.lmm_de(adata, "~ trt", "sam")
    assert issubclass(fsc.AdviceWarning, fsc.FlashmmWarning)


def test_a_million_cells_are_looked_at_once(monkeypatch):
    """Advice takes a moment for an atlas: a few passes over obs."""
    from flashmm_sc._design.fixed import fixed_design
    from flashmm_sc._design.random_terms import parse_random
    from flashmm_sc._results.call import Call

    obs = pd.DataFrame({"d": np.arange(10**5) % 50, "t": np.arange(10**5) % 2}).astype(str)
    made = []
    factorize = pd.factorize
    monkeypatch.setattr(pd, "factorize", lambda values, **options: made.append(1) or factorize(values, **options))
    call = Call(obs, fixed_design("~ t", obs), parse_random("d", obs.columns), 500, None, None, False, "satterthwaite")
    [term] = call.intercepts
    assert [call.varies_within("t", term) for _ in range(5)] == [False] * 5
    assert len(made) == 2
