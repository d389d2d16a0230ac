# lme4's InstEval, and lme4's and lmerTest's times for it.
#
#   Rscript crossed_peers.R data FOLDER    writes InstEval.csv
#   Rscript crossed_peers.R fit FOLDER     fits Y.csv (a column a response): lme4.csv, the coefficients, thetas and seconds
suppressPackageStartupMessages(library(lme4))
arguments <- commandArgs(trailingOnly = TRUE)
folder <- arguments[2]
data(InstEval)
if (arguments[1] == "data") {
  write.csv(InstEval, file.path(folder, "InstEval.csv"), row.names = FALSE)
} else {
  Y <- read.csv(file.path(folder, "Y.csv"))
  rows <- lapply(Y, function(y) {
    InstEval$y <- y
    seconds <- system.time(fit <- lmer(y ~ service * dept + (1 | s) + (1 | d), InstEval))[["elapsed"]]
    again <- system.time(refit(fit, InstEval$y))[["elapsed"]]
    v <- as.data.frame(VarCorr(fit))$vcov
    data.frame(seconds, again, s = v[1], d = v[2], residual = v[3], loglik = as.numeric(logLik(fit)), t(unname(fixef(fit))))
  })
  write.csv(do.call(rbind, rows), file.path(folder, "lme4.csv"), row.names = FALSE)
}
