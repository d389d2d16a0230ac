# A residual variance for each cell type, for tests/results/test_residual.py: residual.data.csv (cells: y1 ... y4 and design) and
# residual.csv. Needs nlme:   Rscript make_residual.R          in this folder
suppressMessages(library(nlme))
set.seed(7)
n <- 400
data <- data.frame(donor = factor(sprintf("d%02d", rep(1:10, length.out = n))), cls = factor(sample(c("A", "B", "C"), n, TRUE, c(5, 3, 2))))
data$trt <- as.numeric(as.integer(data$donor) %% 2 == 0)
data$score <- round(rnorm(n), 3)
for (j in 1:4) {
  data[[paste0("y", j)]] <- round(0.3 * data$trt + 0.2 * data$score + rnorm(10, 0, 0.5)[data$donor] +
    rnorm(30, 0, 0.4)[interaction(data$donor, data$cls)] + rnorm(n) * c(0.4, 0.9, 1.5)[data$cls], 4)
}
write.csv(data, "residual.data.csv", row.names = FALSE, quote = FALSE)
rows <- NULL
add <- function(gene, table, name, value) rows <<- rbind(rows, data.frame(gene = gene, table = table, name = name, value = as.numeric(value)))
control <- lmeControl(msTol = 1e-13, tolerance = 1e-12, msMaxIter = 500, maxIter = 500, opt = "nlminb", msMaxEval = 5000)
for (gene in paste0("y", 1:4)) for (method in c("REML", "ML")) {
  fit <- lme(as.formula(paste(gene, "~ 0 + cls + cls:trt + score")), data, random = ~ 1 | donor / cls,
    weights = varIdent(form = ~ 1 | cls), method = method, control = control)
  add(gene, paste0(method, "_loglik"), "loglik", logLik(fit))
  if (method == "ML") next
  table <- summary(fit)$tTable
  for (k in rownames(table)) { add(gene, "coef", k, table[k, 1]); add(gene, "se", k, table[k, 2]) }
  v <- suppressWarnings(as.numeric(VarCorr(fit)[, "Variance"]))
  add(gene, "theta", "donor", v[2]); add(gene, "theta", "donor:cls", v[4])
  ratio <- coef(fit$modelStruct$varStruct, unconstrained = FALSE, allCoef = TRUE)
  for (k in names(ratio)) add(gene, "theta", k, (fit$sigma * ratio[[k]])^2)
}
rows$value <- format(rows$value, digits = 15)
write.csv(rows, "residual.csv", row.names = FALSE, quote = FALSE)
