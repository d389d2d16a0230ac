# Fractions of variance explained, for test_varexp.py: varexp.csv.gz holds design, gene, part, fraction.
# Run in this folder, after make_reference.R, with simu_scripts/varexp.R of github.com/BaderLab/FLASHMM-analysis:
#   Rscript make_varexp.R path/to/varexp.R
suppressPackageStartupMessages({
  library(FLASHMM)
  library(MASS)
})
source(commandArgs(trailingOnly = TRUE)[1])

genes <- 1:12
Y <- t(log2(1 + as.matrix(read.csv("counts.csv.gz", row.names = 1, check.names = FALSE))))[genes, ]
obs <- read.csv("obs.csv.gz", row.names = 1, colClasses = c(cls = "character"))
sam <- model.matrix(~ 0 + sam, obs)
random <- list(sam = list(sam = sam), sam_batch = list(sam = sam, batch = model.matrix(~ 0 + batch, obs)),
               sam_slope = list(sam = sam, "score|sam" = sam * obs$score), intercept = list(sam = sam))

rows <- lapply(names(random), function(design) {
  X <- model.matrix(if (design == "intercept") ~ score + cls * trt else ~ 0 + log(libsize) + cls + cls:trt, obs)
  Z <- do.call(cbind, random[[design]])
  d <- vapply(random[[design]], ncol, integer(1))
  fit <- lmmfit(Y, X, Z, d = d, max.iter = 500, epsilon = 1e-9)
  v <- varexp(X, Z, d, fit)
  parts <- cbind(v$fxs, v$fz, residual = v$fr)[apply(abs(fit$dlogL), 2, max) < 1e-6, ] # those that converged
  data.frame(design = design, gene = rownames(parts), part = rep(colnames(parts), each = nrow(parts)), fraction = c(parts))
})
con <- gzfile("varexp.csv.gz")
write.csv(do.call(rbind, rows), con, row.names = FALSE)
