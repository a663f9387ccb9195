"""Writers, tables, the progress bar, results.json, plots and the report."""

from mtl_jax.reporting.progress import ProgressBar
from mtl_jax.reporting.report import write_report
from mtl_jax.reporting.result_tables import (
  ResultTable,
  final_tables,
  parameter_table,
  show,
  task_table,
)
from mtl_jax.reporting.results_file import write_results
from mtl_jax.reporting.writers import MetricWriter, open_writers

__all__ = [
  'MetricWriter',
  'ProgressBar',
  'ResultTable',
  'final_tables',
  'open_writers',
  'parameter_table',
  'show',
  'task_table',
  'write_report',
  'write_results',
]
