"""Metrics of tasks: states that add up, and statistics of them."""

# Lower is better; none of these can be the score of a task.
LOWER_IS_BETTER = frozenset(
  {
    'loss', 'log_loss', 'ece', 'mae', 'rmse', 'deviance', 'pinball',
    'quantile_gap',
  }
)  # fmt: skip
