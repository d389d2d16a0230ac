# FLASHMM from statistics, lmerTest from cells: seconds and coefficients of a few genes.
#
#   Rscript fit_peers.R FOLDER
#
# FOLDER has sizes.csv (a row a matrix: name, rows, columns), the matrices as NAME.bin (float64, column-major), and
# either the statistics XX, XY, ZX, ZY, ZZ, yy, n and d, or the cells: X, Y and the levels of each random term, Z.
# Writes METHOD.csv, the coefficients with a column a gene, and METHOD.seconds.

folder <- commandArgs(trailingOnly = TRUE)[1]
sizes <- read.csv(file.path(folder, "sizes.csv"))
data <- lapply(seq_len(nrow(sizes)), function(i) {
  file <- file.path(folder, paste0(sizes$name[i], ".bin"))
  matrix(readBin(file, "double", sizes$rows[i] * sizes$columns[i]), sizes$rows[i])
})
names(data) <- sizes$name

coef <- NULL
time <- function(method, fit) {
  seconds <- min(replicate(3, system.time(coef <<- fit())[["elapsed"]]))
  write.csv(coef, file.path(folder, paste0(method, ".csv")), row.names = FALSE)
  writeLines(format(seconds, digits = 10), file.path(folder, paste0(method, ".seconds")))
}
installed <- function(package) requireNamespace(package, quietly = TRUE)

if ("XX" %in% names(data)) {
  if (installed("FLASHMM")) {
    fit <- function(genes) with(data, FLASHMM::lmm(
      XX, XY[, genes, drop = FALSE], ZX, ZY[, genes, drop = FALSE], ZZ,
      Ynorm = yy[genes], n = c(n), d = c(d), output.cov = TRUE
    ))$coef
    time("FLASHMM", function() fit(seq_along(data$yy)))
  }
} else {
  terms <- as.data.frame(data$Z)
  formula <- reformulate(c("0", "X", sprintf("(1 | %s)", names(terms))), "y")
  frame <- function(gene) c(list(y = data$Y[, gene], X = data$X), lapply(terms, factor))
  genes <- seq_len(ncol(data$Y))
  if (installed("lme4"))
    time("lme4", function() sapply(genes, function(g) lme4::fixef(lme4::lmer(formula, frame(g)))))
  if (installed("lmerTest"))
    time("lmerTest", function() sapply(genes, function(g) summary(lmerTest::lmer(formula, frame(g)))$coefficients[, "Estimate"]))
}
