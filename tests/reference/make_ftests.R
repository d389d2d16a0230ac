# Joint F tests of the three treatment effects, with two variance components. Needs lme4, lmerTest and pbkrtest.
#   Rscript make_ftests.R          in this folder, after make_reference.R
suppressMessages({library(lmerTest); library(pbkrtest)})
counts <- as.matrix(read.csv("counts.csv.gz", row.names=1, check.names=FALSE))
obs <- read.csv("obs.csv.gz", row.names=1, colClasses=c(cls="character"))
forms <- list(sam_batch=y ~ 0 + log(libsize) + cls + cls:trt + (1 | sam) + (1 | batch),
              sam_samcls=y ~ 0 + log(libsize) + cls + cls:trt + (1 | sam) + (1 | sam:cls))
L <- cbind(matrix(0, 3, 4), diag(3))
tab <- NULL
for (design in names(forms)) {
  taken <- 0
  for (gene in colnames(counts)) {
    obs$y <- log2(1 + counts[, gene])
    fit <- suppressMessages(suppressWarnings(lmer(forms[[design]], obs, control=lmerControl(optCtrl=list(ftol_abs=1e-14, xtol_abs=1e-10)))))
    if (isSingular(fit)) next
    s <- contestMD(fit, L, ddf="Satterthwaite")
    k <- contestMD(fit, L, ddf="Kenward-Roger")
    tab <- rbind(tab, data.frame(design=design, gene=gene, ddf=c("satterthwaite", "kenward-roger"),
      df_num=c(s[["NumDF"]], k[["NumDF"]]), df=c(s[["DenDF"]], k[["DenDF"]]), F=c(s[["F value"]], k[["F value"]]), p=c(s[["Pr(>F)"]], k[["Pr(>F)"]])))
    taken <- taken + 1
    if (taken == 3) break
  }
}
out <- file("ftests.csv", "w"); write.csv(format(tab, digits=15), out, row.names=FALSE, quote=FALSE); close(out)
