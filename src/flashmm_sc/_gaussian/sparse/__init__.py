"""Covariances of thousands of levels: sparse matrices with one pattern for all genes."""
