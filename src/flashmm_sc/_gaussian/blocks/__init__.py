"""Covariances with correlated terms: the levels of the largest are eliminated one by one, the rest is dense."""
