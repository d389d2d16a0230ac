"""Covariances with a residual variance for each group of cells: every gene weighs the groups' sums, level by level."""
