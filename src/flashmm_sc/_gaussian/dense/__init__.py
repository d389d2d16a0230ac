"""Covariances of hundreds of levels: dense matrices."""
