"""`--plot`: a volcano of one effect, a panel for each group."""

from __future__ import annotations

import matplotlib as mpl
import matplotlib.pyplot as plt
import pytest

import flashmm_sc as fsc
from flashmm_sc._results.result import Result
from flashmm_sc.cli._main import main
from flashmm_sc.cli._plot import effect

MODEL = ["--fixed", "~ trt", "--random", "sam", "--transform", "log1p", "--size-factors", "total"]


@pytest.fixture
def source(adata, tmp_path):
    path = tmp_path / "in.h5ad"
    adata.write_h5ad(path)
    return path


@pytest.fixture
def drawn(monkeypatch):
    """What the volcanoes are asked for, which are then drawn."""
    asked, volcano = [], fsc.pl.volcano
    monkeypatch.setattr(
        fsc.pl, "volcano", lambda adata, coef, **how: asked.append((coef, how)) or volcano(adata, coef, **how)
    )
    return asked


def run(*arguments):
    return main([*map(str, arguments)])


@pytest.mark.parametrize("ending", [".png", ".pdf", ".svg"])
def test_the_only_effect_is_drawn(source, tmp_path, capsys, drawn, ending):
    path, open_before = tmp_path / f"volcano{ending}", plt.get_fignums()
    assert run("de", source, *MODEL, "--plot", path) == 0
    assert drawn == [("trt[T.B]", {"key": "lmm_de", "show": False})]
    begins = {".png": b"\x89PNG", ".pdf": b"%PDF", ".svg": b"<?xml"}
    assert path.read_bytes().startswith(begins[ending])
    assert capsys.readouterr().out.endswith(f"Written: {path}\n")
    assert mpl.get_backend().lower() == "agg"
    assert plt.get_fignums() == open_before


def test_contrasts_come_before_the_fit(source, tmp_path, drawn):
    command = ["de", source, *MODEL, "--contrast", "down=-1 * trt[T.B]"]
    assert run(*command, "--plot", tmp_path / "a.png") == 0
    assert run(*command, "--plot", tmp_path / "b.png", "--plot-coef", "trt[T.B]") == 0
    assert [(coef, how["key"]) for coef, how in drawn] == [("down", "lmm_de_contrasts"), ("trt[T.B]", "lmm_de")]


def test_a_panel_for_each_group(source, tmp_path, drawn):
    assert run("de", source, *MODEL, "--groupby", "cls", "--plot", tmp_path / "a.png") == 0
    assert drawn[0][1]["groups"] == ["B", "NK"]
    assert (tmp_path / "a.png").stat().st_size > 0


def test_from_a_file_of_results(adata, tmp_path, drawn):
    fsc.tl.lmm_de(adata, "~ trt", "sam", transform="log1p")
    adata.write_h5ad(tmp_path / "fit.h5ad")
    assert run("test", tmp_path / "fit.h5ad", "--plot", tmp_path / "a.png") == 0
    contrast = ["--contrast", "down=-1 * trt[T.B]"]
    assert run("test", tmp_path / "fit.h5ad", *contrast, "--plot", tmp_path / "b.png") == 0
    assert [(coef, how["key"]) for coef, how in drawn] == [("trt[T.B]", "lmm_de"), ("down", "lmm_test")]


def test_of_several_contrasts_one_is_chosen_before_anything_is_read(source, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(fsc.tl, "lmm_de", lambda *_, **__: pytest.fail("it is read"))
    contrasts = ["--contrast", "up=trt[T.B]", "--contrast", "down=-1 * trt[T.B]"]
    assert run("de", source, *MODEL, *contrasts, "--plot", tmp_path / "a.png") == 2
    assert "--plot draws one effect; choose --plot-coef among 'up', 'down'." in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--fixed", "~ trt + cls"], "choose --plot-coef among 'trt[T.B]', 'cls[T.NK]'"),
        (["--fixed", "~ 0 + cls + cls:trt"], "among 'cls[B]:trt[T.B]', 'cls[NK]:trt[T.B]'"),
        (["--fixed", "~ trt + batch", "--groupby", "cls"], "among 'trt[T.B]', 'batch[T.y]', 'batch[T.z]'"),
        (["--fixed", "~ trt + batch", "--subset", "batch=x,y", "--plot-coef", "trt"], "'trt' is none of the effects"),
        (["--contrast", "down=-1 * trt[T.B]", "--plot-coef", "up"], "'up' is none of the effects"),
        (["--fixed", "~ 1"], "there is no effect to draw"),
    ],
)
@pytest.mark.parametrize("model", ["lmm_de", "nbmm_de"])
def test_nothing_is_fitted_that_can_not_be_drawn(source, tmp_path, monkeypatch, capsys, model, options, words):
    monkeypatch.setattr(fsc.tl, model, lambda *_, **__: pytest.fail("it is fitted"))
    how = MODEL if model == "lmm_de" else [*MODEL[:2], "--model", "nb", "--sample", "sam:batch:cls"]
    before = set(tmp_path.iterdir())
    assert run("de", source, *how, *options, "--out", tmp_path / "b.h5ad", "--plot", tmp_path / "a.png") == 2
    assert words in capsys.readouterr().err
    assert set(tmp_path.iterdir()) == before


def test_groups_that_are_left_out_have_no_effects(adata, tmp_path, monkeypatch, capsys, drawn):
    """As the fit leaves them out, of too few cells: neither to choose from nor to be chosen."""
    adata.obs["trt"] = adata.obs["trt"].astype(str)
    adata.obs["few"] = "many"
    adata.obs.iloc[:4, adata.obs.columns.get_loc("few")] = "few"
    adata.obs.iloc[:2, adata.obs.columns.get_loc("trt")] = "X"
    adata.obs.iloc[2:4, adata.obs.columns.get_loc("trt")] = "A"
    adata.write_h5ad(tmp_path / "in.h5ad")
    command = ["de", tmp_path / "in.h5ad", *MODEL, "--groupby", "few", "--plot", tmp_path / "a.png"]
    assert run(*command) == 0
    assert drawn[0][0] == "trt[T.B]"
    monkeypatch.setattr(fsc.tl, "lmm_de", lambda *_, **__: pytest.fail("it is fitted"))
    assert run(*command, "--plot-coef", "trt[T.X]") == 2
    assert "'trt[T.X]' is none of the effects" in capsys.readouterr().err


def test_the_only_effect_of_sums_is_known_before_they_are_read(source, tmp_path, drawn):
    strata = tmp_path / "sums.h5ad"
    assert run("aggregate", source, "--by", "sam", "--by", "cls", "--transform", "log1p", "--out", strata) == 0
    assert run("de", strata, *MODEL[:4], "--plot", tmp_path / "a.png", "--plot-coef", "trt[T.B]") == 0
    assert run("de", strata, *MODEL[:4], "--groupby", "cls", "--plot", tmp_path / "b.png") == 0
    assert [coef for coef, _ in drawn] == ["trt[T.B]"] * 2


def test_only_means_and_f_tests(adata):
    fsc.tl.lmm_de(adata, "~ 1", "sam", transform="log1p")
    with pytest.raises(ValueError, match="there is no effect to draw"):
        effect(Result.all(adata), None)
    assert effect(Result.all(adata), "Intercept")[1] == "Intercept"
    fsc.tl.lmm_de(adata, "~ trt", "sam", transform="log1p")
    fsc.tl.lmm_anova(adata)
    with pytest.raises(ValueError, match="there is no effect to draw"):
        effect([Result.read(adata, "lmm_anova")], None)


def test_no_half_figure_remains(source, tmp_path, monkeypatch, capsys):
    def full(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(mpl.figure.Figure, "savefig", full)
    assert run("de", source, *MODEL, "--plot", tmp_path / "a.png") == 2
    assert "No space left" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["in.h5ad"]
