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
    if coef is None and contrasts is not None and len(contrasts) > 1:
        raise ValueError(_choose(list(contrasts)))


def effect(results: Sequence[Result], coef: str | None) -> tuple[Result, str]:
    """The result and the name of the effect to draw: that of the tests, if there are any, or of the fit.

    Raises
    ------
    KeyError, ValueError
        When none has this name; when there is not one effect, and no name.
    """
    known = {result.key: result for result in results if {"coef", "pval"} <= set(result.arrays)}
    if coef is not None:
        for result in known.values():
            if coef in result.names("column_names"):
                return result, coef
        names = [name for result in known.values() for name in result.names("column_names")]
        msg = f"--plot-coef {coef!r} is none of the effects. {did_you_mean(coef, dict.fromkeys(names))}"
        raise KeyError(msg)
    for result in known.values():
        names = list(dict.fromkeys(result.names("column_names")[j] for j in result.findings.nonzero()[0]))
        if len(names) == 1:
            return result, names[0]
        if names:
            raise ValueError(_choose(names))
    msg = "--plot: there is no effect to draw, only means or F tests; choose one by --plot-coef."
    raise ValueError(msg)


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


def _choose(names: list[str]) -> str:
    return f"--plot draws one effect; choose --plot-coef among {listed(names)}."
