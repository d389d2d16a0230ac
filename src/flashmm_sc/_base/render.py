"""How objects show themselves in notebooks, apart from what they show."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

MOST = 12
"""Names that are shown of many."""


def table(title: str, rows: Mapping[str, str | Sequence[str]]) -> str:
    """A small HTML table: a title, and a row for each entry, whose names are set as code. Texts of others are escaped."""
    lines = [f'<tr><th colspan="2" style="text-align:left">{escape(title)}</th></tr>']
    for label, value in rows.items():
        shown = escape(value) if isinstance(value, str) else _names(value)
        lines.append(
            f'<tr><td style="text-align:left">{escape(label)}</td><td style="text-align:left">{shown}</td></tr>'
        )
    return "\n".join(["<table>", *lines, "</table>"])


def counted(counts: Iterable[tuple[object, int]]) -> str:
    """Counts of things, those there are: "12 ok, 3 boundary"."""
    return ", ".join(f"{n:,} {name}" for name, n in counts if n)


def _names(names: Sequence[str]) -> str:
    rest = len(names) - MOST
    shown = ", ".join(f"<code>{escape(name)}</code>" for name in names[:MOST])
    return shown + (f" and {rest:,} more" if rest > 0 else "")
