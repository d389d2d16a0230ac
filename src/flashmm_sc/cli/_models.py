"""The models of `flashmm-sc de`: which function fits them, and which options are of one alone."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable

FUNCTIONS = {"lmm": "lmm_de", "nb": "nbmm_de"}
"""Names of functions of `flashmm_sc.tl`, which are those of their results too."""
_ALONE = {
    "lmm": {
        "random": "--random",
        "transform": "--transform",
        "target_sum": "--target-sum",
        "log_base": "--log-base",
        "weights": "--weights",
        "method": "--method",
        "ddf": "--ddf",
        "nonnegative": "--free-variances",
        "moderate": "--moderate",
        "residual_by": "--residual-by",
    },
    "nb": {"sample": "--sample", "normalize": "--normalize"},
}
_NEEDED = {"lmm": "--random TERM", "nb": "--sample COLUMN"}


_OTHERS = {
    "nonnegative=False": _ALONE["lmm"]["nonnegative"],
    "moderate=True": _ALONE["lmm"]["moderate"],
    "mask_obs={": "--subset {",
}
"""Arguments as messages have them, whose options are others."""


def in_options(message: str) -> str:
    """A message with the options of the command in the place of arguments in Python."""
    for argument, option in _OTHERS.items():
        message = message.replace(argument, option)
    return message


def add_model_options(de: argparse.ArgumentParser) -> None:
    """Options that choose the model, and those of what makes cells alike."""
    models = "lmm: of values of cells, linear; nb: of raw counts of samples, negative binomial [%(default)s]"
    de.add_argument("--model", choices=list(FUNCTIONS), default="lmm", help=models)
    de.add_argument("--random", action="append", metavar="TERM", help="lmm: sam or '(1|sam/cls)'; repeatable")
    de.add_argument("--sample", metavar="COLUMN", help="nb: what tells samples apart, as donor or donor:trt")
    de.add_argument("--normalize", choices=["ratio", "none"], help="nb: samples by median ratios [ratio]")


def of_model(options: dict[str, Any]) -> tuple[Callable[..., Any], dict[str, Any]]:
    """The function that fits the model of these options, and its arguments.

    Raises
    ------
    ValueError
        For options of another model, and without what makes cells alike.
    """
    from flashmm_sc import tl

    model = options.pop("model")
    for other, alone in _ALONE.items():
        if given := [option for name, option in alone.items() if name in options and other != model]:
            are = "is" if len(given) == 1 else "are"
            msg = f"{', '.join(given)} {are} for --model {other}, not for --model {model}, which goes by {_NEEDED[model]}."
            raise ValueError(msg)
    if next(iter(_ALONE[model])) not in options:
        msg = f"--model {model} needs {_NEEDED[model]}, which says which cells are alike."
        raise ValueError(msg)
    if options.get("normalize") == "none":
        options["normalize"] = None
    options.setdefault("key_added", FUNCTIONS[model])
    return getattr(tl, FUNCTIONS[model]), options
