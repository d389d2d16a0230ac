"""What calls tell of themselves: to the logger "flashmm_sc" and, if scanpy is in use, as scanpy's own calls do.

scanpy is not imported for that. Who sets `scanpy.settings.verbosity` has imported it, and that setting decides.
"""

from __future__ import annotations

import logging
import sys
from contextvars import ContextVar
from datetime import UTC, datetime, timedelta
from functools import wraps
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

from flashmm_sc._base.signals import interrupts_first

if TYPE_CHECKING:
    from collections.abc import Callable

P = ParamSpec("P")
R = TypeVar("R")

HINT = (logging.INFO + logging.DEBUG) // 2
"""scanpy's level below info, at which its calls say what they added where."""
_logger = logging.getLogger("flashmm_sc")
_details: ContextVar[list[str]] = ContextVar("details")


def told(doing: str) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Make a function tell at info level that it begins, and that it has finished: at hint level with its `detail`."""

    def telling(function: Callable[P, R]) -> Callable[P, R]:
        @wraps(function)
        def call(*args: P.args, **kwargs: P.kwargs) -> R:
            token = _details.set([])
            try:
                start = info(f"{function.__name__}: {doing}")
                with interrupts_first():
                    result = function(*args, **kwargs)
                info("    finished", start, "\n".join(_details.get()))
            finally:
                _details.reset(token)
            return result

        return call

    return telling


def info(message: str, start: datetime | None = None, more: str = "") -> datetime:
    """Tell at info level, with the time passed since `start`; at hint level there is `more`. Gives the time."""
    now = datetime.now(UTC)
    passed = "" if start is None else f" ({timedelta(seconds=int((now - start).total_seconds()))})"
    _logger.info("%s%s%s", message, f": {more}" if more and _logger.isEnabledFor(HINT) else "", passed)
    if (scanpy := _scanpy()) is not None:
        scanpy.logging.info(message, time=start, deep=more or None)
    return now


def detail(lines: str) -> None:
    """Lines that the function which is under way, if it is `told`, adds when it has finished."""
    _details.get([]).append(lines)


def informs() -> bool:
    """Whether anyone is told at info level."""
    scanpy = _scanpy()
    return _logger.isEnabledFor(logging.INFO) or (
        scanpy is not None and scanpy.settings.verbosity.level <= logging.INFO
    )


def _scanpy() -> Any:
    """scanpy, if it has been imported."""
    module = sys.modules.get("scanpy")
    return module if hasattr(module, "settings") else None
