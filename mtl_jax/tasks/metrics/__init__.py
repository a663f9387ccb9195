"""The usual metrics of each kind of task, as ``Task.metrics`` wants them.

``compute`` gives these names. NaN stands where a statistic is not defined:
nothing labelled, an AUC of one class, the correlation with a constant. None is
weighted: every labelled example counts once.

* classification: accuracy, {precision, recall, f1}_{macro, micro}, log_loss,
  ece; auc and pr_auc up to 1,000 classes, and hit_rate_10 and mrr of more;
* binary: accuracy, precision, recall, f1, auc, pr_auc, log_loss, ece;
* multi-label: accuracy, subset_accuracy, {precision, recall, f1}_{macro,
  micro}, auc, auc_micro, pr_auc, log_loss, ece;
* regression: mae, rmse, r2, pearson; of counts also deviance and d2, of
  quantiles pinball, quantile_gap and d2;
* thresholds: those of a binary task for one, and for several those of classes
  and of regression;
* items of a catalogue: hr_K, ndcg_K, mrr_K, coverage_K.

Asked for are precision_at_recall_R of a list of recalls, and within groups
gauc and ndcg_K.
"""

# Lower is better; none of these can be the score of a task.
LOWER_IS_BETTER = frozenset(
  {
    'loss', 'log_loss', 'ece', 'mae', 'rmse', 'deviance', 'pinball',
    'quantile_gap',
  }
)  # fmt: skip
