# ashr's shrinkage of simulated effects, for test_shrinkage.py: ash.csv.gz holds, a row an effect, what went in and came out.
# Run in this folder: Rscript make_ash.R
library(ashr)

set.seed(1)
n <- 300
studies <- list( # sd of the effects: a point mass and normals; few small effects; heavy tails; none; precise, all nonzero
  mixed = sample(c(0, 0.2, 1.5), n, TRUE, c(0.7, 0.2, 0.1)),
  few = ifelse(seq_len(n) <= 20, 0.3, 0),
  heavy = 0.1 / sqrt(rgamma(n, 1, 1)),
  none = rep(0, n),
  dense = rep(1, n)
)
rows <- list()
for (study in names(studies)) {
  s <- rgamma(n, 3, 20) * if (study == "dense") 0.2 else 1
  beta <- rnorm(n) * studies[[study]]
  betahat <- rnorm(n, beta, s)
  betahat[3] <- 0
  fit <- ash(betahat, s, mixcompdist = "normal", outputlevel = 2, control = list(tol.svd = 0, convtol.sqp = 1e-12, eps = 1e-12))
  rows[[study]] <- data.frame(
    study = study, betahat = betahat, s = s, fit$result[c("PosteriorMean", "PosteriorSD", "lfsr", "svalue")],
    pi0 = get_pi0(fit), loglik = fit$loglik, largest = max(fit$fitted_g$sd), k = length(fit$fitted_g$sd)
  )
}
con <- gzfile("ash.csv.gz")
write.csv(format(do.call(rbind, rows), digits = 12), con, row.names = FALSE, quote = FALSE)
