"""FLASHMM's functions on arrays, and what follows from their fits."""
