"""Figures are drawn without a screen, and closed after each test."""

from __future__ import annotations

from collections.abc import Iterator

import matplotlib.pyplot as plt
import pytest
import scanpy as sc


@pytest.fixture(autouse=True)
def no_screen() -> Iterator[None]:
    plt.switch_backend("agg")
    plt.close("all")  # those of other tests
    autoshow = sc.settings.autoshow
    yield
    sc.settings.autoshow = autoshow
    plt.close("all")
