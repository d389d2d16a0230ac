"""Estimates become tests (`Inference`): contrasts, degrees of freedom, t, F and likelihood-ratio tests, moderation."""
