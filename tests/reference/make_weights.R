# Weighted linear mixed models, for test_weights.py: weights.data.csv (cells: y1 ... y5, w and design) and weights.csv.
# Needs lme4, lmerTest and pbkrtest:   Rscript make_weights.R          in this folder
# pbkrtest takes no notice of weights, so Kenward and Roger's numbers are those of the same model with all columns
# multiplied by s = sqrt(w), which has no weights; its other numbers are checked to be the weighted model's.
suppressMessages({library(lme4); library(lmerTest); library(pbkrtest); library(numDeriv)})
set.seed(12)
n <- 180
data <- data.frame(donor = factor(sprintf("d%02d", rep(1:12, length.out = n))), batch = factor(sample(c("x", "y", "z", "u"), n, TRUE)))
data$trt <- as.numeric(as.integer(data$donor) %% 2 == 0)
data$score <- round(rnorm(n), 3)
data$w <- round(exp(rnorm(n, 0.3, 0.8)), 4)
for (j in 1:5) {
  data[[paste0("y", j)]] <- round(0.4 * data$trt + 0.2 * data$score + rnorm(12, 0, 0.5)[data$donor] +
    rnorm(4, 0, 0.4)[data$batch] + rnorm(n, 0, 0.7) / sqrt(data$w), 4)
}
write.csv(data, "weights.data.csv", row.names = FALSE, quote = FALSE)
data$s <- sqrt(data$w)

# lmer's optimiser uses no derivatives and leaves errors of 1e-6; a few Newton steps with numerical ones bring them to 1e-9.
polished <- function(formula, data, reml = TRUE, weights = NULL) {
  data$.w <- if (is.null(weights)) rep(1, nrow(data)) else weights
  start <- getME(lme4::lmer(formula, data, weights = .w, REML = reml), "theta")
  parts <- lFormula(formula, data, weights = .w, REML = reml)
  f <- do.call(mkLmerDevfun, parts)
  for (step in 1:4) start <- start - solve(numDeriv::hessian(f, start), numDeriv::grad(f, start))
  stopifnot(max(abs(numDeriv::grad(f, start))) < 1e-6)
  lmer(formula, data, weights = .w, REML = reml, start = start, control = lmerControl(optimizer = NULL))
}
fit_of <- function(formula, reml = TRUE) polished(formula, data, reml, data$w)
forms <- list(donor = "~ trt * score + (1 | donor)", donor_batch = "~ trt * score + (1 | donor) + (1 | batch)")
scaled <- list(donor = "~ 0 + s + I(s*trt) + I(s*score) + I(s*trt*score) + (0 + s | donor)")
scaled$donor_batch <- paste(scaled$donor, "+ (0 + s | batch)")
rows <- NULL
add <- function(design, gene, table, name, value) {
  rows <<- rbind(rows, data.frame(design = design, gene = gene, table = table, name = name, value = as.numeric(value)))
}
names_of <- c("(Intercept)", "trt", "score", "trt:score")
for (design in names(forms)) for (gene in paste0("y", 1:5)) {
  fit <- fit_of(as.formula(paste(gene, forms[[design]])))
  sat <- coef(summary(fit, ddf = "Satterthwaite"))
  for (k in 1:4) for (pair in list(c("coef", 1), c("se", 2), c("df", 3), c("t", 4), c("p", 5)))
    add(design, gene, pair[1], names_of[k], sat[k, as.integer(pair[2])])
  v <- as.data.frame(VarCorr(fit))
  for (g in c("donor", "batch", "Residual")) if (g %in% v$grp) add(design, gene, "theta", g, v$vcov[v$grp == g])
  add(design, gene, "loglik", "REML", logLik(fit))
  add(design, gene, "loglik", "ML", logLik(fit_of(as.formula(paste(gene, forms[[design]])), FALSE)))
  add(design, gene, "loglik", "lm", logLik(lm(as.formula(paste(gene, "~ trt * score")), data, weights = w), REML = TRUE))
  b <- ranef(fit)$donor[, 1]
  add(design, gene, "ranef", levels(data$donor), b)
  L <- rbind(c(0, 1, 0, 0), c(0, 0, 0, 1))
  f <- contestMD(fit, L, ddf = "Satterthwaite")
  for (name in c("F value", "DenDF", "Pr(>F)")) add(design, gene, "F", name, f[[name]])

  plain <- polished(as.formula(paste0("I(s*", gene, ") ", scaled[[design]])), data)
  stopifnot(max(abs(fixef(plain) - fixef(fit))) < 1e-6)
  kr <- coef(summary(plain, ddf = "Kenward-Roger"))
  for (k in 1:4) for (pair in list(c("kr_se", 2), c("kr_df", 3), c("kr_p", 5)))
    add(design, gene, pair[1], names_of[k], kr[k, as.integer(pair[2])])
  f <- contestMD(plain, L, ddf = "Kenward-Roger")
  for (name in c("F value", "DenDF", "Pr(>F)")) add(design, gene, "kr_F", name, f[[name]])
}
rows$value <- format(rows$value, digits = 15)
write.csv(rows, "weights.csv", row.names = FALSE, quote = FALSE)
