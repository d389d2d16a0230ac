"""The figure that `--plot` asks for: a volcano of one effect, a panel for each group."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from flashmm_sc._base.errors import did_you_mean, listed

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from anndata import AnnData

    from flashmm_sc._results.result import Result

_DPI = 150


def check_choice(contrasts: dict[str, Any] | None, coef: str | None) -> None:
    """Refuse contrasts of which it isn't said which one is drawn."""
    if coef is None and contrasts:
        _only(list(contrasts))


def check_effect(sources: Sequence[Path], options: dict[str, Any], coef: str | None) -> None:
    """Refuse, before the pass over the data, what can't be drawn of the fit that has these options.

    Raises
    ------
    KeyError, ValueError
        As `effect`; and for columns of obs that can't be used.
    """
    contrasts = list(options.get("contrasts", ()))
    if coef in contrasts or (coef is None and contrasts):
        return
    from flashmm_sc._results.models import coefficients_of

    alike = options["random" if "random" in options else "sample"]
    chosen = {
        name: options[name] for name in ("groupby", "min_cells", "layer", "use_raw", "mask_obs") if name in options
    }
    names, effects = coefficients_of(sources, options["fixed"], alike, **chosen)
    if coef is None:
        _only(effects)
    else:
        _check_known(coef, [*contrasts, *names])


def effect(results: Sequence[Result], coef: str | None) -> tuple[Result, str]:
    """The result and the name of the effect to draw: that of the tests, if there are any, or of the fit.

    Raises
    ------
    KeyError, ValueError
        When none has this name; when there is not one effect, and no name.
    """
    known = [result for result in results if {"coef", "pval"} <= set(result.arrays)]
    if coef is not None:
        _check_known(coef, [name for result in known for name in result.names("column_names")])
        return next(result for result in known if coef in result.names("column_names")), coef
    found = [(result, [result.names("column_names")[j] for j in result.findings.nonzero()[0]]) for result in known]
    result, effects = next((pair for pair in found if pair[1]), (results[0], []))
    return result, _only(effects)


def draw(adata: AnnData, result: Result, coef: str, path: Path) -> None:
    """Draw an effect in all groups that have it, and write the figure."""
    import matplotlib as mpl

    mpl.use("Agg")  # there may be no display
    import matplotlib.pyplot as plt

    from flashmm_sc.pl import volcano
    from flashmm_sc.pl._figure import saved

    columns = zip(result.names("column_names"), result.names("column_groups"), strict=True)
    groups = [group for name, group in columns if name == coef]
    several: dict[str, Any] = {"groups": groups} if len(groups) > 1 else {}
    axes: Any = volcano(adata, coef, key=result.key, show=False, **several)
    figure = (axes[0] if isinstance(axes, list) else axes).figure
    saved(figure, path, dpi=_DPI)
    plt.close(figure)


def _check_known(coef: str, names: list[str]) -> None:
    if coef not in names:
        msg = f"--plot-coef {coef!r} is none of the effects. {did_you_mean(coef, dict.fromkeys(names))}"
        raise KeyError(msg)


def _only(effects: list[str]) -> str:
    """The one effect there is to draw."""
    names = list(dict.fromkeys(effects))
    if len(names) > 1:
        msg = f"--plot draws one effect; choose --plot-coef among {listed(names)}."
        raise ValueError(msg)
    if not names:
        msg = "--plot: there is no effect to draw, only means or F tests; choose one by --plot-coef."
        raise ValueError(msg)
    return names[0]
