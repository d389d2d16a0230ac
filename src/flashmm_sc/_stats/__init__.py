"""Sums over cells become statistics (`SummaryStats`), which add up, are cut and saved."""
