# Log-likelihoods of nested models, for test_lrt.py: lrt.csv.gz holds gene, method, and a column a model.
# Run in this folder, after make_reference.R: Rscript make_lrt.R
suppressPackageStartupMessages(library(lme4))

counts <- read.csv("counts.csv.gz", row.names = 1, check.names = FALSE)
obs <- read.csv("obs.csv.gz", row.names = 1, colClasses = c(cls = "character"))
tight <- lmerControl(optCtrl = list(ftol_abs = 1e-14, xtol_abs = 1e-10))
loglik <- function(formula, reml) {
  as.numeric(logLik(suppressWarnings(suppressMessages(lmer(formula, obs, REML = reml, control = tight)))))
}

rows <- list()
for (gene in colnames(counts)[1:12]) {
  obs$y <- log2(1 + counts[[gene]])
  for (method in c("REML", "ML")) {
    reml <- method == "REML"
    rows[[length(rows) + 1]] <- data.frame(
      gene = gene, method = method,
      sam_batch = loglik(y ~ 0 + log(libsize) + cls + cls:trt + (1 | sam) + (1 | batch), reml),
      sam = loglik(y ~ 0 + log(libsize) + cls + cls:trt + (1 | sam), reml),
      none = as.numeric(logLik(lm(y ~ 0 + log(libsize) + cls + cls:trt, obs), REML = reml)),
      sam_untreated = loglik(y ~ 0 + log(libsize) + cls + (1 | sam), reml)
    )
  }
}
con <- gzfile("lrt.csv.gz")
write.csv(do.call(rbind, rows), con, row.names = FALSE)
