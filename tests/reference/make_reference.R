# Frozen results of FLASHMM, lmerTest and pbkrtest for the parity tests; README.md says what the files hold.
# Run in this folder: Rscript make_reference.R

suppressPackageStartupMessages({
  library(FLASHMM)
  library(lmerTest)
  library(pbkrtest)
})

write_gz <- function(x, name, ...) {
  con <- gzfile(paste0(name, ".csv.gz"))
  write.csv(x, con, ...)
}

# ---- data -------------------------------------------------------------------------------------------------------
set.seed(2026)
n_cells <- 1200
sim <- simuRNAseq(nGenes = 80, nCells = n_cells, nsam = 12, ncls = 3, ntrt = 2, nDEgenes = 8)
obs <- sim$metadata
obs$batch <- paste0("b", sample(5, n_cells, replace = TRUE))
obs$score <- round(rnorm(n_cells), 4)
write_gz(t(sim$counts), "counts")
write_gz(obs, "obs")

Y <- log2(1 + sim$counts)
fixed <- ~ 0 + log(libsize) + cls + cls:trt
X <- model.matrix(fixed, obs)

# ---- random effects: one indicator matrix per variance component, columns named component[level] ------------------
indicators <- function(level, component, values = 1) {
  level <- factor(level)
  Z <- model.matrix(~ 0 + level) * values
  colnames(Z) <- paste0(component, "[", levels(level), "]")
  Z
}
components <- list(
  "sam" = indicators(obs$sam, "sam"),
  "batch" = indicators(obs$batch, "batch"),
  "sam:cls" = indicators(paste(obs$sam, obs$cls, sep = ":"), "sam:cls"),
  "score|sam" = indicators(obs$sam, "score|sam", obs$score)
)
designs <- list(
  sam = "sam",
  sam_batch = c("sam", "batch"),
  sam_samcls = c("sam", "sam:cls"),
  sam_samcls_batch = c("sam", "sam:cls", "batch"),
  sam_slope = c("sam", "score|sam")
)

# ---- FLASHMM ----------------------------------------------------------------------------------------------------
tables <- c(coef = "coef", se = "se", t = "t", p = "p", theta = "theta", theta_se = "se.theta", grad = "dlogL")

# Genes in rows; the columns of all tables side by side, named table|column.
wide <- function(fit, terms, ranef) {
  if (ranef) tables <- c(tables, ranef = "RE")
  parts <- lapply(names(tables), function(name) {
    part <- t(fit[[tables[[name]]]])
    if (tables[[name]] %in% c("theta", "se.theta", "dlogL")) colnames(part) <- c(terms, "residual")
    colnames(part) <- paste0(name, "|", colnames(part))
    part
  })
  cbind(do.call(cbind, parts), "loglik|loglik" = fit$logLik, "loglik|n_iter" = fit$niter)
}

for (design in names(designs)) {
  terms <- designs[[design]]
  Z <- do.call(cbind, unname(components[terms]))
  d <- vapply(components[terms], ncol, integer(1))
  for (method in c("REML", "ML")) {
    fit <- lmmfit(Y, X, Z, d = d, method = method, max.iter = 500, epsilon = 1e-9, output.RE = TRUE)
    message(design, " ", method, ": ", sum(apply(abs(fit$dlogL), 2, max) > 1e-6), " genes not converged")
    write_gz(wide(fit, terms, ranef = method == "REML"), paste(design, method, sep = "."))
    if (design == "sam" && method == "REML") fit_sam <- fit
  }
}

cm <- contrast.matrix(c(all = "(cls1:trtB + cls2:trtB + cls3:trtB)/3", d12 = "cls1:trtB - cls2:trtB"), colnames(X))
tests <- lapply(c("two.sided", "less", "greater"), function(alternative) {
  tab <- lmmtest(fit_sam, contrast = cm, alternative = alternative)
  do.call(rbind, lapply(colnames(cm), function(name) {
    data.frame(gene = rownames(tab), contrast = name, alternative = sub(".", "-", alternative, fixed = TRUE),
               coef = tab[, paste0(name, "_coef")], t = tab[, paste0(name, "_t")], p = tab[, paste0(name, "_p")])
  }))
})
write_gz(do.call(rbind, tests), "sam.contrasts", row.names = FALSE)

# ---- lmerTest and pbkrtest: variance components >= 0, denominator degrees of freedom ------------------------------
fit_lmer <- function(formula, gene) {
  data <- cbind(obs, y = Y[gene, ])
  tight <- lmerControl(optCtrl = list(ftol_abs = 1e-14, xtol_abs = 1e-10))
  suppressWarnings(suppressMessages(lmer(formula, data, control = tight)))
}

lmer_table <- function(gene, terms) {
  formula <- as.formula(paste("y", deparse(fixed), paste0("+ (1 | ", terms, ")", collapse = " ")))
  environment(formula) <- environment()
  fit <- fit_lmer(formula, gene)
  satt <- coef(summary(fit))
  kr <- coef(summary(fit, ddf = "Kenward-Roger"))
  vc <- as.data.frame(VarCorr(fit))
  theta <- vc$vcov[match(c(terms, "Residual"), vc$grp)]
  names(theta) <- paste0("theta|", c(terms, "residual"))
  data.frame(gene = rownames(Y)[gene], name = rownames(satt), coef = satt[, 1], se = satt[, 2], t = satt[, 4],
             df_satterthwaite = satt[, 3], p_satterthwaite = satt[, 5],
             se_kr = kr[, 2], t_kr = kr[, 4], df_kr = kr[, 3], p_kr = kr[, 5],
             singular = isSingular(fit), reml = as.numeric(logLik(fit)), as.list(theta), check.names = FALSE)
}
for (design in c("sam", "sam_batch", "sam_samcls")) {
  rows <- lapply(1:15, lmer_table, terms = designs[[design]])
  write_gz(do.call(rbind, rows), paste0(design, ".lmertest"), row.names = FALSE)
}

# ---- joint F tests of type III --------------------------------------------------------------------------------------
fit <- fit_lmer(y ~ score + cls * trt + (1 | sam), 1)
rows <- lapply(c("Satterthwaite", "Kenward-Roger"), function(ddf) {
  tab <- as.data.frame(anova(fit, type = "III", ddf = ddf))
  names(tab) <- c("sum_sq", "mean_sq", "num_df", "den_df", "f", "p")
  cbind(ddf = tolower(ddf), term = rownames(tab), tab)
})
write_gz(do.call(rbind, rows), "sam.anova_gene1", row.names = FALSE)
