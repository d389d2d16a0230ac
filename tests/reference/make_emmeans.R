# Marginal means, contrasts and slopes by emmeans on lmerTest fits, for results/test_questions.py: emmeans.csv.gz holds model,
# gene, question, name (of a contrast in this package's words), estimate, se and Satterthwaite's df. fitted.csv.gz holds
# the points of curves: model, gene, the columns of the grid, estimate, se, df and the bounds of 95 % intervals.
# Run in this folder, after make_reference.R: Rscript make_emmeans.R
suppressPackageStartupMessages({
  library(lmerTest)
  library(emmeans)
  library(splines)
})
emm_options(lmerTest.limit = 1e5, msg.interaction = FALSE, msg.nesting = FALSE)

counts <- read.csv("counts.csv.gz", row.names = 1, check.names = FALSE)
obs <- read.csv("obs.csv.gz", row.names = 1, colClasses = c(cls = "character"))
obs$high <- obs$score > 0.2

# The ratio of standard deviations to nine digits: minimising finds half of the digits that a root of the slope has.
to_the_root <- function(fn, par, lower, upper, control, ...) {
  x <- optimize(fn, c(0, 3), tol = 1e-8)$minimum
  h <- 2e-3
  for (step in 1:4) {
    f <- vapply(x + h * (-2:2), fn, 0)
    slope <- sum(f * c(1, -8, 0, 8, -1)) / (12 * h)
    x <- max(0, x - slope / (sum(f * c(-1, 16, -30, 16, -1)) / (12 * h^2)))
  }
  list(par = x, fval = fn(x), conv = 0, message = "")
}
exact <- lmerControl(optimizer = to_the_root, calc.derivs = FALSE)

models <- list(
  crossed = y ~ log(libsize) + cls * trt + batch + (1 | sam),
  cells = y ~ 0 + log(libsize) + cls + cls:trt + (1 | sam),
  slopes = y ~ score * cls + I(score^2) + log(libsize) * trt + (1 | sam),
  curves = y ~ ns(score, knots = c(-0.7, 0, 0.6)) * trt + cls + (1 | sam),
  logical = y ~ high * trt + cls + (1 | sam)
)

# One table of a summary of emmeans: what the rows are called, joined as "contrast, cls=1".
named <- function(found, first, by = NULL) {
  found <- as.data.frame(summary(found, infer = FALSE))
  name <- gsub(" - ", " vs ", gsub("\\(|\\)|cls|batch|high", "", found[[first]]))
  name <- gsub("FALSE", "False", gsub("TRUE", "True", name))
  for (b in by) name <- paste0(name, ", ", b, "=", found[[b]])
  value <- grep("^(estimate|emmean|.*\\.trend)$", names(found))
  data.frame(name = name, estimate = found[[value]], se = found$SE, df = found$df)
}
# Without nesting: of ~ 0 + cls + cls:trt emmeans would think that trt is nested in cls, although they are crossed.
means <- function(fit, of, by = NULL, ...) emmeans(fit, of, by = by, lmer.df = "satterthwaite", nesting = NULL, ...)
each <- function(fit, of, by = NULL, ..., ref = 1) {
  named(contrast(means(fit, of, by, ...), "trt.vs.ctrl", ref = ref), "contrast", by)
}
pairwise <- function(fit, of, by = NULL, ...) named(contrast(means(fit, of, by, ...), "revpairwise"), "contrast", by)
# A step so small that emmeans' one-sided quotient is the derivative to seven digits.
slope <- function(fit, of, per, by = NULL, ...) {
  step <- 1e-8 * diff(range(obs[[of]]))
  found <- emtrends(fit, if (is.null(by)) ~1 else by, var = of, lmer.df = "satterthwaite", delta.var = step, ...)
  out <- as.data.frame(summary(found, infer = FALSE))
  name <- paste(of, "per", per)
  for (b in by) name <- paste0(name, ", ", b, "=", out[[b]])
  data.frame(name = name, estimate = per * out[[paste0(of, ".trend")]], se = per * out$SE, df = out$df)
}

questions <- list(
  crossed = list(
    "each('trt')" = function(fit) each(fit, "trt"),
    "each('trt', by='cls')" = function(fit) each(fit, "trt", "cls"),
    "each('cls', ref='2')" = function(fit) each(fit, "cls", ref = 2),
    "pairwise('cls')" = function(fit) pairwise(fit, "cls"),
    "pairwise('cls', by='trt')" = function(fit) pairwise(fit, "cls", "trt"),
    "pairwise('batch')" = function(fit) pairwise(fit, "batch"),
    "means('trt')" = function(fit) named(means(fit, "trt"), "trt"),
    "means('trt', by='cls')" = function(fit) named(means(fit, "trt", "cls"), "trt", "cls"),
    "means('cls', at={'libsize': 100, 'trt': 'B'})" = function(fit) {
      named(means(fit, "cls", at = list(libsize = 100, trt = "B")), "cls")
    },
    "slope('libsize', per=50)" = function(fit) slope(fit, "libsize", 50)
  ),
  cells = list(
    "each('trt', by='cls')" = function(fit) each(fit, "trt", "cls"),
    "each('trt')" = function(fit) each(fit, "trt"),
    "means('cls')" = function(fit) named(means(fit, "cls"), "cls")
  ),
  slopes = list(
    "slope('score', per=2, by='cls')" = function(fit) slope(fit, "score", 2, "cls"),
    "slope('score')" = function(fit) slope(fit, "score", 1),
    "slope('score', at={'score': 1.5})" = function(fit) slope(fit, "score", 1, at = list(score = 1.5)),
    "slope('libsize', per=10, by='trt')" = function(fit) slope(fit, "libsize", 10, "trt"),
    "pairwise('cls')" = function(fit) pairwise(fit, "cls"),
    "each('trt', at={'libsize': 200})" = function(fit) each(fit, "trt", at = list(libsize = 200))
  ),
  curves = list(
    "slope('score', by='trt')" = function(fit) slope(fit, "score", 1, "trt"),
    "slope('score', at={'score': 1.2})" = function(fit) slope(fit, "score", 1, at = list(score = 1.2)),
    "each('trt', at={'score': -0.7})" = function(fit) each(fit, "trt", at = list(score = -0.7))
  ),
  logical = list(
    "means('trt')" = function(fit) named(means(fit, "trt"), "trt"),
    "each('high', by='trt')" = function(fit) each(fit, "high", "trt")
  )
)

tables <- curves <- list()
for (model in names(models)) {
  taken <- 0
  for (gene in colnames(counts)) {
    obs$y <- log2(1 + counts[[gene]])
    fit <- lmer(models[[model]], obs, control = exact)
    if (isSingular(fit)) next
    for (question in names(questions[[model]])) {
      found <- suppressMessages(questions[[model]][[question]](fit))
      tables[[length(tables) + 1]] <- cbind(model = model, gene = gene, question = question, found)
    }
    if (model == "curves") {
      points <- emmeans(fit, c("score", "trt"), at = list(score = c(-2, -0.5, 0.3, 2.5)), lmer.df = "satterthwaite")
      points <- as.data.frame(confint(points))
      names(points) <- c("score", "trt", "fit", "se", "df", "ci_low", "ci_high")
      curves[[length(curves) + 1]] <- cbind(model = model, gene = gene, points)
    }
    taken <- taken + 1
    if (taken == 4) break
  }
}
write_gz <- function(x, name) {
  con <- gzfile(name)
  write.csv(x, con, row.names = FALSE)
}
write_gz(do.call(rbind, tables), "emmeans.csv.gz")
write_gz(do.call(rbind, curves), "fitted.csv.gz")
