"""Statistics become variance components and coefficients of linear mixed models (`Estimates`)."""
