"""Columns of obs and formulas become design rows [X Z], made for some cells at a time (`Rows`)."""
