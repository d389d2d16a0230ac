# Peers with random effects: NEBULA on the cells, dream (variancePartition) on pseudobulk counts of paired samples.
#
#   Rscript mixed_peers.R FOLDER [dream]
#
# Every subfolder that has info.json and counts.mtx (genes x cells): NEBULA, unless there is nebula.csv, from cells.csv (a
# row a cell: sam, trt, depth, donor where donors are blocked), the samples being random and the donors fixed. With "dream",
# where there are donors: dream with ~ trt + (1 | donor) from samples.csv and counts.csv as peers.R reads them.

has <- function(package) requireNamespace(package, quietly = TRUE)
for (package in c("nebula", "variancePartition")) if (!has(package)) message("Not installed: ", package)

nebula_tests <- function(folder) {
  cells <- read.csv(file.path(folder, "cells.csv"))
  counts <- as(Matrix::readMM(file.path(folder, "counts.mtx")), "CsparseMatrix")
  rownames(counts) <- seq_len(nrow(counts))
  place <- order(cells$sam)
  cells <- cells[place, ]
  design <- model.matrix(if ("donor" %in% names(cells)) ~ donor + trt else ~ trt, cells)
  seconds <- system.time(
    fit <- nebula::nebula(counts[, place], cells$sam, pred = design, offset = cells$depth, ncore = 1, verbose = FALSE)
  )[["elapsed"]]
  p <- rep(NA_real_, nrow(counts))
  p[as.integer(fit$summary$gene)] <- ifelse(fit$convergence <= -20, NA, fit$summary$p_trt)
  write.csv(data.frame(NEBULA = p, seconds = seconds), file.path(folder, "nebula.csv"), row.names = FALSE)
}

dream_tests <- function(folder) {
  samples <- read.csv(file.path(folder, "samples.csv"))
  counts <- as.matrix(read.csv(file.path(folder, "counts.csv"), header = FALSE))
  rownames(samples) <- colnames(counts)
  rownames(counts) <- seq_len(nrow(counts))
  y <- edgeR::calcNormFactors(edgeR::DGEList(counts, lib.size = samples$depth))
  serial <- BiocParallel::SerialParam()
  suppressWarnings(suppressMessages({
    weighted <- variancePartition::voomWithDreamWeights(y, ~ trt + (1 | donor), samples, BPPARAM = serial)
    fit <- variancePartition::eBayes(variancePartition::dream(weighted, ~ trt + (1 | donor), samples, BPPARAM = serial))
    table <- variancePartition::topTable(fit, coef = "trt", number = Inf, sort.by = "none")
  }))
  p <- table$P.Value[match(rownames(counts), rownames(table))]
  write.csv(data.frame(dream = p), file.path(folder, "dream.csv"), row.names = FALSE)
}

attempt <- function(test, folder, file) {
  if (!file.exists(file.path(folder, file)))
    tryCatch(test(folder), error = function(e) message(basename(folder), ": ", conditionMessage(e)))
}

arguments <- commandArgs(trailingOnly = TRUE)
folders <- dirname(Sys.glob(file.path(arguments[1], "*", "counts.mtx")))
paired <- function(folder) "donor" %in% names(read.csv(file.path(folder, "samples.csv"), nrows = 1))
if (has("nebula")) for (folder in folders) attempt(nebula_tests, folder, "nebula.csv")
if ("dream" %in% arguments && has("variancePartition"))
  for (folder in Filter(paired, folders)) attempt(dream_tests, folder, "dream.csv")
