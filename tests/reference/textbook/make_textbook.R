# The textbook data sets of lme4 and nlme, and simulated ones, by lme4, lmerTest and pbkrtest; ../README.md says what the
# files hold. Run in this folder: Rscript make_textbook.R
suppressPackageStartupMessages({library(lmerTest); library(pbkrtest); library(numDeriv)})
options(contrasts = c("contr.treatment", "contr.treatment"), digits = 15)

# ---- data: factors as text, which write.csv quotes, and a second response where one makes sense ------------------------
some_students <- function(n) { set.seed(12); droplevels(subset(lme4::InstEval, s %in% sample(levels(s), n))) }
drawn <- function(n_donors = 12, n_cells = 20) {
  set.seed(3)
  n <- n_donors * n_cells
  d <- data.frame(donor = paste0("d", rep(seq_len(n_donors), each = n_cells)), batch = paste0("b", sample(5, n, TRUE)),
                  trt = sample(c("a", "b", "c"), n, TRUE), x = round(rnorm(n, 0.5), 3), z = round(rnorm(n), 3),
                  w = round(rgamma(n, 2, 2) + 0.1, 3))
  effects <- function(sd) sd * matrix(rnorm(n_donors * length(sd)), length(sd)) # one column a donor
  mix <- matrix(c(1, 0.6, -0.3, 0.4, 0.2,  0, 0.8, 0.2, 0.3, -0.4,  0, 0, 0.9, 0, 0.5,  0, 0, 0, 0.9, 0.3,  0, 0, 0, 0, 0.7), 5)
  basis <- cbind(1, d$x, d$z, d$trt == "b", d$trt == "c")
  for (gene in paste0("y", 1:4)) {
    b <- if (gene == "y4") c(1, 0.8, 0, 0, 0) %o% rnorm(n_donors) # correlation 1
         else mix %*% effects(c(1, 0.7, 0.6, 1.4, 1.5))
    of_donor <- t(b)[match(d$donor, unique(d$donor)), ]
    d[[gene]] <- round(5 + 0.4 * d$x + 0.3 * (d$trt == "c") + rowSums(basis * of_donor) +
                       rnorm(5, sd = 0.5)[match(d$batch, paste0("b", 1:5))] + 0.7 * rnorm(n) / sqrt(d$w), 4)
  }
  d
}
sets <- list(
  sleepstudy = transform(lme4::sleepstudy, Speed = 1000 / Reaction),
  Dyestuff = transform(lme4::Dyestuff, Yield2 = lme4::Dyestuff2$Yield), # the same Batch
  Penicillin = transform(lme4::Penicillin, log_diameter = log(diameter)),
  Pastes = transform(lme4::Pastes, log_strength = log(strength)),
  cake = transform(lme4::cake, log_angle = log(angle)),
  Machines = transform(as.data.frame(nlme::Machines), log_score = log(score)),
  Oats = transform(as.data.frame(nlme::Oats), log_yield = log(yield)),
  InstEval = some_students(105),
  drawn = drawn())
stopifnot(identical(lme4::Dyestuff$Batch, lme4::Dyestuff2$Batch))
sets <- lapply(sets, function(d) { d[] <- lapply(d, function(x) if (is.numeric(x)) as.numeric(x) else as.character(x)); d })

# ---- models: random in lme4's notation, nested factors written out so that components have one name --------------------
model <- function(data, genes, fixed, random, contrast, weights = "")
  list(data = data, genes = genes, fixed = fixed, random = random, contrast = contrast, weights = weights)
from <- function(...) c(...) # weights of coefficients
four <- paste0("y", 1:4)
models <- list(
  sleepstudy = model("sleepstudy", c("Reaction", "Speed"), "Days", "(1 | Subject)", from("(Intercept)" = 1, Days = 9)),
  sleepstudy_independent = model("sleepstudy", c("Reaction", "Speed"), "Days", "(1 + Days || Subject)", from("(Intercept)" = 1, Days = 9)),
  sleepstudy_correlated = model("sleepstudy", c("Reaction", "Speed"), "Days", "(Days | Subject)", from("(Intercept)" = 1, Days = 9)),
  Dyestuff = model("Dyestuff", c("Yield", "Yield2"), "1", "(1 | Batch)", from("(Intercept)" = 2)),
  Penicillin = model("Penicillin", c("diameter", "log_diameter"), "1", "(1 | plate) + (1 | sample)", from("(Intercept)" = 2)),
  Pastes = model("Pastes", c("strength", "log_strength"), "1", "(1 | batch) + (1 | batch:cask)", from("(Intercept)" = 2)),
  cake = model("cake", c("angle", "log_angle"), "recipe * temperature", "(1 | recipe:replicate)", from(recipeB = 1, recipeC = -1)),
  cake_additive = model("cake", c("angle", "log_angle"), "recipe + temperature", "(1 | recipe:replicate)", from(temperature195 = 1, temperature185 = -1)),
  cake_linear = model("cake", c("angle", "log_angle"), "recipe + temp", "(1 | recipe:replicate)", from("(Intercept)" = 1, temp = 200)),
  Machines = model("Machines", c("score", "log_score"), "Machine", "(1 | Worker) + (1 | Worker:Machine)", from(MachineB = 1, MachineC = -1)),
  Machines_correlated = model("Machines", c("score", "log_score"), "Machine", "(Machine | Worker)", from(MachineB = 1, MachineC = -1)),
  Oats = model("Oats", c("yield", "log_yield"), "nitro + Variety", "(1 | Block) + (1 | Block:Variety)", from(VarietyMarvellous = 1, VarietyVictory = -1)),
  InstEval = model("InstEval", "y", "service + studage", "(1 | s) + (1 | d)", from(studage4 = 1, studage6 = -1)),
  InstEval_departments = model("InstEval", "y", "service", "(1 | d) + (1 | dept)", from("(Intercept)" = 1, service1 = 0.5)),
  drawn_independent = model("drawn", four, "x + trt", "(1 + x || donor) + (1 | batch)", from(trtb = 1, trtc = -1)),
  drawn_slope = model("drawn", four, "x + trt", "(1 + x | donor)", from(trtb = 1, trtc = -1)),
  drawn_two_slopes = model("drawn", four, "x + z", "(0 + x + z | donor)", from(x = 1, z = -1)),
  drawn_factor = model("drawn", four, "trt", "(trt | donor)", from(trtb = 1, trtc = -1)),
  drawn_slope_batch = model("drawn", four, "x + trt", "(1 + x | donor) + (1 | batch)", from(trtb = 1, trtc = -1)),
  drawn_weights = model("drawn", four, "x + trt", "(1 | donor)", from(trtb = 1, trtc = -1), weights = "w"),
  drawn_weights_slope = model("drawn", four, "x + trt", "(1 + x | donor)", from(trtb = 1, trtc = -1), weights = "w"))

# ---- fits: the better of two optimisers, then Newton steps on the deviance ---------------------------------------------
formula_of <- function(m) as.formula(paste("y ~", m$fixed, "+", m$random), env = globalenv())
lmer_at <- function(m, reml, control, start = NULL)
  suppressWarnings(suppressMessages(eval(bquote( # in the call, for lmerTest evaluates it again
    lmer(.(formula_of(m)), d, REML = .(reml), weights = .(if (m$weights != "") as.name(m$weights)), control = .(control),
         start = .(start))), globalenv())))
tight <- list(lmerControl(optimizer = "bobyqa", optCtrl = list(rhoend = 1e-10, maxfun = 1e5), calc.derivs = FALSE),
              lmerControl(optimizer = "nloptwrap", optCtrl = list(xtol_abs = 1e-12, ftol_abs = 1e-12, maxeval = 1e5), calc.derivs = FALSE))

polished <- function(m, reml) {
  fits <- lapply(tight, function(control) lmer_at(m, reml, control))
  fit <- fits[[which.min(sapply(fits, function(f) f@devcomp$cmp[[if (reml) "REML" else "dev"]]))]]
  dev <- update(fit, devFunOnly = TRUE)
  theta <- getME(fit, "theta"); lower <- getME(fit, "lower")
  at_zero <- lower == 0 & theta < 1e-3 # the deviance is even in these: zero where that is no worse
  at_zero <- at_zero & sapply(seq_along(theta), function(k) at_zero[k] && dev(replace(theta, k, 0)) <= dev(theta) + 1e-8)
  theta[at_zero] <- 0
  free <- which(!at_zero)
  part <- function(v) dev(replace(theta, free, v))
  decrement <- 0
  if (length(free)) {
    for (step in 1:4) {
      g <- grad(part, theta[free], method.args = list(d = 0.01)); e <- eigen(hessian(part, theta[free]), symmetric = TRUE)
      use <- e$values > 1e-6 * max(e$values) # directions that turn columns of a singular factor change nothing
      coords <- crossprod(e$vectors[, use, drop = FALSE], g)
      decrement <- sum(coords^2 / e$values[use])
      theta[free] <- theta[free] - e$vectors[, use, drop = FALSE] %*% (coords / e$values[use])
    }
    stopifnot(all(theta[lower == 0] >= 0), decrement < 1e-16)
  }
  fit <- lmer_at(m, reml, lmerControl(optimizer = NULL, calc.derivs = FALSE), unname(theta))
  stopifnot(max(abs(getME(fit, "theta") - theta)) == 0)
  list(fit = fit, decrement = decrement)
}

# pbkrtest leaves weights out. They are no weights any more once y and all columns are multiplied by their roots.
without_weights <- function(m, fit) {
  X <- getME(fit, "X"); root <- sqrt(d[[m$weights]])
  scaled <- d
  scaled$y <- root * d$y; scaled$root <- root; scaled$root_x <- root * d$x; scaled$X <- root * X
  random <- if (grepl("x", m$random)) "(0 + root + root_x | donor)" else "(0 + root | donor)"
  assign("scaled", scaled, globalenv())
  form <- as.formula(paste("y ~ 0 + X +", random), env = globalenv())
  suppressMessages(eval(bquote(lmer(.(form), scaled, control = lmerControl(optimizer = NULL, calc.derivs = FALSE),
                                    start = .(unname(getME(fit, "theta"))))), globalenv()))
}

# ---- tables --------------------------------------------------------------------------------------------------------
group_of <- function(name) sub("\\.[0-9]+$", "", name) # lme4 numbers the terms of one factor: Subject, Subject.1

tests_of <- function(fit, L, terms, ddf) {
  title <- c("satterthwaite" = "Satterthwaite", "kenward-roger" = "Kenward-Roger")[[ddf]]
  if (ddf == "kenward-roger") { # as contest1D, but adjusting once
    V <- vcov(fit); adjusted <- vcovAdj(fit)
    t <- do.call(rbind, lapply(L, function(l) {
      coef <- sum(l * fixef(fit)); se <- sqrt(sum(l * as.matrix(adjusted) %*% l)); df <- Lb_ddf(unname(l), V, adjusted)
      data.frame(coef, se, df, coef / se, 2 * pt(-abs(coef / se), df))
    }))
  } else t <- do.call(rbind, lapply(L, function(l) contest1D(fit, unname(l), ddf = title)))
  t <- data.frame(ddf = ddf, name = names(L), coef = t[[1]], se = t[[2]], df = t[[3]], t = t[[4]], p = t[[5]])
  if (!length(terms)) return(list(t = t, F = NULL))
  F <- do.call(rbind, lapply(terms, function(l) contestMD(fit, unname(as.matrix(l)), ddf = title)))
  list(t = t, F = data.frame(ddf = ddf, term = names(terms), F = F[["F value"]], df_num = F[["NumDF"]], df = F[["DenDF"]], p = F[["Pr(>F)"]]))
}

as_rows <- function(terms) # the combinations of coefficients that the F test of each term says are zero
  do.call(rbind, lapply(names(terms), function(term) {
    l <- unclass(terms[[term]])
    data.frame(term = term, number = c(row(l)), name = colnames(l)[c(col(l))], weight = c(l))
  }))

tables_of <- function(m, reml) {
  optimum <- polished(m, reml); fit <- optimum$fit
  kr_fit <- if (m$weights != "") without_weights(m, fit) else fit
  stopifnot(max(abs(fixef(fit) - fixef(kr_fit))) < 1e-9)
  beta <- fixef(fit); V <- as.matrix(vcov(fit)); p <- length(beta)
  terms <- if (m$fixed == "1") list() else show_tests(anova(fit)) # of type III
  L <- c(setNames(lapply(seq_len(p), function(j) diag(p)[j, ]), names(beta)),
         list(contrast = local({ l <- setNames(numeric(p), names(beta)); l[names(m$contrast)] <- m$contrast; l })))
  tests <- tests_of(fit, L, terms, "satterthwaite")
  if (reml) tests <- Map(rbind, tests, tests_of(kr_fit, L, terms, "kenward-roger"))
  pairs <- expand.grid(row = names(beta), column = names(beta), stringsAsFactors = FALSE)
  vcov <- cbind(pairs, cov = c(V), cov_kr = if (reml) c(as.matrix(vcovAdj(kr_fit))) else NA)
  vc <- as.data.frame(VarCorr(fit))
  vc <- data.frame(group = group_of(vc$grp), effect = vc$var1, other = vc$var2, cov = vc$vcov, sd_or_cor = vc$sdcor)
  re <- as.data.frame(ranef(fit, condVar = FALSE))
  re <- data.frame(group = group_of(re$grpvar), effect = as.character(re$term), level = as.character(re$grp), value = re$condval)
  pca <- rePCA(fit)
  pca <- do.call(rbind, lapply(names(pca), function(g) data.frame(group = group_of(g), number = seq_along(pca[[g]]$sdev), sd = pca[[g]]$sdev)))
  hypotheses <- if (length(terms)) as_rows(terms)
  fits <- data.frame(loglik = as.numeric(logLik(fit)), singular = isSingular(fit), decrement = optimum$decrement)
  list(fits = fits, ttests = tests$t, ftests = tests$F, vcov = vcov, varcorr = vc, ranef = re, repca = pca, hypotheses = hypotheses)
}

write_gz <- function(x, name) { con <- gzfile(paste0(name, ".csv.gz")); write.csv(x, con, row.names = FALSE) }

for (name in names(sets)) write_gz(sets[[name]], name)
all <- list()
for (name in names(models)) for (gene in models[[name]]$genes) for (method in c("REML", "ML")) {
  m <- models[[name]]
  d <- sets[[m$data]]; d$y <- d[[gene]]
  tabs <- tables_of(m, method == "REML")
  message(format(Sys.time(), "%T "), name, " ", gene, " ", method, ": decrement ", signif(tabs$fits$decrement, 2), if (tabs$fits$singular) ", singular")
  for (table in names(tabs)) if (!is.null(tabs[[table]]))
    all[[table]] <- rbind(all[[table]], cbind(model = name, gene = gene, method = method, tabs[[table]]))
}
for (table in names(all)) write_gz(all[[table]], paste0("lmer_", table))
