"""Blocks of an expression matrix and the design rows of their cells become sums (`Sums`)."""
