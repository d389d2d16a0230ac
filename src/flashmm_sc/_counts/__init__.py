"""Sums of counts of samples become τ² and β: a negative binomial mixed model for every gene."""
