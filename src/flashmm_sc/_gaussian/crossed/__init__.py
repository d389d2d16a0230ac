"""Covariances of large crossed factors: the largest eliminated, dense matrices for what is left."""
