# Pseudobulk peers as people run them: edgeR QL, limma-trend, limma-voom; lmerTest on the cells of a few genes.
#
#   Rscript peers.R FOLDER
#
# Every subfolder that has info.json (written last) is analysed unless it has peers.csv already: samples.csv (a row a
# sample: trt 0 or 1, depth, donor where donors are blocked), means.csv (mean normalised values) and counts.csv (sums of
# counts), genes x samples without names; lmer_cells.csv (a row a cell: sam, trt, genes). Writes peers.csv, a column of
# p-values a method, and lmer.csv.

if (!requireNamespace("limma", quietly = TRUE)) {
  message("Not installed: limma")
  quit(status = 3)
}
suppressPackageStartupMessages(library(limma))
has_edgeR <- requireNamespace("edgeR", quietly = TRUE)
if (has_edgeR) suppressPackageStartupMessages(library(edgeR)) else message("edgeR is not installed: no tests of counts.")

read <- function(...) as.matrix(read.csv(file.path(...), header = FALSE))
p_of <- function(fit) fit$p.value[, ncol(fit$p.value)]

# the moderated F test of all columns but the intercept, where there is a design.csv (a row a sample)
analyse_joint <- function(folder) {
  fit <- lmFit(read(folder, "means.csv"), read(folder, "design.csv"))
  out <- list("limma-trend, means" = eBayes(fit[, -1], trend = TRUE)$F.p.value)
  write.csv(as.data.frame(out, check.names = FALSE), file.path(folder, "peers.csv"), row.names = FALSE)
}

design_of <- function(samples) model.matrix(if ("donor" %in% names(samples)) ~ donor + trt else ~ trt, samples)

normalised <- function(folder, prefix, samples)
  calcNormFactors(DGEList(read(folder, paste0(prefix, "counts.csv")), lib.size = samples$depth))

edgeR_QL <- function(y, design) glmQLFTest(glmQLFit(estimateDisp(y, design), design, robust = TRUE))$table$PValue

analyse <- function(folder) {
  if (file.exists(file.path(folder, "design.csv"))) return(analyse_joint(folder))
  samples <- read.csv(file.path(folder, "samples.csv"))
  design <- design_of(samples)
  out <- list()
  # samples' mean normalised values, with a prior variance by mean
  out[["limma-trend, means"]] <- p_of(eBayes(lmFit(read(folder, "means.csv"), design), trend = TRUE))
  if (has_edgeR && file.exists(file.path(folder, "counts.csv"))) {
    y <- normalised(folder, "", samples)
    logcpm <- cpm(y, log = TRUE, prior.count = 3)
    out[["limma-trend, log CPM"]] <- p_of(eBayes(lmFit(logcpm, design), trend = TRUE))
    out[["limma-voom"]] <- p_of(eBayes(lmFit(voom(y, design), design)))
    out[["edgeR QL"]] <- edgeR_QL(y, design)
    if (file.exists(file.path(folder, "all_samples.csv"))) { # also those with few cells
      samples <- read.csv(file.path(folder, "all_samples.csv"))
      out[["edgeR QL, all samples"]] <- edgeR_QL(normalised(folder, "all_", samples), design_of(samples))
    }
  }
  write.csv(as.data.frame(out, check.names = FALSE), file.path(folder, "peers.csv"), row.names = FALSE)
}

lmer_tests <- function(folder) {
  cells <- read.csv(file.path(folder, "lmer_cells.csv"))
  p <- vapply(setdiff(names(cells), c("sam", "trt")), function(gene) {
    fit <- suppressMessages(lmerTest::lmer(reformulate("trt + (1 | sam)", gene), cells))
    summary(fit)$coefficients["trt", "Pr(>|t|)"]
  }, numeric(1))
  write.csv(data.frame(lmerTest = p), file.path(folder, "lmer.csv"), row.names = FALSE)
}

folders <- dirname(Sys.glob(file.path(commandArgs(trailingOnly = TRUE)[1], "*", "info.json")))
for (folder in folders) {
  if (!file.exists(file.path(folder, "peers.csv")))
    tryCatch(analyse(folder), error = function(e) message(basename(folder), ": ", conditionMessage(e)))
  if (file.exists(file.path(folder, "lmer_cells.csv")) && !file.exists(file.path(folder, "lmer.csv")) &&
      requireNamespace("lmerTest", quietly = TRUE))
    tryCatch(lmer_tests(folder), error = function(e) message(basename(folder), ": ", conditionMessage(e)))
}
